"""Voltage-imaging recordings hold what their truth says."""

import numpy as np
import pytest
from imaging_helpers import FINE, QUIET, RATE, flat, generate, isolated_potential, measured

from si_neuroml.errors import InputError
from si_neuroml.groundtruth import DendriteSettings, MembraneSettings, generate_voltage_imaging_recording


@pytest.fixture(scope="module")
def isolated():
    return isolated_potential()


@pytest.fixture(scope="module")
def usual():
    options = {"membrane": MembraneSettings(dendritic_spike_rate_hz=1.0, plateau_rate_hz=0.3, burst_rate_hz=0.3)}
    return generate_voltage_imaging_recording([20.0, 5.0], RATE, 3, 5, num_silent_cells=1, seed=4, **options)


@pytest.mark.parametrize("polarity", ["neg", "pos"])
def test_events_are_at_the_peak_of_the_noise_free_response(isolated, polarity):
    sign = {"neg": -1, "pos": 1}[polarity]
    truth = generate(isolated, sites=3, polarity=polarity)
    expected = sign * truth.noise_free.get_traces()
    for channel in range(3):
        events = truth.events[truth.events["channel_index"] == channel]
        assert len(events) == len(isolated.spike_samples)
        starts = (isolated.spike_samples / FINE * RATE).astype(int)
        peaks = [start + expected[start : start + 30, channel].argmax() for start in starts]
        assert np.abs(events["sample_index"] - peaks).max() <= 1
        baseline = sign * 2000.0
        assert np.allclose(expected[events["sample_index"], channel] - baseline, sign * events["amplitude"], atol=5)
        assert np.all(sign * events["amplitude"] > 50)
        # half heights: the response crosses half of its own peak at the first and after the last sample
        for event in events[5:10]:
            response = expected[event["onset"] - 2 : event["offset"] + 2, channel] - baseline
            above = np.flatnonzero(response > abs(event["amplitude"]) / 2) - 2
            assert abs(above[0]) <= 1
            assert abs(above[-1] - (event["offset"] - event["onset"] - 1)) <= 1


def test_events_in_bursts_are_at_their_local_peaks(usual):
    events, expected = usual.events, usual.noise_free
    ap = events[(events["event_type"] == "somatic_ap") & (events["amplitude"] < -20)]
    assert len(ap) > 300
    at_peak = 0
    for event in ap:
        trace = expected.get_traces(segment_index=event["segment_index"])[:, event["channel_index"]]
        around = trace[max(event["sample_index"] - 1, 0) : event["sample_index"] + 2]
        at_peak += around.min() >= trace[event["sample_index"]] - 0.3
    # the rest lie on steep changes of another event
    assert at_peak > 0.97 * len(ap)


def test_shot_noise_is_that_of_the_expected_photons(usual):
    photons = usual.recording.get_traces(segment_index=0).astype(float)
    expected = usual.noise_free.get_traces(segment_index=0).astype(float)
    assert np.array_equal(photons, np.rint(photons))
    z = (photons - expected) / np.sqrt(expected)
    se = 1 / np.sqrt(z.shape[0])
    assert np.abs(z.mean(axis=0)).max() < 4.5 * se
    assert np.abs((z**2).mean(axis=0) - 1).max() < 4.5 * np.sqrt(2) * se
    assert np.abs((z[1:] * z[:-1]).mean(axis=0)).max() < 4.5 * se
    assert np.abs((z[:, 1:] * z[:, :-1]).mean(axis=0)).max() < 4.5 * se


def test_truth_has_the_shape_it_says(usual):
    recording, events = usual.recording, usual.events
    assert recording.get_num_segments() == usual.noise_free.get_num_segments() == usual.sorting.get_num_segments() == 2
    assert [recording.get_num_samples(segment) for segment in range(2)] == [int(20 * RATE), int(5 * RATE)]
    assert recording.get_traces(segment_index=1).shape == usual.noise_free.get_traces(segment_index=1).shape
    assert recording.get_dtype() == usual.noise_free.get_dtype() == "float32"
    assert list(recording.channel_ids[:6]) == [*(f"cell0_site{k}" for k in range(5)), "cell1_site0"]
    assert list(recording.get_property("cell")) == [f"cell{c}" for c in range(3) for _ in range(5)]
    assert list(recording.get_property("site")) == [*range(5)] * 3
    assert len(np.unique(recording.get_property("group"))) == 3
    sites = usual.parameters["sites"]
    places = recording.get_channel_locations()
    assert np.allclose(places[:, 1], sites["distance_um"])
    assert np.allclose(places[:, 0], 200 * sites["cell_index"])
    assert len(usual.parameters["cells"]) == 3
    assert len(usual.parameters["segments"]) == 2
    key = np.lexsort((events["channel_index"], events["sample_index"], events["segment_index"]))
    assert np.array_equal(key, np.arange(len(events)))
    assert np.all((events["onset"] >= 0) & (events["onset"] <= events["sample_index"]))
    assert np.all(events["sample_index"] < events["offset"])
    lengths = np.array([recording.get_num_samples(segment) for segment in range(2)])
    assert np.all(events["offset"] <= lengths[events["segment_index"]])
    assert np.array_equal(events["cell_index"], events["channel_index"] // 5)


def test_each_spike_arrives_at_each_site_of_its_cell(usual):
    ap = usual.events[usual.events["event_type"] == "somatic_ap"]
    for segment in range(2):
        for cell in range(3):
            spikes = usual.sorting.get_unit_spike_train(f"cell{cell}", segment_index=segment)
            last = usual.recording.get_num_samples(segment) - 20
            for site in range(5):
                mine = ap[(ap["segment_index"] == segment) & (ap["channel_index"] == 5 * cell + site)]
                assert abs(len(mine) - len(spikes)) <= np.count_nonzero(spikes >= last)
                delay = mine["sample_index"] - spikes[: len(mine)]
                assert np.all((delay >= 0) & (delay < 20))


def test_dendritic_spikes_are_on_a_stretch_of_sites(usual):
    spikes = usual.events[usual.events["event_type"] == "dendritic_spike"]
    assert len(spikes) > 20
    assert np.all(spikes["amplitude"] < 0)
    # rows of one spike lie within a few samples of each other
    for cell in range(2):
        mine = spikes[(spikes["cell_index"] == cell) & (spikes["segment_index"] == 0)]
        groups = np.split(mine, np.flatnonzero(np.diff(mine["sample_index"]) > 30) + 1)
        sizes = [len(group) for group in groups]
        assert min(sizes) >= 1
        assert all(np.ptp(group["channel_index"]) == len(group) - 1 for group in groups)
        extent = usual.parameters["cells"]["dendritic_spike_extent_um"][cell]
        y = usual.parameters["sites"]["distance_um"]
        assert all(np.ptp(y[group["channel_index"]]) <= extent + 1e-9 for group in groups)


def test_plateaus_last_as_long_as_they_do(usual):
    plateaus = usual.events[usual.events["event_type"] == "plateau"]
    length = (plateaus["offset"] - plateaus["onset"]) / RATE
    whole = plateaus["offset"] < np.array([20 * RATE, 5 * RATE])[plateaus["segment_index"]] - 1
    assert whole.sum() >= 10
    assert length[whole].min() > 0.028
    assert length.max() < 0.215
    assert np.array_equal(np.unique(plateaus["channel_index"]), np.arange(10))


def test_silent_cell_has_no_event_but_a_trace(usual):
    assert usual.sorting.get_property("silent").tolist() == [False, False, True]
    assert np.all(usual.events["cell_index"] < 2)
    assert usual.sorting.count_num_spikes_per_unit()["cell2"] == 0
    assert np.all(usual.d_prime > 0)
    expected = usual.noise_free.get_traces(segment_index=0)[:, 10:]
    assert np.all(expected.std(axis=0) > 1)


def test_segments_share_no_event(usual):
    """Segments of the same length have their own events and noise."""
    truth = generate_voltage_imaging_recording([3.0, 3.0], num_cells=1, sites_per_cell=1, seed=1)
    first, second = (truth.events[truth.events["segment_index"] == segment] for segment in range(2))
    assert len(first) > 3 < len(second)
    assert len(np.intersect1d(first["sample_index"], second["sample_index"])) <= 1
    # the same expected photons everywhere: only the noise can differ
    parts = [[flat(2.0), flat(2.0)]] * 2
    photons = generate_voltage_imaging_recording(membrane_potential=parts, sites_per_cell=2, **QUIET).recording
    traces = np.hstack([photons.get_traces(segment_index=segment) for segment in range(2)])
    assert np.abs(np.corrcoef(traces.T) - np.eye(8)).max() < 0.06


def same(a, b, channels=slice(None), segment=0):
    return np.array_equal(
        a.recording.get_traces(segment_index=segment)[:, channels],
        b.recording.get_traces(segment_index=segment)[:, channels],
    )


def test_seed_tells_all_and_more_leave_the_rest():
    options = {"durations": [1.0, 0.5], "num_cells": 2, "sites_per_cell": 2, "seed": 9}
    truth, again = (generate_voltage_imaging_recording(**options) for _ in range(2))
    assert same(truth, again)
    assert same(truth, again, segment=1)
    assert np.array_equal(truth.events, again.events)
    assert not same(truth, generate_voltage_imaging_recording(**options | {"seed": 10}))
    fewer = generate_voltage_imaging_recording(**options | {"durations": 1.0})
    assert same(truth, fewer)
    assert np.array_equal(truth.events[truth.events["segment_index"] == 0], fewer.events)
    more_cells = generate_voltage_imaging_recording(**options | {"num_cells": 3})
    assert np.array_equal(truth.recording.get_traces(segment_index=1), more_cells.recording.get_traces(1)[:, :4])
    denoised = generate_voltage_imaging_recording(**options, noise="denoised")
    assert np.array_equal(truth.events, denoised.events)
    assert not same(truth, denoised)


@pytest.mark.parametrize(("noise", "gain"), [("shot", 1.0), ("denoised", 0.25), ("shot", 4.0)])
def test_counts_agree_with_photons_within_rounding(noise, gain):
    options = {"durations": [1.0], "num_cells": 2, "sites_per_cell": 2, "noise": noise}
    photons = generate_voltage_imaging_recording(**options)
    counts = generate_voltage_imaging_recording(**options, dtype="int16", gain=gain)
    assert counts.recording.get_dtype() == "int16"
    scaled = counts.recording.get_traces(return_in_uV=True)
    assert np.abs(scaled - photons.recording.get_traces()).max() <= gain / 2 + 1e-3
    assert np.array_equal(photons.events, counts.events)


def test_a_segment_without_spikes_is_still_there():
    truth = generate_voltage_imaging_recording([0.5, 0.5], num_cells=2, sites_per_cell=1, num_silent_cells=2)
    assert truth.sorting.get_num_segments() == 2
    assert len(truth.events) == 0
    assert len(truth.sorting.get_unit_spike_train("cell1", segment_index=1)) == 0
    assert not np.isnan(truth.d_prime).any()
    assert np.isnan(generate(flat()).d_prime).all()


def test_events_at_the_ends_stay_inside():
    potential = measured([0.004, 0.4995 - 0.003], 0.5)
    truth = generate(potential, dendrite=DendriteSettings(first_site_um=200.0, conduction_speed_um_per_ms=50.0))
    # 4 ms later, the last one is beyond the end
    assert len(truth.events) == 1
    assert truth.sorting.count_total_num_spikes() == 2
    assert truth.events["offset"].max() <= truth.recording.get_num_samples()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"durations": [0.05]}, r"at least 0.1 s each, and at least one; got \(0.05,\)"),
        ({"durations": [1.0, np.nan]}, "got .*nan"),
        ({"durations": []}, "at least one"),
        ({"sampling_frequency": 50.0}, "from 100 to 50000 Hz, got 50"),
        ({"sampling_frequency": np.nan}, "from 100 to 50000 Hz, got nan"),
        ({"num_cells": 0}, "num_cells must be a whole number of at least 1, got 0"),
        ({"sites_per_cell": 2.5}, "sites_per_cell must be a whole number of at least 1, got 2.5"),
        ({"num_cells": 2, "num_silent_cells": 3}, "num_silent_cells is 3, of 2 cells"),
        ({"polarity": "down"}, "Unknown polarity 'down'. Known: neg, pos"),
        ({"noise": "pink"}, "Unknown noise 'pink'. Known: shot, denoised, none"),
        ({"dtype": "uint8"}, "Unknown dtype 'uint8'. Known: float32, int16"),
        ({"gain": 0.0}, "gain must be above 0 photons per count, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"dtype": "int16", "gain": 0.01}, "above 32767 of int16: use a gain of at least"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        generate_voltage_imaging_recording(**{"durations": [0.2], "num_cells": 1, "sites_per_cell": 1} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"durations": [1.5]}, r"shall last 1.5 s, but .* cell 0 has only 1 s \(20000 samples at 20000 Hz\)"),
        ({"durations": [0.5, 0.5]}, "Cell 0 has potentials for 1 segments, but there are 2"),
        ({"num_cells": 3}, "num_cells is 3, but membrane_potential holds 1 cells"),
        ({"num_silent_cells": 1}, "potentials that are given are as they are"),
        ({"membrane": MembraneSettings()}, "leave one out"),
    ],
)
def test_potentials_must_fit(options, message):
    with pytest.raises(InputError, match=message):
        generate_voltage_imaging_recording(membrane_potential=[measured([0.1], 1.0)], **options)
