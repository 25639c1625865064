"""How good are probabilities of classes? Scores of labelled units or cells with 95 % intervals over subjects.

Values are scikit-learn's. Units of one animal are alike, so that what is drawn again and again for the intervals are
whole subjects (Davison & Hinkley 1997, section 3.8). Every score follows from sums over the units of each subject
(counts of the confusion matrix, of bins of probability), and a resample adds up the sums of the subjects drawn.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from .score_sums import (
    COVERAGES,
    NUM_RELIABILITY_BINS,
    SMALLEST,
    at_level,
    divide,
    interval_of,
    reliability_bins,
    subject_draws,
    sums_by_subject,
    values_of_sums,
)

__all__ = ["ClassScores", "class_scores", "compare_scores"]


@dataclass(frozen=True)
class ClassScores:
    """What :func:`class_scores` finds.

    Attributes
    ----------
    values : dict of float
        ``balanced_accuracy`` (mean recall of the classes that have units), ``accuracy``, ``macro_f1`` (over the same
        classes), ``mcc``, ``auc`` (one against the rest, mean over classes), ``log_loss``, ``calibration_error``
        (expected, of the most likely class, 10 bins; Guo et al. 2017), ``accuracy_at_half_coverage``, and at each
        level of a hierarchy ``balanced_accuracy_<level>`` and ``accuracy_<level>``. NaN where it cannot be known.
    intervals : dict of (float, float), or None
        95 % interval of each value over subjects; None with fewer than two subjects.
    classes : tuple of str
        Rows and columns of `confusion`.
    confusion : int64 array, shape (num_classes, num_classes)
        Units by true (row) and most likely (column) class.
    num_subjects_per_class : int64 array, shape (num_classes,)
        Subjects with labelled units of each class.
    coverage : list of dict
        ``coverage``, ``accuracy`` among that share of surest units, ``threshold`` (their least probability), ``low``
        and ``high``.
    reliability : list of dict
        Of each bin with units ``probability`` (mean of the most likely class), ``share`` right, and ``num``.
    num_units, num_subjects : int
        Units scored, and their subjects.
    num_left_out : int
        Units without a label among the classes.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]] | None
    classes: tuple[str, ...]
    confusion: np.ndarray
    num_subjects_per_class: np.ndarray
    coverage: list[dict[str, float]]
    reliability: list[dict[str, float]]
    num_units: int
    num_subjects: int
    num_left_out: int

    @property
    def confusion_rates(self) -> np.ndarray:
        """Confusion matrix with rows that sum to 1: the diagonal are the recalls. NaN for classes without units."""
        return divide(self.confusion, self.confusion.sum(axis=1, keepdims=True))

    def to_dict(self) -> dict[str, Any]:
        """All of it as nested dicts and lists of plain numbers, with None in place of NaN."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _plain(own | {"confusion_rates": self.confusion_rates})


def class_scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    subjects: np.ndarray | None = None,
    *,
    hierarchy: Mapping[str, Mapping[str, str]] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> ClassScores:
    """Everything that is reported about one set of predictions.

    Parameters
    ----------
    labels : array of str, shape (num_units,)
        True classes. Units whose label is not among `classes` are left out, and counted.
    probabilities : array, shape (num_units, num_classes)
        Rows sum to 1.
    classes : sequence of str
        What the columns are.
    subjects : array, shape (num_units,), optional
        Animal of each unit. Default: all are of one, and nothing gets an interval.
    hierarchy : dict of dict, optional
        Coarser levels: {level: {class: its parent}}, for example {"cosmos": {"CA1": "HPF", "LP": "TH"}}. Probabilities
        of classes with one parent are added up.
    num_resamples, seed : int, default: 1000, 0
        Of the bootstrap over subjects.

    Returns
    -------
    ClassScores

    Raises
    ------
    InputError
        On shapes that do not agree, rows that are no probabilities, no labelled unit, or a class without a parent.
    """
    own, rows, who, kept = _checked(labels, probabilities, classes, subjects)
    parents = _parents(hierarchy or {}, classes)
    sums = sums_by_subject(own, rows, who, parents)
    values = _exact_values(own, rows, parents)
    num_subjects = who.max() + 1
    intervals = curve = None
    if num_subjects > 1:
        draws = subject_draws(num_subjects, num_resamples, seed)
        resampled = values_of_sums({key: np.tensordot(draws, part, axes=1) for key, part in sums.items()})
        curve = resampled.pop("coverage")
        intervals = {key: interval_of(resampled[key]) for key in values}
    members = np.zeros((len(classes), num_subjects), dtype=bool)
    members[own, who] = True
    return ClassScores(
        values,
        intervals,
        tuple(map(str, classes)),
        sums["confusion"].sum(axis=0).astype("int64"),
        members.sum(axis=1),
        _coverage_table(own, rows, curve),
        _reliability_table(own, rows),
        len(own),
        int(num_subjects),
        int((~kept).sum()),
    )


def compare_scores(
    labels: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    classes: Sequence[str],
    subjects: np.ndarray,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float, float]]:
    """Differences between two sets of predictions for the same units, with paired 95 % intervals over subjects.

    Parameters
    ----------
    labels, classes, subjects, num_resamples, seed
        As for :func:`class_scores`.
    one, other : arrays, shape (num_units, num_classes)
        Probabilities.

    Returns
    -------
    dict of (float, float, float)
        For each score one minus other, and the two ends of its interval (NaN with one subject). One is better beyond
        doubt where the interval leaves out 0; intervals of the two that overlap do not say that it is not.

    Raises
    ------
    InputError
        As :func:`class_scores`.
    """
    parts = [_checked(labels, probabilities, classes, subjects) for probabilities in (one, other)]
    values = [_exact_values(own, rows, {}) for own, rows, *_ in parts]
    difference = {key: values[0][key] - values[1][key] for key in values[0]}
    num_subjects = parts[0][2].max() + 1
    if num_subjects < 2:
        return {key: (value, np.nan, np.nan) for key, value in difference.items()}
    draws = subject_draws(num_subjects, num_resamples, seed)
    one, other = (
        values_of_sums({key: np.tensordot(draws, part, axes=1) for key, part in sums_by_subject(*rest, {}).items()})
        for *rest, _ in parts
    )
    return {key: (value, *interval_of(one[key] - other[key])) for key, value in difference.items()}


def _checked(labels, probabilities, classes, subjects):
    """Indices of classes, probabilities and subject codes of the units that can be scored, and which those are."""
    labels = np.asarray(labels, dtype=str)
    subjects = np.zeros(labels.shape, dtype=str) if subjects is None else np.asarray(subjects, dtype=str)
    probabilities, classes = np.asarray(probabilities, dtype="float64"), list(map(str, classes))
    if probabilities.shape != (len(labels), len(classes)) or subjects.shape != labels.shape:
        text = f"{len(labels)} labels, {len(classes)} classes and {len(subjects)} subjects do not fit"
        raise InputError(f"{text} probabilities of shape {probabilities.shape}.")
    if len(set(classes)) < len(classes):
        raise InputError(f"classes must be distinct, got {classes!r}.")
    index = {name: k for k, name in enumerate(classes)}
    own = np.array([index.get(label, -1) for label in labels.tolist()], dtype="int64")
    kept = own >= 0
    if not kept.any():
        raise InputError(f"None of the {len(labels)} units has a label among the classes {classes!r}.")
    rows = probabilities[kept]
    wrong = ~((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) < 1e-3))
    if wrong.any():
        raise InputError(f"{wrong.sum()} of {len(wrong)} rows are no probabilities (negative, NaN, or a sum not 1).")
    return own[kept], rows, np.unique(subjects[kept], return_inverse=True)[1].reshape(-1), kept


def _parents(hierarchy, classes):
    """For each level the index of every class's parent."""
    parents = {}
    for level, above in hierarchy.items():
        lost = [name for name in classes if name not in above]
        if lost:
            raise InputError(f"Level {level!r} of the hierarchy has no parent for {lost!r}.")
        parents[level] = np.unique([above[name] for name in classes], return_inverse=True)[1].reshape(-1)
    return parents


def _exact_values(own, rows, parents):
    from sklearn import metrics

    best, num_classes = rows.argmax(axis=1), rows.shape[1]
    present = np.unique(own)
    with warnings.catch_warnings():
        # classes that are predicted but never true are no news here
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        balanced = metrics.balanced_accuracy_score(own, best)
    areas = [metrics.roc_auc_score(own == k, rows[:, k]) for k in present if len(present) > 1]
    loss = np.nan
    if num_classes > 1:
        clipped = np.clip(rows, SMALLEST, 1.0)
        loss = metrics.log_loss(own, clipped / clipped.sum(axis=1, keepdims=True), labels=np.arange(num_classes))
    values = {
        "balanced_accuracy": balanced,
        "accuracy": metrics.accuracy_score(own, best),
        "macro_f1": metrics.f1_score(own, best, labels=present, average="macro", zero_division=0.0),
        "mcc": metrics.matthews_corrcoef(own, best) if len(present) > 1 else np.nan,
        "auc": np.mean(areas) if areas else np.nan,
        "log_loss": loss,
        "calibration_error": _calibration_error(_reliability_sums(own, rows)),
        "accuracy_at_half_coverage": _accuracy_of_surest(own, rows, 0.5)[0],
    }
    for level, parent in parents.items():
        lifted = _exact_values(*at_level(own, rows, parent), {})
        values |= {f"{key}_{level}": lifted[key] for key in ("balanced_accuracy", "accuracy")}
    return {key: float(value) for key, value in values.items()}


def _reliability_sums(own, rows):
    sure, right = rows.max(axis=1), rows.argmax(axis=1) == own
    bins = reliability_bins(sure)
    return [np.bincount(bins, weights, NUM_RELIABILITY_BINS) for weights in (None, sure, right)]


def _calibration_error(sums):
    num, claimed, right = sums
    return np.abs(claimed - right).sum() / num.sum()


def _reliability_table(own, rows):
    num, claimed, right = _reliability_sums(own, rows)
    return [
        {"probability": float(claimed[k] / num[k]), "share": float(right[k] / num[k]), "num": int(num[k])}
        for k in np.flatnonzero(num)
    ]


def _accuracy_of_surest(own, rows, coverage):
    """Accuracy among the surest units and their least probability; units as sure as the last share their luck."""
    sure, right = rows.max(axis=1), rows.argmax(axis=1) == own
    wanted = max(coverage * len(own), 1.0)
    threshold = np.sort(sure)[::-1][int(np.ceil(wanted)) - 1]
    surer, tied = sure > threshold, sure == threshold
    return (right[surer].sum() + (wanted - surer.sum()) * right[tied].mean()) / wanted, threshold


def _coverage_table(own, rows, resampled):
    table = []
    for k, coverage in enumerate(COVERAGES):
        accuracy, threshold = _accuracy_of_surest(own, rows, coverage)
        low, high = (np.nan, np.nan) if resampled is None else interval_of(resampled[:, k])
        row = {"coverage": coverage, "accuracy": accuracy, "threshold": threshold, "low": low, "high": high}
        table.append({key: float(value) for key, value in row.items()})
    return table


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
