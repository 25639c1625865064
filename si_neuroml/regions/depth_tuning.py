"""Choose the parameters of depth smoothing on training animals: the log-loss of what comes out, as small as can be.

Probabilities must be out-of-fold, that is, from classifiers that did not see the animal of the unit: those of a
classifier's own training units are far too sure, and the smoothing tuned to them trusts single units too much.
"""

import numba
import numpy as np

from ..errors import InputError, TrainingError
from .depth import SMALLEST, DepthGaussian, DepthHMM, checked_units, tracks_in_order

__all__ = ["learn_transitions", "tune_depth"]

WIDTHS_UM = (20.0, 40.0, 80.0, 160.0, 320.0)
STAYS_UM = (200.0, 400.0, 800.0, 1600.0, 3200.0)
POWERS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
# of the temperature, as a power of e
LOG_TEMPERATURES = (-3.0, 3.0)
OUTLIER_SHARES = np.array([0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3])
NUM_FOLDS = 5


def tune_depth(
    probabilities: np.ndarray,
    labels: np.ndarray,
    depth_um: np.ndarray,
    track: np.ndarray,
    *,
    method: str = "hmm",
    subjects: np.ndarray | None = None,
    transitions: tuple[str, ...] = ("uniform", "learned"),
    prior: np.ndarray | None = None,
    class_weight: str | None = None,
) -> DepthHMM | DepthGaussian:
    """Width, or stay distance and emission power, with a temperature and a share of outliers, of the least log-loss.

    Parameters
    ----------
    probabilities : array, shape (num_units, num_regions)
        Out-of-fold probabilities of the training animals.
    labels : int array, shape (num_units,)
        Index of the true region, -1 where not known: such a unit is evidence for others but is not scored.
    depth_um, track : arrays, shape (num_units,)
        As for :func:`~si_neuroml.regions.depth.hmm_smooth`.
    method : {"hmm", "gaussian"}
        What is tuned. Default: "hmm".
    subjects : array, shape (num_units,), optional
        Animal of each unit. While they are judged, learned transitions then come from other animals. Default: every
        track is an animal.
    transitions : tuple of {"uniform", "learned"}, default: both
        Candidates, of which the better is taken; for "learned" see :func:`learn_transitions`.
    prior : array, shape (num_regions,), optional
        As for :class:`~si_neuroml.regions.depth.DepthHMM`. Default: uniform.
    class_weight : {"balanced"}, optional
        Every region counts the same in the loss, however many units it has. Default: every unit does.

    Returns
    -------
    DepthHMM | DepthGaussian

    Raises
    ------
    InputError
        On an unknown method, or labels that are no regions.
    TrainingError
        When no unit has both a label and a depth.
    """
    probabilities, depth_um, track = checked_units(probabilities, depth_um, track)
    labels = _checked_labels(labels, probabilities)
    scored = (labels >= 0) & np.isfinite(depth_um)
    if not scored.any():
        raise TrainingError(f"None of {len(labels)} units has both a label and a depth: nothing to tune smoothing on.")
    loss = _loss(labels, scored, class_weight)
    data = (probabilities, depth_um, track)
    if method == "gaussian":

        def smoother(parameters):
            return DepthGaussian(float(np.exp(parameters[0]))).smooth(*data)

        parameters, correction, _ = _search(smoother, np.log(WIDTHS_UM)[:, None], loss)
        return DepthGaussian(float(np.exp(parameters[0])), *correction)
    if method != "hmm" or not set(transitions) <= {"uniform", "learned"} or not transitions:
        text = 'method must be "hmm" or "gaussian", transitions a choice of "uniform" and "learned";'
        raise InputError(f"{text} got {method!r} and {transitions!r}.")
    folds = _folds(track if subjects is None else subjects, len(labels))
    fits = [_tune_hmm(data, labels, loss, folds, kind, prior) for kind in dict.fromkeys(transitions)]
    return min(fits, key=lambda fit: fit[1])[0]


def learn_transitions(
    labels: np.ndarray, depth_um: np.ndarray, track: np.ndarray, num_regions: int, *, pseudocount: float = 1.0
) -> np.ndarray:
    """Shares of the regions that follow each region, going up.

    Parameters
    ----------
    labels : int array, shape (num_units,)
        Index of the region, -1 where not known (passed over).
    depth_um, track : arrays, shape (num_units,)
        As for :func:`~si_neuroml.regions.depth.hmm_smooth`.
    num_regions : int
        Number of regions, at least 2.
    pseudocount : float, default: 1
        Changes added to each region, spread evenly over the others.

    Returns
    -------
    float64 array, shape (num_regions, num_regions)
        Rows sum to 1, the diagonal is 0.

    Raises
    ------
    InputError
        On fewer than two regions, or a pseudocount that is not above 0.
    """
    if num_regions < 2 or not pseudocount > 0:
        text = "Transitions need at least 2 regions and a pseudocount above 0;"
        raise InputError(f"{text} got {num_regions!r} and {pseudocount!r}.")
    labels, track = np.asarray(labels), np.asarray(track)
    order, _ = tracks_in_order(np.where(labels >= 0, depth_um, np.nan), track)
    below, above = labels[order[:-1]], labels[order[1:]]
    changed = (track[order[:-1]] == track[order[1:]]) & (below != above)
    counts = np.full((num_regions, num_regions), pseudocount / (num_regions - 1))
    np.add.at(counts, (below[changed], above[changed]), 1.0)
    np.fill_diagonal(counts, 0.0)
    return counts / counts.sum(axis=1, keepdims=True)


def _tune_hmm(data, labels, loss, folds, kind, prior):
    """The best model of one kind of transitions, and its loss."""
    probabilities, depth_um, track = data
    num_regions = probabilities.shape[1]
    prior = None if prior is None else tuple(np.asarray(prior, dtype="float64").tolist())
    learned = kind == "learned" and num_regions > 1
    if learned:
        others = [learn_transitions(labels[~own], depth_um[~own], track[~own], num_regions) for own in folds]
    else:
        folds, others = [np.ones(len(labels), dtype=bool)], [None]

    def model(parameters, rows, correction=(1.0, 0.0)):
        stay_um, power = np.exp(parameters).tolist()
        rows = None if rows is None else tuple(map(tuple, rows))
        return DepthHMM(stay_um, min(power, 1.0), prior, rows, *correction)

    def smoother(parameters):
        smoothed = np.empty_like(probabilities)
        for own, rows in zip(folds, others, strict=True):
            smoothed[own] = model(parameters, rows).smooth(probabilities[own], depth_um[own], track[own])
        return smoothed

    grid = np.array([(stay, power) for stay in np.log(STAYS_UM) for power in np.log(POWERS)])
    parameters, correction, best = _search(smoother, grid, loss)
    rows = learn_transitions(labels, depth_um, track, num_regions) if learned else None
    return model(parameters, rows, correction), best


def _search(smoother, grid, loss):
    """Best point of the grid, then downhill from there; temperature and share of outliers are fitted at each point."""
    from scipy.optimize import minimize

    low, high = grid.min(axis=0) - 1.0, grid.max(axis=0) + 1.0

    def objective(parameters):
        return _best_correction(smoother(np.clip(parameters, low, high)), loss)[1]

    start = grid[np.argmin([objective(point) for point in grid])]
    steps = {"initial_simplex": np.vstack([start, start + 0.3 * np.eye(len(start))]), "xatol": 0.03, "fatol": 1e-5}
    found = np.clip(minimize(objective, start, method="Nelder-Mead", options={"maxiter": 40, **steps}).x, low, high)
    return found, *_best_correction(smoother(found), loss)


def _best_correction(smoothed, loss):
    """Temperature and share of outliers, and the loss that they leave."""
    from scipy.optimize import minimize_scalar

    at = loss(smoothed)
    options = {"bounds": LOG_TEMPERATURES, "method": "bounded", "options": {"xatol": 0.02}}
    found = minimize_scalar(lambda log_temperature: at(np.exp(log_temperature)).min(), **options)
    losses = at(np.exp(found.x))
    return (float(np.exp(found.x)), float(OUTLIER_SHARES[losses.argmin()])), float(losses.min())


def _loss(labels, scored, class_weight):
    """Mean log-loss of scored units for each share of outliers: a function of probabilities, then of a temperature."""
    own = labels[scored]
    weights = np.ones(len(own))
    if class_weight == "balanced":
        weights = 1.0 / np.bincount(own)[own]
    elif class_weight is not None:
        raise InputError(f'class_weight must be "balanced" or None, got {class_weight!r}.')
    weights /= weights.sum()

    def loss(probabilities):
        logs = np.log(np.maximum(probabilities[scored], SMALLEST))
        return lambda temperature: _log_losses(logs, own, weights, 1 / temperature, OUTLIER_SHARES)

    return loss


def _folds(groups, count):
    """Masks of the units of each fold; all units of a group are in one."""
    groups = np.asarray(groups)
    if groups.shape != (count,):
        raise InputError(f"{count} units and subjects of shape {groups.shape}: give one each.")
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    num_folds = min(NUM_FOLDS, codes.max() + 1)
    return [codes % num_folds == fold for fold in range(num_folds)]


def _checked_labels(labels, probabilities):
    labels = np.asarray(labels)
    if labels.shape != (len(probabilities),) or labels.dtype.kind not in "iu":
        text = "labels must be indices of regions, one per unit (-1 where not known);"
        raise InputError(f"{text} got shape {labels.shape} of {labels.dtype} for {len(probabilities)} units.")
    if len(labels) and (labels.max() >= probabilities.shape[1] or labels.min() < -1):
        text = f"labels must lie between -1 and {probabilities.shape[1] - 1},"
        raise InputError(f"{text} got {labels.min()} to {labels.max()}.")
    return labels.astype("int64")


@numba.njit(nogil=True)
def _log_losses(logs, own, weights, power, outlier_shares):
    losses, num_regions = np.zeros(len(outlier_shares)), logs.shape[1]
    for unit in range(len(logs)):
        largest, total = logs[unit].max(), 0.0
        for region in range(num_regions):
            total += np.exp(power * (logs[unit, region] - largest))
        probability = np.exp(power * (logs[unit, own[unit]] - largest)) / total
        for k, share in enumerate(outlier_shares):
            # the floor of probabilities elsewhere, for a share of 0
            mixed = max((1 - share) * probability + share / num_regions, SMALLEST)
            losses[k] -= weights[unit] * np.log(mixed)
    return losses
