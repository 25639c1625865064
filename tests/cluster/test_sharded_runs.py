"""Pipelines over a cluster: the single-machine result exactly, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pipeline_helpers import TroughOfPeak, detector, places, troughs
from spikeinterface.core import NumpyRecording
from spikeinterface.core.node_pipeline import run_node_pipeline

import si_neuroml
from si_neuroml.errors import ClusterError, InputError
from si_neuroml.folderlock import folder_lock

ONE_JOB = {"n_jobs": 1, "progress_bar": False}


def whole(recording, nodes):
    return run_node_pipeline(recording, nodes, job_kwargs=ONE_JOB, squeeze_output=False)


def run(recording, nodes, folder, client, **kwargs):
    options = {"shard_duration_s": 2.0, "squeeze_output": False, "job_kwargs": ONE_JOB} | kwargs
    return si_neuroml.run_sharded(recording, nodes, folder, client=client, **options)


def assert_equal(found, truth):
    assert len(found) == len(truth)
    for one, other in zip(found, truth, strict=True):
        np.testing.assert_array_equal(one, other)


def test_equals_one_machine_and_is_not_computed_twice(saved_recording, client, tmp_path):
    nodes = places(saved_recording)
    truth = whole(saved_recording, nodes)
    folder = tmp_path / "out"
    assert_equal(run(saved_recording, nodes, folder, client, names=["peaks", "places"]), truth)
    assert sorted(path.name for path in folder.iterdir()) == ["job.json", "peaks.npy", "places.npy"]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = run(saved_recording, places(saved_recording), folder, "tcp://127.0.0.1:9", gather_mode="npy")
    assert_equal(again, truth)  # no scheduler is asked
    assert all(isinstance(output, np.memmap) and not output.flags.writeable for output in again)
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_worker_killed_in_the_middle(saved_recording, client, tmp_path):
    nodes = troughs(saved_recording, tmp_path / "log", "kill", frame=130_000)
    found = run(saved_recording, nodes, tmp_path / "out", client)
    assert (tmp_path / "log" / "trouble").exists()  # it was
    assert_equal(found, whole(saved_recording, troughs(saved_recording, tmp_path / "log2")))


def test_a_failure_is_tried_again(saved_recording, client, tmp_path):
    nodes = troughs(saved_recording, tmp_path / "log", "raise once", frame=130_000)
    assert_equal(
        run(saved_recording, nodes, tmp_path / "out", client, retries=1)[:1], whole(saved_recording, nodes)[:1]
    )


def test_a_lasting_failure_is_named_and_the_rest_kept(saved_recording, client, tmp_path):
    nodes = troughs(saved_recording, tmp_path / "log", "raise", frame=130_000)
    message = (
        r"1 of 9 shards failed after 1 retries.*shard 2 \(segment 0, frames 100000 to 150000\): RuntimeError: the disk"
    )
    with pytest.raises(ClusterError, match=message):
        run(saved_recording, nodes, tmp_path / "out", client, retries=1)
    assert len(list((tmp_path / "out").glob("shard_*.npz"))) == 8
    assert nodes[1].num_computed() == 16 + 2  # the other shards, and the first chunk of this one twice


def test_goes_on_after_the_client_was_killed(saved_recording, client, tmp_path):
    """The first client, with a cluster of its own, is killed after two shards; nothing of it is left alive."""
    log, out = tmp_path / "log", tmp_path / "out"
    folder = saved_recording.to_dict()["kwargs"]["folder_path"]
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, os\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import si_neuroml, spikeinterface\n"
        "from pipeline_helpers import troughs\n"
        "from si_neuroml.cluster import open_client\n"
        "if __name__ == '__main__':\n"
        f"    recording = spikeinterface.load({str(folder)!r})\n"
        "    with open_client(None, 1) as client:\n"
        "        pids = client.run(os.getpid)\n"
        f"        open({str(tmp_path / 'pids')!r}, 'w').write(' '.join(map(str, pids.values())))\n"
        f"        nodes = troughs(recording, {str(log)!r}, 'wait')\n"
        f"        si_neuroml.run_sharded(recording, nodes, {str(out)!r}, client=client, shard_duration_s=2.0,\n"
        f"            job_kwargs={ONE_JOB!r})\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(out.glob("shard_*.npz"))) >= 2 or process.poll() is not None, 120)
    finally:
        process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(is_alive, (tmp_path / "pids").read_text().split())), 60)
    finished = {path.name for path in out.glob("shard_*.npz")}
    assert 2 <= len(finished) < 9
    node = TroughOfPeak(saved_recording, [], log)
    before = node.num_computed()
    recording = saved_recording
    found = run(recording, troughs(recording, str(log), "wait"), out, client)
    chunks_of_the_rest = 18 - 2 * len(finished)
    assert abs(node.num_computed() - before - chunks_of_the_rest) <= 1  # the last shards of a segment are shorter
    assert_equal(found, whole(recording, troughs(recording, tmp_path / "log2")))


def is_alive(pid):
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    # a zombie of ours has ended
    return Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing happened in {seconds} s"
        time.sleep(0.1)


def test_many_recordings_in_one_queue(saved_recording, client, tmp_path):
    halves = {f"segment{k}": saved_recording.select_segments([k]) for k in range(2)}
    pipelines = {name: (half, [detector(half)]) for name, half in halves.items()}
    options = {"client": client, "shard_duration_s": 2.0, "job_kwargs": ONE_JOB}
    found = si_neuroml.run_many_sharded(pipelines, tmp_path, **options)
    for name, (half, nodes) in pipelines.items():
        np.testing.assert_array_equal(found[name], run_node_pipeline(half, nodes, job_kwargs=ONE_JOB))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segment0", "segment1"]


def test_one_bad_recording_does_not_stop_the_others(saved_recording, client, tmp_path):
    halves = [saved_recording.select_segments([k]) for k in range(2)]
    pipelines = {
        "bad": (halves[0], troughs(halves[0], tmp_path / "log", "raise", frame=10)),
        "good": (halves[1], [detector(halves[1])]),
    }
    options = {"client": client, "shard_duration_s": 2.0, "job_kwargs": ONE_JOB, "retries": 0}
    with pytest.raises(ClusterError, match="shard 0 of 'bad'"):
        si_neuroml.run_many_sharded(pipelines, tmp_path / "out", **options)
    assert json.loads((tmp_path / "out" / "good" / "job.json").read_text())["outputs"] == ["output_0.npy"]


def test_results_of_another_job_are_not_replaced_unasked(saved_recording, client, tmp_path):
    first = run(saved_recording, [detector(saved_recording)], tmp_path, client)
    other = [detector(saved_recording, threshold=8.0)]
    with pytest.raises(InputError, match="holds results of another job"):
        run(saved_recording, other, tmp_path, client)
    assert_equal(run(saved_recording, [detector(saved_recording)], tmp_path, client), first)
    replaced = run(saved_recording, other, tmp_path, client, overwrite=True)
    assert_equal(replaced, whole(saved_recording, other))
    assert len(replaced[0]) < len(first[0])


def test_two_clients_do_not_work_in_one_folder(saved_recording, client, tmp_path):
    nodes = troughs(saved_recording, tmp_path / "log", "wait")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, saved_recording, nodes, tmp_path / "out", client)
        wait_until(lambda: list((tmp_path / "out").glob("shard_*.npz")), 60)
        with pytest.raises(ClusterError, match=r"Another process is at work on .*out. Wait until it has ended"):
            run(saved_recording, nodes, tmp_path / "out", client)
        assert_equal(first.result(), whole(saved_recording, troughs(saved_recording, tmp_path / "log2")))
    assert not list(tmp_path.glob(".*"))  # the lock is gone
    with folder_lock(tmp_path / "out"):  # to read what is finished, none is needed
        assert_equal(run(saved_recording, nodes, tmp_path / "out", client), first.result())


def test_refusals(saved_recording, client, tmp_path):
    in_memory = NumpyRecording([np.zeros((1000, 16), dtype="float32")], 30_000.0)
    in_memory.set_probe(saved_recording.get_probe())
    nodes = [detector(saved_recording)]
    with pytest.raises(InputError, match="in memory, where workers of a cluster cannot read it. Save it"):
        run(in_memory, [detector(in_memory)], tmp_path, client)
    for kwargs, message in (
        ({"gather_mode": "zarr"}, "gather_mode must be"),
        ({"retries": -1}, "retries must be a whole number"),
    ):
        with pytest.raises(InputError, match=message):
            run(saved_recording, nodes, tmp_path, client, **kwargs)
    with pytest.raises(InputError, match="client must be a dask"):
        run(saved_recording, nodes, tmp_path / "new", 3)
    with pytest.raises(InputError, match="Names must be text that can name a folder"):
        si_neuroml.run_many_sharded({"a/b": (saved_recording, nodes)}, tmp_path)
    with pytest.raises(InputError, match="no pipelines"):
        si_neuroml.run_many_sharded({}, tmp_path)
