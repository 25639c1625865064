"""What an evaluation of cell-type models found: what was tested on what, scores, and what could explain them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.scores import ClassScores
from .dataset_probe import DatasetProbe
from .splits import CellSplit

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CellTypeEvaluation"]

SHOWN = ("macro_f1", "auc", "log_loss", "calibration_error", "accuracy", "named", "named_accuracy")
COVERAGES = (1.0, 0.9, 0.8, 0.6, 0.4)


@dataclass(frozen=True, eq=False)
class CellTypeEvaluation:
    """What :func:`evaluate_cell_type_models` finds. ``print(evaluation)`` shows the tables.

    Attributes
    ----------
    types : tuple of str
        Columns of all probabilities.
    scores : dict of ClassScores
        By (split, model), of all tested cells that are labelled.
    dataset_scores : dict of ClassScores
        By (split, model, data set); empty with one data set.
    probabilities : dict of float64 array, shape (num_cells, num_types)
        By (split, model): of every tested cell, from the fold that tested it; NaN for the others.
    named : dict of bool array, shape (num_cells,)
        By (split, model), where the classifier abstains at all: whether its label is a type and not "unknown".
    splits : dict of CellSplit
        By name; their digests tell whether two evaluations tested the same cells together.
    labels : array of str, shape (num_cells,)
    probes : dict of DatasetProbe
        By what is looked at; empty with one data set.
    reference : str
        The model that others are compared with.
    against_reference : DataFrame
        By split and model, balanced accuracy minus that of the reference: ``difference``, ``low``, ``high`` (paired
        95 % interval over donors) and ``clears`` (low above 0). An image model that does not clear the features is not
        worth its cost.
    """

    types: tuple[str, ...]
    scores: dict[tuple[str, str], ClassScores]
    dataset_scores: dict[tuple[str, str, str], ClassScores]
    probabilities: dict[tuple[str, str], np.ndarray]
    named: dict[tuple[str, str], np.ndarray]
    splits: dict[str, CellSplit]
    labels: np.ndarray = field(repr=False)
    probes: dict[str, DatasetProbe]
    reference: str
    against_reference: "pd.DataFrame" = field(repr=False)

    @property
    def table(self) -> "pd.DataFrame":
        """One row per split and model: each score with ``_low`` and ``_high``, and ``leaky``.

        ``named`` is the share of cells that got a type instead of "unknown", ``named_accuracy`` how many of these types
        are right.
        """
        import pandas as pd

        rows = []
        for (split, model), scores in self.scores.items():
            row = {"split": split, "leaky": self.splits[split].leaky, "model": model, **_with_ends(scores)}
            rows.append(row | self._named_row(split, model) | _sizes(scores))
        return pd.DataFrame(rows)

    @property
    def by_dataset(self) -> "pd.DataFrame":
        """One row per split, model and data set of the tested cells; balanced over the types that the set has."""
        import pandas as pd

        rows = [
            {"split": split, "model": model, "dataset": name, **_with_ends(scores), **_sizes(scores)}
            for (split, model, name), scores in self.dataset_scores.items()
        ]
        return pd.DataFrame(rows)

    @property
    def leakage(self) -> "pd.DataFrame":
        """Balanced accuracy of each model by donor and under the splits that test the same cells, with their ``_gap``.

        A gap above 0 is what a split promises too much; with data sets left out it is below 0 by what the others do not
        teach about them.
        """
        import pandas as pd

        base = self.splits.get("donor")
        names = [] if base is None else [n for n, s in self.splits.items() if np.array_equal(s.tested, base.tested)]
        models = list(dict.fromkeys(model for _, model in self.scores))
        wide = pd.DataFrame(index=pd.Index(models, name="model"))
        for split in names:
            wide[split] = [self.scores[split, model].values["balanced_accuracy"] for model in models]
        for split in (name for name in names if name != "donor"):
            wide[f"{split}_gap"] = wide[split] - wide["donor"]
        return wide

    @property
    def coverage(self) -> "pd.DataFrame":
        """Accuracy (with ``low``, ``high``) of the surest share of cells by split and model.

        ``threshold`` is the least probability among them.
        """
        import pandas as pd

        rows = [
            {"split": split, "model": model, **row}
            for (split, model), scores in self.scores.items()
            for row in scores.coverage
        ]
        return pd.DataFrame(rows)

    def confusion(self, split: str, model: str) -> "pd.DataFrame":
        """Row-normalised confusion matrix: true types down, most likely types across."""
        import pandas as pd

        return pd.DataFrame(self.scores[split, model].confusion_rates, index=self.types, columns=self.types)

    def to_dict(self) -> dict[str, Any]:
        """Scores, probes, leakage and digests of the splits as plain numbers, for JSON."""
        splits = {
            name: {"digest": split.digest, "shared_donors": split.shared_donors, "num_folds": len(split.folds)}
            for name, split in self.splits.items()
        }
        keys = ("split", "model", "dataset")
        return {
            "types": list(self.types),
            "splits": splits,
            "scores": [
                {"split": split, "model": model, **self._named_row(split, model), **scores.to_dict()}
                for (split, model), scores in self.scores.items()
            ],
            "by_dataset": [
                dict(zip(keys, key, strict=True)) | scores.to_dict() for key, scores in self.dataset_scores.items()
            ],
            "leakage": _plain_table(self.leakage),
            "reference": self.reference,
            "against_reference": _plain_table(self.against_reference),
            "probes": {name: probe.to_dict() for name, probe in self.probes.items()},
        }

    def __str__(self) -> str:
        return _evaluation_text(self)

    def _named_row(self, split, model):
        named = self.named.get((split, model))
        if named is None:
            return {"named": None, "named_accuracy": None}
        rows = self.probabilities[split, model]
        asked = self.splits[split].tested & np.isin(self.labels, self.types)
        given = named & asked
        right = np.array(self.types)[np.nan_to_num(rows[given]).argmax(axis=1)] == self.labels[given]
        return {
            "named": float(given.sum() / asked.sum()),
            "named_accuracy": float(right.mean()) if len(right) else None,
        }


def _with_ends(scores):
    row = {}
    for name, value in scores.values.items():
        low, high = (np.nan, np.nan) if scores.intervals is None else scores.intervals[name]
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def _sizes(scores):
    types = int((scores.confusion.sum(axis=1) > 0).sum())
    return {"num_cells": scores.num_units, "num_donors": scores.num_subjects, "num_types": types}


def _evaluation_text(evaluation):
    """The tables of an evaluation one below the other, widths as they come."""
    table, parts = evaluation.table, []
    table["95 %"] = _interval_texts(table)
    probes = [f"  {name}: {probe.summary}" for name, probe in evaluation.probes.items()]
    for name in evaluation.splits:
        rows = table.loc[table["split"] == name, ["model", "balanced_accuracy", "95 %", *SHOWN]]
        parts.append("\n".join([_headline(evaluation, name), *probes, _text(rows, index=False)]))
    if evaluation.dataset_scores:
        rows = evaluation.by_dataset
        rows["balanced accuracy"] = [
            f"{value:.3f} ({interval})"
            for value, interval in zip(rows["balanced_accuracy"], _interval_texts(rows), strict=True)
        ]
        wide = rows.pivot(index=["split", "model"], columns="dataset", values="balanced accuracy")
        wide = wide.reindex(list(dict.fromkeys(zip(rows["split"], rows["model"], strict=True))))
        parts.append(f"balanced accuracy in each data set, over the types it has\n{_text(wide.fillna('-'))}")
    leakage = evaluation.leakage
    if leakage.shape[1] > 1:
        parts.append(f"balanced accuracy by split, and the gap to the split by donor\n{_text(leakage)}")
    if len(evaluation.against_reference):
        title = f"balanced accuracy minus that of {evaluation.reference}, paired over donors"
        parts.append(f"{title}\n{_text(evaluation.against_reference)}")
    parts.append(f"accuracy of the surest share of cells\n{_text(_coverage_table(evaluation))}")
    return "\n\n".join(parts)


def _plain_table(table):
    """A table as a list of dicts of plain numbers, with None in place of NaN."""
    table = table.reset_index().astype(object)
    return table.where(table.notna(), None).to_dict("records")


def _headline(evaluation, name):
    split = evaluation.splits[name]
    scores = next(own for (of, _), own in evaluation.scores.items() if of == name)
    how = f"{len(split.folds)} folds" if len(split.folds) > 1 else f"{len(split.folds[0][0])} training cells"
    count = f"{scores.num_units} cells of {scores.num_subjects} donors tested, {how}"
    if split.leaky:
        return f"split {name}: {count}; LEAKY: {split.shared_donors:.1%} of the test cells have a donor in training"
    return f"split {name}: {count}, no donor on both sides"


def _interval_texts(table):
    ends = zip(table["balanced_accuracy_low"], table["balanced_accuracy_high"], strict=True)
    return [f"{low:.3f} to {high:.3f}" if np.isfinite(low) else "-" for low, high in ends]


def _coverage_table(evaluation):
    rows = evaluation.coverage
    rows = rows[rows["coverage"].isin(COVERAGES)]
    wide = rows.pivot(index=["split", "model"], columns="coverage", values="accuracy")
    return wide.reindex(index=list(evaluation.scores), columns=list(COVERAGES)).rename(columns="{:.0%}".format)


def _text(table, index=True):
    return table.to_string(index=index, float_format="%.3f", na_rep="-")
