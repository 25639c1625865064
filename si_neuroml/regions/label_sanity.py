"""Do region labels belong to these units? A test that needs no classifier.

Units of one region resemble each other more than units at large. Where labels were mixed up, that is gone; where they
were written one place too high or too low in the list of units, it comes back when they are moved by as much.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LabelSanity", "region_label_sanity", "within_region_similarity"]

MIN_UNITS = 10


@dataclass(frozen=True)
class LabelSanity:
    """What :func:`region_label_sanity` finds.

    Attributes
    ----------
    recordings : DataFrame, one row per recording
        ``num_units``, ``similarity`` of the labels as they are, ``p_value`` (share of permutations at least as
        similar), ``best_shift`` (places that labels would have to move in the list), ``best_similarity``, and one
        column per shift.
    p_value : float
        Of the labels as they are, against permutations, all recordings together. Large: the labels say nothing.
    best_shift : int
        The shift of the largest mean similarity.
    shift_p_value : float
        Whether that shift fits better than none: two-sided sign-flip test over recordings, times the number of shifts
        tried (Bonferroni); 1 where none fits best. Small: the labels are displaced. With fewer than six recordings it
        cannot get small.
    """

    recordings: "pd.DataFrame"
    p_value: float
    best_shift: int
    shift_p_value: float


def region_label_sanity(
    features: np.ndarray,
    labels: np.ndarray,
    recordings: np.ndarray,
    *,
    max_shift: int = 3,
    num_permutations: int = 500,
    seed: int = 0,
) -> LabelSanity:
    """Compare labels with permuted and displaced ones.

    Parameters
    ----------
    features : array, shape (num_units, num_features)
        Any: statistics of spike trains, PSTH bins. NaN counts as the recording's mean. Units in the order in which the
        labels were written.
    labels : array of str, shape (num_units,)
        Regions; "" is unlabelled.
    recordings : array, shape (num_units,)
        Recording of each unit: labels move within one.
    max_shift : int, default: 3
        Labels are moved by up to so many places, both ways.
    num_permutations, seed : int, default: 500, 0
        Of labels within each recording.

    Returns
    -------
    LabelSanity

    Raises
    ------
    InputError
        On shapes that do not agree, or no recording with 10 labelled units and two regions.
    """
    import pandas as pd

    features, labels, recordings = np.asarray(features, "float64"), np.asarray(labels, str), np.asarray(recordings, str)
    if features.ndim != 2 or labels.shape != (len(features),) or recordings.shape != labels.shape:
        text = "features must have the shape (num_units, num_features), with a label and a recording each;"
        raise InputError(f"{text} got shapes {features.shape}, {labels.shape} and {recordings.shape}.")
    rng, shifts = np.random.default_rng(seed), range(-max_shift, max_shift + 1)
    rows, null = {}, []
    for name in np.unique(recordings):
        own = np.flatnonzero((recordings == name) & (labels != ""))
        codes = np.unique(labels[own], return_inverse=True)[1].reshape(-1)
        if len(own) < MIN_UNITS or codes.max() == 0:
            continue
        vectors = _directions(features[own])
        moved = {shift: within_region_similarity(vectors, np.roll(codes, shift)) for shift in shifts}
        permuted = np.array(
            [within_region_similarity(vectors, rng.permutation(codes)) for _ in range(num_permutations)]
        )
        best = max(moved, key=moved.get)
        rows[name] = {
            "num_units": len(own),
            "similarity": moved[0],
            "p_value": _share_above(permuted, moved[0]),
            "best_shift": best,
            "best_similarity": moved[best],
            **{f"shift_{shift:+d}": value for shift, value in moved.items()},
        }
        null.append(permuted)
    if not rows:
        raise InputError(f"No recording has {MIN_UNITS} labelled units of two regions or more.")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("recording")
    means = {shift: table[f"shift_{shift:+d}"].mean() for shift in shifts}
    best = max(means, key=means.get)
    shift_p_value = 1.0
    if best != 0:
        gains = (table[f"shift_{best:+d}"] - table["shift_+0"]).to_numpy()
        shift_p_value = min(1.0, 2 * max_shift * _sign_flip_p_value(gains, rng))
    return LabelSanity(table, _share_above(np.mean(null, axis=0), means[0]), best, shift_p_value)


def within_region_similarity(vectors: np.ndarray, codes: np.ndarray) -> float:
    """Mean scalar product of pairs of one region, minus that of all pairs.

    Parameters
    ----------
    vectors : array, shape (num_units, num_features)
        Of length 1 (or 0), so that products are cosines.
    codes : int array, shape (num_units,)
        Region of each unit, from 0 on.

    Returns
    -------
    float
        0 on average for labels that say nothing; NaN when no region has two units.
    """
    num = np.bincount(codes)
    sums = np.zeros((len(num), vectors.shape[1]))
    np.add.at(sums, codes, vectors)
    lengths = (vectors**2).sum()
    pairs = (num * (num - 1)).sum()
    if pairs == 0:
        return float("nan")
    total = vectors.sum(axis=0)
    everywhere = (total @ total - lengths) / (len(codes) * (len(codes) - 1))
    return float(((sums**2).sum() - lengths) / pairs - everywhere)


def _directions(features):
    """Standardised features of one recording, each unit scaled to length 1."""
    known = np.isfinite(features)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0.0).sum(axis=0) / count
    centered = np.where(known, features - mean, 0.0)
    sd = np.sqrt((centered**2).sum(axis=0) / count)
    scaled = np.divide(centered, sd, out=np.zeros_like(centered), where=sd > 1e-9)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.divide(scaled, length, out=np.zeros_like(scaled), where=length > 0)


def _share_above(null, value):
    return float((1 + (null >= value).sum()) / (1 + len(null)))


def _sign_flip_p_value(gains, rng, num_draws=20000):
    """Two-sided: how often the mean with random signs is as far from 0; all sign patterns where they are few."""
    num = len(gains)
    if num <= 14:
        signs = 1 - 2 * ((np.arange(2**num)[:, None] >> np.arange(num)) & 1)
        return float((np.abs(signs @ gains) >= abs(gains.sum()) - 1e-12).mean())
    signs = rng.choice([-1, 1], size=(num_draws, num))
    return float((1 + (np.abs(signs @ gains) >= abs(gains.sum()) - 1e-12).sum()) / (1 + num_draws))
