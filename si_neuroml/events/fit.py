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
from .operating_point import find_operating_point, held_out_average_precision
from .recordings import sample_chunks, trace_info
from .settings import DetectorSettings
from .windows import LabelledTraces, folds_by_cell, folds_in_time, split_by_cell, split_in_time

__all__ = ["fit_event_detector", "fit_to_traces", "labelled_traces"]

# where the trace turns after an event: its polarity is looked for up to so long after the label
POLARITY_MS = (1.0, 5.0)
# templates of the matched filter, and where the lag of the threshold is sought
TEMPLATE_MS = (3.0, 6.0)
# these are fitted in seconds, so often that every cell is held out once
FITTED_IN_SECONDS, NUM_FOLDS = ("strided", "matched_filter", "threshold"), 4
# the target of a network falls over this share of the tolerance on either side of an event, in samples at least so much
TARGET_SD, LEAST_TARGET_SD = 1 / 3, 0.5


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
    num_folds: int | None = None,
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
        What thresholds and probabilities are learned on: cells, or (also where there is one cell only) stretches of
        time, that the scores come from no training on. The second says nothing about other cells.
    num_folds : int, optional
        From 2 on: cells, or each segment, are divided into so many parts; each is scored by a network trained on the
        others, thresholds and probabilities are learned from all these scores, and the detector is trained on
        everything. 1: a part is held out once, which is quicker, but two cells rarely stand for all; networks with a
        patience also stop training by it. Default: 4 for those that are fitted in seconds ("strided",
        "matched_filter", "threshold"), 1 for the others.
    held_out_fraction : float, default: 0.25
        How much is held out with one fold.
    tolerance_ms : float, default: 0.9
        A found event counts as true within this time of a labelled one. Networks learn times as sharply as this asks.
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
    if num_folds is not None and not (isinstance(num_folds, int) and num_folds > 0):
        raise InputError(f"num_folds must be a whole number from 1 on, or None; got {num_folds!r}.")
    traces, settings = labelled_traces(
        recording,
        events,
        polarity=polarity,
        settings_kwargs=settings_kwargs,
        label_half_width_ms=label_half_width_ms,
        channels_of_units=channels_of_units,
        cells=cells,
    )
    return fit_to_traces(
        traces,
        settings,
        network,
        network_kwargs=network_kwargs,
        training_kwargs=training_kwargs,
        split=split,
        num_folds=num_folds,
        held_out_fraction=held_out_fraction,
        tolerance_ms=tolerance_ms,
        seed=seed,
        device=device,
        progress_bar=progress_bar,
    )


def fit_to_traces(
    traces: Sequence[LabelledTraces],
    settings: DetectorSettings,
    network: str = "strided",
    *,
    network_kwargs: dict[str, Any] | None = None,
    training_kwargs: dict[str, Any] | None = None,
    split: str = "cell",
    num_folds: int | None = None,
    held_out_fraction: float = 0.25,
    tolerance_ms: float = 0.9,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> EventDetector:
    """Fit a detector to what :func:`labelled_traces` returns.

    Other parameters and errors are those of :func:`fit_event_detector`.
    """
    if num_folds is None:
        num_folds = NUM_FOLDS if network in FITTED_IN_SECONDS else 1
    num_cells = len({str(part.cells[c]) for part in traces for c in part.labels["channel_index"]})
    split = "cell" if split == "cell" and num_cells > 1 else "time"
    if num_folds > 1:
        parts = folds_by_cell(traces, num_folds, seed) if split == "cell" else folds_in_time(traces, num_folds)
    else:
        once = (held_out_fraction, seed) if split == "cell" else (held_out_fraction,)
        parts = [(split_by_cell if split == "cell" else split_in_time)(traces, *once)]
    options = {"seed": seed, "device": device, "progress_bar": progress_bar, "tolerance_ms": tolerance_ms}
    arguments = (settings, network_kwargs or {}, training_kwargs or {}, options)
    held_out, scores = [], []
    for train, part in parts:
        scorer, summary = _fit_scorer(network, train, part, *arguments)
        held_out += part
        scores += [scorer.scores(one.x) for one in part]
    if num_folds > 1:
        train = traces
        scorer, summary = _fit_scorer(network, train, None, *arguments)
    point = find_operating_point(held_out, scores, settings, tolerance_ms)
    summary |= {"split": split, "held_out": point.summary, "num_cells": num_cells, "seed": seed}
    summary |= {"num_folds": len(parts), "num_events": sum(len(part.labels) for part in train)}
    if split == "cell":
        summary["held_out_cells"] = sorted({str(cell) for part in held_out for cell in part.cells})
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
    return _fit_network(network, train, held_out, settings, network_kwargs, training_kwargs, options)


def _fit_network(network, train, held_out, settings, network_kwargs, training_kwargs, options):
    from ..training import seeded
    from .network_training import train_network, training_settings
    from .networks import build_network

    tolerance_ms = options.get("tolerance_ms", 0.9)

    def scorer_of(module):
        own = [module] if network == "strided" else [network, module]
        return load_scorer(network).from_network(*own)

    def held_out_score(module):
        scores = [scorer_of(module).scores(part.x) for part in held_out]
        return held_out_average_precision(held_out, scores, settings, tolerance_ms)

    target_sd = TARGET_SD * tolerance_ms * settings.sampling_frequency / 1000.0
    with seeded(options["seed"]):
        module = build_network(network, **network_kwargs)
    summary = train_network(
        module,
        train,
        training_settings(network, **training_kwargs),
        target_sd=max(LEAST_TARGET_SD, target_sd),
        held_out_score=None if held_out is None else held_out_score,
        **{name: options[name] for name in ("seed", "device", "progress_bar")},
    )
    return scorer_of(module), summary


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
        prefix = f"{number}/" if len(recordings) > 1 else ""
        names.append(np.asarray([f"{prefix}{name}" for name in own]))
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
