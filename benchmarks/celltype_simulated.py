"""Cell types from simulated current-clamp sweeps: image, features, fusion on unseen donors and in an unseen laboratory.

Four firing types that overlap, donors with effects of their own, two laboratories that differ in steps, sampling rate,
noise, holding and temperature (si_neuroml.groundtruth.current_clamp). For each seed new cells of both laboratories;
three donors of four of one laboratory are learned from, the others and all cells of the other laboratory are judged,
and the other way round. One fit of the fusion also says what the image and the features say by themselves.

Scores are of the cells of all seeds together, 95 % intervals over donors. The last part trains every backbone for one
epoch on a few cells.
"""

import argparse
import itertools
import time

import numpy as np
from _report import Target, print_table
from _store import Store

from si_neuroml.celltypes.backbones import BACKBONES
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.fit import fit_cell_type_classifier
from si_neuroml.celltypes.image_training import ImageNetwork
from si_neuroml.classification.scores import class_scores, compare_scores
from si_neuroml.groundtruth.current_clamp import generate_current_clamp_cells
from si_neuroml.groundtruth.current_clamp_cells import CLAMP_LABS

LABS = tuple(lab.name for lab in CLAMP_LABS)
MODELS = ("image", "features", "fusion")
CELLS_PER_DONOR, PART = 5, 40
SCENES = {"seen": "unseen donors of the laboratory of training", "unseen": "a laboratory that training has not seen"}
# InceptionV3 as it was trained, the others on images as they are
SIZES = {"inception_v3": (299, 299)}
# what the simulation was made for: types that overlap, but can be told apart
BETWEEN = (0.85, 0.95)


def main():
    arguments = parse_arguments()
    store = Store(arguments.json, {"benchmark": "celltype_simulated", "arguments": vars(arguments)})
    cases = {
        (seed, lab): f"seed {seed}, learned from {lab}, {arguments.cells} cells, {arguments.epochs} epochs"
        for seed, lab in itertools.product(arguments.seeds, LABS)
    }
    for seed in arguments.seeds:
        missing = [lab for lab in LABS if store.missing(cases[seed, lab], ["predictions"])]
        if missing:
            dataset = simulated(2 * arguments.cells, seed)
            print(dataset, flush=True)
        for lab in missing:
            store.put(cases[seed, lab], "predictions", learn_and_predict(dataset, lab, seed, arguments))
    found = {key: store.get(case, "predictions") for key, case in cases.items()}
    targets = report(found, store)
    targets += [backbones(arguments, store)]
    store.finish(targets)


def simulated(num, seed):
    """Images and features of simulated cells, made in parts to save memory."""
    start, parts = time.perf_counter(), []
    for first in range(0, num, PART):
        made = generate_current_clamp_cells(
            min(PART, num - first), cells_per_donor=CELLS_PER_DONOR, first_cell=first, seed=seed
        )
        truth = made.truth
        columns = {"labels": truth["label"], "donors": truth["donor"], "dataset": truth["dataset"].tolist()}
        parts.append(CellDataset.from_sweeps(made.cells, **columns))
    print(f"seed {seed}: {num} cells simulated and analysed in {time.perf_counter() - start:.0f} s", flush=True)
    return CellDataset.concatenate(parts)


def learn_and_predict(dataset, lab, seed, arguments):
    """Labels, donors and what each model says of the cells of both scenes."""
    own = dataset.cells["dataset"].to_numpy(dtype=str) == lab
    donors = np.unique(dataset.groups[own])
    left_out = np.random.default_rng(seed).permutation(donors)[: len(donors) // 4]
    is_test = own & np.isin(dataset.groups, left_out)
    start = time.process_time()
    classifier = fit_cell_type_classifier(
        dataset.select(own & ~is_test),
        "fusion",
        image_kwargs={"max_epochs": arguments.epochs},
        seed=seed,
        progress_bar=False,
    )
    seconds = time.process_time() - start
    print(
        f"seed {seed}, learned from {(own & ~is_test).sum()} cells of {lab}: {seconds:.0f} s of the processor",
        flush=True,
    )
    scenes = {"seen": dataset.select(is_test), "unseen": dataset.select(~own)}
    out = {name: opinions(classifier, cells, seed) for name, cells in scenes.items()}
    return {"seconds": seconds, "classes": list(classifier.classes), **out}


def opinions(classifier, cells, seed):
    said = classifier.predict(cells)
    inputs = {"image": cells.images, "features": cells.columns(classifier.feature_names)}
    strange = {name: classifier.streams[name].outlier_score(X) > 1 for name, X in inputs.items()}
    strange["fusion"] = said.out_of_distribution
    probabilities = {**said.streams, "fusion": said.probabilities}
    return {
        "labels": cells.labels.tolist(),
        "donors": [f"{seed}/{group}" for group in cells.groups],
        "named": said.label.tolist(),
        "probabilities": {name: np.round(rows, 6).tolist() for name, rows in probabilities.items()},
        "strange": {name: rows.tolist() for name, rows in strange.items()},
    }


def report(found, store):
    """Tables of both scenes, for each laboratory of training and both together."""
    values = {}
    for scene, words in SCENES.items():
        rows, differences = [], []
        for lab in (*LABS, None):
            parts = [one for (_, own), one in found.items() if lab in (own, None)]
            rows += score_rows(lab, scene, parts, values)
            differences += difference_rows(lab, scene, parts)
        header = ["learned from", "model", "cells", "donors", "balanced accuracy", "95 %", "least to most of a seed"]
        header += ["macro-F1", "calibration error", "strange", "named", "right of these"]
        print_table(f"On {words}", header, rows)
        print_table(
            f"On {words}: difference", ["learned from", "", "balanced accuracy", "95 % over donors"], differences
        )
    store.results["scores"] = values
    seen = {lab: values[f"seen, features, {lab}"]["balanced_accuracy"] for lab in LABS}
    text = ", ".join(f"{lab} {value:.3f}" for lab, value in seen.items())
    met = all(BETWEEN[0] <= value <= BETWEEN[1] for value in seen.values())
    lost = {name: values[f"seen, {name}, both"]["balanced_accuracy"] for name in MODELS}
    lost = {name: value - values[f"unseen, {name}, both"]["balanced_accuracy"] for name, value in lost.items()}
    return [
        Target("donors", f"feature model between {BETWEEN[0]} and {BETWEEN[1]} on unseen donors", text, met),
        Target("lab", "lost in the unseen laboratory", ", ".join(f"{k} {v:.3f}" for k, v in lost.items()), None),
    ]


def joined(scene, parts, *path):
    """What all parts hold at a place, one after another."""
    columns = []
    for part in parts:
        column = part[scene]
        for name in path:
            column = column[name]
        columns.append(np.array(column))
    return np.concatenate(columns)


def score_rows(lab, scene, parts, values):
    labels, donors, named = (joined(scene, parts, name) for name in ("labels", "donors", "named"))
    classes, rows = parts[0]["classes"], []
    for model in MODELS:
        scores = class_scores(labels, joined(scene, parts, "probabilities", model), classes, donors)
        each = [
            class_scores(one[scene]["labels"], np.array(one[scene]["probabilities"][model]), classes).values
            for one in parts
        ]
        each = [one["balanced_accuracy"] for one in each]
        own, (low, high) = scores.values, scores.intervals["balanced_accuracy"]
        strange = float(joined(scene, parts, "strange", model).mean())
        row = [lab or "either", model, len(labels), scores.num_subjects, f"{own['balanced_accuracy']:.3f}"]
        row += [f"{low:.3f} to {high:.3f}", f"{min(each):.3f} to {max(each):.3f}", f"{own['macro_f1']:.3f}"]
        row += [f"{own['calibration_error']:.3f}", f"{strange:.1%}"]
        is_named = named != "unknown"
        right = f"{(named == labels)[is_named].mean():.3f}" if is_named.any() else "-"
        rows.append([*row, f"{is_named.mean():.1%}", right] if model == "fusion" else [*row, "", ""])
        values[f"{scene}, {model}, {lab or 'both'}"] = own | {"interval": [low, high], "strange": strange}
    return rows


def difference_rows(lab, scene, parts):
    labels, donors = (joined(scene, parts, name) for name in ("labels", "donors"))
    rows = []
    for one, other in (("image", "features"), ("fusion", "features"), ("fusion", "image")):
        two = [joined(scene, parts, "probabilities", name) for name in (one, other)]
        value, low, high = compare_scores(labels, *two, parts[0]["classes"], donors)["balanced_accuracy"]
        text = f"{low:+.3f} to {high:+.3f}"
        rows.append([lab or "either", f"{one} - {other}", f"{value:+.3f}", text])
    return rows


def backbones(arguments, store):
    """Every network learns for one epoch and predicts."""
    case, seed = f"one epoch of {arguments.backbone_cells} cells", 1000
    missing = store.missing(case, BACKBONES)
    if missing:
        dataset = simulated(arguments.backbone_cells + PART, seed)
        train, test = np.split(np.arange(len(dataset)), [arguments.backbone_cells])
    for name in missing:
        options = {"max_epochs": 1, "batch_size": 16, "input_size": SIZES.get(name)}
        start = time.process_time()
        network = ImageNetwork(name, None, options).fit(dataset.images[train], dataset.labels[train])
        trained, start = time.process_time() - start, time.process_time()
        rows = network.predict_proba(dataset.images[test])
        asked = time.process_time() - start
        sound = np.isfinite(rows).all() and np.abs(rows.sum(axis=1) - 1).max() < 1e-6 and (rows >= 0).all()
        scores = {"train_s": trained, "predict_s": asked, "loss": network.history_["train_loss"][0]}
        scores |= {"sound": bool(sound), "cells": len(train), "asked": len(test)}
        store.put(case, name, scores | {"parameters": sum(value.size for value in network.to_arrays().values())})
    found = {name: store.get(case, name) for name in BACKBONES}
    columns = ("parameters", "cells", "train_s", "asked", "predict_s", "loss", "sound")
    rows = [[name, *(one[column] for column in columns)] for name, one in found.items()]
    header = ["network", "numbers", "cells", "train s", "asked", "predict s", "loss", "sums to 1, finite"]
    print_table("One epoch of each backbone, seconds of the processor", header, rows)
    sound = [name for name, one in found.items() if one["sound"]]
    return Target("networks", "every backbone trains and predicts", ", ".join(sound), len(sound) == len(BACKBONES))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 80 cells of each laboratory, 8 epochs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cells", type=int, default=320, help="of each laboratory")
    parser.add_argument("--epochs", type=int, default=30, help="of the compact network: its cells are few")
    parser.add_argument("--backbone-cells", type=int, default=64)
    parser.add_argument(
        "--json", help="default: outputs/benchmarks/celltype_simulated.json, with --quick .._quick.json"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.cells, arguments.epochs, arguments.backbone_cells = [0], 80, 8, 16
    if arguments.json is None:
        arguments.json = f"outputs/benchmarks/celltype_simulated{'_quick' if arguments.quick else ''}.json"
    return arguments


if __name__ == "__main__":
    main()
