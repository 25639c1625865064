"""Search the settings of a region model by how well it does on subjects left out of the training set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.folds import group_folds, macro_auc
from ..errors import InputError, TrainingError
from ..search import Range, finished_trials, import_optuna, open_study, plot_study, run_trials, suggest, trials_table
from .fit import NETWORKS, RECOMMENDED, build_estimator, labelled_rows
from .held_out import predict_fold, training_groups

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True, eq=False)
class RegionSearch:
    """What :func:`search_region_classifier` finds.

    Attributes
    ----------
    model : str
        That was searched.
    best_score : float
        Macro AUC on subjects left out. The best of many is partly luck: judge the final classifier on subjects that
        were not in the search.
    model_kwargs : dict
        Settings of the best trial, with those that were not searched.
    fit_kwargs : dict
        All of it as arguments: ``fit_region_classifier(dataset, **search.fit_kwargs)``.
    trials : pandas.DataFrame
        See :func:`~si_neuroml.search.trials_table`; ``error`` says why a trial learned nothing, which scores 0.5.
    study : optuna.Study
        The study itself.
    """

    model: str
    best_score: float
    model_kwargs: dict[str, Any]
    fit_kwargs: dict[str, Any]
    trials: "pd.DataFrame"
    study: Any

    def plot(self, plot: str = "history") -> Any:
        """A plotly figure of the trials; see :func:`~si_neuroml.search.plot_study`."""
        return plot_study(self.study, plot)


def search_region_classifier(
    dataset: "RegionDataset",
    model: str = "recommended",
    *,
    space: Mapping[str, Range | Sequence[Any]] | None = None,
    num_trials: int = 50,
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
    num_trials : int, default: 50
        Trials in all, those in the storage included: 20 to 100 in the paper.
    model_kwargs : dict, optional
        Settings that are not searched. Networks train for at most 30 epochs unless ``max_epochs`` is among them.
    feature_families, stream, per_recording, device
        As for :func:`~si_neuroml.regions.fit.fit_region_classifier`.
    num_folds : int, default: 5
        Of subjects.
    storage : str | Path, optional
        A file that keeps the trials (an Optuna journal), or the URL of a database ("sqlite:///search.db"). The same
        call goes on where it was stopped, and several processes with the same call share the work. Default: memory.
    study_name : str, optional
        Of several studies in one storage. Default: the model.
    seed : int, default: 0
        Of folds, fits and choices of trials.
    progress_bar : bool, default: True
        Whether to show one.

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
    optuna = import_optuna()  # before anything that takes time
    model = RECOMMENDED if model == "recommended" else model
    space = _checked_space(model, space)
    if not (isinstance(num_trials, int | np.integer) and num_trials > 0):
        raise InputError(f"num_trials must be a whole number from 1 on, got {num_trials!r}.")
    dataset, columns, X = labelled_rows(dataset, model, feature_families, stream, per_recording)
    labels = np.unique(dataset.labels, return_inverse=True)[1].reshape(-1)
    groups, split = training_groups(dataset)
    folds = group_folds(labels, groups, num_folds, seed)
    fixed = dict(model_kwargs or {})
    in_search = _NETWORK_SEARCH if model in NETWORKS else {}
    build_estimator(model, columns, {**in_search, **fixed, **_first_of(space)}, seed=seed)  # refuses unknown settings

    def objective(trial):
        settings = {**in_search, **fixed, **suggest(trial, space)}
        seen = np.zeros(len(labels), dtype=bool)
        probabilities = np.zeros((len(labels), labels.max() + 1))
        score = 0.5
        for step, test in enumerate(folds):
            try:
                estimator = build_estimator(model, columns, settings, None, seed, device)
                predict_fold(estimator, X, labels, groups, test, probabilities)
            except TrainingError as error:
                trial.set_user_attr("error", str(error))
                trial.report(0.5, step)
                return 0.5
            seen |= test
            score = np.nan_to_num(macro_auc(probabilities[seen], labels[seen]), nan=0.5)
            trial.report(score, step)
            if step + 1 < len(folds) and trial.should_prune():
                raise optuna.TrialPruned
        return score

    description = {"model": model, "space": {name: str(values) for name, values in space.items()}, "fixed": fixed}
    description |= {"seed": seed, "folds": len(folds), "left_out": split, **_data_summary(dataset, columns, X)}
    study = open_study(storage, study_name or model, description)
    run_trials(study, objective, num_trials, seed=seed, description=f"search {model}", progress_bar=progress_bar)
    best = max(finished_trials(study, "COMPLETE"), key=lambda trial: trial.value, default=None)
    if best is None or "error" in best.user_attrs:
        raise TrainingError(f"No trial learned anything. {'' if best is None else best.user_attrs['error']}".rstrip())
    chosen = fixed | best.params
    options = {"feature_families": feature_families, "stream": stream, "per_recording": per_recording, "seed": seed}
    fit_kwargs = {"model": model, "model_kwargs": chosen, **options}
    return RegionSearch(model, best.value, chosen, fit_kwargs, trials_table(study), study)


def _checked_space(model, space):
    if space is None:
        if model not in SEARCH_SPACES:
            raise InputError(f"There is nothing to search in {model!r}; search one of {list(SEARCH_SPACES)}.")
        return dict(SEARCH_SPACES[model])
    for name, values in space.items():
        if not isinstance(values, Range) and (isinstance(values, str) or not len(values)):
            raise InputError(f"space must give a Range or a sequence of values for {name!r}, got {values!r}.")
    if not space:
        raise InputError("space is empty: give a Range or a sequence of values for each setting to search.")
    return dict(space)


def _first_of(space):
    return {name: values.low if isinstance(values, Range) else values[0] for name, values in space.items()}


def _data_summary(dataset, columns, X):
    """What tells one training set from another."""
    regions, counts = np.unique(dataset.labels, return_counts=True)
    return {
        "regions": dict(zip(map(str, regions), map(int, counts), strict=True)),
        "subjects": sorted(map(str, dataset.units["subject"].unique())),
        "columns": columns.to_dict(),
        "features": float(np.nanmean(np.square(X, dtype="float64"))),
    }
