"""Scripts for processes that are to be interrupted, starved or raced, and how to run them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

HEADER = f"""
import signal, sys, time, warnings
from pathlib import Path
# where tests run in the background, a shell has told them to ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)
warnings.simplefilter("ignore")
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
import si_neuroml
from interrupted_calls import FOLDER, interrupted_then_again, slow_steps_of_training
"""


def start(code, *arguments):
    """A process of its own group that runs `code` with arguments in sys.argv[1:]; the first is a folder.

    What it says of errors goes to a file, which unlike a pipe is never full: see :func:`errors_of`.
    """
    text = HEADER + "if __name__ == '__main__':\n" + textwrap.indent(textwrap.dedent(code), "    ")
    path = Path(arguments[0]) / f"script_{time.monotonic_ns()}.py"
    path.write_text(text)
    environment = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "SI_NEUROML_FAULTS": str(arguments[0])}
    with open(path.with_suffix(".errors"), "wb") as errors:
        return subprocess.Popen(
            [sys.executable, str(path), *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | environment,
            start_new_session=True,
        )


def errors_of(process):
    """What it has written to stderr so far."""
    return Path(process.args[1]).with_suffix(".errors").read_text()


def wait_for(path, process, seconds=120):
    """Wait until a file is there."""
    end = time.monotonic() + seconds
    while True:
        # asked for first: a process may leave the file as the last thing it does
        ended = process.poll() is not None
        if Path(path).exists():
            return
        assert not ended, errors_of(process)
        assert time.monotonic() < end, f"{path} did not appear in {seconds} s"
        time.sleep(0.02)


def interrupt(process):
    """Ctrl-C, as a terminal does it: to the whole group."""
    os.killpg(process.pid, signal.SIGINT)


def kill(process):
    """Whatever a test left behind, so that a failure does not go on in the background."""
    if members(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def members(group):
    """Processes of a group that have not ended, without the one that Python's multiprocessing keeps to clean up last.

    Without /proc, the group itself while there is any.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return []
        return [group]
    found = []
    for entry in Path("/proc").iterdir():
        try:
            # behind the name, which may hold anything: state, parent, group
            state, _, own = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(own) == group and state not in "ZX" and "resource_tracker" not in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def group_is_gone(process, seconds=20):
    """Whether no process of the group is left."""
    end = time.monotonic() + seconds
    while members(process.pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def full_disk(limit):
    """No file of this process can grow beyond `limit` bytes inside, as if the disk were full."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # the signal that would come with it is ignored by Python, so that writing fails with an OSError
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
