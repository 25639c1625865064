"""What can be wrong with a sweep's numbers: units, sampling rate, NaN, clipping, truncation. Each has its words.

Units are judged over all sweeps of a cell: no membrane leaves +-250 mV, and no current-clamp family stays within
+-0.5 mV, so volts and microvolts taken for millivolts show.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .stimulus import StepStimulus

__all__ = ["MIN_SAMPLING_FREQUENCY", "check_sampling_frequency", "sweep_fault", "voltage_factor", "without_dead_end"]

MIN_SAMPLING_FREQUENCY = 4000.0
_MOST_MV, _LEAST_MV = 250.0, 0.5
# what another unit must explain: a resting potential, at least
_REST_MV = 20.0
_UNITS = {"mV": 1.0, "V": 1e3, "uV": 1e-3}
# a constant end is a stopped acquisition when it is so long
_DEAD_END_S = 0.02


def check_sampling_frequency(sampling_frequency: float) -> None:
    """Raise InputError below 4 kHz, where a spike is a sample or two."""
    if not sampling_frequency >= MIN_SAMPLING_FREQUENCY * (1 - 1e-6):
        raise InputError(
            f"The sampling frequency is {sampling_frequency:g} Hz: current-clamp sweeps need at least "
            f"{MIN_SAMPLING_FREQUENCY:g} Hz, or spikes are lost between samples."
        )


def voltage_factor(voltages: Sequence[np.ndarray], units: str = "auto") -> tuple[float, str]:
    """What to multiply the traces of a cell with to get mV.

    Parameters
    ----------
    voltages : sequence of array, shape (num_samples,)
        All sweeps of the cell.
    units : "auto" | "mV" | "V" | "uV", default: "auto"
        What they are said to be in. "auto": mV, unless the numbers say volts or microvolts.

    Returns
    -------
    factor : float
    note : str
        What was found, when the unit was not the one expected; else "".

    Raises
    ------
    InputError
        When the numbers cannot be a membrane potential in the unit given, or in any unit.
    """
    if units not in ("auto", *_UNITS):
        raise InputError(f'units is {units!r}: give "auto", "mV", "V" or "uV".')
    largest = _largest(voltages)
    if largest == 0:
        return _UNITS.get(units, 1.0), ""
    given = "mV" if units == "auto" else units
    if _LEAST_MV <= largest * _UNITS[given] <= _MOST_MV:
        return _UNITS[given], ""
    others = [name for name, factor in _UNITS.items() if name != given and _REST_MV <= largest * factor <= _MOST_MV]
    what = f"The largest potential of all sweeps is {largest:.4g}, which in {given} no current-clamp sweep holds"
    if not others:
        raise InputError(f"{what}, nor in {', '.join(u for u in _UNITS if u != given)}: look for a wrong gain.")
    if units != "auto":
        raise InputError(f"{what}; it looks like {others[0]}: give units={others[0]!r}.")
    return _UNITS[others[0]], f"the numbers are {others[0]}, not mV (largest {largest:.4g}): converted"


def _largest(voltages):
    """The largest magnitude that is not a lone artefact."""
    magnitudes = [np.abs(v[np.isfinite(v)]) for v in voltages]
    return max((float(np.quantile(m, 0.999)) for m in magnitudes if len(m)), default=0.0)


def without_dead_end(voltage_mv: np.ndarray, sampling_frequency: float) -> np.ndarray:
    """The sweep without the NaN or exact zeros that fill it up after an acquisition was stopped."""
    dead = ~np.isfinite(voltage_mv) | (voltage_mv == 0)
    alive = np.flatnonzero(~dead)
    stop = int(alive[-1]) + 1 if len(alive) else 0
    if len(voltage_mv) - stop >= max(2, _DEAD_END_S * sampling_frequency) or not np.isfinite(voltage_mv[-1:]).all():
        return voltage_mv[:stop]
    return voltage_mv


def sweep_fault(voltage_mv: np.ndarray, sampling_frequency: float, stimulus: StepStimulus | None) -> str:
    """Why a sweep cannot be used; "" when it can.

    Parameters
    ----------
    voltage_mv : array, shape (num_samples,)
        Without its dead end.
    sampling_frequency : float
        In Hz.
    stimulus : StepStimulus or None
        Its step.
    """
    duration = len(voltage_mv) / sampling_frequency
    if not len(voltage_mv):
        return "failed: the sweep is empty"
    bad = np.flatnonzero(~np.isfinite(voltage_mv))
    if len(bad):
        return f"NaN: {len(bad)} samples from {bad[0] / sampling_frequency:.3f} s on are not finite"
    if np.ptp(voltage_mv) == 0:
        return f"failed: the potential is {voltage_mv[0]:g} mV throughout"
    if stimulus is not None and duration < stimulus.offset_s - 1.5 / sampling_frequency:
        return f"truncated: the sweep ends at {duration:.3f} s, its step at {stimulus.offset_s:.3f} s"
    if stimulus is not None and stimulus.onset_s * sampling_frequency < 2:
        return "no baseline: the step begins with the sweep"
    return _clipping(voltage_mv, sampling_frequency)


def _clipping(voltage, rate):
    """A flat stretch at the extreme that was entered with a slope no membrane ends with: the amplifier's limit."""
    for extreme, name in ((voltage.max(), "top"), (voltage.min(), "bottom")):
        at = np.flatnonzero(np.diff(np.r_[0, voltage == extreme, 0]))
        for start, stop in zip(at[::2], at[1::2], strict=True):
            length = (stop - start) / rate
            if stop - start < 3 or length < 1.5e-4 or start < 2:
                continue
            back = {True: max(0, start - max(1, round(2.5e-4 * rate))), False: max(0, start - round(0.002 * rate))}
            steep = abs(extreme - voltage[back[True]]) / ((start - back[True]) / rate * 1000) > 10
            bent = length > 0.005 and abs(extreme - voltage[back[False]]) > 1.0
            if steep or bent:
                return (
                    f"clipped: {stop - start} samples at exactly {extreme:.2f} mV ({name}) from {start / rate:.3f} s on"
                )
    return ""
