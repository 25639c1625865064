"""Work for the workers of a Dask cluster: this computer by default, any scheduler by its address."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ClusterError, InputError, MissingDependencyError
from .training import progress

__all__ = ["Task", "check_names", "open_client", "run_tasks"]


class Task(NamedTuple):
    """Something to compute on a worker.

    Attributes
    ----------
    function : callable
    arguments : tuple
        Small ones; Dask's futures among them are replaced by what they hold.
    """

    function: Any
    arguments: tuple


def run_tasks(
    client: Any, tasks: Mapping[Any, Task], *, retries: int, description: str, progress_bar: bool
) -> Iterator[tuple[Any, Any, BaseException | None]]:
    """Compute tasks on the workers, and give each as soon as it is done: its key, its result, and its error or None.

    When the caller stops early (Ctrl-C, an error), tasks that have not begun are taken back.

    Parameters
    ----------
    client : dask.distributed.Client
    tasks : dict of {hashable: Task}
    retries : int
        Of a task that raised an error. A task whose worker died is given to another one without being asked, up to
        Dask's limit (``distributed.scheduler.allowed-failures``, 3).
    description, progress_bar
        Of the bar.

    Yields
    ------
    (key, result, error)
    """
    from dask.distributed import as_completed

    futures = {
        client.submit(task.function, *task.arguments, retries=retries, pure=False): key for key, task in tasks.items()
    }
    try:
        done = as_completed(futures, with_results=False)
        for future in progress(done, description=description, show=progress_bar, total=len(futures)):
            error = future.exception() if future.status == "error" else None
            if future.cancelled():
                error = ClusterError("The scheduler took the task back: it was restarted or has lost its data.")
            yield futures[future], None if error else future.result(), error
            # whoever holds a future keeps its result on the cluster
            future.release()
    finally:
        client.cancel([future for future in futures if not future.done()])


@contextmanager
def open_client(client: Any = None, num_workers: int = 1, timeout_s: float = 30.0) -> Iterator[Any]:
    """A client to work with: the one that is given, one for an address, or one with a cluster on this computer.

    Parameters
    ----------
    client : dask.distributed.Client | str, optional
        A client is left open; what is made here is closed.
    num_workers : int, default: 1
        Processes of the cluster on this computer, one thread each.
    timeout_s : float, default: 30.0
        How long to wait for the scheduler at an address, in seconds.

    Yields
    ------
    dask.distributed.Client

    Raises
    ------
    ClusterError
        When no scheduler answers at the address.
    MissingDependencyError
        Without Dask.
    """
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingDependencyError("distributed", "cluster") from error
    if isinstance(client, str):
        try:
            own = Client(client, timeout=timeout_s)
        except (OSError, TimeoutError, ValueError) as error:
            text = f"No Dask scheduler answers at {client!r}: {error}"
            raise ClusterError(f"{text}. Start one (dask scheduler), or look up its address.") from error
        with own:
            yield own
    elif client is None:
        options = {"n_workers": num_workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
        with LocalCluster(**options) as cluster, Client(cluster) as own:
            yield own
    elif isinstance(client, Client):
        yield client
    else:
        raise InputError(f"client must be a dask.distributed.Client, an address or None, got {client!r}.")


def check_names(names: Mapping[str, Any]) -> None:
    """Raise an InputError unless all names can be names of folders."""
    wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name or name.startswith(".")]
    if wrong:
        raise InputError(f"Names must be text that can name a folder, without slashes; got {wrong[:5]!r}.")
