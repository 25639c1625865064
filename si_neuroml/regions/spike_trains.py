"""Ragged spike trains: how they are checked, and shared out over threads.

The spikes of many units lie in one array, unit after unit, in time order within each unit; unit ``u`` owns
``spike_times[offsets[u]:offsets[u + 1]]``. A *block* is any part of that array; a unit may be cut between two blocks.
Threads share a block by units, so that each number comes out of one thread in one order: the same to the last bit
whatever the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numba
import numpy as np

from ..errors import InputError

__all__ = [
    "EDGE_TOLERANCE_S",
    "FedInBlocks",
    "check_offsets",
    "check_sorted",
    "check_times",
    "check_trains",
    "check_units",
    "raise_unsorted",
    "share_units",
]

# Spikes lie on samples and bins end on whole milliseconds, so that spikes fall on edges all the time. A nanosecond is
# far above the rounding of times in seconds and far below a sample: what lies on an edge always counts to the right.
EDGE_TOLERANCE_S = 1e-9
# ranges of units per thread: busy units are rarely spread evenly
_SHARES = 4


class FedInBlocks:
    """What counts the spikes of a session block by block; subclasses say how one range of units of a block is counted.

    Parameters
    ----------
    num_units : int
        Of the session.
    """

    def __init__(self, num_units: int):
        self.num_units = num_units

    def add(
        self,
        spike_times: np.ndarray,
        offsets: np.ndarray,
        unit_indices: np.ndarray | None = None,
        *,
        num_threads: int | None = None,
    ) -> None:
        """Take in a block of spikes; statistics of trains need none earlier than what the same unit had before.

        Parameters
        ----------
        spike_times : array, shape (num_spikes,)
            In seconds, piece after piece, sorted within each piece.
        offsets : int array, shape (num_pieces + 1,)
            Where the pieces begin and end.
        unit_indices : int array, shape (num_pieces,), optional
            The unit of each piece, no unit twice. Default: the first units in order.
        num_threads : int, optional
            Default: numba's.

        Raises
        ------
        InputError
            When times are not finite or not in order, when offsets or units do not fit, or, in statistics of trains,
            when a unit has more than 10,000 spikes within the longest lag. What was counted until then is of no use.
        """
        times, offsets = check_trains(spike_times, offsets)
        units = check_units(unit_indices, len(offsets) - 1, self.num_units)
        self.prepare(times, offsets, units)
        share_units(lambda first, last: self.consume(times, offsets, units, first, last), offsets, num_threads)

    def prepare(self, times: np.ndarray, offsets: np.ndarray, units: np.ndarray) -> None:
        """What a block needs before :meth:`consume`, in one thread."""
        raise NotImplementedError

    def consume(self, times: np.ndarray, offsets: np.ndarray, units: np.ndarray, first: int, last: int) -> None:
        """Take in pieces ``first`` to ``last - 1`` of a block; safe in threads."""
        raise NotImplementedError


def check_trains(spike_times: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spike times as float64 and offsets as int64, refused when they do not belong together.

    Parameters
    ----------
    spike_times : array, shape (num_spikes,)
        In seconds.
    offsets : int array, shape (num_units + 1,)
        Where each unit begins and ends.

    Raises
    ------
    InputError
        When offsets decrease or reach outside the spike times.
    """
    offsets = check_offsets(offsets, len(spike_times))
    return np.ascontiguousarray(spike_times, dtype="float64"), offsets


def check_offsets(offsets: np.ndarray, num_spikes: int) -> np.ndarray:
    """Offsets as int64, refused when they decrease or reach outside the spikes."""
    found = np.asarray(offsets)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise InputError(f"offsets must be num_units + 1 whole numbers, got {found.dtype} of shape {found.shape}.")
    found = found.astype("int64")
    if found[0] < 0 or found[-1] > num_spikes or (np.diff(found) < 0).any():
        raise InputError(
            f"offsets must rise from 0 to at most the {num_spikes} spikes, got {found[0]} to {found[-1]}"
            f"{', decreasing in between' if (np.diff(found) < 0).any() else ''}."
        )
    return found


def check_units(unit_indices: np.ndarray | None, num_pieces: int, num_units: int) -> np.ndarray:
    """The unit of every piece of a block as int64; None means the first units in order.

    Raises
    ------
    InputError
        When there is not one for each piece, when one does not exist, or when one comes twice.
    """
    units = np.arange(num_pieces) if unit_indices is None else np.ascontiguousarray(unit_indices, dtype="int64")
    if units.shape != (num_pieces,):
        raise InputError(f"A block of {num_pieces} pieces needs as many unit_indices, got shape {units.shape}.")
    if num_pieces and not 0 <= units.min() <= units.max() < num_units:
        raise InputError(f"Units {units.min()} to {units.max()} are outside the {num_units} units of the session.")
    if len(np.unique(units)) < num_pieces:
        raise InputError("A unit has two pieces in one block: join them, or give them in two blocks.")
    return units


def check_times(times_s: np.ndarray | None, name: str) -> np.ndarray:
    """Onsets or boundaries as a sorted float64 array; None becomes an empty one.

    Raises
    ------
    InputError
        When a time is not finite, or earlier than the one before it.
    """
    times = np.ascontiguousarray([] if times_s is None else times_s, dtype="float64")
    if times.ndim != 1:
        raise InputError(f"{name} must be a list of times in seconds, got an array of shape {times.shape}.")
    if not np.isfinite(times).all():
        raise InputError(
            f"{np.count_nonzero(~np.isfinite(times))} of {len(times)} {name} are not finite: leave them out."
        )
    if (np.diff(times) < 0).any():
        at = int(np.argmax(np.diff(times) < 0))
        raise InputError(f"{name} must be sorted; {times[at + 1]} s follows {times[at]} s. Use np.sort.")
    return times


def check_sorted(times: np.ndarray, offsets: np.ndarray) -> None:
    """Refuse spike times that are not finite or not in time order within their unit.

    Raises
    ------
    InputError
        Naming the first unit with such a spike.
    """
    at = _first_unsorted(times, offsets)
    if at >= 0:
        raise_unsorted(times, at, int(np.searchsorted(offsets, at, side="right")) - 1)


def raise_unsorted(times: np.ndarray, at: int, unit: int) -> None:
    """The error about spike `at` of a block, which belongs to unit `unit` of the session."""
    if not np.isfinite(times[at]):
        raise InputError(f"Unit number {unit} has a spike at {times[at]} s: leave out spikes without a time.")
    raise InputError(
        f"The spikes of unit number {unit} are not in time order: {times[at]} s follows a later one. Sort them."
    )


def share_units(work: Callable[[int, int], None], offsets: np.ndarray, num_threads: int | None = None) -> None:
    """Call ``work(first, last)`` on ranges of units that together are all of them, in several threads.

    Parameters
    ----------
    work : callable
        Works on units ``first`` to ``last - 1``; must let go of the GIL to gain anything.
    offsets : int array, shape (num_units + 1,)
        Ranges are made to hold about as many spikes each.
    num_threads : int, optional
        Default: numba's number of threads (NUMBA_NUM_THREADS, else all cores).
    """
    threads = numba.config.NUMBA_NUM_THREADS if num_threads is None else int(num_threads)
    if threads < 1:
        raise InputError(f"num_threads must be at least 1, got {num_threads!r}.")
    num_units = len(offsets) - 1
    # a unit costs a little even without spikes
    cost = offsets - offsets[0] + np.arange(num_units + 1)
    ends = np.searchsorted(cost, np.linspace(0, cost[-1], _SHARES * threads + 1))
    ranges = [(int(a), int(b)) for a, b in pairwise(np.unique(ends))]
    if threads == 1 or len(ranges) < 2:
        for first, last in ranges:
            work(first, last)
        return
    with ThreadPoolExecutor(threads) as pool:
        # a list, so that the errors of the threads are raised here
        list(pool.map(lambda span: work(*span), ranges))


@numba.njit(nogil=True)
def _first_unsorted(times, offsets):
    for unit in range(len(offsets) - 1):
        train = times[offsets[unit] : offsets[unit + 1]]
        # written so that NaN fails too; without a way out of the loop, so that it takes several spikes at a time
        wrong = 0 if len(train) == 0 or (train[0] > -np.inf and train[-1] < np.inf) else 1
        for i in range(1, len(train)):
            wrong += not (train[i] >= train[i - 1])
        if wrong:
            for i in range(len(train)):
                if not (-np.inf < train[i] < np.inf) or (i and not (train[i] >= train[i - 1])):
                    return offsets[unit] + i
    return -1
