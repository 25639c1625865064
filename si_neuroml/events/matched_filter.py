"""Matched filter: the linear detector, with template and whitening learned from labelled events.

The filter is C^-1 template: the template is the mean labelled event, C an autocovariance. With that of the noise
between events it is the classical matched filter, the best detector of a known event in Gaussian noise (Turin 1960),
whitened as in VolPy (Cai et al. 2021). With that of whole traces it is the best linear estimate of the train of events
(Wiener 1949): responses to other events are then part of what is suppressed. The two agree where events are rare, short
and alone; where they overlap, as in bursts or with slow indicators, the second finds clearly more, and is the default.

Traces are conditioned: float32, shape (num_channels, num_samples), events point upwards, in units of the noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np

from ..errors import InputError, TrainingError
from .noise import MAD_PER_SD
from .threshold import event_snippets

__all__ = ["MatchedFilterScorer", "autocovariance", "whitened_filter"]

# fewer samples between events than this do not tell the noise of the scores
MIN_NOISE_SAMPLES = 1000
# samples filtered at a time; both blocks stay in the first cache
BLOCK = 1024
UNROLL = 8


@dataclass(frozen=True, eq=False)
class MatchedFilterScorer:
    """Sum of the samples around each sample, weighted by a fixed filter.

    Parameters
    ----------
    taps : float32 array, shape (before + 1 + after,)
        Weights, in order of time.
    template : float32 array, shape (before + 1 + after,)
        The event the filter was made for, in units of the noise.
    before : int
        Samples before a sample that its score depends on.
    """

    taps: np.ndarray
    template: np.ndarray
    before: int
    alignment = 1

    @property
    def after(self) -> int:
        """Samples after a sample that its score depends on."""
        return len(self.taps) - 1 - self.before

    @property
    def d_prime(self) -> float:
        """Score of the template itself: the mean score of an event, in standard deviations of the noise's scores."""
        return float(self.taps.astype("float64") @ self.template)

    @classmethod
    def fit(
        cls,
        x_list: Sequence[np.ndarray],
        events_list: Sequence[np.ndarray],
        *,
        before: int,
        after: int,
        covariance: Literal["all", "noise"] = "all",
        ridge: float = 0.01,
    ) -> "MatchedFilterScorer":
        """Learn template and covariance from labelled traces.

        Parameters
        ----------
        x_list, events_list
            As for :meth:`ThresholdScorer.fit <si_neuroml.events.threshold.ThresholdScorer.fit>`.
        before, after : int
            Samples of the template before and after the event. 10 and 20 suit events of 1 to 5 ms at 3,328 Hz; slow
            indicators want a window that holds much of their decay, and a baseline of the same length before it.
        covariance : "all" | "noise", default: "all"
            Of what the autocovariance is: whole traces about their mean, or what lies between events, about 0. See
            the top of this file.
        ridge : float, default: 0.01
            Added to the variance, in units of it, when dividing by the autocovariance: what the filter assumes about
            errors of template and autocovariance.

        Raises
        ------
        InputError
            When traces and events do not belong together, or numbers are out of range.
        TrainingError
            When no event lies whole inside the traces, or nothing is left between the events.
        """
        if before < 0 or after < 0 or not ridge >= 0:
            raise InputError(f"before, after and ridge must be 0 or more, got {before!r}, {after!r} and {ridge!r}.")
        if covariance not in ("all", "noise"):
            raise InputError(f'covariance must be "all" or "noise", got {covariance!r}.')
        snippets = np.concatenate(event_snippets(x_list, events_list, before, after))
        if not len(snippets):
            text = f"No labelled event has {before} samples before and {after} after it inside the traces."
            raise TrainingError(f"{text} A matched filter needs at least one, and is good from about 20 on.")
        free = [_far_from_events(x.shape, events, before, after) for x, events in zip(x_list, events_list, strict=True)]
        center, usable = 0.0, free
        if covariance == "all":
            center = float(sum(x.sum(dtype="float64") for x in x_list) / sum(x.size for x in x_list))
            usable = [np.ones(x.shape, dtype=bool) for x in x_list]
        template = snippets.mean(axis=0, dtype="float64") - center
        column = autocovariance(x_list, usable, before + 1 + after, center)
        taps = whitened_filter(template, column, ridge)
        scorer = cls(taps.astype("float32"), template.astype("float32"), int(before))
        taps = taps / _noise_sd([scorer.scores(x) for x in x_list], free)
        return cls(taps.astype("float32"), scorer.template, scorer.before)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores of conditioned traces, float32, shape (num_channels, num_samples).

        Beyond its ends a trace is mirrored. Every score is the same sum in the same order, so that it has the same bits
        wherever a trace is cut.
        """
        out = np.zeros(x.shape, dtype="float32")
        if x.shape[1]:
            _filter(np.ascontiguousarray(x, dtype="float32"), self.taps, self.before, out)
        return out

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        return {"before": self.before}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The filter and the template."""
        return {"taps": self.taps, "template": self.template}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], **settings: Any) -> "MatchedFilterScorer":
        """The scorer that :meth:`to_arrays` and :meth:`settings` came from."""
        return cls(arrays["taps"], arrays["template"], **settings)


def autocovariance(
    x_list: Sequence[np.ndarray], usable_list: Sequence[np.ndarray], num_lags: int, center: float = 0.0
) -> np.ndarray:
    """Mean product of samples at each distance in time.

    Parameters
    ----------
    x_list : sequence of float32 arrays, shape (num_channels, num_samples)
        Conditioned traces.
    usable_list : sequence of bool arrays of the same shapes
        Which samples to take; products are taken where both samples are.
    num_lags : int
        Lags from 0 to num_lags - 1.
    center : float, default: 0
        Subtracted from every sample.

    Returns
    -------
    float64 array, shape (num_lags,)

    Raises
    ------
    TrainingError
        When some lag has no pair of samples, or they are equal everywhere.
    """
    sums, counts = np.zeros(num_lags), np.zeros(num_lags, dtype="int64")
    for x, usable in zip(x_list, usable_list, strict=True):
        _add_products(np.ascontiguousarray(x, dtype="float32"), np.ascontiguousarray(usable), center, sums, counts)
    if not counts.all():
        raise TrainingError(
            f"No stretch of {num_lags} samples to learn the autocovariance from. Give longer traces, or with "
            'covariance="noise" longer gaps between events, or take a shorter template.'
        )
    if not sums[0] > 0:
        raise TrainingError("All samples are equal where the autocovariance is taken: there is no noise to learn from.")
    return sums / counts


def whitened_filter(template: np.ndarray, column: np.ndarray, ridge: float = 0.01) -> np.ndarray:
    """C^-1 template, where C is the Toeplitz matrix of an autocovariance.

    Parameters
    ----------
    template : array, shape (num_taps,)
        Mean event.
    column : array, shape (num_taps,)
        Autocovariance, from lag 0 on.
    ridge : float, default: 0.01
        Added to lag 0, in units of it; ten times as much, and again, while C is not positive definite.

    Returns
    -------
    float64 array, shape (num_taps,)
        Scaled to a standard deviation of 1 under noise with this autocovariance and its ridge.
    """
    from scipy.linalg import solve_toeplitz, toeplitz

    column = np.array(column, dtype="float64")
    step = max(ridge, 1e-3) * column[0]
    column[0] *= 1 + ridge
    while np.linalg.eigvalsh(toeplitz(column))[0] <= 1e-9 * column[0]:
        column[0] += step
        step *= 10
    taps = solve_toeplitz(column, np.asarray(template, dtype="float64"))
    return taps / np.sqrt(taps @ template)


def _noise_sd(scores_list, free_list):
    """Measured rather than computed: neither the ridge nor events in the autocovariance are noise."""
    quiet = np.concatenate([scores[free] for scores, free in zip(scores_list, free_list, strict=True)])
    if len(quiet) >= MIN_NOISE_SAMPLES:
        return np.sqrt(np.mean(quiet.astype("float64") ** 2))
    # events everywhere: the median forgives those that fill less than half of the time
    return np.median(np.abs(np.concatenate([scores.ravel() for scores in scores_list]))) / MAD_PER_SD


def _far_from_events(shape, events, before, after):
    """Samples whose whole window is free of events and inside the trace."""
    reach = before + after
    edges = np.zeros((shape[0], shape[1] + 1), dtype="int32")
    np.add.at(edges, (events["channel_index"], np.maximum(events["sample_index"] - reach, 0)), 1)
    np.add.at(edges, (events["channel_index"], np.minimum(events["sample_index"] + reach + 1, shape[1])), -1)
    free = np.cumsum(edges[:, :-1], axis=1) == 0
    free[:, :before] = False
    free[:, max(shape[1] - after, 0) :] = False
    return free


@numba.njit(nogil=True)
def _add_products(x, usable, center, sums, counts):
    num_channels, num_samples = x.shape
    for lag in range(len(sums)):
        for channel in range(num_channels):
            for t in range(num_samples - lag):
                if usable[channel, t] and usable[channel, t + lag]:
                    sums[lag] += (x[channel, t] - center) * (x[channel, t + lag] - center)
                    counts[lag] += 1


@numba.njit(nogil=True)
def _filter(x, taps, before, out):
    num_samples, after = x.shape[1], len(taps) - 1 - before
    edge = np.empty(BLOCK + len(taps) - 1, dtype=np.float32)
    for channel in range(x.shape[0]):
        for start in range(0, num_samples, BLOCK):
            stop = min(start + BLOCK, num_samples)
            if start >= before and stop + after <= num_samples:
                _weighted_sums(x[channel, start - before : stop + after], taps, out[channel, start:stop])
            else:
                _mirror(x[channel], start - before, stop + after, edge)
                _weighted_sums(edge, taps, out[channel, start:stop])


@numba.njit(nogil=True)
def _mirror(x, start, stop, out):
    """Samples from start to stop of a trace that goes on mirrored about its first and last sample."""
    period = max(2 * (len(x) - 1), 1)
    for k in range(stop - start):
        place = (start + k) % period
        out[k] = x[min(place, period - place)]


@numba.njit(nogil=True)
def _weighted_sums(x, taps, total):
    """Eight taps at a time over some samples.

    Slices that begin at 0 let the compiler work on many samples at once; for each of them the order stays that of time.
    """
    size, num_taps = len(total), len(taps)
    whole = num_taps - num_taps % UNROLL
    for k in range(0, whole, UNROLL):
        v = x[k : k + size + UNROLL - 1]
        w0, w1, w2, w3 = taps[k], taps[k + 1], taps[k + 2], taps[k + 3]
        w4, w5, w6, w7 = taps[k + 4], taps[k + 5], taps[k + 6], taps[k + 7]
        for t in range(size):
            first = total[t] + w0 * v[t] + w1 * v[t + 1] + w2 * v[t + 2] + w3 * v[t + 3]
            total[t] = first + w4 * v[t + 4] + w5 * v[t + 5] + w6 * v[t + 6] + w7 * v[t + 7]
    for k in range(whole, num_taps):
        weight, v = taps[k], x[k : k + size]
        for t in range(size):
            total[t] += weight * v[t]
