"""Shards of a pipeline: planned, computed, damaged, merged, without any cluster."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline_helpers import detector, places, troughs
from spikeinterface.core.node_pipeline import PeakRetriever, run_node_pipeline

from si_neuroml.errors import InputError
from si_neuroml.sharding import compute_shard, merge_shards, plan_shards, read_lengths, remove_shards

ONE_JOB = {"n_jobs": 1, "progress_bar": False}


def compute(job, indices=None):
    for index in range(len(job.shards)) if indices is None else indices:
        compute_shard(job.recording, job.nodes, job.shards[index], job.path(index), job.digest)


def merged(job):
    return [np.load(path) for path in merge_shards(job)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk_s=st.sampled_from([0.37, 1.0, 5.0, 60.0]), shard_s=st.floats(0.1, 20.0), seed=st.integers(0, 99))
def test_shards_in_any_order_are_the_whole(saved_recording, tmp_path_factory, chunk_s, shard_s, seed):
    kwargs = {**ONE_JOB, "chunk_duration": chunk_s}
    nodes = [detector(saved_recording)]
    whole = run_node_pipeline(saved_recording, nodes, job_kwargs=kwargs)
    folder = tmp_path_factory.mktemp("shards")
    job = plan_shards(saved_recording, nodes, folder, shard_duration_s=shard_s, job_kwargs=kwargs)
    compute(job, np.random.default_rng(seed).permutation(len(job.shards)))
    np.testing.assert_array_equal(merged(job)[0], whole)
    covered = np.zeros(len(job.shards), dtype=bool)
    for index, shard in enumerate(job.shards):
        covered[index] = sum(last - first for _, first, last in shard) > 0
    assert covered.all()
    assert [chunk for shard in job.shards for chunk in shard] == sorted(
        chunk for shard in job.shards for chunk in shard
    )


def test_several_outputs_and_shards_without_peaks(saved_recording, tmp_path):
    peaks = run_node_pipeline(saved_recording, [detector(saved_recording)], job_kwargs=ONE_JOB)
    some = peaks[(peaks["segment_index"] == 0) & (peaks["sample_index"] > 8 * saved_recording.sampling_frequency)]
    source = PeakRetriever(saved_recording, some)
    nodes = places(saved_recording, "center_of_mass", source)
    nodes[0].return_output = True
    whole = run_node_pipeline(saved_recording, nodes, job_kwargs=ONE_JOB, squeeze_output=False)
    job = plan_shards(saved_recording, nodes, tmp_path, shard_duration_s=2.0, job_kwargs=ONE_JOB)
    compute(job)
    assert read_lengths(job, 0) == []  # nothing to do there, where SpikeInterface fails
    for part, truth in zip(merged(job), whole, strict=True):
        np.testing.assert_array_equal(part, truth)
    remove_shards(job)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output_0.npy", "output_1.npy"]


def test_no_peaks_at_all(saved_recording, tmp_path):
    peaks = np.zeros(0, dtype=detector(saved_recording).get_dtype())
    nodes = places(saved_recording, "center_of_mass", PeakRetriever(saved_recording, peaks))
    job = plan_shards(saved_recording, nodes, tmp_path, shard_duration_s=5.0, job_kwargs=ONE_JOB)
    compute(job)
    (found,) = merged(job)
    assert len(found) == 0
    assert found.dtype == np.dtype(nodes[-1].get_dtype())


def test_damaged_and_foreign_shards_count_as_missing(saved_recording, tmp_path):
    job = plan_shards(saved_recording, [detector(saved_recording)], tmp_path, shard_duration_s=3.0, job_kwargs=ONE_JOB)
    assert job.missing() == list(range(len(job.shards)))
    compute(job)
    assert job.missing() == []
    job.path(0).write_bytes(job.path(0).read_bytes()[:-40])
    job.path(1).write_bytes(b"")
    other = plan_shards(saved_recording, troughs(saved_recording, tmp_path / "log"), tmp_path, job_kwargs=ONE_JOB)
    compute_shard(other.recording, other.nodes, other.shards[0], job.path(2), other.digest)
    assert job.missing() == [0, 1, 2]
    with pytest.raises(InputError, match=r"3 of \d+ shards are missing or of another job, such as \[0, 1, 2\]"):
        merge_shards(job)


def test_a_failed_shard_leaves_nothing(saved_recording, tmp_path):
    nodes = troughs(saved_recording, tmp_path / "log", "raise", frame=100)
    job = plan_shards(saved_recording, nodes, tmp_path / "out", shard_duration_s=3.0, job_kwargs=ONE_JOB)
    with pytest.raises(RuntimeError, match="disk of this worker"):
        compute(job, [0])
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_digest_knows_recording_parameters_and_chunks(saved_recording, tmp_path):
    def digest(recording=saved_recording, threshold=5.0, chunk=1.0, shard_s=3.0, gain=None):
        if gain is not None:
            recording = recording.clone()
            recording.set_channel_gains(gain)
        node = detector(recording, threshold)
        kwargs = {**ONE_JOB, "chunk_duration": chunk}
        return plan_shards(recording, [node], tmp_path, shard_duration_s=shard_s, job_kwargs=kwargs).digest

    assert digest() == digest()
    assert digest(gain=2.0) == digest(gain=2.0)
    different = [
        digest(),
        digest(threshold=6.0),
        digest(chunk=0.5),
        digest(shard_s=1.0),
        digest(gain=2.0),
        digest(recording=saved_recording.select_segments([0])),
    ]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("duration", [0.0, -1.0, np.nan])
def test_refuses_durations(saved_recording, tmp_path, duration):
    with pytest.raises(InputError, match="shard_duration_s must be a positive number"):
        plan_shards(saved_recording, [detector(saved_recording)], tmp_path, shard_duration_s=duration)


def test_refuses_what_is_no_pipeline(saved_recording, tmp_path):
    with pytest.raises(InputError, match="nodes must be a list"):
        plan_shards(saved_recording, [], tmp_path)
    job = plan_shards(saved_recording, [detector(saved_recording)], tmp_path, shard_duration_s=9.0, job_kwargs=ONE_JOB)
    compute(job)
    for names in (["a", "b"], ["../a"]):
        with pytest.raises(InputError, match="names must be 1 distinct file names"):
            merge_shards(job, names)
