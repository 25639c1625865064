"""Matching against brute force, ranking against scikit-learn, scores against counts done by hand."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from si_neuroml.errors import InputError
from si_neuroml.events.cells import compare_f1
from si_neuroml.events.evaluation import TOLERANCES_MS, event_scores
from si_neuroml.events.matching import match_events, match_intervals, samples_covered
from si_neuroml.events.ranking import (
    average_precision,
    precision_recall_curve,
    probability_calibration,
    ranked_hits,
)

DTYPE = [
    ("sample_index", "int64"),
    ("channel_index", "int64"),
    ("segment_index", "int64"),
    ("probability", "float32"),
    ("onset", "int64"),
    ("offset", "int64"),
]
FS = 3328.0


def make_events(samples, channels=0, segments=0, probability=1.0, width=4):
    events = np.zeros(len(samples), dtype=DTYPE)
    events["sample_index"], events["channel_index"], events["segment_index"] = samples, channels, segments
    events["probability"] = probability
    events["onset"] = events["sample_index"] - 1
    events["offset"] = events["onset"] + width
    return events


def random_events(num, rng, length=2000, channels=3, segments=2):
    return make_events(
        rng.integers(10, length - 10, num),
        rng.integers(0, channels, num),
        rng.integers(0, segments, num),
        rng.random(num),
    )


def brute_force(true, found, tolerance):
    """Most pairs and least cost over all one-to-one pairings, whether they cross or not."""
    small, large = (true, found) if len(true) <= len(found) else (found, true)
    best = (0, 0)
    for chosen in itertools.permutations(range(-len(small), len(large)), len(small)):
        gaps = [abs(small[i] - large[k]) for i, k in enumerate(chosen) if k >= 0]
        if all(gap <= tolerance for gap in gaps):
            best = max(best, (len(gaps), -sum(gaps)))
    return best


def quality(true, found, matched):
    paired = matched >= 0
    gaps = np.abs(true["sample_index"][paired] - found["sample_index"][matched[paired]])
    return int(paired.sum()), -int(gaps.sum())


times = st.lists(st.integers(0, 14), max_size=4)


# --- matching by time


@settings(max_examples=60, deadline=None)
@given(times, times, st.integers(0, 5))
def test_no_pairing_is_better(true, found, tolerance):
    one, other = make_events(true), make_events(found)
    matched = match_events(one, other, tolerance)
    assert quality(one, other, matched) == brute_force(true, found, tolerance)
    used = matched[matched >= 0]
    assert len(np.unique(used)) == len(used)
    gaps = np.abs(one["sample_index"][matched >= 0] - other["sample_index"][used])
    assert (gaps <= tolerance).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_matching_is_symmetric_in_its_sides_and_in_time(seed, tolerance):
    rng = np.random.default_rng(seed)
    one, other = random_events(40, rng, 200), random_events(30, rng, 200)
    expected = quality(one, other, match_events(one, other, tolerance))
    assert quality(other, one, match_events(other, one, tolerance)) == expected
    backwards = [events.copy() for events in (one, other)]
    for events in backwards:
        events["sample_index"] = 1000 - events["sample_index"]
    assert quality(*backwards, match_events(*backwards, tolerance)) == expected
    wider = quality(one, other, match_events(one, other, tolerance + 1))
    assert wider[0] >= expected[0]


def test_pairs_do_not_cross_nor_leave_their_channel_and_segment():
    rng = np.random.default_rng(0)
    one, other = random_events(300, rng), random_events(300, rng)
    matched = match_events(one, other, 25)
    paired = np.flatnonzero(matched >= 0)
    assert len(paired) > 100
    for field in ("channel_index", "segment_index"):
        np.testing.assert_array_equal(one[field][paired], other[field][matched[paired]])
    own = paired[(one["channel_index"][paired] == 1) & (one["segment_index"][paired] == 0)]
    own = own[np.argsort(one["sample_index"][own], kind="stable")]
    assert (np.diff(other["sample_index"][matched[own]]) >= 0).all()
    # each trace by itself gives the same
    total = [0, 0]
    for channel, segment in itertools.product(range(3), range(2)):
        parts = [e[(e["channel_index"] == channel) & (e["segment_index"] == segment)] for e in (one, other)]
        total = np.add(total, quality(*parts, match_events(*parts, 25)))
    assert tuple(total) == quality(one, other, matched)


def test_more_pairs_come_before_nearer_ones():
    # nearest first would pair 10 with 11 and leave 13 and 8 alone
    true, found = make_events([10, 13]), make_events([8, 11])
    np.testing.assert_array_equal(match_events(true, found, 2), [0, 1])
    # the later pair of this one is free to be the nearer
    np.testing.assert_array_equal(match_events(make_events([10]), make_events([8, 11]), 2), [1])


def test_matching_without_events():
    none, some = make_events([]), make_events([5])
    assert match_events(none, some, 3).shape == (0,)
    np.testing.assert_array_equal(match_events(some, none, 3), [-1])
    np.testing.assert_array_equal(match_events(some, some, 0), [0])
    assert match_events(none, none, 3).shape == (0,)


@pytest.mark.parametrize("tolerance", [-1, np.nan, np.inf, "wide"])
def test_odd_tolerances_are_refused(tolerance):
    with pytest.raises(InputError, match="tolerance"):
        match_events(make_events([1]), make_events([1]), tolerance)


def test_missing_fields_are_named():
    with pytest.raises(InputError, match="segment_index"):
        match_events(np.zeros(2, [("sample_index", "i8"), ("channel_index", "i8")]), make_events([1]), 1)


# --- ranking


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_hits_of_every_threshold_are_as_many_as_can_be_matched(seed, tolerance):
    rng = np.random.default_rng(seed)
    true, found = random_events(12, rng, 80, channels=2), random_events(25, rng, 80, channels=2)
    hits = ranked_hits(true, found, found["probability"], tolerance)
    for threshold in found["probability"]:
        kept = found["probability"] >= threshold
        assert hits[kept].sum() == (match_events(true, found[kept], tolerance) >= 0).sum()


def test_average_precision_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    hits, scores = rng.random(500) < 0.3, np.round(rng.random(500), 2)  # with ties
    expected = average_precision_score(hits, scores)
    assert average_precision(hits, scores, hits.sum()) == pytest.approx(expected, abs=1e-12)
    # events never found lower the recall, and nothing else
    assert average_precision(hits, scores, 2 * hits.sum()) == pytest.approx(expected / 2, abs=1e-12)
    weights = rng.integers(0, 4, 500)
    weighted = average_precision_score(hits, scores, sample_weight=weights)
    assert average_precision(hits, scores, (weights * hits).sum(), weights) == pytest.approx(weighted, abs=1e-12)


def test_average_precision_knows_its_ends():
    assert average_precision(np.ones(3, bool), [3, 2, 1], 3) == 1.0
    assert average_precision(np.zeros(3, bool), [3, 2, 1], 3) == 0.0
    assert average_precision(np.zeros(0, bool), [], 3) == 0.0
    assert average_precision(np.zeros(1, bool), [1], 0) is None


def test_curve_holds_precision_and_recall_of_each_threshold():
    precision, recall, thresholds = precision_recall_curve([True, False, True, True], [0.9, 0.5, 0.5, 0.1], 6)
    np.testing.assert_allclose(thresholds, [0.9, 0.5, 0.1])
    np.testing.assert_allclose(precision, [1, 2 / 3, 3 / 4])
    np.testing.assert_allclose(recall, [1 / 6, 2 / 6, 3 / 6])


def test_calibration_of_honest_and_of_boastful_probabilities():
    rng = np.random.default_rng(2)
    probability = rng.random(20_000)
    hits = rng.random(20_000) < probability
    honest = probability_calibration(hits, probability)
    assert honest["error"] < 0.02
    assert honest["brier"] == pytest.approx(1 / 6, abs=0.01)
    assert sum(row["num"] for row in honest["bins"]) == 20_000
    boastful = probability_calibration(hits, np.sqrt(probability))
    assert boastful["error"] == pytest.approx(1 / 6, abs=0.02)
    assert probability_calibration(np.ones(1, bool), [1.0]) == {
        "bins": [{"probability": 1.0, "share": 1.0, "num": 1}],
        "error": 0.0,
        "brier": 0.0,
    }
    with pytest.raises(InputError, match="between 0 and 1"):
        probability_calibration([True], [1.5])


# --- intervals


def test_overlap_of_intervals_by_hand():
    true, found = make_events([1, 21, 41], width=4), make_events([2, 21, 70], width=4)
    matched, iou = match_intervals(true, found)
    np.testing.assert_array_equal(matched, [0, 1, -1])
    np.testing.assert_allclose(iou, [3 / 5, 1.0, 0.0])
    # the same times on another channel are no overlap
    assert (match_intervals(true, make_events([1, 21, 41], channels=1))[0] == -1).all()
    assert match_intervals(true[:0], found)[0].shape == (0,)


def test_one_long_interval_pairs_with_one_short_one():
    true, found = make_events([1, 6, 11], width=4), make_events([1], width=14)
    matched, iou = match_intervals(true, found)
    assert (matched >= 0).sum() == 1
    assert iou.max() == pytest.approx(4 / 14)


def test_intervals_without_length_are_refused():
    with pytest.raises(InputError, match="end before or where they begin"):
        match_intervals(make_events([1], width=0), make_events([1]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_covered_samples_agree_with_masks(seed):
    rng = np.random.default_rng(seed)
    sides, masks = [], []
    for num in rng.integers(0, 30, 2):
        events = random_events(num, rng, 150)
        events["offset"] = events["onset"] + rng.integers(1, 30, num)
        mask = np.zeros((2, 3, 200), dtype=bool)
        for event in events:
            mask[event["segment_index"], event["channel_index"], event["onset"] : event["offset"]] = True
        sides.append(events)
        masks.append(mask)
    in_true, in_found, in_both = samples_covered(*sides)
    assert [in_true.sum(), in_found.sum(), in_both.sum()] == [m.sum() for m in (*masks, masks[0] & masks[1])]
    own = np.concatenate(sides)["channel_index"] == 1
    assert in_both[own].sum() == (masks[0] & masks[1])[:, 1].sum()


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
