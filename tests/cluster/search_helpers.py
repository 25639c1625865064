"""Searches that workers of a cluster can import: of a parabola, or of nothing at all."""

import os
import signal
import time
from pathlib import Path

from si_neuroml.errors import InputError
from si_neuroml.search import search_settings

SPACE = {"x": (0.0, 0.25, 0.5, 0.75, 1.0), "y": (-1, 0, 1)}


def search_parabola(space, *, storage, log, trouble="", progress_bar=True):
    """The highest of 1 - x² - y²; every process that scores leaves a file in `log`.

    `trouble` is "kill" for the death of the first process, in its second trial, or "refuse" for an error always.
    """
    if trouble == "refuse":
        raise InputError("no such data")
    log = Path(log)

    def score(settings):
        time.sleep(0.25)  # so that every worker gets some
        log.mkdir(exist_ok=True)
        (log / str(os.getpid())).touch()
        if trouble == "kill" and settings["x"] == 0.5 and not (log / "killed").exists():
            (log / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield {"score": 1 - settings["x"] ** 2 - settings["y"] ** 2}

    options = {"num_steps": 1, "num_trials": None, "lowest": -10.0, "progress_bar": progress_bar}
    return search_settings(space, score, storage=storage, name="parabola", description={}, **options)
