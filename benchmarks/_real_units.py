"""Mean waveforms of real units on 14 sites of a Neuropixels 1.0 probe, and where localizers put them.

The file is an npz of mean waveforms with the sites' places, one row per unit; no soma's place is known.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from spikeinterface.postprocessing.localization_tools import (
    make_initial_guess_and_bounds,
    solve_monopolar_triangulation,
)

VARIABLE = "SI_NEUROML_REAL_UNITS"
NEEDED = ("waveforms", "uV_per_bit", "channel_xy_um", "peak_row", "session", "session_names", "is_single", "vpp_uV")
SAMPLING_FREQUENCY = 30_000.0
MIN_UV, NEAR_UM = 100.0, 26.0
# as SpikeInterface's monopolar_triangulation: its bound on the distance, and Hurwitz et al. (2019) for the decay
MAX_DISTANCE_UM, DECAY_UM = 150.0, 28.6


class Units(NamedTuple):
    """Waveforms in uV, (units, sites, samples); places of the sites in um, (units, sites, 2); the animal of each."""

    waveforms: np.ndarray
    sites: np.ndarray
    rat: np.ndarray


def find_file(path):
    """The file named on the command line or by the environment, or None and why not."""
    path = path or os.environ.get(VARIABLE)
    if not path:
        return None, f"no file of real units: give --units or set {VARIABLE} to the npz of mean waveforms"
    if not Path(path).is_file():
        return None, f"the file of real units does not exist: {path}; correct --units or {VARIABLE}"
    return Path(path), None


def load_units(path, max_units=None, seed=0):
    """The clean units: single, above 100 uV, the largest site where the spike sorter said it was."""
    with np.load(path, allow_pickle=False) as file:
        if missing := [name for name in NEEDED if name not in file]:
            raise SystemExit(f"{path} lacks {missing}: give the npz of mean waveforms on 14 sites.")
        waveforms = file["waveforms"].astype("float32") * float(file["uV_per_bit"])
        sites, assigned = file["channel_xy_um"].astype("float64"), file["peak_row"].astype(int)
        keep = file["is_single"] & (file["vpp_uV"] > MIN_UV)
        rat = np.array([name.split("_")[0] for name in file["session_names"]])[file["session"]]
    rows = np.arange(len(waveforms))
    largest = np.ptp(waveforms, axis=2).argmax(axis=1)
    keep &= np.linalg.norm(sites[rows, largest] - sites[rows, assigned], axis=1) <= NEAR_UM
    chosen = np.flatnonzero(keep)
    if max_units and len(chosen) > max_units:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, max_units, replace=False))
    return Units(waveforms[chosen], sites[chosen], rat[chosen])


def observed_sites(units, number, seed=0):
    """A random choice of `number` sites per unit, the largest among them: bool array, shape (units, sites)."""
    order = np.random.default_rng(seed).random(units.waveforms.shape[:2])
    order[np.arange(len(order)), np.ptp(units.waveforms, axis=2).argmax(axis=1)] = -1.0
    observed = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(observed, order.argsort(axis=1)[:, :number], True, axis=1)
    return observed


def neural_posteriors(model, units, observed):
    """Posterior of every unit from its observed sites, in the frame of the sites."""
    found = None
    relative = np.round(units.sites - units.sites[:, :1], 3).reshape(len(units.sites), -1)
    layouts, which = np.unique(relative, axis=0, return_inverse=True)
    for index, layout in enumerate(layouts):
        own = np.flatnonzero(which.ravel() == index)
        prepared = model.prepare(layout.reshape(-1, 2), SAMPLING_FREQUENCY)
        center = np.where(observed[own], np.ptp(units.waveforms[own], axis=2), -1.0).argmax(axis=1)
        neighbours = prepared.geometry.slots.neighbours[center]
        windows = aligned_windows(units.waveforms[own], center, prepared.window)
        slots = np.take_along_axis(windows, neighbours.clip(min=0)[:, :, None], axis=1)
        seen = np.take_along_axis(observed[own], neighbours.clip(min=0), axis=1) & (neighbours >= 0)
        posteriors = prepared.localize_waveforms(slots * seen[:, :, None], center, seen, peak_sign="both")
        if found is None:
            found = np.zeros(len(which), dtype=posteriors.dtype)
        found[own] = posteriors
    for axis, origin in zip("xy", units.sites[:, 0].T, strict=True):
        found[axis] += origin
    return found


def aligned_windows(waveforms, center, window):
    """Waveforms in the model's window, the extreme of the centre site where it expects the spike; zero where cut."""
    rows = np.arange(len(waveforms))
    spike = np.abs(waveforms[rows, center]).argmax(axis=1)
    samples = spike[:, None] + np.arange(-window.nbefore, window.nafter)
    inside = (samples >= 0) & (samples < waveforms.shape[2])
    cut = np.take_along_axis(waveforms, samples.clip(0, waveforms.shape[2] - 1)[:, None], axis=2)
    return np.where(inside[:, None], cut, np.float32(0.0))


def fitted_places(amplitudes, sites, observed):
    """Places in um, (units, 3), of the fits to the amplitudes at observed sites; "1/r" also with its scale."""
    places = {name: np.zeros((len(sites), 3)) for name in ("1/r", "1/r, SI default", "exponential", "center_of_mass")}
    scale = np.zeros(len(sites))
    for unit, seen in enumerate(observed):
        values, where = amplitudes[unit, seen].astype("float64"), sites[unit, seen]
        *place, scale[unit] = solve_monopolar_triangulation(values, where, MAX_DISTANCE_UM, "least_square")
        places["1/r"][unit] = place
        default = solve_monopolar_triangulation(values, where, MAX_DISTANCE_UM, "minimize_with_log_penality")
        places["1/r, SI default"][unit] = default[:3]
        places["exponential"][unit] = exponential_fit(values, where)[:3]
        places["center_of_mass"][unit, :2] = values @ where / values.sum()
    return places, scale


def exponential_fit(values, where, decay_um=DECAY_UM):
    """Place and amplitude of the least squares fit of A exp(-r / decay), with the start and bounds of the 1/r fit."""
    start, (low, high) = make_initial_guess_and_bounds(values, where, MAX_DISTANCE_UM)
    high = [high[0], high[1], MAX_DISTANCE_UM, 20.0 * values.max()]
    start = [*start[:3], 2.0 * values.max()]

    def misfit(guess):
        distance = np.sqrt(((where - guess[:2]) ** 2).sum(axis=1) + guess[2] ** 2)
        return guess[3] * np.exp(-distance / decay_um) - values

    return least_squares(misfit, x0=start, bounds=(low, high), x_scale=[10.0, 10.0, 10.0, values.max()]).x


def site_distances(places, sites):
    """Distance in um of every site from the place of its unit: array, shape (units, sites)."""
    plane = np.linalg.norm(sites - places[:, None, :2], axis=2)
    return np.hypot(plane, places[:, 2:])
