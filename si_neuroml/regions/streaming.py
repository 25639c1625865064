"""PSTHs and features of a session straight from disk, in one pass and bounded memory.

Spikes may lie in an HDF5 dataset, a memory map or an array. They are read block by block, the next block while the
threads are at work on the one before; each block is gone through once, for the PSTH and for the statistics of the
trains together. Blocks of any size and any number of threads give the same arrays to the last bit.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from .psth import PsthCounter, PsthSettings, normalise_psth, response_limit
from .psth_features import psth_features
from .spike_train_features import SpikeTrainSettings, SpikeTrainStatistics
from .spike_trains import check_offsets, share_units

__all__ = ["BLOCK_SPIKES", "RegionArrays", "region_arrays"]

# 16 MB of float64; two of them are held at a time
BLOCK_SPIKES = 2**21


class RegionArrays(NamedTuple):
    """What a session's spikes say about their units.

    Attributes
    ----------
    features : float32 array, shape (num_units, num_features)
        The seven features of the PSTH where there are events, then those of the spike train; NaN where not defined.
    feature_names : tuple of str
    psth : float32 array, shape (num_units, num_bins), or None
        Normalised as the settings say; None without events.
    bin_edges_s : float64 array, shape (num_bins + 1,), or None
    psth_counts : int32 array, shape (num_units, num_bins), or None
        Spikes over all events.
    """

    features: np.ndarray
    feature_names: tuple[str, ...]
    psth: np.ndarray | None
    bin_edges_s: np.ndarray | None
    psth_counts: np.ndarray | None


def region_arrays(
    spikes: Any,
    offsets: np.ndarray,
    onsets_s: np.ndarray | None = None,
    *,
    psth_settings: PsthSettings | None = None,
    spike_train_settings: SpikeTrainSettings | None = None,
    boundaries_s: np.ndarray | None = None,
    duration_s: float | None = None,
    sampling_frequency: float | None = None,
    block_spikes: int = BLOCK_SPIKES,
    num_threads: int | None = None,
) -> RegionArrays:
    """PSTHs and features of all units of a session.

    Parameters
    ----------
    spikes : array, memory map or h5py dataset, shape (num_spikes,)
        Spike times in seconds, unit after unit, sorted within each unit. Only slices of it are read.
    offsets : int array, shape (num_units + 1,)
        Where the units begin and end in `spikes`; a part of a longer array of offsets reads that part of the spikes.
    onsets_s : array, shape (num_events,), optional
        Event onsets in seconds, sorted, on the same clock. Default, or when empty: no PSTH.
    psth_settings : PsthSettings, optional
        Default: -1.0 to 1.5 s in bins of 25 ms, z-scored to the part before the onset.
    spike_train_settings : SpikeTrainSettings, optional
    boundaries_s : array, optional
        Times at which a new segment begins. Default: one segment.
    duration_s : float, optional
        Length of the recording, all segments together. Default: from the first to the last spike of any unit.
    sampling_frequency : float, optional
        When given, `spikes` are samples and not seconds.
    block_spikes : int, default: 2097152
        Spikes read at a time; two such blocks are held, 8 bytes per spike.
    num_threads : int, optional
        Default: numba's (NUMBA_NUM_THREADS). Reading has a thread of its own.

    Returns
    -------
    RegionArrays

    Raises
    ------
    InputError
        When times are not finite or not sorted, or offsets, duration or settings do not fit.

    Warns
    -----
    UserWarning
        When windows overlap: the response then ends at the median interval between onsets; or when no spike of any
        unit lies near any event.
    """
    offsets = check_offsets(offsets, len(spikes))
    if block_spikes < 1:
        raise InputError(f"block_spikes must be at least 1, got {block_spikes}.")
    if sampling_frequency is not None and not 0 < sampling_frequency < np.inf:
        raise InputError(f"sampling_frequency must be finite and positive, got {sampling_frequency}.")
    num_units = len(offsets) - 1
    trains = SpikeTrainStatistics(num_units, spike_train_settings, boundaries_s=boundaries_s)
    counter = None
    if onsets_s is not None and len(onsets_s):
        counter = PsthCounter(num_units, onsets_s, psth_settings)
    for times, local, units in _blocks(spikes, offsets, block_spikes, sampling_frequency):
        _take_in(trains, counter, times, local, units, num_threads)
    features, names = trains.features(duration_s)
    if counter is None:
        return RegionArrays(features, names, None, None, None)
    counter.warn_if_empty(int(offsets[-1] - offsets[0]))
    settings, counts, num_events = counter.settings, counter.counts, len(counter.onsets_s)
    of_psth, psth_names = psth_features(
        counts, num_events, settings, response_stop_s=response_limit(counter.onsets_s, settings)
    )
    psth = normalise_psth(counts, num_events, settings)
    return RegionArrays(
        np.concatenate([of_psth, features], axis=1), psth_names + names, psth, settings.bin_edges_s, counts
    )


def _take_in(trains, counter, times, offsets, units, num_threads):
    """One block, for both at once while its spikes are near the processor."""
    trains.prepare(times, offsets, units)

    def work(first, last):
        # refuses what is not sorted, so that the counter need not look
        trains.consume(times, offsets, units, first, last)
        if counter is not None:
            counter.consume(times, offsets, units, first, last)

    share_units(work, offsets, num_threads)


def _blocks(spikes, offsets, block_spikes, sampling_frequency):
    """Times in s, the ends of the units' pieces in them, and the units; the next block is read meanwhile."""
    starts = range(int(offsets[0]), int(offsets[-1]), block_spikes)

    def read(start):
        block = np.asarray(spikes[start : min(start + block_spikes, int(offsets[-1]))])
        times = np.ascontiguousarray(block, dtype="float64")
        return times if sampling_frequency is None else times / sampling_frequency

    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(read, starts[0]) if len(starts) else None
        for k, start in enumerate(starts):
            times = pending.result()
            pending = reader.submit(read, starts[k + 1]) if k + 1 < len(starts) else None
            stop = start + len(times)
            first = int(np.searchsorted(offsets, start, side="right")) - 1
            last = int(np.searchsorted(offsets, stop, side="left"))
            yield times, np.clip(offsets[first : last + 1], start, stop) - start, np.arange(first, last)
