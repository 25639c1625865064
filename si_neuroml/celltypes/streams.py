"""What a classifier looks at: images by a network, features by trees, further streams of cells by small models.

Each has its own calibration and its own limits of what is known. Features can also be looked at by models of other
kinds than trees: these err on other cells, and what they agree on is more often right (Dietterich 2000, Multiple
Classifier Systems, LNCS 1857:1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..classification.preparation import Preparation, arrays_of
from ..classification.probability_calibration import TemperatureCalibration
from ..errors import InputError, ModelMismatchError
from .cell_streams import axes_differ
from .outliers import OutlierModel

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = [
    "FEATURE_ENSEMBLE",
    "STREAMS",
    "FittedStream",
    "ImageAxes",
    "build_estimator",
    "embedding",
    "source_of",
    "stream_inputs",
]

# what cells have beside the streams of a dataset
STREAMS = ("image", "features")
# settings of further models of the features; more components than there are features: nothing is left out, only scaled
_FEATURE_MODELS = {
    "features_linear": {"C": 1.0, "num_components": 1_000_000},
    "features_forest": {"method": "extra_trees", "num_components": 1_000_000},
}
FEATURE_ENSEMBLE = ("features", *_FEATURE_MODELS)


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
    name : str
        "image", one of ``FEATURE_ENSEMBLE``, or a stream of the dataset.
    estimator : ImageNetwork | BoostedTrees | StreamModel
    calibration : TemperatureCalibration | None
    preparation : Preparation | None
        Of features, before distances are measured: trees do not need it.
    outliers : OutlierModel
    limit : float
        Distance beyond which a cell is like none of training.
    axes : dict of {str: array}, optional
        Of a stream of the dataset, see :class:`~si_neuroml.celltypes.cell_streams.CellStream`.
    """

    name: str
    estimator: Any
    calibration: TemperatureCalibration | None
    preparation: Preparation | None
    outliers: OutlierModel
    limit: float
    axes: Mapping[str, np.ndarray] | None = None

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
        if self.axes is not None:
            parts["axes"] = dict(self.axes)
        arrays = {f"{self.name}.{part}.{key}": value for part, own in parts.items() for key, value in own.items()}
        temperature = None if self.calibration is None else self.calibration.temperature
        info = {"name": self.name, "estimator": self.estimator.settings(), "limit": self.limit}
        info |= {"temperature": temperature, "prepared": self.preparation is not None}
        return arrays, info | {"axes": None if self.axes is None else list(self.axes)}

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], info: dict[str, Any], num_classes: int) -> Self:
        """The inverse of :meth:`to_parts`."""
        name, arrays = info["name"], arrays_of(info["name"], tensors)
        temperature, axes = info["temperature"], info["axes"]
        return cls(
            name,
            _estimator_class(name).from_arrays(
                arrays_of("estimator", arrays), np.arange(num_classes), **info["estimator"]
            ),
            None if temperature is None else TemperatureCalibration(temperature),
            Preparation.from_arrays(arrays_of("preparation", arrays)) if info["prepared"] else None,
            OutlierModel.from_arrays(arrays_of("outliers", arrays)),
            float(info["limit"]),
            None if axes is None else {axis: arrays[f"axes.{axis}"] for axis in axes},
        )


def build_estimator(
    name: str, kwargs: dict[str, Any] | None, class_weight_power: float = 1.0, seed: int = 0, device: str = "cpu"
) -> Any:
    """An estimator of a stream that is not fitted yet.

    Parameters
    ----------
    name : str
        "image", one of ``FEATURE_ENSEMBLE``, or a stream of the dataset.
    kwargs : dict or None
        Image: ``backbone``, ``weights`` and the settings of
        :func:`~si_neuroml.celltypes.image_training.image_settings`.
        Features: ``method`` and the library's keywords, see
        :class:`~si_neuroml.celltypes.feature_models.BoostedTrees`.
        Others: ``method`` and its settings, see :class:`~si_neuroml.celltypes.stream_models.StreamModel`.
    class_weight_power, seed, device
        Of the estimator.

    Returns
    -------
    ImageNetwork | BoostedTrees | StreamModel
    """
    options, kind = _FEATURE_MODELS.get(name, {}) | dict(kwargs or {}), _estimator_class(name)
    own = {"class_weight_power": options.pop("class_weight_power", class_weight_power), "seed": seed}
    if not own["class_weight_power"] >= 0:
        raise InputError(f"class_weight_power must be at least 0, got {own['class_weight_power']!r}.")
    if name != "image":
        method = {} if "method" not in options else {"method": options.pop("method")}
        return kind(options=options or None, **method, **own)
    from .image_training import image_settings

    backbone, weights = options.pop("backbone", "compact"), options.pop("weights", None)
    image_settings(options, weights is not None)  # refuses unknown settings before anything is fitted
    return kind(backbone, weights, options or None, device=device, **own)


def source_of(name: str) -> str:
    """What of a dataset is looked at under this name: "image", "features", or a stream."""
    return "features" if name in FEATURE_ENSEMBLE else name


def stream_inputs(
    name: str, dataset: "CellDataset", feature_names: tuple[str, ...], axes: "ImageAxes | Mapping | None"
) -> tuple[np.ndarray, np.ndarray]:
    """What a stream's estimator reads of each cell, and of which cells there is any: none in a dataset without it.

    Parameters
    ----------
    name : str
    dataset : CellDataset
    feature_names : tuple of str
        For those that look at features.
    axes : ImageAxes | dict | None
        That images or the stream must have.

    Raises
    ------
    ModelMismatchError
        When some features are missing in the dataset, or its images or stream have other axes.
    """
    if source_of(name) == "features":
        try:
            X = dataset.columns(feature_names, missing="raise" if dataset.feature_names else "nan")
        except InputError as error:
            raise ModelMismatchError(f"The classifier needs other features: {error}") from error
        return X, np.isfinite(X).any(axis=1)
    if name != "image":
        return _stream_values(name, dataset, axes)
    if dataset.images is None:
        return np.full((len(dataset), *axes.shape), np.nan, dtype="float32"), dataset.has_image
    axes.check(dataset)
    return dataset.images, dataset.has_image


def embedding(estimator: Any, preparation: Preparation | None, X: np.ndarray) -> np.ndarray:
    """The space in which distances between cells are measured: a network's embedding, or scaled features."""
    return estimator.embed(X) if preparation is None else preparation.apply(X)


def _stream_values(name, dataset, axes):
    if name not in dataset.streams:
        return np.full((len(dataset), *map(len, axes.values())), np.nan, dtype="float32"), dataset.known(name)
    stream = dataset.streams[name]
    if difference := axes_differ(axes, stream.axes):
        raise ModelMismatchError(
            f"The classifier was trained on {name!r} with other settings than these were computed with: {difference}."
        )
    return stream.values, stream.known


def _estimator_class(name):
    if name == "image":
        from .image_training import ImageNetwork

        return ImageNetwork
    if name == "features":
        from .feature_models import BoostedTrees

        return BoostedTrees
    from .stream_models import StreamModel

    return StreamModel
