"""EP features: known answers, definitions in plain loops, and what they must not depend on."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_helpers import FALL_S, HEIGHT, RISE_S, TAU_S, firing_cell, make_cell, regular

from si_neuroml.celltypes.features import EP_FEATURE_NAMES, ep_features
from si_neuroml.celltypes.sweep_selection import select_rheobase_sweeps

STEPS = [-100, -50, 0, 50, 100, 140, 200]


def named(cell, pair=None):
    values, names = ep_features(cell, pair)
    assert values.dtype == np.float32
    assert values.shape == (len(EP_FEATURE_NAMES),)
    assert names == EP_FEATURE_NAMES
    return dict(zip(names, values, strict=True))


def test_known_cell():
    trains = [(), (), (), (), [0.1], [0.05, 0.09, 0.17, 0.33], regular(10)]
    found = named(make_cell(STEPS, trains))
    expected = {
        "first_threshold_mv": -60,
        "first_threshold_s": 0.1,
        "first_peak_mv": -60 + HEIGHT,
        "first_peak_s": 0.1 + RISE_S,
        "first_trough_mv": -70,
        "first_trough_s": 0.1 + RISE_S + FALL_S,
        "first_fast_trough_mv": -70,
        "first_height_mv": HEIGHT,
        "first_width_ms": 1000 * (RISE_S / 2 + FALL_S * HEIGHT / 2 / (HEIGHT + 10)),
        "first_upstroke_downstroke_ratio": (HEIGHT / RISE_S) / ((HEIGHT + 10) / FALL_S),
        "first_threshold_to_peak_s": RISE_S,
        "first_peak_to_trough_s": FALL_S,
        "rheobase_latency_s": 0.1,
        "rheobase_rate_hz": 2,
        "plus_latency_s": 0.05,
        "plus_rate_hz": 8,
        "plus_mean_isi_s": 0.28 / 3,
        "plus_isi_cv": np.std([0.04, 0.08, 0.16]) / np.mean([0.04, 0.08, 0.16]),
        "plus_adaptation": 1 / 3,
        "plus_has_burst": 0,
        "plus_has_pause": 0,
        "plus_has_delay": 0,
        "rheobase_pa": 100,
        "fi_slope_hz_per_pa": np.polyfit([100, 140, 200], [2, 8, 20], 1)[0],
        "rest_mv": -70,
        "input_resistance_mohm": 100,
        "sag": 0,
        "tau_ms": TAU_S * 1000,
        "width_change": 1,
    }
    tolerance = {"mv": 2.5, "s": 6e-5, "ms": 0.4, "mohm": 1.0}
    for name, value in expected.items():
        slack = tolerance.get(name.rsplit("_", 1)[-1], 0.05 * abs(value) + 0.02)
        assert found[name] == pytest.approx(value, abs=slack), name


def test_nan_where_not_defined():
    one = named(make_cell(STEPS, [(), (), (), (), [0.1], [0.1], regular(4)]))
    for name in ("mean_isi_s", "isi_cv", "adaptation", "has_burst", "has_pause", "has_delay"):
        assert np.isnan(one[f"rheobase_{name}"])
        assert np.isnan(one[f"plus_{name}"])
    assert np.isnan(one["width_change"])
    silent = named(make_cell(STEPS, [()] * 7))
    assert {name for name, value in silent.items() if not np.isnan(value)} == {
        "rest_mv",
        "input_resistance_mohm",
        "sag",
        "tau_ms",
    }
    # no second sweep: the first spike is still described
    alone = named(make_cell([0, 100, 300], [(), regular(2), regular(5)]))
    assert not np.isnan(alone["first_width_ms"])
    assert np.isnan(alone["plus_rate_hz"])
    depolarising = named(firing_cell([20, 60, 100, 140], 100))
    assert np.isnan(depolarising["sag"])
    assert np.isnan(depolarising["tau_ms"])
    assert depolarising["input_resistance_mohm"] == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("isis", "burst", "pause"),
    [
        ([0.006, 0.06, 0.07, 0.07], 1, 0),
        ([0.006, 0.007, 0.008, 0.009], 0, 0),
        ([0.03, 0.07, 0.08], 0, 0),
        ([0.008], 1, np.nan),
        ([0.03, 0.03, 0.12, 0.03, 0.03], 0, 1),
        ([0.03, 0.03, 0.08, 0.03], 0, 0),
        ([0.12, 0.03, 0.03, 0.12], 0, 0),
    ],
)
def test_burst_and_pause(isis, burst, pause):
    found = named(make_cell([0, 60, 100], [(), [0.05], 0.05 + np.cumsum([0.0, *isis])]))
    np.testing.assert_equal([found["plus_has_burst"], found["plus_has_pause"]], [burst, pause])


def test_delay():
    late = named(make_cell([0, 60, 100], [(), [0.3], [0.25, 0.3, 0.35]]))
    assert late["plus_has_delay"] == 1
    assert late["plus_latency_s"] == pytest.approx(0.25, abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(isis=st.lists(st.floats(0.01, 0.08), min_size=2, max_size=5))
def test_train_by_plain_loops(isis):
    found = named(make_cell([60, 100], [[0.05], 0.05 + np.cumsum([0.0, *isis])], noise=0.0))
    adaptation = sum((b - a) / (b + a) for a, b in pairwise(isis)) / (len(isis) - 1)
    assert found["plus_adaptation"] == pytest.approx(adaptation, abs=0.005)
    assert found["plus_mean_isi_s"] == pytest.approx(sum(isis) / len(isis), abs=5e-5)
    assert found["plus_rate_hz"] == pytest.approx(2 * (len(isis) + 1))


def test_the_laboratory_does_not_show():
    """Onset, time before and after, sampling rate: the same cell, the same features."""
    cells = [
        firing_cell(STEPS, 100, onset=onset, after=after, rate=rate, noise=0.0)
        for onset, after, rate in ((0.2, 0.2, 20_000.0), (1.02, 0.5, 20_000.0), (0.2, 0.2, 50_000.0))
    ]
    reference, shifted, faster = (ep_features(cell)[0] for cell in cells)
    np.testing.assert_allclose(shifted, reference, rtol=1e-3, atol=1e-4)
    names = np.array(EP_FEATURE_NAMES)
    times = np.char.endswith(names, "_s") | np.char.endswith(names, "_ms")
    np.testing.assert_allclose(faster[times], reference[times], atol=0.05, rtol=0.02)
    np.testing.assert_allclose(faster[~times], reference[~times], rtol=0.05, atol=2.0)


def test_sag():
    cell = make_cell(STEPS, [()] * 7, noise=0.0)
    at = np.arange(len(cell.voltage_mv[0])) / 20_000 - 0.2
    # from -80 back to -76 with 50 ms: the lowest point comes after some 25 ms
    back = np.where((at > 0) & (at < 0.5), 4 * (1 - np.exp(-at / 0.05)), 0)
    voltages = [v + back * (k == 0) for k, v in enumerate(cell.voltage_mv)]
    found = named(make_cell(STEPS, [()] * 7, noise=0.0, replace=dict(enumerate(voltages))))
    lowest = (voltages[0] + 70)[at < 0.5].min()
    assert found["sag"] == pytest.approx((lowest + 6) / lowest, abs=0.01)


def test_takes_the_pair_it_is_given():
    cell = firing_cell(STEPS, 100)
    pair = select_rheobase_sweeps(cell)
    np.testing.assert_array_equal(ep_features(cell, pair)[0], ep_features(cell)[0])
    wider = select_rheobase_sweeps(cell, plus_pa=100)
    assert named(cell, wider)["plus_rate_hz"] > named(cell, pair)["plus_rate_hz"]
