"""Region features in an analyzer: the same numbers as outside, with any events, segments and settings."""

import json
import warnings

import numpy as np
import pytest
import spikeinterface.full as si
from extension_helpers import CUT_S, RATE_HZ, features

from si_neuroml.errors import InputError
from si_neuroml.regions.dataset_analyzer import analyzer_dataset
from si_neuroml.regions.extension import FEATURES, compute_region_features
from si_neuroml.regions.session_features import unit_features


def test_features_are_those_of_the_arrays(analyzer, sessions):
    session, sorting = sessions[-1], analyzer.sorting
    trains = [sorting.get_unit_spike_train(unit_id) / RATE_HZ for unit_id in analyzer.unit_ids]
    offsets = np.concatenate([[0], np.cumsum([len(train) for train in trains])])
    expected, names, psth, edges = unit_features(
        np.concatenate(trains), offsets, session.onsets, duration_s=session.duration_s
    )
    found = features(analyzer)
    assert list(found.index) == list(analyzer.unit_ids)
    assert set(names) < set(found.columns)
    np.testing.assert_array_equal(found[list(names)], expected)
    np.testing.assert_array_equal(analyzer.get_extension(FEATURES).get_psth()[0], psth)
    np.testing.assert_array_equal(analyzer.get_extension(FEATURES).get_psth()[1], edges)
    truth = session.units.set_index("unit_id")
    np.testing.assert_allclose(found["waveform_width_ms"], truth["waveform_width_ms"], rtol=0.15, atol=0.06)
    np.testing.assert_allclose(found["waveform_amplitude_uv"], truth["waveform_amplitude_uv"], rtol=0.2)
    dataset = analyzer.get_extension(FEATURES).get_dataset("mouse", "monday")
    assert dataset.units["shank"].tolist() == truth["shank"].tolist()
    # contacts lie 549 um apart
    assert np.abs(dataset.units["depth_um"] - truth["depth_um"].to_numpy()).max() <= 3840 / 7 / 2 + 1e-6
    assert dataset.labels.tolist() == truth["region"].tolist()
    np.testing.assert_array_equal(dataset.features, analyzer.get_extension(FEATURES).get_data(outputs="numpy"))


def test_a_dataset_from_the_analyzer_is_the_same(analyzer, sessions):
    expected = analyzer_dataset(analyzer, subject="mouse", recording="monday", events=sessions[-1].onsets)
    found = analyzer.get_extension(FEATURES).get_dataset("mouse", "monday")
    assert found.feature_names == expected.feature_names
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.psth, expected.psth)
    same = ["subject", "recording", "unit_id", "region", "depth_um", "shank"]
    assert found.units[same].equals(expected.units[same])


def _as_event_object(per_segment):
    segments = []
    for times in per_segment:
        events = np.zeros(len(times), dtype=[("time", "float64"), ("duration", "float64")])
        events["time"] = times
        # two channels share the events
        segments.append({"flash": events[::2], "tone": events[1::2]})
    return si.NumpyEvent.from_dict(segments)


def test_all_ways_to_give_events_are_the_same(bare, cut, sessions):
    onsets = sessions[-1].onsets
    per_segment = [onsets[onsets < CUT_S], onsets[onsets >= CUT_S] - CUT_S]
    one_segment = {
        "array": onsets,
        "plain list": onsets.tolist(),
        "shuffled": onsets[::-1],
        "by segment": {0: onsets},
        "by name": {"flash": onsets[::2], "tone": onsets[1::2]},
        "by name and segment": {"flash": {0: onsets[::2]}, "tone": {0: onsets[1::2]}},
        "event object": _as_event_object([onsets]),
    }
    two_segments = {
        "list": per_segment,
        "by segment": dict(enumerate(per_segment)),
        "by name": {"flash": [one[::2] for one in per_segment], "tone": [one[1::2] for one in per_segment]},
        "by name and segment": {"flash": {1: per_segment[1]}, "tone": {0: per_segment[0]}},
        "event object": _as_event_object(per_segment),
    }
    for made, ways in ((bare, one_segment), (cut, two_segments)):
        found = {}
        for name, events in ways.items():
            analyzer = made.copy()
            extension = analyzer.compute(FEATURES, events=events, families=["psth"])
            json.dumps(extension.params)
            found[name] = np.column_stack([extension.get_data(outputs="numpy"), extension.get_psth()[0]])
        first = next(iter(found.values()))
        assert np.isfinite(first).mean() > 0.9
        for name, values in found.items():
            np.testing.assert_array_equal(values, first, err_msg=name)


def test_segments_follow_each_other_without_touching(bare, cut, sessions):
    """Two segments are two recordings with the same units: counts add up, and no interval spans the gap."""
    onsets = sessions[-1].onsets
    per_segment = [onsets[onsets < CUT_S], onsets[onsets >= CUT_S] - CUT_S]
    analyzer = cut.copy()
    both = analyzer.compute(FEATURES, events=per_segment, normalisation="rate")
    parts = []
    for segment, duration in ((0, CUT_S), (1, 26.0 - CUT_S)):
        trains = [cut.sorting.get_unit_spike_train(unit_id, segment) / RATE_HZ for unit_id in cut.unit_ids]
        one = [onset for onset in per_segment[segment] if onset >= 1 and onset + 1.5 <= duration]
        parts.append((trains, one))
    isis = [np.concatenate([np.diff(part[0][unit]) for part in parts]) for unit in range(len(cut.unit_ids))]
    expected = [isi.std() / isi.mean() for isi in isis]
    np.testing.assert_allclose(both.get_data()["isi_cv"], expected, rtol=1e-4)
    counts = [sum(len(part[0][unit]) for part in parts) for unit in range(len(cut.unit_ids))]
    np.testing.assert_allclose(both.get_data()["rate_mean_hz"], np.array(counts) / 26.0, rtol=1e-5)
    edges = both.get_psth()[1]
    counts = sum(
        np.array([[np.histogram(train - onset, edges)[0] for onset in chosen] for train in trains]).sum(axis=1)
        for trains, chosen in parts
    )
    num_events = sum(len(part[1]) for part in parts)
    assert num_events < len(onsets)
    # a spike on an edge may fall to either side
    assert np.abs(both.get_psth()[0] * num_events * 0.025 - counts).max() <= 1.01
    assert np.abs(both.get_psth()[0] * num_events * 0.025 - counts).mean() < 0.02


def test_events_are_on_the_clock_of_the_recording(bare, sessions):
    """And stay where they were when the recording is gone."""
    analyzer = bare.copy()
    expected = analyzer.compute(FEATURES, events=sessions[-1].onsets)
    shifted = bare.recording.clone()
    shifted.shift_times(100.0)
    later = bare.copy()
    later._recording = shifted
    found = later.compute(FEATURES, events=sessions[-1].onsets + 100.0)
    np.testing.assert_array_equal(found.get_psth()[0], expected.get_psth()[0])
    later._recording = None
    unit_ids = list(later.unit_ids)
    merged = later.merge_units([unit_ids[:2]], merging_mode="soft", sparsity_overlap=0.0)
    np.testing.assert_array_equal(merged.get_extension(FEATURES).get_psth()[0][:-1], expected.get_psth()[0][2:])


def test_without_events_and_without_templates(bare):
    analyzer = bare.copy()
    analyzer.compute(FEATURES)
    found = analyzer.get_extension(FEATURES)
    assert found.get_psth() is None
    assert not [name for name in found.feature_names if name.startswith("psth")]
    assert [name for name in found.feature_names if name.startswith("waveform")]
    analyzer.delete_extension("templates")
    with pytest.warns(UserWarning, match="no templates"):
        analyzer.compute(FEATURES)
    without = analyzer.get_extension(FEATURES)
    assert not [name for name in without.feature_names if name.startswith("waveform")]
    same = list(without.feature_names)
    np.testing.assert_array_equal(features(analyzer)[same], found.get_data()[same])
    with pytest.warns(UserWarning, match="no templates"), pytest.raises(InputError, match=r"families \['waveform'\]"):
        analyzer.compute(FEATURES, families=["isi", "waveform"])
    # templates come first when both are asked for together
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analyzer.compute([FEATURES, "templates"], n_jobs=1, progress_bar=False)
    assert features(analyzer).equals(found.get_data())


def test_families_and_settings(bare, sessions):
    analyzer = bare.copy()
    settings = {"acg_window_s": 0.05, "log_isi_range_s": [0.001, 1.0]}
    found = analyzer.compute(FEATURES, families=["acg", "log_isi"], spike_train_settings=settings)
    default = analyzer.copy().compute(FEATURES, families=["acg", "log_isi"])
    counts, usual = (
        [sum(name.startswith(family) for name in one.feature_names) for family in ("acg_", "log_isi_")]
        for one in (found, default)
    )
    assert counts[1] == 30
    assert usual[1] == 40
    assert 0 < counts[0] < usual[0]
    assert len(found.feature_names) == sum(counts)
    wide = analyzer.compute(FEATURES, events=sessions[-1].onsets, window_s=(-0.5, 1.0), bin_s=0.05)
    np.testing.assert_allclose(wide.get_psth()[1], np.linspace(-0.5, 1.0, 31))
    two = compute_region_features(analyzer, events=sessions[-1].onsets, window_s=(-0.5, 1.0), bin_s=0.05, n_jobs=2)
    assert two.equals(wide.get_data())
