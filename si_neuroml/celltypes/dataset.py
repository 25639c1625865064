"""Cells of one or many data sets with their scalogram images, features and labels: what classifiers learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .cell_streams import CellStream, axes_differ

if TYPE_CHECKING:
    import pandas as pd
    from spikeinterface.core import SortingAnalyzer

    from .sweeps import CellSweeps

__all__ = ["CellDataset"]

TEXT_COLUMNS = ("cell_id", "label", "donor", "dataset")


@dataclass(frozen=True, eq=False)
class CellDataset:
    """Cells, row by row.

    Everything is checked and brought to its type when a dataset is made; its parts are not meant to be changed in
    place.

    Attributes
    ----------
    cells : DataFrame, one row per cell
        cell_id, label ("" unlabelled), donor (the animal or person; "" unknown) and dataset (the laboratory or
        publication) as text, and any further columns.
    images : float32 array, shape (num_cells, num_channels, num_frequencies, num_samples), or None
        Scalograms; a cell without has NaN throughout.
    features : float32 array, shape (num_cells, num_features)
        NaN where a feature is not defined. Without features: shape (num_cells, 0).
    feature_names : tuple of str
    frequencies_hz : float64 array, shape (num_frequencies,), or None
        Of the rows of the images, rising or falling. Default: numbers of rows.
    times_ms : float64 array, shape (num_samples,), or None
        Centres of the columns, from stimulus onset. Default: numbers of columns.
    streams : dict of {str: CellStream}
        Further arrays of the cells by name, such as those of sorted units
        (:mod:`~si_neuroml.celltypes.unit_settings`). Default: none.

    Raises
    ------
    InputError
        When shapes do not fit, a column is missing, a cell appears twice, or an image is partly NaN.
    """

    cells: "pd.DataFrame"
    images: np.ndarray | None = None
    features: np.ndarray | None = None
    feature_names: tuple[str, ...] = ()
    frequencies_hz: np.ndarray | None = None
    times_ms: np.ndarray | None = None
    streams: Mapping[str, CellStream] = field(default_factory=dict)

    def __post_init__(self):
        cells = _checked_cells(self.cells)
        images = None if self.images is None else _checked_images(self.images, len(cells))
        features = np.zeros((len(cells), 0)) if self.features is None else self.features
        features, names = np.asarray(features, dtype="float32"), tuple(map(str, self.feature_names))
        if features.shape != (len(cells), len(names)) or len(set(names)) < len(names):
            text = f"{len(cells)} cells and {len(names)} feature names, which must be distinct, do not fit"
            raise InputError(f"{text} features of shape {features.shape}.")
        axes = {"frequencies_hz": self.frequencies_hz, "times_ms": self.times_ms}
        for axis, (name, values) in enumerate(axes.items(), start=2):
            axes[name] = None if images is None else _checked_axis(name, values, images.shape[axis])
        checked = (cells, images, np.where(np.isfinite(features), features, np.float32(np.nan)), names, *axes.values())
        checked += (_checked_streams(self.streams, len(cells)),)
        for name, value in zip(self.__dataclass_fields__, checked, strict=True):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.cells)

    def __repr__(self) -> str:
        counts = self.label_counts()
        images = "no images" if self.images is None else f"images of {' x '.join(map(str, self.images.shape[1:]))}"
        return (
            f"CellDataset: {len(self)} cells of {self.cells['donor'].nunique()} donors in "
            f"{self.cells['dataset'].nunique()} data sets; {int(counts['cells'].sum())} labelled as {len(counts)} "
            f"types; {len(self.feature_names)} features, {', '.join([images, *self.streams])}"
        )

    @property
    def labels(self) -> np.ndarray:
        """Type of each cell as an array of text; "" is unlabelled."""
        return self.cells["label"].to_numpy(dtype=str)

    @property
    def groups(self) -> np.ndarray:
        """Donor of each cell within its data set; a cell whose donor is not known is a group of its own."""
        columns = (self.cells[name].to_numpy(dtype=str) for name in ("dataset", "donor", "cell_id"))
        rows = zip(*columns, strict=True)
        return np.array([f"{where}/{donor}" if donor else f"{where}//{cell}" for where, donor, cell in rows], dtype=str)

    @property
    def has_image(self) -> np.ndarray:
        """Whether each cell has an image."""
        if self.images is None:
            return np.zeros(len(self), dtype=bool)
        return np.isfinite(self.images[:, 0, 0, 0])

    @property
    def has_features(self) -> np.ndarray:
        """Whether each cell has any feature."""
        return np.isfinite(self.features).any(axis=1)

    @property
    def stream_names(self) -> tuple[str, ...]:
        """What is known of any cell: "image", "features" and names of streams."""
        return tuple(name for name in ("image", "features", *self.streams) if self.known(name).any())

    def known(self, name: str) -> np.ndarray:
        """Whether anything is known of each cell in "image", "features" or a stream; nothing in one that is missing."""
        if name in ("image", "features"):
            return self.has_image if name == "image" else self.has_features
        return self.streams[name].known if name in self.streams else np.zeros(len(self), dtype=bool)

    def label_counts(self) -> "pd.DataFrame":
        """How many cells, donors and data sets each type has, the largest first; unlabelled cells left out."""
        labelled = self.cells.assign(donor=self.groups)[self.labels != ""].groupby("label")
        counts = labelled.agg(cells=("cell_id", "size"), donors=("donor", "nunique"), datasets=("dataset", "nunique"))
        return counts.sort_values("cells", ascending=False, kind="stable")

    def select(self, selection: np.ndarray | Sequence) -> "CellDataset":
        """Some of the cells, by a mask or by row numbers.

        Raises
        ------
        InputError
            When a mask has another length, or a row does not exist.
        """
        rows = np.asarray(selection)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise InputError(f"The mask has shape {rows.shape}, the dataset has {len(self)} cells.")
            rows = np.flatnonzero(rows)
        rows = rows.astype("int64") if rows.size == 0 else rows
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or (len(rows) and not _exist(rows, len(self))):
            raise InputError(f"Cells are selected by a mask or by rows 0 to {len(self) - 1}, got {selection!r}.")
        images = None if self.images is None else self.images[rows]
        streams = {name: stream.select(rows) for name, stream in self.streams.items()}
        return replace(self, cells=self.cells.iloc[rows], images=images, features=self.features[rows], streams=streams)

    def labelled(self) -> "CellDataset":
        """The cells that have a type."""
        return self.select(self.labels != "")

    def drop_rare(self, min_cells: int = 20, min_donors: int = 3) -> "CellDataset":
        """Without the types that have fewer cells or donors; unlabelled cells stay.

        Raises
        ------
        InputError
            When fewer than two types remain, with the counts.
        """
        counts = self.label_counts()
        kept = counts.index[(counts["cells"] >= min_cells) & (counts["donors"] >= min_donors)]
        if len(kept) < 2:
            table = "; ".join(f"{row.Index}: {row.cells} cells, {row.donors} donors" for row in counts.itertuples())
            raise InputError(
                f"{len(kept)} of {len(counts)} types have at least {min_cells} cells and {min_donors} donors; a "
                f"classifier needs two. There are: {table or 'no labelled cells'}. Lower min_cells or min_donors."
            )
        return self.select(np.isin(self.labels, [*kept, ""]))

    @classmethod
    def concatenate(cls, datasets: Sequence["CellDataset"]) -> "CellDataset":
        """Several datasets as one.

        Features that one of them lacks are NaN for its cells, images and streams that it lacks too.

        Raises
        ------
        InputError
            When images or streams have other sizes or axes, or a cell is in two of them.
        """
        import pandas as pd

        datasets = list(datasets)
        if not datasets:
            raise InputError("There are no datasets to put together.")
        names = tuple(dict.fromkeys(name for one in datasets for name in one.feature_names))
        first = next((one for one in datasets if one.images is not None), datasets[0])
        return cls(
            pd.concat([one.cells for one in datasets], ignore_index=True),
            None if first.images is None else np.concatenate([_images_like(one, first) for one in datasets]),
            np.concatenate([one.columns(names, missing="nan") for one in datasets]),
            names,
            first.frequencies_hz,
            first.times_ms,
            _joined_streams(datasets),
        )

    @classmethod
    def from_analyzers(cls, sorting_analyzers: "Sequence[SortingAnalyzer]", **kwargs: Any) -> "CellDataset":
        """A dataset of sorted units; see :func:`~.dataset_units.analyzers_dataset`."""
        from .dataset_units import analyzers_dataset

        return analyzers_dataset(sorting_analyzers, **kwargs)

    @classmethod
    def from_units(cls, cells: "pd.DataFrame", **kwargs: Any) -> "CellDataset":
        """A dataset of units from spike trains and waveforms; see :func:`~.dataset_units.units_dataset`."""
        from .dataset_units import units_dataset

        return units_dataset(cells, **kwargs)

    @classmethod
    def from_sweeps(cls, cells: "Sequence[CellSweeps]", **kwargs: Any) -> "CellDataset":
        """A dataset from current-clamp sweeps; see :func:`~.dataset_sweeps.sweeps_dataset`."""
        from .dataset_sweeps import sweeps_dataset

        return sweeps_dataset(cells, **kwargs)

    def columns(self, names: Sequence[str], *, missing: str = "raise") -> np.ndarray:
        """Features by name, float32, shape (num_cells, len(names)).

        Parameters
        ----------
        names : sequence of str
        missing : {"raise", "nan"}, default: "raise"
            What to do about names that the dataset does not have.

        Raises
        ------
        InputError
            With "raise", when there are such names.
        """
        places = {name: k for k, name in enumerate(self.feature_names)}
        lost = [name for name in names if name not in places]
        if lost and missing == "raise":
            raise InputError(f"{len(lost)} of {len(names)} features are missing in the dataset, such as {lost[:5]}.")
        known = np.append(self.features, np.full((len(self), 1), np.nan, dtype="float32"), axis=1)
        return known[:, [places.get(name, -1) for name in names]]

    def save(self, path: str | Path) -> Path:
        """Save as one compressed ``.npz`` file, whole or not at all; see :mod:`~.dataset_file`."""
        from .dataset_file import write_dataset

        return write_dataset(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "CellDataset":
        """Load what :meth:`save` wrote."""
        from .dataset_file import read_dataset

        return read_dataset(path)


def _checked_cells(cells):
    import pandas as pd

    if not isinstance(cells, pd.DataFrame) or "cell_id" not in cells:
        raise InputError(f"cells must be a DataFrame with a column cell_id, got {type(cells).__name__}.")
    cells = cells.reset_index(drop=True)
    for name in TEXT_COLUMNS:
        column = cells[name] if name in cells else pd.Series([""] * len(cells), dtype=object)
        cells[name] = column.astype(object).where(column.notna(), "").astype(str)
    twice = cells.duplicated(["dataset", "cell_id"])
    if twice.any():
        some = cells.loc[twice, "cell_id"].head(3).tolist()
        raise InputError(f"{int(twice.sum())} cells appear more than once in their data set, such as {some}.")
    return cells


def _checked_images(images, num_cells):
    images = np.asarray(images, dtype="float32")
    if images.ndim != 4 or len(images) != num_cells or 0 in images.shape[1:]:
        text = "images must have shape (num_cells, num_channels, num_frequencies, num_samples)"
        raise InputError(f"{text} with {num_cells} cells, got {images.shape}.")
    share = np.isfinite(images).mean(axis=(1, 2, 3))
    partly = (share > 0) & (share < 1)
    if partly.any():
        text = f"{int(partly.sum())} of {num_cells} images are partly NaN or infinite, such as row"
        raise InputError(f"{text} {int(np.argmax(partly))}. A cell without an image has NaN throughout.")
    return images


def _checked_axis(name, values, length):
    values = np.arange(length) if values is None else values
    values = np.asarray(values, dtype="float64")
    steps = np.diff(values)
    if values.shape != (length,) or not np.isfinite(values).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise InputError(f"{name} must hold {length} numbers that rise or fall, got shape {values.shape}.")
    return values


def _exist(rows, num):
    return -num <= rows.min() and rows.max() < num


def _images_like(dataset, first):
    shape = (len(dataset), *first.images.shape[1:])
    if dataset.images is None:
        return np.full(shape, np.nan, dtype="float32")
    same_axes = dataset.images.shape == shape and all(
        np.allclose(getattr(dataset, name), getattr(first, name)) for name in ("frequencies_hz", "times_ms")
    )
    if not same_axes:
        raise InputError(
            f"Images of {dataset.images.shape[1:]} and of {shape[1:]} cannot be put together: sizes, frequencies and "
            "times must agree. Compute all with the same settings."
        )
    return dataset.images


def _checked_streams(streams, num_cells):
    streams = dict(streams)
    for name, stream in streams.items():
        if not isinstance(stream, CellStream) or len(stream) != num_cells or name in ("image", "features"):
            found = f"{len(stream)} rows" if isinstance(stream, CellStream) else type(stream).__name__
            raise InputError(f"Stream {name!r} must be a CellStream with a row for each of {num_cells} cells: {found}.")
    return streams


def _joined_streams(datasets):
    out = {}
    for name in dict.fromkeys(name for one in datasets for name in one.streams):
        first = next(one.streams[name] for one in datasets if name in one.streams)
        parts = [one.streams.get(name, first.unknown(len(one))) for one in datasets]
        for part in parts:
            if difference := axes_differ(first.axes, part.axes):
                text = f"Streams {name!r} cannot be put together: {difference}."
                raise InputError(f"{text} Compute all with the same settings.")
        out[name] = CellStream(np.concatenate([part.values for part in parts]), first.axes)
    return out
