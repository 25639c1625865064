"""Which units are well isolated enough to learn from: signal to noise, refractory violations, firing rate.

The thresholds are those of the source paper: SNR above 1, ISI violations below 1 %, rate above 0.1 Hz. "ISI violations"
is SpikeInterface's ``isi_violations_ratio``: violations over those expected of an equally fast Poisson contamination
(Hill et al. 2011, J. Neurosci. 31, 8699), which is what the Allen and IBL files hold too.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .session import spike_blocks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["QUALITY_COLUMNS", "fill_quality_columns", "quality_mask", "spike_quality"]

QUALITY_COLUMNS = ("snr", "isi_violations_ratio", "firing_rate")
REFRACTORY_S = 0.0015


def quality_mask(
    units: "pd.DataFrame",
    *,
    min_snr: float | None = 1.0,
    max_isi_violations: float | None = 0.01,
    min_firing_rate_hz: float | None = 0.1,
    missing: str = "raise",
) -> np.ndarray:
    """Units that pass every criterion.

    Parameters
    ----------
    units : DataFrame
        With the columns ``snr``, ``isi_violations_ratio`` and ``firing_rate`` (Hz), as far as they are asked for.
    min_snr, max_isi_violations, min_firing_rate_hz : float | None, default: 1.0, 0.01, 0.1
        A unit passes above the minima and below the maximum. None: this criterion is not asked for.
    missing : "raise" | "ignore", default: "raise"
        What to do with values that are not known. "raise": an error when a column is absent or wholly NaN, and a
        single unit without a value fails. "ignore": whatever is not known is passed.

    Returns
    -------
    bool array, shape (num_units,)

    Raises
    ------
    InputError
        When a column is missing, or an option is unknown.
    """
    if missing not in ("raise", "ignore"):
        raise InputError(f'missing must be "raise" or "ignore", got {missing!r}.')
    mask = np.ones(len(units), dtype=bool)
    thresholds = (min_snr, max_isi_violations, min_firing_rate_hz)
    for column, threshold in zip(QUALITY_COLUMNS, thresholds, strict=True):
        if threshold is None or not len(units):
            continue
        values = np.full(len(units), np.nan)
        if column in units:
            values = units[column].to_numpy(dtype="float64", na_value=np.nan)
        unknown = np.isnan(values)
        if unknown.all() and missing == "raise":
            state = "holds no number" if column in units else f"is missing (there are {list(units.columns)})"
            raise InputError(
                f"Units cannot be judged by {column!r}, which {state}. Compute it, set its threshold to None, or pass "
                'missing="ignore" to leave out what is not known.'
            )
        passed = values < threshold if column == "isi_violations_ratio" else values > threshold
        mask &= passed | (unknown & (missing == "ignore"))
    return mask


def spike_quality(
    spike_times: Any, offsets: np.ndarray, duration_s: float, *, boundaries_s: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Firing rates and ISI violation ratios, block by block.

    Parameters
    ----------
    spike_times : float64 array or HDF5 dataset, shape (num_spikes,)
        In seconds, unit after unit, sorted within each.
    offsets : int64 array, shape (num_units + 1,)
        Where each unit's spikes begin.
    duration_s : float
        Length of the recording in seconds.
    boundaries_s : float64 array, optional
        Times at which a new segment begins; an interval across one is none.

    Returns
    -------
    firing_rate : float64 array, shape (num_units,)
        In Hz.
    isi_violations_ratio : float64 array, shape (num_units,)
        n_violations * duration / (2 * 1.5 ms * n_spikes^2), as SpikeInterface and the Allen files have it; NaN for a
        unit without spikes.

    Raises
    ------
    InputError
        When spike times are not sorted or not finite, or the duration is not positive.
    """
    if not duration_s > 0:
        raise InputError(f"The recording lasts {duration_s} s; a rate needs a positive duration.")
    counts = np.diff(offsets)
    violations = np.zeros(len(counts), dtype="int64")
    for times, units, before in spike_blocks(spike_times, offsets):
        short = times - before < REFRACTORY_S
        if boundaries_s is not None and len(boundaries_s):
            short &= np.searchsorted(boundaries_s, times, "right") == np.searchsorted(boundaries_s, before, "right")
        violations += np.bincount(units[short], minlength=len(counts))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = violations * duration_s / (2 * REFRACTORY_S * counts.astype("float64") ** 2)
    return counts / duration_s, np.where(counts > 0, ratio, np.nan)


def fill_quality_columns(
    units: "pd.DataFrame",
    spike_times: Any,
    offsets: np.ndarray,
    duration_s: float,
    *,
    boundaries_s: np.ndarray | None = None,
) -> "pd.DataFrame":
    """Units with firing rate and ISI violations computed from the spikes where the table does not have them.

    Parameters
    ----------
    units : DataFrame
        One row per unit.
    spike_times, offsets, duration_s, boundaries_s
        As for :func:`spike_quality`.

    Returns
    -------
    DataFrame
        A copy. Spikes are not read when both columns are there.
    """
    absent = [name for name in ("firing_rate", "isi_violations_ratio") if name not in units or units[name].isna().all()]
    if not absent:
        return units
    rate, ratio = spike_quality(spike_times, offsets, duration_s, boundaries_s=boundaries_s)
    computed = {"firing_rate": rate, "isi_violations_ratio": ratio}
    return units.assign(**{name: computed[name] for name in absent})
