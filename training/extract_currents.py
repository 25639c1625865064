"""Simulate the membrane currents of MEArec's cell models anew: the recipe behind ``data/transmembrane_currents.npz``.

    python -m venv nrn
    nrn/bin/pip install "neuron<9" MEArec==1.11.0
    nrn/bin/pip install --no-deps LFPy==2.3.7 LFPykit
    nrn/bin/python -m training.extract_currents

from the root of the repository. A C compiler and make are needed too, for the cells' ion channels. It takes about two
minutes on one core, 1 GB of memory and 15 MB in the work folder. The si_neuroml package itself is not needed.

Each of the 13 layer-5 cell models is driven by a constant current into its soma until MEArec finds between 4 and 50
spikes in one second (NEURON, steps of 2**-5 ms, 34 degrees, from -70 mV). MEArec drops the first spike of the train;
kept are the next one and the one in the middle, which differ as adaptation goes on: 2 ms before the peak of the somatic
potential to 5 ms after it, for every segment. The simulation draws nothing at random. The models are CC BY-NC-SA 4.0
and so is the file: see LICENSES-data.md.

A model that is done lies in the work folder and is not simulated again: start an interrupted run again with the same
command, or delete the folder to start anew. The ion channels are compiled there too, so that neither another version
of NEURON nor another job can meet them, as happens in MEArec's own folder under the user's home.
"""

import argparse
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from training.currents import CURRENTS_PATH, CellCurrents, load_currents, write_currents

LOG = logging.getLogger("training.extract_currents")
ROOT = Path(__file__).resolve().parents[1]
STEP_MS = 2**-5  # that is 32 kHz
BEFORE_MS, AFTER_MS = 2, 5
SIMULATION = {
    "sim_time": 1,  # s
    "dt": STEP_MS,
    "delay": 10,  # ms before the stimulus
    "weights": [0.25, 1.75],  # nA to begin with, and times which it goes down or up until the spikes are as many as
    "target_spikes": [3, 50],
    "cut_out": [BEFORE_MS, AFTER_MS],
    "seed": 0,
}


def check_requirements() -> None:
    """Stop with one clear message if NEURON, LFPy, MEArec or the compiler is missing or of the wrong version."""
    missing = [name for name in ("neuron", "LFPy", "lfpykit", "MEArec") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"Missing: {', '.join(missing)}. In an environment of its own: "
            'pip install "neuron<9" MEArec==1.11.0 && pip install --no-deps LFPy==2.3.7 LFPykit'
        )
    if find_nrnivmodl() is None:
        raise SystemExit(f"nrnivmodl, a part of NEURON, is neither in {Path(sys.executable).parent} nor on the PATH.")
    if shutil.which("make") is None or not any(shutil.which(name) for name in ("gcc", "clang", "cc")):
        raise SystemExit("A C compiler and make are needed to compile the ion channels.")
    import neuron

    if int(neuron.__version__.split(".")[0]) >= 9:
        raise SystemExit(f"NEURON {neuron.__version__} does not run these models: pip install 'neuron<9'.")


def find_nrnivmodl() -> str | None:
    """NEURON's compiler of ion channels: the one beside this Python, or else the one on the PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("nrnivmodl", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


def prepare_models(work: Path) -> Path:
    """Copy the cell models that come with MEArec and compile their ion channels, unless that is done.

    Returns the folder of the models, with the compiled channels in ``mods`` where MEArec looks for them.
    """
    models = work / "models"
    if models.is_dir():
        return models
    import MEArec

    fresh = work / f"models.{os.getpid()}.tmp"
    shutil.copytree(Path(MEArec.__file__).parent / "cell_models" / "bbp", fresh)
    mods = fresh / "mods"
    mods.mkdir()
    # Models share channels: files of one name are the same.
    for channel in sorted(fresh.glob("*/mechanisms/*.mod")):
        shutil.copy(channel, mods)
    compiled = subprocess.run([find_nrnivmodl()], cwd=mods, capture_output=True, text=True, check=False)
    if compiled.returncode:
        raise SystemExit(f"The ion channels could not be compiled:\n{compiled.stdout}{compiled.stderr}")
    os.replace(fresh, models)
    return models


def simulate_model(folder: Path) -> CellCurrents:
    """Run one cell model and keep two of its spikes. To be called once in a process: NEURON keeps what it loaded.

    Parameters
    ----------
    folder : Path
        The cell model's folder, beside that of the compiled ion channels.
    """
    from MEArec.simulate_cells import run_cell_model

    cell, _, currents = run_cell_model(str(folder), save=False, **SIMULATION)
    ends = np.stack([cell.x, cell.y, cell.z], axis=-1)
    (soma,) = cell.somaidx
    return CellCurrents(
        start=ends[:, 0].astype(np.float32),
        end=ends[:, 1].astype(np.float32),
        diameter_um=cell.d.astype(np.float32),
        soma=int(soma),
        currents_na=currents[[0, len(currents) // 2]].astype(np.float32),
        sampling_frequency=1000 / STEP_MS,
        spike_sample=int(BEFORE_MS / STEP_MS),
    )


def simulate_apart(folder: Path, part: Path) -> None:
    """Run one cell model in a process of its own, which writes the part file."""
    command = [sys.executable, "-m", "training.extract_currents", "--one", str(folder), str(part)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # MEArec leaves with status 0 when no stimulus gave the right number of spikes.
    if done.returncode or not part.is_file():
        raise SystemExit(f"{folder.name} could not be simulated:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def extract(out: Path, work: Path) -> None:
    """Simulate what the work folder does not hold yet, then write all models to one file."""
    work.mkdir(parents=True, exist_ok=True)
    models = prepare_models(work)
    cells = {}
    for folder in sorted(models.glob("L5_*")):
        part = work / f"{folder.name}.npz"
        began = time.perf_counter()
        found = part.is_file()
        if not found:
            simulate_apart(folder, part)
        cells |= load_currents(part)
        cell = cells[folder.name]
        how = "found" if found else f"{time.perf_counter() - began:.0f} s"
        LOG.info("%s: %d segments, %.1f nA, %s", folder.name, len(cell.start), abs(cell.currents_na).max(), how)
    write_currents(out, cells)
    LOG.info("%s: %d cell models, %.1f MB", out, len(cells), out.stat().st_size / 1e6)


def main() -> None:
    """Read the command line, simulate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=CURRENTS_PATH, help="file to write (%(default)s)")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "currents", help="work folder (%(default)s)")
    parser.add_argument("--one", type=Path, nargs=2, metavar=("MODEL", "PART"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    LOG.setLevel(logging.INFO)
    if args.one is not None:
        folder, part = args.one
        write_currents(part, {folder.name: simulate_model(folder)})
        return
    check_requirements()
    extract(args.out.resolve(), args.work.resolve())


if __name__ == "__main__":
    main()
