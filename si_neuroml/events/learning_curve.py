"""How good a detector becomes with how much labelled data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording

from ..errors import InputError
from ..training import progress
from .cross_validation import TEST_SHARE_IN_TIME, fit_and_score, fit_options, pooled_scores
from .fit import labelled_traces
from .windows import LabelledTraces, split_by_cell, split_in_time

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EventLearningCurve", "event_learning_curve"]

# a stretch that holds more than one event of a cell that fires often
MIN_STRETCH_S = 0.1
_MEASURES = ("f1", "precision", "recall", "average_precision")


@dataclass(frozen=True, eq=False)
class EventLearningCurve:
    """What :func:`event_learning_curve` finds.

    Attributes
    ----------
    summary : pandas.DataFrame
        One row per fraction: ``fraction``; mean over seeds of ``num_cells``, ``minutes`` (of traces) and ``num_events``
        that were labelled, and of ``f1``, ``precision``, ``recall`` and ``average_precision`` of events; their standard
        deviations over seeds, ``f1_sd`` and so on.
    runs : pandas.DataFrame
        One row per seed and fraction: the same, ``seed``, ``num_true``, ``num_found`` and ``num_matched`` events of the
        test cells, and ``error``: why nothing was learned, which counts as nothing found.
    """

    summary: "pd.DataFrame"
    runs: "pd.DataFrame"


def event_learning_curve(
    recording: BaseRecording | Sequence[BaseRecording],
    events: Any,
    *,
    network: str,
    fractions: Sequence[float] = (0.1, 0.25, 0.5, 1.0),
    fraction_of: str = "time",
    seeds: Sequence[int] = (0, 1, 2),
    split: str = "cell",
    test_fraction: float = 0.25,
    progress_bar: bool = True,
    **fit_kwargs: Any,
) -> EventLearningCurve:
    """Score detectors fitted to a part of the labelled data on cells that none of them saw.

    For each seed, test cells are drawn, and detectors are fitted to growing parts of all other cells, each part within
    the next. Thresholds and early stopping use the same part. As in Pradeep, Agarwal and Advani (course report), but
    for their split.

    Parameters
    ----------
    recording, events
        As for :func:`~si_neuroml.events.fit.fit_event_detector`.
    network : str
        Any that :func:`~si_neuroml.events.fit.fit_event_detector` knows. Take "matched_filter", too: it needs the
        least.
    fractions : sequence of float, default: (0.1, 0.25, 0.5, 1)
        Parts of the training cells' data, above 0 to 1.
    fraction_of : "time" | "cell", default: "time"
        "time": a stretch of each segment of all training cells, as if less of every cell had been labelled. "cell":
        some of the cells, whole, as if fewer had been recorded.
    seeds : sequence of int, default: (0, 1, 2)
        Of the test cells, the parts and the fits.
    split : "cell" | "time", default: "cell"
        "cell": whole cells are tested on. "time", the paper's: the last 15 % of each segment, which says nothing about
        other cells.
    test_fraction : float, default: 0.25
        How much of the cells, with split="cell".
    progress_bar : bool, default: True
        Whether to show one.
    **fit_kwargs
        Other arguments of :func:`~si_neuroml.events.fit.fit_event_detector`, such as `network_kwargs`.

    Returns
    -------
    EventLearningCurve
        The spread holds both the draw of the test cells and that of the training; to compare fractions, compare them
        within each seed (``runs``).

    Raises
    ------
    InputError
        When an argument is unknown or out of range, two fractions are the same cells, or a stretch is below 0.1 s.
    TrainingError
        When there are no events, or fewer than two cells with events.
    """
    of_traces, of_fits = fit_options(network, split, fit_kwargs)
    fractions, seeds = _checked("fractions", fractions), _checked("seeds", seeds)
    if not all(0 < fraction <= 1 for fraction in fractions) or not 0 < test_fraction < 1:
        raise InputError(
            f"fractions must lie above 0 and up to 1, test_fraction within 0 and 1; got {fractions} and "
            f"{test_fraction!r}."
        )
    if fraction_of not in ("time", "cell"):
        raise InputError(f'fraction_of must be "time" or "cell", got {fraction_of!r}.')
    traces, settings = labelled_traces(recording, events, **of_traces)
    parts = []
    for seed in seeds:
        if split == "cell":
            train, test = split_by_cell(traces, test_fraction, seed)
        else:
            train, test = split_in_time(traces, TEST_SHARE_IN_TIME)
        # all of them before the first fit, which may take long
        shares = _shares(train, fractions, fraction_of, seed, settings.sampling_frequency)
        parts += [(fraction, seed, share, test) for fraction, share in zip(fractions, shares, strict=True)]
    rows = []
    for fraction, seed, share, test in progress(parts, description="event learning curve", show=progress_bar):
        scores = pooled_scores([fit_and_score(share, test, settings, network, seed=seed, **of_fits)])
        rows.append({"fraction": fraction, "seed": seed, **_size(share, settings.sampling_frequency), **scores})
    return _tables(rows)


def _shares(train, fractions, fraction_of, seed, sampling_frequency):
    """The part of the training data of each fraction."""
    rng = np.random.default_rng(seed)
    if fraction_of == "time":
        places = rng.random(len(train))
        shares = [
            [_stretch(part, fraction, place) for part, place in zip(train, places, strict=True)]
            for fraction in fractions
        ]
        shortest = min(part.x.shape[1] for share in shares for part in share) / sampling_frequency
        if shortest < MIN_STRETCH_S:
            raise InputError(
                f"The smallest fraction, {min(fractions):g}, leaves {shortest:.3g} s of the shortest segment, below "
                f'{MIN_STRETCH_S:g} s. Give larger fractions, or fraction_of="cell".'
            )
        return shares
    active = {str(part.cells[channel]) for part in train for channel in part.labels["channel_index"]}
    silent = {str(cell) for part in train for cell in part.cells} - active
    orders = [rng.permutation(sorted(cells)).tolist() for cells in (active, silent)]
    counts = [max(1, round(fraction * len(active))) for fraction in fractions]
    if len(set(counts)) < len(counts):
        raise InputError(
            f"The fractions {fractions} of {len(active)} training cells are {counts} cells: give fractions that differ "
            'by a cell, or fraction_of="time".'
        )
    chosen = [
        orders[0][:count] + orders[1][: round(fraction * len(silent))]
        for fraction, count in zip(fractions, counts, strict=True)
    ]
    return [_of_cells(train, set(cells)) for cells in chosen]


def _of_cells(train, cells):
    rows = [np.array([str(cell) in cells for cell in part.cells]) for part in train]
    return [part.select(chosen) for part, chosen in zip(train, rows, strict=True) if chosen.any()]


def _stretch(part: LabelledTraces, fraction: float, place: float) -> LabelledTraces:
    """A part of a segment; larger fractions hold smaller ones. `place`, 0 to 1, is where in the segment."""
    start = place * (1 - fraction)
    return part.between(*(round(share * part.x.shape[1]) for share in (start, start + fraction)))


def _size(share, sampling_frequency):
    return {
        "num_cells": len({str(cell) for part in share for cell in part.cells}),
        "minutes": sum(part.x.size for part in share) / sampling_frequency / 60.0,
        "num_events": sum(len(part.labels) for part in share),
    }


def _tables(rows):
    import pandas as pd

    runs = pd.DataFrame(rows)
    groups = runs.groupby("fraction")
    summary = groups[["num_cells", "minutes", "num_events", *_MEASURES]].mean()
    spread = groups[list(_MEASURES)].std().add_suffix("_sd")
    return EventLearningCurve(summary=summary.join(spread).reset_index(), runs=runs)


def _checked(name, values):
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    if not values or len(set(values)) < len(values):
        raise InputError(f"{name} must be different from each other, and at least one; got {values}.")
    return values
