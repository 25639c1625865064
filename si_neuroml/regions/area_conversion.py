"""Many sessions to area-wise HDF5 files, one file per session, in a way that can be stopped at any moment.

A file appears under its name only when it is complete. Running the same conversion again skips what is finished, and
the files it makes equal those of a conversion that was never stopped, byte for byte.
"""

import json
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, SINeuroMLError
from ..wholefile import whole_file
from .area_hdf5 import FORMAT, VERSION, write_area_file
from .dataset_file import file_state
from .nwb import open_nwb_session
from .quality import fill_quality_columns
from .session import Session
from .session_features import template_features
from .waveform_features import WAVEFORM_FEATURE_NAMES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["convert_to_area_hdf5"]


def convert_to_area_hdf5(
    sources: Sequence[str | Path] | Mapping[str, Session],
    folder: str | Path,
    *,
    on_error: str = "raise",
    block_spikes: int = 2**21,
    progress_bar: bool = False,
    **nwb_settings: Any,
) -> "pd.DataFrame":
    """Write the spikes of sessions sorted by area; finished sessions are skipped.

    Parameters
    ----------
    sources : sequence of paths, or mapping of Session by name
        NWB files, or sessions at hand.
    folder : str | Path
        Gets one file ``<name>.h5`` per session. Several processes may convert different sessions into one folder.
    on_error : "raise" | "warn", default: "raise"
        "warn": a session that cannot be converted is reported and the others go on.
    block_spikes : int, default: 2097152
        Spikes read at a time, which bounds the memory.
    progress_bar : bool, default: False
        Whether to show one.
    **nwb_settings
        For NWB files: region, stimulus, onset, where, ...; see :func:`~.nwb.read_nwb_session`. `subject` may be a
        mapping by file name.

    Returns
    -------
    DataFrame
        A row per session: name, status ("converted", "already there", "failed"), units, areas, spikes, seconds and
        the message of a failure.

    Raises
    ------
    InputError
        When two sources have one name, a file of that name was not made here, or a session cannot be converted.
    """
    import pandas as pd

    if on_error not in ("raise", "warn"):
        raise InputError(f'on_error must be "raise" or "warn", got {on_error!r}.')
    folder = Path(folder)
    rows = []
    for name, source in _with_bar(_named(sources), progress_bar):
        row = {"name": name, "status": "failed", "units": 0, "areas": 0, "spikes": 0, "seconds": 0.0, "message": ""}
        start = time.perf_counter()
        try:
            row |= _convert(source, folder / f"{name}.h5", settings_of(source, nwb_settings), block_spikes)
        except (SINeuroMLError, OSError) as error:
            if on_error == "raise":
                raise
            row["message"] = str(error)
            warnings.warn(f"{name} was not converted: {error}", stacklevel=2)
        rows.append(row | {"seconds": time.perf_counter() - start})
    return pd.DataFrame(rows)


def settings_of(source: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for one file: of a `subject` given by file name, its own.

    Raises
    ------
    InputError
        When the mapping does not have the file.
    """
    settings = dict(settings)
    if isinstance(settings.get("subject"), Mapping):
        if Path(source).name not in settings["subject"]:
            raise InputError(f"subject names no subject of {Path(source).name!r}.")
        settings["subject"] = settings["subject"][Path(source).name]
    return settings


def _convert(source, path, settings, block_spikes):
    in_memory = isinstance(source, Session)
    state = _session_state(source) if in_memory else {**file_state(source), "path": Path(source).name}
    made_from = json.dumps({"source": state, "settings": settings}, sort_keys=True, default=str)
    if (found := _finished(path, made_from)) is not None:
        return {"status": "already there", **found}
    opened: AbstractContextManager = nullcontext(source) if in_memory else open_nwb_session(source, **settings)
    with opened as session, whole_file(path, remove_leftovers=True) as draft:
        session = _completed(session)
        totals = write_area_file(session, draft, made_from, block_spikes=block_spikes)
        num_spikes = int(session.offsets[-1])
    return {"status": "converted", "units": len(session.units), "areas": len(totals), "spikes": num_spikes}


def _completed(session):
    """The session with quality and features of the waveforms as columns, since its file holds no waveforms."""
    units = fill_quality_columns(
        session.units, session.spike_times, session.offsets, session.duration_s, boundaries_s=session.boundaries_s
    )
    if session.templates is not None:
        features = template_features(session.templates)
        units = units.assign(**dict(zip(WAVEFORM_FEATURE_NAMES, features.T, strict=True)))
    fields = {name: getattr(session, name) for name in session.__dataclass_fields__}
    return Session(**{**fields, "units": units})


def _finished(path, made_from):
    """Numbers of a finished file that was made from the same; None if it must be made."""
    import h5py

    if not path.exists():
        return None
    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            groups = [file[name] for name in file if "spikes" in file[name]] if "format" in attributes else []
            numbers = {"units": sum(len(g["unit_ids"]) for g in groups), "areas": len(groups)}
            numbers["spikes"] = sum(len(group["spikes"]) for group in groups)
    except OSError as error:
        raise InputError(f"{path} is in the way: it is no HDF5 file, or is damaged ({error}). Remove it.") from error
    if attributes.get("format") != FORMAT:
        raise InputError(f"{path} is in the way: it was not made by this conversion. Choose another folder.")
    return numbers if attributes["version"] == VERSION and attributes["source"] == made_from else None


def _named(sources):
    """(name, source) of each source, names different."""
    if isinstance(sources, Mapping):
        return list(sources.items())
    if isinstance(sources, str | Path):
        sources = [sources]
    named = [(Path(source).stem, source) for source in sources]
    names = [name for name, _ in named]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{len(twice)} names appear twice, such as {twice[:3]}: one file would replace the other.")
    if missing := [str(source) for _, source in named if not Path(source).is_file()]:
        raise InputError(f"{len(missing)} of {len(named)} files do not exist: {missing[:3]}.")
    return named


def _session_state(session):
    """A checksum of a session in memory."""
    checksum = zlib.crc32(session.units.to_csv().encode())
    for array in (session.offsets, session.onsets_s, session.boundaries_s, session.segments_s):
        checksum = zlib.crc32(b"" if array is None else np.ascontiguousarray(array).tobytes(), checksum)
    for start in range(0, len(session.spike_times), 2**21):
        checksum = zlib.crc32(np.ascontiguousarray(session.spike_times[start : start + 2**21]).tobytes(), checksum)
    if session.templates is not None:
        checksum = zlib.crc32(np.ascontiguousarray(session.templates.templates).tobytes(), checksum)
    return {"checksum": checksum}


def _with_bar(items, progress_bar):
    if not progress_bar:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, desc="sessions to area-wise HDF5")
