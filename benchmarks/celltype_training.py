"""How long the networks take to learn cell types from scalograms on processors.

Images of 2 x 48 x 240 made up for the purpose: what they show does not change how long a step takes. By default 4,472
cells, as many as in the training set of Amprimo et al. (2025), and 15 epochs of the compact network, which must take
less than 15 minutes; of the other backbones some steps, from which an epoch follows. Wall-clock time counts what else
the machine does; seconds of the processor do not.
"""

import argparse
import time

import numpy as np
from _report import note, print_table, write_json

from si_neuroml.celltypes.backbones import BACKBONES, build_backbone
from si_neuroml.celltypes.image_training import ImageNetwork

SHAPE, TYPES, BATCH = (2, 48, 240), 4, 32
TARGET_S = 15 * 60
# InceptionV3 as it was trained, the others on images as they are
SIZES = {"inception_v3": (299, 299)}


def main():
    arguments = parse_arguments()
    images, labels = made_up(arguments.cells, seed=0)
    results = {"benchmark": "celltype_training", "arguments": vars(arguments), "networks": {}}
    for name in arguments.backbones:
        few = name != "compact" and not arguments.full
        num = min(2 * BATCH, arguments.cells) if few else arguments.cells
        epochs = 1 if few else arguments.epochs
        results["networks"][name] = timed(name, images[:num], labels[:num], epochs, arguments)
    report(results, arguments)
    write_json(arguments.json, results)


def timed(name, images, labels, epochs, arguments):
    options = {"max_epochs": epochs, "batch_size": BATCH, "input_size": SIZES.get(name)}
    fresh, truth = made_up(200, seed=1)
    wall, processor = time.perf_counter(), time.process_time()
    network = ImageNetwork(name, None, options).fit(images, labels)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    start = time.process_time()
    right = float((network.predict(fresh) == truth).mean())
    steps = len(images) * epochs
    whole = arguments.cells * arguments.epochs
    return {
        "parameters": sum(value.numel() for value in build_backbone(name, TYPES, SHAPE[0]).parameters()),
        "cells": len(images),
        "epochs": epochs,
        "wall_s": wall,
        "processor_s": processor,
        "ms_per_cell": 1000 * processor / steps,
        "predict_ms_per_cell": 1000 * (time.process_time() - start) / len(fresh),
        "whole_training_s": processor / steps * whole,
        "whole_training_wall_s": wall / steps * whole,
        "accuracy_on_new_cells": right,
    }


def made_up(num, seed):
    """Images with activity at a place that depends on the type, and their types."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, TYPES, num)
    rows, columns = np.arange(SHAPE[1])[:, None], np.arange(SHAPE[2])
    spots = [np.exp(-((rows - 8 - 10 * k) ** 2) / 50 - (columns - 40 - 45 * k) ** 2 / 400) for k in range(TYPES)]
    noise = rng.exponential(1.0, (num, *SHAPE)).astype("float32")
    return noise + 2 * np.stack(spots).astype("float32")[labels][:, None], labels


def report(results, arguments):
    header = ["network", "parameters", "train ms", "predict ms", "whole training min", "wall min", "right"]
    rows = [
        [
            name,
            one["parameters"],
            one["ms_per_cell"],
            one["predict_ms_per_cell"],
            one["whole_training_s"] / 60,
            one["whole_training_wall_s"] / 60,
            one["accuracy_on_new_cells"],
        ]
        for name, one in results["networks"].items()
    ]
    print_table(f"One thread; whole training: {arguments.cells} cells x {arguments.epochs} epochs", header, rows)
    if "compact" in results["networks"]:
        met = results["networks"]["compact"]["whole_training_wall_s"] < TARGET_S
        results["compact_below_15_min"] = met
        minutes = results["networks"]["compact"]["whole_training_wall_s"] / 60
        others = {name: one["whole_training_s"] / 60 for name, one in results["networks"].items() if name != "compact"}
        whole = f"{arguments.cells} cells x {arguments.epochs} epochs"
        note(f"minutes for {whole}, compact", minutes, others, f"{TARGET_S / 60:.0f}", met)
        print(f"compact network below {TARGET_S / 60:.0f} minutes: {'met' if met else 'NOT met'}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--cells", type=int, default=4472)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="the compact network, 320 cells, 1 epoch")
    parser.add_argument("--full", action="store_true", help="train all backbones in full: hours")
    parser.add_argument("--json", help="write the results to this file")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.backbones, arguments.cells, arguments.epochs = ["compact"], 320, 1
    return arguments


if __name__ == "__main__":
    main()
