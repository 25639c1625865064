"""Steps found in currents, units and faults of sweeps, resampling, and sweeps as recordings."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeinterface.core import NumpyRecording, load
from sweep_helpers import RATE, currents, make_cell, make_sweep, regular

from si_neuroml.celltypes.stimulus import StepStimulus, find_pulses, step_family, step_stimuli, stimulus_differences
from si_neuroml.celltypes.sweep_recordings import recording_from_sweeps, sweeps_from_recording
from si_neuroml.celltypes.sweeps import resample_trace, sweeps_from_arrays
from si_neuroml.errors import InputError


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(100, 900), min_size=1, max_size=6),
    seed=st.integers(0, 10_000),
    noise=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_pulses_are_where_levels_change(lengths, seed, noise):
    rng = np.random.default_rng(seed)
    steps = rng.choice([-1, 1], len(lengths)) * rng.uniform(25, 300, len(lengths))
    levels = np.cumsum(steps)
    current = np.repeat(levels, lengths) + noise * rng.standard_normal(sum(lengths))
    found = find_pulses(current, RATE)
    edges = np.cumsum([0, *lengths])
    assert len(found) == len(lengths)
    assert [pulse.stop for pulse in found[:-1]] == [pulse.start for pulse in found[1:]]
    slack = 0 if noise == 0 else 2
    assert np.abs([pulse.start for pulse in found] - edges[:-1]).max() <= slack
    np.testing.assert_allclose([pulse.level for pulse in found], levels, atol=noise)


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_the_step_is_what_varies(noise):
    """Among a longer constant pulse before and a test pulse behind; each sweep's clear time ends at them."""
    amplitudes = [-60, 0, 60, 120]
    family = currents(amplitudes, onset=1.0, total=2.0, pulses=[(0.1, 0.8, -100), (1.7, 1.72, 50)], noise=noise)
    stimuli, refusals = step_family(family, RATE)
    assert refusals == [""] * 4
    np.testing.assert_allclose([s.amplitude_pa for s in stimuli], amplitudes, atol=noise)
    np.testing.assert_allclose([s.holding_pa for s in stimuli], -20, atol=noise)
    for name, expected in (("onset_s", 1.0), ("offset_s", 1.5), ("clear_from_s", 0.8), ("clear_until_s", 1.7)):
        np.testing.assert_allclose([getattr(s, name) for s in stimuli], expected, atol=(1e-9 if noise == 0 else 2e-4))
    assert {s.source for s in stimuli} == {"recorded"}


def test_of_two_varying_steps_the_first():
    pulses = [np.array(currents([a], total=2.0, pulses=[(1.2, 1.7, a)])[0]) for a in (-50, 50, 100)]
    stimuli, _ = step_family(pulses, RATE, source="command")
    np.testing.assert_allclose([s.onset_s for s in stimuli], 0.2)
    np.testing.assert_allclose([s.clear_until_s for s in stimuli], 1.2)


def test_sweeps_of_other_protocols_are_refused_with_reason():
    family = currents([50, 100, 150, 200, 250])
    ramp = family[0] + 0.0
    ramp[4000:14_000] = np.linspace(0, 300, 10_000)
    longer = currents([100], duration=0.6)[0]
    short = family[1][:9000]
    stimuli, refusals = step_family([*family, ramp, longer, short, None, np.full(18_000, np.nan)], RATE)
    assert all(s is not None for s in stimuli[:5])
    assert stimuli[5:] == [None] * 5
    for text, reason in zip(
        ("protocol", "another protocol", "truncated", "no current", "NaN"), refusals[5:], strict=True
    ):
        assert text in reason
    assert step_family([np.zeros(5000)] * 2, RATE)[1] == ["no stimulus: no pulse of at least 0.1 s in any sweep"] * 2


def test_recorded_current_counts_and_the_command_checks_it():
    voltage = [make_sweep(a, seed=k) for k, a in enumerate((50, 100, 150))]
    command = currents([50, 100, 150])
    same = sweeps_from_arrays(voltage, RATE, recorded_pa=currents([50, 100, 150], noise=1.0), command_pa=command)
    assert [s.source for s in same.stimulus] == ["recorded"] * 3
    assert not same.notes
    other = sweeps_from_arrays(voltage, RATE, recorded_pa=currents([50, 60, 150]), command_pa=command)
    assert other.stimulus[1].amplitude_pa == pytest.approx(60)
    assert other.notes == ["sweep 1: recorded step 60 pA, command 100 pA"]
    partly = sweeps_from_arrays(voltage, RATE, recorded_pa=[command[0], None, command[2]], command_pa=command)
    assert [s.source for s in partly.stimulus] == ["recorded", "command", "recorded"]
    assert partly.usable.all()
    late = stimulus_differences(step_stimuli(0.21, 0.7, [50.0]), step_stimuli(0.2, 0.7, [50.0]))
    assert "onset" in late[0]
    missing = sweeps_from_arrays(voltage, RATE)
    assert all(reason.startswith("no stimulus") for reason in missing.refusals)
    assert missing.stimulus == [None] * 3
    assert missing.table()["onset_s"].isna().all()


@pytest.mark.parametrize(("unit", "factor"), [("V", 1e-3), ("uV", 1e3)])
def test_unit_confusion_is_detected(unit, factor):
    voltage = [make_sweep(a, regular(3)) for a in (50, 100)]
    stimulus = step_stimuli(0.2, 0.7, [50.0, 100.0])
    right = sweeps_from_arrays(voltage, RATE, stimulus=stimulus)
    wrong = [v * factor for v in voltage]
    with pytest.warns(UserWarning, match=f"numbers are {unit}"):
        found = sweeps_from_arrays(wrong, RATE, stimulus=stimulus)
    assert len(found.notes) == 1
    np.testing.assert_allclose(found.voltage_mv[0], right.voltage_mv[0], atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = sweeps_from_arrays(wrong, RATE, stimulus=stimulus, units=unit)
    np.testing.assert_allclose(told.voltage_mv[1], right.voltage_mv[1], atol=1e-4)
    with pytest.raises(InputError, match=f"give units='{unit}'"):
        sweeps_from_arrays(wrong, RATE, stimulus=stimulus, units="mV")
    with pytest.raises(InputError, match="wrong gain"):
        sweeps_from_arrays([v * 10 for v in voltage], RATE, stimulus=stimulus)


def test_faults_of_sweeps():
    whole = make_sweep(200, regular(10))
    stopped = np.concatenate([whole[:9000], np.full(len(whole) - 9000, np.nan)])
    zeroed = np.concatenate([whole[:9000], np.zeros(len(whole) - 9000)])
    late = np.concatenate([whole[:15_000], np.full(len(whole) - 15_000, np.nan)])
    holed = whole.copy()
    holed[5000:5010] = np.nan
    top = np.minimum(whole, 0.0)
    bottom = np.maximum(make_sweep(-300), -85.0)
    voltages = [whole, stopped, zeroed, late, holed, top, bottom, np.full(18_000, -70.0), np.empty(0), whole[:9000]]
    cell = sweeps_from_arrays(voltages, RATE, stimulus=step_stimuli(0.2, 0.7, [200.0] * len(voltages)))
    expected = ["", "truncated", "truncated", "", "NaN", "clipped", "clipped", "failed", "failed", "truncated"]
    assert [reason.split(":")[0] for reason in cell.refusals] == expected
    assert "0.00 mV (top)" in cell.refusals[5]
    assert len(cell.voltage_mv[3]) == 15_000
    early = sweeps_from_arrays([whole], RATE, stimulus=step_stimuli(0.0, 0.5, [200.0]))
    assert early.refusals[0].startswith("no baseline")


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([4000.0, 10_000.0, 50_000.0]),
    step_mv=st.sampled_from([0.0, 0.005, 0.03, 0.1]),
    noise=st.sampled_from([0.0, 0.03, 0.5]),
    amplitude=st.sampled_from([-300, -50, 100, 400]),
    count=st.integers(0, 12),
)
def test_whole_numbers_of_a_converter_are_not_clipping(rate, step_mv, noise, amplitude, count):
    voltage = make_sweep(amplitude, regular(count), rate=rate, noise=noise)
    if step_mv:
        voltage = np.round(voltage / step_mv) * step_mv
    cell = sweeps_from_arrays([voltage], rate, stimulus=step_stimuli(0.2, 0.7, [amplitude]))
    assert cell.refusals == [""]


def test_refuses_what_is_no_set_of_sweeps():
    with pytest.raises(InputError, match="4000 Hz"):
        sweeps_from_arrays([make_sweep(100, rate=2000.0)], 2000.0)
    with pytest.raises(InputError, match="no sweep"):
        sweeps_from_arrays([], RATE)
    with pytest.raises(InputError, match="one trace per sweep"):
        sweeps_from_arrays(np.zeros((2, 3, 4)), RATE)
    with pytest.raises(InputError, match="2 sweeps, but 1"):
        sweeps_from_arrays([make_sweep(1)] * 2, RATE, stimulus=step_stimuli(0.2, 0.7, [1.0]))
    with pytest.raises(InputError, match="units"):
        sweeps_from_arrays([make_sweep(1)], RATE, units="kV")
    with pytest.raises(InputError, match="not possible"):
        StepStimulus(0.7, 0.2, 10.0)


@pytest.mark.parametrize("rate", [10_000.0, 20_000.0, 50_000.0, 16_000.0])
def test_resampling_keeps_what_is_below_and_drops_what_is_above(rate):
    at, slow = np.arange(round(rate)) / rate, np.arange(4000) / 4000.0
    low = resample_trace(np.sin(2 * np.pi * 300 * at) - 65, rate)
    assert low.shape == (4000,)
    assert low.dtype == np.float32
    assert np.abs(low - np.sin(2 * np.pi * 300 * slow) + 65)[20:-20].max() < 0.01
    # 3.7 kHz would fold to 300 Hz
    high = resample_trace(np.sin(2 * np.pi * 3700 * at), rate)
    assert np.abs(high)[20:-20].max() < 0.01
    np.testing.assert_array_equal(resample_trace(low, 4000.0), low)
    with pytest.raises(InputError, match="cannot be brought"):
        resample_trace(low, 4000.0, 8000.0)
    with pytest.raises(InputError, match="no ratio"):
        resample_trace(low, 4000.0 * np.sqrt(2), 4000.0)


def test_cuts_are_relative_to_onset():
    early, late = (make_cell([100], [regular(4)], onset=onset, noise=0.0, after=0.05) for onset in (0.2, 0.45))
    windows = [cell.resample().cut(0, (-0.1, 1.1)) for cell in (early, late)]
    assert windows[0].shape == (4800,)
    np.testing.assert_allclose(*windows, atol=0.05)
    # the sweep ends 50 ms after the step
    assert (windows[0][2700:] == windows[0][-1]).all()
    with pytest.raises(InputError, match="no step"):
        sweeps_from_arrays([make_sweep(1)], RATE).cut(0, (0, 1))
    clear = StepStimulus(0.2, 0.7, 100.0, clear_from_s=0.15, clear_until_s=0.8)
    voltage = np.arange(18_000) / 1000.0
    cut = sweeps_from_arrays([voltage], RATE, stimulus=[clear]).cut(0, (-0.1, 0.7))
    np.testing.assert_allclose([cut[0], cut[1500], cut[-1]], [3.0, 3.5, 15.999], atol=1e-4)


def test_recording_and_back(tmp_path):
    cell = make_cell([50, 100, 150], [(), regular(2), regular(5)], holding=-20.0, cell_id="c7")
    recording = recording_from_sweeps(cell)
    assert recording.get_num_segments() == 3
    np.testing.assert_allclose(
        recording.get_traces(segment_index=1, return_in_uV=True)[:, 0], cell.voltage_mv[1] * 1000, rtol=1e-6
    )
    saved = load(recording.save(folder=tmp_path / "sweeps", verbose=False)._kwargs["folder_path"])
    for one in (recording, saved):
        found = sweeps_from_recording(one)
        assert (found.cell_id, found.stimulus, found.refusals) == (cell.cell_id, cell.stimulus, cell.refusals)
        np.testing.assert_allclose(found.voltage_mv[2], cell.voltage_mv[2], rtol=1e-6)
    with pytest.raises(InputError, match="no channel"):
        sweeps_from_recording(recording, channel="IN 3")


def test_recording_with_a_current_channel():
    steps = currents([50, 100], noise=0.5)
    traces = [np.stack([make_sweep(a), c / 400], axis=1) for a, c in zip((50, 100), steps, strict=True)]
    recording = NumpyRecording(traces, RATE, channel_ids=["Vm", "Im"])
    cell = sweeps_from_recording(recording, current_channel="Im", pa_per_unit=400.0)
    np.testing.assert_allclose([s.amplitude_pa for s in cell.stimulus], [50, 100], atol=0.5)
    with pytest.raises(InputError, match="pa_per_unit"):
        sweeps_from_recording(recording, current_channel="Im")
