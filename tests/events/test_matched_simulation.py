"""What is measured on a recording without labels, and what is simulated to be like it."""

import numpy as np
import pytest
from events_helpers import RATE, SHAPE
from unlabelled_helpers import SETTINGS, imaged, planted

from si_neuroml.events.matched_simulation import fit_indicator, simulate_like
from si_neuroml.events.recording_statistics import colored_noise, find_clear_events, noise_color
from si_neuroml.events.settings import DetectorSettings
from si_neuroml.groundtruth.settings import IndicatorSettings

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
