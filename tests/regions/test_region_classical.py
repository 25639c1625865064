"""Classical models against scikit-learn, the same before saving and after loading, and the arithmetic around them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import NearestCentroid

from si_neuroml.classification.folds import group_folds, macro_auc, subject_weights
from si_neuroml.classification.preparation import Preparation, class_weights
from si_neuroml.classification.tree_arrays import TreeArrays
from si_neuroml.errors import InputError, TrainingError
from si_neuroml.regions.classical import DepthPrior, LinearModel, TreeModel
from si_neuroml.regions.ensemble import SubjectEnsemble

LINEAR = ("logistic_regression", "sgd", "passive_aggressive", "perceptron", "nearest_centroid", "naive_bayes")


def rows(num=240, num_classes=3, *, seed=0, missing=0.05):
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, num_classes, num))
    X = rng.normal(0, 1, (num, 6)) + np.random.default_rng(7).normal(0, 1.5, (num_classes, 6))[labels]
    X[rng.random(X.shape) < missing] = np.nan
    return X.astype("float32"), np.array(["a", "b", "c", "d"])[labels], labels


def models():
    yield from (LinearModel(name) for name in (*LINEAR, "majority"))
    yield TreeModel("extra_trees", {"n_estimators": 20})
    yield TreeModel("hist_gradient_boosting", {"max_iter": 10})
    yield DepthPrior()
    yield SubjectEnsemble(num_folds=2, num_trees=10)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("model", list(models()), ids=lambda model: getattr(model, "method", "ensemble"))
def test_same_probabilities_from_arrays(model, num_classes):
    X, y, _ = rows(num_classes=num_classes)
    model.fit(X, y)
    again = type(model).from_arrays(model.to_arrays(), model.classes_, **model.settings())
    fresh = rows(num_classes=num_classes, seed=3, missing=0.2)[0]
    probabilities = model.predict_proba(fresh)
    np.testing.assert_allclose(again.predict_proba(fresh), probabilities, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert probabilities.shape == (len(fresh), num_classes)
    assert (probabilities >= 0).all()
    np.testing.assert_array_equal(model.predict(fresh), model.classes_[probabilities.argmax(axis=1)])
    assert all(array.dtype.kind in "iuf" for array in model.to_arrays().values())


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_learn(name):
    X, y, _ = rows(600)
    fresh, truth, _ = rows(600, seed=5)
    assert (LinearModel(name).fit(X, y).predict(fresh) == truth).mean() > 0.7


@pytest.mark.parametrize("num_classes", [2, 3])
def test_linear_probabilities_equal_those_of_scikit_learn(num_classes):
    X, y, _ = rows(num_classes=num_classes)
    fresh = rows(seed=2, num_classes=num_classes)[0]
    prepare, unit = Preparation.fit(X), Preparation.fit(X, "unit_interval")
    cases = {
        "logistic_regression": (LogisticRegression(C=0.3, class_weight="balanced", max_iter=2000), prepare),
        "naive_bayes": (MultinomialNB(alpha=2.0), unit),
    }
    options = {"logistic_regression": {"C": 0.3}, "naive_bayes": {"alpha": 2.0}}
    for name, (estimator, own) in cases.items():
        power = 1.0 if name == "logistic_regression" else 0.0
        model = LinearModel(name, options[name], class_weight_power=power).fit(X, y)
        expected = estimator.fit(own.apply(X), y).predict_proba(own.apply(fresh))
        np.testing.assert_allclose(model.predict_proba(fresh), expected, atol=1e-3)
    # models without probabilities keep the order of scikit-learn's decisions
    for name, estimator in (("nearest_centroid", NearestCentroid()), ("perceptron", Perceptron(penalty="l2"))):
        model = LinearModel(name, class_weight_power=0.0).fit(X, y)
        expected = estimator.fit(prepare.apply(X), y).predict(prepare.apply(fresh))
        np.testing.assert_array_equal(model.predict(fresh), expected)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_forest_arrays_equal_scikit_learn(num_classes):
    X, y, _ = rows(num_classes=num_classes, missing=0.0)
    fresh = rows(500, seed=4, num_classes=num_classes, missing=0.0)[0]
    forest = ExtraTreesClassifier(30, min_samples_leaf=3, random_state=0).fit(X, y)
    found = TreeArrays.from_forest(forest).sums(fresh)
    np.testing.assert_allclose(found, forest.predict_proba(fresh), atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_boosting_arrays_equal_scikit_learn_with_missing_values(num_classes):
    X, y, _ = rows(800, num_classes=num_classes, missing=0.3)
    fresh = rows(500, seed=4, num_classes=num_classes, missing=0.3)[0]
    model = TreeModel("hist_gradient_boosting", {"max_iter": 15}, class_weight_power=0.0).fit(X, y)
    own = {"learning_rate": 0.05, "max_leaf_nodes": 15, "l2_regularization": 1.0, "early_stopping": False}
    boosting = HistGradientBoostingClassifier(max_iter=15, random_state=0, **own).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(fresh), boosting.predict_proba(fresh), atol=1e-6)
    # missing values go their own way, not that of the median
    filled = np.where(np.isfinite(fresh), fresh, np.nanmedian(X, axis=0))
    assert np.abs(model.predict_proba(fresh) - model.predict_proba(filled)).max() > 0.01


def test_boosting_asks_whether_a_value_is_missing():
    """The split at infinity survives the arrays, which must be finite."""
    X = np.where(np.arange(200)[:, None] % 2 == 0, 1.0, np.nan).astype("float32")
    y = np.arange(200) % 2
    model = TreeModel("hist_gradient_boosting", {"max_iter": 30}).fit(X, y)
    assert all(np.isfinite(array).all() for array in model.to_arrays().values())
    np.testing.assert_array_equal(model.predict(X), y)


def test_centroids_do_not_mind_columns_of_one_value(recwarn):
    X, y, _ = rows(missing=0.0)
    plain = LinearModel("nearest_centroid").fit(X, y)
    more = LinearModel("nearest_centroid").fit(np.column_stack([X, np.full(len(X), 3.0)]), y)
    found = more.predict_proba(np.column_stack([X, np.full(len(X), 3.0)]))
    np.testing.assert_allclose(found, plain.predict_proba(X), atol=1e-6)
    assert not recwarn.list


def test_majority_says_the_shares_of_the_classes():
    X, y, labels = rows()
    found = LinearModel("majority").fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found, np.tile(np.bincount(labels) / len(labels), (len(X), 1)))


def test_depth_prior_knows_depth_and_nothing_else():
    depth = np.linspace(0, 1000, 200)
    y = np.where(depth < 500, "TH", "CTX")
    X = np.stack([depth, np.random.default_rng(0).normal(size=200)], axis=1)
    model = DepthPrior(options={"sd_um": 50.0}).fit(X, y)
    found = model.predict_proba(np.array([[100.0, 9.0], [100.0, -9.0], [900.0, 0.0], [500.0, 0.0], [np.nan, 0.0]]))
    th = list(model.classes_).index("TH")
    assert found[0, th] > 0.95
    np.testing.assert_array_equal(found[0], found[1])
    assert found[2, th] < 0.05
    np.testing.assert_allclose(found[3:, th], 0.5, atol=0.03)
    with pytest.raises(InputError, match="sd_um"):
        DepthPrior(options={"width": 3}).fit(X, y)
    with pytest.raises(InputError, match="200 units has a depth"):
        DepthPrior().fit(np.full((200, 1), np.nan), y)


def test_a_weight_of_two_is_a_unit_twice():
    X, y, _ = rows(120)
    twice = np.arange(len(y)) < 40
    weighted = LinearModel(class_weight_power=0.0).fit(X, y, sample_weight=1.0 + twice)
    # the same scaling of columns, which does not look at weights
    repeated = LogisticRegression(max_iter=2000)
    prepared = weighted.preparation_.apply(X)
    repeated.fit(np.concatenate([prepared, prepared[twice]]), np.concatenate([y, y[twice]]))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(prepared), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.floats(0.0, 2.0))
def test_class_weights_follow_the_power(counts, power):
    labels = np.repeat(np.arange(len(counts)), counts)
    weights = class_weights(labels, power)
    totals = np.bincount(labels, weights)
    shares = np.array(counts) / sum(counts)
    np.testing.assert_allclose(totals / totals.sum(), shares ** (1 - power) / (shares ** (1 - power)).sum(), rtol=1e-9)


def test_subject_weights_are_those_of_a_random_effect():
    labels = np.repeat([0, 0, 1], [100, 10, 30])
    groups = np.repeat(["a", "b", "b"], [100, 10, 30])
    weights = subject_weights(labels, groups, 20.0)
    of_a, of_b = weights[:100].sum(), weights[100:110].sum()
    assert of_a / of_b == pytest.approx((100 / 120) / (10 / 30))
    np.testing.assert_allclose(weights[110:], 1.0)
    assert weights[:110].mean() == pytest.approx(1.0)
    equal = subject_weights(labels, groups, 0.0)
    assert equal[:100].sum() == pytest.approx(equal[100:110].sum())


def test_folds_hold_whole_groups_and_every_unit_once():
    rng = np.random.default_rng(0)
    groups, labels = rng.integers(0, 12, 400), rng.integers(0, 3, 400)
    for num_folds in (2, 5, 20):
        folds = group_folds(labels, groups, num_folds)
        np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
        assert all(not set(groups[test]) & set(groups[~test]) for test in folds)
        assert len(folds) == min(num_folds, 12)
    with pytest.raises(InputError, match="1 groups"):
        group_folds(labels, np.zeros(400), 5)


def test_macro_auc_of_known_cases():
    labels = np.array([0, 0, 1, 1])
    perfect = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0], [0.1, 0.9, 0]])
    assert macro_auc(perfect, labels) == 1.0
    assert macro_auc(perfect[:, [1, 0, 2]], labels) == 0.0
    assert macro_auc(np.full((4, 3), 1 / 3), labels) == 0.5
    assert np.isnan(macro_auc(perfect[:2], labels[:2]))


def test_preparation_fills_scales_and_balances_families():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(5, 3, (2000, 1)), rng.normal(0, 1, (2000, 4)), np.full((2000, 1), np.nan)], axis=1)
    X[0, 0], X[1, 0] = np.nan, 1e9
    prepared = Preparation.fit(X).apply(X)
    assert prepared[0, 0] == 0.0
    assert prepared[1, 0] == 6.0
    assert np.std(prepared[2:, 0]) == pytest.approx(1.0, abs=0.06)
    assert not prepared[:, 5].any()
    families = ("rate", *["log_isi"] * 4, "acg")
    balanced = Preparation.fit(X, families=families).apply(X)
    assert balanced[2:, 0].var() == pytest.approx(balanced[:, 1:5].var(axis=0).sum(), rel=0.1)
    # one scale for the bins of a curve
    shared = Preparation.fit(X[:, 1:5], "shared")
    assert len(set(shared.scale)) == len(set(shared.center)) == 1


def test_ensemble_is_better_on_new_subjects_than_its_members_alone():
    """Subjects of very different size, one of which is odd: weights by subject keep it from deciding alone."""
    rng = np.random.default_rng(0)

    def subject(number, num, shift):
        labels = rng.integers(0, 2, num)
        X = rng.normal(0, 1, (num, 3)) + np.array([1.0, 0.0, 0.0]) * labels[:, None]
        X[:, 1] += shift * labels
        return X, labels, np.full(num, number)

    parts = [subject(0, 700, 4.0), *(subject(k, 60, rng.normal(0, 0.5)) for k in range(1, 8))]
    X, labels, groups = (np.concatenate(part) for part in zip(*parts, strict=True))
    fresh, truth, _ = (np.concatenate(part) for part in zip(*(subject(k, 300, -1.0) for k in range(3)), strict=True))
    ensemble = SubjectEnsemble(use_trees=False, half_units=0.0).fit(X, labels, groups=groups)
    plain = LinearModel().fit(X, labels)
    assert (ensemble.predict(fresh) == truth).mean() > (plain.predict(fresh) == truth).mean() + 0.05
    assert ensemble.out_of_fold_.scored.all()
    # the probabilities left out are not those of the final model
    assert np.abs(ensemble.out_of_fold_.probabilities - ensemble.predict_proba(X)).max() > 0.01


def test_trees_are_mixed_in_where_every_subject_shows_that_they_help():
    """Classes that no line separates; not when a class has a single subject, whatever the others say."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (480, 2))
    labels, groups = (X[:, 0] * X[:, 1] > 0).astype(int), np.repeat(np.arange(8), 60)
    mixed = SubjectEnsemble(num_trees=15).fit(X, labels, groups=groups)
    assert mixed.tree_share_ > 0.5
    assert (mixed.predict(X) == labels).mean() > 0.9
    single = np.where((groups == 0) & (X[:, 0] > 0.5), 2, labels)
    assert SubjectEnsemble(num_trees=15).fit(X, single, groups=groups).tree_share_ == 0.0
    noise = rng.integers(0, 2, 480)
    assert SubjectEnsemble(num_trees=15).fit(X, noise, groups=groups).tree_share_ == 0.0


def test_bad_training_sets_are_refused():
    X, y, _ = rows()
    with pytest.raises(TrainingError, match="one class"):
        LinearModel().fit(X, np.full(len(X), "a"))
    with pytest.raises(InputError, match="y \\(num_units,\\)"):
        LinearModel().fit(X, y[:-1])
    with pytest.raises(InputError, match="sample_weight"):
        LinearModel().fit(X, y, sample_weight=np.full(len(X), np.nan))
    with pytest.raises(InputError, match="'forest'"):
        TreeModel("forest").fit(X, y)
    with pytest.raises(InputError, match="cannot be used"):
        LinearModel(options={"trees": 3}).fit(X, y)
    with pytest.raises(InputError, match="6"):
        LinearModel().fit(X, y).predict_proba(X[:, :4])
