"""The classifier: fitted across animals, calibrated, smoothed, saved and loaded, and what it refuses."""

import numpy as np
import pytest
from region_units import EDGES, NAMES, REGIONS, make_dataset

import si_neuroml
from si_neuroml.classification.probability_calibration import (
    IsotonicCalibration,
    TemperatureCalibration,
    calibration_from,
)
from si_neuroml.errors import InputError, ModelMismatchError, TrainingError
from si_neuroml.regions.classifier import ESTIMATORS, UNKNOWN, RegionClassifier, load_estimator, track_codes
from si_neuroml.regions.depth import DepthHMM
from si_neuroml.regions.feature_columns import FeatureColumns, choose_columns
from si_neuroml.regions.fit import NETWORKS, fit_region_classifier
from si_neuroml.regions.held_out import out_of_fold

TINY = {"feature_units": 4, "head_units": 8, "max_epochs": 2}
KWARGS = {
    "dmlp": {**TINY, "layer1": 8, "layer2": 8},
    "lda_dense": {**TINY, "units": 8},
    "cnn": {**TINY, "filters": 4},
    "tcn": {**TINY, "filters": 4, "levels": 1},
    "transformer": {**TINY, "embedding": 4, "feed_forward": 8},
    "extra_trees": {"n_estimators": 10},
    "hist_gradient_boosting": {"max_iter": 5},
    "subject_ensemble": {"num_trees": 10, "num_folds": 2},
    "subject_logistic": {"num_folds": 2},
}
FAST = {"depth": None, "num_folds": 3, "progress_bar": False}


def quick(dataset, model="logistic_regression", **options):
    return fit_region_classifier(dataset, model, **({"model_kwargs": KWARGS.get(model)} | FAST | options))


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(missing=0.02)


@pytest.fixture(scope="module")
def smoothing(dataset):
    return quick(dataset, depth="gaussian", feature_families=["rate", "isi"])


@pytest.mark.parametrize("model", ESTIMATORS)
def test_every_model_saves_and_loads_to_the_same_probabilities(dataset, model, tmp_path):
    classifier = quick(dataset, model)
    fresh = make_dataset(2, 20, seed=9, missing=0.05)
    folder = si_neuroml.save_model(classifier, tmp_path / model)
    again = si_neuroml.load_model(folder)
    assert again == classifier
    np.testing.assert_allclose(again.predict_proba(fresh), classifier.predict_proba(fresh), atol=1e-6)
    np.testing.assert_array_equal(again.predict(fresh).label, classifier.predict(fresh).label)
    np.testing.assert_allclose(classifier.predict_proba(fresh).sum(axis=1), 1.0, atol=1e-9)
    assert again.classes == REGIONS
    assert again.training["num_units"] == len(dataset)


def test_smoothing_and_threshold_are_saved(smoothing, tmp_path):
    again = si_neuroml.load_model(si_neuroml.save_model(smoothing, tmp_path / "model"))
    assert again.depth == smoothing.depth
    assert again.threshold == smoothing.threshold == 0.5
    fresh = make_dataset(2, 40, seed=4)
    one, other = smoothing.predict(fresh), again.predict(fresh)
    np.testing.assert_allclose(one.smoothed, other.smoothed, atol=1e-6)


def test_a_hidden_markov_model_is_saved_too(smoothing, tmp_path):
    own = vars(smoothing)
    names = ("model", "estimator", "columns", "classes", "class_shares", "calibration")
    depth = DepthHMM(300.0, 0.5, (0.5, 0.3, 0.2), ((0, 0.5, 0.5), (1, 0, 0), (0.2, 0.8, 0)))
    classifier = RegionClassifier(*(own[name] for name in names), depth, 0.4, {})
    again = si_neuroml.load_model(si_neuroml.save_model(classifier, tmp_path / "model"))
    assert again.depth == depth
    assert again.threshold == 0.4


def test_neighbours_help_where_regions_are_layers(smoothing):
    fresh = make_dataset(4, 60, seed=5)
    found = smoothing.predict(fresh)
    truth = smoothing.class_index(fresh.labels)
    raw, smooth = ((p.argmax(axis=1) == truth).mean() for p in (found.probabilities, found.smoothed))
    assert smooth > raw + 0.05
    plain = smoothing.predict(fresh, smooth=False)
    np.testing.assert_array_equal(plain.smoothed, plain.probabilities)
    np.testing.assert_array_equal(plain.probabilities, found.probabilities)
    scores = smoothing.training["out_of_fold"]
    assert scores["smoothed"]["log_loss"] < scores["calibrated"]["log_loss"] <= scores["raw"]["log_loss"] + 1e-6


def test_units_are_called_unknown_below_the_threshold(smoothing):
    fresh = make_dataset(3, 40, seed=6)
    always, never = smoothing.with_threshold(0.0).predict(fresh), smoothing.with_threshold(1.0).predict(fresh)
    assert UNKNOWN not in always.label
    assert set(never.label[never.probability < 1.0]) == {UNKNOWN}
    found = smoothing.with_threshold(0.8).predict(fresh)
    np.testing.assert_array_equal(found.label == UNKNOWN, found.probability < 0.8)
    table = found.to_dataframe(fresh.units)
    assert list(table["label"]) == list(found.label)
    assert len(table.columns) == len(fresh.units.columns) + 2 + len(REGIONS)


@pytest.mark.parametrize("target", [{"target_coverage": 0.6}, {"target_accuracy": 0.97}])
def test_threshold_from_held_out_units(target):
    data = make_dataset(6, 60, shift=0.2)
    classifier = quick(data, **target)
    fresh = make_dataset(10, 60, seed=11, shift=0.2)
    found = classifier.predict(fresh)
    given = found.label != UNKNOWN
    accuracy = (found.label == fresh.labels)[given].mean()
    if "target_coverage" in target:
        assert given.mean() == pytest.approx(0.6, abs=0.1)
        assert accuracy > (quick(data, unknown_below=0.0).predict(fresh).label == fresh.labels).mean()
    else:
        assert accuracy == pytest.approx(0.97, abs=0.025)
        assert 0.5 < given.mean() < 0.98


def test_calibration_on_other_animals_mends_overconfidence():
    """With animals that differ a lot, an unregularised model is far too sure of new ones."""
    data, fresh = make_dataset(6, 30, shift=1.2), make_dataset(20, 30, seed=3, shift=1.2)
    options = {"model_kwargs": {"C": 100.0}}
    truth = np.searchsorted(REGIONS, fresh.labels)

    def loss(calibration):
        p = quick(data, calibration=calibration, **options).predict_proba(fresh)
        return -np.log(np.maximum(p[np.arange(len(p)), truth], 1e-6)).mean(), p.max(axis=1).mean(), p

    (raw, sure, p), (calibrated, less_sure, q) = loss(None), loss("temperature")
    assert calibrated < raw - 0.1
    assert less_sure < sure - 0.05
    np.testing.assert_array_equal(p.argmax(axis=1), q.argmax(axis=1))
    assert loss("isotonic")[0] < raw - 0.1


def test_temperature_is_found_again():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > rng.random((len(p), 1))).argmax(axis=1)
    sharp = TemperatureCalibration(1 / 2.5).apply(p)
    found = TemperatureCalibration.fit(sharp, labels)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    np.testing.assert_allclose(found.apply(sharp), p, atol=0.02)
    isotonic = IsotonicCalibration.fit(p[:, :2] / p[:, :2].sum(axis=1, keepdims=True), labels % 2)
    assert calibration_from(isotonic.to_dict()) == isotonic
    assert calibration_from(found.to_dict()) == found
    assert calibration_from(None) is None


def test_out_of_fold_rows_come_from_models_without_the_subject(dataset):
    seen = []

    class Spy:
        def fit(self, X, y):
            self.rows = {row.tobytes() for row in X}
            return self

        def predict_proba(self, X):
            seen.append(len(X))
            assert not self.rows & {row.tobytes() for row in X}
            return np.full((len(X), 3), 1 / 3)

    X = np.arange(len(dataset), dtype="float32")[:, None]
    labels = np.searchsorted(REGIONS, dataset.labels)
    found = out_of_fold(Spy, X, labels, dataset.units["subject"].to_numpy(str), num_folds=10)
    assert sum(seen) == len(dataset)
    assert len(seen) == 6
    assert found.scored.all()


def test_region_of_one_subject_is_not_scored(dataset):
    labels = np.where((dataset.units["subject"] == "m0") & (dataset.labels == "TH"), "SC", dataset.labels)
    data = type(dataset)(dataset.units.assign(region=labels), dataset.features, dataset.feature_names)
    with pytest.warns(UserWarning, match="one subject only, such as \\['SC'\\]"):
        classifier = quick(data)
    scores = classifier.training["out_of_fold"]
    assert scores["num_units"] - scores["num_scored"] == (labels == "SC").sum()
    assert classifier.training["subjects_per_region"]["SC"] == 1


def test_few_subjects_fall_back_to_recordings_or_units_with_a_warning():
    data = make_dataset(2, 60)
    with pytest.warns(UserWarning, match="2 subjects, fewer than 3.*leaving out units"):
        assert quick(data).training["left_out"] == "unit"
    units = data.units.assign(recording=[f"{s}_{k % 2}" for k, s in enumerate(data.units["subject"])])
    with pytest.warns(UserWarning, match="leaving out recordings"):
        assert quick(type(data)(units, data.features, data.feature_names)).training["left_out"] == "recording"


def test_wrong_features_are_refused_by_name(dataset):
    classifier = quick(dataset)
    kept = [k for k, name in enumerate(NAMES) if name not in ("isi_cv", "log_isi_03")]
    less = type(dataset)(dataset.units, dataset.features[:, kept], tuple(NAMES[k] for k in kept))
    with pytest.raises(ModelMismatchError, match="2 are missing here: isi_cv, log_isi_03"):
        classifier.predict_proba(less)
    # order does not matter, nor do features that are not used
    order = np.random.default_rng(0).permutation(len(NAMES))
    other = type(dataset)(
        dataset.units,
        np.column_stack([dataset.features[:, order], np.ones(len(dataset))]),
        (*(NAMES[k] for k in order), "extra_one"),
    )
    np.testing.assert_array_equal(classifier.predict_proba(other), classifier.predict_proba(dataset))


def test_networks_refuse_other_bins(dataset):
    classifier = quick(dataset, "cnn", calibration=None)
    assert classifier.columns.num_stream == len(EDGES) - 1
    with pytest.raises(ModelMismatchError, match="this dataset has none"):
        classifier.predict_proba(make_dataset(2, 20, psth=False))
    moved = type(dataset)(dataset.units, dataset.features, dataset.feature_names, dataset.psth, EDGES + 0.1)
    with pytest.raises(ModelMismatchError, match="from -0.1 to 0.5 s"):
        classifier.predict_proba(moved)
    # without a PSTH networks read the log-ISI histogram
    assert quick(make_dataset(4, 20, psth=False), "cnn").columns.stream == NAMES[4:]


def test_units_without_features_are_unknown_and_left_out_of_training(dataset):
    features = dataset.features.copy()
    features[:5] = np.nan
    data = type(dataset)(dataset.units, features, dataset.feature_names)
    with pytest.warns(UserWarning, match=f"5 of {len(dataset)} labelled units have no finite feature"):
        classifier = quick(data, unknown_below=0.0)
    found = classifier.predict(data)
    np.testing.assert_allclose(found.probabilities[:5], np.full((5, 3), 1 / 3))
    assert set(found.label[:5]) == {UNKNOWN}
    assert UNKNOWN not in found.label[5:]


def test_labels_that_the_classifier_does_not_know(smoothing):
    labels = np.array(["TH", "", "SC", "SC", "CTX"])
    with pytest.raises(InputError, match="does not know SC \\(2\\)"):
        smoothing.class_index(labels)
    np.testing.assert_array_equal(smoothing.class_index(labels, unknown="ignore"), [2, -1, -1, -1, 0])
    # prediction does not look at labels
    fresh = make_dataset(2, 20, seed=2)
    strange = type(fresh)(fresh.units.assign(region="SC"), fresh.features, fresh.feature_names)
    np.testing.assert_array_equal(smoothing.predict_proba(strange), smoothing.predict_proba(fresh))


def test_unlabelled_units_do_not_change_the_fit(dataset):
    extra = make_dataset(1, 30, seed=8)
    units = extra.units.assign(subject="x", recording="x_1", region="")
    more = type(dataset).concatenate(
        [dataset, type(extra)(units, extra.features, extra.feature_names, extra.psth, EDGES)]
    )
    assert quick(more) == quick(dataset)


def test_same_seed_same_model(dataset):
    one, two, other = (quick(dataset, "extra_trees", seed=seed) for seed in (0, 0, 1))
    assert one == two
    assert one != other


def test_bad_options_are_refused(dataset):
    one = dataset.select(dataset.labels == "TH")
    with pytest.raises(TrainingError, match=f"TH \\({len(one)} units\\)"):
        quick(one)
    with pytest.raises(InputError, match="forest"):
        quick(dataset, "forest")
    with pytest.raises(InputError, match="lfp"):
        quick(dataset, feature_families=["lfp"])
    with pytest.raises(InputError, match="stream"):
        quick(dataset, "cnn", stream="lfp")
    with pytest.raises(InputError, match="Give one of"):
        quick(dataset, unknown_below=0.3, target_coverage=0.5)
    with pytest.raises(InputError, match="target_accuracy must lie"):
        quick(dataset, target_accuracy=80)
    with pytest.raises(InputError, match="calibration"):
        quick(dataset, calibration="platt")
    with pytest.raises(InputError, match="depth"):
        quick(dataset, depth="kalman")
    with pytest.raises(InputError, match="class_weight_power"):
        quick(dataset, class_weight_power=-1.0)
    for model, wrong in (("cnn", {"C": 1.0}), ("subject_ensemble", {"C": 1.0}), ("logistic_regression", {"trees": 2})):
        with pytest.raises(InputError, match="settings|Settings"):
            quick(dataset, model, model_kwargs=wrong)


def test_families_and_streams_choose_columns(dataset):
    columns = choose_columns(dataset, families=["isi", "log_isi"], stream="psth")
    assert columns.names == ("isi_cv", *NAMES[4:])
    assert columns.num_features == 9
    assert columns.num_stream == len(EDGES) - 1
    assert columns.families == ("isi", *["log_isi"] * 8, *["stream"] * 12)
    assert FeatureColumns.from_dict(columns.to_dict()) == columns
    X = columns.matrix(dataset)
    np.testing.assert_allclose(X[:, 9:], dataset.psth)
    np.testing.assert_allclose(X[:, 1:9] ** 2, dataset.features[:, 4:], atol=1e-6)
    moved = choose_columns(dataset, stream="log_isi")
    assert moved.names == NAMES[:4]
    assert moved.stream == NAMES[4:]


def test_scaling_within_recordings_takes_out_what_a_recording_shares(dataset):
    columns = choose_columns(dataset, families=["isi", "waveform"], per_recording=True)
    shifted = dataset.features.copy()
    own = (dataset.units["recording"] == "m1_1").to_numpy()
    shifted[np.ix_(own, [1, 2])] = 3 * shifted[np.ix_(own, [1, 2])] + 7
    other = type(dataset)(dataset.units, shifted, dataset.feature_names)
    np.testing.assert_allclose(
        columns.matrix(other)[:, columns.names.index("isi_cv")], columns.matrix(dataset)[:, 0], atol=1e-4
    )


def test_tracks_are_shanks_of_recordings():
    data = make_dataset(2, 4)
    units = data.units.assign(shank=["a", "b"] * 4)
    codes = track_codes(type(data)(units, data.features, data.feature_names))
    assert codes.dtype == np.int64
    assert len(set(codes)) == 4
    assert len({(c, r, s) for c, r, s in zip(codes, units["recording"], units["shank"], strict=True)}) == 4


def test_naming_a_model_imports_neither_torch_nor_scikit_learn():
    import subprocess
    import sys

    code = (
        "import sys, si_neuroml.regions.classifier;"
        "assert 'torch' not in sys.modules, 'torch';"
        "assert 'sklearn' not in sys.modules, 'sklearn'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_has_an_estimator():
    for name in ESTIMATORS:
        kind = load_estimator(name)
        assert all(hasattr(kind, method) for method in ("fit", "predict_proba", "to_arrays", "from_arrays", "settings"))
    assert set(NETWORKS) <= set(ESTIMATORS)
    with pytest.raises(InputError, match="forest"):
        load_estimator("forest")
