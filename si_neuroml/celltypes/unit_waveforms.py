"""The waveform of a unit: aligned to its largest deflection, resampled, of height 1, and its scalogram."""

import numpy as np

from ..errors import InputError
from .pooling import pool_scalogram
from .scalogram import scalogram
from .unit_settings import UnitStreamSettings

__all__ = ["aligned_waveforms", "best_channel_waveforms", "waveform_scalograms"]

# steps per sample in which the largest deflection is looked for
STEPS = 20


def best_channel_waveforms(templates: np.ndarray) -> np.ndarray:
    """Of each template the channel with the largest difference between its peaks.

    Parameters
    ----------
    templates : array, shape (num_units, num_samples, num_channels)

    Returns
    -------
    array, shape (num_units, num_samples)
    """
    heights = np.nan_to_num(np.ptp(templates, axis=1), nan=-1.0)
    return templates[np.arange(len(templates)), :, heights.argmax(axis=1)]


def aligned_waveforms(
    waveforms: np.ndarray, sampling_frequency: float, settings: UnitStreamSettings | None = None
) -> np.ndarray:
    """Waveforms on a common axis of time, whatever they were sampled and cut with.

    Time 0 is the largest deflection, up or down, of the cubic spline through the samples; the waveform is divided by
    its height there, the sign stays. Where a waveform ends before the window does, its last value goes on.

    Parameters
    ----------
    waveforms : array, shape (num_units, num_samples)
        On one channel, for example in uV.
    sampling_frequency : float
        In Hz.
    settings : UnitStreamSettings, optional

    Returns
    -------
    float32 array, shape (num_units, num_times)
        NaN for units whose waveform is 0 or not finite.

    Raises
    ------
    InputError
        When waveforms are shorter than the window.
    """
    from scipy.interpolate import CubicSpline

    settings, waveforms = settings or UnitStreamSettings(), np.asarray(waveforms, dtype="float64")
    if waveforms.ndim != 2 or not sampling_frequency > 0:
        raise InputError(f"Waveforms must have shape (num_units, num_samples), got {waveforms.shape}.")
    lasts_ms = 1000 * (waveforms.shape[1] - 1) / sampling_frequency
    at_ms = settings.waveform_times_ms
    # one sample less: a window of 3 ms at 30 kHz is 90 samples, of which the last is at 2.97 ms
    if lasts_ms + 1000 / sampling_frequency < np.ptp(at_ms) - 1e-9 or waveforms.shape[1] < 4:
        raise InputError(
            f"Waveforms last {lasts_ms:.2f} ms, {settings.ms_before:g} ms before and {settings.ms_after:g} ms after "
            "the peak are asked for: compute longer templates, or give shorter ms_before and ms_after."
        )
    out = np.full((len(waveforms), len(at_ms)), np.nan, dtype="float32")
    known = np.isfinite(waveforms).all(axis=1) & (np.abs(waveforms).max(axis=1, initial=0) > 0)
    if not known.any():
        return out
    samples = np.arange(waveforms.shape[1], dtype="float64")
    fine = np.linspace(0, samples[-1], (len(samples) - 1) * STEPS + 1)
    for row in np.flatnonzero(known):
        spline = CubicSpline(samples, waveforms[row])
        values = spline(fine)
        peak = np.abs(values).argmax()
        at = np.clip(fine[peak] + at_ms * sampling_frequency / 1000, 0, samples[-1])
        out[row] = spline(at) / abs(values[peak])
    return out


def waveform_scalograms(waveforms: np.ndarray, settings: UnitStreamSettings | None = None) -> np.ndarray:
    """Scalograms of aligned waveforms: magnitude of the Mexican hat in the L1 norm, pooled over time.

    Parameters
    ----------
    waveforms : array, shape (num_units, num_times)
        From :func:`aligned_waveforms` with the same settings.
    settings : UnitStreamSettings, optional

    Returns
    -------
    float32 array, shape (num_units, num_waveform_frequencies, num_waveform_columns)
        NaN where the waveform is.
    """
    settings = settings or UnitStreamSettings()
    shape = settings.num_waveform_frequencies, settings.num_waveform_columns
    out = np.full((len(waveforms), *shape), np.nan, dtype="float32")
    known = np.isfinite(waveforms).all(axis=1)
    if known.any():
        coefficients = scalogram(
            waveforms[known], settings.waveform_sampling_frequency, frequencies=settings.waveform_frequencies_hz
        )
        out[known] = pool_scalogram(coefficients, shape, "mean")
    return out
