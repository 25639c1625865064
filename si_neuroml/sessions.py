"""One function over many sessions on a cluster: what fails is reported, what is finished is skipped the next time."""

import glob
import os
import shutil
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cluster import Task, check_names, open_client, run_tasks
from .errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["map_sessions"]

ARRIVING = ".arriving"


def map_sessions(
    function: Callable[[Any, Path], Any],
    sessions: Mapping[str, Any],
    folder: str | Path,
    *,
    client: Any = None,
    n_jobs: int = 1,
    retries: int = 1,
    progress_bar: bool = True,
) -> "pd.DataFrame":
    """Run a function on each of many sessions over the workers of a Dask cluster.

    A session's folder appears when the function has ended without an error, whole; sessions that have one are skipped,
    so that the same call goes on after a stop, and after more sessions were added. A session that fails does not stop
    the others. Needs Dask (``pip install "si-neuroml[cluster]"``).

    Parameters
    ----------
    function : function of (session, folder)
        Called on a worker with one of the values of `sessions` and an empty folder to write its results into. It must
        be importable there or defined in the script.
    sessions : dict
        By name, what the function needs to find the session: a path rather than the data.
    folder : str | Path
        On a disk that all workers share; each session gets a folder of its name in it.
    client : dask.distributed.Client | str, optional
        As for :func:`~si_neuroml.sharded_runs.run_sharded`. Default: a cluster of `n_jobs` workers on this computer.
    n_jobs : int, default: 1
        Of that cluster.
    retries : int, default: 1
        How often a session that failed is tried again.
    progress_bar : bool, default: True
        Whether to show one.

    Returns
    -------
    pandas.DataFrame
        One row per session, by name: ``status`` ("done", "skipped" or "failed"), ``seconds``, ``error`` (the
        traceback's last lines), ``folder``.

    Raises
    ------
    InputError
        On no sessions, or names that cannot name a folder.
    ClusterError
        When no scheduler answers.
    MissingDependencyError
        Without Dask.

    Examples
    --------
    >>> def localize(path, folder):
    ...     analyzer = spikeinterface.load_sorting_analyzer(path, load_extensions=False)
    ...     places = analyzer.compute("spike_locations", method="neural_posterior").get_data()
    ...     numpy.save(folder / "spike_locations.npy", places)
    >>> table = map_sessions(localize, {path.name: path for path in paths}, "results", n_jobs=8)
    """
    import pandas as pd

    if not sessions:
        raise InputError("There are no sessions.")
    check_names(sessions)
    root = Path(folder).absolute()
    root.mkdir(parents=True, exist_ok=True)
    rows = {name: {"status": "skipped", "seconds": 0.0, "error": ""} for name in sessions}
    tasks = {
        name: Task(_run_session, (function, session, str(root / name)))
        for name, session in sessions.items()
        if not (root / name).is_dir()
    }
    if tasks:
        with open_client(client, n_jobs) as opened:
            options = {"retries": retries, "description": "sessions", "progress_bar": progress_bar}
            for name, seconds, error in run_tasks(opened, tasks, **options):
                text = "" if error is None else "".join(traceback.format_exception(error)[-2:]).strip()
                rows[name] = {"status": "failed" if error else "done", "seconds": seconds or 0.0, "error": text}
                for leftover in root.glob(f".{glob.escape(name)}.*{ARRIVING}"):
                    # of a worker that was killed
                    shutil.rmtree(leftover, ignore_errors=True)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "session"
    return table.assign(folder=[str(root / name) if rows[name]["status"] != "failed" else "" for name in rows])


def _run_session(function, session, folder):
    """Seconds that a session took; its folder is there afterwards."""
    folder, start = Path(folder), time.perf_counter()
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}{ARRIVING}")
    draft.mkdir(parents=True)
    try:
        function(session, draft)
        os.rename(draft, folder)
    except Exception:
        # two workers may do one session, after a lost connection or for two clients: the first one's folder counts
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return time.perf_counter() - start
