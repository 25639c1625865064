"""The examples run from beginning to end, with less data than they show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# what stands in the script: what to run instead
SMALLER = {
    "01_localize_spikes": {"duration=30.0, far_neurons_n=100": "duration=4.0, far_neurons_n=20"},
    "02_detect_events": {
        "NUM_LABELLED, NUM_NEW, NUM_SILENT = 12, 6, 1": "NUM_LABELLED, NUM_NEW, NUM_SILENT = 4, 2, 1",
        "[30.0, 20.0]": "[8.0, 4.0]",
        "network=network, progress_bar=False": "network=network, progress_bar=False, training_kwargs=FEW[network]",
        "PEAK_DTYPE =": 'FEW = {"strided": {"max_epochs": 4}, "matched_filter": None}\nPEAK_DTYPE =',
    },
    "03_brain_regions": {
        "NUM_SUBJECTS, NUM_UNITS, DURATION_S = 8, 80, 120.0": "NUM_SUBJECTS, NUM_UNITS, DURATION_S = 5, 60, 60.0",
        "min_units=30": "min_units=10",
    },
    "04_cell_types": {
        "NUM_CELLS, CELLS_PER_DONOR, NEW_DONORS = 120, 5, 6": "NUM_CELLS, CELLS_PER_DONOR, NEW_DONORS = 40, 4, 2",
        '"max_epochs": 30': '"max_epochs": 1',
    },
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SMALLER)


@pytest.mark.parametrize("name", SMALLER)
def test_example(name, tmp_path):
    text = (EXAMPLES / f"{name}.py").read_text()
    for before, after in SMALLER[name].items():
        assert text.count(before) == 1, f"{before!r} is not once in the example any more"
        text = text.replace(before, after)
    script = tmp_path / f"{name}.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written = list((tmp_path / "outputs").glob("*"))
    assert any(path.suffix == ".png" for path in written)
    assert any(path.suffix == ".csv" for path in written)
