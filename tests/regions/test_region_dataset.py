"""Datasets of units: what they refuse, selecting, putting together, quality, rare regions, files, analyzers."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_helpers import simulate_session

from si_neuroml.errors import InputError
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.dataset_file import cached_dataset, read_dataset
from si_neuroml.regions.quality import quality_mask, spike_quality
from si_neuroml.regions.session import Session, spike_blocks
from si_neuroml.regions.session_features import session_dataset


def small_units(**columns):
    table = {"subject": ["a", "a", "b"], "recording": ["a1", "a1", "b1"], "unit_id": [1, 2, 1]}
    return pd.DataFrame({**table, "region": ["X", "", "Y"], **columns})


def small(features=None, **columns):
    features = np.arange(6.0).reshape(3, 2) if features is None else features
    return RegionDataset(small_units(**columns), features, ("isi_cv", "rate_mean_hz"))


def same(one, other):
    pd.testing.assert_frame_equal(one.units, other.units)
    np.testing.assert_array_equal(one.features, other.features)
    assert one.feature_names == other.feature_names
    for name in ("psth", "bin_edges_s"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)
    return True


def test_a_dataset_fills_in_what_is_optional():
    dataset = small(unit_id=["u1", 2, None], region=["X", np.nan, "root"])
    assert dataset.units["region"].tolist() == ["X", "", ""]
    assert dataset.units["unit_id"].tolist() == ["u1", "2", ""]
    assert dataset.units["depth_um"].isna().all()
    assert dataset.units["shank"].tolist() == dataset.units["lab"].tolist() == ["", "", ""]
    assert dataset.features.dtype == "float32"
    assert "2 subjects in 2 recordings; 1 labelled in 1 regions" in repr(dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": ["a", "a", None]}, "1 of 3 units have no subject"),
        ({"recording": ["a1", "a1", ""]}, "1 of 3 units have no recording"),
        ({"recording": ["a1", "a1", "a1"], "unit_id": [1, 2, 3]}, r"several subjects, such as 'a1' to \['a', 'b'\]"),
        ({"unit_id": [1, 1, 1]}, "1 units appear twice, such as recording 'a1', shank '', unit '1'"),
        ({"depth_um": [0.0, np.inf, 1.0]}, "1 of 3 depths are infinite"),
        ({"depth_um": ["deep", "0", "1"]}, "depth_um must be numbers"),
        ({"notes": [[1], [2], [3]]}, "'notes' holds list"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        small(**change)


def test_missing_columns_and_wrong_shapes_are_named():
    with pytest.raises(InputError, match="no column 'subject', 'region'"):
        RegionDataset(small_units().drop(columns=["subject", "region"]), np.zeros((3, 1)), ("isi_cv",))
    with pytest.raises(InputError, match=r"\(3 units, 1 names\), got \(2, 1\)"):
        RegionDataset(small_units(), np.zeros((2, 1)), ("isi_cv",))
    with pytest.raises(InputError, match="1 features are infinite, in \\['isi_cv'\\]"):
        RegionDataset(small_units(), [[np.inf], [0], [1]], ("isi_cv",))
    with pytest.raises(InputError, match="different names"):
        RegionDataset(small_units(), np.zeros((3, 2)), ("isi_cv", "isi_cv"))
    with pytest.raises(InputError, match="4 bins without times"):
        RegionDataset(small_units(), np.zeros((3, 1)), ("isi_cv",), np.zeros((3, 4)))
    with pytest.raises(InputError, match="must be 5 rising times"):
        RegionDataset(small_units(), np.zeros((3, 1)), ("isi_cv",), np.zeros((3, 4)), [0, 1, 2, 2, 3])
    with pytest.raises(InputError, match="must be a pandas DataFrame"):
        RegionDataset({"subject": ["a"]}, np.zeros((1, 1)), ("isi_cv",))
    with pytest.raises(InputError, match="name its columns"):
        RegionDataset.from_table(small_units(), np.zeros((3, 1)))


def test_units_of_other_sessions_and_shanks_may_share_their_ids():
    dataset = small(unit_id=[1, 1, 1], shank=["A", "B", ""], depth_um=[np.nan, 10.0, np.nan])
    assert len(dataset) == 3
    assert RegionDataset.from_table(dataset.units, pd.DataFrame({"isi_cv": [1, 2, 3]})).feature_names == ("isi_cv",)


def test_select_takes_masks_and_rows(region_dataset):
    mask = region_dataset.labels == "CA1"
    by_mask, by_rows = region_dataset.select(mask), region_dataset.select(np.flatnonzero(mask))
    assert same(by_mask, by_rows)
    assert set(by_mask.labels) == {"CA1"}
    np.testing.assert_array_equal(by_mask.psth, region_dataset.psth[mask])
    assert len(region_dataset.select([])) == 0
    assert region_dataset.select([5, 3]).units["unit_id"].tolist() == [5, 3]
    with pytest.raises(InputError, match=r"shape \(3,\), the dataset has 240"):
        region_dataset.select(np.ones(3, dtype=bool))
    with pytest.raises(InputError, match="Row numbers 0 to 240"):
        region_dataset.select([0, 240])
    with pytest.raises(InputError, match="appear twice"):
        region_dataset.select([0, 0])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_taken_apart_goes_together_again(region_dataset, seed):
    order = np.random.default_rng(seed).permutation(len(region_dataset))
    cut = seed % (len(region_dataset) + 1)
    whole = RegionDataset.concatenate([region_dataset.select(order[:cut]), region_dataset.select(order[cut:])])
    assert same(whole.select(np.argsort(order)), region_dataset)


def test_concatenate_orders_features_and_fills_absent_families_only():
    one = RegionDataset(small_units(), [[1, 2], [3, 4], [5, 6]], ("isi_cv", "psth_peak_z"), np.ones((3, 2)), [0, 1, 2])
    units = small_units(recording=["a2", "a2", "b2"])
    both = RegionDataset.concatenate([one, RegionDataset(units, [[7], [8], [9]], ("isi_cv",))])
    np.testing.assert_array_equal(both.features[:, 0], [1, 3, 5, 7, 8, 9])
    np.testing.assert_array_equal(both.features[:, 1], [2, 4, 6, np.nan, np.nan, np.nan])
    assert np.isnan(both.psth[3:]).all()
    assert (both.psth[:3] == 1).all()
    turned = RegionDataset(units, [[0, 7]] * 3, ("psth_peak_z", "isi_cv"))
    np.testing.assert_array_equal(RegionDataset.concatenate([one, turned]).features[3], [7, 0])
    with pytest.raises(InputError, match=r"families \['isi'\].*such as \['isi_lv'\]"):
        RegionDataset.concatenate([one, RegionDataset(units, [[7], [8], [9]], ("isi_lv",))])
    with pytest.raises(InputError, match="2 bins from 0 to 2 s and of 2 bins from 0 to 4 s"):
        RegionDataset.concatenate([one, RegionDataset(units, [[7]] * 3, ("isi_cv",), np.ones((3, 2)), [0, 2, 4])])
    with pytest.raises(InputError, match="3 units appear twice"):
        RegionDataset.concatenate([one, one])
    with pytest.raises(InputError, match="no datasets"):
        RegionDataset.concatenate([])


def test_the_quality_filter_is_that_of_the_paper():
    units = small_units(snr=[1.0, 1.1, 9.0], isi_violations_ratio=[0.0, 0.0099, 0.01], firing_rate=[1.0, 0.11, 5.0])
    np.testing.assert_array_equal(quality_mask(units), [False, True, False])
    np.testing.assert_array_equal(quality_mask(units, max_isi_violations=None), [False, True, True])
    units.loc[1, "snr"] = np.nan
    np.testing.assert_array_equal(quality_mask(units), [False, False, False])
    np.testing.assert_array_equal(quality_mask(units, missing="ignore"), [False, True, False])
    with pytest.raises(InputError, match="'snr', which is missing"):
        quality_mask(units.drop(columns="snr"))
    with pytest.raises(InputError, match="'snr', which holds no number"):
        quality_mask(units.assign(snr=np.nan))
    assert quality_mask(units.drop(columns="snr"), min_snr=None).sum() == 2
    assert quality_mask(units.drop(columns="snr"), missing="ignore").sum() == 2
    assert len(small(snr=[2, 2, 0.5]).filter_quality(max_isi_violations=None, min_firing_rate_hz=None)) == 2


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


def test_drop_rare_keeps_what_can_be_judged(region_dataset):
    counts = region_dataset.region_counts()
    assert counts.loc["CA1"].tolist() == [80, 4, 8]
    lone = region_dataset.units["region"].where(
        ~((region_dataset.units["region"] == "LP") & (region_dataset.units["subject"] != "m0")), ""
    )
    dataset = RegionDataset.from_table(
        region_dataset.units.assign(region=lone), region_dataset.features, feature_names=region_dataset.feature_names
    )
    kept = dataset.drop_rare(min_units=10, min_subjects=2)
    # the region of one subject goes, units without a label stay
    assert set(kept.labels) == {"VISp", "CA1", ""}
    assert len(dataset) - len(kept) == 20
    assert set(dataset.labelled().labels) == {"VISp", "CA1", "LP"}
    with pytest.raises(InputError, match=r"0 of 3 regions have at least 50 units and 5 subjects.*LP: 20 units, 1 subj"):
        dataset.drop_rare(min_subjects=5)
    with pytest.raises(InputError, match="1 of 1 regions"):
        dataset.select(dataset.labels == "CA1").drop_rare(1, 1)


def test_files_hold_a_dataset_without_pickle(region_dataset, tmp_path):
    path = region_dataset.save(tmp_path / "folder" / "units.npz")
    assert same(RegionDataset.load(path), region_dataset)
    mixed = small(unit_id=["ä", "b", 3], good=[True, False, True], depth_um=[1.0, np.nan, 2.0], note=["", "x", None])
    assert same(RegionDataset.load(mixed.save(path)), mixed)
    assert same(RegionDataset.load(mixed.select([]).save(path)), mixed.select([]))
    assert [one.name for one in path.parent.iterdir()] == ["units.npz"]
    with pytest.raises(InputError, match="one .npz file"):
        mixed.save(tmp_path / "units.txt")
    with pytest.raises(InputError, match="no file"):
        RegionDataset.load(tmp_path / "other.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="damaged"):
        RegionDataset.load(path)
    np.savez(path, header=np.array('{"format": "other", "version": 1}'))
    with pytest.raises(InputError, match="'other' of version 1"):
        RegionDataset.load(path)


def test_a_save_that_fails_leaves_the_old_file(region_dataset, tmp_path, monkeypatch):
    path = region_dataset.save(tmp_path / "units.npz")
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("disk is full")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="full"):
        small().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_cache_is_used_for_the_same_input_only(tmp_path):
    made = []

    def compute():
        made.append(1)
        return small()

    key = {"path": "/data/a.nwb", "size": 10, "mtime_ns": 5, "settings": {"bin_s": 0.025}}
    assert same(cached_dataset(tmp_path, "a", key, compute), cached_dataset(tmp_path, "a", key, compute))
    assert len(made) == 1
    for change in ({"size": 11}, {"mtime_ns": 6}, {"settings": {"bin_s": 0.05}}, {"path": "/data/b.nwb"}):
        cached_dataset(tmp_path, "a", {**key, **change}, compute)
    assert len(made) == 5
    # each setting has a file of its own; a changed input takes the place of the old one
    assert len(list(tmp_path.iterdir())) == 3
    path = next(tmp_path.iterdir())
    path.write_bytes(b"damaged")
    for change in ({"size": 10}, {"settings": {"bin_s": 0.05}}, {"path": "/data/b.nwb"}):
        cached_dataset(tmp_path, "a", {**key, "mtime_ns": 5, **change}, compute)
    assert len(made) in (6, 7)
    assert read_dataset(path)[1] is not None


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
