"""What a model must beat: the shares of the types, the data set alone, and a logistic regression on the same inputs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.preparation import Preparation, class_weights
from ..errors import InputError

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = ["BASELINES", "SimpleClassifier", "input_columns"]

BASELINES = ("majority", "dataset_alone", "logistic_regression")
# rows and columns to which images are averaged: finer ones do not suit a linear model
GRID = (6, 12)
SMALLEST = 1e-3


class SimpleClassifier:
    """One of the baselines, with every type counting the same, as in the models it stands beside.

    Parameters
    ----------
    method : {"majority", "dataset_alone", "logistic_regression"}
        The largest type, whatever the cell; the type that is most over-represented in the cell's data set; a
        multinomial logistic regression on :func:`input_columns` of the features, without features of the images,
        without both of all streams.
    dataset : CellDataset
        Training cells; unlabelled ones are not used.
    feature_names : sequence of str, optional
        Of the logistic regression. Default: all.
    options : dict, optional
        Keywords of scikit-learn's ``LogisticRegression``.

    Attributes
    ----------
    classes : tuple of str
    """

    def __init__(
        self, method: str, dataset: "CellDataset", feature_names: Any = None, options: dict[str, Any] | None = None
    ):
        if method not in BASELINES:
            raise InputError(f"Baselines are {list(BASELINES)}, got {method!r}.")
        dataset = dataset.labelled()
        names, labels = np.unique(dataset.labels, return_inverse=True)
        self.method, self.classes, self._names = method, tuple(names.tolist()), feature_names
        if method == "majority":
            self._shares = np.bincount(labels) / len(labels)
        elif method == "dataset_alone":
            self._fit_dataset(dataset, labels)
        else:
            self._fit_regression(dataset, labels, options or {})

    def predict_proba(self, dataset: "CellDataset") -> np.ndarray:
        """Probabilities, float64, shape (num_cells, num_classes)."""
        if self.method == "majority":
            return np.tile(self._shares, (len(dataset), 1))
        if self.method == "dataset_alone":
            uniform = np.full(len(self.classes), 1 / len(self.classes))
            return np.array([self._of_dataset.get(name, uniform) for name in dataset.cells["dataset"]])
        X = self._preparation.apply(input_columns(dataset, self._inputs, self._names)[0])
        found = self._regression.predict_proba(X)
        return found / found.sum(axis=1, keepdims=True)

    def _fit_dataset(self, dataset, labels):
        where = dataset.cells["dataset"].to_numpy(dtype=str)
        num = np.bincount(labels)
        self._of_dataset = {}
        for name in np.unique(where):
            likelihood = np.bincount(labels[where == name], minlength=len(num)) / num + SMALLEST
            self._of_dataset[name] = likelihood / likelihood.sum()

    def _fit_regression(self, dataset, labels, options):
        from sklearn.linear_model import LogisticRegression

        there = dataset.stream_names
        self._inputs = next((name for name in ("features", "image") if name in there), there)
        X, _ = input_columns(dataset, self._inputs, self._names)
        self._preparation = Preparation.fit(X)
        self._regression = LogisticRegression(**({"max_iter": 2000} | options))
        self._regression.fit(self._preparation.apply(X), labels, sample_weight=class_weights(labels, 1.0))


def input_columns(
    dataset: "CellDataset", inputs: str | Sequence[str] = "features", feature_names: Any = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """What is known of cells as a table for simple models.

    Parameters
    ----------
    dataset : CellDataset
    inputs : str or sequence of str, default: "features"
        "features", "image" (averaged to 6 x 12 pixels per channel) and streams of the dataset.
    feature_names : sequence of str, optional
        Default: all.

    Returns
    -------
    X : float32 array, shape (num_cells, num_columns)
        NaN where not known.
    names : tuple of str

    Raises
    ------
    InputError
        When the dataset does not have one of the inputs.
    """
    asked = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    lost = [name for name in asked if name not in dataset.stream_names]
    if lost or not asked:
        raise InputError(f"The dataset has {list(dataset.stream_names)} to look at, not {lost or inputs!r}.")
    parts = []
    for name in asked:
        if name == "features":
            chosen = tuple(dataset.feature_names if feature_names is None else feature_names)
            parts.append((dataset.columns(chosen), chosen))
        elif name == "image":
            parts.append(_coarse_images(dataset))
        else:
            values = dataset.streams[name].values.reshape(len(dataset), -1)
            parts.append((values, tuple(f"{name} {k}" for k in range(values.shape[1]))))
    X, names = zip(*parts, strict=True)
    return np.concatenate(X, axis=1), tuple(name for own in names for name in own)


def _coarse_images(dataset):
    """Images averaged to at most GRID pixels, as columns with names."""
    pixels, edges = dataset.images, []
    for axis, most in zip((2, 3), GRID, strict=True):
        bounds = np.linspace(0, pixels.shape[axis], min(most, pixels.shape[axis]) + 1).round().astype("int64")
        sizes = np.diff(bounds).reshape([-1 if k == axis else 1 for k in range(4)])
        pixels = np.add.reduceat(pixels, bounds[:-1], axis=axis) / sizes
        edges.append(list(zip(bounds[:-1], bounds[1:] - 1, strict=True)))
    rows = [f"{dataset.frequencies_hz[i]:.3g} to {dataset.frequencies_hz[j]:.3g} Hz" for i, j in edges[0]]
    columns = [f"{dataset.times_ms[i]:.3g} to {dataset.times_ms[j]:.3g} ms" for i, j in edges[1]]
    names = [f"image {c}: {row}, {column}" for c in range(pixels.shape[1]) for row in rows for column in columns]
    return pixels.reshape(len(dataset), -1).astype("float32"), tuple(names)
