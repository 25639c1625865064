"""Every region model on simulated animals it has not seen, in the layout of the table of van Laar (2025).

Sessions come from ``generate_region_sessions``: ten regions that differ in rate, bursts, responses and waveforms, and
animals that differ, too, as a whole and in each region by itself. Each seed makes animals of its own. Models are fitted
in folds that leave whole animals out, once to all regions and once to those of each of the paper's groups, and score
raw: no smoothing along the probe, as in the paper. Intervals draw the animals of all seeds again.

Networks come three times: as in the paper (two streams, PSTH and its eight scalars, its best settings for the group),
with all of our features and our own settings, and, for all regions, with one stream, the PSTH. Chance is 1 / (number of
regions). A network is worth its cost where the interval of its balanced accuracy minus that of a logistic regression on
all features lies above 0.
"""

import argparse
import base64
import time
import warnings

import numpy as np
from _report import Target, print_table
from _store import Store

import si_neuroml
from si_neuroml.classification.scores import class_scores, compare_scores
from si_neuroml.groundtruth.region_firing import RegionProfile
from si_neuroml.groundtruth.region_sessions import REGION_PROFILES
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.evaluation import REFERENCE
from si_neuroml.regions.fit import NETWORKS
from si_neuroml.regions.session import Session
from si_neuroml.regions.session_features import session_dataset
from si_neuroml.regions.splits import split_units

GROUPS = {
    "all": ("VISp", "VISl", "VISam", "CA1", "CA3", "DG", "LP", "LGd", "VPM", "APN"),
    "visual": ("VISp", "VISl", "VISam"),
    "hippocampus": ("CA1", "CA3", "DG"),
    "thalamus": ("LP", "LGd", "VPM"),
}
# neighbours of the generator's own regions, as unlike them as these are unlike each other
MORE_PROFILES = (
    RegionProfile("VISl", 3.5, 1.0, 2.0, 0.10, 6.0, 0.25, 0.40, 0.10, 0.070, 2.2, 0.42, 110.0),
    RegionProfile("VISam", 5.0, 0.9, 2.0, 0.06, 6.0, 0.20, 0.25, 0.25, 0.090, 1.6, 0.48, 130.0),
    RegionProfile("CA3", 1.6, 1.3, 2.0, 0.40, 6.0, 0.05, 0.10, 0.15, 0.150, 0.8, 0.60, 140.0),
    RegionProfile("VPM", 8.0, 0.8, 1.5, 0.20, 3.0, 0.15, 0.10, 0.05, 0.050, 2.0, 0.28, 120.0),
)
# f1 to f8 of the paper
PAPER_FEATURES = (
    *("psth_peak_time_s", "psth_peak_z", "psth_half_width_s", "psth_latency_s", "psth_skewness"),
    *("psth_sustained_ratio", "psth_mean_rate_hz", "isi_cv"),
)
PAPER_CLASSICAL = ("sgd", "passive_aggressive", "perceptron", "nearest_centroid", "naive_bayes")
OURS = (REFERENCE, "subject_logistic", "subject_ensemble", "extra_trees", "hist_gradient_boosting")
PAPER, ALL, ALONE = "paper", "all features", "PSTH alone"
# balanced accuracy, all areas, split by unit: another data set, other classes, and animals on both sides
PAPER_BALANCED = {"dmlp": 0.11, "lda_dense": 0.21, "transformer": 0.35, "cnn": 0.26, "tcn": 0.12}
SHOWN = ("accuracy", "balanced_accuracy", "auc")
NOT_CALIBRATED = {"calibration": None, "depth": None, "unknown_below": 0.0, "progress_bar": False}


def main():
    arguments = parse_arguments()
    seeds = range(1 if arguments.quick else arguments.num_seeds)
    header = {"benchmark": "region_networks", "arguments": vars(arguments)}
    store = Store(arguments.json, header, again=tuple(arguments.again))
    datasets = {seed: simulated(seed, arguments) for seed in seeds}
    for seed, dataset in datasets.items():
        print(f"seed {seed}: {dataset}", flush=True)
        for group in arguments.groups:
            score_models(store, case_name(group, seed, arguments), of_group(dataset, group), group, seed)
    found = {group: collect(store, group, datasets, arguments) for group in arguments.groups}
    store.results["tables"] = {group: {row: part for row, (part, _) in own.items()} for group, own in found.items()}
    print_paper_table(found)
    for group, own in found.items():
        print_group(group, own)
    store.finish([target for group, own in found.items() for target in targets(group, own)])


def simulated(seed, arguments):
    """Features of the units of one seed's animals."""
    profiles = {profile.name: profile for profile in (*REGION_PROFILES, *MORE_PROFILES)}
    sessions = si_neuroml.generate_region_sessions(
        arguments.num_subjects,
        1,
        arguments.num_units,
        arguments.duration,
        regions=[profiles[name] for name in GROUPS["all"]],
        seed=seed,
    )
    return RegionDataset.concatenate(
        [session_dataset(Session(s.units, s.spike_times, s.offsets, s.duration_s, s.onsets)) for s in sessions]
    )


def of_group(dataset, group):
    return dataset.select(np.isin(dataset.labels, GROUPS[group]))


def case_name(group, seed, arguments):
    sizes = (arguments.num_subjects, arguments.num_units, f"{arguments.duration:g} s", arguments.num_folds)
    return ", ".join(map(str, (group, f"seed {seed}", *sizes)))


def rows_of(group):
    """Each row of the tables: (model, form) and the arguments of its fit."""
    rows = {(name, ALL): {"model": name} for name in (*OURS, *PAPER_CLASSICAL)}
    rows[REFERENCE, PAPER] = {"model": REFERENCE, "stream": "psth"}
    for name in NETWORKS:
        rows[name, PAPER] = {"model": name, "model_kwargs": {"preset": group}, "stream": "psth"}
        rows[name, ALL] = {"model": name, "stream": "psth"}
        if group == "all":
            rows[name, ALONE] = {"model": name, "feature_families": [], "stream": "psth"}
    return rows


def score_models(store, case, dataset, group, seed):
    rows = rows_of(group)
    num_folds = int(case.rsplit(", ", 1)[1])
    split = split_units(dataset.units, "subject", num_folds=num_folds, seed=seed)
    regions = np.array(sorted(GROUPS[group]))
    for key in store.missing(case, [": ".join(row) for row in rows]):
        options, form = rows[tuple(key.split(": "))], key.split(": ")[1]
        start, cpu = time.perf_counter(), time.process_time()
        probabilities = np.zeros((len(dataset), len(regions)))
        for train, test in split:
            own = dataset.select(train)
            if form == PAPER:
                own = with_features(own, PAPER_FEATURES)
            with warnings.catch_warnings():
                # a region of one animal among those of a fold
                warnings.filterwarnings("ignore", message=".*regions have units of one subject only")
                classifier = si_neuroml.fit_region_classifier(own, **options, **NOT_CALIBRATED, seed=seed)
            columns = np.searchsorted(regions, classifier.classes)
            probabilities[np.ix_(test, columns)] = classifier.predict_proba(dataset.select(test))
        seconds = {"wall_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
        packed = base64.b64encode(probabilities.astype("<f4").tobytes()).decode()
        store.put(case, key, {"probabilities": packed, "digest": split.digest, **seconds})
        print(f"{case}, {key}: {seconds['cpu_s']:.1f} s", flush=True)


def with_features(dataset, names):
    """The same units with some of their features."""
    kept = [dataset.feature_names.index(name) for name in names]
    psth = {"psth": dataset.psth, "bin_edges_s": dataset.bin_edges_s}
    return RegionDataset.from_table(dataset.units, dataset.features[:, kept], feature_names=names, **psth)


def collect(store, group, datasets, arguments):
    """Scores of each row over the animals of all seeds, and its difference from the reference."""
    regions = sorted(GROUPS[group])
    parts = {seed: of_group(dataset, group) for seed, dataset in datasets.items()}
    labels = np.concatenate([part.labels for part in parts.values()])
    subjects = np.concatenate(
        [[f"seed{seed} {name}" for name in part.units["subject"]] for seed, part in parts.items()]
    )
    rows, seconds = {}, {}
    for row in rows_of(group):
        held = [store.get(case_name(group, seed, arguments), ": ".join(row)) for seed in parts]
        flat = np.concatenate([np.frombuffer(base64.b64decode(one["probabilities"]), "<f4") for one in held])
        rows[row] = flat.reshape(-1, len(regions)).astype("float64")
        seconds[row] = sum(one["cpu_s"] for one in held)
    found = {}
    for row, probabilities in rows.items():
        score = class_scores(labels, probabilities, regions, subjects)
        against = compare_scores(labels, probabilities, rows[REFERENCE, ALL], regions, subjects)["balanced_accuracy"]
        low, high = score.intervals["balanced_accuracy"]
        values = {name: score.values[name] for name in (*SHOWN, "macro_f1", "log_loss")}
        values |= {"low": low, "high": high, "chance": 1 / len(regions), "beats_chance": low > 1 / len(regions)}
        values |= dict(zip(("difference", "difference_low", "difference_high"), against, strict=True))
        values |= {"clears": against[1] > 0, "cpu_s": seconds[row]}
        found[": ".join(row)] = values, row
    return found


def print_paper_table(found):
    """Models down, the paper's groups of areas across, accuracy / balanced accuracy / AUC of each."""
    rows = []
    for key in dict.fromkeys(key for own in found.values() for key in own):
        values = [own[key][0] if key in own else None for own in found.values()]
        rows.append(
            [key, *(None if one is None else " / ".join(f"{one[name]:.2f}" for name in SHOWN) for one in values)]
        )
    title = "animals left out: accuracy / balanced accuracy / AUC"
    print_table(title, ["", *(f"{group}, {len(GROUPS[group])} regions" for group in found)], rows)


def print_group(group, own):
    rows = []
    for key, (values, (model, form)) in own.items():
        cells = [f"{values['balanced_accuracy']:.3f}", f"{values['low']:.3f} to {values['high']:.3f}"]
        cells += ["yes" if values["beats_chance"] else "NO", f"{values['difference']:+.3f}"]
        cells += [f"{values['difference_low']:+.3f} to {values['difference_high']:+.3f}"]
        cells += ["-" if (model, form) == (REFERENCE, ALL) else "clears" if values["clears"] else "does not clear"]
        paper = PAPER_BALANCED.get(model) if (group, form) == ("all", PAPER) else None
        rows.append([key, *cells, paper, f"{values['cpu_s']:.0f}"])
    header = ["", "balanced accuracy", "95 % over animals", "beats chance", f"minus {REFERENCE}", "95 %, paired"]
    chance = next(iter(own.values()))[0]["chance"]
    title = f"{group}: {len(GROUPS[group])} regions, chance {chance:.3f}"
    print_table(title, [*header, "", "in the paper, split by unit", "CPU s"], rows)


def targets(group, own):
    found = []
    for form in dict.fromkeys(form for _, (_, form) in own.values()):
        above = {model: values["beats_chance"] for values, (model, its_form) in own.values() if its_form == form}
        below = [model for model, beats in above.items() if not beats]
        text = f"{len(above) - len(below)} of {len(above)}" + (f", not: {', '.join(below)}" if below else "")
        found.append(Target(group, f"every model beats chance on unseen animals, {form}", text, not below))
    clears = [key for key, (values, (model, _)) in own.items() if values["clears"] and model in NETWORKS]
    text = ", ".join(clears) or "none"
    return [*found, Target(group, "networks to recommend: those that clear logistic regression", text, None)]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, small sessions, hippocampus alone")
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--num-seeds", type=int, default=3, help="each makes animals of its own")
    parser.add_argument("--num-subjects", type=int, default=8, help="animals of a seed")
    parser.add_argument("--num-units", type=int, default=60, help="of the session of an animal")
    parser.add_argument("--duration", type=float, default=300.0, help="of a session, in s")
    parser.add_argument("--num-folds", type=int, default=3, help="of animals")
    parser.add_argument("--again", nargs="*", default=[], help="models whose kept scores are forgotten")
    parser.add_argument("--json", help="default: outputs/benchmarks/region_networks.json, with --quick .._quick.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.groups, arguments.num_subjects, arguments.num_folds = ["hippocampus"], 5, 3
        arguments.num_units, arguments.duration = 60, 120.0
    if arguments.json is None:
        arguments.json = f"outputs/benchmarks/region_networks{'_quick' if arguments.quick else ''}.json"
    return arguments


if __name__ == "__main__":
    main()
