"""How the error on cells of unseen models falls with the number of models that the network was trained on.

Networks are trained on the same scenes without the five held-out models, from 2, 4 and 8 of the other eight, and
scored on the units of the held-out five alone; SpikeInterface's three on the same spikes. Shows whether 13 morphologies
are enough. Needs scenes (python -m training.make_scenes --groups kept); training takes some minutes per network and is
resumed.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from _cases import SI_METHODS, matched_recording
from _localizers import localize
from _report import note, print_table, write_json

from si_neuroml.localization.evaluation import error_summary
from si_neuroml.localization.posterior import region_levels
from training.export_posterior import export
from training.scenes import HELD_OUT_MODELS

# pyramidal cells and interneurons in turn
ORDER = (
    "L5_TTPC1_cADpyr232_1",
    "L5_LBC_bAC217_1",
    "L5_TTPC2_cADpyr232_1",
    "L5_MC_bAC217_1",
    "L5_BTC_bAC217_1",
    "L5_ChC_cACint209_1",
    "L5_NGC_bNAC219_1",
    "L5_SBC_bNAC219_1",
)


def main():
    arguments = parse_arguments()
    models = {number: trained(number, arguments) for number in arguments.numbers}
    results, rows = {}, []
    for name in [*(method.key for method in SI_METHODS), *models]:
        scores = [score(name, models, probe, seed, arguments) for probe in arguments.probes for seed in arguments.seeds]
        means = {field: mean_of_known([s[field] for s in scores]) for field in scores[0]}
        results[str(name)] = means
        label = name if isinstance(name, str) else f"neural_posterior, {name} cell models"
        if name in models:
            note(f"{label}: median error in um on held-out models", means["median"])
        rows.append([label, means["mean"], means["median"], means["depth"], means["coverage_90"]])
    # SpikeInterface's three have neither a depth nor regions of their own; JSON knows no NaN
    plain = {name: {k: v if np.isfinite(v) else None for k, v in means.items()} for name, means in results.items()}
    write_json(arguments.json, {"benchmark": "cell_model_curve", "results": plain, "steps": arguments.steps})
    header = ["", "mean", "median", "depth / const", "90 % region"]
    print_table("units of held-out cell models, 10 uV: error in um", header, rows)


def mean_of_known(values):
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan


def trained(number, arguments):
    """The network of so many cell models, trained where it is not there yet."""
    out = Path(arguments.out) / f"{number}_models"
    if not (out / "weights.npz").exists():
        names = ORDER[:number]
        command = [sys.executable, "-m", "training.train_posterior", "--scenes", arguments.scenes, "--out", str(out)]
        options = ["--groups", "kept", "--steps", str(arguments.steps), "--cell-models", *names]
        subprocess.run([*command, *options], check=True)
    return export(out, [Path(arguments.scenes)], out / "model")


def score(name, models, probe, seed, arguments):
    recording, sorting, spikes = matched_recording(probe, 10.0, seed, arguments.duration, arguments.cache_folder)
    held_out = np.isin(sorting.get_property("cell_model"), HELD_OUT_MODELS)
    own = np.flatnonzero(held_out[spikes.unit_index])
    own = np.sort(np.random.default_rng(seed).permutation(own)[: arguments.subset])
    peaks, unit_index = spikes.peaks[own], spikes.unit_index[own]
    truth, contacts = sorting.get_property("gt_unit_locations"), recording.get_channel_locations()
    if name in models:
        method, options = "neural_posterior", {"model": models[name]}
    else:
        _, method, options, _ = next(m for m in SI_METHODS if m.key == name)
    found, _ = localize(recording, peaks, method, options)
    summary = error_summary(found, truth, unit_index, contacts)
    depth, levels = summary["depth"], None
    if name in models:
        levels = region_levels(found, truth[unit_index], "xy")
    return {
        "mean": summary["per_spike"]["mean"],
        "median": summary["per_spike"]["median"],
        "depth": depth["mae"] / depth["constant_mae"] if depth else np.nan,
        "coverage_90": float(np.mean(levels <= 0.9)) if levels is not None else np.nan,
    }


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 and 8 models, 200 steps, one recording of 20 s")
    parser.add_argument("--numbers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--scenes", default="outputs/scenes")
    parser.add_argument("--out", default="outputs/cell_model_curve")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--probes", nargs="+", default=["square_mea", "neuropixels_64"])
    parser.add_argument("--duration", type=float, default=60.0, help="s")
    parser.add_argument("--subset", type=int, default=1000, help="spikes per recording")
    parser.add_argument("--cache-folder", default="outputs/recordings")
    parser.add_argument("--json", default="outputs/benchmarks/cell_model_curve.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.numbers, arguments.steps, arguments.out = [2, 8], 200, f"{arguments.out}_quick"
        arguments.seeds, arguments.probes, arguments.duration = arguments.seeds[:1], arguments.probes[:1], 20.0
    if not list(Path(arguments.scenes).glob("kept_*.npz")):
        parser.exit(
            0, f"No scenes in {arguments.scenes}: make them with python -m training.make_scenes --groups kept.\n"
        )
    return arguments


if __name__ == "__main__":
    main()
