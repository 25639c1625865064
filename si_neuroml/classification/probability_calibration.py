"""Make probabilities mean what they say: one temperature, or an isotonic curve per class, learned on other animals."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..errors import InputError
from .folds import SMALLEST, mean_log_loss

__all__ = ["IsotonicCalibration", "TemperatureCalibration", "calibration_from", "fit_calibration"]

_LOG_TEMPERATURES = (-3.0, 5.0)
# isotonic curves have steps of exactly 0 and 1, which no number of units can prove
_FLOOR = 1e-3


@dataclass(frozen=True)
class TemperatureCalibration:
    """Probabilities to the power 1 / temperature, normalised (Guo et al. 2017). The order of classes stays.

    Attributes
    ----------
    temperature : float
        Above 1 where the model was too sure.
    """

    temperature: float

    @classmethod
    def fit(cls, probabilities: np.ndarray, labels: np.ndarray) -> Self:
        """The temperature of the least log-loss."""
        from scipy.optimize import minimize_scalar

        def loss(log_t):
            return mean_log_loss(cls(float(np.exp(log_t))).apply(probabilities), labels)

        found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-4})
        return cls(float(np.exp(found.x)))

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64, shape (num_units, num_classes)."""
        logs = np.log(np.maximum(probabilities, SMALLEST)) / self.temperature
        values = np.exp(logs - logs.max(axis=1, keepdims=True))
        return values / values.sum(axis=1, keepdims=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for :func:`calibration_from`."""
        return {"method": "temperature", "temperature": self.temperature}


@dataclass(frozen=True)
class IsotonicCalibration:
    """A rising curve from probability to frequency for each class against the others, then normalised.

    Follows any shape, and the frequencies of the training units; it needs some hundred units of each class, and may
    change which class is the most probable.

    Attributes
    ----------
    probabilities, frequencies : tuples of tuples of float
        Knots of each class's curve, linear between them.
    """

    probabilities: tuple[tuple[float, ...], ...]
    frequencies: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, probabilities: np.ndarray, labels: np.ndarray) -> Self:
        """Curves of least squares (Zadrozny and Elkan 2002)."""
        from sklearn.isotonic import IsotonicRegression

        knots = []
        for own in range(probabilities.shape[1]):
            curve = IsotonicRegression(y_min=_FLOOR, y_max=1 - _FLOOR, out_of_bounds="clip")
            curve.fit(probabilities[:, own], (labels == own).astype("float64"))
            knots.append((tuple(map(float, curve.X_thresholds_)), tuple(map(float, curve.y_thresholds_))))
        return cls(*map(tuple, zip(*knots, strict=True)))

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64, shape (num_units, num_classes)."""
        columns = [
            np.interp(probabilities[:, own], x, y)
            for own, (x, y) in enumerate(zip(self.probabilities, self.frequencies, strict=True))
        ]
        values = np.stack(columns, axis=1)
        return values / values.sum(axis=1, keepdims=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for :func:`calibration_from`."""
        return {"method": "isotonic", "probabilities": self.probabilities, "frequencies": self.frequencies}


def fit_calibration(
    method: str, probabilities: np.ndarray, labels: np.ndarray
) -> TemperatureCalibration | IsotonicCalibration:
    """Calibrate on probabilities of units whose subjects the model did not see.

    Parameters
    ----------
    method : {"temperature", "isotonic"}
    probabilities : float64 array, shape (num_units, num_classes)
    labels : int array, shape (num_units,)
        Index of the true class.

    Raises
    ------
    InputError
        On another method.
    """
    return _class_of(method).fit(np.asarray(probabilities, dtype="float64"), np.asarray(labels))


def calibration_from(settings: dict[str, Any] | None) -> TemperatureCalibration | IsotonicCalibration | None:
    """The inverse of ``to_dict()``; None stays None."""
    if settings is None:
        return None
    values = {key: value for key, value in settings.items() if key != "method"}
    return _class_of(settings["method"])(**{key: _tuples(value) for key, value in values.items()})


def _class_of(method):
    kinds = {"temperature": TemperatureCalibration, "isotonic": IsotonicCalibration}
    if method not in kinds:
        raise InputError(f"calibration must be one of {list(kinds)} or None, got {method!r}.")
    return kinds[method]


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
