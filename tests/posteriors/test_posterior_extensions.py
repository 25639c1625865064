"""Posteriors of spikes and units in an analyzer: formats, hooks, empty units, and SpikeInterface's own names."""

import json
import shutil
import warnings

import numpy as np
import pytest
import spikeinterface.full as si
from posterior_helpers import (
    FOREIGN_MODEL,
    QUIET,
    SPIKES,
    UNITS,
    array_recording,
    assert_proper,
    assert_same,
    by_unit,
    computed,
    data,
    places,
)

import si_neuroml
from si_neuroml import registration
from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError, RegistrationError
from si_neuroml.localization.extension import compute_spike_location_posteriors
from si_neuroml.localization.neural_posterior import BLANK_STD_UM, shipped_posterior
from si_neuroml.localization.posterior import POSTERIOR_DTYPE, combine_posteriors, covariance_matrices
from si_neuroml.localization.unit_templates import template_posteriors


def assert_units_follow_their_spikes(analyzer):
    for unit_id, unit in zip(analyzer.unit_ids, data(analyzer, UNITS), strict=True):
        own = by_unit(analyzer)[unit_id]
        if len(own):
            assert_same(unit[None], combine_posteriors(own))


def test_same_numbers_as_spike_locations(recording, sorting, peaks, expected):
    analyzer = computed(sorting, recording, sparse=True)
    assert_same(data(analyzer), expected)
    analyzer.compute("spike_locations", method="neural_posterior", **QUIET)
    assert_same(data(analyzer, "spike_locations"), expected)
    from_spikes = {"channel_from_template": False, "radius_um": 40.0}
    analyzer.compute(SPIKES, spike_retriever_kwargs=from_spikes, **QUIET)
    analyzer.compute("spike_locations", method="neural_posterior", spike_retriever_kwargs=from_spikes, **QUIET)
    assert_same(data(analyzer), data(analyzer, "spike_locations"))
    assert (data(analyzer)["x"] != expected["x"]).any()
    for job_kwargs in ({"chunk_duration": "0.3s"}, {"n_jobs": 2, "chunk_duration": "0.6s"}):
        assert_same(compute_spike_location_posteriors(analyzer, **{**QUIET, **job_kwargs}), expected)


def test_what_can_be_read(analyzer, named):
    extension = analyzer.get_extension(SPIKES)
    assert extension.get_data().dtype == POSTERIOR_DTYPE
    assert_proper(extension.get_data())
    assert extension.model_digest == shipped_posterior()["digest"]
    for name in (SPIKES, UNITS):
        found = analyzer.get_extension(name)
        np.testing.assert_array_equal(found.get_covariances("xz"), covariance_matrices(found.get_data(), "xz"))
    assert extension.get_covariances().shape == (len(named.to_spike_vector()), 3, 3)
    units, table = data(analyzer, UNITS, "by_unit"), data(analyzer, UNITS, "dataframe")
    assert list(units) == list(table.index) == list(named.unit_ids)
    assert table.loc["unit c", "z_std"] == units["unit c"]["z_std"]
    with pytest.raises(InputError, match='outputs must be "numpy", "by_unit" or "dataframe"'):
        data(analyzer, UNITS, "table")


def test_units_lie_where_their_cells_are(analyzer, sorting):
    units = data(analyzer, UNITS)[:-1]
    assert_proper(units)
    truth = sorting.get_property("gt_unit_locations")[:, :2]
    assert np.median(np.linalg.norm(places(units, "xy") - truth, axis=1)) < 20.0
    from_templates = template_posteriors(analyzer)[:-1]
    assert_proper(from_templates)
    assert np.median(np.linalg.norm(places(from_templates, "xy") - truth, axis=1)) < 20.0
    assert_units_follow_their_spikes(analyzer)


@pytest.mark.parametrize("source", ["spikes", "templates"])
def test_a_unit_without_spikes_is_as_uncertain_as_before(analyzer, source):
    analyzer = analyzer.copy()
    units = analyzer.compute(UNITS, source=source).get_data("by_unit")["silent"]
    assert [units[f"{axis}_std"] for axis in "xyz"] == list(BLANK_STD_UM)
    assert units["outlier_probability"] == 1.0
    channel = analyzer.get_main_channels(outputs="index", with_dict=True)["silent"]
    np.testing.assert_array_equal([units["x"], units["y"]], analyzer.get_channel_locations()[channel])
    assert len(by_unit(analyzer)["silent"]) == 0


@pytest.mark.parametrize("format", ["memory", "binary_folder", "zarr"])
def test_a_sorting_without_spikes(recording, tmp_path, format):
    empty = si.NumpySorting.from_unit_dict([{"a": np.array([], dtype="int64"), "b": np.array([], dtype="int64")}], 32e3)
    folder = None if format == "memory" else tmp_path / ("analyzer.zarr" if format == "zarr" else "analyzer")
    analyzer = computed(empty, recording, format, folder)
    for found in (analyzer, analyzer if folder is None else si.load_sorting_analyzer(folder)):
        assert data(found).dtype == POSTERIOR_DTYPE
        assert data(found).shape == (0,)
        assert (data(found, UNITS)["outlier_probability"] == 1.0).all()


@pytest.mark.parametrize(
    ("format", "sparse"),
    [("memory", True), ("memory", False), ("binary_folder", True), ("zarr", True), ("zarr", False)],
)
def test_formats_and_an_analyzer_without_its_recording(recording, named, analyzer, tmp_path, format, sparse):
    """The recording is an array in memory, so that nothing of it is left in the folder."""
    folder = None if format == "memory" else tmp_path / ("analyzer.zarr" if format == "zarr" else "analyzer")
    made = computed(named, recording, format, folder, sparse, source="templates")
    if folder is None:
        folder = tmp_path / "saved"
        made.save_as(format="binary_folder", folder=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = si.load_sorting_analyzer(folder)
    assert not loaded.has_recording()
    assert_same(data(loaded), data(analyzer))
    assert_same(data(loaded, UNITS), data(made, UNITS))
    for name in (SPIKES, UNITS):
        assert loaded.get_extension(name).model_digest == shipped_posterior()["digest"]
        assert len(json.dumps(loaded.get_extension(name).params)) < 1000
    # units can be computed and changed without the recording
    loaded.compute(UNITS, source="templates", save=False)
    assert_same(data(loaded, UNITS), data(made, UNITS))
    chosen = loaded.select_units(["unit d", "unit b"])
    assert_same(data(chosen, UNITS), data(made, UNITS)[[3, 1]])
    loaded.compute(UNITS, save=False)
    assert_same(data(loaded, UNITS), data(analyzer, UNITS))


def test_select(analyzer):
    chosen = ["unit h", "silent", "unit b", "unit a"]
    selected = analyzer.select_units(chosen)
    for unit_id in chosen:
        assert_same(by_unit(selected)[unit_id], by_unit(analyzer)[unit_id])
        assert data(selected, UNITS, "by_unit")[unit_id] == data(analyzer, UNITS, "by_unit")[unit_id]
    assert selected.get_extension(SPIKES).model_digest == analyzer.get_extension(SPIKES).model_digest


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("source", ["spikes", "templates"])
def test_merge(analyzer, source, mode):
    analyzer = analyzer.copy()
    analyzer.compute(UNITS, source=source)
    merged = analyzer.merge_units([["unit a", "unit d"]], new_unit_ids=["both"], merging_mode=mode, **QUIET)
    for unit_id in ("unit b", "unit f"):
        assert_same(by_unit(merged)[unit_id], by_unit(analyzer)[unit_id])
        assert data(merged, UNITS, "by_unit")[unit_id] == data(analyzer, UNITS, "by_unit")[unit_id]
    assert len(by_unit(merged)["both"]) == len(by_unit(analyzer)["unit a"]) + len(by_unit(analyzer)["unit d"])
    if mode == "soft":
        both = np.concatenate([by_unit(analyzer)["unit a"], by_unit(analyzer)["unit d"]])
        np.testing.assert_array_equal(np.sort(by_unit(merged)["both"]["x"]), np.sort(both["x"]))
    if source == "spikes":
        assert_units_follow_their_spikes(merged)
    else:
        assert_same(data(merged, UNITS), template_posteriors(merged))


def test_merge_that_censors(analyzer):
    merged = analyzer.merge_units([["unit a", "unit b"]], new_unit_ids=["both"], censor_ms=0.5, **QUIET)
    assert len(data(merged)) == len(merged.sorting.to_spike_vector()) < len(data(analyzer))
    assert_same(by_unit(merged)["unit f"], by_unit(analyzer)["unit f"])
    assert_units_follow_their_spikes(merged)


def test_split(analyzer):
    whole = by_unit(analyzer)["unit e"]
    halves = [np.arange(0, len(whole), 2), np.arange(1, len(whole), 2)]
    split, new_ids = analyzer.split_units({"unit e": halves}, return_new_unit_ids=True)
    for new_id, half in zip(new_ids[0], halves, strict=True):
        assert_same(by_unit(split)[new_id], whole[half])
    assert_same(by_unit(split)["unit b"], by_unit(analyzer)["unit b"])
    assert_units_follow_their_spikes(split)


def test_computing_parents_again_deletes_the_children(analyzer):
    analyzer = analyzer.copy()
    analyzer.compute(SPIKES, **QUIET)
    assert not analyzer.has_extension(UNITS)
    analyzer.compute(UNITS, source="templates")
    analyzer.compute("templates", **QUIET)
    assert not analyzer.has_extension(UNITS)
    assert not analyzer.has_extension(SPIKES)


def test_several_segments(traces, recording, named):
    both = array_recording([traces[:32_000], traces[32_000:]], recording)
    trains = [
        {unit_id: train[(train >= start) & (train < start + 32_000)] - start for unit_id, train in whole.items()}
        for whole in [{unit_id: named.get_unit_spike_train(unit_id) for unit_id in named.unit_ids}]
        for start in (0, 32_000)
    ]
    analyzer = computed(si.NumpySorting.from_unit_dict(trains, 32_000.0), both)
    analyzer.compute("spike_locations", method="neural_posterior", **QUIET)
    assert_same(data(analyzer), data(analyzer, "spike_locations"))
    parts = data(analyzer, SPIKES, "by_unit")
    for unit_id in named.unit_ids:
        assert [len(parts[k][unit_id]) for k in (0, 1)] == [len(trains[k][unit_id]) for k in (0, 1)]
    assert_units_follow_their_spikes(analyzer)


def test_another_model_is_named_by_folder_and_digest(analyzer, tmp_path):
    shipped = shipped_posterior()
    tensors, info = shipped.to_parts()
    model = type(shipped).from_parts({**tensors, "network.output.bias": tensors["network.output.bias"] + 0.1}, info)
    folder = model.save(tmp_path / "model")
    analyzer = analyzer.save_as(format="binary_folder", folder=tmp_path / "analyzer")
    before = data(analyzer)
    analyzer.set_temporary_recording(array_recording_of(analyzer))
    analyzer.compute(SPIKES, model=str(folder), **QUIET)
    analyzer.compute(UNITS, source="templates", model=folder)
    assert (data(analyzer)["x"] != before["x"]).any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = si.load_sorting_analyzer(tmp_path / "analyzer")
    for name in (SPIKES, UNITS):
        assert loaded.get_extension(name).model_digest == model["digest"]
        assert loaded.get_extension(name).params["model"] == {**model, "folder": str(folder)}
    merged = loaded.merge_units([["unit a", "unit d"]], new_unit_ids=["both"], **QUIET)
    assert_same(data(merged, UNITS), template_posteriors(merged, model=folder))
    shutil.rmtree(folder)
    with pytest.raises(ModelFileError, match="no model folder"):
        loaded.merge_units([["unit a", "unit d"]], **QUIET)


def array_recording_of(analyzer):
    return analyzer.recording if analyzer.has_recording() else analyzer._temporary_recording


def test_what_is_refused(analyzer):
    analyzer = analyzer.copy()
    with pytest.raises(InputError, match=r"source must be one of \('spikes', 'templates'\), got 'waveforms'"):
        analyzer.compute(UNITS, source="waveforms")
    with pytest.raises(InputError, match="give the model there"):
        analyzer.compute(UNITS, model=shipped_posterior())
    # the parent is computed again, and the child gone, before anything is refused
    with pytest.raises(InputError, match="peak_sign must be one of"):
        analyzer.compute(SPIKES, peak_sign="down", **QUIET)
    with pytest.raises(ModelMismatchError, match="'vae_localizer'"):
        analyzer.compute(SPIKES, model=FOREIGN_MODEL, **QUIET)


def test_extensions_come_and_go():
    from spikeinterface.core import sortinganalyzer
    from spikeinterface.postprocessing.localization_tools import _unit_location_methods

    def children():
        return {name: list(found) for name, found in sortinganalyzer._extension_children.items()}

    before, methods = children(), dict(_unit_location_methods)
    assert {SPIKES, UNITS} <= set(registration.registered_extensions())
    si_neuroml.register()
    assert children() == before
    si_neuroml.unregister()
    try:
        assert registration.registered_extensions() == []
        assert "neural_posterior" not in _unit_location_methods
        assert not {SPIKES, UNITS} & {name for found in children().values() for name in found}
        assert SPIKES not in children()

        class Foreign:
            extension_name = UNITS

        sortinganalyzer._possible_extensions.append(Foreign)
        try:
            with pytest.raises(RegistrationError, match=f"already has a result extension '{UNITS}', from .*extensions"):
                si_neuroml.register()
            assert registration.registered_methods() == []
        finally:
            sortinganalyzer._possible_extensions.remove(Foreign)
        _unit_location_methods["neural_posterior"] = places
        try:
            with pytest.raises(RegistrationError, match="already has a unit-location method 'neural_posterior'"):
                si_neuroml.register()
        finally:
            del _unit_location_methods["neural_posterior"]
        assert registration.registered_methods() == []
    finally:
        si_neuroml.register()
    assert {name: sorted(found) for name, found in children().items()} == {
        name: sorted(found) for name, found in before.items()
    }
    assert _unit_location_methods == methods
