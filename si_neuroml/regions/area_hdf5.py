"""Spikes of a session sorted by brain area, in one HDF5 file (van Laar 2025).

A group per area holds ``spikes`` (float64, in seconds, unit after unit), ``offsets`` (int64, num_units + 1) and
``unit_ids``; a slash in the name of an area is written "%2F". Files made here add ``units/<column>`` (depth, shank,
quality, ...) to every area, and to the file ``onsets`` and attributes that say whose session it is. Units without a
region are in the group "unlabelled".

Writing goes through the spikes twice: the first pass counts the spikes of each area, the second streams them into
place. Nothing in a file depends on when it was written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .dataset_table import plain_column
from .session import Session, spike_blocks

__all__ = ["FORMAT", "VERSION", "JoinedSpikes", "open_area_session", "write_area_file"]

FORMAT, VERSION = "si_neuroml area-wise spikes", 1
UNLABELLED = "unlabelled"
# of the file, not of each unit
_WHOSE = ("subject", "recording", "lab")


class JoinedSpikes:
    """Several arrays or HDF5 datasets as one, of which slices can be read.

    Parameters
    ----------
    parts : list of arrays or datasets
        One after the other.
    """

    def __init__(self, parts: list[Any]):
        self._parts = parts
        self._ends = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: slice | int) -> np.ndarray | float:
        if not isinstance(key, slice):
            return self[key : key + 1][0]
        start, stop, _ = key.indices(len(self))
        pieces = [
            part[max(start - begin, 0) : stop - begin]
            for part, begin, end in zip(self._parts, self._ends[:-1], self._ends[1:], strict=True)
            if begin < stop and start < end
        ]
        return np.concatenate([np.zeros(0), *pieces])


def write_area_file(
    session: Session, path: str | Path, source: str = "", *, block_spikes: int = 2**21
) -> dict[str, int]:
    """Write the spikes of a session sorted by area.

    Parameters
    ----------
    session : Session
        Units of one subject and recording.
    path : str | Path
        A new file. It is written in place: write to a draft and move it.
    source : str
        What it was made from, kept as an attribute.
    block_spikes : int, default: 2097152
        Spikes read at a time; about three such blocks are held, 8 bytes per spike.

    Returns
    -------
    dict of int
        Number of spikes by area.

    Raises
    ------
    InputError
        When spike times are not finite or not sorted, or units are of several recordings.
    """
    import h5py

    regions = session.units["region"].to_numpy(dtype=str)
    names, areas = np.unique(np.where(regions == "", UNLABELLED, regions), return_inverse=True)
    counts = np.diff(session.offsets)
    totals = np.bincount(areas, weights=counts, minlength=len(names)).astype("int64")
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "source": source, "duration_s": session.duration_s})
        for column in _WHOSE:
            file.attrs[column] = _only_value(session.units, column)
        for name in ("onsets_s", "segments_s", "boundaries_s"):
            if (values := getattr(session, name)) is not None:
                file.create_dataset(name, data=np.asarray(values, dtype="float64"))
        for area, name in enumerate(names.tolist()):
            group = file.create_group(_quoted(name))
            group.attrs["region"] = "" if name == UNLABELLED else name
            _write_units(group, session.units[areas == area], counts[areas == area])
            group.create_dataset("spikes", shape=(totals[area],), dtype="float64", dcpl=_placed_at_once())
        _stream(session, areas, [file[_quoted(name)]["spikes"] for name in names.tolist()], block_spikes)
    return dict(zip(names.tolist(), totals.tolist(), strict=True))


@contextmanager
def open_area_session(
    path: str | Path, *, subject: str | None = None, recording: str | None = None, onsets_s: np.ndarray | None = None
) -> Iterator[Session]:
    """Open an area-wise file as a session; its spikes can be read until the block ends.

    Parameters
    ----------
    path : str | Path
        Of :func:`write_area_file`, or another file with groups of ``spikes``, ``offsets`` and ``unit_ids``.
    subject, recording : str, optional
        Default: what the file says; the recording of a file that does not say is the file's name.
    onsets_s : array, optional
        Event onsets in seconds. Default: those in the file.

    Yields
    ------
    Session
        Units area by area.

    Raises
    ------
    InputError
        When there is no such file, it is damaged, holds no area, an area is incomplete, or the subject is not known.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not an HDF5 file, or is damaged: {error}.") from error
    with file:
        try:
            session = _read(file, path, subject, recording, onsets_s)
        except InputError:
            raise
        except Exception as error:  # whatever a damaged file brings about
            raise InputError(f"{path} is not complete, or is damaged: {error}.") from error
        yield session


def _read(file, path, subject, recording, onsets_s):
    import pandas as pd

    if file.attrs.get("format", FORMAT) != FORMAT or file.attrs.get("version", VERSION) > VERSION:
        raise InputError(
            f"{path} is {file.attrs.get('format')!r} of version {file.attrs.get('version')}; this reads {FORMAT!r} up "
            f"to version {VERSION}."
        )
    groups = [group for _, group in sorted(file.items()) if hasattr(group, "keys") and "spikes" in group]
    if not groups:
        raise InputError(f"{path} has no group with a dataset 'spikes'. It has {sorted(file)}.")
    subject = subject or file.attrs.get("subject")
    if not subject:
        raise InputError(f"{path} does not say which subject was recorded: pass subject=.")
    tables, parts, counts = [], [], []
    for group in groups:
        offsets = _offsets(group, path)
        tables.append(_read_units(group, len(offsets) - 1))
        parts.append(group["spikes"])
        counts.append(np.diff(offsets))
    units = pd.concat(tables, ignore_index=True)
    units["subject"] = subject
    units["recording"] = recording or file.attrs.get("recording") or path.stem
    units["lab"] = file.attrs.get("lab", "")
    spikes = JoinedSpikes(parts)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    stored = {name: file[name][:] if name in file else None for name in ("onsets_s", "segments_s", "boundaries_s")}
    return Session(
        units=units,
        spike_times=spikes,
        offsets=offsets,
        duration_s=float(file.attrs["duration_s"]) if "duration_s" in file.attrs else _span(spikes, offsets),
        onsets_s=stored["onsets_s"] if onsets_s is None else np.asarray(onsets_s, dtype="float64"),
        boundaries_s=np.zeros(0) if stored["boundaries_s"] is None else stored["boundaries_s"],
        segments_s=stored["segments_s"],
    )


def _placed_at_once():
    """Datasets get their place in the file when they are made, so that it does not depend on the order of writing."""
    import h5py

    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    # every value is written: no need to write zeros first
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties


def _stream(session, areas, targets, block_spikes):
    """Second pass: every block of spikes once, its units' pieces to the ends of their areas."""
    filled = np.zeros(len(targets), dtype="int64")
    for times, units, _ in spike_blocks(session.spike_times, session.offsets, block_spikes):
        for area in np.unique(areas[units]):
            piece = times[areas[units] == area]
            targets[area][filled[area] : filled[area] + len(piece)] = piece
            filled[area] += len(piece)


def _write_units(group, units, counts):
    group.create_dataset("offsets", data=np.concatenate([[0], np.cumsum(counts)]).astype("int64"))
    group.create_dataset("unit_ids", data=_stored(plain_column(units["unit_id"].array, "unit_id")))
    table = group.create_group("units")
    for name in units.columns:
        if name not in (*_WHOSE, "unit_id", "region"):
            table.create_dataset(str(name), data=_stored(plain_column(units[name].array, str(name))))


def _stored(values):
    """Text as UTF-8 bytes of fixed width, for HDF5."""
    return np.char.encode(values, "utf-8").astype(bytes) if values.dtype.kind == "U" else values


def _read_units(group, num_units):
    import pandas as pd

    name = group.name.rsplit("/", 1)[-1]
    region = group.attrs.get("region", "" if name == UNLABELLED else _unquoted(name))
    columns = {"unit_id": group["unit_ids"][:] if "unit_ids" in group else np.arange(num_units)}
    columns |= {key: column[:] for key, column in group.get("units", {}).items()}
    for key, values in columns.items():
        if len(values) != num_units:
            raise InputError(f"Area {name!r} has {num_units} units by its offsets and {len(values)} values of {key!r}.")
    columns = {key: plain_column(values, key) for key, values in columns.items()}
    return pd.DataFrame({**columns, "region": np.full(num_units, region, dtype=object)})


def _offsets(group, path):
    """Offsets with the end of the last unit, which may have been left out."""
    if "offsets" not in group:
        raise InputError(f"{path} has no offsets in {group.name!r}, so that units cannot be told apart.")
    offsets, num_spikes = group["offsets"][:].astype("int64"), len(group["spikes"])
    if "unit_ids" in group and len(offsets) == len(group["unit_ids"]):
        offsets = np.append(offsets, num_spikes)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != num_spikes or (np.diff(offsets) < 0).any():
        raise InputError(f"{path}: the offsets of {group.name!r} do not rise from 0 to its {num_spikes} spikes.")
    return offsets


def _only_value(units, column):
    values = units[column].unique() if column in units else [""]
    if len(values) != 1:
        raise InputError(f"A file holds one session, but its units are of {len(values)} {column}s: {list(values[:5])}.")
    return str(values[0])


def _span(spikes, offsets):
    filled = np.flatnonzero(np.diff(offsets))
    if not len(filled):
        raise InputError("No unit has a spike.")
    first, last = (min(spikes[int(k)] for k in offsets[filled]), max(spikes[int(k) - 1] for k in offsets[filled + 1]))
    return max(float(last - first), 1e-3)


def _quoted(name):
    return name.replace("%", "%25").replace("/", "%2F").replace(".", "%2E")


def _unquoted(name):
    return name.replace("%2E", ".").replace("%2F", "/").replace("%25", "%")
