"""Histograms around events against integer arithmetic and plain loops; baselines and features with known answers."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.regions.psth import (
    PsthSettings,
    baseline_statistics,
    complete_onsets,
    count_psth,
    normalise_psth,
    response_limit,
)
from si_neuroml.regions.psth_features import PSTH_FEATURE_NAMES, psth_features

RATE = 30_000
SMALL = PsthSettings(window_s=(-0.2, 0.3), bin_s=0.1)


def ragged(trains):
    return np.concatenate([np.asarray(t, dtype="float64") for t in trains]), np.cumsum([0, *map(len, trains)])


def plain_counts(trains, onsets, edges):
    """(num_units, num_events, num_bins) with one histogram per unit and event."""
    return np.array([[np.histogram(train - onset, edges)[0] for onset in onsets] for train in trains])


def counts_of(rates, num_events=10, bin_s=0.1):
    """Counts (1, num_bins) that have these rates."""
    return np.round(np.asarray(rates, dtype="float64")[None] * num_events * bin_s).astype("int32")


def named(counts, settings, num_events=10, **kwargs):
    features, names = psth_features(counts, num_events, settings, **kwargs)
    assert names == PSTH_FEATURE_NAMES
    return {name.removeprefix("psth_"): features[:, k] for k, name in enumerate(names)}


@given(
    samples=st.lists(st.lists(st.integers(0, 60), max_size=30), min_size=1, max_size=4),
    onsets=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    start=st.integers(-20, 5),
    num_bins=st.integers(1, 12),
    samples_per_bin=st.integers(1, 5),
    clock=st.sampled_from([0, 7_000_000, 3_000_000_007]),
    num_threads=st.sampled_from([1, 2]),
)
@settings(max_examples=100, deadline=None)
def test_spikes_on_edges_count_as_their_samples_say(
    samples, onsets, start, num_bins, samples_per_bin, clock, num_threads
):
    samples, onsets = [sorted(train) for train in samples], sorted(onsets)
    expected = np.zeros((len(samples), len(onsets), num_bins), dtype=int)
    for unit, train in enumerate(samples):
        for sample in train:
            for event, onset in enumerate(onsets):
                k = (sample - onset - start) // samples_per_bin
                if 0 <= k < num_bins:
                    expected[unit, event, k] += 1
    times, offsets = ragged([(np.array(train, dtype="int64") + clock) / RATE for train in samples])
    window = PsthSettings(
        (start / RATE, (start + num_bins * samples_per_bin) / RATE), samples_per_bin / RATE, normalisation="rate"
    )
    onsets_s = (np.array(onsets) + clock) / RATE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trials = count_psth(times, offsets, onsets_s, window, trials=True, num_threads=num_threads)
        summed = count_psth(times, offsets, onsets_s, window, num_threads=num_threads)
    assert trials.dtype == summed.dtype == np.int32
    np.testing.assert_array_equal(trials, expected)
    np.testing.assert_array_equal(summed, expected.sum(axis=1))


def test_equals_a_histogram_per_unit_and_event():
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(0, 300, n)) for n in (0, 1, 4000, 900)]
    onsets = np.sort(rng.uniform(-5, 305, 80))
    times, offsets = ragged(trains)
    with pytest.warns(UserWarning, match="overlap"):
        counts = count_psth(times, offsets, np.sort(rng.uniform(0, 300, 400)))
    assert counts.shape == (4, 100)
    assert not counts[0].any()
    with warnings.catch_warnings():
        # mean interval 3.9 s: the window of 2.5 s may or may not overlap
        warnings.simplefilter("ignore")
        trials = count_psth(times, offsets, onsets, trials=True)
    np.testing.assert_array_equal(trials, plain_counts(trains, onsets, PsthSettings().bin_edges_s))


def test_default_window_is_that_of_the_paper():
    window = PsthSettings()
    assert window.num_bins == 100
    np.testing.assert_allclose(window.bin_edges_s, -1.0 + 0.025 * np.arange(101), atol=1e-12)
    np.testing.assert_array_equal(np.flatnonzero(window.bins_between(*window.baseline)), np.arange(40))


def test_no_events_and_no_units():
    counts = count_psth([0.5, 1.0], [0, 2], [], SMALL)
    assert counts.shape == (1, 5)
    assert not counts.any()
    assert np.isnan(normalise_psth(counts, 0, SMALL)).all()
    assert np.isnan(psth_features(counts, 0, SMALL)[0]).all()
    assert count_psth([], [0], [1.0], SMALL).shape == (0, 5)


def test_warns_of_another_clock_and_of_overlap_only_where_there_is_some():
    with pytest.warns(UserWarning, match="same clock"):
        count_psth([1.0, 2.0], [0, 2], [5000.0], SMALL)
    with pytest.warns(UserWarning, match="within 0.49 s"):
        count_psth([1.0], [0, 1], [0.51, 1.0], SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        count_psth([1.0], [0, 1], [0.5, 1.0], SMALL)


@pytest.mark.parametrize(
    ("times", "offsets", "onsets", "message"),
    [
        ([1.0, np.nan], [0, 2], [1.0], "Unit number 0 has a spike at nan"),
        ([1.0, 3.0, 2.0], [0, 1, 3], [1.0], "unit number 1 are not in time order: 2.0 s"),
        ([1.0], [0, 1], [np.nan], "1 of 1 onsets_s are not finite"),
        ([1.0], [0, 1], [2.0, 1.0], "1.0 s follows 2.0 s"),
        ([1.0], [0, 2], [1.0], "at most the 1 spikes"),
        ([1.0, 2.0], [0, 2, 1], [1.0], "decreasing"),
        ([1.0], [0.0, 1.0], [1.0], "whole numbers"),
    ],
)
def test_refuses_what_cannot_be(times, offsets, onsets, message):
    with pytest.raises(InputError, match=message):
        count_psth(np.array(times), np.array(offsets), np.array(onsets), SMALL)


@pytest.mark.parametrize(
    "options",
    [
        {"window_s": (1.0, 0.0)},
        {"window_s": (0.0, 1.0), "bin_s": 0.3},
        {"bin_s": 0.0},
        {"baseline_s": (-2.0, 0.0)},
        {"normalisation": "log"},
    ],
)
def test_settings_that_do_not_fit(options):
    with pytest.raises(InputError):
        PsthSettings(**options)


def test_normalisations_of_a_known_histogram():
    counts = np.array([[2, 4, 6, 3, 0]])
    np.testing.assert_allclose(normalise_psth(counts, 10, SMALL, normalisation="rate"), [[2, 4, 6, 3, 0]])
    np.testing.assert_allclose(normalise_psth(counts, 10, SMALL, normalisation="subtract"), [[-1, 1, 3, 0, -3]])
    np.testing.assert_allclose(normalise_psth(counts, 10, SMALL), [[-1, 1, 3, 0, -3]])
    # twice the events at the same rate: the same z-scores
    np.testing.assert_allclose(normalise_psth(2 * counts, 20, SMALL), [[-1, 1, 3, 0, -3]])
    own = PsthSettings(SMALL.window_s, 0.1, baseline_s=(-0.1, 0.1))
    np.testing.assert_allclose(normalise_psth(counts, 10, own), [[-3, -1, 1, -2, -5]])


def test_silent_baseline_counts_as_one_spike():
    settings_ = PsthSettings(window_s=(-0.4, 0.1), bin_s=0.1)
    one_spike = baseline_statistics(np.array([[0, 1, 0, 0, 9]]), 7, settings_)[1]
    mean, deviation = baseline_statistics(np.array([[0, 0, 0, 0, 9], [5, 5, 5, 5, 9]]), 7, settings_)
    np.testing.assert_allclose(deviation, one_spike[0], rtol=1e-12)
    np.testing.assert_allclose(mean, [0, 5 / 0.7])
    z = normalise_psth(np.zeros((1, 5)), 7, settings_)
    np.testing.assert_array_equal(z, 0.0)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12))
@settings(max_examples=100, deadline=None)
def test_no_baseline_varies_less_than_the_one_of_a_single_spike(baseline):
    settings_ = PsthSettings(window_s=(-0.1 * len(baseline), 0.1), bin_s=0.1)
    _, deviation = baseline_statistics(np.array([[*baseline, 0]]), 1, settings_)
    least = np.sqrt(len(baseline) - 1) / len(baseline) / 0.1
    assert deviation[0] >= least * (1 - 1e-12)
    if len(set(baseline)) > 1:
        assert deviation[0] == pytest.approx(np.std(baseline) / 0.1)


def test_baseline_of_one_bin_is_refused():
    with pytest.raises(InputError, match="1 whole bins"):
        normalise_psth(np.zeros((1, 2)), 3, PsthSettings((-0.1, 0.1), 0.1))
    with pytest.raises(InputError, match="0 whole bins"):
        normalise_psth(np.zeros((1, 2)), 3, PsthSettings((0.0, 0.2), 0.1), normalisation="subtract")


def test_complete_onsets():
    found = complete_onsets([0.1, 0.2, 9.7, 9.8, 15.0, 20.5], [[0.0, 10.0], [20.0, 30.0]], SMALL)
    assert found.tolist() == [False, True, True, False, False, True]


# bins of 0.1 s from -0.4 to 1.3 s: 4 of baseline (mean 2, sd 1), 13 of response
WINDOW = PsthSettings(window_s=(-0.4, 1.3), bin_s=0.1)
BASELINE = [1, 3, 1, 3]


def test_features_of_a_known_response():
    response = [2, 5, 6, 10, 7, 5, 4, 6, 1, 0, 4, 1, 0]
    found = named(counts_of([*BASELINE, *response]), WINDOW)
    assert found["peak_time_s"][0] == pytest.approx(0.35)
    assert found["peak_z"][0] == pytest.approx(8.0)
    # 5 6 10 7 5: at least half of 10; the 6 at 0.75 s is cut off by the 4 before it
    assert found["half_width_s"][0] == pytest.approx(0.5)
    # more than 2 + 3 * 1: the bin with 6, not that with 5
    assert found["latency_s"][0] == pytest.approx(0.25)
    assert found["sustained_ratio"][0] == pytest.approx(0.4)
    assert found["mean_rate_hz"][0] == pytest.approx(np.mean([*BASELINE, *response]))


def test_skewness_is_that_of_the_spikes_after_the_onset():
    from scipy.stats import skew

    response = [2, 5, 6, 10, 7, 5, 4, 6, 1, 0, 4, 1, 0]
    spikes = np.repeat(0.05 + 0.1 * np.arange(13), response)
    found = named(counts_of([*BASELINE, *response]), WINDOW)
    assert found["skewness"][0] == pytest.approx(skew(spikes), rel=1e-5)
    mirrored = named(counts_of([*BASELINE, *response[::-1]]), WINDOW)
    assert mirrored["skewness"][0] == pytest.approx(-skew(spikes), rel=1e-5)


def test_what_is_not_defined_is_nan():
    silent = named(counts_of([*BASELINE, *[0] * 13]), WINDOW)
    assert [name for name, value in silent.items() if np.isnan(value[0])] == [
        *("peak_time_s", "half_width_s", "latency_s", "skewness", "sustained_ratio")
    ]
    assert silent["peak_z"][0] == pytest.approx(-2.0)
    one_bin = named(counts_of([*BASELINE, *[0] * 5, 30, *[0] * 7]), WINDOW)
    assert np.isnan(one_bin["skewness"][0])
    assert one_bin["half_width_s"][0] == pytest.approx(0.1)
    assert one_bin["sustained_ratio"][0] == 0.0


def test_without_a_baseline_only_what_needs_it_is_missing():
    window = PsthSettings(window_s=(0.0, 0.5), bin_s=0.1, normalisation="rate")
    found = named(counts_of([1, 4, 2, 0, 1]), window)
    assert [name for name, value in found.items() if np.isnan(value[0])] == ["peak_z", "latency_s", "sustained_ratio"]
    assert found["peak_time_s"][0] == pytest.approx(0.15)


def test_peak_is_sought_after_the_onset_and_the_earliest_of_equals():
    found = named(counts_of([50, 3, 1, 3, 1, 9, 2, 9, *[1] * 9]), WINDOW)
    assert found["peak_time_s"][0] == pytest.approx(0.15)


def test_response_ends_at_the_next_event():
    response = [2, 5, 6, 4, 3, 1, 1, 90, 90, 90, 90, 90, 90]
    found = named(counts_of([*BASELINE, *response]), WINDOW, response_stop_s=0.7)
    assert found["peak_time_s"][0] == pytest.approx(0.25)
    assert np.isnan(found["sustained_ratio"][0])
    assert response_limit(np.array([0.0, 0.7, 1.4, 30.0]), WINDOW) == pytest.approx(0.7)
    assert response_limit(np.array([0.0, 5.0]), WINDOW) == 1.3
    assert response_limit(np.array([0.0, 0.0, 0.0]), WINDOW) == pytest.approx(0.2)
    with pytest.raises(InputError, match="No bin"):
        psth_features(counts_of([*BASELINE, *response]), 10, WINDOW, response_stop_s=0.05)


@given(st.lists(st.integers(0, 6), min_size=17, max_size=17), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_repeating_every_event_changes_no_feature(counts, times):
    counts = np.array([[0, 2, *counts[2:]]])
    once, again = psth_features(counts, 10, WINDOW)[0], psth_features(times * counts, 10 * times, WINDOW)[0]
    np.testing.assert_allclose(once, again, rtol=1e-5, atol=1e-5)
