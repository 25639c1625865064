"""Cell types from current clamp
=============================

Learn cell types from current-clamp sweeps of some donors, and name the cells of donors never seen.

Run it with ``python examples/04_cell_types.py``; it takes less than a minute. The last figure needs captum:
``pip install "si-neuroml[explain]"``. Everything it writes goes to the folder ``outputs``.
"""

# %%
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import si_neuroml
from si_neuroml.celltypes.explain import explain_features, explain_images
from si_neuroml.celltypes.sweep_selection import select_rheobase_sweeps
from si_neuroml.classification.scores import class_scores
from si_neuroml.groundtruth.current_clamp import generate_current_clamp_cells
from si_neuroml.groundtruth.current_clamp_cells import CLAMP_LABS

OUTPUTS = Path("outputs")
NUM_CELLS, CELLS_PER_DONOR, NEW_DONORS = 120, 5, 6
SHOWN = 20


def main():
    OUTPUTS.mkdir(parents=True, exist_ok=True)

    # %%
    # Cells whose type is known
    # -------------------------
    # Current steps into cells of four firing types, five cells of each donor, in one laboratory. Your own cells come
    # from files, one object per cell:
    #
    #     from si_neuroml.celltypes.abf import read_abf
    #     from si_neuroml.celltypes.icephys_nwb import read_icephys_nwb
    #     cells = [read_abf(path) for path in Path("recordings").glob("*.abf")]
    #     cells = [read_icephys_nwb(path) for path in Path("recordings").glob("*.nwb")]
    #
    # or from arrays (si_neuroml.celltypes.sweeps.sweeps_from_arrays), or from a recording of SpikeInterface with one
    # segment per sweep (si_neuroml.celltypes.sweep_recordings.sweeps_from_recording).
    print(f"Simulating {NUM_CELLS} cells ...")
    start = time.perf_counter()
    one, other = CLAMP_LABS
    simulated = generate_current_clamp_cells(NUM_CELLS, cells_per_donor=CELLS_PER_DONOR, labs=[one], seed=0)
    cells, truth = simulated.cells, simulated.truth
    print(
        f"{time.perf_counter() - start:.0f} s; sweeps of {cells[0].cell_id}:\n{cells[0].table().iloc[::5].to_string()}"
    )

    # %%
    # From sweeps to numbers
    # ----------------------
    # Two sweeps stand for a cell: the one at rheobase and the one 40 pA above it. Of these come the image, two wavelet
    # scalograms around step onset; from all sweeps come the electrophysiological features. A cell that lacks such
    # sweeps is refused, with the reason in the column "refusal".
    pair = select_rheobase_sweeps(cells[0])
    print(
        f"Rheobase {pair.rheobase_pa:.0f} pA (true: {truth['rheobase_pa'][0]:.0f} pA), second +{pair.above_pa:.0f} pA"
    )
    start = time.perf_counter()
    dataset = si_neuroml.CellDataset.from_sweeps(cells, labels=truth["label"], donors=truth["donor"], dataset=one.name)
    print(f"{dataset}; {time.perf_counter() - start:.0f} s\n{dataset.label_counts().to_string()}")

    # %%
    # Fit on some donors
    # ------------------
    # The compact network looks at the images, boosted trees at the features; fused, they speak together. Calibration
    # and limits are learned on donors left out in turn. The six new donors are in none of it.
    is_new = np.isin(truth["donor"], truth["donor"].unique()[-NEW_DONORS:])
    start = time.perf_counter()
    # the cells are few: more epochs than the default of 15
    classifier = si_neuroml.fit_cell_type_classifier(
        dataset.select(~is_new), "fusion", image_kwargs={"max_epochs": 30}, progress_bar=False
    )
    print(f"\nFitted to {(~is_new).sum()} cells in {time.perf_counter() - start:.0f} s")
    si_neuroml.save_model(classifier, OUTPUTS / "cell_type_classifier", overwrite=True)

    # %%
    # Donors that were never seen
    # ---------------------------
    new = dataset.select(is_new)
    predictions = classifier.predict(new)
    table = predictions.to_dataframe(new.cells[["cell_id", "donor", "label"]])
    table.to_csv(OUTPUTS / "cell_types.csv", index=False)
    print(table.head(8).round(2).to_string())
    print(f"\n{len(new)} cells of {NEW_DONORS} new donors: balanced accuracy, 95 % over donors")
    for name, rows in {**predictions.streams, "fusion": predictions.probabilities}.items():
        scores = class_scores(new.labels, rows, classifier.classes, new.groups)
        low, high = scores.intervals["balanced_accuracy"]
        print(f"  {name:10s} {scores.values['balanced_accuracy']:.2f}  {low:.2f} to {high:.2f}")
    named = predictions.label != "unknown"
    print(f"  {named.sum()} cells are named, {(predictions.label == new.labels)[named].mean():.0%} of them right")

    # %%
    # A laboratory that was never seen
    # --------------------------------
    # Cooler, other steps, another sampling rate. Cells that are like none of training would be flagged, and labelled
    # "unknown"; learned from so few cells the limit is wide, and what is named is more often wrong. Learn from several
    # laboratories, and leave one out to see what a new one would get.
    far = generate_current_clamp_cells(20, labs=[other], seed=1)
    foreign = si_neuroml.CellDataset.from_sweeps(far.cells, labels=far.truth["label"], dataset=other.name)
    said = classifier.predict(foreign)
    print(
        f"\n{len(foreign)} cells of {other.name}: {said.out_of_distribution.mean():.0%} are flagged as strange, ",
        end="",
    )
    print(f"{share_right(said, foreign):.0%} would be named right (new donors: {share_right(predictions, new):.0%})")

    # %%
    # What do they look at?
    # ---------------------
    # Pixels that speak for the type (red) and against it (blue), compared with the mean image.
    shown = dataset.select(np.flatnonzero(~is_new)[:SHOWN])
    explained = explain_images(classifier, shown, baseline="mean")
    widget = si_neuroml.plot_scalogram_attribution(explained, channel_names=("rheobase", "+40 pA"))
    widget.figure.savefig(OUTPUTS / "cell_types.png", dpi=150)
    plt.close(widget.figure)
    importance = explain_features(classifier, shown).importance()
    print(f"\nFeatures that the trees use most:\n{importance.head(5).round(2).to_string()}")

    print("\nWritten:")
    for name in ("cell_type_classifier", "cell_types.csv", "cell_types.png"):
        print(f"  {OUTPUTS / name}")


def share_right(predictions, dataset):
    """Share of the most probable types that are right."""
    return (np.array(predictions.classes)[predictions.probabilities.argmax(axis=1)] == dataset.labels).mean()


if __name__ == "__main__":
    main()
