"""From the raw samples of a chunk to what every scorer eats.

A conditioned trace points upwards at events, has no slow baseline, and is in units of its channel's noise. The baseline
comes from averages over short blocks that start at fixed frames of the recording, not of the chunk, so that a sample
has the same value, to the last bit, in whatever chunk it is read (if the chunk holds :func:`conditioning_reach` samples
around it). The median over blocks leaves events out as long as they fill less than half of the time.
"""

import numba
import numpy as np

from ..errors import InputError

__all__ = [
    "baseline_blocks",
    "condition_traces",
    "conditioning_reach",
    "reflect_ends",
    "reflected_indices",
    "traces_as_rows",
]


def baseline_blocks(sampling_frequency: float, baseline_ms: float = 75.0, block_ms: float = 4.8) -> tuple[int, int]:
    """Block length, and how many blocks on either side make the baseline.

    Parameters
    ----------
    sampling_frequency : float
        In Hz.
    baseline_ms : float, default: 75
        The baseline at a block is the median of the blocks at most this far away; what lasts longer than about this is
        baseline, not event.
    block_ms : float, default: 4.8
        Length of a block: 16 samples at 3,328 Hz.

    Returns
    -------
    block_size, half_blocks : int
        In samples (at least 1), and in blocks (at least 1).

    Raises
    ------
    InputError
        On a time or rate that is not positive.
    """
    if not (sampling_frequency > 0 and baseline_ms > 0 and block_ms > 0):
        raise InputError(
            f"sampling_frequency, baseline_ms and block_ms must be positive, got {sampling_frequency!r}, "
            f"{baseline_ms!r} and {block_ms!r}."
        )
    block_size = max(1, round(block_ms * sampling_frequency / 1000.0))
    return block_size, max(1, round(baseline_ms * sampling_frequency / 1000.0 / block_size))


def conditioning_reach(block_size: int, half_blocks: int) -> int:
    """Samples on either side of a sample that its conditioned value depends on.

    A sample lies between the centres of two blocks, each with `half_blocks` blocks around it.
    """
    return (half_blocks + 1) * block_size + block_size // 2


def condition_traces(
    traces: np.ndarray,
    first_frame: int,
    *,
    block_size: int,
    half_blocks: int,
    gains: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
    polarity: int = 1,
    noise_levels: np.ndarray | None = None,
) -> np.ndarray:
    """Conditioned traces of a chunk.

    Parameters
    ----------
    traces : array, shape (num_samples, num_channels)
        A chunk as SpikeInterface gives it, any real dtype.
    first_frame : int
        Frame of the segment that the first sample is; negative where margins reach before the segment.
    block_size, half_blocks : int
        Of the baseline, from :func:`baseline_blocks`.
    gains, offsets : array, shape (num_channels,), optional
        value = traces * gain + offset. Default: 1 and 0.
    polarity : int, default: 1
        1 when events go up, -1 when they go down.
    noise_levels : array, shape (num_channels,), optional
        From :func:`~si_neuroml.events.noise.noise_levels`. Default: 1.

    Returns
    -------
    float32 array, shape (num_channels, num_samples)
        Samples that are not finite are 0, as is all of a channel whose noise is 0 or not finite. Within
        :func:`conditioning_reach` of the ends of the chunk the baseline rests on fewer blocks.

    Raises
    ------
    InputError
        On traces that are not a two-dimensional array of real numbers, or parameters of another length.
    """
    values = traces_as_rows(traces)
    num_channels = len(values)
    if polarity not in (1, -1):
        raise InputError(f"polarity must be 1 or -1, got {polarity!r}.")
    if block_size < 1 or half_blocks < 1:
        raise InputError(f"block_size and half_blocks must be at least 1, got {block_size!r} and {half_blocks!r}.")
    gains = polarity * _per_channel("gains", gains, num_channels, 1.0)
    offsets = polarity * _per_channel("offsets", offsets, num_channels, 0.0)
    noise = _per_channel("noise_levels", noise_levels, num_channels, 1.0)
    usable = np.isfinite(noise) & (noise > 0)
    scales = np.where(usable, 1.0 / np.where(usable, noise, 1.0), 0.0)
    conditioned = np.empty(values.shape, dtype="float32")
    _condition(values, int(first_frame), int(block_size), int(half_blocks), gains, offsets, scales, conditioned)
    return conditioned


def reflected_indices(num_samples: int, start: int, stop: int) -> np.ndarray:
    """Which of `num_samples` samples stands at each position from `start` to `stop` when the ends are mirrors.

    The samples at the ends are not doubled: position -1 holds sample 1. The mirrors repeat as often as needed.
    """
    if num_samples < 1:
        raise InputError("An empty trace cannot be continued by reflection.")
    period = max(1, 2 * (num_samples - 1))
    positions = np.arange(start, stop) % period
    return np.minimum(positions, period - positions) if num_samples > 1 else np.zeros(stop - start, dtype="int64")


def reflect_ends(traces: np.ndarray, missing_left: int, missing_right: int) -> np.ndarray:
    """Replace what a chunk holds beyond the true ends of its segment by reflection.

    SpikeInterface fills margins there with zeros, which is a step, and so an event, in any trace with an offset.

    Parameters
    ----------
    traces : array, shape (num_samples, num_channels)
        A chunk with margins.
    missing_left, missing_right : int
        Samples at its start and end that lie outside the segment.

    Returns
    -------
    array, shape (num_samples, num_channels)
        The same array if nothing is missing, else a copy.

    Raises
    ------
    InputError
        If no true sample is left.
    """
    if missing_left <= 0 and missing_right <= 0:
        return traces
    left, right = max(0, missing_left), max(0, missing_right)
    num_true = len(traces) - left - right
    if num_true < 1:
        raise InputError(
            f"Of {len(traces)} samples {left} are missing at the start and {right} at the end; none is left to reflect."
        )
    return traces[left + reflected_indices(num_true, -left, num_true + right)]


def traces_as_rows(traces: np.ndarray) -> np.ndarray:
    """A chunk as float64 of shape (num_channels, num_samples): one kernel for all dtypes, exact for large offsets.

    Raises
    ------
    InputError
        On anything but a two-dimensional array of real numbers.
    """
    traces = np.asarray(traces)
    if traces.ndim != 2 or traces.dtype.kind not in "iufb":
        raise InputError(
            f"traces must be real numbers of shape (num_samples, num_channels), got {traces.dtype} of {traces.shape}."
        )
    return np.array(traces.T, dtype="float64", order="C")


def _per_channel(name, values, num_channels, default):
    if values is None:
        return np.full(num_channels, default)
    values = np.asarray(values, dtype="float64")
    if values.shape != (num_channels,):
        raise InputError(f"{name} must hold one number per channel ({num_channels}), got shape {values.shape}.")
    return values


@numba.njit(nogil=True)
def _condition(values, first_frame, block_size, half_blocks, gains, offsets, scales, conditioned):
    num_channels, num_samples = values.shape
    first_block = first_frame // block_size
    num_blocks = (first_frame + num_samples - 1) // block_size - first_block + 1 if num_samples else 0
    means, medians = np.empty(num_blocks), np.empty(num_blocks)
    for channel in range(num_channels):
        row = values[channel]
        for t in range(num_samples):
            row[t] = row[t] * gains[channel] + offsets[channel]
        _block_means(row, first_frame - first_block * block_size, block_size, means)
        _sliding_medians(means, half_blocks, medians)
        for t in range(num_samples):
            # twice the distance from the centre of block 0, so that it is a whole number
            position = 2 * (first_frame + t) - (block_size - 1)
            block = position // (2 * block_size)
            fraction = (position - 2 * block_size * block) / (2 * block_size)
            left = medians[max(block - first_block, 0)]
            right = medians[min(block - first_block + 1, num_blocks - 1)]
            value = (row[t] - (left + fraction * (right - left))) * scales[channel]
            conditioned[channel, t] = value if np.isfinite(value) else 0.0


@numba.njit(nogil=True)
def _block_means(row, phase, block_size, means):
    """Means over the finite samples of each block, NaN where there is none; `phase` samples of the first are absent."""
    for block in range(len(means)):
        # differences from one of the samples, so that a constant trace is its own baseline to the last bit
        origin, total, count = np.nan, 0.0, 0
        for t in range(max(block * block_size - phase, 0), min((block + 1) * block_size - phase, len(row))):
            if np.isfinite(row[t]):
                origin = row[t] if count == 0 else origin
                total += row[t] - origin
                count += 1
        means[block] = origin + total / max(count, 1)


@numba.njit(nogil=True)
def _sliding_medians(means, half, medians):
    """Medians of ``means[b - half : b + half + 1]`` without NaN, by keeping the window sorted."""
    window = np.empty(2 * half + 1)
    size = 0
    for entering in range(len(means) + half):
        leaving = entering - 2 * half - 1
        if leaving >= 0 and not np.isnan(means[leaving]):
            at = 0
            while window[at] < means[leaving]:
                at += 1
            size -= 1
            for k in range(at, size):
                window[k] = window[k + 1]
        if entering < len(means) and not np.isnan(means[entering]):
            at = size
            while at > 0 and window[at - 1] > means[entering]:
                window[at] = window[at - 1]
                at -= 1
            window[at] = means[entering]
            size += 1
        if entering >= half:
            medians[entering - half] = 0.5 * (window[(size - 1) // 2] + window[size // 2]) if size else np.nan
