"""The type of every unit in a sorting analyzer, from the streams in it and a fitted classifier.

The labels are also written as properties of the units, ``predicted_cell_type`` and ``predicted_cell_type_probability``,
which viewers and exports show. A ``cell_type`` that is there is never touched.
"""

from pathlib import Path
from typing import Any, ClassVar

from spikeinterface.core.sortinganalyzer import AnalyzerExtension

from ..label_extension import LabelExtension
from ..modelfiles import NamedModel
from .unit_extension import SCALOGRAMS

__all__ = [
    "KIND",
    "LABEL_PROPERTY",
    "PREDICTIONS",
    "PROBABILITY_PROPERTY",
    "ComputeCellTypePredictions",
    "compute_cell_type_predictions",
]

PREDICTIONS, KIND = "cell_type_predictions", "cell_type_classifier"
LABEL_PROPERTY = "predicted_cell_type"
PROBABILITY_PROPERTY = f"{LABEL_PROPERTY}_probability"


class ComputeCellTypePredictions(LabelExtension):
    """Type of every unit, with its probability.

    Parameters
    ----------
    model : str | Path | CellTypeClassifier
        A fitted classifier, or the folder it was saved to. It must have learned from streams of sorted units that were
        computed with the settings of those in the analyzer; streams that the analyzer lacks have no say.
    threshold : float | None, default: None
        Below this probability the label is "unknown". None: the threshold of the classifier.
    reject_outliers : bool, default: True
        Whether units like none of training are "unknown".
    set_properties : bool, default: True
        Whether labels and their probabilities are also written as properties of the units, "predicted_cell_type" and
        "predicted_cell_type_probability".

    Returns
    -------
    cell_type_predictions : DataFrame, num_units rows
        label, probability, out_of_distribution, outlier_score (above 1: like none of training; NaN where nothing is
        known of the unit), and p_<type> for each type.

    Notes
    -----
    After a merge or a split all units are predicted again, which needs the model: in memory, or the folder it was saved
    to. Units that stayed keep their streams, and so their probabilities.
    """

    extension_name = PREDICTIONS
    depend_on: ClassVar[list[str]] = [SCALOGRAMS]
    kind = KIND
    fitted_by = "si_neuroml.fit_cell_type_classifier"
    property_name = LABEL_PROPERTY
    per_unit = ("label", "probability", "out_of_distribution", "outlier_score", "probabilities")

    def _set_params(
        self,
        model: str | Path | NamedModel | None = None,
        threshold: float | None = None,
        reject_outliers: bool = True,
        set_properties: bool = True,
    ) -> dict[str, Any]:
        return {**self._common_params(model, threshold, set_properties), "reject_outliers": bool(reject_outliers)}

    def _predict(self, model: Any, source: AnalyzerExtension) -> Any:
        return model.predict(source.get_dataset(), reject_outliers=self.params["reject_outliers"])


compute_cell_type_predictions = ComputeCellTypePredictions.function_factory()
