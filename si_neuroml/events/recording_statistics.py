"""What a recording without labels tells about itself: the colour of its noise, and the events that stand out of it.

Traces are conditioned: float32, shape (num_channels, num_samples), events point upwards, in units of the noise.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import TrainingError
from .labels import LABEL_DTYPE, label_mask
from .matched_filter import autocovariance
from .settings import DetectorSettings
from .threshold import event_snippets, largest_extrema
from .two_pass import fit_two_pass

__all__ = ["ClearEvents", "colored_noise", "find_clear_events", "noise_color"]

# the mean event is measured from so long before its peak to so long after
EVENT_MS = (3.0, 6.0)
# share of noise among the events that are taken for clear
FALSE_SHARE = 0.05
# fewer events than this that have no other near them are no mean: then all are taken
MIN_ALONE = 10
# noise is described by its last so many ms, in a bounded number of samples
COLOR_MS, COLOR_ORDERS = 5.0, (4, 64)
# the process is run in for so many times its order
RUN_IN = 20


class ClearEvents(NamedTuple):
    """Events that stand out of the noise of a recording.

    Attributes
    ----------
    shape : float64 array, shape (before + 1 + after,)
        Mean trace around them, 1 at its peak.
    before : int
        Samples of it before the peak.
    heights : float64 array, shape (num_events,)
        Height of each in units of the noise: the least-squares factor of `shape`.
    places : list of structured array
        LABEL_DTYPE, of each array of traces: the peak, and the window as onset and offset.
    """

    shape: np.ndarray
    before: int
    heights: np.ndarray
    places: list[np.ndarray]


def find_clear_events(x_list: Sequence[np.ndarray], settings: DetectorSettings) -> ClearEvents | None:
    """Events that a matched filter without labels finds, in two passes.

    The mean is that of the higher half of them, of those alone in their window where there are enough.

    Parameters
    ----------
    x_list : sequence of float32 arrays, shape (num_channels, num_samples)
        Conditioned traces of one recording.
    settings : DetectorSettings
        Of their sampling rate.

    Returns
    -------
    ClearEvents | None
        None where nothing stands out.
    """
    before, after = (max(1, settings.samples(milliseconds)) for milliseconds in EVENT_MS)
    try:
        scorer, threshold = fit_two_pass(x_list, before=before, after=after, false_discovery_rate=FALSE_SHARE)
    except TrainingError:
        return None
    places, scores = [], []
    for x in x_list:
        filtered = scorer.scores(x)
        channels, samples = largest_extrema(filtered, max(before, after))
        high = (filtered[channels, samples] >= threshold) & (samples >= before) & (samples < x.shape[1] - after)
        events = np.zeros(high.sum(), dtype=LABEL_DTYPE)
        events["channel_index"], events["sample_index"] = channels[high], samples[high]
        events["onset"], events["offset"] = samples[high] - before, samples[high] + after + 1
        places.append(events)
        scores.append(filtered[channels[high], samples[high]])
    snippets, scores = np.concatenate(event_snippets(x_list, places, before, after)), np.concatenate(scores)
    if not len(scores):
        return None
    alone = np.concatenate([_alone(events) for events in places])
    chosen = alone if alone.sum() >= MIN_ALONE else np.ones(len(alone), dtype=bool)
    chosen &= scores >= np.median(scores[chosen])
    shape = snippets[chosen].mean(axis=0, dtype="float64")
    if not shape[before] > 0:
        return None
    shape /= shape[before]
    return ClearEvents(shape, before, snippets.astype("float64") @ shape / (shape @ shape), places)


def noise_color(
    x_list: Sequence[np.ndarray], settings: DetectorSettings, events: ClearEvents | None = None
) -> np.ndarray:
    """The spectrum of the noise away from events, as an autoregressive process (Yule-Walker equations).

    Parameters
    ----------
    x_list : sequence of float32 arrays, shape (num_channels, num_samples)
        Conditioned traces.
    settings : DetectorSettings
        Of their sampling rate.
    events : ClearEvents, optional
        What to leave out. Where nothing is left between them, all is taken.

    Returns
    -------
    float64 array, shape (order,)
        Weights of the samples before, the last one first; all 0 for white noise.

    Raises
    ------
    TrainingError
        When there are no samples, or they are all equal.
    """
    from scipy.linalg import solve_toeplitz, toeplitz

    order = int(np.clip(settings.samples(COLOR_MS), *COLOR_ORDERS))
    usable = [np.ones(x.shape, dtype=bool) for x in x_list]
    if events is not None:
        free = [~label_mask(places, *x.shape) for x, places in zip(x_list, events.places, strict=True)]
        # the same number of samples again, so that no lag rests on a few stretches
        if sum(part.sum() for part in free) > 0.2 * sum(part.size for part in free):
            usable = free
    column = autocovariance(x_list, usable, order + 1)
    # of gaps between events it need not be that of any process; more variance makes it one
    while np.linalg.eigvalsh(toeplitz(column))[0] <= 1e-6 * column[0]:
        column[0] *= 1.01
    return solve_toeplitz(column[:-1], column[1:])


def colored_noise(color: np.ndarray, num_channels: int, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of standard deviation 1 with a given spectrum.

    Parameters
    ----------
    color : array, shape (order,)
        From :func:`noise_color`.
    num_channels, num_samples : int
        Of the result.
    rng : np.random.Generator
        What it is drawn from.

    Returns
    -------
    float64 array, shape (num_channels, num_samples)
    """
    from scipy.signal import lfilter

    weights = np.concatenate([[1.0], -np.asarray(color, dtype="float64")])
    run_in = RUN_IN * len(weights)
    noise = lfilter([1.0], weights, rng.standard_normal((num_channels, run_in + num_samples)), axis=1)
    # the standard deviation that the process has, from its response to one impulse
    response = lfilter([1.0], weights, np.eye(1, 100 * run_in)[0])
    return noise[:, run_in:] / np.sqrt(response @ response)


def _alone(events):
    """Which events, sorted by channel and time, have no other in their window."""
    if not len(events):
        return np.zeros(0, dtype=bool)
    apart = (np.diff(events["channel_index"]) != 0) | (events["onset"][1:] >= events["offset"][:-1])
    return np.append(True, apart) & np.append(apart, True)
