"""Boosted trees on features: grown by scikit-learn or LightGBM, kept as arrays that a model folder can hold.

After ``fit`` nothing of the library's object is left, so that a model predicts the same before it is saved and after
it is loaded, also where LightGBM is not installed. Beside the nodes each tree keeps how many training cells came to
every node, which is what its contributions are counted against (:mod:`~si_neuroml.celltypes.tree_contributions`).
"""

from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from ..classification.preparation import check_training_set, class_weights
from ..classification.tree_arrays import TreeArrays
from ..errors import InputError, MissingDependencyError

__all__ = ["BOOSTING_DEFAULTS", "BoostedTrees"]

BOOSTING_DEFAULTS: dict[str, dict[str, Any]] = {
    "hist_gradient_boosting": {"max_iter": 300, "learning_rate": 0.05, "max_leaf_nodes": 31, "l2_regularization": 1.0},
    "lightgbm": {"n_estimators": 300, "learning_rate": 0.05, "num_leaves": 31, "reg_lambda": 1.0},
}


class BoostedTrees(ClassifierMixin, BaseEstimator):
    """Trees fitted to what the trees before them left over; missing values are used as they are.

    Parameters
    ----------
    method : str, default: "hist_gradient_boosting"
        Of scikit-learn, or "lightgbm", which must be installed to fit.
    options : dict, optional
        Keywords of ``HistGradientBoostingClassifier`` or ``LGBMClassifier``.
    class_weight_power : float, default: 1
        0: every cell counts the same; 1: every class does.
    seed : int, default: 0
        Of what the library draws.
    """

    def __init__(
        self,
        method: str = "hist_gradient_boosting",
        options: dict[str, Any] | None = None,
        class_weight_power: float = 1.0,
        seed: int = 0,
    ):
        self.method, self.options, self.class_weight_power, self.seed = method, options, class_weight_power, seed

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Self:
        """Fit to features (num_cells, num_features), NaN where missing; `sample_weight` multiplies class weights.

        Raises
        ------
        InputError
            On an unknown method or keyword.
        TrainingError
            On one class.
        MissingDependencyError
            When LightGBM is asked for and not installed.
        """
        if self.method not in BOOSTING_DEFAULTS:
            raise InputError(f"Boosted trees are made by {list(BOOSTING_DEFAULTS)}, got {self.method!r}.")
        X, self.classes_, labels, weights = check_training_set(X, y, sample_weight)
        weights = weights * class_weights(labels, self.class_weight_power)
        grow = _grow_scikit if self.method == "hist_gradient_boosting" else _grow_lightgbm
        options = BOOSTING_DEFAULTS[self.method] | (self.options or {})
        try:
            self.trees_, self.cover_ = grow(X.astype("float64"), labels, weights, options, self.seed)
        except (TypeError, ValueError) as error:  # the library's own, on a keyword or value that it does not take
            raise InputError(f"Settings of {self.method!r} cannot be used: {error}") from error
        self.n_features_in_ = X.shape[1]
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Logits, float64, shape (num_cells, num_classes); of two classes the first has 0."""
        X = np.asarray(X, dtype="float64")
        if X.ndim != 2 or X.shape[1] != self.n_features_in_:
            raise InputError(f"Features must have shape (num_cells, {self.n_features_in_}), got {X.shape}.")
        return self.with_first_class(self.trees_.sums(X))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float64, shape (num_cells, num_classes)."""
        return softmax(self.decision_function(X), axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @staticmethod
    def with_first_class(logits: np.ndarray) -> np.ndarray:
        """Logits of all classes: two classes have one number, that of the second."""
        return np.concatenate([np.zeros_like(logits), logits], axis=-1) if logits.shape[-1] == 1 else logits

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        own = {"method": self.method, "options": self.options, "class_weight_power": self.class_weight_power}
        return own | {"num_features": self.n_features_in_}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Nodes and how many cells came to them."""
        return {**self.trees_.to_arrays(), "cover": self.cover_}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], classes: Any, *, num_features: int, **settings: Any) -> Self:
        """The fitted model again; `classes` in the order in which they were fitted."""
        self = cls(**settings)
        self.classes_, self.n_features_in_ = np.asarray(classes), num_features
        self.trees_, self.cover_ = TreeArrays.from_arrays(arrays), arrays["cover"]
        return self


def _grow_scikit(X, labels, weights, options, seed):
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosting = HistGradientBoostingClassifier(random_state=seed, **({"early_stopping": False} | options))
    boosting.fit(X, labels, sample_weight=weights)
    cover = [tree.nodes["count"] for trees in boosting._predictors for tree in trees]
    return TreeArrays.from_boosting(boosting), np.concatenate(cover).astype("float64")


def _grow_lightgbm(X, labels, weights, options, seed):
    try:
        from lightgbm import LGBMClassifier
    except ImportError as error:
        raise MissingDependencyError("lightgbm", "lightgbm") from error

    fixed = {"random_state": seed, "n_jobs": 1, "verbose": -1, "deterministic": True, "force_row_wise": True}
    booster = LGBMClassifier(**(fixed | options)).fit(X, labels, sample_weight=weights).booster_
    dump = booster.dump_model()
    num_outputs = dump["num_tree_per_iteration"]
    parts = [_nodes_of(tree["tree_structure"]) for tree in dump["tree_info"]]
    cover = np.concatenate([part.pop() for part in parts])
    outputs = np.arange(len(parts)) % num_outputs
    return TreeArrays._joined([tuple(part) for part in parts], outputs, np.zeros(num_outputs)), cover


def _nodes_of(root):
    """Nodes of one of LightGBM's trees in the order of scikit-learn's: parents before children."""
    rows, answers, waiting = [], [], [(root, -1, 0)]
    while waiting:
        node, parent, side = waiting.pop()
        if parent >= 0:
            rows[parent][1 + side] = len(rows)
        if "leaf_value" in node:
            answers.append(node["leaf_value"])
            rows.append([0, 0, 0, 0.0, 0, 1, node.get("leaf_count", 0)])
            continue
        if node["decision_type"] != "<=":
            raise InputError(f"Splits {node['decision_type']!r} of categories are not supported.")
        # features that were never missing in training count as 0 when they are
        left_if_missing = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
        row = [node["split_feature"], 0, 0, node["threshold"], left_if_missing, 0, node["internal_count"]]
        rows.append(row)
        place = len(rows) - 1
        waiting += [(node["right_child"], place, 1), (node["left_child"], place, 0)]
    columns = [np.array(column, dtype="float64") for column in zip(*rows, strict=True)]
    feature, left, right = (column.astype("int64") for column in columns[:3])
    is_leaf = columns[5].astype(bool)
    return [feature, left, right, columns[3], columns[4], is_leaf, np.array(answers)[:, None], columns[6]]
