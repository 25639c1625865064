"""Pipelines on one or many recordings over the workers of a Dask cluster.

A killed worker loses only the shard that it was computing, which another worker computes again. A killed client loses
nothing that was finished: the same call goes on where it was stopped. The folder of the results must be on a disk that
client and workers share.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core.job_tools import ensure_n_jobs, fix_job_kwargs

from .cluster import Task, check_names, hold_on_cluster, open_client, run_tasks
from .errors import ClusterError, InputError
from .folderlock import folder_lock
from .sharding import compute_shard, merge_shards, plan_shards, read_lengths, remove_shards
from .wholefile import whole_file

__all__ = ["run_many_sharded", "run_sharded"]

JOB_FILE = "job.json"


def run_sharded(
    recording: Any,
    nodes: Sequence[Any],
    folder: str | Path,
    *,
    client: Any = None,
    names: Sequence[str] | None = None,
    shard_duration_s: float = 60.0,
    gather_mode: str = "memory",
    squeeze_output: bool = True,
    retries: int = 3,
    overwrite: bool = False,
    job_kwargs: dict[str, Any] | None = None,
) -> Any:
    """Run a pipeline on one recording over the workers of a Dask cluster; as SpikeInterface's ``run_node_pipeline``.

    The result is that of ``run_node_pipeline`` with the same size of chunks, number for number. Needs Dask
    (``pip install "si-neuroml[cluster]"``).

    Parameters
    ----------
    recording : BaseRecording
        Read by each worker from its description: files must be where every worker finds them, and recordings that are
        only in memory must be saved first (``recording.save(folder=...)``).
    nodes : sequence of PipelineNode
        Of SpikeInterface and of this package. They go to every worker once, with all they hold.
    folder : str | Path
        For the results, on a disk that all workers share: a file per shard while at work, one ``.npy`` file per output
        at the end.
    client : dask.distributed.Client | str, optional
        A client, or the address of a scheduler ("tcp://login1:8786"). Default: a cluster on this computer with
        ``n_jobs`` of `job_kwargs` as the number of workers, closed at the end. In a script that needs
        ``if __name__ == "__main__":``, as all that starts processes.
    names : sequence of str, optional
        Names of the files, one per output. Default: "output_0", "output_1", ...
    shard_duration_s : float, default: 60.0
        Seconds of recording per task. Longer ones cost less to manage, shorter ones lose less when a worker dies.
    gather_mode : {"memory", "npy"}, default: "memory"
        Whether the results are returned as arrays in memory, or as read-only memory maps of the files.
    squeeze_output : bool, default: True
        Whether the only output is returned by itself instead of in a tuple.
    retries : int, default: 3
        How often a shard that failed is tried again, elsewhere if possible.
    overwrite : bool, default: False
        Whether results of another job in the folder are replaced.
    job_kwargs : dict, optional
        SpikeInterface's: size of chunks, ``n_jobs``, ``progress_bar``.

    Returns
    -------
    array | tuple of array
        Outputs of all nodes with ``return_output``, in the order of the recording.

    Raises
    ------
    InputError
        On parameters that cannot be used, a recording in memory, or a folder with results of another job.
    ClusterError
        When no scheduler answers, another process is at work on the folder, or a shard fails after all retries. What
        was finished is kept.
    MissingDependencyError
        Without Dask.
    """
    options = {"client": client, "names": names, "shard_duration_s": shard_duration_s, "gather_mode": gather_mode}
    options |= {"squeeze_output": squeeze_output, "retries": retries, "overwrite": overwrite}
    return _run({"": (recording, nodes)}, Path(folder), job_kwargs=job_kwargs, **options)[""]


def run_many_sharded(
    pipelines: Mapping[str, tuple[Any, Sequence[Any]]], folder: str | Path, **kwargs: Any
) -> dict[str, Any]:
    """Run pipelines on many recordings over one cluster, all their shards in one queue.

    Parameters
    ----------
    pipelines : dict of {str: (recording, nodes)}
        By name; each gets a folder of that name.
    folder : str | Path
        Of these folders.
    **kwargs
        As for :func:`run_sharded`.

    Returns
    -------
    dict of {str: array | tuple of array}
        As from :func:`run_sharded`, by name.

    Raises
    ------
    InputError, ClusterError, MissingDependencyError
        As :func:`run_sharded`. A recording whose shard fails does not stop the others: they are finished, merged and
        kept before the error is raised.
    """
    if not pipelines:
        raise InputError("There are no pipelines to run.")
    check_names(pipelines)
    return _run(dict(pipelines), Path(folder), **kwargs)


def _run(
    pipelines,
    folder,
    *,
    client=None,
    names=None,
    shard_duration_s=60.0,
    gather_mode="memory",
    squeeze_output=True,
    retries=3,
    overwrite=False,
    job_kwargs=None,
):
    if gather_mode not in ("memory", "npy"):
        raise InputError(f"gather_mode must be 'memory' or 'npy', got {gather_mode!r}.")
    if isinstance(retries, bool) or not isinstance(retries, int | np.integer) or retries < 0:
        raise InputError(f"retries must be a whole number from 0 on, got {retries!r}.")
    job_kwargs = fix_job_kwargs(job_kwargs or {})
    jobs = {}
    for name, (recording, nodes) in pipelines.items():
        _check_describable(recording, name)
        options = {"shard_duration_s": shard_duration_s, "job_kwargs": job_kwargs}
        jobs[name] = plan_shards(recording, nodes, folder / name, **options)
    if all(map(_finished, jobs.values())):  # also where nothing may be written
        return {name: _results(job, gather_mode, squeeze_output) for name, job in jobs.items()}
    with ExitStack() as locks:
        for job in jobs.values():
            _lock(job, locks)
            _claim(job, overwrite)
        _compute_and_merge(jobs, client, names, int(retries), job_kwargs)
        return {name: _results(job, gather_mode, squeeze_output) for name, job in jobs.items()}


def _compute_and_merge(jobs, client, names, retries, job_kwargs):
    """Bring every job to its results, or raise after all that can be finished is."""
    missing = {name: job.missing() for name, job in jobs.items() if _finished(job) is None}
    failed = {}
    if any(missing.values()):
        num_workers = ensure_n_jobs(next(iter(jobs.values())).recording, job_kwargs["n_jobs"])
        with open_client(client, num_workers) as opened:
            failed = _compute(opened, jobs, missing, retries, job_kwargs["progress_bar"])
    for name in missing:
        if not any(name == of for of, _ in failed):
            _finish(jobs[name], names)
    _raise_failed(failed, jobs, retries)


def _lock(job, locks):
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        locks.enter_context(folder_lock(job.folder, wait=False))
    except BlockingIOError as error:
        raise ClusterError(f"{error} Wait until it has ended (what it finishes is used then), or stop it.") from None


def _compute(client, jobs, missing, retries, progress_bar):
    """Compute the missing shards; gives the errors of those that failed."""
    failed, tasks = {}, {}
    for name, indices in missing.items():
        if indices:
            job = jobs[name]
            pipeline = hold_on_cluster(client, job.recording, job.nodes)
            tasks |= {
                (name, index): Task(_compute_shard, (pipeline, job.shards[index], str(job.path(index)), job.digest))
                for index in indices
            }
    options = {"retries": retries, "description": "shards", "progress_bar": progress_bar}
    for (name, index), _, error in run_tasks(client, tasks, **options):
        if error is not None:
            failed[name, index] = error
        elif read_lengths(jobs[name], index) is None:
            raise ClusterError(
                f"A worker has written {jobs[name].path(index).name}, but it is not in {jobs[name].folder} here. The "
                "folder must be on a disk that this process and all workers share."
            )
    return failed


def _raise_failed(failed, jobs, retries):
    if not failed:
        return
    (name, index), error = next(iter(failed.items()))
    first, last = jobs[name].shards[index][0], jobs[name].shards[index][-1]
    where = f"shard {index}{f' of {name!r}' if name else ''} (segment {first[0]}, frames {first[1]} to {last[2]})"
    raise ClusterError(
        f"{len(failed)} of {sum(len(job.shards) for job in jobs.values())} shards failed after {retries} retries. The "
        f"first, {where}: {type(error).__name__}: {error}. The others are kept: mend the cause and call again to go on."
    ) from error


def _compute_shard(pipeline, slices, path, digest):
    return compute_shard(*pipeline, slices, Path(path), digest)


def _check_describable(recording, name):
    if not recording.check_serializability("json"):
        of = f" {name!r}" if name else ""
        raise InputError(
            f"The recording{of} is in memory, where workers of a cluster cannot read it. Save it to a disk that they "
            "share: recording = recording.save(folder=...)."
        )


def _claim(job, overwrite):
    """Write whose results the folder holds, before the first of them."""
    note = _note(job)
    if note is None or note["digest"] != job.digest:
        if note is not None and not overwrite:
            raise InputError(
                f"{job.folder} holds results of another job (other recording, nodes, parameters or chunks). Choose "
                "another folder, or pass overwrite=True to replace them."
            )
        for path in job.folder.glob("shard_*.npz"):
            path.unlink()
        _write_note(job, None)


def _finish(job, names):
    paths = merge_shards(job, names)
    _write_note(job, [path.name for path in paths])
    remove_shards(job)


def _finished(job):
    """Files of the outputs, or None while shards are missing or not merged."""
    note = _note(job)
    outputs = note and note["digest"] == job.digest and note["outputs"]
    return outputs if outputs and all((job.folder / name).exists() for name in outputs) else None


def _note(job):
    try:
        return json.loads((job.folder / JOB_FILE).read_text())
    except (OSError, ValueError):
        return None


def _write_note(job, outputs):
    with whole_file(job.folder / JOB_FILE) as draft:
        draft.write_text(json.dumps({"digest": job.digest, "num_shards": len(job.shards), "outputs": outputs}))


def _results(job, gather_mode, squeeze_output):
    mode = "r" if gather_mode == "npy" else None
    outputs = tuple(np.load(job.folder / name, mmap_mode=mode) for name in _finished(job))
    return outputs[0] if squeeze_output and len(outputs) == 1 else outputs
