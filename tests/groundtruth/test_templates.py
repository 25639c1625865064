"""Cells with known places: the shipped templates, other files, and the draw of cells."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from si_neuroml.errors import InputError
from si_neuroml.groundtruth import (
    cell_type_of_model,
    join_templates,
    list_probes,
    load_probe_templates,
    mearec_to_si_axes,
    read_templates,
    select_background,
    select_cells,
)


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
