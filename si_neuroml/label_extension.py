"""What analyzer extensions with a label and a probability for every unit share, whatever the label is of.

The labels are also written as properties of the units, which viewers and exports show.
"""

import warnings
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from spikeinterface.core.sortinganalyzer import AnalyzerExtension, SortingAnalyzer

from .errors import InputError
from .modelfiles import NamedModel, resolve_model
from .wholeextension import WholeExtension, set_unit_property

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LabelExtension"]


class LabelExtension(WholeExtension, AnalyzerExtension):
    """Labels by a fitted classifier, from another extension of the analyzer, which is the first of `depend_on`.

    After a merge or a split all units are labelled again, which needs the model: in memory, or the folder it was saved
    to.

    Attributes
    ----------
    kind : str
        Of the classifier.
    fitted_by : str
        The function that fits one, for messages.
    property_name : str
        Of the units, for the label; with "_probability" at its end, for the probability.
    per_unit : tuple of str
        What the classifier says that has one row per unit, columns of the table first.
    columns_of : str
        The probabilities that the table shows.
    """

    kind: ClassVar[str]
    fitted_by: ClassVar[str]
    property_name: ClassVar[str]
    per_unit: ClassVar[tuple[str, ...]]
    columns_of: ClassVar[str] = "probabilities"

    need_recording = False
    use_nodepipeline = False
    need_job_kwargs = False

    @abstractmethod
    def _predict(self, model: Any, source: AnalyzerExtension) -> Any:
        """What the classifier says of the units, with the attributes `per_unit` and `classes`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels, in the order of the columns of the probabilities."""
        return tuple(np.asarray(self.data["classes"]).tolist())

    @property
    def model_digest(self) -> str:
        """Digest of the classifier that was used."""
        return self.data["model"]["digest"]

    def _common_params(
        self, model: str | Path | NamedModel | None, threshold: float | None, set_properties: bool
    ) -> dict[str, Any]:
        if model is None:
            raise InputError(f"Name the classifier: model=folder, or one fitted with {self.fitted_by}.")
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold must be a probability from 0 to 1, got {threshold}.")
        return {
            "model": resolve_model(model, self.kind),
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
        self.data = self._labels_of(self.sorting_analyzer)
        self._set_unit_properties(self.sorting_analyzer, self.data, save=self._save_to_disk)

    def _labels_of(self, analyzer: SortingAnalyzer) -> dict[str, Any]:
        needed, own = self.depend_on[0], self.extension_name
        source = analyzer.get_extension(needed)
        if source is None:
            raise InputError(f"The analyzer has no {needed!r} any more: compute them, or delete {own!r}.")
        model, threshold = resolve_model(self.params["model"], self.kind), self.params["threshold"]
        found = self._predict(model if threshold is None else model.with_threshold(threshold), source)
        data = {name: np.asarray(getattr(found, name)) for name in self.per_unit}
        return data | {
            "label": np.asarray(found.label, dtype="U"),
            "classes": np.array(found.classes, dtype="U"),
            "model": {"kind": model.kind, "digest": self.params["model"]["digest"]},
        }

    def _set_unit_properties(self, analyzer: SortingAnalyzer, data: dict[str, Any], *, save: bool) -> None:
        if self.params["set_properties"]:
            set_unit_property(analyzer, self.property_name, data["label"], save=save)
            set_unit_property(analyzer, f"{self.property_name}_probability", data["probability"], save=save)

    def _get_data(self, outputs: str = "dataframe") -> "pd.DataFrame | np.ndarray":
        possible = ("dataframe", *self.per_unit)
        if outputs not in possible:
            raise InputError(f"outputs must be one of {possible}, got {outputs!r}.")
        if outputs != "dataframe":
            return np.asarray(self.data[outputs])
        import pandas as pd

        columns = {name: np.asarray(self.data[name]) for name in self.per_unit}
        columns = {name: values for name, values in columns.items() if values.ndim == 1}
        probabilities = np.asarray(self.data[self.columns_of])
        columns |= {f"p_{name}": probabilities[:, k] for k, name in enumerate(self.classes)}
        return pd.DataFrame(columns, index=self.sorting_analyzer.unit_ids)

    def _select_units_extension_data(self, unit_ids):
        rows = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        return {key: np.asarray(value)[rows] if key in self.per_unit else value for key, value in self.data.items()}

    def _merge_extension_data(
        self, merge_unit_groups, new_unit_ids, new_sorting_analyzer, keep_mask=None, verbose=False, **job_kwargs
    ):
        return self._data_after_change(new_sorting_analyzer)

    def _split_extension_data(self, split_units, new_unit_ids, new_sorting_analyzer, verbose=False, **job_kwargs):
        return self._data_after_change(new_sorting_analyzer)

    def _data_after_change(self, analyzer):
        data = self._labels_of(analyzer)
        self._set_unit_properties(analyzer, data, save=True)
        return data
