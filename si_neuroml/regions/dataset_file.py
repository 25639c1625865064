"""A dataset as one compressed ``.npz`` file without pickle, and such files as a cache of computed features."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..wholefile import whole_file

if TYPE_CHECKING:
    from .dataset import RegionDataset

__all__ = ["cached_dataset", "file_state", "read_dataset", "write_dataset"]

FORMAT, VERSION = "si_neuroml RegionDataset", 1


def write_dataset(dataset: "RegionDataset", path: str | Path, info: dict[str, Any] | None = None) -> Path:
    """Write a dataset, whole or not at all.

    Parameters
    ----------
    dataset : RegionDataset
        What to save.
    path : str | Path
        Ends in ``.npz``; a file that is there is replaced.
    info : dict, optional
        Anything fit for JSON, to be given back by :func:`read_dataset`.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        When the name ends otherwise, or is that of a folder.
    """
    path = Path(path)
    if path.suffix != ".npz" or path.is_dir():
        raise InputError(f"A dataset is saved as one .npz file, got {path}.")
    header = {"format": FORMAT, "version": VERSION, "columns": list(dataset.units.columns), "info": info}
    arrays = {"header": np.array(json.dumps(header)), "feature_names": np.array(dataset.feature_names, dtype=str)}
    arrays |= {f"units/{name}": _saved(dataset.units[name]) for name in dataset.units.columns}
    arrays["features"] = dataset.features
    if dataset.psth is not None:
        arrays |= {"psth": dataset.psth, "bin_edges_s": dataset.bin_edges_s}
    with whole_file(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def read_dataset(path: str | Path) -> "tuple[RegionDataset, dict[str, Any] | None]":
    """Read a dataset and what was saved beside it.

    Parameters
    ----------
    path : str | Path
        Of :func:`write_dataset`.

    Returns
    -------
    dataset : RegionDataset
    info : dict or None

    Raises
    ------
    InputError
        When there is no such file, or it is damaged, foreign, or of a newer version.
    """
    import pandas as pd

    from .dataset import RegionDataset

    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            if header["format"] != FORMAT or header["version"] > VERSION:
                raise InputError(
                    f"{path} is {header['format']!r} of version {header['version']}; this reads {FORMAT!r} up to "
                    f"version {VERSION}."
                )
            units = pd.DataFrame({name: file[f"units/{name}"] for name in header["columns"]})
            psth = [file.get(name) for name in ("psth", "bin_edges_s")]
            dataset = RegionDataset(units, file["features"], tuple(file["feature_names"].tolist()), *psth)
    except Exception as error:  # whatever a damaged file brings about
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no dataset saved by this package, or is damaged: {error}.") from error
    return dataset, header.get("info")


def cached_dataset(
    cache_folder: str | Path | None, name: str, key: dict[str, Any], compute: "Callable[[], RegionDataset]"
) -> "RegionDataset":
    """The dataset from the cache if it is there and was made from the same input, else computed and put there.

    Parameters
    ----------
    cache_folder : str | Path | None
        Where the files are; None: no cache.
    name : str
        Readable start of the file's name.
    key : dict
        ``key["settings"]`` and ``key["path"]`` choose the file; all of `key` must be as it was for the file to be used.
        Fit for JSON.
    compute : callable
        Makes the dataset.

    Returns
    -------
    RegionDataset
    """
    if cache_folder is None:
        return compute()
    key = json.loads(json.dumps(key, sort_keys=True))
    chosen = json.dumps([key["path"], key["settings"]], sort_keys=True)
    path = Path(cache_folder) / f"{name}-{hashlib.sha256(chosen.encode()).hexdigest()[:16]}.npz"
    try:
        dataset, found = read_dataset(path)
        if found == key:
            return dataset
    except InputError:
        # not there, damaged, or of another version: made anew
        pass
    dataset = compute()
    write_dataset(dataset, path, key)
    return dataset


def file_state(path: str | Path) -> dict[str, Any]:
    """What tells one state of a file from another: its full path, size in bytes and time of last change in ns."""
    path = Path(path).resolve()
    stat = path.stat()
    return {"path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _saved(column):
    values = column.to_numpy()
    return values if values.dtype.kind in "biuf" else values.astype(str)
