"""Spikes, rheobase and the step 40 pA above: known cells, every refusal, and images that only know the onset."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_helpers import FALL_S, HEIGHT, RISE_S, firing_cell, make_cell, make_sweep, regular

from si_neuroml.celltypes.cell_image import cell_image, rheobase_traces
from si_neuroml.celltypes.spikes import find_spikes, measure_spikes
from si_neuroml.celltypes.stimulus import step_stimuli
from si_neuroml.celltypes.sweep_selection import select_rheobase_sweeps, sweep_firing
from si_neuroml.celltypes.sweeps import CellSweeps, sweeps_from_arrays
from si_neuroml.errors import InputError

STEPS = [-50, 0, 20, 40, 60, 80, 100, 120, 160]


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([4000.0, 10_000.0, 20_000.0, 50_000.0]),
    amplitude=st.sampled_from([50, 200, 400]),
    isis=st.lists(st.floats(0.004, 0.05), min_size=0, max_size=9),
    rest=st.sampled_from([-85.0, -60.0]),
    noise=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 100),
)
def test_every_spike_is_found_once(rate, amplitude, isis, rest, noise, seed):
    thresholds = 0.05 + np.cumsum([0.0, *isis])
    voltage = make_sweep(amplitude, thresholds, rate=rate, rest=rest, noise=noise, seed=seed)
    peaks = find_spikes(voltage, rate)
    assert len(peaks) == len(thresholds)
    assert np.abs(peaks / rate - 0.2 - thresholds - RISE_S).max() < max(1 / rate, 5e-5)


@pytest.mark.parametrize("rate", [20_000.0, 50_000.0])
def test_shapes_of_spikes(rate):
    thresholds = np.array([0.0901, 0.1703, 0.2904])
    voltage = make_sweep(100, thresholds, rate=rate, noise=0.0)
    shapes = measure_spikes(voltage, rate, find_spikes(voltage, rate), start_s=0.2, stop_s=0.7)
    assert len(shapes) == 3
    np.testing.assert_allclose(shapes.threshold_s, 0.2 + thresholds, atol=max(1.2 / rate, 6e-5))
    np.testing.assert_allclose(shapes.threshold_mv, -60, atol=0.5 + 2e5 / rate)
    np.testing.assert_allclose(shapes.peak_mv, -60 + HEIGHT, atol=0.6 + 1e5 / rate)
    # half of the rise and the part of the fall above the middle
    expected = 1000 * (RISE_S / 2 + FALL_S * (HEIGHT / 2) / (HEIGHT + 10))
    np.testing.assert_allclose(shapes.width_ms, expected, rtol=0.05)
    np.testing.assert_allclose(shapes.trough_s - shapes.peak_s, FALL_S, atol=2 / rate)
    np.testing.assert_allclose(shapes.upstroke_mv_per_ms, HEIGHT / RISE_S / 1000, rtol=0.02)
    np.testing.assert_allclose(shapes.downstroke_mv_per_ms, -(HEIGHT + 10) / FALL_S / 1000, rtol=0.02)
    np.testing.assert_array_equal(shapes.fast_trough_mv, shapes.trough_mv)


def test_what_is_no_spike():
    at = np.arange(18_000) / 20_000
    hump = -70 + 45 * np.exp(-0.5 * ((at - 0.4) / 0.01) ** 2)
    artefact = np.where(at > 0.2, -20.0, -70.0)
    low = make_sweep(0, [0.1]) - 60
    for voltage in (hump, artefact, low, np.full(18_000, -70.0), np.full(5, np.nan), np.empty(0)):
        assert len(find_spikes(voltage, 20_000.0)) == 0
    with pytest.raises(InputError, match="one trace"):
        find_spikes(np.zeros((2, 5)), 20_000.0)


def test_a_cell_with_everything():
    cell = firing_cell(STEPS, 60, holding=-30.0)
    pair = select_rheobase_sweeps(cell)
    assert pair.refusal == ""
    assert (STEPS[pair.rheobase], STEPS[pair.plus]) == (60, 100)
    assert (pair.rheobase_pa, pair.above_pa, pair.silent_below_pa) == (60, 40, 20)
    assert not any(pair.sweep_reasons)
    assert not pair.notes
    assert STEPS[select_rheobase_sweeps(cell, plus_pa=95).plus] == 160


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(len(STEPS))), shift=st.sampled_from([0, 7.5]))
def test_order_of_sweeps_does_not_matter(order, shift):
    cell = _ordered(order, shift)
    pair = select_rheobase_sweeps(cell)
    assert cell.stimulus[pair.rheobase].amplitude_pa == 60 + shift
    assert cell.stimulus[pair.plus].amplitude_pa == 100 + shift


_VOLTAGES = {a: make_sweep(a, regular(2 if a >= 60 else 0), seed=abs(a), rate=10_000.0) for a in STEPS}


def _ordered(order, shift):
    amplitudes = [STEPS[k] for k in order]
    stimulus = step_stimuli(0.2, 0.7, [a + shift for a in amplitudes])
    return sweeps_from_arrays([_VOLTAGES[a] for a in amplitudes], 10_000.0, stimulus=stimulus)


def test_tolerance():
    cell = firing_cell([0, 50, 100, 194], 100)
    pair = select_rheobase_sweeps(cell)
    assert pair.above_pa == 94
    narrow = select_rheobase_sweeps(cell, tolerance_pa=20.0)
    assert narrow.plus is None
    assert narrow.rheobase_pa == 100
    assert "nearest is 94 pA above" in narrow.refusal
    last = select_rheobase_sweeps(firing_cell([0, 50, 100], 100))
    assert "no usable step above rheobase, 100 pA" in last.refusal
    for wrong in ({"plus_pa": 0}, {"tolerance_pa": -1}):
        with pytest.raises(InputError, match="above 0"):
            select_rheobase_sweeps(cell, **wrong)


def test_repeats():
    steps = [0, 60, 62, 60, 100, 102, 100]
    cell = make_cell(steps, [(), (), regular(2), regular(1), regular(4), regular(4), regular(4)])
    pair = select_rheobase_sweeps(cell)
    # the first 60 pA did not fire, the second did; 62 is its repeat, not the step above
    assert (pair.rheobase, pair.plus) == (3, 4)
    assert "at rheobase, 60 pA, 1 repeats did not fire" in pair.notes


def test_a_spike_that_the_next_step_does_not_confirm():
    trains = [(), (), regular(1), (), (), regular(2), regular(3), regular(4), regular(4)]
    pair = select_rheobase_sweeps(make_cell(STEPS, trains))
    assert pair.rheobase_pa == 80
    assert "sweep 2 fires at 20 pA" in pair.notes[0]


def test_sweeps_that_cannot_be_used():
    amplitudes = [0, 40, 60, 80, 100, 100, 140]
    trains = [(), (), regular(2), regular(3), regular(4), regular(4), regular(5)]
    good = [make_sweep(a, train, seed=k) for k, (a, train) in enumerate(zip(amplitudes, trains, strict=True))]
    faults = {
        "truncated": good[4][:9000],
        "spontaneous firing": make_sweep(100, regular(4), extra=[0.08]),
        "drift": make_sweep(100, regular(4), rest=-50.0),
        "depolarised": make_sweep(100, regular(4), rest=-25.0),
        "depolarisation block": _blocked(100),
    }
    for reason, voltage in faults.items():
        cell = make_cell(amplitudes, trains, replace={4: voltage})
        pair = select_rheobase_sweeps(cell)
        assert pair.sweep_reasons[4].startswith(reason), pair.sweep_reasons
        # the repeat takes its place
        assert (pair.rheobase, pair.plus) == (2, 5)
        alone = select_rheobase_sweeps(make_cell(amplitudes, trains, replace={4: voltage, 5: voltage, 6: voltage}))
        assert alone.above_pa == 20
        if reason != "drift":
            # four of seven would be the median
            without = make_cell(amplitudes, trains, replace={3: voltage, 4: voltage, 5: voltage, 6: voltage})
            assert reason in select_rheobase_sweeps(without).refusal


def _blocked(amplitude):
    """Two spikes, then a plateau of -20 mV to the end of the step."""
    voltage = make_sweep(amplitude, [0.02, 0.04])
    voltage[5000:14_000] = -20
    return voltage


def test_block_is_neither_silence_nor_one_spike():
    def firing(voltage):
        return sweep_firing(voltage, 20_000.0, step_stimuli(0.2, 0.7, [100.0])[0])

    assert firing(_blocked(100)).blocked
    assert not firing(make_sweep(100, [0.05])).blocked
    assert not firing(make_sweep(400)).blocked
    assert not firing(make_sweep(100, regular(8))).blocked


def test_a_rise_cut_off_by_the_end_is_no_spike():
    """The rising phase of a spike that starts 0.25 ms before the step ends."""
    voltage = make_sweep(100, [0.1], noise=0.0)
    stimulus = step_stimuli(0.2, 0.7, [100.0])[0]
    for last in (13_999, 14_000):
        cut_off = voltage.copy()
        cut_off[last - 4 : last + 1] += np.linspace(0, 60, 5)
        assert len(find_spikes(cut_off, 20_000.0)) == 2
        assert sweep_firing(cut_off, 20_000.0, stimulus).num_spikes == 1


def test_cells_that_cannot_be_used():
    assert "no spikes: silent up to" in select_rheobase_sweeps(make_cell(STEPS, [()] * 9)).refusal
    one = select_rheobase_sweeps(make_cell([100], [regular(3)]))
    assert one.refusal.startswith("1 of 1 sweeps can be used")
    no_stimulus = sweeps_from_arrays([make_sweep(a) for a in (50, 100)], 20_000.0)
    assert select_rheobase_sweeps(no_stimulus).refusal.startswith("no stimulus")
    spontaneous = make_cell(
        STEPS, [regular(3)] * 9, replace={k: make_sweep(STEPS[k], regular(3), extra=[0.1]) for k in range(6)}
    )
    assert "spontaneous firing: spikes before the step in 6 of 9 sweeps" in select_rheobase_sweeps(spontaneous).refusal
    short = select_rheobase_sweeps(firing_cell(STEPS, 60, duration=0.15))
    assert "short step" in short.refusal
    assert select_rheobase_sweeps(firing_cell(STEPS, 60, duration=0.15), min_step_s=0.1).refusal == ""
    cell = make_cell(STEPS, [()] * 9)
    with pytest.raises(InputError, match="no pair of sweeps: no spikes"):
        rheobase_traces(cell, select_rheobase_sweeps(cell))


def test_notes():
    lowest = select_rheobase_sweeps(firing_cell([60, 100, 140], 20))
    assert "rheobase may be lower" in lowest.notes[0]
    assert np.isnan(lowest.silent_below_pa)
    turned = make_cell([40, 80, 120, 160, 200], [(), (), (), regular(2), regular(4)], replace={})
    backwards = CellSweeps(
        "cell", turned.voltage_mv[2::-1] + turned.voltage_mv[3:], 20_000.0, turned.stimulus, turned.refusals
    )
    assert "does not follow" in select_rheobase_sweeps(backwards).notes[0]
    holding = sweeps_from_arrays(
        turned.voltage_mv, 20_000.0, stimulus=step_stimuli(0.2, 0.7, [40, 80, 120, 160, 200], [-80, 0, 0, 0, 0])
    )
    assert "holding current changes from -80 to 0 pA" in select_rheobase_sweeps(holding).notes[0]


def test_image_of_a_cell():
    """Another laboratory's onset and sampling rate leave the image alone."""
    images = []
    for onset, rate in ((0.2, 20_000.0), (0.511, 50_000.0)):
        cell = firing_cell(STEPS, 60, onset=onset, rate=rate, duration=1.0, noise=0.0)
        images.append(cell_image(cell, select_rheobase_sweeps(cell)))
    assert images[0].shape == (2, 48, 240)
    assert images[0].dtype == np.float32
    assert np.abs(images[0] - images[1]).max() < 0.08 * images[0].max()
    # 2 and 6 spikes; the first one 60 ms after onset, 160 ms into the window: column 32
    counts = [np.count_nonzero(np.diff(np.r_[0, image[-1] > 0.5 * image[-1].max()]) == 1) for image in images[0]]
    assert counts == [2, 6]
    assert images[0][0, -1, :60].argmax() in (31, 32, 33)
    small = cell_image(cell, select_rheobase_sweeps(cell), shape=(10, 60), normalization="L2", how="mean")
    assert small.shape == (2, 10, 60)
