"""Electrophysiological (EP) features of a cell, as a vector: the baseline next to the scalogram.

Times are relative to step onset or to a spike, never to the beginning of the sweep: laboratories start their steps at
different times, and a classifier finds that. NaN where a feature is not defined.

The first spike, at rheobase (``first_*``): potential at threshold, peak, trough (lowest before the next spike or the
end of the step) and fast trough (within 5 ms), their times after onset, height, width at half height, ratio of the
largest to the smallest slope, and the times from threshold to peak and from peak to troughs.

The train of both sweeps (``rheobase_*``, ``plus_*``; d is the duration of the step, ISIs those within it):

latency_s        time of the first threshold after onset
rate_hz          spikes / d
mean_isi_s       mean ISI
isi_cv           their standard deviation / mean; three ISIs or more
adaptation       mean of (b - a) / (b + a) over successive ISIs a, b
has_burst        1 if the train begins with an ISI of at most 15 ms that is less than half the next, or the only one
has_pause        1 if an ISI is longer than three times either neighbour; three ISIs or more
has_delay        1 if the latency is longer than the mean ISI

The family: ``rheobase_pa``, ``fi_slope_hz_per_pa`` (line through rates of firing, unblocked sweeps), ``rest_mv``,
``input_resistance_mohm`` (line through settled deflections of silent sweeps, hyperpolarising ones where there are two),
``sag`` ((peak - settled) / peak deflection of the most negative step, if beyond 5 mV), ``tau_ms`` (time to 63 % of the
settled deflection, median over hyperpolarising steps), ``width_change`` (last spike over first, in the second sweep).
"""

import numpy as np

from .spikes import SpikeShapes, measure_spikes
from .sweep_selection import RheobasePair, SweepFiring, select_rheobase_sweeps, sweep_firing
from .sweeps import CellSweeps

__all__ = ["EP_FEATURE_NAMES", "ep_features"]

_FIRST = (
    "first_threshold_mv",
    "first_threshold_s",
    "first_peak_mv",
    "first_peak_s",
    "first_trough_mv",
    "first_trough_s",
    "first_fast_trough_mv",
    "first_fast_trough_s",
    "first_height_mv",
    "first_width_ms",
    "first_upstroke_downstroke_ratio",
    "first_threshold_to_peak_s",
    "first_peak_to_trough_s",
    "first_peak_to_fast_trough_s",
)
_TRAIN = ("latency_s", "rate_hz", "mean_isi_s", "isi_cv", "adaptation", "has_burst", "has_pause", "has_delay")
_FAMILY = ("rheobase_pa", "fi_slope_hz_per_pa", "rest_mv", "input_resistance_mohm", "sag", "tau_ms", "width_change")
EP_FEATURE_NAMES = (
    *_FIRST,
    *(f"rheobase_{name}" for name in _TRAIN),
    *(f"plus_{name}" for name in _TRAIN),
    *_FAMILY,
)
_BURST_ISI_S, _PAUSE_RATIO = 0.015, 3.0
_SAG_MV, _DEFLECTION_MV = 5.0, 2.0


def ep_features(cell: CellSweeps, pair: RheobasePair | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features of one cell as the module describes them.

    Parameters
    ----------
    cell : CellSweeps
        All sweeps, at the rate they were recorded with: widths and slopes need it.
    pair : RheobasePair, optional
        Its two sweeps. Default: :func:`~.sweep_selection.select_rheobase_sweeps`. What a refused pair lacks is NaN.

    Returns
    -------
    features : float32 array, shape (37,)
    names : tuple of str
        ``EP_FEATURE_NAMES``.
    """
    pair = select_rheobase_sweeps(cell) if pair is None else pair
    firing = [
        sweep_firing(voltage, cell.sampling_frequency, stimulus) if stimulus is not None and not reason else None
        for voltage, stimulus, reason in zip(cell.voltage_mv, cell.stimulus, pair.sweep_reasons, strict=True)
    ]
    first, second = (None if k is None else _shapes(cell, k, firing[k]) for k in (pair.rheobase, pair.plus))
    values = [*_first_spike(cell, pair.rheobase, first)]
    for sweep, shapes in ((pair.rheobase, first), (pair.plus, second)):
        values += _train(cell, sweep, shapes)
    values += [pair.rheobase_pa, _fi_slope(cell, firing), *_passive(cell, firing), _width_change(second)]
    return np.array(values, dtype="float32"), EP_FEATURE_NAMES


def _shapes(cell: CellSweeps, sweep: int, firing: SweepFiring) -> SpikeShapes:
    step = cell.stimulus[sweep]
    return measure_spikes(
        cell.voltage_mv[sweep], cell.sampling_frequency, firing.peaks, start_s=step.onset_s, stop_s=step.offset_s
    )


def _first_spike(cell, sweep, shapes):
    if shapes is None or not len(shapes):
        return [np.nan] * len(_FIRST)
    onset = cell.stimulus[sweep].onset_s
    peak, threshold = shapes.peak_s[0], shapes.threshold_s[0]
    return [
        shapes.threshold_mv[0],
        threshold - onset,
        shapes.peak_mv[0],
        peak - onset,
        shapes.trough_mv[0],
        shapes.trough_s[0] - onset,
        shapes.fast_trough_mv[0],
        shapes.fast_trough_s[0] - onset,
        shapes.peak_mv[0] - shapes.threshold_mv[0],
        shapes.width_ms[0],
        shapes.upstroke_mv_per_ms[0] / -shapes.downstroke_mv_per_ms[0],
        peak - threshold,
        shapes.trough_s[0] - peak,
        shapes.fast_trough_s[0] - peak,
    ]


def _train(cell, sweep, shapes):
    """One value per name of _TRAIN."""
    if shapes is None or not len(shapes):
        return [np.nan] * len(_TRAIN)
    step = cell.stimulus[sweep]
    latency = shapes.threshold_s[0] - step.onset_s
    # thresholds are interpolated, peaks lie on samples
    isis = np.diff(shapes.threshold_s)
    mean = isis.mean() if len(isis) else np.nan
    return [
        latency,
        len(shapes) / step.duration_s,
        mean,
        isis.std() / mean if len(isis) > 2 else np.nan,
        np.mean(np.diff(isis) / (isis[1:] + isis[:-1])) if len(isis) > 1 else np.nan,
        _has_burst(isis),
        _has_pause(isis),
        float(latency > mean) if len(isis) else np.nan,
    ]


def _has_burst(isis):
    if not len(isis):
        return np.nan
    return float(isis[0] <= _BURST_ISI_S and (len(isis) == 1 or isis[0] < isis[1] / 2))


def _has_pause(isis):
    if len(isis) < 3:
        return np.nan
    inner = isis[1:-1]
    return float(np.any((inner > _PAUSE_RATIO * isis[:-2]) & (inner > _PAUSE_RATIO * isis[2:])))


def _line(x, y):
    """Slope of a line through points; NaN unless x has two values at least 1 apart."""
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 and np.ptp(x) >= 1 else np.nan


def _fi_slope(cell, firing):
    rows = [
        (step.amplitude_pa, one.num_spikes / step.duration_s)
        for step, one in zip(cell.stimulus, firing, strict=True)
        if one is not None and one.num_spikes and step.amplitude_pa > 0
    ]
    return _line(*np.array(rows).reshape(-1, 2).T)


def _passive(cell, firing):
    """[rest, input resistance, sag, time constant] of sweeps without a spike."""
    used = [one for one in firing if one is not None]
    rest = float(np.median([one.baseline_mv for one in used])) if used else np.nan
    silent = [
        (step.amplitude_pa, one.settled_mv - one.baseline_mv, k)
        for k, (step, one) in enumerate(zip(cell.stimulus, firing, strict=True))
        if one is not None and not one.num_spikes
    ]
    hyperpolarising = [row for row in silent if row[0] < 0 and row[1] < -_DEFLECTION_MV]
    pairs = np.array([row[:2] for row in (hyperpolarising if len(hyperpolarising) > 1 else silent)]).reshape(-1, 2)
    # mV / pA is GOhm
    resistance = _line(*pairs.T) * 1000
    sag = _sag(cell, firing, min(hyperpolarising)[2]) if hyperpolarising else np.nan
    taus = [_time_constant(cell, firing, row[2]) for row in hyperpolarising]
    return [rest, resistance, sag, float(np.median(taus)) if taus else np.nan]


def _deflection(cell, firing, sweep):
    """The potential in the step, above the baseline."""
    step, rate = cell.stimulus[sweep], cell.sampling_frequency
    part = cell.voltage_mv[sweep][round(step.onset_s * rate) : round(step.offset_s * rate)]
    return part.astype("float64") - firing[sweep].baseline_mv


def _sag(cell, firing, sweep):
    deflection = _deflection(cell, firing, sweep)
    # 2 ms around the lowest point, against noise
    half = max(1, round(0.001 * cell.sampling_frequency))
    lowest = int(np.argmin(deflection))
    peak = deflection[max(0, lowest - half) : lowest + half + 1].mean()
    settled = firing[sweep].settled_mv - firing[sweep].baseline_mv
    return float((peak - settled) / peak) if peak < -_SAG_MV else np.nan


def _time_constant(cell, firing, sweep):
    """Milliseconds from onset to 1 - 1/e of the settled deflection, between samples."""
    deflection = _deflection(cell, firing, sweep)
    level = (1 - np.exp(-1)) * (firing[sweep].settled_mv - firing[sweep].baseline_mv)
    k = int(np.argmax(deflection <= level))
    between = (deflection[k - 1] - level) / (deflection[k - 1] - deflection[k]) if k else 0.0
    return (k - 1 + between if k else 0.0) / cell.sampling_frequency * 1000


def _width_change(shapes):
    return shapes.width_ms[-1] / shapes.width_ms[0] if shapes is not None and len(shapes) > 1 else np.nan
