"""A pipeline over one and two workers of a Dask cluster, and on paper over a thousand sessions.

Localizes the peaks of a recording of int16 samples in a folder, with run_node_pipeline() in this process, and with
run_sharded() on a cluster of one worker and of two (started before the clock), in turn. Results must be equal. What
one task costs the scheduler is measured with empty ones, reading and merging by themselves.

The table on paper is arithmetic with these figures: 1,000 sessions of 10 million spikes on 384 channels, an hour at
30 kHz each, for different numbers of workers and disks. Work is spread evenly, so that the time is that of whatever
saturates first: processors, the shared disk, or the scheduler.
"""

import os

# before numpy loads its threads
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import argparse  # noqa: E402
import shutil  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from _report import Target, print_table, report_targets, write_json  # noqa: E402
from _synthetic import lattice, repeated_recording  # noqa: E402
from spikeinterface.core.job_tools import divide_time_series_into_chunks  # noqa: E402
from spikeinterface.core.node_pipeline import PeakRetriever, run_node_pipeline  # noqa: E402
from spikeinterface.sortingcomponents.peak_localization import get_localization_pipeline_nodes  # noqa: E402

import si_neuroml  # noqa: E402
from si_neuroml.cluster import Task, open_client, run_tasks  # noqa: E402

JOB = {"n_jobs": 1, "chunk_duration": "1s", "progress_bar": False}
PAPER = {"spikes": 10_000_000, "channels": 384, "seconds": 3600.0, "rate": 30_000.0, "sessions": 1000}
WORKERS = (2, 16, 128, 1024)
DISKS_GB_S = (0.2, 2.0, 20.0)
# two workers of two cores that other work may share
TARGET_SPEEDUP = 1.6


def main():
    arguments = parse_arguments()
    folder = Path(tempfile.mkdtemp(prefix="cluster_scaling_"))
    try:
        results = measure(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    speedup = report(results)
    results["on_paper"] = report_on_paper(results)
    targets = [
        Target("cluster", "equal to one machine", str(results["equal"]), results["equal"]),
        Target("cluster", f"2 workers at least {TARGET_SPEEDUP} x 1", f"{speedup:.2f} x", speedup >= TARGET_SPEEDUP),
    ]
    report_targets(targets)
    results["targets"] = [target._asdict() for target in targets]
    write_json(arguments.json, {"benchmark": "cluster_scaling", "arguments": vars(arguments), **results})


def measure(arguments, folder):
    recording, peaks, read_s = saved_recording(arguments, folder)
    nodes = localization_nodes(recording, peaks)
    kwargs = {"job_kwargs": JOB, "shard_duration_s": arguments.shard_duration}
    whole = run_node_pipeline(recording, nodes, job_kwargs=JOB)
    seconds, equal, overhead = {"run_node_pipeline": []}, True, []
    with open_client(None, 1) as one, open_client(None, 2) as two:
        clients = {"1 worker": one, "2 workers": two}
        for client in clients.values():
            # imports and numba's compilation, which every worker of a cluster does once
            list(client.map(warm_up, [str(folder / "recording")] * 4, pure=False))
            client.gather(client.map(warm_up, [str(folder / "recording")] * 4, pure=False))
        for round_ in range(arguments.rounds):
            start = time.perf_counter()
            run_node_pipeline(recording, nodes, job_kwargs=JOB)
            seconds["run_node_pipeline"].append(time.perf_counter() - start)
            for name, client in clients.items():
                start = time.perf_counter()
                found = si_neuroml.run_sharded(recording, nodes, folder / f"{name} {round_}", client=client, **kwargs)
                seconds.setdefault(name, []).append(time.perf_counter() - start)
                equal &= np.array_equal(found, whole)
            overhead.append(time_empty_tasks(two, arguments.empty_tasks))
    samples = recording.get_total_samples()
    return {
        "seconds": seconds,
        "equal": bool(equal),
        "num_spikes": len(peaks),
        "num_channels": recording.get_num_channels(),
        "duration_s": recording.get_total_duration(),
        "bytes_per_sample": 2 * recording.get_num_channels(),
        "read_s_per_gb": read_s / (2e-9 * samples * recording.get_num_channels()),
        "task_ms": 1e3 * float(np.median(overhead)),
        "bytes_per_spike": whole.nbytes / len(whole),
        "shard_duration_s": arguments.shard_duration,
    }


def saved_recording(arguments, folder):
    """The recording in a folder, its peaks, and the seconds that reading it takes."""
    layout = lattice(arguments.channels, 10)
    num_pieces = max(1, round(arguments.duration / 10.0))
    recording, peaks = repeated_recording(layout, 10.0, num_pieces, arguments.spikes_per_s)
    recording = recording.save(folder=folder / "recording", **JOB, verbose=False)
    start = time.process_time()
    for segment, first, last in divide_time_series_into_chunks(recording, 30_000):
        recording.get_traces(segment_index=segment, start_frame=first, end_frame=last).sum()
    return recording, peaks, time.process_time() - start


def localization_nodes(recording, peaks):
    source = PeakRetriever(recording, peaks)
    return get_localization_pipeline_nodes(
        recording, source, method="neural_posterior", method_kwargs={}, job_kwargs={}
    )


def warm_up(path):
    import spikeinterface

    recording = spikeinterface.load(path)
    peaks = np.zeros(
        1,
        dtype=[(name, "int64") for name in ("sample_index", "channel_index")]
        + [("amplitude", "float64"), ("segment_index", "int64")],
    )
    peaks["sample_index"] = 1000
    run_node_pipeline(recording, localization_nodes(recording, peaks), job_kwargs=JOB)
    time.sleep(0.5)  # so that no worker takes all of these


def time_empty_tasks(client, number):
    """Seconds of client and scheduler per task."""
    start = time.perf_counter()
    tasks = {k: Task(int, (k,)) for k in range(number)}
    for _ in run_tasks(client, tasks, retries=0, description="", progress_bar=False):
        pass
    return (time.perf_counter() - start) / number


def report(results):
    medians = {name: float(np.median(times)) for name, times in results["seconds"].items()}
    alone = medians["1 worker"]
    rows = [
        [name, value, f"{alone / value:.2f}", f"{1e6 * value / results['num_spikes']:.1f}"]
        for name, value in medians.items()
    ]
    text = f"{results['num_spikes']} spikes, {results['num_channels']} channels, {results['duration_s']:.0f} s"
    print_table(f"neural_posterior, {text}", ["", "seconds", "x 1 worker", "us per spike"], rows)
    print(
        f"a task costs client and scheduler {results['task_ms']:.1f} ms, reading a GB {results['read_s_per_gb']:.2f} s"
    )
    ratios = [
        one / two for one, two in zip(results["seconds"]["1 worker"], results["seconds"]["2 workers"], strict=True)
    ]
    return float(np.median(ratios))


def report_on_paper(results):
    """Hours that 1,000 sessions take, by workers and disks, and what saturates."""
    gb = PAPER["sessions"] * PAPER["seconds"] * PAPER["rate"] * PAPER["channels"] * 2e-9
    spikes = PAPER["sessions"] * PAPER["spikes"]
    tasks = PAPER["sessions"] * PAPER["seconds"] / results["shard_duration_s"]
    per_spike = float(np.median(results["seconds"]["run_node_pipeline"])) / results["num_spikes"]
    reading = results["read_s_per_gb"] * results["bytes_per_sample"] * results["duration_s"] * 30_000 * 1e-9
    per_spike = max(per_spike - reading / results["num_spikes"], 0.0)  # reading is counted by itself
    processor_s = spikes * per_spike + gb * results["read_s_per_gb"]
    out_gb = spikes * results["bytes_per_spike"] * 1e-9
    rows, table = [], []
    for disk in DISKS_GB_S:
        for workers in WORKERS:
            # shards are written, read and written again when merged
            costs = {
                "processors": processor_s / workers,
                "disk": (gb + 3 * out_gb) / disk,
                "scheduler": tasks * results["task_ms"] * 1e-3,
            }
            slowest = max(costs, key=costs.get)
            hours = {name: value / 3600 for name, value in costs.items()}
            rows.append([f"{workers} workers, {disk:g} GB/s", *hours.values(), slowest])
            table.append({"workers": workers, "disk_gb_s": disk, "hours": hours, "saturates": slowest})
    print_table(
        f"on paper, hours: 1,000 sessions, {spikes / 1e9:.0f} billion spikes, {gb / 1e3:.0f} TB, "
        f"{tasks:.0f} tasks, {out_gb / 1e3:.1f} TB of results",
        ["", "processors", "disk", "scheduler", "saturates"],
        rows,
    )
    return table


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 s of recording, one round")
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--duration", type=float, default=120.0, help="seconds of recording")
    parser.add_argument("--spikes-per-s", type=float, default=2800.0)
    parser.add_argument("--shard-duration", type=float, default=10.0)
    parser.add_argument("--empty-tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file for the results")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.channels, arguments.duration, arguments.rounds = 64, 20.0, 1
        arguments.shard_duration, arguments.empty_tasks = 5.0, 200
    return arguments


if __name__ == "__main__":
    main()
