"""One function over many sessions: done, skipped or failed, each by itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import si_neuroml
from si_neuroml.cluster import WORKER_ENVIRONMENT, open_client
from si_neuroml.errors import ClusterError, InputError


def sum_up(path, folder):
    """A function that fails on text that is no number, and dies the first time for "kill"."""
    text = Path(path).read_text()
    if text == "kill":
        Path(path).write_text("7")
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "begun").touch()
    np.save(folder / "sum.npy", sum(map(float, text.split())))


@pytest.fixture
def sessions(tmp_path):
    texts = {"mouse1": "1 2 3", "mouse2": "4 five", "mouse3": "kill"}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return {name: str(tmp_path / f"{name}.txt") for name in texts}


def test_fails_and_goes_on(sessions, client, tmp_path):
    out = tmp_path / "out"
    table = si_neuroml.map_sessions(sum_up, sessions, out, client=client, retries=0, progress_bar=False)
    assert table["status"].to_dict() == {"mouse1": "done", "mouse2": "failed", "mouse3": "done"}
    assert "could not convert string to float: 'five'" in table.loc["mouse2", "error"]
    assert sorted(path.name for path in out.iterdir()) == ["mouse1", "mouse3"]
    assert np.load(Path(table.loc["mouse3", "folder"]) / "sum.npy") == 7.0
    Path(sessions["mouse2"]).write_text("4 5")
    again = si_neuroml.map_sessions(sum_up, sessions, out, client=client, progress_bar=False)
    assert again["status"].to_dict() == {"mouse1": "skipped", "mouse2": "done", "mouse3": "skipped"}
    assert np.load(out / "mouse2" / "sum.npy") == 9.0
    # nothing to do: no scheduler is asked
    assert set(si_neuroml.map_sessions(sum_up, sessions, out, client="tcp://127.0.0.1:9")["status"]) == {"skipped"}


def test_refusals(sessions, tmp_path):
    with pytest.raises(InputError, match="There are no sessions"):
        si_neuroml.map_sessions(sum_up, {}, tmp_path)
    with pytest.raises(InputError, match="Names must be text"):
        si_neuroml.map_sessions(sum_up, {"../up": "x"}, tmp_path)


def test_workers_keep_memory_and_one_thread(client):
    """With Dask's own settings of the allocator a pipeline takes twice as long."""
    for environment in client.run(lambda: dict(os.environ)).values():
        assert {name: environment[name] for name in WORKER_ENVIRONMENT} == {
            name: os.environ.get(name, str(value)) for name, value in WORKER_ENVIRONMENT.items()
        }


def test_a_script_without_main_is_told_so(tmp_path):
    pytest.importorskip("distributed")
    script = tmp_path / "script.py"
    script.write_text("from si_neuroml.cluster import open_client\nwith open_client(None, 1):\n    pass\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "ClusterError: 1 worker(s) on this computer did not start" in done.stderr


def test_no_scheduler(monkeypatch):
    pytest.importorskip("distributed")
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ClusterError, match="No Dask scheduler answers at 'tcp://127.0.0.1:9'"),
        open_client("tcp://127.0.0.1:9", timeout_s=2.0),
    ):
        pass
