"""The channels around each channel as a model of planar probes sees them: nearest first, in their shank's plane."""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .geometry import LocalGeometry, as_locations_3d

__all__ = ["NearestGeometry", "nearest_geometry"]

# contacts further than this out of a common plane are no planar probe
FLATNESS_UM = 2.0
# columns of contacts run within this angle of a shank's long axis
MAX_TILT_DEG = 10.0
# looked at beyond the slots, so that contacts at equal distances are chosen by their place
EXTRA_CONTACTS = 16


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
        distance, nearest = cKDTree(locations[own]).query(locations[own], k=min(count + EXTRA_CONTACTS, len(own)))
        distance, nearest = (np.reshape(a, (len(own), -1)) for a in (distance, nearest))
        # ties at the border are broken by the place, whatever the order of the channels
        offsets = np.round((locations[own][nearest] - locations[own][:, None]) @ frames[own[0]].T, 3)
        order = np.lexsort((*np.moveaxis(offsets, 2, 0), np.round(distance, 3)), axis=1)[:, :count]
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
    _, spread, axes = np.linalg.svd(centered, full_matrices=True)
    reach = np.abs(centered @ axes.T).max(axis=0)
    if reach[2] > FLATNESS_UM:
        raise InputError(
            f"The contacts of shank {shank} do not lie in one plane: they are up to {reach[2]:.1f} um off. This "
            'method knows flat shanks only; use method="vae", which is fitted to the probe.'
        )
    if reach[1] < FLATNESS_UM:
        # a line lies in many planes: take the one that holds the probe's x axis, or the next
        up = _pointing_forward(axes[0])
        across = np.eye(3)[np.round(np.abs(up), 6).argmin()]
        across = across - (across @ up) * up
        across /= np.linalg.norm(across)
    else:
        up = _pointing_forward(_column_direction(centered @ axes[:2].T, axes[:2], square=spread[0] < 1.2 * spread[1]))
        across = _pointing_forward(np.cross(up, axes[2]))
    # x to the right, y upwards: the side that z points to follows
    return np.stack([across, up, np.cross(across, up)])


def _column_direction(flat, axes, *, square):
    """Unit vector along the columns of a flat shank whose longest extent is the first of `axes`.

    The direction that most neighbouring contacts share: near the long axis, which staggered columns tilt a little, or,
    on an array that has none, any. Irregular shanks keep their long axis.
    """
    from scipy.spatial import cKDTree

    nearest = cKDTree(flat).query(flat, k=min(9, len(flat)))[1][:, 1:]
    steps = (flat[nearest] - flat[:, None]).reshape(-1, 2)
    steps *= np.where(steps[:, :1] < 0, -1.0, 1.0)
    degrees = np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))
    bins = np.round(2.0 * degrees).astype(int) % 360
    close = np.full(len(steps), True) if square else np.abs(degrees) < MAX_TILT_DEG
    votes = np.bincount(bins[close], 1.0 / np.linalg.norm(steps[close], axis=1), minlength=360)
    if np.bincount(bins[close], minlength=360).max() < len(flat) / 4:
        return axes[0]
    # rows and columns of a square array have as many votes: the one that runs along the probe's y or else z
    candidates = []
    for chosen in np.flatnonzero(votes > 0.9 * votes.max()):
        own = steps[close & (bins == chosen)]
        own = (own * np.where(own @ own[0] < 0, -1.0, 1.0)[:, None]).sum(axis=0)
        candidates.append(own / np.linalg.norm(own) @ axes)
    return max(candidates, key=_steepness)


def _steepness(direction):
    y, z = np.round(np.abs(direction[1:]), 6)
    return max(y, z), z


def _pointing_forward(direction):
    """The direction or its opposite: with its largest component positive."""
    return direction * np.sign(direction[np.round(np.abs(direction), 6).argmax()])
