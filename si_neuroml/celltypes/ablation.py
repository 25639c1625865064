"""What does each stream of cells bring? Scores by one stream, by all, and by all but one, on donors left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.folds import group_folds
from ..classification.scores import ClassScores, class_scores, compare_scores
from ..errors import InputError
from ..training import progress
from .classifier import combine
from .fit import fit_cell_type_classifier

if TYPE_CHECKING:
    import pandas as pd

    from .dataset import CellDataset

__all__ = ["ALL", "StreamAblation", "stream_ablation"]

ALL = "all"
_SHOWN = ("macro_f1", "auc", "log_loss", "accuracy_at_half_coverage")


@dataclass(frozen=True, eq=False)
class StreamAblation:
    """What :func:`stream_ablation` finds; printed, it is the table.

    Attributes
    ----------
    table : DataFrame
        A row for each stream alone, "all", and "all but <stream>": balanced accuracy with its 95 % interval over
        donors (``low``, ``high``), other scores, and ``difference`` to all in balanced accuracy with its paired
        interval (``difference_low``, ``difference_high``): what a stream brings is minus that of "all but" it.
    scores : dict of {str: ClassScores}
        By row of the table.
    probabilities : dict of {str: float64 array, shape (num_cells, num_classes)}
        Of each labelled cell, by classifiers that did not see its donor.
    cells : DataFrame
        The labelled cells.
    classes : tuple of str
    """

    table: "pd.DataFrame"
    scores: dict[str, ClassScores]
    probabilities: dict[str, np.ndarray]
    cells: "pd.DataFrame"
    classes: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {name}" for name, number in self.cells["label"].value_counts().items())
        one = self.scores[ALL]
        head = f"{one.num_units} cells of {one.num_subjects} donors: {counts}; chance {1 / len(self.classes):.2f}"
        return f"{head}\n{self.table.to_string(float_format=lambda value: f'{value:.2f}', na_rep='-')}"


def stream_ablation(
    dataset: "CellDataset",
    streams: Sequence[str] | None = None,
    *,
    num_folds: int = 5,
    num_resamples: int = 1000,
    seed: int = 0,
    progress_bar: bool = True,
    **fit_options: Any,
) -> StreamAblation:
    """Scores by each stream alone, by all together, and by all but one, on donors that training has not seen.

    All are made in the same folds. In each, everything that the classifiers learn, temperatures and fusion included,
    comes from the other donors.

    Parameters
    ----------
    dataset : CellDataset
        Labelled cells; others are left out.
    streams : sequence of str, optional
        Of "image", "features" and the streams of the dataset. Default: all there are.
    num_folds : int, default: 5
        Folds of donors; as many as there are donors or more: each donor is a fold.
    num_resamples : int, default: 1000
        Of the bootstrap over donors.
    seed : int, default: 0
        Of folds, models and bootstrap.
    progress_bar : bool, default: True
    **fit_options
        Of :func:`~si_neuroml.celltypes.fit.fit_cell_type_classifier`.

    Returns
    -------
    StreamAblation

    Raises
    ------
    InputError
        On fewer than two streams, and as :func:`~si_neuroml.celltypes.fit.fit_cell_type_classifier`.
    """
    dataset = dataset.labelled()
    streams = dataset.stream_names if streams is None else tuple(streams)
    if len(streams) < 2:
        raise InputError(f"Streams are compared when there are two or more; there is {list(streams)}.")
    classes, labels = np.unique(dataset.labels, return_inverse=True)
    subsets = {ALL: streams}
    if len(streams) > 2:
        subsets |= {f"all but {name}": tuple(other for other in streams if other != name) for name in streams}
    rows = (*streams, *subsets)
    probabilities = {row: np.zeros((len(dataset), len(classes))) for row in rows}
    folds = group_folds(labels, dataset.groups, num_folds, seed)
    work = [(test, row) for test in folds for row in subsets]
    for test, row in progress(work, description="leave donors out", show=progress_bar):
        classifier = fit_cell_type_classifier(
            dataset.select(~test), subsets[row], seed=seed, progress_bar=False, **fit_options
        )
        columns = np.searchsorted(classes, classifier.classes)
        found = classifier.predict(dataset.select(test))
        said = {row: found.probabilities}
        if row == ALL:
            said |= {name: combine([one], None, None, classifier.class_shares) for name, one in found.streams.items()}
        for name, values in said.items():
            probabilities[name][np.ix_(test, columns)] = values
    given = (classes, dataset.groups)
    options = {"num_resamples": num_resamples, "seed": seed}
    scores = {row: class_scores(dataset.labels, probabilities[row], *given, **options) for row in rows}
    against = {
        row: compare_scores(dataset.labels, probabilities[row], probabilities[ALL], *given, **options)
        for row in rows
        if row != ALL
    }
    table = _table(scores, against)
    return StreamAblation(table, scores, probabilities, dataset.cells, tuple(map(str, classes)))


def _table(scores, against):
    import pandas as pd

    rows = {}
    for name, one in scores.items():
        low, high = (one.intervals or {}).get("balanced_accuracy", (np.nan, np.nan))
        rows[name] = {"balanced_accuracy": one.values["balanced_accuracy"], "low": low, "high": high}
        rows[name] |= {key: one.values[key] for key in _SHOWN}
        difference = against[name]["balanced_accuracy"] if name in against else (np.nan,) * 3
        rows[name] |= dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")
