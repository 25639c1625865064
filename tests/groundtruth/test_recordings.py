"""Recordings hold what they say: cells, places, axes, noise, filter; and bad options are refused early."""

import numpy as np
import pytest
from truth_helpers import SHORT, spike_average, without_mearec

from si_neuroml.errors import InputError
from si_neuroml.groundtruth import (
    derive_seeds,
    generate_mearec_recording,
)


def test_recording_has_what_it_says(mearec_small):
    recording, sorting = mearec_small
    assert recording.get_num_channels() == 100
    assert recording.get_sampling_frequency() == 32_000
    assert recording.get_total_duration() == pytest.approx(10.0)
    assert recording.is_filtered()
    assert recording.has_scaleable_traces()
    assert recording.get_dtype() == "float32"
    assert list(sorting.get_property("cell_type")) == ["E"] * 16 + ["I"] * 4
    assert sorting.get_property("gt_unit_locations").shape == (20, 3)
    assert np.array_equal(sorting.get_property("gt_depth_um"), sorting.get_property("gt_unit_locations")[:, 2])
    assert sorting.get_property("gt_rotation").shape == (20, 3)
    assert all(name.startswith("L5_") for name in sorting.get_property("cell_model"))
    # 16 cells at 5 Hz and 4 at 15 Hz
    assert sorting.count_total_num_spikes() == pytest.approx(1400, rel=0.15)


def test_channels_lie_as_in_the_templates(mearec_small, square):
    recording, _ = mearec_small
    assert np.allclose(recording.get_channel_locations(), square.channel_positions[:, 1:])


def test_places_are_in_the_axes_of_the_probe(quiet):
    """The lowest channel is close to the soma; with x and y exchanged, it would not be."""
    recording, sorting = quiet
    places = sorting.get_property("gt_unit_locations")[:, :2]
    contacts = recording.get_channel_locations()
    averages = [spike_average(recording, sorting, unit, 32, 32) for unit in sorting.unit_ids]
    lowest = contacts[[average.min(axis=0).argmin() for average in averages]]
    # A soma may lie up to 30 um outside: compare with the nearest contact there could be.
    inside = np.clip(places, contacts.min(axis=0), contacts.max(axis=0))
    distance = np.linalg.norm(lowest - inside, axis=1)
    assert np.median(distance) < 20
    assert np.median(np.linalg.norm(lowest - inside[:, ::-1], axis=1)) > 1.5 * np.median(distance)
    assert np.median(np.linalg.norm(lowest - np.roll(inside, 1, axis=0), axis=1)) > 1.5 * np.median(distance)
    assert np.all(sorting.get_property("gt_depth_um") > 9)


@pytest.mark.parametrize("rate", [None, 30_000.0])
def test_spikes_are_the_templates_at_the_right_time(quiet, square, rate):
    if rate is None:
        recording, sorting = quiet
    else:
        options = SHORT | {"noise_level": 0.0, "amplitude_modulation": "none", "filter_band_hz": None}
        recording, sorting = generate_mearec_recording(**options, sampling_frequency=rate)
        assert recording.get_sampling_frequency() == rate
    for unit, index in zip(sorting.unit_ids, sorting.get_property("gt_template_index"), strict=True):
        average = spike_average(recording, sorting, unit, 16, 32)
        template = square.waveforms[index]
        channel = template.min(axis=1).argmin()
        assert average.min() == pytest.approx(template.min(), rel=0.25)
        assert abs(average[:, channel].argmin() - 16) <= 2
        if rate is None:
            correlation = np.corrcoef(average[:, channel], template[channel, 64 - 16 : 64 + 32])[0, 1]
            assert correlation > 0.95


def test_seed_tells_all():
    pytest.importorskip("MEArec")
    options = {**SHORT, "duration": 1.0, "noise_mode": "far-neurons", "far_neurons_n": 5}
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    (first, first_truth), (again, again_truth) = (generate_mearec_recording(**options) for _ in range(2))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.array_equal(first.get_traces(), again.get_traces())
    assert np.array_equal(first_truth.to_spike_vector(), again_truth.to_spike_vector())
    other, other_truth = generate_mearec_recording(**options | {"seed": 4})
    assert not np.array_equal(first.get_traces(), other.get_traces())
    key = "gt_unit_locations"
    assert not np.array_equal(first_truth.get_property(key), other_truth.get_property(key))
    _, third_truth = generate_mearec_recording(**options, spiketrain_seed=1)
    assert np.array_equal(first_truth.get_property(key), third_truth.get_property(key))
    assert not np.array_equal(first_truth.to_spike_vector(), third_truth.to_spike_vector())


def test_derive_seeds():
    assert derive_seeds(0) == derive_seeds(0) != derive_seeds(1)
    assert len(set(derive_seeds(0).values())) == 4
    for bad in (-1, 2**32, 1.5, True):
        with pytest.raises(InputError, match="whole number"):
            derive_seeds(bad)


@pytest.mark.parametrize("noise_mode", ["uncorrelated", "distance-correlated", "far-neurons"])
def test_noise_is_as_asked_and_moves_no_cell(noise_mode):
    """Places and spikes stay at any level, and noise is added to the same clean traces."""
    pytest.importorskip("MEArec")
    options = SHORT | {"duration": 1.0, "noise_mode": noise_mode, "filter_band_hz": None, "far_neurons_n": 5}
    clean, truth = generate_mearec_recording(**options | {"noise_level": 0.0})
    for level in (10.0, 30.0):
        noisy, noisy_truth = generate_mearec_recording(**options | {"noise_level": level})
        assert np.array_equal(truth.get_property("gt_unit_locations"), noisy_truth.get_property("gt_unit_locations"))
        assert np.array_equal(truth.to_spike_vector(), noisy_truth.to_spike_vector())
        spread = (noisy.get_traces() - clean.get_traces()).std(axis=0)
        assert np.median(spread) == pytest.approx(level, rel=0.1)


def test_filter_is_applied_once():
    pytest.importorskip("MEArec")
    from scipy.signal import butter, sosfiltfilt

    options = SHORT | {"duration": 1.0}
    raw, _ = generate_mearec_recording(**options, filter_band_hz=None)
    filtered, _ = generate_mearec_recording(**options)
    sections = butter(3, [300, 6000], btype="bandpass", fs=32_000, output="sos")
    assert np.allclose(filtered.get_traces(), sosfiltfilt(sections, raw.get_traces(), axis=0), atol=1e-2)
    assert filtered.is_filtered()
    assert not raw.is_filtered()


def test_neuropixels():
    pytest.importorskip("MEArec")
    options = SHORT | {"duration": 1.0, "min_amplitude_uv": 30.0, "max_amplitude_uv": None}
    recording, sorting = generate_mearec_recording("neuropixels_64", **options)
    assert recording.get_num_channels() == 64
    assert sorting.get_num_units() == 8


def test_prints_nothing(capfd):
    pytest.importorskip("MEArec")
    generate_mearec_recording(**SHORT | {"duration": 0.5})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": "tetrode"}, "Unknown probe 'tetrode'. Known: neuropixels_64, square_mea"),
        ({"duration": -1.0}, "duration must be above 0, got -1"),
        ({"duration": float("nan")}, "duration must be a finite number"),
        ({"noise_level": -1.0}, "noise_level must not be negative"),
        ({"noise_mode": "pink"}, "Unknown noise_mode 'pink'"),
        ({"amplitude_modulation": "some"}, "Unknown amplitude_modulation"),
        ({"num_excitatory": 0, "num_inhibitory": 0}, "at least one cell"),
        ({"num_excitatory": 500}, "500 excitatory cells asked for, but only 77"),
        ({"num_inhibitory": 500}, "500 inhibitory cells asked for, but only 139"),
        ({"min_distance_um": 100.0}, "cannot be placed 100 um apart"),
        ({"sampling_frequency": 1000.0}, "too low for spikes"),
        ({"sampling_frequency": 12_000.0}, "below half of 12000 Hz"),
        ({"filter_band_hz": (6000.0, 300.0)}, "0 < low < high"),
        ({"max_amplitude_uv": float("inf")}, "max_amplitude_uv must be a finite number"),
        ({"seed": -3}, "whole number"),
        ({"noise_seed": 0.5}, "whole number"),
        ({"templates": "nowhere.h5"}, "No template file"),
    ],
)
def test_refusals_come_early(monkeypatch, options, message):
    without_mearec(monkeypatch)  # none of them needs MEArec
    with pytest.raises(InputError, match=message):
        generate_mearec_recording(**options)
