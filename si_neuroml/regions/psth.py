"""Peri-stimulus time histograms of all units in one pass over their spikes.

A window is laid around every event onset and cut into bins; a bin counts the spikes of a unit in it, over all events
or per event (van Laar 2025: -1.0 to 1.5 s in bins of 25 ms). Bin ``k`` holds ``start + k * bin <= t - onset <
start + (k + 1) * bin``. Windows may overlap: a spike then counts for each of them.
"""

import math
import warnings

import numba
import numpy as np

from ..errors import InputError
from .psth_settings import NORMALISATIONS, PsthSettings, complete_onsets, response_limit
from .spike_trains import EDGE_TOLERANCE_S, FedInBlocks, check_sorted, check_times

__all__ = [
    "NORMALISATIONS",
    "PsthCounter",
    "PsthSettings",
    "baseline_statistics",
    "complete_onsets",
    "count_psth",
    "normalise_psth",
    "response_limit",
]


class PsthCounter(FedInBlocks):
    """Counts of a session that is fed in blocks.

    Parameters
    ----------
    num_units : int
    onsets_s : array, shape (num_events,)
        Event onsets in seconds, sorted.
    settings : PsthSettings, optional
    trials : bool, default: False
        Keep the events apart.

    Attributes
    ----------
    counts : int32 array, shape (num_units, num_bins) or (num_units, num_events, num_bins)
        Spikes so far.

    Raises
    ------
    InputError
        When onsets are not finite or not sorted.

    Warns
    -----
    UserWarning
        When the median interval between onsets is shorter than the window.
    """

    def __init__(
        self, num_units: int, onsets_s: np.ndarray, settings: PsthSettings | None = None, *, trials: bool = False
    ):
        super().__init__(num_units)
        self.settings = PsthSettings() if settings is None else settings
        self.onsets_s = check_times(onsets_s, "onsets_s")
        _warn_of_overlap(self.onsets_s, self.settings)
        self._counts = np.zeros((num_units, len(self.onsets_s) if trials else 1, self.settings.num_bins), dtype="int32")
        self.counts = self._counts if trials else self._counts[:, 0]
        self._trials = trials

    def prepare(self, times: np.ndarray, offsets: np.ndarray, units: np.ndarray) -> None:
        """Refuse a block whose spikes are not finite or not in time order."""
        check_sorted(times, offsets)

    def consume(self, times: np.ndarray, offsets: np.ndarray, units: np.ndarray, first: int, last: int) -> None:
        """Count pieces ``first`` to ``last - 1`` of a block that is already checked; safe in threads."""
        settings = self.settings
        _count(
            *(times, offsets, units, first, last, self.onsets_s),
            *(settings.window_s[0], 1.0 / settings.bin_s, self._trials, self._counts),
        )

    def warn_if_empty(self, num_spikes: int) -> None:
        """Warn when there were spikes and events, and no spike near any event."""
        if num_spikes and len(self.onsets_s) and not self._counts.any():
            warnings.warn(
                f"None of the {num_spikes} spikes lies in the window of any of the {len(self.onsets_s)} events "
                f"({self.onsets_s[0]:g} to {self.onsets_s[-1]:g} s). Are both in seconds of the same clock?",
                UserWarning,
                stacklevel=3,
            )


def count_psth(
    spike_times: np.ndarray,
    offsets: np.ndarray,
    onsets_s: np.ndarray,
    settings: PsthSettings | None = None,
    *,
    trials: bool = False,
    num_threads: int | None = None,
) -> np.ndarray:
    """Spikes per unit and bin around events.

    Parameters
    ----------
    spike_times : array, shape (num_spikes,)
        In seconds, unit after unit, sorted within each unit.
    offsets : int array, shape (num_units + 1,)
        Where the units begin and end.
    onsets_s : array, shape (num_events,)
        Event onsets in seconds, sorted, on the same clock. Those whose window leaves the recording count as they are:
        :func:`complete_onsets` finds them.
    settings : PsthSettings, optional
        Default: -1.0 to 1.5 s in bins of 25 ms.
    trials : bool, default: False
        Whether events are kept apart.
    num_threads : int, optional
        Default: numba's (NUMBA_NUM_THREADS).

    Returns
    -------
    int32 array, shape (num_units, num_bins), with `trials` (num_units, num_events, num_bins)

    Raises
    ------
    InputError
        When times are not finite or not sorted, or offsets do not fit.

    Warns
    -----
    UserWarning
        When windows overlap (the median interval between onsets is shorter than the window), or when no spike of any
        unit lies near any event.
    """
    counter = PsthCounter(len(offsets) - 1, onsets_s, settings, trials=trials)
    counter.add(spike_times, offsets, num_threads=num_threads)
    counter.warn_if_empty(int(offsets[-1] - offsets[0]))
    return counter.counts


def normalise_psth(
    counts: np.ndarray, num_events: int, settings: PsthSettings | None = None, *, normalisation: str | None = None
) -> np.ndarray:
    """Counts summed over events as rates, relative to the baseline or not.

    Parameters
    ----------
    counts : array, shape (num_units, num_bins)
        Spikes over all events.
    num_events : int
        How many these were.
    settings : PsthSettings, optional
        Those of the counts.
    normalisation : "zscore" | "subtract" | "rate", optional
        "rate" is in spikes per second, "subtract" takes the mean rate of the baseline bins off, "zscore" divides that
        by their standard deviation (:func:`baseline_statistics`). Default: that of `settings`.

    Returns
    -------
    float32 array, shape (num_units, num_bins)
        NaN without events.

    Raises
    ------
    InputError
        When there are fewer than two baseline bins for "zscore", or none for "subtract".
    """
    settings = PsthSettings() if settings is None else settings
    normalisation = settings.normalisation if normalisation is None else normalisation
    if normalisation not in NORMALISATIONS:
        raise InputError(f"normalisation must be one of {NORMALISATIONS}, got {normalisation!r}.")
    rates = _rates(counts, num_events, settings)
    if normalisation == "rate":
        return rates.astype("float32")
    if normalisation == "subtract":
        baseline = settings.bins_between(*settings.baseline)
        _require_bins(baseline, 1, settings)
        return (rates - rates[:, baseline].mean(axis=1, keepdims=True)).astype("float32")
    mean, deviation = baseline_statistics(counts, num_events, settings)
    return ((rates - mean[:, None]) / deviation[:, None]).astype("float32")


def baseline_statistics(
    counts: np.ndarray, num_events: int, settings: PsthSettings | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the rate over the baseline bins.

    A silent or perfectly even baseline has no standard deviation. It gets the smallest that counts can have: that of a
    baseline with one spike in all its B bins, sqrt(B - 1) / B spikes. It changes no other baseline, and z-scores stay
    finite and in proportion to the response.

    Parameters
    ----------
    counts : array, shape (num_units, num_bins)
        Spikes over all events.
    num_events : int
    settings : PsthSettings, optional

    Returns
    -------
    (float64 array, float64 array), each of shape (num_units,)
        In spikes per second; divided by B, not B - 1. NaN without events.

    Raises
    ------
    InputError
        When the baseline has fewer than two bins.
    """
    settings = PsthSettings() if settings is None else settings
    baseline = settings.bins_between(*settings.baseline)
    num_baseline = _require_bins(baseline, 2, settings)
    # of the counts, so that an even baseline comes out as exactly 0
    within = np.asarray(counts)[:, baseline].astype("float64")
    deviation = within.std(axis=1)
    even = within.min(axis=1) == within.max(axis=1)
    deviation[even] = math.sqrt(num_baseline - 1) / num_baseline
    per_rate = num_events * settings.bin_s if num_events else np.nan
    return within.mean(axis=1) / per_rate, deviation / per_rate


def _rates(counts, num_events, settings):
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != settings.num_bins:
        raise InputError(
            f"counts must have shape (num_units, {settings.num_bins}), got {counts.shape}; sum over events first."
        )
    return counts / (num_events * settings.bin_s) if num_events else np.full(counts.shape, np.nan)


def _require_bins(baseline, least, settings):
    found = int(np.count_nonzero(baseline))
    if found < least:
        raise InputError(
            f"The baseline {settings.baseline} s holds {found} whole bins of {settings.bin_s} s, at least {least} are "
            'needed: let window_s begin earlier, or use normalisation="rate".'
        )
    return found


def _warn_of_overlap(onsets, settings):
    length = settings.window_s[1] - settings.window_s[0]
    interval = float(np.median(np.diff(onsets))) if len(onsets) > 1 else np.inf
    if interval < length - EDGE_TOLERANCE_S:
        warnings.warn(
            f"Windows overlap: half of the onsets follow each other within {interval:.3g} s, and the window of "
            f"{length:g} s holds the responses to other events too. Use a shorter window_s, or fewer events.",
            UserWarning,
            stacklevel=4,
        )


@numba.njit(nogil=True)
def _next_within(times, i, end, start, onset):
    """The first spike after `i` whose window reaches `onset`, or `end`: in leaps, then by halves."""
    leap = 1
    while i + leap < end and times[i + leap] - start + EDGE_TOLERANCE_S < onset:
        i += leap
        leap *= 2
    # i is too early, stop is not
    stop = min(i + leap, end)
    while stop - i > 1:
        middle = (i + stop) // 2
        if times[middle] - start + EDGE_TOLERANCE_S < onset:
            i = middle
        else:
            stop = middle
    return stop


@numba.njit(nogil=True)
def _count(times, offsets, units, first, last, onsets, start, inverse_bin, trials, counts):
    """Add pieces `first` to `last` - 1 to counts (num_units, num_events or 1, num_bins)."""
    num_events, num_bins = len(onsets), counts.shape[2]
    for piece in range(first, last):
        begin, end = offsets[piece], offsets[piece + 1]
        if begin == end:
            continue
        mine = counts[units[piece]]
        # the events whose window holds the spike are `low` to `high` - 1; both only go up
        low = np.searchsorted(onsets, times[begin] - start - (num_bins + 1) / inverse_bin)
        high = low
        i = begin
        while i < end:
            reach = times[i] - start + EDGE_TOLERANCE_S
            while high < num_events and onsets[high] <= reach:
                high += 1
            while low < high and (reach - onsets[low]) * inverse_bin >= num_bins:
                low += 1
            if low < high:
                for event in range(low, high):
                    mine[event if trials else 0, int((reach - onsets[event]) * inverse_bin)] += 1
                i += 1
            elif high < num_events:
                i = _next_within(times, i, end, start, onsets[high])
            else:
                break
