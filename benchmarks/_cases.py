"""One recording with the spikes that are scored, the methods, and a method's score on it: what the parts share."""

import functools
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from _localizers import JOB, fit, load_recording, localize

from si_neuroml.localization.evaluation import error_summary, split_spikes
from si_neuroml.localization.posterior import region_levels
from si_neuroml.localization.protocols import gt_peaks
from training.scenes import HELD_OUT_MODELS

LEVELS = (0.5, 0.8, 0.9, 0.95)


class Method(NamedTuple):
    """A localizer: name in the file of scores, name in SpikeInterface, parameters; slow ones take the subset only."""

    key: str
    method: str
    options: dict
    slow: bool = False


SI_METHODS = (
    Method("SI center_of_mass", "center_of_mass", {}),
    Method("SI grid_convolution", "grid_convolution", {}),
    Method("SI monopolar", "monopolar_triangulation", {"radius_um": 50}, slow=True),
)
SI_KEYS = tuple(method.key for method in SI_METHODS)
# its model is fitted to each recording
VAE = Method("VAE", "vae", {})


def posterior_method(model):
    """neural_posterior with these weights, kept under their digest."""
    return Method(f"neural_posterior {model['digest'][:12]}", "neural_posterior", {"model": model})


@functools.lru_cache(maxsize=1)
def matched_recording(probe, noise, seed, duration, cache_folder):
    """(recording, sorting, its detected spikes); the parts ask for the same one in turn."""
    place = SimpleNamespace(duration=duration, cache_folder=cache_folder)
    recording, sorting = load_recording(probe, noise, seed, place)
    return recording, sorting, gt_peaks(recording, sorting, protocol="detected", job_kwargs=JOB, seed=seed)


class Case:
    """A recording and its spikes; with `half`, one half of the spikes is left for the VAE to train on.

    Groups of spikes are scored apart: "all", and "held_out", those of the cell models that the held-out network never
    saw, where the sorting tells cell models.
    """

    def __init__(self, recording, sorting, spikes, seed, arguments, *, half=False):
        self.recording, self.seed, self.arguments = recording, seed, arguments
        train, test = split_spikes(len(spikes.peaks), 0.5, seed)
        self.training_peaks = spikes.peaks[train]
        chosen = test if half else np.arange(len(spikes.peaks))
        self.peaks, self.unit_index = spikes.peaks[chosen], spikes.unit_index[chosen]
        self.found = len(spikes.peaks) / spikes.num_true_spikes
        size = min(arguments.subset, len(chosen))
        self.subset = np.sort(np.random.default_rng(seed).choice(len(chosen), size, replace=False))
        self.truth = sorting.get_property("gt_unit_locations")
        self.groups = {"all": np.ones(len(self.peaks), dtype=bool)}
        models = sorting.get_property("cell_model")
        if models is not None:
            self.groups["held_out"] = np.isin(models, HELD_OUT_MODELS)[self.unit_index]

    def score(self, method):
        """Scores on all spikes (None for a slow method) and on the subset, by group."""
        options, training = method.options, None
        if method is VAE:
            model, training = fit(self.recording, self.training_peaks, self.seed, self.arguments)
            options = {"model": model}
        rows = self.subset if method.slow else np.arange(len(self.peaks))
        places, seconds = localize(self.recording, self.peaks[rows], method.method, options)
        on_subset = np.ones(len(rows), dtype=bool) if method.slow else np.isin(rows, self.subset)
        score = {"seconds": seconds, "num_spikes": len(rows), "found": self.found, "training": training}
        score["num_not_finite"] = int((~finite(places)).sum())
        score["subset"] = self._by_group(places, rows, on_subset)
        score["whole"] = None if method.slow else self._by_group(places, rows, np.ones(len(rows), dtype=bool))
        return score

    def _by_group(self, places, rows, chosen):
        result = {}
        for name, members in self.groups.items():
            own = chosen & members[rows] & finite(places)
            unit_index = self.unit_index[rows[own]]
            contacts = self.recording.get_channel_locations()
            result[name] = summary(places[own], self.truth, unit_index, contacts) if own.any() else None
        return result


def finite(places):
    """Which estimates can be scored."""
    names = [name for name in ("x", "y", "z", "x_std", "y_std", "z_std") if name in places.dtype.names]
    return np.all([np.isfinite(places[name]) for name in names], axis=0)


def summary(places, truth, unit_index, contacts):
    """The part of error_summary() that is reported, and how often the true place lies in the region of the plane."""
    full = error_summary(places, truth, unit_index, contacts)
    short = {name: full["per_spike"][name] for name in ("num", "mean", "median", "p95")}
    for side in ("inside", "outside"):
        short[side] = full[side] and full[side]["per_spike"]["mean"]
    short["depth"] = full["depth"] and {name: full["depth"][name] for name in ("mae", "constant_mae")}
    short["coverage"] = None
    if {"x_std", "y_std"} <= set(places.dtype.names):
        levels = region_levels(places, truth[unit_index], "xy")
        short["coverage"] = {f"{level:g}": float(np.mean(levels <= level)) for level in LEVELS}
    return short


def score_case(store, name, methods, make_case):
    """Score the methods that the file does not hold yet; the recording is only made when there are any."""
    missing = store.missing(name, [method.key for method in methods])
    if not missing:
        return
    case = make_case()
    for method in methods:
        if method.key in missing:
            store.put(name, method.key, case.score(method))
            missing.remove(method.key)
    print(f"{name}: scored on {len(case.peaks)} spikes, {case.found:.0%} of the true ones were found", flush=True)
