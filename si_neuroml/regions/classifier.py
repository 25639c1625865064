"""The fitted classifier of regions: calibrated probabilities for units of any session, smoothed along the probe."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..classification.probability_calibration import calibration_from
from ..errors import InputError
from ..modelfiles import NamedModel
from .feature_columns import FeatureColumns, track_codes

if TYPE_CHECKING:
    import pandas as pd

    from .dataset import RegionDataset

__all__ = ["ESTIMATORS", "UNKNOWN", "RegionClassifier", "RegionPredictions", "load_estimator", "track_codes"]

# the label of units below the threshold
UNKNOWN = "unknown"
_LINEAR = "si_neuroml.regions.classical:LinearModel"
_TREES = "si_neuroml.regions.classical:TreeModel"
_NETWORK = "si_neuroml.regions.network_training:RegionNetwork"
_ENSEMBLE = "si_neuroml.regions.ensemble:SubjectEnsemble"
# import paths and not classes: naming a model must import neither torch nor scikit-learn
ESTIMATORS: Mapping[str, str] = {
    "subject_ensemble": _ENSEMBLE,
    "subject_logistic": _ENSEMBLE,
    "logistic_regression": _LINEAR,
    "extra_trees": _TREES,
    "hist_gradient_boosting": _TREES,
    "sgd": _LINEAR,
    "passive_aggressive": _LINEAR,
    "perceptron": _LINEAR,
    "nearest_centroid": _LINEAR,
    "naive_bayes": _LINEAR,
    "dmlp": _NETWORK,
    "lda_dense": _NETWORK,
    "cnn": _NETWORK,
    "tcn": _NETWORK,
    "transformer": _NETWORK,
    "majority": _LINEAR,
    "depth_prior": "si_neuroml.regions.classical:DepthPrior",
}


@dataclass(frozen=True, eq=False)
class RegionPredictions:
    """What a classifier says about the units of a dataset, row by row.

    Attributes
    ----------
    classes : tuple of str
        Regions, in the order of the columns.
    probabilities : float64 array, shape (num_units, num_classes)
        Of each unit by itself, calibrated.
    smoothed : float64 array, shape (num_units, num_classes)
        Given its neighbours along the shank; `probabilities` where no depth is known or nothing was smoothed.
    label : array of str, shape (num_units,)
        The most probable region of `smoothed`, or "unknown" where that probability is below the threshold, or where
        none of the unit's features nor its neighbours are known.
    probability : float64 array, shape (num_units,)
        The highest of `smoothed`.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    smoothed: np.ndarray
    label: np.ndarray
    probability: np.ndarray

    def to_dataframe(self, units: "pd.DataFrame | None" = None) -> "pd.DataFrame":
        """Label, probability and the smoothed probabilities as a table, beside the columns of `units` if given."""
        import pandas as pd

        columns = {"label": self.label, "probability": self.probability}
        columns |= {f"p_{name}": self.smoothed[:, k] for k, name in enumerate(self.classes)}
        table = pd.DataFrame(columns)
        return table if units is None else pd.concat([units.reset_index(drop=True), table], axis=1)


class RegionClassifier(NamedModel):
    """A classifier of units into regions.

    Made by :func:`si_neuroml.regions.fit.fit_region_classifier` or :func:`si_neuroml.load_model`.

    Parameters
    ----------
    model : str
        A key of :data:`ESTIMATORS`.
    estimator : object
        The fitted estimator, with classes 0 to num_classes - 1.
    columns : FeatureColumns
        What it sees of a dataset.
    classes : sequence of str
        Names of the regions.
    class_shares : array, shape (num_classes,)
        Prior under which its probabilities are made; what is said of units of which nothing is known.
    calibration : TemperatureCalibration | IsotonicCalibration | None
        Applied to its probabilities.
    depth : DepthHMM | DepthGaussian | None
        Smooths them along each shank.
    threshold : float
        Below this probability the label is "unknown".
    training : dict
        Summary of the training, for the reader.
    """

    kind: ClassVar[str] = "region_classifier"

    def __init__(
        self,
        model: str,
        estimator: Any,
        columns: FeatureColumns,
        classes: Any,
        class_shares: np.ndarray,
        calibration: Any,
        depth: Any,
        threshold: float,
        training: dict[str, Any],
    ):
        load_estimator(model)
        self.model, self.estimator, self.columns, self.training = model, estimator, columns, training
        self.classes = tuple(map(str, classes))
        self.class_shares = np.asarray(class_shares, dtype="float64")
        self.calibration, self.depth, self.threshold = calibration, depth, float(threshold)
        if self.class_shares.shape != (len(self.classes),) or not 0 <= self.threshold <= 1:
            raise InputError(
                f"{len(self.classes)} classes need a share each and a threshold within 0 and 1, got shares of shape "
                f"{self.class_shares.shape} and threshold {threshold!r}."
            )
        super().__init__()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Features that a dataset must have, the columns of a PSTH not among them."""
        return (*self.columns.names, *self.columns.stream)

    def with_threshold(self, threshold: float) -> Self:
        """The same classifier that says "unknown" below another probability; 0: never, where anything is known."""
        own = (self.model, self.estimator, self.columns, self.classes, self.class_shares, self.calibration, self.depth)
        return type(self)(*own, threshold, self.training)

    def class_index(self, regions: Any, *, unknown: str = "raise") -> np.ndarray:
        """Index of each region's class.

        Parameters
        ----------
        regions : array of str
            Labels, "" where there is none.
        unknown : {"raise", "ignore"}, default: "raise"
            What to do with regions that the classifier does not know.

        Returns
        -------
        int64 array
            -1 for "" and, with "ignore", for those.

        Raises
        ------
        InputError
            When there are such regions, with their names and numbers.
        """
        regions = np.asarray(regions, dtype=str)
        places = {name: k for k, name in enumerate(self.classes)}
        names, inverse, counts = np.unique(regions, return_inverse=True, return_counts=True)
        strange = [
            f"{name} ({count})" for name, count in zip(names, counts, strict=True) if name and name not in places
        ]
        if strange and unknown == "raise":
            raise InputError(
                f"The classifier knows {len(self.classes)} regions, {list(self.classes[:8])}; it does not know "
                f"{', '.join(strange[:8])}. Group regions as in training, or leave these units out."
            )
        return np.array([places.get(name, -1) for name in names], dtype="int64")[inverse.reshape(-1)]

    def predict_proba(self, dataset: "RegionDataset") -> np.ndarray:
        """Calibrated probability of each region for each unit by itself.

        Parameters
        ----------
        dataset : RegionDataset
            Units with the classifier's features; their labels are not looked at.

        Returns
        -------
        float64 array, shape (num_units, num_classes)
            Rows sum to 1; the shares of the classes for a unit without any of the features.

        Raises
        ------
        ModelMismatchError
            When features are missing, with their names, or PSTHs have other bins.
        """
        return self._of_matrix(self.columns.matrix(dataset))

    def predict(self, dataset: "RegionDataset", *, smooth: bool = True) -> RegionPredictions:
        """Probabilities and labels.

        Parameters
        ----------
        dataset : RegionDataset
            As for :meth:`predict_proba`.
        smooth : bool, default: True
            Whether to smooth along each shank, where the classifier has learned how and depths are known.

        Returns
        -------
        RegionPredictions
        """
        X = self.columns.matrix(dataset)
        probabilities = smoothed = self._of_matrix(X)
        says_nothing = ~np.isfinite(X).any(axis=1)
        if smooth and self.depth is not None:
            depth_um = dataset.units["depth_um"].to_numpy("float64")
            smoothed = self.depth.smooth(probabilities, depth_um, track_codes(dataset))
            says_nothing &= ~np.isfinite(depth_um)
        probability = smoothed.max(axis=1)
        names = np.array([*self.classes, UNKNOWN])
        is_unknown = (probability < self.threshold) | says_nothing
        which = np.where(is_unknown, len(self.classes), smoothed.argmax(axis=1))
        return RegionPredictions(self.classes, probabilities, smoothed, names[which], probability)

    def _of_matrix(self, X):
        probabilities = np.tile(self.class_shares, (len(X), 1))
        known = np.isfinite(X).any(axis=1)
        if known.any():
            raw = self.estimator.predict_proba(X[known])
            probabilities[known] = raw if self.calibration is None else self.calibration.apply(raw)
        return probabilities

    def to_parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays of the estimator, and everything else."""
        info = {
            "model": self.model,
            "estimator": self.estimator.settings(),
            "columns": self.columns.to_dict(),
            "classes": self.classes,
            "class_shares": self.class_shares,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "depth": None if self.depth is None else self.depth.to_dict(),
            "threshold": self.threshold,
            "training": self.training,
        }
        return self.estimator.to_arrays(), info

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_parts`."""
        from .depth import depth_model

        numbers = np.arange(len(info["classes"]))
        return cls(
            info["model"],
            load_estimator(info["model"]).from_arrays(tensors, numbers, **info["estimator"]),
            FeatureColumns.from_dict(info["columns"]),
            info["classes"],
            info["class_shares"],
            calibration_from(info["calibration"]),
            None if info["depth"] is None else depth_model(info["depth"]),
            info["threshold"],
            info["training"],
        )


def load_estimator(model: str) -> type:
    """The class of estimators of a model.

    Raises
    ------
    InputError
        On an unknown name.
    """
    if model not in ESTIMATORS:
        raise InputError(f"There is no region model {model!r}; there are {list(ESTIMATORS)}.")
    module, _, name = ESTIMATORS[model].partition(":")
    return getattr(importlib.import_module(module), name)
