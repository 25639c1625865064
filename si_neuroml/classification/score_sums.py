"""Scores of classes as sums over the units of each subject, so that resampling subjects is adding up sums.

A resample draws subjects with replacement (Davison & Hinkley 1997, section 3.8). Accuracy, recall, F1 and the
correlation of Matthews follow from confusion matrices, the log-loss from its sum, the calibration error from the sums
of its bins; the area under the curve and the accuracy of the surest units from counts in narrow bins of rank.
"""

import warnings

import numpy as np

__all__ = [
    "COVERAGES",
    "at_level",
    "divide",
    "interval_of",
    "reliability_bins",
    "subject_draws",
    "sums_by_subject",
    "values_of_sums",
]

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
NUM_RELIABILITY_BINS = 10
# for resamples; the area under the curve of so many is exact to about 1e-5
NUM_RANK_BINS = 500
SMALLEST = 1e-15


def sums_by_subject(own, rows, who, parents):
    """Arrays with one row per subject, from which the scores of any set of subjects follow."""
    num_classes, num_subjects = rows.shape[1], who.max() + 1
    best, sure = rows.argmax(axis=1), rows.max(axis=1)

    def counted(shape, *index, weights=None):
        flat = np.ravel_multi_index((who, *index), (num_subjects, *shape))
        return np.bincount(flat, weights, num_subjects * int(np.prod(shape))).reshape(num_subjects, *shape)

    rank = _rank_bins(sure)
    sums = {
        "confusion": counted((num_classes, num_classes), own, best),
        "log_loss": counted((), weights=-np.log(np.maximum(rows[np.arange(len(own)), own], SMALLEST))),
        "num": counted(()),
        "sure_num": counted((NUM_RANK_BINS,), rank),
        "sure_right": counted((NUM_RANK_BINS,), rank, weights=(best == own).astype("float64")),
        "reliability": counted((NUM_RELIABILITY_BINS,), reliability_bins(sure), weights=sure - (best == own)),
    }
    ranks = np.stack([_rank_bins(rows[:, k]) for k in range(num_classes)])
    for name, chosen in (
        ("true", own == np.arange(num_classes)[:, None]),
        ("false", own != np.arange(num_classes)[:, None]),
    ):
        sums[f"ranks_{name}"] = np.stack(
            [counted((NUM_RANK_BINS,), ranks[k], weights=chosen[k].astype("float64")) for k in range(num_classes)],
            axis=1,
        )
    for level, parent in parents.items():
        above, lifted = at_level(own, rows, parent)
        sums[f"confusion_{level}"] = counted((lifted.shape[1],) * 2, above, lifted.argmax(axis=1))
    return sums


def values_of_sums(sums):
    """Scores of each row of sums; also "coverage", shape (num_rows, num_coverages)."""
    values = {}
    for key in [key for key in sums if key.startswith("confusion")]:
        confusion, suffix = sums[key], key.removeprefix("confusion")
        right, true, found = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2), confusion.sum(axis=1)
        total = true.sum(axis=1)
        values[f"balanced_accuracy{suffix}"] = np.nanmean(divide(right, true), axis=1)
        values[f"accuracy{suffix}"] = right.sum(axis=1) / total
        if suffix:
            continue
        values["macro_f1"] = np.nanmean(np.where(true > 0, divide(2 * right, true + found), np.nan), axis=1)
        spread = (total**2 - (true**2).sum(axis=1)) * (total**2 - (found**2).sum(axis=1))
        values["mcc"] = divide(right.sum(axis=1) * total - (true * found).sum(axis=1), np.sqrt(spread))
    above = np.cumsum(sums["ranks_false"], axis=2) - sums["ranks_false"] / 2
    pairs = sums["ranks_true"].sum(axis=2) * sums["ranks_false"].sum(axis=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        values["auc"] = np.nanmean(divide((sums["ranks_true"] * above).sum(axis=2), pairs), axis=1)
    values["log_loss"] = sums["log_loss"] / sums["num"]
    values["calibration_error"] = np.abs(sums["reliability"]).sum(axis=1) / sums["num"]
    num, right = (np.cumsum(sums[key][:, ::-1], axis=1) for key in ("sure_num", "sure_right"))
    values["coverage"] = np.array(
        [np.interp(np.array(COVERAGES) * n[-1], n, r) for n, r in zip(num, right, strict=True)]
    ) / (np.array(COVERAGES) * num[:, -1:])
    values["accuracy_at_half_coverage"] = values["coverage"][:, COVERAGES.index(0.5)]
    return values


def at_level(own, rows, parent):
    """Labels and probabilities one level up: `parent` is the index of each class's parent."""
    lifted = np.zeros((len(rows), parent.max() + 1))
    np.add.at(lifted.T, parent, rows.T)
    return parent[own], lifted


def reliability_bins(sure):
    """Bin of each probability, of equal width."""
    return np.minimum((sure * NUM_RELIABILITY_BINS).astype("int64"), NUM_RELIABILITY_BINS - 1)


def subject_draws(num_subjects, num_resamples, seed):
    """How often each subject is drawn: float64 array, shape (num_resamples, num_subjects)."""
    rng, shares = np.random.default_rng(seed), np.full(num_subjects, 1 / num_subjects)
    return rng.multinomial(num_subjects, shares, size=num_resamples).astype("float64")


def interval_of(values):
    """2.5 and 97.5 % quantile of what is finite."""
    values = values[np.isfinite(values)]
    return tuple(np.quantile(values, (0.025, 0.975)).tolist()) if len(values) else (np.nan, np.nan)


def divide(numerator, denominator):
    """Quotients, NaN for nothing divided by nothing."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, "float64"), np.asarray(denominator, "float64"))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _rank_bins(values):
    """Bin of each value by its rank among all, equal values in one bin."""
    values = np.unique(values, return_inverse=True)[1].reshape(-1)
    below = np.cumsum(np.bincount(values)) - 1
    return below[values] * NUM_RANK_BINS // len(values)
