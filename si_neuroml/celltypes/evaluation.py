"""Cell-type models side by side on donors they have not seen, with what looser splits and one data set would promise.

Every model is fitted in every fold on the training cells alone, including its calibration, fusion and threshold (see
:func:`~si_neuroml.celltypes.fit.fit_cell_type_classifier`). Where cells come from several data sets, scores stand next
to the answer to another question: can the same inputs tell the data set (:mod:`~si_neuroml.celltypes.dataset_probe`)?
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.scores import class_scores, compare_scores
from ..errors import InputError
from .baselines import BASELINES, SimpleClassifier
from .classifier import UNKNOWN
from .dataset_probe import dataset_probe
from .evaluation_tables import CellTypeEvaluation
from .splits import CellSplit, split_cells, transfer_split

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = ["CellTypeEvaluation", "evaluate_cell_type_models"]


def evaluate_cell_type_models(
    dataset: "CellDataset",
    models: Sequence[str] | Mapping[str, Any] = (),
    *,
    splits: Sequence[str | CellSplit] = ("donor", "random"),
    transfers: Sequence[tuple[Any, Any]] | Mapping[str, tuple[Any, Any]] = (),
    num_folds: int = 5,
    baselines: bool = True,
    reference: str | None = None,
    probe: bool | Sequence[str] = True,
    num_resamples: int = 1000,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> CellTypeEvaluation:
    """Fit and score models in the folds of each split.

    Parameters
    ----------
    dataset : CellDataset
        With labels. Types of one donor only cannot be judged: see :meth:`CellDataset.drop_rare`.
    models : sequence of str, or dict
        "image", "features", "fusion", "recommended" or a stream of the dataset; or {name in the table: what to fit},
        where that is such a name, a dict of arguments of
        :func:`~si_neuroml.celltypes.fit.fit_cell_type_classifier` (``model``, ``feature_names``, ...), or a function
        of (training dataset, seed) that returns a classifier with ``classes`` and ``predict(dataset)`` or
        ``predict_proba(dataset)``.
    splits : sequence, default: ("donor", "random")
        Names as for :func:`~si_neuroml.celltypes.splits.split_cells` ("dataset" leaves data sets out), or splits of
        this dataset (:func:`~si_neuroml.celltypes.splits.holdout_split`). The first is the headline.
    transfers : sequence of pairs, or dict of pairs
        (train, test) as for :func:`~si_neuroml.celltypes.splits.transfer_split`: names of data sets, or
        {column: value}.
    num_folds : int, default: 5
        Of donors and at random.
    baselines : bool, default: True
        The largest type, the data set alone (with several of them), and logistic regression as well.
    reference : str, optional
        What the others are compared with. Default: "features" where it is a model, else "logistic_regression", else the
        first.
    probe : bool or sequence of str, default: True
        Whether to ask what tells the data set, where there are several; names: of these inputs only.
    num_resamples, seed : int, default: 1000, 0
        Of the intervals over donors; the seed also of folds and models.
    report : function of str, optional
        Called before each fit with what is to come, for example ``print``.

    Returns
    -------
    CellTypeEvaluation

    Raises
    ------
    InputError
        On fewer than two types, no model or split, two splits of one name, a reference that is no model, a training set
        with fewer than two types, or as :mod:`~si_neuroml.celltypes.splits`.
    """
    import pandas as pd

    entries = _entries(dataset, models, baselines)
    types = tuple(np.unique(dataset.labels[dataset.labels != ""]).tolist())
    if len(types) < 2 or not entries:
        text = "Evaluation needs labels of at least 2 types and a model;"
        raise InputError(f"{text} got types {list(types)!r} and models {list(entries)!r}.")
    reference = _reference(reference, entries)
    drawn = _drawn(dataset, splits, transfers, num_folds, seed)
    options = {"num_resamples": num_resamples, "seed": seed}
    scores, dataset_scores, probabilities, named, against = {}, {}, {}, {}, {}
    for split in drawn.values():
        for name, entry in entries.items():
            tell = _teller(report, split, name)
            probabilities[split.name, name], given = _tested(dataset, entry, split, types, seed, tell)
            if given is not None:
                named[split.name, name] = given
            of_split = _scores_by_dataset(dataset, probabilities[split.name, name], split, types, options)
            scores[split.name, name] = of_split.pop(None)
            dataset_scores |= {(split.name, name, where): own for where, own in of_split.items()}
        own = {name: probabilities[split.name, name] for name in entries}
        against |= _against(dataset, own, split, types, reference, options)
    columns = ["difference", "low", "high", "clears"]
    index = pd.MultiIndex.from_tuples(against, names=["split", "model"]) if against else None
    against = pd.DataFrame(list(against.values()), index=index, columns=columns)
    probes = _probes(dataset, entries, probe, options, report) if probe else {}
    return CellTypeEvaluation(
        types, scores, dataset_scores, probabilities, named, drawn, dataset.labels, probes, reference, against
    )


def _entries(dataset, models, baselines):
    entries = dict(models) if isinstance(models, Mapping) else {name: name for name in models}
    if baselines:
        usual = [name for name in BASELINES if name != "dataset_alone" or dataset.cells["dataset"].nunique() > 1]
        entries |= {name: name for name in usual if name not in entries}
    return entries


def _reference(reference, entries):
    usual = [name for name in ("features", "logistic_regression", *entries) if name in entries]
    reference = usual[0] if reference is None else reference
    if reference not in entries:
        raise InputError(f"The reference {reference!r} is none of the models {list(entries)!r}.")
    return reference


def _drawn(dataset, splits, transfers, num_folds, seed):
    """All splits by name; what cannot be trained is refused before anything is."""
    splits = [splits] if isinstance(splits, str | CellSplit) else splits
    drawn = [
        by if isinstance(by, CellSplit) else split_cells(dataset, by, num_folds=num_folds, seed=seed) for by in splits
    ]
    pairs = transfers.items() if isinstance(transfers, Mapping) else [(None, pair) for pair in transfers]
    drawn += [transfer_split(dataset, *pair, name=name) for name, pair in pairs]
    names = [split.name for split in drawn]
    if not names or len(set(names)) < len(names):
        raise InputError(f"Evaluation needs at least one split, and a name of its own for each; got {names}.")
    for split in drawn:
        if split.num_cells != len(dataset):
            raise InputError(f"Split {split.name!r} is of {split.num_cells} cells, the dataset has {len(dataset)}.")
        for train, test in split:
            found = sorted({*dataset.labels[train].tolist()} - {""})
            if len(found) < 2 or not (dataset.labels[test] != "").any():
                text = f"a fold trains on cells of the types {found} and tests {len(test)} cells"
                raise InputError(f"Split {split.name!r}: {text}; it needs two types to train, and labels to test.")
    return dict(zip(names, drawn, strict=True))


def _teller(report, split, name):
    if report is None:
        return lambda fold: None
    return lambda fold: report(f"{split.name}, {name}: fold {fold + 1} of {len(split.folds)}")


def _tested(dataset, entry, split, types, seed, tell):
    """Probabilities of all tested cells, each from its fold, and which of them got a type."""
    rows, given = np.full((len(dataset), len(types)), np.nan), None
    for fold, (train, test) in enumerate(split):
        tell(fold)
        classifier, kept_back = _fit(entry, dataset.select(train), seed), dataset.select(test)
        if hasattr(classifier, "predict"):
            predictions = classifier.predict(kept_back)
            found = predictions.probabilities
            given = np.zeros(len(dataset), dtype=bool) if given is None else given
            given[test] = np.asarray(predictions.label) != UNKNOWN
        else:
            found = classifier.predict_proba(kept_back)
        # types that this fold's training cells do not have get 0
        rows[test] = 0.0
        rows[np.ix_(test, [types.index(name) for name in classifier.classes])] = found
    return rows, given


def _fit(entry, train, seed):
    if callable(entry):
        return entry(train, seed)
    options = {"model": entry} if isinstance(entry, str) else dict(entry)
    if options.get("model") in BASELINES:
        return SimpleClassifier(options.pop("model"), train, **options)
    from .fit import fit_cell_type_classifier

    return fit_cell_type_classifier(train, **{"seed": seed, "progress_bar": False, **options})


def _scores_by_dataset(dataset, rows, split, types, options):
    """Scores of all tested cells under None, and of each data set where there are several."""
    tested, where = split.tested & (dataset.labels != ""), dataset.cells["dataset"].to_numpy(dtype=str)
    parts = {None: tested}
    if len(np.unique(where[tested])) > 1:
        parts |= {str(name): tested & (where == name) for name in np.unique(where[tested])}
    return {
        name: class_scores(dataset.labels[own], rows[own], types, dataset.groups[own], **options)
        for name, own in parts.items()
    }


def _against(dataset, probabilities, split, types, reference, options):
    own, found = split.tested & (dataset.labels != ""), {}
    data = (types, dataset.groups[own])
    for name in probabilities:
        if name != reference:
            pair = (probabilities[name][own], probabilities[reference][own])
            value, low, high = compare_scores(dataset.labels[own], *pair, *data, **options)["balanced_accuracy"]
            found[split.name, name] = {"difference": value, "low": low, "high": high, "clears": bool(low > 0)}
    return found


def _probes(dataset, entries, names, options, report):
    """What tells the data set: features, images, each stream, and features that a model was restricted to."""
    if dataset.labelled().cells["dataset"].nunique() < 2:
        return {}
    asked = {name: (name, None) for name in (dataset.stream_names if names is True else names)}
    for name, entry in entries.items():
        chosen = entry.get("feature_names") if isinstance(entry, Mapping) else None
        if chosen is not None:
            asked[f"features of {name}"] = ("features", tuple(chosen))
    probes = {}
    for name, (inputs, chosen) in asked.items():
        if report is not None:
            report(f"probe: {name}")
        try:
            probes[name] = dataset_probe(dataset, inputs, feature_names=chosen, **options)
        except InputError as error:
            warnings.warn(f"Whether {name} tell the data set is not known. {error}", UserWarning, stacklevel=3)
    return probes
