"""Detect events in voltage traces
===============================

Detect events in a simulated line scan of dendrites, and compare with the true events; then in real traces.

Run it with ``python examples/02_detect_events.py``; it takes about a minute. With the path of an ABF file of a
current-clamp experiment, ``python examples/02_detect_events.py cell.abf``, it also finds the action potentials in that
membrane potential. Everything it writes goes to the folder ``outputs``.
"""

# %%
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import spikeinterface.full as si
from scipy.signal import find_peaks

import si_neuroml
from si_neuroml.events.evaluation import event_scores

OUTPUTS = Path("outputs")
JOB_KWARGS = {"n_jobs": 2, "chunk_duration": "5s", "progress_bar": False}
NUM_LABELLED, NUM_NEW, NUM_SILENT = 12, 6, 1
MEMBRANE_RATE_HZ = 4000
PEAK_DTYPE = [(name, "int64") for name in ("sample_index", "channel_index", "segment_index")]


def main():
    OUTPUTS.mkdir(exist_ok=True)

    # %%
    # A line scan whose events are known
    # ----------------------------------
    # Two scans of the same dendrites at 3,328 Hz, two sites on each of 18 cells; the indicator dims when the membrane
    # depolarises. Twelve cells are labelled in the first scan. The second scan is the new recording: it shows these
    # cells again, and six that nobody labelled, one of which never fires.
    print("Simulating two scans ...")
    scan = si_neuroml.generate_voltage_imaging_recording(
        [30.0, 20.0], num_cells=NUM_LABELLED + NUM_NEW, sites_per_cell=2, num_silent_cells=NUM_SILENT, seed=0
    )
    cells = scan.recording.get_property("cell")
    is_labelled = scan.parameters["sites"]["cell_index"] < NUM_LABELLED
    labelled = scan.recording.select_segments([0]).select_channels(scan.recording.channel_ids[is_labelled])
    new = scan.recording.select_segments([1])
    labels = scan.events[(scan.events["segment_index"] == 0) & is_labelled[scan.events["channel_index"]]]
    true = scan.events[scan.events["segment_index"] == 1].copy()
    true["segment_index"] = 0
    print(f"{len(labels)} labelled events; {len(true)} in the new recording")

    # %%
    # Fit the default network, and the matched filter beside it
    # ---------------------------------------------------------
    # A quarter of the labelled cells is held out of the fit: the thresholds and the probability are learned there.
    detectors = {}
    for network in ("strided", "matched_filter"):
        start = time.perf_counter()
        detectors[network] = si_neuroml.fit_event_detector(labelled, labels, network=network, progress_bar=False)
        print(f"{network}: fitted in {time.perf_counter() - start:.0f} s")
        si_neuroml.save_model(detectors[network], OUTPUTS / f"event_detector_{network}", overwrite=True)

    # %%
    # Detect, in chunks and with two processes
    # ----------------------------------------
    # The events are the same for any chunk size and number of jobs. ``detect_peaks(method="learned_events")`` gives
    # them too, where the rest of your pipeline is SpikeInterface's.
    found = {
        name: si_neuroml.detect_events(new, OUTPUTS / f"event_detector_{name}", job_kwargs=JOB_KWARGS).events
        for name in detectors
    }

    # %%
    # How good are they?
    # ------------------
    # A found event is true within 0.9 ms of a true one, one to one. What counts are the cells that were not labelled;
    # the others are in the table to see how much easier those are. The interval comes from drawing cells again. Where
    # the network is not the better one, as may be with few labelled cells, use the matched filter.
    rows = {}
    for name, events in found.items():
        for group, chosen in (("labelled cells", is_labelled), ("new cells", ~is_labelled)):
            scores = event_scores(
                true[chosen[true["channel_index"]]],
                events[chosen[events["channel_index"]]],
                new.sampling_frequency,
                np.where(chosen, new.get_num_samples(), 0)[None],
                cells=cells,
            )
            low, high = scores.confidence["f1"]
            rows[name, group] = {
                **{key: scores.headline[key] for key in ("num_true", "num_found", "precision", "recall", "f1")},
                "f1 from": low,
                "f1 to": high,
                "average precision": scores.headline["average_precision"],
                "timing sd (ms)": scores.headline["sd_ms"],
                "false per min, silent": scores.silent["false_per_minute"],
            }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["detector", "cells"])
    print("\nEvents of the new recording\n")
    print(table.round(2).T.to_string())
    table.to_csv(OUTPUTS / "detect_events.csv")

    # %%
    # Look at them
    # ------------
    # Trace, probability of an event at each sample, true events, found events, stretches above the low threshold, and
    # which cells were labelled: one that was, one that was not, and the silent one.
    times = true["sample_index"][true["channel_index"] == np.flatnonzero(~is_labelled)[0]] / new.sampling_frequency
    middle = times[len(times) // 2]
    widget = si_neuroml.plot_event_traces(
        new,
        detectors["strided"],
        labels=true,
        channel_ids=[f"cell{cell}_site0" for cell in (0, NUM_LABELLED, NUM_LABELLED + NUM_NEW - 1)],
        time_range=(middle - 0.5, middle + 0.5),
        split={"labelled": np.unique(cells[is_labelled]), "new": np.unique(cells[~is_labelled])},
        unit="photons",
    )
    widget.figure.savefig(OUTPUTS / "detect_events.png", dpi=150)
    plt.close(widget.figure)
    written = ["event_detector_strided", "event_detector_matched_filter", "detect_events.csv", "detect_events.png"]

    # %%
    # Real membrane potential
    # -----------------------
    if len(sys.argv) > 1:
        written += detect_action_potentials(sys.argv[1])
    else:
        print("\nNo ABF file was given: the part on real membrane potential is left out.")
    print("\nWritten:")
    for name in written:
        print(f"  {OUTPUTS / name}")


def detect_action_potentials(path):
    """Learn action potentials from every other sweep of a current-clamp file, and find those of the others."""
    recording = si.read_axon(path)
    recording = recording.select_channels(recording.channel_ids[:1])
    num_sweeps = recording.get_num_segments()
    if recording.get_property("physical_unit")[0] != "mV":
        print(f"\n{path}: the first channel is no membrane potential in mV.")
        return []

    # %%
    # The labels come from a rule: peaks above -15 mV that stand out by 25 mV. The network learns from every other sweep
    # (some whole sweeps are held out of the fit), and should find by their shape the events that the rule finds in the
    # rest. A few samples per millisecond are enough for it.
    peaks = []
    for sweep in range(num_sweeps):
        trace_mv = recording.get_traces(segment_index=sweep, return_in_uV=True)[:, 0] / 1000
        samples, _ = find_peaks(trace_mv, height=-15, prominence=25)
        peaks.append(np.zeros(len(samples), dtype=PEAK_DTYPE))
        peaks[-1]["sample_index"] = np.round(samples * MEMBRANE_RATE_HZ / recording.sampling_frequency)
    recording = si.resample(recording, MEMBRANE_RATE_HZ)
    learned_from, others = list(range(0, num_sweeps, 2)), list(range(1, num_sweeps, 2))
    if min(sum(len(peaks[sweep]) > 0 for sweep in part) for part in (learned_from, others)) < 2:
        print(f"\n{path}: action potentials are needed in at least four of the {num_sweeps} sweeps.")
        return []
    sweeps = [recording.select_segments([sweep]) for sweep in learned_from]
    detector = si_neuroml.fit_event_detector(sweeps, [peaks[sweep] for sweep in learned_from], progress_bar=False)
    new = recording.select_segments(others)
    true = np.concatenate([peaks[sweep] for sweep in others])
    true["segment_index"] = np.repeat(np.arange(len(others)), [len(peaks[sweep]) for sweep in others])
    events = si_neuroml.detect_events(new, detector, job_kwargs=JOB_KWARGS).events
    lengths = np.array([[new.get_num_samples(sweep)] for sweep in range(len(others))])
    headline = event_scores(true, events, MEMBRANE_RATE_HZ, lengths).headline
    print(
        f"\n{Path(path).name}: of {len(true)} action potentials {headline['num_matched']} were found, and "
        f"{len(events) - headline['num_matched']} events that the rule does not name."
    )
    sweep = int(np.bincount(true["segment_index"]).argmax())
    times = new.sample_index_to_time(true["sample_index"][true["segment_index"] == sweep], segment_index=sweep)
    middle = times[len(times) // 2]
    widget = si_neuroml.plot_event_traces(
        new, detector, labels=true, segment_index=sweep, time_range=(middle - 0.25, middle + 0.25)
    )
    widget.figure.savefig(OUTPUTS / "detect_action_potentials.png", dpi=150)
    plt.close(widget.figure)
    return ["detect_action_potentials.png"]


# the workers of SpikeInterface's pool import this file again where processes are spawned
if __name__ == "__main__":
    main()
