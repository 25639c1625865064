"""A look at the data before any model: units per region, features per region, responses and their components.

After the exploration of van Laar (2025). What differs between regions is tested in
:mod:`~si_neuroml.regions.dissimilarity`; :func:`explored_values` puts features and components together for that.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PAPER_FEATURES",
    "Components",
    "MeanResponses",
    "explored_values",
    "feature_boxes",
    "mean_responses",
    "principal_components",
    "region_components",
    "response_correlation",
    "unit_counts",
]

PAPER_FEATURES = (
    "psth_peak_time_s",
    "psth_peak_z",
    "psth_half_width_s",
    "psth_latency_s",
    "psth_skewness",
    "psth_sustained_ratio",
    "psth_mean_rate_hz",
    "isi_cv",
)
# of the box, as far as a whisker may reach
WHISKER = 1.5


class MeanResponses(NamedTuple):
    """Mean response of each region.

    Attributes
    ----------
    regions : tuple of str
        In alphabetical order.
    count : int64 array, shape (num_regions,)
        Units, or animals where these were given.
    mean, sem : float64 array, shape (num_regions, num_bins)
        Mean and its standard error over units or animals; NaN for the error of one alone.
    """

    regions: tuple[str, ...]
    count: np.ndarray
    mean: np.ndarray
    sem: np.ndarray


class Components(NamedTuple):
    """Principal components of responses.

    Attributes
    ----------
    mean : float64 array, shape (num_bins,)
        What was taken off.
    components : float64 array, shape (num_components, num_bins)
        Of length 1, the entry with the largest size positive.
    explained : float64 array, shape (num_components,)
        Share of the variance.
    scores : float64 array, shape (num_units, num_components)
        NaN for units without a response.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: np.ndarray
    scores: np.ndarray


def unit_counts(units: "pd.DataFrame", by: str = "subject") -> "pd.DataFrame":
    """How many units each region has, apart by subject or another column.

    Parameters
    ----------
    units : DataFrame
        With the columns region and `by`; units without a region ("") are left out.
    by : str, default: "subject"
        A column, such as "recording" or "lab".

    Returns
    -------
    DataFrame of int64
        Regions (the one with most units first) by values of the column.

    Raises
    ------
    InputError
        When there is no such column.
    """
    if missing := [name for name in ("region", by) if name not in units]:
        raise InputError(f"units has no column {', '.join(map(repr, missing))}; there are {list(units.columns)}.")
    labelled = units[units["region"] != ""]
    counts = labelled.groupby(["region", by]).size().unstack(fill_value=0).astype("int64")
    return counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def feature_boxes(features: np.ndarray, names: Sequence[str], labels: np.ndarray) -> "pd.DataFrame":
    """What a box plot of each feature in each region shows.

    Parameters
    ----------
    features : array, shape (num_units, num_features)
        NaN where not defined.
    names : sequence of str
        One per feature.
    labels : array of str, shape (num_units,)
        Region of each unit; "" is left out.

    Returns
    -------
    DataFrame
        One row per feature and region: feature, region, count, whisker_low, q1, median, q3, whisker_high. Whiskers
        reach the outermost values within 1.5 box lengths of the box (Tukey). NaN where a region has no value.
    """
    import pandas as pd

    features, labels = _as_rows(features, labels)
    if features.shape[1] != len(names):
        raise InputError(f"There are {features.shape[1]} features, but {len(names)} names.")
    rows = []
    for name, column in zip(names, features.T, strict=True):
        for region in _regions(labels):
            values = np.sort(column[(labels == region) & np.isfinite(column)])
            rows.append((name, region, len(values), *_box(values)))
    columns = ["feature", "region", "count", "whisker_low", "q1", "median", "q3", "whisker_high"]
    return pd.DataFrame(rows, columns=columns)


def mean_responses(psth: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> MeanResponses:
    """Mean PSTH of each region.

    Parameters
    ----------
    psth : array, shape (num_units, num_bins)
        Responses; rows of NaN are left out.
    labels : array of str, shape (num_units,)
        Region of each unit; "" is left out.
    groups : array, shape (num_units,), optional
        Animal of each unit: means of animals are averaged, so that one with many units does not outweigh the others.

    Returns
    -------
    MeanResponses
        Regions without any response are left out.
    """
    psth, labels = _as_rows(psth, labels)
    seen = np.isfinite(psth).all(axis=1)
    regions, counts, means, sems = [], [], [], []
    for region in _regions(labels[seen]):
        mine = (labels == region) & seen
        rows = psth[mine]
        if groups is not None:
            own = np.asarray(groups)[mine]
            rows = np.array([rows[own == group].mean(axis=0) for group in np.unique(own)])
        regions.append(region)
        counts.append(len(rows))
        means.append(rows.mean(axis=0))
        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.full(psth.shape[1], np.nan)
        sems.append(error)
    shape = (len(regions), psth.shape[1])
    return MeanResponses(
        tuple(regions), np.array(counts, dtype="int64"), np.reshape(means, shape), np.reshape(sems, shape)
    )


def response_correlation(psth: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> "pd.DataFrame":
    """Correlation of the mean PSTHs of every two regions.

    Parameters
    ----------
    psth, labels, groups
        As for :func:`mean_responses`.

    Returns
    -------
    DataFrame
        Symmetric, regions by regions; NaN where a mean is flat.
    """
    import pandas as pd

    found = mean_responses(psth, labels, groups)
    centred = found.mean - found.mean.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(length > 0, length, np.nan)
    return pd.DataFrame(np.clip(unit @ unit.T, -1, 1), index=found.regions, columns=found.regions)


def principal_components(psth: np.ndarray, num_components: int = 4) -> Components:
    """Principal components of the responses of all units.

    Parameters
    ----------
    psth : array, shape (num_units, num_bins)
        Responses; rows of NaN are left out and get scores of NaN.
    num_components : int, default: 4
        How many; fewer where there are fewer units or bins.

    Returns
    -------
    Components

    Raises
    ------
    InputError
        When fewer than two units have a response.
    """
    from sklearn.decomposition import PCA

    psth = np.asarray(psth, dtype="float64")
    seen = np.isfinite(psth).all(axis=1) if psth.ndim == 2 else np.zeros(0, dtype=bool)
    if seen.sum() < 2:
        raise InputError(f"Components need at least two units with a response, got {seen.sum()} of {len(psth)} units.")
    if num_components < 1:
        raise InputError(f"num_components must be at least 1, got {num_components}.")
    number = min(num_components, psth.shape[1], int(seen.sum()) - 1)
    pca = PCA(n_components=number, svd_solver="full" if seen.sum() < 10_000 else "covariance_eigh")
    scores = np.full((len(psth), number), np.nan)
    with np.errstate(invalid="ignore"):  # equal responses have no variance to share out
        scores[seen] = pca.fit_transform(psth[seen])
    # sklearn's choice of the sign differs between its versions
    signs = np.sign(pca.components_[np.arange(number), np.abs(pca.components_).argmax(axis=1)])
    explained = np.nan_to_num(pca.explained_variance_ratio_)
    return Components(pca.mean_, signs[:, None] * pca.components_, explained, signs * scores)


def region_components(psth: np.ndarray, labels: np.ndarray, num_components: int = 4) -> dict[str, Components]:
    """Principal components of the responses in each region by itself.

    Parameters
    ----------
    psth, labels
        As for :func:`mean_responses`.
    num_components : int, default: 4
        How many; fewer where a region has too few units.

    Returns
    -------
    dict of {region: Components}
        ``mean`` is the region's mean PSTH; ``scores`` are those of its units in their order. Regions with fewer than
        two responses are left out.
    """
    psth, labels = _as_rows(psth, labels)
    seen = np.isfinite(psth).all(axis=1)
    return {
        region: principal_components(psth[labels == region], num_components)
        for region in _regions(labels)
        if ((labels == region) & seen).sum() >= 2
    }


def explored_values(
    features: np.ndarray,
    names: Sequence[str],
    psth: np.ndarray | None = None,
    *,
    chosen: Sequence[str] | None = None,
    num_components: int = 4,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features and components of the responses in one table, to be tested between regions.

    Parameters
    ----------
    features : array, shape (num_units, num_features)
    names : sequence of str
        One per feature.
    psth : array, shape (num_units, num_bins), optional
        Responses, for the components.
    chosen : sequence of str, optional
        Which features. Default: those of the source paper's eight that there are.
    num_components : int, default: 4
        Of the responses of all units together.

    Returns
    -------
    values : float64 array, shape (num_units, num_chosen + num_components)
    names : tuple of str
        The chosen features, "component_1", "component_2" and so on.

    Raises
    ------
    InputError
        When a feature does not exist, or nothing is left.
    """
    names = list(names)
    chosen = [name for name in PAPER_FEATURES if name in names] if chosen is None else list(chosen)
    if missing := [name for name in chosen if name not in names]:
        raise InputError(f"There is no feature {', '.join(map(repr, missing))}; there are {names[:20]}.")
    values = np.asarray(features, dtype="float64")[:, [names.index(name) for name in chosen]]
    if psth is not None and num_components:
        scores = principal_components(psth, num_components).scores
        values = np.column_stack([values, scores])
        chosen += [f"component_{k + 1}" for k in range(scores.shape[1])]
    if not chosen:
        raise InputError("None of the paper's features is there, and no PSTH: name the features to explore.")
    return values, tuple(chosen)


def _as_rows(values, labels):
    values, labels = np.asarray(values, dtype="float64"), np.asarray(labels)
    if values.ndim != 2 or len(values) != len(labels):
        raise InputError(f"There must be one row per unit, {len(labels)} by the labels, got shape {values.shape}.")
    return values, labels


def _regions(labels):
    return [region for region in np.unique(labels).tolist() if region != ""]


def _box(values):
    if not len(values):
        return (np.nan,) * 5
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    low, high = q1 - WHISKER * (q3 - q1), q3 + WHISKER * (q3 - q1)
    # of interpolated quartiles no value may lie between a fence and the box
    return min(values[values >= low][0], q1), q1, median, q3, max(values[values <= high][-1], q3)
