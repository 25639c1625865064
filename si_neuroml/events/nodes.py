"""The learned detector as a node of SpikeInterface's pipeline, and what it makes of a whole recording."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from spikeinterface.core import BaseRecording, NumpySorting, SpikeVectorSortingSegment
from spikeinterface.core.node_pipeline import PeakDetector, run_node_pipeline

from ..errors import InputError
from ..modelfiles import NamedModel, resolve_model
from .conditioning import condition_traces
from .line import JointSites, LineCoupling, connect_sites, joint_scores, joint_sites
from .noise import guess_polarity
from .picking import PERIOD_DTYPE, stitch
from .recordings import sample_chunks, trace_info
from .settings import EVENT_DTYPE

__all__ = ["DetectLearnedEvents", "DetectedEvents", "detect_events", "events_to_sorting"]

# skewness this many standard errors on the wrong side says that events point the other way
POLARITY_Z = 5.0


class DetectLearnedEvents(PeakDetector):
    """Events of a fitted :class:`~si_neuroml.events.detector.EventDetector`, each channel for itself unless `joint`."""

    name = "learned_events"
    engine = "numba"
    need_noise_levels = False
    preferred_mp_context = None
    params_doc = """
    model: str | Path | EventDetector
        A detector fitted with si_neuroml.fit_event_detector(), or the folder it was saved to.
    threshold: float | None
        Score that makes an event. None: the detector's own.
    low_threshold: float | None
        Score above which an event lasts. None: the detector's own, or `threshold` if that is lower.
    noise_levels: array | None
        Noise sd of each channel, in the recording's units, without its slow baseline. None: measured.
    allow_nan: bool
        Whether samples may be NaN or infinite. They are taken as baseline.
    resample: bool
        Whether traces at another sampling rate than the detector's are resampled for it. False: they are refused.
    joint: None | dict
        How channels that are sites of one dendrite count for each other, with any of the keys
        coupling, speed_um_per_ms, radius_um, center, single_site_share (see si_neuroml.events.line.LineCoupling),
        by (the channels' property that names their dendrite, default "cell") and positions_um (default: from the
        probe). The probability of events is then only a rank: it is calibrated for the scores of single sites. None:
        each channel is for itself.
    """

    def __init__(
        self,
        recording: BaseRecording,
        model: str | Path | NamedModel | None = None,
        threshold: float | None = None,
        low_threshold: float | None = None,
        noise_levels: np.ndarray | None = None,
        allow_nan: bool = False,
        resample: bool = False,
        joint: dict[str, Any] | LineCoupling | JointSites | None = None,
        return_output: bool | tuple[bool, bool] = (True, False),
    ):
        super().__init__(recording, return_output=return_output)
        if model is None:
            raise InputError(
                f'method="{self.name}" needs a model: method_kwargs={{"model": detector or its folder}}. Fit one with '
                "si_neuroml.fit_event_detector()."
            )
        self.model = resolve_model(model, "event_detector")
        if threshold is not None or low_threshold is not None:
            self.model = self.model.with_thresholds(
                self.model.threshold if threshold is None else threshold, low_threshold
            )
        self.recording, self.info, self.allow_nan = recording, trace_info(recording), allow_nan
        if resample:
            self.model = self.model.resampled(self.info.sampling_frequency)
        self.model.check_sampling_frequency(self.info.sampling_frequency)
        self.noise_levels = self._measured() if noise_levels is None else _checked(noise_levels, self.info)
        self.joint, self.line = (None, None) if joint is None else self._connected(joint)
        # what was measured travels, so that no worker measures it again
        self._kwargs.update(
            model=self.model,
            noise_levels=self.noise_levels,
            allow_nan=allow_nan,
            joint=self.joint,
            return_output=return_output,
        )

    def get_margin(self) -> int:
        """Samples that a chunk needs on either side, so that its events do not depend on where it was cut."""
        return self.model.margin + (0 if self.line is None else self.line.reach)

    def get_dtype(self) -> np.dtype:
        """SpikeInterface's peaks with probability, onset and offset."""
        return EVENT_DTYPE

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin):
        """(events, periods) of the chunk [start_frame, end_frame)."""
        margin, num_samples = self.get_margin(), self.info.num_samples[segment_index]
        first_frame = start_frame - margin
        if not self.allow_nan:
            self._check_finite(traces[margin : len(traces) - margin], start_frame, segment_index)
        scores, first = self.model.scores(
            traces,
            first_frame,
            num_samples,
            noise=self.noise_levels,
            gains=self.info.gains,
            offsets=self.info.offsets,
        )
        if self.line is not None:
            scores = joint_scores(scores, self.line)
        events = self.model.events(scores, first, (start_frame, end_frame))
        events["segment_index"] = segment_index
        events["amplitude"] = traces[events["sample_index"] - first_frame, events["channel_index"]]
        periods = self.model.periods(scores, first, (start_frame, end_frame))
        periods["segment_index"] = segment_index
        # SpikeInterface adds the frame of the first sample of the chunk with margins; onset and offset it leaves alone
        events["sample_index"] -= first_frame
        return events, periods

    def _check_finite(self, traces, start_frame, segment_index):
        finite = np.isfinite(traces)
        if not finite.all():
            sample, channel = np.argwhere(~finite)[0]
            raise InputError(
                f"{(~finite).sum()} samples are NaN or infinite, the first at frame {start_frame + sample} of segment "
                f"{segment_index} on channel {self.info.channel_ids[channel]}. Remove or interpolate them, or pass "
                "allow_nan=True: they are then taken as baseline, and events near them may be lost."
            )

    def _connected(self, joint):
        """(joint with a center, links between the channels)."""
        joint = joint_sites(self.recording, joint)
        if joint.coupling.center is None:
            joint = joint._replace(coupling=replace(joint.coupling, center=self._median_score()))
        usable = np.isfinite(self.noise_levels) & (self.noise_levels > 0)
        rate, threshold = self.info.sampling_frequency, self.model.threshold
        return joint, connect_sites(joint.positions_um, joint.lines, joint.coupling, rate, threshold, usable=usable)

    def _median_score(self):
        """The score that says nothing, as events are rare."""
        units = {"noise": self.noise_levels, "gains": self.info.gains, "offsets": self.info.offsets}
        chunks = sample_chunks(self.recording, allow_nan=self.allow_nan)
        scores = np.concatenate([self.model.scores(chunk, 0, len(chunk), **units)[0].ravel() for chunk in chunks])
        scores = scores[np.isfinite(scores)]
        return float(np.median(scores)) if len(scores) else self.model.threshold - 1.0

    def _measured(self):
        """Noise of each channel; warns when events seem to point the other way."""
        settings, chunks = self.model.settings, sample_chunks(self.recording, allow_nan=self.allow_nan)
        units = {"gains": self.info.gains, "offsets": self.info.offsets}
        noise = self.model.noise_levels(chunks, **units)
        options = {**units, **settings.baseline, "polarity": settings.polarity, "noise_levels": noise}
        x = np.concatenate([condition_traces(chunk, 0, **options) for chunk in chunks], axis=1)
        if x.shape[1] >= 2048:
            found = guess_polarity(x)
            if found.sign < 0 and found.z > POLARITY_Z:
                names = {1: "up", -1: "down"}
                warnings.warn(
                    f"The detector was fitted to events that point {names[settings.polarity]}, but this recording is "
                    f"skewed the other way ({found.z:.1f} standard errors). If its events point "
                    f"{names[-settings.polarity]}, invert it, with spikeinterface.preprocessing.scale(recording, "
                    "gain=-1), or fit a detector to it.",
                    stacklevel=4,
                )
        return noise


class DetectedEvents(NamedTuple):
    """What :func:`detect_events` finds.

    Attributes
    ----------
    events : structured array
        SpikeInterface's peaks with probability, onset and offset (exclusive), by segment and sample.
    periods : structured array
        Stretches of samples whose score stays above the low threshold: SpikeInterface's periods with a channel_index,
        the end exclusive, of any length.
    """

    events: np.ndarray
    periods: np.ndarray


def detect_events(
    recording: BaseRecording,
    model: str | Path | NamedModel,
    *,
    job_kwargs: dict[str, Any] | None = None,
    **method_kwargs: Any,
) -> DetectedEvents:
    """Events and the periods they last, which may be longer than a chunk.

    Parameters
    ----------
    recording : BaseRecording
        Traces at the detector's sampling rate, or at any with ``resample=True``.
    model : str | Path | EventDetector
        A detector, or the folder it was saved to.
    job_kwargs : dict, optional
        SpikeInterface's.
    **method_kwargs
        As for ``detect_peaks(method="learned_events")``.

    Returns
    -------
    DetectedEvents

    Raises
    ------
    InputError
        When recording and detector do not belong together, or samples are not finite.
    """
    node = DetectLearnedEvents(recording, model, **method_kwargs, return_output=(True, True))
    events, periods = run_node_pipeline(recording, [node], job_kwargs or {}, job_name="detect events")
    return DetectedEvents(events, stitch(periods.astype(PERIOD_DTYPE, copy=False)))


def events_to_sorting(
    recording: BaseRecording, events: np.ndarray, *, by: str | None = None, min_probability: float = 0.0
) -> NumpySorting:
    """Events as a sorting: one unit per channel, or per group of channels.

    Parameters
    ----------
    recording : BaseRecording
        The recording that the events were found in.
    events : structured array
        From ``detect_peaks(method="learned_events")`` or :func:`detect_events`.
    by : str, optional
        A property of the recording's channels, such as "group": its values name the units. Events of one unit within
        the detector's exclusion time on several channels are kept one by one; remove duplicates with
        ``spikeinterface.curation.remove_duplicated_spikes()``. Default: the channel ids name the units.
    min_probability : float, default: 0
        Leave out events that are less likely.

    Returns
    -------
    NumpySorting
        Units without events are kept.

    Raises
    ------
    InputError
        When the recording has no such property, or events lie outside of it.
    """
    names = recording.channel_ids if by is None else recording.get_property(by)
    if names is None:
        raise InputError(f"The recording has no property {by!r}; it has {sorted(recording.get_property_keys())}.")
    unit_ids, unit_of_channel = np.unique(np.asarray(names), return_inverse=True)
    if by is None:
        unit_ids, unit_of_channel = np.asarray(names), np.arange(len(names))
    if len(events) and not 0 <= events["channel_index"].min() <= events["channel_index"].max() < len(names):
        raise InputError(f"Events lie on channel {events['channel_index'].max()}; the recording has {len(names)}.")
    kept = events if min_probability <= 0 else events[events["probability"] >= min_probability]
    segments = range(recording.get_num_segments())
    parts = [kept[kept["segment_index"] == segment] for segment in segments]
    sorting = NumpySorting.from_samples_and_labels(
        [part["sample_index"] for part in parts],
        [unit_ids[unit_of_channel[part["channel_index"]]] for part in parts],
        recording.get_sampling_frequency(),
        unit_ids=unit_ids,
    )
    # NumpySorting ends at the last segment that has a spike
    for segment in segments[sorting.get_num_segments() :]:
        sorting.add_sorting_segment(SpikeVectorSortingSegment(sorting.to_spike_vector(), segment, sorting.unit_ids))
    return sorting


def _checked(noise_levels, info):
    noise = np.asarray(noise_levels, dtype="float64")
    if noise.shape != info.gains.shape or not np.all(noise >= 0):
        raise InputError(
            f"noise_levels must hold one number from 0 on for each of {len(info.gains)} channels, got {noise.shape}."
        )
    return noise
