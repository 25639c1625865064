"""Is this cell like any that the classifier was trained on? Mahalanobis distances to the nearest class.

Cells of a class scatter around its mean with one covariance for all classes (Lee et al. 2018), kept as its leading
axes and one variance for all the others (probabilistic principal components, Tipping and Bishop 1999): networks embed
cells in hundreds of numbers, more than a covariance can be learned for, and strange cells often lie off these axes.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ..errors import InputError

__all__ = ["OutlierModel"]

NUM_AXES = 16
# share of the mean variance below which no direction is held to be narrow
FLOOR = 1e-2
BATCH = 1024


@dataclass(frozen=True, eq=False)
class OutlierModel:
    """Classes in a space of features or embeddings.

    Attributes
    ----------
    means : float64 array, shape (num_classes, num_dims)
    axes : float64 array, shape (num_dims, num_axes)
        Orthonormal.
    variances : float64 array, shape (num_axes,)
        Along the axes.
    rest : float64 array, shape (1,)
        Variance in every other direction.
    """

    means: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, labels: np.ndarray, num_axes: int = NUM_AXES) -> Self:
        """Means of the classes, and axes and variances of the deviations from them.

        Parameters
        ----------
        points : array, shape (num_cells, num_dims)
            Finite.
        labels : int array, shape (num_cells,)
            Class indices; every class from 0 to the largest that has cells.
        num_axes : int, default: 16
            At most.

        Returns
        -------
        OutlierModel
        """
        points = np.asarray(points, dtype="float64")
        if points.ndim != 2 or not np.isfinite(points).all() or len(points) != len(labels) or len(points) < 2:
            raise InputError(f"At least 2 finite points with a label each are needed, got shape {points.shape}.")
        present = np.unique(labels)
        means = np.stack([points[labels == k].mean(axis=0) for k in present])
        centered = points - means[np.searchsorted(present, labels)]
        num_dims, freedom = points.shape[1], max(1, len(points) - len(present))
        total = (centered**2).sum() / freedom
        num_axes = min(num_axes, num_dims - 1, freedom)
        _, singular, axes = np.linalg.svd(centered, full_matrices=False)
        variances = singular[:num_axes] ** 2 / freedom
        rest = (total - variances.sum()) / (num_dims - num_axes)
        floor = max(FLOOR * total / num_dims, 1e-12)
        # copies: rows of a larger array would keep it alive
        return cls(means, axes[:num_axes].T.copy(), np.maximum(variances, floor), np.array([max(rest, floor)]))

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Distance to the nearest class per dimension, float64, shape (num_cells,): about 1 for cells of training."""
        points = np.asarray(points, dtype="float64")
        if points.ndim != 2 or points.shape[1] != self.means.shape[1]:
            raise InputError(f"Points must have shape (num_cells, {self.means.shape[1]}), got {points.shape}.")
        out = np.empty(len(points))
        for start in range(0, len(points), BATCH):
            off = points[start : start + BATCH, None] - self.means
            along = off @ self.axes
            squared = (along**2 / self.variances).sum(axis=2)
            squared += np.maximum((off**2).sum(axis=2) - (along**2).sum(axis=2), 0) / self.rest
            out[start : start + BATCH] = squared.min(axis=1)
        return np.sqrt(out / points.shape[1])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The inverse of :meth:`to_arrays`."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})
