"""Found events from the surest down: hits, precision against recall, and whether probabilities are what they claim."""

from typing import Any

import numba
import numpy as np

from ..errors import InputError
from .matching import times_on_one_line

__all__ = ["average_precision", "precision_recall_curve", "probability_calibration", "ranked_hits"]


def ranked_hits(true: np.ndarray, found: np.ndarray, scores: np.ndarray, tolerance: float) -> np.ndarray:
    """Which found events are hits, such that any threshold on their scores keeps as many hits as can be matched there.

    Found events are taken from the highest score down; one is a hit if all hits so far and it can be matched at once,
    whoever their partners then are. Sets that can be matched are the independent sets of a matroid, so that the hits
    among the first k are exactly as many as :func:`match_events` would match of the first k, for every k.

    Parameters
    ----------
    true, found : structured arrays, shapes (num_true,) and (num_found,)
        Events.
    scores : array, shape (num_found,)
        What ranks the found events, larger is surer.
    tolerance : float
        Largest difference of a pair, in samples (inclusive).

    Returns
    -------
    bool array, shape (num_found,)

    Raises
    ------
    InputError
        As :func:`match_events`, or on scores that are NaN or not one per found event.
    """
    scores = np.asarray(scores, dtype="float64")
    if scores.shape != (len(found),) or np.isnan(scores).any():
        text = f"{len(found)} found events need one score each, none of them NaN;"
        raise InputError(f"{text} got shape {scores.shape} with {int(np.isnan(scores).sum())} NaN.")
    true_times, found_times, tolerance = times_on_one_line(true, found, tolerance)
    true_times = np.sort(true_times)
    first = np.searchsorted(true_times, found_times - tolerance, side="left")
    last = np.searchsorted(true_times, found_times + tolerance, side="right")
    hits = np.zeros(len(found), dtype=bool)
    _augment_by_rank(np.argsort(-scores, kind="stable"), first, last, len(true), hits)
    return hits


def precision_recall_curve(
    hits: np.ndarray, scores: np.ndarray, num_true: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at every threshold, from the strictest one down.

    Parameters
    ----------
    hits : bool array, shape (num_found,)
        As from :func:`~si_neuroml.events.matching.ranked_hits`.
    scores : array, shape (num_found,)
        What ranks the found events. Equal scores share one threshold.
    num_true : float
        True events, found or not, in units of the weights.
    weights : array, shape (num_found,), optional
        How often each found event counts. Default: once.

    Returns
    -------
    precision, recall, thresholds : float64 arrays, shape (num_distinct_scores,)
        Of the events with at least that score.
    """
    scores = np.asarray(scores, dtype="float64")
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype="float64")[order]
    good, all_found = np.cumsum(weights * np.asarray(hits)[order])[ends], np.cumsum(weights)[ends]
    precision = np.divide(good, all_found, out=np.zeros(len(ends)), where=all_found > 0)
    return precision, good / num_true if num_true else np.full(len(ends), np.nan), scores[order][ends]


def average_precision(
    hits: np.ndarray, scores: np.ndarray, num_true: float, weights: np.ndarray | None = None
) -> float | None:
    """Mean precision over the recall that each threshold adds; true events never found add none.

    Parameters
    ----------
    hits, scores, num_true, weights
        As for :func:`precision_recall_curve`.

    Returns
    -------
    float | None
        Sum of (recall_k - recall_(k-1)) * precision_k, as in scikit-learn; None without true events.
    """
    if not num_true:
        return None
    precision, recall, _ = precision_recall_curve(hits, scores, num_true, weights)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def probability_calibration(hits: np.ndarray, probability: np.ndarray, num_bins: int = 10) -> dict[str, Any]:
    """Compare the probability of found events with the share of them that is real.

    Parameters
    ----------
    hits : bool array, shape (num_found,)
        Which found events are real.
    probability : array, shape (num_found,)
        What was claimed, from 0 to 1.
    num_bins : int, default: 10
        Bins of equal width.

    Returns
    -------
    dict
        ``bins``: of each bin with events ``probability`` (mean), ``share`` of hits and ``num``; ``error``: mean
        distance of the two over all events (expected calibration error; Guo et al. 2017); ``brier``: mean squared
        distance of probability and outcome. Both None without events.

    Raises
    ------
    InputError
        On probabilities outside 0 and 1.
    """
    hits, probability = np.asarray(hits, dtype="float64"), np.asarray(probability, dtype="float64")
    if not ((probability >= 0) & (probability <= 1)).all() or num_bins < 1:
        raise InputError("probability must lie between 0 and 1 everywhere, and num_bins be at least 1.")
    if not len(hits):
        return {"bins": [], "error": None, "brier": None}
    own = np.minimum((probability * num_bins).astype("int64"), num_bins - 1)
    num, claimed, real = (np.bincount(own, values, minlength=num_bins) for values in (None, probability, hits))
    filled = np.flatnonzero(num)
    bins = [
        {"probability": float(claimed[k] / num[k]), "share": float(real[k] / num[k]), "num": int(num[k])}
        for k in filled
    ]
    error = float(np.abs(claimed - real).sum() / len(hits))
    return {"bins": bins, "error": error, "brier": float(((probability - hits) ** 2).mean())}


@numba.njit(nogil=True)
def _augment_by_rank(order, first, last, num_true, hits):
    """Kuhn's augmenting paths, breadth first, one found event after another; a hit is never dropped again."""
    owner = np.full(num_true, -1, dtype=np.int64)  # found event of each true one
    owned = np.full(len(order), -1, dtype=np.int64)  # and the other way round
    reached_by = np.full(num_true, -1, dtype=np.int64)
    visit = np.full(num_true, -1, dtype=np.int64)
    queue = np.empty(num_true + 1, dtype=np.int64)
    for new in order:
        head, tail, free = 0, 1, -1
        queue[0] = new
        while head < tail and free < 0:
            current = queue[head]
            head += 1
            for i in range(first[current], last[current]):
                if visit[i] == new:
                    continue
                visit[i], reached_by[i] = new, current
                if owner[i] < 0:
                    free = i
                    break
                queue[tail] = owner[i]
                tail += 1
        hits[new] = free >= 0
        while free >= 0:
            current = reached_by[free]
            before = owned[current]
            owner[free], owned[current] = current, free
            free = before
