"""Fit a classifier of regions to labelled units, and learn on other animals how much to believe it."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, TrainingError
from .classifier import RegionClassifier, load_estimator
from .feature_columns import DEPTH_COLUMN, FeatureColumns, choose_columns
from .held_out import HeldOut, fit_grouped, learn_on_held_out, out_of_fold, training_groups

if TYPE_CHECKING:
    from .dataset import RegionDataset

__all__ = ["NETWORKS", "RECOMMENDED", "build_estimator", "fit_region_classifier", "labelled_rows"]

# of the highest balanced accuracy on unseen rats; trees beside it lowered that
RECOMMENDED = "subject_logistic"
NETWORKS = ("dmlp", "lda_dense", "cnn", "tcn", "transformer")
_ENSEMBLES = ("subject_ensemble", "subject_logistic")


def fit_region_classifier(
    dataset: "RegionDataset",
    model: str = "recommended",
    *,
    model_kwargs: dict[str, Any] | None = None,
    feature_families: list[str] | tuple[str, ...] | None = None,
    stream: str | None = "default",
    per_recording: bool = False,
    neighbours_um: float | tuple[float, ...] | None = None,
    class_weight_power: float | None = None,
    calibration: str | None = "temperature",
    depth: str | None = "hmm",
    unknown_below: float | None = None,
    target_accuracy: float | None = None,
    target_coverage: float | None = None,
    num_folds: int = 5,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> RegionClassifier:
    """Fit a classifier that is meant for animals which are not in the dataset.

    Beside the final fit to all labelled units, the model is fitted once per fold of subjects. On what these models say
    about the subjects left out, the calibration, the smoothing along the probe and the threshold are learned, in this
    order. The numbers in ``classifier.training["out_of_fold"]`` come from the same units: they are a first look, not a
    test. For a test, leave subjects out of the dataset.

    Parameters
    ----------
    dataset : RegionDataset
        Units; those without a region are not used.
    model : str, default: "recommended"
        "recommended" ("subject_logistic": :class:`~si_neuroml.regions.ensemble.SubjectEnsemble` without trees),
        "subject_ensemble" (the same with trees, for many subjects); "logistic_regression", "extra_trees",
        "hist_gradient_boosting"; of van Laar (2025) the networks "dmlp", "lda_dense", "cnn", "tcn", "transformer" and
        the classical "sgd", "passive_aggressive", "perceptron", "nearest_centroid", "naive_bayes"; the baselines
        "majority" and "depth_prior".
    model_kwargs : dict, optional
        Settings of the model: scikit-learn's keywords; for networks those of
        :func:`~si_neuroml.regions.presets.network_settings`, and ``preset``; for the recommended, ``half_units``.
    feature_families : sequence of str, optional
        Families of features to use ("rate", "isi", "burst", "log_isi", "acg", "waveform", "psth", ...). Default: all.
    stream : {"default", "psth", "log_isi", "acg", "auto"}, optional
        Which bins a network reads as a sequence; other models take them as columns. "default": for networks "auto" (the
        PSTH where there is one, else the log-ISI histogram), for others None: on new animals PSTHs have lost more than
        they gave (Tolossa et al. 2025).
    per_recording : bool, default: False
        Centre and scale features within each recording. Takes away what differs between rigs, and with it what differs
        between recordings because they are in other regions.
    class_weight_power : float, optional
        0: every unit counts the same; 1: every class does. Default: 1, or that of a network's settings.
    calibration : {"temperature", "isotonic"}, optional
        How probabilities are corrected. Default: "temperature". None: not at all.
    depth : {"hmm", "gaussian"}, optional
        How units are smoothed along the shank, where depths are known. Default: "hmm". None: not at all.
    unknown_below : float, optional
        Probability below which the label is "unknown". Default: 0.5, more likely wrong than right; 0 where nothing is
        calibrated.
    target_accuracy, target_coverage : float, optional
        Instead: the threshold above which this share of the labels of held-out units is right, or above which this
        share of the units lies.
    num_folds : int, default: 5
        Folds of subjects; with fewer subjects, each is one.
    seed : int, default: 0
        Of folds and models.
    device : str, default: "cpu"
        For training networks: "cpu", "cuda" or "auto".
    progress_bar : bool, default: True
        Whether to show one.

    Returns
    -------
    RegionClassifier

    Raises
    ------
    InputError
        On an unknown model, setting or family, or options that contradict each other.
    TrainingError
        When there are no two regions.

    Warns
    -----
    UserWarning
        When a region has one subject, when there are fewer than three subjects (recordings or units are then left out
        in place of subjects), and when units have no features.
    """
    model = RECOMMENDED if model == "recommended" else model
    load_estimator(model)
    _check_options(calibration, depth, unknown_below, target_accuracy, target_coverage)
    dataset, columns, X = labelled_rows(dataset, model, feature_families, stream, per_recording, neighbours_um)
    classes, labels = np.unique(dataset.labels, return_inverse=True)
    groups, split = training_groups(dataset)

    def make():
        return build_estimator(model, columns, model_kwargs, class_weight_power, seed, device)

    estimator = fit_grouped(make(), X, labels, groups)
    prior = _prior(labels, estimator)
    needed = any(value is not None for value in (calibration, depth, target_accuracy, target_coverage))
    held_out = getattr(estimator, "out_of_fold_", None)
    if held_out is None and needed:
        held_out = out_of_fold(make, X, labels, groups, num_folds=num_folds, seed=seed, progress_bar=progress_bar)
    summary = _summary(dataset, columns, model, model_kwargs, split, seed)
    learned = HeldOut(None, None, 0.0 if unknown_below is None else unknown_below, None)
    if needed:
        threshold = {"unknown_below": unknown_below, "accuracy": target_accuracy, "coverage": target_coverage}
        options = {"calibration": calibration, "depth": depth, "threshold": threshold}
        learned = learn_on_held_out(held_out, dataset, labels, groups, prior, **options)
        summary["out_of_fold"] = learned.scores
    if model in _ENSEMBLES:
        summary["chosen"] = {name: getattr(estimator, f"{name}_") for name in ("C", "min_samples_leaf", "tree_share")}
    return RegionClassifier(model, estimator, columns, classes, prior, *learned[:3], summary)


def labelled_rows(
    dataset: "RegionDataset",
    model: str,
    feature_families: Any = None,
    stream: str | None = "default",
    per_recording: bool = False,
    neighbours_um: float | tuple[float, ...] | None = None,
) -> tuple["RegionDataset", FeatureColumns, np.ndarray]:
    """The labelled units that have features, the columns a model sees of them, and the matrix; checked.

    Raises
    ------
    InputError
        On unknown families or streams.
    TrainingError
        When fewer than two regions are labelled.
    """
    everything, is_labelled = dataset, dataset.labels != ""
    dataset = dataset.select(is_labelled)
    if model == "depth_prior":
        columns = FeatureColumns((DEPTH_COLUMN,))
    else:
        if stream == "default":
            stream = "auto" if model in NETWORKS else None
        options = {"stream": stream, "per_recording": per_recording, "neighbours_um": neighbours_um}
        columns = choose_columns(dataset, families=feature_families, **options)
    # units without a label are neighbours, too, and belong to their recording, as where the classifier is used
    X = columns.matrix(everything)[is_labelled]
    known = np.isfinite(X).any(axis=1)
    if not known.all():
        what = "depth" if model == "depth_prior" else "finite feature"
        text = f"{(~known).sum()} of {len(known)} labelled units have no {what} and are left out of training."
        warnings.warn(text, UserWarning, stacklevel=3)
        dataset, X = dataset.select(known), X[known]
    _check_regions(dataset)
    return dataset, columns, X


def build_estimator(
    model: str,
    columns: FeatureColumns,
    model_kwargs: dict[str, Any] | None = None,
    class_weight_power: float | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Any:
    """An estimator that is not fitted yet, for a matrix of these columns; see :func:`fit_region_classifier`."""
    kwargs, own = dict(model_kwargs or {}), {"seed": seed}
    if class_weight_power is None:
        class_weight_power = kwargs.pop("class_weight_power", None)
    if class_weight_power is not None:
        if not class_weight_power >= 0:
            raise InputError(f"class_weight_power must be at least 0, got {class_weight_power!r}.")
        own["class_weight_power"] = float(class_weight_power)
    kind = load_estimator(model)
    if model in _ENSEMBLES:
        try:
            return kind(use_trees=model == "subject_ensemble", families=columns.families, **own, **kwargs)
        except TypeError as error:
            raise InputError(f"Settings of {model!r} cannot be used: {error}") from error
    if model in NETWORKS:
        from .presets import network_settings

        preset = kwargs.pop("preset", None)
        network_settings(model, kwargs, preset)  # refuses unknown settings before anything is fitted
        return kind(model, columns.num_features, kwargs or None, preset, device=device, **own)
    return kind(model, kwargs or None, **own)


def _prior(labels, estimator):
    """Shares of the classes under which the estimator's probabilities are made."""
    shares = np.bincount(labels) / len(labels)
    power = 0.0 if getattr(estimator, "method", "") == "majority" else _power(estimator)
    prior = shares ** (1.0 - power)
    return prior / prior.sum()


def _power(estimator):
    if hasattr(estimator, "_resolved"):
        return estimator._resolved()["class_weight_power"]
    return 1.0 if estimator.class_weight_power is None else estimator.class_weight_power


def _summary(dataset, columns, model, model_kwargs, split, seed):
    counts = dataset.region_counts()
    subjects = dataset.units["subject"]
    return {
        "model": model,
        "model_kwargs": dict(model_kwargs or {}),
        "num_units": len(dataset),
        "num_recordings": int(dataset.units["recording"].nunique()),
        "subjects": sorted(map(str, subjects.unique())),
        "units_per_region": {str(name): int(value) for name, value in counts["units"].items()},
        "subjects_per_region": {str(name): int(value) for name, value in counts["subjects"].items()},
        "feature_families": sorted(set(columns.families)),
        "left_out": split,
        "seed": seed,
    }


def _check_regions(dataset):
    counts = dataset.region_counts()
    if len(counts) < 2:
        found = ", ".join(f"{name} ({row.units} units)" for name, row in counts.iterrows()) or "none"
        raise TrainingError(
            f"A classifier needs units of at least two regions with features; there are: {found}. Label more units, or "
            "group regions less."
        )
    alone = counts.index[counts["subjects"] == 1].tolist()
    if alone and dataset.units["subject"].nunique() > 1:
        warnings.warn(
            f"{len(alone)} of {len(counts)} regions have units of one subject only, such as {alone[:5]}: whether they "
            "are recognised in another animal cannot be learned or judged. See RegionDataset.drop_rare.",
            UserWarning,
            stacklevel=4,
        )


def _check_options(calibration, depth, unknown_below, target_accuracy, target_coverage):
    if calibration not in ("temperature", "isotonic", None):
        raise InputError(f'calibration must be "temperature", "isotonic" or None, got {calibration!r}.')
    if depth not in ("hmm", "gaussian", None):
        raise InputError(f'depth must be "hmm", "gaussian" or None, got {depth!r}.')
    given = {"unknown_below": unknown_below, "target_accuracy": target_accuracy, "target_coverage": target_coverage}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        raise InputError(f"Give one of {list(given)}: each sets the threshold.")
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name} must lie between 0 and 1, got {value!r}.")
