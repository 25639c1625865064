"""Simulated current-clamp cells whose firing type, parameters and spike times are known.

Each cell is given rising current steps, as in a laboratory, and what it does is recorded: noise of the membrane and of
the amplifier, uncompensated series resistance, drift, the laboratory's onset, step and sampling rate. Donors and
laboratories differ, so that a classifier can mistake them for the type.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

from ..celltypes.stimulus import step_stimuli
from ..celltypes.sweeps import CellSweeps, sweeps_from_arrays
from ..errors import InputError
from .current_clamp_cells import (
    CLAMP_FAULTS,
    CLAMP_LABS,
    ClampLab,
    ModelCell,
    check_names,
    draw_cell,
    draw_donor,
)
from .current_clamp_types import FIRING_TYPES, DonorScatter, FiringType, between_types

if TYPE_CHECKING:
    import pandas as pd
    from spikeinterface.core import BaseRecording

__all__ = ["CurrentClampCells", "generate_current_clamp_cells", "simulate_step"]

# the model is integrated at the first multiple of the sampling rate above this
MIN_STEP_RATE_HZ = 40_000.0
WARM_UP_S = 0.15
# no cell is hyperpolarised further
LOWEST_MV = -120.0
NOISE_TAU_MS = 3.0
# depolarisation block: the plateau above threshold, how long after a step's first spike, from how far above rheobase
BLOCK_MV, BLOCK_AFTER_S, BLOCK_FROM_PA = 14.0, 0.05, 5.0
CLIPPED_MV = 100.0
# beyond this a cell would lie nearer to the other type
MAX_SHARE = 0.5
STREAMS = ("donor", "type", "cell", "fault", "recording", "sweep")


class CurrentClampCells(NamedTuple):
    """Simulated cells and the truth about them.

    Attributes
    ----------
    cells : list of CellSweeps
        Their sweeps, of rising amplitude.
    spike_times_s : list of list of float64 array
        For each cell and sweep the times of all spikes' peaks, in seconds of the sweep.
    truth : pandas.DataFrame, one row per cell
        ``cell_id``, ``label`` (firing type), ``donor``, ``dataset`` (laboratory): text; ``rheobase_pa``, the smallest
        step with a spike within it (NaN: none, or it fires by itself); ``failed_sweeps``, which were spoilt; and how
        the cell was made: the ``share`` of the way ``towards`` another type at which it lies, its
        ``input_resistance_mohm``, and the fields of ``ModelCell``.
    """

    cells: list[CellSweeps]
    spike_times_s: list[list[np.ndarray]]
    truth: "pd.DataFrame"

    def recordings(self) -> "list[BaseRecording]":
        """Each cell as a recording of SpikeInterface, one segment per sweep, with its steps as an annotation."""
        from ..celltypes.sweep_recordings import recording_from_sweeps

        return [recording_from_sweeps(cell) for cell in self.cells]


def generate_current_clamp_cells(
    num_cells: int = 40,
    *,
    cells_per_donor: int = 5,
    types: Sequence[FiringType] = FIRING_TYPES,
    labs: Sequence[ClampLab] = CLAMP_LABS,
    mixing: float = 0.15,
    donor_scatter: DonorScatter | None = None,
    faults: Mapping[str, float] | None = None,
    first_cell: int = 0,
    seed: int = 0,
) -> CurrentClampCells:
    """Simulate current-clamp sweeps of cells of known firing types.

    Parameters
    ----------
    num_cells : int, default: 40
        Cells of all laboratories.
    cells_per_donor : int, default: 5
        Cells of one donor, one after another; donors go to the laboratories in turn.
    types : sequence of FiringType
        From which each cell's is drawn, all equally likely. Default: four types of the mouse's cortex.
    labs : sequence of ClampLab
        Default: a warm one (34 degrees, steps of 1 s by 20 pA, 20 kHz, cells at rest) and a cool one (25 degrees, 0.6 s
        by 25 pA, 10 kHz, noisier, cells held at -70 mV).
    mixing : float, default: 0.15
        How far cells lie from their own type towards another: standard deviation (of a half-normal, at most 0.5) of the
        share of the way. 0: none does.
    donor_scatter : DonorScatter, optional
        What cells of a donor share.
    faults : dict of {str: float}, optional
        Shares of cells with a fault. "spontaneous": fires without a step. "depolarisation_block": stops firing above
        rheobase. "failed_sweeps": about half of its sweeps are stopped, clipped or hold NaN. "silent": the largest step
        is too small. Default: none.
    first_cell : int, default: 0
        Number of the first cell, to simulate many cells in parts.
    seed : int, default: 0
        The same seed and arguments give the same cells. A cell stays as it is when there are more of them.

    Returns
    -------
    CurrentClampCells

    Raises
    ------
    InputError
        When a number is out of range, a fault is unknown, or two types or laboratories have one name.
    """
    import pandas as pd

    types, labs, faults = tuple(types), tuple(labs), dict(faults or {})
    _check(num_cells, cells_per_donor, first_cell, seed, mixing, faults)
    check_names(types, labs)
    draws = _Draws(int(seed))
    cells, spike_times, rows = [], [], []
    for number in range(first_cell, first_cell + num_cells):
        donor = number // cells_per_donor
        lab = labs[donor % len(labs)]
        kind, towards = _draw_type(draws.random("type", number), types, mixing)
        shared = draw_donor(draws.random("donor", donor), donor_scatter or DonorScatter())
        fault = _draw_fault(draws.random("fault", number, 0), faults)
        model = draw_cell(draws.random("cell", number), kind, shared, lab, fault)
        name = f"cell{number}"
        sweeps, spikes, truth = _record_cell(draws, number, name, model, lab)
        cells.append(sweeps)
        spike_times.append(spikes)
        origin = {"cell_id": name, "label": kind.name, "donor": f"donor{donor}", "dataset": lab.name}
        made = {"input_resistance_mohm": model.input_resistance_mohm, **model._asdict()}
        rows.append({**origin, **towards, **truth, **made})
    return CurrentClampCells(cells, spike_times, pd.DataFrame(rows))


class _Draws(NamedTuple):
    """Every number comes from a stream of its own, whatever else is drawn."""

    seed: int

    def random(self, stream: str, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(STREAMS.index(stream), *key)))


def _check(num_cells, cells_per_donor, first_cell, seed, mixing, faults):
    counts = {"num_cells": (num_cells, 1), "cells_per_donor": (cells_per_donor, 1)}
    for name, (value, least) in {**counts, "first_cell": (first_cell, 0), "seed": (seed, 0)}.items():
        if not np.isfinite(value) or value != int(value) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {value}.")
    if not (np.isfinite(mixing) and mixing >= 0):
        raise InputError(f"mixing must be 0 or more, got {mixing}.")
    unknown = [name for name in faults if name not in CLAMP_FAULTS]
    if unknown:
        raise InputError(f"There are no faults {unknown}; there are {list(CLAMP_FAULTS)}.")
    if any(not 0 <= share <= 1 for share in faults.values()) or sum(faults.values()) > 1 + 1e-9:
        raise InputError(f"faults are shares from 0 to 1 that sum to at most 1, got {faults}.")


def _draw_type(rng, types, mixing):
    """One of the types, moved towards another (or itself), and what the truth says of that."""
    kind, other = types[rng.integers(len(types))], types[rng.integers(len(types))]
    share = min(mixing * abs(rng.standard_normal()), MAX_SHARE)
    return between_types(kind, other, share), {"towards": other.name, "share": share}


def _draw_fault(rng, faults):
    at = int(np.searchsorted(np.cumsum(list(faults.values())), rng.random(), side="right"))
    return [*faults, ""][at]


def _record_cell(draws, number, name, model, lab):
    """Sweeps, times of spikes, and what the truth says of them."""
    rng = draws.random("recording", number)
    phase, drift_mv, rheobase = rng.uniform(0, 2 * np.pi), 0.0, np.nan
    voltages, spikes, amplitudes = [], [], []
    end_s = lab.onset_s + lab.step_s
    for sweep, amplitude in enumerate(_amplitudes(model, lab)):
        drift_mv += lab.drift_mv * rng.standard_normal()
        blocked = model.fault == "depolarisation_block" and amplitude > rheobase + BLOCK_FROM_PA
        noise = draws.random("sweep", number, sweep)
        drifted = model._replace(rest_mv=model.rest_mv + drift_mv)
        voltage, times = simulate_step(noise, drifted, lab, amplitude, blocked=blocked)
        voltages.append(_as_recorded(noise, voltage, model, lab, amplitude, phase))
        spikes.append(times)
        amplitudes.append(amplitude)
        within = ((times >= lab.onset_s) & (times < end_s)).any()
        if within and np.isnan(rheobase) and amplitude > 0 and model.fault != "spontaneous":
            rheobase = amplitude
        if amplitude - rheobase >= lab.above_pa:
            break
    failed = _spoil(draws.random("fault", number, 1), voltages, lab) if model.fault == "failed_sweeps" else []
    stimuli = step_stimuli(lab.onset_s, end_s, amplitudes, model.holding_pa)
    sweeps = sweeps_from_arrays(voltages, lab.sampling_frequency, stimulus=stimuli, cell_id=name, units="mV")
    return sweeps, spikes, {"rheobase_pa": rheobase, "failed_sweeps": tuple(failed)}


def _amplitudes(model, lab):
    """Rising steps; how many of them are given depends on what the cell does."""
    # what holds the membrane at V_T in the long run: more than a cell needs that fires at all
    threshold_pa = (model.leak_ns + max(model.a_ns, 0.0)) * (model.v_t_mv - model.rest_mv) - model.holding_pa
    last = {
        "silent": 0.4 * (model.leak_ns + min(model.a_ns, 0.0)) * (model.v_t_mv - model.rest_mv) - model.holding_pa,
        "spontaneous": threshold_pa + lab.above_pa,
    }.get(model.fault, lab.last_pa)
    # one step at or above 0 pA there is in any case
    least = lab.first_pa + np.ceil(-lab.first_pa / lab.step_pa) * lab.step_pa
    steps = np.arange(lab.first_pa, max(min(last, lab.last_pa), least) + 1e-6, lab.step_pa)
    settled = model.rest_mv + (model.holding_pa + steps) / (model.leak_ns + model.a_ns)
    return steps[(settled >= LOWEST_MV) | (steps >= 0)]


def simulate_step(
    rng: np.random.Generator, model: ModelCell, lab: ClampLab, amplitude_pa: float, *, blocked: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """What one cell does in one step, before it passes the amplifier.

    Parameters
    ----------
    rng : Generator
        Of the noise of the membrane.
    model : ModelCell
    lab : ClampLab
        For times and sampling rate.
    amplitude_pa : float
        Of the step, above the holding current.
    blocked : bool, default: False
        Whether a depolarisation block ends the firing soon after the first spike.

    Returns
    -------
    voltage_mv : float64 array, shape (num_samples,)
        Each sample is the mean of the steps of integration that it spans.
    spike_times_s : float64 array, shape (num_spikes,)
        Of the peaks, in seconds of the sweep.
    """
    times = int(np.ceil(MIN_STEP_RATE_HZ / lab.sampling_frequency))
    rate = times * lab.sampling_frequency
    warm_up = times * round(WARM_UP_S * lab.sampling_frequency)
    num_samples = round((lab.onset_s + lab.step_s + lab.after_s) * lab.sampling_frequency)
    onset, offset = (warm_up + round(t * rate) for t in (lab.onset_s, lab.onset_s + lab.step_s))
    wait = round(BLOCK_AFTER_S * rate) if blocked else offset
    noise = rng.standard_normal(warm_up + times * num_samples, dtype=np.float32)
    step = (float(amplitude_pa), onset, offset, wait)
    voltage, peaks = _integrate(noise, 1e3 / rate, _numbers(model), step, times)
    peaks -= warm_up / rate
    skipped = warm_up // times
    return voltage[skipped:], peaks[(peaks >= 0) & (peaks < num_samples / lab.sampling_frequency)]


def _numbers(model):
    """The parameters that the integration needs, as plain numbers."""
    shape_and_membrane = model[: model._fields.index("width_ms")]
    return tuple(float(value) for value in (*shape_and_membrane, model.noise_pa, model.holding_pa))


@numba.njit(nogil=True)
def _integrate(noise, dt, model, step, times):
    """Forward Euler in steps of ``dt`` ms; mean potentials of ``times`` steps, and times of peaks in s.

    The two equations and the reset of Brette & Gerstner (2005). From ``cut`` on the spike is a waveform in place of the
    first equation, and at its end the reset follows; adaptation goes on meanwhile.
    """
    leak, capacitance, rest, v_t, slope, cut, reset, a, b, tau_w, peak, rise, fall, noise_pa, holding = model
    amplitude, onset, offset, wait = step
    voltage, peaks = np.empty(len(noise) // times), []
    decay = np.exp(-dt / NOISE_TAU_MS)
    kick = noise_pa * np.sqrt(1.0 - decay * decay)
    v = min(rest + holding / (leak + a), v_t - slope)
    w, noisy, since, total, block, after_block = a * (v - rest), 0.0, -1.0, 0.0, offset, False
    for n in range(len(noise)):
        noisy = decay * noisy + kick * noise[n]
        current = holding + noisy + (amplitude if onset <= n < offset else 0.0)
        w += dt / tau_w * (a * (v - rest) - w)
        if since >= 0.0:
            since += dt
            if since < rise:
                v = cut + (peak - cut) * (0.5 - 0.5 * np.cos(np.pi * since / rise))
            elif since < rise + fall:
                v = reset + (peak - reset) * (0.5 + 0.5 * np.cos(np.pi * (since - rise) / fall))
            else:
                v, w, since = reset, w + b, -1.0
        elif block <= n < offset:
            # sodium channels stay shut, at a plateau
            v += dt * leak / capacitance * (cut + BLOCK_MV - v)
            after_block = True
        else:
            flow = leak * (rest - v) - w + current
            if after_block:
                after_block = v > v_t - slope
            else:
                flow += leak * slope * np.exp((v - v_t) / slope)
            v += dt / capacitance * flow
            if v >= cut and not after_block:
                v, since = cut, 0.0
                if block == offset and onset <= n < offset:
                    block = n + wait
                peaks.append(((n + 1) * dt + rise) * 1e-3)
        total += v
        if (n + 1) % times == 0:
            voltage[n // times] = total / times
            total = 0.0
    return voltage, np.array(peaks)


def _as_recorded(rng, voltage, model, lab, amplitude, phase):
    """With what the electrode and the amplifier add."""
    at = np.arange(len(voltage)) / lab.sampling_frequency
    inside = (at >= lab.onset_s - 1e-9) & (at < lab.onset_s + lab.step_s - 1e-9)
    # MOhm times pA is uV
    error = 1e-3 * model.bridge_mohm * (model.holding_pa + amplitude * inside)
    white = lab.noise_mv * rng.standard_normal(len(at))
    return voltage + error + white + lab.hum_mv * np.sin(2 * np.pi * 50.0 * at + phase)


def _spoil(rng, voltages, lab):
    """Stop, clip or blank about half of the sweeps in place; which."""
    failed = np.flatnonzero(rng.random(len(voltages)) < 0.5)
    for sweep in failed:
        voltage, how = voltages[sweep], rng.integers(3)
        at = round((lab.onset_s + rng.uniform(0.1, 0.9) * lab.step_s) * lab.sampling_frequency)
        if how == 0:
            voltage[at:] = 0.0
        elif how == 1:
            voltage[at : at + 20] = np.nan
        else:
            # the amplifier is at its limit until the end of the sweep, from one sample to the next
            voltage[at:] = voltage[at] + CLIPPED_MV
    return failed.tolist()
