"""Small models of one stream of cells, for hundreds of cells with hundreds of numbers each.

Numbers of a stream, bins of an autocorrelogram or samples of a waveform, go together: their principal components are
few, and a logistic regression on them is hard to overfit. Kept as arrays that a model folder can hold.
"""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from ..classification.preparation import Preparation, arrays_of, check_training_set, class_weights
from ..classification.tree_arrays import TreeArrays
from ..errors import InputError

__all__ = ["STREAM_DEFAULTS", "StreamModel"]

STREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    "logistic_regression": {"num_components": 12, "C": 0.3},
    "extra_trees": {"num_components": 12, "n_estimators": 300, "min_samples_leaf": 2},
}


class StreamModel(ClassifierMixin, BaseEstimator):
    """Principal components of a stream, and a classifier of them.

    Streams without a negative value, counts and powers, enter as their square roots, which vary alike where they are
    small and large. Columns are filled in and scaled as in
    :class:`~si_neuroml.classification.preparation.Preparation`, components to a variance of 1.

    Parameters
    ----------
    method : {"logistic_regression", "extra_trees"}, default: "logistic_regression"
        Of scikit-learn.
    options : dict, optional
        ``num_components`` (default 12, at most), ``C`` (default 0.3), and keywords of ``LogisticRegression`` or
        ``ExtraTreesClassifier``.
    class_weight_power : float, default: 1
        0: every cell counts the same; 1: every class does.
    seed : int, default: 0
        Of what the library draws.
    """

    def __init__(
        self,
        method: str = "logistic_regression",
        options: dict[str, Any] | None = None,
        class_weight_power: float = 1.0,
        seed: int = 0,
    ):
        self.method, self.options, self.class_weight_power, self.seed = method, options, class_weight_power, seed

    def fit(self, X: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None) -> Self:
        """Fit to the stream of cells (num_cells, ...), NaN where not known; `groups` are not looked at.

        Raises
        ------
        InputError
            On an unknown method or keyword.
        TrainingError
            On one class.
        """
        if self.method not in STREAM_DEFAULTS:
            raise InputError(f"A stream is classified by {list(STREAM_DEFAULTS)}, got {self.method!r}.")
        X, self.classes_, labels, _ = check_training_set(_flat(X), y)
        options = STREAM_DEFAULTS[self.method] | (self.options or {})
        number = options.pop("num_components")
        if not number >= 1 or number != int(number):
            raise InputError(f"num_components must be a whole number above 0, got {number!r}.")
        self.n_features_in_ = X.shape[1]
        self.is_rooted_ = not (X < 0).any()
        self.preparation_ = Preparation.fit(np.sqrt(X) if self.is_rooted_ else X)
        prepared = self._prepared(X)
        self.center_ = prepared.mean(axis=0)
        _, singular, axes = np.linalg.svd(prepared - self.center_, full_matrices=False)
        kept = slice(min(int(number), max(1, int((singular > 1e-9 * singular[0]).sum()))))
        spread = np.maximum(singular[kept] / np.sqrt(len(X)), 1e-9)
        self.components_ = (axes[kept] / spread[:, None]).T.copy()
        weights = class_weights(labels, self.class_weight_power)
        try:
            self._fit_classifier(self.embed(X), labels, weights, options)
        except (TypeError, ValueError) as error:  # scikit-learn's own, on a keyword or value that it does not take
            raise InputError(f"Settings of {self.method!r} cannot be used: {error}") from error
        return self

    def _fit_classifier(self, scores, labels, weights, options):
        if self.method == "extra_trees":
            from sklearn.ensemble import ExtraTreesClassifier

            forest = ExtraTreesClassifier(random_state=self.seed, n_jobs=1, **options)
            self.classifier_ = TreeArrays.from_forest(forest.fit(scores, labels, sample_weight=weights))
            return
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(**({"max_iter": 2000} | options)).fit(scores, labels, sample_weight=weights)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(self.classes_) == 2:  # one decision value, the logit of the second class
            coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercepts)
        self.classifier_ = {"coefficients": coefficients.T.copy(), "intercepts": intercepts}

    def embed(self, X: np.ndarray) -> np.ndarray:
        """Scores of the principal components, float64, shape (num_cells, num_components)."""
        return (self._prepared(_flat(X)) - self.center_) @ self.components_

    def _prepared(self, X):
        return self.preparation_.apply(np.sqrt(np.maximum(X, 0)) if self.is_rooted_ else X)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float64, shape (num_cells, num_classes)."""
        from scipy.special import softmax

        scores = self.embed(X)
        if self.method == "extra_trees":
            return self.classifier_.sums(scores.astype("float32"))
        return softmax(scores @ self.classifier_["coefficients"] + self.classifier_["intercepts"], axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        own = {"method": self.method, "options": self.options, "class_weight_power": self.class_weight_power}
        return own | {"seed": self.seed, "is_rooted": self.is_rooted_}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What the fit found."""
        is_tree = self.method == "extra_trees"
        classifier = self.classifier_.to_arrays() if is_tree else self.classifier_
        parts = {"preparation": self.preparation_.to_arrays(), "classifier": classifier}
        arrays = {f"{part}.{name}": array for part, own in parts.items() for name, array in own.items()}
        return arrays | {"center": self.center_, "components": self.components_}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], classes: Any, *, is_rooted: bool, **settings: Any) -> Self:
        """The fitted model again; `classes` in the order in which they were fitted."""
        self = cls(**settings)
        self.classes_, self.center_, self.components_ = np.asarray(classes), arrays["center"], arrays["components"]
        self.is_rooted_ = is_rooted
        self.preparation_ = Preparation.from_arrays(arrays_of("preparation", arrays))
        classifier = arrays_of("classifier", arrays)
        self.classifier_ = TreeArrays.from_arrays(classifier) if self.method == "extra_trees" else classifier
        self.n_features_in_ = len(self.center_)
        return self


def _flat(X):
    X = np.asarray(X)
    return X.reshape(len(X), int(np.prod(X.shape[1:])))
