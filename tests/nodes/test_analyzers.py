"""Sorting analyzers, motion correction and benchmark studies take our methods like their own."""

import json
import subprocess
import sys

import numpy as np
import pytest
import spikeinterface.full as si
from helpers import FAST_FIT, OUR_METHODS, PEAK_DTYPE, QUIET, assert_same, fields, localize, stored
from spikeinterface.sortingcomponents.motion import estimate_motion

import si_neuroml
from si_neuroml.errors import InputError, ModelFileError
from si_neuroml.localization.nodes import LocalizeVAE
from si_neuroml.localization.settings import LOCATION_DTYPE


@pytest.fixture(scope="module")
def true_peaks(recording, sorting):
    """The spikes of the sorting as peaks on their units' main channels, as an analyzer sees them."""
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=False, job_kwargs=QUIET)
    spikes = sorting.to_spike_vector()
    found = np.zeros(len(spikes), dtype=PEAK_DTYPE)
    found["sample_index"] = spikes["sample_index"]
    found["channel_index"] = analyzer.get_main_channels(outputs="index", with_dict=False)[spikes["unit_index"]]
    return found


def make_analyzer(sorting, recording, reference, format="memory", folder=None, sparse=True):
    analyzer = si.create_sorting_analyzer(
        sorting, recording, format=format, folder=folder, sparse=sparse, job_kwargs=QUIET
    )
    analyzer.compute(["random_spikes", "templates"], **QUIET)
    analyzer.compute("spike_locations", method="vae", method_kwargs={"model": reference}, **QUIET)
    return analyzer


def by_spike(analyzer, places):
    """(sample, place) rows in an order that does not depend on units."""
    rows = np.column_stack([analyzer.sorting.to_spike_vector()["sample_index"], fields(places, LOCATION_DTYPE.names)])
    return rows[np.lexsort(rows.T[::-1])]


RELOAD = """
import sys, numpy as np, spikeinterface as si
analyzer = si.load_sorting_analyzer(sys.argv[1])
assert "si_neuroml" not in sys.modules
np.save(sys.argv[2], analyzer.get_extension("spike_locations").get_data())
"""


@pytest.mark.parametrize("reference", ["object", "folder"])
@pytest.mark.parametrize(
    ("format", "sparse"),
    [("memory", True), ("memory", False), ("binary_folder", True), ("zarr", True), ("zarr", False)],
)
def test_analyzer_computes_saves_and_reloads(
    recording, sorting, true_peaks, model, model_folder, tmp_path, format, sparse, reference
):
    given = model if reference == "object" else model_folder
    folder = None if format == "memory" else tmp_path / ("analyzer.zarr" if format == "zarr" else "analyzer")
    analyzer = make_analyzer(sorting, recording, given, format, folder, sparse)
    expected = localize(recording, true_peaks, model)
    assert_same(stored(analyzer), expected)
    if folder is None:
        folder = tmp_path / "saved"
        analyzer.save_as(format="binary_folder", folder=folder)
    reloaded = si.load_sorting_analyzer(folder)
    assert_same(stored(reloaded), expected)
    params = reloaded.get_extension("spike_locations").params
    assert len(json.dumps(params)) < 2000, "weights in the parameters"
    if reference == "folder":
        reloaded.compute("spike_locations", **{**params, "save": False}, **QUIET)
        assert_same(stored(reloaded), expected)


def test_analyzer_is_readable_without_this_package(recording, sorting, model, tmp_path):
    analyzer = make_analyzer(sorting, recording, model, "binary_folder", tmp_path / "analyzer")
    command = [sys.executable, "-c", RELOAD, str(tmp_path / "analyzer"), str(tmp_path / "found.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert_same(np.load(tmp_path / "found.npy"), stored(analyzer))


def test_params_name_the_model(recording, sorting, model, model_folder, tmp_path):
    loaded = si_neuroml.load_model(model_folder)
    analyzer = make_analyzer(sorting, recording, loaded, "binary_folder", tmp_path / "analyzer")
    params = json.loads((tmp_path / "analyzer/extensions/spike_locations/params.json").read_text())
    assert params["method_kwargs"]["model"] == {
        "kind": "vae_localizer",
        "digest": model["digest"],
        "folder": str(model_folder),
    }
    again = si.load_sorting_analyzer(tmp_path / "analyzer")
    before = stored(analyzer)
    again.compute("spike_locations", **params, **QUIET)
    assert_same(stored(again), before)


def test_recompute_with_a_model_that_was_never_saved_says_so(recording, sorting, model, tmp_path):
    make_analyzer(sorting, recording, model, "binary_folder", tmp_path / "analyzer")
    again = si.load_sorting_analyzer(tmp_path / "analyzer")
    params = again.get_extension("spike_locations").params
    with pytest.raises(ModelFileError, match="never saved"):
        again.compute("spike_locations", **params, save=False, **QUIET)


@pytest.mark.parametrize("ids", ["numbers", "strings"])
def test_select_merge_split_keep_the_right_rows(recording, sorting, model_folder, ids):
    if ids == "strings":
        sorting = sorting.rename_units([f"unit {letter}" for letter in "abcdefghijklmnopqrst"])
    # dense, because a merge of far units is refused where their channels do not overlap
    analyzer = make_analyzer(sorting, recording, model_folder, sparse=False)
    whole, spikes = stored(analyzer), sorting.to_spike_vector()
    unit_ids = list(sorting.unit_ids)

    chosen = [unit_ids[7], unit_ids[2]]
    selected = analyzer.select_units(chosen)
    parts = selected.get_extension("spike_locations").get_data(outputs="by_unit")[0]
    for unit_id in chosen:
        assert_same(parts[unit_id], whole[spikes["unit_index"] == unit_ids.index(unit_id)])

    merged = analyzer.merge_units([[unit_ids[0], unit_ids[3]]])
    np.testing.assert_array_equal(by_spike(merged, stored(merged)), by_spike(analyzer, whole))
    untouched = merged.get_extension("spike_locations").get_data(outputs="by_unit")[0][unit_ids[5]]
    assert_same(untouched, whole[spikes["unit_index"] == 5])

    count = int((spikes["unit_index"] == 4).sum())
    halves = [np.arange(count // 2), np.arange(count // 2, count)]
    split, new_ids = analyzer.split_units({unit_ids[4]: halves}, return_new_unit_ids=True)
    np.testing.assert_array_equal(by_spike(split, stored(split)), by_spike(analyzer, whole))
    parts = split.get_extension("spike_locations").get_data(outputs="by_unit")[0]
    for new_id, half in zip(new_ids[0], halves, strict=True):
        assert_same(parts[new_id], whole[spikes["unit_index"] == 4][half])


def test_sorting_without_spikes_is_refused(recording, model):
    empty = si.NumpySorting.from_unit_dict([{"a": np.array([], dtype="int64")}], recording.sampling_frequency)
    empty.set_property("main_channel_id", recording.channel_ids[:1])
    from spikeinterface.core.node_pipeline import SpikeRetriever

    with pytest.raises(InputError, match="no spikes"):
        LocalizeVAE(recording, [SpikeRetriever(empty, recording)], model=model)


def test_motion_components(recording, model, peaks, expected):
    motion = estimate_motion(
        recording, peaks, expected, method="decentralized", rigid=True, bin_s=0.5, progress_bar=False
    )
    assert np.isfinite(motion.displacement[0]).all()


FAST_MOTION = {
    "rigid_fast": {"bin_s": 1.0},
    "dredge_fast": {"method": "decentralized", "rigid": True, "bin_s": 1.0},
    "kilosort_like": {"rigid": True, "bin_s": 1.0},
}


@pytest.mark.parametrize("preset", list(FAST_MOTION))
def test_motion_presets_take_the_method(recording, model, preset):
    changes = FAST_MOTION[preset]
    _, info = si.compute_motion(
        recording,
        preset=preset,
        localize_peaks_kwargs={"method": "vae", "model": model},
        estimate_motion_kwargs=changes,
        output_motion_info=True,
        **QUIET,
    )
    assert info["peak_locations"].dtype == LOCATION_DTYPE
    assert_same(info["peak_locations"], localize(recording, info["peaks"], model))


@pytest.mark.parametrize("method", OUR_METHODS)
def test_a_typo_is_not_a_foreign_parameter(recording, peaks, method):
    with pytest.raises(InputError, match=r"knows no parameters \['raduis_um'\]; it knows"):
        localize(recording, peaks, method=method, method_kwargs={"raduis_um": 50})


def test_motion_without_a_model_fits_to_detected_peaks(recording):
    with pytest.warns(UserWarning, match="was given no model"):
        _, info = si.compute_motion(
            recording,
            preset="rigid_fast",
            localize_peaks_kwargs={"method": "vae", "fit_kwargs": FAST_FIT},
            estimate_motion_kwargs=FAST_MOTION["rigid_fast"],
            output_motion_info=True,
            **QUIET,
        )
    assert len(info["peak_locations"]) == len(info["peaks"]) > 100
    assert np.isfinite(fields(info["peak_locations"])).all()


def test_peak_localization_study(recording, sorting, model_folder, tmp_path):
    from spikeinterface.benchmark.benchmark_peak_localization import PeakLocalizationStudy

    sorting = sorting.save(folder=tmp_path / "sorting")
    saved = recording.save(folder=tmp_path / "recording", **QUIET)
    kwargs = {"vae": {"model": str(model_folder)}, "center_of_mass_nearest": {}}
    cases = {
        method: {
            "label": method,
            "dataset": "square",
            "init_kwargs": {"gt_positions": sorting.get_property("gt_unit_locations")},
            "params": {"ms_before": 1.0, "method": method, "method_kwargs": kwargs[method]},
        }
        for method in kwargs
    }
    study = PeakLocalizationStudy.create(tmp_path / "study", datasets={"square": (saved, sorting)}, cases=cases)
    study.run(**QUIET)
    study.compute_results()
    for method in kwargs:
        medians = study.get_result(method)["medians_over_templates"]
        assert len(medians) == 20
        assert np.isfinite(medians).all()
        assert np.median(medians) < 50.0
