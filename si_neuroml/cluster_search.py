"""A search of settings whose trials run on the workers of a Dask cluster and meet in one storage."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cluster import Task, hold_on_cluster, open_client, run_tasks
from .errors import ClusterError, InputError

__all__ = ["search_on_cluster"]


def search_on_cluster(
    search: Callable[..., Any],
    *args: Any,
    storage: str | Path,
    client: Any = None,
    n_jobs: int = 2,
    progress_bar: bool = True,
    **kwargs: Any,
) -> Any:
    """Run one of this package's searches on all workers of a Dask cluster at once.

    Every worker makes the same call, and they share the trials through the storage. Together they stop at the number
    that was asked for, or when every combination was tried; at the end two may be at the same one. The trials of a
    worker that dies are left to the others. After a stop, the same call goes on. Needs Dask and Optuna
    (``pip install "si-neuroml[cluster,search]"``).

    Parameters
    ----------
    search : function
        :func:`search_region_classifier`, :func:`search_event_detector` or :func:`search_cell_type_classifier`.
    *args
        Its arguments; they go to every worker.
    storage : str | Path
        A file on a disk that client and workers share (an Optuna journal), or the URL of a database that all reach.
    client : dask.distributed.Client | str, optional
        A client, or the address of a scheduler. Default: a cluster of `n_jobs` workers on this computer, closed at the
        end.
    n_jobs : int, default: 2
        Workers of that cluster.
    progress_bar : bool, default: True
        Whether to show how many workers have ended.
    **kwargs
        Of `search`.

    Returns
    -------
    SearchResult
        As `search` gives it: of all trials, whichever worker ran them.

    Raises
    ------
    InputError
        Without a storage, or on what `search` refuses.
    ClusterError
        When no scheduler answers, `search` fails on every worker, or workers see another disk.
    MissingDependencyError
        Without Dask or Optuna.

    Warns
    -----
    UserWarning
        When `search` failed on some of the workers; the others have done the work.

    Examples
    --------
    >>> search_on_cluster(search_region_classifier, dataset, "cnn", num_trials=100, storage="/shared/search.log")
    """
    if storage is None:
        raise InputError("Workers share their trials through a storage: give a file on a disk that all of them reach.")
    kwargs = {**kwargs, "progress_bar": False}
    if "://" not in str(storage):
        storage = Path(storage).absolute()  # workers have folders of their own
    kwargs["storage"] = storage
    with open_client(client, n_jobs) as opened:
        num_workers = max(1, len(opened.nthreads()))
        held = hold_on_cluster(opened, search, args, kwargs)
        tasks = {worker: Task(_search, (held,)) for worker in range(num_workers)}
        options = {"retries": 0, "description": "workers", "progress_bar": progress_bar}
        errors = [error for _, _, error in run_tasks(opened, tasks, **options) if error is not None]
    _judge(errors, num_workers)
    if isinstance(storage, Path) and not storage.exists():
        text = f"The workers have searched, but {storage} is not there for this process"
        raise ClusterError(f"{text}. It must be on a disk that client and workers share.")
    return search(*args, **kwargs)


def _search(held):
    search, args, kwargs = held
    search(*args, **kwargs)  # its result stays in the storage


def _judge(errors, num_workers):
    if not errors:
        return
    first = errors[0]
    text = f"The search failed on {len(errors)} of {num_workers} workers, first with {type(first).__name__}: {first}"
    if len(errors) < num_workers:
        warnings.warn(f"{text}. The others have done the work.", UserWarning, stacklevel=3)
    elif isinstance(first, InputError):
        raise first
    else:
        raise ClusterError(f"{text}. Finished trials are kept: mend the cause and call again to go on.") from first
