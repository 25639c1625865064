"""Labelled traces, their division by cell, and windows of them to train networks on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, TrainingError
from .conditioning import reflected_indices
from .labels import label_targets

__all__ = ["LabelledTraces", "Windows", "split_by_cell", "split_in_time"]


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
    counts: dict[str, int] = {}
    for part in traces:
        for cell in part.cells:
            counts.setdefault(str(cell), 0)
        for channel in part.labels["channel_index"]:
            counts[str(part.cells[channel])] += 1
    rng = np.random.default_rng(seed)
    active, silent = (
        sorted(cell for cell, count in counts.items() if bool(count) == wanted) for wanted in (True, False)
    )
    if len(active) < 2:
        raise TrainingError(f"{len(active)} cells have events; to hold whole cells out, at least 2 are needed.")
    held = set(rng.permutation(active)[: max(1, round(fraction * len(active)))])
    held |= set(rng.permutation(silent)[: round(fraction * len(silent))])
    parts = []
    for wanted in (False, True):
        chosen = [np.array([(str(cell) in held) == wanted for cell in part.cells]) for part in traces]
        parts.append([part.select(rows) for part, rows in zip(traces, chosen, strict=True) if rows.any()])
    return parts[0], parts[1]


def split_in_time(
    traces: Sequence[LabelledTraces], fraction: float
) -> tuple[list[LabelledTraces], list[LabelledTraces]]:
    """(to train on, held out): the last `fraction` of each segment is held out, of the same cells."""
    cuts = [round((1 - fraction) * part.x.shape[1]) for part in traces]
    first = [part.between(0, cut) for part, cut in zip(traces, cuts, strict=True)]
    return first, [part.between(cut, part.x.shape[1]) for part, cut in zip(traces, cuts, strict=True)]


class Windows:
    """Windows of traces with the samples that a network needs around them.

    Parameters
    ----------
    traces : sequence of LabelledTraces
        What to cut from. Beyond its ends a trace goes on reflected.
    context : (int, int)
        Samples needed before and after a window.
    half_width : int
        Samples over which the target falls from the time of an event, see
        :func:`~si_neuroml.events.labels.label_targets`.
    window, overlap : int
        Length of a window, and how many samples it shares with the next: 500 and 50 in Pradeep, Agarwal and Advani.
    grid : int, default: 1
        Windows begin at multiples of this.
    empty_per_event : float | None, default: None
        Keep at most so many windows without any event for each with one, drawn at random; None: all.
    gain_log_sd : float, default: 0
        Windows are scaled by a random factor of this log sd, anew each time.
    seed : int, default: 0
        Of both.
    """

    def __init__(
        self,
        traces: Sequence[LabelledTraces],
        context: tuple[int, int],
        *,
        half_width: int,
        window: int = 500,
        overlap: int = 50,
        grid: int = 1,
        empty_per_event: float | None = None,
        gain_log_sd: float = 0.0,
        seed: int = 0,
    ):
        if not 0 <= overlap < window:
            raise InputError(f"overlap must be from 0 to below window, got {overlap} and {window} samples.")
        self.window, self.context, self.gain_log_sd = -(-window // grid) * grid, context, gain_log_sd
        self.rng = np.random.default_rng(seed)
        step = max(grid, (window - overlap) // grid * grid)
        self._x, self._targets, self._index = [], [], []
        for k, part in enumerate(traces):
            num_samples = part.x.shape[1]
            count = max(1, -(-(num_samples - overlap) // step))
            padded = reflected_indices(num_samples, -context[0], (count - 1) * step + self.window + context[1])
            self._x.append(part.x[:, padded])
            targets = label_targets(part.labels, *part.x.shape, half_width)
            self._targets.append(targets[:, reflected_indices(num_samples, 0, (count - 1) * step + self.window)])
            self._index += [(k, channel, i * step) for channel in range(len(part.x)) for i in range(count)]
        if empty_per_event is not None:
            self._drop_empty(empty_per_event)

    def _drop_empty(self, empty_per_event):
        full = np.array([self._targets[k][c, start : start + self.window].any() for k, c, start in self._index])
        empty = self.rng.permutation(np.flatnonzero(~full))[: round(empty_per_event * max(1, full.sum()))]
        self._index = [self._index[k] for k in np.sort(np.concatenate([np.flatnonzero(full), empty]))]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(x with context, target) as float32."""
        k, channel, start = self._index[index]
        x = self._x[k][channel, start : start + sum(self.context) + self.window]
        if self.gain_log_sd:
            x = x * np.float32(np.exp(self.gain_log_sd * self.rng.standard_normal()))
        return x, self._targets[k][channel, start : start + self.window]

    @property
    def positive_share(self) -> float:
        """Share of the samples that lie inside events."""
        inside = sum(
            int(self._targets[k][channel, start : start + self.window].sum()) for k, channel, start in self._index
        )
        return inside / max(1, len(self._index) * self.window)
