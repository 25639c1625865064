"""Fitting detectors: the polarity, the thresholds and the probabilities are learned, and bad labels are refused."""

import numpy as np
import pytest
from events_helpers import RATE, make_recording
from spikeinterface.core import NumpyRecording
from spikeinterface.preprocessing import scale

import si_neuroml
from si_neuroml.errors import InputError, ModelMismatchError, TrainingError
from si_neuroml.events.detector import SCORERS, EventDetector
from si_neuroml.events.fit import labelled_traces
from si_neuroml.events.matched_filter import MatchedFilterScorer
from si_neuroml.events.operating_point import find_operating_point, fit_probability, peak_candidates
from si_neuroml.events.settings import DetectorSettings
from si_neuroml.events.windows import LabelledTraces


@pytest.mark.parametrize("network", ["threshold", "matched_filter", "svm"])
def test_baselines_learn(labelled, network):
    detector = si_neuroml.fit_event_detector(*labelled, network=network)
    assert detector.settings.polarity == -1
    assert detector.training["held_out"]["f1"] > 0.9
    assert detector.training["split"] == "cell"


@pytest.mark.parametrize("network", ["unet", "bilstm", "tcn", "tcn_two_sided", "transformer"])
def test_every_network_trains_saves_and_loads(labelled, network, tmp_path):
    small = {"bilstm": {"hidden_size": 8}, "transformer": {"num_layers": 1}}.get(network, {})
    if network.startswith("tcn"):
        small = {"channels": (8, 8)}
    # others make passes over the windows, of which there are few
    short = {"steps_per_epoch": 10} if network == "unet" else {"overlap": 400} if network.startswith("tcn") else {}
    detector = si_neuroml.fit_event_detector(
        *labelled,
        network=network,
        network_kwargs=small,
        training_kwargs={"max_epochs": 2, "batch_size": 8, "learning_rate": 1e-2} | short,
        progress_bar=False,
    )
    assert len(detector.training["loss"]) == 2
    assert detector.training["num_folds"] == 1
    assert len(detector.training["held_out_score"]) == (0 if network == "unet" else 2)
    loaded = si_neuroml.load_model(si_neuroml.save_model(detector, tmp_path / "model"))
    assert loaded == detector
    traces = labelled[0].get_traces(segment_index=1)
    arguments = {"first_frame": 0, "num_samples": len(traces), "noise": np.ones(3)}
    np.testing.assert_array_equal(detector.scores(traces, **arguments)[0], loaded.scores(traces, **arguments)[0])


def test_the_default_network_learns_and_repeats(labelled, strided):
    assert strided.training["held_out"]["f1"] > 0.9
    assert strided.training["loss"][-1] < 0.5 * strided.training["loss"][0]
    again = si_neuroml.fit_event_detector(
        *labelled, training_kwargs={"max_epochs": 4, "batch_size": 8}, progress_bar=False
    )
    assert again == strided


def test_polarity_is_found_and_mirrored(labelled):
    recording, events = labelled
    down = si_neuroml.fit_event_detector(recording, events, network="matched_filter")
    up = si_neuroml.fit_event_detector(scale(recording, gain=-1.0), events, network="matched_filter")
    assert (down.settings.polarity, up.settings.polarity) == (-1, 1)
    np.testing.assert_allclose(up.scorer.taps, down.scorer.taps, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("num_folds", [1, 4])
def test_one_cell_is_split_in_time(num_folds):
    recording, events = make_recording([12_000], num_channels=1, num_events=60, seed=4)
    training = si_neuroml.fit_event_detector(recording, events, network="matched_filter", num_folds=num_folds).training
    assert (training["split"], training["num_folds"]) == ("time", num_folds)
    assert training["held_out"]["num_true"] == (60 if num_folds == 4 else 60 - training["num_events"])


def test_all_cells_tell_the_threshold(labelled):
    """In folds every event is held out once, and the detector returned has seen all."""
    recording, events = labelled
    folds = si_neuroml.fit_event_detector(recording, events, network="matched_filter", num_folds=3)
    assert folds.training["held_out"]["num_true"] == folds.training["num_events"] == len(events)
    assert folds.training["held_out_cells"] == ["0", "1", "2"]
    once = si_neuroml.fit_event_detector(recording, events, network="matched_filter", num_folds=1)
    assert once.training["held_out"]["num_true"] == len(events) - once.training["num_events"] == 120
    # what is learned from all is not what is learned from some
    assert not np.array_equal(once.scorer.taps, folds.scorer.taps)
    traces, settings = labelled_traces(recording, events)
    taps = MatchedFilterScorer.fit([p.x for p in traces], [p.labels for p in traces], before=10, after=20).taps
    np.testing.assert_array_equal(folds.scorer.taps, taps)
    assert settings == folds.settings
    with pytest.raises(InputError, match="num_folds must be a whole number from 1 on"):
        si_neuroml.fit_event_detector(recording, events, network="matched_filter", num_folds=0)


def test_several_recordings():
    pairs = [make_recording([8000], num_channels=2, num_events=30, seed=seed) for seed in (1, 2, 3)]
    detector = si_neuroml.fit_event_detector(*zip(*pairs, strict=True), network="matched_filter")
    assert detector.training["num_cells"] == 3  # without a property "cell", a recording is one cell
    cells = [["a", "b"], ["a", "b"], ["c", "d"]]
    detector = si_neuroml.fit_event_detector(*zip(*pairs, strict=True), network="matched_filter", cells=cells)
    assert detector.training["num_cells"] == 4  # names that are given are one cell in all recordings


def labelled_scores(seed=0):
    """Scores with known hits: events of score 5, noise peaks of score 1 to 3."""
    rng = np.random.default_rng(seed)
    scores = np.full((1, 40_000), -5.0, "float32")
    places = rng.permutation(np.arange(20, 39_900, 20))
    true, false = np.sort(places[:100]), places[100:400]
    scores[0, true], scores[0, false] = rng.normal(5, 0.5, 100), rng.uniform(1, 3, 300)
    labels = np.zeros(100, dtype=[(name, "int64") for name in ("sample_index", "channel_index", "onset", "offset")])
    labels["sample_index"], labels["onset"], labels["offset"] = true, true, true + 1
    return LabelledTraces(np.zeros_like(scores), labels, np.array(["a"])), scores


def test_thresholds_lie_between_noise_and_events():
    traces, scores = labelled_scores()
    settings = DetectorSettings(RATE, 1)
    point = find_operating_point([traces], [scores], settings)
    assert point.summary["f1"] == 1.0
    assert 3.0 < point.threshold < 4.5
    slope, intercept = point.calibration
    logistic = 1 / (1 + np.exp(-(slope * np.array([2.0, 5.0]) + intercept)))
    assert logistic[0] < 0.1
    assert logistic[1] > 0.9
    with pytest.raises(TrainingError, match="None of the .* highest scores lies within"):
        find_operating_point([traces], [np.roll(scores, 10, axis=1)], settings)


def test_candidates_are_the_highest_peaks():
    traces, scores = labelled_scores()
    events, values = peak_candidates(scores, DetectorSettings(RATE, 1))
    assert set(traces.labels["sample_index"]) <= set(events["sample_index"])
    np.testing.assert_array_equal(values, scores[0, events["sample_index"]])


def test_wide_events_leave_room_for_noise_among_the_candidates():
    """Many samples of high scores are few peaks: the others must not crowd noise out of the calibration."""
    traces, scores = labelled_scores()
    wide = scores.copy()
    for sample in traces.labels["sample_index"]:
        wide[0, sample - 8 : sample + 9] = np.maximum(wide[0, sample - 8 : sample + 9], 3.0)
    events, _ = peak_candidates(wide, DetectorSettings(RATE, 1))
    assert set(traces.labels["sample_index"]) <= set(events["sample_index"])
    assert len(events) > 300


def test_channels_without_data_are_no_events(strided):
    probability = strided.probability(np.array([-np.inf, 100.0]))
    np.testing.assert_allclose(probability, [0.0, 1.0], atol=1e-3)
    flat = EventDetector("strided", strided.scorer, strided.settings, 1.0, 0.0, (0.0, 1.0), {})
    assert flat.probability(np.array([-np.inf]))[0] == 0.0


def test_probabilities_are_shares_of_true_events():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, 20_000)
    hits = rng.random(20_000) < 1 / (1 + np.exp(-(0.8 * scores - 1.5)))
    slope, intercept = fit_probability(scores, hits)
    assert slope == pytest.approx(0.8, abs=0.05)
    assert intercept == pytest.approx(-1.5, abs=0.08)
    assert fit_probability(scores[:10], np.ones(10, bool)) == (0.0, pytest.approx(np.log(11)))


def test_what_cannot_be_learned_from_is_refused(labelled):
    recording, events = labelled
    with pytest.raises(InputError, match="no network or baseline 'lstm'; there are"):
        si_neuroml.fit_event_detector(recording, events, network="lstm")
    with pytest.raises(TrainingError, match="no labelled events"):
        si_neuroml.fit_event_detector(recording, events[:0])
    everything = [np.ones((recording.get_num_samples(segment), 3), bool) for segment in (0, 1)]
    with pytest.raises(TrainingError, match="inside events, 0 outside"):
        si_neuroml.fit_event_detector(recording, everything, progress_bar=False)
    with pytest.raises(InputError, match="2 recordings and 1 sets of events"):
        si_neuroml.fit_event_detector([recording, recording], [events])
    slow = NumpyRecording([recording.get_traces(segment_index=0)], 1000.0)
    with pytest.raises(InputError, match="must have one sampling rate, got \\[1000.0, 3328.0\\] Hz"):
        si_neuroml.fit_event_detector([recording, slow], [events, events[events["segment_index"] == 0]])
    traces = recording.get_traces(segment_index=0).copy()
    traces[100:200] = np.nan
    broken = NumpyRecording([traces], RATE)
    with pytest.raises(InputError, match="300 of .* samples looked at are NaN"):
        si_neuroml.fit_event_detector(broken, events[events["segment_index"] == 0])
    with pytest.raises(InputError, match="Training knows"):
        si_neuroml.fit_event_detector(recording, events, training_kwargs={"epochs": 3}, progress_bar=False)


def test_settings_out_of_range_are_refused(strided):
    with pytest.raises(InputError, match="polarity must be 1"):
        DetectorSettings(RATE, 0)
    with pytest.raises(InputError, match="baseline_ms must be finite and positive, got -1"):
        DetectorSettings(RATE, 1, baseline_ms=-1)
    with pytest.raises(InputError, match="must not be above threshold"):
        strided.with_thresholds(1.0, 2.0)
    with pytest.raises(ModelMismatchError, match="30000 Hz"):
        strided.check_sampling_frequency(30_000.0)
    with pytest.raises(InputError, match="no detector 'lstm'"):
        EventDetector("lstm", strided.scorer, strided.settings, 1.0, 0.0, (1.0, 0.0), {})
    assert set(SCORERS) >= {"strided", "matched_filter", "svm", "bilstm"}
