"""Try combinations of settings with Optuna: stored, resumable, shared by processes, silent.

Knows nothing of what is searched: a combination is a dict, and a function scores it step by step.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MissingDependencyError
from ..training import progress

__all__ = ["import_optuna", "run_study"]

# the first trials are taken at random and are not pruned; a trial is pruned after its second step at the earliest
NUM_RANDOM, NUM_NOT_PRUNED, FIRST_STEP = 10, 5, 1


def import_optuna() -> Any:
    """Optuna, or an error that says how to install it."""
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError("optuna", "search") from error
    return optuna


def run_study(
    score_steps: Callable[[dict[str, Any]], Iterable[dict[str, Any]]],
    values: Mapping[str, Sequence[Any]],
    *,
    score: str,
    num_steps: int,
    num_trials: int | None,
    storage: str | Path | None,
    name: str,
    description: dict[str, Any],
    seed: int,
    progress_bar: bool,
) -> list[dict[str, Any]]:
    """Score every combination of values, or some of them.

    Parameters
    ----------
    score_steps : function
        For a combination, yields a row of results after each step, all steps so far together. The same combination has
        the same results.
    values : dict
        Different values of each setting: None, numbers, text, or sequences of numbers.
    score : str
        The number in a row to be maximised.
    num_steps : int
        Rows of a combination.
    num_trials : int | None
        None: all combinations. A number: so many trials of a tree-structured Parzen estimator, those in the storage
        included, and hopeless ones pruned.
    storage : str | Path | None
        A file for a journal, the URL of a database, or None for memory.
    name : str
        Of the study, and shown at the progress bar.
    description : dict
        What is searched on; a stored study must have been made with the same.
    seed : int
        Of the order of trials.
    progress_bar : bool
        Whether to show one.

    Returns
    -------
    list of dict
        By number: ``number``, ``state`` ("complete" or "pruned"), ``settings`` (the combination) and ``row`` of each
        combination that was tried. After Ctrl-C, those that were finished by then, with a warning.

    Raises
    ------
    InputError
        When the storage cannot be used or holds another search under this name.
    MissingDependencyError
        Without Optuna.
    """
    optuna = import_optuna()
    coded = {key: tuple(map(_encoded, choices)) for key, choices in values.items()}

    def objective(trial):
        settings = {key: _decoded(trial.suggest_categorical(key, list(choices))) for key, choices in coded.items()}
        # results repeat, so that a combination that comes up again need not be tried again
        for earlier in _finished(optuna, study, "COMPLETE"):
            if earlier.params == trial.params:
                trial.set_user_attr("row", earlier.user_attrs["row"])
                return earlier.value
        for step, row in enumerate(score_steps(settings)):
            trial.report(row[score], step)
            pruned = step + 1 < num_steps and trial.should_prune()
            if pruned or step + 1 == num_steps:
                trial.set_user_attr("row", row)
            if pruned:
                raise optuna.TrialPruned
        return row[score]

    with _quiet(optuna):
        study = _open_study(optuna, storage, name, description | {"values": coded, "score": score})
        if num_trials is not None:
            study.pruner = optuna.pruners.MedianPruner(n_startup_trials=NUM_NOT_PRUNED, n_warmup_steps=FIRST_STEP)
        _run_trials(optuna, study, objective, coded, num_trials, seed, f"search {name}", progress_bar)
        trials = _finished(optuna, study, "PRUNED", "COMPLETE")
    # of a combination that was tried twice, the first complete trial
    trials = sorted(trials, key=lambda trial: (trial.state.name == "COMPLETE", -trial.number))
    trials = sorted({_key(trial): trial for trial in trials}.values(), key=lambda trial: trial.number)
    return [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "settings": {key: _decoded(trial.params[key]) for key in coded},
            "row": trial.user_attrs["row"],
        }
        for trial in trials
    ]


def _run_trials(optuna, study, objective, coded, num_trials, seed, title, progress_bar):
    """One trial after the other until there are enough in the study, whichever process ran them."""
    total = num_trials or math.prod(map(len, coded.values()))
    begun = []

    def noted(trial):
        begun.append(trial)
        return objective(trial)

    with progress(range(total), description=title, show=progress_bar) as bar:
        while (done := _num_done(optuna, study, num_trials)) < total:
            bar.update(done - bar.n)
            study.sampler = _sampler(optuna, study, coded, num_trials, seed)
            try:
                study.optimize(noted, n_trials=1)
            except BaseException as error:
                _queue_if_failed(optuna, study, begun)
                if not isinstance(error, KeyboardInterrupt) or not done:
                    raise
                text = f"The search was interrupted; the result is the best of {done} of {total} trials."
                warnings.warn(text, UserWarning, stacklevel=4)
                return
        bar.update(total - bar.n)


def _num_done(optuna, study, num_trials):
    """Trials, or of all combinations those tried: at the end, two processes may be at the same one."""
    finished = _finished(optuna, study, "COMPLETE", "PRUNED")
    return len(finished) if num_trials is not None else len(set(map(_key, finished)))


def _sampler(optuna, study, coded, num_trials, seed):
    if num_trials is None:
        return optuna.samplers.GridSampler(coded, seed=seed)
    # a seed for each trial, so that a study that was stopped goes on as it would have done
    begun = [trial for trial in study.get_trials(deepcopy=False) if trial.state != optuna.trial.TrialState.FAIL]
    own = int(np.random.SeedSequence([seed, len(begun)]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=NUM_RANDOM)


def _queue_if_failed(optuna, study, begun):
    """Have a trial that was interrupted run again: the sampler of all combinations takes a failed one for done."""
    if begun and study.get_trials(deepcopy=False)[begun[-1].number].state == optuna.trial.TrialState.FAIL:
        study.enqueue_trial(begun[-1].params)


def _finished(optuna, study, *states):
    return study.get_trials(deepcopy=False, states=tuple(optuna.trial.TrialState[state] for state in states))


def _key(trial):
    """The same for the same combination."""
    return tuple(sorted(trial.params.items()))


def _encoded(value):
    """What Optuna can store of a value."""
    value = value.item() if isinstance(value, np.generic) else value
    return json.dumps(list(value)) if isinstance(value, list | tuple) else value


def _decoded(value):
    return tuple(json.loads(value)) if isinstance(value, str) and value.startswith("[") else value


def _open_study(optuna, storage, name, description):
    try:
        study = optuna.create_study(
            storage=_open_storage(optuna, storage),
            study_name=name,
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.NopPruner(),
        )
        stored = study.user_attrs.get("search")
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"A search cannot be stored in {str(storage)!r}: {error}") from error
    description = json.loads(json.dumps(description, default=str))
    if stored is None:
        study.set_user_attr("search", description)
    elif differing := [key for key in description if not _same(stored.get(key), description[key])]:
        raise InputError(
            f"The study {name!r} in {str(storage)!r} is a search with another {', '.join(differing)}. Give another "
            "study_name or storage, or search with the same data and settings."
        )
    return study


def _open_storage(optuna, storage):
    if storage is None or "://" in str(storage):
        return storage
    path, journal = Path(storage), optuna.storages.journal
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {str(path.parent)!r} to store a search in.")
    # this lock also works on network drives and on Windows
    backend = journal.JournalFileBackend(os.fspath(path), lock_obj=journal.JournalFileOpenLock(os.fspath(path)))
    return optuna.storages.JournalStorage(backend)


def _same(one, other):
    """Whether two descriptions agree, numbers up to what rounding on two machines can do."""
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4)
    return one == other


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna without its log inside."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
