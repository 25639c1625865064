"""How many times faster than real time detectors of events are, and how much memory a long recording takes.

Speed: one channel at 3,328 Hz, one core, one thread, all detectors in turn, A B C A B C, in one run.

net             scores of conditioned traces, in one piece
detector        conditioning, scores and picking of raw traces, in one piece
detect_peaks    detect_peaks(method="learned_events") of the recording in chunks of 10 s, with their margins

Memory: detect_peaks() with the default network on 64 sites, int16 on disk, chunks of 1 s, every case in a process of
its own. What counts is its peak above what it held just before, less the events that it returns, with noise levels
given: that must not grow with the length of the recording. Measuring noise levels reads up to 40 s of traces at once.
Seconds are those of the processor.
"""

import os

# before numpy loads its threads
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import argparse  # noqa: E402
import ctypes  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from _event_detectors import RATE, detector_of, repeated, simulated, speed_relevant  # noqa: E402
from _report import note, note_targets, print_table, write_json  # noqa: E402
from spikeinterface.sortingcomponents.peak_detection import detect_peaks  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

from si_neuroml import load_model, save_model  # noqa: E402
from si_neuroml.events.conditioning import condition_traces  # noqa: E402
from si_neuroml.events.nodes import DetectLearnedEvents  # noqa: E402

DEFAULT, RIVAL = "strided", "bilstm"
DETECTORS = (DEFAULT, RIVAL, "tcn", "transformer", "unet", "svm", "matched_filter", "threshold")
JOB = {"n_jobs": 1, "chunk_duration": "10s", "progress_bar": False}
WAYS = ("net", "detector", "detect_peaks")
# a clock is read before and after at least so many seconds of work
MIN_S, MAX_REPEATS = 0.05, 200
TARGET_REAL_TIME, TARGET_RATIO = 1000.0, 10.0
# peaks at two lengths that differ by less than this, in share and in MB, are equal
EQUAL_SHARE, EQUAL_MB = 0.15, 4.0
NUM_SITES, PIECE_S = 64, 20.0


def main():
    arguments = parse_arguments()
    results = {"benchmark": "events_speed", "arguments": vars(arguments), "targets": {}}
    if "speed" in arguments.parts:
        with threadpool_limits(1):
            results["speed"] = time_in_turn(arguments)
        results["targets"] |= report_speed(results["speed"])
        write_json(arguments.json, results)
    if "memory" in arguments.parts:
        results["memory"] = measure_memory(arguments)
        results["targets"] |= report_memory(results["memory"])
    note_targets(results["targets"])
    write_json(arguments.json, results)


def time_in_turn(arguments):
    """Multiples of real time of every detector, by way and round."""
    training = simulated(20.0, 4, 2, seed=1, polarity="neg")
    piece, _ = simulated(min(arguments.seconds, PIECE_S), 1, 1, seed=2)
    recording = repeated(piece, max(1, round(arguments.seconds / PIECE_S)))
    cases = {name: case_of(name, training, recording, arguments) for name in arguments.detectors}
    rounds = {name: {way: [] for way in WAYS} for name in cases}
    for case in cases.values():
        # numba compiles, torch builds its module
        for way in WAYS:
            case[way]()
    for _ in range(arguments.rounds):
        for name, case in cases.items():
            for way in WAYS:
                rounds[name][way].append(recording.get_total_duration() / seconds_of(case[way]))
    return {name: {**ways, **cases[name]["about"]} for name, ways in rounds.items()}


def case_of(name, training, recording, arguments):
    """What is timed of one detector."""
    detector = detector_of(name, training, recording, arguments.svm_samples)
    traces, noise = recording.get_traces(), DetectLearnedEvents(recording, detector).noise_levels
    options = {**detector.settings.baseline, "polarity": detector.settings.polarity, "noise_levels": noise}
    x = condition_traces(traces, 0, **options)

    def whole():
        scores, first = detector.scores(traces, 0, len(traces), noise=noise)
        return detector.events(scores, first, (0, len(traces)))

    def peaks():
        own = {"model": detector, "noise_levels": noise}
        return detect_peaks(recording, method="learned_events", method_kwargs=own, job_kwargs=JOB)

    about = speed_relevant(detector) | {"events_per_s": len(whole()) / recording.get_total_duration()}
    return {"net": lambda: detector.scorer.scores(x), "detector": whole, "detect_peaks": peaks, "about": about}


def seconds_of(work):
    """Of the processor, for one go; several goes where one is too short for the clock."""
    repeats, start = 0, time.process_time()
    while repeats == 0 or (time.process_time() - start < MIN_S and repeats < MAX_REPEATS):
        work()
        repeats += 1
    return (time.process_time() - start) / repeats


def report_speed(speed):
    medians = {name: {way: float(np.median(ways[way])) for way in WAYS} for name, ways in speed.items()}
    rows = []
    for name, ways in medians.items():
        ratio = ways["net"] / medians[RIVAL]["net"] if RIVAL in medians else None
        about = speed[name]
        listed = " ".join(f"{value:.0f}" for value in about["net"])
        row = [name, about["num_values"], about["margin"], round(about["events_per_s"], 1)]
        rows.append([*row, *(f"{ways[way]:,.0f}" for way in WAYS), ratio, listed])
    header = ["", "weights", "margin", "events/s", *WAYS, f"net x {RIVAL}", "net, rounds"]
    print_table("times real time, one channel at 3,328 Hz on one core, median of the rounds", header, rows)
    others = {name: f"{ways['detector']:,.0f}" for name, ways in medians.items() if name != DEFAULT}
    if DEFAULT in medians:
        note(f"times real time, {DEFAULT}, whole detector", f"{medians[DEFAULT]['detector']:,.0f}", others)
    targets = {}
    if DEFAULT in medians:
        value = medians[DEFAULT]["detector"]
        text = f"{DEFAULT}, whole detector at least {TARGET_REAL_TIME:g} times real time: {value:.0f}"
        targets[text] = value >= TARGET_REAL_TIME
    if DEFAULT in medians and RIVAL in medians:
        value = medians[DEFAULT]["net"] / medians[RIVAL]["net"]
        targets[f"{DEFAULT} at least {TARGET_RATIO:g} times as fast as {RIVAL}: {value:.1f}"] = value >= TARGET_RATIO
    return targets


def measure_memory(arguments):
    """Peaks at several lengths and chunks of the recording, each in a new process."""
    lengths = (20.0, 60.0) if arguments.quick else (60.0, 600.0)
    values = [(seconds, 1.0, True) for seconds in lengths] + [(lengths[0], 1.0, False)]
    values += [(lengths[0], chunk, True) for chunk in ((4.0,) if arguments.quick else (0.25, 4.0, 10.0))]
    cases = [dict(zip(("seconds", "chunk_s", "noise_given"), of, strict=True)) for of in values]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_recording(Path(folder), max(lengths))
        for case in cases:
            case |= run_case(case, folder)
            print(f"{case['seconds']:g} s, chunks of {case['chunk_s']:g} s: {case['peak_mb']:.1f} MB", flush=True)
    return cases


def write_recording(folder, seconds):
    """One piece of a simulation again and again as raw int16; the detector, and the noise levels."""
    recording, _ = simulated(PIECE_S, NUM_SITES // 4, 4, dtype="int16")
    one_site = recording.select_channels(recording.channel_ids[:1])
    detector = detector_of(DEFAULT, None, one_site, 0)
    save_model(detector, folder / "model")
    np.save(folder / "noise.npy", DetectLearnedEvents(recording, detector).noise_levels)
    traces = recording.get_traces().tobytes()
    with open(folder / "traces.raw", "wb") as file:
        for _ in range(round(seconds / PIECE_S)):
            file.write(traces)


def run_case(case, folder):
    command = [sys.executable, __file__, "--case", json.dumps({**case, "folder": folder})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def memory_case(case):
    """In its own process: the peak of one detection."""
    from spikeinterface.core import read_binary

    folder = Path(case["folder"])
    recording = read_binary(folder / "traces.raw", RATE, "int16", NUM_SITES)
    length = round(case["seconds"] * RATE)
    recording = recording.frame_slice(0, length)
    own = {"model": load_model(folder / "model"), "noise_levels": np.load(folder / "noise.npy")}
    job = {**JOB, "chunk_duration": f"{case['chunk_s']}s"}
    # numba compiles here, at a cost in memory that no longer run has
    few, nothing = recording.frame_slice(0, round(0.2 * RATE)), {**own, "noise_levels": None}
    for options in (own, nothing):
        detect_peaks(few, method="learned_events", method_kwargs=options, job_kwargs=job)
    held, start = forget_peak(), time.perf_counter()
    options = own if case["noise_given"] else nothing
    peaks = detect_peaks(recording, method="learned_events", method_kwargs=options, job_kwargs=job)
    return {
        "peak_mb": (peak_bytes() - held) / 1e6,
        "held_before_mb": held / 1e6,
        "events_mb": peaks.nbytes / 1e6,
        "num_events": len(peaks),
        "traces_mb": length * NUM_SITES * 2 / 1e6,
        "chunk_mb": case["chunk_s"] * RATE * NUM_SITES * 2 / 1e6,
        "wall_s": time.perf_counter() - start,
    }


def peak_bytes():
    """Highest memory of this process; on Linux since :func:`forget_peak`."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(lines[0][1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def forget_peak():
    """Start a new peak at what the process holds now, and say how much that is; elsewhere than on Linux the old one."""
    # what numba's compiler gave back to the C library would hide as much of what follows
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        gc.collect()
        library.malloc_trim(0)
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return peak_bytes()


def report_memory(cases):
    rows = [
        [
            f"{case['seconds']:g}",
            f"{case['chunk_s']:g}",
            "given" if case["noise_given"] else "measured",
            *(round(case[name], 1) for name in ("traces_mb", "chunk_mb", "peak_mb", "events_mb")),
            case["num_events"],
            round(case["wall_s"], 1),
        ]
        for case in cases
    ]
    header = ["s", "chunk s", "noise", "traces MB", "chunk MB", "peak MB", "events MB", "events", "wall s"]
    print_table(f"peak memory of detect_peaks() above the start, {NUM_SITES} sites, {DEFAULT}", header, rows)
    short, long = cases[:2]
    # SpikeInterface holds the events of the chunks and, for a moment, all of them in one array
    own = [case["peak_mb"] - 2 * case["events_mb"] for case in (short, long)]
    allowed = own[0] * (1 + EQUAL_SHARE) + EQUAL_MB
    text = f"memory of {long['seconds']:g} s ({own[1]:.1f} MB beyond twice the events) as of {short['seconds']:g} s"
    text += f" ({own[0]:.1f})"
    return {text: own[1] <= allowed}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 s of traces, two rounds, 64 sites for a minute")
    parser.add_argument("--parts", nargs="+", default=["speed", "memory"], choices=["speed", "memory"])
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=DETECTORS)
    parser.add_argument("--seconds", type=float, default=40.0, help="of the channel")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--svm-samples", type=int, default=20_000, help="to train the support vector machine on")
    parser.add_argument("--folder", help="for the recording on disk (256 MB); default: that of temporary files")
    parser.add_argument("--json", help="default: outputs/benchmarks/events_speed.json, with --quick ..._quick.json")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(memory_case(json.loads(arguments.case))))
        sys.exit()
    if arguments.quick:
        arguments.seconds, arguments.rounds, arguments.svm_samples = 10.0, 2, 2000
    arguments.json = arguments.json or f"outputs/benchmarks/events_speed{'_quick' if arguments.quick else ''}.json"
    return arguments


if __name__ == "__main__":
    main()
