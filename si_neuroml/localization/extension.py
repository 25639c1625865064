"""Posteriors over places as extensions of a sorting analyzer: of every spike, and of every unit.

``analyzer.compute("spike_locations", method="neural_posterior")`` has the same numbers for SpikeInterface's own
readers; these extensions add which weights made them, covariance matrices, sortings without spikes, and units.

Both record the digest of the model in ``data["model"]``. Parameters name a model by folder and digest; ``None`` is the
one that comes with the package, so that an analyzer computed elsewhere can be computed again.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from spikeinterface.core.analyzer_extension_core import BaseSpikeVectorExtension
from spikeinterface.core.node_pipeline import PipelineNode, SpikeRetriever
from spikeinterface.core.sortinganalyzer import AnalyzerExtension, SortingAnalyzer

from ..errors import InputError
from ..wholeextension import WholeExtension
from .neural_posterior import blank_posteriors, check_peak_sign, posterior_model
from .neural_posterior_node import LocalizeNeuralPosterior
from .posterior import POSTERIOR_DTYPE, combine_posteriors, covariance_matrices
from .unit_templates import main_contact_places, template_posteriors

__all__ = [
    "ComputeSpikeLocationPosteriors",
    "ComputeUnitLocationPosteriors",
    "compute_spike_location_posteriors",
    "compute_unit_location_posteriors",
]

SPIKES, UNITS = "spike_location_posteriors", "unit_location_posteriors"
SOURCES = {"spikes": SPIKES, "templates": "templates"}


def _model_name(model):
    return {"kind": model.kind, "digest": model["digest"]}


class _ModelRecord(WholeExtension):
    """What both extensions share: which weights were used, and the covariance matrices."""

    @property
    def model_digest(self) -> str:
        """Digest of the weights that the posteriors were computed with."""
        return self.data["model"]["digest"]

    def get_covariances(self, axes: str = "xyz") -> np.ndarray:
        """Covariance matrices of the places.

        Parameters
        ----------
        axes : str, default: "xyz"
            Which axes, for example "xy".

        Returns
        -------
        float64 array, shape (num_spikes or num_units, d, d)
            In um^2, in the order of ``get_data()``.
        """
        return covariance_matrices(self.get_data(), axes)


class ComputeSpikeLocationPosteriors(_ModelRecord, BaseSpikeVectorExtension):
    """Posterior over the place of every spike.

    Parameters
    ----------
    model : str | Path | NeuralPosterior | None, default: None
        Another model of this kind, or the folder it was saved to. None: the one that comes with the package.
    peak_sign : "neg" | "pos" | "both", default: "neg"
        Direction of the spikes.
    spike_retriever_kwargs : dict | None, default: None
        As for SpikeInterface's "spike_locations": by default each spike is looked at from its unit's main channel;
        ``{"channel_from_template": False, "radius_um": 50}`` looks for the largest channel of every spike (by
        `peak_sign`).

    Returns
    -------
    spike_location_posteriors : array of POSTERIOR_DTYPE, shape (num_spikes,)
        Mean, standard deviations, covariances (um), degrees of freedom and outlier probability, in the order of the
        spike vector.
    """

    extension_name = SPIKES
    depend_on: ClassVar[list[str]] = ["templates"]
    # its own pass over the recording: the joint pass of several extensions fails for a sorting without spikes
    use_nodepipeline = False
    nodepipeline_variables: ClassVar[list[str]] = [SPIKES]

    def _set_params(
        self,
        model: str | Path | dict[str, Any] | None = None,
        peak_sign: str = "neg",
        spike_retriever_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        check_peak_sign(peak_sign)
        return super()._set_params(
            model=None if model is None else posterior_model(model),
            peak_sign=peak_sign,
            spike_retriever_kwargs=spike_retriever_kwargs or {},
        )

    def _run(self, verbose: bool = False, **job_kwargs) -> None:
        if len(self.sorting_analyzer.sorting.to_spike_vector()):
            super()._run(verbose=verbose, **job_kwargs)
        else:
            self.data[SPIKES] = np.zeros(0, dtype=POSTERIOR_DTYPE)
        self.data["model"] = _model_name(posterior_model(self.params["model"]))

    def get_pipeline_nodes(self) -> list[PipelineNode]:
        """The nodes of the own pass; the base class refuses to give them without `use_nodepipeline`."""
        return self._get_pipeline_nodes()

    def _get_pipeline_nodes(self):
        analyzer, peak_sign = self.sorting_analyzer, self.params["peak_sign"]
        # sets the main channels of analyzers of older versions
        analyzer.get_main_channels(outputs="index", with_dict=False)
        retriever_kwargs = {
            "channel_from_template": True,
            "peak_sign": peak_sign,
            **self.params["spike_retriever_kwargs"],
        }
        retriever = SpikeRetriever(analyzer.sorting, analyzer.recording, **retriever_kwargs)
        localizer = LocalizeNeuralPosterior(
            analyzer.recording, [retriever], model=self.params["model"], peak_sign=peak_sign
        )
        return [retriever, localizer]

    def _select_units_extension_data(self, unit_ids):
        return {**super()._select_units_extension_data(unit_ids), "model": self.data["model"]}

    def _merge_extension_data(self, *args, **kwargs):
        return {**super()._merge_extension_data(*args, **kwargs), "model": self.data["model"]}

    def _split_extension_data(self, *args, **kwargs):
        return {**super()._split_extension_data(*args, **kwargs), "model": self.data["model"]}


class ComputeUnitLocationPosteriors(_ModelRecord, AnalyzerExtension):
    """Posterior over the place of every unit.

    Parameters
    ----------
    source : "spikes" | "templates", default: "spikes"
        "spikes": the posteriors of the unit's spikes ("spike_location_posteriors") pooled, see
        :func:`~si_neuroml.localization.posterior.combine_posteriors`. "templates": its average waveform localized
        like a spike.
    model : str | Path | NeuralPosterior | None, default: None
        For ``source="templates"``: another model of this kind, or the folder it was saved to. None: the one that comes
        with the package.
    peak_sign : "neg" | "pos" | "both", default: "neg"
        For ``source="templates"``: direction of the spikes.

    Returns
    -------
    unit_location_posteriors : array of POSTERIOR_DTYPE, shape (num_units,)
        In the order of the units. A unit without spikes lies at its main channel, as uncertain as before anything is
        seen, with outlier probability 1.

    Notes
    -----
    After a merge or a split all units are computed again from the new analyzer, which changes nothing for those that
    stayed. With ``source="templates"`` that needs the model: the one of the package, or a saved one.
    """

    extension_name = UNITS
    depend_on: ClassVar[list[str]] = [SPIKES, "templates"]

    @classmethod
    def get_required_dependencies(cls, **params) -> list[str]:
        """The extension that `source` names; both while it is not known, which is how both learn of their child."""
        source = params.get("source")
        return [SOURCES[source]] if source in SOURCES else list(cls.depend_on)

    def _set_params(
        self, source: str = "spikes", model: str | Path | dict[str, Any] | None = None, peak_sign: str = "neg"
    ) -> dict[str, Any]:
        if source not in SOURCES:
            raise InputError(f"source must be one of {tuple(SOURCES)}, got {source!r}.")
        if source == "spikes" and model is not None:
            raise InputError(f'source="spikes" pools what {SPIKES!r} found: give the model there, and none here.')
        check_peak_sign(peak_sign)
        return {
            "source": source,
            "model": None if model is None else posterior_model(model),
            "peak_sign": peak_sign,
        }

    def _run(self, verbose: bool = False) -> None:
        self.data = self._posteriors_of(self.sorting_analyzer)

    def _get_data(self, outputs: str = "numpy") -> Any:
        posteriors, unit_ids = np.asarray(self.data[UNITS]), self.sorting_analyzer.unit_ids
        if outputs == "numpy":
            return posteriors
        if outputs == "by_unit":
            return dict(zip(unit_ids, posteriors, strict=True))
        if outputs == "dataframe":
            import pandas as pd

            return pd.DataFrame({name: posteriors[name] for name in posteriors.dtype.names}, index=unit_ids)
        raise InputError(f'outputs must be "numpy", "by_unit" or "dataframe", got {outputs!r}.')

    def _select_units_extension_data(self, unit_ids):
        unit_indices = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        return {UNITS: np.asarray(self.data[UNITS])[unit_indices], "model": self.data["model"]}

    def _merge_extension_data(
        self, merge_unit_groups, new_unit_ids, new_sorting_analyzer, keep_mask=None, verbose=False, **job_kwargs
    ):
        return self._posteriors_of(new_sorting_analyzer)

    def _split_extension_data(self, split_units, new_unit_ids, new_sorting_analyzer, verbose=False, **job_kwargs):
        return self._posteriors_of(new_sorting_analyzer)

    def _posteriors_of(self, analyzer: SortingAnalyzer) -> dict[str, Any]:
        if self.params["source"] == "templates":
            model = posterior_model(self.params["model"])
            found = template_posteriors(analyzer, model=model, peak_sign=self.params["peak_sign"])
            return {UNITS: found, "model": _model_name(model)}
        extension = analyzer.get_extension(SPIKES)
        if extension is None:
            raise InputError(f"The analyzer has no {SPIKES!r} any more: compute them, or delete {UNITS!r}.")
        of_spikes = extension.get_data(outputs="by_unit", concatenated=True)
        found = np.zeros(len(analyzer.unit_ids), dtype=POSTERIOR_DTYPE)
        for unit_index, unit_id in enumerate(analyzer.unit_ids):
            if len(of_spikes[unit_id]):
                found[unit_index] = combine_posteriors(of_spikes[unit_id])[0]
            else:
                found[unit_index] = blank_posteriors(main_contact_places(analyzer)[[unit_index]])[0]
        return {UNITS: found, "model": dict(extension.data["model"])}


compute_spike_location_posteriors = ComputeSpikeLocationPosteriors.function_factory()
compute_unit_location_posteriors = ComputeUnitLocationPosteriors.function_factory()
