"""Where along a shank one region ends and the next begins, and how sure that is.

First the likeliest sequence of regions under the hidden Markov model of :mod:`si_neuroml.regions.depth` (Viterbi).
Given the sequence, a boundary can lie between any two units of different depth, and forward-backward over the
segments of the sequence says with what probability: a posterior over positions rather than one number.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .depth import DepthHMM, checked_units, log_evidence, regions_prior, tracks_in_order, transition_kernels

__all__ = ["RegionBoundary", "most_likely_regions", "region_boundaries"]


class RegionBoundary(NamedTuple):
    """One boundary on one shank, between regions that follow each other in the likeliest sequence as a whole.

    The sequence (Viterbi) and the regions that each unit most likely is in by itself (the marginals that
    :func:`~si_neuroml.regions.depth.hmm_smooth` gives) may disagree: near a boundary, or about a thin region.

    Attributes
    ----------
    track : int
        As given.
    below, above : int
        Indices of the regions on the side of the tip, and on the other.
    depth_um : float
        Median of the posterior.
    low_um, high_um : float
        Ends of the central credible interval of 95 %.
    edges_um : float64 array, shape (num_gaps + 1,)
        The distinct depths of units: a boundary lies between two of them, anywhere in the gap alike.
    posterior : float64 array, shape (num_gaps,)
        Probability of each gap, given the sequence of regions.
    """

    track: int
    below: int
    above: int
    depth_um: float
    low_um: float
    high_um: float
    edges_um: np.ndarray
    posterior: np.ndarray


def most_likely_regions(
    probabilities: np.ndarray, depth_um: np.ndarray, track: np.ndarray, model: DepthHMM | None = None
) -> np.ndarray:
    """The likeliest joint labelling of each shank (Viterbi 1967).

    Where :func:`~si_neuroml.regions.depth.hmm_smooth` gives each unit's own probabilities, this gives one sequence that
    fits as a whole.

    Parameters
    ----------
    probabilities, depth_um, track
        As for :func:`~si_neuroml.regions.depth.hmm_smooth`.
    model : DepthHMM, optional
        Default: that of the default parameters.

    Returns
    -------
    int64 array, shape (num_units,)
        Index of the region; for units without a depth their own likeliest.

    Raises
    ------
    InputError
        As :func:`~si_neuroml.regions.depth.hmm_smooth`, or when the model is none with regions as states.
    """
    model = _as_hmm(model)
    probabilities, depth_um, track = checked_units(probabilities, depth_um, track)
    regions = probabilities.argmax(axis=1)
    order, starts = tracks_in_order(depth_um, track)
    if not len(order):
        return regions
    prior = regions_prior(model, probabilities.shape[1])
    kernels, which = transition_kernels(model, prior, depth_um[order], starts)
    evidence = log_evidence(probabilities[order], prior, model.emission_power)
    with np.errstate(divide="ignore"):
        log_kernels, log_prior = np.log(kernels), np.log(prior)
    for first, last in pairwise(starts):
        regions[order[first:last]] = _viterbi(evidence[first:last], log_prior, log_kernels, which[first:last])
    return regions


def region_boundaries(
    probabilities: np.ndarray,
    depth_um: np.ndarray,
    track: np.ndarray,
    model: DepthHMM | None = None,
    *,
    confidence: float = 0.95,
) -> list[RegionBoundary]:
    """Boundaries of all shanks, from the tip up.

    Parameters
    ----------
    probabilities, depth_um, track, model
        As for :func:`most_likely_regions`.
    confidence : float, default: 0.95
        Of the intervals. They hold given the sequence of regions: a region too many or too few is not in them.

    Returns
    -------
    list of RegionBoundary

    Raises
    ------
    InputError
        As :func:`most_likely_regions`.
    """
    model = _as_hmm(model)
    names = np.asarray(track)
    probabilities, depth_um, track = checked_units(probabilities, depth_um, track)
    regions = most_likely_regions(probabilities, depth_um, track, model)
    prior = regions_prior(model, probabilities.shape[1])
    evidence = log_evidence(probabilities, prior, model.emission_power)
    order, starts = tracks_in_order(depth_um, track)
    boundaries = []
    for first, last in pairwise(starts):
        own = order[first:last]
        changes = np.flatnonzero(np.diff(regions[own]))
        if not len(changes):
            continue
        sequence = regions[own][np.concatenate([[0], changes + 1])]
        # units at one depth are one step: their evidence adds up
        edges, level = np.unique(depth_um[own], return_inverse=True)
        steps = np.zeros((len(edges), len(sequence)))
        np.add.at(steps, level, evidence[own][:, sequence])
        kernels, which = transition_kernels(model, prior, edges, np.array([0, len(edges)]))
        kernels = kernels[which]
        with np.errstate(divide="ignore"):
            stay = np.log(kernels[:, sequence, sequence])
            move = np.log(kernels[:, sequence[:-1], sequence[1:]])
        for k, posterior in enumerate(_posteriors(steps, stay, move)):
            ends = (1 - confidence) / 2, 0.5, (1 + confidence) / 2
            low, median, high = np.interp(ends, np.concatenate([[0.0], np.cumsum(posterior)]), edges).tolist()
            pair = (names[own[0]].item(), int(sequence[k]), int(sequence[k + 1]))
            boundaries.append(RegionBoundary(*pair, median, low, high, edges, posterior))
    return boundaries


def _as_hmm(model):
    if model is None:
        return DepthHMM()
    if not isinstance(model, DepthHMM):
        raise InputError(f"Boundaries need a DepthHMM (or None for the default one), got {type(model).__name__}.")
    return model


def _viterbi(evidence, log_prior, log_kernels, which):
    score, back = log_prior + evidence[0], np.zeros(evidence.shape, dtype="int64")
    for unit in range(1, len(evidence)):
        candidates = score[:, None] + log_kernels[which[unit]]
        back[unit] = candidates.argmax(axis=0)
        score = candidates.max(axis=0) + evidence[unit]
    path = np.empty(len(evidence), dtype="int64")
    path[-1] = score.argmax()
    for unit in range(len(evidence) - 1, 0, -1):
        path[unit - 1] = back[unit, path[unit]]
    return path


def _posteriors(steps, stay, move):
    """Probability of each gap for each boundary, when segments follow each other in the given order.

    `stay` and `move` hold log-probabilities of the step to each depth, within a segment and to the next.
    """
    num_steps, num_segments = steps.shape
    forward, backward = np.full((num_steps, num_segments), -np.inf), np.full((num_steps, num_segments), -np.inf)
    forward[0, 0], backward[-1, -1] = steps[0, 0], 0.0
    for k in range(1, num_steps):
        forward[k] = forward[k - 1] + stay[k]
        forward[k, 1:] = np.logaddexp(forward[k, 1:], forward[k - 1, :-1] + move[k])
        forward[k] += steps[k]
    for k in range(num_steps - 2, -1, -1):
        ahead = backward[k + 1] + steps[k + 1]
        backward[k] = ahead + stay[k + 1]
        backward[k, :-1] = np.logaddexp(backward[k, :-1], ahead[1:] + move[k + 1])
    logs = forward[:-1, :-1] + move[1:] + steps[1:, 1:] + backward[1:, 1:]
    weights = np.exp(logs - logs.max(axis=0))
    return (weights / weights.sum(axis=0)).T
