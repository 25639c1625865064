"""From the activation of the indicator at a site to photons: brightness, bleaching, focus, the noise of counting."""

import numpy as np

from ..errors import InputError
from .indicator import IsolatedResponse
from .random_processes import SLOW_RATE_HZ, first_order, from_slow_grid, ou_noise, slow_grid_length

__all__ = [
    "NOISES",
    "ap_detectability",
    "as_counts",
    "bleaching",
    "photon_factors",
    "photons_from_activation",
    "recorded_photons",
]

NOISES = ("shot", "denoised", "none")


def photons_from_activation(
    activation: np.ndarray,
    at_rest: float,
    photons: dict[str, float],
    sign: float,
    brightness: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Expected photons per sample, float64, for an indicator of some brightness on a background that stays."""
    background = photons["background_fraction"]
    signal = 1 + sign * photons["modulation"] * (np.asarray(activation, dtype=float) - at_rest)
    return photons["photons_per_sample"] * ((1 - background) * brightness * signal + background)


def bleaching(times: np.ndarray, imaging: dict[str, float]) -> np.ndarray:
    """Bi-exponential course of the indicator's brightness, 1 at time 0 (s)."""
    lost = imaging["fast_bleach_fraction"] * -np.expm1(-times / imaging["fast_bleach_s"])
    return 1 - lost + imaging["slow_bleach_fraction"] * np.expm1(-times / imaging["slow_bleach_s"])


def photon_factors(
    rng: np.random.Generator, motion_um: np.ndarray, phase: np.ndarray, sampling_frequency: float, imaging: dict
) -> np.ndarray:
    """Factor of slow drift, pulsation and motion on the photons of one site, float64, shape of ``motion_um``."""
    num_samples = len(motion_um)
    num_slow = slow_grid_length(num_samples, sampling_frequency, SLOW_RATE_HZ)
    slow = ou_noise(rng, num_slow, 1 / (SLOW_RATE_HZ * imaging["drift_s"]))
    drift = from_slow_grid(slow, SLOW_RATE_HZ, num_samples, sampling_frequency)
    factor = np.clip(1 + imaging["drift_fraction"] * drift, 0.1, None)
    if imaging["pulsation_fraction"] > 0:
        factor *= 1 + imaging["pulsation_fraction"] * (np.sin(phase) + 0.3 * np.sin(2 * phase))
    offset, width = imaging["focus_offset_um"], imaging["focus_um"]
    return factor * np.exp((offset**2 - (offset + motion_um) ** 2) / (2 * width**2))


def recorded_photons(
    rng: np.random.Generator, expected: np.ndarray, noise: str, imaging: dict[str, float]
) -> np.ndarray:
    """Photons with noise, float64.

    Parameters
    ----------
    rng : np.random.Generator
        Of the shot noise.
    expected : float array, shape (num_samples,)
        Mean photons of each sample.
    noise : {"shot", "denoised", "none"}
        Poisson counts; the expected photons with a small coloured residue, as a denoiser leaves it: a first-order
        autoregressive process of the shot noise, its standard deviation ``residue_fraction`` of it; or no noise.
    imaging : dict
        ``residue_fraction`` and ``residue_correlation``.

    Returns
    -------
    float64 array, shape (num_samples,)

    Raises
    ------
    InputError
        If ``noise`` is unknown.
    """
    if noise not in NOISES:
        raise InputError(f"Unknown noise {noise!r}. Known: {', '.join(NOISES)}.")
    if noise == "none":
        return np.asarray(expected, dtype=float)
    counts = rng.poisson(expected).astype(float)
    if noise == "shot":
        return counts
    correlation = imaging["residue_correlation"]
    scale = imaging["residue_fraction"] * np.sqrt(1 - correlation**2)
    return expected + first_order(counts - expected, scale, correlation)


def as_counts(photons: np.ndarray, gain: float) -> np.ndarray:
    """Photons as int16 counts of ``gain`` photons each, rounded; InputError if they do not fit."""
    counts = np.rint(photons / gain)
    limits = np.iinfo(np.int16)
    if counts.max() > limits.max or counts.min() < limits.min:
        raise InputError(
            f"{photons.max():.0f} photons in a sample are {counts.max():.0f} counts at a gain of {gain:g}, above "
            f"{limits.max} of int16: use a gain of at least {photons.max() / limits.max:.3g} or dtype float32."
        )
    return counts.astype(np.int16)


def ap_detectability(response: IsolatedResponse, at_rest: float, photons: dict[str, float], sign: float) -> float:
    """Detectability d' of one isolated action potential against the shot noise, at the start of a segment.

    The filter matched to the response in Poisson noise weighs each sample by dF / F, and tells a trace with the event
    from one without with d'^2 = sum over samples of dF^2 / F (Wilt, Fitzgerald & Schnitzer 2013, Biophys J 104:51).
    F are the expected photons of a sample without the event, dF those that the event adds or takes. The mean over all
    phases of the event within a sample is taken.

    Parameters
    ----------
    response : IsolatedResponse
        To the action potential.
    at_rest : float
        Activation at the resting potential, for which ``photons_per_sample`` is meant.
    photons : dict
        ``photons_per_sample``, ``background_fraction`` and ``modulation``.
    sign : float
        -1 if the indicator dims when it is activated, 1 if it brightens.

    Returns
    -------
    float
    """
    without = photons_from_activation(np.array([response.before]), at_rest, photons, sign)[0]
    change = photons_from_activation(response.before + response.change, at_rest, photons, sign) - without
    # the fine samples hold every phase of the samples of the recording once
    return float(np.sqrt(np.sum(change**2) / (without * response.samples_per_mean)))
