"""Microseconds per spike and core of localize_peaks(), ours against SpikeInterface's methods, in one run.

A million spikes on the 100-channel square array (32 kHz, int16, 5,000 spikes per second) through
localize_peaks(method="vae"): one job, one thread, cutting the waveforms included. Then all methods in turn, A B C D A B
C D, on the same first spikes, since monopolar_triangulation takes milliseconds for each. "net" takes off what a pass
over the same chunks costs that reads the traces and does nothing, and what the method costs before its first spike.
Seconds are those of the processor, so that other work on the machine counts less. The traces lie in memory: a disk adds
its time to every method alike.
"""

import os

# before numpy loads its threads
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import argparse  # noqa: E402
import time  # noqa: E402

import numpy as np  # noqa: E402
from _report import note, note_targets, print_table, write_json  # noqa: E402
from _synthetic import lattice, repeated_recording  # noqa: E402
from spikeinterface.core.node_pipeline import PeakRetriever, PipelineNode, run_node_pipeline  # noqa: E402
from spikeinterface.sortingcomponents.peak_localization import localize_peaks  # noqa: E402
from spikeinterface.sortingcomponents.tools import get_prototype_and_waveforms_from_peaks  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

import si_neuroml  # noqa: E402

PIECE_S, SPIKES_PER_S = 20.0, 5000.0
JOB = {"n_jobs": 1, "chunk_duration": "1s", "progress_bar": False}
TARGET_US, TARGET_MONOPOLAR = 30.0, 50.0
# few enough that what is left is what a method costs before its first spike
FEW = 50


class Nothing(PipelineNode):
    """A chunk is read and nothing done with it: what every localizer pays for the traces."""

    def __init__(self, recording, parents):
        PipelineNode.__init__(self, recording, return_output=True, parents=parents)

    def get_margin(self):  # noqa: D102
        return 32

    def compute(self, traces, peaks):  # noqa: D102
        return np.zeros(len(peaks), dtype="int8")


def main():
    arguments = parse_arguments()
    with threadpool_limits(1):
        num_pieces = max(1, round(arguments.spikes / (PIECE_S * SPIKES_PER_S)))
        recording, peaks = repeated_recording(lattice(100, 10), PIECE_S, num_pieces, SPIKES_PER_S)
        peaks = peaks[: arguments.spikes]
        print(f"{len(peaks)} spikes, {recording.get_total_duration():.0f} s, 100 channels, {recording.get_dtype()}")
        start = time.perf_counter()
        model = si_neuroml.fit_localizer(
            recording, peaks, max_peaks=5000, epochs=2, device="cpu", progress_bar=False, job_kwargs=JOB
        )
        num_slots, num_samples = len(model.slot_offsets), sum(model.window[:2])
        print(f"model fitted in {time.perf_counter() - start:.1f} s: {num_slots} channels x {num_samples} samples")
        compiled(recording, peaks, model)
        whole = time_whole(recording, peaks, model)
        parts = time_in_turn(recording, peaks, model, arguments)
    targets = report(whole, parts, len(peaks))
    results = {"whole": whole, "in_turn": parts, "targets": targets, "num_spikes": len(peaks)}
    write_json(arguments.json, {"benchmark": "localization_speed", "arguments": vars(arguments), **results})


def compiled(recording, peaks, model):
    """Let numba compile before anything is timed."""
    for method, options in (("vae", {"model": model}), ("center_of_mass_nearest", {"num_channels": 9})):
        localize_peaks(recording, peaks[:FEW], method=method, method_kwargs=options, job_kwargs=JOB)


def time_whole(recording, peaks, model):
    start = time.perf_counter()
    total = timed(recording, peaks, "vae", {"model": model})
    wall = time.perf_counter() - start
    return {"seconds": total, "wall_seconds": wall, "reading_seconds": time_reading(recording, peaks)}


def time_in_turn(recording, peaks, model, arguments):
    """Rounds of all methods on the first spikes; seconds by method, in the order they were taken."""
    size = min(arguments.subset, len(peaks))
    last = int(peaks["sample_index"][size - 1]) + 100
    # the traces of these spikes and no more: a spike meets the same density of spikes and reading as in the whole
    short, few = recording.select_segments([0]).frame_slice(0, last), peaks[:size]
    # grid_convolution measures its prototype from the recording, once; that is not a cost per spike
    prototype, _, _ = get_prototype_and_waveforms_from_peaks(
        short, peaks=few, n_peaks=2000, ms_before=0.5, ms_after=0.5, job_kwargs=JOB, seed=0
    )
    methods = {
        "VAE": ("vae", {"model": model}),
        "SI center_of_mass": ("center_of_mass", {}),
        "SI grid_convolution": ("grid_convolution", {"prototype": prototype}),
        "SI monopolar": ("monopolar_triangulation", {"radius_um": 50}),
    }
    seconds = {name: [] for name in methods}
    for _ in range(arguments.rounds):
        for name, (method, options) in methods.items():
            seconds[name].append(timed(short, few, method, options))
    before_first = {name: timed(short, few[:FEW], method, options) for name, (method, options) in methods.items()}
    reading = [time_reading(short, few) for _ in range(arguments.rounds)]
    return {"num_spikes": size, "seconds": seconds, "seconds_of_few": before_first, "reading_seconds": reading}


def timed(recording, peaks, method, options):
    start = time.process_time()
    found = localize_peaks(recording, peaks, method=method, method_kwargs=options, job_kwargs=JOB)
    seconds = time.process_time() - start
    if len(found) != len(peaks):
        raise RuntimeError(f"{method} returned {len(found)} places for {len(peaks)} spikes.")
    return seconds


def time_reading(recording, peaks):
    source = PeakRetriever(recording, peaks)
    start = time.process_time()
    run_node_pipeline(recording, [source, Nothing(recording, [source])], JOB, job_name="read", squeeze_output=True)
    return time.process_time() - start


def report(whole, parts, num_spikes):
    per_spike = 1e6 / num_spikes
    total, net = whole["seconds"] * per_spike, (whole["seconds"] - whole["reading_seconds"]) * per_spike
    print(
        f"\nlocalize_peaks(method='vae') on {num_spikes} spikes: {whole['seconds']:.1f} s (wall "
        f"{whole['wall_seconds']:.1f}), of which {whole['reading_seconds']:.1f} s reading: {total:.1f} us per spike "
        f"and core, {net:.1f} net of reading"
    )
    size = parts["num_spikes"]
    totals = {name: 1e6 * float(np.median(values)) / size for name, values in parts["seconds"].items()}
    nets = {
        name: 1e6 * (float(np.median(values)) - parts["seconds_of_few"][name]) / (size - FEW)
        for name, values in parts["seconds"].items()
    }
    rows = []
    for name, values in parts["seconds"].items():
        rounds = " ".join(f"{1e6 * value / size:.0f}" for value in values)
        rows.append([name, totals[name], nets[name], totals[name] / totals["VAE"], nets[name] / nets["VAE"], rounds])
    header = ["", "us per spike", "net", "x VAE", "x VAE, net", "rounds"]
    print_table(f"in turn on {size} spikes, median of {len(values)} rounds", header, rows)
    note("us per spike, vae", totals["VAE"], {name: us for name, us in totals.items() if name != "VAE"})
    targets = {
        f"at most {TARGET_US:g} us per spike": total <= TARGET_US,
        f"at least {TARGET_MONOPOLAR:g} times faster than SI monopolar": totals["SI monopolar"]
        >= TARGET_MONOPOLAR * totals["VAE"],
        "no slower than SI grid_convolution": totals["VAE"] <= totals["SI grid_convolution"],
    }
    note_targets(targets)
    return targets


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 spikes")
    parser.add_argument("--spikes", type=int, default=1_000_000)
    parser.add_argument("--subset", type=int, default=10_000, help="spikes for all methods in turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="outputs/benchmarks/localization_speed.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.spikes, arguments.subset, arguments.rounds = 50_000, 2000, 2
    return arguments


if __name__ == "__main__":
    main()
