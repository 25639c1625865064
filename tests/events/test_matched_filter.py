"""The matched filter against its theory and direct sums; the two passes against noise and known events."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import toeplitz
from scipy.signal import lfilter

from si_neuroml.errors import InputError, TrainingError
from si_neuroml.events.matched_filter import MatchedFilterScorer, autocovariance, whitened_filter
from si_neuroml.events.matching import match_events
from si_neuroml.events.threshold import largest_extrema
from si_neuroml.events.two_pass import fit_two_pass

DTYPE = [("sample_index", "int64"), ("channel_index", "int64"), ("segment_index", "int64")]
BEFORE, AFTER = 6, 12
SHAPE = np.exp(-np.arange(10) / 3.0)
TEMPLATE = np.concatenate([np.zeros(BEFORE), SHAPE, np.zeros(BEFORE + 1 + AFTER - BEFORE - len(SHAPE))])


def red_noise(shape, memory, rng):
    return np.sqrt(1 - memory**2) * lfilter([1.0], [1.0, -memory], rng.normal(size=shape))


def simulated(seed=0, num=400, height=5.0, memory=0.7, gap=60, channels=2):
    """Traces and events: the shape above in red noise, every `gap` samples or a little more."""
    rng = np.random.default_rng(seed)
    x = red_noise((channels, gap * (num + 2)), memory, rng)
    events = np.zeros(num, dtype=DTYPE)
    events["sample_index"] = gap * (1 + np.arange(num)) + rng.integers(0, gap // 4, num)
    events["channel_index"] = rng.integers(0, channels, num)
    for k, value in enumerate(SHAPE):
        x[events["channel_index"], events["sample_index"] + k] += height * value
    return x.astype("float32"), events


def fitted(seed=0, covariance="noise", **kwargs):
    x, events = simulated(seed, **kwargs)
    return MatchedFilterScorer.fit([x], [events], before=BEFORE, after=AFTER, covariance=covariance)


def some_filter(num_taps=31, before=10):
    rng = np.random.default_rng(3)
    return MatchedFilterScorer(rng.normal(size=num_taps).astype("f4"), np.ones(num_taps, "f4"), before)


# --- theory


@pytest.mark.parametrize("memory", [0.0, 0.7, 0.95])
def test_filter_is_the_one_of_theory(memory):
    column = memory ** np.arange(len(TEMPLATE))
    taps = whitened_filter(TEMPLATE, column, ridge=0.0)
    expected = np.linalg.solve(toeplitz(column), TEMPLATE)
    np.testing.assert_allclose(taps / taps[BEFORE], expected / expected[BEFORE], atol=1e-9)
    assert taps @ toeplitz(column) @ taps == pytest.approx(1.0)
    # no other filter has a larger signal-to-noise ratio
    rng = np.random.default_rng(0)
    for other in rng.normal(size=(200, len(taps))) * 0.1 + taps:
        assert other @ TEMPLATE / np.sqrt(other @ toeplitz(column) @ other) <= taps @ TEMPLATE + 1e-9


def test_autocovariance_that_is_none_gets_a_larger_ridge():
    column = np.array([1.0, 0.9, -0.9, 0.9])  # no process has it
    assert np.linalg.eigvalsh(toeplitz(column))[0] < 0
    assert np.isfinite(whitened_filter(np.ones(4), column, ridge=0.0)).all()


@pytest.mark.parametrize("covariance", ["noise", "all"])
def test_learned_filter_comes_near_the_best_one(covariance):
    memory, height = 0.7, 5.0
    column = memory ** np.arange(len(TEMPLATE))
    best = height * np.sqrt(TEMPLATE @ np.linalg.solve(toeplitz(column), TEMPLATE))
    scorer = fitted(covariance=covariance)
    fresh = red_noise((1, 200_000), memory, np.random.default_rng(9)).astype("float32")
    noise = scorer.scores(fresh).std()
    assert noise == pytest.approx(1.0, abs=0.05)
    assert scorer.taps @ (height * TEMPLATE) / noise > 0.95 * best
    if covariance == "noise":
        np.testing.assert_allclose(scorer.template, height * TEMPLATE, atol=0.3)
        assert scorer.d_prime == pytest.approx(best, rel=0.07)


def test_scores_peak_at_the_event():
    x = np.zeros((1, 200), dtype="float32")
    x[0, 100 : 100 + len(SHAPE)] = 5 * SHAPE
    for covariance in ("noise", "all"):
        assert fitted(covariance=covariance).scores(x).argmax() == 100


def test_whole_traces_tell_overlapping_events_apart():
    """Events that last longer than the time between them: the filter of the whole traces must find more of them."""
    shape = np.exp(-np.arange(200) / 60.0)
    f1 = {}
    made = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        events = np.zeros(1500, dtype=DTYPE)
        events["sample_index"] = np.sort(rng.choice(np.arange(50, 59_950), 1500, replace=False))
        train = np.zeros(60_000)
        train[events["sample_index"]] = 1
        x = 2 * np.convolve(train, shape)[:60_000] + rng.normal(size=60_000)
        made.append(((x - np.median(x)).astype("float32")[None], events))
    for covariance in ("noise", "all"):
        scorer = MatchedFilterScorer.fit(*([part] for part in made[0]), before=10, after=20, covariance=covariance)
        x, events = made[1]
        scores = scorer.scores(x)
        samples = largest_extrema(np.maximum(scores - scores.min(), 0), 3)[1]
        samples = samples[np.argsort(-scores[0, samples])[: len(events)]]
        found = np.zeros(len(samples), dtype=DTYPE)
        found["sample_index"] = samples
        f1[covariance] = (match_events(events, found, 3) >= 0).mean()
    assert f1["all"] > f1["noise"] + 0.05


def test_autocovariance_of_known_noise():
    x = red_noise((3, 60_000), 0.8, np.random.default_rng(1)).astype("float32")
    usable = np.random.default_rng(2).random(x.shape) < 0.7
    found = autocovariance([x[:2], x[2:]], [usable[:2], usable[2:]], 8)
    np.testing.assert_allclose(found, 0.8 ** np.arange(8), atol=0.03)
    t, lag = np.arange(x.shape[1] - 3), 3
    both = usable[:, t] & usable[:, t + lag]
    assert found[lag] == pytest.approx((x[:, t] * x[:, t + lag])[both].mean(dtype="float64"), rel=1e-5)
    shifted = autocovariance([x + 2], [usable], 8, center=2.0)
    np.testing.assert_allclose(shifted, found, rtol=1e-4)


# --- the sums


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 45), st.integers(0, 44), st.integers(1, 120))
def test_scores_are_the_sum_they_say(num_taps, before, num_samples):
    scorer = some_filter(num_taps, min(before, num_taps - 1))
    x = np.random.default_rng(num_samples).normal(size=(2, num_samples)).astype("float32")
    mirrored = np.pad(x.astype("float64"), ((0, 0), (scorer.before, scorer.after)), mode="reflect")
    expected = [np.correlate(line, scorer.taps.astype("float64"), "valid") for line in mirrored]
    np.testing.assert_allclose(scorer.scores(x), expected, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4000), st.integers(1, 3000), st.sampled_from([1, 8, 21, 31, 41]))
def test_same_bits_however_the_trace_is_cut(start, size, num_taps):
    scorer = some_filter(num_taps, num_taps // 3)
    x = np.random.default_rng(0).normal(size=(2, 8000)).astype("float32")
    whole, start = scorer.scores(x), start + scorer.before
    part = scorer.scores(x[:, start - scorer.before : start + size + scorer.after])
    np.testing.assert_array_equal(part[:, scorer.before : scorer.before + size], whole[:, start : start + size])


def test_traces_without_samples_or_of_other_layout():
    scorer = some_filter()
    assert scorer.scores(np.zeros((2, 0), "float32")).shape == (2, 0)
    x = np.random.default_rng(0).normal(size=(500, 2))
    np.testing.assert_array_equal(scorer.scores(x.T), scorer.scores(np.ascontiguousarray(x.T, dtype="float32")))


def test_scorer_comes_back_from_arrays_and_settings():
    scorer, x = fitted(), simulated(4, num=5)[0]
    again = MatchedFilterScorer.from_arrays(scorer.to_arrays(), **scorer.settings())
    np.testing.assert_array_equal(again.scores(x), scorer.scores(x))
    assert (again.before, again.after, again.alignment) == (BEFORE, AFTER, 1)
    assert again.d_prime == scorer.d_prime


# --- what cannot be learned from


def test_events_without_gaps_between():
    x, events = simulated(num=600, gap=12, channels=1)
    options = {"before": 20, "after": 20}
    with pytest.raises(TrainingError, match="longer gaps between events"):
        MatchedFilterScorer.fit([x], [events], covariance="noise", **options)
    # the whole traces still do, and the scale is about right
    scorer = MatchedFilterScorer.fit([x], [events], **options)
    noise = scorer.scores(red_noise((1, 50_000), 0.7, np.random.default_rng(0)).astype("float32"))
    assert 0.3 < noise.std() < 1.5


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"before": -1}, InputError, "0 or more"),
        ({"ridge": np.nan}, InputError, "0 or more"),
        ({"covariance": "none"}, InputError, "covariance"),
        ({"before": 10_000}, TrainingError, "No labelled event has 10000 samples before"),
    ],
)
def test_odd_settings_are_refused(kwargs, error, message):
    x, events = simulated(num=20)
    with pytest.raises(error, match=message):
        MatchedFilterScorer.fit([x], [events], **({"before": BEFORE, "after": AFTER} | kwargs))


def test_constant_traces_have_no_noise():
    x, events = simulated(num=20)
    with pytest.raises(TrainingError, match="no noise"):
        MatchedFilterScorer.fit([np.ones_like(x)], [events], before=BEFORE, after=AFTER)


# --- two passes without labels


def two_pass_result(x, events, **kwargs):
    scorer, threshold = fit_two_pass([x], before=BEFORE, after=AFTER, **kwargs)
    scores = scorer.scores(x)
    channels, samples = largest_extrema(scores, AFTER)
    high = scores[channels, samples] >= threshold
    found = np.zeros(high.sum(), dtype=DTYPE)
    found["sample_index"], found["channel_index"] = samples[high], channels[high]
    matched = match_events(events, found, 2)
    return (matched >= 0).mean(), 1 - (matched >= 0).sum() / len(found)


def test_two_passes_find_most_events_at_the_rate_asked_for():
    shares = [two_pass_result(*simulated(seed, num=300, height=5.0, memory=0.3)) for seed in range(6)]
    recall, false = np.mean(shares, axis=0)
    assert recall > 0.9
    assert 0.02 < false < 0.15


def test_second_pass_finds_more_than_the_first():
    x, events = simulated(7, num=300, height=3.5, memory=0.9)
    channels, samples = largest_extrema(x, AFTER)
    order = np.argsort(-x[channels, samples])[: len(events)]
    peaks = np.zeros(len(order), dtype=DTYPE)
    peaks["sample_index"], peaks["channel_index"] = samples[order], channels[order]
    first = (match_events(events, peaks, 2) >= 0).mean()
    assert two_pass_result(x, events)[0] > first + 0.1


def test_several_traces_are_taken_together():
    parts = [simulated(seed, num=20, height=8.0, memory=0.3) for seed in range(4)]
    scorer, threshold = fit_two_pass([x for x, _ in parts], before=BEFORE, after=AFTER)
    assert scorer.d_prime > 1.5 * threshold


def test_recordings_without_events_give_no_detector():
    passed = 0
    for seed in range(30):
        x = red_noise((1, 20_000), 0.5, np.random.default_rng(seed)).astype("float32")
        with contextlib.suppress(TrainingError):
            fit_two_pass([x], before=BEFORE, after=AFTER)
            passed += 1
    assert passed <= 3
    with pytest.raises(TrainingError, match="No threshold on the peaks"):
        fit_two_pass([np.zeros((1, 1000), "float32")], before=BEFORE, after=AFTER)
