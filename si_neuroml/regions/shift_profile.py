"""What if the probe sat d um deeper? How well region probabilities of units fit the assigned regions, shifted by d.

Histology assigns a region to every place along a probe, and its error is mostly one shift of all of them. Units at
depth y sit, if the probe is d um deeper than assigned, in what was assigned to y - d (depths grow from the tip of the
probe upwards). The log-likelihood of d is the sum over units of the log of probability / prior of that region, with two
corrections, each of which finds more planted shifts. Neighbouring units are recorded and sorted together, so
that what votes is a stretch of the shank, however many units it has. And units of one recording err alike, as when a
higher gain makes them all look like thalamus, so that each region's mean evidence in the recording is taken out: what
counts is where along the shank it is above its mean.
"""

from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .depth import checked_units

__all__ = ["SHIFTS_UM", "ShiftProfile", "assigned_regions", "shift_profile"]

SMALLEST = 1e-4
SHIFTS_UM = np.arange(-600.0, 601.0, 20.0)


class ShiftProfile(NamedTuple):
    """How well each shift of one probe fits its units.

    Attributes
    ----------
    shifts_um : float64 array, shape (num_shifts,)
        Positive: the probe sits deeper than assigned.
    log_likelihood : float64 array, shape (num_shifts,)
        Tempered, up to a constant.
    log_odds : float64 array, shape (num_shifts,)
        Natural log of posterior odds against no shift.
    posterior : float64 array, shape (num_shifts,)
        Sums to 1 over the shifts.
    best_um : float
        The likeliest shift; the one closest to 0, should several be.
    low_um, high_um : float
        Ends of the central credible interval of 95 %, half way to the next shift outside: each shift stands for those
        nearer to it than to any other.
    num_units : int
        Units that say anything: with a depth, and in a region that the classifier knows at some shift.
    """

    shifts_um: np.ndarray
    log_likelihood: np.ndarray
    log_odds: np.ndarray
    posterior: np.ndarray
    best_um: float
    low_um: float
    high_um: float
    num_units: int


def shift_profile(
    probabilities: np.ndarray,
    depth_um: np.ndarray,
    assigned_depth_um: np.ndarray,
    assigned: np.ndarray,
    *,
    shifts_um: np.ndarray = SHIFTS_UM,
    vote_um: float = 40.0,
    emission_power: float = 1.5,
    prior_sd_um: float | None = None,
    confidence: float = 0.95,
) -> ShiftProfile:
    """Fit of the assigned regions of one shank to its units, for each shift.

    Parameters
    ----------
    probabilities : array, shape (num_units, num_regions)
        Calibrated, of each unit by itself: smoothed ones would count their neighbours twice.
    depth_um : array, shape (num_units,)
        From the tip upwards; units with NaN take no part.
    assigned_depth_um : array, shape (num_places,)
        Where along the shank regions are assigned, for example the depths of its channels; in any order.
    assigned : int array, shape (num_places,)
        Index of the region there, -1 for one that the classifier does not know (it fits every unit equally well). Each
        holds half way to the next place, and the outermost ones go on beyond the ends.
    shifts_um : array, shape (num_shifts,), default: -600 to 600 in steps of 20
        Must hold 0.
    vote_um : float, default: 40
        A unit's weight is 1 / (sum over units of Gaussian weights of this standard deviation in depth): a stretch of
        2.5 times the length has one vote.
    emission_power : float, default: 1.5
        Power of these votes. Changes how sure the profile is, not its maximum; with the default the 95 % intervals
        hold about that share of the shifts planted on recordings of the International Brain Laboratory.
    prior_sd_um : float, optional
        Standard deviation of shifts believed beforehand, Gaussian about 0. Default: all shifts are equally likely.
    confidence : float, default: 0.95
        Of the interval.

    Returns
    -------
    ShiftProfile

    Raises
    ------
    InputError
        On shapes that do not agree, shifts without 0, or no unit with a depth.
    """
    probabilities, depth_um, _ = checked_units(probabilities, depth_um, np.zeros(len(probabilities), dtype=int))
    shifts_um = np.sort(np.asarray(shifts_um, dtype="float64"))
    at_zero = np.flatnonzero(shifts_um == 0)
    if len(at_zero) != 1 or not np.isfinite(shifts_um).all():
        raise InputError(f"shifts_um must be finite and hold 0 once, got {shifts_um.tolist()!r}.")
    num_regions, placed = probabilities.shape[1], np.isfinite(depth_um)
    if not placed.any():
        raise InputError(f"None of {len(placed)} units has a depth: there is nothing to shift.")
    if not vote_um > 0 or not emission_power > 0:
        raise InputError(f"vote_um and emission_power must be above 0, got {vote_um!r} and {emission_power!r}.")
    depth_um = depth_um[placed]
    distance = (depth_um[:, None] - depth_um) / vote_um
    votes = emission_power / np.exp(-0.5 * distance**2).sum(axis=1)
    logs = np.log(np.maximum(probabilities[placed], SMALLEST))
    scores = votes[:, None] * (logs - np.average(logs, axis=0, weights=votes))
    # a last column of 0 for regions that the classifier does not know, found at index -1
    scores = np.column_stack([scores, np.zeros(len(scores))])
    regions = np.array(
        [assigned_regions(depth_um - shift, assigned_depth_um, assigned, num_regions) for shift in shifts_um]
    )
    log_likelihood = np.take_along_axis(scores[None], regions[:, :, None], axis=2)[:, :, 0].sum(axis=1)
    log_posterior = log_likelihood - log_likelihood.max()
    if prior_sd_um is not None:
        log_posterior = log_posterior - 0.5 * (shifts_um / prior_sd_um) ** 2
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    near = np.flatnonzero(log_posterior >= log_posterior.max() - 1e-9)
    below = np.cumsum(posterior)
    first, last = np.searchsorted(below, [(1 - confidence) / 2, (1 + confidence) / 2 - 1e-12])
    edges = np.concatenate([shifts_um[:1], (shifts_um[1:] + shifts_um[:-1]) / 2, shifts_um[-1:]])
    return ShiftProfile(
        shifts_um,
        log_likelihood,
        log_posterior - log_posterior[at_zero[0]],
        posterior,
        float(shifts_um[near[np.argmin(np.abs(shifts_um[near]))]]),
        float(edges[first]),
        float(edges[min(last, len(shifts_um) - 1) + 1]),
        int((regions >= 0).any(axis=0).sum()),
    )


def assigned_regions(
    depth_um: np.ndarray, assigned_depth_um: np.ndarray, assigned: np.ndarray, num_regions: int
) -> np.ndarray:
    """Region assigned to the place nearest to each depth.

    Parameters
    ----------
    depth_um : array, shape (num_units,)
        Finite.
    assigned_depth_um, assigned
        As for :func:`shift_profile`. Of places at one depth the first counts.
    num_regions : int
        Indices are below it.

    Returns
    -------
    int64 array, shape (num_units,)
        -1 where the region is not known.

    Raises
    ------
    InputError
        On no places, shapes that do not agree, or other indices.
    """
    places, assigned = np.asarray(assigned_depth_um, dtype="float64"), np.asarray(assigned)
    if places.ndim != 1 or assigned.shape != places.shape or not len(places) or not np.isfinite(places).all():
        text = "assigned_depth_um must be finite, shape (num_places,), with one region each;"
        raise InputError(f"{text} got shapes {places.shape} and {assigned.shape}.")
    if assigned.dtype.kind not in "iu" or assigned.min() < -1 or assigned.max() >= num_regions:
        raise InputError(f"assigned must hold indices from -1 to {num_regions - 1}, got {np.unique(assigned)!r}.")
    places, first = np.unique(places, return_index=True)
    return assigned[first][np.searchsorted((places[1:] + places[:-1]) / 2, depth_um)].astype("int64")
