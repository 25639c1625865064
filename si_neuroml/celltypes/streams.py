"""What a classifier looks at: images by a network, features by trees; each with its own calibration and limits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..classification.preparation import Preparation, arrays_of
from ..classification.probability_calibration import TemperatureCalibration
from ..errors import InputError, ModelMismatchError
from .outliers import OutlierModel

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = ["STREAMS", "FittedStream", "ImageAxes", "build_estimator", "embedding", "stream_inputs"]

STREAMS = ("image", "features")


@dataclass(frozen=True, eq=False)
class ImageAxes:
    """What the pixels of images mean.

    Attributes
    ----------
    num_channels : int
    frequencies_hz, times_ms : float64 arrays, shapes (num_frequencies,) and (num_samples,)
    """

    num_channels: int
    frequencies_hz: np.ndarray
    times_ms: np.ndarray

    @classmethod
    def of(cls, dataset: "CellDataset") -> Self:
        """Those of a dataset with images."""
        return cls(dataset.images.shape[1], dataset.frequencies_hz, dataset.times_ms)

    def check(self, dataset: "CellDataset") -> None:
        """Raise ModelMismatchError unless the dataset's images have the same axes."""
        found = ImageAxes.of(dataset)
        if found.shape != self.shape:
            raise ModelMismatchError(
                f"The classifier was trained on images of {self.shape} (channels, frequencies, samples), these have "
                f"{found.shape}. Compute them with the same settings."
            )
        for name in ("frequencies_hz", "times_ms"):
            own, other = getattr(self, name), getattr(found, name)
            if not np.allclose(own, other, rtol=1e-3, atol=1e-3 * np.ptp(own)):
                raise ModelMismatchError(
                    f"The classifier was trained on images with {name} from {own[0]:g} to {own[-1]:g}, these have "
                    f"{other[0]:g} to {other[-1]:g}. Compute them with the same settings."
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(num_channels, num_frequencies, num_samples)."""
        return self.num_channels, len(self.frequencies_hz), len(self.times_ms)


@dataclass(frozen=True, eq=False)
class FittedStream:
    """One estimator, and what was learned about it on cells of donors that it did not see.

    Attributes
    ----------
    name : {"image", "features"}
    estimator : ImageNetwork | BoostedTrees
    calibration : TemperatureCalibration | None
    preparation : Preparation | None
        Of features, before distances are measured: trees do not need it.
    outliers : OutlierModel
    limit : float
        Distance beyond which a cell is like none of training.
    """

    name: str
    estimator: Any
    calibration: TemperatureCalibration | None
    preparation: Preparation | None
    outliers: OutlierModel
    limit: float

    def probabilities(self, X: np.ndarray) -> np.ndarray:
        """Calibrated, float64, shape (num_cells, num_classes)."""
        raw = self.estimator.predict_proba(X)
        return raw if self.calibration is None else self.calibration.apply(raw)

    def outlier_score(self, X: np.ndarray) -> np.ndarray:
        """Distance to the nearest class over the limit, float64, shape (num_cells,): above 1 is an outlier."""
        return self.outliers.distances(embedding(self.estimator, self.preparation, X)) / self.limit

    def to_parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays by name, and everything else."""
        parts = {"estimator": self.estimator.to_arrays(), "outliers": self.outliers.to_arrays()}
        if self.preparation is not None:
            parts["preparation"] = self.preparation.to_arrays()
        arrays = {f"{self.name}.{part}.{key}": value for part, own in parts.items() for key, value in own.items()}
        temperature = None if self.calibration is None else self.calibration.temperature
        info = {"name": self.name, "estimator": self.estimator.settings(), "limit": self.limit}
        return arrays, info | {"temperature": temperature, "prepared": self.preparation is not None}

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], info: dict[str, Any], num_classes: int) -> Self:
        """The inverse of :meth:`to_parts`."""
        name, arrays = info["name"], arrays_of(info["name"], tensors)
        temperature = info["temperature"]
        return cls(
            name,
            _estimator_class(name).from_arrays(
                arrays_of("estimator", arrays), np.arange(num_classes), **info["estimator"]
            ),
            None if temperature is None else TemperatureCalibration(temperature),
            Preparation.from_arrays(arrays_of("preparation", arrays)) if info["prepared"] else None,
            OutlierModel.from_arrays(arrays_of("outliers", arrays)),
            float(info["limit"]),
        )


def build_estimator(
    name: str, kwargs: dict[str, Any] | None, class_weight_power: float = 1.0, seed: int = 0, device: str = "cpu"
) -> Any:
    """An estimator of a stream that is not fitted yet.

    Parameters
    ----------
    name : {"image", "features"}
    kwargs : dict or None
        Image: ``backbone``, ``weights`` and the settings of
        :func:`~si_neuroml.celltypes.image_training.image_settings`.
        Features: ``method`` and the library's keywords, see
        :class:`~si_neuroml.celltypes.feature_models.BoostedTrees`.
    class_weight_power, seed, device
        Of the estimator.

    Returns
    -------
    ImageNetwork | BoostedTrees
    """
    options, kind = dict(kwargs or {}), _estimator_class(name)
    own = {"class_weight_power": options.pop("class_weight_power", class_weight_power), "seed": seed}
    if not own["class_weight_power"] >= 0:
        raise InputError(f"class_weight_power must be at least 0, got {own['class_weight_power']!r}.")
    if name == "features":
        return kind(options.pop("method", "hist_gradient_boosting"), options or None, **own)
    from .image_training import image_settings

    backbone, weights = options.pop("backbone", "compact"), options.pop("weights", None)
    image_settings(options, weights is not None)  # refuses unknown settings before anything is fitted
    return kind(backbone, weights, options or None, device=device, **own)


def stream_inputs(
    name: str, dataset: "CellDataset", feature_names: tuple[str, ...], axes: ImageAxes | None
) -> tuple[np.ndarray, np.ndarray]:
    """What a stream's estimator reads of each cell, and of which cells there is any: none in a dataset without it.

    Raises
    ------
    ModelMismatchError
        When some features are missing in the dataset, or its images have other axes.
    """
    if name == "features":
        try:
            X = dataset.columns(feature_names, missing="raise" if dataset.feature_names else "nan")
        except InputError as error:
            raise ModelMismatchError(f"The classifier needs other features: {error}") from error
        return X, np.isfinite(X).any(axis=1)
    if dataset.images is None:
        return np.full((len(dataset), *axes.shape), np.nan, dtype="float32"), dataset.has_image
    axes.check(dataset)
    return dataset.images, dataset.has_image


def embedding(estimator: Any, preparation: Preparation | None, X: np.ndarray) -> np.ndarray:
    """The space in which distances between cells are measured: a network's embedding, or scaled features."""
    return estimator.embed(X) if preparation is None else preparation.apply(X)


def _estimator_class(name):
    if name not in STREAMS:
        raise InputError(f"A classifier looks at {list(STREAMS)}, got {name!r}.")
    if name == "image":
        from .image_training import ImageNetwork

        return ImageNetwork
    from .feature_models import BoostedTrees

    return BoostedTrees
