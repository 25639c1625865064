"""The type of every unit in a sorting analyzer, from the streams in it and a fitted classifier.

The labels are also written as properties of the units, ``predicted_cell_type`` and ``predicted_cell_type_probability``,
which viewers and exports show. A ``cell_type`` that is there is never touched.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from spikeinterface.core.sortinganalyzer import AnalyzerExtension, SortingAnalyzer

from ..errors import InputError
from ..modelfiles import resolve_model
from .unit_extension import SCALOGRAMS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LABEL_PROPERTY",
    "PREDICTIONS",
    "PROBABILITY_PROPERTY",
    "ComputeCellTypePredictions",
    "compute_cell_type_predictions",
]

PREDICTIONS = "cell_type_predictions"
LABEL_PROPERTY, PROBABILITY_PROPERTY = "predicted_cell_type", "predicted_cell_type_probability"
KIND = "cell_type_classifier"
# what has one row per unit in the data
PER_UNIT = ("probabilities", "label", "probability", "out_of_distribution", "outlier_score")
OUTPUTS = ("dataframe", *PER_UNIT)


class ComputeCellTypePredictions(AnalyzerExtension):
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
    need_recording = False
    use_nodepipeline = False
    need_job_kwargs = False

    def _set_params(
        self,
        model: str | Path | dict[str, Any] | None = None,
        threshold: float | None = None,
        reject_outliers: bool = True,
        set_properties: bool = True,
    ) -> dict[str, Any]:
        if model is None:
            raise InputError(
                "Name the classifier: model=folder, or one fitted with si_neuroml.fit_cell_type_classifier."
            )
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold must be a probability from 0 to 1, got {threshold}.")
        return {
            "model": resolve_model(model, KIND),
            "threshold": None if threshold is None else float(threshold),
            "reject_outliers": bool(reject_outliers),
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
        streams = analyzer.get_extension(SCALOGRAMS)
        if streams is None:
            raise InputError(f"The analyzer has no {SCALOGRAMS!r} any more: compute them, or delete {PREDICTIONS!r}.")
        model, threshold = resolve_model(self.params["model"], KIND), self.params["threshold"]
        model = model if threshold is None else model.with_threshold(threshold)
        found = model.predict(streams.get_dataset(), reject_outliers=self.params["reject_outliers"])
        return {
            "probabilities": found.probabilities,
            "label": np.asarray(found.label, dtype="U"),
            "probability": found.probability,
            "out_of_distribution": found.out_of_distribution,
            "outlier_score": found.outlier_score,
            "classes": np.array(found.classes, dtype="U"),
            "model": {"kind": model.kind, "digest": self.params["model"]["digest"]},
        }

    def _set_unit_properties(self, analyzer: SortingAnalyzer, data: dict[str, Any], *, save: bool) -> None:
        if not self.params["set_properties"]:
            return
        for name, values in ((LABEL_PROPERTY, data["label"]), (PROBABILITY_PROPERTY, data["probability"])):
            if save and analyzer.format == "zarr":
                _forget_zarr_property(analyzer, name)
            analyzer.set_sorting_property(name, np.array(values), save=save)

    def _get_data(self, outputs: str = "dataframe") -> "pd.DataFrame | np.ndarray":
        if outputs not in OUTPUTS:
            raise InputError(f"outputs must be one of {OUTPUTS}, got {outputs!r}.")
        if outputs != "dataframe":
            return np.asarray(self.data[outputs])
        import pandas as pd

        columns = {name: np.asarray(self.data[name]) for name in PER_UNIT[1:]}
        probabilities = np.asarray(self.data["probabilities"])
        columns |= {f"p_{name}": probabilities[:, k] for k, name in enumerate(self.classes)}
        return pd.DataFrame(columns, index=self.sorting_analyzer.unit_ids)

    @property
    def classes(self) -> tuple[str, ...]:
        """Types, in the order of the columns of the probabilities."""
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


compute_cell_type_predictions = ComputeCellTypePredictions.function_factory()


def _forget_zarr_property(analyzer, name):
    """Longer labels would be cut to the width of those before, which SpikeInterface writes over in place."""
    properties = analyzer._get_zarr_root(mode="r+")["sorting"]["properties"]
    if name in properties:
        del properties[name]
