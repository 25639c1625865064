"""The localizer that needs no training against SpikeInterface's three and the VAE: places, depth, coverage, outliers.

Claimed, and judged at the end target by target; peaks are always those that SpikeInterface detects, matched to the true
spikes, and a ratio is taken on one random subset of spikes that all methods localize:

A  On MEArec's recordings the error is at most 0.45 (median) and 0.62 (mean) of the best other method's at 10 uV, 0.50
   and 0.66 for cells of models that a second network never saw; the depth is better than a constant guess; the 90 %
   region holds 85 to 95 % of the somas at every noise level.
B  outlier_probability tells collisions, and places are better without what it flags.
C  On a layout that training never drew the advantage is within 15 % of that on layouts that it did.
D  With up to 60 % of the channels gone every place is finite and better than SpikeInterface's.

Scores are kept in the file --json by recording and method (the posterior's by the digest of its weights): give the
command again to go on, or with other weights to score these alone; after a change of code name methods in --again.
Recordings are made once (1 to 3 minutes each) and kept in --cache-folder.
"""

import argparse
import time
from pathlib import Path

import _collisions
import _dead_channels
import _mearec_part
import _scenes
from _store import Store

from si_neuroml import load_model
from si_neuroml.localization.neural_posterior import shipped_posterior

PARTS = {"A": _mearec_part, "B": _collisions, "C": _scenes, "D": _dead_channels}


def main():
    arguments = parse_arguments()
    models = load_models(arguments)
    store = Store(arguments.json, {"benchmark": "posterior_accuracy", "arguments": vars(arguments)}, arguments.again)
    start = time.perf_counter()
    # the outer loops are over recordings, since their spikes are found once for all parts
    for noise in arguments.noise_levels:
        for probe in arguments.probes:
            for seed in arguments.seeds:
                for part in arguments.parts:
                    if part != "C":
                        PARTS[part].run_recording(probe, noise, seed, arguments, models, store)
    if "C" in arguments.parts:
        _scenes.run(arguments, models, store)
    print(f"all scored after {time.perf_counter() - start:.0f} s", flush=True)
    store.finish([target for part in arguments.parts for target in PARTS[part].report(arguments, models, store)])


def load_models(arguments):
    """The shipped network for all units; for those of held-out cell models the other one, where it is there."""
    models = {"all": shipped_posterior() if arguments.model is None else load_model(arguments.model)}
    if Path(arguments.held_out_model).is_dir():
        models["held_out"] = load_model(arguments.held_out_model)
        if not _mearec_part.knows_nothing_of_held_out(models["held_out"]):
            print(f"{arguments.held_out_model} was trained on the held-out cells too: its rows are not judged")
    else:
        print(f"no model in {arguments.held_out_model}: no rows for held-out cell models")
    for group, model in models.items():
        print(f"{group}: {model!r}", flush=True)
    return models


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 20 s, square array at 10 uV, one scene")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--noise-levels", type=float, nargs="+", default=[10, 20, 30], help="uV; D is at 10 only")
    parser.add_argument("--probes", nargs="+", default=["square_mea", "neuropixels_64"])
    parser.add_argument("--duration", type=float, default=60.0, help="s")
    parser.add_argument("--scenes", type=int, default=8, help="C: scenes per layout")
    parser.add_argument("--scene-duration", type=float, default=20.0, help="C: s")
    parser.add_argument("--subset", type=int, default=2000, help="spikes per recording that all methods localize")
    parser.add_argument(
        "--without-vae", action="store_true", help="A: do not fit a VAE to each recording (a minute each)"
    )
    parser.add_argument("--model", help="A..D: a model folder instead of the shipped weights")
    parser.add_argument(
        "--held-out-model", default="benchmarks/models/neural_posterior_held_out", help="A: model folder"
    )
    parser.add_argument(
        "--again", nargs="+", default=[], metavar="NAME", help="score these anew: VAE, neural_posterior"
    )
    parser.add_argument("--cache-folder", default="outputs/recordings")
    parser.add_argument(
        "--json", help="default: outputs/benchmarks/posterior_accuracy.json, with --quick .._quick.json"
    )
    # of the VAE: its defaults
    parser.set_defaults(preset=None, epochs=None)
    arguments = parser.parse_args()
    if arguments.json is None:
        arguments.json = f"outputs/benchmarks/posterior_accuracy{'_quick' if arguments.quick else ''}.json"
    if arguments.quick:
        arguments.seeds, arguments.noise_levels, arguments.probes = arguments.seeds[:1], [10.0], ["square_mea"]
        arguments.duration, arguments.subset, arguments.scenes, arguments.scene_duration = 20.0, 500, 1, 5.0
    return arguments


if __name__ == "__main__":
    main()
