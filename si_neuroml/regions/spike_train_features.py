"""Statistics of spike trains in one pass: ISI histogram, autocorrelogram, regularity, bursts, rate.

:class:`SpikeTrainStatistics` is fed blocks of spikes and carries over what reaches across the end of a block (the last
two spikes, those within the longest lag), so that blocks of any size give the same numbers to the last bit, in memory
that follows the number of units and not that of spikes.

With the ISIs I_1 .. I_n of a unit, pairs only of neighbours within a segment:

``rate_mean_hz``, ``rate_log10_hz``
    spikes per second of the session, and its logarithm
``rate_fano``
    variance over mean of the spike counts in windows of 1 s
``rate_presence``
    share of windows of 60 s with a spike
``isi_cv``
    standard deviation over mean of the ISIs (f8 of van Laar 2025)
``isi_cv2``
    mean of 2 abs(I' - I) / (I' + I) (Holt et al. 1996)
``isi_lv``
    3 times the mean of ((I - I') / (I + I'))^2 (Shinomoto et al. 2003)
``isi_lvr``
    3 times the mean of (1 - 4 I I' / (I + I')^2) (1 + 4 R / (I + I')), R = 5 ms
    (Shinomoto et al. 2009)
``isi_log10_mean``, ``isi_log10_sd``
    of log10(ISI in s)
``isi_refractory_fraction``
    share of ISIs below 2.5 ms
``burst_fraction``
    share of spikes with an ISI below 6 ms before or after them (Mizuseki et al. 2011)
``burst_size``
    spikes per run of such ISIs; NaN without a run
``burst_index``
    (p - b) / max(p, b), with p the largest autocorrelogram bin below 10 ms and b the mean
    from 40 to 50 ms (Royer et al. 2012)
``log_isi_00`` ...
    share of ISIs per bin of log10(ISI), 10 bins per decade from 1 ms to 10 s; shorter and
    longer ones count in the first and last bin
``acg_00`` ...
    autocorrelogram at lags of 0-1, 1-2, 2-3, 3-4, 4-6, 6-10, 10-16, ... 631-1000 ms: pairs
    per ms of lag, divided by their mean from 0 to 1000 ms

Lags are logarithmic because what tells trains apart, refractoriness, bursts and rhythms, takes place over three orders
of magnitude, and because a hundred bins of 1 ms are mostly noise.
"""

import math

import numpy as np

from ..errors import InputError
from .spike_train_kernels import MAX_NEIGHBOURS, STATE_DTYPE, tail_room, take_in_pieces
from .spike_train_settings import SpikeTrainSettings
from .spike_trains import EDGE_TOLERANCE_S, FedInBlocks, check_times, raise_unsorted

__all__ = ["SpikeTrainSettings", "SpikeTrainStatistics", "spike_train_features"]


class SpikeTrainStatistics(FedInBlocks):
    """Statistics of a session that is fed in blocks.

    Parameters
    ----------
    num_units : int
    settings : SpikeTrainSettings, optional
    boundaries_s : array, optional
        Times at which a new segment begins, sorted. No ISI, pair of ISIs, lag or window reaches across one. Windows of
        1 s and 60 s are counted from the boundary, before the first one from 0 s.

    Attributes
    ----------
    log_isi_counts : int64 array, shape (num_units, num_log_isi_bins)
        ISIs so far.
    acg_counts : int64 array, shape (num_units, num_acg_bins)
        Pairs of spikes so far, by lag.

    Raises
    ------
    InputError
        When boundaries are not finite or not sorted.
    """

    def __init__(
        self, num_units: int, settings: SpikeTrainSettings | None = None, *, boundaries_s: np.ndarray | None = None
    ):
        super().__init__(num_units)
        self.settings = SpikeTrainSettings() if settings is None else settings
        self.boundaries_s = check_times(boundaries_s, "boundaries_s")
        self.log_isi_counts = np.zeros((num_units, self.settings.num_log_isi_bins), dtype="int64")
        self.acg_counts = np.zeros((num_units, self.settings.num_acg_bins), dtype="int64")
        self._state = np.zeros(num_units, dtype=STATE_DTYPE)
        self._state["last_s"] = self._state["last_isi_s"] = np.nan
        self._state["count_stop_s"] = self._state["presence_stop_s"] = -np.inf
        # first and last spike of every unit in every segment
        self._spans = np.full((num_units, len(self.boundaries_s) + 1, 2), np.nan)
        self._tails = np.empty((num_units, 16))

    @property
    def num_spikes(self) -> np.ndarray:
        """Spikes so far: int64 array, shape (num_units,)."""
        return self._state["num_spikes"].copy()

    def prepare(self, times: np.ndarray, offsets: np.ndarray, units: np.ndarray) -> None:
        """Make room for the spikes that the next block may need of this one; before :meth:`consume`, in one thread."""
        needed = tail_room(times, offsets, units, self._state["num_tail"], self.settings.acg_window_s)
        if needed > self._tails.shape[1]:
            tails = np.empty((len(self._tails), 2 * needed))
            tails[:, : self._tails.shape[1]] = self._tails
            self._tails = tails

    def consume(self, times: np.ndarray, offsets: np.ndarray, units: np.ndarray, first: int, last: int) -> None:
        """Take in pieces ``first`` to ``last - 1`` of a block; safe in threads."""
        settings = self.settings
        log_bins = math.log10(settings.log_isi_range_s[0]), float(settings.log_isi_bins_per_decade)
        limits = (settings.refractory_s, settings.burst_isi_s, settings.count_window_s, settings.presence_window_s)
        at, crowded = take_in_pieces(
            *(times, offsets, units, first, last, self._state, self._tails, self._spans, self.log_isi_counts),
            *(self.acg_counts, self.boundaries_s, log_bins, 1.0 / settings.acg_bin_s, limits),
        )
        if at >= 0:
            unit = int(units[np.searchsorted(offsets, at, side="right") - 1])
            if not crowded:
                raise_unsorted(times, at, unit)
            raise InputError(
                f"Unit number {unit} has more than {MAX_NEIGHBOURS} spikes within {settings.acg_window_s} s at "
                f"{times[at]:g} s. Are its times in seconds?"
            )

    def duration_s(self) -> float:
        """From the first to the last spike of any unit, over all segments; 0 without spikes."""
        return float(sum(last - first for first, last in self._segments()))

    def features(self, duration_s: float | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
        """The features of what was taken in.

        Parameters
        ----------
        duration_s : float, optional
            Length of the recording, all segments together. Default: :meth:`duration_s`.

        Returns
        -------
        features : float32 array, shape (num_units, num_features)
            NaN where not defined: ISIs need two spikes, pairs of them three; without spikes only the rate and the
            presence are, which are 0.
        names : tuple of str
            See the module.

        Raises
        ------
        InputError
            When the duration is shorter than what the spikes span.
        """
        spanned = self.duration_s()
        if duration_s is not None and not spanned <= duration_s * (1 + 1e-9) < np.inf:
            raise InputError(f"duration_s is {duration_s} s, but the spikes span {spanned:g} s.")
        columns = self._rates(spanned if duration_s is None else duration_s, duration_s is not None)
        columns |= self._intervals() | self._bursts()
        histograms = {"log_isi": self._log_isi(), "acg": self._acg()}
        names = list(columns)
        for prefix, values in histograms.items():
            digits = max(2, len(str(values.shape[1] - 1)))
            names += [f"{prefix}_{k:0{digits}d}" for k in range(values.shape[1])]
        features = np.concatenate([np.column_stack(list(columns.values())), *histograms.values()], axis=1)
        return features.astype("float32"), tuple(names)

    def _segments(self):
        """First and last spike of any unit, for every segment that has one."""
        seen = ~np.isnan(self._spans[:, :, 0])
        return [
            (self._spans[seen[:, k], k, 0].min(), self._spans[seen[:, k], k, 1].max())
            for k in np.flatnonzero(seen.any(axis=0))
        ]

    def _num_windows(self, window_s, duration_s, given):
        """Windows of the session: as many as its duration fills, at least those that its spikes span."""
        anchors = np.concatenate([[0.0], self.boundaries_s])
        number = 0
        for low, high in self._segments():
            anchor = anchors[np.searchsorted(self.boundaries_s, low + EDGE_TOLERANCE_S, side="right")]
            first, last = np.floor((np.array([low, high]) - anchor + EDGE_TOLERANCE_S) / window_s)
            number += int(last - first) + 1
        return max(number, math.ceil(duration_s / window_s - 1e-6)) if given else number

    def _rates(self, duration_s, given):
        state, settings = self._state, self.settings
        rates = _ratio(state["num_spikes"], duration_s)
        rates[state["num_spikes"] == 0] = 0.0
        num_counts = self._num_windows(settings.count_window_s, duration_s, given)
        mean_count = _ratio(state["num_spikes"], num_counts)
        squared = _ratio(state["squared_counts"] + state["open_count"] ** 2, num_counts)
        presence = _ratio(state["present"], self._num_windows(settings.presence_window_s, duration_s, given))
        presence[state["num_spikes"] == 0] = 0.0
        return {
            "rate_mean_hz": rates,
            "rate_log10_hz": np.log10(np.where(rates > 0, rates, np.nan)),
            "rate_fano": _ratio(squared - mean_count**2, mean_count),
            "rate_presence": presence,
        }

    def _intervals(self):
        state = self._state
        mean, cv2, lv, lvr = (
            _ratio(state[name], state[number])
            for name, number in (("isi", "num_isis"), *((name, "num_pairs") for name in ("cv2", "lv", "lvr")))
        )
        log_mean = _ratio(state["log_isi"], state["num_isis"])
        log_variance = _ratio(state["log_isi_squared"], state["num_isis"]) - log_mean**2
        variance = _ratio(state["isi_squared"], state["num_isis"]) - mean**2
        return {
            "isi_cv": _ratio(np.sqrt(np.maximum(variance, 0.0)), mean),
            "isi_cv2": 2.0 * cv2,
            "isi_lv": 3.0 * lv,
            "isi_lvr": 3.0 * lvr,
            "isi_log10_mean": log_mean,
            "isi_log10_sd": np.sqrt(np.maximum(log_variance, 0.0)),
            "isi_refractory_fraction": _ratio(state["refractory"], state["num_isis"]),
        }

    def _bursts(self):
        state, bin_s = self._state, self.settings.acg_bin_s
        ends = (np.arange(self.settings.num_acg_bins) + 1) * bin_s
        early, late = ends <= 0.010 + 1e-9, (ends > 0.040 + 1e-9) & (ends <= 0.050 + 1e-9)
        index = np.full(len(state), np.nan)
        if early.any() and late.any():
            peak, base = self.acg_counts[:, early].max(axis=1), self.acg_counts[:, late].mean(axis=1)
            index = _ratio(peak - base, np.maximum(peak, base))
        return {
            "burst_fraction": _ratio(state["burst_spikes"], np.where(state["num_isis"] > 0, state["num_spikes"], 0)),
            "burst_size": _ratio(state["burst_spikes"], state["bursts"]),
            "burst_index": index,
        }

    def _log_isi(self):
        return _ratio(self.log_isi_counts, self._state["num_isis"][:, None])

    def _acg(self):
        edges = self.settings.acg_edges
        pairs = np.add.reduceat(self.acg_counts, edges[:-1], axis=1) / np.diff(edges)
        return _ratio(pairs, self.acg_counts.mean(axis=1, keepdims=True))


def spike_train_features(
    spike_times: np.ndarray,
    offsets: np.ndarray,
    settings: SpikeTrainSettings | None = None,
    *,
    boundaries_s: np.ndarray | None = None,
    duration_s: float | None = None,
    num_threads: int | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Statistics of spike trains that are in memory.

    Parameters
    ----------
    spike_times : array, shape (num_spikes,)
        In seconds, unit after unit, sorted within each unit.
    offsets : int array, shape (num_units + 1,)
        Where the units begin and end.
    settings : SpikeTrainSettings, optional
    boundaries_s : array, optional
        Times at which a new segment begins. Default: one segment.
    duration_s : float, optional
        Length of the recording. Default: from the first to the last spike of any unit.
    num_threads : int, optional
        Default: numba's (NUMBA_NUM_THREADS).

    Returns
    -------
    features : float32 array, shape (num_units, num_features)
    names : tuple of str
        See the module, and :meth:`SpikeTrainStatistics.features`.

    Raises
    ------
    InputError
        When times are not finite or not sorted, or offsets or duration do not fit.
    """
    statistics = SpikeTrainStatistics(len(offsets) - 1, settings, boundaries_s=boundaries_s)
    statistics.add(spike_times, offsets, num_threads=num_threads)
    return statistics.features(duration_s)


def _ratio(above, below):
    """Quotient in float64, NaN where the divisor is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, dtype="float64"), np.asarray(below, dtype="float64"))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
