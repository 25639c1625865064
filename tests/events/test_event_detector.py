"""What a detector is told and says: one event for one strong spike, the cells it was tested on, and joint scores."""

import json

import numpy as np
import pytest
from events_helpers import RATE, make_recording, make_traces
from spikeinterface.core import NumpyRecording

import si_neuroml
from si_neuroml.events.detector import EventDetector
from si_neuroml.events.line import connect_sites, joint_scores
from si_neuroml.events.line_fit import fit_line_coupling
from si_neuroml.events.operating_point import find_operating_point, peak_candidates
from si_neuroml.events.ranking import probability_calibration, ranked_hits
from si_neuroml.events.settings import DetectorSettings
from si_neuroml.events.threshold import ThresholdScorer
from si_neuroml.events.windows import LabelledTraces

QUIET = {"n_jobs": 1, "progress_bar": False}


@pytest.mark.parametrize("amplitude", [14.0, 50.0, 200.0])
def test_a_strong_event_is_one_event(strided, amplitude):
    times = np.arange(100, 19_900, 60)
    trace = make_traces(20_000, times, np.random.default_rng(0), amplitude=amplitude)
    recording = NumpyRecording([trace[:, None].astype("float32")], RATE)
    found = si_neuroml.detect_events(recording, strided, job_kwargs=QUIET).events
    assert len(found) == len(times)
    assert np.abs(found["sample_index"] - times).max() <= 2


@pytest.mark.parametrize(("gap_ms", "num_events"), [(1.8, 1), (2.4, 2)])
def test_two_peaks_within_two_milliseconds_are_one_event(gap_ms, num_events):
    gap, settings = round(gap_ms * RATE / 1000), DetectorSettings(RATE, 1)
    scores = np.full((1, 200), -1.0, dtype="float32")
    scores[0, [80, 80 + gap]] = 9.0, 8.0
    detector = EventDetector("threshold", ThresholdScorer(), settings, 4.0, 0.0, (1.0, 0.0), {})
    np.testing.assert_array_equal(detector.events(scores, 0, (0, 200))["sample_index"], [80, 80 + gap][:num_events])


def test_held_out_cells_are_named():
    recording, events = make_recording([12_000], num_channels=4, num_events=60, seed=2)
    recording.set_property("cell", ["red", "red", "blue", "green"])
    training = si_neuroml.fit_event_detector(recording, events, network="matched_filter", num_folds=1).training
    assert json.loads(json.dumps(training["held_out_cells"])) == training["held_out_cells"]
    assert len(training["held_out_cells"]) == 1
    # nothing of another cell was counted among the held-out events
    held_out = np.isin(recording.get_property("cell")[events["channel_index"]], training["held_out_cells"])
    assert training["held_out"]["num_true"] == held_out.sum()
    assert training["num_events"] == (~held_out).sum()
    pair = [make_recording([8000], num_channels=2, num_events=30, seed=seed) for seed in (1, 2)]
    detector = si_neuroml.fit_event_detector(*zip(*pair, strict=True), network="matched_filter", num_folds=1)
    assert detector.training["held_out_cells"][0] in ("0/0", "1/0")
    # in folds, all are held out once and all are trained on
    training = si_neuroml.fit_event_detector(recording, events, network="matched_filter", num_folds=9).training
    assert training["held_out_cells"] == ["blue", "green", "red"]
    assert training["num_folds"] == 3
    assert training["held_out"]["num_true"] == training["num_events"] == len(events)
    detector = si_neuroml.fit_event_detector(recording, events, network="matched_filter", split="time")
    assert "held_out_cells" not in detector.training


def scored_dendrite(seed, height=4.0):
    """(scores of four sites with independent noise that see the same 400 events, labels)."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((4, 100_000)).astype("float32")
    times = np.sort(rng.choice(np.arange(50, 99_950, 50), 400, replace=False))
    scores[:, times] += height
    labels = np.zeros((400, 4), dtype=[(n, "int64") for n in ("sample_index", "channel_index", "onset", "offset")])
    labels["sample_index"], labels["channel_index"] = times[:, None], np.arange(4)
    labels["onset"], labels["offset"] = labels["sample_index"], labels["sample_index"] + 1
    return scores, labels.ravel()


def test_probability_of_joint_scores():
    """That of single sites does not hold for them; one found on joint scores does, on another recording too."""
    settings, places = DetectorSettings(RATE, 1), (np.arange(4) * 30.0, np.zeros(4))

    def point_of(scores, labels):
        return find_operating_point([LabelledTraces(scores, labels, np.array(list("abcd")))], [scores], settings)

    def calibration_error(detector, scores, labels):
        events, values = peak_candidates(scores, settings)
        true = np.zeros(len(labels), dtype=events.dtype)
        true["sample_index"], true["channel_index"] = labels["sample_index"], labels["channel_index"]
        return probability_calibration(ranked_hits(true, events, values, 1), detector.probability(values))["error"]

    scores, labels = scored_dendrite(0)
    alone = point_of(scores, labels)
    detector = EventDetector("threshold", ThresholdScorer(), settings, *alone[:3], {})
    fitted = fit_line_coupling([scores], *([one] for one in places), [labels], settings, alone.threshold)
    assert fitted.coupling.coupling > 0
    line = connect_sites(*places, fitted.coupling, RATE, alone.threshold)
    point = point_of(joint_scores(scores, line), labels)
    together = detector.with_thresholds(point.threshold, point.low_threshold, point.calibration)
    assert detector.calibration == alone.calibration

    scores, labels = scored_dendrite(1)
    joint = joint_scores(scores, line)
    assert calibration_error(detector, scores, labels) < 0.02
    assert calibration_error(together, joint, labels) < 0.02
    assert calibration_error(detector, joint, labels) > 2 * calibration_error(together, joint, labels)
