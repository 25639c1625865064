"""The fitted classifier of cells: calibrated probabilities, "unknown" where they are low, a flag for strange cells."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..classification.probability_calibration import TemperatureCalibration
from ..errors import InputError, ModelMismatchError
from ..modelfiles import NamedModel
from .fusion import fusion_from
from .streams import FittedStream, ImageAxes, source_of, stream_inputs

if TYPE_CHECKING:
    import pandas as pd

    from .dataset import CellDataset

__all__ = ["UNKNOWN", "CellTypeClassifier", "CellTypePredictions", "combine"]

# the label of cells below the threshold
UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class CellTypePredictions:
    """What a classifier says about the cells of a dataset, row by row.

    Attributes
    ----------
    classes : tuple of str
        Types, in the order of the columns.
    probabilities : float64 array, shape (num_cells, num_classes)
        Calibrated.
    label : array of str, shape (num_cells,)
        The most probable type, or "unknown": where its probability is below the threshold, where nothing is known of
        the cell, and for outliers unless they were to be labelled.
    probability : float64 array, shape (num_cells,)
        The highest of each row.
    out_of_distribution : bool array, shape (num_cells,)
        Whether the cell is like none of training.
    outlier_score : float64 array, shape (num_cells,)
        Its distance from the nearest type over the limit: above 1 is an outlier. NaN where nothing is known of it.
    streams : dict of {str: float64 array, shape (num_cells, num_classes)}
        What each stream ("image", "features", ...) says by itself; NaN for cells that it knows nothing of.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    out_of_distribution: np.ndarray
    outlier_score: np.ndarray
    streams: dict[str, np.ndarray]

    def to_dataframe(self, cells: "pd.DataFrame | None" = None) -> "pd.DataFrame":
        """All but the streams as a table, beside the columns of `cells` if given."""
        import pandas as pd

        names = ("label", "probability", "out_of_distribution", "outlier_score")
        columns = {name: getattr(self, name) for name in names}
        columns |= {f"p_{name}": self.probabilities[:, k] for k, name in enumerate(self.classes)}
        table = pd.DataFrame(columns)
        if cells is None:
            return table
        return pd.concat([cells.reset_index(drop=True).rename(columns={"label": "true_label"}), table], axis=1)


class CellTypeClassifier(NamedModel):
    """A classifier of cells into types.

    Made by :func:`si_neuroml.celltypes.fit.fit_cell_type_classifier` or :func:`si_neuroml.load_model`.

    Parameters
    ----------
    streams : sequence of FittedStream
        One or more.
    fusion : SoftVote | StackedLogistic | None
        How several are made one.
    calibration : TemperatureCalibration | None
        Of what they say together.
    classes : sequence of str
        Names of the types.
    class_shares : array, shape (num_classes,)
        Prior under which its probabilities are made; what is said of cells of which nothing is known.
    feature_names : sequence of str
        Features that it reads.
    axes : ImageAxes | None
        Of the images that it reads.
    threshold : float
        Below this probability the label is "unknown".
    training : dict
        Summary of the training, for the reader.
    """

    kind: ClassVar[str] = "cell_type_classifier"

    def __init__(
        self,
        streams: Any,
        fusion: Any,
        calibration: TemperatureCalibration | None,
        classes: Any,
        class_shares: np.ndarray,
        feature_names: Any,
        axes: ImageAxes | None,
        threshold: float,
        training: dict[str, Any],
    ):
        self.streams = {stream.name: stream for stream in streams}
        self.fusion, self.calibration, self.axes, self.training = fusion, calibration, axes, training
        self.classes, self.feature_names = tuple(map(str, classes)), tuple(map(str, feature_names))
        self.class_shares, self.threshold = np.asarray(class_shares, dtype="float64"), float(threshold)
        if self.class_shares.shape != (len(self.classes),) or not 0 <= self.threshold <= 1:
            text = f"{len(self.classes)} types need a share each and a threshold within 0 and 1, got shares of shape"
            raise InputError(f"{text} {self.class_shares.shape} and threshold {threshold!r}.")
        if (fusion is None) != (len(self.streams) == 1):
            raise InputError(f"{len(self.streams)} streams and fusion {fusion!r}: several need one, one needs none.")
        super().__init__()

    @property
    def model(self) -> str:
        """What it looks at: "image", "features", another stream, or "fusion" of several."""
        return "fusion" if len(self.streams) > 1 else next(iter(self.streams))

    def with_threshold(self, threshold: float) -> Self:
        """The same classifier that says "unknown" below another probability; 0: never, where anything is known."""
        own = (self.streams.values(), self.fusion, self.calibration, self.classes, self.class_shares)
        return type(self)(*own, self.feature_names, self.axes, threshold, self.training)

    def predict_proba(self, dataset: "CellDataset") -> np.ndarray:
        """Calibrated probability of each type for each cell.

        Parameters
        ----------
        dataset : CellDataset
            Cells with any of the classifier's streams; their labels are not looked at.

        Returns
        -------
        float64 array, shape (num_cells, num_classes)
            Rows sum to 1. Where a stream is missing, the others speak; where all are, the shares of the classes.

        Raises
        ------
        ModelMismatchError
            When some features are missing, with their names, images or streams have other axes, or there is nothing to
            look at.
        """
        return self._combined({name: said for name, (said, _) in self._said(dataset).items()})

    def predict(self, dataset: "CellDataset", *, reject_outliers: bool = True) -> CellTypePredictions:
        """Probabilities, labels and outliers.

        Parameters
        ----------
        dataset : CellDataset
            As for :meth:`predict_proba`.
        reject_outliers : bool, default: True
            Whether the label of an outlier is "unknown".

        Returns
        -------
        CellTypePredictions
        """
        said = self._said(dataset)
        streams = {name: probabilities for name, (probabilities, _) in said.items()}
        probabilities = self._combined(streams)
        # fmax: a stream that knows nothing of a cell has no say
        score = np.fmax.reduce([one for _, one in said.values()])
        highest, is_outlier = probabilities.max(axis=1), score > 1
        is_unknown = (highest < self.threshold) | np.isnan(score) | (is_outlier & reject_outliers)
        which = np.where(is_unknown, len(self.classes), probabilities.argmax(axis=1))
        label = np.array([*self.classes, UNKNOWN])[which]
        return CellTypePredictions(self.classes, probabilities, label, highest, is_outlier, score, streams)

    def _said(self, dataset):
        """Probabilities and outlier scores of each stream."""
        there = {"image": dataset.images is not None, "features": bool(dataset.feature_names)}
        if not any(there.get(source_of(name), name in dataset.streams) for name in self.streams):
            raise ModelMismatchError(f"The classifier looks at {' and '.join(self.streams)}: the dataset has none.")
        return {name: self._of_stream(name, dataset) for name in self.streams}

    def _of_stream(self, name, dataset):
        """Probabilities and outlier scores by one stream, NaN for cells that it knows nothing of."""
        axes = self.axes if name == "image" else self.streams[name].axes
        X, known = stream_inputs(name, dataset, self.feature_names, axes)
        probabilities = np.full((len(X), len(self.classes)), np.nan)
        score = np.full(len(X), np.nan)
        if known.any():
            probabilities[known] = self.streams[name].probabilities(X[known])
            score[known] = self.streams[name].outlier_score(X[known])
        return probabilities, score

    def _combined(self, streams):
        return combine(list(streams.values()), self.fusion, self.calibration, self.class_shares)

    def to_parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays of the streams and axes, and everything else."""
        parts = [stream.to_parts() for stream in self.streams.values()]
        tensors = {name: array for arrays, _ in parts for name, array in arrays.items()}
        if self.axes is not None:
            tensors |= {"axes.frequencies_hz": self.axes.frequencies_hz, "axes.times_ms": self.axes.times_ms}
        info = {
            "streams": [own for _, own in parts],
            "fusion": None if self.fusion is None else self.fusion.to_dict(),
            "temperature": None if self.calibration is None else self.calibration.temperature,
            "classes": self.classes,
            "class_shares": self.class_shares,
            "feature_names": self.feature_names,
            "num_channels": None if self.axes is None else self.axes.num_channels,
            "threshold": self.threshold,
            "training": self.training,
        }
        return tensors, info

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_parts`."""
        axes, temperature = None, info["temperature"]
        if info["num_channels"] is not None:
            axes = ImageAxes(info["num_channels"], tensors["axes.frequencies_hz"], tensors["axes.times_ms"])
        return cls(
            [FittedStream.from_parts(tensors, own, len(info["classes"])) for own in info["streams"]],
            fusion_from(info["fusion"]),
            None if temperature is None else TemperatureCalibration(temperature),
            info["classes"],
            info["class_shares"],
            info["feature_names"],
            axes,
            info["threshold"],
            info["training"],
        )


def combine(
    opinions: list[np.ndarray], fusion: Any, calibration: TemperatureCalibration | None, prior: np.ndarray
) -> np.ndarray:
    """One opinion of one or more; rows of NaN are no opinion.

    Parameters
    ----------
    opinions : list of float64 arrays, shape (num_cells, num_classes)
        Calibrated each by itself.
    fusion : SoftVote | StackedLogistic | None
        For cells with several. None: their mean.
    calibration : TemperatureCalibration | None
        Of the fused.
    prior : array, shape (num_classes,)
        For cells with none.

    Returns
    -------
    float64 array, shape (num_cells, num_classes)
    """
    said = np.stack(opinions)
    known = np.isfinite(said[:, :, 0])
    number = known.sum(axis=0)
    mean = np.nan_to_num(said).sum(axis=0) / np.maximum(number, 1)[:, None]
    out = np.where(number[:, None] > 0, mean, prior)
    several = number > 1
    if fusion is not None and several.any():
        fused = fusion.apply(said[:, several])
        out[several] = fused if calibration is None else calibration.apply(fused)
    return out
