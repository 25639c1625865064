"""Part C: a layout that training never drew, against two that it did, on simulated scenes of the training's recipe.

Four staggered columns 20 um apart (64 contacts) against a square array of 15 um pitch (81) and Neuropixels 1.0 (64),
with cells, places and noise of fresh seeds. What counts is the ratio to SpikeInterface's best method: it depends less
on how hard a layout is than the error does.
"""

import functools
from unittest import mock

import numpy as np
from _cases import SI_KEYS, SI_METHODS, Case, posterior_method, score_case
from _localizers import JOB
from _report import Target
from _score_tables import Scores, print_scores, ratio_to_best
from probeinterface import Probe as SIProbe
from spikeinterface.core import NumpyRecording, NumpySorting

from si_neuroml.localization.protocols import gt_peaks
from training import scenes
from training.currents import load_currents
from training.probes import Probe, unseen_probe

# far from the seeds of training (below 4,000,000) and of the benchmarks on MEArec
FIRST_SEED = 9_000_000
NOISE_UV = 10.0
MARGIN = 0.15


def square():
    x, y = np.meshgrid(np.arange(9) * 15.0, np.arange(9) * 15.0)
    return Probe(centred(x.ravel(), y.ravel()), 5.0, "square")


def neuropixels():
    """Four columns 16 um apart, two contacts every 20 um, in turn left and right."""
    return Probe(
        centred(np.tile([0.0, 32.0, 16.0, 48.0], 16), np.repeat(np.arange(32), 2) * 20.0), 12.0, "neuropixels_1"
    )


def centred(x, y):
    return np.column_stack([x - x.mean(), y - y.mean(), np.zeros(len(x))])


LAYOUTS = {"square 15 um": square, "Neuropixels 1.0": neuropixels, "four columns (unseen)": unseen_probe}
UNSEEN = "four columns (unseen)"


def make_noisy_scene(probe, seed, duration_s, noise_uv):
    """A scene whose background has the given level instead of one that the scene draws: layouts are compared at one."""
    currents = all_currents()
    background = scenes._background

    def fixed(*arguments):
        return background(*arguments[:-1], noise_uv)

    with mock.patch.object(scenes, "_background", fixed):
        return scenes.make_scene(currents, scenes.cell_models(currents, held_out=False), probe, seed, duration_s)


@functools.cache
def all_currents():
    return load_currents()


def as_spikeinterface(scene):
    """(recording, sorting) of a scene, the true places as a unit property."""
    frequency = scenes.SAMPLING_FREQUENCY
    recording = NumpyRecording([np.ascontiguousarray(scene.traces.T)], sampling_frequency=frequency)
    probe = SIProbe(ndim=2, si_units="um")
    probe.set_contacts(
        scene.probe.contacts[:, :2], shapes="square", shape_params={"width": scene.probe.contact_size_um}
    )
    probe.set_device_channel_indices(np.arange(len(scene.probe.contacts)))
    recording.set_probe(probe)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    cells, samples = scene.spikes["cell_index"], scene.spikes["sample_index"]
    trains = {cell: samples[cells == cell] for cell in range(len(scene.somas))}
    sorting = NumpySorting.from_unit_dict([trains], sampling_frequency=frequency)
    sorting.set_property("gt_unit_locations", np.asarray(scene.somas, dtype="float64"))
    return recording, sorting


def case_name(layout, number, arguments):
    where = f"{layout}, {NOISE_UV:g} uV, scene {number}, {arguments.scene_duration:g} s"
    return f"C {where}, subset {arguments.subset}"


def run(arguments, models, store):
    methods = [*SI_METHODS, posterior_method(models["all"])]
    for number in range(arguments.scenes):
        for layout, make_probe in LAYOUTS.items():

            def make_case(make_probe=make_probe, seed=FIRST_SEED + number):
                scene = make_noisy_scene(make_probe(), seed, arguments.scene_duration, NOISE_UV)
                recording, sorting = as_spikeinterface(scene)
                spikes = gt_peaks(recording, sorting, protocol="detected", job_kwargs=JOB, seed=seed)
                return Case(recording, sorting, spikes, seed, arguments)

            score_case(store, case_name(layout, number, arguments), methods, make_case)


def report(arguments, models, store):
    key = posterior_method(models["all"]).key
    methods = {own: own for own in SI_KEYS} | {"neural_posterior": key}
    ratios, errors = {}, {}
    for layout in LAYOUTS:
        cases = [case_name(layout, number, arguments) for number in range(arguments.scenes)]
        counts = sum(Scores(store, cases, key, "subset").values("num"))
        title = f"C  {layout}, {NOISE_UV:g} uV, mean over {len(cases)} scenes: {counts} spikes that all localized"
        print_scores(title, store, cases, methods, "subset")
        ratios[layout], best = ratio_to_best(store, cases, key, "median")
        single = [ratio_to_best(store, [case], key, "median")[0] for case in cases]
        # standard error of the mean over scenes
        errors[layout] = f" +- {np.std(single, ddof=1) / len(single) ** 0.5:.3f}" if len(single) > 1 else ""
        listed = ", ".join(f"{ratio:.3f}" for ratio in single)
        print(f"median / best ({best}): {ratios[layout]:.3f} (scene by scene {listed})", flush=True)
    seen = float(np.mean([ratio for layout, ratio in ratios.items() if layout != UNSEEN]))
    excess = ratios[UNSEEN] / seen - 1
    text = ", ".join(f"{layout} {ratio:.3f}{errors[layout]}" for layout, ratio in ratios.items()) + f": {excess:+.1%}"
    name = f"median / best on the unseen layout at most {MARGIN:.0%} above the mean of the seen ones'"
    return [Target("C", name, text, excess <= MARGIN)]
