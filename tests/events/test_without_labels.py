"""Detectors for recordings without labels: as good as with them, silent where nothing is, and clear refusals."""

import warnings

import numpy as np
import pytest
from events_helpers import RATE
from spikeinterface.core import NumpyRecording
from unlabelled_helpers import imaged

import si_neuroml
from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.events import without_labels
from si_neuroml.events.evaluation import event_scores
from si_neuroml.events.without_labels import fit_event_detector_without_labels, set_threshold_from_recording
from si_neuroml.groundtruth.settings import IndicatorSettings

TRAINING = {"max_epochs": 8}
SMALL = {"num_cells": 16, "duration_s": 6.0, "progress_bar": False}


def scores_of(detector, truth, tolerance_ms=2.0):
    found = si_neuroml.detect_events(truth.recording, detector, job_kwargs={"n_jobs": 1, "progress_bar": False}).events
    lengths = np.full((1, truth.recording.get_num_channels()), truth.recording.get_num_samples())
    rate = truth.recording.get_sampling_frequency()
    return event_scores(truth.events, found, rate, lengths, headline_ms=tolerance_ms).headline


@pytest.fixture(scope="module")
def truth():
    return imaged(7)


@pytest.fixture(scope="module")
def detector(truth):
    return fit_event_detector_without_labels(truth.recording, training_kwargs=TRAINING, **SMALL)


def test_detector_without_labels_is_as_good_as_one_with(truth, detector):
    others = imaged(1007, num_cells=16, num_silent_cells=4, seconds=6.0)
    labelled = si_neuroml.fit_event_detector(
        others.recording,
        others.events,
        training_kwargs=TRAINING,
        num_folds=1,
        progress_bar=False,
    )
    free, fitted = scores_of(detector, truth), scores_of(labelled, truth)
    assert free["f1"] > fitted["f1"] - 0.04
    assert free["f1"] > 0.85
    for rate in (0.05, 0.2):
        moved = scores_of(set_threshold_from_recording(detector, truth.recording, rate), truth)
        error = np.sqrt(2 * rate * (1 - rate) / moved["num_found"])
        assert 1 - moved["precision"] < rate + 3 * error
        assert 1 - moved["precision"] > rate - 4 * error
    # the same operating point for a detector with labels
    moved = scores_of(set_threshold_from_recording(labelled, truth.recording), truth)
    assert 1 - moved["precision"] < 0.05 + 3 * np.sqrt(2 * 0.05 * 0.95 / moved["num_found"])


def test_detector_says_what_it_rests_on(truth, detector, tmp_path):
    measured, simulated, point = (detector.training[key] for key in ("measured", "simulated", "operating_point"))
    assert measured["polarity"] == detector.settings.polarity == -1
    assert measured["num_clear_events"] > 50
    assert simulated["num_cells"] == 16
    assert simulated["off_ms"][0] < 4.0
    assert point["estimated_false_discovery_rate"] <= point["false_discovery_rate"] == 0.05
    assert not point["silent"]
    loaded = si_neuroml.load_model(si_neuroml.save_model(detector, tmp_path / "model"))
    assert loaded == detector
    found = si_neuroml.detect_events(truth.recording, loaded, job_kwargs={"n_jobs": 1, "progress_bar": False}).events
    # among what is found, noise is as rare as estimated
    assert 0.85 < found["probability"].mean() < 1.0


def test_silent_recordings_have_no_events(detector):
    for seed in range(6):
        silent = imaged(50 + seed, num_cells=4, num_silent_cells=4, seconds=6.0)
        with pytest.warns(UserWarning, match="counts as silent"):
            moved = set_threshold_from_recording(detector, silent.recording)
        result = si_neuroml.detect_events(silent.recording, moved, job_kwargs={"n_jobs": 1, "progress_bar": False})
        assert moved.training["operating_point"]["silent"]
        assert len(result.events) == len(result.periods) == 0
    with pytest.warns(UserWarning, match="counts as silent"):
        fitted = fit_event_detector_without_labels(silent.recording, network="matched_filter", polarity=-1, **SMALL)
    assert fitted.training["measured"]["num_clear_events"] == 0
    assert scores_of(fitted, silent)["num_found"] == 0


def test_slow_and_positive_recordings():
    truth = imaged(11, rate=1000.0, polarity="pos", seconds=12.0)
    known = IndicatorSettings(on_ms=(0.5, 1.5), off_ms=(1.0, 3.0))
    detector = fit_event_detector_without_labels(
        truth.recording, network="matched_filter", indicator=known, polarity="auto", **SMALL
    )
    assert detector.training["simulated"]["off_ms"] == [1.0, 3.0]
    assert detector.settings.polarity == 1
    assert detector.settings.sampling_frequency == 1000.0
    headline = scores_of(detector, truth)
    assert headline["f1"] > 0.8
    assert 1 - headline["precision"] < 0.05 + 3 * np.sqrt(2 * 0.05 * 0.95 / headline["num_found"])
    with pytest.raises(ModelMismatchError, match="1000 Hz"):
        set_threshold_from_recording(detector, imaged(0, num_cells=2, seconds=2.0).recording)


def test_segments_and_channels_are_pooled_and_bounded(truth, detector, monkeypatch):
    traces = truth.recording.get_traces()
    parts = NumpyRecording([traces[:9000], traces[9000:9100], traces[9100:]], RATE)
    moved, whole = (set_threshold_from_recording(detector, one) for one in (parts, truth.recording))
    assert moved.threshold == pytest.approx(whole.threshold, abs=0.3)
    # a constant channel changes nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wider = set_threshold_from_recording(
            detector, NumpyRecording([np.column_stack([traces, np.full(len(traces), 5.0)])], RATE)
        )
    assert wider.threshold == whole.threshold
    monkeypatch.setattr(without_labels, "MAX_SAMPLES", 4 * len(traces))
    seen = []
    original = without_labels.compete
    monkeypatch.setattr(without_labels, "compete", lambda s, x, *rest: seen.append(x) or original(s, x, *rest))
    set_threshold_from_recording(detector, truth.recording, 0.2)
    assert sum(part.size for part in seen[0]) == 4 * len(traces)


def test_unsure_polarity_is_named():
    rng = np.random.default_rng(4)
    noise = NumpyRecording([(1000 + rng.standard_normal((20_000, 4))).astype("float32")], RATE)
    silent = pytest.warns(UserWarning, match="counts as silent")
    with silent, pytest.warns(UserWarning, match="do not say which way events point"):
        detector = fit_event_detector_without_labels(noise, network="matched_filter", **SMALL)
    assert detector.training["measured"]["polarity_z"] < 3
    assert detector.training["operating_point"]["silent"]


def test_events_of_another_shape_are_named():
    rng = np.random.default_rng(5)
    traces = rng.standard_normal((20_000, 4)).astype("float32")
    for start in range(100, 19_900, 200):
        traces[start : start + 4, start % 4] += np.array([0.4, 1.0, -0.9, -0.6]) * 12
    recording = NumpyRecording([traces], RATE)
    with pytest.warns(UserWarning, match="not shaped like the response of a voltage indicator"):
        fit_event_detector_without_labels(recording, network="matched_filter", polarity=1, **SMALL)


def test_what_cannot_be_used_is_refused(truth, detector):
    traces = truth.recording.get_traces().copy()
    traces[100:150, 1] = np.nan
    broken = NumpyRecording([traces], RATE)
    for call in (fit_event_detector_without_labels, lambda one: set_threshold_from_recording(detector, one)):
        with pytest.raises(InputError, match="50 of .* samples looked at are NaN"):
            call(broken)
        with pytest.raises(InputError, match="at least 3328 samples"):
            call(truth.recording.frame_slice(0, 3000))
        with pytest.raises(InputError, match="at least 3328 samples"):
            call(NumpyRecording([traces[1000:1300]] * 20, RATE))
        with pytest.warns(UserWarning, match="constant"), pytest.raises(InputError, match="All of 2 channels are"):
            call(NumpyRecording([np.ones((5000, 2), "float32")], RATE))
    for wrong in ({"false_discovery_rate": 0.0}, {"polarity": 2}, {"num_cells": 2}, {"duration_s": 0.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            fit_event_detector_without_labels(truth.recording, **wrong)
    with pytest.raises(InputError, match="false_discovery_rate must lie"):
        set_threshold_from_recording(detector, truth.recording, 1.0)
