"""Two opinions about one cell made one: a vote, or a classifier of what both say.

Both are learned from probabilities of cells whose donor neither model saw: on cells it was trained on, a network is
always right and would be given all the say.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..classification.folds import mean_log_loss
from ..classification.preparation import class_weights
from ..errors import InputError

__all__ = ["SoftVote", "StackedLogistic", "fit_fusion", "fusion_from"]

SMALLEST = 1e-6


@dataclass(frozen=True)
class SoftVote:
    """A weighted mean of calibrated probabilities.

    Attributes
    ----------
    weight : float
        Of the first opinion, from 0 to 1; the second has the rest.
    """

    weight: float

    @classmethod
    def fit(cls, opinions: list[np.ndarray], labels: np.ndarray) -> Self:
        """The weight of the least log-loss, every class counting the same."""
        from scipy.optimize import minimize_scalar

        weights = class_weights(labels, 1.0)
        found = minimize_scalar(
            lambda share: mean_log_loss(cls(float(share)).apply(opinions), labels, weights),
            bounds=(0.0, 1.0),
            method="bounded",
            options={"xatol": 1e-3},
        )
        return cls(float(found.x))

    def apply(self, opinions: list[np.ndarray]) -> np.ndarray:
        """Probabilities, float64, shape (num_cells, num_classes)."""
        return self.weight * opinions[0] + (1.0 - self.weight) * opinions[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for :func:`fusion_from`."""
        return {"method": "soft_vote", "weight": self.weight}


@dataclass(frozen=True)
class StackedLogistic:
    """A multinomial logistic regression on the logarithms of both opinions.

    Can learn which of the two to believe about which class, and needs some hundred cells for it.

    Attributes
    ----------
    coefficients : nested tuples of float, shape (2 * num_classes, num_classes)
    intercepts : tuple of float, shape (num_classes,)
    """

    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]

    @classmethod
    def fit(cls, opinions: list[np.ndarray], labels: np.ndarray) -> Self:
        """Every class counts the same; classes without cells are never chosen."""
        from sklearn.linear_model import LogisticRegression

        num_classes = opinions[0].shape[1]
        model = LogisticRegression(C=1.0, max_iter=2000)
        model.fit(_logarithms(opinions), labels, sample_weight=class_weights(labels, 1.0))
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:
            coefficients, intercepts = np.vstack([0 * coefficients, coefficients]), np.append(0.0, intercepts)
        own = np.zeros((2 * num_classes, num_classes)), np.full(num_classes, -50.0)
        own[0][:, model.classes_], own[1][model.classes_] = coefficients.T, intercepts
        return cls(tuple(map(tuple, own[0].tolist())), tuple(own[1].tolist()))

    def apply(self, opinions: list[np.ndarray]) -> np.ndarray:
        """Probabilities, float64, shape (num_cells, num_classes)."""
        from scipy.special import softmax

        return softmax(_logarithms(opinions) @ np.array(self.coefficients) + np.array(self.intercepts), axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for :func:`fusion_from`."""
        return {"method": "stacked", "coefficients": self.coefficients, "intercepts": self.intercepts}


FUSIONS = {"soft_vote": SoftVote, "stacked": StackedLogistic}


def fit_fusion(method: str, opinions: list[np.ndarray], labels: np.ndarray) -> SoftVote | StackedLogistic:
    """Learn how to fuse.

    Parameters
    ----------
    method : {"soft_vote", "stacked"}
    opinions : two float64 arrays, shape (num_cells, num_classes)
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
        return SoftVote(float(settings["weight"]))
    return StackedLogistic(tuple(map(tuple, settings["coefficients"])), tuple(settings["intercepts"]))


def _logarithms(opinions):
    return np.log(np.maximum(np.concatenate(opinions, axis=1), SMALLEST))
