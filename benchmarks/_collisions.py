"""Part B: how well outlier_probability tells collisions, and whether places are better without what it flags.

A spike collides when another true spike within 1 ms is at least half as large, on some channel that the network sees,
as the spike itself on its centre channel. Two tests:

found    in the recordings as they are; sizes from the units' mean waveforms, estimated from the recording
planted  onto a random half of the spikes that are free of collisions the mean waveform of another unit is added, 0.5 to
         1 times as large, within 1 ms; the other half stays as it is, so that chance is one half
"""

from typing import NamedTuple

import numpy as np
from _cases import matched_recording, posterior_method
from _localizers import JOB, localize
from _report import Target, print_table
from sklearn.metrics import roc_auc_score
from spikeinterface.core import NumpySorting
from spikeinterface.core.generate import InjectTemplatesRecording
from spikeinterface.core.waveform_tools import estimate_templates

from si_neuroml.localization.evaluation import location_errors

WINDOW_MS, SHARE, THRESHOLD = 1.0, 0.5, 0.5
# planted onto spikes beside which nothing of this share of their size lies, this far apart
CLEAN_SHARE, APART_MS = 0.25, 5.0
TEMPLATE_MS, TEMPLATE_SPIKES = 2.0, 500
TESTS = ("found", "planted")


class Units(NamedTuple):
    """Mean waveforms (units, samples, channels) in uV, their troughs (units, channels) as positive sizes."""

    templates: np.ndarray
    nbefore: int
    troughs: np.ndarray


def case_name(probe, noise, seed, arguments):
    return f"B {probe}, {noise:g} uV, seed {seed}, {arguments.duration:g} s"


def run_recording(probe, noise, seed, arguments, models, store):
    method = posterior_method(models["all"])
    name = case_name(probe, noise, seed, arguments)
    if not store.missing(name, [method.key]):
        return
    recording, sorting, spikes = matched_recording(probe, noise, seed, arguments.duration, arguments.cache_folder)
    frequency = recording.get_sampling_frequency()
    slots = models["all"].prepare(recording.get_channel_locations(), frequency).geometry.slots
    units = mean_waveforms(recording, sorting, seed)
    sizes = rival_sizes(sorting, spikes, units, slots.neighbours, round(WINDOW_MS * frequency / 1000))
    truth = sorting.get_property("gt_unit_locations")
    places, _ = localize(recording, spikes.peaks, method.method, method.options)
    found = judged(places, sizes >= SHARE, truth, spikes.unit_index)
    chosen, planted, crowded = plant(recording, spikes, sizes, units, slots.neighbours, seed)
    places, _ = localize(crowded, spikes.peaks[chosen], method.method, method.options)
    result = {"found": found, "planted": judged(places, planted, truth, spikes.unit_index[chosen])}
    store.put(name, method.key, result)
    print(f"{name}: {len(spikes.peaks)} spikes, planted onto {planted.sum()}", flush=True)


def mean_waveforms(recording, sorting, seed):
    """Medians over some spikes of each unit, which collisions of a few of them hardly move."""
    vector, rng = sorting.to_spike_vector(), np.random.default_rng([seed, 5])
    order = rng.permutation(len(vector))
    rank = np.empty(len(vector), dtype="int64")
    for unit in range(sorting.get_num_units()):
        own = order[vector["unit_index"][order] == unit]
        rank[own] = np.arange(len(own))
    nbefore = round(TEMPLATE_MS * recording.get_sampling_frequency() / 1000)
    some = vector[rank < TEMPLATE_SPIKES]
    some = some[(some["sample_index"] > nbefore) & (some["sample_index"] < recording.get_num_samples() - nbefore)]
    templates = estimate_templates(recording, some, sorting.unit_ids, nbefore, nbefore, operator="median", **JOB)
    return Units(templates, nbefore, np.maximum(-templates.min(axis=1), 0.0))


def rival_sizes(sorting, spikes, units, neighbours, reach):
    """Size of the largest other spike nearby on a channel of the window, over the spike's own on its centre channel."""
    vector = sorting.to_spike_vector()
    times, owners = vector["sample_index"], vector["unit_index"]
    own_spikes = true_spikes(times, owners, spikes)
    sizes = np.zeros(len(own_spikes))
    for row, own in enumerate(own_spikes):
        lo, hi = np.searchsorted(times, (times[own] - reach, times[own] + reach + 1))
        others = owners[lo:hi][np.arange(lo, hi) != own]
        local = local_channels(spikes, row, neighbours)
        largest = units.troughs[np.ix_(others, local)].max(initial=0.0)
        sizes[row] = largest / own_size(spikes, row, units)
    return sizes


def true_spikes(times, owners, spikes):
    """For each peak the nearest spike of its unit."""
    result = np.zeros(len(spikes.peaks), dtype="int64")
    for unit in np.unique(spikes.unit_index):
        train, rows = np.flatnonzero(owners == unit), np.flatnonzero(spikes.unit_index == unit)
        samples = spikes.peaks["sample_index"][rows]
        after = np.searchsorted(times[train], samples).clip(1, max(len(train) - 1, 1)).clip(max=len(train) - 1)
        before = np.maximum(after - 1, 0)
        late = np.abs(times[train][after] - samples) < np.abs(times[train][before] - samples)
        result[rows] = train[np.where(late, after, before)]
    return result


def local_channels(spikes, row, neighbours):
    channels = neighbours[spikes.peaks["channel_index"][row]]
    return channels[channels >= 0]


def own_size(spikes, row, units):
    return max(units.troughs[spikes.unit_index[row], spikes.peaks["channel_index"][row]], 1e-3)


def plant(recording, spikes, sizes, units, neighbours, seed):
    """(spikes of the test, which of them got another spike planted on, the recording with those spikes)."""
    rng, frequency = np.random.default_rng([seed, 6]), recording.get_sampling_frequency()
    reach, nbefore = round(WINDOW_MS * frequency / 1000), units.nbefore
    samples, last = spikes.peaks["sample_index"], -np.inf
    length = recording.get_num_samples()
    chosen, planted, added = [], [], []
    for row in np.flatnonzero(sizes < CLEAN_SHARE):
        inside = 2 * nbefore < samples[row] < length - 2 * nbefore
        rivals = possible_rivals(spikes, row, units, neighbours)
        if not inside or not len(rivals) or samples[row] - last < APART_MS * frequency / 1000:
            continue
        last = samples[row]
        chosen.append(row)
        planted.append(rng.random() < 0.5)
        if planted[-1]:
            rival = rng.choice(rivals)
            now = units.troughs[rival, local_channels(spikes, row, neighbours)].max()
            factor = rng.uniform(SHARE, 1.0) * own_size(spikes, row, units) / now
            added.append((samples[row] + rng.integers(-reach, reach + 1), rival, factor))
    when, who, factors = (np.array(values) for values in zip(*added, strict=True))
    sorting = NumpySorting.from_samples_and_labels([when], [who], frequency, unit_ids=np.arange(len(units.troughs)))
    # the traces are uV already; times ascend, since a shift is smaller than the distance between spikes
    crowded = InjectTemplatesRecording(
        sorting, units.templates.astype("float32"), nbefore, list(factors), recording, [length]
    )
    return np.array(chosen), np.array(planted), crowded


def possible_rivals(spikes, row, units, neighbours):
    """Units with their main channel in the window that need not be scaled by more than about two."""
    local = local_channels(spikes, row, neighbours)
    ratio = units.troughs[:, local].max(axis=1) / own_size(spikes, row, units)
    near = np.isin(units.troughs.argmax(axis=1), local) & (ratio > 0.4) & (ratio < 2.0)
    near[spikes.unit_index[row]] = False
    return np.flatnonzero(near)


def judged(places, collides, truth, unit_index):
    """How well the flag tells collisions, and errors of all spikes, of those kept and of those flagged."""
    probability = places["outlier_probability"]
    flagged, errors = probability > THRESHOLD, location_errors(places, truth, unit_index)
    both = int((flagged & collides).sum())
    groups = {"all": np.ones(len(errors), dtype=bool), "kept": ~flagged, "flagged": flagged}
    return {
        "num": len(errors),
        "collisions": float(collides.mean()),
        "flagged": float(flagged.mean()),
        "precision": both / max(int(flagged.sum()), 1),
        "recall": both / max(int(collides.sum()), 1),
        "auc": float(roc_auc_score(collides, probability)) if 0 < collides.sum() < len(collides) else None,
        "errors": {name: spread(errors[own]) if own.any() else None for name, own in groups.items()},
    }


def spread(errors):
    return {
        "mean": float(errors.mean()),
        "median": float(np.median(errors)),
        "p95": float(np.percentile(errors, 95)),
    }


def report(arguments, models, store):
    key, targets = posterior_method(models["all"]).key, []
    for test in TESTS:
        rows = []
        for noise in arguments.noise_levels:
            for probe in arguments.probes:
                cases = [case_name(probe, noise, seed, arguments) for seed in arguments.seeds]
                scores = [store.get(case, key)[test] for case in cases]
                rows.append([f"{probe}, {noise:g} uV", sum(score["num"] for score in scores)])
                for field in ("collisions", "flagged", "precision", "recall", "auc"):
                    rows[-1].append(average(score[field] for score in scores))
                means = {name: average(s["errors"][name] and s["errors"][name]["mean"] for s in scores)
                         for name in ("all", "kept", "flagged")}  # fmt: skip
                tails = [average(s["errors"][name]["p95"] for s in scores) for name in ("all", "kept")]
                rows[-1] += [*means.values(), *tails]
                targets.append(as_target(f"{test}, {rows[-1][0]}", rows[-1], means))
        header = ["", "spikes", "collide", "flagged", "precision", "recall", "AUC"]
        header += ["mean, all", "kept", "flagged", "p95, all", "kept"]
        title = f"B  outlier_probability > {THRESHOLD:g} against {test} collisions, mean over seeds; errors in um"
        print_table(title, header, rows)
    return targets


def as_target(name, row, means):
    value = (
        "precision {:.2f}, recall {:.2f}, AUC {:.2f}".format(*row[4:7]) + f"; {means['all']:.2f} -> {means['kept']:.2f}"
    )
    return Target("B", f"{name}: mean error lower without flagged", value, means["kept"] < means["all"])


def average(values):
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None
