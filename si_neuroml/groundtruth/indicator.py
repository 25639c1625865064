"""From the potential of a soma to the activation of the voltage indicator at a site of its dendrite.

The potential of a site is that of the soma, later, smaller and smoother, plus what the dendrite makes itself there. The
indicator follows a Boltzmann curve of it with one time constant up and one down, and a sample is its mean over the
whole sample interval. Everything is for one site at a time, so that no more than one fine trace is held.
"""

from typing import NamedTuple

import numba
import numpy as np

__all__ = ["IsolatedResponse", "Site", "boltzmann", "isolated_response", "site_activation"]

# how long a response is followed after its event, in slowest time constants of indicator and low-pass
SETTLE_TAUS = 8.0


class Site(NamedTuple):
    """What turns the potential of a soma into the activation of the indicator at one site.

    Attributes
    ----------
    delay_ms, attenuation, low_pass_ms : float
        Of the somatic potential on its way to the site.
    resting_mv : float
        The deviation from it is attenuated.
    half_activation_mv, slope_mv, on_ms, off_ms : float
        Of the indicator.
    """

    delay_ms: float
    attenuation: float
    low_pass_ms: float
    resting_mv: float
    half_activation_mv: float
    slope_mv: float
    on_ms: float
    off_ms: float

    @property
    def activation_at_rest(self) -> float:
        """Steady activation at the resting potential."""
        return float(boltzmann(self.resting_mv, self.half_activation_mv, self.slope_mv))


class IsolatedResponse(NamedTuple):
    """The response of the indicator to one event alone, times in s after the event's electrical peak.

    Attributes
    ----------
    peak, onset, offset : float
        Its largest value and its half heights.
    change : float64 array, shape (num_fine_samples,)
        Activation above that before the event, averaged over a sample interval around each fine sample.
    before : float
        Activation before the event.
    samples_per_mean : int
        Fine samples in one sample of the recording.
    """

    peak: float
    onset: float
    offset: float
    change: np.ndarray
    before: float
    samples_per_mean: int


def boltzmann(potential_mv: np.ndarray, half_activation_mv: float, slope_mv: float) -> np.ndarray:
    """Steady-state activation of the indicator, 0 to 1, at a potential in mV."""
    return 1 / (1 + np.exp(-(np.asarray(potential_mv, dtype=float) - half_activation_mv) / slope_mv))


def site_activation(
    soma_mv: np.ndarray,
    sampling_frequency: float,
    site: Site,
    *,
    local_mv: np.ndarray | None = None,
    samples_per_mean: int = 1,
) -> np.ndarray:
    """Activation of the indicator at a site.

    Parameters
    ----------
    soma_mv : float32 array, shape (num_samples,)
        Potential of the soma.
    sampling_frequency : float
        Of ``soma_mv``, in Hz.
    site : Site
        The way to the site, and the indicator.
    local_mv : float32 array, shape (num_samples,), optional
        Potential that the dendrite adds at the site. Default: none.
    samples_per_mean : int, default: 1
        So many samples are averaged to one.

    Returns
    -------
    float32 array, shape (num_samples // samples_per_mean,)
        Between 0 and 1; before the first sample the potential is taken to have been constant.
    """
    per_ms = sampling_frequency * 1e-3
    low_pass, on, off = (_step(tau, per_ms) for tau in (site.low_pass_ms, site.on_ms, site.off_ms))
    return _activation(
        np.asarray(soma_mv, dtype=np.float32),
        np.zeros(0, dtype=np.float32) if local_mv is None else local_mv,
        site.delay_ms * per_ms,
        low_pass,
        site.attenuation,
        site.resting_mv,
        site.half_activation_mv,
        1 / site.slope_mv,
        on,
        off,
        samples_per_mean,
    )


def isolated_response(
    wave_mv: np.ndarray,
    peak_index: int,
    sampling_frequency: float,
    samples_per_mean: int,
    site: Site,
    *,
    local: bool = False,
) -> IsolatedResponse:
    """Response to one event on a constant potential.

    Parameters
    ----------
    wave_mv : array, shape (num_samples,)
        An action potential at the soma, which starts from its first value and is led back to it within the last
        millisecond; or, if ``local``, what the dendrite adds at the site.
    peak_index : int
        The sample of its electrical peak.
    sampling_frequency : float
        Of the wave, in Hz.
    samples_per_mean : int
        Samples of the wave in one sample of the recording.
    site : Site
        The way to the site, and the indicator.
    local : bool, default: False
        Whether the wave is of the site itself, on the resting potential.

    Returns
    -------
    IsolatedResponse
    """
    per_ms = sampling_frequency * 1e-3
    lead = 2 * samples_per_mean + 2
    tail_ms = site.delay_ms + SETTLE_TAUS * max(site.on_ms, site.off_ms, site.low_pass_ms)
    wave = np.asarray(wave_mv, dtype=float)
    foot = site.resting_mv if local else wave[0]
    change = wave if local else (wave - foot) * np.clip((len(wave) - 1 - np.arange(len(wave))) / per_ms, 0, 1)
    change = np.pad(change, (lead, round(tail_ms * per_ms) + 2 * samples_per_mean)).astype(np.float32)
    soma = np.full(len(change), foot, dtype=np.float32)
    if local:
        activation = site_activation(soma, sampling_frequency, site, local_mv=change)
    else:
        activation = site_activation(soma + change, sampling_frequency, site)
    before = float(activation[0])
    mean = np.convolve(activation.astype(float) - before, np.ones(samples_per_mean) / samples_per_mean, mode="same")
    peak = int(mean.argmax())
    above = np.flatnonzero(mean >= mean[peak] / 2)
    first, last = above[above <= peak].min(), above[above >= peak].max()
    origin = lead + peak_index
    return IsolatedResponse(
        *((np.array([peak, first, last]) - origin) / sampling_frequency), mean, before, samples_per_mean
    )


def _step(tau_ms: float, per_ms: float) -> float:
    """Share of the way to a constant target in one sample; all of it without a time constant."""
    return 1.0 if tau_ms <= 0 else float(-np.expm1(-1 / (tau_ms * per_ms)))


@numba.njit(nogil=True)
def _activation(
    soma, local, delay, low_pass, attenuation, resting, half_activation, steepness, on, off, samples_per_mean
):
    num_means = len(soma) // samples_per_mean
    means = np.empty(num_means, dtype=np.float32)
    whole = int(np.floor(delay))
    part = delay - whole
    has_local = len(local) > 0
    arrived = attenuation * (soma[0] - resting)
    potential = resting + arrived + (local[0] if has_local else 0.0)
    activation = 1 / (1 + np.exp(-(potential - half_activation) * steepness))
    for m in range(num_means):
        total = 0.0
        for n in range(m * samples_per_mean, (m + 1) * samples_per_mean):
            later, earlier = max(n - whole, 0), max(n - whole - 1, 0)
            potential = (1 - part) * soma[later] + part * soma[earlier]
            arrived += low_pass * (attenuation * (potential - resting) - arrived)
            potential = resting + arrived
            if has_local:
                potential += local[n]
            target = 1 / (1 + np.exp(-(potential - half_activation) * steepness))
            activation += (on if target > activation else off) * (target - activation)
            total += activation
        means[m] = total / samples_per_mean
    return means
