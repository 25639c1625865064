"""What every search of settings needs: ranges, trials that are scored step by step, and what is found in the end.

Knows nothing of what is searched: settings are a dict, and a function scores them.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, MissingDependencyError, TrainingError
from .search_study import finished_trials, import_optuna, open_study, quiet_optuna, run_trials

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Range", "SearchResult", "checked_space", "example_settings", "import_optuna", "search_settings", "suggest"]

# names in optuna.visualization
PLOTS = {
    "history": "plot_optimization_history",
    "importances": "plot_param_importances",
    "intermediate": "plot_intermediate_values",
    "parallel": "plot_parallel_coordinate",
    "slice": "plot_slice",
    "timeline": "plot_timeline",
}


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


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search finds.

    Attributes
    ----------
    best_score : float
        The highest of the trials that went to the end. The best of many is partly luck: judge the final model on data
        that were not in the search.
    settings : dict
        Of the first trial with that score: those that were searched.
    trials : pandas.DataFrame
        One row per finished trial: ``number``, ``state`` ("complete" or "pruned"), ``score`` (of a pruned trial, the
        last), ``num_steps``, ``seconds``, a column for each setting, and what was noted of it; ``error`` says why
        nothing was learned.
    study : optuna.Study
        The study itself.
    """

    best_score: float
    settings: dict[str, Any]
    trials: "pd.DataFrame"
    study: Any

    def plot(self, plot: str = "history") -> Any:
        """A plotly figure of the trials, by ``optuna.visualization``.

        Parameters
        ----------
        plot : {"history", "importances", "intermediate", "parallel", "slice", "timeline"}
            Score by trial; how much each setting matters; score by step within each trial; settings and scores as
            lines across; score against each setting; when each trial ran. Default: "history".

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
        visualization = import_optuna().visualization
        if not visualization.is_available():
            raise MissingDependencyError("plotly", "search")
        with quiet_optuna():
            return getattr(visualization, PLOTS[plot])(self.study)


def checked_space(
    space: Mapping[str, Range | Sequence[Any]], num_trials: int | None, *, argument: str = "space"
) -> dict[str, Range | tuple[Any, ...]]:
    """The values of each setting, after a look at them and at the number of trials.

    Raises
    ------
    InputError
        On a setting without values or with one twice, no settings, or a number of trials that does not go with them.
    """
    if not space:
        raise InputError(f"{argument} is empty: give a Range or a sequence of values for each setting to search.")
    for name, values in space.items():
        if isinstance(values, Range):
            continue
        if not isinstance(values, list | tuple | range | np.ndarray) or not len(values):
            raise InputError(f"{argument} must list values of {name}, at least one, or give a Range; got {values!r}.")
        if any(one == other for one, other in itertools.combinations(values, 2)):
            raise InputError(f"{argument} has a value of {name} twice: {values!r}.")
    if num_trials is None and (ranges := [name for name in space if isinstance(space[name], Range)]):
        raise InputError(f"num_trials=None tries every combination, and {ranges} are ranges: give a number of trials.")
    if num_trials is not None and not (isinstance(num_trials, int | np.integer) and num_trials > 0):
        raise InputError(f"num_trials must be None or a whole number from 1 on, got {num_trials!r}.")
    return {name: values if isinstance(values, Range) else tuple(values) for name, values in space.items()}


def example_settings(space: Mapping[str, Range | Sequence[Any]]) -> dict[str, Any]:
    """The lowest or first value of each setting, with which to see whether there are such settings."""
    return {name: values.low if isinstance(values, Range) else values[0] for name, values in space.items()}


def suggest(trial: Any, space: Mapping[str, Range | Sequence[Any]]) -> dict[str, Any]:
    """Let a trial of a study choose a value of each setting."""
    return {name: _suggest_one(trial, name, values) for name, values in space.items()}


def search_settings(
    space: Mapping[str, Range | Sequence[Any]],
    score_steps: Callable[[dict[str, Any]], Iterable[dict[str, Any]]],
    *,
    num_steps: int,
    num_trials: int | None,
    storage: str | Path | None,
    name: str,
    description: Mapping[str, Any],
    seed: int = 0,
    lowest: float = 0.0,
    progress_bar: bool = True,
) -> SearchResult:
    """The settings with the highest score.

    Parameters
    ----------
    space : dict
        From :func:`checked_space`. Values are None, numbers, text, or sequences of numbers.
    score_steps : function
        For settings, yields a dict after each step, of all steps so far together: ``score``, and what else is to be
        noted. The same settings have the same score.
    num_steps : int
        Dicts that it yields.
    num_trials : int | None
        See :func:`~si_neuroml.search_study.run_trials`. Settings that come up again are not scored again.
    storage : str | Path | None
        A file that keeps the trials (an Optuna journal), or the URL of a database ("sqlite:///search.db"): the same
        call goes on where it was stopped, and several processes with the same call share the work. None: memory.
    name : str
        Of the study, of which a storage can hold several.
    description : dict
        What is searched on; a stored study must have been made with the same, and with the same space.
    seed : int, default: 0
        Of the choices of trials.
    lowest : float, default: 0
        Score of settings with which nothing can be learned.
    progress_bar : bool, default: True
        Whether to show one.

    Returns
    -------
    SearchResult
        After Ctrl-C, of the trials that were finished by then, with a warning.

    Raises
    ------
    InputError
        When the storage cannot be used, or holds another search under this name.
    TrainingError
        When nothing was learned in any trial.
    MissingDependencyError
        Without Optuna.
    """
    optuna = import_optuna()
    space = {key: values if isinstance(values, Range) else tuple(map(_coded, values)) for key, values in space.items()}

    def objective(trial):
        settings = suggest(trial, space)
        for earlier in finished_trials(study, "COMPLETE"):
            if earlier.params == trial.params:
                return _noted(trial, earlier.user_attrs["row"], earlier.intermediate_values)
        steps = {}
        try:
            for step, row in enumerate(score_steps(settings)):
                steps[step] = row["score"]
                _noted(trial, row, {step: row["score"]})
                if step + 1 < num_steps and trial.should_prune():
                    raise optuna.TrialPruned
        except TrainingError as error:
            return _noted(trial, {"score": lowest, "error": str(error)}, {len(steps): lowest})
        return row["score"]

    listed = {key: asdict(values) if isinstance(values, Range) else values for key, values in space.items()}
    study = open_study(storage, name, {**description, "space": listed})
    grid = () if num_trials else [dict(zip(space, each, strict=True)) for each in itertools.product(*space.values())]
    options = {"seed": seed, "description": f"search {name}", "progress_bar": progress_bar}
    run_trials(study, objective, num_trials, grid=grid, **options)
    best = max(finished_trials(study, "COMPLETE"), key=lambda trial: trial.value, default=None)
    error = None if best is None else best.user_attrs["row"].get("error")
    if best is None or (error and best.value <= lowest):
        raise TrainingError(f"No trial learned anything. {error or ''}".rstrip())
    return SearchResult(best.value, _decoded(best.params), _table(study), study)


def _noted(trial, row, steps):
    for step, score in steps.items():
        trial.report(score, step)
    trial.set_user_attr("row", row)
    return row["score"]


def _table(study):
    import pandas as pd

    rows = []
    for trial in finished_trials(study):
        notes, num_steps = trial.user_attrs["row"], len(trial.intermediate_values)
        row = {"number": trial.number, "state": trial.state.name.lower(), "score": notes["score"]}
        row |= {"num_steps": num_steps, "seconds": trial.duration.total_seconds()}
        rows.append(row | _decoded(trial.params) | notes)
    return pd.DataFrame(rows)


def _suggest_one(trial, name, values):
    if not isinstance(values, Range):
        return _plain_or_sequence(trial.suggest_categorical(name, [_coded(value) for value in values]))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, step=values.step or 1, log=values.log)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


def _coded(value):
    """What Optuna can store of a value."""
    value = value.item() if isinstance(value, np.generic) else value
    return json.dumps(list(value)) if isinstance(value, list | tuple) else value


def _plain_or_sequence(value):
    return tuple(json.loads(value)) if isinstance(value, str) and value.startswith("[") else value


def _decoded(params):
    return {name: _plain_or_sequence(value) for name, value in params.items()}
