"""Which region is a unit in? On animals that training has not seen, raw and smoothed along the probe.

A  Seven rats, real spike trains, four regions: the recommended model against logistic regression on the same features,
   leaving one rat out, and the split by unit that promises too much.
B  58 mice of the International Brain Laboratory, four Cosmos regions, rate, amplitude and quality of each unit, splits
   by mouse: raw, Gaussian and hidden Markov model, each calibrated and tuned on the training mice; and with the
   neighbours' features among a unit's own. Then shifts of 200 um planted on the regions that histology assigned to the
   probes with at least three of the regions.

Simulated animals and the networks are in region_networks.py.

What histology itself is wrong by is not known, so that a planted shift counts as found when the likeliest shift follows
it: when it moves by 200 um, give or take 60, from where it is without. How near it comes to the planted shift itself is
printed beside.
"""

import argparse
import time

import numpy as np
from _region_data import IBL_FILES, RATS_FILES, fewer_subjects, find_folder, load_ibl, load_rats
from _report import Target, print_table, report_targets, tell, write_json

from si_neuroml.classification.scores import class_scores, compare_scores
from si_neuroml.regions.depth import gaussian_smooth, hmm_smooth
from si_neuroml.regions.evaluation import REFERENCE, evaluate_region_models
from si_neuroml.regions.shift_profile import SHIFTS_UM, assigned_regions, shift_profile

PLANTED_UM = 200.0
FOUND_WITHIN_UM = 60.0
# beyond this range of its own a planted shift could leave the profile's
WIDE_UM = np.arange(-1000.0, 1001.0, 20.0)
MIN_UNITS = 10
NEIGHBOURS_UM = 100.0


def main():
    arguments = parse_arguments()
    results = {"benchmark": "region_accuracy", "arguments": vars(arguments), "parts": {}}
    targets = []
    for part, run in (("A", run_rats), ("B", run_ibl)):
        if part not in arguments.parts:
            continue
        start = time.perf_counter()
        found = run(arguments)
        if found is None:
            continue
        results["parts"][part], more = found
        targets += more
        print(f"part {part} took {time.perf_counter() - start:.0f} s", flush=True)
        results["targets"] = [target._asdict() for target in targets]
        write_json(arguments.json, results)
    report_targets(targets)


def run_rats(arguments):
    folder = find_folder(arguments.data, RATS_FILES)
    if folder is None:
        return None
    dataset = load_rats(folder)
    print(dataset, flush=True)
    models = ["recommended", "extra_trees"] if arguments.quick else ["recommended", "hist_gradient_boosting"]
    evaluation = evaluate_region_models(
        dataset, models, splits=("subject", "random"), num_folds=7, seed=arguments.seed, report=tell
    )
    print(f"\n{evaluation}")
    rows = evaluation.against_reference
    best = rows.loc[("recommended", "raw")]
    values = {stage: evaluation.scores["subject", "recommended", stage].values for stage in ("raw", "smoothed")}
    random = evaluation.scores["random", "recommended", "raw"].values["balanced_accuracy"]
    reference = evaluation.scores["subject", REFERENCE, "raw"].values["balanced_accuracy"]
    text = f"{values['raw']['balanced_accuracy']:.3f} against {reference:.3f}, split by unit {random:.3f}; "
    text += f"difference {best.low:.3f} to {best.high:.3f}"
    return evaluation.to_dict(), [
        Target("A", "recommended above logistic regression, rats left out", text, bool(best.difference > 0))
    ]


def run_ibl(arguments):
    folder = find_folder(arguments.data, IBL_FILES)
    if folder is None:
        return None
    dataset, tracks = load_ibl(folder)
    options = {"n_estimators": 120, "min_samples_leaf": 5}
    if arguments.quick:
        dataset, options["n_estimators"] = fewer_subjects(dataset, 16), 40
    print(dataset, flush=True)
    entry = {"model": "extra_trees", "model_kwargs": options}
    models = {
        "extra_trees": {**entry, "depth": "hmm"},
        "extra_trees, gaussian": {**entry, "depth": "gaussian"},
        "extra_trees, neighbours": {**entry, "depth": "hmm", "neighbours_um": NEIGHBOURS_UM},
    }
    evaluation = evaluate_region_models(
        dataset, models, splits=("subject",), baselines=not arguments.quick, seed=arguments.seed, report=tell
    )
    print(f"\n{evaluation}")
    tables = ibl_table(dataset, evaluation)
    shifts = planted_shifts(dataset, evaluation.probabilities["subject", "extra_trees", "raw"], evaluation, tracks)
    return {**evaluation.to_dict(), "stages": tables, "shifts": shifts}, ibl_targets(tables, shifts)


def ibl_table(dataset, evaluation):
    """Raw, Gaussian and hidden Markov model for the same fitted trees, and trees that see neighbours, over mice."""
    raw = evaluation.probabilities["subject", "extra_trees", "raw"]
    depth_um = dataset.units["depth_um"].to_numpy("float64")
    track = dataset.units.groupby(["recording", "shank"]).ngroup().to_numpy()
    stages = {
        "raw": raw,
        "Gaussian, 60 um": gaussian_smooth(raw, depth_um, track),
        "Gaussian, tuned": evaluation.probabilities["subject", "extra_trees, gaussian", "smoothed"],
        "HMM, constants": hmm_smooth(raw, depth_um, track),
        "HMM, tuned": evaluation.probabilities["subject", "extra_trees", "smoothed"],
        "neighbours, raw": evaluation.probabilities["subject", "extra_trees, neighbours", "raw"],
        "neighbours, HMM": evaluation.probabilities["subject", "extra_trees, neighbours", "smoothed"],
    }
    data = (evaluation.regions, dataset.units["subject"].to_numpy(dtype=str))
    scores = {name: class_scores(dataset.labels, rows, *data) for name, rows in stages.items()}
    rows = []
    for name, score in scores.items():
        value, (low, high) = score.values, score.intervals["balanced_accuracy"]
        row = [name, value["balanced_accuracy"], f"{low:.3f} to {high:.3f}", value["accuracy"], value["macro_f1"]]
        row += [value[key] for key in ("auc", "log_loss", "calibration_error", "accuracy_at_half_coverage")]
        rows.append([f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row])
    header = ["mice left out", "balanced accuracy", "95 %", "accuracy", "macro-F1", "AUC", "log-loss"]
    print_table("raw and smoothed", [*header, "calibration error", "accuracy at half coverage"], rows)
    tuned = scores["HMM, tuned"]
    rows = [
        [f"{row['coverage']:.0%}", *(f"{row[key]:.3f}" for key in ("accuracy", "threshold"))] for row in tuned.coverage
    ]
    print_table("HMM, tuned: accuracy of the surest units", ["coverage", "accuracy", "probability from"], rows)
    rates = tuned.confusion_rates
    rows = [[name, *(f"{rate:.2f}" for rate in rates[k])] for k, name in enumerate(tuned.classes)]
    print_table("HMM, tuned: confusion, rows sum to 1", ["true", *tuned.classes], rows)
    names, likeliest = np.array(evaluation.regions), stages["HMM, tuned"].argmax(axis=1)
    noise = calibration_noise(stages["HMM, tuned"].max(axis=1), names[likeliest] == dataset.labels, data[1])
    value, (low, high) = tuned.values["calibration_error"], tuned.intervals["calibration_error"]
    print(f"calibration error of HMM, tuned: {value:.3f}, 95 % over mice {low:.3f} to {high:.3f}")
    print(f"the same number of mice without any: {noise[0]:.3f}, 95 % of draws below {noise[1]:.3f}")
    differences = {
        name: compare_scores(dataset.labels, stages["HMM, tuned"], stages[name], *data)["balanced_accuracy"]
        for name in stages
        if name != "HMM, tuned"
    }
    rows = [[name, f"{value:+.3f}", f"{low:+.3f} to {high:+.3f}"] for name, (value, low, high) in differences.items()]
    print_table("tuned HMM minus", ["", "balanced accuracy", "95 % over mice"], rows)
    return {name: score.to_dict() for name, score in scores.items()} | {
        "differences": differences,
        "calibration_noise": noise,
    }


def calibration_noise(sure, right, subjects, num_bins=10, num_resamples=2000):
    """Calibration error, mean and 95th percentile, that this many subjects show when there is none.

    Units of one subject are right or wrong together, so that a bin of probabilities holds few independent cases. Of
    each bin the mean difference between probability and share is taken out, and subjects are drawn again.
    """
    who = np.unique(subjects, return_inverse=True)[1]
    bins = np.minimum((sure * num_bins).astype(int), num_bins - 1)
    counts, differences = np.zeros((2, who.max() + 1, num_bins))
    np.add.at(counts, (who, bins), 1)
    np.add.at(differences, (who, bins), sure - right)
    differences -= counts * differences.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    draws = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), num_resamples)
    errors = np.abs(draws @ differences).sum(axis=1) / (draws @ counts).sum(axis=1)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def planted_shifts(dataset, probabilities, evaluation, tracks):
    """Profiles of every probe with at least three regions: as assigned, and with its regions 200 um up or down."""
    recordings, depth_um = dataset.units["recording"].to_numpy(dtype=str), dataset.units["depth_um"].to_numpy("float64")
    index = {name: k for k, name in enumerate(evaluation.regions)}
    rows = []
    for name in np.unique(recordings):
        own = recordings == name
        if (np.unique(dataset.labels[own], return_counts=True)[1] >= MIN_UNITS).sum() < 3:
            continue
        places, regions = tracks[name]
        regions = np.array([index.get(region, -1) for region in regions])
        data = probabilities[own], depth_um[own]
        before = shift_profile(*data, places, regions, shifts_um=WIDE_UM)
        for planted in (-PLANTED_UM, PLANTED_UM):
            # what is assigned to a place is now what belongs so much higher, as if the probe sat deeper
            seen = (places + planted >= places.min()) & (places + planted <= places.max())
            moved = assigned_regions(places[seen] + planted, places, regions, len(index))
            after = shift_profile(*data, places[seen], moved, shifts_um=WIDE_UM)
            narrow = shift_profile(*data, places[seen], moved, shifts_um=SHIFTS_UM)
            at = int(np.flatnonzero(narrow.shifts_um == planted)[0])
            rows.append(
                {
                    "insertion": name,
                    "planted_um": planted,
                    "before_um": before.best_um,
                    "after_um": after.best_um,
                    "within_600_um": narrow.best_um,
                    "log_odds": float(narrow.log_odds[at]),
                    "low_um": narrow.low_um,
                    "high_um": narrow.high_um,
                }
            )
    summary = _shift_summary(rows)
    print_table(
        f"shifts of {PLANTED_UM:.0f} um planted on {summary['num_insertions']} probes, both ways",
        ["", "share, or um"],
        [[name.replace("_", " "), f"{value:.3f}"] for name, value in summary.items() if isinstance(value, float)],
    )
    return {"summary": summary, "rows": rows}


def _shift_summary(rows):
    planted, before, after, narrow = (
        np.array([row[key] for row in rows]) for key in ("planted_um", "before_um", "after_um", "within_600_um")
    )
    low, high = (np.array([row[key] for row in rows]) for key in ("low_um", "high_um"))
    return {
        "num_insertions": len({row["insertion"] for row in rows}),
        "found": float((np.abs(after - before - planted) <= FOUND_WITHIN_UM).mean()),
        "right_direction_from_zero": float((np.sign(narrow) == np.sign(planted)).mean()),
        "within_100_um_of_planted": float((np.abs(narrow - planted) <= 100.0).mean()),
        "planted_shift_likelier_than_none": float((np.array([row["log_odds"] for row in rows]) > 0).mean()),
        "interval_holds_the_planted_shift": float(((low <= planted) & (planted <= high)).mean()),
        "interval_width_um": float((high - low).mean()),
        "assigned_within_100_um_of_likeliest": float((np.abs(before) <= 100.0).mean()),
    }


def ibl_targets(tables, shifts):
    value = {name: table["values"] for name, table in tables.items() if "values" in table}
    balanced = {name: each["balanced_accuracy"] for name, each in value.items()}
    gain, hmm = balanced["HMM, tuned"] - balanced["raw"], value["HMM, tuned"]
    best_gaussian = max(balanced["Gaussian, 60 um"], balanced["Gaussian, tuned"])
    text = f"{balanced['HMM, tuned']:.3f} against {best_gaussian:.3f}"
    covered = hmm["accuracy_at_half_coverage"] - hmm["accuracy"]
    summary = shifts["summary"]
    found = f"{summary['found']:.3f} of {summary['num_insertions']} probes, both ways"
    return [
        Target("B", "HMM at least 0.20 above raw", f"{gain:+.3f}", gain >= 0.20),
        Target("B", "HMM above both Gaussians", text, balanced["HMM, tuned"] > best_gaussian),
        Target(
            "B", "calibration error below 0.08, HMM", f"{hmm['calibration_error']:.3f}", hmm["calibration_error"] < 0.08
        ),
        Target("B", "half coverage at least 0.10 above full, HMM", f"{covered:+.3f}", covered >= 0.10),
        Target("B", "planted shifts found in at least 0.90", found, summary["found"] >= 0.90),
    ]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="A: fewer models; B: 16 mice, 40 trees, no baselines")
    parser.add_argument("--parts", nargs="+", default=["A", "B"], choices=["A", "B"])
    parser.add_argument("--data", help="folder; default: the environment variable SI_NEUROML_REGION_DATA")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="default: outputs/benchmarks/region_accuracy.json, with --quick .._quick.json")
    arguments = parser.parse_args()
    if arguments.json is None:
        arguments.json = f"outputs/benchmarks/region_accuracy{'_quick' if arguments.quick else ''}.json"
    return arguments


if __name__ == "__main__":
    main()
