"""Boosted trees as arrays, and the Shapley values of their features: by definition, and as LightGBM has them."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest

from si_neuroml.celltypes.feature_models import BoostedTrees
from si_neuroml.celltypes.tree_contributions import tree_contributions
from si_neuroml.errors import InputError, TrainingError


def rows(num=300, *, num_classes=3, seed=0, missing=True):
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 1, (num, 4))
    score = X[:, 0] + X[:, 1] * (X[:, 2] > 0)
    labels = np.digitize(score, np.quantile(score, np.arange(1, num_classes) / num_classes))
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
    return X.astype("float32"), labels


def fitted(method, num_classes=3, **options):
    own = {"hist_gradient_boosting": {"max_iter": 8}, "lightgbm": {"n_estimators": 8}}[method]
    X, labels = rows(num_classes=num_classes)
    return BoostedTrees(method, {**own, **options}).fit(X, labels), X, labels


@pytest.mark.parametrize("num_classes", [2, 3])
def test_arrays_say_what_scikit_learn_says(num_classes):
    from sklearn.ensemble import HistGradientBoostingClassifier

    model, X, labels = fitted("hist_gradient_boosting", num_classes, learning_rate=0.3)
    theirs = HistGradientBoostingClassifier(
        max_iter=8, learning_rate=0.3, max_leaf_nodes=31, l2_regularization=1.0, early_stopping=False, random_state=0
    )
    weights = (len(labels) / (num_classes * np.bincount(labels)))[labels]
    theirs.fit(X.astype("float64"), labels, sample_weight=weights)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X.astype("float64")), atol=1e-9)
    assert (model.predict(X) == labels).mean() > 0.8


@pytest.mark.parametrize("missing_in_training", [True, False])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_arrays_and_contributions_are_those_of_lightgbm(num_classes, missing_in_training):
    lightgbm = pytest.importorskip("lightgbm")
    X, labels = rows(num_classes=num_classes, missing=missing_in_training)
    options = {"n_estimators": 8, "learning_rate": 0.2}
    model = BoostedTrees("lightgbm", options, class_weight_power=0.0).fit(X, labels)
    theirs = lightgbm.LGBMClassifier(
        num_leaves=31,
        reg_lambda=1.0,
        random_state=0,
        n_jobs=1,
        verbose=-1,
        deterministic=True,
        force_row_wise=True,
        **options,
    ).fit(X.astype("float64"), labels)
    fresh = rows(seed=1)[0].astype("float64")
    np.testing.assert_allclose(
        model.predict_proba(fresh),
        theirs.booster_.predict(fresh)
        if num_classes > 2
        else np.stack([1 - theirs.booster_.predict(fresh), theirs.booster_.predict(fresh)], axis=1),
        atol=1e-9,
    )
    contributions, expected = tree_contributions(model.trees_, model.cover_, fresh)
    reference = theirs.booster_.predict(fresh, pred_contrib=True).reshape(len(fresh), -1, X.shape[1] + 1)
    np.testing.assert_allclose(np.moveaxis(contributions, 2, 1), reference[..., :-1], atol=1e-6)
    np.testing.assert_allclose(np.tile(expected, (len(fresh), 1)), reference[..., -1], atol=1e-6)


@pytest.mark.parametrize("max_leaf_nodes", [3, 15])
def test_contributions_are_shapley_values(max_leaf_nodes):
    """By the definition: all sets of features, with unknown ones averaged along the tree."""
    model, X, _ = fitted("hist_gradient_boosting", max_leaf_nodes=max_leaf_nodes)
    contributions, expected = tree_contributions(model.trees_, model.cover_, X[:12])
    num = X.shape[1]
    for row in range(12):
        game = {
            known: value_of(model, X[row], set(known))
            for size in range(num + 1)
            for known in combinations(range(num), size)
        }
        np.testing.assert_allclose(expected, game[()], atol=1e-9)
        for feature in range(num):
            others = [k for k in range(num) if k != feature]
            shapley = sum(
                factorial(size)
                * factorial(num - size - 1)
                / factorial(num)
                * (game[tuple(sorted((*known, feature)))] - game[known])
                for size in range(num)
                for known in combinations(others, size)
            )
            np.testing.assert_allclose(contributions[row, feature], shapley, atol=1e-9)


def value_of(model, x, known):
    """What the trees say when only these features are known, by walking down every one of them."""
    trees, cover = model.trees_, model.cover_

    def walk(node):
        left, right = trees.left[node], trees.right[node]
        if left < 0:
            return trees.values[-1 - left, 0]
        feature = trees.feature[node]
        if feature in known:
            goes_left = trees.missing_left[node] if np.isnan(x[feature]) else x[feature] <= trees.threshold[node]
            return walk(left if goes_left else right)
        return (cover[left] * walk(left) + cover[right] * walk(right)) / cover[node]

    out = trees.baseline.copy()
    for tree, root in enumerate(trees.roots):
        out[trees.outputs[tree]] += walk(root)
    return out


@pytest.mark.parametrize("method", ["hist_gradient_boosting", "lightgbm"])
def test_contributions_add_up_and_models_come_back_from_arrays(method):
    pytest.importorskip("sklearn" if method.startswith("hist") else "lightgbm")
    model, X, _ = fitted(method)
    contributions, expected = tree_contributions(model.trees_, model.cover_, X)
    np.testing.assert_allclose(expected + contributions.sum(axis=1), model.decision_function(X), atol=1e-9)
    # the feature that no type depends on
    assert np.abs(contributions[:, 3]).mean() < 0.2 * np.abs(contributions[:, 0]).mean()
    again = BoostedTrees.from_arrays(model.to_arrays(), model.classes_, **model.settings())
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    # a tree that is a leaf says the same of all
    stump = BoostedTrees(method, {"min_samples_leaf" if method.startswith("hist") else "min_child_samples": 1000})
    X, labels = rows()
    flat, level = tree_contributions(*(stump.fit(X, labels).trees_, stump.cover_), X)
    assert not flat.any()
    np.testing.assert_allclose(np.tile(level, (len(X), 1)), stump.decision_function(X), atol=1e-9)


def test_bad_settings_are_refused():
    X, labels = rows(60)
    with pytest.raises(InputError, match="random_forest"):
        BoostedTrees("random_forest").fit(X, labels)
    with pytest.raises(InputError, match="trees"):
        BoostedTrees(options={"trees": 3}).fit(X, labels)
    with pytest.raises(InputError, match="max_iter"):
        BoostedTrees(options={"max_iter": -3}).fit(X, labels)
    with pytest.raises(TrainingError, match="one class"):
        BoostedTrees().fit(X, np.zeros(60))
    model = BoostedTrees(options={"max_iter": 2}).fit(X, labels)
    with pytest.raises(InputError, match="4"):
        model.predict_proba(X[:, :2])
