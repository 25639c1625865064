"""What classifiers of regions look at, computed in a sorting analyzer: statistics of trains, responses, waveforms.

``analyzer.compute("region_features", events=onsets)`` needs no recording. Features of waveforms are there when the
analyzer has templates, those of responses when there are events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from spikeinterface.core.job_tools import fix_job_kwargs
from spikeinterface.core.sortinganalyzer import AnalyzerExtension, SortingAnalyzer

from ..errors import InputError
from ..wholeextension import WholeExtension
from .dataset import RegionDataset
from .dataset_analyzer import analyzer_session, event_times
from .dataset_table import feature_family
from .psth import PsthSettings
from .session_features import session_dataset
from .spike_train_features import SpikeTrainSettings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FEATURES", "ComputeRegionFeatures", "compute_region_features"]

FEATURES = "region_features"
FAMILIES = ("psth", "rate", "isi", "burst", "log_isi", "acg", "waveform")
# what has one row per unit in the data
PER_UNIT = ("features", "psth", "depth_um", "shank")


class ComputeRegionFeatures(WholeExtension, AnalyzerExtension):
    """Features of every unit for the classification of brain regions.

    Parameters
    ----------
    events : array | list of arrays | dict | event object | None, default: None
        Onsets of events in seconds: an array for a sorting of one segment; a list with an array per segment, or a dict
        by the index of the segment; a dict of any of these by the name of the event; or an event object of
        SpikeInterface. Events of all names and channels count alike. If the analyzer has its recording, times are on
        its clock, else they count from the first sample of each segment. None: no responses.
    window_s : (float, float), default: (-1.0, 1.5)
        Of the PSTH around each onset. Events whose window leaves the recording are left out.
    bin_s : float, default: 0.025
        Of the PSTH.
    baseline_s : (float, float) | None, default: None
        What responses are compared with; None: from the start of the window to the onset.
    normalisation : "zscore" | "subtract" | "rate", default: "zscore"
        Of the PSTH.
    spike_train_settings : dict | None, default: None
        Bins and limits of the statistics of the trains, see
        :class:`~si_neuroml.regions.spike_train_features.SpikeTrainSettings`.
    families : list of str | None, default: None
        Which features to keep, of "psth", "rate", "isi", "burst", "log_isi", "acg" and "waveform". None: all there are.
    depth_axis : "x" | "y" | "z", default: "y"
        Axis of the probe along its shanks, from the tip.

    Returns
    -------
    region_features : DataFrame, num_units rows
        One column per feature, named by its family first; NaN where a feature is not defined.

    Notes
    -----
    Depths are those of "unit_locations" where the analyzer has them, else that of the main channel of the template.
    After a merge or a split all units are computed again from the new analyzer, which changes nothing for those that
    stayed. Computing "templates" or "unit_locations" again deletes the features.
    """

    extension_name = FEATURES
    depend_on: ClassVar[list[str]] = []
    need_recording = False
    use_nodepipeline = False
    need_job_kwargs = True

    @classmethod
    def get_optional_dependencies(cls, **params) -> list[str]:
        """What is used where it is there, so that it is computed before."""
        return ["templates", "unit_locations"]

    def _set_params(
        self,
        events: Any = None,
        window_s: Sequence[float] = (-1.0, 1.5),
        bin_s: float = 0.025,
        baseline_s: Sequence[float] | None = None,
        normalisation: str = "zscore",
        spike_train_settings: Mapping[str, Any] | None = None,
        families: Sequence[str] | None = None,
        depth_axis: str = "y",
    ) -> dict[str, Any]:
        if depth_axis not in ("x", "y", "z"):
            raise InputError(f'depth_axis must be "x", "y" or "z", got {depth_axis!r}.')
        if families is not None and (unknown := set(families) - set(FAMILIES)):
            raise InputError(f"There are no features of the families {sorted(unknown)}, only of {FAMILIES}.")
        if families is not None and "psth" in families and events is None:
            raise InputError('Features of the family "psth" need events: give their onsets.')
        params = {
            "events": None if events is None else _plain_events(events, self.sorting_analyzer.get_num_segments()),
            "window_s": [float(edge) for edge in window_s],
            "bin_s": float(bin_s),
            "baseline_s": None if baseline_s is None else [float(edge) for edge in baseline_s],
            "normalisation": normalisation,
            "spike_train_settings": dict(spike_train_settings or {}),
            "families": None if families is None else list(families),
            "depth_axis": depth_axis,
        }
        # both refuse what does not fit
        _psth_settings(params), _spike_train_settings(params)
        return params

    def _run(self, verbose: bool = False, **job_kwargs) -> None:
        events, onsets = self.params["events"], {}
        if events is not None:
            per_segment = event_times([np.asarray(one) for one in events], len(events), self.sorting_analyzer)
            # from the first sample of each segment, whatever the clock of the recording, which may be gone later
            onsets["onsets_s"] = np.concatenate(per_segment)
            onsets["onset_segment"] = np.repeat(np.arange(len(events)), [len(one) for one in per_segment])
        self.data = self._features_of(self.sorting_analyzer, onsets, **job_kwargs)
        families = self.params["families"]
        if families is not None:
            found = [feature_family(name) for name in self.data["feature_names"].tolist()]
            if missing := [family for family in families if family not in found]:
                raise InputError(
                    f"There are no features of the families {missing}: waveforms need the extension "
                    '"templates", responses at least one event whose window lies inside the recording.'
                )
            kept = np.isin(found, families)
            self.data.update(features=self.data["features"][:, kept], feature_names=self.data["feature_names"][kept])

    def _features_of(self, analyzer: SortingAnalyzer, onsets: dict[str, np.ndarray], **job_kwargs) -> dict[str, Any]:
        session = analyzer_session(analyzer, subject="subject", region=None, depth_axis=self.params["depth_axis"])
        if onsets:
            starts_s = session.segments_s[:, 0]
            session = replace(session, onsets_s=np.sort(onsets["onsets_s"] + starts_s[onsets["onset_segment"]]))
        found = session_dataset(
            session,
            psth_settings=_psth_settings(self.params),
            spike_train_settings=_spike_train_settings(self.params),
            num_threads=fix_job_kwargs(job_kwargs)["n_jobs"],
        )
        data = {
            "features": found.features,
            "feature_names": np.array(found.feature_names, dtype="U"),
            "depth_um": found.units["depth_um"].to_numpy("float64"),
            "shank": found.units["shank"].to_numpy("U"),
            **onsets,
        }
        if found.psth is not None:
            data.update(psth=found.psth, bin_edges_s=found.bin_edges_s)
        return data

    def _get_data(self, outputs: str = "dataframe") -> "pd.DataFrame | np.ndarray":
        features, names = np.asarray(self.data["features"]), self.feature_names
        if outputs == "numpy":
            return features
        if outputs == "dataframe":
            import pandas as pd

            return pd.DataFrame(features, index=self.sorting_analyzer.unit_ids, columns=list(names))
        raise InputError(f'outputs must be "dataframe" or "numpy", got {outputs!r}.')

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(np.asarray(self.data["feature_names"]).tolist())

    def get_psth(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Responses of all units.

        Returns
        -------
        (float32 array of shape (num_units, num_bins), float64 array of shape (num_bins + 1,)) or None
            The normalised PSTHs and the edges of their bins in seconds from the event; None without events.
        """
        if "psth" not in self.data:
            return None
        return np.asarray(self.data["psth"]), np.asarray(self.data["bin_edges_s"])

    def get_dataset(
        self, subject: str = "subject", recording: str = "recording", *, region: str | None = "brain_area"
    ) -> RegionDataset:
        """The units as a dataset, to predict their regions or to learn from them.

        Parameters
        ----------
        subject, recording : str
            Who was recorded and the name of the session; they matter when datasets are put together.
        region : str | None, default: "brain_area"
            Property of the units that holds their regions; no labels where there is none.

        Returns
        -------
        RegionDataset
        """
        import pandas as pd

        analyzer = self.sorting_analyzer
        labels = None if region is None else analyzer.get_sorting_property(region)
        units = pd.DataFrame(
            {
                "subject": subject,
                "recording": recording,
                "unit_id": analyzer.unit_ids,
                "region": np.full(len(analyzer.unit_ids), "") if labels is None else labels,
                "depth_um": np.asarray(self.data["depth_um"]),
                "shank": np.asarray(self.data["shank"]),
            }
        )
        psth, edges = self.get_psth() or (None, None)
        return RegionDataset(units, self.get_data(outputs="numpy"), self.feature_names, psth, edges)

    def _select_units_extension_data(self, unit_ids):
        rows = self.sorting_analyzer.sorting.ids_to_indices(unit_ids)
        return {key: np.asarray(value)[rows] if key in PER_UNIT else value for key, value in self.data.items()}

    def _merge_extension_data(
        self, merge_unit_groups, new_unit_ids, new_sorting_analyzer, keep_mask=None, verbose=False, **job_kwargs
    ):
        return self._data_after_change(new_sorting_analyzer, **job_kwargs)

    def _split_extension_data(self, split_units, new_unit_ids, new_sorting_analyzer, verbose=False, **job_kwargs):
        return self._data_after_change(new_sorting_analyzer, **job_kwargs)

    def _data_after_change(self, analyzer, **job_kwargs):
        onsets = {key: np.asarray(self.data[key]) for key in ("onsets_s", "onset_segment") if key in self.data}
        data = self._features_of(analyzer, onsets, **job_kwargs)
        # the columns there were: templates may have been computed since
        features = np.column_stack([data["features"], np.full(len(data["features"]), np.nan, dtype="float32")])
        places = {name: k for k, name in enumerate(data["feature_names"].tolist())}
        kept = [places.get(name, -1) for name in self.feature_names]
        return {**data, "features": features[:, kept], "feature_names": np.asarray(self.data["feature_names"])}


compute_region_features = ComputeRegionFeatures.function_factory()


def _psth_settings(params):
    baseline_s = None if params["baseline_s"] is None else tuple(params["baseline_s"])
    return PsthSettings(tuple(params["window_s"]), params["bin_s"], baseline_s, params["normalisation"])


def _spike_train_settings(params):
    settings = {
        key: tuple(value) if isinstance(value, list) else value for key, value in params["spike_train_settings"].items()
    }
    try:
        return SpikeTrainSettings(**settings)
    except TypeError as error:
        raise InputError(f"spike_train_settings: {error}.") from error


def _plain_events(events, num_segments):
    """Sorted onsets of each segment as lists that JSON can hold, on the clock they are given on."""
    if isinstance(events, Mapping) and not events:
        raise InputError("events is an empty dict: give onsets, or None where there are no events.")
    if isinstance(events, Mapping) and all(isinstance(key, int | np.integer) for key in events):
        if set(map(int, events)) - set(range(num_segments)):
            raise InputError(f"Events are given for the segments {sorted(events)}, the sorting has {num_segments}.")
        events = [np.asarray(events.get(segment, ()), dtype="float64") for segment in range(num_segments)]
    elif isinstance(events, Mapping):
        events = {
            name: _plain_events(one, num_segments) if isinstance(one, Mapping) else one for name, one in events.items()
        }
    return [one.tolist() for one in event_times(events, num_segments)]
