"""From spikes to encoder rows: one row per spike, or several when its centre channel is in doubt.

Amplitude jitter (Hurwitz et al. 2019, section 3.5): every channel whose trough lies within J of the largest could be
the centre; each gives one row, and the estimates are averaged.
"""

from typing import NamedTuple

import numpy as np

from .geometry import LocalGeometry
from .patches import energy_amplitudes, extract_patches, positive_peaks, trough_amplitudes

__all__ = ["SpikeRows", "WindowSamples", "spike_rows"]

# the trough of the centre channel is sought this close to the spike, the others' minimum this close to that trough
SEARCH_MS = 0.25
HALF_WINDOW_MS = 5 / 32
# the energy counts from the trough on for this long
AFTER_TROUGH_MS = 0.35


class WindowSamples(NamedTuple):
    """A window in samples: before and after the spike, the search for the trough, and what counts as amplitude."""

    nbefore: int
    nafter: int
    search: int
    half_window: int
    after_trough: int

    @classmethod
    def from_ms(cls, ms_before: float, ms_after: float, sampling_frequency: float) -> "WindowSamples":
        """Milliseconds to samples, at least one of each."""

        def samples(milliseconds):
            return max(1, round(milliseconds * sampling_frequency / 1000.0))

        return cls(*map(samples, (ms_before, ms_after, SEARCH_MS, HALF_WINDOW_MS, AFTER_TROUGH_MS)))


class SpikeRows(NamedTuple):
    """Rows for the encoder, those of one spike behind each other.

    Attributes
    ----------
    patches : float32 array, shape (num_rows, num_slots, num_samples + 1)
        Waveforms in uV with the flag ``observed``.
    amplitudes : float32 array, shape (num_rows, num_slots)
        Amplitudes in uV, by the chosen feature.
    centers : int array, shape (num_rows,)
        Centre channel of each row.
    counts : int array, shape (num_spikes,)
        Rows of each spike, at least 1.
    """

    patches: np.ndarray
    amplitudes: np.ndarray
    centers: np.ndarray
    counts: np.ndarray


def spike_rows(
    traces: np.ndarray,
    sample_indices: np.ndarray,
    channel_indices: np.ndarray,
    geometry: LocalGeometry,
    window: WindowSamples,
    *,
    peak_sign: str = "neg",
    amplitude_feature: str = "trough",
    amplitude_jitter_uv: float = 0.0,
    max_centers: int = 9,
    **patch_kwargs,
) -> SpikeRows:
    """Patches and amplitudes of spikes, around one or several centre channels.

    Parameters
    ----------
    traces, sample_indices, channel_indices, geometry
        As for :func:`~si_neuroml.localization.patches.extract_patches`, with its `patch_kwargs`.
    window : WindowSamples
        Window in samples.
    peak_sign : "neg" | "pos" | "both", default: "neg"
        Which spikes are turned upside down, see the settings.
    amplitude_feature : "trough" | "energy", default: "trough"
        What counts as the amplitude of a channel, see the settings.
    amplitude_jitter_uv : float, default: 0.0
        J in uV; 0: the given centre channel only.
    max_centers : int, default: 9
        At most this many rows per spike.

    Returns
    -------
    SpikeRows
    """
    center_slot = int(np.abs(geometry.slot_offsets).sum(axis=1).argmin())

    def cut(samples, channels, upside_down=None):
        patches = extract_patches(
            traces, samples, channels, geometry, nbefore=window.nbefore, nafter=window.nafter, **patch_kwargs
        )
        if upside_down is None:
            upside_down = _upside_down(patches, window, center_slot, peak_sign)
        if upside_down.any():
            patches[upside_down, :, :-1] *= -1.0
        amplitudes = trough_amplitudes(
            patches, window.nbefore, center_slot=center_slot, search=window.search, half_window=window.half_window
        )
        if amplitude_feature == "energy":
            amplitudes = energy_amplitudes(
                patches,
                amplitudes,
                window.nbefore,
                center_slot=center_slot,
                search=window.search,
                after=window.after_trough,
            )
        return patches, amplitudes, upside_down

    patches, amplitudes, upside_down = cut(sample_indices, channel_indices)
    counts = np.ones(len(sample_indices), dtype="int64")
    if amplitude_jitter_uv <= 0:
        return SpikeRows(patches, amplitudes, np.asarray(channel_indices), counts)
    spike, slot = _candidate_centers(amplitudes, patches[:, :, -1] > 0, center_slot, amplitude_jitter_uv, max_centers)
    centers = geometry.neighbours[np.asarray(channel_indices)[spike], slot]
    patches, amplitudes, _ = cut(np.asarray(sample_indices)[spike], centers, upside_down[spike])
    counts = np.bincount(spike, minlength=len(sample_indices))
    return SpikeRows(patches, amplitudes, centers, counts)


def _upside_down(patches, window, center_slot, peak_sign):
    if peak_sign == "both":
        return positive_peaks(patches, window.nbefore, center_slot=center_slot, search=window.search)
    return np.full(len(patches), peak_sign == "pos")


def _candidate_centers(amplitudes, observed, center_slot, jitter_uv, max_centers):
    """(spike, slot) of every centre to try: within the jitter of the largest, the largest first, at least one each."""
    candidates = observed & (amplitudes >= amplitudes.max(axis=1, keepdims=True) - jitter_uv)
    # the order by size breaks ties by slot, so that it does not depend on anything outside the spike
    rank = np.argsort(np.argsort(-amplitudes, axis=1, kind="stable"), axis=1, kind="stable")
    crowded = candidates.sum(axis=1) > max_centers
    candidates[crowded] &= rank[crowded] < max_centers
    nothing_observed = ~candidates.any(axis=1)
    candidates[nothing_observed, center_slot] = True
    return np.nonzero(candidates)
