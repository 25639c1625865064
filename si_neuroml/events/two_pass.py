"""A matched filter without labels: threshold, template, filter, threshold.

The two passes of VolPy (Cai et al. 2021): the highest peaks of the recording itself give the template, and the filtered
trace is thresholded again. Both thresholds come from the sign-flipped scores here, so that a recording without events
ends without a detector, where a fixed number of spikes would be returned.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import TrainingError
from .matched_filter import MatchedFilterScorer
from .threshold import check_training, largest_extrema, sign_flip_threshold

__all__ = ["fit_two_pass"]

EVENT_DTYPE = [("sample_index", "int64"), ("channel_index", "int64")]


def fit_two_pass(
    x_list: Sequence[np.ndarray],
    *,
    before: int,
    after: int,
    false_discovery_rate: float = 0.1,
    first_rate: float = 0.25,
    **filter_settings: Any,
) -> tuple[MatchedFilterScorer, float]:
    """A matched filter and its threshold from traces without labels, in two passes.

    Pass 1 takes the peaks of the traces above a threshold and averages them to the template; pass 2 thresholds the
    filtered traces. Both thresholds come from the sign-flipped scores. Those of pass 2 are cross-fitted: each half of
    the traces is filtered with the template of the other half, because a template resembles the noise it was averaged
    from and would find it again.

    Parameters
    ----------
    x_list : sequence of float32 arrays, shape (num_channels, num_samples)
        Conditioned traces of one recording.
    before, after, **filter_settings
        As for :meth:`~si_neuroml.events.matched_filter.MatchedFilterScorer.fit`.
    false_discovery_rate : float, default: 0.1
        Share of noise among the detections that is aimed at. A rate of q needs at least 1 / q events.
    first_rate : float, default: 0.25
        The same for the peaks of pass 1, of which the template is the mean.

    Returns
    -------
    scorer : MatchedFilterScorer
        Its scores peak where the trace does.
    threshold : float
        For its scores.

    Raises
    ------
    InputError
        On bad traces or numbers out of range.
    TrainingError
        When nothing stands out from the noise: a recording without events should end here.
    """
    check_training(x_list, [np.zeros(0, EVENT_DTYPE)] * len(x_list))
    distance = max(before, after, 1)
    first = sign_flip_threshold(x_list, first_rate, distance)
    if first is None:
        raise TrainingError(_nothing_found("peaks of the traces", first_rate))
    events_list = [_peaks_above(x, first, distance) for x in x_list]
    options = {"before": before, "after": after, **filter_settings}
    scorer = MatchedFilterScorer.fit(x_list, events_list, **options)
    early, late = _halves(x_list, events_list)
    crossed = [
        MatchedFilterScorer.fit(*learned, **options).scores(x)
        for learned, applied in ((early, late), (late, early))
        for x in applied[0]
    ]
    threshold = sign_flip_threshold(crossed, false_discovery_rate, distance)
    if threshold is None:
        raise TrainingError(_nothing_found("filtered traces", false_discovery_rate))
    return scorer, threshold


def _peaks_above(x, threshold, distance):
    channels, samples = largest_extrema(x, distance)
    high = x[channels, samples] >= threshold
    events = np.zeros(high.sum(), dtype=EVENT_DTYPE)
    events["channel_index"], events["sample_index"] = channels[high], samples[high]
    return events


def _halves(x_list, events_list):
    """The earlier and the later half of all events, with their stretches of the traces."""
    ends = np.cumsum([len(events) for events in events_list])
    middle = int(ends[-1]) // 2
    index = int(np.searchsorted(ends, middle, side="right"))
    x, events = x_list[index], events_list[index]
    cut = int(np.sort(events["sample_index"])[middle - (ends[index] - len(events))])
    later = events["sample_index"] >= cut
    moved = events[later].copy()
    moved["sample_index"] -= cut
    early = [*x_list[:index], x[:, :cut]], [*events_list[:index], events[~later]]
    late = [x[:, cut:], *x_list[index + 1 :]], [moved, *events_list[index + 1 :]]
    return early, late


def _nothing_found(what, rate):
    return (
        f"No threshold on the {what} keeps the expected share of noise at {rate:g}: nothing stands out, or there are "
        f"fewer than {int(np.ceil(1 / rate))} events. Allow a higher rate, give more of the recording, or take it as "
        "silent."
    )
