"""Which sweeps stand for a cell: the one at rheobase, and the one 40 pA above; or why there are none.

Rheobase is the smallest step above the holding current that makes the cell fire, among the sweeps that can be used. A
single spike that the next larger step does not confirm is not taken for it. Protocols seldom have a step exactly 40 pA
higher (44 cells of rat cortex: 30 to 94 pA), so the nearest is taken, and how far off it may be is an argument.
"""

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .spikes import find_spikes, measure_spikes
from .stimulus import StepStimulus
from .sweeps import CellSweeps

__all__ = ["RheobasePair", "SweepFiring", "select_rheobase_sweeps", "sweep_firing"]

# steps whose amplitudes differ by less are repeats
REPEAT_PA = 5.0
_SILENCE_S, _SILENCE_SHARE, _BLOCK_MV = 0.1, 0.25, 10.0
_SETTLED_SHARE = 0.2
_DEPOLARISED_MV = -30.0


@dataclass(frozen=True)
class SweepFiring:
    """What a cell did in one sweep.

    Attributes
    ----------
    peaks : int64 array
        Samples of the spikes within the step.
    num_before : int
        Spikes before the step, where nothing else was injected.
    before_s : float
        Length of that time.
    baseline_mv, settled_mv : float
        Median potential before the step and in its last fifth; NaN without a sample.
    blocked : bool
        The cell stopped firing while it stayed depolarised above its own threshold: depolarisation block.
    """

    peaks: np.ndarray
    num_before: int
    before_s: float
    baseline_mv: float
    settled_mv: float
    blocked: bool

    @property
    def num_spikes(self) -> int:
        """Spikes within the step."""
        return len(self.peaks)


@dataclass(frozen=True)
class RheobasePair:
    """The two sweeps of a cell, or a refusal.

    Attributes
    ----------
    cell_id : str
    rheobase, plus : int or None
        Sweeps; None where refused.
    rheobase_pa, above_pa : float
        The step at rheobase, and how far above it the second one is; NaN where there is none.
    silent_below_pa : float
        How far below the largest step is that did not make the cell fire: rheobase is known this well; NaN where the
        smallest step did.
    refusal : str
        Why there is no pair; "" where there is.
    sweep_reasons : tuple of str
        For each sweep why it was not used; "" where it could be.
    notes : tuple of str
        What else to know.
    """

    cell_id: str
    rheobase: int | None
    plus: int | None
    rheobase_pa: float
    above_pa: float
    silent_below_pa: float
    refusal: str
    sweep_reasons: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


def sweep_firing(voltage_mv: np.ndarray, sampling_frequency: float, stimulus: StepStimulus) -> SweepFiring:
    """Spikes of one sweep and its potential before and in the step.

    Parameters
    ----------
    voltage_mv : array, shape (num_samples,)
        One sweep in mV.
    sampling_frequency : float
        In Hz.
    stimulus : StepStimulus
        Its step.

    Returns
    -------
    SweepFiring
    """
    peaks = find_spikes(voltage_mv, sampling_frequency)
    times = peaks / sampling_frequency
    # a rise that the end of the step cuts off peaks at the offset or a sample before: no spike
    within = (times >= stimulus.onset_s) & (times < stimulus.offset_s - 1.5 / sampling_frequency)
    before = (times >= stimulus.clear_from_s) & (times < stimulus.onset_s)
    step_s = stimulus.duration_s
    settled_from = stimulus.offset_s - _SETTLED_SHARE * step_s
    return SweepFiring(
        peaks[within],
        int(before.sum()),
        stimulus.onset_s - stimulus.clear_from_s,
        _median(voltage_mv, sampling_frequency, stimulus.clear_from_s, stimulus.onset_s),
        _median(voltage_mv, sampling_frequency, settled_from, stimulus.offset_s),
        _is_blocked(voltage_mv, sampling_frequency, stimulus, peaks[within]),
    )


def _median(voltage, rate, start_s, stop_s):
    part = voltage[max(0, round(start_s * rate)) : max(0, round(stop_s * rate))]
    return float(np.median(part)) if len(part) else float("nan")


def _is_blocked(voltage, rate, stimulus, peaks):
    if not len(peaks):
        return False
    silent_from = peaks[-1] / rate + 0.01
    if stimulus.offset_s - silent_from < max(_SILENCE_S, _SILENCE_SHARE * stimulus.duration_s):
        return False
    first = measure_spikes(voltage, rate, peaks[:1], start_s=stimulus.onset_s, stop_s=stimulus.offset_s)
    return _median(voltage, rate, silent_from, stimulus.offset_s) > first.threshold_mv[0] + _BLOCK_MV


def select_rheobase_sweeps(
    cell: CellSweeps,
    plus_pa: float = 40.0,
    *,
    tolerance_pa: float = 55.0,
    min_step_s: float = 0.2,
    max_baseline_drift_mv: float = 15.0,
) -> RheobasePair:
    """The sweep at rheobase and the one about ``plus_pa`` above it.

    Parameters
    ----------
    cell : CellSweeps
        All sweeps.
    plus_pa : float, default: 40
        How far above rheobase the second step should be.
    tolerance_pa : float, default: 55
        How far from that it may be; it is always above rheobase, by more than 5 pA. Of the usable steps the nearest is
        taken, of repeats the first.
    min_step_s : float, default: 0.2
        Sweeps with shorter steps are not used.
    max_baseline_drift_mv : float, default: 15
        Sweeps whose potential before the step is further from the cell's median are not used.

    Returns
    -------
    RheobasePair
        With a refusal when: no sweep has a step; only one can be used; no step makes the cell fire; it fires
        without a step in at least half of the sweeps; or no usable step is near enough to the second amplitude.

    Raises
    ------
    InputError
        When ``plus_pa`` or ``tolerance_pa`` is not above 0.
    """
    if not plus_pa > 0 or not tolerance_pa > 0:
        raise InputError(f"plus_pa is {plus_pa:g} and tolerance_pa {tolerance_pa:g}: both must be above 0 pA.")
    firing = [
        sweep_firing(voltage, cell.sampling_frequency, stimulus) if stimulus is not None and not refusal else None
        for voltage, stimulus, refusal in zip(cell.voltage_mv, cell.stimulus, cell.refusals, strict=True)
    ]
    reasons = _sweep_reasons(cell, firing, min_step_s, max_baseline_drift_mv)
    notes = _family_notes(cell, firing, reasons)
    refused = _cell_refusal(cell, firing, reasons)
    if refused:
        return _refuse(cell, refused, reasons, notes)

    amplitudes = np.array([np.nan if s is None else s.amplitude_pa for s in cell.stimulus])
    usable = np.array([not reason for reason in reasons])
    fires = np.array([one is not None and one.num_spikes > 0 for one in firing])
    rheobase, more = _rheobase(amplitudes, usable, fires)
    notes += more
    if rheobase is None:
        largest = np.nanmax(amplitudes[usable])
        return _refuse(cell, f"no spikes: silent up to the largest usable step, {largest:.0f} pA", reasons, notes)
    level = amplitudes[rheobase]
    silent = amplitudes[usable & ~fires & (amplitudes < level)]
    if not len(silent):
        notes.append(f"the smallest usable step, {level:.0f} pA, already makes the cell fire: rheobase may be lower")
    above = np.where(usable & (amplitudes > level + REPEAT_PA), amplitudes - level, np.nan)
    known = (float(level), float(level - silent.max()) if len(silent) else float("nan"))
    if np.isnan(above).all():
        reason = f"no usable step above rheobase, {level:.0f} pA"
        return _refuse(cell, reason + _unusable(amplitudes, reasons, level), reasons, notes, rheobase, known)
    plus = int(np.nanargmin(np.abs(above - plus_pa)))
    if abs(above[plus] - plus_pa) > tolerance_pa * (1 + 1e-9):
        reason = (
            f"no usable step within {tolerance_pa:g} pA of {plus_pa:g} pA above rheobase ({level:.0f} pA): the nearest "
            f"is {above[plus]:.0f} pA above"
        )
        return _refuse(cell, reason, reasons, notes, rheobase, known)
    return RheobasePair(
        cell.cell_id, rheobase, plus, known[0], float(above[plus]), known[1], "", tuple(reasons), tuple(notes)
    )


def _refuse(cell, reason, reasons, notes, rheobase=None, known=(float("nan"), float("nan"))):
    level, silent = known
    return RheobasePair(cell.cell_id, rheobase, None, level, float("nan"), silent, reason, tuple(reasons), tuple(notes))


def _sweep_reasons(cell, firing, min_step_s, max_drift):
    """Why each sweep is not used, "" for those that are."""
    reasons = list(cell.refusals)
    baselines = [one.baseline_mv for one in firing if one is not None and np.isfinite(one.baseline_mv)]
    middle = np.median(baselines) if baselines else np.nan
    for k, (one, stimulus) in enumerate(zip(firing, cell.stimulus, strict=True)):
        if reasons[k]:
            continue
        if stimulus.duration_s < min_step_s - 1e-6:
            reasons[k] = f"short step: {stimulus.duration_s:.3f} s, at least {min_step_s:g} s are needed"
        elif one.num_before:
            reasons[k] = f"spontaneous firing: {one.num_before} spikes in the {one.before_s:.2f} s before the step"
        elif one.baseline_mv > _DEPOLARISED_MV:
            reasons[k] = f"depolarised: {one.baseline_mv:.0f} mV before the step, no resting cell"
        elif abs(one.baseline_mv - middle) > max_drift:
            reasons[k] = f"drift: {one.baseline_mv:.0f} mV before the step, the cell's median is {middle:.0f} mV"
        elif one.blocked:
            reasons[k] = f"depolarisation block: silent at {one.settled_mv:.0f} mV after {one.num_spikes} spikes"
    return reasons


def _family_notes(cell, firing, reasons):
    """What the sweeps together say of the recording."""
    notes = []
    holding = np.array([s.holding_pa for s in cell.stimulus if s is not None])
    holding = holding[np.isfinite(holding)]
    if len(holding) and np.ptp(holding) > 20:
        notes.append(f"holding current changes from {holding.min():.0f} to {holding.max():.0f} pA between sweeps")
    quiet = [
        (s.amplitude_pa, one.settled_mv - one.baseline_mv)
        for s, one, reason in zip(cell.stimulus, firing, reasons, strict=True)
        if one is not None and not reason and not one.num_spikes
    ]
    if len(quiet) > 2:
        currents, deflections = np.array(quiet).T
        if np.ptp(currents) > 20 and np.polyfit(currents, deflections, 1)[0] <= 0:
            notes.append("the potential does not follow the steps: are sweeps and currents in the same order and sign?")
    return notes


def _cell_refusal(cell, firing, reasons):
    """Why nothing can be chosen at all, or ""."""
    if all(s is None for s in cell.stimulus):
        found = next((reason for reason in reasons if reason), "")
        return found if found.startswith("no stimulus") else f"no stimulus ({found})"
    active = [one.num_before > 0 for one in firing if one is not None and one.before_s > 0]
    if active and np.mean(active) >= 0.5:
        spikes, seconds = (sum(getattr(o, n) for o in firing if o is not None) for n in ("num_before", "before_s"))
        return (
            f"spontaneous firing: spikes before the step in {sum(active)} of {len(active)} sweeps, "
            f"{spikes / seconds:.1f} Hz; such a cell has no rheobase"
        )
    num_usable = sum(not reason for reason in reasons)
    if num_usable < 2:
        told = sorted({reason for reason in reasons if reason})
        why = f" ({'; '.join(told[:3])})" if told else ""
        return f"{num_usable} of {len(reasons)} sweeps can be used{why}: two are needed"
    return ""


def _rheobase(amplitudes, usable, fires):
    """The sweep, and notes on spikes that larger steps did not confirm and on repeats that disagree."""
    notes = []
    steps = np.flatnonzero(usable & (amplitudes > 0))
    steps = steps[np.argsort(amplitudes[steps], kind="stable")]
    for sweep in steps[fires[steps]]:
        level = amplitudes[sweep]
        larger = steps[amplitudes[steps] > level + REPEAT_PA]
        following = larger[amplitudes[larger] <= amplitudes[larger].min(initial=np.inf) + REPEAT_PA]
        if len(following) and not fires[following].any():
            notes.append(f"sweep {sweep} fires at {level:.0f} pA, the next larger step does not: taken as spontaneous")
            continue
        same = steps[(np.abs(amplitudes[steps] - level) <= 1.0) & ~fires[steps]]
        if len(same):
            notes.append(f"at rheobase, {level:.0f} pA, {len(same)} repeats did not fire")
        return int(sweep), notes
    return None, notes


def _unusable(amplitudes, reasons, level):
    told = sorted({reason.split(":")[0] for a, reason in zip(amplitudes, reasons, strict=True) if a > level and reason})
    return f" (not used: {', '.join(told)})" if told else ""
