"""The spikes of a unit one after the other: what is counted, and what is carried from block to block.

Of each unit a record of sums and counts, its spikes within the longest lag of the last one (the *tail*), and its first
and last spike in every segment. Sums grow spike by spike in one order, so that where a block ends leaves no trace.
"""

import numba
import numpy as np

from .spike_trains import EDGE_TOLERANCE_S

__all__ = ["MAX_NEIGHBOURS", "STATE_DTYPE", "tail_room", "take_in_pieces"]

_LVR_REFRACTORINESS_S = 0.005
# shorter than a sample: spikes at the same time have a logarithm too
_SHORTEST_ISI_S = 1e-5
# more spikes of one unit within the longest lag than any neuron can fire; pairs would take forever
MAX_NEIGHBOURS = 10_000
STATE_DTYPE = np.dtype(
    [
        *((name, "int64") for name in ("num_spikes", "num_isis", "num_pairs", "refractory", "burst_spikes", "bursts")),
        *((name, "float64") for name in ("isi", "isi_squared", "log_isi", "log_isi_squared", "cv2", "lv", "lvr")),
        # carried from block to block
        *((name, "float64") for name in ("last_s", "last_isi_s", "count_stop_s", "presence_stop_s")),
        *((name, "int64") for name in ("in_burst", "segment", "num_tail")),
        # spikes in the open window, squares of the closed ones, windows with a spike
        *((name, "int64") for name in ("open_count", "squared_counts", "present")),
    ]
)


@numba.njit(nogil=True)
def tail_room(times, offsets, units, num_tail, window):
    """The most spikes that any unit may have to keep after this block."""
    most = 0
    for piece in range(len(units)):
        begin, last = offsets[piece], offsets[piece + 1] - 1
        kept = 0
        while kept <= MAX_NEIGHBOURS and last - kept >= begin and times[last] - times[last - kept] < window:
            kept += 1
        most = max(most, kept + num_tail[units[piece]])
    return most


@numba.njit(nogil=True)
def _take_in_isi(state, isi, last_isi, in_burst, log_isi_counts, log_bins, limits):
    """Count an inter-spike interval, alone and with the one before; whether it is one of a burst."""
    log_low, bins_per_decade = log_bins
    refractory_s, burst_s, _, _ = limits
    edge_isi = isi + EDGE_TOLERANCE_S
    logarithm = np.log10(max(edge_isi, _SHORTEST_ISI_S))
    bin_index = int(np.floor((logarithm - log_low) * bins_per_decade))
    log_isi_counts[min(max(bin_index, 0), len(log_isi_counts) - 1)] += 1
    state.num_isis += 1
    state.isi += isi
    state.isi_squared += isi * isi
    state.log_isi += logarithm
    state.log_isi_squared += logarithm * logarithm
    if edge_isi < refractory_s:
        state.refractory += 1
    both = isi + last_isi
    # False without an earlier ISI, which is NaN
    if both > 0.0:
        inverse = 1.0 / both
        difference = abs(isi - last_isi) * inverse
        state.num_pairs += 1
        state.cv2 += difference
        state.lv += difference * difference
        state.lvr += difference * difference * (1.0 + 4.0 * _LVR_REFRACTORINESS_S * inverse)
    if edge_isi >= burst_s:
        return 0
    # the first ISI of a burst brings in the spike before it
    state.burst_spikes += 1 if in_burst else 2
    state.bursts += 0 if in_burst else 1
    return 1


@numba.njit(nogil=True)
def _move_up(tail, oldest_tail, num_tail, times, oldest, end):
    """Keep in `tail` what is within reach of the last spike; how many these are."""
    kept = 0
    for j in range(oldest_tail, num_tail):
        tail[kept] = tail[j]
        kept += 1
    for j in range(oldest, end):
        tail[kept] = times[j]
        kept += 1
    return kept


@numba.njit(nogil=True)
def _take_in(
    times, begin, end, states, tail, spans, log_isi_counts, acg_counts, boundaries, log_bins, inverse_acg_bin, limits
):
    """Go through the spikes of one unit in one block; as :func:`take_in_pieces`."""
    _, _, count_s, presence_s = limits
    num_acg_bins = len(acg_counts)
    state = states[0]
    num_tail, segment, in_burst = state.num_tail, state.segment, state.in_burst
    last, last_isi = state.last_s, state.last_isi_s
    count_stop, presence_stop, open_count = state.count_stop_s, state.presence_stop_s, state.open_count
    # the oldest spikes within reach of the current one, in the tail of the earlier blocks and in this one
    oldest_tail, oldest = 0, begin
    for i in range(begin, end):
        t = times[i]
        # written so that NaN fails too
        if not (t < np.inf and t > -np.inf) or t < last:
            return i, False
        if segment < len(boundaries) and t + EDGE_TOLERANCE_S >= boundaries[segment]:
            while segment < len(boundaries) and t + EDGE_TOLERANCE_S >= boundaries[segment]:
                segment += 1
            last = last_isi = np.nan
            count_stop = presence_stop = -np.inf
            in_burst = 0
            oldest_tail, oldest = num_tail, i
        anchor = boundaries[segment - 1] if segment else 0.0
        if t + EDGE_TOLERANCE_S >= count_stop:
            state.squared_counts += open_count * open_count
            open_count = 0
            count_stop = anchor + (np.floor((t - anchor + EDGE_TOLERANCE_S) / count_s) + 1.0) * count_s
        open_count += 1
        if t + EDGE_TOLERANCE_S >= presence_stop:
            state.present += 1
            presence_stop = anchor + (np.floor((t - anchor + EDGE_TOLERANCE_S) / presence_s) + 1.0) * presence_s
        if np.isnan(last):
            spans[segment, 0] = t
        else:
            isi = t - last
            in_burst = _take_in_isi(state, isi, last_isi, in_burst, log_isi_counts, log_bins, limits)
            last_isi = isi
            while (
                oldest_tail < num_tail and (t - tail[oldest_tail] + EDGE_TOLERANCE_S) * inverse_acg_bin >= num_acg_bins
            ):
                oldest_tail += 1
            while oldest < i and (t - times[oldest] + EDGE_TOLERANCE_S) * inverse_acg_bin >= num_acg_bins:
                oldest += 1
            if i - oldest + num_tail - oldest_tail > MAX_NEIGHBOURS:
                return i, True
            for j in range(oldest_tail, num_tail):
                acg_counts[int((t - tail[j] + EDGE_TOLERANCE_S) * inverse_acg_bin)] += 1
            for j in range(oldest, i):
                acg_counts[int((t - times[j] + EDGE_TOLERANCE_S) * inverse_acg_bin)] += 1
        spans[segment, 1] = t
        last = t
    state.num_spikes += end - begin
    state.segment, state.in_burst, state.last_s, state.last_isi_s = segment, in_burst, last, last_isi
    state.count_stop_s, state.presence_stop_s, state.open_count = count_stop, presence_stop, open_count
    state.num_tail = _move_up(tail, oldest_tail, num_tail, times, oldest, end)
    return -1, False


@numba.njit(nogil=True)
def take_in_pieces(
    times, offsets, units, first, last, states, tails, spans, log_isi_counts, acg_counts, boundaries, *scalars
):
    """Pieces `first` to `last` - 1; the index of the first spike that cannot be, else -1, and whether by crowding."""
    log_bins, inverse_acg_bin, limits = scalars
    for piece in range(first, last):
        unit = units[piece]
        at, crowded = _take_in(
            times,
            offsets[piece],
            offsets[piece + 1],
            states[unit : unit + 1],
            tails[unit],
            spans[unit],
            log_isi_counts[unit],
            acg_counts[unit],
            boundaries,
            log_bins,
            inverse_acg_bin,
            limits,
        )
        if at >= 0:
            return at, crowded
    return -1, False
