"""What the neighbours of a unit along its shank are like: their features, averaged by distance, as further columns.

Units sit among units of the same region, so that a unit's neighbours tell more about its region than it does alone.
This is one round of messages on the graph of a shank's units, without weights to learn: the mean and the spread of
each feature over the other units, with Gaussian weights in depth. Labels play no part. The unit itself is left out, so
that the columns say something that its own features do not.

Smoothing (:mod:`si_neuroml.regions.depth`) uses the neighbours after classification; here they come before it. Both
together count the same neighbours twice, which the smoothing, tuned on animals left out, takes into account.
"""

import numpy as np

from ..errors import InputError

__all__ = ["neighbour_columns", "neighbour_names"]

# a Gaussian weight is left out beyond this many standard deviations
REACH_SD = 3.0


def neighbour_columns(
    features: np.ndarray, depth_um: np.ndarray, track: np.ndarray, bandwidths_um: tuple[float, ...]
) -> np.ndarray:
    """Weighted means and standard deviations of the features of the other units of the shank.

    Parameters
    ----------
    features : array, shape (num_units, num_features)
        NaN where not known: such a neighbour is left out for this feature.
    depth_um : array, shape (num_units,)
        From the tip upwards; units with NaN neither have nor are neighbours.
    track : int array, shape (num_units,)
        Shank of each unit, one number per shank of each recording.
    bandwidths_um : tuple of float
        Standard deviations of the weights, each with columns of its own. Units farther than three of them do not count.

    Returns
    -------
    float64 array, shape (num_units, 2 * num_features * num_bandwidths)
        For each bandwidth the means, then the standard deviations. NaN without a neighbour, the latter with one only.

    Raises
    ------
    InputError
        On shapes that do not agree, or bandwidths that are not above 0.
    """
    features, depth_um, track = (
        np.asarray(features, dtype="float64"),
        np.asarray(depth_um, "float64"),
        np.asarray(track),
    )
    if features.ndim != 2 or depth_um.shape != features.shape[:1] or track.shape != features.shape[:1]:
        text = "features must have shape (num_units, num_features), with one depth and one track per unit;"
        raise InputError(f"{text} got shapes {features.shape}, {depth_um.shape} and {track.shape}.")
    if not len(bandwidths_um) or not all(np.isfinite(width) and width > 0 for width in bandwidths_um):
        raise InputError(f"Bandwidths of neighbours must be above 0 um, at least one, got {bandwidths_um!r}.")
    num_features = features.shape[1]
    out = np.full((len(features), 2 * num_features * len(bandwidths_um)), np.nan)
    placed = np.flatnonzero(np.isfinite(depth_um))
    for own in np.split(placed[np.argsort(track[placed], kind="stable")], _ends(np.sort(track[placed]))):
        distance = np.abs(depth_um[own, None] - depth_um[own])
        for k, width in enumerate(bandwidths_um):
            weights = np.where(distance <= REACH_SD * width, np.exp(-0.5 * (distance / width) ** 2), 0.0)
            np.fill_diagonal(weights, 0.0)
            first = 2 * num_features * k
            out[own, first : first + 2 * num_features] = _moments(features[own], weights)
    return out


def neighbour_names(names: tuple[str, ...], bandwidths_um: tuple[float, ...]) -> tuple[str, ...]:
    """Names of the columns of :func:`neighbour_columns`, such as "neighbours_mean_60um_isi_cv"."""
    return tuple(
        f"neighbours_{what}_{width:g}um_{name}" for width in bandwidths_um for what in ("mean", "sd") for name in names
    )


def _ends(tracks):
    return np.flatnonzero(np.diff(tracks)) + 1


def _moments(features, weights):
    """Means and standard deviations side by side."""
    known = np.isfinite(features)
    # about a value in their midst, so that no digits are lost in the difference of squares
    origin = np.where(known.any(axis=0), np.nanmedian(np.where(known.any(axis=0), features, 0.0), axis=0), 0.0)
    values = np.where(known, features - origin, 0.0)
    total = weights @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weights @ values) / total
        variance = (weights @ values**2) / total - mean**2
    several = (weights > 0).astype("float64") @ known > 1.5
    spread = np.where(several, np.sqrt(np.maximum(variance, 0.0)), np.nan)
    return np.concatenate([mean + origin, spread], axis=1)
