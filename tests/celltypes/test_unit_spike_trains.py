"""Intervals, autocorrelograms and scalograms of spike trains: known answers, plain versions, borders, rates."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit_helpers import SETTINGS, TYPES, train_of

from si_neuroml.celltypes.unit_settings import UnitStreamSettings
from si_neuroml.celltypes.unit_spike_trains import acg_3d, local_firing_rate, log_isi_histogram, spike_scalogram
from si_neuroml.errors import InputError

DEFAULT = UnitStreamSettings()


def poisson(rate_hz, duration_s, seed=0):
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(0, duration_s, rng.poisson(rate_hz * duration_s)))


def test_a_poisson_train_is_flat():
    train, duration = [poisson(20.0, 600.0)], [600.0]
    autocorrelogram = acg_3d(train, duration)
    lags, edges = DEFAULT.axes("acg_3d")["lag_ms"], DEFAULT.acg_edges_ms
    pairs = 20.0 * 600.0 * 20.0 * np.diff(edges) / 1000
    np.testing.assert_array_less(np.abs(autocorrelogram.mean(axis=0) - 1), 4.5 / np.sqrt(pairs))
    # ranking by the rate within 125 ms says nothing about what comes later
    assert np.abs(autocorrelogram[:, lags > 260] - 1).max() < 0.12
    # and all about what comes sooner
    assert (np.diff(autocorrelogram[:, (lags > 10) & (lags < 100)].mean(axis=1)) > 0).all()
    power = spike_scalogram(train, duration).astype("float64") ** 2
    np.testing.assert_allclose(power.mean(axis=1), 1, atol=0.06)
    assert (np.diff(power, axis=1) >= 0).all()
    # steady at high frequency, where a second holds many cycles
    assert np.ptp(power[-1]) < 0.7 * np.ptp(power[0])


def test_the_power_of_a_slow_train_is_that_of_a_fast_one():
    """The mean square over the rate is 1 for every Poisson process, also where most kernels hold no spike."""
    power = np.mean([spike_scalogram([poisson(1.0, 500.0, seed)], [500.0], SETTINGS) ** 2 for seed in range(8)], axis=0)
    np.testing.assert_allclose(power.mean(axis=1), 1, atol=0.1)


def test_bursts_and_rhythms_stand_where_they_should():
    rng = np.random.default_rng(0)
    bursting, fast = [train_of("Bursting", rng, 300.0)], [train_of("Fast", rng, 300.0)]
    lags = DEFAULT.axes("acg_3d")["lag_ms"]
    of_bursts = acg_3d(bursting, [300.0]).mean(axis=0)
    assert lags[of_bursts.argmax()] == pytest.approx(4.0, rel=0.15)
    assert of_bursts.max() > 10
    histogram = log_isi_histogram(bursting)
    assert histogram.sum() == pytest.approx(1)
    # two of three intervals are within a burst
    near = np.abs(np.log(DEFAULT.axes("log_isi")["isi_ms"] / 4)) < 0.25
    assert histogram[near].sum() == pytest.approx(2 / 3, abs=0.05)
    of_fast = acg_3d(fast, [300.0]).mean(axis=0)
    assert of_fast[lags < 6].max() < 0.05
    frequencies = DEFAULT.frequencies_hz
    power = (spike_scalogram(fast, [300.0]) ** 2).mean(axis=1)
    # far below its rate the power of a renewal process is the squared variation of its intervals, here 1 / 6; of
    # clusters that come at random it is their size; far above all rhythms every process looks like Poisson's
    np.testing.assert_allclose(power[frequencies < 4], 1 / 6, rtol=0.2)
    assert power[-1] == pytest.approx(1, abs=0.1)
    power = (spike_scalogram(bursting, [300.0]) ** 2).mean(axis=1)
    np.testing.assert_allclose(power[frequencies < 6], 3, rtol=0.15)


def test_rows_follow_the_local_rate():
    """A train whose rate changes every 5 s: spikes of the slow and fast parts have their own rows, and rates."""
    rng = np.random.default_rng(0)
    parts = [np.sort(rng.uniform(5 * k, 5 * k + 5, rng.poisson(5 * (5.0 if k % 2 else 60.0)))) for k in range(60)]
    autocorrelogram = acg_3d([np.concatenate(parts)], [300.0])
    mean_rate = sum(map(len, parts)) / 300.0
    lags = DEFAULT.axes("acg_3d")["lag_ms"]
    later = autocorrelogram[:, (lags > 250) & (lags < 700)].mean(axis=1) * mean_rate
    assert later[0] < 20
    np.testing.assert_allclose(later[3:], 60 * (1 - 0.45 / 5) + 5 * 0.45 / 5, rtol=0.06)


def plain_acg(parts, durations, settings):
    """One pair, and one lag of one spike, after the other."""
    edges, num_rows = settings.acg_edges_ms / 1000, settings.num_firing_rate_quantiles
    rates = [local_firing_rate(part, settings.firing_rate_window_ms / 1000) for part in parts]
    flat = np.concatenate(rates)
    order = [k for k in np.argsort(np.round(flat, 6), kind="stable") if not np.isnan(flat[k])]
    row_of = {k: num_rows * place // len(order) for place, k in enumerate(order)}
    counts, exposure, first = np.zeros((num_rows, len(edges) - 1)), np.zeros((num_rows, len(edges) - 1)), 0
    for part, duration in zip(parts, durations, strict=True):
        for i, t in enumerate(part):
            if first + i not in row_of:
                continue
            row = row_of[first + i]
            for j, other in enumerate(part):
                if i != j and abs(other - t) + 1e-9 < edges[-1]:
                    counts[row, np.searchsorted(edges, abs(other - t) + 1e-9, side="right") - 1] += 1
            for reach in (t, duration - t):
                exposure[row] += np.clip(np.minimum(edges[1:], reach) - edges[:-1], 0, None)
        first += len(part)
    rate = len(flat) / sum(durations)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(exposure > 1e-12, counts / (exposure * rate), np.nan)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 29_999), max_size=40), min_size=1, max_size=3))
@example([[0, 0]])
@example([[0, 0], [5, 5, 5], [7]])
def test_pairs_are_those_of_a_plain_count(segments):
    parts, durations = [np.sort(np.array(one)) / 1e4 for one in segments], [3.0] * len(segments)
    found = acg_3d(parts, durations)
    expected = plain_acg(parts, durations, DEFAULT)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_local_rates_are_averaged_inverse_intervals():
    times = np.sort(np.random.default_rng(0).uniform(0, 10, 80))
    step = 1e-4
    grid = np.arange(times[0] + step / 2, times[-1], step)
    inverse = 1 / np.diff(times)[np.searchsorted(times, grid) - 1]
    expected = [inverse[np.abs(grid - t) < 0.125].mean() for t in times]
    np.testing.assert_allclose(local_firing_rate(times), expected, rtol=0.02)
    assert np.isnan(local_firing_rate([3.0])).all()
    assert np.isinf(local_firing_rate([3.0, 3.0])).all()
    assert len(local_firing_rate([])) == 0


def test_nothing_is_counted_across_segments():
    rng = np.random.default_rng(0)
    one, two = train_of("Slow", rng), train_of("Fast", rng)
    for function in (acg_3d, spike_scalogram):
        apart = function([one, two], [40.0, 40.0], SETTINGS)
        np.testing.assert_allclose(function([two, one], [40.0, 40.0], SETTINGS), apart, rtol=1e-4, atol=1e-6)
        # an empty segment in between adds time, over which the mean rate is taken, and nothing else
        longer = function([one, [], two], [40.0, 10.0, 40.0], SETTINGS)
        assert np.isfinite(longer).all() == np.isfinite(apart).all()
    intervals = np.concatenate([np.diff(one), np.diff(two)])
    counts = log_isi_histogram([one, two]) * len(intervals)
    both = log_isi_histogram([one]) * (len(one) - 1) + log_isi_histogram([two]) * (len(two) - 1)
    np.testing.assert_allclose(counts, both, atol=1e-3)
    # two spikes 1 ms apart on either side of a border are no pair
    assert np.isnan(log_isi_histogram([[9.999], [0.0]])).all()
    assert np.isnan(acg_3d([[9.999], [0.0]], [10.0, 10.0])).all()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("rate_hz", [20_000.0, 30_000.0, 25_000.0])
def test_the_sampling_rate_leaves_no_trace(kind, rate_hz):
    """Spikes on whole tenths of a millisecond, counted in samples of another rate."""
    train = train_of(kind, np.random.default_rng(1))
    again = np.round(train * rate_hz) / rate_hz
    if rate_hz == 25_000.0:
        # not a whole number of samples: times are up to 20 us off
        assert np.abs(again - train).max() > 1e-6
        tolerance = {"atol": 0.1, "rtol": 0.1}
    else:
        tolerance = {"atol": 1e-6, "rtol": 1e-6}
    for function in (acg_3d, spike_scalogram):
        one, other = function([train], [40.0], SETTINGS), function([again], [40.0], SETTINGS)
        np.testing.assert_allclose(one.mean(axis=-1), other.mean(axis=-1), **tolerance)
    np.testing.assert_allclose(log_isi_histogram([train]), log_isi_histogram([again]), atol=tolerance["atol"])


def test_few_spikes():
    nothing, one, two = [np.zeros(0)], [np.array([12.0])], [np.array([12.0, 12.02])]
    for train in (nothing, one):
        assert np.isnan(log_isi_histogram(train)).all()
        assert np.isnan(acg_3d(train, [40.0])).all()
    assert np.isnan(spike_scalogram(nothing, [40.0])).all()
    assert np.isfinite(spike_scalogram(one, [40.0])).all()
    assert np.isfinite(spike_scalogram(two, [40.0])).all()
    assert log_isi_histogram(two).max() == 1
    found = acg_3d(two, [40.0])
    assert np.isfinite(found).any(axis=1).sum() == 2
    # the lag is 20 ms, and the edge of no bin
    assert (np.nan_to_num(found) > 0).any(axis=0).sum() == 1
    # shorter than a block
    assert np.isnan(spike_scalogram([np.array([1.0, 2.0])], [5.0])).all()


def test_long_recordings_are_thinned_out():
    train = [poisson(20.0, 300.0)]
    few, many = replace(SETTINGS, max_num_blocks=20), replace(SETTINGS, max_num_blocks=1000)
    one, other = spike_scalogram(train, [300.0], few), spike_scalogram(train, [300.0], many)
    assert (one != other).any()
    np.testing.assert_allclose(one, other, atol=0.3)


def test_what_cannot_be_a_train_is_refused():
    with pytest.raises(InputError, match="has 1 segments, durations are given for 2"):
        acg_3d([[1.0]], [10.0, 10.0])
    with pytest.raises(InputError, match="Are times in seconds"):
        acg_3d([[1.0, 300_000.0]], [10.0])
    with pytest.raises(InputError, match="Are times in seconds"):
        spike_scalogram([[-1.0]], [10.0])
    for wrong in ([2.0, 1.0], [1.0, np.nan], [[1.0]]):
        with pytest.raises(InputError, match="finite, sorted times"):
            spike_scalogram([wrong], [10.0])
    for name, value, message in [
        ("freq_max", 500.0, "a third of the sampling frequency"),
        ("num_frequencies", 2.5, "whole number"),
        ("block_duration_s", 0.0, "finite and above 0"),
        ("isi_range_ms", (10.0, 1.0), "must rise"),
        ("acg_window_ms", 0.5, "must rise"),
        ("waveform_freq_max", 20_000.0, "a third"),
    ]:
        with pytest.raises(InputError, match=message):
            UnitStreamSettings(**{name: value})
    with pytest.raises(InputError, match="no stream 'psth'"):
        DEFAULT.axes("psth")
