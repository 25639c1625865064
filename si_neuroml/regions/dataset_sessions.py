"""Datasets from files of many sessions, one session after the other, each one's features kept in a cache."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import InputError, SINeuroMLError
from .area_conversion import settings_of
from .area_hdf5 import open_area_session
from .dataset import RegionDataset
from .dataset_file import cached_dataset, file_state
from .nwb import open_nwb_session
from .psth import PsthSettings
from .session_features import session_dataset
from .spike_train_features import SpikeTrainSettings

__all__ = ["area_dataset", "nwb_dataset"]

# raised when what is computed changes, so that files of an older cache are not used
FEATURES_VERSION = 1


def nwb_dataset(
    paths: str | Path | Sequence[str | Path],
    *,
    psth_settings: PsthSettings | None = None,
    spike_train_settings: SpikeTrainSettings | None = None,
    cache_folder: str | Path | None = None,
    on_error: str = "raise",
    num_threads: int | None = None,
    progress_bar: bool = False,
    **nwb_settings: Any,
) -> RegionDataset:
    """A dataset from one or many NWB files.

    Parameters
    ----------
    paths : path or sequence of paths
        NWB files (HDF5).
    psth_settings, spike_train_settings
        As for :func:`~.session_features.session_dataset`.
    cache_folder : str | Path, optional
        Features of each session are kept there as .npz, used again as long as size and time of change of the file and
        all settings are the same, and computed anew otherwise.
    on_error : "raise" | "warn", default: "raise"
        "warn": a file that cannot be used is reported and left out.
    num_threads : int, optional
        Default: numba's.
    progress_bar : bool, default: False
        Whether to show one.
    **nwb_settings
        region, stimulus, onset, where, subject (or a mapping by file name), ...; see
        :func:`~.nwb.read_nwb_session`.

    Returns
    -------
    RegionDataset

    Raises
    ------
    InputError
        As :func:`~.nwb.read_nwb_session`.
    """
    features = {"psth_settings": psth_settings, "spike_train_settings": spike_train_settings}

    def compute(path: Path) -> RegionDataset:
        with open_nwb_session(path, **settings_of(path, nwb_settings)) as session:
            return session_dataset(session, **features, num_threads=num_threads)

    def settings(path: Path) -> dict[str, Any]:
        return {"reader": "nwb", **settings_of(path, nwb_settings), **features}

    return _join(_paths(paths, ".nwb"), compute, settings, cache_folder, on_error, progress_bar)


def area_dataset(
    paths: str | Path | Sequence[str | Path],
    *,
    subject: str | Mapping[str, str] | None = None,
    onsets_s: Mapping[str, np.ndarray] | np.ndarray | None = None,
    psth_settings: PsthSettings | None = None,
    spike_train_settings: SpikeTrainSettings | None = None,
    cache_folder: str | Path | None = None,
    on_error: str = "raise",
    num_threads: int | None = None,
    progress_bar: bool = False,
) -> RegionDataset:
    """A dataset from area-wise HDF5 files.

    Parameters
    ----------
    paths : path or sequence of paths
        Files of :func:`~.area_conversion.convert_to_area_hdf5` or in its layout, or a folder of them.
    subject : str | mapping, optional
        Who was recorded, or a name for each file; for files that do not say.
    onsets_s : array | mapping, optional
        Event onsets in seconds, or those of each file by its name. Default: those in the files.
    psth_settings, spike_train_settings, cache_folder, on_error, num_threads, progress_bar
        As for :func:`nwb_dataset`.

    Returns
    -------
    RegionDataset

    Raises
    ------
    InputError
        As :func:`~.area_hdf5.open_area_session`.
    """
    features = {"psth_settings": psth_settings, "spike_train_settings": spike_train_settings}

    def own(path: Path) -> dict[str, Any]:
        onsets = onsets_s.get(path.name) if isinstance(onsets_s, Mapping) else onsets_s
        return {**settings_of(path, {"subject": subject}), "onsets_s": onsets}

    def compute(path: Path) -> RegionDataset:
        with open_area_session(path, **own(path)) as session:
            return session_dataset(session, **features, num_threads=num_threads)

    def settings(path: Path) -> dict[str, Any]:
        return {"reader": "area_hdf5", **own(path), **features}

    return _join(_paths(paths, ".h5"), compute, settings, cache_folder, on_error, progress_bar)


def _join(
    paths: list[Path],
    compute: Callable[[Path], RegionDataset],
    settings: Callable[[Path], dict[str, Any]],
    cache_folder: str | Path | None,
    on_error: str,
    progress_bar: bool,
) -> RegionDataset:
    if on_error not in ("raise", "warn"):
        raise InputError(f'on_error must be "raise" or "warn", got {on_error!r}.')
    if progress_bar:
        from tqdm.auto import tqdm

        paths = tqdm(paths, desc="features of sessions")
    parts = []
    for path in paths:
        try:
            if not path.is_file():
                raise InputError(f"There is no file {path}.")
            versions = {"package": __version__, "features": FEATURES_VERSION}
            key = {**file_state(path), "settings": {**_plain(settings(path)), **versions}}
            parts.append(cached_dataset(cache_folder, path.stem, key, lambda path=path: compute(path)))
        except (SINeuroMLError, OSError) as error:
            if on_error == "raise":
                raise
            warnings.warn(f"{path} is left out: {error}", stacklevel=3)
    if not parts:
        raise InputError("None of the files could be used; the warnings say why.")
    return RegionDataset.concatenate(parts)


def _paths(paths, suffix):
    if isinstance(paths, str | Path):
        path = Path(paths)
        paths = sorted(path.glob(f"*{suffix}")) if path.is_dir() else [path]
        if not paths:
            raise InputError(f"The folder {path} holds no file that ends in {suffix}.")
    paths = [Path(path) for path in paths]
    if not paths:
        raise InputError("No files are given.")
    return paths


def _plain(value):
    """A value fit for JSON that is equal for equal settings."""
    if dataclasses.is_dataclass(value):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_plain(one) for one in (sorted(value) if isinstance(value, set) else list(value))]
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
