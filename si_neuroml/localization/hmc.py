"""Places of spikes by Hamiltonian Monte Carlo: the posterior of the observation model, with no network in between.

Hurwitz et al. (2019), section 3.6, sample the place (x, y, z) and the amplitude a at the source of every spike under
the same model as the VAE. Here this is the reference that faster methods are held against, so that a chain that has
not converged must show: R-hat and the effective sample size come with every spike.

Every spike has its own random numbers, made from (seed, key of the spike, chain). Its result therefore depends neither
on the other spikes of the batch nor on their order.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from .hmc_chains import NUM_PARAMETERS, ChainPlan, run_chains
from .observation import ObservationModel

__all__ = ["HMC_PRESETS", "HMCPosterior", "HMCSettings", "hmc_settings", "sample_posterior"]


def _check_whole(name, value, least):
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def _check_number(name, value, below=math.inf):
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not (is_number and 0 < value < below):
        raise InputError(f"{name} must be a number between 0 and {below:g}, got {value!r}.")


@dataclass(frozen=True)
class HMCSettings:
    """Settings of the sampler.

    Attributes
    ----------
    num_chains : int, default: 4
        Chains per spike.
    num_warmup, num_samples : int, default: 300, 300
        Iterations of each chain that are dropped, and that are kept.
    step_size : float | None, default: None
        Leapfrog step with unit masses (um, uV). None: found in the warm-up by dual averaging (Hoffman & Gelman 2014,
        section 3.2), together with one mass per parameter, the inverse of its variance.
    num_leapfrog : int | None, default: None
        Leapfrog steps of every iteration. None: as many as `trajectory_length` takes, at most `max_leapfrog`.
    trajectory_length : float, default: 3.0
        Length of a trajectory, in posterior standard deviations once the masses are found; drawn between half and one
        and a half of this in every iteration, so that no trajectory closes on itself.
    max_leapfrog : int, default: 100
        Most leapfrog steps of an iteration.
    target_accept : float, default: 0.8
        Mean acceptance that the dual averaging aims at.
    start : "dispersed" | "center", default: "dispersed"
        "dispersed": each chain starts at a draw from the prior with half the spread of the place. "center": on the
        centre channel at the prior mean of the amplitude.
    """

    num_chains: int = 4
    num_warmup: int = 300
    num_samples: int = 300
    step_size: float | None = None
    num_leapfrog: int | None = None
    trajectory_length: float = 3.0
    max_leapfrog: int = 100
    target_accept: float = 0.8
    start: str = "dispersed"

    def __post_init__(self):
        for name, least in (("num_chains", 1), ("num_warmup", 0), ("num_samples", 4), ("max_leapfrog", 1)):
            _check_whole(name, getattr(self, name), least)
        if self.num_leapfrog is not None:
            _check_whole("num_leapfrog", self.num_leapfrog, 1)
        if self.step_size is not None:
            _check_number("step_size", self.step_size)
        elif self.num_warmup < 100:
            raise InputError(
                f"Finding a step size takes a warm-up of at least 100 iterations, num_warmup is {self.num_warmup}. "
                "Raise it or give a step_size."
            )
        _check_number("trajectory_length", self.trajectory_length)
        _check_number("target_accept", self.target_accept, below=1.0)
        if self.start not in ("dispersed", "center"):
            raise InputError(f'start must be "dispersed" or "center", got {self.start!r}.')


HMC_PRESETS: dict[str, HMCSettings] = {
    # sections 3.6 and 4: 10,000 iterations of 10 leapfrog steps of 0.01. The paper does not say what it drops: here the
    # first half; nor the masses: here 1; nor the start: here the centre channel at the prior mean of the amplitude
    "hurwitz2019": HMCSettings(
        num_chains=1, num_warmup=5000, num_samples=5000, step_size=0.01, num_leapfrog=10, start="center"
    ),
}


class HMCPosterior(NamedTuple):
    """What the chains of each spike say.

    Attributes
    ----------
    mean : float64 array, shape (num_spikes, 3)
        Posterior mean of the place relative to the centre contact, in um; of abs(z) on planar probes.
    covariance : float64 array, shape (num_spikes, 3, 3)
        Of the place in um^2; of abs(z) on planar probes.
    source_amplitude : float64 array, shape (num_spikes,)
        Posterior mean of a in uV.
    r_hat : float64 array, shape (num_spikes,)
        Split R-hat, the worst of the four parameters; near 1 when the chains agree, inf when they never moved.
    ess : float64 array, shape (num_spikes,)
        Effective sample size, the worst of the four parameters, over all chains together.
    accept_rate : float64 array, shape (num_spikes,)
        Mean acceptance probability after the warm-up.
    num_divergent : int64 array, shape (num_spikes,)
        Iterations after the warm-up whose energy error exceeded 1000.
    samples : float64 array, shape (num_spikes, num_chains, num_samples, 4) | None
        The draws (x, y, z, a), with abs(z) on planar probes, when asked for.
    """

    mean: np.ndarray
    covariance: np.ndarray
    source_amplitude: np.ndarray
    r_hat: np.ndarray
    ess: np.ndarray
    accept_rate: np.ndarray
    num_divergent: np.ndarray
    samples: np.ndarray | None


def hmc_settings(preset: str | None = None, **changes: Any) -> HMCSettings:
    """The settings of a preset with changes.

    Parameters
    ----------
    preset : None | "hurwitz2019"
        None: our defaults.
    **changes
        Fields of :class:`HMCSettings`.

    Returns
    -------
    HMCSettings

    Raises
    ------
    InputError
        On an unknown preset, field or value.
    """
    if preset is not None and preset not in HMC_PRESETS:
        raise InputError(f"preset must be None or one of {sorted(HMC_PRESETS)}, got {preset!r}.")
    known = {field.name for field in fields(HMCSettings)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InputError(f"Unknown HMC settings {unknown}; known are {sorted(known)}.")
    return replace(HMC_PRESETS[preset] if preset else HMCSettings(), **changes)


def sample_posterior(
    amplitudes: np.ndarray,
    contact_offsets: np.ndarray,
    observed: np.ndarray,
    observation: ObservationModel,
    settings: HMCSettings,
    keys: np.ndarray,
    seed: int,
    *,
    planar: bool = True,
    amplitude_prior_mean: float | np.ndarray | None = None,
    return_samples: bool = False,
) -> HMCPosterior:
    """Sample place and source amplitude of spikes from their posterior (Hurwitz et al. 2019, sections 3.3 and 3.6).

    R-hat is the split R-hat without rank normalisation (Gelman et al. 2013; Vehtari et al. 2021, equations 1 to 4); the
    effective sample size is that of Vehtari et al. (2021), equations 10 to 13, with Geyer's initial monotone sequence.

    Parameters
    ----------
    amplitudes : array, shape (num_spikes, num_slots)
        Trough amplitudes in uV, positive.
    contact_offsets : array, shape (num_spikes, num_slots, 3)
        Places of the contacts relative to the centre contact in um.
    observed : array, shape (num_spikes, num_slots)
        Nonzero where a slot is observed; nothing else is looked at.
    observation : ObservationModel
        Decay, noise and priors.
    settings : HMCSettings
        Of the sampler.
    keys : uint64 array, shape (num_spikes,) or (num_spikes, num_keys)
        What names a spike, such as its segment, sample and channel: equal keys have equal random numbers.
    seed : int
        Of everything random, at least 0.
    planar : bool, default: True
        Contacts are taken to lie in the plane z = 0, so that the sign of z cannot be known: abs(z) is reported.
    amplitude_prior_mean : float | array, shape (num_spikes,), optional
        Prior mean of a in uV. Default: the model's, its factor times the largest amplitude.
    return_samples : bool, default: False
        Whether to return the draws as well.

    Returns
    -------
    HMCPosterior
        A spike of which no slot is observed has the moments of the prior.

    Raises
    ------
    InputError
        When shapes do not agree, observed amplitudes are not finite, or the model has no noise.
    """
    amplitudes, offsets, observed, keys = _checked_arrays(amplitudes, contact_offsets, observed, keys, planar)
    _check_whole("seed", seed, 0)
    num_spikes = len(amplitudes)
    model = _model_numbers(amplitudes, observation, amplitude_prior_mean)
    draws = (settings.num_chains, settings.num_samples, NUM_PARAMETERS)
    samples = np.empty((num_spikes if return_samples else 1, *draws))
    mean, covariance, quality = np.empty((num_spikes, 4)), np.empty((num_spikes, 3, 3)), np.empty((num_spikes, 4))
    plan, seed = _plan(settings), np.uint64(int(seed) % 2**64)
    run_chains(amplitudes, offsets, observed, model, keys, seed, plan, planar, samples, mean, covariance, quality)
    blank = ~observed.any(axis=1)
    mean[blank], covariance[blank] = _prior_moments(observation, model[blank, 2], planar)
    quality[blank] = 1.0, draws[0] * draws[1], 1.0, 0.0
    r_hat, ess, accept_rate, num_divergent = quality.T.copy()
    return HMCPosterior(
        mean[:, :3].copy(),
        covariance,
        mean[:, 3].copy(),
        r_hat,
        ess,
        accept_rate,
        num_divergent.astype("int64"),
        samples if return_samples else None,
    )


def _checked_arrays(amplitudes, contact_offsets, observed, keys, planar):
    """The arrays as the kernel takes them, 0 where nothing is observed."""
    observed = np.asarray(observed) > 0
    shape, keys = observed.shape, np.asarray(keys)
    if len(shape) != 2 or np.shape(amplitudes) != shape or np.shape(contact_offsets) != (*shape, 3):
        raise InputError(
            "amplitudes, contact_offsets and observed must have shapes (num_spikes, num_slots), (num_spikes, "
            f"num_slots, 3) and (num_spikes, num_slots), got {np.shape(amplitudes)}, {np.shape(contact_offsets)} and "
            f"{shape}."
        )
    if keys.ndim not in (1, 2) or len(keys) != len(observed) or keys.dtype.kind not in "iu":
        raise InputError(f"keys must be whole numbers for {len(observed)} spikes, got {keys.dtype} of {keys.shape}.")
    amplitudes = np.where(observed, amplitudes, 0.0).astype("float64")
    offsets = np.where(observed[:, :, None], contact_offsets, 0.0).astype("float64")
    if not (np.isfinite(amplitudes).all() and np.isfinite(offsets).all()):
        raise InputError(
            f"{(~np.isfinite(amplitudes)).any(axis=1).sum()} of {len(amplitudes)} spikes have observed amplitudes or "
            "contacts that are not finite. Set `observed` to 0 there."
        )
    if planar:
        # exactly, so that the density is even in z
        offsets[:, :, 2] = 0.0
    keys = keys[:, None] if keys.ndim == 1 else keys
    return amplitudes, offsets, observed, np.ascontiguousarray(keys, dtype="uint64")


def _model_numbers(amplitudes, observation, amplitude_prior_mean):
    """What the density of each spike needs: b, noise variance, prior mean and spread of a, spread of the place."""
    largest = amplitudes.max(axis=1, initial=0.0)
    if amplitude_prior_mean is None:
        amplitude_prior_mean = observation.amplitude_prior_factor * largest
    model = np.empty((len(amplitudes), 5))
    model[:, 0] = observation.decay_per_um
    model[:, 1] = observation.noise_variance(largest[:, None])[:, 0]
    model[:, 2] = amplitude_prior_mean
    model[:, 3], model[:, 4] = observation.amplitude_prior_std_uv, observation.location_prior_std_um
    if not (np.isfinite(model).all() and (model[:, [0, 1, 3, 4]] > 0).all()):
        raise InputError(
            "The decay, the noise and the spreads of the priors must be finite and positive, and the prior mean of the "
            f"amplitude finite; got {observation} and {amplitude_prior_mean!r}."
        )
    return model


def _prior_moments(observation, amplitude_prior_mean, planar):
    """Mean of (x, y, z, a) and covariance of the place under the prior; of abs(z), a half normal, when planar."""
    variance = observation.location_prior_std_um**2
    mean = np.zeros((len(amplitude_prior_mean), 4))
    mean[:, 3] = amplitude_prior_mean
    covariance = np.diag([variance, variance, variance])
    if planar:
        mean[:, 2] = math.sqrt(2.0 * variance / math.pi)
        covariance[2, 2] *= 1.0 - 2.0 / math.pi
    return mean, covariance


def _plan(settings):
    return ChainPlan(
        int(settings.num_warmup),
        float(settings.step_size or 0.0),
        int(settings.num_leapfrog or 0),
        float(settings.trajectory_length),
        int(settings.max_leapfrog),
        float(settings.target_accept),
        settings.start == "dispersed",
    )
