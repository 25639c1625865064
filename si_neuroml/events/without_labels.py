"""A detector for a recording without labels: trained on simulations like it, its threshold set on the recording."""

import warnings
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording

from ..errors import InputError
from ..groundtruth.settings import IndicatorSettings
from .conditioning import condition_traces
from .detector import EventDetector
from .fit import fit_event_detector
from .matched_simulation import simulate_like
from .noise import guess_polarity, noise_levels
from .recording_statistics import find_clear_events, noise_color
from .recordings import CHUNK_S, NUM_CHUNKS, sample_chunks, trace_info
from .settings import DetectorSettings
from .sign_flip import compete, local_calibration, silent_threshold

__all__ = ["fit_event_detector_without_labels", "set_threshold_from_recording"]

# so many samples of all channels together are looked at; of more channels than that, some spread evenly
MAX_SAMPLES = 20_000_000
# at least so much must be there, in stretches of at least so much
MIN_DURATION_S, MIN_CHUNK_S = 1.0, 0.1
# a trace and its negative compete within this time on either side
PLACE_MS = 5.0
# third moment of neighbouring samples in standard errors, below which they do not say which way events point
SURE_Z = 3.0
# share of the mean event's variance that the simulated kinetics should explain
LIKE_INDICATOR = 0.8


def fit_event_detector_without_labels(
    recording: BaseRecording,
    *,
    network: str = "strided",
    false_discovery_rate: float = 0.05,
    indicator: IndicatorSettings | None = None,
    polarity: str | int = "auto",
    network_kwargs: dict[str, Any] | None = None,
    training_kwargs: dict[str, Any] | None = None,
    settings_kwargs: dict[str, Any] | None = None,
    num_cells: int = 48,
    duration_s: float = 15.0,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> EventDetector:
    """Fit a detector of events to a recording of which nothing is labelled.

    Polarity, noise and its spectrum, and the shape and heights of the events that stand out are measured on the
    recording. Voltage imaging with these properties is simulated at its sampling rate, with silent cells and with what
    looks like events and is none, and the network is trained on it (as CASCADE does for calcium, Rupprecht et al.
    2021). The threshold is then set on the recording, see :func:`set_threshold_from_recording`.

    Parameters
    ----------
    recording : BaseRecording
        Any number of channels and segments. Up to 20 stretches of 2 s are looked at, and where there are more than
        20 million samples in them a part of the channels.
    network : str, default: "strided"
        As for :func:`si_neuroml.fit_event_detector`.
    false_discovery_rate : float, default: 0.05
        Share of noise that is allowed among the found events. A rate of q needs at least 1 / q events; a recording
        with fewer counts as silent.
    indicator : IndicatorSettings, optional
        ``si_neuroml.groundtruth.settings.IndicatorSettings`` with what is known of the indicator's kinetics. Default:
        from the events that stand out; where none does, wide ranges.
    polarity : "auto" | 1 | -1, default: "auto"
        Whether events point up or down. "auto": the side to which neighbouring samples are skewed, with a warning
        where they hardly are.
    network_kwargs, training_kwargs, settings_kwargs : dict, optional
        As for :func:`si_neuroml.fit_event_detector`.
    num_cells : int, default: 48
        Simulated cells with two sites each, a quarter of them silent.
    duration_s : float, default: 15
        Simulated time of each.
    seed : int, default: 0
        Of simulation and training.
    device : str, default: "cpu"
        For training: "cpu", "cuda" or "auto".
    progress_bar : bool, default: True
        Whether to show one.

    Returns
    -------
    EventDetector
        ``training["measured"]``, ``["simulated"]`` and ``["operating_point"]`` say what was measured, what was
        simulated, and what the threshold rests on.

    Raises
    ------
    InputError
        On samples that are not finite, less than 1 s of traces, constant traces, or a choice out of range.
    TrainingError
        When nothing was learned.
    """
    _check_choices(false_discovery_rate, polarity, num_cells, duration_s)
    info = trace_info(recording)
    settings_kwargs = settings_kwargs or {}
    upwards = DetectorSettings(info.sampling_frequency, 1, **settings_kwargs)
    raw, part = _chunks(recording)
    units = {"gains": info.gains[part], "offsets": info.offsets[part]}
    found = guess_polarity(np.concatenate(_conditioned(raw, upwards, units)[0], axis=1))
    sign = found.sign if polarity == "auto" else int(polarity)
    if polarity == "auto" and found.z < SURE_Z:
        _warn_of_polarity(found)
    settings = DetectorSettings(info.sampling_frequency, sign, **settings_kwargs)
    # again, because noise is measured on the side away from events
    x_list, noise = _conditioned(raw, settings, units)
    events = find_clear_events(x_list, settings)
    color = noise_color(x_list, settings, events)
    simulated = simulate_like(settings, color, events, indicator, num_cells=num_cells, duration_s=duration_s, seed=seed)
    _warn_of_shape(simulated.summary["kinetics_explained"])
    detector = fit_event_detector(
        simulated.recording,
        simulated.events,
        network=network,
        network_kwargs=network_kwargs,
        training_kwargs=training_kwargs,
        polarity=sign,
        settings_kwargs=settings_kwargs,
        num_folds=1,
        seed=seed,
        device=device,
        progress_bar=progress_bar,
    )
    measured = {
        "polarity": sign,
        "polarity_z": found.z if found.sign == sign else -found.z,
        "polarity_is_given": polarity != "auto",
        "noise_sd": float(np.median(noise)),
        "noise_color": [float(weight) for weight in color],
        "num_clear_events": 0 if events is None else len(events.heights),
        "clear_event": None if events is None else [float(value) for value in events.shape],
    }
    training = {**detector.training, "measured": measured, "simulated": simulated.summary}
    detector = _changed(detector, training=training)
    return _with_operating_point(detector, x_list, false_discovery_rate, _num_times(info, x_list))


def set_threshold_from_recording(
    detector: EventDetector, recording: BaseRecording, false_discovery_rate: float = 0.05
) -> EventDetector:
    """The same detector with the threshold that gives a false discovery rate in a recording without labels.

    The detector scores the recording and its mirror image, in which events point the wrong way and all that it finds
    is noise: (1 + found there) / found here bounds the share of noise among what is found, and the threshold is the
    lowest that keeps it within the rate. The probability of a score follows from the same two counts: it is that of
    being an event and not noise in this recording. Onset and offset keep their threshold, as they are a matter of an
    event's shape.

    Where no threshold meets the rate the recording counts as silent: the thresholds are then put above every score, so
    high that noise in the whole recording reaches them with a probability of 1 %, and
    ``training["operating_point"]["silent"]`` is True.

    Parameters
    ----------
    detector : EventDetector
        Fitted to labels or without.
    recording : BaseRecording
        Looked at as by :func:`fit_event_detector_without_labels`.
    false_discovery_rate : float, default: 0.05
        Of all channels together. A rate of q needs at least 1 / q events.

    Returns
    -------
    EventDetector
        A new one.

    Raises
    ------
    InputError
        On samples that are not finite, less than 1 s of traces, constant traces, or a rate out of range.
    ModelMismatchError
        When recording and detector have different sampling rates.

    Notes
    -----
    Skewed noise is counted wrongly: with a brightening indicator and 60 to 600 photons per sample, 8 % of the found
    events were noise where 5 % were asked for; with a darkening one, fewer than asked for. What is on the side
    of events without being one, such as movement that always darkens, is not counted.
    """
    _check_choices(false_discovery_rate)
    info = trace_info(recording)
    detector.check_sampling_frequency(info.sampling_frequency)
    raw, part = _chunks(recording)
    x_list, _ = _conditioned(raw, detector.settings, {"gains": info.gains[part], "offsets": info.offsets[part]})
    return _with_operating_point(detector, x_list, false_discovery_rate, _num_times(info, x_list))


def _with_operating_point(detector, x_list, false_discovery_rate, num_times):
    place = max(1, detector.settings.samples(PLACE_MS))
    competition = compete(detector.scorer, x_list, false_discovery_rate, place)
    threshold, low, calibration = competition.threshold, detector.low_threshold, local_calibration(competition)
    summary = {"false_discovery_rate": float(false_discovery_rate), "silent": threshold is None}
    summary["lowest_rate"] = competition.lowest_rate()
    if threshold is None:
        threshold = low = silent_threshold(competition, num_times)
        warnings.warn(
            f"No threshold keeps the expected share of noise at {false_discovery_rate:g}: nothing stands out, or there "
            f"are fewer than {int(np.ceil(1 / false_discovery_rate))} events (the lowest rate that could be met is "
            f"{summary['lowest_rate']:.2g}). The recording counts as silent, and the detector finds nothing in it. "
            "Allow a higher rate, or give more of the recording.",
            stacklevel=3,
        )
    targets, decoys = competition.counts(threshold)
    summary |= {"num_found": targets, "num_found_mirrored": decoys, "calibrated": calibration is not None}
    summary["estimated_false_discovery_rate"] = (1 + decoys) / targets if targets else None
    return _changed(
        detector,
        threshold=threshold,
        low_threshold=min(low, threshold),
        calibration=calibration or detector.calibration,
        training={**detector.training, "operating_point": summary},
    )


def _warn_of_polarity(found):
    warnings.warn(
        f"The traces do not say which way events point (skewness of {found.z:.1f} standard errors, "
        f"{'up' if found.sign > 0 else 'down'}wards). Events are taken to point that way; pass polarity=1 (up) or "
        "polarity=-1 (down) if it is known.",
        stacklevel=3,
    )


def _warn_of_shape(explained):
    if explained is not None and explained < LIKE_INDICATOR:
        warnings.warn(
            "The events that stand out are not shaped like the response of a voltage indicator to a spike, which "
            f"explains {explained:.0%} of their mean. What is simulated is unlike them; labels or a matched filter "
            "(si_neuroml.events.two_pass) may serve better.",
            stacklevel=3,
        )


def _chunks(recording):
    """Stretches of traces, and which channels they are of."""
    info, num_channels = trace_info(recording), recording.get_num_channels()
    least, shortest = (round(seconds * info.sampling_frequency) for seconds in (MIN_DURATION_S, MIN_CHUNK_S))
    length = min(sum(info.num_samples), round(NUM_CHUNKS * CHUNK_S * info.sampling_frequency))
    num_kept = max(1, min(num_channels, MAX_SAMPLES // length))
    part = np.unique(np.linspace(0, num_channels - 1, num_kept).round().astype(int))
    if num_kept < num_channels:
        recording = recording.select_channels(info.channel_ids[part])
    chunks = [chunk for chunk in sample_chunks(recording) if len(chunk) >= shortest]
    if sum(len(chunk) for chunk in chunks) < least:
        raise InputError(
            f"The recording has segments of {info.num_samples} samples; to tell events from noise without labels, at "
            f"least {least} samples ({MIN_DURATION_S:g} s) in stretches of {shortest} or more are needed."
        )
    return chunks, part


def _conditioned(chunks, settings, units):
    """Conditioned traces of the channels that are not constant, and the sd of their noise."""
    options = {**units, **settings.baseline, "polarity": settings.polarity}
    noise = noise_levels(chunks, **options)
    usable = np.isfinite(noise) & (noise > 0)
    if not usable.any():
        raise InputError(f"All of {len(noise)} channels are constant: there is nothing to detect events in.")
    x_list = [condition_traces(chunk, 0, noise_levels=noise, **options) for chunk in chunks]
    return [np.ascontiguousarray(x[usable]) for x in x_list], noise[usable]


def _num_times(info, x_list):
    """Length of the recording, all channels together, in units of what was looked at."""
    return sum(info.num_samples) * len(info.gains) / sum(x.size for x in x_list)


def _changed(detector, **changes):
    """A detector with other thresholds, calibration or training summary."""
    kept = {name: getattr(detector, name) for name in ("threshold", "low_threshold", "calibration", "training")}
    return EventDetector(detector.network, detector.scorer, detector.settings, **(kept | changes))


def _check_choices(false_discovery_rate, polarity="auto", num_cells=4, duration_s=1.0):
    if not 0 < false_discovery_rate < 1:
        raise InputError(f"false_discovery_rate must lie between 0 and 1, got {false_discovery_rate!r}.")
    if polarity not in ("auto", 1, -1):
        raise InputError(f'polarity must be "auto", 1 (up) or -1 (down), got {polarity!r}.')
    if num_cells < 4 or not duration_s >= 1:
        raise InputError(
            f"At least 4 cells of 1 s each must be simulated, got num_cells={num_cells!r}, duration_s={duration_s!r}."
        )
