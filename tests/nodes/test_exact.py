"""The same to the last bit in every pool, and the one output of all localizers."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import OUR_METHODS, assert_same, fields, localize
from threadpoolctl import threadpool_limits

import si_neuroml
from si_neuroml.localization.settings import LOCATION_DTYPE


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


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "hurwitz2019"},
        {"preset": "hurwitz2019_code"},
        {"amplitude_jitter_uv": 10.0, "max_centers": 3, "amplitude_feature": "trough"},
        {"noise": "measured", "fit_decay": True, "peak_sign": "both"},
    ],
    ids=lambda settings: "-".join(settings.values() if "preset" in settings else settings),
)
def test_presets_and_options_fit_save_and_localize(recording, peaks, settings, tmp_path):
    model = si_neuroml.fit_localizer(recording, peaks[::3], epochs=1, progress_bar=False, **settings)
    whole = localize(recording, peaks, model)
    assert np.isfinite(fields(whole)).all()
    model.save(tmp_path / "model")
    assert_same(localize(recording, peaks, tmp_path / "model", chunk_duration="0.37s"), whole)
