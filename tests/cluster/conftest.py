"""A recording on disk and a cluster of two workers."""

import pytest
from spikeinterface import generate_ground_truth_recording


@pytest.fixture(scope="session")
def saved_recording(tmp_path_factory):
    """Two segments of 12.3 and 4.1 s on 16 channels, in a folder."""
    recording, _ = generate_ground_truth_recording(durations=[12.3, 4.1], num_channels=16, num_units=6, seed=1)
    return recording.save(folder=tmp_path_factory.mktemp("cluster") / "recording", progress_bar=False, n_jobs=1)


@pytest.fixture(scope="session")
def client():
    """Of a cluster of two processes on this computer."""
    pytest.importorskip("distributed")
    from si_neuroml.cluster import open_client

    with open_client(None, 2) as opened:
        yield opened
