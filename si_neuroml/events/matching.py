"""Pair true events with found ones, by time and by the intervals they cover.

All pairings are one-to-one and stay within one channel of one segment. By time they are optimal: as many pairs as the
tolerance allows and, of all such pairings, one with the smallest sum of time differences. On a line there is always an
optimal pairing in which no two pairs cross, so that a dynamic programme over the events in order finds it.

Events are structured arrays with at least the fields sample_index, channel_index and segment_index, in any order.
"""

import math
import operator

import numba
import numpy as np

from ..errors import InputError

__all__ = ["match_events", "match_intervals", "samples_covered"]

EVENT_FIELDS = ("sample_index", "channel_index", "segment_index")
INTERVAL_FIELDS = ("onset", "offset", "channel_index", "segment_index")


def match_events(true: np.ndarray, found: np.ndarray, tolerance: float) -> np.ndarray:
    """The best one-to-one pairing of true and found events by time.

    Parameters
    ----------
    true, found : structured arrays, shapes (num_true,) and (num_found,)
        Events.
    tolerance : float
        Largest difference of a pair, in samples (inclusive).

    Returns
    -------
    int64 array, shape (num_true,)
        Index of the found event of each true one, -1 for none. No other pairing has more pairs, and none with as many
        has a smaller sum of absolute time differences.

    Raises
    ------
    InputError
        When a field is missing or the tolerance is negative.
    """
    true_times, found_times, tolerance = times_on_one_line(true, found, tolerance)
    true_order, found_order = np.argsort(true_times, kind="stable"), np.argsort(found_times, kind="stable")
    true_times, found_times = true_times[true_order], found_times[found_order]
    first = np.searchsorted(found_times, true_times - tolerance, side="left")
    last = np.searchsorted(found_times, true_times + tolerance, side="right")
    partner = np.full(len(true), -1, dtype="int64")
    _match_in_order(true_times, found_times, first, last, partner)
    matched = np.full(len(true), -1, dtype="int64")
    paired = partner >= 0
    matched[true_order[paired]] = found_order[partner[paired]]
    return matched


def match_intervals(true: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair intervals one-to-one by their overlap, the best overlap first.

    The overlap of two intervals is their intersection over union (IoU). Where the intervals of a channel are disjoint
    on either side, every pair with an IoU above 0.5 is found whatever the order.

    Parameters
    ----------
    true, found : structured arrays, shapes (num_true,) and (num_found,)
        Fields onset, offset (exclusive), channel_index and segment_index.

    Returns
    -------
    matched : int64 array, shape (num_true,)
        Index of the found interval of each true one, -1 for none.
    iou : float64 array, shape (num_true,)
        Their intersection over union, 0 for none.

    Raises
    ------
    InputError
        When a field is missing, or an interval does not end after it begins.
    """
    true_onset, true_offset, found_onset, found_offset = _intervals_on_one_line(true, found)
    order = np.argsort(found_onset, kind="stable")
    found_onset, found_offset = found_onset[order], found_offset[order]
    # found intervals may hold each other, so that only the running maximum of their ends is in order
    first = np.searchsorted(np.maximum.accumulate(found_offset), true_onset, side="right")
    counts = np.maximum(np.searchsorted(found_onset, true_offset, side="left") - first, 0)
    row = np.repeat(np.arange(len(true)), counts)
    column = np.arange(len(row)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    shared = np.minimum(true_offset[row], found_offset[column]) - np.maximum(true_onset[row], found_onset[column])
    row, column, shared = row[shared > 0], column[shared > 0], shared[shared > 0]
    lengths = (true_offset - true_onset)[row] + (found_offset - found_onset)[column]
    overlap = shared / (lengths - shared)
    matched, iou = np.full(len(true), -1, dtype="int64"), np.zeros(len(true))
    _take_best_first(np.argsort(-overlap, kind="stable"), row, order[column], overlap, len(found), matched, iou)
    return matched, iou


def samples_covered(true: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many samples lie inside true, found, and both kinds of intervals, by interval.

    A sample inside several intervals of a kind counts once, for the one that begins first.

    Parameters
    ----------
    true, found : structured arrays, shapes (num_true,) and (num_found,)
        As for :func:`match_intervals`.

    Returns
    -------
    in_true, in_found : int64 arrays, shapes (num_true,) and (num_found,)
        Samples that each interval adds to those of its own kind.
    in_both : int64 array, shape (num_true + num_found,)
        Numbers that add up to the samples inside both kinds, over all events as over those of any one channel.

    Raises
    ------
    InputError
        As :func:`match_intervals`.
    """
    true_onset, true_offset, found_onset, found_offset = _intervals_on_one_line(true, found)
    in_true, in_found = _newly_covered(true_onset, true_offset), _newly_covered(found_onset, found_offset)
    onset, offset = np.concatenate([true_onset, found_onset]), np.concatenate([true_offset, found_offset])
    # |A and B| = |A| + |B| - |A or B|
    return in_true, in_found, np.concatenate([in_true, in_found]) - _newly_covered(onset, offset)


def times_on_one_line(true: np.ndarray, found: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Times of both such that events of different channels or segments are further apart than the tolerance.

    Returns
    -------
    true_times, found_times : int64 arrays, shapes (num_true,) and (num_found,)
        In samples, with every channel of every segment in a stretch of time of its own.
    tolerance : int
        The tolerance, rounded down to whole samples.

    Raises
    ------
    InputError
        When a field is missing or the tolerance is negative.
    """
    for name, events in (("true", true), ("found", found)):
        _check_fields(name, events, EVENT_FIELDS)
    try:
        whole = math.floor(tolerance)
    except (TypeError, ValueError, OverflowError):
        whole = -1
    if whole < 0:
        raise InputError(f"tolerance must be a finite number of samples, 0 or more, got {tolerance!r}.")
    times = np.concatenate([true["sample_index"], found["sample_index"]]).astype("int64")
    if len(times):
        times -= times.min()
        times += _trace_numbers(true, found) * (times.max() + operator.index(whole) + 1)
    return times[: len(true)], times[len(true) :], whole


def _intervals_on_one_line(true, found):
    """Onsets and offsets of both, with every channel of every segment in a stretch of time of its own."""
    for name, events in (("true", true), ("found", found)):
        _check_fields(name, events, INTERVAL_FIELDS)
        wrong = events["offset"] <= events["onset"]
        if wrong.any():
            raise InputError(f"{wrong.sum()} of {len(events)} {name} intervals end before or where they begin.")
    ends = np.concatenate([events[field].astype("int64") for events in (true, found) for field in ("onset", "offset")])
    if not len(ends):
        return (ends,) * 4
    ends -= ends.min()
    bounds = np.cumsum([0, len(true), len(true), len(found), len(found)])
    shift = _trace_numbers(true, found) * (ends.max() + 1)
    for k, own in enumerate((shift[: len(true)],) * 2 + (shift[len(true) :],) * 2):
        ends[bounds[k] : bounds[k + 1]] += own
    return tuple(ends[bounds[k] : bounds[k + 1]] for k in range(4))


def _newly_covered(onset, offset):
    """How many samples each interval covers that no earlier one does; their sum is the size of the union."""
    order = np.argsort(onset, kind="stable")
    reached = np.maximum.accumulate(offset[order])
    begin = np.maximum(onset[order], np.concatenate([onset[order][:1], reached[:-1]]))
    covered = np.zeros(len(onset), dtype="int64")
    covered[order] = np.maximum(offset[order] - begin, 0)
    return covered


def _trace_numbers(true, found):
    segments, channels = (
        np.concatenate([true[field], found[field]]).astype("int64") for field in ("segment_index", "channel_index")
    )
    segments -= segments.min()
    channels -= channels.min()
    return segments * (channels.max() + 1) + channels


def _check_fields(name, events, fields):
    present = getattr(getattr(events, "dtype", None), "names", None) or ()
    missing = [field for field in fields if field not in present]
    if missing or events.ndim != 1:
        raise InputError(f"{name} must be a structured array, shape (num_events,); it lacks the fields {missing}.")


@numba.njit(nogil=True)
def _match_in_order(true, found, first, last, partner):
    """Dynamic programme over trues i and founds below j; only j from first[i] to last[i] need a cell.

    Founds below first[i] are out of reach for i and all later trues, those from last[i] on for i and all earlier ones.
    """
    num_true = len(true)
    if num_true == 0:
        return
    start = np.zeros(num_true + 1, dtype=np.int64)
    for i in range(num_true):
        start[i + 1] = start[i] + last[i] - first[i] + 1
    pairs = np.zeros(start[num_true], dtype=np.int64)
    cost = np.zeros(start[num_true], dtype=np.int64)
    step = np.zeros(start[num_true], dtype=np.uint8)  # 0: true i stays alone, 1: found j - 1 does, 2: they are a pair
    for i in range(num_true):
        for j in range(first[i], last[i] + 1):
            cell = start[i] + j - first[i]
            if i > 0:
                above = start[i - 1] + min(j, last[i - 1]) - first[i - 1]
                pairs[cell], cost[cell] = pairs[above], cost[above]
            if j == first[i]:
                continue
            if (pairs[cell - 1], -cost[cell - 1]) > (pairs[cell], -cost[cell]):
                pairs[cell], cost[cell], step[cell] = pairs[cell - 1], cost[cell - 1], 1
            with_pairs, with_cost = 1, abs(true[i] - found[j - 1])
            if i > 0:
                above = start[i - 1] + min(j - 1, last[i - 1]) - first[i - 1]
                with_pairs, with_cost = with_pairs + pairs[above], with_cost + cost[above]
            if (with_pairs, -with_cost) > (pairs[cell], -cost[cell]):
                pairs[cell], cost[cell], step[cell] = with_pairs, with_cost, 2
    i, j = num_true - 1, last[num_true - 1]
    while i >= 0:
        how = step[start[i] + j - first[i]]
        if how > 0:
            j -= 1
        if how == 2:
            partner[i] = j
        if how != 1:
            i -= 1
            if i >= 0:
                j = min(j, last[i])


@numba.njit(nogil=True)
def _take_best_first(order, row, column, overlap, num_columns, matched, iou):
    taken = np.zeros(num_columns, dtype=np.bool_)
    for pair in order:
        if matched[row[pair]] < 0 and not taken[column[pair]]:
            matched[row[pair]], iou[row[pair]] = column[pair], overlap[pair]
            taken[column[pair]] = True
