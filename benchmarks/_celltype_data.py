"""Labelled cells for celltype_accuracy.py, read from a folder that does not come with the package.

``sts_ep/``: features of the Allen Institute's patch-clamp and patch-seq cells, types, and the split that Amprimo et al.
(2025) published; ``allen_meta/``: their donors. ``m1_patchseq/``: motor cortex (Scala et al. 2020), at room and at
physiological temperature.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from si_neuroml.celltypes.dataset import CellDataset

VARIABLE = "SI_NEUROML_CELLTYPE_DATA"
STS_FILES = tuple(
    f"{name}.gz"
    for name in (
        "sts_ep/PatchClamp_EP_features.csv",
        "sts_ep/PatchSeq_EP_features.csv",
        "sts_ep/Train_split.csv",
        "sts_ep/Test_split.csv",
        "sts_ep/cell_types_GouwensAll_new.txt",
        "allen_meta/PatchClamp_metadata.csv",
        "allen_meta/20200625_patchseq_metadata_mouse.csv",
    )
)
M1_FILES = tuple(
    f"m1_patchseq/m1_patchseq{temperature}_{table}.csv.gz"
    for temperature in ("", "_phys_temp")
    for table in ("ephys_features", "meta_data")
)
# RNA families as types; cells of low quality have none
M1_TYPES = {"IT": "Excitatory", "CT": "Excitatory", "ET": "Excitatory", "NP": "Excitatory"}
M1_TYPES |= {"Vip": "Vip/Lamp5", "Lamp5": "Vip/Lamp5", "Sncg": "Vip/Lamp5", "Pvalb": "Pvalb", "Sst": "Sst"}
STIMULI = ("long_square", "ramp", "short_square")
PARTS = ("peak", "trough", "fast_trough", "slow_trough")


def find_folder(path, files):
    """The data folder, or None with a word on what is missing."""
    path = path or os.environ.get(VARIABLE)
    if path is None:
        print(f"skipped, no data: give --data FOLDER or set {VARIABLE}")
        return None
    missing = [name for name in files if not (Path(path) / name).is_file()]
    if missing:
        print(f"skipped, no data: {path} lacks {', '.join(missing)}")
        return None
    return Path(path)


def load_sts(folder):
    """5,590 cells with the 45 features that both tables have, and which of them the authors tested on."""
    clamp, seq, train, test, types, clamp_meta, seq_meta = (folder / name for name in STS_FILES)
    clamp = pd.read_csv(clamp).set_index("specimen_id")
    seq = pd.read_csv(seq).set_index("cell_specimen_id")
    names = sorted({*clamp.columns} & {*seq.columns})
    features = pd.concat([clamp[names], seq[names]])
    parts = [pd.read_csv(one, header=None, names=["id", "set"], skipinitialspace=True) for one in (train, test)]
    cells = pd.concat(parts, ignore_index=True)
    types = pd.read_csv(types, sep=" ", header=None, names=["type", "id"]).set_index("id")["type"]
    clamp_meta, seq_meta = pd.read_csv(clamp_meta, sep=";"), pd.read_csv(seq_meta)
    donors = dict(zip(clamp_meta["specimen_id"], clamp_meta["donor__id"], strict=True))
    donors |= dict(zip(seq_meta["cell_specimen_id"], seq_meta["donor_id"], strict=True))
    table = pd.DataFrame(
        {
            "cell_id": cells["id"].astype(str),
            "label": cells["id"].map(types),
            "donor": cells["id"].map(donors).astype("Int64").astype(str),
            "dataset": cells["set"].map({"Clamp": "patch-clamp", "Seq": "patch-seq"}),
        }
    )
    is_test = np.arange(len(cells)) >= len(parts[0])
    values = features.loc[cells["id"]].to_numpy("float64")
    # some ramps of the table hold numbers like 1e10 mV
    return CellDataset(table, None, np.where(np.abs(values) < 1e6, values, np.nan), tuple(names)), is_test


def with_spike_relative(dataset):
    """Beside the features, times and potentials of each first spike from its threshold instead of the sweep's start."""
    own, columns = dict(zip(dataset.feature_names, dataset.features.T.astype("float64"), strict=True)), {}
    for stimulus in STIMULI:
        for part in PARTS:
            for quantity, unit in (("t", "s"), ("v", "mv")):
                start = own[f"threshold_{quantity}_{stimulus}"]
                columns[f"threshold_to_{part}_{unit}_{stimulus}"] = own[f"{part}_{quantity}_{stimulus}"] - start
    features = np.column_stack([dataset.features, *columns.values()])
    return CellDataset(dataset.cells, None, features, (*dataset.feature_names, *columns))


def load_m1(folder):
    """1,231 cells at room temperature and 176 at 33 to 34 degrees, 29 features of Scala et al."""
    parts = []
    for temperature, (features, cells) in zip(("room", "physiological"), np.reshape(M1_FILES, (2, 2)), strict=True):
        features = pd.read_csv(folder / features).set_index("cell id")
        cells = pd.read_csv(folder / cells, sep="\t").set_index("Cell").loc[features.index]
        table = pd.DataFrame(
            {
                "cell_id": features.index,
                "label": cells["RNA family"].map(M1_TYPES).to_numpy(),
                "donor": cells["Mouse"].to_numpy(),
                "dataset": f"M1 {temperature}",
                "temperature": temperature,
            }
        )
        parts.append(CellDataset(table, None, features.to_numpy("float64"), tuple(features.columns)).labelled())
    return CellDataset.concatenate(parts)
