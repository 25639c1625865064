"""Scorers at another sampling rate: the interpolation, exactness under any chunking, and what is found."""

import dataclasses

import numpy as np
import pytest
from events_helpers import make_recording
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly
from spikeinterface.core import NumpyRecording

import si_neuroml
from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.events.detector import EventDetector
from si_neuroml.events.matched_filter import MatchedFilterScorer
from si_neuroml.events.matching import match_events
from si_neuroml.events.resampling import RATE_ERROR, WINDOW_BETA, ZEROS, ResampledScorer, resample
from si_neuroml.events.strided_network import StridedScorer
from si_neuroml.events.threshold import ThresholdScorer

RATE = 3328.0
QUIET = {"n_jobs": 1, "progress_bar": False}
RATIOS = [(125, 208), (589, 392), (3, 1), (1, 4), (1429, 1428)]


def network(seed=0):
    """The default network with random weights: its scores hang on every sample within its reach."""
    rng = np.random.default_rng(seed)
    shapes = {"stem": (16, 4, 3), **{f"body.{k}": (16, 16, 5) for k in range(4)}, "head": (4, 16, 1)}
    arrays = {f"{name}.weight": rng.normal(0, 0.2, shape) for name, shape in shapes.items()}
    arrays |= {f"{name}.bias": rng.normal(0, 0.2, shape[0]) for name, shape in shapes.items()}
    return StridedScorer(arrays)


@pytest.mark.parametrize(("num_in", "num_out"), RATIOS)
def test_band_limited_signals_are_reproduced(num_in, num_out):
    rng = np.random.default_rng(0)
    band = 0.85 * 0.5 * min(1.0, num_out / num_in)
    frequencies, phases = rng.uniform(0, band, 12), rng.uniform(0, 2 * np.pi, 12)
    frequencies[:2] = 0, band

    def signal(time):
        return np.cos(2 * np.pi * frequencies[:, None] * time + phases[:, None]).sum(axis=0) / np.sqrt(12)

    out = resample(signal(np.arange(3000.0))[None].astype("float32"), num_in, num_out)
    expected = signal(np.arange(out.shape[1]) * num_in / num_out)
    inner = slice(60 * num_out // num_in + 1, -(60 * num_out // num_in) - 1)
    assert out.shape == (1, 2999 * num_out // num_in + 1)
    assert np.abs(out[0, inner] - expected[inner]).max() < 1e-3


@pytest.mark.parametrize("ratio", [2.0, 1.3])
def test_what_the_lower_rate_cannot_hold_is_taken_away(ratio):
    """Above 1.15 of half of the lower rate nothing is left to fold."""
    high = np.sin(2 * np.pi * 0.58 / ratio * np.arange(4000.0))[None].astype("float32")
    assert np.abs(resample(high, round(10 * ratio), 10)[:, 100:-100]).max() < 1e-3


@pytest.mark.parametrize(("num_in", "num_out"), [(5, 8), (8, 5), (3, 1)])
def test_against_scipy(num_in, num_out):
    """With the same windowed sinc resample_poly gives the same numbers, up to the sum of the weights being 1 here."""
    x = np.random.default_rng(1).standard_normal((2, 2000)).astype("float32")
    steps = np.arange(-ZEROS * max(num_in, num_out), ZEROS * max(num_in, num_out) + 1) / max(num_in, num_out)
    window = np.i0(WINDOW_BETA * np.sqrt(1 - (steps / ZEROS) ** 2))
    taps = np.sinc(steps) * window
    expected = resample_poly(x, num_out, num_in, axis=1, window=taps / taps.sum())
    out = resample(x, num_in, num_out)
    np.testing.assert_allclose(out[:, 60:-60], expected[:, 60 : out.shape[1] - 60], atol=2e-3)


def test_constant_and_ends():
    np.testing.assert_allclose(resample(np.full((1, 50), 3.0, "float32"), 3, 5), 3.0, rtol=1e-6)
    assert resample(np.ones((2, 0), "float32"), 3, 5).shape == (2, 0)
    assert resample(np.ones((2, 1), "float32"), 3, 5).shape == (2, 1)
    with pytest.raises(InputError, match="at least 1"):
        resample(np.ones((2, 5), "float32"), 0, 5)


@pytest.mark.parametrize("rate", [500.0, 2000.0, 3330.0, 5000.0, 20_000.0, 30_003.7])
@pytest.mark.parametrize("alignment", [1, 4, 450])
def test_alignment_holds_at_both_rates(rate, alignment):
    scorer = dataclasses.make_dataclass("Scorer", ["before", "after", "alignment"])(9, 9, alignment)
    found = ResampledScorer(scorer, rate, RATE)
    there = found.alignment * RATE / rate
    whole = alignment * round(there / alignment)
    assert abs(there / whole - 1) < RATE_ERROR
    smaller = np.arange(1, found.alignment) * RATE / rate
    rounded = alignment * np.maximum(1, np.round(smaller / alignment))
    assert np.all(np.abs(rounded / smaller - 1) >= RATE_ERROR)


@pytest.mark.parametrize("rate", [2000.0, 5000.0])
def test_reach_is_enough_and_little_more(rate):
    taps = np.ones(7, dtype="float32")
    scorer = ResampledScorer(MatchedFilterScorer(taps, taps, 2), rate, RATE)
    rng = np.random.default_rng(0)
    num_samples, place = 2 * scorer.alignment + 800, scorer.alignment + 400
    x = rng.standard_normal((1, num_samples)).astype("float32")
    scores = scorer.scores(x)
    for shift in range(40):
        changed = x.copy()
        changed[0, place + shift] += 100
        differs = np.flatnonzero(scorer.scores(changed) != scores) - place - shift
        assert -scorer.after <= differs.min() <= 0 <= differs.max() <= scorer.before
    # the window falls to 0 up to three samples before the end of the weights
    assert differs.max() >= scorer.before - 6
    assert differs.min() <= -scorer.after + 6


CASES = [(network(), 2000.0), (network(), 5000.0), (ThresholdScorer(3), 3330.0), (ThresholdScorer(-2), 10_000.0)]


@pytest.fixture(scope="module")
def wholes():
    rng = np.random.default_rng(4)
    scorers = [ResampledScorer(scorer, rate, RATE) for scorer, rate in CASES]
    traces = [rng.standard_normal((2, 9000)).astype("float32") for _ in scorers]
    return [(scorer, x, scorer.scores(x)) for scorer, x in zip(scorers, traces, strict=True)]


@settings(deadline=None, max_examples=40)
@given(case=st.integers(0, len(CASES) - 1), steps=st.integers(0, 20), length=st.integers(1, 5000))
def test_chunks_do_not_matter(wholes, case, steps, length):
    scorer, x, whole = wholes[case]
    start = min(steps * scorer.alignment, 9000 // scorer.alignment * scorer.alignment - scorer.alignment)
    stop = min(9000, start + scorer.before + scorer.after + length)
    part = scorer.scores(x[:, start:stop])
    assert part.shape == (2, stop - start)
    first = scorer.before if start else 0
    last = stop - scorer.after if stop < 9000 else stop
    np.testing.assert_array_equal(part[:, first : last - start], whole[:, start + first : last])


@pytest.mark.parametrize("rate", [2000.0, 5000.0])
def test_noise_has_the_power_it_has_at_the_scorers_rate(rate):
    """White noise of sd 1 becomes noise whose power per Hz is that of sd 1, up to half of the lower rate."""
    x = np.random.default_rng(0).standard_normal((1, 400_000)).astype("float32")
    seen = []

    class Listener(ThresholdScorer):
        def scores(self, x):
            seen.append(x)
            return super().scores(x)

    ResampledScorer(Listener(), rate, RATE).scores(x)
    spectrum = np.abs(np.fft.rfft(seen[0][0])) ** 2 / seen[0].size
    passed = spectrum[: int(0.8 * min(1.0, rate / RATE) * len(spectrum))]
    assert passed.mean() == pytest.approx(1.0, abs=0.01)
    assert seen[0].std() == pytest.approx(min(1.0, np.sqrt(rate / RATE)), rel=0.02)


# a fine grid that all rates are simulated from, and the response of an indicator on it
FINE = 500_000.0
TIMES = np.arange(0, 0.02, 1 / FINE)
SHAPE = (1 - np.exp(-TIMES / 0.5e-3)) * np.exp(-TIMES / 1.5e-3)
AREA = np.concatenate([[0], np.cumsum(SHAPE) / FINE]) / SHAPE.max()


def sampled(rate, seed, *, duration=8.0, num_channels=4):
    """The same events at any rate: a sample is the mean over its interval, shot noise grows with the rate."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng([seed, int(rate)])
    num_samples, rows = int(duration * rate), []
    x = noise.standard_normal((num_samples, num_channels)) * np.sqrt(rate / RATE)
    for channel in range(num_channels):
        times = np.sort(rng.uniform(0.05, duration - 0.05, int(9 * duration)))
        times = times[np.diff(times, prepend=-1) > 0.006]
        for time, height in zip(times, rng.uniform(3, 6, len(times)), strict=True):
            first, last = int(time * rate), int((time + 0.02) * rate) + 2
            edges = np.arange(first, last + 1) / rate - time
            x[first:last, channel] += height * rate * np.diff(np.interp(edges, np.append(TIMES, 0.02), AREA, left=0))
            rows.append((int((time + TIMES[SHAPE.argmax()]) * rate), channel, 0))
    names = ("sample_index", "channel_index", "segment_index")
    recording = NumpyRecording([(1000 - x).astype("float32")], rate)
    return recording, np.array(rows, dtype=[(name, "int64") for name in names])


def quality(detector, recording, events):
    """(F1 at 0.9 ms, mean time from true to found events in ms)."""
    found = si_neuroml.detect_events(recording, detector, resample=True, job_kwargs=QUIET).events
    rate = recording.get_sampling_frequency()
    matched = match_events(events, found, 0.9e-3 * rate)
    late = found["sample_index"][matched[matched >= 0]] - events["sample_index"][matched >= 0]
    return 2 * (matched >= 0).sum() / (len(events) + len(found)), late.mean() / rate * 1000


@pytest.fixture(scope="module")
def fitted():
    """Detectors fitted at 3,328 Hz."""
    training = sampled(RATE, 1)
    how = {"training_kwargs": {"max_epochs": 4, "batch_size": 8}, "progress_bar": False}
    return {
        "matched_filter": si_neuroml.fit_event_detector(*training, network="matched_filter"),
        "strided": si_neuroml.fit_event_detector(*training, **how),
    }


@pytest.mark.parametrize("name", ["matched_filter", "strided"])
def test_finds_the_same_events_at_other_rates(fitted, name):
    expected, bias = quality(fitted[name], *sampled(RATE, 2))
    assert expected > 0.93
    for rate in (2000.0, 3330.0, 5000.0):
        f1, late = quality(fitted[name], *sampled(rate, 2))
        assert f1 > expected - 0.03
        assert abs(late - bias) < 0.5 * 1000 / RATE


def test_other_rates_are_refused_unless_asked_for(fitted):
    recording, _ = sampled(5000.0, 2, duration=1.0)
    with pytest.raises(ModelMismatchError, match="3328 Hz; the recording has 5000 Hz. Pass resample=True"):
        si_neuroml.detect_events(recording, fitted["matched_filter"], job_kwargs=QUIET)
    same = fitted["matched_filter"].resampled(3330.0)
    assert same is fitted["matched_filter"]  # devices of one system differ by as much


@pytest.mark.parametrize("rate", [2000.0, 5000.0])
def test_node_is_exact_at_other_rates(fitted, rate):
    recording, _ = sampled(rate, 5, duration=4.0)
    detector = fitted["strided"].with_thresholds(-1.0, -2.0)
    whole = si_neuroml.detect_events(recording, detector, resample=True, job_kwargs={**QUIET, "chunk_size": 10**6})
    assert len(whole.events) > 100
    for job_kwargs in ({**QUIET, "chunk_size": 333}, {"n_jobs": 2, "chunk_size": 1700, "progress_bar": False}):
        found = si_neuroml.detect_events(recording, detector, resample=True, job_kwargs=job_kwargs)
        np.testing.assert_array_equal(found.events, whole.events)
        np.testing.assert_array_equal(found.periods, whole.periods)


def test_saved_for_another_rate(fitted, tmp_path):
    recording, _ = sampled(2000.0, 6, duration=2.0)
    detector = fitted["strided"].resampled(2000.0)
    loaded = si_neuroml.load_model(si_neuroml.save_model(detector, tmp_path / "slow"))
    assert isinstance(loaded, EventDetector)
    found = [si_neuroml.detect_events(recording, one, job_kwargs=QUIET).events for one in (detector, loaded)]
    np.testing.assert_array_equal(*found)
    assert len(found[0])


def test_bad_rates_are_refused():
    for rate in (0.0, -3.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="finite and positive"):
            ResampledScorer(ThresholdScorer(), rate, RATE)
    with pytest.raises(InputError, match="no network or baseline 'resampled'"):
        si_neuroml.fit_event_detector(*make_recording([3000]), network="resampled")
