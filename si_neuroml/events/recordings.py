"""What a detector of events needs to know of a SpikeInterface recording, checked once."""

import warnings
from dataclasses import dataclass

import numpy as np
from spikeinterface.core import BaseRecording

from ..errors import InputError
from .noise import trace_faults

__all__ = ["TraceInfo", "sample_chunks", "trace_info"]

# noise and polarity are measured on up to so many stretches, spread evenly over the recording
NUM_CHUNKS, CHUNK_S = 20, 2.0


@dataclass(frozen=True)
class TraceInfo:
    """Units and lengths of a recording; no probe is needed.

    Attributes
    ----------
    gains, offsets : float64 array, shape (num_channels,)
        value = traces * gain + offset.
    channel_ids : array, shape (num_channels,)
        As the recording names its channels.
    sampling_frequency : float
        In Hz.
    num_samples : list of int
        Length of each segment.
    """

    gains: np.ndarray
    offsets: np.ndarray
    channel_ids: np.ndarray
    sampling_frequency: float
    num_samples: list[int]


def trace_info(recording: BaseRecording) -> TraceInfo:
    """Gains, channels and lengths of a recording; without gains its numbers are taken as they are.

    Raises
    ------
    InputError
        When there is no sample or no channel.
    """
    num_samples = [recording.get_num_samples(segment) for segment in range(recording.get_num_segments())]
    num_channels = recording.get_num_channels()
    if not num_channels or not sum(num_samples):
        raise InputError(f"The recording is empty: {num_channels} channels, segments of {num_samples} samples.")
    gains, offsets = recording.get_channel_gains(), recording.get_channel_offsets()
    if gains is None or offsets is None:
        gains, offsets = np.ones(num_channels), np.zeros(num_channels)
    return TraceInfo(
        np.asarray(gains, dtype="float64"),
        np.asarray(offsets, dtype="float64"),
        np.asarray(recording.channel_ids),
        float(recording.get_sampling_frequency()),
        num_samples,
    )


def sample_chunks(recording: BaseRecording, *, allow_nan: bool = False) -> list[np.ndarray]:
    """Stretches of raw traces spread evenly over all segments, the same at each call.

    Parameters
    ----------
    recording : BaseRecording
        Any recording.
    allow_nan : bool, default: False
        Whether samples may be NaN or infinite.

    Returns
    -------
    list of array, shape (num_chunk_samples, num_channels)
        At most 20 stretches of 2 s, or all of a shorter recording.

    Raises
    ------
    InputError
        On samples that are not finite.
    """
    info = trace_info(recording)
    size = max(1, round(CHUNK_S * info.sampling_frequency))
    pieces = [
        (segment, start, min(start + size, length))
        for segment, length in enumerate(info.num_samples)
        for start in range(0, length, size)
    ]
    chosen = np.unique(np.linspace(0, len(pieces) - 1, NUM_CHUNKS).round().astype(int))
    chunks = [
        recording.get_traces(segment_index=segment, start_frame=start, end_frame=stop)
        for segment, start, stop in (pieces[k] for k in chosen)
    ]
    faults = [trace_faults(chunk) for chunk in chunks]
    bad = np.sum([fault.num_not_finite for fault in faults], axis=0)
    if bad.any() and not allow_nan:
        raise InputError(_not_finite(bad, info.channel_ids, sum(fault.num_samples for fault in faults)))
    constant = np.all([fault.constant for fault in faults], axis=0)
    if constant.any():
        warnings.warn(
            f"{constant.sum()} of {len(constant)} channels are constant ({_some(info.channel_ids[constant])}): they "
            "can hold no events.",
            stacklevel=3,
        )
    return chunks


def _not_finite(bad, channel_ids, num_samples):
    return (
        f"{bad.sum()} of {num_samples * len(bad)} samples looked at are NaN or infinite, on {np.sum(bad > 0)} channels "
        f"({_some(channel_ids[bad > 0])}). Remove or interpolate them, or pass allow_nan=True: they are then taken as "
        "baseline, and events near them may be lost."
    )


def _some(ids, limit=5):
    text = ", ".join(str(one) for one in ids[:limit])
    return text + (", ..." if len(ids) > limit else "")
