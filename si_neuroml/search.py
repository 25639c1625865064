"""What every search with Optuna needs: a stored study, trials that repeat, an interruption that loses nothing.

Knows nothing of what is searched. A study lives in memory, in a file (Optuna's journal, which several processes may
write to, also on network drives) or in a database. It remembers a description of the data and settings it is about, so
that trials of two different searches are never mixed.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, MissingDependencyError
from .training import progress

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Range",
    "finished_trials",
    "import_optuna",
    "open_study",
    "plot_study",
    "quiet_optuna",
    "run_trials",
    "suggest",
    "trial_sampler",
    "trials_table",
]

# the first trials are taken at random and are not pruned
NUM_RANDOM, NUM_NOT_PRUNED = 10, 5
PLOTS = ("history", "importances", "intermediate", "parallel", "slice", "timeline")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes
    ----------
    low, high : int | float
        Whole numbers when both are int.
    step : int | float, optional
        Only every so much, counted from `low`.
    log : bool, default: False
        Spread evenly over the logarithm; without `step`.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self):
        if not self.low <= self.high or (self.log and (self.low <= 0 or self.step is not None)):
            raise InputError(f"A range needs low <= high, and above 0 without step when log=True; got {self!r}.")

    def holds(self, value: float) -> bool:
        """Whether a value lies inside, whatever the step."""
        return self.low <= value <= self.high


def import_optuna() -> Any:
    """Optuna, or an error that says how to install it."""
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError("optuna", "search") from error
    return optuna


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna without its log inside."""
    optuna = import_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def suggest(trial: Any, space: Mapping[str, Range | Sequence[Any]]) -> dict[str, Any]:
    """Let a trial choose a value of each setting.

    Parameters
    ----------
    trial : optuna.Trial
        Of a study.
    space : dict
        A :class:`Range`, or the values to choose from (None, numbers, text).

    Returns
    -------
    dict
    """
    return {name: _suggest_one(trial, name, values) for name, values in space.items()}


def open_study(
    storage: str | Path | None, name: str, description: Mapping[str, Any], *, first_pruned_step: int = 1
) -> Any:
    """The study of this name that maximises a score, new or as it was left.

    Parameters
    ----------
    storage : str | Path | None
        A file for a journal, the URL of a database ("sqlite:///search.db"), or None for memory.
    name : str
        Of the study.
    description : dict
        What is searched on; a stored study must have been made with the same.
    first_pruned_step : int, default: 1
        A trial below the median of the others is pruned after this step (counted from 0) at the earliest, and not
        among the first five trials.

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
    pruner = optuna.pruners.MedianPruner(n_startup_trials=NUM_NOT_PRUNED, n_warmup_steps=first_pruned_step)
    description = json.loads(json.dumps(description, default=_plain))
    own = {"study_name": name, "load_if_exists": True, "direction": "maximize", "pruner": pruner}
    try:
        with quiet_optuna():
            study = optuna.create_study(storage=_open_storage(optuna, storage), **own)
        stored = study.user_attrs.get("search")
    except (ValueError, TypeError, KeyError, OSError, *_database_errors()) as error:
        raise InputError(f"A search cannot be stored in {str(storage)!r}: {error}") from error
    if stored is None:
        study.set_user_attr("search", description)
    elif differing := _differing(stored, description):
        raise InputError(
            f"The study {name!r} in {str(storage)!r} is a search with another {', '.join(differing)}. Give another "
            "study_name or storage, or search with the same data and settings."
        )
    return study


def trial_sampler(trial: Any, seed: int) -> Any:
    """Sampler of one trial: a tree-structured Parzen estimator (Bergstra et al. 2011).

    Its seed depends on how many trials began before, so that a study that was stopped goes on as it would have done.
    Trials that other processes are still at count as poor ones, so that processes do not all try the same.
    """
    optuna = import_optuna()
    others = trial.study.get_trials(deepcopy=False)
    before = sum(one.number < trial.number and one.state != optuna.trial.TrialState.FAIL for one in others)
    own = int(np.random.SeedSequence([seed, before]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=NUM_RANDOM, constant_liar=True)


def finished_trials(study: Any, *states: str) -> list[Any]:
    """Trials in these states, default "COMPLETE" and "PRUNED", by number."""
    optuna = import_optuna()
    wanted = tuple(optuna.trial.TrialState[state] for state in states or ("COMPLETE", "PRUNED"))
    return study.get_trials(deepcopy=False, states=wanted)


def run_trials(
    study: Any,
    objective: Callable[[Any], float],
    num_trials: int,
    *,
    seed: int = 0,
    description: str = "search",
    progress_bar: bool = True,
) -> None:
    """Try settings until the study holds so many finished trials, whichever process ran them.

    Parameters
    ----------
    study : optuna.Study
        From :func:`open_study`.
    objective : function
        Score of a trial; reports and prunes as Optuna has it. A ``TrainingError`` is for it to catch.
    num_trials : int
        Trials in all, those in the storage included.
    seed : int, default: 0
        Of the choices.
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
    begun = []

    def noted(trial):
        begun.append(trial)
        study.sampler = trial_sampler(trial, seed)
        return objective(trial)

    with quiet_optuna(), progress(range(num_trials), description=description, show=progress_bar) as bar:
        while (done := len(finished_trials(study))) < num_trials:
            bar.update(done - bar.n)
            try:
                study.optimize(noted, n_trials=1)
            except BaseException as error:
                failed = begun and study.get_trials(deepcopy=False)[begun[-1].number].state
                if failed == optuna.trial.TrialState.FAIL:
                    study.enqueue_trial(begun[-1].params)  # taken up again by the next call
                if not isinstance(error, KeyboardInterrupt) or not done:
                    raise
                text = f"The search was interrupted; the result is the best of {done} of {num_trials} trials."
                warnings.warn(text, UserWarning, stacklevel=3)
                return
        bar.update(max(0, num_trials - bar.n))


def trials_table(study: Any) -> "pd.DataFrame":
    """One row per finished trial: ``number``, ``state``, ``score``, ``num_steps``, ``seconds``, settings, notes.

    Settings are columns by their names; notes are what the objective stored with ``trial.set_user_attr``. The score of
    a pruned trial is the last that it reported.
    """
    import pandas as pd

    rows = []
    for trial in finished_trials(study):
        steps = trial.intermediate_values
        score = trial.value if trial.state.name == "COMPLETE" else steps[max(steps)]
        row = {"number": trial.number, "state": trial.state.name.lower(), "score": score, "num_steps": len(steps)}
        rows.append(row | {"seconds": trial.duration.total_seconds()} | trial.params | trial.user_attrs)
    return pd.DataFrame(rows)


def plot_study(study: Any, plot: str = "history") -> Any:
    """A plotly figure of the trials, by ``optuna.visualization``.

    Parameters
    ----------
    study : optuna.Study
        With finished trials.
    plot : {"history", "importances", "intermediate", "parallel", "slice", "timeline"}
        Score by trial; how much each setting matters; score by step within each trial; settings and scores as lines
        across; score against each setting; when each trial ran. Default: "history".

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InputError
        On an unknown plot.
    MissingDependencyError
        Without plotly.
    """
    if plot not in PLOTS:
        raise InputError(f"Plots of a search are {list(PLOTS)}, got {plot!r}.")
    optuna = import_optuna()
    if not optuna.visualization.is_available():
        raise MissingDependencyError("plotly", "search")
    names = {
        "history": "plot_optimization_history",
        "importances": "plot_param_importances",
        "intermediate": "plot_intermediate_values",
        "parallel": "plot_parallel_coordinate",
        "slice": "plot_slice",
        "timeline": "plot_timeline",
    }
    with quiet_optuna():
        return getattr(optuna.visualization, names[plot])(study)


def _suggest_one(trial, name, values):
    if not isinstance(values, Range):
        return trial.suggest_categorical(name, list(values))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, step=values.step or 1, log=values.log)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


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


def _differing(one, other):
    return sorted(key for key in {*one, *other} if not _same(one.get(key), other.get(key)))


def _same(one, other):
    """Whether two descriptions agree, numbers up to what rounding on two machines can do."""
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4)
    return one == other
