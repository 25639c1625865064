"""How much each feature adds to the logits of boosted trees: path-dependent Shapley values (Lundberg et al. 2018).

The value of a set of features is what the trees say on average when only these are known; at a split on another
feature both ways are taken, weighed by how many training cells went there. A leaf's part of that is a product with one
factor for each feature on the way to it: 1 or 0 for a known feature (the cell takes this way or not), and the share of
training cells that do for an unknown one. The Shapley value of feature i in such a product is

    value * (known_i - unknown_i) * integral over t from 0 to 1 of prod_{j != i} (t * known_j + (1 - t) * unknown_j)

which Gauss-Legendre quadrature with half as many points as there are features on the way gives exactly.
"""

from typing import NamedTuple

import numba
import numpy as np

from ..classification.tree_arrays import TreeArrays

__all__ = ["LeafPaths", "leaf_paths", "tree_contributions"]


class LeafPaths(NamedTuple):
    """What leads to each leaf: a feature on the way has one condition, however often it is asked about.

    Attributes
    ----------
    first : int64 array, shape (num_leaves + 1,)
        Where the conditions of each leaf begin.
    feature : int64 array, shape (num_conditions,)
    low, high : float64 arrays, shape (num_conditions,)
        The leaf is for cells with low < x <= high.
    missing : bool array, shape (num_conditions,)
        Whether it is for cells whose value is missing.
    share : float64 array, shape (num_conditions,)
        Of training cells, at all splits on this feature, that went this way.
    answer : int64 array, shape (num_leaves,)
        Row of the trees' values.
    tree : int64 array, shape (num_leaves,)
    """

    first: np.ndarray
    feature: np.ndarray
    low: np.ndarray
    high: np.ndarray
    missing: np.ndarray
    share: np.ndarray
    answer: np.ndarray
    tree: np.ndarray


def leaf_paths(trees: TreeArrays, cover: np.ndarray) -> LeafPaths:
    """The conditions of all leaves.

    Parameters
    ----------
    trees : TreeArrays
    cover : float64 array, shape (num_nodes,)
        Training cells at each node.

    Returns
    -------
    LeafPaths
    """
    first, rows, leaves = [0], [], []
    for tree, root in enumerate(trees.roots.tolist()):
        waiting = [(root, {})]
        while waiting:
            node, conditions = waiting.pop()
            left, right = int(trees.left[node]), int(trees.right[node])
            if left < 0:
                rows += [(feature, *condition) for feature, condition in conditions.items()]
                first.append(len(rows))
                leaves.append((-1 - left, tree))
                continue
            feature, threshold = int(trees.feature[node]), float(trees.threshold[node])
            low, high, missing, share = conditions.get(feature, (-np.inf, np.inf, True, 1.0))
            goes_left = bool(trees.missing_left[node])
            for child, ends, missing_too in (
                (left, (low, min(high, threshold)), goes_left),
                (right, (max(low, threshold), high), not goes_left),
            ):
                own = (*ends, missing and missing_too, share * float(cover[child] / cover[node]))
                waiting.append((child, {**conditions, feature: own}))
    columns = [np.array(column) for column in zip(*rows, strict=True)] if rows else [np.zeros(0)] * 5
    dtypes = ("int64", "float64", "float64", "bool", "float64")
    columns = [column.astype(dtype) for column, dtype in zip(columns, dtypes, strict=True)]
    answer, tree = np.array(leaves, dtype="int64").reshape(-1, 2).T
    return LeafPaths(np.array(first), *columns, answer.copy(), tree.copy())


def tree_contributions(trees: TreeArrays, cover: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values of every feature for every sum of the trees.

    Parameters
    ----------
    trees : TreeArrays
        With one output per tree, as boosting has them.
    cover : float64 array, shape (num_nodes,)
        Training cells at each node.
    X : array, shape (num_cells, num_features)
        NaN where missing.

    Returns
    -------
    contributions : float64 array, shape (num_cells, num_features, num_outputs)
    expected : float64 array, shape (num_outputs,)
        The mean answer; ``expected + contributions.sum(axis=1)`` are the trees' sums.
    """
    X = np.ascontiguousarray(X, dtype="float64")
    paths = leaf_paths(trees, cover)
    longest = int(np.diff(paths.first).max(initial=1))
    points, weights = np.polynomial.legendre.leggauss(max(1, (longest + 1) // 2))
    out = np.zeros((*X.shape, len(trees.baseline)))
    expected = trees.baseline.astype("float64").copy()
    shares = np.multiply.reduceat(np.append(paths.share, 1.0), paths.first[:-1])
    shares[np.diff(paths.first) == 0] = 1.0
    values, outputs = trees.values[paths.answer, 0].astype("float64"), trees.outputs[paths.tree]
    np.add.at(expected, outputs, shares * values)
    _add_contributions(X, *paths[:6], values, outputs, (points + 1) / 2, weights / 2, out)
    return out, expected


@numba.njit(nogil=True)
def _add_contributions(X, first, feature, low, high, missing, share, values, outputs, points, weights, out):
    for row in range(len(X)):
        for leaf in range(len(values)):
            start, stop = first[leaf], first[leaf + 1]
            for point in range(len(points)):
                t, product = points[point], weights[point] * values[leaf]
                for k in range(start, stop):
                    product *= (1 - t) * share[k] + (t if _fits(X[row, feature[k]], low[k], high[k], missing[k]) else 0)
                for k in range(start, stop):
                    known = 1.0 if _fits(X[row, feature[k]], low[k], high[k], missing[k]) else 0.0
                    factor = (1 - t) * share[k] + t * known
                    if factor > 0:
                        out[row, feature[k], outputs[leaf]] += product * (known - share[k]) / factor


@numba.njit(nogil=True, inline="always")
def _fits(x, low, high, missing):
    return missing if np.isnan(x) else low < x <= high
