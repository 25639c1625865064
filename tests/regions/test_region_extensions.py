"""Features and predictions in an analyzer: the same numbers as outside, in all formats, through all changes."""

import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import spikeinterface.full as si

from si_neuroml import registration
from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError
from si_neuroml.groundtruth.region_analyzers import region_session_analyzer
from si_neuroml.groundtruth.region_sessions import generate_region_sessions
from si_neuroml.modelfiles import save_model
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.dataset_analyzer import analyzer_dataset
from si_neuroml.regions.extension import FEATURES, compute_region_features
from si_neuroml.regions.fit import fit_region_classifier
from si_neuroml.regions.predictions_extension import LABEL_PROPERTY, PREDICTIONS, PROBABILITY_PROPERTY
from si_neuroml.regions.session import Session
from si_neuroml.regions.session_features import session_dataset, unit_features

RATE_HZ = 10_000.0
# the window of one event reaches across it
CUT_S = 13.0
SMALL = {"sampling_frequency": RATE_HZ, "contacts_per_shank": 8}
FORMATS = ("memory", "binary_folder", "zarr")


@pytest.fixture(scope="session")
def sessions():
    """Four animals with 30 units to learn from and, last, one with 8 units on two shanks to look at."""
    made = generate_region_sessions(4, 1, 30, 30.0, num_shanks=2, skip_probability=0.0, seed=1)
    return [*made, generate_region_sessions(1, 1, 8, 26.0, num_shanks=2, seed=3)[0]]


@pytest.fixture(scope="session")
def classifier(sessions, tmp_path_factory):
    parts = [
        session_dataset(Session(one.units, one.spike_times, one.offsets, one.duration_s, one.onsets))
        for one in sessions[:-1]
    ]
    dataset = RegionDataset.concatenate(parts)
    classifier = fit_region_classifier(dataset, "logistic_regression", progress_bar=False)
    save_model(classifier, tmp_path_factory.mktemp("models") / "classifier")
    return classifier


@pytest.fixture(scope="session")
def narrow():
    """A classifier of two features of the trains, which are there in every analyzer."""
    rng, subjects = np.random.default_rng(0), np.repeat(["x", "y", "z"], 20)
    units = {"subject": subjects, "recording": subjects, "unit_id": np.arange(60), "region": ["CA1", "VISp"] * 30}
    features = rng.standard_normal((60, 2))
    dataset = RegionDataset(pd.DataFrame({**units, "depth_um": np.arange(60.0)}), features, ("isi_cv", "isi_lv"))
    return fit_region_classifier(dataset, "logistic_regression", progress_bar=False)


@pytest.fixture(scope="session")
def bare(sessions):
    """One segment, with templates."""
    return region_session_analyzer(sessions[-1], **SMALL)


@pytest.fixture(scope="session")
def analyzer(bare, sessions, classifier):
    analyzer = bare.copy()
    analyzer.compute(FEATURES, events=sessions[-1].onsets)
    analyzer.compute(PREDICTIONS, model=classifier)
    return analyzer


@pytest.fixture(scope="session")
def cut(sessions):
    """The same session in two segments."""
    return region_session_analyzer(sessions[-1], segment_starts_s=(CUT_S,), **SMALL)


def features(analyzer):
    return analyzer.get_extension(FEATURES).get_data()


def predictions(analyzer, outputs="dataframe"):
    return analyzer.get_extension(PREDICTIONS).get_data(outputs=outputs)


def save_as(analyzer, format, tmp_path):
    if format == "memory":
        return analyzer.copy()
    folder = tmp_path / ("analyzer.zarr" if format == "zarr" else "analyzer")
    analyzer.save_as(format=format, folder=folder)
    return reloaded(folder)


def reloaded(folder):
    with warnings.catch_warnings():
        # the recording is made in memory, and is gone
        warnings.simplefilter("ignore")
        return si.load_sorting_analyzer(folder)


def assert_same_units(one, other, unit_ids):
    """Every number of these units is the same in both."""
    np.testing.assert_array_equal(features(one).loc[unit_ids], features(other).loc[unit_ids])
    rows = [np.isin(found.unit_ids, unit_ids) for found in (one, other)]
    psths = [found.get_extension(FEATURES).get_psth()[0][row] for found, row in zip((one, other), rows, strict=True)]
    np.testing.assert_array_equal(*psths)
    for key in ("depth_um", "shank"):
        values = [
            np.asarray(found.get_extension(FEATURES).data[key])[row]
            for found, row in zip((one, other), rows, strict=True)
        ]
        np.testing.assert_array_equal(*values)


def assert_predictions_are_the_models(analyzer, classifier):
    """Everything follows from the features that are in the analyzer now."""
    dataset = analyzer.get_extension(FEATURES).get_dataset()
    expected = classifier.predict(dataset)
    np.testing.assert_allclose(predictions(analyzer, "probabilities"), expected.probabilities, atol=1e-12)
    np.testing.assert_allclose(predictions(analyzer, "smoothed"), expected.smoothed, atol=1e-12)
    assert predictions(analyzer, "label").tolist() == expected.label.tolist()
    assert analyzer.get_sorting_property(LABEL_PROPERTY).tolist() == expected.label.tolist()
    np.testing.assert_allclose(analyzer.get_sorting_property(PROBABILITY_PROPERTY), expected.probability, atol=1e-12)


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


@pytest.mark.parametrize("format", FORMATS)
def test_formats(analyzer, classifier, tmp_path, format):
    found = save_as(analyzer, format, tmp_path)
    assert found.format == format
    assert_same_units(found, analyzer, analyzer.unit_ids)
    assert predictions(found).equals(predictions(analyzer))
    assert_predictions_are_the_models(found, classifier)
    assert found.get_extension(PREDICTIONS).model_digest == classifier["digest"]
    assert found.get_extension(PREDICTIONS).classes == classifier.classes
    assert found.get_sorting_property("brain_area").tolist() == analyzer.get_sorting_property("brain_area").tolist()
    # computed again where it is saved, without a recording, and read again
    found.compute(PREDICTIONS, model=classifier, threshold=1.0)
    found.compute(FEATURES, events=np.array([5.0, 9.0, 13.0]))
    found.compute(PREDICTIONS, model=classifier, smooth=False)
    again = found if format == "memory" else reloaded(found.folder)
    assert again.get_sorting_property(LABEL_PROPERTY).tolist() == predictions(found, "label").tolist()
    np.testing.assert_array_equal(predictions(again, "smoothed"), predictions(found, "probabilities"))
    assert features(again).equals(features(found))


@pytest.mark.parametrize("format", FORMATS)
def test_select_merge_and_split(analyzer, classifier, tmp_path, format):
    made = save_as(analyzer, format, tmp_path)
    ids = list(made.unit_ids)
    target = iter(range(9))

    def place():
        return {"format": format, "folder": None if format == "memory" else tmp_path / f"changed{next(target)}"}

    chosen = [ids[5], ids[0], ids[3]]
    selected = made.select_units(chosen, **place())
    assert list(features(selected).index) == chosen
    np.testing.assert_array_equal(features(selected), features(made).loc[chosen])
    assert predictions(selected).equals(predictions(made).loc[chosen])
    assert selected.get_sorting_property(LABEL_PROPERTY).tolist() == predictions(made).loc[chosen, "label"].tolist()

    merged = made.merge_units([ids[1:3]], new_unit_ids=["both"], sparsity_overlap=0.0, **place())
    stayed = [unit_id for unit_id in ids if unit_id not in ids[1:3]]
    assert_same_units(merged, made, stayed)
    rates = features(made)["rate_mean_hz"]
    assert features(merged).loc["both", "rate_mean_hz"] == pytest.approx(rates[ids[1:3]].sum(), rel=1e-5)
    assert_predictions_are_the_models(merged, classifier)

    train = made.sorting.get_unit_spike_train(ids[0])
    parts = [np.arange(0, len(train), 3), np.setdiff1d(np.arange(len(train)), np.arange(0, len(train), 3))]
    split = made.split_units({ids[0]: parts}, new_unit_ids=[["third", "rest"]], **place())
    assert_same_units(split, made, ids[1:])
    found = features(split)["rate_mean_hz"][["third", "rest"]].to_numpy() * 26.0
    np.testing.assert_allclose(found, [len(part) for part in parts], rtol=1e-5)
    assert_predictions_are_the_models(split, classifier)
    for changed in (selected, merged, split):
        if format != "memory":
            again = reloaded(changed.folder)
            assert features(again).equals(features(changed))
            assert again.get_sorting_property(LABEL_PROPERTY).tolist() == predictions(changed, "label").tolist()
    assert features(made).equals(features(analyzer))


def test_new_templates_delete_what_came_from_them(analyzer):
    changed = analyzer.copy()
    changed.compute("templates", n_jobs=1, progress_bar=False)
    assert not changed.has_extension(FEATURES)
    assert not changed.has_extension(PREDICTIONS)
    changed = analyzer.copy()
    changed.compute(FEATURES)
    assert not changed.has_extension(PREDICTIONS)
    registration.unregister()
    try:
        from spikeinterface.core import sortinganalyzer

        links = sortinganalyzer._extension_children
        assert not {FEATURES, PREDICTIONS} & {name for children in links.values() for name in children}
        assert FEATURES not in links
    finally:
        registration.register()
    assert links["templates"].count(FEATURES) == links["unit_locations"].count(FEATURES) == 1
    assert {FEATURES, PREDICTIONS} <= set(registration.registered_extensions())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("unit_ids", [["a", "b"], []])
def test_no_spikes_and_no_units(narrow, bare, tmp_path, format, unit_ids):
    sorting = si.NumpySorting.from_unit_dict([{one: np.zeros(0, dtype="int64") for one in unit_ids}], RATE_HZ)
    folder = None if format == "memory" else tmp_path / "empty"
    recording = bare.recording.frame_slice(0, 20_000)
    empty = si.SortingAnalyzer.create(
        sorting, recording, np.zeros(len(unit_ids), dtype=int), format=format, folder=folder
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        empty.compute(FEATURES, events=[1.0])
        empty.compute(PREDICTIONS, model=narrow, threshold=0.6)
        found = empty if format == "memory" else reloaded(empty.folder)
    assert features(found).shape[0] == len(unit_ids)
    assert predictions(found, "label").tolist() == ["unknown"] * len(unit_ids)
    assert predictions(found, "smoothed").shape == (len(unit_ids), 2)
    assert found.get_sorting_property(LABEL_PROPERTY).tolist() == ["unknown"] * len(unit_ids)


def test_silent_units_beside_others(sessions, classifier):
    session = sessions[-1]
    silent = session._replace(
        spike_times=session.spike_times[session.offsets[2] :],
        offsets=np.concatenate([[0, 0, 0], session.offsets[3:] - session.offsets[2]]),
    )
    analyzer = region_session_analyzer(silent, **SMALL)
    analyzer.compute(FEATURES, events=session.onsets)
    analyzer.compute(PREDICTIONS, model=classifier)
    found = features(analyzer)
    assert (found["rate_mean_hz"].iloc[:2] == 0).all()
    assert found[["isi_cv", "waveform_width_ms"]].iloc[:2].isna().all(axis=None)
    assert np.isfinite(predictions(analyzer, "smoothed")).all()
    np.testing.assert_allclose(predictions(analyzer, "smoothed").sum(axis=1), 1)


def test_labels_properties_and_thresholds(analyzer, classifier):
    assert_predictions_are_the_models(analyzer, classifier)
    table = predictions(analyzer)
    assert list(table.columns) == ["label", "probability", *[f"p_{name}" for name in classifier.classes]]
    np.testing.assert_allclose(table.filter(like="p_").sum(axis=1), 1)
    never = analyzer.copy()
    never.compute(PREDICTIONS, model=classifier, threshold=1.0)
    assert set(predictions(never, "label")) == {"unknown"}
    always = analyzer.copy()
    always.compute(PREDICTIONS, model=classifier, threshold=0.0, smooth=False)
    raw = predictions(always, "probabilities")
    assert predictions(always, "label").tolist() == [classifier.classes[k] for k in raw.argmax(axis=1)]
    np.testing.assert_array_equal(predictions(always, "smoothed"), raw)
    assert np.abs(predictions(analyzer, "smoothed") - raw).max() > 1e-3
    quiet = analyzer.copy()
    for name in (LABEL_PROPERTY, PROBABILITY_PROPERTY):
        quiet.sorting.delete_property(name)
    quiet.compute(PREDICTIONS, model=classifier, set_properties=False)
    assert quiet.get_sorting_property(LABEL_PROPERTY) is None
    np.testing.assert_array_equal(predictions(quiet, "smoothed"), predictions(analyzer, "smoothed"))


def test_units_of_one_shank_do_not_vote_on_another(analyzer, classifier):
    """Smoothing each shank by itself gives what smoothing both together does."""
    shanks = np.asarray(analyzer.get_extension(FEATURES).data["shank"])
    assert set(shanks) == {"0", "1"}
    for shank in ("0", "1"):
        alone = analyzer.select_units(analyzer.unit_ids[shanks == shank])
        alone.compute(PREDICTIONS, model=classifier)
        np.testing.assert_allclose(
            predictions(alone, "smoothed"), predictions(analyzer, "smoothed")[shanks == shank], atol=1e-12
        )


def test_a_saved_model_is_named_by_folder_and_digest(analyzer, classifier, narrow, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(classifier["folder"], folder)
    made = save_as(analyzer, "binary_folder", tmp_path)
    made.compute(PREDICTIONS, model=folder)
    assert predictions(made).equals(predictions(analyzer))
    found = reloaded(made.folder)
    named = found.get_extension(PREDICTIONS).params["model"]
    assert named == {"kind": "region_classifier", "digest": classifier["digest"], "folder": str(folder)}
    merged = found.merge_units([list(found.unit_ids[:2])], sparsity_overlap=0.0)
    assert_predictions_are_the_models(merged, classifier)
    shutil.rmtree(folder)
    with pytest.raises(ModelFileError, match="no model folder"):
        found.merge_units([list(found.unit_ids[:2])], sparsity_overlap=0.0)
    with pytest.warns(UserWarning, match="never saved"):
        found.compute(PREDICTIONS, model=narrow)


def test_what_is_refused(analyzer, classifier):
    analyzer = analyzer.copy()
    with pytest.raises(InputError, match="Name the classifier"):
        analyzer.compute(PREDICTIONS)
    with pytest.raises(InputError, match="threshold must be a probability from 0 to 1, got 2"):
        analyzer.compute(PREDICTIONS, model=classifier, threshold=2)
    with pytest.raises(ModelMismatchError, match="'vae_localizer'"):
        analyzer.compute(PREDICTIONS, model={"kind": "vae_localizer", "digest": "0" * 64, "folder": None})
    analyzer.compute(PREDICTIONS, model=classifier)
    with pytest.raises(InputError, match="outputs must be one of"):
        predictions(analyzer, "table")
    with pytest.raises(InputError, match='outputs must be "dataframe" or "numpy"'):
        analyzer.get_extension(FEATURES).get_data(outputs="table")
    analyzer.compute(FEATURES, families=["isi"])
    with pytest.raises(ModelMismatchError, match="rate_mean_hz|log_isi|acg|waveform|psth"):
        analyzer.compute(PREDICTIONS, model=classifier)
    for wrong, message in [
        ({"depth_axis": "w"}, "depth_axis must be"),
        ({"families": ["shape"]}, r"families \['shape'\], only of"),
        ({"families": ["psth"]}, "need events"),
        ({"events": {}}, "empty dict"),
        ({"events": {1: [3.0]}}, r"segments \[1\], the sorting has 1"),
        ({"events": [[3.0], [4.0]]}, "given for 2 segments, the sorting has 1"),
        ({"events": [np.nan]}, "finite times"),
        ({"bin_s": 0.7}, "whole number"),
        ({"normalisation": "log"}, "normalisation must be one of"),
        ({"spike_train_settings": {"lag": 3}}, "spike_train_settings: .*lag"),
    ]:
        with pytest.raises(InputError, match=message):
            analyzer.compute(FEATURES, **wrong)
