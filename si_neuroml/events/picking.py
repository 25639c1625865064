"""From scores to events: peaks of the score, where they begin and end, and stretches above a threshold.

Every rule here looks at a bounded stretch of scores (:func:`picking_reach`), so that chunks with that margin give
exactly the events of the whole trace. Scores given here must end where the segment ends: what a scorer says about
reflected samples is no score.
"""

from typing import NamedTuple

import numba
import numpy as np

from ..errors import InputError

__all__ = ["PERIOD_DTYPE", "Picks", "pick_events", "picking_reach", "runs", "stitch"]

# SpikeInterface's base_period_dtype and the channel
PERIOD_DTYPE = np.dtype(
    [
        ("segment_index", "int64"),
        ("start_sample_index", "int64"),
        ("end_sample_index", "int64"),
        ("channel_index", "int64"),
    ]
)


class Picks(NamedTuple):
    """Events found in a chunk of scores, sorted by sample, then channel.

    Attributes
    ----------
    sample_indices, channel_indices : int64 array, shape (num_events,)
        Where the score peaks; samples count from the first one given.
    scores : float32 array, shape (num_events,)
        The score there.
    onsets, offsets : int64 array, shape (num_events,)
        First sample of the event, and one past its last.
    """

    sample_indices: np.ndarray
    channel_indices: np.ndarray
    scores: np.ndarray
    onsets: np.ndarray
    offsets: np.ndarray


def picking_reach(exclude_sweep: int, max_reach: int) -> int:
    """Samples on either side of an event that :func:`pick_events` looks at.

    The event next to it takes a part of the samples between them if the two are no more than ``2 * max_reach`` apart,
    and is an event only if it is the highest within `exclude_sweep`.
    """
    return 2 * max_reach + exclude_sweep


def pick_events(
    scores: np.ndarray,
    threshold: float,
    low_threshold: float,
    *,
    exclude_sweep: int,
    max_reach: int,
    owned: tuple[int, int] | None = None,
) -> Picks:
    """Events: the highest scores of their surroundings.

    An event is a sample whose score reaches `threshold` and is the highest within `exclude_sweep` samples; of equal
    ones the first. It lasts as long as the score around it stays at `low_threshold` or above, at most `max_reach`
    samples either way. Two events that share such a stretch part at the lowest score between their peaks (the first of
    equal ones), which is the first sample of the later event.

    Parameters
    ----------
    scores : float32 array, shape (num_channels, num_samples)
        Scores of a chunk with margins of :func:`picking_reach`, except at the true ends of the segment.
    threshold, low_threshold : float
        For the peak, and for the samples around it; the second no larger than the first.
    exclude_sweep : int
        In samples, from 0.
    max_reach : int
        In samples, from 0.
    owned : (int, int), optional
        Only events whose peak lies in [start, stop) are returned. Default: all.

    Returns
    -------
    Picks

    Raises
    ------
    InputError
        On parameters out of range, or scores of another shape.
    """
    scores = _checked(scores)
    if not low_threshold <= threshold:
        raise InputError(f"low_threshold must not exceed threshold, got {low_threshold!r} and {threshold!r}.")
    if exclude_sweep < 0 or max_reach < 0:
        raise InputError(f"exclude_sweep and max_reach must be 0 or more, got {exclude_sweep!r} and {max_reach!r}.")
    peaks = np.zeros(scores.shape, dtype=bool)
    _mark_peaks(scores, threshold, int(exclude_sweep), peaks)
    start, stop = _owned_range(owned, scores.shape[1])
    samples, channels = np.nonzero(peaks[:, start:stop].T)
    samples = samples + start
    onsets, offsets = np.empty_like(samples), np.empty_like(samples)
    _extents(scores, peaks, samples, channels, low_threshold, int(max_reach), onsets, offsets)
    return Picks(samples, channels, scores[channels, samples], onsets, offsets)


def runs(scores: np.ndarray, threshold: float, *, owned: tuple[int, int] | None = None) -> np.ndarray:
    """Stretches of samples whose score reaches a threshold.

    Parameters
    ----------
    scores : float32 array, shape (num_channels, num_samples)
        Scores of a chunk; no margin is needed.
    threshold : float
        Of the score.
    owned : (int, int), optional
        Stretches are clipped to [start, stop), for :func:`stitch` to join with those of the next chunk. Default: all.

    Returns
    -------
    array of PERIOD_DTYPE
        Sorted by channel and start, the end exclusive; samples count from the first one given, segment_index is 0.

    Raises
    ------
    InputError
        On scores of another shape.
    """
    scores = _checked(scores)
    start, stop = _owned_range(owned, scores.shape[1])
    above = np.pad(scores[:, start:stop] >= threshold, ((0, 0), (1, 1)))
    channels, begins = np.nonzero(above[:, 1:] & ~above[:, :-1])
    ends = np.nonzero(above[:, :-1] & ~above[:, 1:])[1]
    periods = np.zeros(len(begins), dtype=PERIOD_DTYPE)
    periods["channel_index"] = channels
    periods["start_sample_index"], periods["end_sample_index"] = begins + start, ends + start
    return periods


def stitch(periods: np.ndarray) -> np.ndarray:
    """Join periods of one channel that touch or overlap, as those of neighbouring chunks do.

    Parameters
    ----------
    periods : array of PERIOD_DTYPE
        In samples of their segments, any order.

    Returns
    -------
    array of PERIOD_DTYPE
        Sorted by segment, start and channel.
    """
    if not len(periods):
        return periods.copy()
    order = np.lexsort([periods[name] for name in ("start_sample_index", "channel_index", "segment_index")])
    periods = periods[order]
    other = (np.diff(periods["segment_index"]) != 0) | (np.diff(periods["channel_index"]) != 0)
    # the latest end so far on the same channel: each trace is shifted past all before it
    trace = np.concatenate([[0], np.cumsum(other)])
    shift = trace * (np.ptp(periods["end_sample_index"]) + 1)
    latest = np.maximum.accumulate(periods["end_sample_index"] + shift) - shift
    first = np.concatenate([[True], other | (periods["start_sample_index"][1:] > latest[:-1])])
    joined = periods[first]
    joined["end_sample_index"] = latest[np.concatenate([np.flatnonzero(first)[1:] - 1, [len(periods) - 1]])]
    return joined[np.lexsort([joined[name] for name in ("channel_index", "start_sample_index", "segment_index")])]


def _checked(scores):
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise InputError(f"scores must have the shape (num_channels, num_samples), got {scores.shape}.")
    return np.ascontiguousarray(scores, dtype="float32")


def _owned_range(owned, num_samples):
    start, stop = (0, num_samples) if owned is None else owned
    return max(0, int(start)), min(num_samples, int(stop))


@numba.njit(nogil=True)
def _mark_peaks(scores, threshold, exclude_sweep, peaks):
    num_samples = scores.shape[1]
    for channel in range(scores.shape[0]):
        row = scores[channel]
        for t in range(num_samples):
            if not row[t] >= threshold:
                continue
            highest = True
            for u in range(max(0, t - exclude_sweep), t):
                highest &= row[u] < row[t]
            for u in range(t + 1, min(num_samples, t + exclude_sweep + 1)):
                highest &= row[u] <= row[t]
            peaks[channel, t] = highest


@numba.njit(nogil=True)
def _extents(scores, peaks, samples, channels, low_threshold, max_reach, onsets, offsets):
    for event in range(len(samples)):
        row, marks, peak = scores[channels[event]], peaks[channels[event]], samples[event]
        first, last = max(0, peak - max_reach), min(len(row) - 1, peak + max_reach)
        for other in range(peak - 1, max(-1, peak - 2 * max_reach - 1), -1):
            if marks[other]:
                first = max(first, _valley(row, other, peak))
                break
        for other in range(peak + 1, min(len(row), peak + 2 * max_reach + 1)):
            if marks[other]:
                last = min(last, _valley(row, peak, other) - 1)
                break
        onset, offset = peak, peak + 1
        while onset > first and row[onset - 1] >= low_threshold:
            onset -= 1
        while offset <= last and row[offset] >= low_threshold:
            offset += 1
        onsets[event], offsets[event] = onset, offset


@numba.njit(nogil=True)
def _valley(row, peak, later):
    """First of the lowest samples after one peak and up to the next."""
    lowest = peak + 1
    for t in range(peak + 2, later + 1):
        if row[t] < row[lowest]:
            lowest = t
    return lowest
