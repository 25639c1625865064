"""The learned detector in SpikeInterface: the same events whatever the chunks and jobs, and clear refusals."""

import numpy as np
import pytest
from events_helpers import RATE, make_recording, make_traces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spikeinterface.core import NumpyRecording
from spikeinterface.preprocessing import scale
from spikeinterface.sortingcomponents.peak_detection import detect_peaks

import si_neuroml
from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError
from si_neuroml.events.detector import EventDetector
from si_neuroml.events.matching import match_events
from si_neuroml.events.strided_network import StridedScorer

QUIET = {"n_jobs": 1, "progress_bar": False}


def detect(recording, model, *, job_kwargs=None, **method_kwargs):
    return detect_peaks(
        recording,
        method="learned_events",
        method_kwargs={"model": model, **method_kwargs},
        job_kwargs={**QUIET, **(job_kwargs or {})},
    )


@pytest.mark.parametrize("name", ["matched_filter", "strided"])
def test_finds_the_events_of_another_recording(name, request):
    detector = request.getfixturevalue(name)
    recording, events = make_recording([12_000], num_events=60, seed=5)
    found = detect(recording, detector)
    matched = (match_events(events, found, 3) >= 0).sum()
    assert matched > 0.95 * len(events)
    assert matched > 0.95 * len(found)
    assert np.all(found["probability"][match_events(found, events, 3) >= 0] > 0.5)
    assert np.all((found["onset"] <= found["sample_index"]) & (found["sample_index"] < found["offset"]))
    traces = recording.get_traces()
    np.testing.assert_array_equal(found["amplitude"], traces[found["sample_index"], found["channel_index"]])


def random_detector(like, seed=0):
    """The default network with random weights: its scores hang on every sample within its reach."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(0, 0.2, value.shape) for name, value in like.scorer.to_arrays().items()}
    scorer = StridedScorer(arrays, like.scorer.dilations)
    scores = scorer.scores(rng.standard_normal((1, 20_000)).astype("float32"))
    threshold, low = np.quantile(scores, [0.98, 0.9])
    return EventDetector("strided", scorer, like.settings, threshold, low, (1.0, 0.0), {})


@pytest.fixture(scope="module")
def whole(strided):
    """A detector that marks much, a recording of three segments, and what it finds there in one piece each."""
    detector, recording = random_detector(strided), make_recording([7000, 1201, 5000], seed=7)[0]
    return detector, recording, si_neuroml.detect_events(recording, detector, job_kwargs={**QUIET, "chunk_size": 10**6})


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunk_size=st.one_of(st.integers(90, 1500), st.integers(1500, 8000)))
def test_chunks_do_not_matter(whole, chunk_size):
    detector, recording, expected = whole
    assert len(expected.events) > 200
    found = si_neuroml.detect_events(recording, detector, job_kwargs={**QUIET, "chunk_size": chunk_size})
    np.testing.assert_array_equal(found.events, expected.events)
    np.testing.assert_array_equal(found.periods, expected.periods)


@pytest.mark.parametrize(
    "job_kwargs",
    [
        {"n_jobs": 2, "chunk_duration": "0.1s"},
        {"n_jobs": 2, "chunk_duration": "1s", "pool_engine": "thread"},
        {"n_jobs": 2, "chunk_duration": "1s", "mp_context": "spawn"},
    ],
)
def test_jobs_do_not_matter(whole, job_kwargs):
    detector, recording, expected = whole
    found = si_neuroml.detect_events(recording, detector, job_kwargs={"progress_bar": False, **job_kwargs})
    np.testing.assert_array_equal(found.events, expected.events)
    np.testing.assert_array_equal(found.periods, expected.periods)


def recording_of(times, num_samples, seed=3, amplitude=14.0):
    trace = make_traces(num_samples, times, np.random.default_rng(seed), amplitude=amplitude)
    return NumpyRecording([trace[:, None].astype("float32")], RATE)


@pytest.mark.parametrize("name", ["matched_filter", "strided"])
def test_one_event_on_every_border_and_one_per_chunk(name, request):
    """The cases in which other detectors count twice or lose all."""
    detector, size = request.getfixturevalue(name), 400
    for shift in (-1, 0, 1, size // 2):
        times = np.arange(size, 12 * size, size) + shift
        recording = recording_of(times, 12 * size + 37)
        found = detect(recording, detector, job_kwargs={"chunk_size": size})
        np.testing.assert_array_equal(found, detect(recording, detector, job_kwargs={"chunk_size": 10**6}))
        assert np.abs(found["sample_index"] - times[:, None]).min(axis=1).max() <= 2
        assert len(times) <= len(found) <= len(times) + 1


@pytest.mark.parametrize("name", ["matched_filter", "strided"])
def test_no_events_at_all(name, request):
    recording = recording_of([], 20_000)
    found = si_neuroml.detect_events(recording, request.getfixturevalue(name), job_kwargs={**QUIET, "chunk_size": 500})
    assert len(found.events) <= 2  # thresholds that found true events let a noise peak in 20,000 samples through
    none = detect(recording, request.getfixturevalue(name), threshold=1e6)
    assert none.shape == (0,)
    assert none.dtype.names[-3:] == ("probability", "onset", "offset")


def test_ends_of_a_bright_trace_are_no_events(strided):
    """Beyond the ends SpikeInterface gives zeros, a step of 1,000 times the noise here."""
    found = detect(recording_of([], 3000), strided)
    assert not np.any((found["sample_index"] < 20) | (found["sample_index"] >= 2980))


def test_shorter_than_the_reach(strided):
    assert strided.margin > 60
    found = detect(recording_of([30], 60), strided)
    assert np.abs(found["sample_index"] - 30).min() <= 2
    assert detect(recording_of([], 1), strided).shape == (0,)


def test_long_periods_are_stitched(matched_filter):
    trace = make_traces(6000, [], np.random.default_rng(0))
    trace[2000:2200] -= 30.0  # 60 ms, across several chunks
    recording = NumpyRecording([trace[:, None]], RATE)
    slow = EventDetector(
        "threshold",
        si_neuroml.fit_event_detector(*make_recording([9000], seed=1), network="threshold").scorer,
        matched_filter.settings,
        5.0,
        5.0,
        (1.0, 0.0),
        {},
    )
    found = si_neuroml.detect_events(recording, slow, job_kwargs={**QUIET, "chunk_size": 70})
    assert len(found.periods) == 1
    assert abs(found.periods["start_sample_index"][0] - 2000) <= 2
    assert abs(found.periods["end_sample_index"][0] - 2200) <= 2


def test_integers_with_gain_give_the_same_events(matched_filter):
    exact, events = make_recording([9000], seed=9)
    rounded, _ = make_recording([9000], seed=9, dtype="int16")
    one, two = detect(exact, matched_filter), detect(rounded, matched_filter)
    assert np.all(match_events(one, two, 1) >= 0)
    assert (match_events(events, two, 3) >= 0).mean() > 0.95


def test_saved_detector_finds_the_same(strided, whole, tmp_path):
    recording = whole[1]
    folder = si_neuroml.save_model(strided, tmp_path / "detector")
    np.testing.assert_array_equal(detect(recording, folder), detect(recording, strided))
    with pytest.raises(ModelFileError):
        detect(recording, tmp_path / "nothing")


def test_wrong_rate_is_refused(strided):
    recording = NumpyRecording([np.zeros((5000, 1), "float32")], 30_000.0)
    with pytest.raises(ModelMismatchError, match="3328 Hz; the recording has 30000 Hz"):
        detect(recording, strided)


def test_no_model_is_refused():
    with pytest.raises(InputError, match="needs a model"):
        detect(recording_of([], 3000), None)


def test_inverted_recording_is_named(strided, labelled):
    with pytest.warns(UserWarning, match="fitted to events that point down, but this recording is skewed"):
        detect(scale(labelled[0], gain=-1.0), strided)


def test_nan_is_refused_or_taken_as_baseline(strided):
    recording = recording_of([500, 3000], 8000)
    traces = recording.get_traces().copy()
    traces[2000:2003] = np.nan
    broken = NumpyRecording([traces], RATE)
    with pytest.raises(InputError, match="3 of 8000 samples looked at are NaN or infinite, on 1 channels"):
        detect(broken, strided)
    found = detect(broken, strided, allow_nan=True)
    np.testing.assert_array_equal(match_events(detect(recording, strided), found, 1) >= 0, True)


def test_constant_channel_holds_no_events(strided):
    recording = recording_of([500, 3000], 8000)
    traces = np.column_stack([np.full(8000, 7.0, "float32"), recording.get_traces()[:, 0]])
    with pytest.warns(UserWarning, match="1 of 2 channels are constant"):
        found = detect(NumpyRecording([traces], RATE), strided)
    assert set(found["channel_index"]) == {1}


def test_events_as_a_sorting(strided, labelled):
    recording, _ = labelled
    found = detect(recording, strided)
    sorting = si_neuroml.events_to_sorting(recording, found)
    assert list(sorting.unit_ids) == list(recording.channel_ids)
    assert sorting.get_num_segments() == 2
    for index, unit in enumerate(sorting.unit_ids):
        expected = found["sample_index"][(found["channel_index"] == index) & (found["segment_index"] == 1)]
        np.testing.assert_array_equal(sorting.get_unit_spike_train(unit, segment_index=1), expected)
    none = si_neuroml.events_to_sorting(recording, found[:0])
    assert list(none.unit_ids) == list(recording.channel_ids)
    assert none.count_total_num_spikes() == 0
    first = si_neuroml.events_to_sorting(recording, found[found["segment_index"] == 0])
    assert first.get_num_segments() == none.get_num_segments() == 2
    assert len(first.get_unit_spike_train("site1", segment_index=1)) == 0
    first.register_recording(recording)
    recording = recording.clone()
    recording.set_property("cell", ["a", "b", "b"])
    by_cell = si_neuroml.events_to_sorting(recording, found, by="cell")
    assert list(by_cell.unit_ids) == ["a", "b"]
    assert by_cell.count_total_num_spikes() == len(found)
    with pytest.raises(InputError, match="no property 'area'"):
        si_neuroml.events_to_sorting(recording, found, by="area")
