"""Decision trees as arrays of nodes: scikit-learn grows them, numba walks them, and a model folder can hold them.

All trees of a model lie one after the other. A node either asks whether ``x[feature] <= threshold`` (left if so; a
missing value goes where ``missing_left`` says) or, where ``left`` is negative, is a leaf whose answer is row
``-1 - left`` of ``values``.
"""

from dataclasses import dataclass
from typing import Any, Self

import numba
import numpy as np

__all__ = ["TreeArrays"]


@dataclass(frozen=True, eq=False)
class TreeArrays:
    """Nodes of all trees, and what is made of their answers.

    Attributes
    ----------
    feature, left, right : int32 arrays, shape (num_nodes,)
        Column asked about, and the node that follows; see above for leaves.
    threshold : float64 array, shape (num_nodes,)
        Largest value that goes left.
    missing_left : uint8 array, shape (num_nodes,)
        Whether missing values do.
    roots : int32 array, shape (num_trees,)
        First node of each tree.
    values : float32 or float64 array, shape (num_leaves, num_outputs)
        Answers.
    outputs : int32 array, shape (num_trees,)
        Class that the answer of a tree belongs to, -1 where it has a number for each class.
    baseline : float64 array, shape (num_classes,)
        Added to the sum of the answers.
    """

    feature: np.ndarray
    left: np.ndarray
    right: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    roots: np.ndarray
    values: np.ndarray
    outputs: np.ndarray
    baseline: np.ndarray

    @classmethod
    def from_forest(cls, forest: Any) -> Self:
        """Of a fitted ``ExtraTreesClassifier`` or ``RandomForestClassifier``: the answers sum to the probabilities."""
        num_trees, parts = len(forest.estimators_), []
        for estimator in forest.estimators_:
            tree = estimator.tree_
            shares = tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True) / num_trees
            is_leaf = tree.children_left < 0
            missing = getattr(tree, "missing_go_to_left", np.zeros(len(is_leaf)))
            nodes = (tree.feature, tree.children_left, tree.children_right, tree.threshold, missing, is_leaf)
            parts.append((*nodes, shares[is_leaf].astype("float32")))
        return cls._joined(parts, np.full(num_trees, -1), np.zeros(len(forest.classes_)))

    @classmethod
    def from_boosting(cls, boosting: Any) -> Self:
        """Of a fitted ``HistGradientBoostingClassifier`` without categories: the sums are log-odds or logits."""
        parts, outputs = [], []
        for trees in boosting._predictors:
            for output, tree in enumerate(trees):
                nodes = tree.nodes
                is_leaf = nodes["is_leaf"].astype(bool)
                # "missing or not" is asked with an infinite threshold, which files cannot hold
                threshold = np.where(is_leaf, 0.0, np.minimum(nodes["num_threshold"], np.finfo("float64").max))
                directions = (nodes["left"].astype("int64"), nodes["right"].astype("int64"))
                shared = (nodes["feature_idx"], *directions, threshold, nodes["missing_go_to_left"], is_leaf)
                parts.append((*shared, nodes["value"][is_leaf][:, None]))
                outputs.append(output)
        return cls._joined(parts, np.array(outputs), np.asarray(boosting._baseline_prediction, dtype="float64").ravel())

    @classmethod
    def _joined(cls, parts, outputs, baseline):
        sizes, leaves = [len(part[0]) for part in parts], [len(part[-1]) for part in parts]
        first_node, first_leaf = np.cumsum([0, *sizes])[:-1], np.cumsum([0, *leaves])[:-1]
        columns = [[] for _ in range(5)]
        for (feature, left, right, threshold, missing, is_leaf, _), node, leaf in zip(
            parts, first_node, first_leaf, strict=True
        ):
            answer = -1 - (leaf + np.cumsum(is_leaf) - 1)
            columns[0].append(np.where(is_leaf, 0, feature))
            columns[1].append(np.where(is_leaf, answer, left + node))
            columns[2].append(np.where(is_leaf, 0, right + node))
            columns[3].append(np.where(is_leaf, 0.0, threshold))
            columns[4].append(np.where(is_leaf, 0, missing))
        dtypes = ("int32", "int32", "int32", "float64", "uint8")
        joined = [np.concatenate(column).astype(dtype) for column, dtype in zip(columns, dtypes, strict=True)]
        values = np.ascontiguousarray(np.concatenate([part[-1] for part in parts]))
        return cls(*joined, first_node.astype("int32"), values, outputs.astype("int32"), baseline)

    def sums(self, X: np.ndarray) -> np.ndarray:
        """Baseline plus the answers of all trees, float64, shape (num_units, num_classes); NaN in X is missing."""
        out = np.tile(self.baseline, (len(X), 1))
        nodes = (self.feature, self.left, self.right, self.threshold, self.missing_left, self.roots)
        # float64 in any case, so that numba compiles once
        values = self.values.astype("float64")
        _walk(np.ascontiguousarray(X, dtype="float64"), *nodes, values, self.outputs, out)
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The inverse of :meth:`to_arrays`."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


@numba.njit(nogil=True)
def _walk(X, feature, left, right, threshold, missing_left, roots, values, outputs, out):
    for tree in range(len(roots)):
        for row in range(len(X)):
            node = roots[tree]
            while left[node] >= 0:
                value = X[row, feature[node]]
                goes_left = missing_left[node] == 1 if np.isnan(value) else value <= threshold[node]
                node = left[node] if goes_left else right[node]
            answer = -1 - left[node]
            if outputs[tree] >= 0:
                out[row, outputs[tree]] += values[answer, 0]
            else:
                for k in range(values.shape[1]):
                    out[row, k] += values[answer, k]
