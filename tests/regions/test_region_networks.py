"""The two-stream networks: arithmetic of the streams, the paper's presets, training, and their life as arrays."""

import numpy as np
import pytest
import torch

from si_neuroml.errors import InputError, TrainingError
from si_neuroml.regions.network_training import FINAL_DROPOUT, RegionNetwork, _discriminants
from si_neuroml.regions.networks import NETWORK_NAMES, TwoStreamNetwork, _AttentionBlock, set_dropout
from si_neuroml.regions.presets import NETWORK_DEFAULTS, PAPER_GROUPS, PAPER_PRESETS, network_settings

BINS = 20
SMALL = {
    "dmlp": {"layer1": 16, "layer2": 8},
    "lda_dense": {"units": 8},
    "cnn": {"filters": 8},
    "tcn": {"filters": 8, "levels": 2},
    "transformer": {"embedding": 6, "heads": 4, "feed_forward": 8},
}
QUICK = {
    "feature_units": 4,
    "head_units": 16,
    "max_epochs": 12,
    "learning_rate": 1e-2,
    "dropout": 0.1,
    "batch_size": 32,
}


def rows(num=240, *, seed=0, num_classes=3, num_subjects=6):
    """Bumps whose time is the class, beside three features, one of which helps."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num)
    stream = np.exp(-0.5 * ((np.arange(BINS) - 4 - 5 * labels[:, None]) / 1.5) ** 2) * 3 + rng.normal(0, 1, (num, BINS))
    features = rng.normal(0, 1, (num, 3)) + np.array([1.0, 0.0, 0.0]) * labels[:, None]
    X = np.concatenate([features, stream], axis=1).astype("float32")
    X[::17, 1], X[5::40, 3:] = np.nan, np.nan
    return X, labels, rng.integers(0, num_subjects, num)


@pytest.mark.parametrize("method", NETWORK_NAMES)
def test_every_network_learns_and_comes_back_from_arrays(method):
    X, labels, groups = rows()
    model = RegionNetwork(method, 3, {**SMALL[method], **QUICK}).fit(X, labels, groups=groups)
    fresh, truth, _ = rows(seed=1)
    probabilities = model.predict_proba(fresh)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.6
    arrays = model.to_arrays()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = RegionNetwork.from_arrays(arrays, model.classes_, **model.settings())
    np.testing.assert_allclose(again.predict_proba(fresh), probabilities, atol=1e-6)
    assert len(model.history_["valid_loss"]) <= QUICK["max_epochs"]


@pytest.mark.parametrize("method", NETWORK_NAMES)
@pytest.mark.parametrize("group", PAPER_GROUPS)
def test_every_preset_can_be_built(method, group):
    settings = network_settings(method, preset=group)
    own = {key: settings[key] for key in NETWORK_DEFAULTS[method]}
    own |= {"directions": 2} if method == "lda_dense" else {}
    network = TwoStreamNetwork(method, 8, 100, 3, feature_units=settings["feature_units"], head_units=16, **own).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 8), torch.zeros(2, 100)).shape == (2, 3)


def test_presets_hold_the_values_of_the_paper():
    assert PAPER_PRESETS["dmlp"]["visual"]["layer1"] == 4096
    assert PAPER_PRESETS["dmlp"]["thalamus"]["layer2"] == 1024
    assert PAPER_PRESETS["lda_dense"]["all"]["head_units"] == 1280
    assert PAPER_PRESETS["lda_dense"]["visual"]["feature_units"] == 136
    assert PAPER_PRESETS["lda_dense"]["thalamus"]["feature_units"] == 248
    assert PAPER_PRESETS["cnn"]["hippocampus"]["kernel_size"] == 20
    assert PAPER_PRESETS["cnn"]["all"]["learning_rate"] == 0.482
    assert PAPER_PRESETS["cnn"]["visual"]["l2"] == 1e-6
    assert PAPER_PRESETS["transformer"]["all"]["heads"] == 6
    assert PAPER_PRESETS["transformer"]["all"]["embedding"] == 32
    assert PAPER_PRESETS["transformer"]["thalamus"]["feature_gain"] == 1.1
    assert [PAPER_PRESETS["tcn"][group]["levels"] for group in PAPER_GROUPS] == [8, 6, 5, 4]
    # the paper gives no dampening for the thalamic CNN: ours
    assert "class_weight_power" not in PAPER_PRESETS["cnn"]["thalamus"]
    assert network_settings("cnn", preset="thalamus")["class_weight_power"] == 1.0
    assert network_settings("tcn", {"filters": 48}, "visual")["filters"] == 48
    assert network_settings("tcn", None, "visual")["dropout"] == 0.55


def test_unknown_settings_are_refused():
    with pytest.raises(InputError, match="'filters'"):
        network_settings("dmlp", {"filters": 3})
    with pytest.raises(InputError, match="cortex"):
        network_settings("dmlp", preset="cortex")
    with pytest.raises(InputError, match="rnn"):
        network_settings("rnn")
    with pytest.raises(InputError, match="dropout must be below 1"):
        network_settings("cnn", {"dropout": 1.5})
    with pytest.raises(InputError, match="monitor"):
        network_settings("cnn", {"monitor": "accuracy"})
    with pytest.raises(InputError, match="0 bins"):
        TwoStreamNetwork("cnn", 3, 0, 2)


def test_heads_need_not_divide_the_embedding():
    """Six heads on an embedding of 32 have keys of size 6; with one head the block is plain attention."""
    block = _AttentionBlock(32, 6, 16, 0.0).eval()
    assert block.key_size == 6
    assert block.project.out_features == 3 * 36
    one = _AttentionBlock(5, 1, 8, 0.0).eval()
    x = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    query, key, value = one.project(x).split(5, dim=2)
    weights = torch.softmax(query @ key.transpose(1, 2) / 5**0.5, dim=2)
    h = one.norm1(x + one.out(weights @ value))
    torch.testing.assert_close(one(x), one.norm2(h + one.feed(h)))


def test_the_gain_weighs_the_features_against_the_body():
    features, stream = torch.randn(64, 3), torch.randn(64, BINS)
    changes = []
    for gain in (0.0, 0.1, 10.0):
        torch.manual_seed(0)
        network = TwoStreamNetwork("cnn", 3, BINS, 2, feature_gain=gain, head_units=16, filters=8).eval()
        with torch.inference_mode():
            changes.append((network(features, stream) - network(-features, stream)).abs().mean().item())
    assert changes[0] == 0.0
    assert changes[0] < changes[1] < changes[2]


def test_temporal_convolutions_look_back_only():
    from si_neuroml.regions.networks import _TemporalLevel

    level = _TemporalLevel(1, 4, 3, 2, 0.0).eval()
    x = torch.randn(1, 1, BINS)
    changed = x.clone()
    changed[..., 12] += 1.0
    with torch.inference_mode():
        difference = (level(x) - level(changed)).abs().sum(dim=(0, 1))
    assert not difference[:12].any()
    # two convolutions of three bins, two apart
    assert not difference[12 + 2 * 4 + 1 :].any()
    assert difference[12] > 0


def test_dropout_anneals_from_its_start():
    network = TwoStreamNetwork("dmlp", 3, BINS, 2, dropout=0.6)
    set_dropout(network, 0.2)
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {0.2}
    X, labels, groups = rows(120)
    options = {**SMALL["dmlp"], **QUICK, "dropout": 0.5, "max_epochs": 3, "patience": 50}
    model = RegionNetwork("dmlp", 3, options).fit(X, labels, groups=groups)
    found = {module.p for module in model.network_.modules() if isinstance(module, torch.nn.Dropout)}
    assert max(abs(p - FINAL_DROPOUT) for p in found) < 1e-9
    again = RegionNetwork("dmlp", 3, options).fit(X, labels, groups=groups)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_discriminants_are_those_of_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    X, labels, _ = rows(600)
    stream = np.nan_to_num(X[:, 3:]).astype("float64")
    projection, offset = _discriminants(stream, labels)
    assert projection.shape == (BINS, 2)
    own = stream @ projection + offset
    np.testing.assert_allclose(own.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(own.std(axis=0), 1.0, atol=1e-4)
    expected = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(stream, labels).transform(stream)
    for k in range(2):
        assert abs(np.corrcoef(own[:, k], expected[:, k])[0, 1]) > 1 - 1e-6


def test_class_weights_change_what_is_learned():
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.1).astype(int)
    X = np.concatenate([rng.normal(0, 1, (400, 1)) + labels[:, None], rng.normal(0, 1, (400, BINS))], axis=1)
    options = {**SMALL["cnn"], **QUICK}
    rare = [
        RegionNetwork("cnn", 1, options, class_weight_power=power).fit(X, labels).predict_proba(X)[:, 1].mean()
        for power in (0.0, 1.0)
    ]
    assert rare[0] < 0.25
    assert rare[1] > rare[0] + 0.1


def test_stopping_on_the_auc_of_given_units():
    X, labels, groups = rows(160)
    validation = rows(80, seed=3)[:2]
    options = {**SMALL["cnn"], **QUICK, "monitor": "auc", "patience": 2, "max_epochs": 6}
    model = RegionNetwork("cnn", 3, options).fit(X, labels, groups=groups, validation=validation)
    scores = model.history_["valid_auc"]
    assert max(scores) > 0.6
    # the best epoch is what is kept
    from si_neuroml.classification.folds import macro_auc

    assert macro_auc(model.predict_proba(validation[0]), validation[1]) == pytest.approx(max(scores), abs=1e-6)


def test_the_random_state_of_the_user_stays():
    X, labels, _ = rows(60)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    RegionNetwork("cnn", 3, {**SMALL["cnn"], **QUICK, "max_epochs": 1}).fit(X, labels)
    torch.testing.assert_close(torch.rand(3), expected)


def test_a_network_without_features_and_one_class():
    X, labels, _ = rows(80)
    model = RegionNetwork("cnn", 0, {**SMALL["cnn"], **QUICK, "max_epochs": 1}).fit(X[:, 3:], labels)
    assert model.predict_proba(X[:0, 3:]).shape == (0, 3)
    with pytest.raises(InputError, match="no stream"):
        RegionNetwork("cnn", X.shape[1], QUICK).fit(X, labels)
    with pytest.raises(TrainingError, match="one class"):
        RegionNetwork("cnn", 3, QUICK).fit(X, np.zeros(len(X)))
    with pytest.raises(TrainingError, match="smaller learning_rate"):
        RegionNetwork("cnn", 3, {**SMALL["cnn"], **QUICK, "learning_rate": 1e30}).fit(X, labels)
