"""Small voltage traces with known events."""

import numpy as np
from spikeinterface.core import NumpyRecording

RATE = 3328.0
SHAPE = np.array([0.15, 0.6, 1.0, 0.8, 0.55, 0.35, 0.2, 0.1])
PEAK = 2


def make_traces(num_samples, times, rng, *, amplitude=9.0, level=1000.0):
    """Dark pulses on a bright, slowly fading trace with white noise of sd 1."""
    time = np.arange(num_samples)
    trace = level * (1 + 0.1 * np.exp(-time / 20_000)) + rng.standard_normal(num_samples)
    for start in times:
        stop = min(num_samples, start - PEAK + len(SHAPE))
        first = max(0, start - PEAK)
        trace[first:stop] -= amplitude * SHAPE[first - start + PEAK : stop - start + PEAK]
    return trace


def make_recording(num_samples, num_channels=3, *, num_events=30, seed=0, amplitude=9.0, dtype="float32"):
    """(recording, events): a segment for each length, events in random places."""
    rng = np.random.default_rng(seed)
    segments, rows = [], []
    for segment, length in enumerate(num_samples):
        traces = np.empty((length, num_channels))
        for channel in range(num_channels):
            times = np.sort(rng.choice(np.arange(10, length - 10, 12), num_events, replace=False))
            traces[:, channel] = make_traces(length, times, rng, amplitude=amplitude)
            rows += [(time, channel, segment) for time in times]
        segments.append(traces.astype(dtype) if np.dtype(dtype).kind == "f" else np.round(traces * 20).astype(dtype))
    recording = NumpyRecording(segments, RATE, channel_ids=[f"site{k}" for k in range(num_channels)])
    if np.dtype(dtype).kind != "f":
        recording.set_channel_gains(0.05)
        recording.set_channel_offsets(0.0)
    names = ("sample_index", "channel_index", "segment_index")
    events = np.array(rows, dtype=[(name, "int64") for name in names])
    return recording, events[np.lexsort([events[name] for name in reversed(("segment_index", *names[:2]))])]
