"""Reading back what was drawn."""

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgba

from si_neuroml.widgets.event_traces import plot_event_traces

RATE = 3328.0
LENGTHS = [9000, 4001]
IDS = ["a0", "a1", "b0"]
QUIET = {"n_jobs": 1, "chunk_size": 2000, "progress_bar": False}


def plot(*args, **kwargs):
    widget = plot_event_traces(*args, **kwargs)
    widget.figure.canvas.draw()
    return widget


def row_of(marks, name):
    """Bottom and top of a row of marks."""
    labels = [text.get_text() for text in marks.get_yticklabels()]
    middle = marks.get_yticks()[labels.index(name)]
    return middle - 0.4, middle + 0.4


def bars_of(marks, name, color=None):
    """(start, stop) of the bars in a row, in s."""
    found = []
    for collection in marks.collections:
        if not isinstance(collection, mpl.collections.PolyCollection):
            continue
        if color is not None and not np.allclose(collection.get_facecolors()[:1], to_rgba(color)):
            continue
        for path in collection.get_paths():
            (x0, y0), (x1, y1) = path.vertices.min(axis=0), path.vertices.max(axis=0)
            if np.allclose((y0, y1), row_of(marks, name)):
                found.append((x0, x1))
    return np.array(sorted(found)).reshape(-1, 2)


def ticks_of(marks):
    """The ticks of the found events, as a collection with their times in s."""
    (ticks,) = [found for found in marks.collections if isinstance(found, mpl.collections.LineCollection)]
    segments = np.array(ticks.get_segments()).reshape(-1, 2, 2)
    np.testing.assert_array_equal(segments[:, 0, 0], segments[:, 1, 0])
    return ticks, segments[:, 0, 0]


def clipped(starts, stops, frames):
    """Stretches of samples that reach into some frames, in s."""
    spans = np.column_stack([np.maximum(starts, frames[0]), np.minimum(stops, frames[1])])
    return spans[spans[:, 1] > spans[:, 0]] / RATE
