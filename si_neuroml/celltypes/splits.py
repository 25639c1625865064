"""Who is kept back: cells split by donor, data set or at random, given test sets, and transfers between groups.

Cells of one donor share their animal, slice and day. Only a split by donor (or data set) asks what users ask: how good
are labels of cells whose donor the classifier has never seen? A split at random promises more, and is here to show by
how much. Every split says which share of its test cells has a donor in training.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.folds import group_folds
from ..errors import InputError

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = ["SPLITS", "CellSplit", "holdout_split", "split_cells", "transfer_split"]

SPLITS = ("donor", "dataset", "random")


@dataclass(frozen=True, eq=False)
class CellSplit:
    """Training and test cells, fold after fold.

    Attributes
    ----------
    name : str
    folds : tuple of (int64 array, int64 array)
        Rows of training and of test cells; no cell is tested twice.
    num_cells : int
        Of the dataset.
    shared_donors : float
        Share of the test cells whose donor is also in the training of their fold. Above 0, scores flatter.
    """

    name: str
    folds: tuple[tuple[np.ndarray, np.ndarray], ...]
    num_cells: int
    shared_donors: float

    @classmethod
    def of(cls, name: str, dataset: "CellDataset", folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> "CellSplit":
        """A split of rows or masks; it counts the donors on both sides.

        Raises
        ------
        InputError
            When a side is empty, or a cell is on both sides or tested twice.
        """
        folds = tuple(tuple(_rows(side, len(dataset)) for side in fold) for fold in folds)
        tested = np.concatenate([test for _, test in folds]) if folds else np.zeros(0, dtype="int64")
        empty = not folds or any(not len(side) for fold in folds for side in fold)
        if empty or len(np.unique(tested)) < len(tested) or any(np.intersect1d(*fold).size for fold in folds):
            sizes = [tuple(map(len, fold)) for fold in folds]
            text = "needs training and test cells in every fold, none on both sides or tested twice"
            raise InputError(f"Split {name!r} {text}; sizes of the folds are {sizes}.")
        groups = dataset.groups
        shared = sum(np.isin(groups[test], groups[train]).sum() for train, test in folds)
        return cls(str(name), folds, len(dataset), float(shared / len(tested)))

    @property
    def leaky(self) -> bool:
        """Whether any donor is on both sides of a fold."""
        return self.shared_donors > 0

    @property
    def tested(self) -> np.ndarray:
        """Whether each cell is tested, a bool array."""
        mask = np.zeros(self.num_cells, dtype=bool)
        mask[np.concatenate([test for _, test in self.folds])] = True
        return mask

    @property
    def digest(self) -> str:
        """SHA-256 of the folds: two evaluations with the same digest trained and tested the same rows."""
        digest = hashlib.sha256()
        for rows in (side for fold in self.folds for side in fold):
            digest.update(len(rows).to_bytes(8, "little") + rows.astype("<i8").tobytes())
        return digest.hexdigest()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return iter(self.folds)


def split_cells(dataset: "CellDataset", by: str = "donor", *, num_folds: int = 5, seed: int = 0) -> CellSplit:
    """Folds in which every cell is tested once.

    Parameters
    ----------
    dataset : CellDataset
    by : {"donor", "dataset", "random"}
        What is never divided. "dataset" leaves out one data set after the other. Default: "donor".
    num_folds : int, default: 5
        With no more donors than this, each is a fold. Not used for data sets.
    seed : int, default: 0
        Of the draw.

    Returns
    -------
    CellSplit
        Types are spread over the folds as evenly as donors allow.

    Raises
    ------
    InputError
        On an unknown `by`, fewer than two donors (data sets, folds, cells), or cells without a name of theirs.
    """
    if by not in SPLITS:
        raise InputError(f"Splits are {list(SPLITS)}, got {by!r}.")
    labels = np.unique(dataset.labels, return_inverse=True)[1].reshape(-1)
    if num_folds < 2 or len(dataset) < 2:
        raise InputError(f"A split needs 2 folds and 2 cells at least, got {num_folds!r} and {len(dataset)}.")
    if by == "random":
        order = np.random.default_rng(seed).permutation(len(dataset))
        # dealt out type by type, so that each fold gets its share of each
        order = order[np.argsort(labels[order], kind="stable")]
        fold = np.empty(len(dataset), dtype="int64")
        fold[order] = np.arange(len(dataset)) % num_folds
        masks = [fold == k for k in range(min(num_folds, len(dataset)))]
    else:
        names = dataset.cells[by].to_numpy(dtype=str)
        if (names == "").any():
            text = f"{(names == '').sum()} of {len(names)} cells have no {by}: they could land on both sides."
            raise InputError(f"{text} Fill in the column, or leave them out.")
        groups = dataset.groups if by == "donor" else names
        if len(np.unique(groups)) < 2:
            raise InputError(f"A split by {by} needs at least 2 of them, got only {str(names[0])!r}.")
        each = [names == name for name in np.unique(names)]
        masks = group_folds(labels, groups, num_folds, seed) if by == "donor" else each
    return CellSplit.of(by, dataset, [(~test, test) for test in masks])


def holdout_split(dataset: "CellDataset", test: np.ndarray, name: str = "holdout") -> CellSplit:
    """One given test set, such as a published one; all others train.

    Parameters
    ----------
    dataset : CellDataset
    test : bool array, shape (num_cells,), or rows
    name : str, default: "holdout"

    Returns
    -------
    CellSplit
        ``shared_donors`` says how many test cells have a donor in training.

    Raises
    ------
    InputError
        When either side is empty, or the mask does not fit.
    """
    mask = np.zeros(len(dataset), dtype=bool)
    mask[_rows(test, len(dataset))] = True
    return CellSplit.of(name, dataset, [(~mask, mask)])


def transfer_split(dataset: "CellDataset", train: Any, test: Any, name: str | None = None) -> CellSplit:
    """Train on one group of cells, test on another: other laboratories, temperatures, species.

    Parameters
    ----------
    dataset : CellDataset
    train, test : str, dict, mask or rows
        The name of a data set, {column of ``cells``: value or list of values}, or the cells themselves. Cells whose
        donor is in the test group do not train.
    name : str, optional
        Default: "train -> test".

    Returns
    -------
    CellSplit

    Raises
    ------
    InputError
        When there is no such group, a cell is in both, or no training cell is left.
    """
    sides = [_members(dataset, side) for side in (train, test)]
    name = f"{_text(train)} -> {_text(test)}" if name is None else name
    both = sides[0] & sides[1]
    if both.any():
        raise InputError(f"Transfer {name!r}: {both.sum()} cells are in both groups.")
    groups = dataset.groups
    return CellSplit.of(name, dataset, [(sides[0] & ~np.isin(groups, groups[sides[1]]), sides[1])])


def _members(dataset, side):
    """Mask of a group of cells."""
    if not isinstance(side, str | Mapping):
        mask = np.zeros(len(dataset), dtype=bool)
        mask[_rows(side, len(dataset))] = True
        return mask
    mask = np.ones(len(dataset), dtype=bool)
    for column, values in ({"dataset": side} if isinstance(side, str) else side).items():
        if column not in dataset.cells:
            raise InputError(f"The cells have no column {column!r}; there are {list(dataset.cells.columns)}.")
        mask &= dataset.cells[column].isin(_listed(values)).to_numpy()
    if not mask.any():
        there = sorted(dataset.cells["dataset"].unique().tolist())
        raise InputError(f"No cell is in the group {side!r}. Data sets are {there}.")
    return mask


def _text(side):
    if isinstance(side, Mapping):
        return ", ".join(str(value) for values in side.values() for value in _listed(values))
    return side if isinstance(side, str) else "cells"


def _listed(values):
    return list(values) if isinstance(values, list | tuple | set | np.ndarray) else [values]


def _rows(side, num):
    rows = np.asarray(side)
    if rows.dtype == bool:
        if rows.shape != (num,):
            raise InputError(f"The mask has shape {rows.shape}, the dataset has {num} cells.")
        return np.flatnonzero(rows)
    rows = rows.astype("int64") if rows.size == 0 else rows
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or (len(rows) and not 0 <= rows.min() <= rows.max() < num):
        raise InputError(f"Cells are named by a mask or by rows 0 to {num - 1}, got {side!r}.")
    return np.unique(rows).astype("int64")
