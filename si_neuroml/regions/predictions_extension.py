"""The brain region of every unit in a sorting analyzer, from the features in it and a fitted classifier.

The labels are also written as properties of the units, ``predicted_brain_area`` and
``predicted_brain_area_probability``, which viewers and exports show. A ``brain_area`` that is there is never touched.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from spikeinterface.core.sortinganalyzer import AnalyzerExtension, SortingAnalyzer

from ..errors import InputError
from ..modelfiles import resolve_model
from ..wholeextension import WholeExtension, set_unit_property
from .extension import FEATURES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LABEL_PROPERTY", "PROBABILITY_PROPERTY", "ComputeRegionPredictions", "compute_region_predictions"]

PREDICTIONS = "region_predictions"
LABEL_PROPERTY, PROBABILITY_PROPERTY = "predicted_brain_area", "predicted_brain_area_probability"
KIND = "region_classifier"
# what has one row per unit in the data
PER_UNIT = ("probabilities", "smoothed", "label", "probability")
OUTPUTS = ("dataframe", "label", "probability", "probabilities", "smoothed")


class ComputeRegionPredictions(WholeExtension, AnalyzerExtension):
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
    need_recording = False
    use_nodepipeline = False
    need_job_kwargs = False

    def _set_params(
        self,
        model: str | Path | dict[str, Any] | None = None,
        smooth: bool = True,
        threshold: float | None = None,
        set_properties: bool = True,
    ) -> dict[str, Any]:
        if model is None:
            raise InputError(
                "Name the classifier: model=folder, or one fitted with si_neuroml.regions.fit.fit_region_classifier."
            )
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold must be a probability from 0 to 1, got {threshold}.")
        return {
            "model": resolve_model(model, KIND),
            "smooth": bool(smooth),
            "threshold": None if threshold is None else float(threshold),
            "set_properties": bool(set_properties),
        }

    def _run(self, verbose: bool = False) -> None:
        if self._save_to_disk and self.sorting_analyzer.format != "memory" and self.params["model"]["folder"] is None:
            warnings.warn(
                "The classifier was never saved: once the analyzer is loaded again, units can be selected but not "
                "merged or split. Call si_neuroml.save_model(classifier, folder) before.",
                stacklevel=2,
            )
        self.data = self._predictions_of(self.sorting_analyzer)
        self._set_unit_properties(self.sorting_analyzer, self.data, save=self._save_to_disk)

    def _predictions_of(self, analyzer: SortingAnalyzer) -> dict[str, Any]:
        features = analyzer.get_extension(FEATURES)
        if features is None:
            raise InputError(f"The analyzer has no {FEATURES!r} any more: compute them, or delete {PREDICTIONS!r}.")
        model = resolve_model(self.params["model"], KIND)
        threshold = self.params["threshold"]
        dataset = features.get_dataset(region=None)
        found = (model if threshold is None else model.with_threshold(threshold)).predict(
            dataset, smooth=self.params["smooth"]
        )
        return {
            "probabilities": found.probabilities,
            "smoothed": found.smoothed,
            "label": np.asarray(found.label, dtype="U"),
            "probability": found.probability,
            "classes": np.array(found.classes, dtype="U"),
            "model": {"kind": model.kind, "digest": model["digest"]},
        }

    def _set_unit_properties(self, analyzer: SortingAnalyzer, data: dict[str, Any], *, save: bool) -> None:
        if not self.params["set_properties"]:
            return
        for name, values in ((LABEL_PROPERTY, data["label"]), (PROBABILITY_PROPERTY, data["probability"])):
            set_unit_property(analyzer, name, values, save=save)

    def _get_data(self, outputs: str = "dataframe") -> "pd.DataFrame | np.ndarray":
        if outputs not in OUTPUTS:
            raise InputError(f"outputs must be one of {OUTPUTS}, got {outputs!r}.")
        if outputs != "dataframe":
            return np.asarray(self.data[outputs])
        import pandas as pd

        columns = {"label": np.asarray(self.data["label"]), "probability": np.asarray(self.data["probability"])}
        smoothed = np.asarray(self.data["smoothed"])
        columns |= {f"p_{name}": smoothed[:, k] for k, name in enumerate(self.classes)}
        return pd.DataFrame(columns, index=self.sorting_analyzer.unit_ids)

    @property
    def classes(self) -> tuple[str, ...]:
        """Regions, in the order of the columns of the probabilities."""
        return tuple(np.asarray(self.data["classes"]).tolist())

    @property
    def model_digest(self) -> str:
        """Digest of the classifier that was used."""
        return self.data["model"]["digest"]

    def _select_units_extension_data(self, unit_ids):
        rows = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        return {key: np.asarray(value)[rows] if key in PER_UNIT else value for key, value in self.data.items()}

    def _merge_extension_data(
        self, merge_unit_groups, new_unit_ids, new_sorting_analyzer, keep_mask=None, verbose=False, **job_kwargs
    ):
        return self._data_after_change(new_sorting_analyzer)

    def _split_extension_data(self, split_units, new_unit_ids, new_sorting_analyzer, verbose=False, **job_kwargs):
        return self._data_after_change(new_sorting_analyzer)

    def _data_after_change(self, analyzer):
        data = self._predictions_of(analyzer)
        self._set_unit_properties(analyzer, data, save=True)
        return data


compute_region_predictions = ComputeRegionPredictions.function_factory()
