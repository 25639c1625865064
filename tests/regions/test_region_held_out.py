"""What is learned from animals left out: probabilities after smoothing that hold on others, thresholds, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from region_units import REGIONS, make_dataset

from si_neuroml.classification.scores import class_scores
from si_neuroml.errors import InputError, TrainingError
from si_neuroml.regions.classifier import track_codes
from si_neuroml.regions.feature_columns import choose_columns
from si_neuroml.regions.fit import fit_region_classifier

OPTIONS = {"feature_families": ["rate", "isi"], "num_folds": 4, "progress_bar": False}


@pytest.fixture(scope="module", params=["hmm", "gaussian"])
def classifier(request):
    return fit_region_classifier(make_dataset(8, 60), "logistic_regression", depth=request.param, **OPTIONS)


def smoothed(classifier, dataset, **changes):
    """Smoothed by the classifier's model of depth, changed or not."""
    raw = classifier.predict_proba(dataset)
    depth_um = dataset.units["depth_um"].to_numpy("float64")
    return replace(classifier.depth, **changes).smooth(raw, depth_um, track_codes(dataset))


def test_smoothed_probabilities_are_calibrated_on_unseen_animals(classifier):
    """Smoothing makes probabilities too sure, or averaging too timid; the temperature learned after it mends either."""
    fresh = make_dataset(40, 60, seed=33)
    found = classifier.predict(fresh).smoothed
    np.testing.assert_allclose(found, smoothed(classifier, fresh))
    bare = smoothed(classifier, fresh, temperature=1.0, outlier_share=0.0)
    subjects = fresh.units["subject"].to_numpy()
    after, before = (class_scores(fresh.labels, rows, REGIONS, subjects, num_resamples=10) for rows in (found, bare))
    assert after.values["log_loss"] < before.values["log_loss"]
    assert after.values["calibration_error"] < 0.6 * before.values["calibration_error"]
    assert after.values["calibration_error"] < 0.05


def test_calibration_after_smoothing_changes_no_label(classifier):
    fresh = make_dataset(5, 60, seed=4)
    found = classifier.predict(fresh).smoothed
    assert classifier.depth.temperature != 1.0
    bare = smoothed(classifier, fresh, temperature=1.0, outlier_share=0.0)
    np.testing.assert_array_equal(found.argmax(axis=1), bare.argmax(axis=1))
    for temperature in (0.3, 4.0):
        other = smoothed(classifier, fresh, temperature=temperature)
        np.testing.assert_array_equal(other.argmax(axis=1), bare.argmax(axis=1))


def test_an_accuracy_that_cannot_be_reached_is_said():
    data = make_dataset(6, 30, shift=1.5)
    labels = np.random.default_rng(0).permutation(data.labels)
    with pytest.warns(UserWarning, match="No threshold makes 100% of the labels right"):
        found = fit_region_classifier(
            replace(data, units=data.units.assign(region=labels)), "extra_trees", target_accuracy=1.0, **OPTIONS
        )
    assert 0 < found.threshold <= 1


def test_regions_of_one_animal_each_teach_nothing_about_others():
    data = make_dataset(3, 30)
    animal = data.units["subject"].str[1:].astype(int).to_numpy()
    apart = data.select(np.searchsorted(REGIONS, data.labels) == animal)
    with (
        pytest.warns(UserWarning, match="3 of 3 regions have units of one subject only"),
        pytest.raises(TrainingError, match="No region has units in two of the groups"),
    ):
        fit_region_classifier(apart, "logistic_regression", **OPTIONS)


def test_columns_that_are_not_there_are_refused():
    data = make_dataset(3, 20, psth=False)
    with pytest.raises(InputError, match="the dataset has no PSTH"):
        choose_columns(data, stream="psth")
    with pytest.raises(InputError, match="neither 'acg' nor others"):
        choose_columns(data, stream="acg")
    with pytest.raises(InputError, match="None of 12 features has a value"):
        choose_columns(replace(data, features=np.full_like(data.features, np.nan)))
