"""Learn from donors left out: temperatures, fusion, the threshold of "unknown", and how far cells of training lie."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from ..classification.folds import group_folds, mean_log_loss
from ..classification.label_threshold import threshold_for_accuracy
from ..classification.preparation import Preparation
from ..classification.probability_calibration import TemperatureCalibration
from ..errors import TrainingError
from ..training import progress
from .classifier import combine
from .fusion import SoftVote, fit_fusion
from .outliers import OutlierModel
from .streams import embedding

__all__ = ["HeldOut", "Learned", "LearnedStream", "StreamHeldOut", "fit_on", "learn_on_held_out", "out_of_fold"]


@dataclass(frozen=True, eq=False)
class StreamHeldOut:
    """An estimator with the space in which distances are measured.

    Attributes
    ----------
    estimator : ImageNetwork | BoostedTrees | StreamModel
    preparation : Preparation | None
        Of features.
    outliers : OutlierModel
    """

    estimator: Any
    preparation: Preparation | None
    outliers: OutlierModel

    @classmethod
    def fit(cls, estimator: Any, X: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Self:
        """Fit the estimator, then the distances."""
        fitted = fit_on(estimator, X, labels, groups)
        preparation = None if hasattr(fitted, "embed") else Preparation.fit(X)
        return cls(fitted, preparation, OutlierModel.fit(embedding(fitted, preparation, X), labels))

    def distances(self, X: np.ndarray) -> np.ndarray:
        """To the nearest class."""
        return self.outliers.distances(embedding(self.estimator, self.preparation, X))


class HeldOut(NamedTuple):
    """What models say about training cells whose donor they did not see; NaN where a stream knows nothing.

    Attributes
    ----------
    probabilities : float64 array, shape (num_cells, num_classes)
    distances : float64 array, shape (num_cells,)
    scored : bool array, shape (num_cells,)
        Whether the cell's own class was in the training of its fold.
    """

    probabilities: np.ndarray
    distances: np.ndarray
    scored: np.ndarray


class LearnedStream(NamedTuple):
    """See :class:`~si_neuroml.celltypes.streams.FittedStream`."""

    calibration: TemperatureCalibration | None
    limit: float


class Learned(NamedTuple):
    """See :class:`~si_neuroml.celltypes.classifier.CellTypeClassifier`."""

    streams: dict[str, LearnedStream]
    fusion: Any
    calibration: TemperatureCalibration | None
    threshold: float
    scores: dict[str, Any]


def fit_on(estimator: Any, X: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Any:
    """Fit an estimator, with groups where it has a use for them."""
    return estimator.fit(X, labels, groups=groups) if hasattr(estimator, "embed") else estimator.fit(X, labels)


def out_of_fold(
    make: Callable[[str], Any],
    inputs: dict[str, tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    groups: np.ndarray,
    num_folds: int = 3,
    seed: int = 0,
    progress_bar: bool = False,
) -> tuple[list[np.ndarray], dict[str, HeldOut]]:
    """Fit every stream once per fold of donors and ask about the donors left out.

    Parameters
    ----------
    make : function
        Gives a new estimator of a stream.
    inputs : dict of {str: (array, bool array)}
        By stream, rows and which of them are known.
    labels : int array, shape (num_cells,)
        Class indices from 0.
    groups : array, shape (num_cells,)
        What is left out as a whole.
    num_folds, seed, progress_bar : default: 3, 0, False
        Of the folds.

    Returns
    -------
    folds : list of bool arrays, shape (num_cells,)
    held_out : dict of {str: HeldOut}
    """
    folds, num_cells = group_folds(labels, groups, num_folds, seed), len(labels)
    held_out = {
        name: HeldOut(
            np.full((num_cells, labels.max() + 1), np.nan), np.full(num_cells, np.nan), np.zeros(num_cells, dtype=bool)
        )
        for name in inputs
    }
    work = [(name, test) for name in inputs for test in folds]
    for name, test in progress(work, description="leave donors out", show=progress_bar):
        X, known = inputs[name]
        train, asked = known & ~test, known & test
        present, codes = np.unique(labels[train], return_inverse=True)
        if len(present) < 2 or not asked.any():
            continue
        fitted = StreamHeldOut.fit(make(name), X[train], codes, groups[train])
        own = held_out[name]
        own.probabilities[asked] = 0.0
        own.probabilities[np.ix_(asked, present)] = fitted.estimator.predict_proba(X[asked])
        own.distances[asked] = fitted.distances(X[asked])
        own.scored[asked] = np.isin(labels[asked], present)
    return folds, held_out


def learn_on_held_out(
    held_out: dict[str, HeldOut],
    folds: list[np.ndarray],
    labels: np.ndarray,
    prior: np.ndarray,
    *,
    fusion: str,
    calibrate: bool,
    unknown_below: float | None,
    target_accuracy: float | None,
    outlier_share: float,
) -> Learned:
    """Temperatures of the streams, fusion and its temperature, threshold, and limits of outliers, in this order.

    Parameters
    ----------
    held_out, folds
        From :func:`out_of_fold`.
    labels : int array, shape (num_cells,)
    prior : array, shape (num_classes,)
        Under which probabilities are made.
    fusion, calibrate, unknown_below, target_accuracy, outlier_share
        As for :func:`~si_neuroml.celltypes.fit.fit_cell_type_classifier`.

    Returns
    -------
    Learned

    Raises
    ------
    TrainingError
        When no type has cells in two of the folds.
    """
    streams, opinions, scores = {}, [], {}
    for name, own in held_out.items():
        if not own.scored.any():
            raise TrainingError(
                "No type has cells of two donors that are left out in turn, so that nothing can be learned about new "
                "donors. Add donors, or leave out rare types (CellDataset.drop_rare)."
            )
        calibration, said = None, own.probabilities
        if calibrate:
            calibration = TemperatureCalibration.fit(said[own.scored], labels[own.scored])
            said = np.where(np.isnan(said), np.nan, calibration.apply(np.nan_to_num(said)))
        limit = np.nanquantile(own.distances, 1.0 - outlier_share / len(held_out))
        streams[name] = LearnedStream(calibration, float(max(limit, 1e-9)))
        opinions.append(said)
        scores[name] = _scores(said[own.scored], labels[own.scored])
    scored = np.logical_and.reduce([own.scored for own in held_out.values()])
    fused, temperature, together = None, None, combine(opinions, None, None, prior)
    if len(opinions) > 1:
        if not scored.any():
            raise TrainingError(f"No cell has {', '.join(held_out)} together: fit a model of fewer of them.")
        fused = fit_fusion(fusion, [one[scored] for one in opinions], labels[scored])
        # how well fusion does must not be judged on the cells that it was fitted to
        together[scored] = _fused_out_of_fold(fusion, opinions, folds, labels, scored)
        if calibrate:
            temperature = TemperatureCalibration.fit(together[scored], labels[scored])
            together[scored] = temperature.apply(together[scored])
        scores["fusion"] = _scores(together[scored], labels[scored])
    judged = np.logical_or.reduce([own.scored for own in held_out.values()])
    threshold = _threshold(together[judged], labels[judged], calibrate, unknown_below, target_accuracy)
    given = together[judged].max(axis=1) >= threshold
    right = together[judged].argmax(axis=1) == labels[judged]
    scores |= {"coverage": float(given.mean()), "accuracy_given": float(right[given].mean()) if given.any() else None}
    return Learned(streams, fused, temperature, threshold, scores)


def _fused_out_of_fold(method, opinions, folds, labels, scored):
    """Fused probabilities of the scored cells, each fold's by a fusion that was learned on the other folds."""
    out = np.zeros((len(labels), opinions[0].shape[1]))
    for test in folds:
        train, asked = scored & ~test, scored & test
        if not asked.any():
            continue
        own = SoftVote.equal(len(opinions))
        if len(np.unique(labels[train])) > 1:
            own = fit_fusion(method, [one[train] for one in opinions], labels[train])
        out[asked] = own.apply([one[asked] for one in opinions])
    return out[scored]


def _threshold(probabilities, labels, is_calibrated, unknown_below, accuracy):
    if accuracy is None:
        default = 0.5 if is_calibrated else 0.0
        return default if unknown_below is None else unknown_below
    return threshold_for_accuracy(probabilities, labels, accuracy, "cells")


def _scores(probabilities, labels):
    chosen = probabilities.argmax(axis=1)
    recalls = [float((chosen[labels == k] == k).mean()) for k in np.unique(labels)]
    return {
        "num_cells": len(labels),
        "balanced_accuracy": float(np.mean(recalls)),
        "log_loss": mean_log_loss(probabilities, labels),
    }
