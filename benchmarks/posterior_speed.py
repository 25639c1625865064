"""Microseconds per spike and core of localize_peaks(method="neural_posterior"), cutting the waveforms included.

Like localization_speed.py, on the same recording of a million spikes: first all spikes, which must take at most 40 us
each, then all methods in turn on the same first spikes. Seconds are those of the processor; one job, one thread.
Memory of a worker: python benchmarks/localization_memory.py --method neural_posterior grid_convolution
"""

# first, since it sets the number of threads before numpy reads it
import localization_speed as base  # noqa: I001

import argparse
import time

import numpy as np
from _report import note, note_targets, print_table, write_json
from _synthetic import lattice, repeated_recording
from spikeinterface.sortingcomponents.tools import get_prototype_and_waveforms_from_peaks
from threadpoolctl import threadpool_limits

import si_neuroml

TARGET_US = 40.0
OURS = "neural_posterior"


def main():
    arguments = parse_arguments()
    options = {"model": arguments.model}
    with threadpool_limits(1):
        num_pieces = max(1, round(arguments.spikes / (base.PIECE_S * base.SPIKES_PER_S)))
        recording, peaks = repeated_recording(lattice(100, 10), base.PIECE_S, num_pieces, base.SPIKES_PER_S)
        peaks = peaks[: arguments.spikes]
        print(f"{len(peaks)} spikes, {recording.get_total_duration():.0f} s, 100 channels, {recording.get_dtype()}")
        vae = si_neuroml.fit_localizer(
            recording, peaks, max_peaks=5000, epochs=2, device="cpu", progress_bar=False, job_kwargs=base.JOB
        )
        for method, own in ((OURS, options), ("vae", {"model": vae})):
            base.timed(recording, peaks[: base.FEW], method, own)  # numba compiles
        whole = time_whole(recording, peaks, options)
        parts = time_in_turn(recording, peaks, options, vae, arguments)
    targets = report(whole, parts, len(peaks))
    results = {"whole": whole, "in_turn": parts, "targets": targets, "num_spikes": len(peaks)}
    write_json(arguments.json, {"benchmark": "posterior_speed", "arguments": vars(arguments), **results})


def time_whole(recording, peaks, options):
    start = time.perf_counter()
    seconds = base.timed(recording, peaks, OURS, options)
    wall = time.perf_counter() - start
    return {"seconds": seconds, "wall_seconds": wall, "reading_seconds": base.time_reading(recording, peaks)}


def time_in_turn(recording, peaks, options, vae, arguments):
    """Rounds of all methods on the first spikes; monopolar_triangulation, milliseconds each, on the first of these."""
    size = min(arguments.subset, len(peaks))
    few = min(arguments.monopolar_spikes, size)
    prototype, _, _ = get_prototype_and_waveforms_from_peaks(
        recording.select_segments([0]),
        peaks=peaks[:few],
        n_peaks=2000,
        ms_before=0.5,
        ms_after=0.5,
        job_kwargs=base.JOB,
        seed=0,
    )
    methods = {
        OURS: (OURS, options, size),
        "VAE": ("vae", {"model": vae}, size),
        "SI center_of_mass": ("center_of_mass", {}, size),
        "SI grid_convolution": ("grid_convolution", {"prototype": prototype}, size),
        "SI monopolar": ("monopolar_triangulation", {"radius_um": 50}, few),
    }
    us = {name: [] for name in methods}
    for _ in range(arguments.rounds):
        for name, (method, own, number) in methods.items():
            # the traces of these spikes and no more
            last = int(peaks["sample_index"][number - 1]) + 100
            short = recording.select_segments([0]).frame_slice(0, last)
            us[name].append(1e6 * base.timed(short, peaks[:number], method, own) / number)
    return {"us_per_spike": us, "num_spikes": {name: number for name, (_, _, number) in methods.items()}}


def report(whole, parts, num_spikes):
    total = 1e6 * whole["seconds"] / num_spikes
    print(
        f"\nlocalize_peaks(method={OURS!r}) on {num_spikes} spikes: {whole['seconds']:.1f} s (wall "
        f"{whole['wall_seconds']:.1f}), of which {whole['reading_seconds']:.1f} s reading: {total:.1f} us per spike "
        "and core"
    )
    medians = {name: float(np.median(values)) for name, values in parts["us_per_spike"].items()}
    rows = [
        [name, parts["num_spikes"][name], value, value / medians[OURS], " ".join(f"{us:.0f}" for us in rounds)]
        for (name, rounds), value in zip(parts["us_per_spike"].items(), medians.values(), strict=True)
    ]
    print_table("in turn, median of the rounds", ["", "spikes", "us per spike", f"x {OURS}", "rounds"], rows)
    note(f"us per spike, {OURS}", medians[OURS], {name: us for name, us in medians.items() if name != OURS})
    targets = {
        f"at most {TARGET_US:g} us per spike and core": total <= TARGET_US,
        "no slower than SI grid_convolution": medians[OURS] <= medians["SI grid_convolution"],
    }
    note_targets(targets)
    return targets


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 spikes")
    parser.add_argument("--spikes", type=int, default=1_000_000)
    parser.add_argument("--subset", type=int, default=20_000, help="spikes for the methods in turn")
    parser.add_argument("--monopolar-spikes", type=int, default=2000, help="of these for monopolar_triangulation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="a model folder instead of the shipped weights")
    parser.add_argument("--json", default="outputs/benchmarks/posterior_speed.json")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.spikes, arguments.subset, arguments.monopolar_spikes, arguments.rounds = 50_000, 10_000, 500, 3
    return arguments


if __name__ == "__main__":
    main()
