"""Search the settings of a detector by cross-validation over cells."""

import inspect
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording

from ..errors import InputError, TrainingError
from ..search import Range, SearchResult, checked_space, import_optuna, search_settings
from .cross_validation import TEST_SHARE_IN_TIME, fit_and_score, fit_options, pooled_scores
from .detector import load_scorer
from .fit import labelled_traces
from .windows import folds_by_cell, split_in_time

__all__ = ["PAPER_GRIDS", "EventDetectorSearch", "search_event_detector"]

# Pradeep, Agarwal and Advani. They give one setting of the TCN. Of the LSTM they say that learning rate, dropout and
# size were searched, but not over what: those values are ours, with two layers, because dropout is between layers.
PAPER_GRIDS: Mapping[str, dict[str, dict[str, Sequence[Any]]]] = {
    "svm": {"network_kwargs": {"C": (0.1, 1.0, 10.0, 100.0), "neighbours": (0, 1, 2)}},
    "tcn": {
        "network_kwargs": {"channels": ((32, 64, 128, 256),), "kernel_size": (3,), "dropout": (0.002,)},
        "training_kwargs": {"learning_rate": (1e-3,), "weight_decay": (1e-4,), "batch_size": (32,)},
    },
    "transformer": {"network_kwargs": {"d_model": (64, 128), "num_heads": (4, 8), "num_layers": (3, 6)}},
    "bilstm": {
        "network_kwargs": {"hidden_size": (32, 64, 128), "dropout": (0.0, 0.2), "num_layers": (2,)},
        "training_kwargs": {"learning_rate": (3e-4, 1e-3, 3e-3)},
    },
}
_PARTS = ("network_kwargs", "training_kwargs")
_SCORES = ("f1", "average_precision")


@dataclass(frozen=True, eq=False)
class EventDetectorSearch(SearchResult):
    """What :func:`search_event_detector` finds.

    Attributes
    ----------
    best_score, settings, study
        See :class:`~si_neuroml.search.SearchResult`.
    trials : pandas.DataFrame
        One row per combination that was tried: ``number``, ``state`` ("complete" or "pruned"), ``num_test_folds`` that
        were run, ``seconds``, a column for each setting ("training_kwargs.learning_rate"), ``f1``, ``precision``,
        ``recall``, ``num_true``, ``num_found`` and ``num_matched`` of the events of all test cells together,
        ``average_precision`` (mean over folds), and ``error``: why a fit learned nothing, which counts as nothing
        found.
    network : str
        Of the detectors.
    score : str
        "f1" or "average_precision".
    best_network_kwargs, best_training_kwargs : dict
        Of the first complete trial with the best score, those that were not searched included.
    fit_kwargs : dict
        All of it as arguments: ``fit_event_detector(recording, events, **search.fit_kwargs)``.
    """

    network: str
    score: str
    best_network_kwargs: dict[str, Any]
    best_training_kwargs: dict[str, Any]
    fit_kwargs: dict[str, Any]


def search_event_detector(
    recording: BaseRecording | Sequence[BaseRecording],
    events: Any,
    *,
    network: str,
    grid: str | Mapping[str, Mapping[str, Sequence[Any]]] = "paper",
    num_trials: int | None = None,
    score: str = "f1",
    split: str = "cell",
    num_test_folds: int = 5,
    storage: str | Path | None = None,
    study_name: str | None = None,
    seed: int = 0,
    progress_bar: bool = True,
    **fit_kwargs: Any,
) -> EventDetectorSearch:
    """Search settings by how well detectors do on cells that they were not fitted to.

    Each trial fits one detector per fold, thresholds and early stopping included, and counts its events on the fold's
    cells. Nothing but the given data is looked at: leave test cells out of them. Needs Optuna
    (``pip install "si-neuroml[search]"``).

    Parameters
    ----------
    recording, events
        As for :func:`~si_neuroml.events.fit.fit_event_detector`.
    network : str
        Any that :func:`~si_neuroml.events.fit.fit_event_detector` knows.
    grid : "paper" | dict, default: "paper"
        Values to try, or a :class:`~si_neuroml.search.Range` of them,
        ``{"network_kwargs": {name: values}, "training_kwargs": {name: values}}``. "paper": those of Pradeep, Agarwal
        and Advani (:data:`PAPER_GRIDS`) for "svm" (12 combinations), "transformer" (8), "tcn" (1) and "bilstm" (18; the
        paper names these settings without values).
    num_trials : int, optional
        None: every combination once. A number: so many trials, chosen by a tree-structured Parzen estimator (Bergstra
        et al. 2011), the first ten at random; from the sixth on, a trial below the median after two folds or more is
        pruned. Trials that a resumed study has already count; a combination that comes up again is not fitted again.
    score : "f1" | "average_precision", default: "f1"
        What is best, of events.
    split : "cell" | "time", default: "cell"
        "cell": folds of whole cells. "time", the paper's split: no folds; fit to the first 70 % of each segment, stop
        and set thresholds on the next 15 %, score on the last 15 %. It says nothing about other cells.
    num_test_folds : int, default: 5
        From 2 on; fewer where fewer cells have events.
    storage, study_name, progress_bar : optional
        Where trials are kept, so that the same call goes on where it was stopped and several processes share the work,
        and under what name (default: the network), see :func:`~si_neuroml.search.search_settings`.
    seed : int, default: 0
        Of folds, fits and choices of trials.
    **fit_kwargs
        Other arguments of :func:`~si_neuroml.events.fit.fit_event_detector`, `network_kwargs` and `training_kwargs`
        (for what is not searched) among them. Its `num_folds` are folds within each fit, for thresholds: 1 is
        quicker.

    Returns
    -------
    EventDetectorSearch
        After Ctrl-C, of the trials that were finished by then, with a warning.

    Raises
    ------
    InputError
        When a setting is unknown or out of range (all combinations are looked at first), recordings and labels do not
        belong together, or the stored study is of other data or settings.
    TrainingError
        When fewer than two cells have events, or no trial learned anything.
    MissingDependencyError
        Without Optuna.
    """
    import_optuna()  # before anything that takes time
    of_traces, of_fits = fit_options(network, split, fit_kwargs)
    if score not in _SCORES:
        raise InputError(f"score must be one of {list(_SCORES)}, got {score!r}.")
    if not isinstance(num_test_folds, int | np.integer) or num_test_folds < 2:
        raise InputError(f"num_test_folds must be a whole number from 2 on, got {num_test_folds!r}.")
    values = checked_space(_grid_values(network, grid), num_trials, argument="grid")
    _check_combinations(network, values, of_fits)
    traces, settings = labelled_traces(recording, events, **of_traces)
    time_split = [split_in_time(traces, TEST_SHARE_IN_TIME)]
    folds = folds_by_cell(traces, num_test_folds, seed) if split == "cell" else time_split

    def score_folds(chosen):
        options, rows = of_fits | _with_chosen(of_fits, chosen), []
        for train, test in folds:
            rows.append(fit_and_score(train, test, settings, network, seed=seed, **options))
            pooled = pooled_scores(rows)
            yield pooled | {"score": pooled[score]}

    # processes may compute on different devices
    fits = {name: value for name, value in of_fits.items() if name != "device"}
    description = {"network": network, "score": score, "seed": seed, "num_test_folds": len(folds)}
    found = search_settings(
        values,
        score_folds,
        num_steps=len(folds),
        num_trials=num_trials,
        storage=storage,
        name=study_name or network,
        description=description | fits | _summary(traces, settings),
        seed=seed,
        progress_bar=progress_bar,
    )
    if not found.best_score > 0:
        raise TrainingError("No trial found any event of the test cells.")
    of_fits |= {"seed": seed, **_with_chosen(of_fits, found.settings)}
    return EventDetectorSearch(
        **vars(found) | {"trials": _by_combination(found.trials, list(values))},
        network=network,
        score=score,
        best_network_kwargs=of_fits["network_kwargs"],
        best_training_kwargs=of_fits["training_kwargs"],
        fit_kwargs={"network": network, **of_traces, **of_fits},
    )


def _grid_values(network, grid):
    """The values of each setting, by "network_kwargs.name" or "training_kwargs.name"."""
    if isinstance(grid, str) and grid == "paper":
        if network not in PAPER_GRIDS:
            example = 'grid={"training_kwargs": {"learning_rate": [1e-3, 3e-3]}}'
            raise InputError(
                f"The paper has grids for {sorted(PAPER_GRIDS)}; for {network!r} give one, like {example}."
            )
        grid = PAPER_GRIDS[network]
    is_grid = isinstance(grid, Mapping) and set(grid) <= set(_PARTS)
    if not is_grid or not all(isinstance(part, Mapping) for part in grid.values()) or not any(grid.values()):
        parts = ", ".join(f'"{part}": {{name: values}}' for part in _PARTS)
        raise InputError(f'grid must be "paper" or {{{parts}}}, got {grid!r}.')
    return {f"{part}.{name}": choices for part, names in grid.items() for name, choices in names.items()}


def _with_chosen(of_fits, chosen):
    """network_kwargs and training_kwargs with what a trial chose in its place."""
    out = {part: dict(of_fits[part] or {}) for part in _PARTS}
    for name, value in chosen.items():
        part, _, key = name.partition(".")
        out[part][key] = value
    return out


def _check_combinations(network, values, of_fits):
    """Refuse unknown settings and combinations that cannot be built, before anything is fitted."""
    ends = [(part.low, part.high) if isinstance(part, Range) else part for part in values.values()]
    chosen = (dict(zip(values, each, strict=True)) for each in itertools.product(*ends))
    combinations = [_with_chosen(of_fits, each) for each in chosen]
    if network in ("matched_filter", "threshold", "svm"):
        parameters = inspect.signature(load_scorer(network).fit).parameters.values()
        known = sorted(parameter.name for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY)
        # names do not depend on the combination
        given = combinations[0]
        if not set(given["network_kwargs"]) <= set(known) or given["training_kwargs"]:
            raise InputError(f"{network!r} has only network_kwargs, {known}; got {given}.")
        return
    from .network_training import training_settings
    from .networks import build_network

    built = set()
    for each in combinations:
        training_settings(network, **each["training_kwargs"])
        text = json.dumps(each["network_kwargs"], default=str)
        if text not in built:
            build_network(network, **each["network_kwargs"])
            built.add(text)


def _summary(traces, settings):
    """What tells one set of labelled traces from another."""
    return {
        "sampling_frequency": settings.sampling_frequency,
        "num_samples": [list(part.x.shape) for part in traces],
        "events": [[len(part.labels), int(part.labels["sample_index"].sum())] for part in traces],
        "cells": [[str(cell) for cell in part.cells] for part in traces],
        "traces": [float(np.mean(np.square(part.x), dtype="float64")) for part in traces],
    }


def _by_combination(trials, names):
    """Of a combination that was tried twice, the first complete trial."""
    trials = trials.sort_values(["state", "number"]).drop_duplicates(names).sort_values("number")
    return trials.drop(columns="score").rename(columns={"num_steps": "num_test_folds"}).reset_index(drop=True)
