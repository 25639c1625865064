"""Statistics of spike trains against a plain version, known trains, and any cut into blocks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.regions.psth import PsthCounter
from si_neuroml.regions.spike_train_features import SpikeTrainSettings, SpikeTrainStatistics, spike_train_features

RATE = 30_000
ACG_EDGES_MS = (0, 1, 2, 3, 4, 6, 10, 16, 25, 40, 63, 100, 158, 251, 398, 631, 1000)
LINEAR = SpikeTrainSettings(acg_window_s=0.1, acg_bins_per_decade=None)
# samples of a bursty train: many equal times, refractory and burst ISIs, pauses
GAPS = st.lists(st.sampled_from([0, 1, 30, 45, 75, 100, 180, 300, 2999, 3000, 40_000, 2_000_000]), max_size=40)
TRAINS = st.lists(GAPS, min_size=1, max_size=3)


def ragged(trains):
    return np.concatenate([np.asarray(t, dtype="float64") for t in trains]), np.cumsum([0, *map(len, trains)])


def trains_of(gaps):
    return [np.cumsum(np.array(of, dtype="int64")) / RATE for of in gaps]


def features_of(trains, **kwargs):
    features, names = spike_train_features(*ragged(trains), num_threads=1, **kwargs)
    return {name: features[:, k] for k, name in enumerate(names)}


def plain_features(samples, boundaries, duration_s):
    """Everything from integer samples of one unit, straight from the definitions in the module."""
    pieces = np.split(samples, np.searchsorted(samples, boundaries))
    isis = [np.diff(piece) / RATE for piece in pieces]
    pairs = np.concatenate([np.stack([isi[:-1], isi[1:]], axis=1) for isi in isis if len(isi)] or [np.empty((0, 2))])
    pairs = pairs[pairs.sum(axis=1) > 0]
    all_isis = np.concatenate(isis)
    found = {"rate_mean_hz": len(samples) / duration_s}
    if len(all_isis):
        found["isi_cv"] = all_isis.std() / all_isis.mean() if all_isis.mean() else np.nan
        found["isi_refractory_fraction"] = np.mean([round(isi * RATE) < 75 for isi in all_isis])
        edges = np.round(RATE * 10.0 ** np.linspace(-3, 1, 41), 3)
        bins = np.clip(np.searchsorted(edges, np.round(all_isis * RATE), side="right") - 1, 0, 39)
        found |= {f"log_isi_{k:02d}": np.mean(bins == k) for k in range(40)}
        short = [np.r_[False, isi < 0.006 - 1e-9, False] for isi in isis]
        found["burst_fraction"] = sum((s[:-1] | s[1:])[: len(p)].sum() for s, p in zip(short, pieces, strict=True))
        found["burst_fraction"] /= len(samples)
    if len(pairs):
        share = np.abs(pairs[:, 0] - pairs[:, 1]) / pairs.sum(axis=1)
        found |= {"isi_cv2": 2 * share.mean(), "isi_lv": 3 * (share**2).mean()}
        found["isi_lvr"] = 3 * (share**2 * (1 + 0.02 / pairs.sum(axis=1))).mean()
    lags = np.concatenate([(piece[None] - piece[:, None])[np.triu_indices(len(piece), 1)] for piece in pieces])
    acg = np.bincount(lags[lags < RATE].astype(int) // 30, minlength=1000)
    if acg.any():
        found |= {f"acg_{k:02d}": acg[a:b].mean() / acg.mean() for k, (a, b) in enumerate(pairwise(ACG_EDGES_MS))}
        peak, base = acg[:10].max(), acg[40:50].mean()
        found["burst_index"] = (peak - base) / max(peak, base) if max(peak, base) else np.nan
    anchors = np.r_[0, boundaries]
    for name, window in (("fano", RATE), ("presence", 60 * RATE)):
        counts = [np.bincount((p - a) // window) for p, a in zip(pieces, anchors, strict=True) if len(p)]
        counts = np.concatenate(counts)[np.concatenate(counts) > 0]
        num = round(duration_s * RATE) // window
        if name == "presence":
            found["rate_presence"] = len(counts) / num
        else:
            counts = np.r_[counts, np.zeros(num - len(counts))]
            found["rate_fano"] = counts.var() / counts.mean()
    return found


@given(GAPS.filter(len), st.lists(st.sampled_from([5 * RATE, 61 * RATE, 100 * RATE]), max_size=2, unique=True))
@settings(max_examples=80, deadline=None)
def test_equals_the_definitions(gaps, boundaries):
    samples, boundaries = np.cumsum(gaps), np.sort(boundaries).astype("int64")
    # whole windows after the last spike
    duration = 60.0 * (samples[-1] // (60 * RATE) + 1 + len(boundaries))
    found = features_of([samples / RATE], boundaries_s=boundaries / RATE, duration_s=duration)
    for name, value in plain_features(samples, boundaries, duration).items():
        np.testing.assert_allclose(found[name][0], value, rtol=2e-5, atol=2e-6, err_msg=name)


@given(
    TRAINS, st.lists(st.integers(0, 120), max_size=8), st.sampled_from([None, [1.0], [0.5, 66.0]]), st.integers(1, 2)
)
@settings(max_examples=80, deadline=None)
def test_any_blocks_give_the_same_bits(gaps, cuts, boundaries, num_threads):
    trains = trains_of(gaps)
    times, offsets = ragged(trains)
    expected = spike_train_features(times, offsets, boundaries_s=boundaries, num_threads=1)[0]
    statistics = SpikeTrainStatistics(len(trains), boundaries_s=boundaries)
    edges = sorted({0, len(times), *(cut for cut in cuts if cut < len(times))})
    for start, stop in pairwise(edges):
        statistics.add(times[start:stop], np.clip(offsets, start, stop) - start, num_threads=num_threads)
    np.testing.assert_array_equal(statistics.features()[0], expected)
    assert statistics.num_spikes.tolist() == [len(train) for train in trains]


@given(TRAINS, st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_blocks_in_time_hold_a_piece_of_every_unit(gaps, num_blocks):
    trains = trains_of(gaps)
    expected = spike_train_features(*ragged(trains), num_threads=1)[0]
    statistics = SpikeTrainStatistics(len(trains))
    order = np.arange(len(trains))[::-1]
    for k in range(num_blocks):
        pieces = [np.array_split(trains[unit], num_blocks)[k] for unit in order]
        statistics.add(*ragged(pieces), order)
    np.testing.assert_array_equal(statistics.features()[0], expected)


@given(TRAINS, st.sampled_from([13.0, 4321.0987]))
@settings(max_examples=50, deadline=None)
def test_another_clock_changes_nothing_but_the_windows(gaps, shift):
    trains = trains_of(gaps)
    one, two = features_of(trains), features_of([train + shift for train in trains])
    for name in one:
        if name not in ("rate_fano", "rate_presence"):
            np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_poisson_train():
    rng = np.random.default_rng(0)
    train = np.sort(rng.uniform(0, 4000, 80_000))
    found = features_of([train], duration_s=4000.0)
    for name in ("isi_cv", "isi_cv2", "isi_lv", "rate_fano"):
        assert found[name][0] == pytest.approx(1.0, abs=0.03), name
    assert found["rate_mean_hz"][0] == pytest.approx(20.0)
    assert found["rate_presence"][0] == 1.0
    assert found["isi_refractory_fraction"][0] == pytest.approx(1 - np.exp(-20 * 0.0025), rel=0.05)
    np.testing.assert_allclose([found[f"acg_{k:02d}"][0] for k in range(16)], 1.0, atol=0.12)
    linear = features_of([train], settings=LINEAR)
    np.testing.assert_allclose([linear[f"acg_{k:02d}"][0] for k in range(100)], 1.0, atol=0.12)
    # the chance that the ISI before or that after is short
    assert found["burst_fraction"][0] == pytest.approx(1 - np.exp(-20 * 0.012), rel=0.03)


def test_regular_train():
    found = features_of([np.arange(3000) * 0.02])
    for name in ("isi_cv", "isi_cv2", "isi_lv", "isi_lvr", "isi_log10_sd", "rate_fano"):
        assert found[name][0] == pytest.approx(0.0, abs=2e-6), name
    linear = features_of([np.arange(3000) * 0.02], settings=LINEAR)
    acg = np.array([linear[f"acg_{k:02d}"][0] for k in range(100)])
    assert np.flatnonzero(acg).tolist() == [20, 40, 60, 80]
    assert acg[20] == pytest.approx(25.0, rel=1e-3)
    assert found["isi_log10_mean"][0] == pytest.approx(np.log10(0.02), abs=1e-6)
    # [10^-1.7, 10^-1.6): bin 13 of 10 per decade from 1 ms
    assert found["log_isi_13"][0] == 1.0
    assert found["burst_fraction"][0] == 0.0
    assert np.isnan(found["burst_size"][0])


def test_bursts_of_four():
    train = (np.arange(500)[:, None] + 0.004 * np.arange(4)).ravel()
    found = features_of([train])
    assert found["burst_fraction"][0] == 1.0
    assert found["burst_size"][0] == 4.0
    assert found["burst_index"][0] == 1.0


def test_agrees_with_elephant():
    elephant = pytest.importorskip("elephant.statistics")
    quantities, neo = pytest.importorskip("quantities"), pytest.importorskip("neo")
    rng = np.random.default_rng(1)
    train = np.cumsum(rng.gamma(1.7, 0.05, 3000))
    train = train[train < 250.0]
    found, isis = features_of([train], duration_s=250.0), np.diff(train) * quantities.s
    assert found["isi_cv"][0] == pytest.approx(float(elephant.cv(isis)), rel=1e-5)
    assert found["isi_cv2"][0] == pytest.approx(float(elephant.cv2(isis)), rel=1e-5)
    assert found["isi_lv"][0] == pytest.approx(float(elephant.lv(isis)), rel=1e-5)
    assert found["isi_lvr"][0] == pytest.approx(float(elephant.lvr(isis)), rel=1e-5)
    windows = [
        neo.SpikeTrain(train[(train >= k) & (train < k + 1)] * quantities.s, t_start=k, t_stop=k + 1)
        for k in range(250)
    ]
    assert found["rate_fano"][0] == pytest.approx(elephant.fanofactor(windows), rel=1e-4)


def test_units_with_few_spikes():
    found = features_of([[], [3.0], [3.0, 3.0], [1.0, 2.0], [1.0, 2.0, 4.0]], duration_s=10.0)
    assert found["rate_mean_hz"].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.2, 0.3])
    assert np.isnan(found["rate_log10_hz"]).tolist() == [True, False, False, False, False]
    # mean ISI 0 has no CV; one ISI has a CV of 0
    np.testing.assert_allclose(found["isi_cv"], [np.nan, np.nan, np.nan, 0.0, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(found["isi_cv2"], [np.nan] * 4 + [2 / 3], rtol=1e-6)
    np.testing.assert_allclose(found["isi_refractory_fraction"], [np.nan, np.nan, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(found["burst_size"], [np.nan, np.nan, 2.0, np.nan, np.nan])
    np.testing.assert_allclose(found["rate_presence"], [0.0, 1.0, 1.0, 1.0, 1.0])
    assert found["acg_00"].tolist()[2] == 1000.0
    assert np.isnan(found["acg_00"][:2]).all()


def test_no_spikes_at_all():
    found = features_of([[], []])
    assert found["rate_presence"].tolist() == [0.0, 0.0]
    assert np.isnan(found["isi_cv"]).all()


def test_nothing_reaches_across_a_boundary():
    rng = np.random.default_rng(2)
    first, second = np.sort(rng.uniform(0, 59, 900)), np.sort(rng.uniform(0, 59, 600))
    both = SpikeTrainStatistics(1, boundaries_s=[60.0])
    both.add(np.r_[first, second + 60.0], [0, 1500])
    apart = [SpikeTrainStatistics(1) for _ in range(2)]
    for statistics, train in zip(apart, (first, second), strict=True):
        statistics.add(train, [0, len(train)])
    np.testing.assert_array_equal(both.acg_counts, apart[0].acg_counts + apart[1].acg_counts)
    np.testing.assert_array_equal(both.log_isi_counts, apart[0].log_isi_counts + apart[1].log_isi_counts)
    assert both.log_isi_counts.sum() == 1498
    assert both.duration_s() == pytest.approx(apart[0].duration_s() + apart[1].duration_s())


def test_without_a_duration_the_session_is_what_all_units_span():
    found = features_of([[0.5, 3.5], [0.0, 10.0]])
    np.testing.assert_allclose(found["rate_mean_hz"], 0.2)
    # 11 windows of 1 s, two of them with a spike
    np.testing.assert_allclose(found["rate_fano"], (2 / 11 - (2 / 11) ** 2) / (2 / 11), rtol=1e-6)


def test_own_settings_name_as_many_bins():
    assert tuple(SpikeTrainSettings().acg_edges) == ACG_EDGES_MS
    own = SpikeTrainSettings((0.001, 1.0), 4, acg_window_s=0.3, acg_bin_s=0.002, acg_bins_per_decade=None)
    _, names = spike_train_features(np.arange(50) * 0.1, [0, 50], own)
    assert [name for name in names if name.startswith("log_isi")] == [f"log_isi_{k:02d}" for k in range(12)]
    assert [name for name in names if name.startswith("acg")] == [f"acg_{k:03d}" for k in range(150)]
    # no 40 to 50 ms in a short autocorrelogram
    short = features_of([np.arange(50) * 0.01], settings=SpikeTrainSettings(acg_window_s=0.02))
    assert np.isnan(short["burst_index"][0])


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([[1.0, np.nan, 2.0]], "Unit number 7 has a spike at nan"),
        ([[1.0, np.inf]], "Unit number 7 has a spike at inf"),
        ([[2.0, 1.0]], "unit number 7 are not in time order: 1.0 s"),
        ([[1.0, 2.0], [1.5]], "unit number 7 are not in time order: 1.5 s"),
        ([np.r_[1.0, np.full(20_000, 3.0)]], "Unit number 7 has more than 10000 spikes within 1.0 s at 3 s"),
        ([np.full(6000, 3.0), np.full(6000, 3.0)], "Unit number 7 has more than 10000"),
    ],
)
def test_refuses_spikes_that_cannot_be(blocks, message):
    statistics = SpikeTrainStatistics(9)
    *before, last = [(np.asarray(block), [0, len(block)], np.array([7])) for block in blocks]
    for block in before:
        statistics.add(*block)
    with pytest.raises(InputError, match=message):
        statistics.add(*last, num_threads=2)


@pytest.mark.parametrize(
    ("units", "message"),
    [([0], "needs as many"), ([0, 2], "outside the 2 units"), ([-1, 0], "outside"), ([1, 1], "two pieces")],
)
def test_refuses_units_that_cannot_be(units, message):
    with pytest.raises(InputError, match=message):
        SpikeTrainStatistics(2).add([1.0, 2.0], [0, 1, 2], units)
    with pytest.raises(InputError, match=message):
        PsthCounter(2, [1.0]).add([1.0, 2.0], [0, 1, 2], units)


def test_refuses_a_duration_shorter_than_the_spikes_and_odd_settings():
    with pytest.raises(InputError, match="span 9"):
        features_of([[1.0, 10.0]], duration_s=5.0)
    with pytest.raises(InputError, match="boundaries_s must be sorted"):
        features_of([[1.0]], boundaries_s=[3.0, 2.0])
    with pytest.raises(InputError, match="num_threads"):
        spike_train_features([1.0], [0, 1], num_threads=0)
    for options in ({"acg_bin_s": 0.003}, {"log_isi_range_s": (1.0, 0.1)}, {"burst_isi_s": np.nan}):
        with pytest.raises(InputError):
            SpikeTrainSettings(**options)
