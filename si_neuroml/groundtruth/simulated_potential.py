"""The membrane potential of a simulated cell, whose events are what the simulation did, not what a detector finds.

The cell is an adaptive exponential integrate-and-fire model (Brette & Gerstner 2005, J Neurophysiol 94:3637) of two
compartments, soma and dendrite. Each action potential is drawn out as a waveform, since an optical recording sees its
width.
"""

from typing import NamedTuple

import numba
import numpy as np

from ..errors import InputError
from .membrane_input import TO_SOMA, background_input, draw_input
from .membrane_potential import MembranePotential, ap_window, somatic_events

__all__ = ["find_mean_drive", "simulate_membrane_potential"]

MIN_RATE_HZ = 10_000.0
REFRACTORY_MS = 3.5
# conductance from the soma to the dendrite, relative to the leak of the dendrite
TO_DENDRITE = 0.4
DENDRITE_TAU = 0.7  # of the membrane time constant
# how sharply a spike starts, and how far below the threshold the potential comes back
SLOPE_MV, RESET_MV = 1.5, 6.0
ADAPTATION_MV, ADAPTATION_TAU_MS = 1.0, 150.0
WARM_UP_S = 0.5
TRIAL_S, TRIAL_STEPS = 10.0, 8


def simulate_membrane_potential(
    duration: float,
    sampling_frequency: float,
    cell: dict[str, float],
    *,
    silent: bool = False,
    seed: int | np.random.SeedSequence = 0,
) -> MembranePotential:
    """Simulate one cell.

    Parameters
    ----------
    duration : float
        In s.
    sampling_frequency : float
        In Hz, at least 10,000.
    cell : dict
        Drawn by ``MembraneSettings.draw``; ``mean_drive_mv`` in it spares the search for the mean input.
    silent : bool, default: False
        A cell without any event: it has the fluctuations, EPSPs and steps of others, but no mechanism to spike.
    seed : int or SeedSequence, default: 0
        The same seed and arguments give the same result.

    Returns
    -------
    MembranePotential

    Raises
    ------
    InputError
        If the duration or the sampling frequency is out of range.
    """
    if not np.isfinite(duration) or duration <= 0:
        raise InputError(f"duration must be above 0 s, got {duration}.")
    if not np.isfinite(sampling_frequency) or sampling_frequency < MIN_RATE_HZ:
        raise InputError(f"A cell is simulated at {MIN_RATE_HZ:,.0f} Hz or more, got {sampling_frequency} Hz.")
    if "mean_drive_mv" not in cell:
        cell = cell | {"mean_drive_mv": find_mean_drive(cell)}
    skipped = round(WARM_UP_S * sampling_frequency)
    num_samples = skipped + round(duration * sampling_frequency)
    given, local = draw_input(np.random.default_rng(seed), num_samples, sampling_frequency, cell, silent=silent)
    model = _model(cell, sampling_frequency, spiking=not silent)
    soma, peaks = _integrate(given, model)
    fall = len(model.ap_shape) - model.rise
    spikes = somatic_events(peaks, model.rise, fall, cell["ap_peak_mv"] - cell["resting_mv"])
    events = _after_warm_up(np.concatenate([spikes, local]), skipped, num_samples)
    ap = _model_ap(model, sampling_frequency)
    return MembranePotential(soma[skipped:], float(sampling_frequency), events, cell["resting_mv"], ap)


def find_mean_drive(cell: dict[str, float]) -> float:
    """Mean input in mV at which the fluctuations trigger about ``cell["firing_rate_hz"]`` spikes (0 for none)."""
    if cell["firing_rate_hz"] == 0:
        return 0.0
    model = _model(cell, MIN_RATE_HZ, spiking=True)
    background = background_input(np.random.default_rng(0), int(TRIAL_S * MIN_RATE_HZ), MIN_RATE_HZ, cell)
    low, high = -cell["threshold_mv"], 2 * cell["threshold_mv"]
    for _ in range(TRIAL_STEPS):
        middle = (low + high) / 2
        count = len(_integrate(background._replace(soma=background.soma + np.float32(middle)), model)[1])
        low, high = (low, middle) if count > cell["firing_rate_hz"] * TRIAL_S else (middle, high)
    return (low + high) / 2


class _Model(NamedTuple):
    """What the integration needs, times in samples, potentials in mV; steps are shares of a time constant."""

    resting: float
    threshold: float
    reset: float
    ap_peak: float
    soma_step: float
    dendrite_step: float
    ahp_mv: float
    ahp_decay: float
    adaptation_decay: float
    # 0 to 1 and back, without the 0 at the start; the peak is at rise - 1
    ap_shape: np.ndarray
    rise: int
    refractory: int
    spiking: bool


def _model(cell: dict[str, float], rate: float, *, spiking: bool) -> _Model:
    per_ms = rate * 1e-3
    threshold = cell["resting_mv"] + cell["threshold_mv"]
    # raised cosines up and down: width at half height is half of the sum
    rise, fall = (max(1, round(share * cell["ap_half_width_ms"] * per_ms)) for share in (0.5, 1.5))
    up = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, rise + 1) / rise)
    down = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, fall + 1) / fall)
    return _Model(
        resting=cell["resting_mv"],
        threshold=threshold,
        reset=threshold - RESET_MV,
        ap_peak=cell["ap_peak_mv"],
        soma_step=1 / (cell["membrane_tau_ms"] * per_ms),
        dendrite_step=1 / (DENDRITE_TAU * cell["membrane_tau_ms"] * per_ms),
        ahp_mv=cell["ahp_mv"],
        ahp_decay=float(np.exp(-1 / (cell["ahp_tau_ms"] * per_ms))),
        adaptation_decay=float(np.exp(-1 / (ADAPTATION_TAU_MS * per_ms))),
        ap_shape=np.concatenate([up, down]),
        rise=rise,
        refractory=round(REFRACTORY_MS * per_ms),
        spiking=spiking,
    )


@numba.njit(nogil=True)
def _integrate(given, model):
    """Forward Euler; spikes start at the threshold or where forced, never by themselves within ``holds``."""
    soma_drive, dendritic_drive, forced, holds = given
    num_samples, num_shape = len(soma_drive), len(model.ap_shape)
    soma = np.empty(num_samples, dtype=np.float32)
    peaks = np.empty(num_samples // model.refractory + len(forced) + 1, dtype=np.int64)
    num_peaks, next_forced, hold = 0, 0, 0
    v, dendrite, ahp, adaptation = model.resting, model.resting, 0.0, 0.0
    cut = model.threshold + 3 * SLOPE_MV if model.spiking else model.threshold
    since, foot, end = model.refractory + num_shape, v, model.reset
    for n in range(num_samples):
        ahp *= model.ahp_decay
        adaptation *= model.adaptation_decay
        dendrite += model.dendrite_step * (
            model.resting - dendrite + TO_DENDRITE * (v - dendrite) + (1 + TO_DENDRITE) * dendritic_drive[n]
        )
        since += 1
        if since <= num_shape:
            base = foot if since <= model.rise else end
            v = base + (model.ap_peak - base) * model.ap_shape[since - 1]
            soma[n] = v
            continue
        while hold < len(holds) and n >= holds[hold, 1]:
            hold += 1
        held = hold < len(holds) and n >= holds[hold, 0]
        flow = model.resting - v + TO_SOMA * (dendrite - v) - ahp - adaptation + soma_drive[n]
        if model.spiking and not held:
            flow += SLOPE_MV * np.exp(min((v - model.threshold) / SLOPE_MV, 10.0))
        v += model.soma_step * flow
        is_forced = next_forced < len(forced) and n >= forced[next_forced]
        if is_forced:
            next_forced += 1
        if model.spiking and (is_forced or (v >= cut and not held)) and since > model.refractory:
            foot, since = min(v, cut), 0
            # a burst rides on a depolarisation, which its spikes do not undo
            end = model.threshold + 2 * SLOPE_MV if held else model.reset
            ahp += model.ahp_mv
            adaptation += ADAPTATION_MV
            if n + model.rise < num_samples:
                peaks[num_peaks] = n + model.rise
                num_peaks += 1
        v = min(v, cut)
        soma[n] = v
    return soma, peaks[:num_peaks]


def _model_ap(model: _Model, rate: float) -> np.ndarray:
    """The action potential of the model, which rises from the threshold and falls to the reset."""
    before, after = ap_window(rate)
    base = np.where(np.arange(before + after) <= before, model.threshold, model.reset)
    height = np.zeros(before + after)
    first = before + 1 - model.rise
    height[first : first + len(model.ap_shape)] = model.ap_shape
    return (base + (model.ap_peak - base) * height).astype(np.float32)


def _after_warm_up(events: np.ndarray, skipped: int, num_samples: int) -> np.ndarray:
    """Events that lie wholly behind the warm-up and have their peak before the end, in order, counted from there."""
    for name in ("sample_index", "onset", "offset"):
        events[name] -= skipped
    events = events[(events["onset"] >= 0) & (events["sample_index"] < num_samples - skipped)]
    return events[np.argsort(events["sample_index"], kind="stable")]
