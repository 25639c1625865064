"""Calls that take long until they are interrupted, and are quick afterwards; for the scripts of test_ctrl_c.py.

The folder in the environment variable says which: slow while it holds the file "slow". That reaches all processes.
"""

import os
import time
from pathlib import Path

from spikeinterface.core.binaryrecordingextractor import BinaryRecordingSegment

FOLDER = Path(os.environ.get("SI_NEUROML_FAULTS", "nowhere"))
_get_traces = BinaryRecordingSegment.get_traces


def interrupted_then_again(call, name, check=lambda: None, *, last=False):
    """Call, be interrupted, look at what is left, and call again, as in a notebook; the last ends as in a script.

    Leaves the file "<name>_begun" when the call is at work, "<name>_interrupted" when the interruption came through,
    and "<name>_again" when the second call has returned; then waits for "<name>_seen".
    """
    (FOLDER / "slow").write_text(name)
    try:
        call()
    except KeyboardInterrupt:
        (FOLDER / "slow").unlink()
        (FOLDER / f"{name}_interrupted").touch()
        check()
        call()
        (FOLDER / f"{name}_again").touch()
        if last:
            raise
        # the next call starts processes of its own
        _wait_for(FOLDER / f"{name}_seen")
    else:
        raise AssertionError(f"{name} took no notice of the interruption")


def _wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear in {seconds} s")
        time.sleep(0.02)


def slow_steps_of_training():
    """Steps of torch's optimizers are slow too."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(lambda *_: _go_slowly(0.2))


def _go_slowly(seconds):
    if (FOLDER / "slow").exists():
        (FOLDER / f"{(FOLDER / 'slow').read_text()}_begun").touch()
        time.sleep(seconds)


def _get_traces_slowly(self, *args, **kwargs):
    _go_slowly(0.5)
    return _get_traces(self, *args, **kwargs)


# here, so that processes which import this module anew have it too
BinaryRecordingSegment.get_traces = _get_traces_slowly
