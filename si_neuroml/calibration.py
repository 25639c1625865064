"""Are probabilities what they claim to be? Coverage, reliability curves, temperatures, simulation-based calibration.

A posterior is calibrated when its region of probability p holds the truth in a share p of all cases. All of it follows
from the *level* of each case: the probability content of the smallest region that holds the truth (for places, see
:func:`si_neuroml.localization.posterior.region_levels`). Levels of a calibrated posterior are uniform on [0, 1]; small
regions (overconfidence) push them to 1, large ones to 0.

Cases are rarely independent: the spikes of one unit share a part of their error, so that 20,000 spikes of 50 units say
about as much as 50 cases. `groups` names the unit of each case, and intervals come from resampling whole units.
"""

import math
from typing import NamedTuple

import numpy as np

from .errors import InputError

__all__ = [
    "COVERAGE_LEVELS",
    "Coverage",
    "calibration_error",
    "coverage",
    "fit_temperature",
    "rank_statistics",
    "reliability_curve",
    "uniformity_p_value",
]

COVERAGE_LEVELS = (0.5, 0.8, 0.9, 0.95)
# below this expected count of a bin the chi-square distribution is no approximation any more (Cochran 1954)
MIN_EXPECTED = 5.0


class Coverage(NamedTuple):
    """Nominal against observed coverage.

    Attributes
    ----------
    nominal : float64 array, shape (num_levels,)
        Probability that the regions claim.
    observed : float64 array, shape (num_levels,)
        Share of the cases whose truth they hold.
    low, high : float64 array, shape (num_levels,)
        Confidence interval of `observed`; 0 and 1 where there is a single group.
    num : int
        Cases.
    num_groups : int
        Independent groups among them; `num` without groups.
    """

    nominal: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num: int
    num_groups: int


def coverage(
    levels: np.ndarray,
    nominal: tuple[float, ...] | np.ndarray = COVERAGE_LEVELS,
    *,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Coverage:
    """How often posterior regions hold the truth, with an interval.

    Parameters
    ----------
    levels : array, shape (num_cases,)
        Probability content at which the truth enters the region of each case, from 0 to 1.
    nominal : sequence of float, default: (0.5, 0.8, 0.9, 0.95)
        Probabilities of the regions, from 0 to 1.
    groups : int array, shape (num_cases,), optional
        Which cases share their error, for example the unit of each spike. Default: none do, and the interval is that of
        Wilson (1927) for a binomial share. With groups it is the percentile interval of a bootstrap over whole groups
        (Davison & Hinkley 1997, section 3.8).
    confidence, num_resamples, seed : default: 0.95, 2000, 0
        Of the interval and of the bootstrap.

    Returns
    -------
    Coverage

    Raises
    ------
    InputError
        On no cases, levels or probabilities outside [0, 1], or lengths that do not agree.
    """
    levels, nominal = _checked_levels(levels), np.asarray(nominal, dtype="float64")
    if nominal.ndim != 1 or not ((nominal >= 0) & (nominal <= 1)).all():
        raise InputError(f"nominal must hold probabilities from 0 to 1, got {nominal.tolist()!r}.")
    if not 0 < confidence < 1 or num_resamples < 1:
        raise InputError(f"confidence must lie in (0, 1), num_resamples from 1 on; got {confidence}, {num_resamples}.")
    hits = levels[:, None] <= nominal
    observed, count = hits.mean(axis=0), len(levels)
    if groups is None:
        return Coverage(nominal, observed, *_wilson(observed, count, confidence), count, count)
    members = _members(groups, count)
    if len(members) == 1:
        # one unit says nothing of how units differ
        return Coverage(nominal, observed, np.zeros(len(nominal)), np.ones(len(nominal)), count, 1)
    sums, sizes = np.stack([hits[own].sum(axis=0) for own in members]), np.array([len(own) for own in members])
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=num_resamples)
    shares = (draws @ sums) / (draws @ sizes)[:, None]
    low, high = np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Coverage(nominal, observed, low, high, count, len(members))


def reliability_curve(
    levels: np.ndarray,
    num: int = 51,
    *,
    groups: np.ndarray | None = None,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Coverage:
    """Coverage at evenly spaced probabilities from 0 to 1: the curve of a reliability plot, the diagonal if calibrated.

    Parameters
    ----------
    levels, groups, confidence, num_resamples, seed
        As for :func:`coverage`; `num_resamples` default: 1000.
    num : int, default: 51
        Points of the curve, at least 2.

    Returns
    -------
    Coverage
        The interval holds at each probability by itself, not for the curve as a whole.

    Raises
    ------
    InputError
        As :func:`coverage`, or on fewer than 2 points.
    """
    if num < 2:
        raise InputError(f"A curve needs at least 2 points, got num={num!r}.")
    options = {"groups": groups, "confidence": confidence, "num_resamples": num_resamples, "seed": seed}
    return coverage(levels, np.linspace(0.0, 1.0, num), **options)


def calibration_error(levels: np.ndarray) -> float:
    """Mean distance of observed from nominal coverage over all probabilities: 0 is calibrated, 0.5 the worst.

    The area between the reliability curve and the diagonal, which is the Wasserstein distance of the levels from the
    uniform distribution. n independent levels of a calibrated posterior have about 0.3 / sqrt(n).

    Parameters
    ----------
    levels : array, shape (num_cases,)
        As for :func:`coverage`; for ranks of :func:`rank_statistics` take (ranks + 0.5) / num_ranks.

    Returns
    -------
    float
    """
    levels = np.sort(_checked_levels(levels))
    edges = np.arange(len(levels) + 1) / len(levels)
    # integral of |level - q| over each quantile step [lower, upper], where q may cross the level
    below, above = levels - edges[:-1], edges[1:] - levels
    inside = (below > 0) & (above > 0)
    areas = np.where(inside, (below**2 + above**2) / 2, np.abs(above**2 - below**2) / 2)
    return float(areas.sum())


def fit_temperature(
    squared_distances: np.ndarray,
    dims: int,
    *,
    dof: np.ndarray | float | None = None,
    groups: np.ndarray | None = None,
    level: float | None = None,
) -> float:
    """The one factor on all standard deviations that calibrates Gaussian or Student t regions.

    Parameters
    ----------
    squared_distances : array, shape (num_cases,)
        (truth - mean)^T covariance^-1 (truth - mean) of each case.
    dims : int
        Number of coordinates in it.
    dof : float | array, shape (num_cases,), optional
        Degrees of freedom of a Student t with that *covariance*, above 2. Default: Gaussian.
    groups : int array, shape (num_cases,), optional
        Every group counts the same, however many cases it has. Default: every case does.
    level : float, optional
        Find the factor whose region of this probability holds this share of the truths. Default: maximum likelihood,
        for Gaussians the root mean square of what is standardised, which a few outliers can blow up.

    Returns
    -------
    float
        Above 1 where the posterior was too confident.

    Raises
    ------
    InputError
        On distances that are negative or not finite, dof of at most 2, or a level outside (0, 1).
    """
    squared = np.asarray(squared_distances, dtype="float64")
    if squared.ndim != 1 or not len(squared) or not (np.isfinite(squared) & (squared >= 0)).all() or dims < 1:
        text = "squared_distances must be finite and at least 0, shape (num_cases,), and dims at least 1;"
        raise InputError(f"{text} got shape {squared.shape}, dims {dims!r}.")
    dof = np.broadcast_to(np.inf if dof is None else np.asarray(dof, dtype="float64"), squared.shape)
    if not (dof > 2).all():
        raise InputError(f"A covariance needs dof above 2, the least is {dof.min():g}.")
    weights = np.full(len(squared), 1 / len(squared))
    if groups is not None:
        members = _members(groups, len(squared))
        for own in members:
            weights[own] = 1 / (len(own) * len(members))
    if level is not None:
        return _temperature_at(level, squared, dims, dof, weights)
    return _likeliest_temperature(squared, dims, dof, weights)


def rank_statistics(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Rank of the truth among posterior draws (Talts et al. 2018, algorithm 1).

    Uniform on 0 to num_draws when truth and data come from the model of the posterior, and the draws are independent
    draws from it.

    Parameters
    ----------
    samples : array, shape (num_cases, num_draws) or (num_cases, num_draws, num_parameters)
        Draws; thin those of a chain to about independent ones.
    truth : array, shape (num_cases,) or (num_cases, num_parameters)
        What they should be draws of.

    Returns
    -------
    int64 array, shaped like `truth`
        Number of draws below the truth.

    Raises
    ------
    InputError
        When shapes do not agree, or anything is NaN.
    """
    samples, truth = np.asarray(samples), np.asarray(truth)
    if samples.ndim not in (2, 3) or truth.shape != (len(samples), *samples.shape[2:]):
        raise InputError(f"samples of shape {samples.shape} and truth of shape {truth.shape} do not belong together.")
    if np.isnan(samples).any() or np.isnan(truth).any():
        raise InputError(
            f"{np.isnan(samples).sum()} of {samples.size} draws and {np.isnan(truth).sum()} truths are NaN."
        )
    return (samples < truth[:, None]).sum(axis=1).astype("int64")


def uniformity_p_value(ranks: np.ndarray, num_ranks: int, num_bins: int = 20) -> float:
    """The p value of a chi-square test that ranks are uniform on 0 to num_ranks - 1 (Talts et al. 2018, section 4).

    Parameters
    ----------
    ranks : int array, shape (num_cases,)
        As from :func:`rank_statistics`, of one parameter.
    num_ranks : int
        Number of draws + 1.
    num_bins : int, default: 20
        Bins; they hold numbers of ranks that differ by one at most.

    Returns
    -------
    float

    Raises
    ------
    InputError
        On ranks outside the range, or so few that a bin expects less than 5.
    """
    from scipy.stats import chisquare

    ranks = np.asarray(ranks)
    if ranks.ndim != 1 or ranks.dtype.kind not in "iu" or not len(ranks) or ranks.min() < 0 or ranks.max() >= num_ranks:
        raise InputError(f"ranks must be whole numbers from 0 to {num_ranks - 1}, shape (num_cases,).")
    if not 2 <= num_bins <= num_ranks:
        raise InputError(f"num_bins must lie between 2 and the {num_ranks} ranks, got {num_bins!r}.")
    of_rank = np.arange(num_ranks) * num_bins // num_ranks
    expected = len(ranks) * np.bincount(of_rank, minlength=num_bins) / num_ranks
    if expected.min() < MIN_EXPECTED:
        text = f"{len(ranks)} ranks in {num_bins} bins: the smallest expects {expected.min():.1f}, less than"
        raise InputError(f"{text} {MIN_EXPECTED:g}. Take fewer bins or more cases.")
    return float(chisquare(np.bincount(of_rank[ranks], minlength=num_bins), expected).pvalue)


def _checked_levels(levels):
    levels = np.asarray(levels, dtype="float64")
    if levels.ndim != 1 or not len(levels):
        raise InputError(f"levels must have the shape (num_cases,) with at least one case, got {levels.shape}.")
    wrong = ~((levels >= 0) & (levels <= 1))
    if wrong.any():
        text = f"{wrong.sum()} of {len(levels)} levels do not lie between 0 and 1."
        raise InputError(f"{text} Levels are probabilities, as from region_levels(), not distances.")
    return levels


def _members(groups, count):
    """Indices of the cases of each group."""
    groups = np.asarray(groups)
    if groups.shape != (count,):
        raise InputError(f"{count} cases and groups of shape {groups.shape}: give one group each.")
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _wilson(share, count, confidence):
    from scipy.stats import norm

    z = norm.ppf(0.5 + confidence / 2)
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return np.clip(center - half, 0.0, share), np.clip(center + half, share, 1.0)


def _temperature_at(level, squared, dims, dof, weights):
    from scipy.stats import chi2, f

    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level!r}.")
    radius, heavy = np.full(len(squared), chi2.ppf(level, dims)), np.isfinite(dof)
    radius[heavy] = dims * f.ppf(level, dims, dof[heavy]) * (dof[heavy] - 2) / dof[heavy]
    ratio = squared / radius
    order = np.argsort(ratio, kind="stable")
    # the ratio at which the weight of the cases inside reaches the level
    reached = np.searchsorted(np.cumsum(weights[order]), level * weights.sum() * (1 - 1e-12))
    return math.sqrt(ratio[order[min(reached, len(order) - 1)]])


def _likeliest_temperature(squared, dims, dof, weights):
    """Maximum of -dims log t - (dof + dims) / 2 log(1 + D / (t^2 (dof - 2))); its Gaussian limit in closed form."""
    from scipy.optimize import minimize_scalar

    gaussian = math.sqrt((weights @ squared) / dims)
    if not np.isfinite(dof).any() or gaussian == 0:
        return gaussian
    heavy, finite = np.isfinite(dof), np.where(np.isfinite(dof), dof, 3.0)

    def loss(log_t):
        scaled = squared * math.exp(-2 * log_t)
        tails = np.where(heavy, (finite + dims) / 2 * np.log1p(scaled / (finite - 2)), scaled / 2)
        return dims * log_t + weights @ tails

    start = math.log(gaussian)
    return math.exp(minimize_scalar(loss, bounds=(start - 5, start + 5), method="bounded", options={"xatol": 1e-8}).x)
