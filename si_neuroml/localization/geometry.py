"""The channels around each channel, as one fixed list of slots.

A localizer looks at a spike through the contacts in a box around its centre channel. The box is described once by its
*slots*: relative places ``slot_offsets``; and every channel says which channel fills each of its slots, or ``-1`` where
there is no contact (beyond the border of the array, a removed channel, another shank). Empty slots are the "virtual
channels" of Hurwitz et al. (2019): waveform zero, flag ``observed`` zero.

Two layouts cover every probe:

``"lattice"``
    The distinct relative places of all pairs of contacts. On regular probes (square arrays, Neuropixels, staggered
    columns) there are few of them, and one slot always means one direction.
``"nearest"``
    On irregular probes the distinct places are too many; slot ``k`` is then the ``k``-th nearest contact, and the
    relative places go into the network beside the waveforms.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError, ModelMismatchError

__all__ = ["LocalGeometry", "build_local_geometry", "default_half_width", "match_local_geometry"]

# two relative places closer than this are one slot: positions in probe files are rounded to about a micron
PLACE_TOLERANCE_UM = 1.0
# a lattice may have this many slots per contact that a full box really holds before it counts as irregular
MAX_LATTICE_EXCESS = 3.0


@dataclass(frozen=True)
class LocalGeometry:
    """Slots around every channel.

    Attributes
    ----------
    layout : "lattice" | "nearest"
        How slots are defined, see the module.
    half_width_um : float
        Contacts strictly closer than this along each axis belong to the box.
    slot_offsets : array, shape (num_slots, 3)
        Places of the slots relative to the centre contact in um; zeros in the layout "nearest".
    neighbours : int32 array, shape (num_channels, num_slots)
        The channel in each slot, -1 where there is none.
    offsets : float32 array, shape (num_channels, num_slots, 3)
        Place of the contact in each slot relative to the centre contact in um, 0 where there is none.
    contact_locations : array, shape (num_channels, 3)
        Places of the contacts in um; z is 0 on planar probes.
    planar : bool
        True when all contacts lie in one plane, so that the sign of z cannot be known.
    """

    layout: str
    half_width_um: float
    slot_offsets: np.ndarray
    neighbours: np.ndarray
    offsets: np.ndarray
    contact_locations: np.ndarray
    planar: bool

    @property
    def num_slots(self) -> int:
        """Slots of a box."""
        return self.neighbours.shape[1]

    @property
    def observed(self) -> np.ndarray:
        """Bool array, shape (num_channels, num_slots): which slots hold a contact."""
        return self.neighbours >= 0


def build_local_geometry(
    contact_locations: np.ndarray, half_width_um: float, *, shank_indices: np.ndarray | None = None
) -> LocalGeometry:
    """Slots around each contact of a probe.

    Parameters
    ----------
    contact_locations : array, shape (num_channels, 2) or (num_channels, 3)
        Places of the contacts in um.
    half_width_um : float
        Half width of the box; contacts strictly inside it along every axis belong to it.
    shank_indices : int array, shape (num_channels,), optional
        Contacts of different shanks never share a box. Default: one shank.

    Returns
    -------
    LocalGeometry

    Raises
    ------
    InputError
        When the places are not finite, coincide, or no box holds two contacts.
    """
    locations = as_locations_3d(contact_locations)
    if not np.isfinite(half_width_um) or half_width_um <= 0:
        raise InputError(f"half_width_um must be a positive number of um, got {half_width_um!r}.")
    pairs, relative = _pairs_in_box(locations, half_width_um, shank_indices)
    counts = np.bincount(pairs[:, 0], minlength=len(locations))
    if counts.max() < 2:
        raise InputError(
            f"No contact has another contact closer than half_width_um={half_width_um:g} um along each axis "
            f"({len(locations)} contacts); localization needs neighbours. Use a larger half_width_um."
        )
    places, slot_of_pair = _distinct_places(relative)
    planar = bool(np.ptp(locations[:, 2]) < PLACE_TOLERANCE_UM)
    # on an irregular probe a cluster can hold two contacts of one box
    one_contact_per_slot = len(np.unique(pairs[:, 0] * len(places) + slot_of_pair)) == len(pairs)
    if one_contact_per_slot and len(places) <= MAX_LATTICE_EXCESS * counts.max():
        return _fill("lattice", half_width_um, places, pairs, relative, slot_of_pair, locations, planar)
    order = np.lexsort((relative[:, 0], relative[:, 1], np.linalg.norm(relative, axis=1), pairs[:, 0]))
    pairs, relative = pairs[order], relative[order]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.arange(len(pairs)) - starts[pairs[:, 0]]
    places = np.zeros((counts.max(), 3))
    return _fill("nearest", half_width_um, places, pairs, relative, rank, locations, planar)


def match_local_geometry(
    contact_locations: np.ndarray,
    slot_offsets: np.ndarray,
    layout: str,
    half_width_um: float,
    *,
    shank_indices: np.ndarray | None = None,
) -> LocalGeometry:
    """The slots of an existing model on another probe, or on the same one with other channels or another order.

    Parameters
    ----------
    contact_locations : array, shape (num_channels, 2) or (num_channels, 3)
        Places of the contacts in um.
    slot_offsets : array, shape (num_slots, 3)
        Slots of the model.
    layout : "lattice" | "nearest"
        Layout of the model.
    half_width_um : float
        Half width of the model's box.
    shank_indices : int array, shape (num_channels,), optional
        Shank of each contact.

    Returns
    -------
    LocalGeometry

    Raises
    ------
    ModelMismatchError
        When contacts of this probe fall on none of the model's slots (another pitch), or there are too many of them.
    """
    locations = as_locations_3d(contact_locations)
    pairs, relative = _pairs_in_box(locations, half_width_um, shank_indices)
    planar = bool(np.ptp(locations[:, 2]) < PLACE_TOLERANCE_UM)
    if np.bincount(pairs[:, 0]).max() < 2:
        raise ModelMismatchError(
            f"No contact of this probe has another contact in the model's box of half width {half_width_um:g} um; the "
            "model was fitted to a denser probe. Fit a model on a recording of this probe."
        )
    if layout == "nearest":
        fresh = build_local_geometry(locations, half_width_um, shank_indices=shank_indices)
        counts = np.bincount(pairs[:, 0], minlength=len(locations))
        if fresh.layout != "nearest" or counts.max() > len(slot_offsets):
            raise ModelMismatchError(
                f"The model was fitted to an irregular probe with at most {len(slot_offsets)} contacts in a box of "
                f"half width {half_width_um:g} um; this probe is a {fresh.layout!r} with up to "
                f"{counts.max()}. Fit a model "
                "on a recording of this probe."
            )
        pad = len(slot_offsets) - fresh.num_slots
        neighbours = np.pad(fresh.neighbours, ((0, 0), (0, pad)), constant_values=-1)
        offsets = np.pad(fresh.offsets, ((0, 0), (0, pad), (0, 0)))
        return LocalGeometry(layout, half_width_um, np.asarray(slot_offsets), neighbours, offsets, locations, planar)
    distance = np.abs(relative[:, None, :] - np.asarray(slot_offsets)[None, :, :]).max(axis=2)
    slot = distance.argmin(axis=1)
    fits = distance[np.arange(len(slot)), slot] <= PLACE_TOLERANCE_UM
    if not fits.all():
        raise ModelMismatchError(
            f"{(~fits).sum()} of {len(fits)} neighbour pairs of this probe lie on none of the {len(slot_offsets)} "
            f"relative places the model was fitted to, for example {np.round(relative[~fits][0], 1).tolist()} um. "
            "Fit a model on a recording of this probe."
        )
    return _fill("lattice", half_width_um, np.asarray(slot_offsets), pairs, relative, slot, locations, planar)


def default_half_width(
    contact_locations: np.ndarray, *, min_contacts: int = 8, shank_indices: np.ndarray | None = None
) -> float:
    """The smallest box that holds `min_contacts` contacts around the typical channel.

    On a square array of 15 um pitch this is the box of 3 x 3 contacts: the "4-9 channels" of Hurwitz et al. (2019).

    Parameters
    ----------
    contact_locations : array, shape (num_channels, 2) or (num_channels, 3)
        Places of the contacts in um.
    min_contacts : int, default: 8
        Contacts in a full box, or all contacts of a probe that has fewer.
    shank_indices : int array, shape (num_channels,), optional
        Shank of each contact.

    Returns
    -------
    float
        Half width in um.
    """
    locations = as_locations_3d(contact_locations)
    reach = np.abs(locations[:, None, :] - locations[None, :, :]).max(axis=2)
    if shank_indices is not None:
        shanks = np.asarray(shank_indices)
        reach = np.where(shanks[:, None] == shanks[None, :], reach, np.inf)
    rank = min(min_contacts, len(locations)) - 1
    nearest = np.sort(reach, axis=1)[:, rank]
    nearest = nearest[np.isfinite(nearest)]
    if not len(nearest):
        reach[~np.isfinite(reach)] = 0
        nearest = reach.max(axis=1)
    # border channels need a wider box for the same count: half of the channels see a full one
    return float(np.ceil(np.median(nearest) + 0.25 * _pitch(reach)))


def as_locations_3d(contact_locations: np.ndarray) -> np.ndarray:
    """Contact places as a float64 array of shape (num_channels, 3), checked."""
    locations = np.asarray(contact_locations, dtype="float64")
    if locations.ndim != 2 or locations.shape[1] not in (2, 3):
        raise InputError(f"Contact locations must have shape (num_channels, 2 or 3), got {locations.shape}.")
    if len(locations) < 2:
        raise InputError(
            f"Localization needs at least 2 contacts, this recording has {len(locations)}: one channel says nothing "
            "about the place of a spike."
        )
    if not np.isfinite(locations).all():
        raise InputError(f"{(~np.isfinite(locations)).any(axis=1).sum()} contact locations are not finite.")
    if locations.shape[1] == 2:
        locations = np.column_stack([locations, np.zeros(len(locations))])
    distinct = len(np.unique(np.round(locations, 3), axis=0))
    if distinct < len(locations):
        raise InputError(
            f"{len(locations) - distinct} of {len(locations)} contacts share their place with another "
            f"one: the probe is "
            "missing or wrong. Attach it with recording.set_probe()."
        )
    return locations


def _pitch(reach: np.ndarray) -> float:
    positive = np.where(reach > 0, reach, np.inf)
    smallest = positive.min(axis=1)
    return float(np.median(smallest[np.isfinite(smallest)]))


def _pairs_in_box(locations, half_width_um, shank_indices):
    """Index pairs (centre, neighbour) in one box and on one shank, and the neighbours' relative places."""
    from scipy.spatial import cKDTree

    tree = cKDTree(locations)
    found = tree.query_ball_point(locations, half_width_um, p=np.inf)
    centres = np.repeat(np.arange(len(locations)), [len(f) for f in found])
    neighbours = np.concatenate([np.sort(f) for f in found]).astype(int)
    relative = locations[neighbours] - locations[centres]
    keep = np.abs(relative).max(axis=1) < half_width_um - 1e-6
    if shank_indices is not None:
        shanks = np.asarray(shank_indices)
        keep &= shanks[centres] == shanks[neighbours]
    return np.column_stack([centres, neighbours])[keep], relative[keep]


def _distinct_places(relative):
    """Cluster relative places that agree within the tolerance; clusters sorted by y, then x, then z."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    # the first rounding only makes equal what arithmetic made unequal, so that the tree stays small
    seen, inverse = np.unique(np.round(relative, 3), axis=0, return_inverse=True)
    links = cKDTree(seen).query_pairs(PLACE_TOLERANCE_UM, p=np.inf, output_type="ndarray")
    graph = coo_array((np.ones(len(links)), links.T), shape=(len(seen), len(seen)))
    num_places, cluster = connected_components(graph, directed=False)
    places = np.stack([np.bincount(cluster, weights=axis) for axis in seen.T], axis=1)
    places /= np.bincount(cluster)[:, None]
    order = np.lexsort(np.round(places, 3)[:, [2, 0, 1]].T)
    rank = np.empty(num_places, dtype=int)
    rank[order] = np.arange(num_places)
    return places[order], rank[cluster[inverse.ravel()]]


def _fill(layout, half_width_um, places, pairs, relative, slots, locations, planar):
    neighbours = np.full((len(locations), len(places)), -1, dtype="int32")
    offsets = np.zeros((len(locations), len(places), 3), dtype="float32")
    neighbours[pairs[:, 0], slots] = pairs[:, 1]
    offsets[pairs[:, 0], slots] = relative
    return LocalGeometry(
        layout, float(half_width_um), np.asarray(places, float), neighbours, offsets, locations, planar
    )
