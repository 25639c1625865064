"""Cut the local waveforms of every spike straight out of a chunk of traces.

SpikeInterface's localization pipeline cuts dense waveforms (all channels of every spike: 1 MB per spike on 4,096
channels). The kernel here reads only the channels in the box around each spike's centre channel, applies gain and
offset on the way, and writes the array the network eats, so that memory follows the number of spikes in the chunk and
not the number of channels.

A *patch* is a float32 array of shape (num_slots, num_samples + 1): the waveform of each slot in uV, and behind it the
flag ``observed`` (1 where the slot holds a usable channel, else 0 and the waveform is 0). This is the input layout of
Hurwitz et al. (2019), supplementary code: the indicator as one more sample.
"""

import numba
import numpy as np

from .geometry import LocalGeometry

__all__ = ["energy_amplitudes", "extract_patches", "positive_peaks", "trough_amplitudes"]


def extract_patches(
    traces: np.ndarray,
    sample_indices: np.ndarray,
    channel_indices: np.ndarray,
    geometry: LocalGeometry,
    *,
    nbefore: int,
    nafter: int,
    gains: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
    valid_range: tuple[int, int] | None = None,
) -> np.ndarray:
    """Local waveforms of spikes, in uV, with the flag of observed channels.

    Parameters
    ----------
    traces : array, shape (num_frames, num_channels)
        A chunk of traces, any real dtype.
    sample_indices : int array, shape (num_spikes,)
        Frame of each spike in the chunk. Frames outside the chunk read as 0 uV.
    channel_indices : int array, shape (num_spikes,)
        Centre channel of each spike.
    geometry : LocalGeometry
        Slots around every channel.
    nbefore, nafter : int
        Samples before and after the spike; the window is [sample - nbefore, sample + nafter).
    gains, offsets : array, shape (num_channels,), optional
        uV = traces * gain + offset. Default: 1 and 0.
    valid_range : (int, int), optional
        First and one past the last frame of the chunk that belong to the recording; what lies outside (zeros that
        SpikeInterface adds at the ends of a segment) reads as 0 uV whatever the offset. Default: the whole chunk.

    Returns
    -------
    float32 array, shape (num_spikes, num_slots, nbefore + nafter + 1)
        A channel with a value that is not finite inside the window counts as not observed.
    """
    if not traces.dtype.isnative or traces.dtype == np.float16:
        # numba knows neither
        traces = traces.astype(np.promote_types(traces.dtype, "float32").newbyteorder("="))
    num_channels = traces.shape[1]
    gains = np.ones(num_channels, "float32") if gains is None else np.asarray(gains, "float32")
    offsets = np.zeros(num_channels, "float32") if offsets is None else np.asarray(offsets, "float32")
    first, last = (0, len(traces)) if valid_range is None else valid_range
    first, last = max(0, first), min(len(traces), last)
    patches = np.zeros((len(sample_indices), geometry.num_slots, nbefore + nafter + 1), dtype="float32")
    _gather(
        traces,
        np.ascontiguousarray(sample_indices, dtype="int64"),
        np.ascontiguousarray(channel_indices, dtype="int64"),
        geometry.neighbours,
        gains,
        offsets,
        first,
        last,
        nbefore,
        patches,
    )
    return patches


def positive_peaks(patches: np.ndarray, nbefore: int, *, center_slot: int, search: int) -> np.ndarray:
    """Which spikes point upwards on their centre channel.

    Parameters
    ----------
    patches : float32 array, shape (num_spikes, num_slots, num_samples + 1)
        Patches as from :func:`extract_patches`.
    nbefore : int
        Sample of the spike inside the patch.
    center_slot : int
        The slot of the centre channel.
    search : int
        Samples on either side of the spike that are looked at.

    Returns
    -------
    bool array, shape (num_spikes,)
        True where the largest value exceeds minus the smallest one.
    """
    near = patches[:, center_slot, max(nbefore - search, 0) : min(nbefore + search + 1, patches.shape[2] - 1)]
    return near.max(axis=1) > -near.min(axis=1)


def trough_amplitudes(
    patches: np.ndarray, nbefore: int, *, center_slot: int | np.ndarray, search: int, half_window: int
) -> np.ndarray:
    """Depth of the trough on every slot, near the trough of the centre channel.

    Parameters
    ----------
    patches : float32 array, shape (num_spikes, num_slots, num_samples + 1)
        Patches as from :func:`extract_patches`.
    nbefore : int
        Sample of the spike inside the patch.
    center_slot : int
        The slot of the centre channel.
    search : int
        The centre channel's trough is sought within this many samples of the spike.
    half_window : int
        The other channels' minimum is taken from this many samples before the trough up to, and not including, as many
        after it (5 in the code of Hurwitz et al., at 32 kHz).

    Returns
    -------
    float32 array, shape (num_spikes, num_slots)
        Minus the minimum, in uV, at least 0; 0 where nothing is observed.
    """
    amplitudes = np.zeros(patches.shape[:2], dtype="float32")
    _troughs(patches, nbefore, center_slot, search, half_window, amplitudes)
    return amplitudes


def energy_amplitudes(
    patches: np.ndarray, troughs: np.ndarray, nbefore: int, *, center_slot: int, search: int, after: int
) -> np.ndarray:
    """Root mean square of every waveform from the centre channel's trough on, in units of the largest trough.

    The trough of a spike is made where it begins, at the axon's initial segment; the soma follows a tenth of a
    millisecond later. What comes after the trough therefore points to the soma, and a mean over some samples is
    less at the mercy of noise than one.

    Parameters
    ----------
    patches : float32 array, shape (num_spikes, num_slots, num_samples + 1)
        Patches as from :func:`extract_patches`.
    troughs : float32 array, shape (num_spikes, num_slots)
        As from :func:`trough_amplitudes`.
    nbefore, center_slot, search
        As there.
    after : int
        Samples from the trough on, as far as the patch holds them.

    Returns
    -------
    float32 array, shape (num_spikes, num_slots)
        Energies scaled per spike so that their largest is the largest trough, in uV; 0 where nothing is observed.
    """
    amplitudes = np.zeros(patches.shape[:2], dtype="float32")
    _energies(patches, troughs, nbefore, center_slot, search, after, amplitudes)
    return amplitudes


@numba.njit(nogil=True)
def _gather(traces, samples, channels, neighbours, gains, offsets, first, last, nbefore, patches):
    num_samples = patches.shape[2] - 1
    for spike in range(patches.shape[0]):
        start = samples[spike] - nbefore
        lo = min(max(first - start, 0), num_samples)
        hi = max(min(last - start, num_samples), lo)
        local = neighbours[channels[spike]]
        # frames outside, slots inside: one row of traces is read once, the patch itself stays in cache
        for k in range(lo, hi):
            for slot in range(patches.shape[1]):
                channel = local[slot]
                if channel >= 0:
                    patches[spike, slot, k] = np.float32(traces[start + k, channel]) * gains[channel] + offsets[channel]
        for slot in range(patches.shape[1]):
            finite = local[slot] >= 0
            for k in range(lo, hi):
                finite &= np.isfinite(patches[spike, slot, k])
            if finite:
                patches[spike, slot, num_samples] = 1.0
            else:
                patches[spike, slot, :] = 0.0


@numba.njit(nogil=True)
def _trough_sample(patch, nbefore, center_slot, search):
    """Sample of the centre channel's trough near the spike; the spike's own where that channel is not observed."""
    num_samples = patch.shape[1] - 1
    trough = nbefore
    if patch[center_slot, num_samples] > 0:
        for k in range(max(nbefore - search, 0), min(nbefore + search + 1, num_samples)):
            if patch[center_slot, k] < patch[center_slot, trough]:
                trough = k
    return trough


@numba.njit(nogil=True)
def _troughs(patches, nbefore, center_slot, search, half_window, amplitudes):
    num_samples = patches.shape[2] - 1
    for spike in range(patches.shape[0]):
        trough = _trough_sample(patches[spike], nbefore, center_slot, search)
        lo, hi = max(trough - half_window, 0), min(trough + half_window, num_samples)
        for slot in range(patches.shape[1]):
            lowest = np.float32(0.0)
            if patches[spike, slot, num_samples] > 0:
                for k in range(lo, hi):
                    lowest = min(lowest, patches[spike, slot, k])
            amplitudes[spike, slot] = -lowest


@numba.njit(nogil=True)
def _energies(patches, troughs, nbefore, center_slot, search, after, amplitudes):
    num_samples = patches.shape[2] - 1
    for spike in range(patches.shape[0]):
        trough = _trough_sample(patches[spike], nbefore, center_slot, search)
        largest_energy, largest_trough = 0.0, 0.0
        for slot in range(patches.shape[1]):
            squares = 0.0
            for k in range(trough, min(trough + after, num_samples)):
                squares += patches[spike, slot, k] ** 2
            amplitudes[spike, slot] = np.sqrt(squares)
            largest_energy = max(largest_energy, amplitudes[spike, slot])
            largest_trough = max(largest_trough, troughs[spike, slot])
        scale = largest_trough / largest_energy if largest_energy > 0 else 0.0
        for slot in range(patches.shape[1]):
            amplitudes[spike, slot] *= scale
