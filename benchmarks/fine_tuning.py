"""Whether fine-tuning without labels helps, and whether its own report says so.

Simulated recordings with known somas. fine_tune_localizer() gets the recording and the peaks that SpikeInterface
detects, nothing else. Its report is about copies of held-out large spikes as the model itself localizes them; beside it
stands the true change: the error of all true spikes that were detected (protocol "detected"), before and after, whether
the report accepts the tuned model or not. "du" is the mean error in um, first over spikes, then over units; the
interval is a bootstrap over units.

The recordings are drawn from the seeds used in development, not from those of the accuracy benchmark.
"""

import argparse
import time

import numpy as np
from _localizers import JOB, load_recording, localize, scorer
from _report import note, print_table, write_json
from spikeinterface.core import get_noise_levels
from spikeinterface.sortingcomponents.peak_detection import detect_peaks

import si_neuroml
from si_neuroml.localization.evaluation import location_errors
from si_neuroml.localization.posterior import region_levels
from si_neuroml.localization.protocols import gt_peaks


def main():
    arguments = parse_arguments()
    results = {"benchmark": "fine_tuning", "arguments": vars(arguments), "runs": []}
    for probe in arguments.probes:
        for seed in arguments.seeds:
            results["runs"].append(run_recording(probe, seed, arguments))
            write_json(arguments.json, results)
    report(results["runs"])


def run_recording(probe, seed, arguments):
    recording, sorting = load_recording(probe, arguments.noise_level, seed, arguments)
    noise = get_noise_levels(recording, return_in_uV=False, random_slices_kwargs={"seed": seed}, progress_bar=False)
    options = {"peak_sign": "neg", "noise_levels": noise}
    peaks = detect_peaks(recording, method="locally_exclusive", method_kwargs=options, job_kwargs=JOB)
    start = time.perf_counter()
    result = si_neuroml.fine_tune_localizer(
        recording,
        peaks,
        model=arguments.model,
        steps=arguments.steps,
        keep=True,
        seed=seed,
        progress_bar=False,
        job_kwargs=JOB,
    )
    seconds = time.perf_counter() - start
    spikes = gt_peaks(recording, sorting, protocol="detected", job_kwargs=JOB, seed=seed)
    truth, score = sorting.get_property("gt_unit_locations"), scorer(recording, sorting)
    errors, truly = [], {}
    for name, model in (("before", arguments.model), ("after", result.model)):
        found, _ = localize(recording, spikes.peaks, "neural_posterior", {"model": model})
        errors.append(location_errors(found, truth, spikes.unit_index))
        levels = region_levels(found, truth[spikes.unit_index])
        truly[name] = score(found, spikes.unit_index) | {"inside_90": float(np.mean(levels <= 0.9))}
    run = {"probe": probe, "seed": seed, "seconds": seconds, "helped": result.helped, "report": result.report}
    run |= {"truth": truly, "truth_change": unit_bootstrap(errors[1] - errors[0], spikes.unit_index, seed)}
    print(f"{probe}, seed {seed}: fine-tuned in {seconds:.0f} s, helped: {result.helped}", flush=True)
    return run


def unit_bootstrap(change, unit_index, seed):
    """Mean change over units with its 95 % interval."""
    units = np.array([change[unit_index == unit].mean() for unit in np.unique(unit_index)])
    drawn = np.random.default_rng(seed).integers(len(units), size=(2000, len(units)))
    low, high = np.quantile(units[drawn].mean(axis=1), (0.025, 0.975))
    return {"per_unit": float(units.mean()), "interval": [float(low), float(high)], "worse": float(np.mean(units > 0))}


def report(runs):
    rows = []
    for run in runs:
        own = run["report"]
        low, high = own["nll_change_interval"]
        rows.append(
            [
                f"{run['probe']}, {run['seed']}",
                run["helped"],
                own["nll_change"],
                f"{low:.2f} .. {high:.2f}",
                *(own[name]["median_um"] for name in ("before", "after")),
                *(own[name]["coverage_90"] for name in ("before", "after")),
                own["plain_moved_um"],
            ]
        )
    header = ["recording", "helped", "nll change", "95 %", "median", "after", "cov90", "after", "plain moved"]
    print_table("What the report says, on held-out copies", header, rows)
    rows = []
    for run in runs:
        before, after = run["truth"]["before"], run["truth"]["after"]
        low, high = run["truth_change"]["interval"]
        rows.append(
            [
                f"{run['probe']}, {run['seed']}",
                *(s["per_spike"][field] for field in ("mean", "median") for s in (before, after)),
                *(s["per_unit"]["mean"] for s in (before, after)),
                f"{low:.2f} .. {high:.2f}",
                run["truth_change"]["worse"],
                *(s["inside_90"] for s in (before, after)),
            ]
        )
    header = ["recording", "mean", "after", "median", "after", "per unit", "after", "change, 95 %", "worse", "cov90"]
    print_table("The truth: error in um in the plane (worse: share of the units)", [*header, "after"], rows)
    agree = sum(run["helped"] == (run["truth_change"]["per_unit"] < 0) for run in runs)
    wrong = sum(run["helped"] and run["truth_change"]["per_unit"] > 0 for run in runs)
    print(f"report and truth agree on {agree} of {len(runs)} recordings; accepted but truly worse: {wrong}")
    note("fine-tuning: recordings on which report and truth agree", f"{agree} of {len(runs)}")
    note("fine-tuning: accepted, but truly worse", f"{wrong} of {len(runs)}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, square array, 100 steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--probes", nargs="+", default=["square_mea", "neuropixels_64"])
    parser.add_argument("--noise-level", type=float, default=10.0, help="uV")
    parser.add_argument("--duration", type=float, default=40.0, help="s")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--model", help="folder of the model to start from; default: that of the package")
    parser.add_argument("--cache-folder", default="outputs/recordings")
    parser.add_argument("--json", default="outputs/benchmarks/fine_tuning.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.probes, arguments.steps = arguments.seeds[:1], arguments.probes[:1], 100
    return arguments


if __name__ == "__main__":
    main()
