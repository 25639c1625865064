"""Who is kept back: splits of a dataset by subject, recording, lab, or unit.

Only a split by subject (or lab) asks what users ask: how good are labels in an animal that the classifier has never
seen? Units of one recording share noise, brain state and histology, and one neuron can recur on several days, so that
splits by recording or by unit promise more than new animals keep. They are here to show by how much.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..classification.folds import group_folds
from ..errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SPLITS", "RegionSplit", "split_units"]

# those after the first two let training see the animals that are tested
SPLITS = {"subject": False, "lab": False, "recording": True, "random": True}


@dataclass(frozen=True, eq=False)
class RegionSplit:
    """Which fold tests each unit.

    Attributes
    ----------
    by : str
        "subject", "lab", "recording" or "random".
    fold : int64 array, shape (num_units,)
        Fold in which the unit is tested; it trains in all others.
    leaky : bool
        Whether animals (or their recordings) can be on both sides: a diagnostic, no score to report.
    """

    by: str
    fold: np.ndarray
    leaky: bool

    @property
    def num_folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1

    @property
    def digest(self) -> str:
        """SHA-256 of the assignment: two evaluations with the same digest tested the same units in the same folds."""
        return hashlib.sha256(self.by.encode() + self.fold.astype("<i8").tobytes()).hexdigest()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices of training and of test units, fold after fold."""
        for fold in range(self.num_folds):
            yield np.flatnonzero(self.fold != fold), np.flatnonzero(self.fold == fold)


def split_units(units: "pd.DataFrame", by: str = "subject", *, num_folds: int = 5, seed: int = 0) -> RegionSplit:
    """Assign every unit to a fold.

    Parameters
    ----------
    units : DataFrame
        Of a :class:`~si_neuroml.regions.dataset.RegionDataset`: columns subject, recording, region, and lab for a split
        by lab. Unlabelled units are assigned too: along the probe they are evidence for their neighbours.
    by : {"subject", "lab", "recording", "random"}
        What is never divided. Default: "subject".
    num_folds : int, default: 5
        With no more subjects (labs, recordings) than this, each is a fold.
    seed : int, default: 0
        Of the draw.

    Returns
    -------
    RegionSplit
        Regions are spread over the folds as evenly as whole groups allow.

    Raises
    ------
    InputError
        On an unknown `by`, fewer than two groups, units without a name of their group, or fewer than two folds.
    """
    if by not in SPLITS:
        raise InputError(f"Splits are {list(SPLITS)}, got {by!r}.")
    if num_folds < 2 or len(units) < 2:
        raise InputError(f"A split needs 2 folds and 2 units at least, got {num_folds!r} folds and {len(units)} units.")
    labels = np.unique(units["region"].to_numpy(dtype=str), return_inverse=True)[1].reshape(-1)
    if by == "random":
        order = np.random.default_rng(seed).permutation(len(units))
        # dealt out region by region, so that each fold gets its share of each
        order = order[np.argsort(labels[order], kind="stable")]
        fold = np.empty(len(units), dtype="int64")
        fold[order] = np.arange(len(units)) % num_folds
        return RegionSplit(by, fold, SPLITS[by])
    masks = group_folds(labels, _groups(units, by), num_folds, seed)
    return RegionSplit(by, np.argmax(masks, axis=0).astype("int64"), SPLITS[by])


def _groups(units, by):
    if by not in units:
        raise InputError(f"A split by {by} needs a column {by!r} in units; there are {list(units.columns)!r}.")
    names = units[by].fillna("").to_numpy(dtype=str)
    if (names == "").any():
        text = f"{(names == '').sum()} of {len(names)} units have no {by}: they could land on both sides."
        raise InputError(f"{text} Fill in the column, or split by something else.")
    if by == "recording":
        # two animals may both have a "session1"
        subjects = units["subject"].to_numpy(dtype=str)
        names = np.array([f"{subject}\0{name}" for subject, name in zip(subjects, names, strict=True)])
    if len(np.unique(names)) < 2:
        raise InputError(f"A split by {by} needs at least 2 of them, got only {str(names[0])!r}.")
    return names
