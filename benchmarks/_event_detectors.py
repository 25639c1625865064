"""Detectors to be timed, and long recordings for them: their events mean nothing that a score could be based on."""

import numpy as np
from spikeinterface.core import NumpyRecording

from si_neuroml import fit_event_detector, generate_voltage_imaging_recording
from si_neuroml.events.detector import EventDetector, load_scorer
from si_neuroml.events.nodes import DetectLearnedEvents
from si_neuroml.events.settings import DetectorSettings

RATE = 3328.0
# events of untrained networks, so that there is as much to pick as in a lively cell
EVENTS_PER_S = 5.0
FITTED = ("threshold", "matched_filter", "svm")


def simulated(seconds, num_cells, sites, seed=0, **options):
    """A simulated recording and its events."""
    truth = generate_voltage_imaging_recording([seconds], RATE, num_cells, sites, seed=seed, **options)
    return truth.recording, truth.events


def repeated(recording, times):
    """A recording of one segment that repeats another, held in memory."""
    return NumpyRecording([np.tile(recording.get_traces(), (times, 1))], recording.get_sampling_frequency())


def detector_of(name, training, recording, svm_samples):
    """Fitted where speed depends on what was learned, else with weights as they are drawn, which are as fast."""
    if name in FITTED:
        options = {"network_kwargs": {"max_samples": svm_samples}} if name == "svm" else {}
        return fit_event_detector(*training, network=name, polarity=-1, progress_bar=False, **options)
    from si_neuroml.events.networks import build_network
    from si_neuroml.training import seeded

    with seeded(0):
        module = build_network(name)
    scorer_class = load_scorer(name)
    scorer = scorer_class.from_network(*([module] if name == "strided" else [name, module]))
    settings = DetectorSettings(RATE, -1)
    detector = EventDetector(name, scorer, settings, 0.0, 0.0, (1.0, 0.0), {"note": "untrained"})
    traces = recording.get_traces()[: round(10 * RATE)]
    scores, _ = detector.scores(traces, 0, len(traces), noise=DetectLearnedEvents(recording, detector).noise_levels)
    for level in np.quantile(scores, 1 - np.geomspace(1e-4, 0.5, 40)):
        # the first threshold that lets so many events through
        events = detector.with_thresholds(float(level), float(level)).events(scores, 0, (0, len(traces)))
        if len(events) >= EVENTS_PER_S * len(traces) / RATE:
            break
    return detector.with_thresholds(float(level), float(level))


def speed_relevant(detector):
    """What the speed of a detector depends on."""
    arrays = detector.scorer.to_arrays()
    return {"num_values": int(sum(value.size for value in arrays.values())), "margin": int(detector.margin)}
