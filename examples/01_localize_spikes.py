"""Localize spikes
===============

Localize the spikes of a simulated recording, and compare with the true places of the cells.

Run it with ``make demo``, or from a clone with ``python examples/01_localize_spikes.py``. It takes about two minutes
the first time. Everything it writes goes to the folder ``outputs``.
"""

# %%
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import spikeinterface.full as si
from spikeinterface.sortingcomponents.peak_detection import detect_peaks
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

import si_neuroml
from si_neuroml.localization.evaluation import error_summary, match_peaks

OUTPUTS = Path("outputs")
JOB_KWARGS = {"n_jobs": 2, "chunk_duration": "1s", "progress_bar": True}

# a peak belongs to a true spike at most this far away in time, and from the main channel of that spike's unit
MAX_DELAY_MS = 0.4
MAX_DISTANCE_UM = 40.0


def main():
    OUTPUTS.mkdir(exist_ok=True)

    # %%
    # A recording whose answer is known
    # ---------------------------------
    # Thirty seconds of a square array of 100 contacts, 15 um apart, with 50 cells around it, simulated by MEArec. The
    # places of the somas are a property of the sorting. The second time the recording comes from the cache.
    print("Simulating 30 s on a square array (about half a minute; the second time it is there already) ...")
    recording, sorting = si_neuroml.generate_mearec_recording(
        "square_mea", duration=30.0, far_neurons_n=100, seed=0, cache_folder=OUTPUTS / "recordings"
    )
    true_locations = sorting.get_property("gt_unit_locations")

    # %%
    # Peaks, as you always detect them
    # --------------------------------
    peaks = detect_peaks(
        recording, method="locally_exclusive", method_kwargs={"detect_threshold": 6}, job_kwargs=JOB_KWARGS
    )
    print(f"{len(peaks)} peaks")

    # %%
    # Fit the localizer to this recording
    # -----------------------------------
    # No true place is used: the variational autoencoder learns from the waveforms alone. The model is saved as a folder
    # and can be used again for this recording, or for another one with the same probe.
    start = time.perf_counter()
    model = si_neuroml.fit_localizer(recording, peaks, seed=0)
    print(f"fitted in {time.perf_counter() - start:.0f} s")
    model_folder = si_neuroml.save_model(model, OUTPUTS / "localizer", overwrite=True)

    # %%
    # Localize with four methods
    # --------------------------
    # After ``import si_neuroml``, "vae" and "neural_posterior" are two more methods of SpikeInterface. The second needs
    # no fit: its network was trained on simulated recordings and comes with the package.
    method_kwargs = {
        "center_of_mass": {},
        "grid_convolution": {},
        "vae": {"model": model_folder},
        "neural_posterior": {},
    }
    locations, microseconds = {}, {}
    for method, kwargs in method_kwargs.items():
        start = time.perf_counter()
        locations[method] = localize_peaks(
            recording, peaks, method=method, method_kwargs=kwargs, seed=0, job_kwargs=JOB_KWARGS
        )
        microseconds[method] = 1e6 * (time.perf_counter() - start) / len(peaks)

    # %%
    # Which cell fired each peak?
    # ---------------------------
    # Decided by time and by the channel of the peak, and not by any of the estimates that are to be judged.
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=False)
    main_channels = analyzer.get_main_channels(outputs="index", with_dict=False)
    spikes = sorting.to_spike_vector()
    contacts = recording.get_channel_locations()
    peak_of_spike = match_peaks(
        peaks["sample_index"],
        contacts[peaks["channel_index"]],
        spikes["sample_index"],
        contacts[main_channels[spikes["unit_index"]]],
        max_samples=round(MAX_DELAY_MS * recording.sampling_frequency / 1000),
        max_distance_um=MAX_DISTANCE_UM,
    )
    units = spikes["unit_index"][peak_of_spike >= 0]
    known = peak_of_spike[peak_of_spike >= 0]
    print(f"{len(known)} of {len(peaks)} peaks belong to a true spike ({len(spikes)} of these in all)")

    # %%
    # How far off are they?
    # ---------------------
    # Distances in the plane of the array between the estimate and the soma of the cell that fired. Cells beyond the
    # contacts are harder, so that they are counted apart.
    rows = {}
    for method, found in locations.items():
        summary = error_summary(found[known], true_locations, units, contacts)
        rows[method] = {
            "mean": summary["per_spike"]["mean"],
            "median": summary["per_spike"]["median"],
            "95th percentile": summary["per_spike"]["p95"],
            "mean inside": summary["inside"]["per_spike"]["mean"],
            "mean outside": summary["outside"]["per_spike"]["mean"],
            "in 90 % interval": 100 * summary["coverage"]["0.9"] if summary["coverage"] else None,
            "µs per spike": microseconds[method],
        }
    table = pd.DataFrame.from_dict(rows, orient="index").round(1)
    print(f"\nError in the plane in µm; {summary['fraction_outside']:.0%} of the spikes come from outside the array\n")
    print(table.to_string())
    table.to_csv(OUTPUTS / "localize_spikes.csv", index_label="method")

    # %%
    # Look at them
    # ------------
    # Spikes and stars (the true somas) have the colour of their cell; peaks of unknown origin are left out. The
    # ellipses show how sure the localizer is of some of its spikes.
    widget = si_neuroml.plot_spike_locations_on_probe(
        recording,
        peaks[known],
        {f"{method}, mean error {rows[method]['mean']:.0f} µm": found[known] for method, found in locations.items()},
        labels=units,
        true_locations=true_locations,
        max_spikes_per_unit=80,
        with_uncertainty=True,
    )
    widget.figure.savefig(OUTPUTS / "localize_spikes.png", dpi=150)
    plt.close(widget.figure)

    print("\nWritten:")
    for name in ("localizer", "localize_spikes.csv", "localize_spikes.png"):
        print(f"  {OUTPUTS / name}")


# the workers of SpikeInterface's pool import this file again where processes are spawned
if __name__ == "__main__":
    main()
