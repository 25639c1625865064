"""Brain regions along a probe
===========================

Learn brain regions from the sorted units of some animals, and find them along the probe in an animal never seen.

Run it with ``python examples/03_brain_regions.py``; it takes less than a minute. Everything it writes goes to the
folder ``outputs``.
"""

# %%
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import si_neuroml
from si_neuroml.classification.scores import class_scores
from si_neuroml.groundtruth import region_session_analyzer

OUTPUTS = Path("outputs")
NUM_SUBJECTS, NUM_UNITS, DURATION_S = 8, 80, 120.0
HISTOLOGY_ERROR_UM = 200.0
QUIET = {"n_jobs": 1, "progress_bar": False}


def main():
    OUTPUTS.mkdir(exist_ok=True)

    # %%
    # Animals whose regions are known
    # -------------------------------
    # One session of each of eight animals: a probe through cortex, hippocampus, thalamus and midbrain, spike trains of
    # sorted units, onsets of a stimulus. Units differ by region, and by animal in ways that look like regions. Each
    # session becomes a SortingAnalyzer, as your own are. Seven animals are labelled; the last is the new one.
    print("Simulating eight animals ...")
    sessions = si_neuroml.generate_region_sessions(NUM_SUBJECTS, 1, NUM_UNITS, DURATION_S, seed=0)
    analyzers = [simulated_analyzer(session) for session in sessions]
    subjects = [session.units["subject"][0] for session in sessions]
    dataset = si_neuroml.RegionDataset.from_analyzers(
        analyzers[:-1], subjects=subjects[:-1], events=[session.onsets for session in sessions[:-1]]
    )
    print(dataset)
    dataset = dataset.drop_rare(min_units=30, min_subjects=3)
    print(dataset.region_counts().to_string())

    # %%
    # What would an animal get that was never seen?
    # ---------------------------------------------
    # Units of one animal resemble each other. With the units of every animal on both sides of the split a score
    # promises more than a new animal keeps; the difference is the leakage gap. "raw" looks at each unit by itself,
    # "smoothed" also at its neighbours along the shank.
    start = time.perf_counter()
    evaluation = si_neuroml.evaluate_region_models(
        dataset, ["logistic_regression", "depth_prior"], splits=("subject", "random"), num_folds=3, baselines=False
    )
    print(f"\nEvaluated in {time.perf_counter() - start:.0f} s\n\n{evaluation}")
    evaluation.table.to_csv(OUTPUTS / "brain_regions.csv", index=False)

    # %%
    # Fit, and predict in the analyzer of the new animal
    # --------------------------------------------------
    # Calibration, smoothing and the probability below which a unit is "unknown" are learned on animals left out.
    start = time.perf_counter()
    classifier = si_neuroml.fit_region_classifier(dataset, progress_bar=False)
    print(f"\nThe recommended model: fitted in {time.perf_counter() - start:.0f} s, {classifier.training['chosen']}")
    si_neuroml.save_model(classifier, OUTPUTS / "region_classifier", overwrite=True)

    new, units = analyzers[-1], sessions[-1].units
    truth = units["region"].to_numpy(dtype=str)
    new.compute(
        ["region_features", "region_predictions"],
        extension_params={
            "region_features": {"events": sessions[-1].onsets},
            "region_predictions": {"model": OUTPUTS / "region_classifier"},
        },
        **QUIET,
    )
    predictions = new.get_extension("region_predictions")
    print(predictions.get_data().head().round(2).to_string())

    # %%
    # How good are they? Labels are also the unit property "predicted_brain_area".
    label = new.get_sorting_property("predicted_brain_area")
    is_known = np.isin(truth, predictions.classes)
    print(f"\nNew animal, {len(truth)} units in {len(np.unique(truth))} regions")
    for stage in ("probabilities", "smoothed"):
        found = predictions.get_data(outputs=stage)[is_known]
        scores = class_scores(truth[is_known], found, predictions.classes, units["subject"][is_known])
        print(f"  {stage:13s} balanced accuracy {scores.values['balanced_accuracy']:.2f}")
    named = label != "unknown"
    print(f"  {named.sum()} units are named, {(label == truth)[named].mean():.0%} of them right")

    # %%
    # Along the shank, beside histology
    # ---------------------------------
    # Suppose that histology has placed all regions 200 um too low: the probe sits deeper than assigned. The profile of
    # shifts, at the right of the figure, should say so.
    places = np.arange(0.0, sessions[-1].tracks["high_um"].max(), 20.0)
    assigned = regions_at(sessions[-1].tracks, places + HISTOLOGY_ERROR_UM)
    widget = si_neuroml.plot_region_track(new, assigned=(places, assigned))
    widget.figure.savefig(OUTPUTS / "brain_regions.png", dpi=150)
    plt.close(widget.figure)
    shift = widget.shift
    interval = f"{shift.low_um:.0f} to {shift.high_um:.0f} um"
    print(f"  shift found: {shift.best_um:.0f} um, {interval} (true: {HISTOLOGY_ERROR_UM:.0f} um)")
    for boundary in widget.boundaries:
        names = [predictions.classes[k] for k in (boundary.below, boundary.above)]
        print(f"  {' | '.join(names)}: {boundary.depth_um:.0f} um, {boundary.low_um:.0f} to {boundary.high_um:.0f}")
    print("  true boundaries (um):", sessions[-1].tracks["low_um"].iloc[1:].round().astype(int).tolist())

    print("\nWritten:")
    for name in ("brain_regions.csv", "region_classifier", "brain_regions.png"):
        print(f"  {OUTPUTS / name}")


def simulated_analyzer(session):
    """A session with templates, from 50 spikes of each unit."""
    analyzer = region_session_analyzer(session, sampling_frequency=10_000.0, contacts_per_shank=32, extensions=())
    analyzer.compute(
        ["random_spikes", "templates"], extension_params={"random_spikes": {"max_spikes_per_unit": 50}}, **QUIET
    )
    return analyzer


def regions_at(tracks, depth_um):
    """Regions at these depths of a track, "" beyond its end."""
    names = np.array([*tracks["region"], ""])
    return names[np.searchsorted(tracks["high_um"], depth_um)]


# the workers of SpikeInterface's pool import this file again where processes are spawned
if __name__ == "__main__":
    main()
