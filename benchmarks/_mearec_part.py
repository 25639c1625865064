"""Part A: MEArec's recordings, whose templates no network was trained on; all units, and those of held-out models.

"seen": all units with the shipped network, which was trained on currents of the same 13 cell models (other positions,
orientations, shapes, probes, noise). "held out": only the units of five cell models, with a network that never saw
currents of these.
"""

from _cases import SI_KEYS, SI_METHODS, VAE, Case, matched_recording, posterior_method, score_case
from _report import Target
from _score_tables import Scores, print_scores, ratio_to_best

from training.scenes import HELD_OUT_MODELS

# the largest allowed at 10 uV: ratio to the best of SpikeInterface's three, and depth to a constant guess
LIMITS = {
    "all": {"median": 0.45, "mean": 0.62, "depth": 0.55},
    "held_out": {"median": 0.50, "mean": 0.66, "depth": 0.65},
}
COVERAGE_RANGE = (0.85, 0.95)
WORDS = {"all": "seen", "held_out": "held out"}


def case_name(probe, noise, seed, arguments):
    return f"A {probe}, {noise:g} uV, seed {seed}, {arguments.duration:g} s, subset {arguments.subset}"


def run_recording(probe, noise, seed, arguments, models, store):
    methods = [*SI_METHODS, *(posterior_method(model) for model in models.values())]
    if not arguments.without_vae:
        methods.append(VAE)

    def make_case():
        found = matched_recording(probe, noise, seed, arguments.duration, arguments.cache_folder)
        # the half is the same with and without the VAE
        return Case(*found, seed, arguments, half=True)

    score_case(store, case_name(probe, noise, seed, arguments), methods, make_case)


def report(arguments, models, store):
    targets = []
    for noise in arguments.noise_levels:
        for probe in arguments.probes:
            cases = [case_name(probe, noise, seed, arguments) for seed in arguments.seeds]
            for group in LIMITS:
                targets += report_row(f"{probe}, {noise:g} uV", noise, cases, group, models, store)
    return targets


def report_row(name, noise, cases, group, models, store):
    if group not in models:
        return []
    key = posterior_method(models[group]).key
    methods = {own: own for own in (*SI_KEYS, VAE.key)} | {"neural_posterior": key}
    if group != "all":
        methods["neural_posterior, shipped"] = posterior_method(models["all"]).key
    whole = Scores(store, cases, key, "whole", group)
    if not len(whole):
        return []
    title = f"A  {name}, {WORDS[group]}, mean over {len(cases)} recordings"
    counts = [sum(Scores(store, cases, key, sample, group).values("num")) for sample in ("subset", "whole")]
    print_scores(f"{title}: {counts[0]} spikes that all localized", store, cases, methods, "subset", group)
    print_scores(f"{title}: {counts[1]} spikes", store, cases, methods, "whole", group)
    label, (low, high) = f"{name}, {WORDS[group]}: ", COVERAGE_RANGE
    # weights that saw the held-out models say nothing about held-out models
    valid = group == "all" or knows_nothing_of_held_out(models[group])
    targets = []
    if round(noise) == 10:
        for field in ("median", "mean"):
            ratio, best = ratio_to_best(store, cases, key, field, group)
            limit = LIMITS[group][field]
            targets.append((f"{field} / best ({best}) <= {limit}", f"{ratio:.3f}", ratio <= limit))
        depth, others = whole.depth_ratio(), depth_of_others(store, cases, group)
        limit = LIMITS[group]["depth"]
        targets.append((f"depth / constant guess <= {limit}", f"{depth:.3f} ({others})", depth <= limit))
    cover = whole.mean("coverage", "0.9")
    targets.append((f"90 % region holds {low}..{high}", f"{cover:.3f}", low <= cover <= high))
    return [Target("A", label + text, value, met if valid else None) for text, value, met in targets]


def depth_of_others(store, cases, group):
    ratios = {key: Scores(store, cases, key, "subset", group).depth_ratio() for key in SI_KEYS}
    return ", ".join(f"{key.removeprefix('SI ')} {ratio:.2f}" for key, ratio in ratios.items() if ratio)


def knows_nothing_of_held_out(model):
    """Whether these weights were trained without the held-out cell models, as their model card says."""
    return set(HELD_OUT_MODELS) <= set(model.training.get("held_out_cell_models", ()))
