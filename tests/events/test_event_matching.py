"""Matching by time against brute force, and overlaps of intervals against masks and counts done by hand."""

import itertools

import numpy as np
import pytest
from evaluation_helpers import make_events, random_events
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.events.matching import match_events, match_intervals, samples_covered


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
