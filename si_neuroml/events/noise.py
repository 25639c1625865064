"""What conditioning has to be told about a recording: noise, polarity, and samples that cannot be used."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .conditioning import condition_traces, traces_as_rows

__all__ = ["Polarity", "TraceFaults", "guess_polarity", "noise_levels", "trace_faults"]

# the median absolute deviation of Gaussian noise is this share of its sd
MAD_PER_SD = 0.6744897501960817
# samples further above the centre than this many sd are events, not noise; Gaussian noise loses 0.1 % of its samples
CLIP_SD = 3.0
# rounds of clipping, after which the estimate has stopped moving even with events in every fourth sample
CLIP_ROUNDS = 6
# so that memory does not grow with the number of channels
CHANNELS_AT_ONCE = 8
# one artefact must not decide the polarity of a recording
SKEWNESS_CLIP_SD = 15.0


class TraceFaults(NamedTuple):
    """What is wrong with a stretch of traces.

    Attributes
    ----------
    num_not_finite : int64 array, shape (num_channels,)
        Samples that are NaN or infinite.
    constant : bool array, shape (num_channels,)
        Channels whose finite samples are all equal, or that have none.
    num_samples : int
        Samples looked at.
    """

    num_not_finite: np.ndarray
    constant: np.ndarray
    num_samples: int


class Polarity(NamedTuple):
    """Which way events point.

    Attributes
    ----------
    sign : int
        1 upwards, -1 downwards.
    z : float
        Third moment of neighbouring samples in units of its standard error, from 0; below about 3 the traces do not
        say.
    """

    sign: int
    z: float


def noise_levels(
    chunks: Sequence[np.ndarray],
    *,
    block_size: int,
    half_blocks: int,
    gains: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
    polarity: int = 1,
) -> np.ndarray:
    """Standard deviation of each channel's noise, from the side away from events.

    The centre and the median distance of the samples below it are found again and again while samples far above the
    centre are left out. With large events in 2, 14 and 23 % of all samples the result is 1, 9 and 16 % too large, the
    median absolute deviation of all samples 3, 24 and 47 %. Differences of neighbouring samples do as well as this in
    white noise, but see half of a noise whose neighbours correlate by 0.7.

    Parameters
    ----------
    chunks : sequence of array, shape (num_samples, num_channels)
        Some chunks of the recording, any length.
    block_size, half_blocks, gains, offsets, polarity
        As for :func:`~si_neuroml.events.conditioning.condition_traces`.

    Returns
    -------
    float64 array, shape (num_channels,)
        In the unit of traces * gain; 0 for a channel that is constant or never finite.

    Raises
    ------
    InputError
        On no chunks, or as `condition_traces`.
    """
    if not len(chunks):
        raise InputError("Noise levels need at least one chunk of traces, got none.")
    options = {"block_size": block_size, "half_blocks": half_blocks, "polarity": polarity}
    num_channels, levels = chunks[0].shape[1], []
    for first in range(0, num_channels, CHANNELS_AT_ONCE):
        own = slice(first, first + CHANNELS_AT_ONCE)
        scale = {"gains": None if gains is None else np.asarray(gains)[own]}
        scale |= {"offsets": None if offsets is None else np.asarray(offsets)[own]}
        parts = [condition_traces(chunk[:, own], 0, **options, **scale) for chunk in chunks]
        finite = [np.isfinite(chunk[:, own]).T for chunk in chunks]
        pooled, usable = np.concatenate(parts, axis=1), np.concatenate(finite, axis=1)
        levels += [_lower_sd(row[keep].astype("float64")) for row, keep in zip(pooled, usable, strict=True)]
    return np.array(levels)


def guess_polarity(x: np.ndarray, *, block_size: int = 512) -> Polarity:
    """Whether events point upwards, from the joint skewness of neighbouring samples of conditioned traces.

    Events are on one side of the baseline and last several samples: of neighbours x and y, the mean of xy (x + y) / 2
    has their sign. That of white noise is 0 even where it is skewed itself, as the few photons of dim traces are. What
    is slower and on one side, such as movement that always darkens, is taken for events.

    Parameters
    ----------
    x : float32 array, shape (num_channels, num_samples)
        From :func:`~si_neuroml.events.conditioning.condition_traces` with ``polarity=1`` and noise levels.
    block_size : int, default: 512
        The standard error comes from the moments of stretches of so many samples.

    Returns
    -------
    Polarity

    Raises
    ------
    InputError
        On traces shorter than two stretches.
    """
    num_blocks = x.shape[1] // block_size
    if num_blocks < 2:
        raise InputError(f"The polarity needs at least {2 * block_size} samples of traces, got {x.shape[1]}.")
    groups = range(0, len(x), CHANNELS_AT_ONCE)
    moments = np.concatenate(
        [_joint_moments(x[k : k + CHANNELS_AT_ONCE, : num_blocks * block_size], block_size) for k in groups]
    )
    error = moments.std(ddof=1) / np.sqrt(len(moments))
    return Polarity(1 if moments.mean() >= 0 else -1, float(abs(moments.mean()) / error) if error > 0 else 0.0)


def _joint_moments(x, block_size):
    clipped = np.clip(x, -SKEWNESS_CLIP_SD, SKEWNESS_CLIP_SD).astype("float64")
    # the baseline is a median: the mean of skewed noise lies beside it, and would bring its skewness back
    blocks = (clipped - clipped.mean(axis=1, keepdims=True)).reshape(-1, block_size)
    earlier, later = blocks[:, :-1], blocks[:, 1:]
    return (0.5 * earlier * later * (earlier + later)).mean(axis=1)


def trace_faults(traces: np.ndarray) -> TraceFaults:
    """Samples that are not finite, and constant channels.

    Parameters
    ----------
    traces : array, shape (num_samples, num_channels)
        Any real dtype.

    Returns
    -------
    TraceFaults
    """
    values = traces_as_rows(traces)
    finite = np.isfinite(values)
    high = np.where(finite, values, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(finite, values, np.inf).min(axis=1, initial=np.inf)
    return TraceFaults((~finite).sum(axis=1), ~(high > low), values.shape[1])


def _lower_sd(values):
    """Noise sd of values whose upper side may hold events."""
    kept, sd = values, 0.0
    for _ in range(CLIP_ROUNDS if len(values) else 0):
        center = np.median(kept)
        sd = np.median(center - kept[kept <= center]) / MAD_PER_SD
        kept = values[values <= center + CLIP_SD * sd]
    return float(sd)
