"""Harder copies of a recording's own clear spikes: smaller, in real background, overlapped, and detected anew.

A copy of a spike w with trough A at a smaller amplitude s A, in background b from the same channels, is

    s w + sqrt(1 - s^2) b,

whose noise is that of the recording whatever s is, since w brings its own noise along. A copy in collision is s w plus
a stretch of the recording that holds another spike. Where such a copy is *detected* is where its own deepest trough
now lies, which may be another sample and another channel.
"""

from typing import NamedTuple

import numpy as np

from .contact_plane import NearestGeometry
from .neural_posterior import PreparedPosterior

__all__ = ["CopyBatch", "Cuts", "SpikeCopies", "count_near", "place_groups"]

# a detected peak that is less than this share the copied spike's own is another's
OWN_SHARE = 0.4
SMALLEST_SCALE = 0.15
COLLISION_PROBABILITY = 0.25
DROPOUT_PROBABILITY, LARGEST_DROPOUT = 0.2, 0.5
# detectors look for the lowest trough among channels this near
DETECTION_RADIUS_UM = 50.0


class Cuts(NamedTuple):
    """Stretches of a recording around channels, wider in time and place than what the model sees.

    Attributes
    ----------
    waveforms : float32 array, shape (num_cuts, num_wide_slots, num_wide_samples)
        In uV, spikes downwards.
    channels : int array, shape (num_cuts,)
        Centre channel of each.
    observed : bool array, shape (num_cuts, num_wide_slots)
        Which slots hold a usable channel.
    """

    waveforms: np.ndarray
    channels: np.ndarray
    observed: np.ndarray

    def subset(self, rows: np.ndarray) -> "Cuts":
        """Some of them."""
        return Cuts(*(values[rows] for values in self))


class CopyBatch(NamedTuple):
    """What the network sees of some copies, and where the copied spikes are.

    Attributes
    ----------
    coefficients : float32 array, shape (num_copies, num_slots, basis_size)
        In uV.
    observed : float32 array, shape (num_copies, num_slots)
        Channels that are used.
    channels : int array, shape (num_copies,)
        Centre channel on which the copy is detected.
    moved : float64 array, shape (num_copies, 3)
        From the centre channel of the spike to that of the copy, in the plane, in um.
    rows : int array, shape (num_copies,)
        The spike that was copied.
    """

    coefficients: np.ndarray
    observed: np.ndarray
    channels: np.ndarray
    moved: np.ndarray
    rows: np.ndarray


class SpikeCopies:
    """Makes copies of spikes.

    Parameters
    ----------
    prepared : PreparedPosterior
        The model on this probe.
    wide : NearestGeometry
        The slots of the cuts.
    margin : int
        Samples by which the cuts are longer than the model's window, at either end.
    background, collisions : Cuts
        Stretches without and with other spikes, on the channels of the spikes that are copied.
    amplitudes : float array
        Trough depths that peaks of this recording have, in uV; those of copies are drawn from them.
    """

    def __init__(
        self,
        prepared: PreparedPosterior,
        wide: NearestGeometry,
        margin: int,
        background: Cuts,
        collisions: Cuts,
        amplitudes: np.ndarray,
    ):
        self.prepared, self.wide, self.margin, self.amplitudes = prepared, wide, margin, amplitudes
        self.background, self.collisions = background, collisions
        self._on_channel = [_rows_by_channel(cuts.channels) for cuts in (background, collisions)]

    def batch(
        self, spikes: Cuts, depths: np.ndarray, rows: np.ndarray, rng: np.random.Generator, *, dropout: bool
    ) -> CopyBatch:
        """One copy of each of some spikes, less those copies that another spike took over.

        Parameters
        ----------
        spikes : Cuts
            The spikes.
        depths : array, shape (num_spikes,)
            Their troughs in uV.
        rows : int array, shape (num_copies,)
            Which to copy.
        rng : Generator
            Of everything random.
        dropout : bool
            Leave out channels at random.

        Returns
        -------
        CopyBatch
        """
        channels = spikes.channels[rows]
        scale = np.clip(rng.choice(self.amplitudes, len(rows)) / depths[rows], SMALLEST_SCALE, 1.0)
        collides = rng.random(len(rows)) < COLLISION_PROBABILITY
        own = scale[:, None, None].astype("float32") * spikes.waveforms[rows]
        mixed, usable = own.copy(), spikes.observed[rows]
        for kind, (cuts, chosen) in enumerate(((self.background, ~collides), (self.collisions, collides))):
            picked = _draw(self._on_channel[kind], channels[chosen], rng)
            found = np.flatnonzero(chosen)[picked >= 0]
            picked = picked[picked >= 0]
            weight = np.sqrt(1.0 - scale[found] ** 2) if kind == 0 else np.ones(len(found))
            mixed[found] += weight[:, None, None].astype("float32") * cuts.waveforms[picked]
            usable[found] &= cuts.observed[picked]
        slot, sample = self._detect(mixed, channels, usable)
        every = np.arange(len(rows))
        kept = own[every, slot, sample] <= OWN_SHARE * mixed[every, slot, sample]
        mixed, usable, slot, sample, channels, rows = (
            values[kept] for values in (mixed, usable, slot, sample, channels, rows)
        )
        return self._seen(mixed, usable, channels, slot, sample, rows, rng if dropout else None)

    def plain(self, spikes: Cuts, rows: np.ndarray) -> CopyBatch:
        """The spikes themselves, as they were detected."""
        slot, sample = np.zeros(len(rows), int), np.full(len(rows), self.margin + self.prepared.window.nbefore)
        return self._seen(
            spikes.waveforms[rows], spikes.observed[rows], spikes.channels[rows], slot, sample, rows, None
        )

    def _detect(self, mixed, channels, usable):
        """Slot and sample of the deepest trough near the spike."""
        center, margin = self.margin + self.prepared.window.nbefore, self.margin
        near = np.linalg.norm(self.wide.plane_offsets[channels], axis=2) <= DETECTION_RADIUS_UM
        near &= usable
        near[:, 0] = True
        reach = mixed[:, :, center - margin : center + margin + 1]
        lowest = np.where(near[:, :, None], reach, np.inf).reshape(len(mixed), -1).argmin(axis=1)
        return lowest // reach.shape[2], lowest % reach.shape[2] + center - margin

    def _seen(self, mixed, usable, channels, slot, sample, rows, rng):
        """The model's window around the detected sample, in the slots of the detected channel."""
        window, slots = self.prepared.window, self.prepared.geometry.slots
        center = self.wide.slots.neighbours[channels, slot].astype("int64")
        wanted = slots.neighbours[center]
        same = wanted[:, :, None] == self.wide.slots.neighbours[channels][:, None, :]
        source = same.argmax(axis=2)
        observed = same.any(axis=2) & (wanted >= 0) & np.take_along_axis(usable, source, axis=1)
        if rng is not None:
            share = rng.uniform(0, LARGEST_DROPOUT, len(rows)) * (rng.random(len(rows)) < DROPOUT_PROBABILITY)
            dropped = rng.random(observed.shape) < share[:, None]
            dropped[:, 0] = False  # the centre channel saw the peak
            observed &= ~dropped
        times = sample[:, None] + np.arange(-window.nbefore, window.nafter)
        cut = mixed[np.arange(len(mixed))[:, None, None], source[:, :, None], times[:, None, :]]
        coefficients = (cut.reshape(-1, cut.shape[2]) @ self.prepared.basis).reshape(*cut.shape[:2], -1)
        moved = self.wide.plane_offsets[channels, slot].astype("float64")
        return CopyBatch(coefficients * observed[:, :, None], observed.astype("float32"), center, moved, rows)


def count_near(
    query: np.ndarray, peaks: np.ndarray, contacts: np.ndarray, *, reach: int, radius_um: float
) -> np.ndarray:
    """Peaks close to each query in time and place.

    Parameters
    ----------
    query, peaks : structured arrays
        Fields ``segment_index``, ``sample_index`` and ``channel_index``; `peaks` sorted by segment and sample.
    contacts : array, shape (num_channels, d)
        In um.
    reach : int
        Samples on either side.
    radius_um : float
        Between the centre channels.

    Returns
    -------
    int array, shape (num_queries,)
        A query that is itself among the peaks counts itself.
    """
    counts = np.zeros(len(query), dtype="int64")
    for segment in np.unique(query["segment_index"]):
        own = np.flatnonzero(query["segment_index"] == segment)
        lo, hi = np.searchsorted(peaks["segment_index"], (segment, segment + 1))
        samples = peaks["sample_index"][lo:hi]
        first = np.searchsorted(samples, query["sample_index"][own] - reach)
        last = np.searchsorted(samples, query["sample_index"][own] + reach, side="right")
        pair_query = np.repeat(own, last - first)
        starts = np.repeat(np.cumsum(last - first) - (last - first), last - first)
        pair_peak = lo + np.arange(len(pair_query)) - starts + np.repeat(first, last - first)
        apart = contacts[query["channel_index"][pair_query]] - contacts[peaks["channel_index"][pair_peak]]
        near = np.linalg.norm(apart, axis=1) <= radius_um
        counts += np.bincount(pair_query[near], minlength=len(query))
    return counts


def place_groups(places: np.ndarray, distance_um: float) -> np.ndarray:
    """Groups of spikes that lie together, a stand-in for their cells: int array, shape (num_spikes,), from 0.

    Average linkage of the places, shape (num_spikes, d), cut at a distance.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    return fcluster(linkage(places, "average"), distance_um, "distance") - 1


def _rows_by_channel(channels):
    return {channel: np.flatnonzero(channels == channel) for channel in np.unique(channels).tolist()}


def _draw(rows_by_channel, channels, rng):
    """One row for each channel, -1 where there is none."""
    uniform = rng.random(len(channels))
    picked = np.full(len(channels), -1)
    for index, channel in enumerate(channels.tolist()):
        rows = rows_by_channel.get(channel)
        if rows is not None:
            picked[index] = rows[int(uniform[index] * len(rows))]
    return picked
