"""What a localizer needs to know of a SpikeInterface recording and of its peaks, checked once."""

import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from spikeinterface.core import BaseRecording

from ..errors import InputError

__all__ = ["TraceInfo", "check_peaks", "sort_peaks", "trace_info"]

PEAK_FIELDS = ("sample_index", "channel_index", "segment_index")
# looked at together: the check of many millions takes no more memory than localizing does
BLOCK_PEAKS = 200_000


@dataclass(frozen=True)
class TraceInfo:
    """Probe and units of a recording.

    Attributes
    ----------
    contact_locations : array, shape (num_channels, 2 or 3)
        In um, in the order of the channels.
    shank_indices : int array, shape (num_channels,)
        One number per shank of each probe.
    gains, offsets : float32 array, shape (num_channels,)
        uV = traces * gain + offset.
    sampling_frequency : float
        In Hz.
    num_samples : list of int
        Length of each segment.
    """

    contact_locations: np.ndarray
    shank_indices: np.ndarray
    gains: np.ndarray
    offsets: np.ndarray
    sampling_frequency: float
    num_samples: list[int]


def trace_info(recording: BaseRecording) -> TraceInfo:
    """Probe, shanks, gains and lengths of a recording.

    Raises
    ------
    InputError
        When no probe is attached.
    """
    if not recording.has_probe():
        raise InputError(
            f"This recording of {recording.get_num_channels()} channels has no probe, so its contacts have no places. "
            "Attach one with recording.set_probe(probe)."
        )
    axes = "xyz" if recording.is_probe_3d() else "xy"
    gains, offsets = recording.get_channel_gains(), recording.get_channel_offsets()
    if gains is None or offsets is None:
        if np.issubdtype(recording.get_dtype(), np.integer):
            warnings.warn(
                f"The recording holds {recording.get_dtype()} without gains: its numbers are taken as uV. Set them "
                "with recording.set_channel_gains() and set_channel_offsets() if one step is not 1 uV.",
                stacklevel=2,
            )
        gains, offsets = np.ones(recording.get_num_channels()), np.zeros(recording.get_num_channels())
    return TraceInfo(
        np.asarray(recording.get_channel_locations(axes=axes), dtype="float64"),
        _shank_indices(recording),
        np.asarray(gains, dtype="float32"),
        np.asarray(offsets, dtype="float32"),
        float(recording.get_sampling_frequency()),
        [recording.get_num_samples(segment) for segment in range(recording.get_num_segments())],
    )


def check_peaks(peaks: np.ndarray, info: TraceInfo, *, need_sorted: bool = True) -> None:
    """Raise InputError when peaks cannot belong to the recording, or are not sorted by segment and sample."""
    names = getattr(getattr(peaks, "dtype", None), "names", None) or ()
    missing = [name for name in PEAK_FIELDS if name not in names]
    if missing:
        raise InputError(
            f"peaks must be a structured array as detect_peaks() returns it; fields {missing} are missing (it has "
            f"{list(names)})."
        )
    if not len(peaks):
        raise InputError("There are no peaks to localize. Lower detect_threshold, or check the recording's filter.")
    with suppress(InputError):
        # each block with the last peak of the one before
        for start in range(0, len(peaks), BLOCK_PEAKS):
            _check_block(peaks[max(0, start - 1) : start + BLOCK_PEAKS], info, need_sorted)
        return
    # to say how many of all are wrong
    _check_block(peaks, info, need_sorted)


def _check_block(peaks, info, need_sorted):
    segment, sample, channel = (
        peaks[name].astype("int64") for name in ("segment_index", "sample_index", "channel_index")
    )
    _check_range(segment, len(info.num_samples), "segment_index", "segments")
    _check_range(channel, len(info.gains), "channel_index", "channels")
    outside = (sample < 0) | (sample >= np.asarray(info.num_samples)[segment])
    if outside.any():
        raise InputError(
            f"{outside.sum()} of {len(peaks)} peaks lie outside their segment (lengths "
            f"{info.num_samples} samples), for "
            f"example sample {sample[outside][0]} in segment {segment[outside][0]}. Do they belong to this recording?"
        )
    if need_sorted:
        backwards = (np.diff(segment) < 0) | ((np.diff(segment) == 0) & (np.diff(sample) < 0))
        if backwards.any():
            raise InputError(
                f"peaks must be sorted by segment and sample; {backwards.sum()} of {len(peaks)} come "
                f"before the peak that "
                f"precedes them (first at index {np.flatnonzero(backwards)[0] + 1}). Sort them with "
                'peaks[np.lexsort((peaks["sample_index"], peaks["segment_index"]))].'
            )


def sort_peaks(peaks: np.ndarray) -> np.ndarray:
    """Peaks in the order that SpikeInterface's pipeline needs."""
    return peaks[np.lexsort((peaks["sample_index"], peaks["segment_index"]))]


def _check_range(values, count, name, what):
    wrong = (values < 0) | (values >= count)
    if wrong.any():
        raise InputError(
            f"{wrong.sum()} of {len(values)} peaks have a {name} outside 0..{count - 1} (the recording "
            f"has {count} {what}), "
            f"for example {values[wrong][0]}. Do they belong to this recording?"
        )


def _shank_indices(recording):
    """Number the shanks over all probes, in the order of the channels."""
    contacts = recording.get_probegroup().to_numpy(complete=True)
    shanks = [contacts[name].astype(str) for name in ("probe_index", "shank_ids") if name in contacts.dtype.names]
    if not shanks:
        return np.zeros(len(contacts), dtype="int64")
    return np.unique(np.stack(shanks), axis=1, return_inverse=True)[1].ravel()
