"""Write one file completely or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["whole_file"]

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
        for leftover in path.parent.iterdir():
            if leftover.name.startswith(f".{path.name}.") and leftover.name.endswith(_ARRIVING):
                with suppress(OSError):
                    leftover.unlink()
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_ARRIVING}")
    try:
        yield draft
        with open(draft, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink()
