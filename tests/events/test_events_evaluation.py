"""Scores of found events against counts done by hand, and their intervals over cells."""

import json

import numpy as np
import pytest
from evaluation_helpers import FS, make_events, random_events
from sklearn.metrics import precision_recall_fscore_support

from si_neuroml.errors import InputError
from si_neuroml.events.cells import compare_f1
from si_neuroml.events.evaluation import TOLERANCES_MS, event_scores

# --- all of it


def test_scores_by_hand():
    true = make_events([100, 200, 300, 400], channels=[0, 0, 1, 1])
    found = make_events([101, 203, 350, 400, 500], [0, 0, 1, 1, 2], probability=[0.9, 0.8, 0.7, 0.6, 0.2])
    scores = event_scores(true, found, 1000.0, [[60_000] * 3], headline_ms=2, tolerances_ms=(0, 1, 3))
    head = scores.headline
    assert (head["num_true"], head["num_found"], head["num_matched"]) == (4, 5, 2)
    assert (head["precision"], head["recall"]) == (2 / 5, 2 / 4)
    assert head["f1"] == pytest.approx(4 / 9)
    assert head["bias_ms"] == pytest.approx(0.5)
    assert head["sd_ms"] == pytest.approx(np.sqrt(0.5))
    assert head["average_precision"] == pytest.approx((1 + 2 / 4) / 4)
    assert [row["num_matched"] for row in scores.tolerances] == [1, 2, 3]
    # one event in the one silent minute of channel 2
    assert scores.silent == {"num_traces": 1, "minutes": 1.0, "num_found": 1, "false_per_minute": 1.0}
    assert scores.intervals["mean_iou"] == pytest.approx((3 / 5 + 1 / 7 + 0 + 1) / 4)
    assert scores.intervals["recall"] == 0.5
    assert scores.samples["recall"] == pytest.approx((3 + 1 + 4) / 16)
    assert scores.samples["precision"] == pytest.approx((3 + 1 + 4) / 20)
    assert scores.cells is None
    kept = event_scores(true, found, 1000.0, [[60_000] * 3], headline_ms=2, threshold=0.5)
    assert kept.headline["num_found"] == 4
    assert kept.silent["false_per_minute"] == 0.0
    # the ranking is of all events, whatever the threshold
    assert kept.headline["average_precision"] == head["average_precision"]


def test_sample_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(3)
    true, found = random_events(60, rng, channels=1, segments=1), random_events(50, rng, channels=1, segments=1)
    masks = np.zeros((2, 2000), dtype=int)
    for mask, events in zip(masks, (true, found), strict=True):
        for event in events:
            mask[event["onset"] : event["offset"]] = 1
    expected = precision_recall_fscore_support(*masks, average="binary")[:3]
    found_scores = event_scores(true, found, FS, [[2000]]).samples
    np.testing.assert_allclose([found_scores[key] for key in ("precision", "recall", "f1")], expected)


def test_perfect_detection():
    true = random_events(200, np.random.default_rng(4), length=20_000)
    true = true[np.unique(true[["segment_index", "channel_index", "sample_index"]], return_index=True)[1]]
    scores = event_scores(true, true, FS, np.full((2, 3), 20_000), cells=["a", "b", "c"])
    assert all(row["f1"] == 1.0 and row["bias_ms"] == 0.0 for row in scores.tolerances)
    assert [row["tolerance_ms"] for row in scores.tolerances] == list(TOLERANCES_MS)
    assert scores.headline["tolerance_samples"] == 3
    assert scores.intervals["mean_iou"] == scores.samples["f1"] == scores.mean_cell_f1 == 1.0
    assert scores.confidence["f1"] == (1.0, 1.0)
    assert set(scores.cells) == {"a", "b", "c"}


@pytest.mark.parametrize(("num_true", "num_found"), [(0, 0), (0, 3), (3, 0), (1, 1)])
def test_few_or_no_events(num_true, num_found):
    true, found = make_events(100 * np.arange(1, num_true + 1)), make_events(100 * np.arange(1, num_found + 1))
    scores = event_scores(true, found, FS, [[3328 * 60, 0]], cells=[["one", "none"]])
    head = scores.headline
    assert head["precision"] == (None if not num_found else float(num_true > 0))
    assert head["recall"] == (None if not num_true else float(num_found > 0))
    assert scores.silent["num_traces"] == (num_true == 0)
    assert scores.silent["false_per_minute"] == (None if num_true else num_found)
    # a cell without any trace is none, and one cell has no interval
    assert set(scores.cells) == {"one"}
    assert scores.confidence is None
    assert head["sd_ms"] is None
    json.dumps(scores.to_dict(), allow_nan=False)


def test_points_without_intervals_or_probability():
    plain = [("sample_index", "int64"), ("channel_index", "int64"), ("segment_index", "int64")]
    true = make_events([10, 20])[[name for name, _ in plain]].astype(plain)
    scores = event_scores(true, true, FS, [[100]])
    assert scores.headline["f1"] == 1.0
    assert scores.headline["average_precision"] is None
    assert scores.intervals is scores.samples is scores.calibration is None
    with pytest.raises(InputError, match="probability"):
        event_scores(true, true, FS, [[100]], threshold=0.5)


def test_scores_that_are_no_probabilities_rank_all_the_same():
    true = make_events([100, 200])
    found = make_events([100, 150, 200], probability=[5.0, -3.0, 7.0])
    scores = event_scores(true, found, FS, [[1000]])
    assert scores.headline["average_precision"] == 1.0
    assert scores.calibration is None


# --- cells


def detections(true, share, rng):
    """Some of the true events, and one false one for each that is missed."""
    met = rng.random(len(true)) < share[true["channel_index"]]
    found = true.copy()
    found["sample_index"][~met] += 20
    found["onset"] += found["sample_index"] - true["sample_index"]
    found["offset"] += found["sample_index"] - true["sample_index"]
    return found


def true_events_of_cells(num_cells, per_cell, rng):
    samples = 50 * (1 + np.arange(per_cell))
    return make_events(np.tile(samples, num_cells), np.repeat(np.arange(num_cells), per_cell), probability=0.5)


def test_interval_over_cells_covers_new_cells():
    rng = np.random.default_rng(5)
    inside = 0
    for seed in range(40):
        true = true_events_of_cells(20, 30, rng)
        found = detections(true, rng.beta(4, 2, 20), rng)
        scores = event_scores(
            true, found, FS, [[2000] * 20], cells=np.arange(20), num_resamples=200, seed=seed, tolerances_ms=()
        )
        low, high = scores.confidence["recall"]
        inside += low <= 4 / 6 <= high
        assert scores.confidence["average_precision"][0] < scores.headline["average_precision"]
    assert 33 <= inside <= 40


def test_cells_add_up_to_the_whole():
    rng = np.random.default_rng(6)
    true, found = random_events(200, rng), random_events(180, rng)
    names = np.array([["a", "a", "b"], ["c", "b", "b"]])
    scores = event_scores(true, found, FS, np.full((2, 3), 2000), cells=names)
    for key in ("num_true", "num_found", "num_matched"):
        assert sum(row[key] for row in scores.cells.values()) == scores.headline[key]
    own = [e[names[e["segment_index"], e["channel_index"]] == "b"] for e in (true, found)]
    alone = event_scores(*own, FS, np.full((2, 3), 2000))
    assert scores.cells["b"]["f1"] == alone.headline["f1"]
    assert scores.mean_cell_f1 == pytest.approx(np.mean([row["f1"] for row in scores.cells.values()]))
    assert all(low <= high for low, high in filter(None, scores.confidence.values()))
    again = event_scores(true, found, FS, np.full((2, 3), 2000), cells=names)
    assert again.to_dict() == scores.to_dict()


def test_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(7)
    true = true_events_of_cells(12, 100, rng)
    share = rng.uniform(0.2, 0.9, 12)
    better, worse = (
        event_scores(true, detections(true, share + extra, rng), FS, [[6000] * 12], cells=np.arange(12))
        for extra in (0.1, 0.0)
    )
    assert better.confidence["f1"][0] < worse.confidence["f1"][1]
    found = compare_f1(better, worse)
    assert 0 < found["low"] < found["difference"] < found["high"]
    assert found["difference"] == pytest.approx(better.headline["f1"] - worse.headline["f1"])
    assert found["cells_won"] > found["cells_lost"]
    other = event_scores(true[:50], true, FS, [[6000] * 12], cells=np.arange(12))
    with pytest.raises(InputError, match="same true events"):
        compare_f1(better, other)


# --- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"found": make_events([5000])}, "outside the traces"),
        ({"found": make_events([5], channels=1)}, "outside the traces"),
        ({"true": make_events([5], segments=-1)}, "outside the traces"),
        ({"true": np.zeros(3)}, "fields"),
        ({"num_samples": [1000]}, "num_samples"),
        ({"num_samples": [[1000.5]]}, "num_samples"),
        ({"cells": ["a", "b"]}, "do not fit"),
        ({"sampling_frequency": 0}, "sampling_frequency"),
        ({"tolerances_ms": (-1,)}, "0 ms or more"),
        ({"found": make_events([5], probability=np.nan)}, "NaN"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"true": make_events([5]), "found": make_events([5]), "sampling_frequency": FS, "num_samples": [[1000]]}
    with pytest.raises(InputError, match=message):
        event_scores(**(good | change))
