"""Detectors for recordings without labels: what is measured, what is simulated, and what the threshold lets through."""

import warnings

import numpy as np
import pytest
from spikeinterface.core import NumpyRecording

import si_neuroml
from si_neuroml import generate_voltage_imaging_recording
from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.events import without_labels
from si_neuroml.events.evaluation import event_scores
from si_neuroml.events.matched_simulation import fit_indicator, simulate_like
from si_neuroml.events.recording_statistics import colored_noise, find_clear_events, noise_color
from si_neuroml.events.settings import DetectorSettings
from si_neuroml.events.sign_flip import Competition, compete, local_calibration, silent_threshold
from si_neuroml.events.threshold import ThresholdScorer
from si_neuroml.events.without_labels import fit_event_detector_without_labels, set_threshold_from_recording
from si_neuroml.groundtruth.settings import IndicatorSettings, MembraneSettings

RATE = 3328.0
SETTINGS = DetectorSettings(RATE, 1)
SHAPE = np.array([0.15, 0.6, 1.0, 0.8, 0.55, 0.35, 0.2, 0.1])
SMALL = {"num_cells": 16, "duration_s": 6.0, "progress_bar": False}
# only spikes are events
SPIKES_ONLY = MembraneSettings(firing_rate_hz=(1.0, 5.0), plateau_rate_hz=0.0)


def planted(num_channels, num_samples, num_events, height, seed):
    """(white noise of sd 1 with events, their places)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num_channels, num_samples)).astype("float32")
    slots = rng.permutation(num_channels * (num_samples // 50 - 1))[:num_events]
    channels, samples = slots % num_channels, 50 * (slots // num_channels) + rng.integers(10, 30, num_events)
    for channel, sample in zip(channels, samples, strict=True):
        x[channel, sample - 2 : sample + 6] += height * SHAPE
    return x, set(zip(channels.tolist(), samples.tolist(), strict=True))


class SmoothedScorer:
    """A nonlinear score of the sum of three samples, with an offset."""

    before = after = 1
    alignment = 1

    def __init__(self, function):
        self.function = function

    def scores(self, x):
        total = np.pad(x, ((0, 0), (1, 1)))
        return self.function(total[:, :-2] + total[:, 1:-1] + total[:, 2:]).astype("float32")


def imaged(seed, *, num_silent_cells=1, num_cells=6, seconds=8.0, rate=RATE, **options):
    return generate_voltage_imaging_recording(
        [seconds],
        rate,
        num_cells,
        2,
        num_silent_cells=num_silent_cells,
        membrane=SPIKES_ONLY,
        seed=seed,
        **options,
    )


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
    return fit_event_detector_without_labels(truth.recording, training_kwargs={"max_epochs": 20}, **SMALL)


# what the threshold lets through


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("function", [lambda s: s, lambda s: 3 * np.tanh(s / 4) + 0.02 * s**2 - 5])
def test_share_of_noise_is_the_one_asked_for(rate, function):
    num_false = num_found = 0
    for seed in range(8):
        x, places = planted(20, 20_000, 300, 3.5, seed)
        scorer = SmoothedScorer(function)
        competition = compete(scorer, [x], rate, 10)
        scores = scorer.scores(x)
        top = np.pad(scores, ((0, 0), (10, 10)), constant_values=-np.inf)
        highest = np.lib.stride_tricks.sliding_window_view(top, 21, axis=1).max(axis=2)
        found = np.argwhere((scores == highest) & (scores >= competition.threshold))
        hits = [any((c, s + lag) in places for lag in (-3, -2, -1, 0, 1, 2, 3)) for c, s in found.tolist()]
        num_found, num_false = num_found + len(hits), num_false + len(hits) - sum(hits)
    error = np.sqrt(rate * (1 - rate) / num_found)
    # both numbers of noise fluctuate: that above the threshold, and that by which the threshold was set
    assert abs(num_false / num_found - rate) < 4 * np.sqrt(2) * error


def test_threshold_does_not_depend_on_the_scale_of_scores():
    x, _ = planted(10, 20_000, 200, 4.0, 0)
    plain = compete(SmoothedScorer(lambda s: s), [x[:, :9000], x[:, 9000:]], 0.05, 10)
    bent = compete(SmoothedScorer(lambda s: np.exp(s / 4) - 7), [x[:, :9000], x[:, 9000:]], 0.05, 10)
    assert plain.counts(plain.threshold) == bent.counts(bent.threshold)
    targets, decoys = plain.counts(plain.threshold)
    assert (1 + decoys) / targets <= 0.05
    assert plain.lowest_rate() <= (1 + decoys) / targets


def test_nothing_stands_out_of_noise():
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal((4, 10_000)).astype("float32")
        competition = compete(ThresholdScorer(), [x], 0.05, 10)
        assert competition.threshold is None
        assert competition.lowest_rate() > 0.05
        assert local_calibration(competition) is None
        # of 20 times as much, noise passes in 1 %
        threshold = silent_threshold(competition, 20.0)
        assert competition.counts(threshold) == (0, 0)
        more = np.random.default_rng(1000 + seed).standard_normal(800_000)
        assert more.max() < threshold


def test_probabilities_are_the_shares_of_events_among_what_is_found():
    rng = np.random.default_rng(0)
    noise, events = rng.gumbel(0, 0.5, (2, 40_000)), rng.normal(3.5, 1.0, 5000)
    scores = np.concatenate([noise[0], noise[1], events])
    is_target = np.concatenate([np.zeros(40_000, bool), np.ones(45_000, bool)])
    is_event = np.concatenate([np.zeros(80_000, bool), np.ones(5000, bool)])
    competition = Competition(scores, is_target, 2.0)
    slope, intercept = local_calibration(competition)
    found = is_target & (scores >= 2.0)
    probability = 1 / (1 + np.exp(-(slope * scores[found] + intercept)))
    assert probability.mean() == pytest.approx(is_event[found].mean(), abs=0.01)
    for low, high in ((0.0, 0.8), (0.8, 0.95), (0.95, 1.0)):
        chosen = (probability >= low) & (probability < high)
        assert probability[chosen].mean() == pytest.approx(is_event[found][chosen].mean(), abs=0.08)


# what is measured


@pytest.mark.parametrize("color", [[0.0], [0.7], [0.9, -0.5]])
def test_noise_has_the_color_that_was_measured(color):
    noise = colored_noise(np.array(color), 4, 60_000, np.random.default_rng(0))
    np.testing.assert_allclose(noise.std(axis=1), 1.0, atol=0.03)
    measured = noise_color([noise.astype("float32")], SETTINGS)
    assert len(measured) == round(5e-3 * RATE)
    np.testing.assert_allclose(measured[:2], [*color, 0.0][:2], atol=0.02)
    again = colored_noise(measured, 4, 60_000, np.random.default_rng(1))
    spectra = [np.abs(np.fft.rfft(part, axis=1)) ** 2 for part in (noise, again)]
    bands = [spectrum.mean(axis=0)[:30_000].reshape(20, -1).mean(axis=1) for spectrum in spectra]
    np.testing.assert_allclose(bands[0], bands[1], rtol=0.06)


def test_color_is_that_between_events():
    quiet, _ = planted(10, 20_000, 0, 0.0, 3)
    busy, _ = planted(10, 20_000, 600, 8.0, 3)
    events = find_clear_events([busy], SETTINGS)
    white = noise_color([quiet], SETTINGS)
    np.testing.assert_allclose(noise_color([busy], SETTINGS, events), white, atol=0.03)
    assert np.abs(noise_color([busy], SETTINGS) - white).max() > 0.2


def test_clear_events_are_measured():
    x, places = planted(10, 20_000, 300, 7.0, 1)
    events = find_clear_events([x[:, :12_000], x[:, 12_000:]], SETTINGS)
    assert 280 < len(events.heights) < 330
    assert np.median(events.heights) == pytest.approx(7.0, rel=0.05)
    np.testing.assert_allclose(events.shape[events.before - 2 : events.before + 6], SHAPE, atol=0.08)
    found = {
        (int(c), int(s)) for part in events.places[:1] for c, s in part[["channel_index", "sample_index"]].tolist()
    }
    assert len(found & places) > 0.8 * len(found)
    noise, _ = planted(10, 20_000, 0, 0.0, 1)
    assert find_clear_events([noise], SETTINGS) is None


@pytest.mark.parametrize("rate", [1000.0, RATE])
@pytest.mark.parametrize("off_ms", [1.5, 4.0, 12.0])
def test_kinetics_of_the_generator_are_recovered(rate, off_ms):
    options = {"indicator": IndicatorSettings(on_ms=0.8, off_ms=off_ms), "noise": "none"}
    truth = imaged(3, num_silent_cells=0, rate=rate, seconds=4.0, **options)
    before, after = round(3e-3 * rate), round(6e-3 * rate)
    traces = -truth.recording.get_traces()
    snippets = [
        traces[e["sample_index"] - before : e["sample_index"] + after + 1, e["channel_index"]]
        for e in truth.events
        if before <= e["sample_index"] < len(traces) - after
    ]
    shape = np.median([part - part[0] for part in snippets], axis=0)
    indicator, explained = fit_indicator(shape / shape[before], before, rate)
    assert explained > 0.95
    assert indicator.off_ms[0] / 1.6 < off_ms < indicator.off_ms[1] * 1.6


# what is simulated


def test_simulation_has_the_heights_and_the_color_of_the_recording():
    x, _ = planted(10, 20_000, 300, 8.0, 2)
    settings, color = DetectorSettings(1000.0, 1), np.array([0.6])
    events = find_clear_events([x], SETTINGS)
    simulated = simulate_like(settings, color, events, num_cells=8, duration_s=5.0)
    recording, spikes = simulated.recording, simulated.events
    assert recording.get_sampling_frequency() == 1000.0
    assert set(np.unique(spikes["event_type"])) <= {"somatic_ap", "dendritic_spike"}
    assert simulated.summary["num_silent_cells"] == 2
    active = set(recording.get_property("cell")[np.unique(spikes["channel_index"])])
    assert active == {f"cell{k}" for k in range(6)}
    traces = recording.get_traces()
    steps = np.diff(traces, axis=0)
    sd = 1.4826 * np.median(np.abs(steps - np.median(steps, axis=0)), axis=0) / np.sqrt(2 * (1 - 0.6))
    assert np.all(spikes["amplitude"][spikes["event_type"] == "somatic_ap"] > 0)
    heights = np.abs(spikes["amplitude"]) / sd[spikes["channel_index"]]
    low, high = simulated.summary["heights_sd"]
    assert low == pytest.approx(0.5 * 8.0, rel=0.3)
    assert high == pytest.approx(1.25 * 8.0, rel=0.3)
    assert 0.8 * low < np.median(heights) < 1.2 * high
    again = simulate_like(settings, color, events, num_cells=8, duration_s=5.0)
    np.testing.assert_array_equal(again.recording.get_traces(), traces)


# all of it


def test_detector_without_labels_is_as_good_as_one_with(truth, detector):
    others = imaged(1007, num_cells=16, num_silent_cells=4, seconds=6.0)
    labelled = si_neuroml.fit_event_detector(
        others.recording,
        others.events,
        settings_kwargs={"exclude_sweep_ms": 2.0},
        training_kwargs=without_labels.TRAINING,
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
