"""Searching settings of whatever: every combination or a few, stopped, shared by processes, without Optuna."""

import itertools
import multiprocessing
import sys
import time
import warnings

import numpy as np
import optuna
import pytest

from si_neuroml import search_study
from si_neuroml.errors import InputError, MissingDependencyError, TrainingError
from si_neuroml.search import Range, checked_space, example_settings, search_settings

SPACE = {"x": Range(-1.0, 1.0), "kind": ["a", None, (1, 2)]}
GRID = {"a": [1, 2, 3, 4], "b": [(1, 0), (2, 0), (3, 0)]}


def search(space, steps, num_trials=None, *, num_steps=1, storage=None, name="test", description=None, **options):
    own = {"storage": storage, "name": name, "description": description or {}, "progress_bar": False}
    return search_settings(space, steps, num_steps=num_steps, num_trials=num_trials, **own, **options)


def parabola(settings):
    yield {"score": 1 - settings["x"] ** 2}


def tuples(trials, *names):
    return list(trials[list(names)].itertuples(index=False, name=None))


def test_every_combination_is_scored_once_and_the_first_best_one_taken():
    found = search(GRID, lambda chosen: [{"score": min(chosen["a"], 3) * chosen["b"][0], "twice": 2 * chosen["a"]}])
    assert sorted(tuples(found.trials, "a", "b")) == sorted(itertools.product(*GRID.values()))
    assert found.best_score == found.trials["score"].max() == 9
    assert found.settings == dict(found.trials.loc[found.trials["score"].idxmax(), ["a", "b"]])
    assert found.settings["b"] == (3, 0)
    assert (found.trials["twice"] == 2 * found.trials["a"]).all()
    assert (found.trials["state"] == "complete").all()
    other = search(GRID, lambda chosen: [{"score": 1.0}], seed=1)
    assert tuples(other.trials, "a", "b") != tuples(found.trials, "a", "b")


def test_trials_approach_the_best():
    found = search(SPACE, parabola, 40)
    assert len(found.trials) == 40
    assert abs(found.settings["x"]) < 0.1
    assert set(found.trials["kind"]) == {"a", None, (1, 2)}
    assert found.trials["x"].between(-1, 1).all()
    late, early = (found.trials["score"].iloc[part].mean() for part in (slice(20, None), slice(10)))
    assert late > early
    assert tuples(search(SPACE, parabola, 40).trials, "x", "kind") == tuples(found.trials, "x", "kind")


class Stopping:
    """Scores until it is stopped at some call."""

    def __init__(self, stop_at=None):
        self.calls, self.stop_at = [], stop_at

    def __call__(self, settings):
        self.calls.append(settings)
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        yield {"score": 1 - abs(settings["a"] - 2.2)}


@pytest.mark.parametrize("storage", ["{}/s.log", "sqlite:///{}/s.db"])
@pytest.mark.parametrize(("space", "num_trials"), [(GRID, None), ({"a": Range(0.0, 4.0)}, 16)])
def test_a_search_that_was_stopped_goes_on_to_the_same_result(tmp_path, storage, space, num_trials):
    storage, total = storage.format(tmp_path), num_trials or 12
    whole = search(space, Stopping(), num_trials)
    with pytest.raises(KeyboardInterrupt):
        search(space, Stopping(1), num_trials, storage=storage)
    with pytest.warns(UserWarning, match=f"interrupted; the result is the best of 3 of {total} trials"):
        part = search(space, Stopping(4), num_trials, storage=storage)
    assert tuples(part.trials, *space) == tuples(whole.trials, *space)[:3]
    with pytest.raises(ZeroDivisionError):
        search(space, lambda _: 1 / 0, num_trials, storage=storage)
    last = Stopping()
    resumed = search(space, last, num_trials, storage=storage)
    assert tuples(resumed.trials, *space, "score") == tuples(whole.trials, *space, "score")
    assert resumed.settings == whole.settings
    assert len(last.calls) == total - 3
    again = Stopping()
    assert search(space, again, num_trials, storage=storage).best_score == whole.best_score
    assert not again.calls


def slow(settings):
    time.sleep(0.02)
    yield {"score": settings["x"] if "x" in settings else settings["a"] * settings["b"][0]}


def work(space, num_trials, storage, barrier, queue):
    barrier.wait(60)
    found = search(space, slow, num_trials, storage=storage)
    queue.put(tuples(found.trials, *space, "score"))


@pytest.mark.parametrize(("space", "num_trials"), [(GRID, None), ({"x": Range(0.0, 1.0)}, 24)])
def test_processes_share_a_search(tmp_path, space, num_trials):
    context = multiprocessing.get_context("spawn")
    queue, barrier = context.Queue(), context.Barrier(2)
    arguments = (space, num_trials, str(tmp_path / "shared.log"), barrier, queue)
    workers = [context.Process(target=work, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    stored = search(space, slow, num_trials, storage=arguments[2]).trials
    rows = tuples(stored, *space)
    # at the end each process may be at a trial when the other one finishes the last
    assert (num_trials or 12) <= len(rows) <= (num_trials or 12) + 1
    if num_trials is None:
        assert set(rows) == set(itertools.product(*space.values()))
    else:
        assert len(set(rows)) == len(rows)
    for result in results:
        assert set(result) <= set(tuples(stored, *space, "score"))
        assert len(result) >= (num_trials or 12)


@pytest.mark.parametrize("num_trials", [None, 3])
def test_trials_at_the_same_time_choose_differently(num_trials):
    """All begin before any has chosen, in whatever order they choose then."""
    with search_study.quiet_optuna():
        study = optuna.create_study()

    def grid_sampler(trial):
        with search_study.quiet_optuna():
            return search_study._grid_sampler(trial, [{"a": a} for a in range(5)])

    begun = [study.ask() for _ in range(3)]
    chosen = []
    for trial in (begun[1], begun[2], begun[0]):
        tree = num_trials is not None
        study.sampler = search_study._tree_sampler(trial, 0) if tree else grid_sampler(trial)
        chosen.append(trial.suggest_float("a", 0, 1) if tree else trial.suggest_categorical("a", list(range(5))))
    assert len(set(chosen)) == 3
    if num_trials is None:
        assert chosen == [1, 2, 0]
        # what was begun and never finished comes again when nothing else is left
        for _ in range(2):
            trial = study.ask()
            study.sampler = grid_sampler(trial)
            study.tell(trial, trial.suggest_categorical("a", list(range(5))))
        trial = study.ask()
        study.sampler = grid_sampler(trial)
        assert trial.suggest_categorical("a", list(range(5))) == 0


def test_hopeless_trials_are_pruned_and_nothing_is_scored_twice():
    asked = []

    def steps(settings):
        for step in range(4):
            asked.append((settings["a"], step))
            yield {"score": float(settings["a"]), "step": step}

    found = search({"a": list(range(12))}, steps, 40, num_steps=4)
    states = found.trials.groupby("a")["state"].agg(set)
    pruned = found.trials[found.trials["state"] == "pruned"]
    assert len(pruned) > 0
    assert set(pruned["num_steps"]) == {2}
    assert set(pruned["step"]) == {1}
    assert set(found.trials["num_steps"]) == {2, 4}
    # the first five, and the best one
    assert (found.trials["state"].iloc[:5] == "complete").all()
    assert states[found.settings["a"]] == {"complete"}
    assert found.settings["a"] == 11
    for value in found.trials.loc[found.trials["state"] == "complete", "a"].unique():
        assert asked.count((value, 3)) == 1
    # where every combination is tried, all go to the end
    assert (search({"a": list(range(12))}, steps, num_steps=4).trials["num_steps"] == 4).all()


def test_what_cannot_be_learned_has_the_lowest_score():
    def steps(settings):
        yield {"score": 0.7}
        if settings["a"] != 2:
            raise TrainingError("the loss became nan")
        yield {"score": 0.6}

    found = search({"a": [1, 2, 3]}, steps, num_steps=2, lowest=0.5)
    table = found.trials.set_index("a")
    assert dict(table["score"]) == {1: 0.5, 2: 0.6, 3: 0.5}
    assert table.loc[1, "error"] == "the loss became nan"
    assert found.settings == {"a": 2}
    with pytest.raises(TrainingError, match=r"No trial learned anything\. the loss became nan"):
        search({"a": [1, 3]}, steps, num_steps=2, lowest=0.5)


def test_another_search_in_the_same_storage_is_refused(tmp_path):
    storage = tmp_path / "search.log"
    about = {"data": [1.0, np.float64(2.0)], "seed": 0}
    first = search(SPACE, parabola, 2, storage=storage, description=about)
    close = about | {"data": [1.0, 2.0 * (1 + 1e-7)]}
    assert list(search(SPACE, parabola, 2, storage=storage, description=close).trials["x"]) == list(first.trials["x"])
    with pytest.raises(InputError, match=r"is a search with another data, seed\. Give another study_name"):
        search(SPACE, parabola, 2, storage=storage, description={"data": [1.0, 2.1], "seed": 1})
    with pytest.raises(InputError, match=r"is a search with another space\."):
        search(SPACE | {"x": Range(-1.0, 2.0)}, parabola, 2, storage=storage, description=about)
    assert len(search(SPACE, parabola, 1, storage=storage, name="other").trials) == 1
    (tmp_path / "notes.txt").write_text("no journal\n")
    with pytest.raises(InputError, match="cannot be stored in"):
        search(SPACE, parabola, 1, storage=tmp_path / "notes.txt")
    with pytest.raises(InputError, match="no folder"):
        search(SPACE, parabola, 1, storage=tmp_path / "missing" / "search.log")


@pytest.mark.parametrize("plot", ["history", "slice", "intermediate"])
def test_trials_are_plotted(plot):
    plotly = pytest.importorskip("plotly.graph_objects")
    found = search(SPACE, parabola, 4)
    figure = found.plot(plot)
    assert isinstance(figure, plotly.Figure)
    assert len(figure.data) > 0
    with pytest.raises(InputError, match="history"):
        found.plot("pie")


def test_optuna_is_silent_and_optional(monkeypatch, capfd):
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(SPACE, parabola, 12)
        search(GRID, slow)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "si-neuroml\[search\]"'):
        search(SPACE, parabola, 1)


def test_odd_spaces_are_refused():
    assert checked_space({"a": range(3), "b": Range(2, 4)}, 5) == {"a": (0, 1, 2), "b": Range(2, 4)}
    assert example_settings({"a": range(1, 3), "b": Range(2, 4)}) == {"a": 1, "b": 2}
    for space, num_trials, message in (
        ({}, 1, "grid is empty"),
        ({"a": "fast"}, 1, "grid must list values of a, at least one, or give a Range; got 'fast'"),
        ({"a": []}, 1, "grid must list values of a"),
        ({"a": [1, 2, 1]}, 1, "grid has a value of a twice"),
        ({"a": [1]}, 0, "num_trials must be None or a whole number from 1 on, got 0"),
        ({"a": [1]}, 1.5, "num_trials must be"),
        ({"a": Range(0, 1), "b": [1]}, None, "and \\['a'\\] are ranges: give a number of trials"),
    ):
        with pytest.raises(InputError, match=message):
            checked_space(space, num_trials, argument="grid")
    with pytest.raises(InputError, match="low <= high"):
        Range(2, 1)
    with pytest.raises(InputError, match="above 0 without step"):
        Range(0.0, 1.0, log=True)
