"""How a simulated unit fires: irregular trains with a refractory period, bursts and responses to event onsets.

The train is a renewal process whose clock runs faster or slower after an onset. A spike is followed by a refractory
period and then by a gamma-distributed wait on that clock, or with some probability by a further spike of a burst. The
parameters mean what they say: away from onsets the mean rate is the one asked for, whatever the bursts.
"""

import math
from dataclasses import dataclass, fields

import numba
import numpy as np

from ..errors import InputError

__all__ = [
    "RESPONSE_BIN_S",
    "RESPONSE_TYPES",
    "RegionProfile",
    "UnitFiring",
    "interval_cv",
    "response_factor",
    "simulate_spike_train",
]

RESPONSE_TYPES = ("transient", "sustained", "suppressed", "none")
RESPONSE_BIN_S, RESPONSE_END_S = 5e-3, 1.2
# a sustained response keeps this share of its peak until it ends
PLATEAU_SHARE, PLATEAU_END_S, PLATEAU_FALL_S = 0.7, 0.6, 0.08
# intervals within a burst lie within this share of their mean
BURST_JITTER = 0.3
MAX_DUTY = 0.9


@dataclass(frozen=True)
class RegionProfile:
    """What is typical of the units of one region; single units, recordings and animals scatter around it.

    Attributes
    ----------
    name : str
        The region.
    rate_hz : float
        Mean rate away from onsets.
    irregularity : float
        Coefficient of variation of the wait between refractory period and next spike: 1 is Poisson, less is regular.
    refractory_ms : float
        Refractory period, between bursts; no two spikes are nearer than this or the shortest interval of a burst.
    burst_probability : float
        Probability that a spike is followed by one more of a burst.
    burst_interval_ms : float
        Mean interval within a burst.
    transient, sustained, suppressed : float
        Shares of the units that respond in this way to an onset; the others do not respond.
    latency_s : float
        From the onset to the beginning of the response.
    response_gain : float
        Rate at the peak of a response over the rate without, minus 1. A suppressed unit falls to 1 / (1 + gain).
    width_ms, amplitude_uv : float
        Trough-to-peak duration and peak-to-peak amplitude of the waveform at its largest contact.
    """

    name: str
    rate_hz: float = 5.0
    irregularity: float = 1.0
    refractory_ms: float = 2.0
    burst_probability: float = 0.1
    burst_interval_ms: float = 5.0
    transient: float = 0.3
    sustained: float = 0.2
    suppressed: float = 0.1
    latency_s: float = 0.06
    response_gain: float = 2.0
    width_ms: float = 0.4
    amplitude_uv: float = 120.0

    def __post_init__(self):
        shares = (self.transient, self.sustained, self.suppressed)
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise InputError(
                f"Region {self.name!r}: transient, sustained and suppressed are shares of the units, from 0 and "
                f"together at most 1, got {shares}."
            )
        if not 0 <= self.burst_probability < 1:
            raise InputError(
                f"Region {self.name!r}: burst_probability must be from 0 to below 1, got {self.burst_probability}."
            )
        signless = ("refractory_ms", "latency_s", "response_gain")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("name", "burst_probability", *RESPONSE_TYPES):
                continue
            if not np.isfinite(value) or value < 0 or (value == 0 and item.name not in signless):
                raise InputError(f"Region {self.name!r}: {item.name} must be above 0, got {value}.")


@dataclass(frozen=True)
class UnitFiring:
    """How one unit fires; the fields are those of :class:`RegionProfile` with the scatter applied.

    Attributes
    ----------
    rate_hz, irregularity, refractory_ms, burst_probability, burst_interval_ms, latency_s, response_gain : float
        As there.
    response : {"transient", "sustained", "suppressed", "none"}
        What the unit does after an onset.
    """

    rate_hz: float
    irregularity: float = 1.0
    refractory_ms: float = 2.0
    burst_probability: float = 0.0
    burst_interval_ms: float = 5.0
    response: str = "none"
    latency_s: float = 0.06
    response_gain: float = 0.0

    @property
    def mean_wait_s(self) -> float:
        """Mean wait after a refractory period that gives the mean rate, away from onsets.

        Raises
        ------
        InputError
            When the rate is not above 0, or refractory periods and bursts leave no room for it.
        """
        if not self.rate_hz > 0:
            raise InputError(f"rate_hz must be above 0, got {self.rate_hz}.")
        more = self.burst_probability / (1 - self.burst_probability)
        dead_s = 1e-3 * (self.refractory_ms + more * self.burst_interval_ms)
        cycle_s = (1 + more) / self.rate_hz
        if dead_s > MAX_DUTY * cycle_s:
            raise InputError(
                f"A rate of {self.rate_hz:g} Hz leaves {1e3 * cycle_s:.3g} ms for each burst, of which refractory "
                f"period and burst take {1e3 * dead_s:.3g} ms. Lower the rate, the refractory period or the bursts."
            )
        return cycle_s - dead_s


def interval_cv(firing: UnitFiring) -> float:
    """Coefficient of variation of the ISIs away from onsets, worked out from the parameters.

    Parameters
    ----------
    firing : UnitFiring
        How the unit fires.
    """
    p, burst_s = firing.burst_probability, 1e-3 * firing.burst_interval_ms
    wait_s = firing.mean_wait_s
    long_s = 1e-3 * firing.refractory_ms + wait_s
    mean = p * burst_s + (1 - p) * long_s
    within = p * (burst_s * BURST_JITTER) ** 2 / 3 + (1 - p) * (wait_s * firing.irregularity) ** 2
    between = p * (burst_s - mean) ** 2 + (1 - p) * (long_s - mean) ** 2
    return math.sqrt(within + between) / mean


def response_factor(response: str, latency_s: float, gain: float) -> np.ndarray:
    """By how much the clock of a unit is faster after an onset, in bins of :data:`RESPONSE_BIN_S`.

    Parameters
    ----------
    response : {"transient", "sustained", "suppressed", "none"}
        Shape: a peak that falls within 0.1 s, one that holds 0.7 of its height until 0.6 s after the latency, the
        inverse of such a one, or nothing.
    latency_s : float
        Beginning of the response after the onset.
    gain : float
        Peak minus 1.

    Returns
    -------
    float64 array, shape (240,)
        1 where nothing changes, ``1 + gain`` at the peak of an excitation, ``1 / (1 + gain)`` at that of a suppression.

    Raises
    ------
    InputError
        When the response is none of these.
    """
    if response not in RESPONSE_TYPES:
        raise InputError(f"response must be one of {RESPONSE_TYPES}, got {response!r}.")
    since = (np.arange(round(RESPONSE_END_S / RESPONSE_BIN_S)) + 0.5) * RESPONSE_BIN_S - latency_s
    since = np.maximum(since, 0.0)
    tau = 0.03
    peak = since / tau * np.exp(1 - since / tau)
    plateau = (1 - np.exp(-since / tau)) * np.exp(-np.maximum(since - PLATEAU_END_S, 0.0) / PLATEAU_FALL_S)
    shape = peak if response == "transient" else (1 - PLATEAU_SHARE) * peak + PLATEAU_SHARE * plateau
    if response == "none" or gain == 0 or not shape.any():
        return np.ones(len(since))
    factor = 1 + gain * shape / shape.max()
    return 1 / factor if response == "suppressed" else factor


def simulate_spike_train(
    rng: np.random.Generator, firing: UnitFiring, duration_s: float, onsets: np.ndarray
) -> np.ndarray:
    """Draw one spike train.

    Parameters
    ----------
    rng : np.random.Generator
        What it is drawn from.
    firing : UnitFiring
        How the unit fires.
    duration_s : float
        Length of the train.
    onsets : float64 array, shape (num_onsets,)
        Sorted event onsets in s. A response ends where the next onset comes.

    Returns
    -------
    float64 array, shape (num_spikes,)
        Sorted spike times in s, within [0, duration_s).
    """
    factor = response_factor(firing.response, firing.latency_s, firing.response_gain)
    refractory_s, interval_s = 1e-3 * firing.refractory_ms, 1e-3 * firing.burst_interval_ms
    settings = (firing.mean_wait_s, firing.irregularity**-2, refractory_s, firing.burst_probability, interval_s)
    # one type for all, or each mixture of whole and other numbers would be compiled anew
    settings = (float(duration_s), RESPONSE_BIN_S, *map(float, settings))
    return _draw_train(rng, np.asarray(onsets, dtype="float64"), factor, *settings)


@numba.njit(nogil=True)
def _draw_train(rng, onsets, factor, duration, bin_s, wait, shape, refractory, burst_probability, burst_interval):
    times = np.empty(1024)
    count = 0
    onset = -1
    # begun well before the recording, so that its first spike is not tied to its start
    time = -10.0 * (wait + refractory)
    while True:
        if rng.random() < burst_probability:
            time += burst_interval * (1.0 + BURST_JITTER * (2.0 * rng.random() - 1.0))
        else:
            left = wait / shape * rng.standard_gamma(shape)
            time, onset = _advance(time + refractory, left, onset, onsets, factor, bin_s)
        if time >= duration:
            return times[:count].copy()
        if time >= 0.0:
            if count == len(times):
                longer = np.empty(2 * count)
                longer[:count] = times
                times = longer
            times[count] = time
            count += 1


@numba.njit(nogil=True)
def _advance(time, left, onset, onsets, factor, bin_s):
    """Time at which a clock with the speed `factor` after each onset has run for `left`, and the last onset before."""
    while True:
        while onset + 1 < len(onsets) and onsets[onset + 1] <= time:
            onset += 1
        end = onsets[onset + 1] if onset + 1 < len(onsets) else np.inf
        speed = 1.0
        if onset >= 0:
            k = int((time - onsets[onset]) / bin_s)
            # rounding may leave the time at the very end of its bin
            k += onsets[onset] + (k + 1) * bin_s <= time
            if k < len(factor):
                speed = factor[k]
                end = min(end, onsets[onset] + (k + 1) * bin_s)
        if left <= speed * (end - time):
            return time + left / speed, onset
        left -= speed * (end - time)
        time = end
