"""Write one file completely or not at all."""

import glob
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["remove_drafts", "whole_file"]

_ARRIVING = ".arriving"


@contextmanager
def whole_file(path: Path, *, remove_leftovers: bool = False) -> Iterator[Path]:
    """A draft beside a file, which takes the file's place when the block ends without an error.

    Parameters
    ----------
    path : Path
        The file; parents are created. What is there is replaced in one step.
    remove_leftovers : bool, default: False
        Whether to remove drafts of this file that a killed process left. A process that is still at work on the same
        file then fails at its end; the file itself is whole in any case.

    Yields
    ------
    Path
        Where to write. Every process has a draft of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if remove_leftovers:
        remove_drafts(path.parent, glob.escape(path.name))
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_ARRIVING}")
    try:
        yield draft
        with open(draft, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        error.add_note(f"{path} was not written; what was there before is still there.")
        raise
    finally:
        with suppress(OSError):
            draft.unlink()


def remove_drafts(folder: Path, pattern: str) -> None:
    """Remove the drafts that killed processes left of files with such names, "*.npz" for instance."""
    for draft in folder.glob(f".{pattern}.*{_ARRIVING}"):
        with suppress(OSError):
            draft.unlink()
