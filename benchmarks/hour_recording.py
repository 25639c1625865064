"""One hour x 384 channels x 30 kHz with 10 million spikes: minutes to localize them, and memory that stays the same.

The recording is a second of noise and spikes, repeated (83 GB if it were a file), its spikes are given as peaks. Places
go to a file as they come, as SpikeInterface does it with ``gather_mode="npy"``. Every case runs in a process of its
own; its memory is the peak above what it held before: interpreter, libraries, model, a second of traces, peaks. The
same with a tenth of the duration and of the spikes shows what grows with them. Numba compiles before, on a few spikes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _report import note, note_targets, print_table, write_json

NUM_CHANNELS, NUM_COLUMNS, RATE = 384, 16, 30_000.0
PIECE_S = 1.0
# what may be more in ten times the duration: bytes per spike, and what allocators do not give back
GROWTH_MB = 64.0


def main():
    arguments = parse_arguments()
    if arguments.case:
        print(json.dumps(run_case(**json.loads(arguments.case))))
        return
    cases = []
    for method in arguments.method:
        for share in (0.1, 1.0):
            case = {"method": method, "seconds": round(share * arguments.seconds), "jobs": arguments.jobs}
            case["spikes_per_s"] = arguments.spikes / arguments.seconds
            cases.append(case | measure(case))
            print(f"{method}, {case['seconds']} s: {cases[-1]['minutes']:.2f} min", flush=True)
    targets = report(cases, arguments.method)
    results = {"cases": cases, "targets": targets}
    write_json(arguments.json, {"benchmark": "hour_recording", "arguments": vars(arguments), **results})


def measure(case):
    """Run a case in a new process. This one imports nothing large: a child's peak starts at its parent's size."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(case)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_case(method, seconds, spikes_per_s, jobs):
    import time

    import numpy as np
    from _synthetic import lattice, repeated_recording
    from localization_memory import forget_peak, peak_bytes
    from spikeinterface.sortingcomponents.peak_localization import localize_peaks

    import si_neuroml

    contacts = lattice(NUM_CHANNELS, NUM_COLUMNS)
    options = {"sampling_frequency": RATE}
    recording, peaks = repeated_recording(contacts, PIECE_S, round(seconds / PIECE_S), spikes_per_s, **options)
    job = {"n_jobs": jobs, "pool_engine": "thread", "chunk_duration": "1s", "progress_bar": False}
    model = {}
    if method == "vae":
        few = {"max_peaks": 5000, "epochs": 1, "device": "cpu", "job_kwargs": job}
        model["model"] = si_neuroml.fit_localizer(recording, peaks[:5000], progress_bar=False, **few)
    localize_peaks(recording, peaks[:10], method=method, method_kwargs=model, job_kwargs={**job, "n_jobs": 1})
    with tempfile.TemporaryDirectory() as folder:
        gathered = {"gather_mode": "npy", "dest": str(Path(folder) / "places"), "names": ["places"]}
        held, start, used = forget_peak(), time.perf_counter(), time.process_time()
        options = {"method_kwargs": model, "pipeline_kwargs": gathered, "job_kwargs": job}
        places = localize_peaks(recording, peaks, method=method, **options)
        wall, used, peak = time.perf_counter() - start, time.process_time() - used, peak_bytes()
        assert len(places) == len(peaks)
        finite = all(np.isfinite(places[axis]).all() for axis in "xyz")
    return {
        "minutes": wall / 60,
        "processor_minutes": used / 60,
        "num_spikes": len(peaks),
        "spikes_per_wall_s": len(peaks) / wall,
        "peak_mb": (peak - held) / 1e6,
        "process_peak_mb": peak / 1e6,
        "held_before_mb": held / 1e6,
        "peaks_mb": peaks.nbytes / 1e6,
        "places_mb": len(peaks) * places.dtype.itemsize / 1e6,
        "all_finite": finite,
    }


def report(cases, methods):
    names = ("num_spikes", "minutes", "processor_minutes", "spikes_per_wall_s", "peak_mb", "process_peak_mb")
    rows = [[f"{case['method']}, {case['seconds']} s", *(_short(case[name]) for name in names)] for case in cases]
    header = ["384 channels, 30 kHz", "spikes", "min", "processor min", "spikes/s", "peak MB", "with all held"]
    print_table("localized into a file; peak above what was held before", header, rows)
    targets = {}
    for method in methods:
        short, whole = (case for case in cases if case["method"] == method)
        note(f"minutes for {whole['num_spikes']} spikes on {NUM_CHANNELS} channels, {method}", whole["minutes"])
        growth = whole["peak_mb"] - short["peak_mb"]
        targets[f"{method}: at most {GROWTH_MB:g} MB more in ten times the duration"] = growth <= GROWTH_MB
        targets[f"{method}: every place is a number"] = whole["all_finite"]
        print(f"{method}: {growth:+.0f} MB in ten times the duration; places are {whole['places_mb']:.0f} MB on disk")
    note_targets(targets)
    return targets


def _short(value):
    return round(value) if value >= 1000 else value


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one minute")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--spikes", type=int, default=10_000_000, help="in all of it")
    parser.add_argument("--method", nargs="+", default=["neural_posterior"], help="also vae, fitted on 5,000 spikes")
    parser.add_argument("--jobs", type=int, default=1, help="threads")
    parser.add_argument("--json", default="outputs/benchmarks/hour_recording.json")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.spikes = round(arguments.spikes * 60 / arguments.seconds)
        arguments.seconds = 60
    return arguments


if __name__ == "__main__":
    main()
