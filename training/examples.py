"""From a scene to training examples: detected peaks, whose they are, and their local waveforms."""

from typing import NamedTuple

import numba
import numpy as np

from .scenes import Scene

__all__ = ["MAX_CHANNELS", "NUM_AFTER", "NUM_BEFORE", "SceneExamples", "examples_of", "nearest_channels"]

# the window of the network, at 32 kHz, and how much of the probe it sees
NUM_BEFORE, NUM_AFTER = 32, 56
MAX_CHANNELS, RADIUS_UM = 24, 150.0
# a peak that is less than this share one cell's own is nobody's; a second spike of this share makes a collision
OWN_SHARE, COLLISION_SHARE = 0.4, 0.5
COLLISION_SAMPLES = 32


class SceneExamples(NamedTuple):
    """Peaks of one scene.

    Attributes
    ----------
    waveforms : float32 array, shape (num_peaks, MAX_CHANNELS, NUM_BEFORE + NUM_AFTER)
        In uV, zero on empty slots.
    channel : int16 array, shape (num_peaks,)
        Centre channel.
    place : float32 array, shape (num_peaks, 3)
        Soma relative to the centre contact in um; 0 for a false peak.
    log_source_amplitude : float32 array, shape (num_peaks,)
        Of the cell.
    cell : int16 array, shape (num_peaks,)
        Index of the cell, -1 for a false peak.
    collision : bool array, shape (num_peaks,)
        Another spike of comparable size lies in the window.
    sorted_spike : bool array, shape (num_peaks,)
        Centred as a spike of a sorting is, on its unit's main channel, instead of as a detected peak.
    """

    waveforms: np.ndarray
    channel: np.ndarray
    place: np.ndarray
    log_source_amplitude: np.ndarray
    cell: np.ndarray
    collision: np.ndarray
    sorted_spike: np.ndarray


def examples_of(scene: Scene, seed: int, max_peaks: int = 2000) -> SceneExamples:
    """Detected peaks of a scene and one fifth as many spikes centred as in a sorting.

    Parameters
    ----------
    scene : Scene
        Simulated.
    seed : int
        Of threshold, subset and misalignment.
    max_peaks : int, default: 2000
        At most so many of each scene, drawn at random.

    Returns
    -------
    SceneExamples
    """
    rng = np.random.default_rng([seed, 2])
    noise = np.median(np.abs(scene.traces), axis=1) / 0.6745
    thresholds = rng.uniform(4.0, 6.0) * noise
    near = _within(scene.probe.contacts, 50.0)
    samples, channels = _detect(scene.traces, thresholds.astype("float32"), near, 3, NUM_BEFORE, NUM_AFTER)
    spike = _owners(scene, samples, channels)
    # half of the false peaks: they teach the network little
    chosen = np.flatnonzero((spike >= 0) | (rng.random(len(samples)) < 0.5))
    chosen = np.sort(rng.permutation(chosen)[: round(max_peaks / 1.2)])
    samples, channels, spike = samples[chosen], channels[chosen], spike[chosen]
    extra = _sorted_spikes(scene, rng, thresholds, round(len(samples) * 0.2))
    samples, channels = np.concatenate([samples, extra[0]]), np.concatenate([channels, extra[1]])
    spike = np.concatenate([spike, extra[2]])
    cell = np.where(spike >= 0, scene.spikes["cell_index"][spike], -1)
    neighbours = nearest_channels(scene.probe.contacts)
    place = np.where(cell[:, None] >= 0, scene.somas[cell] - scene.probe.contacts[channels], 0.0)
    return SceneExamples(
        _cut(scene.traces, samples, neighbours[channels], NUM_BEFORE, NUM_AFTER),
        channels.astype("int16"),
        place.astype("float32"),
        np.where(cell >= 0, scene.log_source_amplitude[cell], 0.0).astype("float32"),
        cell.astype("int16"),
        _collisions(scene, spike, channels, neighbours),
        np.arange(len(samples)) >= len(chosen),
    )


def nearest_channels(contacts: np.ndarray) -> np.ndarray:
    """The channels that the network sees around each, nearest first, -1 where there are fewer: (num, MAX_CHANNELS)."""
    distance = np.linalg.norm(contacts[:, None] - contacts[None], axis=2)
    order = np.argsort(distance, axis=1, kind="stable")[:, :MAX_CHANNELS]
    order = np.where(np.take_along_axis(distance, order, axis=1) <= RADIUS_UM, order, -1)
    return np.pad(order, ((0, 0), (0, MAX_CHANNELS - order.shape[1])), constant_values=-1)


def _within(contacts, radius):
    return np.linalg.norm(contacts[:, None] - contacts[None], axis=2) <= radius


def _template_values(scene, spike, samples, channels):
    """Depth of each spike's own template near a sample on a channel, in uV."""
    cells, gains = scene.spikes["cell_index"][spike], scene.spikes["gain"][spike]
    lag = samples - scene.spikes["sample_index"][spike] + scene.template_spike
    window = np.clip(lag[:, None] + np.arange(-3, 4), 0, scene.templates.shape[2] - 1)
    return -scene.templates[cells[:, None], channels[:, None], window].min(axis=1) * gains


def _owners(scene, samples, channels, reach=48):
    """The spike that makes up most of each peak, -1 where none makes up enough."""
    first = np.searchsorted(scene.spikes["sample_index"], samples - reach)
    counts = np.searchsorted(scene.spikes["sample_index"], samples + reach) - first
    peak = np.repeat(np.arange(len(samples)), counts)
    spike = np.arange(len(peak)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    value = _template_values(scene, spike, samples[peak], channels[peak])
    order = np.lexsort((value, peak))
    last = np.flatnonzero(np.diff(peak[order], append=-1))
    owner, best = np.full(len(samples), -1), np.zeros(len(samples))
    owner[peak[order][last]], best[peak[order][last]] = spike[order][last], value[order][last]
    return np.where(best >= OWN_SHARE * -scene.traces[channels, samples], owner, -1)


def _sorted_spikes(scene, rng, thresholds, count):
    """(samples, channels, spikes) of spikes as a sorting would give them: on their unit's main channel."""
    troughs = scene.templates.min(axis=2)
    main = troughs.argmin(axis=1)
    cells = np.arange(len(main))
    large = -troughs[cells, main] > 0.8 * thresholds[main]
    lag = scene.templates[cells, main].argmin(axis=1) - scene.template_spike
    spike = np.flatnonzero(large[scene.spikes["cell_index"]])
    spike = np.sort(rng.permutation(spike)[:count])
    cell = scene.spikes["cell_index"][spike]
    late = np.rint(rng.normal(0, rng.uniform(0, 2), size=len(spike))).astype("int64")
    return scene.spikes["sample_index"][spike] + lag[cell] + np.clip(late, -4, 4), main[cell], spike


def _collisions(scene, spike, channels, neighbours):
    """Whether another spike within 1 ms is half as deep, somewhere in the window, as the peak's own on its centre."""
    troughs = -scene.templates.min(axis=2)
    times, cells = scene.spikes["sample_index"], scene.spikes["cell_index"]
    found = np.zeros(len(spike), dtype=bool)
    for index in np.flatnonzero(spike >= 0):
        own = spike[index]
        lo, hi = np.searchsorted(times, (times[own] - COLLISION_SAMPLES, times[own] + COLLISION_SAMPLES + 1))
        others = np.setdiff1d(np.arange(lo, hi), own)
        local = neighbours[channels[index]]
        depth = troughs[np.ix_(cells[others], local[local >= 0])].max(axis=1, initial=0.0)
        found[index] = (depth > COLLISION_SHARE * troughs[cells[own], channels[index]]).any()
    return found


@numba.njit(nogil=True)
def _detect(traces, thresholds, near, sweep, before, after):
    """Samples below threshold that are the lowest within `sweep` samples on all near channels, by sample."""
    samples, channels = [], []
    for t in range(before + 400, traces.shape[1] - after - 400):
        for c in range(traces.shape[0]):
            value = traces[c, t]
            if value >= -thresholds[c] or value > traces[c, t - 1] or value >= traces[c, t + 1]:
                continue
            lowest = True
            for other in range(traces.shape[0]):
                if not near[c, other]:
                    continue
                for k in range(t - sweep, t + sweep + 1):
                    if traces[other, k] < value:
                        lowest = False
                        break
                if not lowest:
                    break
            if lowest:
                samples.append(t)
                channels.append(c)
    return np.array(samples, dtype=np.int64), np.array(channels, dtype=np.int64)


def _cut(traces, samples, local, before, after):
    window = samples[:, None, None] + np.arange(-before, after)
    waveforms = traces[np.maximum(local, 0)[:, :, None], window]
    waveforms[local < 0] = 0.0
    return waveforms
