"""Search the settings of a region model by how well it does on subjects left out of the training set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.folds import group_folds, macro_auc
from ..errors import InputError
from ..search import Range, SearchResult, checked_space, example_settings, import_optuna, search_settings
from .fit import NETWORKS, RECOMMENDED, build_estimator, labelled_rows
from .held_out import predict_fold, training_groups

if TYPE_CHECKING:
    from .dataset import RegionDataset

__all__ = ["SEARCH_SPACES", "RegionSearch", "search_region_classifier"]

# van Laar 2025, widened so that the paper's own winners lie inside: some of them were outside of its ranges
_SHARED = {
    "feature_units": Range(8, 256, step=8),
    "head_units": Range(256, 1280, step=256),
    "feature_gain": Range(0.1, 10.0, log=True),
    "dropout": Range(0.1, 0.7, step=0.05),
    "learning_rate": Range(1e-7, 1.0, log=True),
    "l2": Range(1e-7, 1.0, log=True),
    "batch_size": Range(16, 512, log=True),
    "class_weight_power": Range(0.0, 2.0, step=0.05),
}
SEARCH_SPACES: Mapping[str, Mapping[str, Range | Sequence[Any]]] = {
    "dmlp": {**_SHARED, "layer1": Range(64, 4708, log=True), "layer2": Range(8, 1024, log=True)},
    "lda_dense": {**_SHARED, "units": Range(64, 512, step=64)},
    "cnn": {
        **_SHARED,
        "layers": Range(1, 3),
        "filters": Range(32, 128, step=32),
        "kernel_size": (5, 10, 20),
        "pool": (2, 4),
    },
    "tcn": {**_SHARED, "levels": Range(2, 8), "filters": Range(16, 128, step=16), "kernel_size": (3, 5, 7)},
    "transformer": {
        **_SHARED,
        "embedding": Range(32, 128, step=32),
        "heads": Range(2, 8),
        "feed_forward": Range(128, 512, step=128),
        "blocks": Range(1, 3),
    },
    "logistic_regression": {"C": Range(1e-4, 10.0, log=True), "class_weight_power": Range(0.0, 2.0, step=0.05)},
    "extra_trees": {
        "min_samples_leaf": Range(1, 50, log=True),
        "max_features": Range(0.05, 1.0),
        "class_weight_power": Range(0.0, 2.0, step=0.05),
    },
    "hist_gradient_boosting": {
        "learning_rate": Range(0.01, 0.3, log=True),
        "max_leaf_nodes": Range(4, 63, log=True),
        "min_samples_leaf": Range(5, 100, log=True),
        "l2_regularization": Range(1e-3, 100.0, log=True),
        "class_weight_power": Range(0.0, 2.0, step=0.05),
    },
    "sgd": {"alpha": Range(1e-6, 1.0, log=True), "class_weight_power": Range(0.0, 2.0, step=0.05)},
    "passive_aggressive": {"C": Range(1e-5, 1.0, log=True), "class_weight_power": Range(0.0, 2.0, step=0.05)},
    "perceptron": {"alpha": Range(1e-7, 1e-1, log=True), "class_weight_power": Range(0.0, 2.0, step=0.05)},
    "nearest_centroid": {"shrink_threshold": Range(0.01, 5.0, log=True)},
    "naive_bayes": {"alpha": Range(1e-3, 100.0, log=True), "class_weight_power": Range(0.0, 2.0, step=0.05)},
    "subject_ensemble": {"half_units": Range(1.0, 200.0, log=True)},
    "subject_logistic": {"half_units": Range(1.0, 200.0, log=True)},
}
_NETWORK_SEARCH = {"max_epochs": 30, "monitor": "auc"}
# AUC
CHANCE = 0.5


@dataclass(frozen=True, eq=False)
class RegionSearch(SearchResult):
    """What :func:`search_region_classifier` finds, by macro AUC on subjects left out, which is 0.5 by chance.

    Attributes
    ----------
    best_score, settings, trials, study
        See :class:`~si_neuroml.search.SearchResult`.
    model : str
        That was searched.
    model_kwargs : dict
        Settings of the best trial, with those that were not searched.
    fit_kwargs : dict
        All of it as arguments: ``fit_region_classifier(dataset, **search.fit_kwargs)``.
    """

    model: str
    model_kwargs: dict[str, Any]
    fit_kwargs: dict[str, Any]


def search_region_classifier(
    dataset: "RegionDataset",
    model: str = "recommended",
    *,
    space: Mapping[str, Range | Sequence[Any]] | None = None,
    num_trials: int | None = 50,
    model_kwargs: dict[str, Any] | None = None,
    feature_families: Sequence[str] | None = None,
    stream: str | None = "default",
    per_recording: bool = False,
    num_folds: int = 5,
    storage: str | Path | None = None,
    study_name: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> RegionSearch:
    """Bayesian search of a model's settings, by its AUC on subjects left out of the training set.

    Each trial fits the model once per fold of subjects and is judged on the folds' subjects; after two folds or more, a
    trial below the median of the others is pruned. Networks stop on the AUC of subjects that are neither trained on nor
    judged. Nothing but the given dataset is looked at: leave test subjects out of it. Needs Optuna
    (``pip install "si-neuroml[search]"``).

    Parameters
    ----------
    dataset : RegionDataset
        Training units.
    model : str, default: "recommended"
        As for :func:`~si_neuroml.regions.fit.fit_region_classifier`.
    space : dict, optional
        A :class:`~si_neuroml.search.Range` or a sequence of values for each setting. Default: that of the model in
        :data:`SEARCH_SPACES`; for the paper's models its ranges, widened.
    num_trials : int | None, default: 50
        Trials in all, those in the storage included: 20 to 100 in the paper. None: every combination of a space of
        lists.
    model_kwargs : dict, optional
        Settings that are not searched. Networks train for at most 30 epochs unless ``max_epochs`` is among them.
    feature_families, stream, per_recording, device
        As for :func:`~si_neuroml.regions.fit.fit_region_classifier`.
    num_folds : int, default: 5
        Of subjects.
    storage, study_name, progress_bar : optional
        Where trials are kept, so that the same call goes on where it was stopped and several processes share the work,
        and under what name (default: the model), see :func:`~si_neuroml.search.search_settings`.
    seed : int, default: 0
        Of folds, fits and choices of trials.

    Returns
    -------
    RegionSearch
        After Ctrl-C, of the trials that were finished by then, with a warning.

    Raises
    ------
    InputError
        On an unknown model or setting, or when the stored study is of other data or settings.
    TrainingError
        When there are no two regions, or no trial learned anything.
    MissingDependencyError
        Without Optuna.
    """
    import_optuna()  # before anything that takes time
    model = RECOMMENDED if model == "recommended" else model
    if space is None and model not in SEARCH_SPACES:
        raise InputError(f"There is nothing to search in {model!r}; search one of {list(SEARCH_SPACES)}.")
    space = checked_space(SEARCH_SPACES[model] if space is None else space, num_trials)
    dataset, columns, X = labelled_rows(dataset, model, feature_families, stream, per_recording)
    labels = np.unique(dataset.labels, return_inverse=True)[1].reshape(-1)
    groups, split = training_groups(dataset)
    folds = group_folds(labels, groups, num_folds, seed)
    fixed = dict(model_kwargs or {})
    always = (_NETWORK_SEARCH if model in NETWORKS else {}) | fixed
    build_estimator(model, columns, always | example_settings(space), seed=seed)  # refuses unknown settings

    def score_folds(settings):
        seen = np.zeros(len(labels), dtype=bool)
        probabilities = np.zeros((len(labels), labels.max() + 1))
        for test in folds:
            estimator = build_estimator(model, columns, always | settings, None, seed, device)
            predict_fold(estimator, X, labels, groups, test, probabilities)
            seen |= test
            yield {"score": float(np.nan_to_num(macro_auc(probabilities[seen], labels[seen]), nan=CHANCE))}

    description = {"model": model, "fixed": fixed, "seed": seed, "folds": len(folds), "left_out": split}
    found = search_settings(
        space,
        score_folds,
        num_steps=len(folds),
        num_trials=num_trials,
        storage=storage,
        name=study_name or model,
        description=description | _data_summary(dataset, columns, X),
        seed=seed,
        lowest=CHANCE,
        progress_bar=progress_bar,
    )
    chosen = fixed | found.settings
    options = {"feature_families": feature_families, "stream": stream, "per_recording": per_recording, "seed": seed}
    fit_kwargs = {"model": model, "model_kwargs": chosen, **options}
    return RegionSearch(**vars(found), model=model, model_kwargs=chosen, fit_kwargs=fit_kwargs)


def _data_summary(dataset, columns, X):
    """What tells one training set from another."""
    regions, counts = np.unique(dataset.labels, return_counts=True)
    return {
        "regions": dict(zip(map(str, regions), map(int, counts), strict=True)),
        "subjects": sorted(map(str, dataset.units["subject"].unique())),
        "columns": columns.to_dict(),
        "features": float(np.nanmean(np.square(X, dtype="float64"))),
    }
