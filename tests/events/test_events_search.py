"""Searching settings of detectors: folds of whole cells, scores of events, searches that stop and go on."""

import itertools
import sys

import numpy as np
import pytest
from events_helpers import make_recording

from si_neuroml.errors import InputError, MissingDependencyError, TrainingError
from si_neuroml.events import cross_validation, search
from si_neuroml.events.cross_validation import fit_and_score, fit_options
from si_neuroml.events.fit import fit_event_detector, labelled_traces
from si_neuroml.events.labels import LABEL_DTYPE
from si_neuroml.events.matching import match_events
from si_neuroml.events.search import search_event_detector
from si_neuroml.events.windows import LabelledTraces, folds_by_cell
from si_neuroml.search import Range

GRID = {"network_kwargs": {"before": [1, 4], "ridge": [0.01, 100.0]}}


@pytest.fixture(scope="module")
def pair():
    """Four cells whose events do not stand out, so that settings matter."""
    return make_recording([6000, 4001], num_channels=4, num_events=60, seed=2, amplitude=3.5)


@pytest.fixture(scope="module")
def found(pair):
    return search_event_detector(*pair, network="matched_filter", grid=GRID, num_test_folds=2, progress_bar=False)


def random_traces(rng, num_parts, num_cells):
    parts = []
    for _ in range(num_parts):
        cells = rng.integers(0, num_cells, 3).astype(str)
        labels = np.zeros(int(rng.integers(0, 4)), LABEL_DTYPE)
        labels["channel_index"] = rng.integers(0, 3, len(labels))
        parts.append(LabelledTraces(np.zeros((3, 50), "float32"), labels, cells))
    return parts


def cells_of(parts, with_events=False):
    if with_events:
        return {str(part.cells[channel]) for part in parts for channel in part.labels["channel_index"]}
    return {str(cell) for part in parts for cell in part.cells}


@pytest.mark.parametrize("seed", range(8))
def test_folds_share_no_cell(seed):
    rng = np.random.default_rng(seed)
    traces = random_traces(rng, num_parts=6, num_cells=7)
    active = cells_of(traces, with_events=True)
    folds = folds_by_cell(traces, 4, seed)
    assert len(folds) == min(4, len(active))
    tested = [cells_of(test) for _, test in folds]
    assert set().union(*tested) == cells_of(traces)
    assert sum(map(len, tested)) == len(cells_of(traces))
    for train, test in folds:
        assert not cells_of(train) & cells_of(test)
        assert cells_of(train) | cells_of(test) == cells_of(traces)
        assert cells_of(test, with_events=True)
    numbers = [len(cells_of(test, with_events=True)) for _, test in folds]
    assert max(numbers) - min(numbers) <= 1
    assert [cells_of(test) for _, test in folds_by_cell(traces, 4, seed)] == tested


def test_scores_are_those_of_detectors_fitted_to_other_cells(pair, found):
    """Each fold again by the public verb, on a recording without the cells of the fold."""
    recording, events = pair
    folds = folds_by_cell(labelled_traces(recording, events)[0], 2, seed=0)
    matched = num_found = 0
    for train, test in folds:
        kept, left = (np.array(sorted(map(int, cells_of(part)))) for part in (train, test))
        mine = events[np.isin(events["channel_index"], kept)].copy()
        mine["channel_index"] = np.searchsorted(kept, mine["channel_index"])
        part = recording.select_channels(recording.channel_ids[kept])
        arguments = found.fit_kwargs | {"cells": kept.astype(str)}
        detector = fit_event_detector(part, mine, progress_bar=False, **arguments)
        other = recording.select_channels(recording.channel_ids[left])
        for segment in range(2):
            num_samples = recording.get_num_samples(segment)
            traces = other.get_traces(segment_index=segment)
            noise = detector.noise_levels([other.get_traces(segment_index=k) for k in (0, 1)], np.ones(2), np.zeros(2))
            scores, first = detector.scores(traces, 0, num_samples, noise=noise)
            detected = detector.events(scores, first, (0, num_samples))
            true = events[(events["segment_index"] == segment) & np.isin(events["channel_index"], left)].copy()
            true["channel_index"], true["segment_index"] = np.searchsorted(left, true["channel_index"]), 0
            matched += (match_events(true, detected, 3) >= 0).sum()
            num_found += len(detected)
    best = found.trials.loc[found.trials["f1"].idxmax()]
    assert (best["num_true"], best["num_found"], best["num_matched"]) == (len(events), num_found, matched)
    assert best["f1"] == pytest.approx(2 * matched / (num_found + len(events)))


def test_every_combination_is_tried_and_the_best_one_taken(pair, found):
    tried = found.trials[["network_kwargs.before", "network_kwargs.ridge"]].itertuples(index=False, name=None)
    assert sorted(tried) == sorted(itertools.product([1, 4], [0.01, 100.0]))
    assert found.trials["f1"].nunique() > 1
    best = found.trials.loc[found.trials["f1"].idxmax()]
    assert found.best_score == best["f1"] == found.trials["f1"].max()
    assert found.best_network_kwargs == {
        "before": best["network_kwargs.before"],
        "ridge": best["network_kwargs.ridge"],
    }
    assert set(found.trials["state"]) == {"complete"}
    assert set(found.trials["num_test_folds"]) == {2}
    by_precision = search_event_detector(
        *pair, network="matched_filter", grid=GRID, num_test_folds=2, score="average_precision", progress_bar=False
    )
    assert by_precision.best_score == by_precision.trials["average_precision"].max()
    columns = [name for name in found.trials.columns if name != "seconds"]
    assert by_precision.trials[columns].equals(found.trials[columns])


class Fits:
    """In place of real fits: scores that follow from the settings, and an interruption."""

    def __init__(self, interrupt_at=None):
        self.calls, self.interrupt_at = [], interrupt_at

    def __call__(self, train, test, settings, network, *, network_kwargs, training_kwargs, **options):
        self.calls.append((network_kwargs["before"], network_kwargs["after"]))
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt
        distance = abs(network_kwargs["before"] - 4) + abs(network_kwargs["after"] - 3)
        row = {"num_true": 100, "num_found": 100, "num_matched": 90 - 5 * distance, "error": None}
        return row | {"average_precision": 0.5}


def searched(pair, monkeypatch, fits, **options):
    monkeypatch.setattr(search, "fit_and_score", fits)
    grid = options.pop("grid", {"network_kwargs": {"before": list(range(1, 7)), "after": [1, 2, 3, 4, 5]}})
    return search_event_detector(
        *pair, network="matched_filter", grid=grid, num_test_folds=3, progress_bar=False, **options
    )


def settings_of(trials):
    columns = ["network_kwargs.before", "network_kwargs.after", "f1", "state", "num_test_folds"]
    return list(trials[columns].itertuples(index=False, name=None))


@pytest.mark.parametrize("num_trials", [None, 20])
def test_an_interrupted_search_goes_on_to_the_same_result(pair, monkeypatch, tmp_path, num_trials):
    storage = tmp_path / "search.log"
    whole = Fits()
    expected = searched(pair, monkeypatch, whole, num_trials=num_trials)
    first, second, third = Fits(interrupt_at=8), Fits(interrupt_at=2), Fits()
    with pytest.warns(UserWarning, match=f"interrupted; the result is the best of 2 of {num_trials or 30} trials"):
        part = searched(pair, monkeypatch, first, num_trials=num_trials, storage=storage)
    assert settings_of(part.trials) == settings_of(expected.trials)[:2]
    with pytest.warns(UserWarning, match="best of 2 of"):
        searched(pair, monkeypatch, second, num_trials=num_trials, storage=storage)
    resumed = searched(pair, monkeypatch, third, num_trials=num_trials, storage=storage)
    assert settings_of(resumed.trials) == settings_of(expected.trials)
    assert len(resumed.trials) == 30 if num_trials is None else len(resumed.trials) <= num_trials
    assert resumed.best_network_kwargs == expected.best_network_kwargs
    assert resumed.best_score == expected.best_score
    # nothing but the fits that were interrupted was done twice: two of the trial's three, and its first again
    assert len(first.calls) + len(second.calls) + len(third.calls) == len(whole.calls) + 2 + 2
    # and a finished search fits nothing
    again = Fits()
    assert searched(pair, monkeypatch, again, num_trials=num_trials, storage=storage).best_score == resumed.best_score
    assert not again.calls


def test_a_search_with_fewer_trials_finds_the_best(pair, monkeypatch):
    fits = Fits()
    found = searched(pair, monkeypatch, fits, num_trials=25)
    assert found.best_network_kwargs == {"before": 4, "after": 3}
    assert found.best_score == pytest.approx(0.9)
    pruned = found.trials[found.trials["state"] == "pruned"]
    assert len(pruned)
    assert (pruned["num_test_folds"] == 2).all()
    assert pruned["f1"].max() < found.best_score
    # no combination was fitted twice, unless it had been pruned
    complete = found.trials[found.trials["state"] == "complete"]
    for before, after, *_ in settings_of(complete):
        assert fits.calls.count((before, after)) == 3
    repeated = searched(pair, monkeypatch, Fits(), num_trials=25)
    assert settings_of(repeated.trials) == settings_of(found.trials)
    other = searched(pair, monkeypatch, Fits(), num_trials=25, seed=1)
    assert settings_of(other.trials)[:3] != settings_of(found.trials)[:3]


def test_a_range_is_searched_with_so_many_trials(pair, monkeypatch):
    grid = {"network_kwargs": {"before": Range(1, 6), "after": [3]}}
    found = searched(pair, monkeypatch, Fits(), grid=grid, num_trials=25)
    assert found.best_network_kwargs == {"before": 4, "after": 3}
    assert sorted(found.trials["network_kwargs.before"]) == [1, 2, 3, 4, 5, 6]
    assert (found.settings, found.study.best_value) == ({"network_kwargs.before": 4, "network_kwargs.after": 3}, 0.9)
    with pytest.raises(InputError, match=r"num_trials=None tries every combination, and \['network_kwargs.before'\]"):
        searched(pair, monkeypatch, Fits(), grid=grid)


def test_another_search_in_the_same_storage_is_refused(pair, monkeypatch, tmp_path):
    storage = tmp_path / "search.log"
    searched(pair, monkeypatch, Fits(), num_trials=1, storage=storage)
    with pytest.raises(InputError, match=r"is a search with another seed\. Give another study_name"):
        searched(pair, monkeypatch, Fits(), num_trials=2, storage=storage, seed=3)
    recording, events = pair
    with pytest.raises(InputError, match=r"is a search with another events\."):
        searched((recording, events[:-3]), monkeypatch, Fits(), num_trials=2, storage=storage)
    with pytest.raises(InputError, match=r"is a search with another tolerance_ms\."):
        searched(pair, monkeypatch, Fits(), num_trials=2, storage=storage, tolerance_ms=2.0)
    assert len(searched(pair, monkeypatch, Fits(), num_trials=2, storage=storage, study_name="other").trials) == 2


def test_networks_are_searched_and_the_result_is_ready_to_fit(pair):
    found = search_event_detector(
        *pair,
        network="tcn",
        grid={"network_kwargs": {"channels": [(4,), (4, 4)]}, "training_kwargs": {"learning_rate": [1e-2, 3e-2]}},
        split="time",
        training_kwargs={"max_epochs": 3, "batch_size": 8},
        progress_bar=False,
    )
    assert len(found.trials) == 4
    assert set(found.trials["num_test_folds"]) == {1}
    best = found.trials.loc[found.trials["f1"].idxmax()]
    assert found.best_network_kwargs["channels"] == best["network_kwargs.channels"]
    assert found.best_training_kwargs == {
        "max_epochs": 3,
        "batch_size": 8,
        "learning_rate": best["training_kwargs.learning_rate"],
    }
    # the last 15 % of each segment
    events = pair[1]
    last = [round(0.85 * pair[0].get_num_samples(segment)) for segment in (0, 1)]
    assert best["num_true"] == sum(event["sample_index"] >= last[event["segment_index"]] for event in events)
    detector = fit_event_detector(*pair, progress_bar=False, **found.fit_kwargs)
    assert detector.training["split"] == "time"
    assert tuple(detector.scorer.settings()["channels"]) == found.best_network_kwargs["channels"]


def test_fits_that_learn_nothing_find_nothing(pair, monkeypatch):
    def fail(*_, **__):
        raise TrainingError("the loss became nan")

    monkeypatch.setattr(cross_validation, "fit_to_traces", fail)
    traces, settings = labelled_traces(*pair)
    train, test = folds_by_cell(traces, 2, 0)[0]
    _, options = fit_options("matched_filter", "cell", {})
    row = fit_and_score(train, test, settings, "matched_filter", seed=0, **options)
    assert (row["num_found"], row["num_matched"], row["error"]) == (0, 0, "the loss became nan")
    assert row["num_true"] == sum(len(part.labels) for part in test) > 0
    with pytest.raises(TrainingError, match="No trial learned anything. the loss became nan"):
        search_event_detector(*pair, network="matched_filter", grid=GRID, num_test_folds=2, progress_bar=False)


def test_optuna_is_optional(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "si-neuroml\[search\]"'):
        search_event_detector(*pair, network="matched_filter", grid=GRID)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "lstm"}, "no network or baseline 'lstm'"),
        ({"network": "strided"}, "The paper has grids for .*'tcn'.*for 'strided' give one"),
        ({"grid": {"learning_rate": [1, 2]}}, 'grid must be "paper" or'),
        ({"grid": {"network_kwargs": {}}}, 'grid must be "paper" or'),
        ({"grid": {"network_kwargs": {"before": 3}}}, "must list values of network_kwargs.before"),
        ({"grid": {"network_kwargs": {"before": []}}}, "must list values of network_kwargs.before"),
        ({"grid": {"network_kwargs": {"before": [3, 3]}}}, "a value of network_kwargs.before twice"),
        ({"grid": {"network_kwargs": {"width": [3]}}}, "'matched_filter' has only network_kwargs"),
        ({"grid": {"training_kwargs": {"learning_rate": [3]}}}, "'matched_filter' has only network_kwargs"),
        ({"network": "tcn", "grid": {"training_kwargs": {"epochs": [3]}}}, "Training knows"),
        ({"network": "tcn", "grid": {"training_kwargs": {"learning_rate": [1e-3, -1]}}}, "learning_rate must be above"),
        ({"network": "transformer", "grid": {"network_kwargs": {"num_heads": [4, 5]}}}, "multiple of 4 \\* num_heads"),
        ({"score": "accuracy"}, "score must be one of"),
        ({"split": "scan"}, 'split must be "cell" or "time"'),
        ({"num_trials": 0}, "num_trials must be None or a whole number"),
        ({"num_test_folds": 1}, "num_test_folds must be a whole number from 2"),
        ({"epochs": 3}, "Arguments passed on to the fits are .* got \\['epochs'\\]"),
        ({"num_folds": 0}, "num_folds must be a whole number from 1 on, or None"),
        ({"held_out_fraction": 1.0}, "held_out_fraction must lie within 0 and 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(pair, options, message):
    options = {"network": "matched_filter"} | options
    if options["network"] == "matched_filter":
        options = {"grid": GRID} | options
    with pytest.raises(InputError, match=message):
        search_event_detector(*pair, progress_bar=False, **options)


def test_one_cell_cannot_be_searched_over_cells():
    pair = make_recording([6000], num_channels=1, num_events=40)
    with pytest.raises(TrainingError, match="1 cells have events"):
        search_event_detector(*pair, network="matched_filter", grid=GRID, progress_bar=False)
