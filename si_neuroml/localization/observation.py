"""How a spike's trough amplitudes follow from its place: the model shared by the VAE and by samplers.

Hurwitz et al. (2019), section 3.3: the depth of the trough on channel j, at distance r_j from the source, is

    alpha_j ~ N(a exp(-b r_j), sigma_j^2),      a ~ N(lambda alpha_max, s_a^2),      (x, y, z) ~ N(0, s_x^2 I),

with places relative to the centre channel, amplitudes taken positive (minus the trough, in uV) and only observed
channels in the product. Every function works on numpy arrays and on torch tensors alike.
"""

from dataclasses import dataclass

__all__ = ["ObservationModel"]


@dataclass(frozen=True)
class ObservationModel:
    """Exponential decay of the trough amplitude with distance, Gaussian noise.

    Attributes
    ----------
    decay_per_um : float, default: 0.035
        b, the inverse of the decay length (28.6 um).
    noise_std_uv : float, default: 1.0
        sigma, standard deviation of an amplitude about the model in uV.
    misfit_fraction : float, default: 0.0
        Standard deviation of what the exponential does not describe, as a fraction of the largest amplitude, added to
        `noise_std_uv` in squares. 0 is the model of the paper.
    amplitude_prior_factor : float, default: 2.0
        lambda, prior mean of the amplitude at the source in units of the largest amplitude seen.
    amplitude_prior_std_uv : float, default: 50.0
        s_a, prior standard deviation of the amplitude at the source in uV.
    location_prior_std_um : float, default: 80.0
        s_x, prior standard deviation of the place along each axis in um.
    """

    decay_per_um: float = 0.035
    noise_std_uv: float = 1.0
    misfit_fraction: float = 0.0
    amplitude_prior_factor: float = 2.0
    amplitude_prior_std_uv: float = 50.0
    location_prior_std_um: float = 80.0

    def footprint(self, locations, contact_offsets, decay_per_um=None):
        """exp(-b r_j): what is left of a unit amplitude on every contact.

        Parameters
        ----------
        locations : array or tensor, shape (num_spikes, 3)
            Places of the sources in um.
        contact_offsets : array or tensor, shape (num_spikes, num_slots, 3)
            Places of the contacts in um, in the same frame.
        decay_per_um : float or tensor, optional
            b; default: the model's own.

        Returns
        -------
        array or tensor, shape (num_spikes, num_slots)
        """
        decay = self.decay_per_um if decay_per_um is None else decay_per_um
        squared = ((locations[:, None, :] - contact_offsets) ** 2).sum(-1)
        # the constant keeps the gradient finite where a source touches a contact
        return _exp(-decay * (squared + 1e-6) ** 0.5)

    def noise_variance(self, amplitudes):
        """sigma_j^2 in uV^2, shape (num_spikes, 1)."""
        largest = _max(amplitudes)
        return self.noise_std_uv**2 + (self.misfit_fraction * largest) ** 2

    def source_amplitude(self, footprint, amplitudes, observed):
        """The amplitude a that maximises its posterior given the place: linear least squares with a Gaussian prior.

        Parameters
        ----------
        footprint, amplitudes, observed : array or tensor, shape (num_spikes, num_slots)
            From :meth:`footprint`; trough amplitudes in uV; 1 where a slot is observed.

        Returns
        -------
        array or tensor, shape (num_spikes,)
            In uV, positive.
        """
        weighted = footprint * observed / self.noise_variance(amplitudes)
        precision = 1.0 / self.amplitude_prior_std_uv**2
        prior_mean = self.amplitude_prior_factor * _max(amplitudes)[:, 0]
        return ((weighted * amplitudes).sum(-1) + precision * prior_mean) / ((weighted * footprint).sum(-1) + precision)

    def log_likelihood(self, footprint, source_amplitude, amplitudes, observed):
        """Log density of the amplitudes, shape (num_spikes,), without the constant that no parameter moves."""
        variance = self.noise_variance(amplitudes)
        residual = amplitudes - source_amplitude[:, None] * footprint
        return -0.5 * (observed * (residual**2 / variance)).sum(-1)

    def amplitude_log_prior(self, source_amplitude, amplitudes):
        """Log density of the source amplitude under its prior, shape (num_spikes,), without the constant."""
        prior_mean = self.amplitude_prior_factor * _max(amplitudes)[:, 0]
        return -0.5 * ((source_amplitude - prior_mean) / self.amplitude_prior_std_uv) ** 2


def _exp(values):
    if hasattr(values, "exp"):  # torch
        return values.exp()
    import numpy as np

    return np.exp(values)


def _max(amplitudes):
    """Largest amplitude of each spike, shape (num_spikes, 1)."""
    return amplitudes.max(1)[:, None] if not hasattr(amplitudes, "amax") else amplitudes.amax(1, keepdim=True)
