"""Scores against scikit-learn, also for resampled subjects, and against cases whose answer is known."""

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics

from si_neuroml.classification.score_sums import subject_draws, sums_by_subject, values_of_sums
from si_neuroml.classification.scores import class_scores, compare_scores
from si_neuroml.errors import InputError

REGIONS = ("CA1", "LP", "VISp")


def predictions(seed=0, num=900, strength=1.0, num_subjects=9):
    """Calibrated probabilities: labels are drawn from them."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(3, 1 / strength), size=num)
    own = (rows.cumsum(axis=1) < rng.random(num)[:, None]).sum(axis=1)
    return np.array(REGIONS)[own], rows, rng.integers(0, num_subjects, num).astype(str)


def plain_scores(own, rows, weight=None):
    best, options = rows.argmax(axis=1), {"sample_weight": weight}
    areas = [metrics.roc_auc_score(own == k, rows[:, k], **options) for k in range(3)]
    return {
        "balanced_accuracy": metrics.balanced_accuracy_score(own, best, **options),
        "accuracy": metrics.accuracy_score(own, best, **options),
        "macro_f1": metrics.f1_score(own, best, average="macro", **options),
        "mcc": metrics.matthews_corrcoef(own, best, **options),
        "auc": np.mean(areas),
        "log_loss": metrics.log_loss(own, rows, **options),
    }


def test_values_are_those_of_scikit_learn():
    labels, rows, subjects = predictions()
    found = class_scores(labels, rows, REGIONS, subjects, num_resamples=50)
    wanted = plain_scores(np.searchsorted(REGIONS, labels), rows)
    assert {key: found.values[key] for key in wanted} == pytest.approx(wanted)
    np.testing.assert_array_equal(
        found.confusion, metrics.confusion_matrix(labels, np.array(REGIONS)[rows.argmax(axis=1)])
    )
    np.testing.assert_allclose(found.confusion_rates.sum(axis=1), 1.0)
    assert np.diag(found.confusion_rates).mean() == pytest.approx(found.values["balanced_accuracy"])
    assert (found.num_units, found.num_subjects, found.num_left_out) == (900, 9, 0)


def test_resampled_subjects_are_weights():
    """What sums of subjects give for a draw is what scikit-learn gives for units weighted by it."""
    labels, rows, subjects = predictions(1)
    own, who = np.searchsorted(REGIONS, labels), np.unique(subjects, return_inverse=True)[1]
    draws = subject_draws(9, 5, seed=3)
    assert (draws.sum(axis=1) == 9).all()
    sums = sums_by_subject(own, rows, who, {})
    found = values_of_sums({key: np.tensordot(draws, part, axes=1) for key, part in sums.items()})
    for k, draw in enumerate(draws):
        wanted = plain_scores(own, rows, draw[who])
        assert {key: found[key][k] for key in wanted} == pytest.approx(wanted, abs=2e-4)
        sure, right = rows.max(axis=1), rows.argmax(axis=1) == own
        order = np.argsort(-sure)
        reached = np.cumsum(draw[who][order])
        half = reached <= reached[-1] / 2
        share = np.average(right[order][half], weights=draw[who][order][half])
        assert found["accuracy_at_half_coverage"][k] == pytest.approx(share, abs=0.01)


def test_intervals_hold_the_truth_and_shrink_with_subjects():
    truth = class_scores(*_few(predictions(99, 60000)), num_resamples=2).values["balanced_accuracy"]
    intervals = []
    for seed in range(30):
        found = class_scores(*_few(predictions(seed, 600, 1.0, 40)), num_resamples=200)
        intervals.append(found.intervals["balanced_accuracy"])
    assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.8
    fewer = [class_scores(*_few(predictions(seed, 150, 1.0, 10)), num_resamples=200) for seed in range(10)]
    fewer = [found.intervals["balanced_accuracy"] for found in fewer]
    # a quarter of the subjects: intervals twice as wide
    assert np.ptp(fewer, axis=1).mean() == pytest.approx(2 * np.ptp(intervals, axis=1).mean(), rel=0.25)
    # a subject says more where subjects differ: units alike within a subject widen the interval
    labels, rows, subjects = predictions(5)
    rows[subjects == "0"] = np.roll(rows[subjects == "0"], 1, axis=1)
    spoiled = class_scores(labels, rows, REGIONS, subjects).intervals["balanced_accuracy"]
    plain = class_scores(*_few(predictions(5))).intervals["balanced_accuracy"]
    assert spoiled[1] - spoiled[0] > 1.3 * (plain[1] - plain[0])


def _few(parts):
    labels, rows, subjects = parts
    return labels, rows, REGIONS, subjects


def test_calibrated_probabilities_have_little_error_and_sharpened_ones_much():
    labels, rows, subjects = predictions(2, 20000)
    calibrated = class_scores(labels, rows, REGIONS, subjects, num_resamples=2)
    sharp = rows**3 / (rows**3).sum(axis=1, keepdims=True)
    overconfident = class_scores(labels, sharp, REGIONS, subjects, num_resamples=2)
    assert calibrated.values["calibration_error"] < 0.015
    assert overconfident.values["calibration_error"] > 0.1
    assert overconfident.values["balanced_accuracy"] == calibrated.values["balanced_accuracy"]
    for row in calibrated.reliability:
        assert row["probability"] == pytest.approx(row["share"], abs=0.05)


def test_coverage_curve():
    labels, rows, subjects = predictions(3, 20000)
    table = class_scores(labels, rows, REGIONS, subjects, num_resamples=50).coverage
    accuracy = [row["accuracy"] for row in table]
    assert accuracy == sorted(accuracy)
    for row in table:
        kept = rows.max(axis=1) >= row["threshold"]
        assert kept.mean() == pytest.approx(row["coverage"], abs=1e-3)
        assert (rows[kept].argmax(axis=1) == np.searchsorted(REGIONS, labels[kept])).mean() == pytest.approx(
            row["accuracy"], abs=1e-3
        )
        assert row["low"] <= row["accuracy"] <= row["high"]
    # all equally sure: any half is as good as the whole
    even = class_scores(labels, np.tile([0.5, 0.3, 0.2], (20000, 1)), REGIONS, subjects, num_resamples=2)
    assert even.values["accuracy_at_half_coverage"] == pytest.approx(even.values["accuracy"])


def test_hierarchy_adds_probabilities_up():
    rows = np.array([[0.4, 0.3, 0.3], [0.4, 0.25, 0.35], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
    labels = np.array(["LP", "CA1", "VISp", "VISp"])
    above = {"side": {"CA1": "a", "LP": "b", "VISp": "b"}}
    found = class_scores(labels, rows, REGIONS, np.array(["x", "x", "y", "y"]), hierarchy=above).values
    assert found["accuracy"] == 0.5
    # b has 0.6, 0.6, 0.8, 0.9: right but for the second
    assert found["accuracy_side"] == 0.75
    assert found["balanced_accuracy_side"] == 0.5
    with pytest.raises(InputError, match=r"no parent for \['LP', 'VISp'\]"):
        class_scores(labels, rows, REGIONS, labels, hierarchy={"side": {"CA1": "a"}})


def test_regions_without_units_are_left_out_of_means():
    labels, rows, subjects = predictions(4)
    kept = labels != "VISp"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = class_scores(labels[kept], rows[kept], REGIONS, subjects[kept], num_resamples=20)
    recalls = np.diag(found.confusion_rates)[:2]
    assert found.values["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert np.isnan(found.confusion_rates[2]).all()
    assert found.num_subjects_per_class.tolist() == [9, 9, 0]
    foreign = class_scores(
        np.append(labels, ["", "MB"]), np.vstack([rows, rows[:2]]), REGIONS, np.append(subjects, ["0", "0"])
    )
    assert foreign.num_left_out == 2
    assert foreign.values["mcc"] == pytest.approx(class_scores(labels, rows, REGIONS, subjects).values["mcc"])


def test_one_subject_has_no_interval_and_everything_fits_json():
    labels, rows, _ = predictions(6, 50)
    found = class_scores(labels, rows, REGIONS, np.full(50, "m1"))
    assert found.intervals is None
    text = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert text["values"]["mcc"] == found.values["mcc"]
    assert text["coverage"][0]["low"] is None


def test_paired_differences_are_narrower_than_the_two_intervals():
    labels, rows, subjects = predictions(7, 3000)
    worse = 0.9 * rows + 0.1 * np.roll(rows, 1, axis=1)
    found = compare_scores(labels, rows, worse, REGIONS, subjects)
    one, other = (class_scores(labels, part, REGIONS, subjects) for part in (rows, worse))
    difference, low, high = found["log_loss"]
    assert difference == pytest.approx(one.values["log_loss"] - other.values["log_loss"])
    assert low < difference < high < 0
    width = one.intervals["log_loss"][1] - one.intervals["log_loss"][0]
    assert high - low < 0.5 * width
    assert compare_scores(labels, rows, rows, REGIONS, subjects)["auc"] == (0.0, 0.0, 0.0)


def test_input_that_makes_no_sense_is_refused():
    labels, rows, subjects = predictions(8, 20)
    with pytest.raises(InputError, match="do not fit"):
        class_scores(labels, rows[:, :2], REGIONS, subjects)
    with pytest.raises(InputError, match="None of the 20 units has a label"):
        class_scores(np.full(20, ""), rows, REGIONS, subjects)
    with pytest.raises(InputError, match="20 of 20 rows are no probabilities"):
        class_scores(labels, rows * 2, REGIONS, subjects)
    with pytest.raises(InputError, match="distinct"):
        class_scores(labels, rows, ("CA1", "CA1", "LP"), subjects)


def test_one_animal_is_scored_without_intervals():
    scores = class_scores(["a", "b", "b"], np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), ["a", "b"])
    assert scores.num_subjects == 1
    assert scores.intervals is None
    assert scores.values["balanced_accuracy"] == pytest.approx(0.75)
