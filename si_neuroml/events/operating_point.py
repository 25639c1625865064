"""Where to put the thresholds, and how sure a score is: learned from labelled traces that were not trained on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import TrainingError
from .labels import label_mask
from .picking import pick_events
from .ranking import average_precision, precision_recall_curve, ranked_hits
from .settings import DetectorSettings
from .windows import LabelledTraces

__all__ = [
    "OperatingPoint",
    "find_operating_point",
    "fit_probability",
    "held_out_average_precision",
    "peak_candidates",
]

# the highest scores per second and channel that are looked at; events are rarer
CANDIDATES_PER_S = 60.0
NUM_LOW_THRESHOLDS = 60


class OperatingPoint(NamedTuple):
    """Thresholds and what they reach on the traces they were found on.

    Attributes
    ----------
    threshold : float
        Score of the best F1 of events.
    low_threshold : float
        Score of the best F1 of samples, at most `threshold`.
    calibration : (float, float)
        Slope and intercept of the log odds that a candidate is a true event.
    summary : dict
        ``f1``, ``precision``, ``recall`` and ``num_true``.
    """

    threshold: float
    low_threshold: float
    calibration: tuple[float, float]
    summary: dict[str, Any]


def find_operating_point(
    traces: Sequence[LabelledTraces],
    scores: Sequence[np.ndarray],
    settings: DetectorSettings,
    tolerance_ms: float = 0.9,
) -> OperatingPoint:
    """Thresholds for the best F1, and the probability of a score.

    Parameters
    ----------
    traces : sequence of LabelledTraces
        With events.
    scores : sequence of float32 arrays, shape (num_channels, num_samples)
        Of each of them.
    settings : DetectorSettings
        Of the picking.
    tolerance_ms : float, default: 0.9
        A found event counts as true within this time of a labelled one.

    Returns
    -------
    OperatingPoint

    Raises
    ------
    TrainingError
        When nothing that was found is true.
    """
    hits, values, num_true = _ranked(traces, scores, settings, tolerance_ms)
    if not hits.any():
        raise TrainingError(
            f"None of the {len(hits)} highest scores lies within {tolerance_ms:g} ms of one of the {num_true} labelled "
            "events: labels and traces do not fit, or nothing was learned. Check the labels' times and the polarity."
        )
    precision, recall, thresholds = precision_recall_curve(hits, values, num_true)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1.argmax())
    threshold = _between(thresholds, best)
    summary = {"f1": f1[best], "precision": precision[best], "recall": recall[best], "num_true": num_true}
    return OperatingPoint(
        threshold,
        min(threshold, _low_threshold(traces, scores, threshold)),
        fit_probability(values, hits),
        {name: float(value) for name, value in summary.items()},
    )


def held_out_average_precision(
    traces: Sequence[LabelledTraces],
    scores: Sequence[np.ndarray],
    settings: DetectorSettings,
    tolerance_ms: float = 0.9,
) -> float:
    """Average precision of the events in scores, whatever the threshold; 0 without events.

    Parameters are those of :func:`find_operating_point`.
    """
    return average_precision(*_ranked(traces, scores, settings, tolerance_ms)) or 0.0


def peak_candidates(scores: np.ndarray, settings: DetectorSettings) -> tuple[np.ndarray, np.ndarray]:
    """(events, scores) of the highest peaks of scores, some 60 per second and channel."""
    num_kept = max(1, round(CANDIDATES_PER_S * scores.size / settings.sampling_frequency))
    # every peak of a finite score; one of minus infinity is a channel without data
    lowest = float(np.finfo("float32").min)
    picks = pick_events(scores, lowest, lowest, exclude_sweep=settings.picking["exclude_sweep"], max_reach=0)
    kept = np.sort(np.argsort(-picks.scores, kind="stable")[:num_kept])
    events = np.zeros(len(kept), dtype=_POINT_DTYPE)
    events["sample_index"], events["channel_index"] = picks.sample_indices[kept], picks.channel_indices[kept]
    return events, picks.scores[kept]


def fit_probability(scores: np.ndarray, hits: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of hits on scores (Platt 1999); the slope is never negative."""
    from sklearn.linear_model import LogisticRegression

    hits = np.asarray(hits, dtype=bool)
    if hits.all() or not hits.any():
        # one class only: Laplace's rule, whatever the score
        share = (hits.sum() + 1) / (len(hits) + 2)
        return 0.0, float(np.log(share / (1 - share)))
    values = np.asarray(scores, dtype="float64")
    center, scale = values.mean(), max(values.std(), 1e-12)
    model = LogisticRegression(C=1e3).fit(((values - center) / scale)[:, None], hits)
    slope = max(0.0, float(model.coef_[0, 0])) / scale
    return slope, float(model.intercept_[0]) - slope * center


def _ranked(traces, scores, settings, tolerance_ms):
    """Which candidates are true, their scores, and the number of labelled events."""
    tolerance = max(1, settings.samples(tolerance_ms))
    found = [peak_candidates(part, settings) for part in scores]
    hits = [
        ranked_hits(_as_events(part.labels), events, values, tolerance)
        for part, (events, values) in zip(traces, found, strict=True)
    ]
    num_true = sum(len(part.labels) for part in traces)
    return np.concatenate(hits), np.concatenate([values for _, values in found]), num_true


def _low_threshold(traces, scores, threshold):
    """The score that best tells samples inside events from others."""
    inside = np.concatenate([label_mask(part.labels, *part.x.shape).ravel() for part in traces])
    values = np.concatenate([part.ravel() for part in scores])
    best, best_f1 = threshold, -1.0
    order = np.sort(values[inside & np.isfinite(values)])
    for level in np.unique(order[np.linspace(0, len(order) - 1, NUM_LOW_THRESHOLDS).astype(int)]):
        above = values >= level
        f1 = 2 * (above & inside).sum() / max(1, above.sum() + inside.sum())
        if f1 > best_f1:
            best, best_f1 = float(level), f1
    return best


def _between(thresholds, best):
    """Half way to the next lower candidate, so that rounding in another recording changes nothing."""
    return float(thresholds[best] if best + 1 == len(thresholds) else 0.5 * (thresholds[best] + thresholds[best + 1]))


_POINT_DTYPE = np.dtype([("sample_index", "int64"), ("channel_index", "int64"), ("segment_index", "int64")])


def _as_events(labels):
    events = np.zeros(len(labels), dtype=_POINT_DTYPE)
    events["sample_index"], events["channel_index"] = labels["sample_index"], labels["channel_index"]
    return events
