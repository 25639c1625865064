"""Which stream of a sorted unit tells its type? Ground-truth units of CellExplorer, on animals training has not seen.

70 units of 22 animals that light or juxtacellular staining named: axo-axonic, PV, SST and VIP cells with spike times
and waveforms (CellExplorer, BSD-3-Clause). Each stream alone, all together, and all but one, folds by animal, 95 %
intervals over animals.

SST and VIP cells are from one laboratory, axo-axonic and (but one) PV cells from others, so that a stream that tells
the laboratory looks as if it told the type. Two more tables say how far: the laboratory from the same streams, and
types within one laboratory.

--data (or SI_NEUROML_CELLTYPE_DATA): a folder with extracellular/cellexplorer_ground_truth.npz.
"""

import argparse
import os
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from _report import Target, print_table, report_targets, write_json

from si_neuroml.celltypes.ablation import ALL, stream_ablation
from si_neuroml.celltypes.cell_streams import CellStream
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.unit_settings import UnitStreamSettings
from si_neuroml.celltypes.unit_streams import unit_streams
from si_neuroml.celltypes.unit_waveforms import aligned_waveforms, waveform_scalograms

FILE = "extracellular/cellexplorer_ground_truth.npz"
TYPES = ("Axo_Axonic", "PV", "SST", "VIP")
RATE = 20_000.0
# what an untuned model reaches on the same units, animals and types, measured before this code was written
REFERENCE = {"log_isi": 0.33, "spike_scalogram": 0.32, "waveform": 0.48, ALL: 0.48}
# all waveforms of the file reach so far
SETTINGS = UnitStreamSettings(ms_before=0.6, ms_after=0.7)
WITHIN = {"SST and VIP, Allen Institute": ("SST", "VIP"), "axo-axonic and PV, other laboratories": ("Axo_Axonic", "PV")}


def main():
    arguments = parse_arguments()
    path = Path(arguments.data or "") / FILE
    if not arguments.data or not path.is_file():
        print(f"skipped: there is no {FILE}; give --data or set SI_NEUROML_CELLTYPE_DATA (see the head of this file)")
        return
    start = time.perf_counter()
    dataset = load_units(path)
    seconds = time.perf_counter() - start
    print(f"{dataset}\nstreams of {len(dataset)} units, {seconds:.1f} s", flush=True)
    results = {"benchmark": "unit_types", "arguments": vars(arguments), "reference": REFERENCE, "tables": {}}
    results["streams_s_per_unit"] = seconds / len(dataset)
    types = run("types", dataset, arguments, results)
    if not arguments.quick:
        is_allen = dataset.cells["dataset"] == "Allen"
        of_laboratory = dataset.cells.assign(label=np.where(is_allen, "Allen", "other"))
        run("laboratory", CellDataset(of_laboratory, streams=dataset.streams), arguments, results)
        for title, pair in WITHIN.items():
            run(
                title, dataset.select(np.isin(dataset.labels, pair) & (is_allen == ("SST" in pair))), arguments, results
            )
    report(types, results)
    write_json(arguments.json, results)


def run(title, dataset, arguments, results):
    options = {"num_folds": 3, "num_resamples": 200} if arguments.quick else {"num_folds": 5}
    with warnings.catch_warnings():
        # that a type has one donor in the training set of a fold
        warnings.simplefilter("ignore", UserWarning)
        found = stream_ablation(dataset, seed=arguments.seed, progress_bar=False, **options)
    print(f"\n{title}\n{found}", flush=True)
    table = found.table.astype(object).where(found.table.notna(), None)
    results["tables"][title] = table.to_dict(orient="index")
    return found


def report(found, results):
    balanced = found.table["balanced_accuracy"]
    intervals = zip(found.table["low"], found.table["high"], strict=True)
    rows = [[k, balanced[k], *ends, REFERENCE.get(k)] for k, ends in zip(balanced.index, intervals, strict=True)]
    print_table("Balanced accuracy and what was measured before", ["streams", "here", "low", "high", "before"], rows)
    low = found.table.loc[ALL, "low"]
    text = f"{balanced[ALL]:.2f} ({low:.2f} to {found.table.loc[ALL, 'high']:.2f})"
    reached = [name for name, value in REFERENCE.items() if found.table.loc[name, "high"] >= value]
    targets = [
        Target("units", "all streams above chance, 0.25, beyond doubt", text, bool(low > 0.25)),
        Target("units", "intervals reach what was measured before", ", ".join(reached), len(reached) == len(REFERENCE)),
    ]
    results["targets"] = [target._asdict() for target in targets]
    report_targets(targets)


def load_units(path):
    """Units of the four types with two spikes or more; a session lasts from its first to its last spike."""
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    offsets, sessions = data["offsets"], data["session"]
    trains = [np.cumsum(data["spike_delta_20khz"][a:b].astype("int64")) / RATE for a, b in pairwise(offsets)]
    chosen = [k for k, train in enumerate(trains) if data["label"][k] in TYPES and len(train) > 1]
    spans = {}
    for k in chosen:
        low, high = spans.get(sessions[k], (np.inf, -np.inf))
        spans[sessions[k]] = min(low, trains[k][0]), max(high, trains[k][-1])
    streams = unit_streams(
        [[trains[k] - spans[sessions[k]][0]] for k in chosen],
        [[spans[sessions[k]][1] - spans[sessions[k]][0]] for k in chosen],
        settings=SETTINGS,
    )
    waveforms = np.concatenate([waveform_of(data["waveform_ms"][k], data["waveform_uV"][k]) for k in chosen])
    values = {"waveform": waveforms, "waveform_scalogram": waveform_scalograms(waveforms, SETTINGS)}
    streams = {name: CellStream(one, SETTINGS.axes(name)) for name, one in values.items()} | streams
    animals = data["animal"][chosen]
    cells = pd.DataFrame(
        {
            "cell_id": np.array(chosen).astype(str),
            "label": data["label"][chosen],
            "donor": animals,
            "dataset": ["Allen" if name.startswith("Allen") else "other" for name in animals],
        }
    )
    return CellDataset(cells, streams=streams)


def waveform_of(times_ms, values):
    """Waveforms of this file have rates and lengths of their own."""
    known = np.isfinite(times_ms) & np.isfinite(values)
    rate = 1000 / np.diff(times_ms[known]).mean()
    return aligned_waveforms(values[known][None], rate, SETTINGS)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("SI_NEUROML_CELLTYPE_DATA"))
    parser.add_argument("--quick", action="store_true", help="three folds, types only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the results to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
