"""Action potentials of one current-clamp sweep: where they are and what shape they have.

A spike is a local maximum of the potential that stands out on both sides within 10 ms, is high enough, and was reached
fast. What counts are differences within a few milliseconds, so that a sweep that begins depolarised, small spikes of a
fast-spiking cell and a spike right after step onset are found alike. Times between samples are interpolated, so that
widths are not multiples of a sample.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

__all__ = ["SpikeShapes", "find_spikes", "measure_spikes"]

_BASE_S = 0.010
_UPSTROKE_S = 0.002
_REFRACTORY_S = 0.001
# the slope is taken over so long, whatever the sampling rate, so that noise at 50 kHz is not a spike
_SLOPE_S = 1e-4
# Allen Institute: threshold is where the slope reaches so large a share of its maximum
_THRESHOLD_SHARE = 0.05
_FAST_TROUGH_S = 0.005


@dataclass(frozen=True)
class SpikeShapes:
    """Measures of the spikes of a sweep, one entry per spike, NaN where not defined; times in seconds of the sweep.

    Attributes
    ----------
    peak_index : int64 array
        The sample of the peak.
    peak_s, peak_mv : float64 array
    threshold_s, threshold_mv : float64 array
        Where the slope first exceeds 5 % of its maximum for good.
    trough_s, trough_mv : float64 array
        The lowest potential before the next spike's threshold, or before the end of the step.
    fast_trough_s, fast_trough_mv : float64 array
        The same within 5 ms after the peak.
    width_ms : float64 array
        At half the height from threshold to peak.
    upstroke_mv_per_ms, downstroke_mv_per_ms : float64 array
        Largest and smallest slope; the second is negative.
    """

    peak_index: np.ndarray
    peak_s: np.ndarray
    peak_mv: np.ndarray
    threshold_s: np.ndarray
    threshold_mv: np.ndarray
    trough_s: np.ndarray
    trough_mv: np.ndarray
    fast_trough_s: np.ndarray
    fast_trough_mv: np.ndarray
    width_ms: np.ndarray
    upstroke_mv_per_ms: np.ndarray
    downstroke_mv_per_ms: np.ndarray

    def __len__(self):
        return len(self.peak_index)


def find_spikes(
    voltage_mv: np.ndarray,
    sampling_frequency: float,
    *,
    min_peak_mv: float = -30.0,
    min_prominence_mv: float = 10.0,
    min_upstroke_mv_per_ms: float = 5.0,
) -> np.ndarray:
    """Samples of the peaks of action potentials.

    Parameters
    ----------
    voltage_mv : array, shape (num_samples,)
        One sweep; not-finite samples are taken as lower than any spike.
    sampling_frequency : float
        In Hz.
    min_peak_mv : float, default: -30
        How high a peak must be.
    min_prominence_mv : float, default: 10
        How far the potential must lie below the peak on either side, within 10 ms.
    min_upstroke_mv_per_ms : float, default: 5
        The steepest rise in the 2 ms before the peak must reach this; at 4 kHz a spike's slope is smoothed.

    Returns
    -------
    int64 array, shape (num_spikes,)
        Rising.

    Raises
    ------
    InputError
        When the trace has more than one axis.
    """
    from scipy.signal import find_peaks

    voltage = np.asarray(voltage_mv, dtype="float64")
    if voltage.ndim != 1:
        raise InputError(f"The sweep has shape {voltage.shape}: give one trace, (num_samples,).")
    if len(voltage) < 3:
        return np.empty(0, dtype="int64")
    voltage = np.where(np.isfinite(voltage), voltage, -1e3)
    with warnings.catch_warnings():
        # small peaks that stand out by nothing are no spikes
        warnings.filterwarnings("ignore", "some peaks have a prominence of 0")
        peaks, _ = find_peaks(
            voltage,
            height=min_peak_mv,
            prominence=min_prominence_mv,
            wlen=2 * max(1, round(_BASE_S * sampling_frequency)) + 1,
            distance=max(1, round(_REFRACTORY_S * sampling_frequency)),
        )
    slope = _slope(voltage, sampling_frequency)
    reach = max(1, round(_UPSTROKE_S * sampling_frequency))
    fast = [slope[max(0, peak - reach) : peak].max(initial=-np.inf) >= min_upstroke_mv_per_ms for peak in peaks]
    return peaks[np.array(fast, dtype=bool)].astype("int64")


def measure_spikes(
    voltage_mv: np.ndarray,
    sampling_frequency: float,
    peaks: np.ndarray,
    *,
    start_s: float = 0.0,
    stop_s: float = np.inf,
) -> SpikeShapes:
    """Shapes of the spikes at ``peaks``.

    Parameters
    ----------
    voltage_mv : array, shape (num_samples,)
        The sweep.
    sampling_frequency : float
        In Hz.
    peaks : int array
        Of :func:`find_spikes`.
    start_s, stop_s : float
        Onset and offset of the step: thresholds are not sought before, troughs not after them. Default: the sweep.

    Returns
    -------
    SpikeShapes
    """
    voltage = np.asarray(voltage_mv, dtype="float64")
    slope = _slope(voltage, sampling_frequency)
    first = max(0, int(np.ceil(start_s * sampling_frequency - 1e-6)))
    last = int(min(len(voltage), np.floor(stop_s * sampling_frequency + 1e-6) if np.isfinite(stop_s) else np.inf))
    rows = []
    for k, peak in enumerate(peaks):
        begin = max(first, peak - round(_BASE_S * sampling_frequency))
        if k:
            begin = max(begin, peaks[k - 1] + int(np.argmin(voltage[peaks[k - 1] : peak])))
        end = peaks[k + 1] if k + 1 < len(peaks) else max(last, peak + 1)
        rows.append(_measure(voltage, slope, sampling_frequency, begin, int(peak), int(end)))
    columns = np.array(rows, dtype="float64").reshape(len(peaks), 11).T
    return SpikeShapes(np.asarray(peaks, dtype="int64"), *columns)


def _slope(voltage, sampling_frequency):
    """Slope in mV / ms between samples i and i + 1, averaged over 0.1 ms around."""
    steps = np.diff(voltage) * sampling_frequency / 1000
    size = round(_SLOPE_S * sampling_frequency)
    if size < 2 or size > len(steps):
        return steps
    return np.convolve(steps, np.full(size, 1 / size), mode="same")


def _measure(voltage, slope, rate, begin, peak, end):
    """One row of SpikeShapes but for the index."""
    begin = min(begin, peak - 1)
    steepest = begin + int(np.argmax(slope[begin:peak]))
    upstroke = slope[steepest]
    low = np.flatnonzero(slope[begin:steepest] < _THRESHOLD_SHARE * upstroke)
    threshold = float(begin)
    if len(low):
        i = begin + low[-1]
        # slopes belong to the middle between samples
        threshold = i + 0.5 + (_THRESHOLD_SHARE * upstroke - slope[i]) / (slope[i + 1] - slope[i])
    threshold_mv = float(np.interp(threshold, [int(threshold), int(threshold) + 1], voltage[int(threshold) :][:2]))
    trough = peak + int(np.argmin(voltage[peak:end]))
    fast_end = min(end, peak + round(_FAST_TROUGH_S * rate) + 1)
    fast = peak + int(np.argmin(voltage[peak:fast_end]))
    downstroke = slope[peak : max(trough, peak + 1)].min(initial=np.inf)
    width = _width(voltage, peak, threshold, (threshold_mv + voltage[peak]) / 2, end) / rate * 1000
    has_trough = trough > peak
    return (
        peak / rate,
        voltage[peak],
        threshold / rate,
        threshold_mv,
        trough / rate if has_trough else np.nan,
        voltage[trough] if has_trough else np.nan,
        fast / rate if has_trough else np.nan,
        voltage[fast] if has_trough else np.nan,
        width,
        upstroke,
        downstroke if np.isfinite(downstroke) and downstroke < 0 else np.nan,
    )


def _width(voltage, peak, threshold, level, end):
    """Samples between the crossings of ``level`` before and after the peak; NaN when it is not crossed."""
    before = np.flatnonzero(voltage[int(threshold) : peak] < level)
    after = np.flatnonzero(voltage[peak:end] < level)
    if not len(before) or not len(after):
        return np.nan
    i, j = int(threshold) + before[-1], peak + after[0]
    rise = i + (level - voltage[i]) / (voltage[i + 1] - voltage[i])
    fall = j - (level - voltage[j]) / (voltage[j - 1] - voltage[j])
    return fall - rise
