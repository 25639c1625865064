"""Part D: more and more channels die; detection and all methods work on what is left.

Which channels die is drawn once per recording: those of a smaller share are among those of a larger one. The VAE is not
in this part: it would have to be fitted anew for every share.
"""

import functools

import numpy as np
from _cases import SI_KEYS, SI_METHODS, Case, matched_recording, posterior_method, score_case
from _localizers import JOB
from _report import Target, print_table
from _score_tables import Scores

from si_neuroml.localization.protocols import gt_peaks

SHARES = (0.0, 0.1, 0.3, 0.6)
NOISE_UV = 10.0


def case_name(probe, seed, share, arguments):
    where = f"{probe}, {NOISE_UV:g} uV, seed {seed}, {arguments.duration:g} s"
    return f"D {where}, {100 * share:g} % dead, subset {arguments.subset}"


def run_recording(probe, noise, seed, arguments, models, store):
    if noise != NOISE_UV:
        return
    methods = [*SI_METHODS, posterior_method(models["all"])]
    for share in SHARES:
        make_case = functools.partial(dead_case, probe, seed, share, arguments)
        score_case(store, case_name(probe, seed, share, arguments), methods, make_case)


def dead_case(probe, seed, share, arguments):
    recording, sorting, spikes = matched_recording(probe, NOISE_UV, seed, arguments.duration, arguments.cache_folder)
    order = np.random.default_rng([seed, 4]).permutation(recording.get_num_channels())
    dead = order[: round(share * len(order))]
    if len(dead):
        recording = recording.remove_channels(recording.channel_ids[dead])
        spikes = gt_peaks(recording, sorting, protocol="detected", job_kwargs=JOB, seed=seed)
    return Case(recording, sorting, spikes, seed, arguments)


def report(arguments, models, store):
    if NOISE_UV not in arguments.noise_levels:
        return []
    key, targets = posterior_method(models["all"]).key, []
    methods = {own: own for own in SI_KEYS} | {"neural_posterior": key}
    for probe in arguments.probes:
        cases = {share: [case_name(probe, seed, share, arguments) for seed in arguments.seeds] for share in SHARES}
        header = ["", *(f"{field}, {100 * share:g} %" for field in ("mean", "median") for share in SHARES)]
        rows = [
            [label, *(Scores(store, cases[s], k, "subset").mean(f) for f in ("mean", "median") for s in SHARES)]
            for label, k in methods.items()
        ]
        rows.append(
            ["90 % region holds", *(Scores(store, cases[s], key, "whole").mean("coverage", "0.9") for s in SHARES)]
        )
        rows[-1] += [None] * len(SHARES)
        title = f"D  {probe}, {NOISE_UV:g} uV, error in um by share of dead channels, mean over {len(arguments.seeds)}"
        print_table(title + " recordings", header, rows)
        targets += judge(probe, [case for named in cases.values() for case in named], key, store)
    return targets


def judge(probe, cases, key, store):
    bad = sum(store.get(case, key)["num_not_finite"] for case in cases)
    below, largest = 0, 0.0
    for case in cases:
        for field in ("mean", "median"):
            own = Scores(store, [case], key, "subset").mean(field)
            ratio = own / min(Scores(store, [case], other, "subset").mean(field) for other in SI_KEYS)
            below, largest = below + (ratio < 1), max(largest, ratio)
    count = 2 * len(cases)
    value = f"{below} of {count}, largest ratio {largest:.2f}"
    return [
        Target("D", f"{probe}: every place is finite", f"{bad} are not", bad == 0),
        Target("D", f"{probe}: mean and median below each of SI's, each recording and share", value, below == count),
    ]
