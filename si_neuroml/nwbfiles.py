"""Open an NWB file (HDF5) to read it, whatever extensions it was written with, or say why that cannot be."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from pynwb import NWBFile

__all__ = ["open_nwb"]


@contextmanager
def open_nwb(path: str | Path) -> "Iterator[NWBFile]":
    """Open a file; its data can be read until the block ends.

    Parameters
    ----------
    path : str | Path
        The file.

    Yields
    ------
    NWBFile

    Raises
    ------
    InputError
        When there is no such file, or it cannot be read.
    MissingDependencyError
        Without pynwb.
    """
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise MissingDependencyError("pynwb", "nwb") from error

    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    with warnings.catch_warnings():
        # files bring the extensions they were written with, in other versions than are installed
        warnings.simplefilter("ignore", UserWarning)
        try:
            io = NWBHDF5IO(path, "r")
        except OSError as error:
            raise InputError(f"{path} is not an HDF5 file, or is damaged: {error}.") from error
    with io:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                nwbfile = io.read()
            except Exception as error:
                # pynwb's own errors are of many kinds
                raise InputError(f"{path} cannot be read as NWB: {type(error).__name__}: {error}") from error
        yield nwbfile
