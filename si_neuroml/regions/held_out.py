"""Learn from animals left out: calibration, smoothing along the probe, and the threshold of "unknown"."""

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..classification.folds import OutOfFold, group_folds, macro_auc, mean_log_loss
from ..classification.label_threshold import threshold_for_accuracy
from ..classification.probability_calibration import fit_calibration
from ..errors import TrainingError
from ..training import progress
from .classifier import track_codes

if TYPE_CHECKING:
    from .dataset import RegionDataset

__all__ = ["HeldOut", "fit_grouped", "learn_on_held_out", "out_of_fold", "predict_fold", "training_groups"]

MIN_SUBJECTS = 3


class HeldOut(NamedTuple):
    """What was learned on held-out units; see :class:`~si_neuroml.regions.classifier.RegionClassifier`."""

    calibration: Any
    depth: Any
    threshold: float
    scores: dict[str, Any] | None


def training_groups(dataset: "RegionDataset") -> tuple[np.ndarray, str]:
    """What is left out as a whole: subjects, or with fewer than three of them, with a warning, recordings or units."""
    units = dataset.units
    subjects = units["subject"].nunique()
    if subjects >= MIN_SUBJECTS:
        return units["subject"].to_numpy(dtype=str), "subject"
    split = "recording" if units["recording"].nunique() >= MIN_SUBJECTS else "unit"
    warnings.warn(
        f"The training units come from {subjects} subject{'s' if subjects > 1 else ''}, fewer than {MIN_SUBJECTS}. "
        f"Calibration, smoothing and scores are learned by leaving out {split}s of the same animals, so that "
        "probabilities on new animals will be too high. Add subjects.",
        UserWarning,
        stacklevel=3,
    )
    own = units["recording"].to_numpy(dtype=str) if split == "recording" else np.arange(len(units)).astype(str)
    return own, split


def out_of_fold(
    make: Callable[[], Any],
    X: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    num_folds: int = 5,
    seed: int = 0,
    progress_bar: bool = False,
) -> OutOfFold:
    """Probabilities of all units from estimators that were fitted without the unit's group.

    Parameters
    ----------
    make : function
        Gives a new estimator.
    X : float32 array, shape (num_units, num_columns)
    labels : int array, shape (num_units,)
        Class indices from 0.
    groups : array, shape (num_units,)
        What is left out as a whole.
    num_folds, seed, progress_bar : default: 5, 0, False
        Of the folds.

    Returns
    -------
    OutOfFold
    """
    probabilities = np.zeros((len(labels), labels.max() + 1))
    scored = np.zeros(len(labels), dtype=bool)
    folds = group_folds(labels, groups, num_folds, seed)
    for test in progress(folds, description="leave subjects out", show=progress_bar):
        scored[test] = np.isin(labels[test], labels[~test])
        predict_fold(make(), X, labels, groups, test, probabilities)
    return OutOfFold(probabilities, scored)


def predict_fold(
    estimator: Any, X: np.ndarray, labels: np.ndarray, groups: np.ndarray, test: np.ndarray, out: np.ndarray
) -> None:
    """Fit to the rows that are not in `test`, and write the probabilities of those that are into their rows of `out`.

    Classes that are not among the training rows keep what `out` has.
    """
    present, codes = np.unique(labels[~test], return_inverse=True)
    own = np.ix_(np.flatnonzero(test), present)
    if len(present) < 2:
        out[own] = 1.0
        return
    out[own] = fit_grouped(estimator, X[~test], codes, groups[~test]).predict_proba(X[test])


def fit_grouped(estimator: Any, X: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Any:
    """Fit an estimator, with groups where it has a use for them."""
    takes_groups = "groups" in inspect.signature(estimator.fit).parameters
    return estimator.fit(X, labels, groups=groups) if takes_groups else estimator.fit(X, labels)


def learn_on_held_out(
    held_out: OutOfFold,
    dataset: "RegionDataset",
    labels: np.ndarray,
    groups: np.ndarray,
    prior: np.ndarray,
    *,
    calibration: str | None,
    depth: str | None,
    threshold: dict[str, float | None],
) -> HeldOut:
    """Calibration, smoothing and threshold, in this order, from units whose group was left out.

    Parameters
    ----------
    held_out : OutOfFold
        Their probabilities.
    dataset : RegionDataset
        The units, for their depths.
    labels, groups : arrays, shape (num_units,)
        Class indices, and what was left out as a whole.
    prior : array, shape (num_classes,)
        Under which the probabilities were made.
    calibration, depth : str | None
        As for :func:`~si_neuroml.regions.fit.fit_region_classifier`.
    threshold : dict
        ``unknown_below``, ``accuracy``, ``coverage``, of which one may be set.

    Returns
    -------
    HeldOut

    Raises
    ------
    TrainingError
        When no region has units in two groups.
    """
    probabilities, scored = held_out
    if not scored.any():
        raise TrainingError(
            "No region has units in two of the groups that are left out in turn, so that nothing can be learned about "
            "new animals. Add subjects, group regions, or pass calibration=None and depth=None."
        )
    scores = {"num_units": len(labels), "num_scored": int(scored.sum()), "raw": _scores(probabilities, labels, scored)}
    corrected = None
    if calibration is not None:
        corrected = fit_calibration(calibration, probabilities[scored], labels[scored])
        probabilities = corrected.apply(probabilities)
        scores["calibrated"] = _scores(probabilities, labels, scored)
    smoothing = _tuned_depth(depth, probabilities, dataset, np.where(scored, labels, -1), groups, prior)
    if smoothing is not None:
        depth_um = dataset.units["depth_um"].to_numpy("float64")
        probabilities = smoothing.smooth(probabilities, depth_um, track_codes(dataset))
        scores["smoothed"] = _scores(probabilities, labels, scored)
    lowest = _threshold(probabilities, labels, calibration is not None, **threshold)
    given = probabilities.max(axis=1) >= lowest
    right = probabilities.argmax(axis=1) == labels
    scores |= {"coverage": float(given.mean()), "accuracy_given": float(right[given].mean()) if given.any() else None}
    return HeldOut(corrected, smoothing, lowest, scores)


def _tuned_depth(depth, probabilities, dataset, labels, groups, prior):
    depth_um = dataset.units["depth_um"].to_numpy("float64")
    if depth is None or not (np.isfinite(depth_um) & (labels >= 0)).any():
        return None
    from .depth_tuning import tune_depth

    own = {"method": depth, "subjects": np.unique(groups, return_inverse=True)[1], "prior": prior}
    return tune_depth(probabilities, labels, depth_um, track_codes(dataset), **own)


def _threshold(probabilities, labels, is_calibrated, unknown_below, accuracy, coverage):
    if coverage is not None:
        return float(np.quantile(probabilities.max(axis=1), 1.0 - coverage))
    if accuracy is None:
        default = 0.5 if is_calibrated else 0.0
        return default if unknown_below is None else unknown_below
    return threshold_for_accuracy(probabilities, labels, accuracy, "units")


def _scores(probabilities, labels, scored):
    """Balanced accuracy over all units; loss and AUC over those whose region was in the training of their fold."""
    chosen = probabilities.argmax(axis=1)
    recalls = [float((chosen[labels == k] == k).mean()) for k in range(labels.max() + 1)]
    auc = macro_auc(probabilities[scored], labels[scored])
    return {
        "balanced_accuracy": float(np.mean(recalls)),
        "log_loss": mean_log_loss(probabilities[scored], labels[scored]),
        "auc": None if np.isnan(auc) else auc,
    }
