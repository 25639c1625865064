"""Events for the tests of matching, ranking and scores."""

import numpy as np

DTYPE = [
    ("sample_index", "int64"),
    ("channel_index", "int64"),
    ("segment_index", "int64"),
    ("probability", "float32"),
    ("onset", "int64"),
    ("offset", "int64"),
]
FS = 3328.0


def make_events(samples, channels=0, segments=0, probability=1.0, width=4):
    events = np.zeros(len(samples), dtype=DTYPE)
    events["sample_index"], events["channel_index"], events["segment_index"] = samples, channels, segments
    events["probability"] = probability
    events["onset"] = events["sample_index"] - 1
    events["offset"] = events["onset"] + width
    return events


def random_events(num, rng, length=2000, channels=3, segments=2):
    return make_events(
        rng.integers(10, length - 10, num),
        rng.integers(0, channels, num),
        rng.integers(0, segments, num),
        rng.random(num),
    )
