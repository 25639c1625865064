"""What a detector read, said and found: trace, probability, labels, events and split, one under the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording
from spikeinterface.widgets.base import BaseWidget, to_attr

from ..errors import InputError
from ..events.labels import as_labels
from ..events.line import JointSites, LineCoupling
from ..modelfiles import NamedModel
from .event_window import detect_in_window, events_in_window, read_window, scaled_traces, split_bars

__all__ = ["EventTracesWidget", "plot_event_traces"]

# heights in inches: trace, probability, one row of marks, the gap between them, the title
TRACE_IN, PROBABILITY_IN, ROW_IN, GAP_IN, TITLE_IN = 1.3, 0.75, 0.17, 0.07, 0.35
BAR_IN, CMAP = 0.12, "viridis_r"
TRACE_COLOR, LABEL_COLOR, EVENT_COLOR, MASK_COLOR = "0.25", "0.45", "0.85", "tab:blue"


class EventTracesWidget(BaseWidget):
    """Plot traces with their labels, the probability of an event, what was found, and what belongs to which split.

    Only the time asked for is read and scored, with the margin that the detector needs: what is drawn is what
    detection in the whole recording gives.

    Parameters
    ----------
    recording : BaseRecording
        Traces; no probe is needed.
    detector : EventDetector | str | Path, optional
        Gives the probability of every sample with the two thresholds, the periods above the low one and, unless
        `events` are given, the events. For other thresholds: ``detector.with_thresholds(...)``.
    events : structured array, optional
        Found events, as from ``detect_peaks()`` or :func:`si_neuroml.detect_events`, to draw in place of the
        detector's. Fields sample_index, channel_index and segment_index; onset, offset and probability if known.
    labels : BaseSorting | structured array | bool array | list of bool arrays, optional
        Labelled events of the recording, as for :func:`si_neuroml.fit_event_detector`.
    channel_ids : sequence, optional
        Channels to draw, one panel each. Default: the first 4.
    time_range : (float, float), optional
        In s, as the recording counts time; samples from the first up to, not including, the second. Default: the first
        2 s of the segment.
    segment_index : int, default: 0
        Segment to draw.
    split : dict of {str: sequence}, optional
        What belongs to which part, such as "train", "held out" and "test": for each part the ids of its channels or
        the names of their cells (property "cell"), or its stretches of time, [(start, stop), ...] in s.
    conditioned : bool, default: False
        Draw the trace as the detector's scorer reads it: events point up, without slow baseline, in units of the noise.
    unit : str, optional
        Unit of the traces, for the axes. Default: the recording's property "physical_unit"; or µV if it has gains.
    noise_levels : array, shape (num_channels,), optional
        Noise sd of each channel of the recording, as for ``detect_peaks(method="learned_events")``. Default: measured.
    joint : dict | LineCoupling | JointSites, optional
        How sites of one dendrite count for each other, as there. All channels are then read and scored, those drawn or
        not. See :class:`~si_neuroml.events.line.LineCoupling` on the probability of joint scores.
    label_half_width_ms, channels_of_units : optional
        Of the labels, as for :func:`si_neuroml.fit_event_detector`.
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``ax``, ``axes``, ``ncols`` (default: 1), ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, ax
        What was drawn on, as in SpikeInterface's widgets; panels are divided inside of these axes.
    panels : dict of {channel id: dict of {str: Axes}}
        The axes "trace", "probability" and "marks" of each channel; the last two only where there is something to draw.

    Raises
    ------
    InputError
        On channels, a segment or a time that the recording does not have, events without the fields, parts of the split
        that overlap, labels that do not fit the recording, or fewer axes than channels.
    ModelMismatchError
        When the detector was fitted at another sampling rate.

    Notes
    -----
    Bars are labelled intervals, intervals of found events (with a tick at the event in the colour of its
    probability), and periods above the low threshold. Samples that are not finite are gaps in the trace, and baseline
    for the detector.
    """

    def __init__(
        self,
        recording: BaseRecording,
        detector: NamedModel | str | Path | None = None,
        events: np.ndarray | None = None,
        labels: Any = None,
        *,
        channel_ids: Sequence[Any] | None = None,
        time_range: tuple[float, float] | None = None,
        segment_index: int = 0,
        split: Mapping[str, Sequence[Any]] | None = None,
        conditioned: bool = False,
        unit: str | None = None,
        noise_levels: np.ndarray | None = None,
        joint: dict[str, Any] | LineCoupling | JointSites | None = None,
        label_half_width_ms: float = 0.75,
        channels_of_units: Mapping[Any, Sequence[Any]] | None = None,
        backend: str | None = None,
        **backend_kwargs,
    ):
        if detector is None and (conditioned or joint is not None):
            raise InputError("conditioned and joint need a detector: conditioning and scores belong to it.")
        window = read_window(recording, channel_ids, segment_index, time_range)
        found = None if detector is None else detect_in_window(window, detector, noise_levels, joint)
        if events is not None:
            events = events_in_window(window, events)
        elif found is not None:
            events = found.events
        if labels is not None:
            half_width = max(0, round(label_half_width_ms * recording.get_sampling_frequency() / 1000))
            options = {"half_width": half_width, "channels_of_units": channels_of_units}
            labels = window.rows(as_labels(recording, labels, **options)[segment_index])
        traces, known_unit = scaled_traces(window)
        data_plot = {
            "window": window,
            "traces": found.conditioned if conditioned else traces,
            "unit": "noise sd" if conditioned else (unit or known_unit),
            "found": found,
            "events": events,
            "labels": labels,
            "split": None if split is None else split_bars(window, split),
        }
        # traces are compared along time: one under the other
        BaseWidget.__init__(self, data_plot, backend=backend, **{"ncols": 1, **backend_kwargs})

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        from spikeinterface.widgets.utils_matplotlib import make_mpl_figure

        dp = to_attr(data_plot)
        num_panels, ncols = len(dp.window.channels), backend_kwargs["ncols"]
        _check_axes(backend_kwargs, num_panels)
        own_figure = all(backend_kwargs[name] is None for name in ("figure", "ax", "axes"))
        marks = _rows_of_marks(data_plot)
        heights = _heights(marks, dp.found)
        if own_figure and backend_kwargs["figsize"] is None:
            height = sum(heights.values()) + TITLE_IN
            backend_kwargs["figsize"] = (10.0 * min(ncols, num_panels), 0.6 + height * -(-num_panels // ncols))
        num_axes = num_panels if backend_kwargs["ax"] is None else None
        self.figure, self.axes, self.ax = make_mpl_figure(num_axes=num_axes, **backend_kwargs)
        if own_figure:
            self.figure.set_layout_engine("constrained")
        panel_axes = [ax for ax in np.asarray(self.axes).ravel() if ax is not None][:num_panels]
        if num_panels == 1:
            self.ax = panel_axes[0]

        self.panels, shared = {}, None
        for row, (channel_id, ax) in enumerate(zip(dp.window.channel_ids, panel_axes, strict=True)):
            axes = self.panels[channel_id] = _divide(ax, heights, shared)
            shared = axes["trace"]
            shared.plot(dp.window.times, dp.traces[row], color=TRACE_COLOR, lw=0.7)
            shared.set_ylabel(dp.unit)
            shared.set_title(str(channel_id), loc="left", fontsize="medium")
            if "probability" in axes:
                _draw_probability(axes["probability"], dp.window.times, dp.found, row)
            if "marks" in axes:
                _draw_marks(axes["marks"], marks, dp, row)
        shared.set_xlim(dp.window.times[0], dp.window.edge)
        panels = list(self.panels.values())
        for axes in panels[-ncols:]:
            list(axes.values())[-1].set_xlabel("time (s)")
        _draw_legends(panels[0], dp.split)
        if own_figure and dp.events is not None and "probability" in dp.events.dtype.names:
            aspect = self.figure.get_figheight() / BAR_IN
            self.figure.colorbar(_colors(), ax=panel_axes, label="probability of found events", aspect=aspect, pad=0.01)


plot_event_traces = EventTracesWidget


def _check_axes(backend_kwargs, num_panels):
    given = backend_kwargs["ax"] if backend_kwargs["axes"] is None else backend_kwargs["axes"]
    if given is not None and np.size(given) < num_panels:
        raise InputError(f"There are {num_panels} channels to draw, but only {np.size(given)} axes were given.")


def _rows_of_marks(data_plot):
    """Names of the rows, the first on top, with the place of each: (bottom, height)."""
    source = {"labels": "labels", "events": "events", "periods": "found", "split": "split"}
    names = [name for name, key in source.items() if data_plot[key] is not None]
    return {name: (len(names) - 1 - k + 0.1, 0.8) for k, name in enumerate(names)}


def _heights(marks, found):
    """Of the rows of a panel in inches, from the top."""
    probability = {} if found is None else {"probability": PROBABILITY_IN}
    return {"trace": TRACE_IN, **probability, **({"marks": ROW_IN * len(marks)} if marks else {})}


def _divide(ax, heights, shared):
    """Rows of the given heights in place of an axes, with one time axis for all of them."""
    ax.set_axis_off()
    ax.set_navigate(False)
    total, top, rows = sum(heights.values()) + GAP_IN * (len(heights) - 1), 1.0, {}
    for name, height in heights.items():
        rows[name] = ax.inset_axes([0, top - height / total, 1, height / total], sharex=shared)
        shared, top = shared or rows[name], top - (height + GAP_IN) / total
        rows[name].spines[["top", "right"]].set_visible(False)
    for row in list(rows.values())[:-1]:
        row.tick_params(labelbottom=False)
    return rows


def _draw_probability(ax, times, found, row):
    ax.plot(times, found.probability[row], color=MASK_COLOR, lw=0.8)
    for level, style, label in zip(found.thresholds, ("--", ":"), ("event threshold", "period threshold"), strict=True):
        ax.axhline(level, color="k", ls=style, lw=0.8, label=label)
    ax.set_ylim(-0.05, 1.05)
    ax.set_ylabel("probability", fontsize="small")


def _draw_marks(ax, places, dp, row):
    if "labels" in places:
        own = dp.labels[dp.labels["channel_index"] == row]
        _draw_bars(ax, dp.window.bars(own["onset"], own["offset"]), places["labels"], LABEL_COLOR)
    if "events" in places:
        _draw_events(ax, dp.window, dp.events[dp.events["channel_index"] == row], places["events"])
    if "periods" in places:
        own = dp.found.periods[dp.found.periods["channel_index"] == row]
        bars = dp.window.bars(own["start_sample_index"], own["end_sample_index"])
        _draw_bars(ax, bars, places["periods"], MASK_COLOR)
    if "split" in places:
        for color, part in zip(_split_colors(dp.split), dp.split.values(), strict=True):
            _draw_bars(ax, part[row], places["split"], color)
    ax.set_yticks([bottom + height / 2 for bottom, height in places.values()], list(places), fontsize="small")
    ax.set_ylim(0, len(places))
    ax.tick_params(left=False)


def _draw_bars(ax, spans, place, color):
    # the rim keeps a bar of a few samples visible
    ax.broken_barh(spans, place, facecolors=color, edgecolors=color, lw=0.6)


def _draw_events(ax, window, events, place):
    if {"onset", "offset"} <= set(events.dtype.names):
        _draw_bars(ax, window.bars(events["onset"], events["offset"]), place, EVENT_COLOR)
    is_known = "probability" in events.dtype.names
    colors = _colors().to_rgba(events["probability"]) if is_known else "k"
    ax.vlines(window.times[events["sample_index"] - window.start], place[0], sum(place), colors=colors, lw=1.5)


def _colors():
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0.0, 1.0), CMAP)


def _split_colors(split):
    from matplotlib import colormaps

    return [colormaps["Set2"](k % 8) for k in range(len(split))]


def _draw_legends(axes, split):
    from matplotlib.patches import Patch

    style = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.1), "frameon": False, "fontsize": "small"}
    if "probability" in axes:
        axes["probability"].legend(**style)
    if split:
        patches = [Patch(color=color, label=name) for color, name in zip(_split_colors(split), split, strict=True)]
        axes["marks"].legend(handles=patches, title="split", title_fontsize="small", **style)
