"""Measured membrane potentials are checked, and come from arrays or from SpikeInterface objects."""

import numpy as np
import pytest
from imaging_helpers import RATE, measured
from spikeinterface.core import NumpyRecording, NumpySorting

from si_neuroml.errors import InputError
from si_neuroml.groundtruth import (
    as_membrane_potential,
    generate_voltage_imaging_recording,
    membrane_potential_from_recording,
)


def test_measured_action_potential_is_the_median_of_isolated_ones():
    rate = 10_000.0
    wave = np.float32(80) * np.exp(-0.5 * (np.arange(-40, 41) / 4) ** 2)
    trace = np.full(50_000, -65.0, dtype=np.float32)
    spikes = np.concatenate([np.arange(1000, 40_000, 1000), [40_020]])
    for spike in spikes:
        trace[spike - 40 : spike + 41] += wave
    trace[spikes[3] - 40 : spikes[3] + 41] += 30.0
    potential = as_membrane_potential(trace, rate, spikes[::-1])
    assert np.array_equal(potential.spike_samples, spikes)
    assert potential.resting_mv == -65.0
    expected = np.full(80, -65.0)
    expected[:61] += wave[20:]
    assert np.allclose(potential.ap_mv, expected, atol=1e-4)
    assert np.allclose(potential.events["amplitude_mv"][0], 80.0)
    assert as_membrane_potential(trace, rate, np.zeros(0, dtype=int)).ap_mv is None
    # no spikes, so none too near each other, however short the trace
    assert len(as_membrane_potential(trace[:5], rate, []).events) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trace_mv": np.zeros((3, 4))}, r"one row of at least 2 samples, got shape \(3, 4\)"),
        ({"sampling_frequency": 500.0}, "at least 2000 Hz .* got 500"),
        ({"sampling_frequency": np.nan}, "at least 2000 Hz .* got nan"),
        ({"spike_samples": np.array([-1, 20])}, "from 0 to 999 .* from -1 to 20"),
        ({"spike_samples": np.array([20, 1000])}, "from 0 to 999 .* from 20 to 1000"),
        ({"spike_samples": np.array([20.5])}, "whole numbers"),
        ({"spike_samples": np.array([20, 29])}, "9 samples apart, less than 1 ms at 10000 Hz"),
        ({"spike_samples": np.array([300, 350])}, "at the 2 spike_samples is -65.0 mV, .* -65.0 mV"),
        ({"trace_mv": np.full(1000, -0.065)}, "must be in mV, but its largest magnitude is 0.065"),
        ({"trace_mv": np.full(1000, -65_000.0)}, "must be in mV, but its largest magnitude is 65000"),
    ],
)
def test_measured_potentials_are_checked(change, message):
    trace = np.full(1000, -65.0)
    trace[20] = 30
    options = {"trace_mv": trace, "sampling_frequency": 1e4, "spike_samples": np.array([20])}
    as_membrane_potential(**options)
    with pytest.raises(InputError, match=message):
        as_membrane_potential(**options | change)


def test_bad_samples_are_counted():
    trace = np.full(1000, -65.0)
    trace[[7, 9]] = np.nan
    with pytest.raises(InputError, match="2 of 1000 samples .* the first at 7"):
        as_membrane_potential(trace, 1e4, np.zeros(0, dtype=int))


def recorded(rate=10_000.0):
    parts = [[measured([0.1, 0.3 + 0.1 * c], 1.0, rate) for c in range(2)] for _ in range(2)]
    traces = [np.stack([part.soma_mv for part in segment], axis=1) for segment in parts]
    trains = [{f"u{c}": segment[c].spike_samples for c in range(2)} for segment in parts]
    return traces, NumpySorting.from_unit_dict(trains, rate)


def test_potentials_come_from_recordings():
    traces, sorting = recorded()
    plain = NumpyRecording(traces, 10_000.0)
    in_uv = NumpyRecording([part * np.float32(1e3) for part in traces], 10_000.0)
    in_uv.set_channel_gains(1.0)
    in_uv.set_channel_offsets(0.0)
    peaks = np.zeros(8, dtype=[("sample_index", "i8"), ("channel_index", "i8"), ("segment_index", "i8")])
    vector = sorting.to_spike_vector()
    for name, source in zip(peaks.dtype.names, ("sample_index", "unit_index", "segment_index"), strict=True):
        peaks[name] = vector[source]
    first = membrane_potential_from_recording(plain, sorting)
    assert [len(parts) for parts in first] == [2, 2]
    for other in (membrane_potential_from_recording(in_uv, sorting), membrane_potential_from_recording(plain, peaks)):
        for mine, theirs in zip(sum(first, []), sum(other, []), strict=True):  # noqa: RUF017
            assert np.allclose(mine.soma_mv, theirs.soma_mv, atol=1e-3)
            assert np.array_equal(mine.spike_samples, theirs.spike_samples)
    truth = generate_voltage_imaging_recording(membrane_potential=first, sites_per_cell=2)
    assert truth.recording.get_num_segments() == 2
    assert truth.recording.get_num_samples(0) == int(RATE)
    assert len(truth.events) == 2 * 2 * 2 * 2
    shorter = generate_voltage_imaging_recording([0.5, 1.0], membrane_potential=first, sites_per_cell=2)
    assert len(shorter.sorting.get_unit_spike_train("cell1", segment_index=0)) == 2
    with pytest.raises(InputError, match="2 units, the recording 1 channels"):
        membrane_potential_from_recording(plain.select_channels([0]), sorting)
    slow = NumpySorting(vector, 5_000.0, sorting.unit_ids)
    with pytest.raises(InputError, match="sorting is at 5000 Hz, the recording at 10000 Hz"):
        membrane_potential_from_recording(plain, slow)
    with pytest.raises(InputError, match="channel_index"):
        membrane_potential_from_recording(plain, vector)
