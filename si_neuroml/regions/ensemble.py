"""The recommended model: a logistic regression, with trees if wanted, regularised by what holds on unseen subjects.

A region classifier meets animals that it was not fitted to. Therefore subjects weigh by what they can say about a
class, not by their number of units; families of features weigh the same, so that 40 bins of a histogram do not outvote
a waveform; and how strongly the regression is regularised, how small leaves of the trees may become, and how both are
mixed is chosen on subjects left out, inside the training set. It is chosen by the log-loss, which still sees a
difference where few subjects leave the accuracy to chance. Trees are mixed in only where subjects agree that they help,
and only when every class has two subjects: what trees make of the single animal of a class cannot be checked.
"""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from ..classification.folds import SMALLEST, OutOfFold, group_folds, mean_log_loss, subject_weights
from ..classification.preparation import Preparation, arrays_of, check_training_set, class_weights
from ..errors import InputError
from .classical import TreeModel, softmax

__all__ = ["SubjectEnsemble"]

C_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LEAF_GRID = (5, 20)
SHARE_GRID = (0.2, 0.4, 0.6, 0.8, 1.0)


class SubjectEnsemble(ClassifierMixin, BaseEstimator):
    """Logistic regression and extremely randomised trees for subjects that are not in the training set.

    Parameters
    ----------
    use_trees : bool, default: True
        False: the regression alone, the recommended model. On unseen rats (7 in all) trees made it worse; on unseen
        mice (32, five features) better.
    families : tuple of str, optional
        Family of each column of X, which then weigh the same. Default: all columns do.
    class_weight_power : float, default: 1
        0: every unit counts the same; 1: every class does.
    half_units : float, default: 20
        See :func:`~si_neuroml.classification.folds.subject_weights`.
    num_folds : int, default: 5
        Of subjects, for the choices.
    num_trees : int, default: 200
        Trees.
    seed : int, default: 0
        Of folds and trees.

    Attributes
    ----------
    C_, min_samples_leaf_, tree_share_ : float, int, float
        What was chosen; the mixture is exp((1 - share) log p_regression + share log p_trees), normalised.
    out_of_fold_ : OutOfFold
        Of the training units, with these choices.
    """

    def __init__(
        self,
        use_trees: bool = True,
        families: tuple[str, ...] | None = None,
        class_weight_power: float = 1.0,
        half_units: float = 20.0,
        num_folds: int = 5,
        num_trees: int = 200,
        seed: int = 0,
    ):
        self.use_trees, self.families, self.class_weight_power = use_trees, families, class_weight_power
        self.half_units, self.num_folds, self.num_trees, self.seed = half_units, num_folds, num_trees, seed

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        *,
        groups: np.ndarray | None = None,
    ) -> Self:
        """Choose and fit.

        Parameters
        ----------
        X, y : arrays, shapes (num_units, num_columns) and (num_units,)
            Columns (NaN where missing) and class of each unit.
        sample_weight : array, shape (num_units,), optional
            Multiplies the weights.
        groups : array, shape (num_units,), optional
            Subject of each unit. Default, and with a single one: each unit is its own, and the choices are those for
            new units of the same animals.
        """
        X, self.classes_, labels, weights = check_training_set(X, y, sample_weight)
        if not self.half_units >= 0:
            raise InputError(f"half_units must be at least 0, got {self.half_units!r}.")
        own = np.arange(len(labels)) if groups is None or len(np.unique(groups)) < 2 else np.asarray(groups)
        weights = weights * class_weights(labels, self.class_weight_power)
        weights = weights * subject_weights(labels, own, self.half_units)
        self._choose(X, labels, weights, own)
        self.preparation_ = Preparation.fit(X, families=self.families)
        prepared = self.preparation_.apply(X)
        self.coefficients_, self.intercepts_ = _regression(prepared, labels, weights, self.C_, len(self.classes_))
        self.trees_ = self._trees(self.min_samples_leaf_).fit(X, labels, weights) if self.tree_share_ > 0 else None
        self.n_features_in_ = X.shape[1]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float64, shape (num_units, num_classes)."""
        X = np.asarray(X)
        linear = softmax(self.preparation_.apply(X) @ self.coefficients_ + self.intercepts_)
        return linear if self.trees_ is None else _mixed(linear, self.trees_.predict_proba(X), self.tree_share_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        names = ("use_trees", "families", "class_weight_power", "half_units", "num_folds", "num_trees")
        chosen = {name: getattr(self, name) for name in ("C_", "min_samples_leaf_", "tree_share_")}
        return {name: getattr(self, name) for name in names} | chosen

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What the fit found."""
        arrays = {f"preparation.{key}": value for key, value in self.preparation_.to_arrays().items()}
        arrays |= {"coefficients": self.coefficients_, "intercepts": self.intercepts_}
        trees = {} if self.trees_ is None else self.trees_.to_arrays()
        return arrays | {f"trees.{key}": value for key, value in trees.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], classes: Any, **settings: Any) -> Self:
        """The fitted model again; `classes` in the order in which they were fitted."""
        chosen = {name: settings.pop(name) for name in ("C_", "min_samples_leaf_", "tree_share_")}
        families = settings.pop("families")
        self = cls(families=None if families is None else tuple(families), **settings)
        self.classes_ = np.asarray(classes)
        self.preparation_ = Preparation.from_arrays(arrays_of("preparation", arrays))
        self.coefficients_, self.intercepts_ = arrays["coefficients"], arrays["intercepts"]
        for name, value in chosen.items():
            setattr(self, name, value)
        trees = arrays_of("trees", arrays)
        tree_settings = {"method": "extra_trees", "class_weight_power": 0.0}
        numbers = np.arange(len(self.classes_))
        self.trees_ = TreeModel.from_arrays(trees, numbers, **tree_settings) if trees else None
        self.n_features_in_ = len(self.preparation_.fill)
        return self

    def _choose(self, X, labels, weights, groups):
        """C, leaf size and share of the least log-loss on subjects left out."""
        folds = [
            _Fold(X, labels, weights, test, self.families, len(self.classes_))
            for test in group_folds(labels, groups, self.num_folds, self.seed)
        ]
        scored = np.any([fold.test & np.isin(labels, fold.present) for fold in folds], axis=0)

        def loss(probabilities):
            return mean_log_loss(probabilities[scored], labels[scored], weights[scored]) if scored.any() else 0.0

        self.C_, best = _best_regression(folds, loss)
        self.min_samples_leaf_, self.tree_share_, regression = LEAF_GRID[0], 0.0, best
        for leaf in LEAF_GRID if self.use_trees and scored.all() else ():
            trees = sum(fold.predicted(lambda fold, leaf=leaf: self._of_trees(fold, leaf)) for fold in folds)
            for share in SHARE_GRID:
                mixed = _mixed(regression, trees, share)
                if loss(mixed) < loss(best) and _surely_better(mixed, regression, labels, weights * scored, groups):
                    self.min_samples_leaf_, self.tree_share_, best = leaf, share, mixed
        self.out_of_fold_ = OutOfFold(best, scored)

    def _of_trees(self, fold, leaf):
        trees = self._trees(leaf).fit(fold.X[fold.train], fold.codes, fold.weights)
        return trees.predict_proba(fold.X[fold.test])

    def _trees(self, leaf):
        options = {"n_estimators": self.num_trees, "min_samples_leaf": leaf}
        return TreeModel("extra_trees", options, class_weight_power=0.0, seed=self.seed)


class _Fold:
    """One fold: its training rows and what a model of them says about the others."""

    def __init__(self, X, labels, weights, test, families, num_classes):
        self.X, self.test, self.train, self.shape = X, test, ~test, (len(X), num_classes)
        self.present, self.codes = np.unique(labels[self.train], return_inverse=True)
        self.weights = weights[self.train]
        self.preparation = Preparation.fit(X[self.train], families=families)
        self.regression = _new_regression()

    def predicted(self, of_fold):
        """Probabilities of the rows left out, in a table of all rows and classes that is 0 elsewhere."""
        out, own = np.zeros(self.shape), np.ix_(np.flatnonzero(self.test), self.present)
        out[own] = of_fold(self) if len(self.present) > 1 else 1.0
        return out

    def of_regression(self, C):
        """Starts from where the fit with the C before ended."""
        self.regression.set_params(C=C)
        self.regression.fit(self.preparation.apply(self.X[self.train]), self.codes, sample_weight=self.weights)
        return self.regression.predict_proba(self.preparation.apply(self.X[self.test]))


def _best_regression(folds, loss):
    """(C, probabilities) of the least loss; from strong to weak, until it has risen twice."""
    best_C, best, least, risen = C_GRID[0], None, np.inf, 0
    for C in C_GRID:
        found = sum(fold.predicted(lambda fold, C=C: fold.of_regression(C)) for fold in folds)
        current = loss(found)
        if current < least:
            best_C, best, least, risen = C, found, current, 0
        else:
            risen += 1
        if risen == 2:
            break
    return best_C, best


def _new_regression(C=1.0):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, max_iter=1000, warm_start=True)


def _regression(prepared, labels, weights, C, num_classes):
    """Coefficients (num_columns, num_classes) and intercepts of a multinomial logistic regression."""
    fitted = _new_regression(C).fit(prepared, labels, sample_weight=weights)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if num_classes == 2:
        coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercepts)
    return coefficients.T.copy(), np.asarray(intercepts)


def _surely_better(one, other, labels, weights, groups):
    """Whether the summed loss is lower by more than two standard errors over groups.

    Trees that follow a few animals closely can seem better on the next few; a regression is the safer choice until
    there are animals enough to tell.
    """
    rows, codes = np.arange(len(labels)), np.unique(groups, return_inverse=True)[1]
    ratio = np.maximum(one[rows, labels], SMALLEST) / np.maximum(other[rows, labels], SMALLEST)
    gains = np.bincount(codes, weights * np.log(ratio))
    return gains.sum() > 2.0 * np.sqrt(len(gains)) * gains.std(ddof=1)


def _mixed(linear, trees, share):
    logs = (1 - share) * np.log(np.maximum(linear, SMALLEST)) + share * np.log(np.maximum(trees, SMALLEST))
    return softmax(logs)
