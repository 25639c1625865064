"""Can these inputs tell which data set a cell comes from? Then a classifier of types can take that for the type.

A classifier predicts the data set of cells whose donor it has not seen, from the same inputs as the types are predicted
from. Data sets hold other mixtures of types, which alone would tell them apart: so every cell counts inversely to the
number of cells of its type in its data set (each type is spread evenly over its data sets, and says nothing about
them), and recalls are averaged within a type first. What remains is what laboratories differ in: protocol, temperature,
bandwidth, species, and how cells were labelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.folds import group_folds
from ..classification.score_sums import divide, interval_of, subject_draws
from ..errors import InputError
from .baselines import input_columns
from .feature_models import BoostedTrees

if TYPE_CHECKING:
    import pandas as pd

    from .dataset import CellDataset

__all__ = ["DatasetProbe", "dataset_probe"]

MIN_DONORS = 2
# 100 trees say whether there is a difference; more of them would not say it better
TREES = {"max_iter": 100, "learning_rate": 0.1, "max_leaf_nodes": 15, "l2_regularization": 1.0}


@dataclass(frozen=True, eq=False)
class DatasetProbe:
    """What :func:`dataset_probe` finds. ``print(probe)`` says it in a line and a table.

    Attributes
    ----------
    inputs : str
        What was looked at.
    balanced_accuracy : float
        Recall of the data sets within a type, mean over data sets, then over types: 1 when every cell betrays its data
        set, `chance` when none does.
    interval : (float, float)
        95 % over donors, drawn again within their data sets.
    chance : float
        Mean over types of 1 / number of its data sets.
    types : DataFrame, one row per type
        ``balanced_accuracy``, ``chance``, ``num_datasets`` and ``num_cells``.
    features : DataFrame, one row per input, the most telling first
        ``alone``: area under the curve of this input between two data sets, within a type, mean over types and pairs
        (0.5 tells nothing, 1 all; around 0.55 is chance with few cells); ``missing``: largest difference between data
        sets of the share of cells without it.
    num_cells, num_donors, num_left_out : int
        Cells and donors asked about; labelled cells whose type is in one data set only, or which are too few.
    """

    inputs: str
    balanced_accuracy: float
    interval: tuple[float, float]
    chance: float
    types: "pd.DataFrame"
    features: "pd.DataFrame" = field(repr=False)
    num_cells: int
    num_donors: int
    num_left_out: int

    @property
    def summary(self) -> str:
        """One line, to stand beside a score."""
        low, high = self.interval
        value = f"{self.balanced_accuracy:.3f} ({low:.3f} to {high:.3f})"
        return f"the data set is told from the same {self.inputs}, within types: {value}, chance {self.chance:.3f}"

    def __str__(self) -> str:
        types = self.types.to_string(float_format="%.3f")
        telling = self.features.head(8).to_string(float_format="%.3f")
        left = f"; {self.num_left_out} cells of types in one data set left out" if self.num_left_out else ""
        count = f"{self.num_cells} cells of {self.num_donors} donors{left}"
        return f"{self.summary}\n{count}\n{types}\nwhat tells most\n{telling}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, for JSON."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("types", "features")}
        tables = {name: getattr(self, name).reset_index().to_dict("records") for name in ("types", "features")}
        return own | {"interval": list(self.interval)} | tables


def dataset_probe(
    dataset: "CellDataset",
    inputs: str | Sequence[str] = "features",
    *,
    feature_names: Any = None,
    min_cells: int = 10,
    num_folds: int = 5,
    num_resamples: int = 1000,
    seed: int = 0,
) -> DatasetProbe:
    """Predict the data set of cells from the inputs of a classifier of types.

    Parameters
    ----------
    dataset : CellDataset
        Labelled cells of two data sets or more.
    inputs : str or sequence of str, default: "features"
        "features", "image" (averaged to 6 x 12 pixels per channel) and streams of the dataset.
    feature_names : sequence of str, optional
        Default: all.
    min_cells : int, default: 10
        Of a type in a data set; fewer are left out.
    num_folds : int, default: 5
        Of donors.
    num_resamples, seed : int, default: 1000, 0
        Of the interval; the seed also of folds and trees.

    Returns
    -------
    DatasetProbe
        Near chance, scores of types do not rest on the data set. Far above, they may: compare scores per data set,
        with a data set left out, and without the inputs that tell most.

    Raises
    ------
    InputError
        When no type has enough cells, of two donors each, in two data sets, or there are no such inputs.
    """
    X, names = input_columns(dataset, inputs, feature_names)
    inputs = inputs if isinstance(inputs, str) else ", ".join(inputs)
    known = np.isfinite(X).any(axis=1) & (dataset.labels != "")
    kept = known & _comparable(dataset, known, min_cells)
    if not kept.any():
        raise InputError(
            f"No type has {min_cells} cells of {MIN_DONORS} donors with {inputs} in two data sets each: there is "
            "nothing to tell apart, or nothing to tell it from. Lower min_cells, or add cells."
        )
    cells = dataset.select(kept)
    X, labels, groups = X[kept], cells.labels, cells.groups
    types, of_type = np.unique(labels, return_inverse=True)
    sets, of_set = np.unique(cells.cells["dataset"].to_numpy(dtype=str), return_inverse=True)
    num = np.zeros((len(types), len(sets)))
    np.add.at(num, (of_type, of_set), 1)
    said = _out_of_donor(X, of_type, of_set, groups, num, num_folds, seed)
    right = said == of_set
    value = _balanced(_counted(right, of_type, of_set, num.shape), num)
    return DatasetProbe(
        inputs,
        float(np.mean(value)),
        _interval(right, of_type, of_set, groups, num.shape, num_resamples, seed),
        float(np.mean(1 / (num > 0).sum(axis=1))),
        _type_table(types, value, num),
        _feature_table(X, names, of_type, of_set, num),
        int(kept.sum()),
        len(np.unique(groups)),
        int((known & ~kept).sum()),
    )


def _comparable(dataset, known, min_cells):
    """Cells of types that have enough cells and donors in two data sets; those of too small parts left out."""
    table = dataset.cells[["label", "dataset"]].assign(group=dataset.groups)[known]
    counts = table.groupby(["label", "dataset"])["group"].agg(["size", "nunique"])
    enough = counts.index[(counts["size"] >= min_cells) & (counts["nunique"] >= MIN_DONORS)]
    several = enough.to_frame().groupby(level="label").size()
    enough = {pair for pair in enough if several[pair[0]] > 1}
    pairs = zip(dataset.labels.tolist(), dataset.cells["dataset"].tolist(), strict=True)
    return np.array([pair in enough for pair in pairs], dtype=bool)


def _out_of_donor(X, of_type, of_set, groups, num, num_folds, seed):
    """The data set that each cell seems to come from, among those of its type."""
    weights = 1 / num[of_type, of_set]
    # types count alike, however many data sets they are in
    weights *= len(weights) / (num > 0).sum(axis=1)[of_type]
    said = np.zeros((len(X), num.shape[1]))
    for test in group_folds(of_type * num.shape[1] + of_set, groups, num_folds, seed):
        there = np.unique(of_set[~test])
        if len(there) == 1:
            said[test, there[0]] = 1.0
            continue
        trees = BoostedTrees(options=TREES, class_weight_power=0.0, seed=seed)
        trees.fit(X[~test], of_set[~test], sample_weight=weights[~test])
        said[np.ix_(test, there)] = trees.predict_proba(X[test])
    # which data sets its type is in must not help: the choice is among them
    return np.where(num[of_type] > 0, said, -1.0).argmax(axis=1)


def _counted(values, of_type, of_set, shape):
    total = np.zeros(shape)
    np.add.at(total, (of_type, of_set), values)
    return total


def _balanced(right, num):
    """Mean recall of each type's data sets."""
    return np.nanmean(divide(right, num), axis=-1)


def _interval(right, of_type, of_set, groups, shape, num_resamples, seed):
    """95 % over donors, drawn within each data set."""
    who = np.unique(groups, return_inverse=True)[1].reshape(-1)
    num_donors, size = who.max() + 1, int(np.prod(shape))
    flat = who * size + np.ravel_multi_index((of_type, of_set), shape)
    all_cells = np.bincount(flat, minlength=num_donors * size).reshape(num_donors, size)
    right = np.bincount(flat, right, num_donors * size).reshape(num_donors, size)
    home = np.zeros(num_donors, dtype="int64")
    home[who] = of_set
    totals = [np.zeros((num_resamples, size)) for _ in range(2)]
    for k in np.unique(home):
        own = home == k
        draws = subject_draws(int(own.sum()), num_resamples, seed + int(k))
        for total, sums in zip(totals, (right, all_cells), strict=True):
            total += draws @ sums[own]
    recalls = divide(*(total.reshape(-1, *shape) for total in totals))
    # a small part of a type can be missing from a draw
    known = np.isfinite(recalls).any(axis=2)
    values = divide(np.nansum(recalls, axis=2), np.isfinite(recalls).sum(axis=2))
    return interval_of(divide(np.nansum(values, axis=1), known.sum(axis=1)))


def _type_table(types, value, num):
    import pandas as pd

    columns = {
        "balanced_accuracy": value,
        "chance": 1 / (num > 0).sum(axis=1),
        "num_datasets": (num > 0).sum(axis=1),
        "num_cells": num.sum(axis=1).astype("int64"),
    }
    return pd.DataFrame(columns, index=pd.Index(types, name="type"))


def _feature_table(X, names, of_type, of_set, num):
    """How well each column tells two data sets apart within a type, by itself."""
    import pandas as pd

    alone = []
    for k, own in enumerate(num > 0):
        parts = {where: X[(of_type == k) & (of_set == where)] for where in np.flatnonzero(own)}
        alone += [_separation(parts[a], parts[b]) for a, b in combinations(parts, 2)]
    lost = [np.isnan(X[of_set == where]).mean(axis=0) for where in range(num.shape[1])]
    columns = {"alone": np.mean(alone, axis=0), "missing": np.max(lost, axis=0) - np.min(lost, axis=0)}
    table = pd.DataFrame(columns, index=pd.Index(names, name="input"))
    return table.sort_values("alone", ascending=False, kind="stable")


def _separation(one, other):
    """Area under the curve of each column, from 0.5 on; missing values stand at the end where they tell more."""
    from scipy.stats import rankdata

    values, found = np.concatenate([one, other]).astype("float64"), []
    for end in (-np.inf, np.inf):
        ranks = rankdata(np.where(np.isnan(values), end, values), axis=0)[: len(one)]
        area = (ranks.sum(axis=0) - len(one) * (len(one) + 1) / 2) / (len(one) * len(other))
        found.append(np.maximum(area, 1 - area))
    return np.maximum(*found)
