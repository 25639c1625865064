"""A folder of simulated recordings, each under a name made from all of its parameters.

An entry is written beside its final place and moved there whole, and is used again only if every file is as it was
written: an interrupted or damaged entry is made anew, never half used. Two processes may fill the same entry at once;
the first to finish wins and the other takes what is there.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording, BaseSorting

__all__ = ["entry_path", "read_entry", "write_entry"]

MANIFEST = "ground_truth.json"
MANIFEST_VERSION = 1
# Larger files (the traces) are checked by size and by this much of each end: a full check costs a second per minute.
CHECKED_BYTES = 4 * 1024 * 1024


def entry_path(cache_folder: str | Path, name: str, parameters: dict) -> Path:
    """Place of the recording with these parameters.

    Parameters
    ----------
    cache_folder : str or Path
        The folder of all entries; it need not exist.
    name : str
        Readable start of the entry's name.
    parameters : dict
        Everything the recording depends on, fit for JSON.

    Returns
    -------
    Path
        ``cache_folder/name-digest``.

    Raises
    ------
    InputError
        If ``cache_folder`` is a file.
    """
    cache_folder = Path(cache_folder)
    if cache_folder.exists() and not cache_folder.is_dir():
        raise InputError(f"cache_folder {cache_folder} is a file; give a folder.")
    text = json.dumps(parameters, sort_keys=True, allow_nan=False)
    return cache_folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read_entry(entry: Path, parameters: dict) -> "tuple[BaseRecording, BaseSorting] | None":
    """Load an entry if it is there, whole, and of these parameters.

    Parameters
    ----------
    entry : Path
        From :func:`entry_path`.
    parameters : dict
        As given to :func:`entry_path`.

    Returns
    -------
    tuple of BaseRecording and BaseSorting, or None
        None if the entry is missing, incomplete, damaged or of other parameters.
    """
    import spikeinterface as si

    try:
        manifest = json.loads((entry / MANIFEST).read_text())
        if manifest["version"] != MANIFEST_VERSION or manifest["parameters"] != parameters:
            return None
        if manifest["files"] != _fingerprints(entry):
            return None
        return si.load(entry / "recording"), si.load(entry / "sorting")
    # A damaged JSON file, a missing file, or one that a newer SpikeInterface no longer reads: all mean "make it anew".
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_entry(
    entry: Path, parameters: dict, recording: "BaseRecording", sorting: "BaseSorting", *, overwrite: bool = False
) -> None:
    """Save a recording and its sorting as an entry, whole or not at all.

    Parameters
    ----------
    entry : Path
        From :func:`entry_path`.
    parameters : dict
        As given to :func:`entry_path`; stored as JSON beside the data.
    recording, sorting : BaseRecording, BaseSorting
        What to save.
    overwrite : bool, default: False
        Replace an entry even if it is whole (it may have been written by another process meanwhile).
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    # On the same file system as the entry, so that the move is one step.
    draft = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        with warnings.catch_warnings():
            # An array in memory has no provenance to save: nothing is lost.
            warnings.filterwarnings("ignore", message="The extractor is not serializable")
            recording.save(folder=draft / "recording", format="binary", n_jobs=1, progress_bar=False, verbose=False)
            sorting.save(folder=draft / "sorting", format="numpy_folder")
        manifest = {"version": MANIFEST_VERSION, "parameters": parameters, "files": _fingerprints(draft)}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
        if entry.exists():
            if not overwrite and read_entry(entry, parameters) is not None:
                return
            # A folder can only be moved onto an empty one: the old entry steps aside first.
            aside = Path(tempfile.mkdtemp(prefix=f".{entry.name}-old-", dir=entry.parent))
            os.replace(entry, aside / "entry")
            shutil.rmtree(aside, ignore_errors=True)
        try:
            os.replace(draft, entry)
        except OSError:
            # Another process put the same entry there in between; anything else is a real failure.
            if read_entry(entry, parameters) is None:
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fingerprints(folder: Path) -> dict[str, list[int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): _fingerprint(path) for path in files}


def _fingerprint(path: Path) -> list[int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        checksum = zlib.crc32(file.read(CHECKED_BYTES))
        if size > 2 * CHECKED_BYTES:
            file.seek(size - CHECKED_BYTES)
        return [size, zlib.crc32(file.read(), checksum)]
