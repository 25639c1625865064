"""Extensions of a sorting analyzer, and properties of its units, that are on the disk as a whole or not at all.

SpikeInterface deletes an extension whose computation fails. What remains is mended here:

- It notes that an extension is complete before it writes the data, so that a killed process leaves a part which loads
  as if it were all.
- numpy does not notice that the disk is full while it writes the last few KB of an array.
- A zarr store has an index of all it holds (``.zmetadata``), which cannot be renewed on a full disk. Arrays that were
  deleted are then read as zeros.
- Properties of units are written over those before; an analyzer with half a property cannot be loaded at all.
"""

import errno
import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from spikeinterface.core.sortinganalyzer import SortingAnalyzer

from .wholefile import whole_file

__all__ = ["WholeExtension", "set_unit_property"]

ZARR_INDEX = ".zmetadata"


class WholeExtension:
    """What an extension of this package derives from, before SpikeInterface's base class."""

    @classmethod
    def load(cls, sorting_analyzer: SortingAnalyzer, lazy: bool = False) -> Self | None:
        """The extension; None, as SpikeInterface has it, where it has to be computed again."""
        found, reason = None, ""
        try:
            found = super().load(sorting_analyzer, lazy=lazy)
        except Exception as error:  # whatever a damaged file brings about
            reason = f" ({error})"
        if found is None:
            name = cls.extension_name
            warnings.warn(
                f"The extension {name!r} in {sorting_analyzer.folder} is not complete{reason}. Compute it again, or "
                f"remove it with analyzer.delete_extension({name!r}).",
                stacklevel=2,
            )
        return found

    def load_run_info(self) -> None:
        """Without a note of its completion an extension is not complete; older versions never wrote one without."""
        super().load_run_info()
        if self.run_info is None:
            self.run_info = self._default_run_info_dict()

    def load_data(self, lazy: bool = False) -> None:
        """Of zarr stores only what is there: chunks that are missing would be read as zeros."""
        if self.format == "zarr":
            for name, array in self._get_zarr_extension_group(mode="r").arrays():
                if array.nchunks_initialized < array.nchunks:
                    raise ValueError(f"{name} has {array.nchunks_initialized} of {array.nchunks} chunks.")
        super().load_data(lazy=lazy)

    def _save_run_info(self) -> None:
        """Not where SpikeInterface asks for it, but when the data are there."""

    def _save_data(self) -> None:
        try:
            super()._save_data()
            if self.format == "binary_folder":
                for name in (name for name, value in self.data.items() if isinstance(value, np.ndarray)):
                    _check_whole(self._get_binary_extension_folder() / f"{name}.npy")
        except OSError as error:
            raise OSError(
                error.errno or errno.ENOSPC,
                f"The extension {self.extension_name!r} could not be saved in {self.folder}: {error}. Make room on the "
                "disk, then compute it again",
            ) from error
        super()._save_run_info()

    def _reset_extension_folder(self) -> None:
        try:
            super()._reset_extension_folder()
        except OSError:
            _forget_index(self.sorting_analyzer)
            raise

    def _delete_extension_folder(self) -> None:
        try:
            super()._delete_extension_folder()
        except OSError:
            # what is left to do is to write the index
            if not _forget_index(self.sorting_analyzer):
                raise


def set_unit_property(analyzer: SortingAnalyzer, name: str, values: Any, *, save: bool) -> None:
    """Set a property of the units of an analyzer, on the disk too if asked for; what is there is replaced.

    Parameters
    ----------
    analyzer : SortingAnalyzer
        Of any format.
    name : str
        Of the property.
    values : array, shape (num_units,)
        Numbers or texts.
    save : bool
        Whether it is written to the analyzer's folder.

    Raises
    ------
    OSError
        If the disk refuses, for instance because it is full. Then the property before is there, or none.
    """
    values = np.array(values)
    if save and analyzer.format == "binary_folder":
        content = io.BytesIO()
        np.save(content, values, allow_pickle=False)
        with whole_file(Path(analyzer.folder) / "sorting" / "properties" / f"{name}.npy") as draft:
            draft.write_bytes(content.getvalue())
    if not save or analyzer.format != "zarr":
        analyzer.set_sorting_property(name, values, save=False)
        return
    try:
        # longer texts would be cut to the width of those before, which are written over in place
        _forget_zarr_property(analyzer, name)
        analyzer.set_sorting_property(name, values)
    except BaseException:
        with suppress(OSError):
            _forget_zarr_property(analyzer, name)
        _forget_index(analyzer)
        if name in analyzer.sorting.get_property_keys():
            analyzer.sorting.delete_property(name)
        raise


def _check_whole(path):
    """Raise an OSError where a ``.npy`` file is shorter than its header says."""
    try:
        np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise OSError(f"{path.name} was cut short ({error})") from error


def _forget_index(analyzer):
    """Remove the index of a zarr store, which is then read without one; whether that could be done."""
    if analyzer.format != "zarr":
        return False
    with suppress(OSError):
        (Path(analyzer.folder) / ZARR_INDEX).unlink(missing_ok=True)
        return True
    return False


def _forget_zarr_property(analyzer, name):
    properties = analyzer._get_zarr_root(mode="r+")["sorting"]["properties"]
    if name in properties:
        del properties[name]
