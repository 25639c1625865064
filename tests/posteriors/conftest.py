"""Two seconds of the small recording, the spikes of its cells as peaks, and their posteriors."""

import numpy as np
import pytest
import spikeinterface.full as si
from posterior_helpers import QUIET, array_recording, computed, posteriors_of

PEAK_DTYPE = [(name, "int64") for name in ("sample_index", "channel_index", "segment_index")]
NUM_FRAMES = 64_000


@pytest.fixture(scope="session")
def traces(mearec_small):
    return mearec_small[0].get_traces(end_frame=NUM_FRAMES).astype("float32")


@pytest.fixture(scope="session")
def recording(mearec_small, traces):
    return array_recording(traces, mearec_small[0])


@pytest.fixture(scope="session")
def sorting(mearec_small):
    return mearec_small[1].frame_slice(0, NUM_FRAMES)


@pytest.fixture(scope="session")
def peaks(recording, sorting):
    """The true spikes on their units' main channels, as an analyzer sees them."""
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=False, job_kwargs=QUIET)
    spikes = sorting.to_spike_vector()
    found = np.zeros(len(spikes), dtype=PEAK_DTYPE)
    found["sample_index"] = spikes["sample_index"]
    found["channel_index"] = analyzer.get_main_channels(outputs="index", with_dict=False)[spikes["unit_index"]]
    return found


@pytest.fixture(scope="session")
def expected(recording, peaks):
    """Posteriors with one process and one chunk: what everything else must equal."""
    return posteriors_of(recording, peaks, chunk_size=NUM_FRAMES)


@pytest.fixture(scope="session")
def named(sorting):
    """The sorting with names for units, and one that never fires."""
    names = [f"unit {letter}" for letter in "abcdefghijklmnopqrst"]
    trains = {
        name: sorting.get_unit_spike_train(unit_id) for name, unit_id in zip(names, sorting.unit_ids, strict=True)
    }
    # a spike of two units at once: their order in the spike vector follows the units
    trains["unit b"] = np.unique(np.append(trains["unit b"], trains["unit a"][:3]))
    return si.NumpySorting.from_unit_dict([{**trains, "silent": np.array([], dtype="int64")}], 32_000.0)


@pytest.fixture(scope="session")
def analyzer(named, recording):
    # dense, because a soft merge of far units is refused where their channels do not overlap
    return computed(named, recording)
