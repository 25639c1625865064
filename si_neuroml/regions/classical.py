"""Classical classifiers of units: fitted by scikit-learn, kept as arrays, with probabilities from every one of them.

Each is a scikit-learn estimator (``fit``, ``predict_proba``, ``predict``) that fills in missing values and scales by
itself. After ``fit`` nothing of scikit-learn's object is left: predictions are made from the arrays that a model folder
holds, so that a model predicts the same before it is saved and after it is loaded.

Probabilities of models that have none of their own are the softmax of their decision values (nearest centroid: of minus
half the squared distance). Only their order means something until they are calibrated, which
:func:`~si_neuroml.regions.fit.fit_region_classifier` does on other animals.
"""

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from ..classification.preparation import Preparation, arrays_of, check_training_set, class_weights
from ..classification.tree_arrays import TreeArrays
from ..errors import InputError

__all__ = ["DepthPrior", "LinearModel", "TreeModel", "softmax"]

# scikit-learn's defaults except where they say more about the problem
LINEAR_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"loss": "hinge", "alpha": 1e-3, "average": True},
    "passive_aggressive": {"C": 0.01},
    "perceptron": {"alpha": 1e-4, "penalty": "l2"},
    "nearest_centroid": {},
    "naive_bayes": {"alpha": 1.0},
    "logistic_regression": {"C": 1.0},
    "majority": {},
}
TREE_DEFAULTS: dict[str, dict[str, Any]] = {
    "extra_trees": {"n_estimators": 300, "min_samples_leaf": 5, "max_features": "sqrt"},
    "hist_gradient_boosting": {"max_iter": 150, "learning_rate": 0.05, "max_leaf_nodes": 15, "l2_regularization": 1.0},
}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of logits as probabilities, float64."""
    values = np.exp(logits - logits.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


class _ArrayModel(ClassifierMixin, BaseEstimator):
    """What the models share: checks, class weights, and their life as arrays."""

    DEFAULTS: ClassVar[dict[str, dict[str, Any]]]

    def __init__(
        self, method: str, options: dict[str, Any] | None = None, class_weight_power: float = 1.0, seed: int = 0
    ):
        self.method, self.options, self.class_weight_power, self.seed = method, options, class_weight_power, seed

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit to rows of columns (NaN where missing) and their classes; `sample_weight` multiplies class weights."""
        if self.method not in self.DEFAULTS:
            raise InputError(f"{type(self).__name__} has the methods {list(self.DEFAULTS)}, got {self.method!r}.")
        X, self.classes_, labels, weights = check_training_set(X, y, sample_weight)
        weights = weights * class_weights(labels, self.class_weight_power)
        try:
            self._fit(X, labels, weights, self.DEFAULTS[self.method] | (self.options or {}))
        except TypeError as error:  # scikit-learn's own, on a keyword that it does not know
            raise InputError(f"Settings of {self.method!r} cannot be used: {error}") from error
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        return {"method": self.method, "options": self.options, "class_weight_power": self.class_weight_power}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What the fit found."""
        parts = {"preparation": self.preparation_.to_arrays(), "model": self._arrays()}
        return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], classes: Any, **settings: Any) -> Self:
        """The fitted model again; `classes` in the order in which they were fitted."""
        self = cls(**settings)
        self.classes_ = np.asarray(classes)
        self.preparation_ = Preparation.from_arrays(arrays_of("preparation", arrays))
        self._set_arrays(arrays_of("model", arrays))
        self.n_features_in_ = len(self.preparation_.fill)
        return self


class LinearModel(_ArrayModel):
    """Models whose logits are ``X @ coefficients + intercepts``.

    Parameters
    ----------
    method : str, default: "logistic_regression"
        "logistic_regression" (multinomial), "sgd" (linear support vector machine by stochastic gradients),
        "passive_aggressive", "perceptron", "nearest_centroid", "naive_bayes" (multinomial, on columns scaled to 0 to
        1), or "majority" (the shares of the classes, whatever the columns).
    options : dict, optional
        Keywords of scikit-learn's estimator, such as ``{"C": 0.1}``.
    class_weight_power : float, default: 1
        0: every unit counts the same; 1: every class does. Ignored by "majority"; a centroid has no use for it.
    seed : int, default: 0
        Of the order of stochastic gradients.
    """

    DEFAULTS = LINEAR_DEFAULTS

    def __init__(
        self,
        method: str = "logistic_regression",
        options: dict[str, Any] | None = None,
        class_weight_power: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(method, options, class_weight_power, seed)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float64, shape (num_units, num_classes)."""
        return softmax(self.decision_function(X))

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Logits, float64, shape (num_units, num_classes), also for two classes."""
        return self.preparation_.apply(np.asarray(X)) @ self.coefficients_ + self.intercepts_

    def _fit(self, X, labels, weights, options):
        self.preparation_ = Preparation.fit(X, "unit_interval" if self.method == "naive_bayes" else "robust")
        prepared = self.preparation_.apply(X)
        if self.method == "majority":
            self.coefficients_ = np.zeros((X.shape[1], len(self.classes_)))
            self.intercepts_ = np.log(np.bincount(labels) / len(labels))
            return
        estimator = _linear_estimator(self.method, options, self.seed)
        if self.method == "nearest_centroid":
            with warnings.catch_warnings():
                # about the spread within classes, which is not used here
                warnings.filterwarnings("ignore", message=".*zero standard deviation")
                estimator.fit(prepared, labels)
            # softmax does not see what all classes share, here half the squared length of the row
            self.coefficients_ = estimator.centroids_.T.copy()
            self.intercepts_ = -0.5 * (estimator.centroids_**2).sum(axis=1)
            return
        estimator.fit(prepared, labels, sample_weight=weights)
        if self.method == "naive_bayes":
            self.coefficients_, self.intercepts_ = estimator.feature_log_prob_.T.copy(), estimator.class_log_prior_
            return
        coefficients, intercepts = estimator.coef_, estimator.intercept_
        if len(self.classes_) == 2:  # one decision value, the logit of the second class
            coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercepts)
        self.coefficients_, self.intercepts_ = coefficients.T.copy(), np.asarray(intercepts)

    def _arrays(self):
        return {"coefficients": self.coefficients_, "intercepts": self.intercepts_}

    def _set_arrays(self, arrays):
        self.coefficients_, self.intercepts_ = arrays["coefficients"], arrays["intercepts"]


class TreeModel(_ArrayModel):
    """Ensembles of trees.

    Parameters
    ----------
    method : str, default: "extra_trees"
        "extra_trees": mean of trees with random thresholds; "hist_gradient_boosting": trees fitted to what the trees
        before them left over, missing values included as they are.
    options, class_weight_power, seed
        As for :class:`LinearModel`.
    """

    DEFAULTS = TREE_DEFAULTS

    def __init__(
        self,
        method: str = "extra_trees",
        options: dict[str, Any] | None = None,
        class_weight_power: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(method, options, class_weight_power, seed)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float64, shape (num_units, num_classes)."""
        if self.method == "extra_trees":
            return self.trees_.sums(self._filled(np.asarray(X)))
        logits = self.trees_.sums(np.asarray(X, dtype="float64"))
        if logits.shape[1] == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        return softmax(logits)

    def _fit(self, X, labels, weights, options):
        from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

        self.preparation_ = Preparation.fit(X)
        if self.method == "extra_trees":
            forest = ExtraTreesClassifier(n_jobs=1, random_state=self.seed, **options)
            self.trees_ = TreeArrays.from_forest(forest.fit(self._filled(X), labels, sample_weight=weights))
            return
        boosting = HistGradientBoostingClassifier(random_state=self.seed, **({"early_stopping": False} | options))
        self.trees_ = TreeArrays.from_boosting(boosting.fit(X.astype("float64"), labels, sample_weight=weights))

    def _filled(self, X):
        # the forest rounds to float32 and compares then
        return np.where(np.isfinite(X), X, self.preparation_.fill).astype("float32")

    def _arrays(self):
        return self.trees_.to_arrays()

    def _set_arrays(self, arrays):
        self.trees_ = TreeArrays.from_arrays(arrays)


class DepthPrior(_ArrayModel):
    """What depth along the probe alone says: share of the classes at each depth. A baseline, not a region classifier.

    It knows where probes were put, not what neurons do, and a classifier that does not beat it has learned nothing but
    the way a lab targets its probes. Units per class are counted along the depth with a Gaussian window.

    Parameters
    ----------
    method : str, default: "depth_prior"
        There is one.
    options : dict, optional
        ``sd_um`` (default 100), standard deviation of the window, and ``pseudocount`` (default 1), units added to each
        class everywhere.
    class_weight_power, seed
        As for :class:`LinearModel`.

    Notes
    -----
    The first column of X is the depth in um; others are not looked at. Where it is missing, the shares of the classes.
    """

    DEFAULTS: ClassVar = {"depth_prior": {"sd_um": 100.0, "pseudocount": 1.0}}

    def __init__(
        self,
        method: str = "depth_prior",
        options: dict[str, Any] | None = None,
        class_weight_power: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(method, options, class_weight_power, seed)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float64, shape (num_units, num_classes)."""
        depth = np.asarray(X, dtype="float64")[:, 0]
        known = np.isfinite(depth)
        at = np.where(known, depth, self.grid_um_[0])
        out = np.stack([np.interp(at, self.grid_um_, shares) for shares in self.shares_], axis=1)
        out[~known] = self.unplaced_
        return out

    def _fit(self, X, labels, weights, options):
        sd_um, pseudocount = options.pop("sd_um"), options.pop("pseudocount")
        if options or not sd_um > 0 or not pseudocount > 0:
            raise InputError(f"depth_prior has sd_um and pseudocount, both above 0; got {self.options!r}.")
        self.preparation_ = Preparation.fit(X)
        depth = X[:, 0].astype("float64")
        known, k = np.isfinite(depth), len(self.classes_)
        if not known.any():
            raise InputError(f"None of {len(depth)} units has a depth; depth_prior needs depth_um.")
        steps = max(2, int(np.ceil(4 * np.ptp(depth[known]) / sd_um)) + 1)
        self.grid_um_ = np.linspace(depth[known].min(), depth[known].max() + 1e-9, steps)
        total = np.bincount(labels, weights, minlength=k)
        self.unplaced_ = total / total.sum()
        counts = np.empty((k, steps))
        for own in range(k):
            mine = known & (labels == own)
            # window of height 1, so that counts are units within about 2.5 sd
            window = np.exp(-0.5 * ((self.grid_um_[:, None] - depth[mine]) / sd_um) ** 2)
            counts[own] = window @ weights[mine] + pseudocount * self.unplaced_[own]
        self.shares_ = counts / counts.sum(axis=0)

    def _arrays(self):
        return {"grid_um": self.grid_um_, "shares": self.shares_, "unplaced": self.unplaced_}

    def _set_arrays(self, arrays):
        self.grid_um_, self.shares_, self.unplaced_ = arrays["grid_um"], arrays["shares"], arrays["unplaced"]


def _linear_estimator(method, options, seed):
    from sklearn import linear_model
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.neighbors import NearestCentroid

    if method == "logistic_regression":
        return linear_model.LogisticRegression(**({"max_iter": 2000} | options))
    if method == "naive_bayes":
        return MultinomialNB(**options)
    if method == "nearest_centroid":
        return NearestCentroid(**options)
    if method == "perceptron":
        return linear_model.Perceptron(random_state=seed, **options)
    if method == "passive_aggressive":
        # PA-I of Crammer et al. 2006 as scikit-learn has it since 1.8; C is the largest step
        own = {"eta0" if name == "C" else name: value for name, value in options.items()}
        own = {"loss": "hinge", "penalty": None, "learning_rate": "pa1", "average": True} | own
        return linear_model.SGDClassifier(random_state=seed, **own)
    return linear_model.SGDClassifier(random_state=seed, **options)
