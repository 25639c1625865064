"""Studies of Optuna that are stored, go on where they were stopped, are shared by processes, and keep silent.

A study lives in memory, in a file (Optuna's journal, which several processes may write to, also on network drives) or
in a database. It remembers a description of the data and settings it is about, so that trials of two different searches
are never mixed.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, MissingDependencyError
from .training import progress

__all__ = ["finished_trials", "import_optuna", "open_study", "quiet_optuna", "run_trials"]

# the first trials are taken at random and are not pruned; a trial is pruned after its second step at the earliest
NUM_RANDOM, NUM_NOT_PRUNED, FIRST_PRUNED_STEP = 10, 5, 1


def import_optuna() -> Any:
    """Optuna, or an error that says how to install it."""
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError("optuna", "search") from error
    return optuna


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna inside without its log, and without its warnings of what may change in it."""
    optuna = import_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def open_study(storage: str | Path | None, name: str, description: Mapping[str, Any]) -> Any:
    """The study of this name that maximises a score, new or as it was left.

    Parameters
    ----------
    storage : str | Path | None
        A file for a journal, the URL of a database ("sqlite:///search.db"), or None for memory.
    name : str
        Of the study.
    description : dict
        What is searched on; a stored study must have been made with the same.

    Returns
    -------
    optuna.Study

    Raises
    ------
    InputError
        When the storage cannot be used, or holds another search under this name.
    MissingDependencyError
        Without Optuna.
    """
    optuna = import_optuna()
    description = json.loads(json.dumps(description, default=_plain))
    own = {"study_name": name, "load_if_exists": True, "direction": "maximize"}
    try:
        with quiet_optuna():
            study = optuna.create_study(storage=_open_storage(optuna, storage), **own)
        stored = study.user_attrs.get("search")
    except (ValueError, TypeError, KeyError, OSError, *_database_errors()) as error:
        raise InputError(f"A search cannot be stored in {str(storage)!r}: {error}") from error
    if stored is None:
        study.set_user_attr("search", description)
    elif differing := sorted(
        key for key in {*stored, *description} if not _same(stored.get(key), description.get(key))
    ):
        raise InputError(
            f"The study {name!r} in {str(storage)!r} is a search with another {', '.join(differing)}. Give another "
            "study_name or storage, or search with the same data and settings."
        )
    return study


def finished_trials(study: Any, *states: str) -> list[Any]:
    """Trials in these states, default "COMPLETE" and "PRUNED", by number."""
    optuna = import_optuna()
    wanted = tuple(optuna.trial.TrialState[state] for state in states or ("COMPLETE", "PRUNED"))
    return study.get_trials(deepcopy=False, states=wanted)


def run_trials(
    study: Any,
    objective: Callable[[Any], float],
    num_trials: int | None,
    *,
    grid: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
    description: str = "search",
    progress_bar: bool = True,
) -> None:
    """Run trials until the study holds enough that are finished, whichever process ran them.

    Parameters
    ----------
    study : optuna.Study
        From :func:`open_study`.
    objective : function
        Score of a trial; reports and prunes as Optuna has it.
    num_trials : int | None
        Trials in all, those in the storage included, chosen by a tree-structured Parzen estimator (Bergstra et al.
        2011); one below the median of the others after its second step or later is pruned. Each other process may add
        one, that it is at when the last is finished. None: every combination of `grid` once.
    grid : sequence of dict
        Parameters of a trial.
    seed : int, default: 0
        Of the choices. What a trial takes depends on it and on how many began before it: no two take the same random
        numbers, and a study that was stopped goes on as it would have done.
    description : str, default: "search"
        Beside the progress bar.
    progress_bar : bool, default: True
        Whether to show one.

    Warns
    -----
    UserWarning
        After Ctrl-C, when some trials were finished; they are kept. Before that, Ctrl-C goes through.
    """
    optuna = import_optuna()
    total, begun = len(grid) if num_trials is None else num_trials, []
    median = optuna.pruners.MedianPruner(n_startup_trials=NUM_NOT_PRUNED, n_warmup_steps=FIRST_PRUNED_STEP)
    study.pruner = optuna.pruners.NopPruner() if num_trials is None else median
    order = [grid[index] for index in np.random.default_rng(seed).permutation(len(grid))]

    def noted(trial):
        begun.append(trial)
        # its number is known now, and no other process has the same
        study.sampler = _grid_sampler(trial, order) if num_trials is None else _tree_sampler(trial, seed)
        return objective(trial)

    with quiet_optuna(), progress(range(total), description=description, show=progress_bar) as bar:
        while (done := _num_done(study, num_trials)) < total:
            bar.update(done - bar.n)
            try:
                study.optimize(noted, n_trials=1)
            except BaseException as error:
                failed = begun and study.get_trials(deepcopy=False)[begun[-1].number].state
                if failed == optuna.trial.TrialState.FAIL:
                    study.enqueue_trial(begun[-1].params)  # taken up again by the next call
                if not isinstance(error, KeyboardInterrupt) or not done:
                    raise
                text = f"The search was interrupted; the result is the best of {done} of {total} trials."
                warnings.warn(text, UserWarning, stacklevel=4)
                return
        bar.update(max(0, total - bar.n))


def _num_done(study, num_trials):
    """Trials, or of all combinations those tried: at the end, two processes may be at the same one."""
    finished = finished_trials(study)
    return len(finished) if num_trials is not None else len({_key(trial.params) for trial in finished})


def _tree_sampler(trial, seed):
    """Trials that other processes are still at count as poor ones, so that processes do not all try the same."""
    optuna = import_optuna()
    others = trial.study.get_trials(deepcopy=False)
    before = sum(one.number < trial.number and one.state != optuna.trial.TrialState.FAIL for one in others)
    own = int(np.random.SeedSequence([seed, before]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=NUM_RANDOM, constant_liar=True)


def _grid_sampler(trial, order):
    """The first combination that no other trial has; of those that nobody finished, where every one was begun."""
    optuna = import_optuna()
    failed, others = optuna.trial.TrialState.FAIL, trial.study.get_trials(deepcopy=False)
    others = [one for one in others if one.number != trial.number and one.state != failed]
    taken, finished = ({_key(one.params) for one in part} for part in (others, finished_trials(trial.study)))
    rest = [each for each in order if _key(each) not in taken]
    rest = rest or [each for each in order if _key(each) not in finished] or order
    # trials that began before and have not chosen yet will take the first ones
    waiting = sum(one.number < trial.number and len(one.params) < len(order[0]) for one in others)
    return optuna.samplers.PartialFixedSampler(rest[waiting % len(rest)], optuna.samplers.RandomSampler())


def _key(params):
    """The same for the same combination."""
    return tuple(sorted(params.items()))


def _open_storage(optuna, storage):
    if storage is None or "://" in str(storage):
        return storage
    path, journal = Path(storage), optuna.storages.journal
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {str(path.parent)!r} to store a search in.")
    # this lock also works on network drives and on Windows
    backend = journal.JournalFileBackend(os.fspath(path), lock_obj=journal.JournalFileOpenLock(os.fspath(path)))
    return optuna.storages.JournalStorage(backend)


def _database_errors():
    """What a database raises beyond Python's own errors."""
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return ()
    return (SQLAlchemyError,)


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _same(one, other):
    """Whether two descriptions agree, numbers up to what rounding on two machines can do."""
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4)
    return one == other
