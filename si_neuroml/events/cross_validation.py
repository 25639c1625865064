"""Fit a detector to some cells and score it on others: what the search and the learning curve share."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError, TrainingError
from .detector import SCORERS
from .fit import fit_event_detector, fit_to_traces
from .matching import match_events
from .operating_point import peak_candidates
from .ranking import average_precision, ranked_hits
from .settings import DetectorSettings
from .windows import LabelledTraces

__all__ = ["TEST_SHARE_IN_TIME", "fit_and_score", "fit_options", "pooled_scores"]

# Pradeep, Agarwal and Advani train on the first 70 % of a scan, and stop and test on 15 % each
TEST_SHARE_IN_TIME, HELD_OUT_SHARE_IN_TIME = 0.15, 0.15 / 0.85
# arguments of fit_event_detector that say what the labelled traces are, and how to fit to them
_OF_TRACES = ("polarity", "settings_kwargs", "label_half_width_ms", "channels_of_units", "cells")
_OF_FITS = ("network_kwargs", "training_kwargs", "num_folds", "held_out_fraction", "tolerance_ms", "device")


def fit_options(network: str, split: str, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of :func:`~si_neuroml.events.fit.fit_event_detector`, checked, with its defaults for those not given.

    Parameters
    ----------
    network : str
        Of the detector.
    split : "cell" | "time"
        What is held out.
    given : dict
        By name.

    Returns
    -------
    of_traces, of_fits : dict
        Those that :func:`~si_neuroml.events.fit.labelled_traces` takes, and those that :func:`fit_and_score` takes.

    Raises
    ------
    InputError
        On an unknown network, split or name.
    """
    networks, known = sorted(set(SCORERS) - {"resampled"}), [*_OF_TRACES, *_OF_FITS]
    if network not in networks:
        raise InputError(f"There is no network or baseline {network!r}; there are {networks}.")
    if split not in ("cell", "time"):
        raise InputError(f'split must be "cell" or "time", got {split!r}.')
    if not set(given) <= set(known):
        raise InputError(f"Arguments passed on to the fits are {known}; got {sorted(set(given) - set(known))}.")
    defaults = {name: value.default for name, value in inspect.signature(fit_event_detector).parameters.items()}
    if split == "time":
        defaults |= {"num_folds": 1, "held_out_fraction": HELD_OUT_SHARE_IN_TIME}
    of_traces, of_fits = ({name: given.get(name, defaults[name]) for name in part} for part in (_OF_TRACES, _OF_FITS))
    if not 0 < of_fits["held_out_fraction"] < 1:
        raise InputError(f"held_out_fraction must lie within 0 and 1, got {of_fits['held_out_fraction']!r}.")
    num_folds = of_fits["num_folds"]
    if num_folds is not None and not (isinstance(num_folds, int) and num_folds > 0):
        raise InputError(f"num_folds must be a whole number from 1 on, or None; got {num_folds!r}.")
    return of_traces, of_fits | {"split": split}


def fit_and_score(
    train: Sequence[LabelledTraces],
    test: Sequence[LabelledTraces],
    settings: DetectorSettings,
    network: str,
    *,
    seed: int,
    tolerance_ms: float,
    **options: Any,
) -> dict[str, Any]:
    """Fit a detector, thresholds included, to some traces and count its events on others.

    Parameters
    ----------
    train, test : sequence of LabelledTraces
        The first also gives thresholds and early stopping; the second has no part in the fit.
    settings : DetectorSettings
        Of the traces.
    network : str
        Of the detector.
    seed, tolerance_ms, **options
        As for :func:`~si_neuroml.events.fit.fit_event_detector`.

    Returns
    -------
    dict
        ``num_true``, ``num_found``, ``num_matched``, ``average_precision``, and ``error``: why nothing was learned, in
        which case nothing is found; else None.
    """
    counts = {"num_true": sum(len(part.labels) for part in test), "num_found": 0, "num_matched": 0}
    counts |= {"average_precision": 0.0, "error": None}
    try:
        detector = fit_to_traces(
            train, settings, network, seed=seed, tolerance_ms=tolerance_ms, progress_bar=False, **options
        )
    except TrainingError as error:
        return counts | {"error": str(error)}
    tolerance, rows = max(1, settings.samples(tolerance_ms)), []
    for number, part in enumerate(test):
        scores = detector.scorer.scores(part.x)
        found = detector.events(scores, 0, (0, scores.shape[1]))
        ranked, values = peak_candidates(scores, settings)
        rows.append([_in_segment(events, number) for events in (part.labels, found, ranked)] + [values])
    true, found, ranked, values = (np.concatenate(column) for column in zip(*rows, strict=True))
    hits = ranked_hits(true, ranked, values, tolerance)
    counts["num_found"] = len(found)
    counts["num_matched"] = int((match_events(true, found, tolerance) >= 0).sum())
    return counts | {"average_precision": average_precision(hits, values, len(true))}


def pooled_scores(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Precision, recall and F1 of the events of all folds together, and the mean of their average precision.

    Scores of two fits have no common scale, so that average precision cannot be pooled. Precision is 0 where nothing
    was found, so that every number is one.
    """
    total = {name: sum(fold[name] for fold in folds) for name in ("num_true", "num_found", "num_matched")}
    errors = [fold["error"] for fold in folds if fold["error"]]
    return total | {
        "precision": total["num_matched"] / max(1, total["num_found"]),
        "recall": total["num_matched"] / max(1, total["num_true"]),
        "f1": 2 * total["num_matched"] / max(1, total["num_true"] + total["num_found"]),
        "average_precision": float(np.mean([fold["average_precision"] or 0.0 for fold in folds])),
        "error": errors[0] if errors else None,
    }


def _in_segment(events, number):
    """Time and channel of events, with a segment of their own."""
    names = ("sample_index", "channel_index", "segment_index")
    out = np.zeros(len(events), dtype=[(name, "int64") for name in names])
    out["sample_index"], out["channel_index"], out["segment_index"] = *(events[name] for name in names[:2]), number
    return out
