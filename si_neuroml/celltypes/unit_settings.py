"""What is computed of every sorted unit, with which bins, and what stands on the axes of the results."""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .wavelets import frequency_axis

__all__ = ["TRAIN_STREAMS", "UNIT_STREAMS", "WAVEFORM_STREAMS", "UnitStreamSettings"]

WAVEFORM_STREAMS = ("waveform", "waveform_scalogram")
TRAIN_STREAMS = ("log_isi", "acg_3d", "spike_scalogram")
UNIT_STREAMS = (*WAVEFORM_STREAMS, *TRAIN_STREAMS)
_WHOLE = ("num_firing_rate_quantiles", "max_num_blocks", "num_power_ranks", "num_frequencies")
_WHOLE += ("num_waveform_frequencies", "num_waveform_columns")


@dataclass(frozen=True)
class UnitStreamSettings:
    """Windows and bins of the streams of sorted units; none of them follows the sampling rate of a recording.

    Attributes
    ----------
    ms_before, ms_after : float, default: 0.6, 1.2
        What is kept of a waveform around its largest deflection.
    waveform_sampling_frequency : float, default: 30000
        To which waveforms are resampled.
    waveform_freq_min, waveform_freq_max : float, default: 300, 6000
        Of the scalogram of the waveform, in Hz.
    num_waveform_frequencies, num_waveform_columns : int, default: 16, 18
        Its size.
    isi_range_ms : (float, float), default: (1, 10000)
        First and last edge of the histogram of inter-spike intervals; shorter and longer ones count in the first and
        last bin.
    isi_bins_per_decade : int, default: 10
    acg_window_ms : float, default: 1000
        Longest lag of the autocorrelogram. Its first bin ends at 1 ms, the others are logarithmic.
    acg_bins_per_decade : int, default: 8
    num_firing_rate_quantiles : int, default: 10
        Rows of the autocorrelogram.
    firing_rate_window_ms : float, default: 250
        Over which the firing rate around each spike is taken.
    bin_ms : float, default: 1
        Of the spike train before its scalogram.
    freq_min, freq_max : float, default: 2, 200
        Of the scalogram of the spike train, in Hz.
    num_frequencies : int, default: 24
    block_duration_s : float, default: 10
        Of the pieces of a train that are transformed.
    num_power_ranks : int, default: 10
        Into so many parts each block is cut in time; they are the columns, in rising order of power.
    max_num_blocks : int, default: 60
        More are thinned out evenly.

    Raises
    ------
    InputError
        On a value that is not finite and positive, counts that are not whole, or bounds in the wrong order.
    """

    ms_before: float = 0.6
    ms_after: float = 1.2
    waveform_sampling_frequency: float = 30_000.0
    waveform_freq_min: float = 300.0
    waveform_freq_max: float = 6000.0
    num_waveform_frequencies: int = 16
    num_waveform_columns: int = 18
    isi_range_ms: tuple[float, float] = (1.0, 10_000.0)
    isi_bins_per_decade: float = 10
    acg_window_ms: float = 1000.0
    acg_bins_per_decade: float = 8
    num_firing_rate_quantiles: int = 10
    firing_rate_window_ms: float = 250.0
    bin_ms: float = 1.0
    freq_min: float = 2.0
    freq_max: float = 200.0
    num_frequencies: int = 24
    block_duration_s: float = 10.0
    num_power_ranks: int = 10
    max_num_blocks: int = 60

    def __post_init__(self):
        object.__setattr__(self, "isi_range_ms", tuple(map(float, self.isi_range_ms)))
        values = {name: value for name, value in vars(self).items() if name != "isi_range_ms"}
        values |= {f"isi_range_ms[{k}]": value for k, value in enumerate(self.isi_range_ms)}
        for name, value in values.items():
            if not (math.isfinite(value) and value > 0) or (name in _WHOLE and value != int(value)):
                what = "a whole number above 0" if name in _WHOLE else "finite and above 0"
                raise InputError(f"{name} must be {what}, got {value!r}.")
        rising = {"isi_range_ms": self.isi_range_ms, "acg_window_ms": (1.0, self.acg_window_ms)}
        rising |= {"freq": (self.freq_min, self.freq_max)}
        rising |= {"waveform_freq": (self.waveform_freq_min, self.waveform_freq_max)}
        for name, bounds in rising.items():
            if len(bounds) != 2 or not bounds[0] < bounds[1]:
                raise InputError(f"{name} must rise from the first to the second bound, got {bounds!r}.")
        highest = {"freq_max": self.bin_ms * 1e-3, "waveform_freq_max": 1 / self.waveform_sampling_frequency}
        for name, step_s in highest.items():
            if getattr(self, name) > 1 / (3 * step_s):
                raise InputError(f"{name} must not exceed a third of the sampling frequency, {1 / (3 * step_s):g} Hz.")

    @property
    def isi_edges_ms(self) -> np.ndarray:
        """Of the bins of the histogram, float64."""
        return _log_edges(*self.isi_range_ms, self.isi_bins_per_decade)

    @property
    def acg_edges_ms(self) -> np.ndarray:
        """Of the lags of the autocorrelogram, float64: 0, 1, and on logarithmically."""
        return np.append(0.0, _log_edges(1.0, self.acg_window_ms, self.acg_bins_per_decade))

    @property
    def waveform_times_ms(self) -> np.ndarray:
        """Of the samples of a resampled waveform, 0 at its largest deflection, float64."""
        per_ms = self.waveform_sampling_frequency / 1000
        return np.arange(-round(self.ms_before * per_ms), round(self.ms_after * per_ms) + 1) / per_ms

    @property
    def frequencies_hz(self) -> np.ndarray:
        """Of the scalogram of the train, float64, rising."""
        return frequency_axis(self.freq_min, self.freq_max, self.num_frequencies)

    @property
    def waveform_frequencies_hz(self) -> np.ndarray:
        """Of the scalogram of the waveform, float64, rising."""
        return frequency_axis(self.waveform_freq_min, self.waveform_freq_max, self.num_waveform_frequencies)

    def axes(self, stream: str) -> dict[str, np.ndarray]:
        """What stands on the axes of a stream: float64 arrays by name, in the order of the axes.

        Histograms and lags are named by the geometric centres of their bins, the first lag by its end.
        """
        if stream == "waveform":
            return {"time_ms": self.waveform_times_ms}
        if stream == "waveform_scalogram":
            times = self.waveform_times_ms
            edges = np.linspace(times[0], times[-1], self.num_waveform_columns + 1)
            return {"frequency_hz": self.waveform_frequencies_hz, "time_ms": (edges[1:] + edges[:-1]) / 2}
        if stream == "log_isi":
            return {"isi_ms": np.sqrt(self.isi_edges_ms[1:] * self.isi_edges_ms[:-1])}
        if stream == "acg_3d":
            edges = self.acg_edges_ms
            quantiles = (np.arange(self.num_firing_rate_quantiles) + 0.5) / self.num_firing_rate_quantiles
            return {"firing_rate_quantile": quantiles, "lag_ms": np.append(1.0, np.sqrt(edges[2:] * edges[1:-1]))}
        if stream == "spike_scalogram":
            ranks = (np.arange(self.num_power_ranks) + 0.5) / self.num_power_ranks
            return {"frequency_hz": self.frequencies_hz, "power_rank": ranks}
        raise InputError(f"There is no stream {stream!r} of sorted units; there are {UNIT_STREAMS}.")


def _log_edges(low, high, bins_per_decade):
    return np.geomspace(low, high, max(1, round(math.log10(high / low) * bins_per_decade)) + 1)
