"""Spikes drawn from the observation model itself: what its posteriors must be calibrated on, whatever real cells do.

The model of Hurwitz et al. (2019) centres the prior of the source amplitude on the data, a ~ N(lambda max_j alpha_j,
s_a^2), so that it cannot be drawn from one factor after the other. Read as one density with a flat start,

    p(r, a, alpha)  ~  N(r; 0, s_x^2 I)  N(a; lambda max_j alpha_j, s_a^2)  prod_j N(alpha_j; a exp(-b r_j), sigma^2),

it can: draw r from its prior, a from a flat range, alpha from the noise, and keep the draw with probability
exp(-(a - lambda max_j alpha_j)^2 / (2 s_a^2)). Given alpha, what is kept is distributed as the posterior that the VAE
approximates and HMC samples. Only spikes that a detector would centre there are kept: the centre contact the
largest, and that within a range. This looks at the data alone and therefore leaves every posterior as it is.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import InputError
from .encoder import encoder_inputs
from .observation import ObservationModel

if TYPE_CHECKING:
    from .vae import TrainingRows

__all__ = ["ModelSpikes", "draw_spikes", "model_training_rows"]

BLOCK = 100_000
# where the flat range of a ends, in s_a beyond lambda times the range of the largest amplitude
RANGE_STDS = 4.0
# a million draws without a spike: the ranges do not go together
MAX_IDLE_BLOCKS = 10


class ModelSpikes(NamedTuple):
    """Spikes of the observation model with their truth.

    Attributes
    ----------
    places : float64 array, shape (num_spikes, 3)
        Relative to the centre contact in um; z of either sign.
    source_amplitudes : float64 array, shape (num_spikes,)
        a in uV.
    amplitudes : float32 array, shape (num_spikes, num_slots)
        Of the channels in uV; noise can make small ones negative.
    contact_offsets : float32 array, shape (num_spikes, num_slots, 3)
        The same contacts for each, in um.
    observed : float32 array, shape (num_spikes, num_slots)
        Ones.
    """

    places: np.ndarray
    source_amplitudes: np.ndarray
    amplitudes: np.ndarray
    contact_offsets: np.ndarray
    observed: np.ndarray


def draw_spikes(
    observation: ObservationModel,
    contact_offsets: np.ndarray,
    num_spikes: int,
    *,
    largest_uv: tuple[float, float] = (40.0, 150.0),
    seed: int = 0,
) -> ModelSpikes:
    """Draw spikes from the observation model.

    Parameters
    ----------
    observation : ObservationModel
        With misfit_fraction 0: a noise that depends on what it makes has no density to draw from.
    contact_offsets : array, shape (num_slots, 3)
        Contacts in um relative to the centre contact, which is the one at 0.
    num_spikes : int
        How many to draw.
    largest_uv : tuple of float, default: (40.0, 150.0)
        Only spikes whose largest amplitude lies between the two, in uV, and on the centre contact.
    seed : int, default: 0
        Of the draws.

    Returns
    -------
    ModelSpikes

    Raises
    ------
    InputError
        On a misfit, contacts without one at 0, a range that is none, or one that a million draws do not meet.
    """
    offsets = _checked(observation, contact_offsets, num_spikes, largest_uv)
    rng = np.random.default_rng(seed)
    kept: list[tuple[np.ndarray, ...]] = []
    found = idle = 0
    while found < num_spikes:
        places, sources, amplitudes = _draw_block(observation, offsets, largest_uv, rng)
        kept.append((places, sources, amplitudes))
        found += len(places)
        idle = 0 if len(places) else idle + 1
        if idle == MAX_IDLE_BLOCKS:
            raise InputError(
                f"{found} spikes so far, then none in {BLOCK * MAX_IDLE_BLOCKS:,} draws from {observation}. Widen "
                f"largest_uv, now {largest_uv}, or the priors."
            )
    places, sources, amplitudes = (np.concatenate(parts)[:num_spikes] for parts in zip(*kept, strict=True))
    return ModelSpikes(
        places,
        sources,
        amplitudes.astype("float32"),
        np.tile(offsets.astype("float32"), (num_spikes, 1, 1)),
        np.ones(amplitudes.shape, dtype="float32"),
    )


def model_training_rows(spikes: ModelSpikes) -> "TrainingRows":
    """The spikes as what the VAE trains on; the waveform of a channel is one sample, minus its amplitude.

    Parameters
    ----------
    spikes : ModelSpikes
        As from :func:`draw_spikes`.

    Returns
    -------
    TrainingRows
        One row per spike, inputs scaled by the peak.
    """
    from .vae import TrainingRows

    patches = np.stack([-spikes.amplitudes, spikes.observed], axis=2)
    inputs = encoder_inputs(patches, spikes.amplitudes, "peak")
    index = np.arange(len(spikes.places))
    return TrainingRows(inputs, spikes.amplitudes, spikes.observed, spikes.contact_offsets, index)


def _draw_block(observation, offsets, largest_uv, rng):
    """Those of BLOCK proposals that are kept."""
    factor, spread = observation.amplitude_prior_factor, observation.amplitude_prior_std_uv
    places = rng.normal(0.0, observation.location_prior_std_um, (BLOCK, 3))
    low, high = (factor * end + side * RANGE_STDS * spread for end, side in zip(largest_uv, (-1, 1), strict=True))
    sources = rng.uniform(low, high, BLOCK)
    # the centre contact alone settles most proposals: the others are computed for what is left
    center = np.abs(offsets).sum(axis=1).argmin()
    largest = _noisy(observation, places, sources, offsets[[center]], rng)[:, 0]
    kept = (largest >= largest_uv[0]) & (largest <= largest_uv[1])
    kept &= rng.random(BLOCK) < np.exp(-0.5 * ((sources - factor * largest) / spread) ** 2)
    places, sources, largest = places[kept], sources[kept], largest[kept]
    amplitudes = _noisy(observation, places, sources, offsets, rng)
    amplitudes[:, center] = largest
    kept = amplitudes.max(axis=1) == largest
    return places[kept], sources[kept], amplitudes[kept]


def _noisy(observation, places, sources, offsets, rng):
    footprint = observation.footprint(places, offsets[None])
    return sources[:, None] * footprint + rng.normal(0.0, observation.noise_std_uv, footprint.shape)


def _checked(observation, contact_offsets, num_spikes, largest_uv):
    offsets = np.asarray(contact_offsets, dtype="float64")
    if offsets.ndim != 2 or offsets.shape[1] != 3 or not (np.abs(offsets).sum(axis=1) == 0).any():
        raise InputError(f"contact_offsets must have the shape (num_slots, 3) and a contact at 0, got {offsets.shape}.")
    if observation.misfit_fraction:
        raise InputError(
            f"misfit_fraction is {observation.misfit_fraction}: spikes can be drawn without misfit only. Set it to 0 "
            "and put what you want of it into noise_std_uv."
        )
    if num_spikes < 1 or not 0 < largest_uv[0] < largest_uv[1]:
        raise InputError(
            f"num_spikes must be at least 1 and largest_uv rise from above 0, got {num_spikes!r} and {largest_uv!r}."
        )
    return offsets
