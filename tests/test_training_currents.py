"""The file of transmembrane currents: what is written comes back, and the cells in it conserve charge."""

from dataclasses import replace

import numpy as np
import pytest

from training.currents import CURRENTS_PATH, CellCurrents, current_step, load_currents, write_currents


@pytest.fixture
def cell():
    """A made-up cell of 40 segments whose currents span five orders of magnitude and sum to 0.25 nA."""
    rng = np.random.default_rng(7)
    start = rng.normal(scale=80, size=(40, 3)).astype(np.float32)
    wave = np.cumsum(rng.normal(size=(2, 40, 224)), axis=2) * np.logspace(-5, 0, 40)[:, None]
    wave[:, 3] += 0.25 - wave.sum(axis=1)
    return CellCurrents(
        start=start,
        end=start + rng.normal(scale=8, size=(40, 3)).astype(np.float32),
        diameter_um=rng.uniform(0.3, 12, 40).astype(np.float32),
        soma=3,
        currents_na=wave.astype(np.float32),
        sampling_frequency=16000.0,
        spike_sample=60,
    )


@pytest.fixture(scope="module")
def shipped():
    return load_currents()


def test_write_then_load_gives_the_cell_back(cell, tmp_path):
    path = tmp_path / "new" / "currents.npz"
    write_currents(path, {"b": cell, "a": replace(cell, soma=5)})
    read = load_currents(path)

    assert list(read) == ["a", "b"]
    assert read["a"].soma == 5
    back = read["b"]
    for name in ("start", "end", "diameter_um"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cell, name))
        assert getattr(back, name).dtype == np.float32
    assert (back.soma, back.sampling_frequency, back.spike_sample) == (3, 16000.0, 60)
    assert [file.name for file in path.parent.iterdir()] == ["currents.npz"]


def test_currents_are_right_to_a_step_and_their_sum_to_half_a_step(cell, tmp_path):
    path = tmp_path / "currents.npz"
    write_currents(path, {"cell": cell})
    back = load_currents(path)["cell"].currents_na

    step = current_step(cell.currents_na)
    assert step <= 2**-21 * np.abs(cell.currents_na).max()
    assert back.dtype == np.float32
    assert np.abs(back - cell.currents_na).max() <= 1.001 * step
    lost = back.sum(axis=1, dtype=np.float64) - cell.currents_na.sum(axis=1, dtype=np.float64)
    assert np.abs(lost).max() <= 0.501 * step


def test_writing_again_what_was_read_loses_nothing(cell, tmp_path):
    write_currents(tmp_path / "one.npz", {"cell": cell})
    write_currents(tmp_path / "two.npz", load_currents(tmp_path / "one.npz"))
    assert (tmp_path / "two.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()


def test_missing_file_names_the_recipe(tmp_path):
    with pytest.raises(FileNotFoundError, match="training.extract_currents"):
        load_currents(tmp_path / "nothing.npz")


def test_foreign_file_is_refused(tmp_path):
    np.savez(tmp_path / "foreign.npz", currents=np.zeros(3))
    with pytest.raises(ValueError, match="not a file of transmembrane currents"):
        load_currents(tmp_path / "foreign.npz")


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_currents_that_cannot_be_stored_leave_the_old_file(cell, tmp_path, value):
    path = tmp_path / "currents.npz"
    write_currents(path, {"cell": cell})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="largest current"):
        write_currents(path, {"cell": replace(cell, currents_na=np.full((1, 40, 8), value))})
    assert path.read_bytes() == before


def test_shipped_file_holds_thirteen_spiking_cells(shipped):
    assert len(shipped) == 13
    assert CURRENTS_PATH.stat().st_size < 5e6
    for model, cell in shipped.items():
        assert model.startswith("L5_")
        segments = len(cell.start)
        assert cell.start.shape == cell.end.shape == (segments, 3)
        assert cell.diameter_um.shape == (segments,)
        assert cell.currents_na.shape == (2, segments, 224)
        np.testing.assert_allclose(cell.start[cell.soma], -cell.end[cell.soma], atol=1e-4)
        # Sodium rushes into the cell just before the potential peaks.
        trough = cell.currents_na.sum(axis=1, where=cell.currents_na < 0).argmin(axis=1)
        assert np.all(np.abs(trough - cell.spike_sample) <= 4)


def test_shipped_currents_conserve_charge(shipped):
    for cell in shipped.values():
        total = cell.currents_na.sum(axis=1, dtype=np.float64)
        step = current_step(cell.currents_na)
        # All that does not cancel is the stimulus, which is the same at every sample.
        assert np.abs(total - np.median(total)).max() <= 2 * step
        assert np.isclose(np.median(total), 0.25, atol=step) or np.isclose(np.median(total), 0.0625, atol=step)
