"""A stretch of a recording to draw, and what a detector says of it: the same as in the whole recording."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from spikeinterface.core import BaseRecording, get_chunk_with_margin

from ..errors import InputError
from ..events.conditioning import condition_traces, reflect_ends
from ..events.line import JointSites, LineCoupling, joint_scores
from ..events.nodes import DetectLearnedEvents
from ..modelfiles import NamedModel

__all__ = [
    "Found",
    "Window",
    "detect_in_window",
    "events_in_window",
    "read_window",
    "scaled_traces",
    "split_bars",
]

# what is drawn of a recording when nothing is said
NUM_CHANNELS, DURATION_S = 4, 2.0


class Window(NamedTuple):
    """The channels and samples that are drawn.

    Attributes
    ----------
    whole, recording : BaseRecording
        The recording as given, and with the drawn channels only.
    channels : int array, shape (num_channels,)
        Which channels of the whole are drawn.
    segment, start, stop : int
        Segment, its first frame that is drawn, and the one past the last.
    times : float64 array, shape (num_samples,)
        In s, as the recording counts them.
    """

    whole: BaseRecording
    recording: BaseRecording
    channels: np.ndarray
    segment: int
    start: int
    stop: int
    times: np.ndarray

    @property
    def channel_ids(self) -> list[Any]:
        """Of the drawn channels."""
        return self.recording.channel_ids.tolist()

    @property
    def edge(self) -> float:
        """Time at which the last sample ends."""
        return self.times[-1] + 1.0 / self.recording.get_sampling_frequency()

    def rows(self, events: np.ndarray) -> np.ndarray:
        """Events of the drawn channels, channel_index their place among these."""
        row_of = np.full(self.whole.get_num_channels(), -1)
        row_of[self.channels] = np.arange(len(self.channels))
        row = row_of[events["channel_index"]]
        chosen = events[row >= 0].copy()
        chosen["channel_index"] = row[row >= 0]
        return chosen

    def bars(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """(left, width) in s of stretches of samples, ends exclusive, as far as they are drawn."""
        starts, stops = np.maximum(starts, self.start) - self.start, np.minimum(stops, self.stop) - self.start
        drawn = stops > starts
        left = self.times[starts[drawn]]
        width = self.times[stops[drawn] - 1] + 1.0 / self.recording.get_sampling_frequency() - left
        return np.column_stack([left, width])


class Found(NamedTuple):
    """What a detector says of a window.

    Attributes
    ----------
    conditioned, probability : float32 arrays, shape (num_channels, num_samples)
        What the scorer read, and the probability of an event at each sample.
    thresholds : float32 array, shape (2,)
        Of events and of periods, as probabilities.
    events, periods : structured arrays
        As from :func:`~si_neuroml.events.nodes.detect_events`, with channel_index the place among the drawn channels;
        the periods end where the window does.
    """

    conditioned: np.ndarray
    probability: np.ndarray
    thresholds: np.ndarray
    events: np.ndarray
    periods: np.ndarray


def read_window(
    recording: BaseRecording,
    channel_ids: Sequence[Any] | None,
    segment: int,
    time_range: tuple[float, float] | None,
) -> Window:
    """The window of some channels and a stretch of time, the end exclusive; None: the first 4, the first 2 s.

    Raises
    ------
    InputError
        On channels, a segment or a time that the recording does not have.
    """
    if not isinstance(recording, BaseRecording):
        raise InputError(f"A recording is needed, got {type(recording).__name__}.")
    if not 0 <= segment < recording.get_num_segments():
        raise InputError(f"There is no segment {segment}; the recording has {recording.get_num_segments()}.")
    known = recording.channel_ids.tolist()
    chosen = known[:NUM_CHANNELS] if channel_ids is None else list(dict.fromkeys(np.atleast_1d(channel_ids).tolist()))
    unknown = [one for one in chosen if one not in known]
    if unknown or not chosen:
        raise InputError(f"Choose among the recording's channels, {_some(known)}; got {_some(unknown)}.")
    start, stop = _frames(recording, segment, time_range)
    times = recording.get_times(segment_index=segment, start_frame=start, end_frame=stop)
    channels = np.array([known.index(one) for one in chosen])
    return Window(recording, recording.select_channels(chosen), channels, segment, start, stop, np.asarray(times))


def _frames(recording, segment, time_range):
    """First frame and the one past the last of a stretch of time."""
    num_samples = recording.get_num_samples(segment)
    if time_range is None:
        first, last = 0, min(num_samples, round(DURATION_S * recording.get_sampling_frequency()))
    else:
        if np.shape(time_range) != (2,):
            raise InputError(f"time_range must be (start, stop) in s, got {time_range!r}.")
        # the recording may count time from anywhere, and its clock may be irregular
        clock = {"key": lambda frame: recording.sample_index_to_time(frame, segment_index=segment)}
        first, last = (bisect_left(range(num_samples), time, **clock) for time in time_range)
    if first >= last:
        begin = recording.get_start_time(segment)
        end = begin + num_samples / recording.get_sampling_frequency()
        raise InputError(
            f"time_range {time_range} holds no sample of segment {segment}, which lasts from {begin:g} to {end:g} s."
        )
    return first, last


def detect_in_window(
    window: Window,
    detector: NamedModel | str | Path,
    noise_levels: np.ndarray | None = None,
    joint: dict[str, Any] | LineCoupling | JointSites | None = None,
) -> Found:
    """What detection in the whole recording gives in the window, from the samples that this takes.

    Parameters
    ----------
    window : Window
        From :func:`read_window`.
    detector : EventDetector | str | Path
        A detector, or the folder it was saved to.
    noise_levels : array, shape (num_channels,), optional
        Of each channel of the whole recording. Default: measured.
    joint : dict | LineCoupling | JointSites, optional
        As for ``detect_peaks(method="learned_events")``. All channels of the whole recording are then scored.

    Raises
    ------
    InputError
        On noise levels of another length, or sites that cannot be joined.
    ModelMismatchError
        When the detector was fitted at another sampling rate.
    """
    # a joint score hangs on sites that are not drawn, and its center on all of them
    recording, rows = (window.recording, slice(None)) if joint is None else (window.whole, window.channels)
    if noise_levels is not None:
        noise_levels, expected = np.asarray(noise_levels), window.whole.get_num_channels()
        if noise_levels.shape != (expected,):
            raise InputError(f"noise_levels must hold one number for each of {expected} channels of the recording.")
        noise_levels = noise_levels[window.channels] if joint is None else noise_levels
    node = DetectLearnedEvents(recording, detector, noise_levels=noise_levels, allow_nan=True, joint=joint)
    model, margin = node.model, node.get_margin()
    # as SpikeInterface's pipeline reads a chunk
    segment = recording.segments[window.segment]
    chunk, _, _ = get_chunk_with_margin(segment, window.start, window.stop, None, margin, add_zeros=True)
    first_frame, num_samples = window.start - margin, node.info.num_samples[window.segment]
    units = {"gains": node.info.gains, "offsets": node.info.offsets}
    scores, first = model.scores(chunk, first_frame, num_samples, noise=node.noise_levels, **units)
    scores = (scores if node.line is None else joint_scores(scores, node.line))[rows]
    missing = max(0, -first_frame), max(0, first_frame + len(chunk) - num_samples)
    options = {**units, **model.settings.baseline, "polarity": model.settings.polarity}
    conditioned = condition_traces(
        reflect_ends(chunk, *missing), first_frame, noise_levels=node.noise_levels, **options
    )[rows]
    owned = (window.start, window.stop)
    return Found(
        conditioned[:, margin : len(chunk) - margin],
        model.probability(scores[:, window.start - first : window.stop - first]),
        model.probability(np.array([model.threshold, model.low_threshold])),
        model.events(scores, first, owned),
        model.periods(scores, first, owned),
    )


def events_in_window(window: Window, events: np.ndarray) -> np.ndarray:
    """Those of the given events that lie in the window, with channel_index the place among the drawn channels.

    Raises
    ------
    InputError
        When fields are missing, or channels are none of the recording's.
    """
    names = getattr(getattr(events, "dtype", None), "names", None) or ()
    missing = [name for name in ("sample_index", "channel_index", "segment_index") if name not in names]
    if missing:
        raise InputError(f"events must be a structured array of peaks; it lacks the fields {missing}.")
    channels, num_channels = events["channel_index"], window.whole.get_num_channels()
    if len(events) and not 0 <= channels.min() <= channels.max() < num_channels:
        raise InputError(f"Events lie on channel {channels.max()}; the recording has {num_channels}.")
    inside = (events["sample_index"] >= window.start) & (events["sample_index"] < window.stop)
    return window.rows(events[inside & (events["segment_index"] == window.segment)])


def scaled_traces(window: Window) -> tuple[np.ndarray, str]:
    """Traces in the unit that is known of them, float64 of shape (num_channels, num_samples), and its name."""
    recording = window.recording
    span = {"start_frame": window.start, "end_frame": window.stop}
    traces = recording.get_traces(segment_index=window.segment, **span).T.astype("float64")
    units = recording.get_property("physical_unit")
    names = ("gain_to_physical_unit", "offset_to_physical_unit")
    if units is not None and len(set(units)) == 1 and all(recording.get_property(name) is not None for name in names):
        gains, offsets, unit = *(recording.get_property(name) for name in names), str(units[0])
    elif recording.has_scaleable_traces():
        gains, offsets, unit = recording.get_channel_gains(), recording.get_channel_offsets(), "µV"
    else:
        return traces, "a.u."
    return traces * np.asarray(gains)[:, None] + np.asarray(offsets)[:, None], unit


def split_bars(window: Window, split: Mapping[str, Sequence[Any]]) -> dict[str, list[np.ndarray]]:
    """Of each part of a split, for each drawn channel: (left, width) in s of what belongs to it.

    Parameters
    ----------
    window : Window
        From :func:`read_window`.
    split : dict of {str: sequence}
        Of each part the ids of channels or names of cells, or [(start, stop), ...] in s.

    Raises
    ------
    InputError
        On unknown channels and cells, and where parts overlap in the window.
    """
    bars = {str(name): _part_bars(window, str(name), members) for name, members in split.items()}
    for row, channel_id in enumerate(window.channel_ids):
        spans = sorted((*span, name) for name, part in bars.items() for span in part[row].tolist())
        for (left, width, one), (later, _, other) in pairwise(spans):
            if later < left + width - 1e-9:
                raise InputError(
                    f"The parts {one!r} and {other!r} of the split overlap on {channel_id} at {later:g} s."
                )
    return bars


def _part_bars(window, name, members):
    members, num_rows = np.asarray(members), len(window.channels)
    if members.ndim == 2 and members.shape[1] == 2 and members.dtype.kind in "iuf":
        starts, stops = np.clip(members.astype("float64"), window.times[0], window.edge).T
        spans = np.column_stack([starts, stops - starts])
        return [spans[spans[:, 1] > 0]] * num_rows
    cells, recording = window.whole.get_property("cell"), window.whole
    known = [{str(one)} for one in recording.channel_ids]
    if cells is not None:
        known = [names | {str(cell)} for names, cell in zip(known, cells, strict=True)]
    wanted = {str(one) for one in members.ravel().tolist()}
    unknown = sorted(wanted - set().union(*known))
    if members.ndim > 1 or unknown:
        raise InputError(
            f"The part {name!r} of the split must hold channel ids, names of cells or [(start, stop), ...] in s; "
            f"{_some(unknown)} is none of the recording's channels or cells."
        )
    whole = np.array([[window.times[0], window.edge - window.times[0]]])
    return [whole if known[channel] & wanted else whole[:0] for channel in window.channels]


def _some(ids, limit=5):
    return ", ".join(str(one) for one in ids[:limit]) + (", ..." if len(ids) > limit else "") if ids else "none"
