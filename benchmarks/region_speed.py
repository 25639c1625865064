"""PSTHs and features of a long session streamed from HDF5, and how many times faster than plain numpy and elephant.

Session: 150 million spikes of 1,000 units (log-normal rates, refractory and bursty trains on samples of 30 kHz, float64
seconds, 8 bytes each: float32 seconds are off by up to half a millisecond after two hours) and 1,000 events, written
to a temporary folder and deleted. Everything is computed in a process of its own, its peak memory includes Python and
all imports; the file is dropped from the cache of the system before, where that is possible. Blocks are read while two
threads compute. The same with a tenth of the units shows that memory follows units, not spikes.

In turn, A B C A B C in one run, on a slice that is in memory, one thread, seconds of the processor:

si_neuroml PSTH       count_psth()
si_neuroml            region_arrays(): PSTH, its features and all statistics of the trains
numpy, near spikes    one np.histogram per unit and event, of the spikes that np.searchsorted finds around the event
numpy, all spikes     one np.histogram per unit and event, of the whole train; on the first events only
elephant              neo's time_slice() and time_shift() per event, elephant's time_histogram(); isi, cv, cv2, lv, lvr

Their counts must be equal and their statistics agree. elephant computes no log-ISI histogram, autocorrelogram or
bursts here, si_neuroml does.
"""

import os

# before numba and numpy count their threads
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import h5py  # noqa: E402
import numpy as np  # noqa: E402

from si_neuroml.regions.psth import PsthSettings, count_psth  # noqa: E402
from si_neuroml.regions.streaming import region_arrays  # noqa: E402

RATE, SECONDS = 30_000, 9000.0
OURS, PSTH, NEAR, ALL, ELEPHANT = "si_neuroml", "si_neuroml PSTH", "numpy, near spikes", "numpy, all spikes", "elephant"
TARGET_S, TARGET_GIB, TARGET_RATIO = 60.0, 2.0, 20.0
STATISTICS = ("cv", "cv2", "lv", "lvr")


def main():
    arguments = parse_arguments()
    if arguments.case:
        print(json.dumps(stream(**json.loads(arguments.case))))
        return
    # after that the process that measures memory has returned
    from _report import write_json

    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        file = Path(folder) / "session.h5"
        written = write_session(file, arguments)
        sessions = [run_case(file, num_units) for num_units in (arguments.units, arguments.units // 10)]
        turns = time_in_turn(*read_slice(file, arguments), arguments)
    targets = report(written, sessions, turns)
    results = {"written": written, "sessions": sessions, "in_turn": turns, "targets": targets}
    write_json(arguments.json, {"benchmark": "region_speed", "arguments": vars(arguments), **results})


def write_session(file, arguments):
    """Units one after the other, never the whole session in memory."""
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    rates = rng.lognormal(0.0, 1.0, arguments.units)
    sizes = np.floor(arguments.spikes * rates / rates.sum()).astype("int64")
    sizes[0] += arguments.spikes - sizes.sum()
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    with h5py.File(file, "w") as session:
        spikes = session.create_dataset("spikes", shape=(arguments.spikes,), dtype="float64")
        for unit, size in enumerate(sizes):
            spikes[offsets[unit] : offsets[unit + 1]] = train_of(size, rng)
        session["offsets"], session["unit_ids"] = offsets, np.arange(arguments.units)
        session["onsets_s"] = np.sort(rng.uniform(2.0, SECONDS - 2.0, arguments.events))
        session.flush()
    return {"seconds": time.perf_counter() - start, "gb": file.stat().st_size / 1e9, "largest_unit": int(sizes.max())}


def train_of(size, rng):
    """Sorted times in s of one unit that fills the session: short ISIs of bursts, long ones between, on samples."""
    isis = rng.gamma(1.2, 1.0, size)
    isis[rng.random(size) < 0.2] *= 0.1
    refractory = 0.002
    isis *= max(SECONDS - size * refractory, 0.1 * SECONDS) / isis.sum()
    times = np.cumsum(isis + refractory)
    return np.round(times * min(1.0, (SECONDS - 1.0) / times[-1]) * RATE) / RATE if size else times


def run_case(file, num_units):
    """In its own process; on Linux without what the system has of the file in memory."""
    if hasattr(os, "posix_fadvise"):
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    case = json.dumps({"file": str(file), "num_units": num_units})
    done = subprocess.run([sys.executable, __file__, "--case", case], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{num_units} units failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def stream(file, num_units):
    """Seconds and the highest memory of this process, with the same in a digest of the results."""
    compiled = time.process_time()
    region_arrays(np.arange(9.0), [0, 4, 9], [4.0])
    compiled = time.process_time() - compiled
    start, used = time.perf_counter(), time.process_time()
    with h5py.File(file) as session:
        offsets, onsets = session["offsets"][: num_units + 1], session["onsets_s"][:]
        found = region_arrays(session["spikes"], offsets, onsets, duration_s=SECONDS)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "units": num_units,
        "spikes": int(offsets[-1]),
        "events": len(onsets),
        "features": len(found.feature_names),
        "compile_processor_seconds": compiled,
        "seconds": seconds,
        "processor_seconds": used,
        "peak_gib": peak / (2**30 if sys.platform == "darwin" else 2**20),
        "spikes_in_windows": int(found.psth_counts.sum()),
    }


def read_slice(file, arguments):
    """Some units from the middle, whose sizes are those of most."""
    with h5py.File(file) as session:
        offsets, onsets = session["offsets"][:], session["onsets_s"][:]
        sizes = np.diff(offsets)
        units = np.sort(np.argsort(sizes)[len(sizes) * 3 // 4 :][: arguments.slice_units])
        trains = [session["spikes"][offsets[unit] : offsets[unit + 1]] for unit in units]
    return trains, onsets


def time_in_turn(trains, onsets, arguments):
    """Microseconds per unit and event of every method and round; equality of what they find."""
    times, offsets = np.concatenate(trains), np.concatenate([[0], np.cumsum([len(train) for train in trains])])
    few = onsets[: arguments.few_events]
    methods = {
        PSTH: (lambda: count_psth(times, offsets, onsets, num_threads=1), onsets),
        OURS: (lambda: region_arrays(times, offsets, onsets, duration_s=SECONDS, num_threads=1), onsets),
        NEAR: (lambda: histograms(trains, onsets, near=True), onsets),
        ALL: (lambda: histograms(trains, few, near=False), few),
    }
    if (elephant := elephant_of(trains, onsets)) is not None:
        methods[ELEPHANT] = (elephant, onsets)
    us, found = {name: [] for name in methods}, {}
    for name in (PSTH, OURS):
        methods[name][0]()  # numba compiles
    for _ in range(arguments.rounds):
        for name, (work, events) in methods.items():
            start = time.process_time()
            found[name] = work()
            us[name].append(1e6 * (time.process_time() - start) / len(trains) / len(events))
    return {
        "us_per_unit_and_event": us,
        "spikes": len(times),
        "units": len(trains),
        **compare(found, times, offsets, few),
    }


def histograms(trains, onsets, near):
    """Counts (num_units, num_bins) from one np.histogram per unit and event."""
    edges = PsthSettings().bin_edges_s
    counts = np.zeros((len(trains), len(edges) - 1), dtype="int64")
    for unit, train in enumerate(trains):
        for onset in onsets:
            part = train
            if near:
                first, last = np.searchsorted(train, [onset + edges[0] - 0.01, onset + edges[-1] + 0.01])
                part = train[first:last]
            counts[unit] += np.histogram(part - onset, edges)[0]
    return counts


def elephant_of(trains, onsets):
    """What elephant does with the same trains, or None where it is not installed."""
    try:
        import elephant.statistics as statistics
        import neo
        import quantities as pq
    except ImportError:
        return None
    neo_trains = [neo.SpikeTrain(train * pq.s, t_stop=SECONDS * pq.s) for train in trains]
    before, after = (edge * pq.s for edge in PsthSettings().window_s)

    def work():
        counts, values = [], []
        for train in neo_trains:
            parts = [train.time_slice(at + before, at + after).time_shift(-at) for at in onsets * pq.s]
            # to the nanosecond: neo's shifted ends are rounded
            for part in parts:
                part.t_start, part.t_stop = before, after
            histogram = statistics.time_histogram(parts, 25 * pq.ms, t_start=before, t_stop=after)
            counts.append(histogram.magnitude[:, 0])
            isis = statistics.isi(train)
            values.append([float(getattr(statistics, name)(isis)) for name in STATISTICS])
        return np.array(counts), np.array(values)

    return work


def compare(found, times, offsets, few):
    """Whether counts are the same, and the largest relative difference to elephant's statistics."""
    ours = found[OURS]
    results = {
        "equal_to_near": bool((ours.psth_counts == found[NEAR]).all() and (found[PSTH] == found[NEAR]).all()),
        "equal_to_all": bool((count_psth(times, offsets, few) == found[ALL]).all()),
    }
    if ELEPHANT in found:
        counts, values = found[ELEPHANT]
        columns = [ours.feature_names.index(f"isi_{name}") for name in STATISTICS]
        results["equal_to_elephant"] = bool((ours.psth_counts == counts).all())
        results["counts_that_differ_from_elephant"] = int((ours.psth_counts != counts).sum())
        results["statistics_off_elephant"] = float(np.abs(ours.features[:, columns] / values - 1).max())
    return results


def report(written, sessions, turns):
    from _report import note, note_targets, print_table

    print(f"file: {written['gb']:.2f} GB, largest unit {written['largest_unit']} spikes, {written['seconds']:.0f} s")
    names = [
        "units",
        "spikes",
        "events",
        "features",
        "seconds",
        "processor_seconds",
        "compile_processor_seconds",
        "peak_gib",
    ]
    header = ["units", "spikes", "events", "features", "wall s", "processor s", "compile processor s", "peak GiB"]
    rows = [[session[name] for name in names] for session in sessions]
    threads = os.environ["NUMBA_NUM_THREADS"]
    print_table(f"one session from HDF5, {threads} threads", header, rows)
    us = turns["us_per_unit_and_event"]
    medians = {name: float(np.median(values)) for name, values in us.items()}
    rows = [
        [name, value, value / medians[PSTH], value / medians[OURS], " ".join(f"{each:.3g}" for each in us[name])]
        for name, value in medians.items()
    ]
    header = ["", "us per unit and event", f"x {PSTH}", f"x {OURS}", "rounds"]
    print_table(f"in turn, {turns['units']} units, {turns['spikes']} spikes, median of the rounds", header, rows)
    note(f"us per unit and event, {PSTH}", medians[PSTH], {name: us for name, us in medians.items() if name != PSTH})
    targets = targets_of(sessions[0], turns, medians)
    note_targets(targets)
    return targets


def targets_of(session, turns, medians):
    whole = session["processor_seconds"] + session["compile_processor_seconds"]
    ratio = min(medians[NEAR], medians[ALL]) / medians[PSTH]
    targets = {
        f"session under {TARGET_S:g} s: {session['seconds']:.1f}": session["seconds"] < TARGET_S,
        f"session and compilation under {TARGET_S:g} s of the processor: {whole:.1f}": whole < TARGET_S,
        f"session under {TARGET_GIB:g} GiB: {session['peak_gib']:.2f}": session["peak_gib"] < TARGET_GIB,
        f"PSTH at least {TARGET_RATIO:g} times as fast as the quicker numpy loop: {ratio:.0f}": ratio >= TARGET_RATIO,
        "counts equal to numpy's": turns["equal_to_near"] and turns["equal_to_all"],
    }
    if ELEPHANT not in medians:
        print("elephant is not installed: not compared")
        return targets
    ratio, off = medians[ELEPHANT] / medians[OURS], turns["statistics_off_elephant"]
    targets[f"everything faster than elephant's part: {ratio:.0f} times"] = ratio > 1
    targets["counts equal to elephant's"] = turns["equal_to_elephant"]
    targets[f"CV, CV2, LV, LvR within 1e-5 of elephant's: {off:.1e}"] = off < 1e-5
    return targets


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 million spikes of 100 units")
    parser.add_argument("--spikes", type=int, default=150_000_000)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--slice-units", type=int, default=4, help="units for the methods in turn")
    parser.add_argument("--few-events", type=int, default=50, help="events for histograms of whole trains")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to write the session; default: the system's temporary folder")
    parser.add_argument("--json", default="outputs/benchmarks/region_speed.json")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.spikes, arguments.units, arguments.events, arguments.few_events = 5_000_000, 100, 300, 20
    return arguments


if __name__ == "__main__":
    main()
