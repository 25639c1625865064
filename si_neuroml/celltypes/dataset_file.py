"""A dataset of cells as one compressed ``.npz`` file without pickle."""

import json
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..wholefile import whole_file
from .cell_streams import CellStream
from .dataset import CellDataset

__all__ = ["read_dataset", "write_dataset"]

FORMAT, VERSION = "si_neuroml CellDataset", 2


def write_dataset(dataset: CellDataset, path: str | Path) -> Path:
    """Write a dataset, whole or not at all.

    Raises
    ------
    InputError
        When the name does not end in ``.npz``, or is that of a folder.
    """
    path = Path(path)
    if path.suffix != ".npz" or path.is_dir():
        raise InputError(f"A dataset is saved as one .npz file, got {path}.")
    header = {"format": FORMAT, "version": VERSION, "columns": list(map(str, dataset.cells.columns))}
    # names of streams and axes as lists: their order matters
    header["streams"] = [[name, list(stream.axes)] for name, stream in dataset.streams.items()]
    arrays = {"header": np.array(json.dumps(header)), "feature_names": np.array(dataset.feature_names, dtype=str)}
    for name in dataset.cells.columns:
        values = dataset.cells[name].to_numpy()
        arrays[f"cells/{name}"] = values if values.dtype.kind in "biuf" else values.astype(str)
    arrays["features"] = dataset.features
    if dataset.images is not None:
        arrays |= {name: getattr(dataset, name) for name in ("images", "frequencies_hz", "times_ms")}
    for name, stream in dataset.streams.items():
        arrays[f"streams/{name}"] = stream.values
        arrays |= {f"streams/{name}/{axis}": values for axis, values in stream.axes.items()}
    with whole_file(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def read_dataset(path: str | Path) -> CellDataset:
    """Read what :func:`write_dataset` wrote.

    Raises
    ------
    InputError
        When there is no such file, or it is damaged, foreign, or of a newer version.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            if header["format"] != FORMAT or header["version"] > VERSION:
                found = f"{header['format']!r} of version {header['version']}"
                raise InputError(f"{path} is {found}; this reads {FORMAT!r} up to version {VERSION}.")
            cells = pd.DataFrame({name: file[f"cells/{name}"] for name in header["columns"]})
            names = tuple(file["feature_names"].tolist())
            axes = (file.get("frequencies_hz"), file.get("times_ms"))
            # files of version 1 have none
            streams = {
                name: CellStream(file[f"streams/{name}"], {axis: file[f"streams/{name}/{axis}"] for axis in of_stream})
                for name, of_stream in header.get("streams", [])
            }
            return CellDataset(cells, file.get("images"), file["features"], names, *axes, streams)
    except Exception as error:  # whatever a damaged file brings about
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no dataset of cells saved by this package, or is damaged: {error}.") from error
