"""Fit a classifier of cell types to labelled cells, and learn on other donors how much to believe it."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, TrainingError
from .classifier import CellTypeClassifier
from .held_out import StreamHeldOut, learn_on_held_out, out_of_fold
from .streams import FEATURE_ENSEMBLE, STREAMS, FittedStream, ImageAxes, build_estimator, source_of, stream_inputs

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = ["fit_cell_type_classifier", "labelled_cells", "training_groups"]

MIN_DONORS = 3


def fit_cell_type_classifier(
    dataset: "CellDataset",
    model: str | Sequence[str] = "recommended",
    *,
    image_kwargs: dict[str, Any] | None = None,
    feature_kwargs: dict[str, Any] | None = None,
    stream_kwargs: Mapping[str, dict[str, Any]] | None = None,
    feature_names: list[str] | tuple[str, ...] | None = None,
    fusion: str = "soft_vote",
    class_weight_power: float = 1.0,
    calibrate: bool = True,
    unknown_below: float | None = None,
    target_accuracy: float | None = None,
    outlier_share: float = 0.01,
    num_folds: int = 3,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> CellTypeClassifier:
    """Fit a classifier that is meant for donors which are not in the dataset.

    Beside the final fit to all labelled cells, each model is fitted once per fold of donors. On what these say about
    the donors left out, temperatures, fusion, the threshold and the limits of outliers are learned, in this order. The
    numbers in ``classifier.training["out_of_fold"]`` come from the same cells: they are a first look, not a test. For
    a test, leave donors out of the dataset.

    Parameters
    ----------
    dataset : CellDataset
        Cells; those without a label are not used.
    model : str | sequence of str, default: "recommended"
        What to look at: "image", "features", a stream of the dataset, or several of these. "fusion": image and
        features. "feature_ensemble": features by boosted trees, a logistic regression ("features_linear") and a forest
        ("features_forest"). "recommended": all that the dataset has.
    image_kwargs : dict, optional
        ``backbone`` ("compact", "mobilenet_v2", "resnet18", "densenet121", "inception_v3"), ``weights`` ("imagenet" or
        a file; default: random), and settings of training, see
        :func:`~si_neuroml.celltypes.image_training.image_settings`.
    feature_kwargs : dict, optional
        ``method`` ("hist_gradient_boosting" or "lightgbm") and the library's keywords.
    stream_kwargs : dict of {str: dict}, optional
        By stream of the dataset, "features_linear" and "features_forest", ``method`` and its settings, see
        :class:`~si_neuroml.celltypes.stream_models.StreamModel`.
    feature_names : sequence of str, optional
        Features to use. Default: all. Absolute times tell the laboratory: see
        :mod:`~si_neuroml.celltypes.features`.
    fusion : {"soft_vote", "stacked"}, default: "soft_vote"
        A weighted mean, or a logistic regression on what all say.
    class_weight_power : float, default: 1
        0: every cell counts the same; 1: every type does.
    calibrate : bool, default: True
        Whether to correct probabilities by temperatures (Guo et al. 2017).
    unknown_below : float, optional
        Probability below which the label is "unknown". Default: 0.5, more likely wrong than right; 0 when not
        calibrated.
    target_accuracy : float, optional
        Instead: the threshold above which this share of the labels of held-out cells is right.
    outlier_share : float, default: 0.01
        Share of held-out cells of training that may be called outliers.
    num_folds : int, default: 3
        Folds of donors.
    seed : int, default: 0
        Of folds and models.
    device : str, default: "cpu"
        For training networks: "cpu", "cuda" or "auto".
    progress_bar : bool, default: True
        Whether to show one.

    Returns
    -------
    CellTypeClassifier

    Raises
    ------
    InputError
        On an unknown model or setting, options that contradict each other, or a dataset without what the model needs.
    TrainingError
        When there are no two types.

    Warns
    -----
    UserWarning
        When there are fewer than three donors (cells are then left out in their place), when a type has one donor, and
        when cells have nothing that the model looks at.
    """
    names = _stream_names(dataset, model)
    _check_options(unknown_below, target_accuracy, outlier_share)
    dataset, feature_names, axes, inputs = labelled_cells(dataset, names, feature_names)
    classes, labels = np.unique(dataset.labels, return_inverse=True)
    groups, split = training_groups(dataset)
    kwargs = _kwargs_of(names, image_kwargs, feature_kwargs, stream_kwargs)

    def make(name):
        return build_estimator(name, kwargs[name], class_weight_power, seed, device)

    for name in names:
        make(name)  # refuses unknown settings before anything is fitted
    shares = (np.bincount(labels) / len(labels)) ** (1.0 - class_weight_power)
    folds, held_out = out_of_fold(make, inputs, labels, groups, num_folds, seed, progress_bar)
    learned = learn_on_held_out(
        held_out,
        folds,
        labels,
        shares / shares.sum(),
        fusion=fusion,
        calibrate=calibrate,
        unknown_below=unknown_below,
        target_accuracy=target_accuracy,
        outlier_share=outlier_share,
    )
    streams = []
    for name, (X, known) in inputs.items():
        fitted = StreamHeldOut.fit(make(name), X[known], labels[known], groups[known])
        own = learned.streams[name]
        of_stream = dataset.streams[name].axes if name in dataset.streams else None
        fit = (fitted.estimator, own.calibration, fitted.preparation, fitted.outliers, own.limit)
        streams.append(FittedStream(name, *fit, of_stream))
    summary = _summary(dataset, names, kwargs, split, seed) | {"out_of_fold": learned.scores}
    return CellTypeClassifier(
        streams,
        learned.fusion,
        learned.calibration,
        classes,
        shares / shares.sum(),
        feature_names,
        axes,
        learned.threshold,
        summary,
    )


def labelled_cells(
    dataset: "CellDataset", names: tuple[str, ...], feature_names: Any = None
) -> tuple["CellDataset", tuple[str, ...], ImageAxes | None, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The labelled cells that have anything to look at, and what each stream reads of them; checked.

    Parameters
    ----------
    dataset : CellDataset
    names : tuple of str
        "image", ``FEATURE_ENSEMBLE`` and streams of the dataset.
    feature_names : sequence of str, optional
        Default: all.

    Returns
    -------
    dataset : CellDataset
    feature_names : tuple of str
        () without features.
    axes : ImageAxes | None
    inputs : dict of {str: (array, bool array)}
        By stream, rows and which of them are known.

    Raises
    ------
    InputError
        On unknown features.
    TrainingError
        When fewer than two types are labelled.
    """
    dataset = dataset.labelled()
    uses_features = any(source_of(name) == "features" for name in names)
    chosen = tuple(dataset.feature_names if feature_names is None else feature_names) if uses_features else ()
    axes = ImageAxes.of(dataset) if "image" in names else None
    of_streams = {name: stream.axes for name, stream in dataset.streams.items()}
    inputs = {name: stream_inputs(name, dataset, chosen, of_streams.get(name, axes)) for name in names}
    known = np.logical_or.reduce([own for _, own in inputs.values()])
    if not known.all():
        text = f"{(~known).sum()} of {len(known)} labelled cells have no {' and no '.join(names)}"
        warnings.warn(f"{text} and are left out of training.", UserWarning, stacklevel=3)
        dataset = dataset.select(known)
        inputs = {name: (X[known], own[known]) for name, (X, own) in inputs.items()}
    _check_types(dataset, inputs)
    return dataset, chosen, axes, inputs


def training_groups(dataset: "CellDataset") -> tuple[np.ndarray, str]:
    """What is left out as a whole: donors, or with fewer than three of them, with a warning, cells."""
    groups = dataset.groups
    num = len(np.unique(groups))
    if num >= MIN_DONORS:
        return groups, "donor"
    warnings.warn(
        f"The training cells come from {num} donor{'s' if num > 1 else ''}, fewer than {MIN_DONORS}. Calibration and "
        "thresholds are learned by leaving out cells of the same donors, so that probabilities on new ones will be too "
        "high. Add donors.",
        UserWarning,
        stacklevel=3,
    )
    return np.arange(len(dataset)).astype(str), "cell"


def _stream_names(dataset, model):
    there, known = dataset.stream_names, ("image", *FEATURE_ENSEMBLE, *dataset.streams)
    if model == "recommended":
        if not there:
            raise InputError("The dataset has neither images nor features nor streams: there is nothing to learn from.")
        return there
    several = {"fusion": STREAMS, "feature_ensemble": FEATURE_ENSEMBLE}
    names = several.get(model, (model,)) if isinstance(model, str) else tuple(model)
    if not names or not set(names) <= set(known) or len(set(names)) < len(names):
        choice = f"one or several of {list(known)}, 'fusion', 'feature_ensemble' or 'recommended'"
        raise InputError(f"There is no cell-type model {model!r}: name {choice}.")
    lost = list(dict.fromkeys(source_of(name) for name in names if source_of(name) not in there))
    if lost:
        raise InputError(f"model={model!r} looks at {' and '.join(names)}; the dataset has no {' and no '.join(lost)}.")
    return names


def _kwargs_of(names, image_kwargs, feature_kwargs, stream_kwargs):
    kwargs = {"image": image_kwargs, "features": feature_kwargs}
    if unknown := [name for name in stream_kwargs or {} if name in kwargs or name not in names]:
        raise InputError(f"stream_kwargs are given for {unknown}, the classifier looks at {list(names)}.")
    kwargs |= stream_kwargs or {}
    return {name: kwargs.get(name) for name in names}


def _check_options(unknown_below, target_accuracy, outlier_share):
    if unknown_below is not None and target_accuracy is not None:
        raise InputError("Give unknown_below or target_accuracy: each sets the threshold.")
    for name, value in (("unknown_below", unknown_below), ("target_accuracy", target_accuracy)):
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name} must lie between 0 and 1, got {value!r}.")
    if not 0 < outlier_share < 1:
        raise InputError(f"outlier_share must lie between 0 and 1, got {outlier_share!r}.")


def _check_types(dataset, inputs):
    counts = dataset.label_counts()
    if len(counts) < 2:
        found = ", ".join(f"{name} ({row.cells} cells)" for name, row in counts.iterrows()) or "none"
        raise TrainingError(f"A classifier needs cells of at least two types; there are: {found}. Label more cells.")
    for name, (_, known) in inputs.items():
        lost = sorted({*dataset.labels} - {*dataset.labels[known]})
        if lost:
            raise TrainingError(f"No cell of the types {lost} has {name}: leave the types out, or the {name}.")
    alone = counts.index[counts["donors"] == 1].tolist()
    if alone and len(np.unique(dataset.groups)) > 1:
        warnings.warn(
            f"{len(alone)} of {len(counts)} types have cells of one donor only, such as {alone[:5]}: whether they are "
            "recognised in another donor cannot be learned or judged. See CellDataset.drop_rare.",
            UserWarning,
            stacklevel=4,
        )


def _summary(dataset, names, kwargs, split, seed):
    counts = dataset.label_counts()
    return {
        "streams": list(names),
        "kwargs": {name: {key: _plain(value) for key, value in (kwargs[name] or {}).items()} for name in names},
        "num_cells": len(dataset),
        "num_donors": len(np.unique(dataset.groups)),
        "datasets": sorted(dataset.cells["dataset"].unique().tolist()),
        "cells_per_type": {str(name): int(value) for name, value in counts["cells"].items()},
        "donors_per_type": {str(name): int(value) for name, value in counts["donors"].items()},
        "left_out": split,
        "seed": seed,
    }


def _plain(value):
    return value if isinstance(value, int | float | bool | str | list | tuple | type(None)) else str(value)
