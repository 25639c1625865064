"""The classifier of cell types: image, features, fusion; calibration, abstention, outliers; its life in a folder."""

import numpy as np
import pytest
from cell_helpers import FREQUENCIES, NAMES, QUICK, SHAPE, TYPES, cells

from si_neuroml import load_model, save_model
from si_neuroml.celltypes.classifier import UNKNOWN
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.fit import fit_cell_type_classifier
from si_neuroml.celltypes.fusion import SoftVote, StackedLogistic, fit_fusion, fusion_from
from si_neuroml.celltypes.outliers import OutlierModel
from si_neuroml.errors import InputError, ModelMismatchError, TrainingError

OPTIONS = {"image_kwargs": QUICK, "feature_kwargs": {"max_iter": 20}, "progress_bar": False}


@pytest.fixture(scope="module")
def fused():
    return fit_cell_type_classifier(cells(120), **OPTIONS)


def recall(classifier, dataset):
    return (classifier.predict_proba(dataset).argmax(axis=1) == np.searchsorted(TYPES, dataset.labels)).mean()


def test_fusion_knows_unseen_donors_and_comes_back_from_a_folder(fused, tmp_path):
    fresh = cells(120, seed=1)
    assert fused.model == "fusion"
    assert recall(fused, fresh) > 0.85
    predictions = fused.predict(fresh)
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1.0)
    assert set(predictions.streams) == {"image", "features"}
    assert predictions.out_of_distribution.mean() < 0.1
    loaded = load_model(save_model(fused, tmp_path / "model"))
    assert loaded == fused
    np.testing.assert_allclose(loaded.predict_proba(fresh), predictions.probabilities, atol=1e-6)
    np.testing.assert_allclose(loaded.predict(fresh).outlier_score, predictions.outlier_score, rtol=1e-5)
    table = predictions.to_dataframe(fresh.cells)
    assert (table["true_label"] == fresh.labels).all()
    assert {"label", "probability", "out_of_distribution", "p_Sst"} <= set(table)


@pytest.mark.parametrize("model", ["image", "features"])
def test_one_stream_alone(model, tmp_path):
    dataset = cells(100, images=model == "image", features=model == "features")
    classifier = fit_cell_type_classifier(dataset, **OPTIONS)
    assert classifier.model == model
    fresh = cells(100, seed=1)
    assert recall(classifier, fresh) > 0.7
    loaded = load_model(save_model(classifier, tmp_path / "model"))
    np.testing.assert_allclose(loaded.predict_proba(fresh), classifier.predict_proba(fresh), atol=1e-6)
    again = fit_cell_type_classifier(dataset, **OPTIONS)
    assert again == classifier


def test_a_cell_without_one_stream_is_typed_by_the_other(fused):
    fresh = cells(30, seed=2)
    images, features = fresh.images.copy(), fresh.features.copy()
    images[:10], features[5:15] = np.nan, np.nan
    part = CellDataset(fresh.cells, images, features, NAMES, FREQUENCIES, fresh.times_ms)
    predictions, whole = fused.predict(part), fused.predict(fresh)
    np.testing.assert_allclose(predictions.probabilities[:5], whole.streams["features"][:5])
    np.testing.assert_allclose(predictions.probabilities[10:15], whole.streams["image"][10:15])
    np.testing.assert_allclose(predictions.probabilities[15:], whole.probabilities[15:])
    # nothing is known of these: the prior, which is even because types counted the same
    np.testing.assert_allclose(predictions.probabilities[5:10], 1 / 3)
    assert (predictions.label[5:10] == UNKNOWN).all()
    assert np.isnan(predictions.outlier_score[5:10]).all()


def test_a_dataset_without_one_stream_is_typed_by_the_other(fused):
    fresh = cells(20, seed=2)
    whole = fused.predict(fresh)
    images = CellDataset(fresh.cells, fresh.images, None, (), FREQUENCIES, fresh.times_ms)
    np.testing.assert_allclose(fused.predict_proba(images), whole.streams["image"])
    features = CellDataset(fresh.cells, None, fresh.features, NAMES)
    np.testing.assert_allclose(fused.predict_proba(features), whole.streams["features"])


def test_probabilities_are_calibrated_on_donors_left_out():
    """Types that overlap: trees are far too sure of themselves, and the temperature takes that back."""
    dataset = cells(300, images=False, noise=2.0, num_donors=30)
    options = {**OPTIONS, "feature_kwargs": {"max_iter": 150}}
    calibrated = fit_cell_type_classifier(dataset, **options)
    raw = fit_cell_type_classifier(dataset, calibrate=False, **options)
    fresh = cells(600, seed=5, images=False, noise=2.0)
    truth, rows = np.searchsorted(TYPES, fresh.labels), np.arange(600)
    losses = [-np.log(one.predict_proba(fresh)[rows, truth]).mean() for one in (calibrated, raw)]
    assert losses[0] < losses[1] - 0.1
    assert calibrated.streams["features"].calibration.temperature > 1.5
    assert raw.threshold == 0.0
    # confidence and accuracy agree
    highest = calibrated.predict_proba(fresh).max(axis=1)
    assert abs(highest.mean() - recall(calibrated, fresh)) < 0.08


def test_abstention_trades_coverage_for_accuracy():
    dataset = cells(300, images=False, noise=1.4, num_donors=30)
    fresh = cells(600, seed=6, images=False, noise=1.4)
    classifier = fit_cell_type_classifier(dataset, target_accuracy=0.93, **OPTIONS)
    label = classifier.predict(fresh, reject_outliers=False).label
    given = label != UNKNOWN
    assert 0.1 < given.mean() < 0.9
    assert (label == fresh.labels)[given].mean() > recall(classifier, fresh) + 0.05
    everything = classifier.with_threshold(0.0).predict(fresh, reject_outliers=False)
    assert (everything.label != UNKNOWN).all()
    assert classifier.training["out_of_fold"]["accuracy_given"] >= 0.93


def test_strange_cells_are_flagged(fused):
    fresh = cells(60, seed=3)
    strange = CellDataset(fresh.cells, fresh.images, fresh.features + 30.0, NAMES, FREQUENCIES, fresh.times_ms)
    predictions = fused.predict(strange)
    assert predictions.out_of_distribution.all()
    assert (predictions.label == UNKNOWN).all()
    assert (fused.predict(strange, reject_outliers=False).label != UNKNOWN).any()
    noise = np.random.default_rng(0).exponential(3.0, fresh.images.shape).astype("float32")
    other = CellDataset(fresh.cells, noise, fresh.features, NAMES, FREQUENCIES, fresh.times_ms)
    assert fused.predict(other).out_of_distribution.mean() > 0.9


def test_distances_are_those_of_mahalanobis():
    rng = np.random.default_rng(0)
    mixing, labels = rng.normal(0, 1, (4, 4)), rng.integers(0, 2, 500)
    points = rng.normal(0, 1, (500, 4)) @ mixing + 20.0 * labels[:, None]
    model = OutlierModel.fit(points, labels, num_axes=3)
    means = np.stack([points[labels == k].mean(axis=0) for k in (0, 1)])
    centered = points - means[labels]
    inverse = np.linalg.inv(centered.T @ centered / (len(points) - 2))
    probe = points[:50] + rng.normal(0, 3, (50, 4))
    off = probe[:, None] - means
    expected = np.sqrt(np.einsum("nki,ij,nkj->nk", off, inverse, off).min(axis=1) / 4)
    np.testing.assert_allclose(model.distances(probe), expected, rtol=1e-6)
    # far from all axes counts as well as along them
    wide = OutlierModel.fit(rng.normal(0, 1, (200, 50)), np.zeros(200, dtype=int), num_axes=5)
    assert wide.distances(np.zeros((1, 50)) + 3.0)[0] > 2 * wide.distances(np.zeros((1, 50)) + 1.0)[0]


def test_the_vote_believes_who_is_right():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    right = np.where(np.eye(3)[labels] > 0, 0.8, 0.1)
    guess = rng.dirichlet(np.ones(3), 400)
    assert SoftVote.fit([right, guess], labels).weights[0] > 0.9
    assert SoftVote.fit([guess, right], labels).weights[0] < 0.1
    for method in ("soft_vote", "stacked"):
        fusion = fit_fusion(method, [right, guess], labels)
        fused = fusion.apply([right, guess])
        np.testing.assert_allclose(fused.sum(axis=1), 1.0)
        assert (fused.argmax(axis=1) == labels).mean() > 0.95
        np.testing.assert_allclose(fusion_from(fusion.to_dict()).apply([right, guess]), fused)
    # two classes, of which one opinion each knows one
    labels = rng.integers(0, 2, 400)
    own = np.stack([1 - labels, labels], axis=1) * 0.6 + 0.2
    assert isinstance(fit_fusion("stacked", [own, own], labels), StackedLogistic)
    assert (fit_fusion("stacked", [own, own], labels).apply([own, own]).argmax(axis=1) == labels).all()


def test_donors_are_never_split():
    """A feature that names the donor says everything about donors seen and nothing about new ones."""
    dataset = cells(240, images=False, num_donors=24, noise=1.0)
    rng = np.random.default_rng(0)
    of_donor = {donor: rng.integers(0, 3) for donor in np.unique(dataset.cells["donor"])}
    table = dataset.cells.assign(label=[TYPES[of_donor[donor]] for donor in dataset.cells["donor"]])
    codes = np.unique(table["donor"], return_inverse=True)[1]
    leak = CellDataset(table, None, np.stack([codes, rng.normal(0, 1, len(codes))], axis=1), ("donor", "noise"))
    options = {**OPTIONS, "feature_kwargs": {"max_iter": 20, "min_samples_leaf": 2}}
    classifier = fit_cell_type_classifier(leak, **options)
    assert classifier.training["out_of_fold"]["features"]["balanced_accuracy"] < 0.6
    # the same seen by cells: leaks in full
    alone = CellDataset(table.assign(donor=""), None, leak.features, leak.feature_names)
    classifier = fit_cell_type_classifier(alone, **options)
    assert classifier.training["out_of_fold"]["features"]["balanced_accuracy"] > 0.9


def test_bad_input_is_refused(fused):
    with pytest.raises(InputError, match="no images|no image"):
        fit_cell_type_classifier(cells(40, images=False), "image")
    with pytest.raises(InputError, match="vote"):
        fit_cell_type_classifier(cells(40), fusion="majority", **OPTIONS)
    with pytest.raises(InputError, match="resnet99"):
        fit_cell_type_classifier(cells(40), "image", image_kwargs={"backbone": "resnet99"})
    with pytest.raises(InputError, match="epochs"):
        fit_cell_type_classifier(cells(40), "image", image_kwargs={"epochs": 3})
    with pytest.raises(InputError, match="depth_of_trees"):
        fit_cell_type_classifier(cells(40), "features", feature_kwargs={"depth_of_trees": 3}, progress_bar=False)
    one = cells(40)
    one = one.select(one.labels == "Sst")
    with pytest.raises(TrainingError, match="two types"):
        fit_cell_type_classifier(one, "features")
    with pytest.warns(UserWarning, match="fewer than 3"):
        fit_cell_type_classifier(cells(60, num_donors=1), "features", **OPTIONS)
    other = cells(10)
    with pytest.raises(ModelMismatchError, match="latency_ms"):
        fused.predict(
            CellDataset(other.cells, other.images, other.features[:, 1:], NAMES[1:], FREQUENCIES, other.times_ms)
        )
    with pytest.raises(ModelMismatchError, match="image and features: the dataset has none"):
        fused.predict(CellDataset(other.cells))
    with pytest.raises(ModelMismatchError, match="times_ms"):
        fused.predict(CellDataset(other.cells, other.images, other.features, NAMES, FREQUENCIES, other.times_ms + 500))
    with pytest.raises(ModelMismatchError, match="12"):
        fused.predict(CellDataset(other.cells, other.images[:, :1], other.features, NAMES, FREQUENCIES, other.times_ms))


def test_a_dataset_keeps_what_it_is_given(tmp_path):
    dataset = cells(30)
    loaded = CellDataset.load(dataset.save(tmp_path / "cells.npz"))
    np.testing.assert_array_equal(loaded.images, dataset.images)
    np.testing.assert_array_equal(loaded.features, dataset.features)
    np.testing.assert_array_equal(loaded.frequencies_hz, FREQUENCIES)
    assert loaded.cells.equals(dataset.cells)
    without = cells(20, seed=4, images=False)
    both = CellDataset.concatenate([dataset, without.select(np.arange(5))])
    assert len(both) == 35
    assert both.has_image.sum() == 30
    assert both.has_features.all()
    picked = both.select(both.labels == "Sst")
    assert (picked.labels == "Sst").all()
    assert "images of 2 x 12 x 40" in repr(both)
    # donors of one name in two data sets are two
    assert len(set(CellDataset.concatenate([dataset, cells(30, seed=9, name="other")]).groups)) == 18
    assert len(set(CellDataset(dataset.cells.assign(donor="")).groups)) == 30


def test_a_dataset_refuses_what_cannot_be_right():
    dataset = cells(10)
    broken = dataset.images.copy()
    broken[3, 0, 2, 5] = np.nan
    with pytest.raises(InputError, match="row 3"):
        CellDataset(dataset.cells, broken)
    with pytest.raises(InputError, match="more than once"):
        CellDataset(dataset.cells.assign(cell_id="a"))
    with pytest.raises(InputError, match="4 feature names"):
        CellDataset(dataset.cells, None, dataset.features[:, :2], NAMES)
    with pytest.raises(InputError, match="rise or fall"):
        CellDataset(dataset.cells, dataset.images, frequencies_hz=np.ones(SHAPE[1]))
    with pytest.raises(InputError, match="cell_id"):
        CellDataset(dataset.cells.drop(columns="cell_id"))
    with pytest.raises(InputError, match="types have at least"):
        dataset.drop_rare(min_cells=100)


def test_sweeps_become_a_dataset():
    from sweep_helpers import firing_cell, make_cell

    steps = np.arange(0.0, 161.0, 20.0)
    cells_ = [firing_cell(steps, 60.0, cell_id="a"), firing_cell(steps, 100.0, cell_id="b")]
    silent = make_cell([20.0, 40.0], [(), ()], cell_id="silent")
    dataset = CellDataset.from_sweeps([*cells_, silent], labels={"a": "Sst", "b": "Pvalb"}, donors=["d", "d", "e"])
    assert dataset.images.shape == (3, 2, 48, 240)
    assert dataset.has_image.tolist() == [True, True, False]
    assert dataset.labels.tolist() == ["Sst", "Pvalb", ""]
    assert "no spikes" in dataset.cells["refusal"][2]
    assert dataset.cells["rheobase_pa"][:2].tolist() == [60.0, 100.0]
    assert dataset.frequencies_hz[[0, -1]].tolist() == pytest.approx([20.0, 200.0])
    # pixels of 5 ms from 100 ms before onset
    assert dataset.times_ms[0] == pytest.approx(-97.5)
    assert np.diff(dataset.times_ms) == pytest.approx(np.full(239, 5.0))
    # the first spike 60 ms after onset is where the image says it is
    energy = dataset.images[0, 0, -8:].sum(axis=0)
    assert abs(dataset.times_ms[energy[:45].argmax()] - 60.0) < 7.5
    with pytest.raises(InputError, match="labels must"):
        CellDataset.from_sweeps(cells_, labels=["Sst"])
