"""Neighbours along a probe mostly sit in one region: smooth the region probabilities of units along each shank.

Two ways. A Gaussian mean of log-probabilities, which needs a width only; and a hidden Markov model whose state is the
region. In the model a region lasts: between two units a distance `gap` apart nothing changes with probability
exp(-gap / stay_um), and at each change the next region is drawn from a row of `transitions`. Going up the shank this is
a Markov process in continuous depth, with the matrix expm(gap / stay_um * (transitions - 1)), so that a unit more or
less in between changes nothing for the others. The units' own probabilities enter as soft evidence, raised to a power
below 1, because neighbours are recorded and sorted together and err together.

Depths are in um and grow from the tip of the probe upwards, as SpikeInterface's y. A *track* is one shank of one
recording. Units without a depth take no part and keep their probabilities.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numba
import numpy as np

from ..errors import InputError
from .markov import forward_backward, kernels_of_gaps

__all__ = ["DepthGaussian", "DepthHMM", "depth_model", "gaussian_smooth", "hmm_smooth", "sharpen"]

# log-probabilities stop here: trees give exact zeros, and one of them must not rule a region out for a whole shank
SMALLEST = 1e-6
# a Gaussian weight is left out beyond this many standard deviations
REACH_SD = 4.0


@dataclass(frozen=True)
class DepthGaussian:
    """Gaussian mean of log-probabilities along each shank.

    Attributes
    ----------
    sd_um : float, default: 60
        Standard deviation of the weights.
    temperature : float, default: 1
        What comes out is raised to the power 1 / temperature; below 1 where averaging has made it too timid.
    outlier_share : float, default: 0
        Share of units that, however sure their neighbours are, could be anywhere: a probe elsewhere than histology has
        it, a unit of another region among them. Their part of the probability is spread evenly over the regions.
    """

    sd_um: float = 60.0
    temperature: float = 1.0
    outlier_share: float = 0.0

    def __post_init__(self):
        _check_positive(sd_um=self.sd_um, temperature=self.temperature)
        _check_share(outlier_share=self.outlier_share)

    def smooth(self, probabilities: np.ndarray, depth_um: np.ndarray, track: np.ndarray) -> np.ndarray:
        """Smoothed probabilities: :func:`gaussian_smooth`, then temperature and outliers where a depth is known."""
        smoothed = gaussian_smooth(probabilities, depth_um, track, sd_um=self.sd_um)
        return _correct_placed(smoothed, depth_um, self.temperature, self.outlier_share)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for :func:`depth_model`."""
        return {"method": "gaussian", **asdict(self)}


@dataclass(frozen=True)
class DepthHMM:
    """Hidden Markov model along each shank; see the module's text.

    Attributes
    ----------
    stay_um : float, default: 800
        Mean distance between changes of region, as the model counts them (with uniform transitions a change may lead
        back to the same region).
    emission_power : float, default: 0.25
        Power of the units' evidence, from 0 (ignored) to 1 (independent witnesses).
    prior : tuple of float, length num_regions, optional
        Shares of the regions under which the units' probabilities were made: they are divided by them to give evidence,
        and the lowest unit starts from them. Default: uniform.
    transitions : tuple of tuples of float, (num_regions, num_regions), optional
        Row r: the region that follows r, going up. Default: `prior`, whatever the region before.
    temperature : float, default: 1
        What comes out is raised to the power 1 / temperature.
    outlier_share : float, default: 0
        As for :class:`DepthGaussian`.
    """

    stay_um: float = 800.0
    emission_power: float = 0.25
    prior: tuple[float, ...] | None = None
    transitions: tuple[tuple[float, ...], ...] | None = None
    temperature: float = 1.0
    outlier_share: float = 0.0

    def __post_init__(self):
        _check_positive(stay_um=self.stay_um, temperature=self.temperature)
        _check_share(emission_power=self.emission_power, outlier_share=self.outlier_share)
        if self.prior is not None:
            object.__setattr__(self, "prior", tuple(_shares("prior", self.prior, None).tolist()))
        if self.transitions is not None:
            rows = np.asarray(self.transitions, dtype="float64")
            if rows.ndim != 2 or rows.shape[0] != rows.shape[1]:
                raise InputError(f"transitions must have the shape (num_regions, num_regions), got {rows.shape}.")
            rows = tuple(tuple(_shares("transitions", row, None).tolist()) for row in rows)
            object.__setattr__(self, "transitions", rows)

    def smooth(self, probabilities: np.ndarray, depth_um: np.ndarray, track: np.ndarray) -> np.ndarray:
        """Smoothed probabilities: :func:`hmm_smooth`, then temperature and outliers where a depth is known."""
        own = {key: getattr(self, key) for key in ("stay_um", "emission_power", "prior", "transitions")}
        smoothed = hmm_smooth(probabilities, depth_um, track, **own)
        return _correct_placed(smoothed, depth_um, self.temperature, self.outlier_share)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for :func:`depth_model`."""
        return {"method": "hmm", **asdict(self)}


def depth_model(settings: Mapping[str, Any]) -> DepthGaussian | DepthHMM:
    """The model that :meth:`DepthGaussian.to_dict` or :meth:`DepthHMM.to_dict` has written.

    Parameters
    ----------
    settings : dict
        With ``method``, "gaussian" or "hmm".

    Returns
    -------
    DepthGaussian | DepthHMM

    Raises
    ------
    InputError
        On another method.
    """
    kinds = {"gaussian": DepthGaussian, "hmm": DepthHMM}
    if settings.get("method") not in kinds:
        raise InputError(f"Depth methods are {sorted(kinds)}, got {settings.get('method')!r}.")
    return kinds[settings["method"]](**{key: value for key, value in settings.items() if key != "method"})


def gaussian_smooth(
    probabilities: np.ndarray, depth_um: np.ndarray, track: np.ndarray, *, sd_um: float = 60.0
) -> np.ndarray:
    """Mean of log-probabilities with Gaussian weights in depth, within each shank.

    Parameters
    ----------
    probabilities : array, shape (num_units, num_regions)
        Rows sum to 1.
    depth_um : array, shape (num_units,)
        NaN where not known.
    track : int array, shape (num_units,)
        Shank of each unit, one number per shank of each recording.
    sd_um : float, default: 60
        Standard deviation of the weights.

    Returns
    -------
    float64 array, shape (num_units, num_regions)
        Rows sum to 1.

    Raises
    ------
    InputError
        On shapes that do not agree, or rows that are no probabilities.
    """
    probabilities, depth_um, track = checked_units(probabilities, depth_um, track)
    _check_positive(sd_um=sd_um)
    order, starts = tracks_in_order(depth_um, track)
    smoothed = probabilities.copy()
    means = _gaussian_means(np.log(np.maximum(probabilities[order], SMALLEST)), depth_um[order], starts, sd_um)
    smoothed[order] = _from_logs(means)
    return smoothed


def hmm_smooth(
    probabilities: np.ndarray,
    depth_um: np.ndarray,
    track: np.ndarray,
    *,
    stay_um: float = 800.0,
    emission_power: float = 0.25,
    prior: np.ndarray | None = None,
    transitions: np.ndarray | None = None,
) -> np.ndarray:
    """Probability of each unit's region given all units of its shank (forward-backward; Rabiner 1989, section III).

    Parameters
    ----------
    probabilities, depth_um, track
        As for :func:`gaussian_smooth`.
    stay_um, emission_power, prior, transitions
        As for :class:`DepthHMM`. Units at one depth are in one region.

    Returns
    -------
    float64 array, shape (num_units, num_regions)
        Rows sum to 1. A unit alone on its shank gets prior * (probability / prior) ** emission_power, normalised.

    Raises
    ------
    InputError
        As :func:`gaussian_smooth`, or on shares that do not fit the regions.
    """
    probabilities, depth_um, track = checked_units(probabilities, depth_um, track)
    own = DepthHMM(stay_um, emission_power, prior, transitions)
    order, starts = tracks_in_order(depth_um, track)
    if not len(order):
        return probabilities
    prior = regions_prior(own, probabilities.shape[1])
    kernels, which = transition_kernels(own, prior, depth_um[order], starts)
    smoothed = probabilities.copy()
    logs = log_evidence(probabilities[order], prior, emission_power)
    emissions = np.exp(logs - logs.max(axis=1, keepdims=True))
    smoothed[order] = forward_backward(emissions, prior, kernels, which, starts)
    return smoothed


def sharpen(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities to the power 1 / temperature, rows summing to 1 again.

    Parameters
    ----------
    probabilities : array, shape (..., num_regions)
    temperature : float
        Above 1 flattens, below 1 sharpens.

    Returns
    -------
    float64 array, like `probabilities`
    """
    return _from_logs(np.log(np.maximum(probabilities, SMALLEST)) / temperature)


def checked_units(probabilities, depth_um, track):
    """The three as float64, float64 and integer codes, or an InputError that says which is wrong."""
    probabilities = np.array(probabilities, dtype="float64")
    depth_um, track = np.asarray(depth_um, dtype="float64"), np.asarray(track)
    if probabilities.ndim != 2 or probabilities.shape[1] < 1:
        raise InputError(f"probabilities must have the shape (num_units, num_regions), got {probabilities.shape}.")
    if depth_um.shape != (len(probabilities),) or track.shape != (len(probabilities),):
        text = f"{len(probabilities)} rows of probabilities need one depth and one track each;"
        raise InputError(f"{text} got depth_um of shape {depth_um.shape} and track of shape {track.shape}.")
    wrong = ~((probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < 1e-3))
    if wrong.any():
        text = f"{wrong.sum()} of {len(wrong)} rows are no probabilities (negative, NaN, or a sum other than 1),"
        raise InputError(f"{text} the first is row {np.flatnonzero(wrong)[0]}.")
    return probabilities, depth_um, np.unique(track, return_inverse=True)[1].reshape(-1)


def tracks_in_order(depth_um, track):
    """Units with a depth, shank after shank from the tip up: their indices, and where each shank starts and ends."""
    placed = np.flatnonzero(np.isfinite(depth_um))
    order = placed[np.lexsort((depth_um[placed], track[placed]))]
    changes = np.flatnonzero(np.diff(track[order])) + 1
    return order, np.concatenate([[0], changes, [len(order)]]).astype("int64")


def regions_prior(model, num_regions):
    """Prior of a DepthHMM as an array; uniform where it has none."""
    if model.transitions is not None and len(model.transitions) != num_regions:
        raise InputError(f"transitions are for {len(model.transitions)} regions, probabilities for {num_regions}.")
    return _shares("prior", np.full(num_regions, 1 / num_regions) if model.prior is None else model.prior, num_regions)


def log_evidence(probabilities, prior, power):
    """Tempered log-likelihood of each region relative to that of the unit at large: probability / prior (Bayes)."""
    return power * (np.log(np.maximum(probabilities, SMALLEST)) - np.log(np.maximum(prior, SMALLEST)))


def transition_kernels(model, prior, depth_um, starts):
    """Matrices of the distinct gaps, and which of them leads to each unit from the one below.

    Without `transitions` the exponential has a closed form. With them gaps are rounded to 1 um.
    """
    gaps = np.diff(depth_um, prepend=depth_um[:1])
    gaps[starts[:-1]] = 0.0
    if model.transitions is not None:
        gaps = np.round(gaps)
    gaps, which = np.unique(gaps, return_inverse=True)
    steps, same = gaps[:, None, None] / model.stay_um, np.eye(len(prior))
    if model.transitions is None:
        return np.exp(-steps) * same - np.expm1(-steps) * prior, which.astype("int64")
    return kernels_of_gaps(gaps.astype("int64"), model.stay_um, np.array(model.transitions)), which.astype("int64")


def _shares(name, values, length):
    values = np.asarray(values, dtype="float64")
    if values.ndim != 1 or (length is not None and len(values) != length):
        raise InputError(f"{name} must hold {length or 'num_regions'} shares, got shape {values.shape}.")
    if not (np.isfinite(values) & (values >= 0)).all() or abs(values.sum() - 1) > 1e-6:
        raise InputError(f"{name} must be at least 0 and sum to 1, got {values.tolist()!r}.")
    return values


def _check_positive(**values):
    for name, value in values.items():
        if not value > 0 or not np.isfinite(value):
            raise InputError(f"{name} must be a finite number above 0, got {value!r}.")


def _check_share(**values):
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name} must lie between 0 and 1, got {value!r}.")


def _from_logs(logs):
    values = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return values / values.sum(axis=-1, keepdims=True)


def _correct_placed(probabilities, depth_um, temperature, outlier_share):
    if temperature != 1.0 or outlier_share:
        placed = np.isfinite(np.asarray(depth_um, dtype="float64"))
        sharp = sharpen(probabilities[placed], temperature)
        probabilities[placed] = (1 - outlier_share) * sharp + outlier_share / probabilities.shape[1]
    return probabilities


@numba.njit(nogil=True)
def _gaussian_means(logs, depth_um, starts, sd_um):
    means = np.zeros_like(logs)
    for one in range(len(starts) - 1):
        first = starts[one]
        for unit in range(starts[one], starts[one + 1]):
            while depth_um[first] < depth_um[unit] - REACH_SD * sd_um:
                first += 1
            other, total = first, 0.0
            while other < starts[one + 1] and depth_um[other] <= depth_um[unit] + REACH_SD * sd_um:
                weight = np.exp(-0.5 * ((depth_um[other] - depth_um[unit]) / sd_um) ** 2)
                total += weight
                for region in range(logs.shape[1]):
                    means[unit, region] += weight * logs[other, region]
                other += 1
            for region in range(logs.shape[1]):
                means[unit, region] /= total
    return means
