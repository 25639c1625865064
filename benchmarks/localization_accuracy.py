"""How far localized spikes are from the somas of simulated neurons, against Hurwitz et al. (2019) and SpikeInterface.

Two protocols (see si_neuroml/localization/protocols.py):

paper     centre channel found near the true soma; the VAE is scored on the spikes it was trained on (it never sees a
          true place). Compare with Table 1 of the paper, best as the ratio VAE / centre of mass: the neurons are not
          theirs, and how many lie outside the array moves both.
detected  peaks as SpikeInterface finds them; the VAE trains on one half of the spikes and all methods are scored on the
          other half.

Recordings are made once (1 to 3 minutes each) and kept in --cache-folder. --ablation changes the settings one by one.
"""

import argparse
import time

import numpy as np
from _ablation import run_ablation
from _localizers import JOB, fit, load_recording, localize, scorer
from _report import note, print_table, write_json

from si_neuroml.localization.evaluation import split_spikes
from si_neuroml.localization.protocols import gt_peaks

# Hurwitz et al. (2019), Table 1, square array: mean and sd of the error in um by noise level in uV
PAPER = {
    "COM 4": {10: (15.84, 10.08), 20: (16.46, 10.39), 30: (17.18, 10.97)},
    "COM 9": {10: (18.05, 11.42), 20: (18.59, 11.67), 30: (19.22, 12.10)},
    "COM 16": {10: (20.94, 13.09), 20: (21.54, 13.46), 30: (22.17, 13.94)},
    "COM 25": {10: (23.44, 14.81), 20: (24.31, 15.43), 30: (25.18, 15.98)},
    "VAE": {10: (8.79, 7.49), 20: (9.79, 8.31), 30: (11.18, 9.56)},
}
# what we set out to reach: VAE / COM 4 under "paper", and the median against the best other method under "detected"
RATIO_TARGET = {10: 0.72, 20: 0.76, 30: 0.80}
MEDIAN_TARGET = 0.8
SI_METHODS = ("SI center_of_mass", "SI monopolar", "SI grid_convolution")


def main():
    arguments = parse_arguments()
    if arguments.ablation:
        run_ablation(arguments)
        return
    results = {"benchmark": "localization_accuracy", "arguments": vars(arguments), "runs": []}
    for noise in arguments.noise_levels:
        for probe in arguments.probes:
            for seed in arguments.seeds:
                results["runs"] += run_recording(probe, noise, seed, arguments)
                write_json(arguments.json, results)
            for protocol in arguments.protocols:
                report(results["runs"], probe, noise, protocol)
            if arguments.sorting_test:
                report_sorting(results["runs"], probe, noise)


def run_recording(probe, noise, seed, arguments):
    start = time.perf_counter()
    recording, sorting = load_recording(probe, noise, seed, arguments)
    print(f"{probe}, {noise:g} uV, seed {seed}: recording ready after {time.perf_counter() - start:.0f} s", flush=True)
    runs = []
    for protocol in arguments.protocols:
        run = {"probe": probe, "noise_level": noise, "seed": seed, "protocol": protocol}
        if protocol == "paper":
            runs.append(run | run_paper(recording, sorting, seed, arguments))
        else:
            runs.append(run | run_held_out(recording, sorting, protocol, seed, arguments))
    return runs


def run_paper(recording, sorting, seed, arguments):
    """All spikes train the VAE and are scored, as far as we know like Table 1."""
    spikes = gt_peaks(recording, sorting, protocol="paper")
    score = scorer(recording, sorting)
    places, seconds = {}, {}
    for number in (4, 9, 16, 25):
        places[f"COM {number}"], seconds[f"COM {number}"] = localize(
            recording, spikes.peaks, "center_of_mass_nearest", {"num_channels": number}
        )
    model, training = fit(recording, spikes.peaks, seed, arguments)
    places["VAE"], seconds["VAE"] = localize(recording, spikes.peaks, "vae", {"model": model})
    run = {
        "num_true_spikes": spikes.num_true_spikes,
        "num_scored": len(spikes.peaks),
        "methods": {name: score(found, spikes.unit_index) for name, found in places.items()},
        "seconds": seconds,
        "training": training,
    }
    if arguments.sorting_test:
        run["sorting_test"] = sorting_test(recording, spikes, places, seed, arguments)
    return run


def run_held_out(recording, sorting, protocol, seed, arguments):
    """Half of the spikes train the VAE, the other half are scored by every method."""
    spikes = gt_peaks(recording, sorting, protocol=protocol, job_kwargs=JOB, seed=seed)
    train, test = split_spikes(len(spikes.peaks), 0.5, seed)
    peaks, unit_index = spikes.peaks[test], spikes.unit_index[test]
    # monopolar_triangulation takes some milliseconds per spike
    size = min(arguments.monopolar_spikes, len(test))
    subset = np.sort(np.random.default_rng(seed).choice(len(test), size, replace=False))
    model, training = fit(recording, spikes.peaks[train], seed, arguments)
    score = scorer(recording, sorting)
    radius = round(1.1 * nearest_pitch(recording))
    methods, on_subset, seconds = {}, {}, {}
    for name, method, options in (
        ("COM 4", "center_of_mass_nearest", {"num_channels": 4}),
        ("SI center_of_mass", "center_of_mass", {}),
        (f"SI center_of_mass, {radius} um", "center_of_mass", {"radius_um": radius}),
        ("SI grid_convolution", "grid_convolution", {}),
        ("SI monopolar", "monopolar_triangulation", {"radius_um": 50}),
        ("VAE", "vae", {"model": model}),
    ):
        if method == "monopolar_triangulation":
            found, seconds[name] = localize(recording, peaks[subset], method, options)
            on_subset[name] = score(found, unit_index[subset])
        else:
            found, seconds[name] = localize(recording, peaks, method, options)
            methods[name] = score(found, unit_index)
            on_subset[name] = score(found[subset], unit_index[subset])
    return {
        "num_true_spikes": spikes.num_true_spikes,
        "num_found": len(spikes.peaks),
        "num_scored": len(test),
        "num_subset": size,
        "methods": methods,
        "methods_on_subset": on_subset,
        "seconds": seconds,
        "training": training,
    }


def nearest_pitch(recording):
    """Typical distance of a contact to its nearest neighbour; the smallest useful radius is a little more."""
    contacts = recording.get_channel_locations()
    distance = np.linalg.norm(contacts[:, None] - contacts[None], axis=2)
    return float(np.median(np.where(distance > 0, distance, np.inf).min(axis=1)))


def sorting_test(recording, spikes, places, seed, arguments):
    from si_neuroml.localization.sorting_test import gmm_sorting_test, waveform_components

    # one channel's waveform per spike, that of its centre
    traces, nbefore, nafter = recording.get_traces(segment_index=0), 30, 30
    frames = spikes.peaks["sample_index"][:, None] + np.arange(-nbefore, nafter)
    frames = np.clip(frames, 0, len(traces) - 1)
    components = waveform_components(traces[frames, spikes.peaks["channel_index"][:, None]])
    quick = {"num_components": (50,), "alphas": (8.0,)} if arguments.quick else {}
    return {
        name: gmm_sorting_test(
            places[name], spikes.unit_index, components=components, max_spikes=10_000, seed=seed, **quick
        )
        for name in ("COM 4", "VAE")
    }


def report(runs, probe, noise, protocol):
    runs = [r for r in runs if (r["probe"], r["noise_level"], r["protocol"]) == (probe, noise, protocol)]
    seeds = [run["seed"] for run in runs]
    title = f"{probe}, {noise:g} uV, protocol {protocol!r}, mean over seeds {seeds}: error in um"
    print_errors(title, runs, "methods", probe, noise, protocol)
    if protocol == "paper":
        report_ratio(runs, probe, noise)
        return
    found = [run["num_found"] / run["num_true_spikes"] for run in runs]
    print(f"found {', '.join(f'{share:.0%}' for share in found)} of the true spikes; scored half of them")
    sizes = [run["num_subset"] for run in runs]
    print_errors(f"the same, on {sizes} of these spikes", runs, "methods_on_subset", probe, noise, protocol)
    report_medians(runs)


def print_errors(title, runs, key, probe, noise, protocol):
    header = ["", "mean", "of seeds", "sd", "median", "p95", "per unit", "inside", "outside", "depth", "const", "cov90"]
    with_paper = protocol == "paper" and probe == "square_mea"
    rows = []
    for name in runs[0][key]:
        scores = [run[key][name] for run in runs]
        means = [s["per_spike"]["mean"] for s in scores]
        row = [name, float(np.mean(means)), f"+-{np.std(means):.2f}"]
        row += [average(s["per_spike"][field] for s in scores) for field in ("sd", "median", "p95")]
        row.append(average(s["per_unit"]["mean"] for s in scores))
        row += [average(s[side]["per_spike"]["mean"] for s in scores if s[side]) for side in ("inside", "outside")]
        for field in ("mae", "constant_mae"):
            # the centre of mass has no depth: its zeros are not an estimate
            known = "COM" not in name and scores[0]["depth"]
            row.append(average(s["depth"][field] for s in scores) if known else None)
        row.append(average(s["coverage"]["0.9"] for s in scores) if scores[0]["coverage"] else None)
        if with_paper:
            reference = PAPER.get(name, {}).get(int(noise))
            row.append(f"{reference[0]} +- {reference[1]}" if reference else None)
        rows.append(row)
    print_table(title, [*header, "paper"] if with_paper else header, rows)
    outside = [run[key][next(iter(run[key]))]["fraction_outside"] for run in runs]
    print(f"outside the array: {', '.join(f'{share:.0%}' for share in outside)} of the spikes")


def report_ratio(runs, probe, noise):
    def ratio(side=None):
        pairs = [(run["methods"]["VAE"], run["methods"]["COM 4"]) for run in runs]
        pairs = [(v[side], c[side]) if side else (v, c) for v, c in pairs if not side or v[side]]
        return [vae["per_spike"]["mean"] / com["per_spike"]["mean"] for vae, com in pairs]

    note(f"{probe}, {noise:g} uV, as in the paper: mean error of vae / COM 4", float(np.mean(ratio())))
    for side in (None, "inside", "outside"):
        values = ratio(side)
        listed = ", ".join(f"{value:.3f}" for value in values)
        print(f"VAE / COM 4, {side or 'all'}: {np.mean(values):.3f} +- {np.std(values):.3f} ({listed})")
    if probe == "square_mea" and int(noise) in RATIO_TARGET:
        reference = PAPER["VAE"][int(noise)][0] / PAPER["COM 4"][int(noise)][0]
        target = RATIO_TARGET[int(noise)]
        met = "met" if np.mean(ratio()) <= target else "NOT met"
        print(f"paper: {reference:.3f} (their neurons, J = 10); target <= {target}: {met}", flush=True)


def report_medians(runs):
    """VAE against SpikeInterface's three, on the spikes that all of them localized."""
    for field in ("mean", "median"):
        value = {
            name: average(run["methods_on_subset"][name]["per_spike"][field] for run in runs)
            for name in (*SI_METHODS, "VAE")
        }
        best = min(SI_METHODS, key=value.get)
        where = f"{runs[0]['probe']}, {runs[0]['noise_level']:g} uV, {runs[0]['protocol']}"
        note(f"{where}: {field} error in um, vae", value["VAE"], {name: value[name] for name in SI_METHODS})
        below = all(value["VAE"] < value[name] for name in SI_METHODS)
        text = f"{field}: VAE below each of {', '.join(SI_METHODS)}: {'met' if below else 'NOT met'}"
        text += f"; VAE / best ({best}): {value['VAE'] / value[best]:.3f}"
        if field == "median":
            text += (
                f", target <= {MEDIAN_TARGET}: {'met' if value['VAE'] <= MEDIAN_TARGET * value[best] else 'NOT met'}"
            )
        print(text, flush=True)


def report_sorting(runs, probe, noise):
    runs = [r for r in runs if (r["probe"], r["noise_level"]) == (probe, noise) and "sorting_test" in r]
    if not runs:
        return
    rows = []
    for name in runs[0]["sorting_test"]:
        tests = [run["sorting_test"][name] for run in runs]
        for alpha in dict.fromkeys(result["alpha"] for result in tests[0]):
            for field in ("accuracy", "true_positive_rate"):
                chosen = [[r for r in test if r["alpha"] == alpha] for test in tests]
                numbers = [result["num_components"] for result in chosen[0]]
                means = [average(c[k][field] for c in chosen) for k in range(len(numbers))]
                features = "places" if alpha is None else f"places + 2 PCs, alpha {alpha:g}"
                rows.append([f"{name}, {features}", field, *means])
    header = ["", "", *[f"{number}" for number in numbers]]
    print_table(f"{probe}, {noise:g} uV: Gaussian mixtures against true units, by components", header, rows)


def average(values):
    values = list(values)
    return float(np.mean(values)) if values else None


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 20 s, square array at 10 uV")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--noise-levels", type=float, nargs="+", default=[10, 20, 30], help="uV")
    parser.add_argument("--probes", nargs="+", default=["square_mea", "neuropixels_64"])
    parser.add_argument("--duration", type=float, default=60.0, help="s")
    parser.add_argument(
        "--protocols", nargs="+", default=["paper", "detected"], choices=["paper", "detected", "sorted"]
    )
    parser.add_argument("--epochs", type=int, help="default: that of the settings")
    parser.add_argument("--preset", choices=["hurwitz2019", "hurwitz2019_code"])
    parser.add_argument("--monopolar-spikes", type=int, default=2000, help="subset for monopolar_triangulation")
    parser.add_argument("--sorting-test", action="store_true", help="Gaussian mixtures on the places (minutes more)")
    parser.add_argument("--ablation", action="store_true", help="settings one by one: square array, 10 uV, first seed")
    parser.add_argument("--cache-folder", default="outputs/recordings")
    parser.add_argument("--json", help="default: outputs/benchmarks/localization_accuracy.json or _ablation.json")
    arguments = parser.parse_args()
    if arguments.json is None:
        arguments.json = f"outputs/benchmarks/localization_{'ablation' if arguments.ablation else 'accuracy'}.json"
    if arguments.quick:
        arguments.seeds, arguments.noise_levels, arguments.probes = arguments.seeds[:1], [10.0], ["square_mea"]
        arguments.duration, arguments.monopolar_spikes = 20.0, 500
    return arguments


if __name__ == "__main__":
    main()
