"""How good are found events? Scores per event, per interval and per sample, with intervals over cells.

The unit of generalisation is the cell: counts are kept per cell, and 95 % intervals come from drawing cells with
replacement and adding up their counts (Davison & Hinkley 1997, section 3.8). Arrays in, plain numbers out.

A *trace* is one channel of one segment. Shares that cannot be known, such as the precision without any found event,
are None.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from .cells import count_row, ratio, shares, summary_of_cells
from .matching import match_events, match_intervals, samples_covered
from .ranking import average_precision, probability_calibration, ranked_hits

__all__ = ["TOLERANCES_MS", "EventScores", "event_scores"]

TOLERANCES_MS = (0.3, 0.5, 0.9, 1.0, 2.0, 5.0)
MIN_IOU = 0.5


@dataclass(frozen=True)
class EventScores:
    """What :func:`event_scores` finds; every part is fit for JSON.

    Attributes
    ----------
    headline : dict
        ``tolerance_ms``, ``tolerance_samples``, ``num_true``, ``num_found``, ``num_matched``, ``precision``,
        ``recall``, ``f1``, ``bias_ms`` and ``sd_ms`` (found minus true time of matched events), and
        ``average_precision`` (None without probabilities).
    tolerances : list of dict
        The same, without average precision, at each tolerance.
    silent : dict
        ``num_traces`` without any true event, ``minutes``, ``num_found`` there and ``false_per_minute``.
    calibration : dict | None
        Of the probabilities, as from :func:`~si_neuroml.events.ranking.probability_calibration`; None where they are
        not all within 0 and 1.
    intervals : dict | None
        ``mean_iou`` over the true intervals (0 for those not met), ``mean_iou_matched``, and ``precision``, ``recall``
        and ``f1`` of intervals that overlap with an IoU of 0.5 or more; None without intervals.
    samples : dict | None
        ``precision``, ``recall`` and ``f1`` of samples inside an interval of any event; None without intervals.
    cells : dict | None
        Of each cell ``num_true``, ``num_found``, ``num_matched``, ``precision``, ``recall`` and ``f1``; None without
        cells.
    mean_cell_f1 : float | None
        Mean of the cells' F1.
    confidence : dict | None
        95 % interval over cells (low, high) of precision, recall, f1, average_precision, mean_cell_f1, sample_f1,
        interval_f1 and false_per_minute; None without cells or with one.
    """

    headline: dict[str, Any]
    tolerances: list[dict[str, Any]]
    silent: dict[str, Any]
    calibration: dict[str, Any] | None
    intervals: dict[str, Any] | None
    samples: dict[str, Any] | None
    cells: dict[str, dict[str, Any]] | None
    mean_cell_f1: float | None
    confidence: dict[str, tuple[float, float] | None] | None

    def to_dict(self) -> dict[str, Any]:
        """All of it as nested dicts and lists of plain numbers."""
        return asdict(self)


def event_scores(
    true: np.ndarray,
    found: np.ndarray,
    sampling_frequency: float,
    num_samples: np.ndarray,
    *,
    cells: np.ndarray | None = None,
    threshold: float | None = None,
    headline_ms: float = 0.9,
    tolerances_ms: tuple[float, ...] = TOLERANCES_MS,
    num_resamples: int = 2000,
    seed: int = 0,
) -> EventScores:
    """Everything that is reported about found events.

    Parameters
    ----------
    true : structured array, shape (num_true,)
        Fields sample_index, channel_index and segment_index; with onset and offset (exclusive) where they are known.
    found : structured array, shape (num_found,)
        The same, and where there is one the field probability (any score that ranks events will do).
    sampling_frequency : float
        Samples per second.
    num_samples : int array, shape (num_segments, num_channels)
        Length of every trace; 0 where there is none.
    cells : array, shape (num_segments, num_channels) or broadcast to it, optional
        Which cell each trace is from, as numbers or names. Default: unknown, and no intervals.
    threshold : float, optional
        Found events of a lower probability count only for average precision and calibration. Default: all count.
    headline_ms : float, default: 0.9
        Tolerance of the headline, the cells, average precision and calibration. Tolerances are rounded to whole
        samples; 0.9 ms are 3 samples at 3,328 Hz.
    tolerances_ms : tuple of float, default: (0.3, 0.5, 0.9, 1, 2, 5)
        The tolerance curve.
    num_resamples, seed : int, default: 2000, 0
        Of the bootstrap over cells.

    Returns
    -------
    EventScores

    Raises
    ------
    InputError
        When fields are missing, an event lies outside its trace, or shapes do not agree.
    """
    num_samples, cells = _checked_traces(num_samples, cells)
    if not sampling_frequency > 0:
        raise InputError(f"sampling_frequency must be above 0, got {sampling_frequency!r}.")
    true_trace, found_trace = _trace_of("true", true, num_samples), _trace_of("found", found, num_samples)
    kept, tolerance = _kept(found, threshold), _in_samples(headline_ms, sampling_frequency)
    counted = found[kept]
    matched = match_events(true, counted, tolerance)
    counts = _counts_by_trace(true_trace, found_trace[kept], matched >= 0, num_samples.ravel() / sampling_frequency)
    with_intervals = _has_intervals(true) and _has_intervals(counted)
    if with_intervals:
        iou = match_intervals(true, counted)[1]
        counts |= _interval_counts(true, counted, true_trace, found_trace[kept], iou, counts["events"])
    totals = {key: part.sum(axis=0) for key, part in counts.items()}
    headline = _row(headline_ms, tolerance, true, counted, matched, sampling_frequency)
    ranking, calibration, headline["average_precision"] = None, None, None
    if "probability" in found.dtype.names:
        probability = found["probability"]
        hits = ranked_hits(true, found, probability, tolerance)
        headline["average_precision"] = average_precision(hits, probability, len(true))
        if ((probability >= 0) & (probability <= 1)).all():
            calibration = probability_calibration(hits, probability)
        ranking = (hits, probability, found_trace)
    rows = []
    for milliseconds in tolerances_ms:
        steps = _in_samples(milliseconds, sampling_frequency)
        pairs = match_events(true, counted, steps)
        rows.append(_row(milliseconds, steps, true, counted, pairs, sampling_frequency))
    return EventScores(
        headline=headline,
        tolerances=rows,
        silent=_silent_summary(totals["silent"]),
        calibration=calibration,
        intervals=_interval_summary(iou, totals["interval"]) if with_intervals else None,
        samples=shares(*totals["sample"].tolist()) if with_intervals else None,
        **summary_of_cells(cells, counts, ranking, num_resamples, seed),
    )


def _checked_traces(num_samples, cells):
    num_samples = np.asarray(num_samples)
    if num_samples.ndim != 2 or num_samples.dtype.kind not in "iu" or (num_samples < 0).any():
        text = "num_samples must hold the length of every trace, whole numbers of shape (num_segments, num_channels);"
        raise InputError(f"{text} got {num_samples.dtype} of shape {num_samples.shape}.")
    if cells is None:
        return num_samples, None
    try:
        labels = np.broadcast_to(np.asarray(cells), num_samples.shape).ravel()
    except ValueError:
        text = f"cells of shape {np.shape(cells)} do not fit the traces, shape {num_samples.shape}"
        raise InputError(f"{text} (num_segments, num_channels).") from None
    present = num_samples.ravel() > 0
    names, numbers = np.unique(labels[present], return_inverse=True)
    cell_of_trace = np.zeros(num_samples.size, dtype="int64")
    cell_of_trace[present] = numbers
    return num_samples, ([str(name) for name in names], cell_of_trace)


def _trace_of(name, events, num_samples):
    try:
        sample, channel, segment = (events[key] for key in ("sample_index", "channel_index", "segment_index"))
    except (IndexError, KeyError, TypeError, ValueError):
        raise InputError(f"{name} needs the fields sample_index, channel_index and segment_index.") from None
    inside = (channel >= 0) & (channel < num_samples.shape[1]) & (segment >= 0) & (segment < num_samples.shape[0])
    trace = np.where(inside, segment * num_samples.shape[1] + channel, 0).astype("int64")
    inside &= (sample >= 0) & (sample < num_samples.ravel()[trace]) if num_samples.size else False
    if not inside.all():
        raise InputError(f"{(~inside).sum()} of {len(events)} {name} events lie outside the traces of num_samples.")
    return trace


def _kept(found, threshold):
    if threshold is None:
        return np.ones(len(found), dtype=bool)
    if "probability" not in found.dtype.names:
        raise InputError("A threshold needs found events with the field probability.")
    return found["probability"] >= threshold


def _in_samples(milliseconds, sampling_frequency):
    if not milliseconds >= 0:
        raise InputError(f"Tolerances must be 0 ms or more, got {milliseconds!r}.")
    return round(milliseconds * sampling_frequency / 1000)


def _row(milliseconds, tolerance, true, found, matched, sampling_frequency):
    paired = matched >= 0
    late = (found["sample_index"][matched[paired]] - true["sample_index"][paired]) * (1000 / sampling_frequency)
    return {
        "tolerance_ms": float(milliseconds),
        "tolerance_samples": tolerance,
        **count_row(int(paired.sum()), len(true), len(found)),
        "bias_ms": float(late.mean()) if len(late) else None,
        "sd_ms": float(late.std(ddof=1)) if len(late) > 1 else None,
    }


def _has_intervals(events):
    return {"onset", "offset"} <= set(events.dtype.names) and bool((events["offset"] > events["onset"]).all())


def _per_trace(trace, num_traces, weights=None):
    return np.bincount(trace, weights, minlength=num_traces)


def _counts_by_trace(true_trace, found_trace, is_matched, seconds):
    """Of every trace: matched, true and found events; and found events, minutes and 1 if it has no true event."""
    num = len(seconds)
    events = [_per_trace(trace, num) for trace in (true_trace[is_matched], true_trace, found_trace)]
    silent = (events[1] == 0) & (seconds > 0)
    return {
        "events": np.column_stack(events),
        "silent": np.column_stack([silent * events[2], silent * seconds / 60, silent]),
    }


def _interval_counts(true, found, true_trace, found_trace, iou, events):
    """The like of matched, true and found for intervals that agree, and for samples inside intervals."""
    num = len(events)
    in_true, in_found, in_both = samples_covered(true, found)
    both_trace = np.concatenate([true_trace, found_trace])
    weighted = ((both_trace, in_both), (true_trace, in_true), (found_trace, in_found))
    return {
        "interval": np.column_stack([_per_trace(true_trace[iou >= MIN_IOU], num), events[:, 1:]]),
        "sample": np.column_stack([_per_trace(trace, num, weights) for trace, weights in weighted]),
    }


def _interval_summary(iou, counts):
    met = iou > 0
    return {
        "mean_iou": float(iou.mean()) if len(iou) else None,
        "mean_iou_matched": float(iou[met].mean()) if met.any() else None,
        **shares(*counts.tolist()),
    }


def _silent_summary(counts):
    num_found, minutes, num_traces = counts.tolist()
    return {
        "num_traces": int(num_traces),
        "minutes": minutes,
        "num_found": int(num_found),
        "false_per_minute": ratio(num_found, minutes),
    }
