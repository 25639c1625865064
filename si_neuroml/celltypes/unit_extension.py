"""What classifiers of sorted units look at, computed in a sorting analyzer: scalograms, autocorrelograms, waveforms.

``analyzer.compute("unit_scalograms")`` needs no recording; the two streams of waveforms need templates.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from spikeinterface.core.job_tools import fix_job_kwargs
from spikeinterface.core.sortinganalyzer import AnalyzerExtension, SortingAnalyzer
from spikeinterface.core.template_tools import get_dense_templates_array

from ..errors import InputError
from ..wholeextension import WholeExtension
from .cell_streams import CellStream
from .dataset import CellDataset
from .unit_settings import TRAIN_STREAMS, UNIT_STREAMS, WAVEFORM_STREAMS, UnitStreamSettings
from .unit_streams import check_streams, unit_streams
from .unit_waveforms import best_channel_waveforms

__all__ = ["SCALOGRAMS", "ComputeUnitScalograms", "compute_unit_scalograms"]

SCALOGRAMS = "unit_scalograms"


class ComputeUnitScalograms(WholeExtension, AnalyzerExtension):
    """Scalograms, autocorrelograms, intervals and waveforms of every unit, for the classification of cell types.

    Parameters
    ----------
    streams : list of str | None, default: None
        Which to compute, of "waveform" (on the channel where it is largest, aligned, of height 1),
        "waveform_scalogram", "log_isi" (histogram of inter-spike intervals), "acg_3d" (autocorrelogram in rows of the
        local firing rate) and "spike_scalogram" (of the spike train, in blocks). None: all, without the first two when
        the analyzer has no templates.
    ms_before, ms_after : float, default: 0.6, 1.2
        What is kept of a waveform around its largest deflection.
    acg_window_ms : float, default: 1000
        Longest lag of the autocorrelogram.
    num_firing_rate_quantiles : int, default: 10
        Its rows.
    firing_rate_window_ms : float, default: 250
        Over which the firing rate around each spike is taken.
    freq_min, freq_max : float, default: 2, 200
        Of the scalogram of the spike train, in Hz.
    num_frequencies : int, default: 24
        Its rows.
    block_duration_s : float, default: 10
        Of the pieces of the train that are transformed.
    settings : dict | None, default: None
        Any other settings of :class:`~si_neuroml.celltypes.unit_settings.UnitStreamSettings`.

    Returns
    -------
    unit_scalograms : dict of {str: float32 array, shape (num_units, ...)}
        By stream; NaN where not defined, such as all streams of units without spikes.

    Notes
    -----
    Nothing depends on the sampling rate, nor on a clock; nothing is counted from one segment to the next. After a merge
    or a split only the new units are computed. Computing "templates" again deletes the streams.
    """

    extension_name = SCALOGRAMS
    depend_on: ClassVar[list[str]] = []
    need_recording = False
    use_nodepipeline = False
    need_job_kwargs = True

    @classmethod
    def get_optional_dependencies(cls, **params) -> list[str]:
        """What is used where it is there, so that it is computed before."""
        return ["templates"]

    def _set_params(
        self,
        streams: Sequence[str] | None = None,
        ms_before: float = 0.6,
        ms_after: float = 1.2,
        acg_window_ms: float = 1000.0,
        num_firing_rate_quantiles: int = 10,
        firing_rate_window_ms: float = 250.0,
        freq_min: float = 2.0,
        freq_max: float = 200.0,
        num_frequencies: int = 24,
        block_duration_s: float = 10.0,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        named = {
            "ms_before": ms_before,
            "ms_after": ms_after,
            "acg_window_ms": acg_window_ms,
            "num_firing_rate_quantiles": num_firing_rate_quantiles,
            "firing_rate_window_ms": firing_rate_window_ms,
            "freq_min": freq_min,
            "freq_max": freq_max,
            "num_frequencies": num_frequencies,
            "block_duration_s": block_duration_s,
        }
        settings = dict(settings or {})
        others = {field.name for field in fields(UnitStreamSettings)} - set(named)
        if unknown := sorted(set(settings) - others):
            raise InputError(f"settings has {unknown}; there are {sorted(others)}.")
        UnitStreamSettings(**named, **settings)  # refuses what cannot be
        streams = None if streams is None else list(check_streams(streams))
        return {"streams": streams, **named, "settings": settings}

    @property
    def stream_settings(self) -> UnitStreamSettings:
        """Windows and bins that the streams were computed with."""
        named = {name: value for name, value in self.params.items() if name not in ("streams", "settings")}
        return UnitStreamSettings(**named, **self.params["settings"])

    @property
    def stream_names(self) -> tuple[str, ...]:
        """The streams there are."""
        return tuple(name for name in UNIT_STREAMS if name in self.data)

    def _run(self, verbose: bool = False, **job_kwargs) -> None:
        analyzer, wanted = self.sorting_analyzer, self.params["streams"]
        if wanted is None:
            wanted = UNIT_STREAMS if analyzer.has_extension("templates") else TRAIN_STREAMS
            if wanted == TRAIN_STREAMS:
                warnings.warn(
                    "The analyzer has no templates: there will be no streams of waveforms. Call "
                    'analyzer.compute(["random_spikes", "templates"]).',
                    stacklevel=2,
                )
        elif not analyzer.has_extension("templates") and set(wanted) & set(WAVEFORM_STREAMS):
            raise InputError(
                f"There are no templates for {[name for name in wanted if name in WAVEFORM_STREAMS]}: call "
                'analyzer.compute(["random_spikes", "templates"]).'
            )
        streams = self._streams_of(analyzer, analyzer.unit_ids, wanted, **job_kwargs)
        self.data = {name: stream.values for name, stream in streams.items()}
        for name, stream in streams.items():
            self.data |= {f"{name}_{axis}": values for axis, values in stream.axes.items()}

    def _streams_of(
        self, analyzer: SortingAnalyzer, unit_ids: np.ndarray, names: Sequence[str], **job_kwargs
    ) -> dict[str, CellStream]:
        rows, sorting = analyzer.sorting.ids_to_indices(unit_ids), analyzer.sorting
        rate, waveforms = analyzer.sampling_frequency, None
        if set(names) & set(WAVEFORM_STREAMS):
            dense = get_dense_templates_array(analyzer, return_in_uV=analyzer.return_in_uV)
            waveforms = best_channel_waveforms(dense[rows])
        trains = _trains(sorting)
        return unit_streams(
            [[segment[row] / rate for segment in trains] for row in rows],
            [analyzer.get_num_samples(k) / rate for k in range(sorting.get_num_segments())],
            waveforms,
            rate,
            settings=self.stream_settings,
            streams=names,
            num_threads=fix_job_kwargs(job_kwargs)["n_jobs"],
        )

    def _get_data(self, outputs: str = "numpy") -> dict[str, np.ndarray]:
        if outputs != "numpy":
            raise InputError(f'outputs must be "numpy", got {outputs!r}.')
        return {name: np.asarray(self.data[name]) for name in self.stream_names}

    def get_stream(self, name: str) -> CellStream:
        """One stream with its axes: rows of ``values`` are units, ``axes`` has their other dimensions.

        Raises
        ------
        InputError
            When it was not computed.
        """
        if name not in self.stream_names:
            raise InputError(f"There is no stream {name!r} in the analyzer; there are {self.stream_names}.")
        axes = self.stream_settings.axes(name)
        return CellStream(self.data[name], {axis: self.data[f"{name}_{axis}"] for axis in axes})

    def get_dataset(
        self, subject: str = "subject", recording: str = "recording", dataset: str = "", *, label: str | None = None
    ) -> CellDataset:
        """The units as a dataset, to predict their types or to learn from them.

        Parameters
        ----------
        subject, recording, dataset : str
            The animal, the recording and the laboratory.
        label : str | None, default: None
            Property of the units that holds their types, for example "cell_type". None: no labels.

        Returns
        -------
        CellDataset
            ``cell_id`` is "recording/unit_id".

        Raises
        ------
        InputError
            When there is no such property.
        """
        import pandas as pd

        analyzer = self.sorting_analyzer
        labels = np.full(len(analyzer.unit_ids), "")
        if label is not None:
            labels = analyzer.get_sorting_property(label)
            if labels is None:
                known = sorted(analyzer.sorting.get_property_keys())
                raise InputError(
                    f"The analyzer has no unit property {label!r} (there are {known}). Set it with "
                    "analyzer.set_sorting_property(name, labels), name another one, or pass label=None."
                )
        names = [f"{recording}/{unit_id}" for unit_id in analyzer.unit_ids]
        cells = pd.DataFrame({"cell_id": names, "label": labels, "donor": subject, "dataset": dataset})
        return CellDataset(cells, streams={name: self.get_stream(name) for name in self.stream_names})

    def _select_units_extension_data(self, unit_ids):
        rows = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        return {key: np.asarray(value)[rows] if key in UNIT_STREAMS else value for key, value in self.data.items()}

    def _merge_extension_data(
        self, merge_unit_groups, new_unit_ids, new_sorting_analyzer, keep_mask=None, verbose=False, **job_kwargs
    ):
        return self._data_after_change(new_unit_ids, new_sorting_analyzer, **job_kwargs)

    def _split_extension_data(self, split_units, new_unit_ids, new_sorting_analyzer, verbose=False, **job_kwargs):
        return self._data_after_change([one for own in new_unit_ids for one in own], new_sorting_analyzer, **job_kwargs)

    def _data_after_change(self, new_unit_ids, analyzer, **job_kwargs):
        names = [name for name in self.stream_names if name in TRAIN_STREAMS or analyzer.has_extension("templates")]
        found = self._streams_of(analyzer, new_unit_ids, names, **job_kwargs)
        is_new = np.isin(analyzer.unit_ids, new_unit_ids)
        stayed = self.sorting_analyzer.sorting.ids_to_indices(analyzer.unit_ids[~is_new])
        order = analyzer.sorting.ids_to_indices(new_unit_ids)
        data = dict(self.data)
        for name in self.stream_names:
            before = np.asarray(self.data[name])
            # NaN where templates are gone
            data[name] = np.full((len(is_new), *before.shape[1:]), np.nan, dtype="float32")
            data[name][~is_new] = before[stayed]
            if name in found:
                data[name][order] = found[name].values
        return data


compute_unit_scalograms = ComputeUnitScalograms.function_factory()


def _trains(sorting):
    """For each segment the samples of the spikes of each unit."""
    trains = []
    for spikes in sorting.to_spike_vector(concatenated=False):
        order = np.argsort(spikes["unit_index"], kind="stable")
        stops = np.cumsum(np.bincount(spikes["unit_index"], minlength=len(sorting.unit_ids)))
        trains.append(np.split(spikes["sample_index"][order], stops[:-1]))
    return trains
