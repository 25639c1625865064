"""The truth that comes with simulated recordings: is it where, when and what it says?"""

import json
import shutil
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from si_neuroml.errors import InputError, MissingDependencyError
from si_neuroml.groundtruth import (
    cell_type_of_model,
    derive_seeds,
    generate_mearec_recording,
    join_templates,
    list_probes,
    load_probe_templates,
    mearec_to_si_axes,
    read_mearec_ground_truth,
    read_templates,
    select_background,
    select_cells,
)

SHORT = {"duration": 2.0, "num_excitatory": 6, "num_inhibitory": 2, "noise_mode": "uncorrelated", "seed": 3}


@pytest.fixture(scope="module")
def square():
    return load_probe_templates("square_mea")


@pytest.fixture(scope="module")
def quiet():
    """Little noise, no variation, no filter: what is left of each spike is its template."""
    pytest.importorskip("MEArec")
    options = SHORT | {"duration": 5.0, "noise_level": 0.5, "amplitude_modulation": "none", "filter_band_hz": None}
    return generate_mearec_recording(**options)


def without_mearec(monkeypatch):
    monkeypatch.setitem(sys.modules, "MEArec", None)


def spike_average(recording, sorting, unit, before, after):
    traces = recording.get_traces(return_in_uV=True)
    frames = sorting.get_unit_spike_train(unit)
    frames = frames[(frames >= before) & (frames < len(traces) - after)]
    return np.mean([traces[frame - before : frame + after] for frame in frames], axis=0)


# ---- templates


@pytest.mark.parametrize("probe", list_probes())
def test_shipped_templates(probe):
    templates = load_probe_templates(probe)
    assert templates.waveforms.dtype == np.float32
    assert templates.sampling_frequency == 32_000
    assert templates.waveforms.shape[2] == 224
    assert len(set(templates.cell_models)) == 13
    assert set(templates.cell_types) == {"E", "I"}
    assert np.all(templates.amplitudes_uv[~templates.is_far] > 29.9)
    assert np.sum(templates.amplitudes_uv < 10) >= 300
    troughs = templates.waveforms.min(axis=1).argmin(axis=1)
    assert np.all(np.abs(troughs[~templates.is_far] - 64) <= 1)
    assert "CC BY-NC-SA" in templates.licence
    drawn = {tuple(select_cells(templates, 40, 10, seed=seed)) for seed in range(20)}
    assert len(drawn) == 20


def test_select_cells_keeps_its_promises(square):
    cells = select_cells(square, 40, 10, min_distance_um=20.0, seed=5)
    assert list(square.cell_types[cells]) == ["E"] * 40 + ["I"] * 10
    distances = np.linalg.norm(square.locations[cells][:, None] - square.locations[cells][None], axis=2)
    assert distances[~np.eye(50, dtype=bool)].min() >= 20.0
    assert np.all((square.amplitudes_uv[cells] > 50) & (square.amplitudes_uv[cells] < 300))
    assert np.array_equal(cells, select_cells(square, 40, 10, min_distance_um=20.0, seed=5))
    others = select_cells(square, 20, 10, exclude=cells, seed=5)
    assert not set(cells) & set(others)


def test_select_cells_says_why_not(square):
    with pytest.raises(InputError, match=r"200 excitatory cells asked for, but only 77 of the 112 near"):
        select_cells(square, 200, 0)
    with pytest.raises(InputError, match=r"cannot be placed 80 um apart: the best of 100 draws held \d+ and \d+"):
        select_cells(square, 40, 10, min_distance_um=80.0)
    with pytest.raises(InputError, match="outside 0 to 714"):
        select_cells(square, 4, 1, exclude=[715])


def test_select_background(square):
    cells = select_cells(square, 4, 1)
    background = select_background(square, cells, max_number=50)
    assert len(set(background)) == 50
    assert np.all(square.amplitudes_uv[background] < 10)
    assert 300 < len(select_background(square, cells, max_number=10_000)) <= np.sum(square.amplitudes_uv < 10)
    with pytest.raises(InputError, match=r"below 0\.1 uV, and the smallest of the 715"):
        select_background(square, cells, max_amplitude_uv=0.1)


def test_cell_types_and_axes():
    assert [cell_type_of_model(name) for name in ("L5_TTPC1_cADpyr232_1", "L5_BP_bAC217_1", "thing")] == ["E", "I", "U"]
    assert mearec_to_si_axes([1.0, 2.0, 3.0]).tolist() == [2.0, 3.0, 1.0]
    with pytest.raises(InputError, match="Unknown contact plane"):
        mearec_to_si_axes([1.0, 2.0, 3.0], plane="zy")
    with pytest.raises(InputError, match="3 coordinates"):
        mearec_to_si_axes([1.0, 2.0])


def test_template_files_of_mearec(tmp_path, square):
    """What MEArec's own writer leaves, and joining two of them."""
    mearec = pytest.importorskip("MEArec")
    part = square.take(np.arange(5))
    generator = mearec.TemplateGenerator(
        temp_dict={
            "templates": part.waveforms,
            "locations": part.locations,
            "rotations": part.rotations,
            "celltypes": part.cell_models,
        },
        info={"params": part.params["near"], "electrodes": part.electrodes},
    )
    mearec.save_template_generator(generator, tmp_path / "five.h5", verbose=False)
    read = read_templates(tmp_path / "five.h5")
    assert np.array_equal(read.waveforms, part.waveforms)
    assert np.array_equal(read.locations, part.locations)
    assert list(read.cell_models) == list(part.cell_models)
    assert np.allclose(read.channel_positions, square.channel_positions)
    assert join_templates([read, part]).num_cells == 10
    with pytest.raises(InputError, match="different probes"):
        join_templates([read, replace(part, channel_positions=part.channel_positions + 1)])
    with pytest.raises(InputError, match="differ"):
        join_templates([read, load_probe_templates("neuropixels_64")])
    with pytest.raises(InputError, match="Drifting"):
        replace(part, waveforms=part.waveforms[:, None])


def test_template_file_errors(tmp_path):
    with pytest.raises(InputError, match="No template file"):
        read_templates(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(InputError, match="not a readable HDF5"):
        read_templates(tmp_path / "text.h5")
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(InputError, match="no template file"):
        read_templates(tmp_path / "empty.h5")


# ---- recordings


def test_recording_has_what_it_says(mearec_small):
    recording, sorting = mearec_small
    assert recording.get_num_channels() == 100
    assert recording.get_sampling_frequency() == 32_000
    assert recording.get_total_duration() == pytest.approx(10.0)
    assert recording.is_filtered()
    assert recording.has_scaleable_traces()
    assert recording.get_dtype() == "float32"
    assert list(sorting.get_property("cell_type")) == ["E"] * 16 + ["I"] * 4
    assert sorting.get_property("gt_unit_locations").shape == (20, 3)
    assert np.array_equal(sorting.get_property("gt_depth_um"), sorting.get_property("gt_unit_locations")[:, 2])
    assert sorting.get_property("gt_rotation").shape == (20, 3)
    assert all(name.startswith("L5_") for name in sorting.get_property("cell_model"))
    # 16 cells at 5 Hz and 4 at 15 Hz
    assert sorting.count_total_num_spikes() == pytest.approx(1400, rel=0.15)


def test_channels_lie_as_in_the_templates(mearec_small, square):
    recording, _ = mearec_small
    assert np.allclose(recording.get_channel_locations(), square.channel_positions[:, 1:])


def test_places_are_in_the_axes_of_the_probe(quiet):
    """The lowest channel is close to the soma; with x and y exchanged, it would not be."""
    recording, sorting = quiet
    places = sorting.get_property("gt_unit_locations")[:, :2]
    contacts = recording.get_channel_locations()
    averages = [spike_average(recording, sorting, unit, 32, 32) for unit in sorting.unit_ids]
    lowest = contacts[[average.min(axis=0).argmin() for average in averages]]
    # A soma may lie up to 30 um outside: compare with the nearest contact there could be.
    inside = np.clip(places, contacts.min(axis=0), contacts.max(axis=0))
    distance = np.linalg.norm(lowest - inside, axis=1)
    assert np.median(distance) < 20
    assert np.median(np.linalg.norm(lowest - inside[:, ::-1], axis=1)) > 1.5 * np.median(distance)
    assert np.median(np.linalg.norm(lowest - np.roll(inside, 1, axis=0), axis=1)) > 1.5 * np.median(distance)
    assert np.all(sorting.get_property("gt_depth_um") > 9)


@pytest.mark.parametrize("rate", [None, 30_000.0])
def test_spikes_are_the_templates_at_the_right_time(quiet, square, rate):
    if rate is None:
        recording, sorting = quiet
    else:
        options = SHORT | {"noise_level": 0.0, "amplitude_modulation": "none", "filter_band_hz": None}
        recording, sorting = generate_mearec_recording(**options, sampling_frequency=rate)
        assert recording.get_sampling_frequency() == rate
    for unit, index in zip(sorting.unit_ids, sorting.get_property("gt_template_index"), strict=True):
        average = spike_average(recording, sorting, unit, 16, 32)
        template = square.waveforms[index]
        channel = template.min(axis=1).argmin()
        assert average.min() == pytest.approx(template.min(), rel=0.25)
        assert abs(average[:, channel].argmin() - 16) <= 2
        if rate is None:
            correlation = np.corrcoef(average[:, channel], template[channel, 64 - 16 : 64 + 32])[0, 1]
            assert correlation > 0.95


def test_seed_tells_all():
    pytest.importorskip("MEArec")
    options = {**SHORT, "duration": 1.0, "noise_mode": "far-neurons", "far_neurons_n": 5}
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    (first, first_truth), (again, again_truth) = (generate_mearec_recording(**options) for _ in range(2))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert np.array_equal(first.get_traces(), again.get_traces())
    assert np.array_equal(first_truth.to_spike_vector(), again_truth.to_spike_vector())
    other, other_truth = generate_mearec_recording(**options | {"seed": 4})
    assert not np.array_equal(first.get_traces(), other.get_traces())
    key = "gt_unit_locations"
    assert not np.array_equal(first_truth.get_property(key), other_truth.get_property(key))
    _, third_truth = generate_mearec_recording(**options, spiketrain_seed=1)
    assert np.array_equal(first_truth.get_property(key), third_truth.get_property(key))
    assert not np.array_equal(first_truth.to_spike_vector(), third_truth.to_spike_vector())


def test_derive_seeds():
    assert derive_seeds(0) == derive_seeds(0) != derive_seeds(1)
    assert len(set(derive_seeds(0).values())) == 4
    for bad in (-1, 2**32, 1.5, True):
        with pytest.raises(InputError, match="whole number"):
            derive_seeds(bad)


@pytest.mark.parametrize("noise_mode", ["uncorrelated", "distance-correlated", "far-neurons"])
def test_noise_is_as_asked_and_moves_no_cell(noise_mode):
    """Places and spikes stay at any level, and noise is added to the same clean traces."""
    pytest.importorskip("MEArec")
    options = SHORT | {"duration": 1.0, "noise_mode": noise_mode, "filter_band_hz": None, "far_neurons_n": 5}
    clean, truth = generate_mearec_recording(**options | {"noise_level": 0.0})
    for level in (10.0, 30.0):
        noisy, noisy_truth = generate_mearec_recording(**options | {"noise_level": level})
        assert np.array_equal(truth.get_property("gt_unit_locations"), noisy_truth.get_property("gt_unit_locations"))
        assert np.array_equal(truth.to_spike_vector(), noisy_truth.to_spike_vector())
        spread = (noisy.get_traces() - clean.get_traces()).std(axis=0)
        assert np.median(spread) == pytest.approx(level, rel=0.1)


def test_filter_is_applied_once():
    pytest.importorskip("MEArec")
    from scipy.signal import butter, sosfiltfilt

    options = SHORT | {"duration": 1.0}
    raw, _ = generate_mearec_recording(**options, filter_band_hz=None)
    filtered, _ = generate_mearec_recording(**options)
    sections = butter(3, [300, 6000], btype="bandpass", fs=32_000, output="sos")
    assert np.allclose(filtered.get_traces(), sosfiltfilt(sections, raw.get_traces(), axis=0), atol=1e-2)
    assert filtered.is_filtered()
    assert not raw.is_filtered()


def test_neuropixels():
    pytest.importorskip("MEArec")
    options = SHORT | {"duration": 1.0, "min_amplitude_uv": 30.0, "max_amplitude_uv": None}
    recording, sorting = generate_mearec_recording("neuropixels_64", **options)
    assert recording.get_num_channels() == 64
    assert sorting.get_num_units() == 8


def test_prints_nothing(capfd):
    pytest.importorskip("MEArec")
    generate_mearec_recording(**SHORT | {"duration": 0.5})
    assert capfd.readouterr() == ("", "")


# ---- cache


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


# ---- files of MEArec


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


# ---- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe": "tetrode"}, "Unknown probe 'tetrode'. Known: neuropixels_64, square_mea"),
        ({"duration": -1.0}, "duration must be above 0, got -1"),
        ({"duration": float("nan")}, "duration must be a finite number"),
        ({"noise_level": -1.0}, "noise_level must not be negative"),
        ({"noise_mode": "pink"}, "Unknown noise_mode 'pink'"),
        ({"amplitude_modulation": "some"}, "Unknown amplitude_modulation"),
        ({"num_excitatory": 0, "num_inhibitory": 0}, "at least one cell"),
        ({"num_excitatory": 500}, "500 excitatory cells asked for, but only 77"),
        ({"num_inhibitory": 500}, "500 inhibitory cells asked for, but only 139"),
        ({"min_distance_um": 100.0}, "cannot be placed 100 um apart"),
        ({"sampling_frequency": 1000.0}, "too low for spikes"),
        ({"sampling_frequency": 12_000.0}, "below half of 12000 Hz"),
        ({"filter_band_hz": (6000.0, 300.0)}, "0 < low < high"),
        ({"max_amplitude_uv": float("inf")}, "max_amplitude_uv must be a finite number"),
        ({"seed": -3}, "whole number"),
        ({"noise_seed": 0.5}, "whole number"),
        ({"templates": "nowhere.h5"}, "No template file"),
    ],
)
def test_refusals_come_early(monkeypatch, options, message):
    without_mearec(monkeypatch)  # none of them needs MEArec
    with pytest.raises(InputError, match=message):
        generate_mearec_recording(**options)
