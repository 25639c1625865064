"""Centre of mass of the nearest channels: the baseline of Hurwitz et al. (2019), section 2 and Table 1."""

import numpy as np

from ..errors import InputError
from .geometry import as_locations_3d

__all__ = ["center_of_mass", "nearest_channels"]


def nearest_channels(
    contact_locations: np.ndarray, num_channels: int, *, shank_indices: np.ndarray | None = None
) -> np.ndarray:
    """Each channel and its nearest ones on the same shank.

    Parameters
    ----------
    contact_locations : array, shape (num_contacts, 2) or (num_contacts, 3)
        Places of the contacts in um.
    num_channels : int
        L: how many, the channel itself included, as the authors' code counts (ties are cut by channel order).
    shank_indices : int array, shape (num_contacts,), optional
        Shank of each contact.

    Returns
    -------
    int32 array, shape (num_contacts, num_channels)
        Nearest first; -1 where the shank has no more contacts.
    """
    locations = as_locations_3d(contact_locations)
    if num_channels < 2:
        raise InputError(f"num_channels must be at least 2, got {num_channels!r}: one channel has no centre of mass.")
    if num_channels > len(locations):
        raise InputError(f"num_channels is {num_channels}, but the probe has only {len(locations)} contacts.")
    nearest = np.empty((len(locations), num_channels), dtype="int32")
    for contact, place in enumerate(locations):
        # rounded, so that equal distances on a lattice are equal numbers and the tie is cut by order
        distance = np.round(np.linalg.norm(locations - place, axis=1), 3)
        if shank_indices is not None:
            distance[np.asarray(shank_indices) != shank_indices[contact]] = np.inf
        order = np.argsort(distance, kind="stable")[:num_channels]
        nearest[contact] = np.where(np.isfinite(distance[order]), order, -1)
    return nearest


def center_of_mass(troughs: np.ndarray, places: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Mean of the contacts' places, weighted by |trough|.

    x = sum_j x_j |alpha_j| / sum_j |alpha_j| over the chosen channels (paper, section 2).

    Parameters
    ----------
    troughs : array, shape (num_spikes, num_channels)
        alpha_j: the lowest value of the waveform on each channel; only its size counts.
    places : array, shape (num_spikes, num_channels, num_dimensions)
        Places of the channels; the first is the centre channel.
    observed : bool array, shape (num_spikes, num_channels)
        Which channels take part.

    Returns
    -------
    array, shape (num_spikes, num_dimensions)
        The centre channel's place where all troughs are zero, for which the paper has no answer.
    """
    weights = np.where(observed, np.abs(troughs), 0.0)
    total = weights.sum(axis=1)
    empty = total <= 0
    weights[empty, 0], total[empty] = 1.0, 1.0
    return (weights[:, :, None] * places).sum(axis=1) / total[:, None]
