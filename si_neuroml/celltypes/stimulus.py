"""The current step of each sweep, from the injected current: onset, offset and amplitude above the holding current.

A sweep may hold several pulses: a test pulse, a hyperpolarising pulse before, a second step. The step is the one that
*varies* from sweep to sweep; of several such the longest, of equally long the earliest. Every sweep is then measured
in that window, so that steps of 0 pA and steps lost in noise have an onset too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import InputError

__all__ = ["Pulse", "StepStimulus", "find_pulses", "step_family", "step_stimuli", "stimulus_differences"]

# edges are sought between medians so far apart
_EDGE_S = 0.001
# pulses of different sweeps that begin and end within this are one
_SAME_S = 0.002
_MIN_PULSE_S = 0.005


@dataclass(frozen=True)
class StepStimulus:
    """The step of one sweep; times in seconds of the sweep, currents in pA.

    Attributes
    ----------
    onset_s, offset_s : float
        First moment of the step and first after it.
    amplitude_pa : float
        Above the holding current.
    holding_pa : float, default: NaN
        Before the step; NaN where not known.
    clear_from_s, clear_until_s : float, default: 0 and infinity
        Between these, nothing but the step was injected.
    source : "given" | "recorded" | "command", default: "given"
        Where it was taken from.
    """

    onset_s: float
    offset_s: float
    amplitude_pa: float
    holding_pa: float = float("nan")
    clear_from_s: float = 0.0
    clear_until_s: float = float("inf")
    source: str = "given"

    def __post_init__(self):
        if not np.all(np.isfinite([self.onset_s, self.offset_s, self.amplitude_pa])) or self.offset_s <= self.onset_s:
            raise InputError(
                f"A step from {self.onset_s} to {self.offset_s} s of {self.amplitude_pa} pA is not possible: give "
                "finite numbers, the offset after the onset."
            )

    @property
    def duration_s(self) -> float:
        """Length of the step in seconds."""
        return self.offset_s - self.onset_s


@dataclass(frozen=True)
class Pulse:
    """A stretch of constant current: samples [start, stop), level in pA, and how far the level drifts within."""

    start: int
    stop: int
    level: float
    drift: float


def step_stimuli(
    onset_s: float | Sequence[float],
    offset_s: float | Sequence[float],
    amplitude_pa: Sequence[float],
    holding_pa: float | Sequence[float] = float("nan"),
) -> list[StepStimulus]:
    """One :class:`StepStimulus` per entry of ``amplitude_pa``, from a table; the others may be single numbers."""
    columns = np.broadcast_arrays(*(np.atleast_1d(x) for x in (onset_s, offset_s, amplitude_pa, holding_pa)))
    return [StepStimulus(*(float(x) for x in row)) for row in zip(*columns, strict=True)]


def find_pulses(current_pa: np.ndarray, sampling_frequency: float, *, min_step_pa: float = 2.0) -> list[Pulse]:
    """Cut a current into stretches of constant level.

    Parameters
    ----------
    current_pa : array, shape (num_samples,)
        Recorded or command current, finite.
    sampling_frequency : float
        In Hz.
    min_step_pa : float, default: 2
        Smaller changes are not edges; nor are those below six times the noise that is left after a running median
        of 1 ms.

    Returns
    -------
    list of Pulse
        In order; together they cover the sweep.
    """
    from scipy.ndimage import median_filter

    current = np.asarray(current_pa, dtype="float64")
    lag = max(1, round(_EDGE_S * sampling_frequency))
    smooth = median_filter(current, 2 * (lag // 2) + 1, mode="nearest")
    # the medians at either end know too few samples
    margin = lag + lag // 2
    if len(smooth) < 4 * lag:
        return [Pulse(0, len(current), float(np.median(current)), 0.0)]
    difference = np.zeros(len(smooth))
    difference[margin:-margin] = (smooth[2 * lag :] - smooth[: -2 * lag])[lag // 2 : len(smooth) - 2 * lag - lag // 2]
    noise = max(
        1.4826 * np.median(np.abs(difference - np.median(difference))),
        # white noise after a median over 1 ms; a short sweep shows the first too poorly
        1.4826 * np.median(np.abs(np.diff(current))) / np.sqrt(2) * 1.25 * np.sqrt(2 / lag),
    )
    threshold = max(min_step_pa, 6 * noise)
    edges = [0, *_edges(smooth, difference, threshold, lag), len(current)]
    pulses = [_pulse(current, start, stop) for start, stop in pairwise(edges)]
    # where noise alone went beyond the threshold, both sides are at one level
    starts = [
        0,
        *(after.start for before, after in pairwise(pulses) if abs(after.level - before.level) > threshold / 2),
    ]
    return [_pulse(current, start, stop) for start, stop in pairwise([*starts, len(current)])]


def _edges(smooth, difference, threshold, lag):
    """The first sample of each new level; none within the lag of either end, where no level could be told."""
    beyond = np.flatnonzero(np.diff(np.r_[0, np.abs(difference) > threshold, 0]))
    edges = []
    for start, stop in zip(beyond[::2], beyond[1::2], strict=True):
        before, after = smooth[max(0, start - lag)], smooth[min(len(smooth) - 1, stop + lag - 1)]
        if abs(after - before) <= threshold:
            # a spike of current shorter than twice the lag: no new level
            continue
        window = np.arange(max(0, start), min(len(smooth), stop + lag))
        past = (smooth[window] - (before + after) / 2) * np.sign(after - before) > 0
        edges.append(int(window[past.argmax()]))
    inside = [edge for edge in edges if lag <= edge <= len(smooth) - lag]
    return sorted(set(inside))


def _pulse(current, start, stop):
    inner = current[start + (stop - start) // 10 : stop - (stop - start) // 10]
    fifth = max(1, len(inner) // 5)
    return Pulse(start, stop, float(np.median(inner)), float(np.median(inner[-fifth:]) - np.median(inner[:fifth])))


def step_family(
    currents_pa: Sequence[np.ndarray | None],
    sampling_frequency: float,
    *,
    source: str = "recorded",
    min_step_s: float = 0.1,
    min_step_pa: float = 2.0,
) -> tuple[list[StepStimulus | None], list[str]]:
    """The step that a family of sweeps has in common, measured in each of them.

    Parameters
    ----------
    currents_pa : sequence of array, shape (num_samples,), or None
        The current of each sweep; None where there is none.
    sampling_frequency : float
        In Hz.
    source : "recorded" | "command", default: "recorded"
        What the currents are; kept in the result.
    min_step_s : float, default: 0.1
        Shorter pulses are test pulses.
    min_step_pa : float, default: 2
        See :func:`find_pulses`.

    Returns
    -------
    stimuli : list of StepStimulus or None
        None where the sweep has no such step.
    refusals : list of str
        Why; "" where there is one.
    """
    usable = [c is not None and len(c) > 0 and bool(np.isfinite(c).all()) for c in currents_pa]
    pulses = [
        find_pulses(c, sampling_frequency, min_step_pa=min_step_pa) if ok else []
        for c, ok in zip(currents_pa, usable, strict=True)
    ]
    window = _main_window(pulses, sampling_frequency, min_step_s, min_step_pa)
    stimuli, refusals = [], []
    for current, ok, own in zip(currents_pa, usable, pulses, strict=True):
        stimulus = None
        if current is None:
            reason = "no stimulus: this sweep has no current"
        elif not ok:
            reason = "no stimulus: the current is empty or holds NaN"
        elif window is None:
            reason = f"no stimulus: no pulse of at least {min_step_s:g} s in any sweep"
        else:
            stimulus, reason = _in_window(current, own, window, sampling_frequency, source, min_step_pa)
        stimuli.append(stimulus)
        refusals.append(reason)
    return stimuli, refusals


def _main_window(pulses, rate, min_step_s, min_step_pa):
    """(start, stop) in samples of the pulse that varies, is longest, comes first; None when there is no pulse."""
    found: list[tuple[int, int, list[float]]] = []
    for own in pulses:
        for pulse in own[1:]:
            amplitude = pulse.level - own[0].level
            if pulse.stop - pulse.start < min_step_s * rate or abs(amplitude) <= min_step_pa:
                continue
            for start, stop, amplitudes in found:
                if max(abs(start - pulse.start), abs(stop - pulse.stop)) <= _SAME_S * rate:
                    amplitudes.append(amplitude)
                    break
            else:
                found.append((pulse.start, pulse.stop, [amplitude]))
    if not found:
        return None
    num_sweeps = sum(bool(own) for own in pulses)

    def rank(candidate):
        start, stop, amplitudes = candidate
        # a sweep without it has 0 pA there
        present = amplitudes if len(amplitudes) == num_sweeps else [*amplitudes, 0.0]
        varies = max(present) - min(present) > 2 * min_step_pa
        # steps whose lengths differ by less than a tenth count as equally long
        return varies, len(amplitudes) > num_sweeps / 4, round(np.log((stop - start) / rate) / 0.1), -start

    start, stop, _ = max(found, key=rank)
    return start, stop


def _in_window(current, pulses, window, rate, source, min_step_pa):
    start, stop = window
    slack = _SAME_S * rate
    if len(current) < stop - slack:
        return None, f"truncated: the current ends at {len(current) / rate:.3f} s, the step at {stop / rate:.3f} s"
    inner = _pulse(current, start, min(stop, len(current)))
    holding = _holding(pulses, start, slack)
    amplitude = inner.level - holding
    edges = np.array([pulse.start for pulse in pulses[1:]], dtype="float64")
    inside = edges[(edges > start + slack) & (edges < stop - slack)]
    if len(inside):
        return None, f"another protocol: the current changes within the step, at {inside[0] / rate:.3f} s"
    if abs(inner.drift) > max(5 * min_step_pa, 0.1 * abs(amplitude)):
        return None, f"another protocol: the current drifts by {inner.drift:.0f} pA within the step, as in a ramp"
    around = edges[np.abs(edges - start) <= slack], edges[np.abs(edges - stop) <= slack]
    if abs(amplitude) > max(4 * min_step_pa, 5.0) and not (len(around[0]) and (len(around[1]) or stop >= len(current))):
        return None, f"another protocol: no step from {start / rate:.3f} to {stop / rate:.3f} s, as in other sweeps"
    onset = around[0][0] if len(around[0]) else start
    offset = around[1][0] if len(around[1]) else stop
    before, after = edges[edges < start - slack], edges[edges > stop + slack]
    return (
        StepStimulus(
            float(onset / rate),
            float(offset / rate),
            float(amplitude),
            float(holding),
            float(before[-1] / rate) if len(before) else 0.0,
            float(after[0] / rate) if len(after) else float("inf"),
            source,
        ),
        "",
    )


def _holding(pulses, start, slack):
    """Level of the stretch that ends where the step begins."""
    for pulse in pulses:
        if pulse.start < start - slack and pulse.stop >= start - slack:
            return pulse.level
    return pulses[0].level


def stimulus_differences(
    recorded: Sequence[StepStimulus | None], command: Sequence[StepStimulus | None], *, tolerance_pa: float = 10.0
) -> list[str]:
    """Where the recorded current is not what was commanded: a sentence per sweep, "" where they agree.

    They differ when amplitudes are more than ``tolerance_pa`` and 10 % apart, or onsets more than 2 ms.
    """
    sentences = []
    for one, other in zip(recorded, command, strict=True):
        text = ""
        if one is not None and other is not None:
            apart = abs(one.amplitude_pa - other.amplitude_pa)
            if apart > max(tolerance_pa, 0.1 * abs(other.amplitude_pa)):
                text = f"recorded step {one.amplitude_pa:.0f} pA, command {other.amplitude_pa:.0f} pA"
            elif abs(one.onset_s - other.onset_s) > _SAME_S:
                text = f"recorded onset {one.onset_s:.4f} s, command {other.onset_s:.4f} s"
        sentences.append(text)
    return sentences
