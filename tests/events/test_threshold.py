"""The lag-corrected threshold, and thresholds from the sign-flipped trace."""

import numpy as np
import pytest

from si_neuroml.errors import InputError, TrainingError
from si_neuroml.events.threshold import ThresholdScorer, largest_extrema, sign_flip_threshold

DTYPE = [("sample_index", "int64"), ("channel_index", "int64"), ("segment_index", "int64")]


def traces_with_events(lag, seed=0, num=60, height=8.0):
    """Two channels of noise with narrow peaks `lag` samples after each event."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 40 * (num + 2))).astype("float32")
    events = np.zeros(num, dtype=DTYPE)
    events["sample_index"], events["channel_index"] = 40 * (1 + np.arange(num)), rng.integers(0, 2, num)
    x[events["channel_index"], events["sample_index"] + lag] += height
    return x, events


def fitted(lag):
    return ThresholdScorer.fit(*([part] for part in traces_with_events(lag)), search_before=8, search_after=8)


@pytest.mark.parametrize("lag", [-5, 0, 4])
def test_lag_is_learned_and_taken_out(lag):
    scorer = fitted(lag)
    assert scorer.lag == lag
    assert (scorer.before, scorer.after) == (max(-lag, 0), max(lag, 0))
    x, events = traces_with_events(lag, seed=1, height=30.0)
    scores = scorer.scores(x)
    assert scores.dtype == np.float32
    channels, samples = np.nonzero(scores > 15)
    order = np.lexsort((events["channel_index"], events["sample_index"]))
    found = np.lexsort((channels, samples))
    np.testing.assert_array_equal(samples[found], events["sample_index"][order])
    np.testing.assert_array_equal(channels[found], events["channel_index"][order])


@pytest.mark.parametrize("lag", [-5, 4])
def test_scores_depend_on_no_other_samples_than_stated(lag):
    scorer, x = ThresholdScorer(lag), traces_with_events(lag)[0]
    whole = scorer.scores(x)
    start, stop = 100, 300
    part = scorer.scores(x[:, start - scorer.before : stop + scorer.after])
    np.testing.assert_array_equal(part[:, scorer.before : scorer.before + stop - start], whole[:, start:stop])


@pytest.mark.parametrize("num_samples", [0, 1, 3])
def test_traces_shorter_than_the_lag(num_samples):
    x = np.ones((2, num_samples), dtype="float32")
    np.testing.assert_array_equal(ThresholdScorer(7).scores(x), x)


def test_scorer_comes_back_from_arrays_and_settings():
    scorer = ThresholdScorer(3)
    assert ThresholdScorer.from_arrays(scorer.to_arrays(), **scorer.settings()) == scorer


def test_training_needs_events_with_a_whole_window():
    x, events = traces_with_events(0)
    with pytest.raises(TrainingError, match="No labelled event"):
        ThresholdScorer.fit([x], [events[:0]], search_before=5, search_after=5)
    events["sample_index"] = 2
    with pytest.raises(TrainingError, match="No labelled event"):
        ThresholdScorer.fit([x], [events], search_before=5, search_after=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, e: ([], []), "at least 1"),
        (lambda x, e: ([x, x], [e]), "2 arrays of traces and 1"),
        (lambda x, e: ([x[0]], [e]), "shape"),
        (lambda x, e: ([np.where(x > 5, np.nan, x)], [e]), "not"),
        (lambda x, e: ([x[:1]], [e]), "lie outside"),
        (lambda x, e: ([x[:, :100]], [e]), "lie outside"),
    ],
)
def test_bad_training_data_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        ThresholdScorer.fit(*change(*traces_with_events(0)), search_before=5, search_after=5)


# --- extrema and the sign-flipped trace


def test_extrema_agree_with_their_definition():
    rng = np.random.default_rng(0)
    for scores in (rng.normal(size=(2, 300)), rng.integers(-3, 4, (2, 300)).astype("float64")):
        for distance in (1, 4, 30):
            expected = []
            for channel, line in enumerate(np.abs(scores)):
                for t, value in enumerate(line):
                    earlier, later = line[max(t - distance, 0) : t], line[t + 1 : t + distance + 1]
                    if (earlier < value).all() and (later <= value).all():
                        expected.append((channel, t))
            assert list(zip(*largest_extrema(scores, distance), strict=True)) == expected


def test_threshold_from_sign_flip_by_hand():
    scores = np.zeros((1, 1000), dtype="float32")
    scores[0, 10:710:10] = np.arange(100, 30, -1)  # 70 above, from 31 to 100
    scores[0, 720] = -60
    scores[0, 740:840:10] = -35
    # down to 36: 65 above and 1 below; with the ten below at 35 the share is 12 / 66
    assert sign_flip_threshold([scores], 0.1, 5) == 36.0
    # before the first one below: 1 / 40
    assert sign_flip_threshold([scores], 0.026, 5) == 61.0
    assert sign_flip_threshold([scores], 0.01, 5) is None
    assert sign_flip_threshold([scores[:, :360], scores[:, 360:]], 0.1, 5) == 36.0


def test_rate_holds_where_the_noise_is_symmetric():
    """Peaks of known height in noise: the share of noise above the threshold is about what was asked for."""
    rng = np.random.default_rng(1)
    shares, found = [], []
    for _ in range(20):
        x = rng.normal(size=(1, 20_000)).astype("float32")
        at = 100 * (1 + np.arange(150))
        x[0, at] += rng.uniform(3, 6, 150).astype("float32")
        threshold = sign_flip_threshold([x], 0.1, 5)
        samples = largest_extrema(x, 5)[1]
        samples = samples[x[0, samples] >= threshold]
        shares.append(1 - np.isin(samples, at).mean())
        found.append(np.isin(at, samples).mean())
    assert 0.05 < np.mean(shares) < 0.11
    assert np.mean(found) > 0.4


def test_noise_alone_passes_no_more_often_than_the_rate():
    rng = np.random.default_rng(2)
    passed = sum(
        sign_flip_threshold([rng.normal(size=(1, 3000)).astype("float32")], 0.1, 10) is not None for _ in range(100)
    )
    assert passed <= 20


def test_constant_and_missing_scores_have_no_threshold():
    assert sign_flip_threshold([np.zeros((2, 100), "float32")], 0.1, 5) is None
    assert sign_flip_threshold([np.zeros((2, 0), "float32")], 0.1, 5) is None
    assert sign_flip_threshold([], 0.1, 5) is None


@pytest.mark.parametrize(("rate", "distance"), [(0.0, 5), (1.0, 5), (0.1, 0)])
def test_odd_rates_are_refused(rate, distance):
    with pytest.raises(InputError, match="false_discovery_rate"):
        sign_flip_threshold([np.ones((1, 10), "float32")], rate, distance)
