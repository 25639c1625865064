"""One process at a time works on a folder.

The lock is one of the system on the hidden file ``.<name>.lock`` beside the folder: it is dropped when its holder dies,
however that happens. On disks that know no locks there is none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["folder_lock"]


@contextmanager
def folder_lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder, which need not exist; its parent must.

    Parameters
    ----------
    folder : Path
        To work on.
    wait : bool, default: True
        Whether to wait until no other process holds it.

    Raises
    ------
    BlockingIOError
        With ``wait=False``, when another process (or another thread of this one) holds it.
    """
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        with open(path, "a") as file:
            if not _lock(file, wait):
                raise BlockingIOError(f"Another process is at work on {folder}.")
            if not _is_still(file, path):
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows does not remove open files
                    path.unlink()
            return


def _lock(file, wait):
    """Whether the file is locked now; a disk that knows no locks counts as if it were."""
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(file, wait)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _lock_on_windows(file, wait):
    import msvcrt

    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    except PermissionError:
        return wait  # after ten seconds Windows gives up waiting
    except OSError:
        pass
    return True


def _is_still(file, path):
    """Whether the open file has its name: who held it before has removed it, and another process may have a new one."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
