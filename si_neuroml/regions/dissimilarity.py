"""Do regions differ, in which features, and by how much: two-sample tests of all pairs, and one test over all regions.

Units of one animal are not independent, so that p-values over units overstate what is known about animals: with
``groups`` every animal counts once per region. Effects, from 0 (same) to 1 (apart), do not grow with the number of
units and are what the dissimilarity matrices show unless asked otherwise. Source: van Laar (2025), exploration.
"""

import warnings
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CORRECTIONS",
    "TESTS",
    "adjust_p_values",
    "dissimilarity_matrix",
    "omnibus_dissimilarity",
    "omnibus_tests",
    "pairwise_tests",
]

TESTS = ("ks", "mannwhitney")
CORRECTIONS = ("fdr", "fdr_dependent", "bonferroni")
# up to this product of the sample sizes the distribution of the KS statistic is worked out exactly
EXACT_PRODUCT = 10_000
SUMMARIES = ("effect", "num_significant", "p_value")


def adjust_p_values(p_values: np.ndarray, method: str | None = "fdr") -> np.ndarray:
    """P-values corrected for their number.

    Parameters
    ----------
    p_values : array
        Of any shape; all of them are one family of tests. NaN are no tests and stay.
    method : "fdr" | "fdr_dependent" | "bonferroni" | None, default: "fdr"
        False discovery rate of Benjamini and Hochberg (1995), that of Benjamini and Yekutieli (2001), which holds
        under any dependence, the family-wise error rate, or no correction.

    Returns
    -------
    float64 array
        Of the same shape.

    Raises
    ------
    InputError
        When the method is none of these, or a value lies outside 0 to 1.
    """
    p_values = np.asarray(p_values, dtype="float64")
    tested = ~np.isnan(p_values)
    found = p_values[tested]
    if method is not None and method not in CORRECTIONS:
        raise InputError(f"correction must be one of {(*CORRECTIONS, None)}, got {method!r}.")
    if found.size and not (found.min() >= 0 and found.max() <= 1):
        raise InputError(f"P-values must lie between 0 and 1, got {found.min()} to {found.max()}.")
    if method is None or not found.size:
        return p_values.copy()
    adjusted = p_values.copy()
    if method == "bonferroni":
        adjusted[tested] = np.minimum(found * found.size, 1.0)
    else:
        from scipy.stats import false_discovery_control

        adjusted[tested] = false_discovery_control(found, method="bh" if method == "fdr" else "by")
    return adjusted


def pairwise_tests(
    values: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    test: str = "ks",
    correction: str | None = "fdr",
    groups: np.ndarray | None = None,
    min_count: int = 5,
) -> "pd.DataFrame":
    """Two-sided two-sample tests of every feature between every two regions.

    Parameters
    ----------
    values : array, shape (num_units, num_features)
        Features, or components of the PSTH; NaN where not defined.
    labels : array of str, shape (num_units,)
        Region of each unit; "" is left out.
    names : sequence of str
        One per feature.
    test : "ks" | "mannwhitney", default: "ks"
        Kolmogorov-Smirnov: any difference of the distributions, effect D. Mann-Whitney: one is larger, effect
        2 (AUC - 1/2) without its sign.
    correction : "fdr" | "fdr_dependent" | "bonferroni" | None, default: "fdr"
        Over all pairs and features together, see :func:`adjust_p_values`.
    groups : array, shape (num_units,), optional
        Animal of each unit: the medians of the animals are compared and not the units.
    min_count : int, default: 5
        Fewest values on either side; else effect and p-value are NaN.

    Returns
    -------
    DataFrame
        One row per feature and pair: feature, region_a, region_b (in alphabetical order), count_a, count_b, statistic
        (D or U of region_a), effect, p_value, p_adjusted.

    Raises
    ------
    InputError
        When shapes do not fit, there are fewer than two regions, or an option is unknown.
    """
    import pandas as pd

    if test not in TESTS:
        raise InputError(f"test must be one of {TESTS}, got {test!r}.")
    samples = _samples(values, labels, names, groups)
    rows = []
    for name in names:
        for one, other in combinations(sorted(samples), 2):
            a, b = samples[one][name], samples[other][name]
            statistic, effect, p_value = np.nan, np.nan, np.nan
            if min(len(a), len(b)) >= min_count:
                statistic, effect, p_value = _two_samples(a, b, test)
            rows.append((name, one, other, len(a), len(b), statistic, effect, p_value))
    columns = ["feature", "region_a", "region_b", "count_a", "count_b", "statistic", "effect", "p_value"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_adjusted=adjust_p_values(table["p_value"].to_numpy(), correction))


def omnibus_tests(
    values: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    correction: str | None = "fdr",
    groups: np.ndarray | None = None,
    min_count: int = 5,
) -> "pd.DataFrame":
    """Does a feature differ between any of the regions: a Kruskal-Wallis test of each.

    Parameters
    ----------
    values, labels, names, groups
        As for :func:`pairwise_tests`.
    correction : default: "fdr"
        Over the features.
    min_count : int, default: 5
        Regions with fewer values are left out of the test of that feature.

    Returns
    -------
    DataFrame
        One row per feature: feature, num_regions, count, statistic (H), effect (H - k + 1) / (n - k), near 0
        without a difference and at most 1, p_value, p_adjusted. NaN with fewer than two regions.
    """
    import pandas as pd
    from scipy.stats import kruskal

    samples = _samples(values, labels, names, groups)
    rows = []
    for name in names:
        found = [sample[name] for sample in samples.values() if len(sample[name]) >= min_count]
        count, number = sum(map(len, found)), len(found)
        statistic, effect, p_value = np.nan, np.nan, np.nan
        if number >= 2 and count > number:
            # where all values are equal there is no difference to find, and no test
            statistic, p_value = (0.0, 1.0) if np.ptp(np.concatenate(found)) == 0 else kruskal(*found)
            effect = (statistic - number + 1) / (count - number)
        rows.append((name, number, count, statistic, effect, p_value))
    table = pd.DataFrame(rows, columns=["feature", "num_regions", "count", "statistic", "effect", "p_value"])
    return table.assign(p_adjusted=adjust_p_values(table["p_value"].to_numpy(), correction))


def dissimilarity_matrix(tests: "pd.DataFrame", feature: str, value: str = "effect") -> "pd.DataFrame":
    """The tests of one feature as a square table.

    Parameters
    ----------
    tests : DataFrame
        Of :func:`pairwise_tests`.
    feature : str
        Which feature.
    value : "effect" | "p_value" | "p_adjusted", default: "effect"
        What to show.

    Returns
    -------
    DataFrame
        Symmetric, regions by regions; on the diagonal 0 for effects and 1 for p-values.

    Raises
    ------
    InputError
        When there is no such feature or value.
    """
    if value not in ("effect", "p_value", "p_adjusted"):
        raise InputError(f'value must be "effect", "p_value" or "p_adjusted", got {value!r}.')
    found = tests[tests["feature"] == feature]
    if not len(found):
        raise InputError(f"There are no tests of {feature!r}, only of {tests['feature'].unique().tolist()}.")
    return _square(found.set_index(["region_a", "region_b"])[value], 0.0 if value == "effect" else 1.0)


def omnibus_dissimilarity(tests: "pd.DataFrame", summary: str = "effect", *, alpha: float = 0.05) -> "pd.DataFrame":
    """All features together as a square table.

    Parameters
    ----------
    tests : DataFrame
        Of :func:`pairwise_tests`.
    summary : "effect" | "num_significant" | "p_value", default: "effect"
        The mean effect; in how many features the adjusted p-value is below `alpha`; or the p-value of "the regions
        differ in no feature": the smallest p-value times the number of features, at most 1, which holds for dependent
        features, adjusted for the number of pairs by the false discovery rate.
    alpha : float, default: 0.05
        Level for "num_significant".

    Returns
    -------
    DataFrame
        Symmetric, regions by regions; NaN where no feature could be tested.

    Raises
    ------
    InputError
        When the summary is unknown.
    """
    if summary not in SUMMARIES:
        raise InputError(f"summary must be one of {SUMMARIES}, got {summary!r}.")
    pairs = tests.assign(significant=tests["p_adjusted"] < alpha).groupby(["region_a", "region_b"])
    if summary == "effect":
        return _square(pairs["effect"].mean(), 0.0)
    tested = pairs["p_value"].count()
    if summary == "num_significant":
        return _square(pairs["significant"].sum().where(tested > 0), 0.0)
    p_values = (pairs["p_value"].min() * tested).clip(upper=1.0)
    p_values[:] = adjust_p_values(p_values.to_numpy(), "fdr")
    return _square(p_values, 1.0)


def _samples(values, labels, names, groups):
    """Finite values of each feature in each region: {region: {name: array}}."""
    values, labels = np.asarray(values, dtype="float64"), np.asarray(labels)
    if values.ndim != 2 or values.shape != (len(labels), len(names)):
        raise InputError(
            f"values must have one row per label and one column per name ({len(labels)}, {len(names)}), got "
            f"{values.shape}."
        )
    if len(set(names)) < len(names):
        raise InputError(f"Every feature needs a name of its own, got {list(names)}.")
    regions = [region for region in np.unique(labels).tolist() if region != ""]
    if len(regions) < 2:
        raise InputError(f"At least two regions are needed to compare them, got {regions}.")
    if groups is not None and len(groups) != len(labels):
        raise InputError(f"groups must have one entry per unit, {len(labels)}, got {len(groups)}.")
    samples = {}
    for region in regions:
        mine = values[labels == region]
        if groups is not None:
            mine = _medians(mine, np.asarray(groups)[labels == region])
        samples[region] = {name: column[np.isfinite(column)] for name, column in zip(names, mine.T, strict=True)}
    return samples


def _medians(values, groups):
    import pandas as pd

    return pd.DataFrame(values).groupby(groups).median().to_numpy()


def _two_samples(a, b, test):
    from scipy.stats import ks_2samp, mannwhitneyu

    if test == "ks":
        method = "exact" if len(a) * len(b) <= EXACT_PRODUCT else "asymp"
        with warnings.catch_warnings():
            # where ties make the exact count fail, SciPy goes on with the asymptotic one, as it should
            warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
            found = ks_2samp(a, b, method=method)
        return found.statistic, found.statistic, found.pvalue
    found = mannwhitneyu(a, b)
    return found.statistic, abs(2 * found.statistic / (len(a) * len(b)) - 1), found.pvalue


def _square(pairs, diagonal):
    """Values by pairs of regions as a symmetric table."""
    table = pairs.unstack()
    regions = sorted({*table.index, *table.columns})
    upper = table.reindex(index=regions, columns=regions).to_numpy(dtype="float64")
    square = np.where(np.isnan(upper), upper.T, upper)
    np.fill_diagonal(square, diagonal)
    return type(table)(square, index=regions, columns=regions)
