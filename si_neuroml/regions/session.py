"""One recorded session as the loaders hand it over: the table of its units, where their spikes are, and its events."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .spike_trains import raise_unsorted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Session", "UnitTemplates", "spike_blocks"]


@dataclass(frozen=True, eq=False)
class UnitTemplates:
    """Average waveforms of the units of a session.

    Attributes
    ----------
    templates : float32 array, shape (num_units, num_samples, num_channels)
        In uV; NaN where a unit has no waveform, or a channel was left out.
    sampling_frequency : float
        In Hz.
    locations : float64 array, shape (num_channels, 2) or (num_units, num_channels, 2), or None
        Places of the channels in um, the same for all units or each unit's own; None where unknown.
    """

    templates: np.ndarray
    sampling_frequency: float
    locations: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Session:
    """A session whose spikes need not be in memory.

    Attributes
    ----------
    units : DataFrame, one row per unit
        As in a :class:`~.dataset.RegionDataset`.
    spike_times : float64 array or HDF5 dataset, shape (num_spikes,)
        In seconds, unit after unit, sorted within each. Only slices of it are read.
    offsets : int64 array, shape (num_units + 1,)
        Where each unit's spikes begin.
    duration_s : float
        Length of the recording.
    onsets_s : float64 array or None
        Sorted event onsets on the clock of the spikes; None: no events.
    boundaries_s : float64 array
        Times at which a new segment begins.
    segments_s : float64 array, shape (num_segments, 2), or None
        Start and end of each segment; None: not known.
    templates : UnitTemplates | None
        Average waveforms.
    """

    units: "pd.DataFrame"
    spike_times: Any
    offsets: np.ndarray
    duration_s: float
    onsets_s: np.ndarray | None = None
    boundaries_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    segments_s: np.ndarray | None = None
    templates: UnitTemplates | None = None

    def __post_init__(self):
        offsets = np.asarray(self.offsets, dtype="int64")
        if offsets.shape != (len(self.units) + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise InputError(
                f"offsets must be {len(self.units) + 1} rising numbers from 0 for {len(self.units)} units, got shape "
                f"{offsets.shape}{f', {offsets[0]} to {offsets[-1]}' if offsets.size else ''}."
            )
        if offsets[-1] != len(self.spike_times):
            raise InputError(f"offsets end at {offsets[-1]}, but there are {len(self.spike_times)} spikes.")
        object.__setattr__(self, "offsets", offsets)


def spike_blocks(
    spike_times: Any, offsets: np.ndarray, block_spikes: int = 2**21
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Go through spikes once, some at a time, and check them.

    Parameters
    ----------
    spike_times : float64 array or HDF5 dataset, shape (num_spikes,)
        In seconds, unit after unit. Only slices of it are read.
    offsets : int64 array, shape (num_units + 1,)
        Where each unit's spikes begin.
    block_spikes : int, default: 2097152
        Spikes per block, 16 MB of times. A unit may go on in the next block.

    Yields
    ------
    times : float64 array
        Spikes of the block.
    units : int64 array
        The unit of each.
    before : float64 array
        The spike before, of the same unit; -inf for the first.

    Raises
    ------
    InputError
        When spike times are not finite or not sorted within a unit.
    """
    last_s = np.full(len(offsets) - 1, -np.inf)
    for start in range(0, int(offsets[-1]), block_spikes):
        stop = min(start + block_spikes, int(offsets[-1]))
        times = np.asarray(spike_times[start:stop], dtype="float64")
        first = int(np.searchsorted(offsets, start, side="right")) - 1
        last = int(np.searchsorted(offsets, stop, side="left"))
        units = np.repeat(np.arange(first, last), np.diff(np.clip(offsets[first : last + 1], start, stop)))
        begins = np.flatnonzero(np.diff(units, prepend=-1))
        before = np.concatenate([[0.0], times[:-1]])
        before[begins] = last_s[units[begins]]
        # written so that NaN fails too
        bad = ~((times >= before) & (np.abs(times) < np.inf))
        if bad.any():
            at = int(bad.argmax())
            raise_unsorted(times, at, int(units[at]))
        ends = np.append(begins[1:], len(units)) - 1
        last_s[units[ends]] = times[ends]
        yield times, units, before
