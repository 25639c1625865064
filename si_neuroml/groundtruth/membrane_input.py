"""What drives a simulated cell: fluctuations, bursts, events of its dendrite, and what is like an event but is none.

Inputs are in mV: how far each would move its compartment if it lasted, the soma without the dendrite and the dendrite
beside a soma at rest.
"""

from typing import NamedTuple

import numpy as np

from .membrane_potential import (
    DENDRITIC_SPIKE_RISE_MS,
    MEMBRANE_EVENT_DTYPE,
    PLATEAU_FALL_MS,
    PLATEAU_RISE_MS,
    local_waveform,
)
from .random_processes import from_slow_grid, ou_noise, poisson_times, slow_grid_length

__all__ = ["TO_SOMA", "CellInput", "background_input", "draw_input"]

# conductance from the dendrite to the soma, relative to the leak of the soma
TO_SOMA = 0.4
SLOW_RATE_HZ, SLOW_TAU_S = 100.0, 0.5
EPSP_TAU_MS = 2.0
# the depolarisation of a burst begins before its first spike; it ends, and the cell can spike again, after its last
BURST_LEAD_MS, BURST_END_MS, BURST_HOLD_MS = 5.0, 3.0, 20.0


class CellInput(NamedTuple):
    """The input of one cell.

    Attributes
    ----------
    soma, dendrite : float32 array, shape (num_samples,)
        Drive of the two compartments.
    forced : int64 array, shape (num_forced,)
        Samples at which an action potential starts whatever the potential is: those of bursts.
    holds : int64 array, shape (num_bursts, 2)
        Intervals, the end exclusive, in which no other starts.
    """

    soma: np.ndarray
    dendrite: np.ndarray
    forced: np.ndarray
    holds: np.ndarray


def background_input(rng: np.random.Generator, num_samples: int, rate: float, cell: dict[str, float]) -> CellInput:
    """Slow modulation, theta rhythm and fast fluctuation at the soma, and nothing else."""
    num_slow = slow_grid_length(num_samples, rate, SLOW_RATE_HZ)
    slow = cell["slow_mv"] * ou_noise(rng, num_slow, 1 / (SLOW_TAU_S * SLOW_RATE_HZ))
    # the rhythm drifts in phase, as a sum of random steps
    phase = np.cumsum(2 * np.pi * rng.uniform(5, 9) / SLOW_RATE_HZ + 0.1 * rng.standard_normal(num_slow))
    slow = slow + cell["theta_mv"] * np.sin(phase)
    soma = from_slow_grid(slow, SLOW_RATE_HZ, num_samples, rate).astype(np.float32)
    # the membrane smooths the input, which is made larger by as much
    tau_ms, membrane_tau_ms = cell["fluctuation_tau_ms"], cell["membrane_tau_ms"]
    height = cell["fluctuation_mv"] * (1 + TO_SOMA) * np.sqrt((tau_ms + membrane_tau_ms) / tau_ms)
    soma += np.float32(height) * ou_noise(rng, num_samples, 1e3 / (rate * tau_ms))
    return CellInput(soma, np.zeros_like(soma), np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64))


def draw_input(
    rng: np.random.Generator, num_samples: int, rate: float, cell: dict[str, float], *, silent: bool
) -> tuple[CellInput, np.ndarray]:
    """Draw the input of one cell.

    Parameters
    ----------
    rng : np.random.Generator
        What all is drawn from.
    num_samples : int
        Length of the input.
    rate : float
        In Hz.
    cell : dict
        Drawn by ``MembraneSettings.draw``, with ``mean_drive_mv`` from ``find_mean_drive``.
    silent : bool
        Leave out the bursts and the events of the dendrite.

    Returns
    -------
    CellInput
    structured array, MEMBRANE_EVENT_DTYPE
        The events of the dendrite.
    """
    background = background_input(rng, num_samples, rate, cell)
    soma, dendrite = background.soma, background.dendrite
    soma += np.float32(cell["mean_drive_mv"])
    _add_epsp_trains(rng, soma, rate, cell)
    _add_steps(rng, soma, rate, cell["step_rate_hz"])
    if silent:
        return background, np.zeros(0, dtype=MEMBRANE_EVENT_DTYPE)
    forced, holds = _add_bursts(rng, soma, rate, cell["burst_rate_hz"])
    events = np.array(
        _draw_dendritic_spikes(rng, num_samples / rate, rate, cell)
        + _draw_plateaus(rng, num_samples / rate, rate, cell),
        dtype=MEMBRANE_EVENT_DTYPE,
    )
    for event in events:
        start, wave = event["onset"], local_waveform(event, rate)
        dendrite[start : start + len(wave)] += wave[: num_samples - start]
    return CellInput(soma, dendrite, forced, holds), events


def _add_epsp_trains(rng: np.random.Generator, drive: np.ndarray, rate: float, cell: dict[str, float]) -> None:
    """Trains of 3 to 8 EPSPs at 50 to 150 Hz, added in place."""
    t_ms = np.arange(round(0.03 * rate)) * (1e3 / rate)
    epsp = t_ms / EPSP_TAU_MS * np.exp(1 - t_ms / EPSP_TAU_MS)
    area_ms = epsp.sum() * 1e3 / rate
    for start in poisson_times(rng, cell["epsp_burst_rate_hz"], len(drive) / rate, gap=0.1):
        intervals = rng.uniform(1 / 150, 1 / 50, size=rng.integers(3, 9))
        # a brief current of this area moves the membrane by 2 to 5 mV
        height = rng.uniform(2.0, 5.0) * cell["membrane_tau_ms"] / area_ms
        for time in start + np.cumsum(intervals):
            first = int(time * rate)
            drive[first : first + len(epsp)] += (height * epsp[: max(0, len(drive) - first)]).astype(np.float32)


def _add_steps(rng: np.random.Generator, drive: np.ndarray, rate: float, rate_hz: float) -> None:
    """Steps of current of 100 to 500 ms up or down, added in place."""
    for start in poisson_times(rng, rate_hz, len(drive) / rate, gap=0.5):
        size = rng.choice([-1.0, 1.0]) * rng.uniform(5.0, 12.0)
        drive[int(start * rate) : int((start + rng.uniform(0.1, 0.5)) * rate)] += np.float32(size)


def _add_bursts(
    rng: np.random.Generator, drive: np.ndarray, rate: float, rate_hz: float
) -> tuple[np.ndarray, np.ndarray]:
    """Depolarisations of bursts, added in place; their forced spikes and the intervals held free of others."""
    per_ms = rate * 1e-3
    starts, holds = [], []
    for time in poisson_times(rng, rate_hz, len(drive) / rate, gap=0.15):
        # the whole burst has one rate, with a little variation; at most 250 Hz
        interval_ms = rng.uniform(4.0, 10.0)
        intervals = np.clip(interval_ms * rng.uniform(0.9, 1.1, size=rng.integers(1, 5)), 4.0, 10.0)
        begin = int(time * rate)
        burst = (begin + BURST_LEAD_MS * per_ms + np.concatenate([[0], np.cumsum(intervals)]) * per_ms).astype(np.int64)
        end = int(burst[-1] + BURST_HOLD_MS * per_ms)
        if end > len(drive):
            break
        drive[begin : int(burst[-1] + BURST_END_MS * per_ms)] += np.float32(rng.uniform(15.0, 25.0))
        starts.extend(burst)
        # held back before as well, so that the first spike is never refused as too early
        holds.append((begin, end))
    return np.array(starts, dtype=np.int64), np.array(holds, dtype=np.int64).reshape(-1, 2)


def _draw_dendritic_spikes(
    rng: np.random.Generator, duration: float, rate: float, cell: dict[str, float]
) -> list[tuple]:
    """Rows of MEMBRANE_EVENT_DTYPE, of 5 to 15 ms."""
    rows = []
    rise = round(DENDRITIC_SPIKE_RISE_MS * 1e-3 * rate)
    for time in poisson_times(rng, cell["dendritic_spike_rate_hz"], duration, gap=0.03):
        first = int(time * rate)
        length = round(rng.uniform(5.0, 15.0) * 1e-3 * rate)
        amplitude = cell["dendritic_spike_mv"] * rng.uniform(0.8, 1.2)
        extent = cell["dendritic_spike_extent_um"]
        rows.append(("dendritic_spike", first + rise, first, first + length, amplitude, rng.random(), extent))
    return rows


def _draw_plateaus(rng: np.random.Generator, duration: float, rate: float, cell: dict[str, float]) -> list[tuple]:
    """Rows of MEMBRANE_EVENT_DTYPE, of 30 to 200 ms at half height."""
    rows = []
    rise = round(PLATEAU_RISE_MS * 1e-3 * rate)
    extra_ms = (PLATEAU_RISE_MS + PLATEAU_FALL_MS) / 2
    for time in poisson_times(rng, cell["plateau_rate_hz"], duration, gap=0.3):
        first = int(time * rate)
        length = round((rng.uniform(30.0, 200.0) + extra_ms) * 1e-3 * rate)
        amplitude = cell["plateau_mv"] * rng.uniform(0.8, 1.2)
        rows.append(("plateau", first + rise, first, first + length, amplitude, np.nan, np.nan))
    return rows
