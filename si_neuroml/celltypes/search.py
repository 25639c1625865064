"""Search the settings of a cell-type model by its balanced accuracy on donors left out of the training set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.folds import group_folds
from ..errors import InputError
from ..search import Range, SearchResult, checked_space, example_settings, import_optuna, search_settings
from .fit import labelled_cells, training_groups
from .held_out import fit_on
from .streams import STREAMS, build_estimator

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = ["SEARCH_SPACES", "CellTypeSearch", "search_cell_type_classifier"]

SEARCH_SPACES: Mapping[str, Mapping[str, Range | Sequence[Any]]] = {
    "image": {
        "learning_rate": Range(1e-5, 1e-2, log=True),
        "weight_decay": Range(1e-6, 1e-1, log=True),
        "batch_size": Range(16, 128, log=True),
        "dropout": Range(0.0, 0.7, step=0.05),
        "shift": Range(0, 16),
        "gain": Range(0.0, 0.5, step=0.05),
        "class_weight_power": Range(0.0, 1.5, step=0.1),
    },
    "hist_gradient_boosting": {
        "learning_rate": Range(0.01, 0.3, log=True),
        "max_iter": Range(50, 500, log=True),
        "max_leaf_nodes": Range(4, 63, log=True),
        "min_samples_leaf": Range(5, 100, log=True),
        "l2_regularization": Range(1e-3, 100.0, log=True),
        "class_weight_power": Range(0.0, 1.5, step=0.1),
    },
    "lightgbm": {
        "learning_rate": Range(0.01, 0.3, log=True),
        "n_estimators": Range(50, 500, log=True),
        "num_leaves": Range(4, 63, log=True),
        "min_child_samples": Range(5, 100, log=True),
        "reg_lambda": Range(1e-3, 100.0, log=True),
        "colsample_bytree": Range(0.3, 1.0, step=0.1),
        "class_weight_power": Range(0.0, 1.5, step=0.1),
    },
}


@dataclass(frozen=True, eq=False)
class CellTypeSearch(SearchResult):
    """What :func:`search_cell_type_classifier` finds, by balanced accuracy on donors left out.

    Attributes
    ----------
    best_score, settings, trials, study
        See :class:`~si_neuroml.search.SearchResult`.
    model : {"image", "features"}
        That was searched.
    fit_kwargs : dict
        ``fit_cell_type_classifier(dataset, **search.fit_kwargs)``; for a fusion join the ``image_kwargs`` and
        ``feature_kwargs`` of two searches.
    """

    model: str
    fit_kwargs: dict[str, Any]


def search_cell_type_classifier(
    dataset: "CellDataset",
    model: str = "features",
    *,
    space: Mapping[str, Range | Sequence[Any]] | None = None,
    num_trials: int | None = 50,
    model_kwargs: dict[str, Any] | None = None,
    feature_names: Sequence[str] | None = None,
    num_folds: int = 3,
    storage: str | Path | None = None,
    study_name: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> CellTypeSearch:
    """Bayesian search of a model's settings in grouped cross-validation, by balanced accuracy (Amprimo et al. 2025).

    Each trial fits the model once per fold of donors and is judged on all cells left out so far; after two folds or
    more, a trial below the median of the others is pruned. Nothing but the given dataset is looked at: leave test
    donors out of it. Needs Optuna (``pip install "si-neuroml[search]"``).

    Parameters
    ----------
    dataset : CellDataset
        Training cells.
    model : {"features", "image"}, default: "features"
        What to search. The two of a fusion are searched each by itself.
    space : dict, optional
        A :class:`~si_neuroml.search.Range` or a sequence of values for each setting. Default: that of the model in
        :data:`SEARCH_SPACES`.
    num_trials : int | None, default: 50
        Trials in all, those in the storage included. None: every combination of a space of lists.
    model_kwargs : dict, optional
        Settings that are not searched, such as ``backbone``, ``weights`` or ``method``, see
        :func:`~si_neuroml.celltypes.fit.fit_cell_type_classifier`.
    feature_names : sequence of str, optional
        Features to use. Default: all.
    num_folds : int, default: 3
        Of donors.
    storage, study_name, progress_bar : optional
        Where trials are kept, so that the same call goes on where it was stopped and several processes share the work,
        and under what name (default: the model), see :func:`~si_neuroml.search.search_settings`.
    seed : int, default: 0
        Of folds, fits and choices of trials.
    device : str, default: "cpu"
        For training networks.

    Returns
    -------
    CellTypeSearch
        After Ctrl-C, of the trials that were finished by then, with a warning.

    Raises
    ------
    InputError
        On an unknown model or setting, or when the stored study is of other data or settings.
    TrainingError
        When there are no two types, or no trial learned anything.
    MissingDependencyError
        Without Optuna.
    """
    import_optuna()  # before anything that takes time
    if model not in STREAMS:
        raise InputError(f"Search one of {list(STREAMS)}, got {model!r}.")
    fixed = dict(model_kwargs or {})
    if space is None:
        name = "image" if model == "image" else fixed.get("method", "hist_gradient_boosting")
        if name not in SEARCH_SPACES:
            raise InputError(f"There is nothing to search in {name!r}; search one of {list(SEARCH_SPACES)}.")
        # a setting that is given is not searched
        space = {key: values for key, values in SEARCH_SPACES[name].items() if key not in fixed}
    space = checked_space(space, num_trials)
    has = dataset.has_image if model == "image" else dataset.has_features
    if not has.any():
        raise InputError(f"The dataset has no {model}: there is nothing to search with.")
    dataset, _, _, inputs = labelled_cells(dataset, (model,), feature_names)
    X, labels = inputs[model][0], np.unique(dataset.labels, return_inverse=True)[1].reshape(-1)
    groups, split = training_groups(dataset)
    folds = group_folds(labels, groups, num_folds, seed)
    build_estimator(model, {**fixed, **example_settings(space)}, seed=seed)  # refuses unknown settings

    def score_folds(settings):
        said, seen = np.full(len(labels), -1), np.zeros(len(labels), dtype=bool)
        for test in folds:
            estimator = build_estimator(model, {**fixed, **settings}, seed=seed, device=device)
            said[test] = fit_on(estimator, X[~test], labels[~test], groups[~test]).predict(X[test])
            seen |= test
            recalls = [(said[seen & (labels == k)] == k).mean() for k in np.unique(labels[seen])]
            yield {"score": float(np.mean(recalls))}

    types, counts = np.unique(dataset.labels, return_counts=True)
    found = search_settings(
        space,
        score_folds,
        num_steps=len(folds),
        num_trials=num_trials,
        storage=storage,
        name=study_name or model,
        description={
            "model": model,
            "fixed": {name: str(value) for name, value in fixed.items()},
            "seed": seed,
            "folds": len(folds),
            "left_out": split,
            "types": dict(zip(map(str, types), map(int, counts), strict=True)),
            "donors": sorted(map(str, np.unique(groups))),
            "inputs": [list(X.shape[1:]), float(np.nanmean(np.square(X, dtype="float64")))],
        },
        seed=seed,
        progress_bar=progress_bar,
    )
    chosen = {"image_kwargs" if model == "image" else "feature_kwargs": fixed | found.settings}
    own = {"model": model, **chosen, "feature_names": feature_names, "num_folds": num_folds, "seed": seed}
    return CellTypeSearch(**vars(found), model=model, fit_kwargs=own)
