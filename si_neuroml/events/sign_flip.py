"""How many found events are noise? The scores of the trace turned upside down tell, without any label.

Events point one way, noise as often up as down. A network is no linear filter, so that the scores of the turned trace
are not the negative of those of the trace: the network is run on both. Around every place the higher of the two scores
wins. A win of the turned trace, a *decoy*, is noise; noise wins for the trace, as a *target*, just as often. The number
of decoys above a threshold therefore estimates the number of false ones among the targets (Elias & Gygi 2007; Barber &
Candes 2015, eq. 2.5). That both compete for a place keeps the dips that events leave in the turned trace out.

What this cannot count: anything that, like an event, is found on one side only, such as movement that always darkens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .threshold import largest_extrema, sign_flip_threshold

__all__ = ["Competition", "compete", "local_calibration", "silent_threshold"]

MIN_FOR_CALIBRATION = 20
# a calibration steeper than this, per sd of the scores, is a step
STEEPEST = 20.0
# the tail of the noise's scores is measured on so many of the highest
NUM_TAIL = 50
# how likely noise in a whole recording may reach the threshold of a silent one
SILENT_PROBABILITY = 0.01


class Competition(NamedTuple):
    """Which of a trace and its negative won, place by place, and the threshold that follows.

    Attributes
    ----------
    scores : float64 array, shape (num_places,)
        The higher of the two scores.
    is_target : bool array, shape (num_places,)
        Whether it is the score of the trace itself.
    threshold : float | None
        The lowest score whose expected share of noise is within the rate asked for; None where there is none.
    """

    scores: np.ndarray
    is_target: np.ndarray
    threshold: float | None

    def counts(self, threshold: float) -> tuple[int, int]:
        """Targets and decoys at a threshold or above."""
        high = self.scores >= threshold
        return int((high & self.is_target).sum()), int((high & ~self.is_target).sum())

    def lowest_rate(self) -> float:
        """The lowest false discovery rate that some threshold meets; 1 or more where nothing stands out."""
        target = self.is_target[np.argsort(-self.scores, kind="stable")]
        found = np.cumsum(target)
        return float(np.min((1 + np.cumsum(~target)) / np.maximum(found, 1), initial=np.inf))


def compete(scorer: Any, x_list: Sequence[np.ndarray], false_discovery_rate: float, min_distance: int) -> Competition:
    """Score traces and their negatives, and find the threshold of a false discovery rate.

    Parameters
    ----------
    scorer : object
        Scores conditioned traces, see :mod:`si_neuroml.events.networks`.
    x_list : sequence of float32 arrays, shape (num_channels, num_samples)
        Conditioned traces of one recording.
    false_discovery_rate : float
        Between 0 and 1. A rate of q can be met by no fewer than 1 / q events.
    min_distance : int
        One place is so many samples to either side.

    Returns
    -------
    Competition

    Raises
    ------
    InputError
        On a rate or a distance out of range.
    """
    pairs = [(scorer.scores(x), scorer.scores(-x)) for x in x_list]
    # scores may be of either sign: counted from below the lowest, the sign is free to tell who won
    floor = min(float(np.maximum(*pair).min()) for pair in pairs) - 1.0
    signed = [np.where(own >= turned, own - floor, floor - turned).astype("float32") for own, turned in pairs]
    threshold = sign_flip_threshold(signed, false_discovery_rate, min_distance)
    winners = np.concatenate([part[largest_extrema(part, min_distance)] for part in signed]).astype("float64")
    scores = np.abs(winners) + floor
    if threshold is not None:
        # half way to the next lower score, so that rounding elsewhere changes nothing
        lower = scores[np.abs(winners) < threshold]
        threshold += floor
        threshold = 0.5 * (threshold + lower.max()) if len(lower) else threshold
    return Competition(scores, winners > 0, threshold)


def local_calibration(competition: Competition) -> tuple[float, float] | None:
    """Slope and intercept of the log odds that a found target is an event rather than noise.

    Each decoy above the threshold stands for one target there that is noise. The loss of a logistic regression on the
    unknown truth of the targets, as it is expected to be, is then the sum of softplus(-z) over targets and of z over
    decoys, z being the log odds: an unbiased estimate, as for learning from positive and unlabelled examples (du
    Plessis et al. 2015). The probabilities add up to the estimated number of true ones.

    Parameters
    ----------
    competition : Competition
        Of a recording and a rate.

    Returns
    -------
    (float, float) | None
        None where fewer than 20 targets were found.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    if competition.threshold is None or competition.counts(competition.threshold)[0] < MIN_FOR_CALIBRATION:
        return None
    found = competition.scores >= competition.threshold
    targets, decoys = (competition.scores[found & kind] for kind in (competition.is_target, ~competition.is_target))
    center, scale = targets.mean(), max(targets.std(), 1e-12)
    u, v = (targets - center) / scale, (decoys - center) / scale

    def loss(parameters):
        z = parameters[0] * u + parameters[1]
        total = np.logaddexp(0.0, -z).sum() + parameters[0] * v.sum() + parameters[1] * len(v)
        residual = expit(z) - 1.0
        gradient = np.array([residual @ u + v.sum(), residual.sum() + len(v)])
        return total / len(u), gradient / len(u)

    bounds = [(0.0, STEEPEST), (-STEEPEST, STEEPEST)]
    slope, intercept = minimize(loss, [1.0, 0.0], jac=True, bounds=bounds, method="L-BFGS-B").x
    return float(slope / scale), float(intercept - slope / scale * center)


def silent_threshold(competition: Competition, num_times: float) -> float:
    """A threshold that noise alone does not reach.

    Above every score of either kind, and so high that, with the exponential tail of the highest scores, a recording
    some times as long as what was looked at reaches it with a probability of 1 %.

    Parameters
    ----------
    competition : Competition
        Of a recording in which nothing stands out.
    num_times : float
        Length of the recording in units of what was looked at, at least 1.

    Returns
    -------
    float
    """
    highest = np.sort(competition.scores)[-NUM_TAIL - 1 :]
    mean_excess = float((highest - highest[0]).mean()) or 1.0
    return float(highest[-1] + mean_excess * np.log(max(num_times, 1.0) / SILENT_PROBABILITY))
