"""Work for the workers of a Dask cluster: this computer by default, any scheduler by its address."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ClusterError, InputError, MissingDependencyError
from .training import progress

__all__ = ["Task", "check_names", "hold_on_cluster", "open_client", "run_tasks"]

# Dask lets workers return memory at once, at the price that traces of every chunk are mapped anew, which doubles the
# time of a pipeline; these are the largest values that the allocator of Linux comes to by itself
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": 67_108_864,
    "MALLOC_MMAP_THRESHOLD_": 33_554_432,
    "NUMBA_NUM_THREADS": 1,
}


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


def hold_on_cluster(client: Any, *things: Any) -> Any:
    """Send what many tasks share to the cluster once.

    Unlike scattered data it is not lost with the worker that holds it: the scheduler can make it again.

    Parameters
    ----------
    client : dask.distributed.Client
    *things
        Whatever can be copied to another process.

    Returns
    -------
    dask.distributed.Future
        Of the tuple of things, among the arguments of tasks.
    """
    with warnings.catch_warnings():
        # it advises what is done here already
        warnings.filterwarnings("ignore", message="Sending large graph")
        return client.submit(_hold, *things, pure=False)


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
        When no scheduler answers at the address, or no worker starts on this computer.
    MissingDependencyError
        Without Dask.
    """
    try:
        from dask.distributed import Client
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
        with _local_cluster(num_workers) as cluster, Client(cluster) as own:
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


def _local_cluster(num_workers):
    import dask
    from dask.distributed import LocalCluster

    set_before = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_ENVIRONMENT.items()}
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
    try:
        with dask.config.set(set_before):
            return LocalCluster(n_workers=num_workers, **options)
    except (RuntimeError, OSError, TimeoutError) as error:
        raise ClusterError(
            f"{num_workers} worker(s) on this computer did not start: {error} A script that starts processes must do "
            'so below `if __name__ == "__main__":`, and be a file.'
        ) from error


def _hold(*things):
    return things
