"""Features and predictions in all formats, through selecting, merging, splitting and units without spikes."""

import warnings

import numpy as np
import pytest
import spikeinterface.full as si
from extension_helpers import (
    FORMATS,
    RATE_HZ,
    SMALL,
    assert_predictions_are_the_models,
    assert_same_units,
    features,
    predictions,
    reloaded,
    save_as,
)

from si_neuroml import registration
from si_neuroml.groundtruth.region_analyzers import region_session_analyzer
from si_neuroml.regions.extension import FEATURES
from si_neuroml.regions.predictions_extension import LABEL_PROPERTY, PREDICTIONS


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
