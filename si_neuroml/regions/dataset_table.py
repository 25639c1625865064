"""The parts of a dataset, checked and brought to their types: the table of units, the features, the PSTH."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .hierarchy import clean_acronym

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["REQUIRED_COLUMNS", "UNIT_KEY", "as_feature_table", "as_psth", "as_units", "feature_family", "plain_column"]

REQUIRED_COLUMNS = ("subject", "recording", "unit_id", "region")
# what names a unit: ids are counted anew in every recording, and often on every probe of it
UNIT_KEY = ["recording", "shank", "unit_id"]
_DEFAULTS = {"depth_um": np.nan, "shank": "", "lab": ""}
_TEXT = ("subject", "recording", "shank", "lab")
_FIRST = ("subject", "recording", "unit_id", "region", "depth_um", "shank", "lab")


def as_units(units: "pd.DataFrame") -> "pd.DataFrame":
    """The table of units with all its columns in their types; a copy, with rows numbered from 0.

    Parameters
    ----------
    units : DataFrame
        With subject, recording, unit_id and region; depth_um, shank, lab and others are optional.

    Returns
    -------
    DataFrame

    Raises
    ------
    InputError
        When a column is missing, a unit has no subject or recording, a depth is infinite, a unit appears twice, or a
        recording belongs to two subjects.
    """
    import pandas as pd

    if not isinstance(units, pd.DataFrame):
        raise InputError(f"units must be a pandas DataFrame, got {type(units).__name__}.")
    if missing := [name for name in REQUIRED_COLUMNS if name not in units]:
        raise InputError(
            f"units has no column {', '.join(map(repr, missing))}; there are {list(units.columns)}. Name who was "
            'recorded (subject), where from (recording), and the region of each unit ("" where it is not known).'
        )
    columns = {name: plain_column(units[name].array, name) for name in units.columns}
    for name, value in _DEFAULTS.items():
        columns.setdefault(name, np.full(len(units), value))
    labels, codes = np.unique(columns["region"], return_inverse=True)
    columns["region"] = _as_text([clean_acronym(one) for one in labels])[codes]
    for name in _TEXT:
        if columns[name].dtype.kind != "U":
            columns[name] = _as_text(["" if pd.isna(one) else str(one) for one in columns[name]])
    columns["depth_um"] = _as_depth(columns["depth_um"])
    table = pd.DataFrame({name: columns[name] for name in (*_FIRST, *(n for n in columns if n not in _FIRST))})
    _check_units(table)
    return table


def as_feature_table(features: Any, names: Any, num_units: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features as float32 (num_units, num_features) and their names, refused when they do not fit."""
    names = tuple(map(str, names))
    table = np.asarray(features, dtype="float32")
    if table.shape != (num_units, len(names)):
        raise InputError(f"features must have shape ({num_units} units, {len(names)} names), got {table.shape}.")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"Features must have different names; {twice[:5]} appear twice.")
    if np.isinf(table).any():
        bad = [name for name, column in zip(names, table.T, strict=True) if np.isinf(column).any()]
        raise InputError(f"{np.isinf(table).sum()} features are infinite, in {bad[:5]}. Use NaN where undefined.")
    return table, names


def as_psth(psth: Any, edges: Any, num_units: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """PSTH as float32 (num_units, num_bins) and the edges of its bins, refused when they do not fit."""
    if psth is None:
        return None, None
    table = np.asarray(psth, dtype="float32")
    if table.ndim != 2 or len(table) != num_units:
        raise InputError(f"psth must have shape ({num_units} units, num_bins), got {table.shape}.")
    if edges is None:
        raise InputError(f"psth has {table.shape[1]} bins without times: give bin_edges_s, {table.shape[1] + 1} edges.")
    edges = np.asarray(edges, dtype="float64")
    if edges.shape != (table.shape[1] + 1,) or not (np.diff(edges) > 0).all():
        raise InputError(f"bin_edges_s must be {table.shape[1] + 1} rising times, got shape {edges.shape}.")
    if np.isinf(table).any():
        raise InputError(f"{np.isinf(table).sum()} values of psth are infinite. Use NaN where one is not defined.")
    return table, edges


def feature_family(name: str) -> str:
    """The family of a feature: the text before its first "_", and "log_isi" for "log_isi_..."."""
    return "log_isi" if name.startswith("log_isi_") else name.split("_")[0]


def plain_column(values: Any, name: str) -> np.ndarray:
    """A column as numbers, booleans or fixed-width text, which can be saved without pickle.

    Parameters
    ----------
    values : array
        Objects become text where they are not all numbers; missing text becomes "".
    name : str
        For the message.

    Returns
    -------
    array

    Raises
    ------
    InputError
        When values are neither numbers nor text.
    """
    import pandas as pd

    if isinstance(getattr(values, "dtype", None), pd.StringDtype):
        return _as_text(pd.Series(values).fillna("").tolist())
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"Column {name!r} must have one value per unit, got shape {array.shape}.")
    if array.dtype.kind in "biufU":
        return array
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    known = [value for value in array if not pd.isna(value)]
    if all(isinstance(value, bool | np.bool_) for value in known) and len(known) == len(array):
        return array.astype(bool)
    if known and all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known):
        return pd.to_numeric(pd.Series(array)).to_numpy(dtype=None if len(known) == len(array) else "float64")
    if all(isinstance(value, str | bytes | int | float | np.generic) for value in known):
        text = [value.decode() if isinstance(value, bytes) else str(value) for value in array]
        return _as_text(["" if pd.isna(value) else one for value, one in zip(array, text, strict=True)])
    odd = next(value for value in known if not isinstance(value, str | bytes | int | float | np.generic))
    raise InputError(f"Column {name!r} holds {type(odd).__name__}: units can have numbers and text only.")


def _as_text(values):
    return np.array(values, dtype=str) if len(values) else np.zeros(0, dtype="U1")


def _as_depth(values):
    try:
        depth = np.asarray(values, dtype="float64")
    except ValueError as error:
        raise InputError(f"depth_um must be numbers in um, NaN where unknown: {error}.") from error
    if np.isinf(depth).any():
        raise InputError(f"{np.isinf(depth).sum()} of {len(depth)} depths are infinite. Use NaN where one is unknown.")
    return depth


def _check_units(units):
    for name in ("subject", "recording"):
        if (empty := units[name] == "").any():
            raise InputError(
                f"{int(empty.sum())} of {len(units)} units have no {name}. Units are told apart, and classifiers are "
                "judged, by subject and recording: name them."
            )
    owners = units.groupby("recording")["subject"].unique()
    if len(shared := owners[owners.map(len) > 1]):
        raise InputError(
            f"{len(shared)} recordings belong to several subjects, such as {shared.index[0]!r} to "
            f"{sorted(shared.iloc[0])}. Give every recording a name of its own, for example subject_date."
        )
    if (twice := units.duplicated(UNIT_KEY)).any():
        first = units.loc[twice, UNIT_KEY].iloc[0].tolist()
        raise InputError(
            f"{int(twice.sum())} units appear twice, such as recording {first[0]!r}, shank {first[1]!r}, unit "
            f"{str(first[2])!r}. Was a session added twice, or do two probes share a recording without shank names?"
        )
