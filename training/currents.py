"""Transmembrane currents of model cells while they spike, and the compact file that holds them.

Every current is a whole number of steps, a step being a power of two, about 2**-22 of the cell's largest current. The
steps are stored as second differences in time, which are small numbers and pack well. Rounding runs along the
segments, each taking over what the one before it lost: the sum over the segments, hence the monopole seen from afar,
stays right to half a step.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["CURRENTS_PATH", "CellCurrents", "load_currents", "write_currents"]

CURRENTS_PATH = Path(__file__).parent / "data" / "transmembrane_currents.npz"
FILE_FORMAT = "si_neuroml.transmembrane_currents.1"
STEP_BITS = 22


@dataclass(frozen=True)
class CellCurrents:
    """One cell model: where its segments lie and what flows out of each while it spikes.

    The soma is at the origin and y is the apical axis. At every sample the currents sum to what the stimulating
    electrode injects into the soma, which is constant in time: subtract a footprint's first sample to be rid of it.

    Attributes
    ----------
    start, end : np.ndarray, (segments, 3), float32
        The segments' ends in um.
    diameter_um : np.ndarray, (segments,), float32
        Their diameters.
    soma : int
        The segment that is the soma.
    currents_na : np.ndarray, (spikes, segments, samples), float32
        Transmembrane currents in nA, outward positive.
    sampling_frequency : float, default: 32000.0
        In Hz.
    spike_sample : int, default: 64
        Sample at which the somatic membrane potential peaks.
    """

    start: np.ndarray
    end: np.ndarray
    diameter_um: np.ndarray
    soma: int
    currents_na: np.ndarray
    sampling_frequency: float = 32000.0
    spike_sample: int = 64


def load_currents(path: str | Path = CURRENTS_PATH) -> dict[str, CellCurrents]:
    """Read the currents of every cell model in a file.

    Parameters
    ----------
    path : str | Path, default: CURRENTS_PATH
        A file that :func:`write_currents` wrote.

    Returns
    -------
    dict[str, CellCurrents]
        By name of the cell model, in alphabetical order.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. It holds simulated membrane currents; "
            "make it once with: python -m training.extract_currents (needs NEURON, see the head of that script)."
        )
    with np.load(path, allow_pickle=False) as file:
        if "format" not in file or str(file["format"]) != FILE_FORMAT:
            raise ValueError(f"{path} is not a file of transmembrane currents ({FILE_FORMAT}).")
        models = sorted({name.rpartition("/")[0] for name in file.files if "/" in name})
        return {model: _unpack({name: file[f"{model}/{name}"] for name in _NAMES}) for model in models}


def write_currents(path: str | Path, cells: Mapping[str, CellCurrents]) -> None:
    """Write the currents of cell models to one compact file, whole or not at all.

    Parameters
    ----------
    path : str | Path
        The file; one that exists is replaced. What was read from such a file is written back without further loss.
    cells : Mapping[str, CellCurrents]
        By name of the cell model.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{model}/{name}": array for model in sorted(cells) for name, array in _pack(cells[model]).items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, format=np.array(FILE_FORMAT), **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_NAMES = ("start", "end", "diameter_um", "soma", "sampling_frequency", "spike_sample", "step_na", "second_differences")


def _pack(cell: CellCurrents) -> dict[str, np.ndarray]:
    """Turn a cell into the arrays of the file."""
    step_na = current_step(cell.currents_na)
    running = np.rint(np.cumsum(cell.currents_na.astype(np.float64) / step_na, axis=1)).astype(np.int64)
    steps = np.diff(running, axis=1, prepend=0)
    return {
        "start": cell.start.astype(np.float32),
        "end": cell.end.astype(np.float32),
        "diameter_um": cell.diameter_um.astype(np.float32),
        "soma": np.array(cell.soma),
        "sampling_frequency": np.array(cell.sampling_frequency),
        "spike_sample": np.array(cell.spike_sample),
        "step_na": np.array(step_na),
        "second_differences": np.diff(steps, n=2, axis=2, prepend=np.zeros((*steps.shape[:2], 2))).astype(np.int32),
    }


def _unpack(arrays: dict[str, np.ndarray]) -> CellCurrents:
    """Turn the arrays of the file into a cell."""
    steps = arrays["second_differences"].astype(np.int64).cumsum(axis=2).cumsum(axis=2)
    return CellCurrents(
        start=arrays["start"],
        end=arrays["end"],
        diameter_um=arrays["diameter_um"],
        soma=int(arrays["soma"]),
        currents_na=(steps * float(arrays["step_na"])).astype(np.float32),
        sampling_frequency=float(arrays["sampling_frequency"]),
        spike_sample=int(arrays["spike_sample"]),
    )


def current_step(currents_na: np.ndarray) -> float:
    """Size in nA of the steps that currents are stored in: a power of two, so that whole steps are exact floats."""
    largest = float(np.abs(currents_na).max())
    if not np.isfinite(largest) or largest == 0:
        raise ValueError(f"The largest current is {largest} nA: nothing to store.")
    return 2.0 ** (np.ceil(np.log2(largest)) - STEP_BITS)
