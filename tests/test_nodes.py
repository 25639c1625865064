"""The localizers through SpikeInterface's own verbs: exact in every pool, right rows in analyzers, clear refusals."""

import copy
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import spikeinterface.full as si
from spikeinterface.core.node_pipeline import ExtractDenseWaveforms, PeakRetriever, PipelineNode, run_node_pipeline
from spikeinterface.sortingcomponents.motion import estimate_motion
from spikeinterface.sortingcomponents.peak_localization import localize_peaks
from threadpoolctl import threadpool_limits

import si_neuroml
from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError, TrainingError
from si_neuroml.localization import fit as fit_module
from si_neuroml.localization.nodes import DeferredDenseWaveforms, LocalizeVAE
from si_neuroml.localization.settings import LOCATION_DTYPE

QUIET = {"n_jobs": 1, "progress_bar": False}
FAST_FIT = {"epochs": 1, "learning_rate": 1e-3}
DURATION_S = 3.0
PEAK_DTYPE = [(name, "int64") for name in ("sample_index", "channel_index", "segment_index")]
OUR_METHODS = ["vae", "center_of_mass_nearest"]


@pytest.fixture(scope="module")
def recording(mearec_small):
    whole = mearec_small[0]
    return whole.frame_slice(0, round(DURATION_S * whole.sampling_frequency))


@pytest.fixture(scope="module")
def sorting(mearec_small):
    whole = mearec_small[1]
    return whole.frame_slice(0, round(DURATION_S * whole.sampling_frequency))


@pytest.fixture(scope="module")
def peaks(recording, peaks_small):
    return peaks_small[peaks_small["sample_index"] < recording.get_num_samples()]


@pytest.fixture(scope="module")
def model(vae_model_small):
    return vae_model_small


@pytest.fixture(scope="module")
def model_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "localizer"
    # a copy, so that `model` stays one that was never saved
    tensors, info = model.to_parts()
    return si_neuroml.save_model(type(model).from_parts(tensors, info), folder)


@pytest.fixture(scope="module")
def expected(recording, peaks, model):
    """Places with one process and one chunk: what everything else must equal."""
    return localize(recording, peaks, model, chunk_size=recording.get_num_samples())


def localize(recording, peaks, model=None, method="vae", method_kwargs=None, **job_kwargs):
    given = {"model": model} if model is not None else {}
    return localize_peaks(
        recording,
        peaks,
        method=method,
        method_kwargs={**given, **(method_kwargs or {})},
        job_kwargs={**QUIET, **job_kwargs},
    )


def numpy_recording(traces, like, sampling_frequency=None, probe=None, **kwargs):
    segments = traces if isinstance(traces, list) else [traces]
    found = si.NumpyRecording(segments, sampling_frequency or like.sampling_frequency, **kwargs)
    found.set_probe(probe if probe is not None else own_probe(like))
    return found


def own_probe(recording):
    """A copy, because what get_probe() returns is the recording's own."""
    return copy.deepcopy(recording.get_probe())


def short(recording, num_samples=16_000):
    """Traces of the first half second, writable."""
    return recording.get_traces(end_frame=num_samples).copy()


def first_peaks(peaks, num_samples=16_000):
    return peaks[peaks["sample_index"] < num_samples]


def assert_same(found, expected):
    assert found.dtype == LOCATION_DTYPE
    for name in LOCATION_DTYPE.names:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def assert_close(found, expected, atol):
    for name in LOCATION_DTYPE.names:
        np.testing.assert_allclose(found[name], expected[name], atol=atol, rtol=1e-4, err_msg=name)


def fields(locations, names="xyz"):
    return np.column_stack([locations[name] for name in names])


# ---- the same to the last bit in every pool ----


@pytest.mark.parametrize(
    "job_kwargs",
    [
        {"chunk_duration": "0.1s"},
        {"chunk_duration": "0.37s"},
        {"chunk_duration": "1s"},
        {"n_jobs": 2, "chunk_duration": "0.37s", "pool_engine": "thread"},
        {"n_jobs": 2, "chunk_duration": "0.37s", "mp_context": "fork"},
        {"n_jobs": 2, "chunk_duration": "1s", "mp_context": "fork"},
        {"n_jobs": 2, "chunk_duration": "1s", "mp_context": "spawn"},
    ],
    ids=lambda job_kwargs: "-".join(str(value) for value in job_kwargs.values()),
)
def test_pool_and_chunks_change_nothing(recording, peaks, model, expected, job_kwargs):
    if job_kwargs.get("mp_context") == "fork" and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    assert_same(localize(recording, peaks, model, **job_kwargs), expected)


@pytest.mark.parametrize("limits", [1, 2])
def test_threads_of_the_matrix_product_change_nothing(recording, peaks, model, expected, limits):
    with threadpool_limits(limits):
        assert_same(localize(recording, peaks, model), expected)


def test_repeated_calls_and_any_name_of_the_model_agree(recording, peaks, model, model_folder, expected):
    loaded = si_neuroml.load_model(model_folder)
    for same in (model, model, model_folder, str(model_folder), loaded, dict(loaded)):
        assert_same(localize(recording, peaks, same), expected)


def test_baseline_is_the_same_in_every_pool(recording, peaks):
    one = localize(recording, peaks, method="center_of_mass_nearest")
    for job_kwargs in ({"chunk_duration": "0.1s"}, {"n_jobs": 2, "pool_engine": "thread"}):
        assert_same(localize(recording, peaks, method="center_of_mass_nearest", **job_kwargs), one)


FORK_AFTER_FIT = """
import sys, numpy as np, spikeinterface as si, si_neuroml
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

if __name__ == "__main__":
    recording, peaks = si.load(sys.argv[1]), np.load(sys.argv[2])
    model = si_neuroml.fit_localizer(recording, peaks, epochs=1, learning_rate=1e-3, progress_bar=False)
    found = [
        localize_peaks(
            recording, peaks, method="vae", method_kwargs={"model": model}, job_kwargs={"progress_bar": False, **job}
        )
        for job in ({"n_jobs": 1}, {"n_jobs": 2, "mp_context": "fork", "max_threads_per_worker": 2})
    ]
    np.testing.assert_array_equal(*found)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_after_training_does_not_hang(recording, peaks, tmp_path):
    recording.dump_to_json(tmp_path / "recording.json")
    np.save(tmp_path / "peaks.npy", peaks)
    script = tmp_path / "script.py"
    script.write_text(FORK_AFTER_FIT)
    command = [sys.executable, str(script), str(tmp_path / "recording.json"), str(tmp_path / "peaks.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr


# ---- what comes out ----


@pytest.mark.parametrize("method", OUR_METHODS)
def test_output_has_one_dtype_and_is_finite(recording, peaks, model, method):
    found = localize(recording, peaks, model if method == "vae" else None, method=method)
    assert found.dtype == LOCATION_DTYPE
    assert len(found) == len(peaks)
    names = LOCATION_DTYPE.names if method == "vae" else ("x", "y", "z", "alpha")
    assert np.isfinite(fields(found, names)).all()
    assert (found["z"] >= 0).all()
    assert (fields(found, ("x_std", "y_std", "z_std")) > 0).all()
    assert (found["alpha"] >= 0).all()


def test_a_fitted_model_beats_the_middle_of_the_array(recording, peaks, expected):
    centre = recording.get_channel_locations()[peaks["channel_index"]]
    assert np.median(np.linalg.norm(fields(expected, "xy") - centre, axis=1)) < 30.0


def test_one_peak_gives_one_location(recording, peaks, model, expected):
    assert_same(localize(recording, peaks[5:6], model), expected[5:6])


def test_peaks_at_the_very_first_and_last_samples(recording, peaks, model):
    last = recording.get_num_samples() - 1
    edge = np.repeat(peaks[:1], 6)
    edge["sample_index"] = [0, 0, 1, last - 1, last, last]
    edge["channel_index"] = [0, 99, 5, 7, 0, 99]
    found = localize(recording, edge, model)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    assert_same(localize(recording, edge, model, chunk_duration="0.1s"), found)
    assert np.isfinite(fields(localize(recording, edge, method="center_of_mass_nearest"))).all()


# ---- analyzers ----


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


def stored(analyzer):
    return analyzer.get_extension("spike_locations").get_data()


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


# ---- motion correction and benchmarks ----


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


# ---- no model given ----


def test_no_model_trains_once_and_warns_once(recording, peaks, monkeypatch, tmp_path):
    log = tmp_path / "fits"
    fit = fit_module.fit_localizer

    def logged(recording, peaks, **kwargs):
        with log.open("a") as file:
            file.write(json.dumps({"pid": os.getpid(), "peaks": len(peaks), **kwargs}) + "\n")
        return fit(recording, peaks, **kwargs)

    monkeypatch.setattr(fit_module, "fit_localizer", logged)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = localize(
            recording,
            peaks,
            method_kwargs={"ms_before": 0.4, "fit_kwargs": {**FAST_FIT, "hidden_sizes": [20, 10]}},
            n_jobs=2,
            chunk_duration="0.5s",
        )
    assert sum("was given no model" in str(warning.message) for warning in caught) == 1
    (call,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert call["pid"] == os.getpid(), "a worker trained"
    assert call["peaks"] == len(peaks)
    assert (call["ms_before"], call["hidden_sizes"], call["epochs"]) == (0.4, [20, 10], 1)
    expected = fit(recording, peaks, ms_before=0.4, hidden_sizes=(20, 10), progress_bar=False, **FAST_FIT)
    assert_same(found, localize(recording, peaks, expected))


def test_analyzer_without_a_model_trains_on_its_spikes(recording, sorting):
    analyzer = si.create_sorting_analyzer(sorting, recording, job_kwargs=QUIET)
    analyzer.compute(["random_spikes", "templates"], **QUIET)
    with pytest.warns(UserWarning, match="was given no model: fitting one to the .* peaks at hand"):
        analyzer.compute("spike_locations", method="vae", method_kwargs={"fit_kwargs": FAST_FIT}, **QUIET)
    assert np.isfinite(fields(stored(analyzer))).all()


def test_nodes_for_workers_carry_the_fitted_model(recording, peaks):
    source = PeakRetriever(recording, peaks)
    with pytest.warns(UserWarning, match="was given no model"):
        node = LocalizeVAE(recording, [source], fit_kwargs=FAST_FIT)
    assert node._kwargs["model"] is node.model
    assert "fit_kwargs" not in node._kwargs


def test_fit_kwargs_beside_a_model_are_refused(recording, peaks, model):
    with pytest.raises(InputError, match="leave them out when a model is given"):
        localize(recording, peaks, model, method_kwargs={"fit_kwargs": FAST_FIT})


# ---- dense waveforms are cut for those who read them ----


class SumOfWaveforms(PipelineNode):
    """A node of somebody else, which reads dense waveforms."""

    def __init__(self, recording, parents):
        PipelineNode.__init__(self, recording, return_output=True, parents=parents)
        self._kwargs.update()

    def get_dtype(self):
        return np.dtype("float64")

    def compute(self, traces, peaks, waveforms):
        # what nodes do with an array: ufuncs, arithmetic, comparison, indexing, shape
        assert waveforms.shape[0] == len(waveforms) == len(peaks)
        total = (waveforms**2 * 2.0 - waveforms).sum(axis=(1, 2)) + (waveforms < 0).sum(axis=(1, 2))
        return total + np.ptp(waveforms, axis=1).sum(axis=1) + np.abs(-waveforms[:, 0, :]).sum(axis=1)


@pytest.fixture
def cuts(monkeypatch):
    """How often SpikeInterface cuts dense waveforms."""
    calls = []
    compute = ExtractDenseWaveforms.compute

    def counted(self, traces, peaks):
        calls.append(len(peaks))
        return compute(self, traces, peaks)

    monkeypatch.setattr(ExtractDenseWaveforms, "compute", counted)
    return calls


def test_our_methods_cut_no_dense_waveforms(recording, peaks, model, expected, cuts):
    assert_same(localize(recording, peaks, model), expected)
    localize(recording, peaks, method="center_of_mass_nearest")
    assert cuts == []
    localize_peaks(recording, peaks, method="center_of_mass", job_kwargs=QUIET)
    assert len(cuts) > 0


@pytest.mark.parametrize(
    ("ours_first", "job_kwargs"),
    [(True, {}), (False, {}), (True, {"n_jobs": 2, "mp_context": "spawn", "chunk_duration": "2s"})],
)
def test_another_node_still_gets_dense_waveforms(recording, peaks, model, expected, ours_first, job_kwargs):
    def run(with_ours):
        source = PeakRetriever(recording, peaks)
        dense = ExtractDenseWaveforms(recording, parents=[source], ms_before=0.5, ms_after=0.5, return_output=False)
        theirs = SumOfWaveforms(recording, [source, dense])
        com = si_method("center_of_mass")(recording, parents=[source, dense])
        nodes = [theirs, com]
        if with_ours:
            ours = LocalizeVAE(recording, [source, dense], model=model)
            nodes = [ours, *nodes] if ours_first else [*nodes, ours]
            assert type(dense) is DeferredDenseWaveforms
        found = run_node_pipeline(
            recording, [source, dense, *nodes], {**QUIET, **job_kwargs}, "test", squeeze_output=False
        )
        return dict(zip([type(node).__name__ for node in nodes], found, strict=True))

    alone, together = run(False), run(True)
    np.testing.assert_array_equal(together["SumOfWaveforms"], alone["SumOfWaveforms"])
    np.testing.assert_array_equal(together["LocalizeCenterOfMass"], alone["LocalizeCenterOfMass"])
    assert_same(together["LocalizeVAE"], expected)


def si_method(name):
    from spikeinterface.sortingcomponents.peak_localization import peak_localization_methods

    return peak_localization_methods[name]


def test_a_parent_whose_waveforms_are_asked_for_is_left_alone(recording, peaks, model, expected):
    source = PeakRetriever(recording, peaks)
    dense = ExtractDenseWaveforms(recording, parents=[source], nbefore=4, nafter=6, return_output=True)
    ours = LocalizeVAE(recording, [source, dense], model=model)
    assert type(dense) is ExtractDenseWaveforms
    waveforms, found = run_node_pipeline(recording, [source, dense, ours], QUIET, "test")
    assert waveforms.shape == (len(peaks), 10, 100)
    assert np.ptp(waveforms) > 0
    assert_same(found, expected)


# ---- refusals ----


@pytest.mark.parametrize("method", OUR_METHODS)
def test_no_probe(recording, peaks, model, method):
    bare = si.NumpyRecording([short(recording)], recording.sampling_frequency)
    with pytest.raises(InputError, match="100 channels has no probe.*set_probe"):
        localize(bare, first_peaks(peaks), model if method == "vae" else None, method=method)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_one_channel(recording, peaks, model, method):
    one = recording.select_channels(recording.channel_ids[:1])
    with pytest.raises(InputError, match="at least 2 contacts, this recording has 1|only 1 contacts"):
        localize(one, peaks[peaks["channel_index"] == 0], model if method == "vae" else None, method=method)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_no_peaks(recording, peaks, model, method):
    with pytest.raises(InputError, match="no peaks to localize"):
        localize(recording, peaks[:0], model if method == "vae" else None, method=method)


def test_too_few_peaks_to_fit(recording, peaks):
    for few in (peaks[:1], peaks[:49]):
        with pytest.raises(InputError, match=f"at least 50 spikes, got {len(few)}"):
            si_neuroml.fit_localizer(recording, few, progress_bar=False)
        with pytest.raises(InputError, match="at least 50 spikes"), pytest.warns(UserWarning, match="no model"):
            localize(recording, few)


def changed(peaks, **values):
    found = peaks.copy()
    for name, value in values.items():
        found[name][3] = value
    return found


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sample_index": 10**9}, "1 of .* peaks lie outside their segment .*sample 1000000000 in segment 0"),
        ({"sample_index": -1}, "1 of .* peaks lie outside their segment .*sample -1 in segment 0"),
        ({"channel_index": 100}, r"1 of .* peaks have a channel_index outside 0\.\.99 .*100 channels.*example 100"),
        ({"channel_index": -1}, r"channel_index outside 0\.\.99.*example -1"),
        ({"segment_index": 1}, r"segment_index outside 0\.\.0"),
    ],
)
def test_peaks_of_another_recording(recording, peaks, model, values, message):
    for method in OUR_METHODS:
        with pytest.raises(InputError, match=message):
            localize(recording, changed(peaks, **values), model if method == "vae" else None, method=method)
    with pytest.raises(InputError, match=message):
        si_neuroml.fit_localizer(recording, changed(peaks, **values), progress_bar=False)


def test_unsorted_peaks(recording, peaks, model):
    with pytest.raises(InputError, match="must be sorted by segment and sample; .*lexsort"):
        localize(recording, peaks[::-1], model)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_peaks_that_are_no_peaks(recording, peaks, model, method):
    given = model if method == "vae" else None
    with pytest.raises(InputError, match="structured array as detect_peaks"):
        localize(recording, peaks["sample_index"], given, method=method)
    with pytest.raises(InputError, match=r"fields \['channel_index'\] are missing"):
        localize(recording, peaks[["sample_index", "segment_index"]], given, method=method)


def test_wrong_sampling_rate(recording, peaks, model):
    other = numpy_recording(short(recording), recording, sampling_frequency=30_000.0)
    with pytest.raises(ModelMismatchError, match="fitted at 32000 Hz, this recording has 30000 Hz.*[Rr]esample"):
        localize(other, first_peaks(peaks), model)


def test_wrong_window(recording, peaks, model, expected):
    assert_same(localize(recording, peaks, model, method_kwargs={"ms_before": 0.5, "ms_after": 0.7}), expected)
    with pytest.raises(ModelMismatchError, match=r"ms_before=0\.5 ms, asked for 1 ms"):
        localize(recording, peaks, model, method_kwargs={"ms_before": 1.0})


@pytest.mark.parametrize("factor", [0.5, 1.2, 1.5, 2.0])
def test_another_probe_pitch(recording, peaks, model, factor):
    probe = own_probe(recording)
    probe.contact_positions[:] *= factor
    other = numpy_recording(short(recording), recording, probe=probe)
    with pytest.raises(ModelMismatchError, match="Fit a model|fit a model"):
        localize(other, first_peaks(peaks), model)


def test_device(recording, peaks, model, expected):
    import torch

    with pytest.raises(InputError, match='device must be "auto", "cpu" or "cuda", got \'gpu\''):
        localize(recording, peaks, model, method_kwargs={"device": "gpu"})
    if torch.cuda.is_available():
        found = localize(recording, peaks, model, method_kwargs={"device": "cuda"})
        assert_close(found, expected, atol=0.05)
    else:
        with pytest.raises(InputError, match="torch sees no CUDA device"):
            localize(recording, peaks, model, method_kwargs={"device": "cuda"})
        assert_same(localize(recording, peaks, model, method_kwargs={"device": "auto"}), expected)


def test_a_model_of_another_kind_or_nothing_at_all(recording, peaks, tmp_path):
    with pytest.raises(ModelFileError, match="no model folder"):
        localize(recording, peaks, tmp_path / "missing")
    with pytest.raises(InputError, match="must be a model, a model folder"):
        localize(recording, peaks, 5)


# ---- odd traces ----


def test_a_channel_of_nan_counts_as_missing(recording, peaks, model):
    traces, dead = short(recording), 45
    traces[:, dead] = np.nan
    own = first_peaks(peaks)
    found = localize(numpy_recording(traces, recording), own, model)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    kept = own["channel_index"] != dead
    fewer = numpy_recording(short(recording), recording).remove_channels([dead])
    moved = own[kept].copy()
    moved["channel_index"] -= moved["channel_index"] > dead
    assert_same(localize(fewer, moved, model), found[kept])
    baseline = localize(numpy_recording(traces, recording), own, method="center_of_mass_nearest")
    assert np.isfinite(fields(baseline)).all()


def test_all_traces_nan(recording, peaks, model):
    broken = numpy_recording(np.full((16_000, 100), np.nan, dtype="float32"), recording)
    own = first_peaks(peaks)
    found = localize(broken, own, model)
    np.testing.assert_allclose(fields(found, "xy"), recording.get_channel_locations()[own["channel_index"]])
    with pytest.raises(TrainingError, match="constant or not finite"):
        si_neuroml.fit_localizer(broken, own, progress_bar=False)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_traces(recording, peaks, model, value):
    flat = numpy_recording(np.full((16_000, 100), value, dtype="float32"), recording)
    own = first_peaks(peaks)
    for given, method in ((model, "vae"), (None, "center_of_mass_nearest")):
        found = localize(flat, own, given, method=method)
        assert np.isfinite(fields(found)).all()
        if method == "vae" or value == 0:
            np.testing.assert_allclose(fields(found, "xy"), recording.get_channel_locations()[own["channel_index"]])
    with pytest.raises(TrainingError, match=f"Only 0 of {len(own)} spikes have a trough"):
        si_neuroml.fit_localizer(flat, own, progress_bar=False)


def test_integers_with_gains_and_offsets(recording, peaks, model):
    microvolts, own = short(recording), first_peaks(peaks)
    gain, offset = 0.05, 37.0
    raw = np.round((microvolts - offset) / gain).astype("int16")
    integers = numpy_recording(raw, recording)
    integers.set_channel_gains(gain)
    integers.set_channel_offsets(offset)
    # the zeros that SpikeInterface adds beyond the ends are 0 uV, not the offset
    own = np.concatenate([own[:1], own, own[-1:]])
    own["sample_index"][[0, -1]] = 0, len(raw) - 1
    scaled = numpy_recording(raw.astype("float32") * np.float32(gain) + np.float32(offset), recording)
    original = numpy_recording(microvolts, recording)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = localize(integers, own, model)
    assert_close(found, localize(scaled, own, model), atol=1e-2)
    off = np.linalg.norm(fields(found, "xy") - fields(localize(original, own, model), "xy"), axis=1)
    assert np.median(off) < 0.1
    baseline = localize(integers, own, method="center_of_mass_nearest")
    assert_close(baseline, localize(original, own, method="center_of_mass_nearest"), atol=1.0)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float64", "float16", ">i2", ">f4"])
def test_any_dtype_of_traces(recording, peaks, model, dtype):
    shift = 32768.0 if dtype == "uint16" else 0.0
    steps, own = np.round(short(recording)), first_peaks(peaks)
    other = numpy_recording((steps + shift).astype(dtype), recording)
    other.set_channel_gains(1.0)
    other.set_channel_offsets(-shift)
    for method, given in (("vae", model), ("center_of_mass_nearest", None)):
        expected = localize(numpy_recording(steps, recording), own, given, method=method)
        assert_close(localize(other, own, given, method=method), expected, atol=1e-3)


def test_integers_without_gains_warn(recording, peaks, model):
    raw = numpy_recording(np.round(short(recording)).astype("int16"), recording)
    with pytest.warns(UserWarning, match="int16 without gains"):
        localize(raw, first_peaks(peaks), model)


# ---- segments, shanks, channels, probes ----


def test_segments_equal_each_alone(recording, peaks, model):
    one, two = short(recording, 16_000), recording.get_traces(start_frame=32_000, end_frame=56_000)
    both = numpy_recording([one, two], recording)
    own = [first_peaks(peaks), peaks[(peaks["sample_index"] >= 32_000) & (peaks["sample_index"] < 56_000)].copy()]
    own[1]["sample_index"] -= 32_000
    joined = np.concatenate(own)
    joined["segment_index"][len(own[0]) :] = 1
    for method, given in (("vae", model), ("center_of_mass_nearest", None)):
        alone = [
            localize(numpy_recording(traces, recording), part, given, method=method)
            for traces, part in zip((one, two), own, strict=True)
        ]
        for job_kwargs in ({}, {"chunk_duration": "0.1s"}):
            assert_same(localize(both, joined, given, method=method, **job_kwargs), np.concatenate(alone))


@pytest.mark.parametrize("method", OUR_METHODS)
def test_shanks_do_not_see_each_other(recording, peaks, model, method):
    probe = own_probe(recording)
    second = probe.contact_positions[:, 0] > 0
    probe.set_shank_ids(np.where(second, "b", "a"))
    given = model if method == "vae" else None
    own = first_peaks(peaks)
    own = own[~second[own["channel_index"]]]
    quiet, loud = short(recording), short(recording)
    loud[:, second] += np.random.default_rng(0).normal(scale=300.0, size=loud[:, second].shape)
    one, two = (
        localize(numpy_recording(traces, recording, probe=probe), own, given, method=method) for traces in (quiet, loud)
    )
    assert_same(one, two)
    together = localize(numpy_recording(loud, recording), own, given, method=method)
    assert (together["x"] != one["x"]).any()


def test_string_channel_ids(recording, peaks, model, expected):
    renamed = recording.rename_channels([f"ch {index}" for index in range(100)])
    assert_same(localize(renamed, peaks, model), expected)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_order_of_channels_changes_nothing(recording, peaks, model, method):
    order = np.random.default_rng(0).permutation(100)
    shuffled = recording.select_channels(recording.channel_ids[order])
    moved = peaks.copy()
    moved["channel_index"] = np.argsort(order)[peaks["channel_index"]]
    given = model if method == "vae" else None
    found, before = localize(shuffled, moved, given, method=method), localize(recording, peaks, given, method=method)
    if method == "vae":
        assert_same(found, before)
    else:
        # ties between equally distant channels are cut by their order, so only full neighbourhoods must agree
        inside = np.abs(recording.get_channel_locations()[peaks["channel_index"]]).max(axis=1) < 60.0
        assert_close(found[inside], before[inside], atol=1e-6)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_places_move_with_the_probe(recording, peaks, model, method):
    shift = np.array([1234.5, -6789.25])
    probe = own_probe(recording)
    probe.move(shift)
    own, given = first_peaks(peaks), model if method == "vae" else None
    moved = localize(numpy_recording(short(recording), recording, probe=probe), own, given, method=method)
    still = localize(numpy_recording(short(recording), recording), own, given, method=method)
    np.testing.assert_allclose(fields(moved, "xy") - fields(still, "xy"), np.tile(shift, (len(own), 1)), atol=1e-3)
    np.testing.assert_array_equal(moved["z"], still["z"])


def test_removed_channels(recording, peaks, model, expected):
    gone = [0, 13, 44, 45, 99]
    fewer = recording.remove_channels(recording.channel_ids[gone])
    left = np.setdiff1d(np.arange(100), gone)
    kept = ~np.isin(peaks["channel_index"], gone)
    moved = peaks[kept].copy()
    moved["channel_index"] = np.searchsorted(left, moved["channel_index"])
    found = localize(fewer, moved, model)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    contacts = recording.get_channel_locations()
    reach = np.abs(contacts[peaks["channel_index"][kept]][:, None] - contacts[gone][None]).max(axis=2).min(axis=1)
    assert_same(found[reach > 20], expected[kept][reach > 20])


def test_probe_in_three_dimensions(recording, peaks, model, expected):
    own = first_peaks(peaks)
    flat = own_probe(recording).to_3d(axes="xy")
    flat.set_device_channel_indices(np.arange(100))
    found = localize(numpy_recording(short(recording), recording, probe=flat), own, model)
    assert_close(found, localize(numpy_recording(short(recording), recording), own, model), atol=1e-4)

    standing = own_probe(recording).to_3d(axes="xz")
    standing.set_device_channel_indices(np.arange(100))
    upright = numpy_recording(recording.get_traces(), recording, probe=standing)
    with pytest.raises(ModelMismatchError, match="Fit a model"):
        localize(upright, peaks, model)
    fitted = si_neuroml.fit_localizer(upright, peaks, progress_bar=False, **FAST_FIT)
    found = localize(upright, peaks, fitted)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    centre = standing.contact_positions[peaks["channel_index"]]
    assert np.median(np.linalg.norm(fields(found, "xz") - centre[:, [0, 2]], axis=1)) < 40.0


def test_irregular_probe_fits_and_localizes(recording, peaks):
    probe = own_probe(recording)
    probe.contact_positions[:] += np.random.default_rng(0).uniform(-4, 4, size=(100, 2))
    other = numpy_recording(recording.get_traces(), recording, probe=probe)
    fitted = si_neuroml.fit_localizer(other, peaks, progress_bar=False, **FAST_FIT)
    assert fitted.layout == "nearest"
    found = localize(other, peaks, fitted)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    assert_same(localize(other, peaks, fitted, chunk_duration="0.1s"), found)
    with pytest.raises(ModelMismatchError, match="irregular probe"):
        localize(recording, peaks, fitted)
