"""Several opinions about one cell made one: a vote, or a classifier of what both say.

Both are learned from probabilities of cells whose donor neither model saw: on cells it was trained on, a network is
always right and would be given all the say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..classification.preparation import class_weights
from ..errors import InputError

__all__ = ["SoftVote", "StackedLogistic", "fit_fusion", "fusion_from"]

SMALLEST = 1e-6
NUM_STEPS = 200
# that pull weights to equal ones; chosen on folds within training animals, of 70 sorted units and 5 opinions
EQUAL_CELLS = 50.0


@dataclass(frozen=True)
class SoftVote:
    """A weighted mean of calibrated probabilities.

    Attributes
    ----------
    weights : tuple of float
        Of the opinions; they sum to 1.
    """

    weights: tuple[float, ...]

    @classmethod
    def fit(cls, opinions: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """The weights of the least log-loss, every class counting the same, drawn to equal ones.

        Expectation maximisation rises to the best weights of a mean of distributions. The pull is that of 50 cells of
        which all opinions say the same: with some dozen cells, weights learned freely are worse than equal ones.
        """
        own = np.maximum(np.stack([opinion[np.arange(len(labels)), labels] for opinion in opinions]), SMALLEST)
        counts, weights = class_weights(labels, 1.0), np.full(len(own), 1 / len(own))
        for _ in range(NUM_STEPS):
            shares = weights[:, None] * own
            weights = (shares / shares.sum(axis=0)) @ counts + EQUAL_CELLS / len(own)
            weights /= weights.sum()
        return cls(tuple(weights.tolist()))

    @classmethod
    def equal(cls, number: int) -> Self:
        """Of so many opinions, all believed alike."""
        return cls((1 / number,) * number)

    def apply(self, opinions: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities, float64, shape (num_cells, num_classes), by the opinions there are; rows of NaN are none."""
        said = np.asarray(opinions)
        weights = np.array(self.weights)[:, None] * np.isfinite(said[:, :, 0])
        return np.einsum("kn,knc->nc", weights / weights.sum(axis=0), np.nan_to_num(said))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for :func:`fusion_from`."""
        return {"method": "soft_vote", "weights": self.weights}


@dataclass(frozen=True)
class StackedLogistic:
    """A multinomial logistic regression on the logarithms of all opinions.

    Can learn which of them to believe about which class, and needs some hundred cells for it.

    Attributes
    ----------
    coefficients : nested tuples of float, shape (num_opinions * num_classes, num_classes)
    intercepts : tuple of float, shape (num_classes,)
    """

    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]

    @classmethod
    def fit(cls, opinions: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """Every class counts the same; classes without cells are never chosen."""
        from sklearn.linear_model import LogisticRegression

        num_classes = opinions[0].shape[1]
        model = LogisticRegression(C=1.0, max_iter=2000)
        model.fit(_logarithms(opinions), labels, sample_weight=class_weights(labels, 1.0))
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:
            coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercepts)
        own = np.zeros((len(opinions) * num_classes, num_classes)), np.full(num_classes, -50.0)
        own[0][:, model.classes_], own[1][model.classes_] = coefficients.T, intercepts
        return cls(tuple(map(tuple, own[0].tolist())), tuple(own[1].tolist()))

    def apply(self, opinions: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities, float64, shape (num_cells, num_classes); for a missing opinion the others stand in."""
        from scipy.special import softmax

        return softmax(_logarithms(opinions) @ np.array(self.coefficients) + np.array(self.intercepts), axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for :func:`fusion_from`."""
        return {"method": "stacked", "coefficients": self.coefficients, "intercepts": self.intercepts}


FUSIONS = {"soft_vote": SoftVote, "stacked": StackedLogistic}


def fit_fusion(method: str, opinions: Sequence[np.ndarray], labels: np.ndarray) -> SoftVote | StackedLogistic:
    """Learn how to fuse.

    Parameters
    ----------
    method : {"soft_vote", "stacked"}
    opinions : two or more float64 arrays, shape (num_cells, num_classes)
        Calibrated probabilities of cells whose donors the models did not see.
    labels : int array, shape (num_cells,)

    Raises
    ------
    InputError
        On another method.
    """
    if method not in FUSIONS:
        raise InputError(f"fusion must be one of {list(FUSIONS)}, got {method!r}.")
    return FUSIONS[method].fit(opinions, labels)


def fusion_from(settings: dict[str, Any] | None) -> SoftVote | StackedLogistic | None:
    """The inverse of ``to_dict()``; None stays None."""
    if settings is None:
        return None
    if settings["method"] == "soft_vote":
        return SoftVote(tuple(settings["weights"]))
    return StackedLogistic(tuple(map(tuple, settings["coefficients"])), tuple(settings["intercepts"]))


def _logarithms(opinions):
    said = np.asarray(opinions)
    known = np.isfinite(said)
    others = np.where(known, said, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.log(np.maximum(np.concatenate(list(np.where(known, said, others)), axis=1), SMALLEST))
