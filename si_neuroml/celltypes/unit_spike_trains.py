"""What a spike train tells of its neuron: intervals, an autocorrelogram for each firing rate, a scalogram in blocks.

A train is a sequence of arrays, the spikes of each segment in seconds from its first sample; nothing is counted from
one segment to another. All is in seconds, so that a train gives the same numbers at any sampling rate.

``log_isi``
    share of the inter-spike intervals in each bin of log(interval).
``acg_3d``
    the autocorrelogram in rows of the firing rate around the spike that lags are counted from (Beau et
    al., Cell 2025). The rate around a spike is 1 / interval, a step function of time, averaged over
    250 ms; spikes are ranked by it and cut into ten rows of equally many. Each number is the rate of
    spikes at this lag, before or after, over the mean rate of the unit: 1 for a Poisson process at
    lags beyond the 250 ms, and in the mean over rows at all lags. Of lags that reach over the end of a
    segment only the part inside is waited for.
``spike_scalogram``
    the real Mexican hat at 2 to 200 Hz in the L2 norm on blocks of 10 s of the binned train. Its mean
    square over the mean rate is the wavelet variance of a point process (Lowen and Teich, Fractal-
    Based Point Processes, 2005, chapter 5, who take the Haar wavelet): 1 for a Poisson process at all
    frequencies, above 1 where spikes cluster, below where they keep apart. A train has no stimulus
    onset to count time from, so that the parts of a block, 1 s each, are put in the order of their
    power: how much power, and how steady. Numbers are roots of means over blocks. Blocks lie so far
    from the ends of a segment that no wavelet reaches over them.
"""

from collections.abc import Sequence

import numba
import numpy as np

from ..errors import InputError
from .pooling import pool_scalogram
from .scalogram import scalogram
from .unit_settings import UnitStreamSettings
from .wavelets import frequency_to_scale

__all__ = ["acg_3d", "check_train", "local_firing_rate", "log_isi_histogram", "spike_scalogram"]

# Spikes lie on samples and bins end on whole milliseconds: what lies on an edge counts to the right, however times are
# rounded
EDGE_TOLERANCE_S = 1e-9
# beyond so many scales the Mexican hat is below 1e-4 of its height
NUM_SCALES = 5
BLOCKS_AT_ONCE = 4


def check_train(train: Sequence[np.ndarray], durations_s: Sequence[float]) -> list[np.ndarray]:
    """The segments of a train as float64 arrays, refused when they cannot be spikes of segments of these durations.

    Raises
    ------
    InputError
        When there is not one array per segment, or times are not finite, not sorted or outside their segment.
    """
    parts = [np.ascontiguousarray(part, dtype="float64") for part in train]
    if len(parts) != len(durations_s):
        raise InputError(f"The train has {len(parts)} segments, durations are given for {len(durations_s)}.")
    for k, (part, duration) in enumerate(zip(parts, durations_s, strict=True)):
        if part.ndim != 1 or not np.isfinite(part).all() or (np.diff(part) < 0).any():
            raise InputError(f"Spike times of segment {k} must be one list of finite, sorted times in seconds.")
        if not np.isfinite(duration) or (len(part) and not (part[0] >= 0 and part[-1] <= duration + EDGE_TOLERANCE_S)):
            span = f"{part[0]:g} to {part[-1]:g} s" if len(part) else "none"
            raise InputError(f"Segment {k} lasts {duration:g} s, its spikes are at {span}. Are times in seconds?")
    return parts


def log_isi_histogram(train: Sequence[np.ndarray], settings: UnitStreamSettings | None = None) -> np.ndarray:
    """Histogram of the logarithm of inter-spike intervals.

    Parameters
    ----------
    train : sequence of arrays
        Spike times of each segment in seconds, sorted.
    settings : UnitStreamSettings, optional

    Returns
    -------
    float32 array, shape (num_bins,)
        Shares, which sum to 1; NaN without an interval.
    """
    edges = (settings or UnitStreamSettings()).isi_edges_ms
    intervals = np.concatenate([np.diff(np.asarray(part, dtype="float64")) for part in train] or [np.zeros(0)])
    places = np.searchsorted(edges, 1000 * (intervals + EDGE_TOLERANCE_S), side="right") - 1
    counts = np.bincount(np.clip(places, 0, len(edges) - 2), minlength=len(edges) - 1)
    return (counts / len(intervals) if len(intervals) else np.full(len(counts), np.nan)).astype("float32")


def local_firing_rate(times_s: np.ndarray, window_s: float = 0.25) -> np.ndarray:
    """Firing rate around each spike: 1 / interval, averaged over a window that is centred on the spike.

    Parameters
    ----------
    times_s : array, shape (num_spikes,)
        In seconds, sorted, of one segment.
    window_s : float, default: 0.25
        What reaches beyond the first or last spike is not averaged over.

    Returns
    -------
    float64 array, shape (num_spikes,)
        In Hz; NaN for a single spike, infinite where all of the window is one instant.
    """
    times = np.asarray(times_s, dtype="float64")
    if len(times) < 2:
        return np.full(len(times), np.nan)
    # the integral of 1 / interval grows by 1 from spike to spike
    low, high = np.maximum(times - window_s / 2, times[0]), np.minimum(times + window_s / 2, times[-1])
    number = np.arange(len(times), dtype="float64")
    change = np.interp(high, times, number) - np.interp(low, times, number)
    return np.divide(change, high - low, out=np.full(len(times), np.inf), where=high > low)


def acg_3d(
    train: Sequence[np.ndarray], durations_s: Sequence[float], settings: UnitStreamSettings | None = None
) -> np.ndarray:
    """Autocorrelograms of the spikes in each tenth of the local firing rate; see the module.

    Parameters
    ----------
    train : sequence of arrays
        Spike times of each segment in seconds, sorted.
    durations_s : sequence of float
        Of the segments.
    settings : UnitStreamSettings, optional

    Returns
    -------
    float32 array, shape (num_firing_rate_quantiles, num_lags)
        Rate at each lag over the mean rate. NaN without two spikes in a segment, in rows without spikes (there are
        fewer than rows), and at lags longer than the segments.
    """
    settings, parts = settings or UnitStreamSettings(), check_train(train, durations_s)
    edges, num_rows = settings.acg_edges_ms / 1000, settings.num_firing_rate_quantiles
    counts, exposure = np.zeros((2, num_rows, len(edges) - 1))
    rates = [local_firing_rate(part, settings.firing_rate_window_ms / 1000) for part in parts]
    rows = _rank_rows(np.concatenate([*rates, np.zeros(0)]), num_rows)
    stops = np.cumsum([len(part) for part in parts])
    for part, own, duration in zip(parts, np.split(rows, stops[:-1]), durations_s, strict=True):
        if len(part) > 1:
            _count_pairs(part, own, float(duration), edges, counts, exposure)
    if not exposure.any():
        return np.full(counts.shape, np.nan, dtype="float32")
    mean_rate = len(rows) / sum(durations_s)
    out = np.divide(counts, exposure * mean_rate, out=np.full(counts.shape, np.nan), where=exposure > 1e-12)
    return out.astype("float32")


def spike_scalogram(
    train: Sequence[np.ndarray], durations_s: Sequence[float], settings: UnitStreamSettings | None = None
) -> np.ndarray:
    """Scalogram of a spike train in blocks; see the module.

    Parameters
    ----------
    train : sequence of arrays
        Spike times of each segment in seconds, sorted.
    durations_s : sequence of float
        Of the segments.
    settings : UnitStreamSettings, optional

    Returns
    -------
    float32 array, shape (num_frequencies, num_power_ranks)
        Root of the mean square over the mean rate. NaN without spikes, and where no segment holds a block.
    """
    settings, parts = settings or UnitStreamSettings(), check_train(train, durations_s)
    shape = settings.num_frequencies, settings.num_power_ranks
    num_spikes, bin_s = sum(map(len, parts)), settings.bin_ms / 1000
    margin = _margin(settings)
    size = round(settings.block_duration_s / bin_s)
    blocks = [
        (segment, margin + k * size)
        for segment, duration in enumerate(durations_s)
        for k in range(int((duration / bin_s - 2 * margin + 1e-6) // size))
    ]
    if not num_spikes or not blocks:
        return np.full(shape, np.nan, dtype="float32")
    if len(blocks) > settings.max_num_blocks:
        chosen = (np.arange(settings.max_num_blocks) + 0.5) * (len(blocks) / settings.max_num_blocks)
        blocks = [blocks[k] for k in chosen.astype(int)]
    bins = [((part + EDGE_TOLERANCE_S) / bin_s).astype("int64") for part in parts]
    total = np.zeros(shape)
    for first in range(0, len(blocks), BLOCKS_AT_ONCE):
        some = blocks[first : first + BLOCKS_AT_ONCE]
        traces = np.stack([_counts(bins[segment], start - margin, size + 2 * margin) for segment, start in some])
        coefficients = scalogram(
            traces / bin_s, 1 / bin_s, frequencies=settings.frequencies_hz, normalization="L2", padding="zero"
        )
        power = pool_scalogram(coefficients[..., margin : margin + size] ** 2, shape, "mean")
        total += np.sort(power, axis=-1).sum(axis=0)
    return np.sqrt(total / len(blocks) * sum(durations_s) / num_spikes).astype("float32")


def _margin(settings):
    """Bins that the widest wavelet reaches to either side."""
    scale_s = frequency_to_scale(settings.freq_min, normalization="L2")
    return int(np.ceil(NUM_SCALES * float(scale_s) / (settings.bin_ms / 1000)))


def _counts(bins, first, number):
    low, high = np.searchsorted(bins, [first, first + number])
    return np.bincount(bins[low:high] - first, minlength=number).astype("float32")


def _rank_rows(rates, num_rows):
    """Row of each spike: spikes in the order of their rates, cut into rows of equally many; equal rates by time."""
    # spikes that are alone in their segment have no rate, and start no lag
    known = np.flatnonzero(~np.isnan(rates))
    rows = np.zeros(len(rates), dtype="int64")
    # rounded, so that equal rates stay equal whatever the sampling rate
    order = known[np.argsort(np.round(rates[known], 6), kind="stable")]
    rows[order] = np.arange(len(order)) * num_rows // max(len(order), 1)
    return rows


@numba.njit(nogil=True)
def _count_pairs(times, rows, duration, edges, counts, exposure):
    """Add the pairs of one segment to the rows of both spikes, and the time in which there could have been any."""
    num_bins, longest = len(edges) - 1, edges[-1]
    num_inside = np.zeros(len(counts))
    for i in range(len(times)):
        t, row = times[i], rows[i]
        after = duration - t
        if t >= longest and after >= longest:
            num_inside[row] += 1
        else:
            for b in range(num_bins):
                for reach in (t, after):
                    exposure[row, b] += max(min(edges[b + 1], reach) - edges[b], 0.0)
        b = 0
        for j in range(i + 1, len(times)):
            lag = times[j] - t + EDGE_TOLERANCE_S
            if lag >= longest:
                break
            while lag >= edges[b + 1]:
                b += 1
            counts[row, b] += 1
            counts[rows[j], b] += 1
    for row in range(len(counts)):
        for b in range(num_bins):
            exposure[row, b] += 2.0 * num_inside[row] * (edges[b + 1] - edges[b])
