"""Rheobase and +40 pA sweeps in real recordings: 44 labelled rat cells, 8 ABF families, 2 NWB files.

Rat cells (BlueBrain/SSCxEModelExamples, CC BY 4.0): the sweeps chosen against the roles in sweeps.csv, each difference
with its reason; spikes counted against the table. ABF (swharden/pyABF, MIT) and NWB: what was chosen, or why nothing.

--data (or SI_NEUROML_CELLTYPE_DATA): a folder with rat_sscx_l5/, abf_steps/ and nwb/, whose files may be gzipped.
"""

import argparse
import gzip
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _report import note

from si_neuroml.celltypes.abf import read_abf
from si_neuroml.celltypes.cell_image import cell_image
from si_neuroml.celltypes.features import ep_features
from si_neuroml.celltypes.icephys_nwb import read_icephys_nwb
from si_neuroml.celltypes.stimulus import step_stimuli
from si_neuroml.celltypes.sweep_selection import select_rheobase_sweeps, sweep_firing
from si_neuroml.celltypes.sweeps import sweeps_from_arrays
from si_neuroml.errors import InputError

RATE = 4000.0
# what a reader who looks at the traces expects: (rheobase, step above) in pA, or words of the refusal
EXPECTED = {
    "171116sh_0018": (50, 50),
    "171116sh_0019": "no usable step within",
    "17o05028_ic_steps": "spontaneous firing",
    "18711001": (70, 40),
    "18713001": (80, 40),
    "190619B_0003": (120, 60),
    "2019_07_24_0055_fsi": "spontaneous firing",
    "File_axon_5": (200, 50),
    "LantyerEtAl2018_180817_ME_9_CC": (161, 40),
    "99111002": "depolarised",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SI_NEUROML_CELLTYPE_DATA"))
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    folder = parser.parse_args().data
    if not folder or not Path(folder).is_dir():
        print(
            "skipped: no folder of recordings; give --data or set SI_NEUROML_CELLTYPE_DATA (see the head of this file)"
        )
        return
    folder = Path(folder)
    met = rat_cells(folder / "rat_sscx_l5")
    with tempfile.TemporaryDirectory() as temporary:
        for kind, pattern, read in (("ABF", "abf_steps/*.abf*", read_abf), ("NWB", "nwb/*.nwb*", read_icephys_nwb)):
            print(f"\n{kind}")
            files = [unpacked(path, Path(temporary)) for path in sorted(folder.glob(pattern))]
            found = [file_family(path, read) for path in files]
            met &= bool(found) and all(found)
    note("rheobase and +40 pA sweeps as labelled; ABF and NWB files as expected", "all" if met else "not all", met=met)
    print("\nall as expected" if met else "\nNOT all as expected")


def unpacked(path, folder):
    if path.suffix != ".gz":
        return path
    with gzip.open(path) as packed, open(folder / path.stem, "wb") as file:
        shutil.copyfileobj(packed, file)
    return folder / path.stem


def rat_cells(folder):
    """Sweeps chosen against the table's roles; True where all agree."""
    with np.load(folder / "sweeps_4khz_int16.npz") as file:
        voltage = np.cumsum(file["voltage"].astype("int32"), axis=1) * float(file["scale_mV"])
    table = pd.read_csv(folder / "sweeps.csv")
    start, agree, counts, features = time.perf_counter(), 0, [], []
    groups = table.groupby("cell", sort=False)
    print(f"{len(groups)} rat cells, {len(table)} sweeps")
    steps, silent = [], []
    for name, rows in groups:
        cell = rat_cell(name, rows, voltage)
        pair = select_rheobase_sweeps(cell)
        wanted = [int(np.flatnonzero(rows["role"] == role)[0]) for role in ("rheobase", "rheobase_plus40")]
        found = [pair.rheobase, pair.plus]
        agree += found == wanted
        if found != wanted:
            explain(name, rows, pair, wanted)
        for reason in filter(None, pair.sweep_reasons):
            print(f"  {name}: a sweep not used: {reason}")
        counts.append(
            [sweep_firing(v, RATE, s).num_spikes for v, s in zip(cell.voltage_mv, cell.stimulus, strict=True)]
            - rows["n_spikes"].to_numpy()
        )
        steps.append(pair.above_pa)
        silent.append(pair.silent_below_pa)
        features.append(ep_features(cell, pair)[0])
        image = cell_image(cell, pair)
        if image.shape != (2, 48, 240) or not np.isfinite(image).all():
            raise SystemExit(f"{name}: image {image.shape} is not finite or of another shape")
    counts, features = np.concatenate(counts), np.stack(features)
    print(f"chosen as labelled: {agree} of {len(groups)} cells")
    print(f"second step {np.min(steps):.1f} to {np.max(steps):.1f} pA above rheobase, median {np.median(steps):.1f}")
    print(
        f"rheobase known to {np.nanmedian(silent):.1f} pA (median); no silent sweep in {np.isnan(silent).sum()} cells"
    )
    print(f"spikes as counted in {np.mean(counts == 0):.1%} of sweeps, within one in {np.mean(abs(counts) <= 1):.1%}")
    print(f"features defined: {np.isfinite(features).mean():.1%}; {time.perf_counter() - start:.1f} s with images")
    return agree == len(groups)


def rat_cell(name, rows, voltage):
    # the table's last sample of the step is within it
    onset, offset = rows["onset_sample"].to_numpy() / RATE, (rows["offset_sample"].to_numpy() + 1) / RATE
    stimulus = step_stimuli(onset, offset, rows["amp_pA"], rows["hold_pA"])
    return sweeps_from_arrays(voltage[rows.index], RATE, stimulus=stimulus, cell_id=name)


def explain(name, rows, pair, wanted):
    told = [
        f"{rows['role'].iloc[k]} {rows['amp_pA'].iloc[k]:.1f} pA" for k in (pair.rheobase, pair.plus) if k is not None
    ]
    labelled = [f"{rows['amp_pA'].iloc[k]:.1f} pA" for k in wanted]
    reasons = [pair.sweep_reasons[k] for k in wanted if pair.sweep_reasons[k]]
    print(f"  {name}: chose {told}, labelled {labelled}; {pair.refusal or 'chosen otherwise'}; {reasons}; {pair.notes}")


def file_family(path, read):
    """Print what became of a file; True where it is as expected."""
    expected = EXPECTED.get(path.stem)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            cell = read(path)
    except InputError as error:
        print(f"{path.stem}: not read: {error}")
        return isinstance(expected, str) and expected in str(error)
    pair = select_rheobase_sweeps(cell)
    reasons = [reason.split(":")[0] for reason in pair.sweep_reasons if reason]
    print(f"{path.stem}: {len(cell)} sweeps at {cell.sampling_frequency / 1000:g} kHz", end=", ")
    told = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
    if pair.refusal:
        print(f"refused: {pair.refusal}")
        met = isinstance(expected, str) and expected in pair.refusal
    else:
        step = cell.stimulus[pair.rheobase]
        print(
            f"step {step.onset_s:.4f} to {step.offset_s:.4f} s ({step.source}), rheobase {pair.rheobase_pa:.0f} pA "
            f"(sweep {pair.rheobase}), second {pair.above_pa:+.0f} pA (sweep {pair.plus})"
        )
        values = dict(zip(*reversed(ep_features(cell, pair)), strict=True))
        shown = ("first_threshold_mv", "first_width_ms", "rheobase_latency_s", "plus_rate_hz", "fi_slope_hz_per_pa")
        print("    " + ", ".join(f"{name} {values[name]:.3g}" for name in shown))
        image = cell_image(cell, pair)
        met = isinstance(expected, tuple) and np.allclose((pair.rheobase_pa, pair.above_pa), expected, atol=1.0)
        met &= image.shape == (2, 48, 240) and bool(np.isfinite(image).all())
    if told:
        print(f"    sweeps not used: {told}")
    for text in (*cell.notes, *pair.notes):
        print(f"    note: {text}")
    if not met:
        print(f"    NOT as expected: {expected}")
    return met


if __name__ == "__main__":
    main()
