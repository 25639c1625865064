"""Waveforms and datasets of units, models of their streams, the classifier of several of them, and the ablation."""

import numpy as np
import pytest
from unit_helpers import DURATION_S, RATE_HZ, SETTINGS, TYPES, WIDTH_MS, simulated, units

from si_neuroml import load_model, save_model
from si_neuroml.celltypes.ablation import ALL, stream_ablation
from si_neuroml.celltypes.cell_streams import CellStream
from si_neuroml.celltypes.classifier import UNKNOWN
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.fit import fit_cell_type_classifier
from si_neuroml.celltypes.fusion import EQUAL_CELLS, SoftVote, StackedLogistic, fusion_from
from si_neuroml.celltypes.stream_models import STREAM_DEFAULTS, StreamModel
from si_neuroml.celltypes.unit_settings import TRAIN_STREAMS, UNIT_STREAMS, UnitStreamSettings
from si_neuroml.celltypes.unit_streams import unit_streams
from si_neuroml.celltypes.unit_waveforms import aligned_waveforms, best_channel_waveforms, waveform_scalograms
from si_neuroml.classification.preparation import class_weights
from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.groundtruth.region_analyzers import unit_waveforms

QUIET = {"progress_bar": False}


@pytest.fixture(scope="module")
def dataset():
    return units(6, seed=0)


@pytest.fixture(scope="module")
def fresh():
    return units(3, seed=1)


@pytest.fixture(scope="module")
def classifier(dataset):
    return fit_cell_type_classifier(dataset, **QUIET)


def recall(classifier, dataset):
    return (classifier.predict_proba(dataset).argmax(axis=1) == np.searchsorted(TYPES, dataset.labels)).mean()


def without(dataset, *names):
    """The same cells, of whose streams these are not known."""
    streams = {k: stream.unknown(len(dataset)) if k in names else stream for k, stream in dataset.streams.items()}
    return CellDataset(dataset.cells, streams=streams)


@pytest.mark.parametrize("rate_hz", [20_000.0, 30_000.0, 48_000.0])
def test_waveforms_are_the_same_at_any_rate_and_height(rate_hz):
    widths = np.array([0.25, 0.45, 0.6])
    expected = aligned_waveforms(unit_waveforms(widths, np.full(3, 100.0), 100_000.0), 100_000.0)
    found = aligned_waveforms(unit_waveforms(widths, np.array([30.0, 300.0, 100.0]), rate_hz), rate_hz)
    np.testing.assert_allclose(found, expected, atol=0.02)
    times = UnitStreamSettings().waveform_times_ms
    assert found.min(axis=1) == pytest.approx(np.full(3, -1.0), abs=1e-4)
    np.testing.assert_array_equal(times[found.argmin(axis=1)], 0)
    # the peak that follows is where it was made
    np.testing.assert_allclose(times[found.argmax(axis=1)], widths, atol=0.04)
    # cut earlier, upside down
    other = aligned_waveforms(-unit_waveforms(widths, np.full(3, 9.0), rate_hz)[:, round(0.3e-3 * rate_hz) :], rate_hz)
    np.testing.assert_allclose(other, -found, atol=0.02)
    scalograms = waveform_scalograms(found)
    np.testing.assert_allclose(scalograms, waveform_scalograms(expected), atol=0.02)
    # narrow ones are fast
    frequencies = UnitStreamSettings().waveform_frequencies_hz
    assert (np.diff(frequencies[scalograms.max(axis=2).argmax(axis=1)]) < 0).all()


def test_waveforms_that_cannot_be_and_those_of_several_channels():
    waveforms = unit_waveforms(np.array([0.3, 0.5]), np.array([100.0, 50.0]), RATE_HZ)
    templates = waveforms[:, :, None] * np.array([[0.2, 1.0, 0.1], [0.1, 0.3, -1.0]])[:, None, :]
    np.testing.assert_allclose(best_channel_waveforms(templates), waveforms * np.array([[1.0], [-1.0]]), rtol=1e-6)
    waveforms[0] = 0
    found = aligned_waveforms(waveforms, RATE_HZ)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert np.isnan(waveform_scalograms(found)[0]).all()
    assert np.isnan(aligned_waveforms(np.full((1, 30), np.nan), RATE_HZ)).all()
    with pytest.raises(InputError, match=r"Waveforms last 0\.90 ms, 0\.6 ms before and 1\.2 ms after"):
        aligned_waveforms(waveforms[:, :10], RATE_HZ)


def test_streams_of_units_and_what_they_need():
    _, trains, waveforms = simulated(1, 3)
    both = unit_streams(trains, [DURATION_S], waveforms, RATE_HZ, settings=SETTINGS, num_threads=2)
    assert tuple(both) == UNIT_STREAMS
    each = unit_streams(trains, [[DURATION_S]] * 3, settings=SETTINGS)
    assert tuple(each) == TRAIN_STREAMS
    for name, stream in both.items():
        assert stream.values.shape == (3, *map(len, SETTINGS.axes(name).values()))
        assert stream.known.all()
        if name in each:
            np.testing.assert_array_equal(stream.values, each[name].values)
    assert {len(stream) for stream in unit_streams([], [1.0], np.zeros((0, 30)), RATE_HZ).values()} == {0}
    with pytest.raises(InputError, match=r"\['waveform'\] need"):
        unit_streams(trains, [DURATION_S], streams=["waveform", "acg_3d"])
    with pytest.raises(InputError, match="streams must be a list of some of"):
        unit_streams(trains, [DURATION_S], streams=["acg"])
    with pytest.raises(InputError, match="need durations_s"):
        unit_streams(trains)
    with pytest.raises(InputError, match="3 spike trains and durations for 2"):
        unit_streams(trains, [[DURATION_S]] * 2)


def test_a_dataset_keeps_streams(dataset, tmp_path):
    loaded = CellDataset.load(dataset.save(tmp_path / "units.npz"))
    assert list(loaded.streams) == list(dataset.streams) == list(UNIT_STREAMS)
    for name, stream in dataset.streams.items():
        np.testing.assert_array_equal(loaded.streams[name].values, stream.values)
        assert list(loaded.streams[name].axes) == list(stream.axes)
    assert "acg_3d" in repr(dataset)
    some = dataset.select(dataset.labels == "Fast")
    np.testing.assert_array_equal(
        some.streams["acg_3d"].values, dataset.streams["acg_3d"].values[dataset.labels == "Fast"]
    )
    other = units(1, seed=9, waveforms=None, sampling_frequency=None)
    other = CellDataset(other.cells.assign(dataset="other"), streams=other.streams)
    both = CellDataset.concatenate([dataset, other])
    assert both.streams["waveform"].known.tolist() == [True] * len(dataset) + [False] * len(other)
    assert both.known("log_isi").all()
    assert both.stream_names == UNIT_STREAMS
    assert not both.known("image").any()
    longer = {"log_isi": CellStream(np.zeros((len(other), 3)), {"isi_ms": np.arange(3.0)})}
    with pytest.raises(InputError, match="isi_ms of length 40 against 3"):
        CellDataset.concatenate([dataset, CellDataset(other.cells, streams=longer)])
    with pytest.raises(InputError, match="a row for each of 9 cells"):
        CellDataset(other.cells, streams={"log_isi": CellStream(np.zeros((2, 3)), {"isi_ms": np.arange(3.0)})})
    with pytest.raises(InputError, match="shape .* axes of lengths"):
        CellStream(np.zeros((2, 3)), {"isi_ms": np.arange(4.0)})


@pytest.mark.parametrize("method", STREAM_DEFAULTS)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_models_of_one_stream(dataset, fresh, method, num_classes):
    kept, asked = (one.select(np.isin(one.labels, TYPES[:num_classes])) for one in (dataset, fresh))
    model = StreamModel(method).fit(kept.streams["acg_3d"].values, kept.labels)
    values = asked.streams["acg_3d"].values
    assert (model.predict(values) == asked.labels).mean() > 0.9
    np.testing.assert_allclose(model.predict_proba(values).sum(axis=1), 1, atol=1e-6)
    again = StreamModel.from_arrays(model.to_arrays(), model.classes_, **model.settings())
    np.testing.assert_allclose(again.predict_proba(values), model.predict_proba(values))
    # components have a variance of 1 and do not go together
    np.testing.assert_allclose(np.cov(model.embed(kept.streams["acg_3d"].values).T), np.eye(12), atol=0.03)
    with pytest.raises(InputError, match="depth"):
        StreamModel(method, {"depth": 3}).fit(values, asked.labels)
    with pytest.raises(InputError, match="num_components"):
        StreamModel(method, {"num_components": 0}).fit(values, asked.labels)
    with pytest.raises(InputError, match="forest"):
        StreamModel("forest").fit(values, asked.labels)


def test_unseen_animals_are_typed_and_the_model_comes_back(classifier, fresh, tmp_path):
    assert classifier.model == "fusion"
    assert tuple(classifier.streams) == UNIT_STREAMS
    assert recall(classifier, fresh) > 0.95
    predictions = classifier.predict(fresh)
    assert set(predictions.streams) == set(UNIT_STREAMS)
    loaded = load_model(save_model(classifier, tmp_path / "model"))
    assert loaded == classifier
    np.testing.assert_allclose(loaded.predict_proba(fresh), predictions.probabilities, atol=1e-6)
    np.testing.assert_allclose(loaded.predict(fresh).outlier_score, predictions.outlier_score, rtol=1e-5)
    assert list(loaded.streams["acg_3d"].axes) == ["firing_rate_quantile", "lag_ms"]


def test_any_stream_may_be_missing(classifier, dataset, fresh):
    whole = classifier.predict(fresh)
    some = classifier.predict(without(fresh, "waveform", "waveform_scalogram"))
    assert np.isnan(some.streams["waveform"]).all()
    np.testing.assert_array_equal(some.streams["log_isi"], whole.streams["log_isi"])
    assert (some.probabilities.argmax(axis=1) == np.searchsorted(TYPES, fresh.labels)).mean() > 0.9
    # not there at all, instead of NaN
    less = CellDataset(fresh.cells, streams={k: v for k, v in fresh.streams.items() if not k.startswith("waveform")})
    np.testing.assert_array_equal(classifier.predict_proba(less), some.probabilities)
    # one alone says what it says alone; none at all: the prior
    one = classifier.predict(without(fresh, *UNIT_STREAMS[:-1]))
    np.testing.assert_allclose(one.probabilities, whole.streams[UNIT_STREAMS[-1]])
    none = classifier.predict(without(fresh, *UNIT_STREAMS))
    np.testing.assert_allclose(none.probabilities, 1 / 3)
    assert (none.label == UNKNOWN).all()
    # also in training, where some units have no waveform
    rows = np.arange(len(dataset)) % 4 == 0
    values = dataset.streams["waveform"].values.copy()
    values[rows] = np.nan
    partly = {**dataset.streams, "waveform": CellStream(values, dataset.streams["waveform"].axes)}
    fitted = fit_cell_type_classifier(CellDataset(dataset.cells, streams=partly), ["waveform", "acg_3d"], **QUIET)
    assert recall(fitted, fresh) > 0.9


def test_models_are_chosen_by_stream(dataset, fresh):
    for model in ("waveform", ["log_isi"], ("waveform", "log_isi")):
        fitted = fit_cell_type_classifier(dataset, model, **QUIET)
        assert tuple(fitted.streams) == ((model,) if isinstance(model, str) else tuple(model))
        assert recall(fitted, fresh) > 0.9
    trees = fit_cell_type_classifier(
        dataset,
        ["log_isi", "acg_3d"],
        stream_kwargs={"acg_3d": {"method": "extra_trees", "n_estimators": 30}},
        fusion="stacked",
        **QUIET,
    )
    assert trees.streams["acg_3d"].estimator.method == "extra_trees"
    assert trees.streams["log_isi"].estimator.method == "logistic_regression"
    assert recall(trees, fresh) > 0.9
    assert np.isfinite(trees.predict_proba(without(fresh, "log_isi"))).all()
    with pytest.raises(InputError, match="no cell-type model 'psth'"):
        fit_cell_type_classifier(dataset, "psth")
    with pytest.raises(InputError, match="no cell-type model"):
        fit_cell_type_classifier(dataset, ["log_isi", "log_isi"])
    with pytest.raises(InputError, match="no image"):
        fit_cell_type_classifier(dataset, ["image", "log_isi"])
    with pytest.raises(InputError, match=r"stream_kwargs are given for \['waveform'\]"):
        fit_cell_type_classifier(dataset, "acg_3d", stream_kwargs={"waveform": {}})
    with pytest.raises(InputError, match="depth"):
        fit_cell_type_classifier(dataset, "acg_3d", stream_kwargs={"acg_3d": {"depth": 3}}, **QUIET)


def test_other_settings_other_models_and_strange_units(classifier, fresh):
    cells, trains, _ = simulated(1, 3, seed=1)
    other = CellDataset.from_units(cells, trains=trains, durations_s=[DURATION_S], streams=["log_isi", "acg_3d"])
    # acg_3d and log_isi are the same by default: nothing in these settings changes them
    assert np.isfinite(classifier.predict_proba(other)).all()
    wide = UnitStreamSettings(acg_window_ms=500.0)
    wrong = CellDataset.from_units(cells, trains=trains, durations_s=[DURATION_S], streams=["acg_3d"], settings=wide)
    with pytest.raises(ModelMismatchError, match="'acg_3d' with other settings .* lag_ms"):
        classifier.predict(wrong)
    with pytest.raises(ModelMismatchError, match="the dataset has none"):
        classifier.predict(CellDataset(cells))
    broad = unit_waveforms(np.full(27, 4 * WIDTH_MS["Bursting"]), np.full(27, 100.0), RATE_HZ)
    strange = unit_streams(waveforms=-broad, sampling_frequency=RATE_HZ, settings=SETTINGS)
    predictions = classifier.predict(CellDataset(fresh.cells, streams={**fresh.streams, **strange}))
    assert predictions.out_of_distribution.all()
    assert (predictions.label == UNKNOWN).all()
    assert classifier.predict(fresh).out_of_distribution.mean() < 0.3


def test_votes_of_many():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    right = np.where(np.eye(3)[labels] > 0, 0.8, 0.1)
    guesses = [rng.dirichlet(np.ones(3), 600) for _ in range(3)]
    vote = SoftVote.fit([guesses[0], right, *guesses[1:]], labels)
    assert sum(vote.weights) == pytest.approx(1)
    assert vote.weights[1] > 0.9
    assert fusion_from(vote.to_dict()) == vote
    # where the gradient of the loss and the pull to equal weights cancel
    opinions = [right, 0.5 * right + 0.5 * guesses[0], guesses[1]]
    mixed, own = (
        np.array(SoftVote.fit(opinions, labels).weights),
        np.stack([one[np.arange(600), labels] for one in opinions]),
    )
    gains = (own / (mixed @ own)) @ class_weights(labels, 1.0)
    np.testing.assert_allclose(mixed * (600 + EQUAL_CELLS), mixed * gains + EQUAL_CELLS / 3, rtol=1e-3)
    # few cells say little about whom to believe
    assert np.ptp(SoftVote.fit([one[:9] for one in opinions], labels[:9]).weights) < 0.2
    # a missing opinion leaves its weight to the others
    missing = [np.full((600, 3), np.nan), right]
    np.testing.assert_allclose(SoftVote((0.9, 0.1)).apply(missing), right)
    stacked = StackedLogistic.fit([guesses[0], right], labels)
    assert (stacked.apply(missing).argmax(axis=1) == labels).all()


def test_the_ablation_finds_who_knows():
    """Types that differ in the waveform alone: it is missed, and the train is not."""
    rng = np.random.default_rng(0)
    dataset = units(6, seed=3, streams=["waveform", "log_isi", "acg_3d"])
    cells = dataset.cells.copy()
    mixed = {
        name: CellStream(stream.values[rng.permutation(len(dataset))], stream.axes) if name != "waveform" else stream
        for name, stream in dataset.streams.items()
    }
    found = stream_ablation(CellDataset(cells, streams=mixed), num_folds=2, num_resamples=100, **QUIET)
    rows = ["waveform", "log_isi", "acg_3d", ALL, "all but waveform", "all but log_isi", "all but acg_3d"]
    assert found.table.index.tolist() == rows
    balanced = found.table["balanced_accuracy"]
    assert balanced[["waveform", "all but log_isi", ALL]].min() > 0.75
    assert balanced[["log_isi", "acg_3d", "all but waveform"]].max() < 0.6
    assert found.table.loc["all but waveform", "difference_high"] < 0
    assert (found.table["low"] <= balanced + 1e-9).all()
    assert (balanced <= found.table["high"] + 1e-9).all()
    text = str(found)
    assert "54 cells of 6 donors" in text
    assert "all but waveform" in text
    for one in found.probabilities.values():
        np.testing.assert_allclose(one.sum(axis=1), 1)
    two = stream_ablation(CellDataset(cells, streams=mixed), ["waveform", "log_isi"], num_folds=2, **QUIET)
    assert two.table.index.tolist() == ["waveform", "log_isi", ALL]
    with pytest.raises(InputError, match="two or more"):
        stream_ablation(dataset, ["waveform"])
