"""Intervals over cells: events of one cell are alike, so that what is drawn again and again are whole cells.

Counts are kept per cell; a resample adds up the counts of cells drawn with replacement (Davison & Hinkley 1997, section
3.8). Rows of counts are matched, true and found events.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .ranking import average_precision

if TYPE_CHECKING:
    from .evaluation import EventScores

__all__ = ["compare_f1", "count_row", "ratio", "shares", "summary_of_cells"]


def compare_f1(one: "EventScores", other: "EventScores", *, num_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Difference in pooled F1 between two detectors on the same cells, with its paired 95 % interval.

    Cells differ far more from each other than detectors do on one cell. Drawing the same cells for both takes that part
    out, so that the interval of the difference says whether one detector is better where two overlapping intervals
    would not.

    Parameters
    ----------
    one, other : EventScores
        Of the same true events with the same cells.
    num_resamples, seed : int, default: 2000, 0
        Of the bootstrap.

    Returns
    -------
    dict
        ``difference`` (one minus other), ``low`` and ``high`` (None with one cell), and ``cells_won``, ``cells_lost``.

    Raises
    ------
    InputError
        When there are no cells or they do not agree.
    """
    truths = [scores.cells and {name: row["num_true"] for name, row in scores.cells.items()} for scores in (one, other)]
    if not truths[0] or truths[0] != truths[1]:
        raise InputError("Both need scores by cell of the same true events: pass the same events and cells for each.")
    counts = [
        np.array([[row[key] for key in ("num_matched", "num_true", "num_found")] for row in scores.cells.values()])
        for scores in (one, other)
    ]
    pooled = [_f1(part.sum(axis=0)) for part in counts]
    own = _f1(counts[0]) - _f1(counts[1])
    low = high = None
    if len(own) > 1:
        draws = _draws(len(own), num_resamples, seed)
        low, high = _interval(_f1(draws @ counts[0]) - _f1(draws @ counts[1])) or (None, None)
    return {
        "difference": _plain(pooled[0] - pooled[1]),
        "low": low,
        "high": high,
        "cells_won": int((own > 0).sum()),
        "cells_lost": int((own < 0).sum()),
    }


def summary_of_cells(
    cells: tuple[list[str], np.ndarray] | None,
    counts: dict[str, np.ndarray],
    ranking: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    num_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The parts of :class:`~si_neuroml.events.evaluation.EventScores` that need cells.

    Parameters
    ----------
    cells : (list of str, int array of shape (num_traces,)), optional
        Names of the cells, and which one each trace is from.
    counts : dict of array, shape (num_traces, num_counts)
        "events": matched, true and found; "silent": found and minutes in traces without true events; and where there
        are intervals "interval" and "sample", the like of "events".
    ranking : (bool, float and int arrays, shape (num_found,)), optional
        Hits, scores and traces of all found events, for average precision.
    num_resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``cells``, ``mean_cell_f1`` and ``confidence``.
    """
    if cells is None:
        return {"cells": None, "mean_cell_f1": None, "confidence": None}
    names, cell_of_trace = cells
    by_cell = {key: _by_cell(part, cell_of_trace, len(names)) for key, part in counts.items()}
    table = {name: count_row(*row) for name, row in zip(names, by_cell["events"].tolist(), strict=True)}
    known = [row["f1"] for row in table.values() if row["f1"] is not None]
    if ranking is not None:
        hits, scores, found_trace = ranking
        ranking = (hits, scores, cell_of_trace[found_trace])
    return {
        "cells": table,
        "mean_cell_f1": float(np.mean(known)) if known else None,
        "confidence": _confidence(by_cell, ranking, num_resamples, seed) if len(names) > 1 else None,
    }


def count_row(num_matched: int, num_true: int, num_found: int) -> dict[str, Any]:
    """Counts of events with the shares that follow from them."""
    return {
        "num_true": int(num_true),
        "num_found": int(num_found),
        "num_matched": int(num_matched),
        **shares(num_matched, num_true, num_found),
    }


def shares(num_matched: float, num_true: float, num_found: float) -> dict[str, float | None]:
    """Precision, recall and F1, None where they cannot be known."""
    return {
        "precision": ratio(num_matched, num_found),
        "recall": ratio(num_matched, num_true),
        "f1": ratio(2 * num_matched, num_true + num_found),
    }


def ratio(numerator: float, denominator: float) -> float | None:
    """One number divided by another, None for nothing divided by nothing."""
    return _plain(_divide(numerator, denominator))


def _by_cell(part, cell_of_trace, num_cells):
    return np.column_stack([np.bincount(cell_of_trace, column, minlength=num_cells) for column in part.T])


def _draws(num_cells, num_resamples, seed):
    """How often each cell is drawn: int array, shape (num_resamples, num_cells)."""
    return np.random.default_rng(seed).multinomial(num_cells, np.full(num_cells, 1 / num_cells), size=num_resamples)


def _confidence(by_cell, ranking, num_resamples, seed):
    events = by_cell["events"]
    draws = _draws(len(events), num_resamples, seed)
    sums = {key: draws @ part for key, part in by_cell.items()}
    cell_f1 = _f1(events)
    known = np.isfinite(cell_f1)
    values = {
        "precision": _divide(sums["events"][:, 0], sums["events"][:, 2]),
        "recall": _divide(sums["events"][:, 0], sums["events"][:, 1]),
        "f1": _f1(sums["events"]),
        "mean_cell_f1": _divide(draws @ np.where(known, cell_f1, 0.0), draws @ known),
        "false_per_minute": _divide(sums["silent"][:, 0], sums["silent"][:, 1]),
    }
    values |= {f"{key}_f1": _f1(sums[key]) for key in ("sample", "interval") if key in sums}
    if ranking is not None:
        order = np.argsort(-ranking[1], kind="stable")  # once, so that every draw finds them sorted
        hits, scores, cell = (part[order] for part in ranking)
        totals = zip(draws, sums["events"][:, 1], strict=True)
        values["average_precision"] = np.array(
            [average_precision(hits, scores, total, draw[cell]) for draw, total in totals], dtype="float64"
        )
    return {key: _interval(each) for key, each in values.items()}


def _interval(values):
    values = values[np.isfinite(values)]
    return tuple(np.quantile(values, (0.025, 0.975)).tolist()) if len(values) else None


def _f1(counts):
    counts = np.asarray(counts)
    return _divide(2.0 * counts[..., 0], counts[..., 1] + counts[..., 2])


def _divide(numerator, denominator):
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, "float64"), np.asarray(denominator, "float64"))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _plain(value):
    return float(value) if np.isfinite(value) else None
