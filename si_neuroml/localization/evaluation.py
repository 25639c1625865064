"""How far estimated places are from true ones: centre channels for simulated spikes, and summaries of the error.

Arrays in, plain numbers out; what reads a recording is in :mod:`~si_neuroml.localization.protocols`.

The error is the distance in the plane of the probe. A unit is *inside* when its true place, in that plane, lies in the
bounding box of the contacts (border included): localizers fail differently beyond the border, so that a mean over all
units says as much about how many lie outside as about the localizer.
"""

from statistics import NormalDist
from typing import Any

import numba
import numpy as np

from ..errors import InputError

__all__ = [
    "error_summary",
    "inside_bounding_box",
    "location_errors",
    "lowest_troughs",
    "match_peaks",
    "nearest_contacts",
    "oracle_peaks",
    "split_spikes",
]

COVERAGE_LEVELS = (0.5, 0.8, 0.9, 0.95)


def error_summary(
    locations: np.ndarray, true_locations: np.ndarray, unit_index: np.ndarray, contact_locations: np.ndarray
) -> dict[str, Any]:
    """Everything that is reported about the error of a localizer.

    Parameters
    ----------
    locations : structured array, shape (num_spikes,)
        Estimates in um, fields x and y, and where the method has them z, x_std and y_std.
    true_locations : array, shape (num_units, 2) or (num_units, 3)
        True places in um: x and y in the plane of the probe, then the distance from it.
    unit_index : int array, shape (num_spikes,)
        The unit of each spike.
    contact_locations : array, shape (num_contacts, 2) or (num_contacts, 3)
        Places of the contacts in um.

    Returns
    -------
    dict
        Fit for JSON. ``per_spike``, ``per_unit`` (over the mean errors of the units): num, mean, sd, median and p95 in
        um; ``inside`` and ``outside``: the same two for these units alone (None without any); ``fraction_outside`` of
        the spikes; ``depth``: mae, constant_mae (of the best constant guess, the median depth) and correlation, None
        without z; ``coverage``: how often x and y lie in their central interval, by level, None without finite
        standard deviations; ``units``: the table behind it, with ``bias`` (distance of the unit's mean estimate) and
        ``spread`` (root mean square distance from that mean).

    Raises
    ------
    InputError
        When lengths do not agree, or an estimate is not finite.
    """
    true_locations, unit_index = np.asarray(true_locations, dtype="float64"), np.asarray(unit_index)
    errors = location_errors(locations, true_locations, unit_index)
    units = np.unique(unit_index)
    inside = inside_bounding_box(true_locations, contact_locations)
    table = _unit_table(locations, true_locations, unit_index, units, errors, inside)
    unit_means, unit_inside = np.asarray(table["mean"]), np.asarray(table["inside"], dtype=bool)
    spike_inside = inside[unit_index]
    summary = {
        "per_spike": _spread_of(errors),
        "per_unit": _spread_of(unit_means),
        "fraction_outside": float(np.mean(~spike_inside)),
        "depth": _depth_summary(locations, true_locations, unit_index),
        "coverage": _coverage(locations, true_locations, unit_index),
        "units": table,
    }
    groups = {"inside": (spike_inside, unit_inside), "outside": (~spike_inside, ~unit_inside)}
    for name, (spikes, means) in groups.items():
        both = {"per_spike": _spread_of(errors[spikes]), "per_unit": _spread_of(unit_means[means])}
        summary[name] = both if spikes.any() else None
    return summary


def location_errors(locations: np.ndarray, true_locations: np.ndarray, unit_index: np.ndarray) -> np.ndarray:
    """Distance in the plane between each spike's estimate and its unit's true place.

    Parameters
    ----------
    locations : structured array, shape (num_spikes,)
        Fields x and y in um.
    true_locations : array, shape (num_units, 2) or (num_units, 3)
        In um.
    unit_index : int array, shape (num_spikes,)
        The unit of each spike.

    Returns
    -------
    float64 array, shape (num_spikes,)
        In um.

    Raises
    ------
    InputError
        When there are no spikes, lengths do not agree, or an estimate is not finite.
    """
    names = getattr(getattr(locations, "dtype", None), "names", None) or ()
    if "x" not in names or "y" not in names:
        raise InputError(f"locations must be a structured array with fields x and y, it has {list(names)}.")
    unit_index, true_locations = np.asarray(unit_index), np.asarray(true_locations, dtype="float64")
    if len(locations) != len(unit_index) or not len(locations):
        raise InputError(f"{len(locations)} locations for {len(unit_index)} spikes: give one each, and at least one.")
    if unit_index.min() < 0 or unit_index.max() >= len(true_locations):
        raise InputError(
            f"unit_index runs from {unit_index.min()} to {unit_index.max()}, there are {len(true_locations)} places."
        )
    places = np.column_stack([locations["x"], locations["y"]]).astype("float64")
    wrong = ~np.isfinite(places).all(axis=1)
    if wrong.any():
        raise InputError(f"{wrong.sum()} of {len(places)} estimates are not finite: drop these spikes for all methods.")
    return np.linalg.norm(places - true_locations[unit_index, :2], axis=1)


def inside_bounding_box(true_locations: np.ndarray, contact_locations: np.ndarray) -> np.ndarray:
    """Which places lie, in the plane, in the bounding box of the contacts: bool array, shape (num_places,)."""
    plane, contacts = np.asarray(true_locations)[:, :2], np.asarray(contact_locations)[:, :2]
    return ((plane >= contacts.min(axis=0)) & (plane <= contacts.max(axis=0))).all(axis=1)


def split_spikes(num_spikes: int, fraction: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint sets of spikes at random, one to train on and one to score.

    Parameters
    ----------
    num_spikes : int
        How many there are.
    fraction : float, default: 0.5
        Share of the first set.
    seed : int, default: 0
        Of the draw.

    Returns
    -------
    first, second : int arrays
        Sorted indices; together all of ``range(num_spikes)``.

    Raises
    ------
    InputError
        When one of the sets would be empty.
    """
    size = round(fraction * num_spikes)
    if not 0 < size < num_spikes:
        raise InputError(f"A fraction of {fraction!r} of {num_spikes} spikes leaves one of the two sets empty.")
    order = np.random.default_rng(seed).permutation(num_spikes)
    return np.sort(order[:size]), np.sort(order[size:])


def nearest_contacts(places: np.ndarray, contact_locations: np.ndarray, num_nearest: int) -> np.ndarray:
    """The contacts nearest to each place in the plane, nearest first: int array, shape (num_places, num_nearest)."""
    plane, contacts = np.asarray(places)[:, :2], np.asarray(contact_locations)[:, :2]
    if not 1 <= num_nearest <= len(contacts):
        raise InputError(f"num_nearest must lie between 1 and the {len(contacts)} contacts, got {num_nearest!r}.")
    distance = np.linalg.norm(plane[:, None, :] - contacts[None, :, :], axis=2)
    return np.argsort(distance, axis=1, kind="stable")[:, :num_nearest]


def oracle_peaks(
    traces: np.ndarray,
    sample_indices: np.ndarray,
    unit_index: np.ndarray,
    true_locations: np.ndarray,
    contact_locations: np.ndarray,
    *,
    num_nearest: int = 10,
    half_window: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre channels as in the evaluation of Hurwitz et al. (2019): the truth says where to look.

    The centre is the channel with the lowest trough among the `num_nearest` channels nearest the true soma.

    Parameters
    ----------
    traces : array, shape (num_frames, num_channels)
        A chunk of traces.
    sample_indices, unit_index : int arrays, shape (num_spikes,)
        True frame in the chunk and unit of each spike.
    true_locations : array, shape (num_units, 2 or 3)
        True places in um.
    contact_locations : array, shape (num_channels, 2 or 3)
        Places of the contacts in um.
    num_nearest : int, default: 10
        How many channels.
    half_window : int
        Frames on either side of the true one in which the trough is sought.

    Returns
    -------
    sample_indices, channel_indices, values
        Frame and channel of the trough, and the trace there, each of shape (num_spikes,).
    """
    candidates = nearest_contacts(true_locations, contact_locations, num_nearest)
    return lowest_troughs(traces, sample_indices, candidates[np.asarray(unit_index)], half_window)


def lowest_troughs(
    traces: np.ndarray, sample_indices: np.ndarray, candidates: np.ndarray, half_window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The lowest value near each spike on some channels.

    Parameters
    ----------
    traces : array, shape (num_frames, num_channels)
        A chunk of traces.
    sample_indices : int array, shape (num_spikes,)
        Frame of each spike; frames of its window outside the chunk are skipped.
    candidates : int array, shape (num_spikes, num_candidates)
        Channels to look at, -1 for none; of equal values the first channel's earliest counts.
    half_window : int
        The window is [sample - half_window, sample + half_window].

    Returns
    -------
    sample_indices, channel_indices, values
        Frame and channel of the lowest value, and the value, each of shape (num_spikes,).
    """
    samples, channels = np.asarray(sample_indices, dtype="int64").copy(), np.asarray(candidates, dtype="int64")
    centers, values = channels[:, 0].copy(), np.full(len(samples), np.inf)
    _lowest(traces, samples, channels, int(half_window), centers, values)
    return samples, centers, values


def match_peaks(
    peak_samples: np.ndarray,
    peak_places: np.ndarray,
    spike_samples: np.ndarray,
    spike_places: np.ndarray,
    *,
    max_samples: int,
    max_distance_um: float,
) -> np.ndarray:
    """Give every spike at most one detected peak, and every peak at most one spike.

    Pairs within both limits are taken in the order of (time / limit)^2 + (distance / limit)^2.

    Parameters
    ----------
    peak_samples, spike_samples : int arrays, shapes (num_peaks,) and (num_spikes,)
        Frames; those of the peaks ascending.
    peak_places, spike_places : arrays, shapes (num_peaks, d) and (num_spikes, d)
        Where each peak was detected and where each spike is expected, in um.
    max_samples : int
        Largest difference in time.
    max_distance_um : float
        Largest distance.

    Returns
    -------
    int64 array, shape (num_spikes,)
        The peak of each spike, -1 for none.
    """
    peak_samples, spike_samples = np.asarray(peak_samples, dtype="int64"), np.asarray(spike_samples, dtype="int64")
    first = np.searchsorted(peak_samples, spike_samples - max_samples, side="left")
    counts = np.searchsorted(peak_samples, spike_samples + max_samples, side="right") - first
    spike = np.repeat(np.arange(len(spike_samples)), counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    peak = np.arange(len(spike)) - starts + np.repeat(first, counts)
    distance = np.linalg.norm(np.asarray(peak_places)[peak] - np.asarray(spike_places)[spike], axis=1)
    near = distance <= max_distance_um
    spike, peak, distance = spike[near], peak[near], distance[near]
    late = np.abs(peak_samples[peak] - spike_samples[spike])
    cost = (late / max(max_samples, 1)) ** 2 + (distance / max_distance_um) ** 2
    matched, taken = np.full(len(spike_samples), -1, dtype="int64"), np.zeros(len(peak_samples), dtype=bool)
    for pair in np.argsort(cost, kind="stable"):
        if matched[spike[pair]] < 0 and not taken[peak[pair]]:
            matched[spike[pair]], taken[peak[pair]] = peak[pair], True
    return matched


def _spread_of(errors):
    if not len(errors):
        return None
    return {
        "num": len(errors),
        "mean": float(errors.mean()),
        "sd": float(errors.std()),
        "median": float(np.median(errors)),
        "p95": float(np.percentile(errors, 95)),
    }


def _unit_table(locations, true_locations, unit_index, units, errors, inside):
    table = {name: [] for name in ("unit", "num", "mean", "median", "bias", "spread", "inside")}
    for unit in units:
        own = unit_index == unit
        places = np.column_stack([locations["x"][own], locations["y"][own]])
        center = places.mean(axis=0)
        row = {
            "unit": int(unit),
            "num": int(own.sum()),
            "mean": float(errors[own].mean()),
            "median": float(np.median(errors[own])),
            "bias": float(np.linalg.norm(center - true_locations[unit, :2])),
            "spread": float(np.sqrt(((places - center) ** 2).sum(axis=1).mean())),
            "inside": bool(inside[unit]),
        }
        for name, value in row.items():
            table[name].append(value)
    return table


def _depth_summary(locations, true_locations, unit_index):
    if "z" not in locations.dtype.names or true_locations.shape[1] < 3:
        return None
    # the sign of the distance from a plane of contacts cannot be known
    truth, estimate = np.abs(true_locations[unit_index, 2]), np.abs(locations["z"].astype("float64"))
    varied = np.ptp(truth) > 0 and np.ptp(estimate) > 0
    return {
        "mae": float(np.abs(estimate - truth).mean()),
        "constant_mae": float(np.abs(np.median(truth) - truth).mean()),
        "correlation": float(np.corrcoef(truth, estimate)[0, 1]) if varied else 0.0,
    }


def _coverage(locations, true_locations, unit_index):
    if not {"x_std", "y_std"} <= set(locations.dtype.names):
        return None
    estimate, std = (np.column_stack([locations[f"{axis}{end}"] for axis in "xy"]) for end in ("", "_std"))
    if not np.isfinite(std).all():
        return None
    deviation = np.abs(estimate - true_locations[unit_index, :2])
    return {
        f"{level:g}": float(np.mean(deviation <= NormalDist().inv_cdf(0.5 + level / 2) * std))
        for level in COVERAGE_LEVELS
    }


@numba.njit(nogil=True)
def _lowest(traces, samples, candidates, half_window, centers, values):
    for spike in range(len(samples)):
        start, stop = max(samples[spike] - half_window, 0), min(samples[spike] + half_window + 1, traces.shape[0])
        for k in range(candidates.shape[1]):
            channel = candidates[spike, k]
            if channel < 0:
                continue
            for frame in range(start, stop):
                if traces[frame, channel] < values[spike]:
                    values[spike] = traces[frame, channel]
                    samples[spike], centers[spike] = frame, channel
