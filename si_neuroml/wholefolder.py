"""Write a folder of files completely or not at all.

The files are written to a hidden sibling, ``.<name>.arriving``, which is then moved into place. A folder that is being
replaced is first moved aside, to ``.<name>.leaving``, and removed last. At every moment either the old or the new
folder is complete under one of these names: :func:`readable_folder` finds it, and the next write cleans up. Writers of
one folder take turns.
"""

import os
import warnings
from contextlib import suppress
from pathlib import Path

from .errors import InputError
from .folderlock import folder_lock

__all__ = ["readable_folder", "write_whole_folder"]


def write_whole_folder(folder: Path, contents: dict[str, bytes], *, overwrite: bool) -> None:
    """Write files as a folder, completely or not at all.

    Parameters
    ----------
    folder : Path
        Where to write; parents are created. Of several processes that write to it, the last one wins.
    contents : dict
        The bytes of each file by its name.
    overwrite : bool
        If True, a folder that holds these files and nothing else is replaced.

    Raises
    ------
    InputError
        If the folder exists and may not be replaced.
    OSError
        If the disk refuses, for instance because it is full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        _write(folder, contents, overwrite)


def readable_folder(folder: Path) -> Path | None:
    """The complete folder to read: the folder itself, or the old one where a replacement was interrupted.

    Parameters
    ----------
    folder : Path
        The folder, which may be missing.

    Returns
    -------
    readable : Path | None
        None if there is nothing to read. Nothing on the disk is changed, so that readers never disturb a writer.
    """
    if folder.exists():
        return folder
    leaving = _siblings(folder)[1]
    if not leaving.is_dir():
        return None
    warnings.warn(f"The last save to {folder} was interrupted; reading what it was replacing.", stacklevel=4)
    return leaving


def _write(folder, contents, overwrite):
    _settle(folder, set(contents))
    if folder.exists():
        _check_replaceable(folder, set(contents), overwrite)
    arriving, leaving = _siblings(folder)
    try:
        arriving.mkdir()
        for name, content in contents.items():
            with open(arriving / name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            os.replace(folder, leaving)
        os.replace(arriving, folder)
    except OSError as error:
        error.add_note(f"{folder} was not written; what was there before is still there.")
        raise
    finally:
        with suppress(OSError):  # a leftover that cannot be removed now is removed by the next write
            _settle(folder, set(contents))


def _siblings(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}.arriving"), folder.with_name(f".{folder.name}.leaving")


def _settle(folder: Path, names: set[str]) -> None:
    """Bring the folder to one complete state, whatever moment an earlier write was interrupted at."""
    arriving, leaving = _siblings(folder)
    if leaving.exists() and not folder.exists():
        os.replace(leaving, folder)
    for leftover in (arriving, leaving):
        if leftover.exists():
            for name in names:  # never a whole tree: only what was written here
                (leftover / name).unlink(missing_ok=True)
            leftover.rmdir()


def _check_replaceable(folder: Path, names: set[str], overwrite: bool) -> None:
    if not overwrite:
        raise InputError(f"{folder} already exists. Pass overwrite=True to replace what is there, or another folder.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file and is not replaced by a folder. Pass another folder.")
    found = set(os.listdir(folder))
    if found != names:
        missing, others = sorted(names - found), sorted(found - names)
        raise InputError(
            f"{folder} is not replaced, because it does not hold exactly {sorted(names)}: {len(missing)} missing, "
            f"{len(others)} other files {others[:5]}. Pass another folder, or remove this one yourself."
        )
