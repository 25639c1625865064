"""Labels of any kind as events: a sorting, peaks, periods or a mask."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, BaseSorting

from ..errors import InputError

__all__ = ["LABEL_DTYPE", "as_labels", "label_mask", "label_targets"]

# sample_index is -1 where only the interval is known
LABEL_DTYPE = np.dtype([("sample_index", "int64"), ("channel_index", "int64"), ("onset", "int64"), ("offset", "int64")])
# target of a network inside an event, away from its time
INSIDE = 0.02
_PERIOD_NAMES = ("start_sample_index", "end_sample_index")


def as_labels(
    recording: BaseRecording,
    events: Any,
    *,
    half_width: int,
    channels_of_units: Mapping[Any, Sequence[Any]] | None = None,
) -> list[np.ndarray]:
    """Labelled events of each segment.

    Parameters
    ----------
    recording : BaseRecording
        What the labels belong to.
    events : BaseSorting | structured array | bool array | list of bool arrays
        A sorting: spike times. Peaks: fields sample_index, channel_index and segment_index, with onset and offset
        (exclusive) where they are known. Periods: fields start_sample_index, end_sample_index and segment_index, and
        channel_index unless there is one channel. A mask (num_samples, num_channels), or one for each segment: True
        inside events.
    half_width : int
        Samples before and after an event of which only the time is known that count as inside it.
    channels_of_units : dict, optional
        For a sorting: the channel ids where the spikes of each unit show. Default: the channel named like the unit; or
        those whose property "cell" names it; or the only channel.

    Returns
    -------
    list of structured array
        LABEL_DTYPE, by time; one array per segment.

    Raises
    ------
    InputError
        When the labels are of another kind, do not fit the recording, or their channels cannot be told.
    """
    num_samples = [recording.get_num_samples(segment) for segment in range(recording.get_num_segments())]
    num_channels = recording.get_num_channels()
    if isinstance(events, BaseSorting):
        labels = _of_sorting(recording, events, channels_of_units, half_width)
    elif isinstance(events, np.ndarray) and events.dtype.names is not None:
        labels = _of_fields(events, len(num_samples), num_channels, half_width)
    elif isinstance(events, np.ndarray | list | tuple):
        labels = _of_masks(events, num_samples, num_channels)
    else:
        raise InputError(
            "events must be a sorting, a structured array of peaks or periods, or a boolean mask, got "
            f"{type(events).__name__}."
        )
    return [
        _checked(part, length, num_channels, k)
        for k, (part, length) in enumerate(zip(labels, num_samples, strict=True))
    ]


def label_mask(labels: np.ndarray, num_channels: int, num_samples: int) -> np.ndarray:
    """True for samples inside an event: bool array, shape (num_channels, num_samples)."""
    edges = np.zeros((num_channels, num_samples + 1), dtype="int32")
    np.add.at(edges, (labels["channel_index"], labels["onset"]), 1)
    np.add.at(edges, (labels["channel_index"], labels["offset"]), -1)
    return np.cumsum(edges[:, :-1], axis=1) > 0


def label_targets(labels: np.ndarray, num_channels: int, num_samples: int, sd: float) -> np.ndarray:
    """What a network should say of each sample, so that its output tells the event's time as well as its extent.

    One at the time of an event, falling like a Gaussian; elsewhere inside it a little, :data:`INSIDE`, so that where an
    event ends does not compete with when it happens; 0 outside.

    Parameters
    ----------
    labels : structured array
        LABEL_DTYPE, every sample_index known.
    num_channels, num_samples : int
        Of the traces.
    sd : float
        Of the Gaussian, in samples.

    Returns
    -------
    float32 array, shape (num_channels, num_samples)
    """
    targets = np.float32(INSIDE) * label_mask(labels, num_channels, num_samples).astype("float32")
    reach = int(np.ceil(3 * sd))
    for lag in range(-reach, reach + 1):
        sample = labels["sample_index"] + lag
        inside = (sample >= 0) & (sample < num_samples)
        place = labels["channel_index"][inside], sample[inside]
        np.maximum.at(targets, place, np.float32(np.exp(-0.5 * (lag / sd) ** 2)))
    return targets


def _of_sorting(recording, sorting, channels_of_units, half_width):
    if abs(sorting.get_sampling_frequency() / recording.get_sampling_frequency() - 1) > 1e-6:
        raise InputError(
            f"The sorting counts samples at {sorting.get_sampling_frequency():g} Hz, the recording has "
            f"{recording.get_sampling_frequency():g} Hz."
        )
    if sorting.get_num_segments() != recording.get_num_segments():
        raise InputError(
            f"The sorting has {sorting.get_num_segments()} segments, the recording {recording.get_num_segments()}."
        )
    channels = _channels_of_units(recording, sorting, channels_of_units)
    labels = []
    for segment in range(recording.get_num_segments()):
        times = {unit: sorting.get_unit_spike_train(unit, segment_index=segment) for unit in sorting.unit_ids}
        pairs = [(times[unit], channel) for unit in sorting.unit_ids for channel in channels[unit]]
        part = np.zeros(sum(len(samples) for samples, _ in pairs), dtype=LABEL_DTYPE)
        if len(part):
            part["sample_index"] = np.concatenate([samples for samples, _ in pairs])
            part["channel_index"] = np.repeat([channel for _, channel in pairs], [len(samples) for samples, _ in pairs])
        part["onset"], part["offset"] = part["sample_index"] - half_width, part["sample_index"] + half_width + 1
        labels.append(part)
    return labels


def _channels_of_units(recording, sorting, given):
    ids = [str(channel) for channel in recording.channel_ids]
    if given is not None:
        wrong = sorted({str(c) for unit in sorting.unit_ids for c in given.get(unit, ())} - set(ids))
        if wrong:
            raise InputError(f"channels_of_units names channels {wrong} that the recording does not have.")
        return {unit: [ids.index(str(channel)) for channel in given.get(unit, ())] for unit in sorting.unit_ids}
    names = ids if len(ids) > 1 else None
    if names is not None and not {str(unit) for unit in sorting.unit_ids} <= set(names):
        cells = recording.get_property("cell")
        names = None if cells is None else [str(cell) for cell in cells]
        if names is None or not {str(unit) for unit in sorting.unit_ids} <= set(names):
            raise InputError(
                f"It is not clear on which of {len(ids)} channels the {len(sorting.unit_ids)} units lie. "
                'Give channels_of_units={unit_id: [channel_id, ...]}, or set the property "cell" of the channels to '
                "the units' ids."
            )
    if names is None:
        return {unit: [0] for unit in sorting.unit_ids}
    return {unit: [k for k, name in enumerate(names) if name == str(unit)] for unit in sorting.unit_ids}


def _of_fields(events, num_segments, num_channels, half_width):
    names = events.dtype.names
    is_period = all(name in names for name in _PERIOD_NAMES)
    missing = [] if is_period or "sample_index" in names else ["sample_index"]
    missing += [] if "channel_index" in names or num_channels == 1 else ["channel_index"]
    missing += [] if "segment_index" in names or num_segments == 1 else ["segment_index"]
    if missing:
        raise InputError(f"events lack the fields {missing}; they have {list(names)}.")
    labels = np.zeros(len(events), dtype=LABEL_DTYPE)
    if "channel_index" in names:
        labels["channel_index"] = events["channel_index"]
    if is_period:
        labels["sample_index"] = -1
        labels["onset"], labels["offset"] = (events[name] for name in _PERIOD_NAMES)
    else:
        labels["sample_index"] = events["sample_index"]
        around = events["sample_index"] - half_width, events["sample_index"] + half_width + 1
        known = "onset" in names and "offset" in names
        labels["onset"], labels["offset"] = (events["onset"], events["offset"]) if known else around
    segments = events["segment_index"] if "segment_index" in names else np.zeros(len(events), dtype="int64")
    if len(events) and not 0 <= segments.min() <= segments.max() < num_segments:
        raise InputError(f"events lie in segments {segments.min()} to {segments.max()}; there are {num_segments}.")
    return [labels[segments == segment] for segment in range(num_segments)]


def _of_masks(masks, num_samples, num_channels):
    masks = [masks] if isinstance(masks, np.ndarray) else list(masks)
    masks = [np.asarray(mask)[:, None] if np.ndim(mask) == 1 else np.asarray(mask) for mask in masks]
    found, expected = [mask.shape for mask in masks], [(length, num_channels) for length in num_samples]
    if found != expected or not all(mask.dtype == bool for mask in masks):
        kinds = sorted({str(mask.dtype) for mask in masks})
        raise InputError(f"Masks must be bool arrays of shapes {expected}, one per segment; got {kinds} of {found}.")
    labels = []
    for mask in masks:
        padded = np.pad(mask.T, ((0, 0), (1, 1)))
        channels, onsets = np.nonzero(padded[:, 1:] & ~padded[:, :-1])
        part = np.zeros(len(onsets), dtype=LABEL_DTYPE)
        part["sample_index"], part["channel_index"], part["onset"] = -1, channels, onsets
        part["offset"] = np.nonzero(padded[:, :-1] & ~padded[:, 1:])[1]
        labels.append(part)
    return labels


def _checked(labels, num_samples, num_channels, segment):
    """By time; refuse what lies outside, cut what begins or ends there."""
    time, channel = np.maximum(labels["sample_index"], labels["onset"]), labels["channel_index"]
    outside = (time < 0) & (labels["offset"] <= 0) | (time >= num_samples)
    outside |= (channel < 0) | (channel >= num_channels) | (labels["sample_index"] >= num_samples)
    if outside.any():
        raise InputError(
            f"{outside.sum()} of {len(labels)} events lie outside segment {segment} ({num_samples} samples, "
            f"{num_channels} channels), for example at sample {time[outside][0]}, channel {channel[outside][0]}. Do "
            "they belong to this recording?"
        )
    empty = labels["offset"] <= labels["onset"]
    if empty.any():
        raise InputError(f"{empty.sum()} of {len(labels)} events of segment {segment} end before they begin.")
    labels = labels.copy()
    labels["onset"] = np.maximum(labels["onset"], 0)
    labels["offset"] = np.minimum(labels["offset"], num_samples)
    return labels[np.lexsort((labels["channel_index"], labels["onset"]))]
