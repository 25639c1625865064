"""Fixtures of the tests of the plot of event traces."""

import matplotlib as mpl
import numpy as np
import pytest
from event_widget_helpers import IDS, LENGTHS, QUIET, RATE
from spikeinterface.core import NumpyRecording

import si_neuroml
from si_neuroml.events.detector import EventDetector
from si_neuroml.events.recordings import sample_chunks

mpl.use("Agg")
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def labelled():
    """(recording, peaks): dark pulses of 2 ms in noise on a bright background, two segments, three channels."""
    rng = np.random.default_rng(0)
    segments, rows = [], []
    for segment, length in enumerate(LENGTHS):
        traces = 1000.0 + rng.standard_normal((length, len(IDS)))
        for channel in range(len(IDS)):
            times = np.sort(rng.choice(np.arange(8, length - 8, 25), 40, replace=False))
            for step, height in enumerate([4.0, 9.0, 6.0, 3.0, 1.5], start=-1):
                traces[times + step, channel] -= height
            rows += [(time, channel, segment) for time in times]
        segments.append(traces.astype("float32"))
    recording = NumpyRecording(segments, RATE, channel_ids=IDS)
    recording.set_property("cell", ["a", "a", "b"])
    peaks = np.array(rows, dtype=[(name, "int64") for name in ("sample_index", "channel_index", "segment_index")])
    return recording, peaks[np.lexsort([peaks["channel_index"], peaks["sample_index"], peaks["segment_index"]])]


@pytest.fixture(scope="session")
def matched_filter(labelled):
    return si_neuroml.fit_event_detector(*labelled, network="matched_filter")


@pytest.fixture(scope="session")
def untrained(labelled, matched_filter):
    """The default network with random weights: its scores are nonsense that depends on every sample within reach."""
    import torch

    from si_neuroml.events.networks import build_network
    from si_neuroml.events.strided_network import StridedScorer

    torch.manual_seed(0)
    scorer = StridedScorer.from_network(build_network("strided"))
    x = np.random.default_rng(0).standard_normal((1, 4000)).astype("float32")
    low, high = np.quantile(scorer.scores(x), [0.9, 0.98])
    return EventDetector("strided", scorer, matched_filter.settings, high, low, (20.0, -20.0 * low), {})


@pytest.fixture(scope="session", params=["matched_filter", "untrained"])
def whole(labelled, request):
    """(detector, recording, found events and periods, scores of each segment): of the recording in one piece."""
    detector, recording = request.getfixturevalue(request.param), labelled[0]
    found = si_neuroml.detect_events(recording, detector, job_kwargs=QUIET)
    noise = detector.noise_levels(sample_chunks(recording), np.ones(3), np.zeros(3))
    margin, scores = detector.margin, []
    for segment, length in enumerate(LENGTHS):
        # beyond the ends of a segment there is nothing, and what the detector is given there does not matter
        padded = np.pad(recording.get_traces(segment_index=segment), ((margin, margin), (0, 0)))
        scores.append(detector.scores(padded, -margin, length, noise=noise)[0])
    return detector, recording, found, scores
