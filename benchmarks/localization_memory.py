"""Peak memory of one worker that localizes spikes, by number of channels, length of the recording and chunk.

Every case runs in a process of its own. What counts is its peak above what it held just before localize_peaks():
interpreter, libraries, model and traces (one piece of int16, repeated) are not the method's doing; the copy of one
chunk of traces that the pipeline makes for every method is in it, and is listed. SpikeInterface's methods are fed dense
waveforms: all channels of every spike in the chunk. 1,000 spikes per second except where it says otherwise. Other
methods than the three: --method.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _report import note, print_table, write_json

PIECE_S, SPIKES_PER_S = 1.0, 1000
BYTES_PER_S_AND_CHANNEL = 32_000 * 2
COLUMNS = {100: 10, 384: 16, 1536: 32}
METHODS = {"vae": "VAE", "center_of_mass": "SI center_of_mass", "grid_convolution": "SI grid_convolution"}
# of this package: numba compiles them
COMPILED = ("vae", "neural_posterior", "center_of_mass_nearest")
JOB = {"n_jobs": 1, "progress_bar": False}


def main():
    arguments = parse_arguments()
    if arguments.case:
        print(json.dumps(run_case(json.loads(arguments.case))))
        return
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        if "vae" in arguments.method:
            measure({"fit": True, "num_channels": 100, "seconds": 4, "model": model})
        for case in wanted(arguments.quick, arguments.method):
            cases.append({**case, **measure({**case, "model": model})})
            print(f"{case}: {cases[-1]['peak_mb']:.0f} MB", flush=True)
    report(cases, arguments.method)
    write_json(arguments.json, {"benchmark": "localization_memory", "arguments": vars(arguments), "cases": cases})


def wanted(quick, methods):
    """Channels; then at one number of channels length, chunk and spikes."""
    channels = (100, 384) if quick else (100, 384, 1536)
    varied = [(number, 10, 1.0, SPIKES_PER_S) for number in channels]
    varied += [(384, 20 if quick else 60, 1.0, SPIKES_PER_S), (384, 10, 0.25, SPIKES_PER_S)]
    if not quick:
        varied.append((384, 10, 1.0, 5 * SPIKES_PER_S))
    names = ("num_channels", "seconds", "chunk_s", "spikes_per_s")
    return [{"method": method, **dict(zip(names, values, strict=True))} for values in varied for method in methods]


def measure(case):
    """Run a case in a new process. This one imports nothing large: a child's peak starts at its parent's size."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(case)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_case(case):
    import time

    from _synthetic import lattice, repeated_recording
    from spikeinterface.sortingcomponents.peak_localization import localize_peaks

    import si_neuroml

    number = case["num_channels"]
    contacts = lattice(number, COLUMNS[number])
    recording, peaks = repeated_recording(contacts, PIECE_S, case["seconds"], case.get("spikes_per_s", SPIKES_PER_S))
    if case.get("fit"):
        model = si_neuroml.fit_localizer(recording, peaks, epochs=1, device="cpu", progress_bar=False, job_kwargs=JOB)
        model.save(case["model"])
        return {}
    options = {"model": si_neuroml.load_model(case["model"])} if case["method"] == "vae" else {}
    job = {**JOB, "chunk_duration": f"{case['chunk_s']}s"}
    # numba compiles here, at a cost in memory that no longer run has
    if case["method"] in COMPILED:
        localize_peaks(recording, peaks[:10], method=case["method"], method_kwargs=options, job_kwargs=job)
    held, start = forget_peak(), time.perf_counter()
    localize_peaks(recording, peaks, method=case["method"], method_kwargs=options, job_kwargs=job, seed=0)
    return {
        "peak_mb": (peak_bytes() - held) / 1e6,
        "process_peak_mb": peak_bytes() / 1e6,
        "held_before_mb": held / 1e6,
        "wall_s": time.perf_counter() - start,
        "num_spikes": len(peaks),
    }


def peak_bytes():
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def forget_peak():
    """Start a new peak at what the process holds now, and say how much that is; elsewhere than on Linux the old one."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return peak_bytes()


def report(cases, methods):
    names = ("num_channels", "seconds", "chunk_s", "spikes_per_s")
    rows = {}
    for case in cases:
        key = tuple(case[name] for name in names)
        rows.setdefault(key, {})[case["method"]] = (round(case["peak_mb"]), round(case["wall_s"], 1))
    table = []
    for (channels, seconds, chunk, rate), of in rows.items():
        traces = round(chunk * BYTES_PER_S_AND_CHANNEL * channels / 1e6)
        peaks, times = ([of[method][k] for method in methods] for k in range(2))
        megabytes = {METHODS.get(method, method): of[method][0] for method in methods}
        ours = ", ".join(f"{name} {value}" for name, value in megabytes.items() if not name.startswith("SI"))
        theirs = {name: value for name, value in megabytes.items() if name.startswith("SI")}
        note(f"MB above the start, {channels} channels, {seconds} s, chunks of {chunk:g} s", ours, theirs)
        table.append([str(channels), seconds, f"{chunk:g}", rate, traces, *peaks, *times])
    labels = [METHODS.get(method, method) for method in methods]
    header = ["channels", "s", "chunk s", "spikes/s", "chunk MB", *labels, *(f"{label}, s" for label in labels)]
    print_table("peak memory above the start in MB, and seconds", header, table)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 and 384 channels only")
    parser.add_argument("--method", nargs="+", default=list(METHODS), help="names of localize_peaks()")
    parser.add_argument("--json", default="outputs/benchmarks/localization_memory.json")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
