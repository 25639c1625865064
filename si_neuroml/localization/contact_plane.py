"""The channels around each channel as a model of planar probes sees them: nearest first, in the plane of their shank."""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .geometry import LocalGeometry, as_locations_3d

__all__ = ["NearestGeometry", "nearest_geometry"]

# contacts further than this out of a common plane are no planar probe
FLATNESS_UM = 2.0


@dataclass(frozen=True)
class NearestGeometry:
    """Nearest channels of every channel, and the plane in which they lie.

    Attributes
    ----------
    slots : LocalGeometry
        Slot k of a channel is its k-th nearest channel on the same shank, the channel itself first.
    frames : float64 array, shape (num_channels, 3, 3)
        Rows: the two axes of the shank's plane and its normal, in the frame of the probe.
    plane_offsets : float32 array, shape (num_channels, num_slots, 3)
        Places of the slots relative to the centre contact along the rows of `frames`, in um.
    """

    slots: LocalGeometry
    frames: np.ndarray
    plane_offsets: np.ndarray


def nearest_geometry(
    contact_locations: np.ndarray, num_slots: int, radius_um: float, *, shank_indices: np.ndarray | None = None
) -> NearestGeometry:
    """The nearest channels around each contact of a probe.

    Parameters
    ----------
    contact_locations : array, shape (num_channels, 2 or 3)
        In um. In three dimensions each shank must be flat, in whatever plane.
    num_slots : int
        At most so many channels, the centre included.
    radius_um : float
        None further away than this.
    shank_indices : int array, shape (num_channels,), optional
        Contacts of different shanks are never neighbours. Default: one shank.

    Returns
    -------
    NearestGeometry

    Raises
    ------
    InputError
        When contacts coincide or are not finite, or a shank is not flat.
    """
    from scipy.spatial import cKDTree

    locations = as_locations_3d(contact_locations)
    shanks = np.zeros(len(locations), int) if shank_indices is None else np.asarray(shank_indices)
    neighbours = np.full((len(locations), num_slots), -1, dtype="int32")
    frames = np.zeros((len(locations), 3, 3))
    for shank in np.unique(shanks):
        own = np.flatnonzero(shanks == shank)
        frames[own] = _plane_of(locations[own], shank)
        count = min(num_slots, len(own))
        # one more than is kept, so that ties at the border are broken by the channel and not by the tree
        distance, nearest = cKDTree(locations[own]).query(locations[own], k=min(count + 8, len(own)))
        distance, nearest = (np.reshape(a, (len(own), -1)) for a in (distance, nearest))
        order = np.lexsort((own[nearest], np.round(distance, 3)), axis=1)[:, :count]
        distance, nearest = np.take_along_axis(distance, order, 1), np.take_along_axis(nearest, order, 1)
        neighbours[own, :count] = np.where(distance <= radius_um, own[nearest], -1)
    relative = np.where((neighbours >= 0)[:, :, None], locations[neighbours] - locations[:, None], 0.0)
    planar = bool(np.ptp(locations[:, 2]) < FLATNESS_UM)
    empty = np.zeros((num_slots, 3))
    slots = LocalGeometry("nearest", float(radius_um), empty, neighbours, relative.astype("float32"), locations, planar)
    in_plane = np.einsum("cij,csj->csi", frames, relative)
    return NearestGeometry(slots, frames, in_plane.astype("float32"))


def _plane_of(locations, shank):
    """The axes of a flat shank: those of the probe where it lies in x and y, else the plane's own."""
    if np.ptp(locations[:, 2]) < FLATNESS_UM:
        return np.eye(3)
    centered = locations - locations.mean(axis=0)
    axes = np.linalg.svd(centered, full_matrices=True)[2]
    out_of_plane = np.abs(centered @ axes[2]).max()
    if out_of_plane > FLATNESS_UM:
        raise InputError(
            f"The contacts of shank {shank} do not lie in one plane: they are up to {out_of_plane:.1f} um off. This "
            'method knows flat shanks only; use method="vae", which is fitted to the probe.'
        )
    # y runs along the shank's long axis, upwards
    up = axes[0] * (np.sign(axes[0][np.abs(axes[0]).argmax()]) or 1.0)
    normal = np.cross(np.cross(up, axes[2]), up)
    normal /= np.linalg.norm(normal)
    return np.stack([np.cross(up, normal), up, normal])
