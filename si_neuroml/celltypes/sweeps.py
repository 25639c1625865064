"""Current-clamp sweeps of one cell: potentials in mV, the step of each, and which sweeps cannot be used and why.

Files are read by :mod:`~si_neuroml.celltypes.abf` and :mod:`~si_neuroml.celltypes.icephys_nwb`, recordings of
SpikeInterface by :mod:`~si_neuroml.celltypes.sweep_recordings`, arrays by :func:`sweeps_from_arrays`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .stimulus import StepStimulus, step_family, stimulus_differences
from .sweep_checks import check_sampling_frequency, sweep_fault, voltage_factor, without_dead_end

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["CellSweeps", "resample_trace", "sweeps_from_arrays"]

_STEP_COLUMNS = ("onset_s", "offset_s", "amplitude_pa", "holding_pa")


@dataclass(frozen=True)
class CellSweeps:
    """All sweeps of a cell; lists have one entry per sweep.

    Attributes
    ----------
    cell_id : str
    voltage_mv : list of float32 array, shape (num_samples,)
        Without NaN or zeros that filled up stopped sweeps.
    sampling_frequency : float
        In Hz, the same for all.
    stimulus : list of StepStimulus or None
        Onset, offset, amplitude; None where there is none.
    refusals : list of str
        Why a sweep cannot be used; "" where it can.
    notes : list of str
        What else a reader should know of this cell.
    """

    cell_id: str
    voltage_mv: list[np.ndarray]
    sampling_frequency: float
    stimulus: list[StepStimulus | None]
    refusals: list[str]
    notes: list[str] = field(default_factory=list)

    def __len__(self):
        return len(self.voltage_mv)

    @property
    def usable(self) -> np.ndarray:
        """Bool, shape (num_sweeps,): not refused."""
        return np.array([not reason for reason in self.refusals], dtype=bool)

    def resample(self, sampling_frequency: float = 4000.0) -> "CellSweeps":
        """The same sweeps at a lower (or equal) rate, without aliasing; see :func:`resample_trace`."""
        check_sampling_frequency(sampling_frequency)
        traces = [resample_trace(v, self.sampling_frequency, sampling_frequency) for v in self.voltage_mv]
        return replace(self, voltage_mv=traces, sampling_frequency=float(sampling_frequency))

    def cut(self, sweep: int, window_s: tuple[float, float]) -> np.ndarray:
        """One sweep around its step: float32, samples from ``window_s[0]`` to ``window_s[1]`` after onset.

        Where the sweep does not reach, or something else than the step is injected, its last own value goes on.

        Raises
        ------
        InputError
            When the sweep has no step.
        """
        stimulus = self.stimulus[sweep]
        if stimulus is None:
            raise InputError(f"Sweep {sweep} of {self.cell_id} has no step: {self.refusals[sweep]}.")
        rate, voltage = self.sampling_frequency, self.voltage_mv[sweep]
        # a sample of slack, for times that were rounded
        first = max(0, int(np.ceil(stimulus.clear_from_s * rate - 1e-6)))
        last = int(min(len(voltage), stimulus.clear_until_s * rate)) - 1
        start = round((stimulus.onset_s + window_s[0]) * rate)
        at = start + np.arange(round((window_s[1] - window_s[0]) * rate))
        return voltage[np.clip(at, first, max(first, last))]

    def table(self) -> "DataFrame":
        """One row per sweep: its length, step and refusal."""
        import pandas as pd

        rows = [
            {
                "duration_s": len(voltage) / self.sampling_frequency,
                **{name: getattr(stimulus, name, np.nan) for name in _STEP_COLUMNS},
                "source": getattr(stimulus, "source", ""),
                "refusal": refusal,
            }
            for voltage, stimulus, refusal in zip(self.voltage_mv, self.stimulus, self.refusals, strict=True)
        ]
        return pd.DataFrame(rows)


def sweeps_from_arrays(
    voltage: Sequence[np.ndarray],
    sampling_frequency: float,
    *,
    stimulus: Sequence[StepStimulus | None] | None = None,
    recorded_pa: Sequence[np.ndarray | None] | None = None,
    command_pa: Sequence[np.ndarray | None] | None = None,
    cell_id: str = "cell",
    units: str = "auto",
    refusals: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> CellSweeps:
    """Sweeps from arrays, checked.

    Parameters
    ----------
    voltage : sequence of array, shape (num_samples,), or array, shape (num_sweeps, num_samples)
        Potentials, one entry per sweep.
    sampling_frequency : float
        In Hz, at least 4000.
    stimulus : sequence of StepStimulus or None, optional
        Steps that are known; see :func:`~.stimulus.step_stimuli`. They count before any current.
    recorded_pa, command_pa : sequence of array or None, optional
        Injected current in pA with the samples of the potential. The recorded one is preferred; where the command
        differs, a note says so.
    cell_id : str, default: "cell"
    units : "auto" | "mV" | "V" | "uV", default: "auto"
        Of the potentials; "auto" takes mV, and converts volts or microvolts with a warning.
    refusals : sequence of str, optional
        Sweeps that are known not to be usable: why, "" for the others.
    notes : sequence of str, optional
        Kept with the cell.

    Returns
    -------
    CellSweeps

    Raises
    ------
    InputError
        When there is no sweep, rates or lengths do not fit, the rate is below 4 kHz, or the numbers cannot be a
        membrane potential.
    """
    traces = [np.asarray(trace) for trace in voltage]
    _check_lengths(traces, stimulus, recorded_pa, command_pa, refusals)
    check_sampling_frequency(sampling_frequency)
    factor, note = voltage_factor(traces, units)
    notes = list(notes)
    if note:
        notes.append(note)
        warnings.warn(f"Sweeps of {cell_id}: {note}.", stacklevel=2)
    traces = [without_dead_end((trace * factor).astype("float32"), sampling_frequency) for trace in traces]
    if stimulus is not None:
        stimuli, faults = list(stimulus), ["" if s is not None else "no stimulus: none was given" for s in stimulus]
    else:
        stimuli, faults, notes = _stimuli(recorded_pa, command_pa, len(traces), sampling_frequency, notes)
    known = [""] * len(traces) if refusals is None else refusals
    reasons = [
        given or sweep_fault(trace, sampling_frequency, one) or fault
        for given, trace, one, fault in zip(known, traces, stimuli, faults, strict=True)
    ]
    return CellSweeps(str(cell_id), traces, float(sampling_frequency), stimuli, reasons, notes)


def _check_lengths(traces, *others):
    if not traces:
        raise InputError("There is no sweep.")
    shapes = {trace.ndim for trace in traces}
    if shapes != {1}:
        raise InputError(f"Sweeps have {sorted(shapes)} axes: give one trace per sweep, each of shape (num_samples,).")
    for other in others:
        if other is not None and len(other) != len(traces):
            raise InputError(f"{len(traces)} sweeps, but {len(other)} stimuli, currents or refusals: give one each.")


def _stimuli(recorded, command, num_sweeps, rate, notes):
    """Steps of each sweep: of the recorded current, else of the command."""
    nothing = [None] * num_sweeps
    if recorded is None and command is None:
        return nothing, ["no stimulus: neither a recorded nor a command current"] * num_sweeps, notes
    families = [
        (nothing, [""] * num_sweeps) if currents is None else step_family(currents, rate, source=source)
        for currents, source in ((recorded, "recorded"), (command, "command"))
    ]
    (first, why_first), (second, why_second) = families
    differences = stimulus_differences(first, second)
    notes = [*notes, *(f"sweep {k}: {text}" for k, text in enumerate(differences) if text)]
    stimuli = [one if one is not None else other for one, other in zip(first, second, strict=True)]
    faults = [
        "" if stimulus is not None else one or other
        for stimulus, one, other in zip(stimuli, why_first, why_second, strict=True)
    ]
    return stimuli, faults, notes


def resample_trace(trace: np.ndarray, sampling_frequency: float, target: float = 4000.0) -> np.ndarray:
    """A trace at a lower rate, low-passed first, so that nothing above half of it folds back.

    Parameters
    ----------
    trace : array, shape (num_samples,)
        Samples that are not finite are interpolated; the line through the ends is kept.
    sampling_frequency, target : float
        In Hz, ``target`` at most ``sampling_frequency``.

    Returns
    -------
    float32 array

    Raises
    ------
    InputError
        When the target is higher, or their ratio is not one of whole numbers up to 1000.
    """
    if target > sampling_frequency * (1 + 1e-9):
        raise InputError(f"Sampled at {sampling_frequency:g} Hz, the trace cannot be brought to {target:g} Hz.")
    ratio = Fraction(target / sampling_frequency).limit_denominator(1000)
    if abs(float(ratio) - target / sampling_frequency) > 1e-7:
        raise InputError(f"{sampling_frequency} to {target} Hz is no ratio of whole numbers up to 1000.")
    trace = np.asarray(trace, dtype="float64")
    if ratio == 1 or not len(trace):
        return trace.astype("float32")
    from scipy.signal import resample_poly

    bad = ~np.isfinite(trace)
    if bad.any():
        good = np.flatnonzero(~bad)
        trace = np.interp(np.arange(len(trace)), good, trace[good]) if len(good) else np.zeros(len(trace))
    return resample_poly(trace, ratio.numerator, ratio.denominator, padtype="line").astype("float32")
