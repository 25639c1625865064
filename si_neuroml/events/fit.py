"""Fit a detector of events to labelled recordings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording

from ..errors import InputError, TrainingError
from .conditioning import condition_traces
from .detector import SCORERS, EventDetector, load_scorer
from .labels import as_labels
from .noise import noise_levels
from .operating_point import find_operating_point
from .recordings import sample_chunks, trace_info
from .settings import DetectorSettings
from .windows import LabelledTraces, split_by_cell, split_in_time

__all__ = ["fit_event_detector", "labelled_traces"]

# where the trace turns after an event: its polarity is looked for up to so long after the label
POLARITY_MS = (1.0, 5.0)
# templates of the matched filter, and where the lag of the threshold is sought
TEMPLATE_MS = (3.0, 6.0)
# the target of a network falls over this time on either side of an event
TARGET_MS = 0.75


def fit_event_detector(
    recording: BaseRecording | Sequence[BaseRecording],
    events: Any,
    *,
    network: str = "strided",
    network_kwargs: dict[str, Any] | None = None,
    training_kwargs: dict[str, Any] | None = None,
    polarity: str | int = "auto",
    settings_kwargs: dict[str, Any] | None = None,
    label_half_width_ms: float = 0.75,
    channels_of_units: Mapping[Any, Sequence[Any]] | None = None,
    cells: Sequence[Any] | None = None,
    split: str = "cell",
    held_out_fraction: float = 0.25,
    tolerance_ms: float = 0.9,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> EventDetector:
    """Fit a detector of events to labelled traces.

    Parameters
    ----------
    recording : BaseRecording | sequence of BaseRecording
        Traces at one sampling rate, read whole into memory. Several recordings have as many channels as they like.
    events : BaseSorting | structured array | bool array, or a sequence of them
        Labels of each recording: spike times, peaks, periods or a mask, see
        :func:`~si_neuroml.events.labels.as_labels`.
    network : str, default: "strided"
        "strided" (small dilated convolutions, no torch in use), "unet"; "bilstm", "tcn" and "transformer" of Pradeep,
        Agarwal and Advani (course report), "tcn_two_sided"; "svm" of the same report; or a baseline: "matched_filter",
        "threshold".
    network_kwargs : dict, optional
        Of the network, or of the baseline's ``fit``.
    training_kwargs : dict, optional
        Changes of the network's :class:`~si_neuroml.events.network_training.TrainingSettings`.
    polarity : "auto" | 1 | -1, default: "auto"
        Whether events point up or down. "auto": as the mean trace at the labels does.
    settings_kwargs : dict, optional
        ``baseline_ms``, ``exclude_sweep_ms``, ``max_reach_ms`` of
        :class:`~si_neuroml.events.settings.DetectorSettings`.
    label_half_width_ms : float, default: 0.75
        Time before and after a spike or a peak without onset and offset that counts as inside the event.
    channels_of_units : dict, optional
        For a sorting: the channel ids of each unit.
    cells : sequence, optional
        For each recording one name per channel: which cell it shows. Default: the property "cell" of the channels, or
        the recording, if there are several; else each channel is its own.
    split : "cell" | "time", default: "cell"
        What early stopping, thresholds and probabilities are learned on: cells that are not trained on, or (also where
        there is one cell only) the end of each segment, which says nothing about other cells.
    held_out_fraction : float, default: 0.25
        How much of them.
    tolerance_ms : float, default: 0.9
        A found event counts as true within this time of a labelled one.
    seed : int, default: 0
        Of the split, the weights and the order of training.
    device : str, default: "cpu"
        For training: "cpu", "cuda" or "auto".
    progress_bar : bool, default: True
        Whether to show one.

    Returns
    -------
    EventDetector

    Raises
    ------
    InputError
        When recordings and labels do not belong together, samples are not finite, or a choice is unknown.
    TrainingError
        When there are no events, no samples outside of events, or nothing was learned.
    """
    known = sorted(set(SCORERS) - {"resampled"})
    if network not in known:
        raise InputError(f"There is no network or baseline {network!r}; there are {known}.")
    if split not in ("cell", "time") or not 0 < held_out_fraction < 1:
        raise InputError(
            f'split must be "cell" or "time", held_out_fraction within 0 and 1; got {split!r}, {held_out_fraction!r}.'
        )
    traces, settings = labelled_traces(
        recording,
        events,
        polarity=polarity,
        settings_kwargs=settings_kwargs,
        label_half_width_ms=label_half_width_ms,
        channels_of_units=channels_of_units,
        cells=cells,
    )
    num_cells = len({str(part.cells[c]) for part in traces for c in part.labels["channel_index"]})
    if split == "cell" and num_cells > 1:
        train, held_out = split_by_cell(traces, held_out_fraction, seed)
    else:
        split = "time"
        train, held_out = split_in_time(traces, held_out_fraction)
    options = {"seed": seed, "device": device, "progress_bar": progress_bar}
    scorer, summary = _fit_scorer(
        network, train, held_out, settings, network_kwargs or {}, training_kwargs or {}, options
    )
    point = find_operating_point(held_out, [scorer.scores(part.x) for part in held_out], settings, tolerance_ms)
    summary |= {"split": split, "held_out": point.summary, "num_cells": num_cells, "seed": seed}
    summary["num_events"] = sum(len(part.labels) for part in train)
    return EventDetector(network, scorer, settings, point.threshold, point.low_threshold, point.calibration, summary)


def labelled_traces(
    recording: BaseRecording | Sequence[BaseRecording],
    events: Any,
    *,
    polarity: str | int = "auto",
    settings_kwargs: dict[str, Any] | None = None,
    label_half_width_ms: float = 0.75,
    channels_of_units: Mapping[Any, Sequence[Any]] | None = None,
    cells: Sequence[Any] | None = None,
) -> tuple[list[LabelledTraces], DetectorSettings]:
    """Conditioned traces with their labels, one for each segment, and how they were conditioned.

    Parameters and errors are those of :func:`fit_event_detector`.
    """
    single = isinstance(recording, BaseRecording)
    recordings, labels = ([recording], [events]) if single else (list(recording), list(events))
    if not recordings or len(recordings) != len(labels):
        raise InputError(f"{len(recordings)} recordings and {len(labels)} sets of events: give one each, at least 1.")
    rates = sorted({one.get_sampling_frequency() for one in recordings})
    if rates[-1] - rates[0] > 1e-3 * rates[0]:
        raise InputError(f"All recordings must have one sampling rate, got {rates} Hz. Resample them first.")
    names = _cell_names(recordings, [cells] if single and cells is not None else cells)
    half_width = max(0, round(label_half_width_ms * rates[0] / 1000.0))
    labels = [
        as_labels(one, part, half_width=half_width, channels_of_units=channels_of_units)
        for one, part in zip(recordings, labels, strict=True)
    ]
    if not sum(len(segment) for part in labels for segment in part):
        raise TrainingError("There are no labelled events to learn from.")
    sign = polarity if polarity in (1, -1) else None
    if sign is None and polarity != "auto":
        raise InputError(f'polarity must be "auto", 1 or -1, got {polarity!r}.')
    settings = DetectorSettings(rates[0], 1 if sign is None else sign, **(settings_kwargs or {}))
    traces = [x for one in recordings for x in _conditioned(one, settings)]
    segments = [segment for part in labels for segment in part]
    if sign is None and _points_down(traces, segments, settings):
        settings = DetectorSettings(rates[0], -1, **(settings_kwargs or {}))
        # again, because noise is measured on the side away from events
        traces = [x for one in recordings for x in _conditioned(one, settings)]
    names = [name for name, one in zip(names, recordings, strict=True) for _ in range(one.get_num_segments())]
    parts = [
        LabelledTraces(x, _with_times(part, x), name) for x, part, name in zip(traces, segments, names, strict=True)
    ]
    return parts, settings


def _fit_scorer(network, train, held_out, settings, network_kwargs, training_kwargs, options):
    x_list, labels = [part.x for part in train], [part.labels for part in train]
    times = [settings.samples(milliseconds) for milliseconds in TEMPLATE_MS]
    scorer_class = load_scorer(network)
    if network in ("matched_filter", "threshold", "svm") and training_kwargs:
        raise InputError(f"network={network!r} has no training_kwargs; its parameters go into network_kwargs.")
    if network == "matched_filter":
        arguments = {"before": times[0], "after": times[1], **network_kwargs}
        return scorer_class.fit(x_list, labels, **arguments), {}
    if network == "threshold":
        arguments = {"search_before": times[0], "search_after": times[1], **network_kwargs}
        return scorer_class.fit(x_list, labels, **arguments), {}
    if network == "svm":
        arguments = {"seed": options["seed"], **network_kwargs}
        return scorer_class.fit(x_list, labels, settings.sampling_frequency, **arguments), {}
    options = options | {"half_width": settings.samples(TARGET_MS)}
    return _fit_network(network, train, held_out, network_kwargs, training_kwargs, options)


def _fit_network(network, train, held_out, network_kwargs, training_kwargs, options):
    from ..training import seeded
    from .network_training import train_network, training_settings
    from .networks import build_network

    with seeded(options["seed"]):
        module = build_network(network, **network_kwargs)
    how = training_settings(network, **training_kwargs)
    summary = train_network(module, train, held_out, how, **options)
    scorer_class = load_scorer(network)
    if network == "strided":
        return scorer_class.from_network(module), summary
    return scorer_class.from_network(network, module), summary


def _conditioned(recording, settings):
    """Conditioned traces of each segment."""
    info, chunks = trace_info(recording), sample_chunks(recording)
    options = {"gains": info.gains, "offsets": info.offsets, "polarity": settings.polarity, **settings.baseline}
    noise = noise_levels(chunks, **options)
    segments = range(recording.get_num_segments())
    return [
        condition_traces(recording.get_traces(segment_index=segment), 0, noise_levels=noise, **options)
        for segment in segments
    ]


def _cell_names(recordings, cells):
    """For each recording one name per channel; equal names in two recordings are one cell only if given."""
    if cells is not None:
        names = [np.asarray([str(name) for name in part]) for part in cells]
        expected = [one.get_num_channels() for one in recordings]
        if [len(part) for part in names] != expected:
            raise InputError(f"cells must name the cell of each channel, {expected}; got {[len(p) for p in names]}.")
        return names
    names = []
    for number, one in enumerate(recordings):
        own = one.get_property("cell")
        if own is None:
            own = np.arange(one.get_num_channels()) if len(recordings) == 1 else np.zeros(one.get_num_channels(), int)
        names.append(np.asarray([f"{number}/{name}" for name in own]))
    return names


def _points_down(traces, segments, settings):
    """Whether the mean trace at the labels goes further down than up."""
    before, after = (settings.samples(milliseconds) for milliseconds in POLARITY_MS)
    total = np.zeros(before + after + 1)
    for x, labels in zip(traces, segments, strict=True):
        start = np.where(labels["sample_index"] >= 0, labels["sample_index"], labels["onset"])
        whole = (start >= before) & (start < x.shape[1] - after)
        samples = start[whole, None] + np.arange(-before, after + 1)
        total += x[labels["channel_index"][whole, None], samples].sum(axis=0)
    return -total.min() > total.max()


def _with_times(labels, x):
    """Events of which only the interval is known get the time of their highest sample."""
    labels = labels.copy()
    for index in np.flatnonzero(labels["sample_index"] < 0):
        onset, offset = labels["onset"][index], labels["offset"][index]
        labels["sample_index"][index] = onset + x[labels["channel_index"][index], onset:offset].argmax()
    return labels
