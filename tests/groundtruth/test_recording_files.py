"""Cached recordings and files of MEArec: whole, or not at all."""

import json
import shutil

import h5py
import numpy as np
import pytest
from truth_helpers import SHORT, without_mearec

from si_neuroml.errors import InputError, MissingDependencyError
from si_neuroml.groundtruth import (
    derive_seeds,
    generate_mearec_recording,
    read_mearec_ground_truth,
    select_cells,
)


def test_cache(tmp_path, monkeypatch):
    pytest.importorskip("MEArec")
    options = {**SHORT, "duration": 0.5, "cache_folder": tmp_path}
    recording, sorting = generate_mearec_recording(**options)
    (entry,) = tmp_path.iterdir()
    assert entry.name.startswith("square_mea-")
    assert json.loads((entry / "ground_truth.json").read_text())["parameters"]["duration"] == 0.5
    traces, spikes = recording.get_traces().copy(), sorting.to_spike_vector().copy()

    with monkeypatch.context() as patch:
        without_mearec(patch)
        loaded, loaded_sorting = generate_mearec_recording(**options)
        assert np.array_equal(loaded.get_traces(return_in_uV=True), traces)
        assert np.array_equal(loaded.get_channel_locations(), recording.get_channel_locations())
        assert np.array_equal(loaded_sorting.to_spike_vector(), spikes)
        for key in ("gt_unit_locations", "gt_depth_um", "cell_type", "cell_model", "gt_rotation", "gt_template_index"):
            assert np.array_equal(loaded_sorting.get_property(key), sorting.get_property(key)), key
        with pytest.raises(MissingDependencyError, match=r"si-neuroml\[groundtruth\]"):
            generate_mearec_recording(**options | {"noise_level": 11.0})
        with pytest.raises(MissingDependencyError):
            generate_mearec_recording(**options, overwrite=True)

    # every kind of damage: cut short, changed, without manifest, emptied
    raw = next((entry / "recording").glob("*.raw"))
    spike_file = next((entry / "sorting").rglob("spikes.npy"))
    content = spike_file.read_bytes()
    damages = [
        lambda: raw.write_bytes(raw.read_bytes()[:-4]),
        lambda: spike_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1])),
        lambda: (entry / "ground_truth.json").unlink(),
        lambda: (entry / "ground_truth.json").write_text("{"),
    ]
    for damage in damages:
        damage()
        mended, mended_sorting = generate_mearec_recording(**options)
        assert np.array_equal(mended.get_traces(), traces)
        assert np.array_equal(mended_sorting.to_spike_vector(), spikes)
        assert list(tmp_path.iterdir()) == [entry]


def test_interrupted_save_leaves_no_entry(tmp_path, monkeypatch):
    pytest.importorskip("MEArec")
    from spikeinterface.core import NumpySorting

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NumpySorting, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate_mearec_recording(**SHORT | {"duration": 0.5}, cache_folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_cache_folder_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        generate_mearec_recording(cache_folder=tmp_path / "file")


def test_read_mearec_ground_truth(tmp_path, square):
    mearec = pytest.importorskip("MEArec")
    from si_neuroml.groundtruth.mearec_run import mearec_parameters

    cells = select_cells(square, 6, 2, seed=1)
    part = square.take(cells)
    settings = {
        "num_excitatory": 6,
        "num_inhibitory": 2,
        "duration": 1.0,
        "excitatory_rate_hz": 5.0,
        "inhibitory_rate_hz": 15.0,
        "amplitude_modulation": "none",
        "amplitude_sd": 0.0,
        "noise_level": 1.0,
        "noise_mode": "uncorrelated",
        "far_neurons_max_amp_uv": 10.0,
        "seeds": derive_seeds(0),
    }
    generator = mearec.TemplateGenerator(
        temp_dict={
            "templates": part.waveforms,
            "locations": part.locations,
            "rotations": part.rotations,
            "celltypes": part.cell_models,
        },
        info={"params": part.params["near"], "electrodes": part.electrodes},
    )
    made = mearec.gen_recordings(
        params=mearec_parameters(settings, 0, 32_000.0), tempgen=generator, tmp_mode=None, verbose=False
    )
    path = tmp_path / "recording.h5"
    mearec.save_recording_generator(made, path)

    recording, sorting = read_mearec_ground_truth(path)
    assert np.allclose(sorting.get_property("gt_unit_locations"), np.roll(made.template_locations, -1, axis=1))
    assert np.allclose(sorting.get_property("gt_rotation"), made.template_rotations)
    assert list(sorting.get_property("cell_model")) == list(made.template_celltypes)
    assert list(sorting.get_property("cell_type")) == ["E"] * 6 + ["I"] * 2
    assert np.array_equal(cells[sorting.get_property("gt_template_index")], cells[made.template_ids])
    assert np.allclose(recording.get_traces(return_in_uV=True), made.recordings, atol=1e-3)
    for unit, train in zip(sorting.unit_ids, made.spiketrains, strict=True):
        assert np.allclose(sorting.get_unit_spike_train(unit), train.times.magnitude * 32_000, atol=1)

    drifting = tmp_path / "drifting.h5"
    shutil.copy(path, drifting)  # the recording above still reads the first
    with h5py.File(drifting, "a") as file:
        places = file["template_locations"][:]
        del file["template_locations"]
        file["template_locations"] = np.repeat(places[:, None], 3, axis=1)
    with pytest.raises(InputError, match="drift"):
        read_mearec_ground_truth(drifting)


def test_read_mearec_ground_truth_errors(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="No MEArec recording"):
        read_mearec_ground_truth(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(InputError, match="not a readable HDF5"):
        read_mearec_ground_truth(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["thing"] = 1
    with pytest.raises(InputError, match="found: thing"):
        read_mearec_ground_truth(tmp_path / "other.h5")
