"""Hamiltonian Monte Carlo chains over one spike's place and source amplitude, compiled.

A position is (x, y, z, a): um relative to the centre contact, and uV. The density is that of
:class:`~si_neuroml.localization.observation.ObservationModel`, written out with its gradient. The kernel holds no
state and draws its random numbers from a counter of its own, so that threads and the order of spikes change nothing.
"""

import math
from typing import NamedTuple

import numba
import numpy as np

from .chain_summary import place_and_amplitude, split_r_hat_and_ess

__all__ = ["NUM_PARAMETERS", "ChainPlan", "leapfrog", "log_posterior", "run_chains"]

NUM_PARAMETERS = 4
# an energy error beyond this is a trajectory that left the posterior (the threshold of Stan)
DIVERGENT_ENERGY = 1000.0
# shares of the warm-up: the start is forgotten until the first, the masses are set from the draws up to the others
MASS_UPDATES = (0.15, 0.4, 0.85)
# where iteration, anchor, mean error and mean logarithm of the step stand in the state of the dual averaging
TRIES, ANCHOR, ERROR, LOG_AVERAGE = range(4)
# SplitMix64 (Steele, Lea & Flood 2014, figure 17)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFT_30, _SHIFT_27, _SHIFT_31, _SHIFT_11 = (np.uint64(bits) for bits in (30, 27, 31, 11))


class ChainPlan(NamedTuple):
    """The settings of the sampler as numba takes them.

    Attributes
    ----------
    num_warmup : int
        Iterations before the draws.
    step_size : float
        Leapfrog step with unit masses; 0: adapted together with the masses.
    num_leapfrog : int
        Steps of every iteration; 0: as many as a jittered `trajectory_length` takes.
    trajectory_length : float
        In posterior standard deviations.
    max_leapfrog : int
        Most steps of an iteration.
    target_accept : float
        Acceptance that the step size is adapted to.
    dispersed : bool
        Whether chains start at random, or on the centre contact.
    """

    num_warmup: int
    step_size: float
    num_leapfrog: int
    trajectory_length: float
    max_leapfrog: int
    target_accept: float
    dispersed: bool


@numba.njit(nogil=True)
def run_chains(amplitudes, offsets, observed, model, keys, seed, plan, planar, samples, mean, covariance, quality):
    """Sample every spike and sum its draws up.

    Parameters
    ----------
    amplitudes : float64 array, shape (num_spikes, num_slots)
        In uV.
    offsets : float64 array, shape (num_spikes, num_slots, 3)
        Contacts relative to the centre contact in um.
    observed : bool array, shape (num_spikes, num_slots)
        Slots that take part.
    model : float64 array, shape (num_spikes, 5)
        Per spike: decay per um, noise variance in uV^2, prior mean and standard deviation of a in uV, prior standard
        deviation of the place in um.
    keys : uint64 array, shape (num_spikes, num_keys)
        What names a spike.
    seed : uint64
        Of everything random.
    plan : ChainPlan
        Settings.
    planar : bool
        Whether z is folded to its absolute value.
    samples : float64 array, shape (num_spikes or 1, num_chains, num_samples, 4)
        Filled with the draws; with 1 in front, the spikes overwrite each other.
    mean : float64 array, shape (num_spikes, 4)
        Filled.
    covariance : float64 array, shape (num_spikes, 3, 3)
        Of the place; filled.
    quality : float64 array, shape (num_spikes, 4)
        Worst R-hat, worst effective sample size, acceptance, divergences; filled.
    """
    seen_amplitudes, seen_contacts = np.empty(amplitudes.shape[1]), np.empty((amplitudes.shape[1], 3))
    for spike in range(len(amplitudes)):
        # only what is observed, so that empty slots cost nothing and change nothing
        count = 0
        for slot in range(observed.shape[1]):
            if observed[spike, slot]:
                seen_amplitudes[count] = amplitudes[spike, slot]
                seen_contacts[count] = offsets[spike, slot]
                count += 1
        draws = samples[spike % len(samples)]
        stream = _mix(seed)
        for key in keys[spike]:
            stream = _mix(stream ^ key)
        quality[spike] = 0.0
        for chain in range(len(draws)):
            random = np.array([_mix(stream ^ np.uint64(chain))])
            accept, divergent = _run_chain(
                seen_amplitudes[:count], seen_contacts[:count], model[spike], plan, planar, random, draws[chain]
            )
            quality[spike, 2] += accept / len(draws)
            quality[spike, 3] += divergent
        place_and_amplitude(draws, mean[spike], covariance[spike])
        quality[spike, 1] = np.inf
        for parameter in range(NUM_PARAMETERS):
            r_hat, ess = split_r_hat_and_ess(draws[:, :, parameter])
            quality[spike, 0] = max(quality[spike, 0], r_hat)
            quality[spike, 1] = min(quality[spike, 1], ess)


@numba.njit(nogil=True)
def log_posterior(position, amplitudes, contacts, model, gradient):
    """Log density of the posterior up to a constant, its gradient written to `gradient` (Hurwitz et al., section 3.3).

    Parameters
    ----------
    position, gradient : float64 array, shape (4,)
        (x, y, z, a), and the derivative by it.
    amplitudes : float64 array, shape (num_observed,)
        In uV.
    contacts : float64 array, shape (num_observed, 3)
        In um.
    model : float64 array, shape (5,)
        A row of `model` in :func:`run_chains`.

    Returns
    -------
    float
    """
    decay, variance, prior_mean, prior_std, place_std = model[0], model[1], model[2], model[3], model[4]
    source = position[3]
    excess = (source - prior_mean) / prior_std
    density = -0.5 * excess**2
    gradient[3] = -excess / prior_std
    for axis in range(3):
        density -= 0.5 * (position[axis] / place_std) ** 2
        gradient[axis] = -position[axis] / place_std**2
    for slot in range(len(amplitudes)):
        dx, dy, dz = (
            position[0] - contacts[slot, 0],
            position[1] - contacts[slot, 1],
            position[2] - contacts[slot, 2],
        )
        # the constant of ObservationModel.footprint
        distance = math.sqrt(dx * dx + dy * dy + dz * dz + 1e-6)
        footprint = math.exp(-decay * distance)
        residual = amplitudes[slot] - source * footprint
        density -= 0.5 * residual**2 / variance
        slope = residual * footprint / variance
        gradient[3] += slope
        pull = -slope * source * decay / distance
        gradient[0] += pull * dx
        gradient[1] += pull * dy
        gradient[2] += pull * dz
    return density


@numba.njit(nogil=True)
def leapfrog(position, momentum, amplitudes, contacts, model, inverse_mass, step, num_steps):
    """Leapfrog integration in place (Neal 2011, equations 2.28 to 2.30).

    Parameters
    ----------
    position, momentum : float64 array, shape (4,)
        Moved.
    amplitudes, contacts, model
        As in :func:`log_posterior`.
    inverse_mass : float64 array, shape (4,)
        Of each parameter.
    step : float
        Step size.
    num_steps : int
        Steps.

    Returns
    -------
    start, end : float
        Energy, kinetic less log density, before and after.
    """
    gradient = np.empty(NUM_PARAMETERS)
    density = log_posterior(position, amplitudes, contacts, model, gradient)
    start = _kinetic(momentum, inverse_mass) - density
    for _ in range(num_steps):
        for k in range(NUM_PARAMETERS):
            momentum[k] += 0.5 * step * gradient[k]
            position[k] += step * inverse_mass[k] * momentum[k]
        density = log_posterior(position, amplitudes, contacts, model, gradient)
        for k in range(NUM_PARAMETERS):
            momentum[k] += 0.5 * step * gradient[k]
    return start, _kinetic(momentum, inverse_mass) - density


@numba.njit(nogil=True)
def _kinetic(momentum, inverse_mass):
    energy = 0.0
    for k in range(NUM_PARAMETERS):
        energy += 0.5 * inverse_mass[k] * momentum[k] ** 2
    return energy


@numba.njit(nogil=True)
def _run_chain(amplitudes, contacts, model, plan, planar, random, draws):
    """Warm up and sample one chain into `draws`; its mean acceptance and its divergences."""
    position, step, inverse_mass = _start(model, plan.dispersed, random), plan.step_size, np.ones(NUM_PARAMETERS)
    adapt = plan.step_size == 0.0
    averaging, spread = np.zeros(4), np.zeros((3, NUM_PARAMETERS))
    if adapt:
        inverse_mass[:3], inverse_mass[3] = model[4] ** 2, model[3] ** 2
        step = _restart(averaging, position, amplitudes, contacts, model, inverse_mass, random)
    accepted, divergent = 0.0, 0
    for iteration in range(plan.num_warmup + len(draws)):
        num_steps = _num_steps(plan, step, random)
        accept, diverged = _iterate(position, amplitudes, contacts, model, inverse_mass, step, num_steps, random)
        if planar:
            # density and masses are even in z, so that the chain of (x, y, |z|, a) is a chain of its own
            position[2] = abs(position[2])
        if iteration >= plan.num_warmup:
            draws[iteration - plan.num_warmup] = position
            accepted += accept / len(draws)
            divergent += diverged
        elif adapt:
            step = _average(averaging, accept, plan.target_accept)
            _accumulate(spread, position)
            if _take_masses(spread, iteration + 1, plan.num_warmup, inverse_mass):
                step = _restart(averaging, position, amplitudes, contacts, model, inverse_mass, random)
            if iteration + 1 == plan.num_warmup:
                step = math.exp(averaging[LOG_AVERAGE])
    return accepted, divergent


@numba.njit(nogil=True)
def _start(model, dispersed, random):
    position = np.zeros(NUM_PARAMETERS)
    position[3] = model[2]
    if dispersed:
        for axis in range(3):
            position[axis] = 0.5 * model[4] * _normal(random)
        position[3] += model[3] * _normal(random)
    return position


@numba.njit(nogil=True)
def _iterate(position, amplitudes, contacts, model, inverse_mass, step, num_steps, random):
    """One iteration in place; its acceptance probability and whether it diverged."""
    proposal, momentum = position.copy(), np.empty(NUM_PARAMETERS)
    for parameter in range(NUM_PARAMETERS):
        momentum[parameter] = _normal(random) / math.sqrt(inverse_mass[parameter])
    start, end = leapfrog(proposal, momentum, amplitudes, contacts, model, inverse_mass, step, num_steps)
    # the other way round, an energy that is not finite would pass
    accept = math.exp(min(0.0, start - end)) if end - start < DIVERGENT_ENERGY else 0.0
    if _uniform(random) < accept:
        position[:] = proposal
    return accept, not end - start < DIVERGENT_ENERGY


@numba.njit(nogil=True)
def _num_steps(plan, step, random):
    if plan.num_leapfrog > 0:
        return plan.num_leapfrog
    wanted = plan.trajectory_length * (0.5 + _uniform(random)) / step
    # compared as floats: a tiny step asks for more steps than an integer holds
    return plan.max_leapfrog if wanted >= plan.max_leapfrog else max(1, round(wanted))


@numba.njit(nogil=True)
def _restart(averaging, position, amplitudes, contacts, model, inverse_mass, random):
    """Restart the dual averaging at a step whose acceptance is about 1/2 (Hoffman & Gelman 2014, algorithm 4)."""
    step, direction = 1.0, 0
    for _ in range(60):
        accept, _ = _iterate(position.copy(), amplitudes, contacts, model, inverse_mass, step, 1, random)
        wanted = 1 if accept > 0.5 else -1
        if direction == -wanted:
            break
        direction = wanted
        step *= 2.0**direction
    averaging[:] = 0.0
    averaging[ANCHOR] = math.log(10.0 * step)
    return step


@numba.njit(nogil=True)
def _average(averaging, accept, target):
    """The next step to try (Hoffman & Gelman 2014, equation 6, with their gamma, t0 and kappa)."""
    averaging[TRIES] += 1.0
    tries = averaging[TRIES]
    averaging[ERROR] += (target - accept - averaging[ERROR]) / (tries + 10.0)
    log_step = averaging[ANCHOR] - math.sqrt(tries) / 0.05 * averaging[ERROR]
    averaging[LOG_AVERAGE] += tries**-0.75 * (log_step - averaging[LOG_AVERAGE])
    return math.exp(log_step)


@numba.njit(nogil=True)
def _accumulate(spread, position):
    """Running count, mean and squares of the draws (Welford 1962)."""
    for k in range(NUM_PARAMETERS):
        spread[0, k] += 1.0
        change = position[k] - spread[1, k]
        spread[1, k] += change / spread[0, k]
        spread[2, k] += change * (position[k] - spread[1, k])


@numba.njit(nogil=True)
def _take_masses(spread, done, num_warmup, inverse_mass):
    """Set the masses at the end of a window; whether they changed."""
    changed = False
    for share in MASS_UPDATES:
        if done == int(share * num_warmup):
            changed = share > MASS_UPDATES[0]
            for k in range(NUM_PARAMETERS):
                if changed:
                    # Stan's shrinkage: a few draws say little about a variance
                    inverse_mass[k] = (spread[2, k] + 5e-3) / (spread[0, k] + 5.0)
                spread[:, k] = 0.0
    return changed


@numba.njit(nogil=True)
def _mix(value):
    """A well mixed 64-bit number from any."""
    value = value + _GAMMA
    value = (value ^ (value >> _SHIFT_30)) * _MIX_1
    value = (value ^ (value >> _SHIFT_27)) * _MIX_2
    return value ^ (value >> _SHIFT_31)


@numba.njit(nogil=True)
def _uniform(random):
    """A number in [0, 1); `random` is a counter in an array of one."""
    found = _mix(random[0])
    random[0] += _GAMMA
    return float(found >> _SHIFT_11) * 2.0**-53


@numba.njit(nogil=True)
def _normal(random):
    """Box & Muller (1958); every call draws two uniforms, so that the count of draws depends on no result."""
    radius = math.sqrt(-2.0 * math.log(1.0 - _uniform(random)))
    return radius * math.cos(2.0 * math.pi * _uniform(random))
