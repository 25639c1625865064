"""The simplest detector, and thresholds without labels.

Traces are conditioned: float32, shape (num_channels, num_samples), events point upwards, in units of the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from ..errors import InputError, TrainingError

__all__ = ["ThresholdScorer", "largest_extrema", "sign_flip_threshold"]


@dataclass(frozen=True)
class ThresholdScorer:
    """The trace itself as the score, moved by a constant lag.

    What annotators or electrodes call the time of an event and where an indicator's trace peaks differ by a constant;
    without the correction a threshold would be blamed for it.

    Parameters
    ----------
    lag : int, default: 0
        Samples from the event to the peak of the trace. The score of sample t is the trace at t + lag.
    """

    lag: int = 0
    alignment = 1

    @property
    def before(self) -> int:
        """Samples before a sample that its score depends on."""
        return max(-self.lag, 0)

    @property
    def after(self) -> int:
        """Samples after a sample that its score depends on."""
        return max(self.lag, 0)

    @classmethod
    def fit(
        cls, x_list: Sequence[np.ndarray], events_list: Sequence[np.ndarray], *, search_before: int, search_after: int
    ) -> "ThresholdScorer":
        """Learn the lag: the median time from labelled events to the highest sample near each.

        Parameters
        ----------
        x_list : sequence of float32 arrays, shape (num_channels, num_samples)
            Conditioned traces.
        events_list : sequence of structured arrays
            Events of each, fields sample_index (in samples of these traces) and channel_index.
        search_before, search_after : int
            Samples before and after the event in which its peak is sought.

        Raises
        ------
        InputError
            When traces and events do not belong together.
        TrainingError
            When there is no event with all of its window inside the traces.
        """
        snippets = np.concatenate(event_snippets(x_list, events_list, search_before, search_after))
        if not len(snippets):
            raise TrainingError("No labelled event lies far enough from the ends of the traces to learn the lag from.")
        return cls(lag=int(np.round(np.median(snippets.argmax(axis=1)))) - search_before)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores of conditioned traces, float32, shape (num_channels, num_samples); ends repeat the last score."""
        if not x.shape[1]:
            return np.array(x, dtype="float32")
        moved = np.clip(np.arange(x.shape[1]) + self.lag, 0, x.shape[1] - 1)
        return np.ascontiguousarray(x[:, moved], dtype="float32")

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        return {"lag": self.lag}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Nothing: the lag is a setting."""
        return {}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], **settings: Any) -> "ThresholdScorer":
        """The scorer that :meth:`to_arrays` and :meth:`settings` came from."""
        return cls(**settings)


def sign_flip_threshold(
    scores_list: Sequence[np.ndarray], false_discovery_rate: float, min_distance: int
) -> float | None:
    """The lowest threshold at which no more than a given share of the detections is expected to be noise.

    Noise that is symmetric about 0 has as many extrema below as above. Where each extremum is the largest of its
    neighbourhood on either side, those below 0 count the noise among those above it, and (1 + number below) / (number
    above) bounds the false discovery rate, as decoys do in mass spectrometry and knockoffs in Barber & Candes (2015,
    eq. 2.5). A rate of q can be met by no fewer than 1 / q events.

    Parameters
    ----------
    scores_list : sequence of float32 arrays, shape (num_channels, num_samples)
        Scores of traces, 0 on average where there is no event.
    false_discovery_rate : float
        Between 0 and 1.
    min_distance : int
        An extremum is the largest, whatever its sign, of this many samples on either side. Choose the length of an
        event with its undershoot, so that a dip beside an event is not taken for noise.

    Returns
    -------
    float | None
        None where no threshold meets the rate, as it should be in a recording without events.

    Raises
    ------
    InputError
        On a rate or a distance out of range.
    """
    if not 0 < false_discovery_rate < 1 or min_distance < 1:
        text = "false_discovery_rate must lie between 0 and 1 and min_distance be at least 1,"
        raise InputError(f"{text} got {false_discovery_rate!r} and {min_distance!r}.")
    values = [scores[largest_extrema(scores, min_distance)] for scores in scores_list]
    values = np.concatenate([np.zeros(0, "float32"), *values])
    values = values[values != 0]
    order = np.argsort(-np.abs(values), kind="stable")
    size = np.abs(values[order])
    above = np.cumsum(values[order] > 0)
    good = (1 + np.arange(1, len(order) + 1) - above) / np.maximum(above, 1) <= false_discovery_rate
    # only where the size changes: equal ones are taken together
    good &= np.append(size[1:] < size[:-1], True)[: len(size)]
    return float(size[np.flatnonzero(good)[-1]]) if good.any() else None


def largest_extrema(scores: np.ndarray, min_distance: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples whose absolute value is the largest within `min_distance` on either side, the first of equal ones.

    Parameters
    ----------
    scores : array, shape (num_channels, num_samples)
        Scores or traces.
    min_distance : int
        In samples.

    Returns
    -------
    channels, samples : int64 arrays, shape (num_extrema,)
        Sorted by channel, then by time.
    """
    found = np.zeros(scores.shape, dtype=bool)
    _mark_extrema(np.ascontiguousarray(scores), int(min_distance), found)
    return np.nonzero(found)


def event_snippets(
    x_list: Sequence[np.ndarray], events_list: Sequence[np.ndarray], before: int, after: int
) -> list[np.ndarray]:
    """Traces around labelled events, those that lie whole inside.

    Parameters
    ----------
    x_list, events_list
        As for :meth:`ThresholdScorer.fit`.
    before, after : int
        Samples before and after the event.

    Returns
    -------
    list of float32 array, shape (num_events, before + 1 + after)
        One per array of traces.

    Raises
    ------
    InputError
        When traces and events do not belong together.
    """
    check_training(x_list, events_list)
    snippets = []
    for x, events in zip(x_list, events_list, strict=True):
        whole = (events["sample_index"] >= before) & (events["sample_index"] < x.shape[1] - after)
        samples = events["sample_index"][whole, None] + np.arange(-before, after + 1)
        snippets.append(x[events["channel_index"][whole, None], samples])
    return snippets


def check_training(x_list: Sequence[np.ndarray], events_list: Sequence[np.ndarray]) -> None:
    """Refuse traces and labels that cannot be learned from.

    Raises
    ------
    InputError
        On unequal numbers, other shapes, values that are not finite, or events outside their traces.
    """
    if not len(x_list) or len(x_list) != len(events_list):
        raise InputError(f"{len(x_list)} arrays of traces and {len(events_list)} of events: give one each, at least 1.")
    for index, (x, events) in enumerate(zip(x_list, events_list, strict=True)):
        if x.ndim != 2 or not np.isfinite(x).all():
            text = f"Traces {index} must be finite, shape (num_channels, num_samples);"
            raise InputError(f"{text} got shape {x.shape} with {int((~np.isfinite(x)).sum())} values that are not.")
        sample, channel = events["sample_index"], events["channel_index"]
        outside = (sample < 0) | (sample >= x.shape[1]) | (channel < 0) | (channel >= x.shape[0])
        if outside.any():
            raise InputError(f"{outside.sum()} of {len(events)} events lie outside traces {index}, shape {x.shape}.")


@numba.njit(nogil=True)
def _mark_extrema(scores, min_distance, found):
    num_samples = scores.shape[1]
    for channel in range(scores.shape[0]):
        t = 0
        while t < num_samples:
            value = abs(scores[channel, t])
            largest = True
            for k in range(max(t - min_distance, 0), t):
                if abs(scores[channel, k]) >= value:
                    largest = False
                    break
            step = 1
            if largest:
                for k in range(t + 1, min(t + min_distance + 1, num_samples)):
                    if abs(scores[channel, k]) > value:
                        # nothing between here and there can be the largest
                        largest, step = False, k - t
                        break
            if largest:
                found[channel, t] = True
                step = min_distance + 1
            t += step
