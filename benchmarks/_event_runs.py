"""Fit a detector to some cells and find the events of others; what it found as text, to be kept in a JSON file."""

import base64
import io
import time
import warnings
from typing import Any

import numpy as np
from _event_sets import LabelledCell

from si_neuroml import fit_event_detector
from si_neuroml.errors import TrainingError
from si_neuroml.events.nodes import DetectLearnedEvents
from si_neuroml.events.operating_point import peak_candidates
from si_neuroml.events.settings import EVENT_DTYPE
from si_neuroml.events.without_labels import set_threshold_from_recording

# below this probability found events count for nothing, not even for average precision and calibration
LEAST_PROBABILITY = 0.05
# whose threshold is also set without labels, for this rate
LABEL_FREE, FALSE_DISCOVERY_RATE = ("threshold", "matched_filter", "strided"), 0.05
COLUMNS = {"sample_index": "int32", "channel_index": "int16", "segment_index": "int16", "probability": "float32"}


def run_fold(
    network: str,
    train: list[LabelledCell],
    test: list[LabelledCell],
    choices: list[dict[str, Any]],
    silent: LabelledCell | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fit to the cells `train` and find the events of the cells `test`, and of silent ones, as numbers and text.

    Of several `choices` of arguments of fit_event_detector(), the one with the best F1 on those of the training cells
    that it holds out is taken.
    """
    start, wall = time.process_time(), time.perf_counter()
    best, reached, tried = None, -1.0, []
    for choice in choices:
        detector = fitted(network, train, **options, **choice)
        f1 = detector.training["held_out"]["f1"] if detector else None
        tried.append({**choice, "held_out_f1": f1})
        if detector and f1 > reached:
            best, reached = detector, f1
    if best is None:
        raise TrainingError(f"{network}: nothing was learned in any of {len(choices)} ways.")
    result = {"train_s": time.process_time() - start, "train_wall_s": time.perf_counter() - wall}
    result |= {"held_out": best.training["held_out"], "epochs": len(best.training.get("loss", []))}
    result |= {"settings": {"polarity": best.settings.polarity, "choices": tried}, "found": {}, "detect_s": 0.0}
    test = test if silent is None else [*test, silent]
    for cell in test:
        start = time.process_time()
        found = found_events(best, cell.recording)
        result["detect_s"] += time.process_time() - start
        result["found"][cell.name] = packed(*found)
    if silent is not None and network in LABEL_FREE:
        result["label_free_per_minute"] = label_free_per_minute(best, silent, FALSE_DISCOVERY_RATE)
    result["channel_s"] = sum(c.recording.get_total_duration() * c.recording.get_num_channels() for c in test)
    return result


def label_free_per_minute(detector, silent: LabelledCell, false_discovery_rate: float) -> float:
    """Events per minute and channel in cells without any, at the threshold that needs no labels."""
    with warnings.catch_warnings():
        # that nothing stands out is what should come out
        warnings.simplefilter("ignore")
        moved = set_threshold_from_recording(detector, silent.recording, false_discovery_rate)
    kept, _ = found_events(moved, silent.recording)
    return 60 * len(kept) / (silent.recording.get_total_duration() * silent.recording.get_num_channels())


def fitted(network, train, **options):
    """A detector, or None where nothing was learned."""
    recordings, events = [cell.recording for cell in train], [cell.events for cell in train]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fit_event_detector(recordings, events, network=network, progress_bar=False, **options)
    except TrainingError as error:
        print(f"{network}, {options}: {error}", flush=True)
        return None


def found_events(detector, recording):
    """(events at the detector's threshold, and less likely ones) of a recording, each segment in one chunk."""
    node, kept, less = DetectLearnedEvents(recording, detector), [], []
    for segment in range(recording.get_num_segments()):
        traces = recording.get_traces(segment_index=segment)
        units = {"noise": node.noise_levels, "gains": node.info.gains, "offsets": node.info.offsets}
        scores, first = detector.scores(traces, 0, len(traces), **units)
        events = detector.events(scores, first, (0, len(traces)))
        events["segment_index"] = segment
        kept.append(events)
        less.append(less_likely(detector, scores, segment))
    return np.concatenate(kept), np.concatenate(less)


def less_likely(detector, scores, segment):
    """Peaks below the threshold."""
    points, values = peak_candidates(scores, detector.settings)
    probability = detector.probability(values)
    chosen = (values < detector.threshold) & (probability >= LEAST_PROBABILITY)
    events = np.zeros(chosen.sum(), dtype=EVENT_DTYPE)
    for name in ("sample_index", "channel_index"):
        events[name] = points[name][chosen]
    events["segment_index"], events["probability"] = segment, probability[chosen]
    events["onset"], events["offset"] = events["sample_index"], events["sample_index"] + 1
    return events


def packed(kept: np.ndarray, less: np.ndarray) -> str:
    """Events as a short text."""
    events = np.concatenate([kept, less])
    columns = {name: events[name].astype(dtype) for name, dtype in COLUMNS.items()}
    columns["lead"] = (events["sample_index"] - events["onset"]).astype("int16")
    columns["lag"] = (events["offset"] - events["sample_index"]).astype("int16")
    columns["kept"] = np.arange(len(events)) < len(kept)
    file = io.BytesIO()
    np.savez_compressed(file, **columns)
    return base64.b64encode(file.getvalue()).decode()


def unpacked(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`packed`."""
    columns = dict(np.load(io.BytesIO(base64.b64decode(text))))
    events = np.zeros(len(columns["kept"]), dtype=EVENT_DTYPE)
    for name in COLUMNS:
        events[name] = columns[name]
    events["onset"] = events["sample_index"] - columns["lead"]
    events["offset"] = events["sample_index"] + columns["lag"]
    return events[columns["kept"]], events[~columns["kept"]]
