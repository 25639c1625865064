"""The brain region of every unit in a sorting analyzer, from the features in it and a fitted classifier.

The labels are also written as properties of the units, ``predicted_brain_area`` and
``predicted_brain_area_probability``, which viewers and exports show. A ``brain_area`` that is there is never touched.
"""

from pathlib import Path
from typing import Any, ClassVar

from spikeinterface.core.sortinganalyzer import AnalyzerExtension

from ..label_extension import LabelExtension
from ..modelfiles import NamedModel
from .extension import FEATURES

__all__ = [
    "KIND",
    "LABEL_PROPERTY",
    "PREDICTIONS",
    "PROBABILITY_PROPERTY",
    "ComputeRegionPredictions",
    "compute_region_predictions",
]

PREDICTIONS, KIND = "region_predictions", "region_classifier"
LABEL_PROPERTY = "predicted_brain_area"
PROBABILITY_PROPERTY = f"{LABEL_PROPERTY}_probability"


class ComputeRegionPredictions(LabelExtension):
    """Brain region of every unit, with its probability.

    Parameters
    ----------
    model : str | Path | RegionClassifier
        A fitted classifier, or the folder it was saved to. It must have learned from the features in the analyzer.
    smooth : bool, default: True
        Whether units on the same shank vote for each other, where the classifier has learned how and depths are known.
    threshold : float | None, default: None
        Below this probability the label is "unknown". None: the threshold of the classifier.
    set_properties : bool, default: True
        Whether labels and their probabilities are also written as properties of the units, "predicted_brain_area" and
        "predicted_brain_area_probability".

    Returns
    -------
    region_predictions : DataFrame, num_units rows
        label, probability, and p_<region> for each region: probabilities given the neighbours along the shank.

    Notes
    -----
    Selected units keep what was found with all their neighbours. After a merge or a split all units are predicted
    again, which needs the model: in memory, or the folder it was saved to.
    """

    extension_name = PREDICTIONS
    depend_on: ClassVar[list[str]] = [FEATURES]
    kind = KIND
    fitted_by = "si_neuroml.fit_region_classifier"
    property_name = LABEL_PROPERTY
    per_unit = ("label", "probability", "probabilities", "smoothed")
    columns_of = "smoothed"

    def _set_params(
        self,
        model: str | Path | NamedModel | None = None,
        smooth: bool = True,
        threshold: float | None = None,
        set_properties: bool = True,
    ) -> dict[str, Any]:
        return {**self._common_params(model, threshold, set_properties), "smooth": bool(smooth)}

    def _predict(self, model: Any, source: AnalyzerExtension) -> Any:
        return model.predict(source.get_dataset(region=None), smooth=self.params["smooth"])


compute_region_predictions = ComputeRegionPredictions.function_factory()
