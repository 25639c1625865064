"""One pipeline on one recording, cut into shards whose results are files: whole or absent, and merged in order.

A shard is a run of neighbouring chunks, computed by SpikeInterface's own ``run_node_pipeline(slices=...)``. The chunks
are those of a run on one machine, so that the merged result is the same, number for number, whatever the shards.
Which machine computes a shard, and when, is nobody's business here: see :mod:`~si_neuroml.sharded_runs`.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface import __version__ as si_version
from spikeinterface.core.job_tools import divide_time_series_into_chunks, ensure_chunk_size, fix_job_kwargs
from spikeinterface.core.node_pipeline import (
    PeakRetriever,
    PipelineNode,
    SpikeRetriever,
    check_graph,
    run_node_pipeline,
)

from .errors import InputError
from .fingerprint import fingerprint
from .wholefile import remove_drafts, whole_file

__all__ = ["ShardedJob", "compute_shard", "merge_shards", "plan_shards", "read_lengths", "remove_shards"]

Slice = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ShardedJob:
    """A pipeline on a recording, and its shards.

    Attributes
    ----------
    recording : BaseRecording
    nodes : list of PipelineNode
    shards : tuple of tuples of (int, int, int)
        Chunks of each shard as (segment_index, start_frame, end_frame), in order.
    folder : Path
        Where shards and the merged result are written.
    """

    recording: Any
    nodes: list[PipelineNode]
    shards: tuple[tuple[Slice, ...], ...]
    folder: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the recording's description, the nodes' parameters, the chunks and SpikeInterface's version.

        Shards of another job in the same folder are told apart by it. Not part of it is what the recording's files
        hold: after these have changed, choose another folder.
        """
        job = {"nodes": self.nodes, "shards": self.shards, "spikeinterface": si_version}
        return hashlib.sha256((fingerprint(self.recording) + fingerprint(job)).encode()).hexdigest()

    def path(self, index: int) -> Path:
        """File of a shard."""
        return self.folder / f"shard_{index:06d}.npz"

    def missing(self) -> list[int]:
        """Shards that have no file, or one of another job or damaged."""
        return [index for index in range(len(self.shards)) if read_lengths(self, index) is None]


def plan_shards(
    recording: Any,
    nodes: Sequence[PipelineNode],
    folder: str | Path,
    *,
    shard_duration_s: float = 60.0,
    job_kwargs: dict[str, Any] | None = None,
) -> ShardedJob:
    """Cut a recording into shards.

    Parameters
    ----------
    recording : BaseRecording
        That the pipeline reads.
    nodes : sequence of PipelineNode
        As for SpikeInterface's ``run_node_pipeline``.
    folder : str | Path
        For the results.
    shard_duration_s : float, default: 60.0
        Duration of a shard in seconds, rounded to whole chunks, at least one.
    job_kwargs : dict, optional
        SpikeInterface's, of which the size of the chunks is used (``chunk_duration``, ``chunk_size``, ...).

    Returns
    -------
    ShardedJob

    Raises
    ------
    InputError
        On a duration that is not positive, or no nodes.
    """
    if not (np.isfinite(shard_duration_s) and shard_duration_s > 0):
        raise InputError(f"shard_duration_s must be a positive number of seconds, got {shard_duration_s!r}.")
    nodes = list(nodes)
    if not nodes or not all(isinstance(node, PipelineNode) for node in nodes):
        raise InputError(f"nodes must be a list of SpikeInterface's PipelineNode, at least one, got {nodes!r}.")
    check_graph(nodes)
    chunk_size = ensure_chunk_size(recording, **fix_job_kwargs(job_kwargs or {}))
    chunks = divide_time_series_into_chunks(recording, chunk_size)
    per_shard = max(1, round(shard_duration_s * recording.sampling_frequency / chunk_size))
    shards = tuple(
        tuple(tuple(map(int, chunk)) for chunk in chunks[first : first + per_shard])
        for first in range(0, len(chunks), per_shard)
    )
    return ShardedJob(recording, nodes, shards, Path(folder))


def compute_shard(
    recording: Any, nodes: list[PipelineNode], slices: Sequence[Slice], path: Path, digest: str
) -> tuple[int, ...]:
    """Run the pipeline on the chunks of a shard and write what it gives to one file, whole or not at all.

    Parameters
    ----------
    recording, nodes
        Of the job.
    slices : sequence of (int, int, int)
        Chunks.
    path : Path
        File to write (``.npz``): one array per output.
    digest : str
        Of the job, kept in the file.

    Returns
    -------
    tuple of int
        Length of each output; empty when there were no peaks to compute on.
    """
    outputs = ()
    if _has_work(nodes, slices):
        options = {"job_kwargs": {"n_jobs": 1, "progress_bar": False}, "squeeze_output": False}
        outputs = run_node_pipeline(recording, nodes, slices=list(slices), **options)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    note = json.dumps({"digest": digest, "lengths": [len(output) for output in outputs]})
    with whole_file(Path(path)) as draft, open(draft, "wb") as file:
        np.savez(file, note=np.array(note), **{f"output_{k}": output for k, output in enumerate(outputs)})
    return tuple(len(output) for output in outputs)


def read_lengths(job: ShardedJob, index: int) -> list[int] | None:
    """Length of each output of a shard, from its file; None where the file is missing, damaged or of another job."""
    try:
        with np.load(job.path(index)) as file:
            note = json.loads(str(file["note"]))
            return list(map(int, note["lengths"])) if note["digest"] == job.digest else None
    except Exception:  # whatever a damaged file brings about: the shard is computed again
        return None


def merge_shards(job: ShardedJob, names: Sequence[str] | None = None) -> list[Path]:
    """Put the shards' outputs together in the order of the recording.

    Only one shard is in memory at a time.

    Parameters
    ----------
    job : ShardedJob
        With no shard missing.
    names : sequence of str, optional
        Of the files, one per output. Default: "output_0", "output_1", ...

    Returns
    -------
    list of Path
        The ``.npy`` files, each whole or absent.

    Raises
    ------
    InputError
        When shards are missing, names do not fit, or shards differ in dtype or shape.
    """
    lengths = [read_lengths(job, index) for index in range(len(job.shards))]
    if lost := [index for index, found in enumerate(lengths) if found is None]:
        raise InputError(f"{len(lost)} of {len(lengths)} shards are missing or of another job, such as {lost[:5]}.")
    num_outputs = max(map(len, lengths), default=0)
    if num_outputs == 0:
        return _write_empty(job, names)
    filled = [index for index, found in enumerate(lengths) if found]
    totals = [sum(lengths[index][k] for index in filled) for k in range(num_outputs)]
    paths = _paths(job, names, num_outputs)
    with ExitStack() as stack:
        drafts = [stack.enter_context(whole_file(path)) for path in paths]
        # written from first to last: a memory map on a full disk ends the process without a word
        merged = [stack.enter_context(open(draft, "wb")) for draft in drafts]
        first = [None] * num_outputs
        for index in filled:
            with np.load(job.path(index)) as file:
                for k in range(num_outputs):
                    part = file[f"output_{k}"]
                    if first[k] is None:
                        first[k] = part[:0]
                        header = np.lib.format.header_data_from_array_1_0(first[k])
                        header |= {"shape": (totals[k], *part.shape[1:]), "fortran_order": False}
                        np.lib.format.write_array_header_1_0(merged[k], header)
                    _check_alike(part, first[k], index, k)
                    merged[k].write(part.tobytes())
    return paths


def remove_shards(job: ShardedJob) -> None:
    """Remove the files of all shards, and what a worker that was killed had begun to write."""
    for index in range(len(job.shards)):
        job.path(index).unlink(missing_ok=True)
    remove_drafts(job.folder, "shard_*.npz")


def _has_work(nodes, slices):
    """Whether SpikeInterface would compute anything: with no peak in any chunk it fails."""
    retrievers = [node for node in nodes if isinstance(node, PeakRetriever | SpikeRetriever)]
    margin = max(node.get_margin() for node in nodes)
    spans = (node.get_peak_slice(*chunk, margin) for node in retrievers for chunk in slices)
    return not retrievers or any(first < last for first, last in spans)


def _paths(job, names, num_outputs):
    names = [f"output_{k}" for k in range(num_outputs)] if names is None else list(map(str, names))
    if len(names) != num_outputs or len(set(names)) < len(names) or any(Path(name).name != name for name in names):
        raise InputError(f"names must be {num_outputs} distinct file names, one per output, got {names!r}.")
    return [job.folder / f"{name}.npy" for name in names]


def _write_empty(job, names):
    """No peaks anywhere: arrays of length 0, where SpikeInterface itself fails."""
    nodes = [node for node in job.nodes if node.return_output]
    paths = _paths(job, names, len(nodes))
    for node, path in zip(nodes, paths, strict=True):
        with whole_file(path) as draft, open(draft, "wb") as file:
            np.save(file, np.zeros(0, dtype=node.get_dtype()))
    return paths


def _check_alike(part, merged, index, output):
    if part.dtype != merged.dtype or part.shape[1:] != merged.shape[1:]:
        raise InputError(
            f"Output {output} of shard {index} has dtype {part.dtype} and shape {part.shape}, that of those before "
            f"{merged.dtype} and {merged.shape[1:]} per row. They cannot be merged."
        )
