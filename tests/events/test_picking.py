"""Events and periods against their definitions, and against any cut of the scores into chunks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.events.picking import PERIOD_DTYPE, pick_events, picking_reach, runs, stitch

# few different values, so that ties are common
SCORES = st.lists(st.integers(-2, 6), min_size=1, max_size=120)
RULES = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([1.0, 2.0, 4.0]),
        "low_threshold": st.sampled_from([-2.0, 0.0, 1.0]),
        "exclude_sweep": st.integers(0, 6),
        "max_reach": st.integers(0, 8),
    }
)
BORDERS = st.lists(st.integers(0, 120), max_size=5)


def as_tuples(picks, shift=0):
    samples, channels, scores, onsets, offsets = picks
    return [
        (int(s) + shift, int(c), float(v), int(a) + shift, int(b) + shift)
        for s, c, v, a, b in zip(samples, channels, scores, onsets, offsets, strict=True)
    ]


def chunks_of(num_samples, borders):
    edges = sorted({0, num_samples, *(border for border in borders if border < num_samples)})
    return list(pairwise(edges))


def plain_events(row, threshold, low_threshold, exclude_sweep, max_reach):
    """(peak, onset, offset) of one trace, from sets of samples."""
    num = len(row)
    peaks = []
    for t in range(num):
        near = range(max(0, t - exclude_sweep), min(num, t + exclude_sweep + 1))
        if row[t] >= threshold and row[t] == max(row[u] for u in near) and all(row[u] < row[t] for u in near if u < t):
            peaks.append(t)
    events = []
    for k, peak in enumerate(peaks):
        samples = {t for t in range(num) if abs(t - peak) <= max_reach}
        samples &= {t for t in samples if all(row[u] >= low_threshold for u in range(min(t, peak), max(t, peak) + 1))}
        if k and peak - peaks[k - 1] <= 2 * max_reach:
            between = range(peaks[k - 1] + 1, peak + 1)
            samples = {t for t in samples if t >= min(between, key=lambda u: (row[u], u))}
        if k + 1 < len(peaks) and peaks[k + 1] - peak <= 2 * max_reach:
            between = range(peak + 1, peaks[k + 1] + 1)
            samples = {t for t in samples if t < min(between, key=lambda u: (row[u], u))}
        samples |= {peak}
        events.append((peak, min(samples), max(samples) + 1))
    return events


@settings(max_examples=200, deadline=None)
@given(row=SCORES, rules=RULES)
def test_events_are_those_of_the_definition(row, rules):
    found = pick_events(np.array([row], "float32"), **rules)
    expected = plain_events(row, **rules)
    assert [(s, a, b) for s, _, _, a, b in as_tuples(found)] == expected
    assert found.scores.tolist() == [row[peak] for peak, _, _ in expected]
    # events do not overlap
    assert (found.onsets[1:] >= found.offsets[:-1]).all()


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(SCORES, min_size=1, max_size=2), rules=RULES, borders=BORDERS)
def test_chunks_with_the_stated_margin_give_the_events_of_the_whole(rows, rules, borders):
    num_samples = min(len(row) for row in rows)
    scores = np.array([row[:num_samples] for row in rows], "float32")
    margin = picking_reach(rules["exclude_sweep"], rules["max_reach"])
    parts = []
    for start, stop in chunks_of(num_samples, borders):
        first, last = max(0, start - margin), min(num_samples, stop + margin)
        picks = pick_events(scores[:, first:last], **rules, owned=(start - first, stop - first))
        parts += as_tuples(picks, first)
    assert parts == as_tuples(pick_events(scores, **rules))


def test_an_event_on_every_border_is_found_once():
    scores = np.full((1, 1000), -5.0, "float32")
    borders = np.arange(100, 1000, 100)
    for shift in (-1, 0):
        trace = scores.copy()
        trace[0, borders + shift] = 3.0
        found = []
        for start, stop in chunks_of(1000, borders.tolist()):
            first, last = max(0, start - 20), min(1000, stop + 20)
            options = {"exclude_sweep": 5, "max_reach": 5, "owned": (start - first, stop - first)}
            found += as_tuples(pick_events(trace[:, first:last], 0.0, -1.0, **options), first)
        assert found == [(at + shift, 0, 3.0, at + shift, at + shift + 1) for at in borders]


def test_two_events_part_at_the_valley_between_them():
    row = np.array([-9, 0, 1, 5, 3, 2, 2, 4, 1, 0, -9], "float32")
    found = pick_events(row[None], 4.0, 0.0, exclude_sweep=2, max_reach=10)
    assert as_tuples(found) == [(3, 0, 5.0, 1, 5), (7, 0, 4.0, 5, 10)]
    # the lower one is not an event when the exclusion covers both; its samples then belong to the other
    found = pick_events(row[None], 4.0, 0.0, exclude_sweep=4, max_reach=10)
    assert as_tuples(found) == [(3, 0, 5.0, 1, 10)]
    found = pick_events(row[None], 4.0, 0.0, exclude_sweep=4, max_reach=1)
    assert as_tuples(found) == [(3, 0, 5.0, 2, 5)]


def test_equal_scores_and_the_threshold_itself():
    row = np.full(20, 2.0, "float32")
    found = pick_events(row[None], 2.0, 2.0, exclude_sweep=50, max_reach=50)
    assert as_tuples(found) == [(0, 0, 2.0, 0, 20)]
    above = np.nextafter(np.float32(2), np.float32(3))
    assert not len(pick_events(row[None], above, 2.0, exclude_sweep=5, max_reach=5).sample_indices)


def test_events_come_by_sample_then_channel():
    scores = np.full((3, 30), -1.0, "float32")
    scores[2, 5] = scores[0, 5] = scores[1, 20] = scores[0, 28] = 1.0
    found = pick_events(scores, 0.0, 0.0, exclude_sweep=1, max_reach=1)
    assert [(t, c) for t, c, *_ in as_tuples(found)] == [(5, 0), (5, 2), (20, 1), (28, 0)]
    assert found.sample_indices.dtype == np.int64


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(SCORES, min_size=1, max_size=3), borders=BORDERS, seed=st.integers(0, 99))
def test_stitched_runs_of_any_chunks_are_those_of_the_whole(rows, borders, seed):
    num_samples = min(len(row) for row in rows)
    scores = np.array([row[:num_samples] for row in rows], "float32")
    parts = []
    for start, stop in chunks_of(num_samples, borders):
        first, last = max(0, start - 3), min(num_samples, stop + 3)
        periods = runs(scores[:, first:last], 1.0, owned=(start - first, stop - first))
        periods["start_sample_index"] += first
        periods["end_sample_index"] += first
        parts.append(periods)
    shuffled = np.random.default_rng(seed).permutation(np.concatenate(parts))
    joined = stitch(shuffled)
    mask = np.zeros_like(scores, dtype=int)
    for period in joined:
        mask[period["channel_index"], period["start_sample_index"] : period["end_sample_index"]] += 1
    # each sample above is in exactly one period, and no two periods touch
    np.testing.assert_array_equal(mask, scores >= 1.0)
    np.testing.assert_array_equal(joined, stitch(runs(scores, 1.0)))
    assert len(joined) == sum((np.diff(row, prepend=0) == 1).sum() for row in mask)


def test_periods_of_other_traces_are_not_joined_and_overlapping_ones_are():
    rows = [(0, 0, 10, 0), (0, 10, 20, 1), (1, 10, 20, 0), (0, 2, 3, 0), (0, 5, 8, 0), (0, 10, 12, 0), (0, 13, 14, 0)]
    joined = stitch(np.array(rows, dtype=PERIOD_DTYPE))
    assert joined.tolist() == [(0, 0, 12, 0), (0, 10, 20, 1), (0, 13, 14, 0), (1, 10, 20, 0)]
    assert len(stitch(np.zeros(0, PERIOD_DTYPE))) == 0


def test_bad_rules_are_refused():
    scores = np.zeros((1, 10), "float32")
    with pytest.raises(InputError, match="low_threshold"):
        pick_events(scores, 0.0, 1.0, exclude_sweep=1, max_reach=1)
    with pytest.raises(InputError, match="0 or more"):
        pick_events(scores, 0.0, 0.0, exclude_sweep=-1, max_reach=1)
    with pytest.raises(InputError, match="num_channels"):
        pick_events(scores[0], 0.0, 0.0, exclude_sweep=1, max_reach=1)
    with pytest.raises(InputError, match="num_channels"):
        runs(scores[0], 0.0)
