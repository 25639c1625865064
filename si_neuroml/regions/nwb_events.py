"""Event onsets from the interval tables of an NWB file: ``<stimulus>_presentations`` (Allen) or trials (IBL)."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from pynwb import NWBFile

__all__ = ["event_onsets", "interval_tables"]

_PRESENTATIONS = "_presentations"
# tables that describe no stimulus
_NOT_STIMULI = ("spontaneous_presentations", "invalid_times", "epochs")
_MISSING = "missing"
_ONSET_COLUMNS = ("gabor_stimulus_onset_time", "stimulus_onset_time", "stim_on_time", "start_time")


def event_onsets(
    nwbfile: "NWBFile", stimulus: str | None = "auto", *, onset: str = "auto", where: Mapping[str, Any] | None = None
) -> np.ndarray | None:
    """Onsets of the events asked for, sorted.

    Parameters
    ----------
    nwbfile : NWBFile
        An open file.
    stimulus : str | None, default: "auto"
        Name of an interval table, with or without "_presentations", or "trials"; "all": all tables of presentations;
        None: no events. "auto": with `where`, all tables of presentations that have its columns, else trials if they
        have them; without it the only table of presentations there is, or trials where there is none.
    onset : str, default: "auto"
        Column with the onsets. "auto": "gabor_stimulus_onset_time", else "stimulus_onset_time", "stim_on_time" or
        "start_time".
    where : mapping, optional
        Rows to keep: a value, or a list of allowed values, by column, for example ``{"is_change": True, "active":
        True}``. A missing value is never kept.

    Returns
    -------
    float64 array or None
        In seconds; None when no events are asked for, or "auto" finds no table at all.

    Raises
    ------
    InputError
        When a table or column does not exist, "auto" finds several, or no row is left.
    """
    if stimulus is None:
        return None
    where = dict(where or {})
    tables = interval_tables(nwbfile)
    if stimulus == "auto" and not tables and not where:
        return None
    chosen = _choose(tables, stimulus, where)
    onsets = np.concatenate([_onsets(name, tables[name], onset, where) for name in chosen])
    missing = np.isnan(onsets)
    if missing.all():
        raise InputError(
            f"No event is left of {', '.join(chosen)}: {len(onsets)} rows match {where or 'no condition'}"
            f"{', none with an onset' if len(onsets) else ''}. Other values, or stimulus=None for no events."
        )
    if missing.any():
        warnings.warn(f"{missing.sum()} of {len(onsets)} events have no onset and are left out.", stacklevel=2)
    return np.unique(onsets[~missing])


def interval_tables(nwbfile: "NWBFile") -> dict[str, Any]:
    """All interval tables of a file that may hold events, by name."""
    tables = dict(nwbfile.intervals.items()) if nwbfile.intervals else {}
    if nwbfile.trials is not None:
        tables.setdefault("trials", nwbfile.trials)
    return {name: table for name, table in sorted(tables.items()) if name not in _NOT_STIMULI}


def _choose(tables, stimulus, where):
    presentations = [name for name in tables if name.endswith(_PRESENTATIONS)]
    listed = f"There are {', '.join(tables) or 'no interval tables'}."
    if stimulus == "all":
        if presentations:
            return presentations
        raise InputError(f'stimulus="all" finds no table named ..._presentations. {listed}')
    if stimulus != "auto":
        for name in (stimulus, stimulus + _PRESENTATIONS):
            if name in tables:
                return [name]
        raise InputError(f"The file has no interval table {stimulus!r}. {listed}")
    fitting = [name for name in presentations if set(where) <= set(tables[name].colnames)]
    if where and fitting:
        return fitting
    if len(fitting) == 1:
        return fitting
    if not fitting and "trials" in tables and set(where) <= set(tables["trials"].colnames):
        return ["trials"]
    if where:
        raise InputError(f"No table of presentations or trials has the columns {sorted(where)}. {listed}")
    raise InputError(f'{len(fitting)} tables may hold the events: name one by stimulus=, or stimulus="all". {listed}')


def _onsets(name, table, onset, where):
    columns = list(table.colnames)
    column = next((one for one in _ONSET_COLUMNS if one in columns), None) if onset == "auto" else onset
    if column not in columns:
        raise InputError(f"Table {name!r} has no column {column!r} with onsets. It has {columns}.")
    kept = np.ones(len(table), dtype=bool)
    for key, allowed in where.items():
        if key not in columns:
            raise InputError(f"Table {name!r} has no column {key!r}. It has {columns}.")
        kept &= _matches(np.asarray(table[key].data[:]), allowed)
    return np.asarray(table[column].data[:], dtype="float64")[kept]


def _matches(values, allowed):
    """Which values are among the allowed; truth may be stored as a boolean, a number or a word."""
    allowed = list(allowed) if isinstance(allowed, list | tuple | set | np.ndarray) else [allowed]
    texts = np.array([_word(value) for value in values])
    return np.isin(texts, [_word(value) for value in allowed]) & (texts != _MISSING)


def _word(value):
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, bool | np.bool_):
        return str(float(value))
    try:
        number = float(value)
    except (TypeError, ValueError):
        text = str(value).strip()
        return {"true": "1.0", "false": "0.0"}.get(text.lower(), text)
    return _MISSING if np.isnan(number) else str(number)
