"""What every estimator does first, as plain arrays: fill in what is missing, scale columns, weigh classes."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..errors import InputError, TrainingError

__all__ = ["Preparation", "arrays_of", "check_training_set", "class_weights"]

# a normal distribution has this ratio of interquartile range to standard deviation
_IQR_PER_SD = 1.3489795
_MIDDLE = (0.01, 0.99)
# beyond so many standard deviations a value says "extreme", and no more
_CLIP = 6.0


@dataclass(frozen=True, eq=False)
class Preparation:
    """Missing values become the training median; then (value - center) / scale, within -6 and 6.

    Parameters
    ----------
    fill, center, scale : float64 arrays, shape (num_columns,)
        In robust scaling fill and center are the median; scale is the standard deviation of the normal distribution
        with the column's interquartile range, or for columns that are mostly one value that of their middle 98 %.
    low, high : float
        Limits of what comes out.
    """

    fill: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    low: float = -_CLIP
    high: float = _CLIP

    @classmethod
    def fit(cls, X: np.ndarray, how: str = "robust", families: tuple[str, ...] | None = None) -> Self:
        """Learn it from training rows.

        Parameters
        ----------
        X : array, shape (num_units, num_columns)
            NaN where not known; a column may be all NaN, it then says nothing.
        how : {"robust", "shared", "unit_interval"}, default: "robust"
            "shared": one median and one width for all columns, for bins of one curve, whose shape would suffer else;
            "unit_interval": smallest value to 0 and largest to 1, for models of counts.
        families : tuple of str, optional
            Family of each column. Given, columns of large families are scaled down, so that every family has the same
            variance in all: 30 bins of a histogram must not outvote two numbers of a waveform.
        """
        if how == "shared":
            one = cls.fit(np.asarray(X).reshape(-1, 1))
            return cls(*(np.repeat(values, X.shape[1]) for values in (one.fill, one.center, one.scale)))
        if not X.shape[1]:
            return cls(*(np.zeros(0) for _ in range(3)))
        known = np.isfinite(X).any(axis=0)
        part = np.where(known, X, 0.0).astype("float64")
        low, fill, high = np.nanquantile(part, [0.25, 0.5, 0.75], axis=0)
        if how == "unit_interval":
            center, top = np.nanmin(part, axis=0), np.nanmax(part, axis=0)
            return cls(fill, center, np.where(top > center, top - center, 1.0), 0.0, 1.0)
        width = (high - low) / _IQR_PER_SD
        spread = np.nanstd(np.clip(part, *np.nanquantile(part, _MIDDLE, axis=0)), axis=0)
        scale = np.where(width > 0.5 * spread, width, spread)
        scale = np.where(scale > 1e-9, scale, 1.0)
        if families is not None:
            if len(families) != X.shape[1]:
                raise InputError(f"{X.shape[1]} columns need a family each, got {len(families)}.")
            counts = {name: families.count(name) for name in families}
            mean = len(families) / len(counts)
            scale = scale * np.array([(counts[name] / mean) ** 0.5 for name in families])
        return cls(fill, fill, scale)

    def apply(self, X: np.ndarray) -> np.ndarray:
        """Prepared rows, float64, shape (num_units, num_columns)."""
        if X.ndim != 2 or X.shape[1] != len(self.fill):
            raise InputError(f"X must have shape (num_units, {len(self.fill)}), got {X.shape}.")
        values = np.where(np.isfinite(X), X, self.fill)
        return np.clip((values - self.center) / self.scale, self.low, self.high)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        limits = np.array([self.low, self.high])
        return {"fill": self.fill, "center": self.center, "scale": self.scale, "limits": limits}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The inverse of :meth:`to_arrays`."""
        low, high = arrays["limits"].tolist()
        return cls(arrays["fill"], arrays["center"], arrays["scale"], low, high)


def class_weights(labels: np.ndarray, power: float, factor: float = 1.0) -> np.ndarray:
    """Weight of each row by how rare its class is.

    Parameters
    ----------
    labels : int array, shape (num_units,)
        Class indices.
    power : float
        0: all rows count the same; 1: all classes do; in between damped (the dampening exponent of van Laar 2025).
    factor : float, default: 1
        Of all weights.

    Returns
    -------
    float64 array, shape (num_units,)
        factor * (n / (k n_c)) ** power for n rows, k classes and n_c rows of the class.
    """
    counts = np.bincount(labels)
    present = counts[counts > 0]
    return factor * (len(labels) / (len(present) * counts[labels])) ** power


def check_training_set(X: Any, y: Any, sample_weight: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """X as a float array, the sorted classes, the index of each row's class, and weights (ones by default).

    Raises
    ------
    InputError
        When lengths differ, X is not two-dimensional, or weights are negative or not finite.
    TrainingError
        When there is only one class.
    """
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim != 2 or len(X) != len(y) or y.ndim != 1:
        raise InputError(f"X must have shape (num_units, num_columns) and y (num_units,), got {X.shape} and {y.shape}.")
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise TrainingError(f"All {len(y)} units are of one class, {list(map(str, classes))}: nothing to tell apart.")
    weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype="float64")
    if weights.shape != y.shape or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise InputError("sample_weight must hold one finite number of at least 0 per unit, not all 0.")
    return X, classes, labels.reshape(-1), weights


def arrays_of(part: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays named "part.name", by name."""
    return {key.removeprefix(f"{part}."): value for key, value in arrays.items() if key.startswith(f"{part}.")}
