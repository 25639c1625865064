"""Folds and weights that respect subjects: units of one animal share its brain state, probe tracks and histology."""

import warnings
from typing import NamedTuple

import numpy as np

from ..errors import InputError

__all__ = ["SMALLEST", "OutOfFold", "group_folds", "macro_auc", "mean_log_loss", "subject_weights"]

SMALLEST = 1e-6


class OutOfFold(NamedTuple):
    """Probabilities of training units by models that did not see their subject.

    Attributes
    ----------
    probabilities : float64 array, shape (num_units, num_classes)
        Zero for classes that the model of the fold never saw.
    scored : bool array, shape (num_units,)
        Whether the unit's own class was among those it saw.
    """

    probabilities: np.ndarray
    scored: np.ndarray


def group_folds(labels: np.ndarray, groups: np.ndarray, num_folds: int = 5, seed: int = 0) -> list[np.ndarray]:
    """Test masks that hold whole groups, with the classes spread over the folds as evenly as groups allow.

    Parameters
    ----------
    labels : int array, shape (num_units,)
        Class indices.
    groups : array, shape (num_units,)
        Subject of each unit.
    num_folds : int, default: 5
        With no more groups than this, each group is a fold.
    seed : int, default: 0
        Of the draw.

    Returns
    -------
    list of bool arrays, shape (num_units,)
        Every unit is in one of them.

    Raises
    ------
    InputError
        On fewer than two groups or folds.
    """
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < 2 or num_folds < 2 or len(codes) != len(labels):
        text = f"Folds need at least 2 groups and 2 folds, and a group per unit; got {len(names)} groups,"
        raise InputError(f"{text} {num_folds!r} folds, {len(codes)} groups of {len(labels)} units.")
    if len(names) <= num_folds:
        return [codes == own for own in range(len(names))]
    from sklearn.model_selection import StratifiedGroupKFold

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class has fewer units than there are folds
        splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
        tests = [test for _, test in splitter.split(np.zeros(len(labels)), labels, codes)]
    masks = [np.isin(np.arange(len(labels)), test) for test in tests]
    return [mask for mask in masks if mask.any()]


def subject_weights(labels: np.ndarray, groups: np.ndarray, half_units: float = 20.0) -> np.ndarray:
    """Weights under which a subject with many units of a class does not speak for the class alone.

    The mean of n units of a subject differs from that of the class by the subject's own deviation, variance t^2, and by
    s^2 / n. Weights inverse to the sum of both (as in a random-effects analysis) give the subject n / (n + s^2 / t^2)
    in all, whatever more units it has.

    Parameters
    ----------
    labels, groups
        As for :func:`group_folds`.
    half_units : float, default: 20
        s^2 / t^2: so many units make half of a subject's largest weight. 0: all subjects of a class count the same.

    Returns
    -------
    float64 array, shape (num_units,)
        Mean 1 within each class.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    cells = labels.astype("int64") * (codes.max() + 1) + codes
    weights = 1.0 / (np.bincount(cells)[cells] + half_units)
    mean = np.bincount(labels, weights) / np.maximum(np.bincount(labels), 1)
    return weights / mean[labels]


def mean_log_loss(probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean of minus the logarithm of the true class's probability, which counts as 1e-6 at least."""
    own = np.maximum(probabilities[np.arange(len(labels)), labels], SMALLEST)
    return float(np.average(-np.log(own), weights=weights))


def macro_auc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the area under the curve of this class against the others.

    Classes without units, or with all of them, are left out; NaN when none remains.
    """
    from sklearn.metrics import roc_auc_score

    own = [labels == k for k in range(probabilities.shape[1])]
    scores = [roc_auc_score(one, probabilities[:, k]) for k, one in enumerate(own) if one.any() and not one.all()]
    return float(np.mean(scores)) if scores else float("nan")
