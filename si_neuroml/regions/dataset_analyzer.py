"""A SortingAnalyzer as a session, and as a dataset of its units."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import SortingAnalyzer
from spikeinterface.core.base import BaseExtractor
from spikeinterface.core.template_tools import get_dense_templates_array

from ..errors import InputError
from .dataset import RegionDataset
from .quality import QUALITY_COLUMNS
from .session import Session, UnitTemplates
from .session_features import session_dataset

__all__ = ["SEGMENT_GAP_S", "analyzer_dataset", "analyzer_session", "analyzers_dataset", "event_times"]

# between segments on the common clock: longer than any window around an event or lag
SEGMENT_GAP_S = 100.0


def analyzer_dataset(sorting_analyzer: SortingAnalyzer, *, subject: str, **settings: Any) -> RegionDataset:
    """A dataset of the units of one analyzer.

    Parameters
    ----------
    sorting_analyzer : SortingAnalyzer
        With the extension "templates" for features of the waveforms, "unit_locations" for the best depths (else that of
        the main channel is taken) and "quality_metrics" with snr for the quality filter.
    subject : str
        Who was recorded.
    **settings
        recording, events, region, lab, depth_axis as for :func:`analyzer_session`; psth_settings,
        spike_train_settings, num_threads as for :func:`~.session_features.session_dataset`.

    Returns
    -------
    RegionDataset

    Raises
    ------
    InputError
        As :func:`analyzer_session`.
    """
    of_features = ("psth_settings", "spike_train_settings", "num_threads")
    session = analyzer_session(
        sorting_analyzer, subject=subject, **{k: v for k, v in settings.items() if k not in of_features}
    )
    return session_dataset(session, **{k: v for k, v in settings.items() if k in of_features})


def analyzers_dataset(
    sorting_analyzers: Sequence[SortingAnalyzer],
    *,
    subjects: Sequence[str],
    recordings: Sequence[str] | None = None,
    events: Sequence[Any] | None = None,
    **settings: Any,
) -> RegionDataset:
    """A dataset of the units of several analyzers.

    Parameters
    ----------
    sorting_analyzers : sequence of SortingAnalyzer
        One per recording.
    subjects, recordings, events : sequences
        One entry per analyzer, as `subject`, `recording` and `events` of :func:`analyzer_dataset`. Recordings are
        numbered within their subject by default.
    **settings
        As for :func:`analyzer_dataset`, the same for all.

    Returns
    -------
    RegionDataset

    Raises
    ------
    InputError
        When the sequences differ in length; and as :func:`analyzer_session`.
    """
    num = len(sorting_analyzers)
    if recordings is None:
        recordings = [f"{subject}_{list(subjects[:k]).count(subject)}" for k, subject in enumerate(subjects)]
    events = [None] * num if events is None else events
    lengths = {"subjects": len(subjects), "recordings": len(recordings), "events": len(events)}
    if wrong := {name: length for name, length in lengths.items() if length != num}:
        raise InputError(f"There are {num} analyzers, but {wrong}: give one entry for each analyzer.")
    return RegionDataset.concatenate(
        [
            analyzer_dataset(one, subject=subject, recording=recording, events=event, **settings)
            for one, subject, recording, event in zip(sorting_analyzers, subjects, recordings, events, strict=True)
        ]
    )


def analyzer_session(
    sorting_analyzer: SortingAnalyzer,
    *,
    subject: str,
    recording: str | None = None,
    events: Any = None,
    region: str | Sequence[str] | None = "brain_area",
    lab: str = "",
    depth_axis: str = "y",
) -> Session:
    """A SortingAnalyzer as a session; segments follow each other on one clock, 100 s apart.

    Parameters
    ----------
    sorting_analyzer : SortingAnalyzer
        With or without its recording.
    subject : str
        Who was recorded.
    recording : str, optional
        Name of the recording, different for each. Default: that of the analyzer's folder, else the subject.
    events : array | list of arrays | mapping | event object, optional
        Onsets in seconds, see :func:`event_times`. Default: no events.
    region : str | sequence of str | None, default: "brain_area"
        Property of the units that names their region, else of the channels, taken at the main channel of each unit; or
        the regions themselves, one per unit. None: no labels.
    lab : str
        Where it was recorded.
    depth_axis : "x" | "y" | "z", default: "y"
        Along the shank, from its tip.

    Returns
    -------
    Session

    Raises
    ------
    InputError
        When there is no such property, or regions or events do not fit.
    """
    import pandas as pd

    sorting = sorting_analyzer.sorting
    if not subject:
        raise InputError("Units are kept apart by subject when a classifier is judged: name the subject.")
    spikes = sorting.to_spike_vector()
    fs = sorting_analyzer.sampling_frequency
    lengths_s = np.array([sorting_analyzer.get_num_samples(k) for k in range(sorting.get_num_segments())]) / fs
    starts_s = np.concatenate([[0.0], np.cumsum(lengths_s + SEGMENT_GAP_S)[:-1]])
    # stable: spikes stay in the order of segments and samples within each unit
    order = np.argsort(spikes["unit_index"], kind="stable")
    times = (spikes["sample_index"] / fs + starts_s[spikes["segment_index"]])[order]
    counts = np.bincount(spikes["unit_index"], minlength=len(sorting.unit_ids))
    templates = _templates(sorting_analyzer)
    channels = _main_channels(sorting_analyzer, templates)
    onsets = None
    if events is not None:
        per_segment = event_times(events, len(lengths_s), sorting_analyzer)
        onsets = np.sort(np.concatenate([one + start for one, start in zip(per_segment, starts_s, strict=True)]))
    folder = sorting_analyzer.folder
    columns = {
        "subject": str(subject),
        "recording": str(recording or (Path(folder).name if folder is not None else subject)),
        "unit_id": np.asarray(sorting.unit_ids),
        "region": _regions(sorting_analyzer, region, channels),
        "depth_um": _depths(sorting_analyzer, channels, "xyz".index(depth_axis)),
        "shank": _shanks(sorting_analyzer, channels),
        "lab": lab,
    }
    return Session(
        units=pd.DataFrame({**columns, **_quality(sorting_analyzer)}),
        spike_times=times,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        duration_s=float(lengths_s.sum()),
        onsets_s=onsets,
        boundaries_s=starts_s[1:],
        segments_s=np.column_stack([starts_s, starts_s + lengths_s]),
        templates=templates,
    )


def event_times(events: Any, num_segments: int, sorting_analyzer: SortingAnalyzer | None = None) -> list[np.ndarray]:
    """Event onsets of each segment, in seconds from its first sample.

    Parameters
    ----------
    events : array | list of arrays | mapping | event object
        Onsets in seconds: an array for one segment, an array per segment, a mapping of either by the name of the
        event, or an event object of SpikeInterface. All events of a mapping and all channels of an object are taken.
    num_segments : int
        Of the sorting.
    sorting_analyzer : SortingAnalyzer, optional
        If it has its recording, times are on the clock of the recording (its start time or its timestamps).

    Returns
    -------
    list of float64 array
        Sorted.

    Raises
    ------
    InputError
        When the number of segments differs, or a time is not finite.
    """
    if isinstance(events, Mapping):
        found = [event_times(one, num_segments, sorting_analyzer) for one in events.values()]
        return [np.unique(np.concatenate([one[k] for one in found])) for k in range(num_segments)]
    if isinstance(events, BaseExtractor) and hasattr(events, "get_event_times"):
        channels = events.channel_ids
        per_segment = [
            np.concatenate([events.get_event_times(channel_id=one, segment_index=k) for one in channels])
            for k in range(events.get_num_segments())
        ]
    elif isinstance(events, list | tuple) and len(events) and np.ndim(events[0]) == 1:
        per_segment = list(events)
    else:
        per_segment = [events]
    if len(per_segment) != num_segments:
        raise InputError(
            f"Events are given for {len(per_segment)} segments, the sorting has {num_segments}: give a list with an "
            "array of onsets for each."
        )
    return [_on_segment(np.asarray(one, dtype="float64"), k, sorting_analyzer) for k, one in enumerate(per_segment)]


def _on_segment(times, segment, sorting_analyzer):
    if times.ndim != 1 or not np.isfinite(times).all():
        raise InputError(
            f"Onsets of segment {segment} must be a list of finite times in seconds, got shape {times.shape} with "
            f"{np.count_nonzero(~np.isfinite(times))} that are not finite."
        )
    if sorting_analyzer is not None and sorting_analyzer.has_recording():
        recording = sorting_analyzer.recording
        if recording.has_time_vector(segment):
            times = recording.time_to_sample_index(times, segment_index=segment) / recording.sampling_frequency
        else:
            times = times - recording.get_start_time(segment)
    return np.sort(times)


def _templates(analyzer):
    """Dense templates, or None with a warning."""
    if not analyzer.has_extension("templates"):
        warnings.warn(
            "The analyzer has no templates: there will be no features of the waveforms, and no depths unless it has "
            'unit_locations. Call analyzer.compute(["random_spikes", "templates"]).',
            stacklevel=3,
        )
        return None
    if not analyzer.return_in_uV:
        warnings.warn("The templates are not in uV (return_in_uV=False): neither are their amplitudes.", stacklevel=3)
    dense = get_dense_templates_array(analyzer, return_in_uV=analyzer.return_in_uV)
    return UnitTemplates(dense, analyzer.sampling_frequency, analyzer.get_channel_locations())


def _main_channels(analyzer, templates):
    """Index of the channel with the largest waveform of each unit, -1 without one; None where nothing is known."""
    if templates is None:
        known = analyzer.get_sorting_property("main_channel_id")
        if known is None or not np.isin(known, analyzer.channel_ids).all():
            return None
        return analyzer.channel_ids_to_indices(known)
    heights = np.nan_to_num(np.ptp(templates.templates, axis=1))
    return np.where(heights.max(axis=1) > 0, heights.argmax(axis=1), -1)


def _regions(analyzer, region, channels):
    units = analyzer.unit_ids
    if region is None:
        return np.full(len(units), "")
    if not isinstance(region, str):
        if len(region) != len(units):
            raise InputError(f"{len(region)} regions are given for {len(units)} units.")
        return np.asarray(region, dtype=str)
    labels = analyzer.get_sorting_property(region)
    if labels is not None:
        return labels
    of_channels = _channel_property(analyzer, region)
    if of_channels is None or channels is None:
        known = sorted(analyzer.sorting.get_property_keys())
        raise InputError(
            f"The analyzer has no unit property {region!r} (there are {known})"
            f"{'' if of_channels is None else ', and no templates to take it from the main channels'}. Set it with "
            "analyzer.set_sorting_property(name, labels), name another one by region=, or pass region=None for units "
            "without labels."
        )
    return np.append(np.asarray(of_channels, dtype=object), "")[channels]


def _channel_property(analyzer, name):
    """A property of the channels, or None; SpikeInterface gives an array without axes for one that is not there."""
    values = analyzer.get_recording_property(name)
    return values if np.ndim(values) == 1 else None


def _depths(analyzer, channels, axis):
    if analyzer.has_extension("unit_locations"):
        places = analyzer.get_extension("unit_locations").get_data()
        if axis < places.shape[1]:
            return places[:, axis].astype("float64")
    if channels is None:
        return np.full(len(analyzer.unit_ids), np.nan)
    places = analyzer.get_channel_locations()
    if axis >= places.shape[1]:
        raise InputError(f"The probe has {places.shape[1]} axes: depth_axis cannot be {'xyz'[axis]!r}.")
    return np.append(places[:, axis].astype("float64"), np.nan)[channels]


def _shanks(analyzer, channels):
    """Name of each unit's shank; "" when there is one only, or the main channels are not known."""
    contacts = analyzer.get_probegroup().to_numpy(complete=True)
    contacts = contacts[np.argsort(contacts["device_channel_indices"], kind="stable")]
    names = [name for name in ("probe_index", "shank_ids") if name in contacts.dtype.names]
    names = [name for name in names if len(np.unique(contacts[name])) > 1]
    if not names or channels is None:
        return np.full(len(analyzer.unit_ids), "")
    # a unit without a main channel, -1, takes the last
    labels = np.array([*(":".join(str(contact[name]) for name in names) for contact in contacts), ""])
    return labels[channels]


def _quality(analyzer):
    if not analyzer.has_extension("quality_metrics"):
        return {}
    metrics = analyzer.get_extension("quality_metrics").get_data().loc[analyzer.unit_ids]
    return {name: metrics[name].to_numpy("float64") for name in QUALITY_COLUMNS if name in metrics}
