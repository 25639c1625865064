"""Labelled traces, their division by cell or in time, and windows of them to train networks on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, TrainingError
from .conditioning import reflected_indices
from .labels import label_targets

__all__ = [
    "DrawnWindows",
    "LabelledTraces",
    "Windows",
    "folds_by_cell",
    "folds_in_time",
    "split_by_cell",
    "split_in_time",
]

# windows are drawn around an event in so many cases, else anywhere
SHARE_WITH_EVENT = 0.5
# so many get another one added, which weighs between the sine of these angles
SHARE_ADDED, ANGLES = 0.5, (np.pi / 8, np.pi / 4)
MAX_STRETCH = 2.0


@dataclass(frozen=True, eq=False)
class LabelledTraces:
    """Conditioned traces of one segment and their events.

    Attributes
    ----------
    x : float32 array, shape (num_channels, num_samples)
        Conditioned traces.
    labels : structured array
        From :func:`~si_neuroml.events.labels.as_labels`, every sample_index known.
    cells : array of str, shape (num_channels,)
        The unit of generalisation that each channel belongs to.
    """

    x: np.ndarray
    labels: np.ndarray
    cells: np.ndarray

    def select(self, chosen: np.ndarray) -> "LabelledTraces":
        """Only some channels, by a bool array."""
        number = np.cumsum(chosen) - 1
        labels = self.labels[chosen[self.labels["channel_index"]]].copy()
        labels["channel_index"] = number[labels["channel_index"]]
        return LabelledTraces(np.ascontiguousarray(self.x[chosen]), labels, self.cells[chosen])

    def between(self, start: int, stop: int) -> "LabelledTraces":
        """Only some time; events belong where their sample_index lies."""
        labels = self.labels[(self.labels["sample_index"] >= start) & (self.labels["sample_index"] < stop)].copy()
        for name in ("sample_index", "onset", "offset"):
            labels[name] = np.clip(labels[name] - start, 0, stop - start)
        return LabelledTraces(np.ascontiguousarray(self.x[:, start:stop]), labels, self.cells)


def split_by_cell(
    traces: Sequence[LabelledTraces], fraction: float, seed: int
) -> tuple[list[LabelledTraces], list[LabelledTraces]]:
    """(to train on, held out): whole cells, so that no cell is in both.

    Cells with events are divided so that about `fraction` of them, at least one, is held out; cells without follow the
    same rule, so that silent ones are in both parts where there are some.

    Raises
    ------
    TrainingError
        When fewer than two cells have events.
    """
    active, silent = _active_and_silent(traces)
    rng = np.random.default_rng(seed)
    held = set(rng.permutation(active)[: max(1, round(fraction * len(active)))])
    return _divided(traces, held | set(rng.permutation(silent)[: round(fraction * len(silent))]))


def folds_by_cell(
    traces: Sequence[LabelledTraces], num_folds: int, seed: int
) -> list[tuple[list[LabelledTraces], list[LabelledTraces]]]:
    """(to train on, held out) for each fold; every cell is held out once.

    Cells are dealt out at random, but those with the most events to different folds; there are no more folds than
    cells with events.

    Raises
    ------
    TrainingError
        When fewer than two cells have events.
    """
    active, silent = _active_and_silent(traces)
    rng, num_folds = np.random.default_rng(seed), min(num_folds, len(active))
    held = [set() for _ in range(num_folds)]
    for names in (active, silent):
        for first in range(0, len(names), num_folds):
            for fold, name in zip(rng.permutation(num_folds), names[first : first + num_folds], strict=False):
                held[fold].add(name)
    return [_divided(traces, names) for names in held]


def split_in_time(
    traces: Sequence[LabelledTraces], fraction: float
) -> tuple[list[LabelledTraces], list[LabelledTraces]]:
    """(to train on, held out): the last `fraction` of each segment is held out, of the same cells."""
    cuts = [round((1 - fraction) * part.x.shape[1]) for part in traces]
    first = [part.between(0, cut) for part, cut in zip(traces, cuts, strict=True)]
    return first, [part.between(cut, part.x.shape[1]) for part, cut in zip(traces, cuts, strict=True)]


def folds_in_time(
    traces: Sequence[LabelledTraces], num_folds: int
) -> list[tuple[list[LabelledTraces], list[LabelledTraces]]]:
    """(to train on, held out) for each fold; every stretch of each segment is held out once."""
    folds = []
    for fold in range(num_folds):
        train, held_out = [], []
        for part in traces:
            length = part.x.shape[1]
            start, stop = (round(length * edge / num_folds) for edge in (fold, fold + 1))
            held_out.append(part.between(start, stop))
            train += [part.between(*edges) for edges in ((0, start), (stop, length)) if edges[0] < edges[1]]
        folds.append((train, held_out))
    return folds


def _active_and_silent(traces):
    """Names of the cells with events, those with the most first, and of those without."""
    counts: dict[str, int] = {}
    for part in traces:
        for cell in part.cells:
            counts.setdefault(str(cell), 0)
        for channel in part.labels["channel_index"]:
            counts[str(part.cells[channel])] += 1
    active = sorted((cell for cell, count in counts.items() if count), key=lambda cell: (-counts[cell], cell))
    if len(active) < 2:
        raise TrainingError(f"{len(active)} cells have events; to hold whole cells out, at least 2 are needed.")
    return active, sorted(cell for cell, count in counts.items() if not count)


def _divided(traces, held):
    """(traces of all other cells, of these)."""
    parts = []
    for wanted in (False, True):
        chosen = [np.array([(str(cell) in held) == wanted for cell in part.cells]) for part in traces]
        parts.append([part.select(rows) for part, rows in zip(traces, chosen, strict=True) if rows.any()])
    return parts[0], parts[1]


class Windows:
    """Windows of traces with the samples that a network needs around them.

    Parameters
    ----------
    traces : sequence of LabelledTraces
        What to cut from. Beyond its ends a trace goes on reflected.
    context : (int, int)
        Samples needed before and after a window.
    target_sd : float
        Samples over which the target falls from the time of an event, see
        :func:`~si_neuroml.events.labels.label_targets`.
    window, overlap : int
        Length of a window, and how many samples it shares with the next: 500 and 50 in Pradeep, Agarwal and Advani.
    grid : int, default: 1
        Windows begin at multiples of this.
    """

    def __init__(
        self,
        traces: Sequence[LabelledTraces],
        context: tuple[int, int],
        *,
        target_sd: float,
        window: int = 500,
        overlap: int = 50,
        grid: int = 1,
    ):
        if not 0 <= overlap < window:
            raise InputError(f"overlap must be from 0 to below window, got {overlap} and {window} samples.")
        self.window, self.context = -(-window // grid) * grid, context
        step = max(grid, (window - overlap) // grid * grid)
        self._x, self._targets, self._index = [], [], []
        for k, part in enumerate(traces):
            num_samples = part.x.shape[1]
            count = max(1, -(-(num_samples - overlap) // step))
            padded = reflected_indices(num_samples, -context[0], (count - 1) * step + self.window + context[1])
            self._x.append(part.x[:, padded])
            targets = label_targets(part.labels, *part.x.shape, target_sd)
            self._targets.append(targets[:, reflected_indices(num_samples, 0, (count - 1) * step + self.window)])
            self._index += [(k, channel, i * step) for channel in range(len(part.x)) for i in range(count)]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(x with context, target) as float32."""
        k, channel, start = self._index[index]
        x = self._x[k][channel, start : start + sum(self.context) + self.window]
        return x, self._targets[k][channel, start : start + self.window]


class DrawnWindows:
    """Batches of windows drawn at random and changed, anew each time.

    Half of the windows lie around events, the others anywhere. What is changed teaches a network what may differ in
    cells it has not seen. Half of the windows are added to another one, the two weighted by cosine and sine of an
    angle, which keeps the noise as it is and gives smaller events, more of them and closer ones. All are stretched in
    time, for other kinetics, and scaled, for noise that was measured badly.

    Parameters
    ----------
    traces : sequence of LabelledTraces
        What to draw from. Beyond its ends a trace goes on reflected.
    context : (int, int)
        Samples needed before and after a window.
    target_sd : float
        As for :class:`Windows`.
    window, batch_size, num_batches : int
        Samples of a window, windows in a batch, and batches.
    gain_log_sd, stretch_log_sd : float, default: 0.3, 0.2
        Standard deviation of the logarithm of the factors by which windows are scaled and stretched.
    seed : int, default: 0
        Of all that is random.
    """

    def __init__(
        self,
        traces: Sequence[LabelledTraces],
        context: tuple[int, int],
        *,
        target_sd: float,
        window: int,
        batch_size: int,
        num_batches: int,
        gain_log_sd: float = 0.3,
        stretch_log_sd: float = 0.2,
        seed: int = 0,
    ):
        self.context, self.window, self.batch_size, self.num_batches = context, window, batch_size, num_batches
        self.gain_log_sd, self.stretch_log_sd, self.rng = gain_log_sd, stretch_log_sd, np.random.default_rng(seed)
        # enough for windows that are stretched as far as they ever are
        margin = round(MAX_STRETCH * (window + max(context)))
        x, targets, events, starts, end = [], [], [], [], 0
        for part in traces:
            num_channels, num_samples = part.x.shape
            padded = reflected_indices(num_samples, -margin, num_samples + margin)
            x.append(part.x[:, padded].ravel())
            targets.append(label_targets(part.labels, num_channels, num_samples, target_sd)[:, padded].ravel())
            first = end + margin + len(padded) * np.arange(num_channels)
            events.append(first[part.labels["channel_index"]] + part.labels["sample_index"])
            starts += [(start, num_samples) for start in first]
            end += x[-1].size
        self._x, self._targets, self._events = np.concatenate(x), np.concatenate(targets), np.concatenate(events)
        self._starts, lengths = np.array(starts).T
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A new batch, whatever the index: x with context and targets, float32 of shape (batch_size, num_samples)."""
        if not 0 <= index < self.num_batches:
            raise IndexError(index)
        centers = self._drawn_centers()
        offsets = np.arange(-self.context[0], self.window + self.context[1]) - self.window // 2
        factors = np.exp(self.stretch_log_sd * self.rng.standard_normal(self.batch_size)).clip(max=MAX_STRETCH)
        positions = centers[:, None] + factors[:, None] * offsets
        x = _interpolated(self._x, positions)
        target = _interpolated(self._targets, positions[:, self.context[0] : self.context[0] + self.window])
        added = self.rng.random(self.batch_size) < SHARE_ADDED
        other, angles = self.rng.permutation(self.batch_size), added * self.rng.uniform(*ANGLES, self.batch_size)
        gains = np.exp(self.gain_log_sd * self.rng.standard_normal(self.batch_size))
        first, second = ((gains * part(angles)).astype("float32")[:, None] for part in (np.cos, np.sin))
        return first * x + second * x[other], np.maximum(target, added[:, None] * target[other])

    def _drawn_centers(self):
        """Samples about which windows are cut."""
        num_events, half = round(SHARE_WITH_EVENT * self.batch_size) if len(self._events) else 0, self.window // 2
        events = self.rng.choice(self._events, num_events) + self.rng.integers(-half, self.window - half, num_events)
        places = self.rng.integers(0, self._ends[-1], self.batch_size - num_events)
        rows = np.searchsorted(self._ends, places, side="right")
        return np.concatenate([events, self._starts[rows] + self._ends[rows] - 1 - places])


def _interpolated(values, positions):
    """Values at positions between samples."""
    first = positions.astype("int64")
    weight = (positions - first).astype("float32")
    return (1 - weight) * values[first] + weight * values[first + 1]
