"""Datasets from sessions and analyzers: quality of spikes, blocks, features, events, segments."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_helpers import simulate_session

from si_neuroml.errors import InputError
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.quality import spike_quality
from si_neuroml.regions.session import Session, spike_blocks
from si_neuroml.regions.session_features import session_dataset


def test_spike_quality_agrees_with_spikeinterface():
    from spikeinterface.core import NumpySorting, create_sorting_analyzer, generate_recording
    from spikeinterface.metrics.quality import compute_quality_metrics

    rng = np.random.default_rng(3)
    recording = generate_recording(num_channels=2, durations=[20.0], set_probe=True)
    trains = {k: np.unique(rng.integers(10, 590_000, size)) for k, size in enumerate((3000, 500, 2))}
    analyzer = create_sorting_analyzer(NumpySorting.from_unit_dict([trains], 30_000), recording, sparse=False)
    theirs = compute_quality_metrics(analyzer, metric_names=["firing_rate", "isi_violation"])
    times = np.concatenate(list(trains.values())) / 30_000
    offsets = np.concatenate([[0], np.cumsum([len(train) for train in trains.values()])])
    rate, ratio = spike_quality(times, offsets, recording.get_total_duration())
    np.testing.assert_allclose(rate, theirs["firing_rate"])
    np.testing.assert_allclose(ratio, theirs["isi_violations_ratio"].astype(float))


def test_intervals_across_segments_and_units_are_none():
    times, offsets = np.array([0.5, 0.501, 9.9995, 10.0, 10.0005]), np.array([0, 4, 4, 5])
    rate, ratio = spike_quality(times, offsets, 20.0, boundaries_s=np.array([10.0]))
    np.testing.assert_allclose(rate, [0.2, 0.0, 0.05])
    # one short interval in the first unit: 1 * 20 s / (2 * 1.5 ms * 4^2)
    np.testing.assert_allclose(ratio, [20 / 0.048, np.nan, 0.0])
    assert spike_quality(times, offsets, 20.0)[1][0] == pytest.approx(2 * ratio[0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=8), st.integers(1, 9))
def test_blocks_of_spikes_are_the_spikes(counts, block):
    rng = np.random.default_rng(sum(counts))
    trains = [np.sort(rng.uniform(0, 10, count)) for count in counts]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    pieces = list(spike_blocks(np.concatenate(trains), offsets, block))
    got = [np.concatenate([piece[k] for piece in pieces]) if pieces else np.zeros(0) for k in range(3)]
    np.testing.assert_array_equal(got[0], np.concatenate(trains))
    np.testing.assert_array_equal(got[1], np.repeat(np.arange(len(counts)), counts))
    before = [np.concatenate([[-np.inf], train[:-1]]) for train in trains if len(train)]
    np.testing.assert_array_equal(got[2], np.concatenate([np.zeros(0), *before]))


@pytest.mark.parametrize("block", [1, 2, 100])
@pytest.mark.parametrize(("bad", "message"), [(np.nan, "spike at nan"), (0.05, "not in time order"), (-np.inf, "-inf")])
def test_unsorted_spikes_name_their_unit(block, bad, message):
    times, offsets = np.array([0.3, 0.1, bad, 0.2]), np.array([0, 1, 4])
    with pytest.raises(InputError, match=f"[Uu]nit number 1 .*{message}" if np.isnan(bad) else "nit number 1"):
        list(spike_blocks(times, offsets, block))


def test_session_features_are_those_of_the_trains():
    session = simulate_session()
    dataset = session_dataset(session)
    assert dataset.psth.shape == (6, 100)
    counts = np.diff(session.offsets)
    np.testing.assert_allclose(dataset.units["firing_rate"], counts / 60.0)
    inside = (dataset.bin_edges_s[:-1] >= 0.05 - 1e-9) & (dataset.bin_edges_s[:-1] < 0.15 - 1e-9)
    # the planted response is above everything else
    assert (dataset.psth[:, inside].mean(axis=1) > 5 * np.abs(dataset.psth[:, ~inside]).mean(axis=1)).all()
    latency = dataset.features[:, dataset.feature_names.index("psth_peak_time_s")]
    assert ((latency > 0.05) & (latency < 0.15)).all()
    silent = Session(session.units, session.spike_times, session.offsets, 60.0)
    without = session_dataset(silent)
    assert without.psth is None
    assert not any(name.startswith("psth_") for name in without.feature_names)
    places = [dataset.feature_names.index(name) for name in without.feature_names]
    np.testing.assert_array_equal(dataset.features[:, places], without.features)


def test_a_unit_without_spikes_stays_with_nan():
    session = simulate_session()
    offsets = np.insert(session.offsets, 2, session.offsets[2])
    units = pd.concat([session.units, session.units.iloc[[-1]].assign(unit_id=999)], ignore_index=True)
    dataset = session_dataset(Session(units, session.spike_times, offsets, 60.0, session.onsets_s))
    assert dataset.units["firing_rate"][2] == 0
    assert np.isnan(dataset.features[2, dataset.feature_names.index("isi_cv")])
    kept = dataset.filter_quality(min_snr=None, max_isi_violations=None)
    assert len(kept) == 6
    with pytest.raises(InputError, match="8 rising numbers from 0 for 7 units"):
        Session(units, session.spike_times, session.offsets, 60.0)
    with pytest.raises(InputError, match="offsets end at"):
        Session(units, session.spike_times[:-1], offsets, 60.0)


@pytest.fixture(scope="module")
def analyzer():
    """Two segments of 20 and 10 s, 8 units on 2 shanks, brain areas known."""
    from probeinterface import generate_multi_columns_probe
    from spikeinterface.core import create_sorting_analyzer, generate_ground_truth_recording

    probe = generate_multi_columns_probe(num_columns=2, num_contact_per_column=8, xpitch=300, ypitch=40)
    probe.set_shank_ids(np.repeat(["0", "1"], 8))
    probe.set_device_channel_indices(np.arange(16))
    recording, sorting = generate_ground_truth_recording(
        durations=[20.0, 10.0], num_channels=16, num_units=8, probe=probe, seed=0, sampling_frequency=20_000.0
    )
    made = create_sorting_analyzer(sorting, recording, sparse=False)
    made.compute(["random_spikes", "templates"], n_jobs=1, progress_bar=False)
    made.set_sorting_property("brain_area", np.array(["VISp", "CA1"] * 4))
    return made


def test_an_analyzer_becomes_a_dataset(analyzer):
    onsets = [np.arange(2.0, 18.0, 3.0), np.arange(2.0, 8.0, 3.0)]
    dataset = RegionDataset.from_analyzer(analyzer, subject="m1", events=onsets, lab="north")
    assert dataset.labels.tolist() == ["VISp", "CA1"] * 4
    assert set(dataset.units["recording"]) == {"m1"}
    assert set(dataset.units["shank"]) <= {"0", "1"}
    vectors = analyzer.sorting.to_spike_vector()
    counts = np.bincount(vectors["unit_index"], minlength=8)
    np.testing.assert_allclose(dataset.units["firing_rate"], counts / 30.0)
    # spikes around onsets of both segments, counted plainly
    plain = np.zeros((8, 100))
    for segment, own in enumerate(onsets):
        for unit in range(8):
            mine = (vectors["segment_index"] == segment) & (vectors["unit_index"] == unit)
            times = vectors["sample_index"][mine] / 20_000.0
            for onset in own:
                plain[unit] += np.histogram(times - onset + 1e-9, dataset.bin_edges_s)[0]
    from si_neuroml.regions.psth import normalise_psth

    np.testing.assert_allclose(dataset.psth, normalise_psth(plain, 8), rtol=1e-5, atol=1e-5)
    templates = analyzer.get_extension("templates").get_data()
    heights = np.ptp(templates, axis=1)
    amplitude = dataset.features[:, dataset.feature_names.index("waveform_amplitude_uv")]
    np.testing.assert_allclose(amplitude, heights.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(dataset.units["depth_um"], analyzer.get_channel_locations()[heights.argmax(axis=1), 1])
    by_name = RegionDataset.from_analyzer(analyzer, subject="m1", events={"a": [onsets[0], []], "b": [[], onsets[1]]})
    np.testing.assert_array_equal(by_name.psth, dataset.psth)


def test_event_objects_and_clocks_are_understood(analyzer):
    from spikeinterface.core import NumpyEvent
    from spikeinterface.core.numpyextractors import NumpyEventSegment

    from si_neuroml.regions.dataset_analyzer import analyzer_session, event_times

    dtype = [("time", "float64"), ("duration", "float64"), ("label", "U8")]
    rows = [np.array([(3.0, 0.1, "a"), (1.0, 0.1, "b")], dtype=dtype), np.array([(2.0, 0.1, "a")], dtype=dtype)]
    event = NumpyEvent(channel_ids=np.array(["light"]), structured_dtype=np.dtype(dtype))
    for row in rows:
        event.add_event_segment(NumpyEventSegment({"light": row}))
    found = event_times(event, 2)
    np.testing.assert_array_equal(found[0], [1.0, 3.0])
    session = analyzer_session(analyzer, subject="m1", events=event)
    np.testing.assert_allclose(session.onsets_s, [1.0, 3.0, 20.0 + 100.0 + 2.0])
    np.testing.assert_allclose(session.boundaries_s, [120.0])
    with pytest.raises(InputError, match="1 segments, the sorting has 2"):
        analyzer_session(analyzer, subject="m1", events=np.array([1.0]))
    with pytest.raises(InputError, match="1 that are not finite"):
        event_times(np.array([np.nan, 1.0]), 1)


def test_analyzers_without_templates_or_regions(analyzer):
    bare = analyzer.copy()
    bare.delete_extension("templates")
    with pytest.warns(UserWarning, match="no templates"):
        dataset = RegionDataset.from_analyzer(bare, subject="m1")
    assert not any(name.startswith("waveform_") for name in dataset.feature_names)
    assert dataset.psth is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = RegionDataset.from_analyzer(analyzer, subject="m2", recording="r2", region=None)
    assert set(whole.labels) == {""}
    both = RegionDataset.concatenate([whole, dataset])
    width = both.features[:, both.feature_names.index("waveform_width_ms")]
    assert np.isfinite(width[:8]).all()
    assert np.isnan(width[8:]).all()
    with pytest.raises(InputError, match="no unit property 'area'"):
        RegionDataset.from_analyzer(analyzer, subject="m1", region="area")
    with pytest.raises(InputError, match="name the subject"):
        RegionDataset.from_analyzer(analyzer, subject="")
    with pytest.raises(InputError, match="2 regions are given for 8"):
        RegionDataset.from_analyzer(analyzer, subject="m1", region=["a", "b"])


def test_a_unit_that_never_fired_has_no_place(analyzer):
    from spikeinterface.core import NumpySorting, create_sorting_analyzer

    trains = [
        {k: analyzer.sorting.get_unit_spike_train(k, segment_index=s) for k in analyzer.unit_ids[:2]} for s in range(2)
    ]
    sorting = NumpySorting.from_unit_dict([{**one, "2": np.zeros(0, dtype="int64")} for one in trains], 20_000.0)
    recording = analyzer.recording.clone()
    recording.set_property("layer", np.array([f"L{k}" for k in range(16)]))
    made = create_sorting_analyzer(sorting, recording, sparse=False)
    made.compute(["random_spikes", "templates"], n_jobs=1, progress_bar=False)
    dataset = RegionDataset.from_analyzer(made, subject="m1", region="layer")
    # regions of the channels, at the main channel of each unit
    channels = np.ptp(made.get_extension("templates").get_data(), axis=1).argmax(axis=1)
    assert dataset.labels.tolist() == [f"L{channels[0]}", f"L{channels[1]}", ""]
    assert np.isnan(dataset.units["depth_um"]).tolist() == [False, False, True]
    assert dataset.units["shank"][2] == ""
    assert np.isnan(dataset.features[2, dataset.feature_names.index("waveform_amplitude_uv")])
    assert np.isfinite(dataset.features[:2, dataset.feature_names.index("waveform_amplitude_uv")]).all()


def test_several_analyzers(analyzer):
    dataset = RegionDataset.from_analyzers([analyzer] * 3, subjects=["m1", "m1", "m2"])
    assert dataset.units["recording"].unique().tolist() == ["m1_0", "m1_1", "m2_0"]
    assert len(dataset) == 24
    with pytest.raises(InputError, match=r"3 analyzers, but \{'subjects': 2"):
        RegionDataset.from_analyzers([analyzer] * 3, subjects=["m1", "m2"], recordings=["a", "b", "c"])
