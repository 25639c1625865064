"""Bins and limits of the statistics of spike trains."""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

__all__ = ["SpikeTrainSettings"]


@dataclass(frozen=True)
class SpikeTrainSettings:
    """Bins and limits; the defaults are what the names of the features are explained with.

    Attributes
    ----------
    log_isi_range_s : (float, float), default: (0.001, 10)
        First and last edge of the log-ISI histogram.
    log_isi_bins_per_decade : int, default: 10
    acg_window_s : float, default: 1
        Longest lag of the autocorrelogram.
    acg_bin_s : float, default: 0.001
        Lags are counted in bins of this width.
    acg_bins_per_decade : int, optional, default: 5
        Logarithmic bins that the counts are put together to, with edges on whole bins of `acg_bin_s`. None leaves them
        as they are, linear.
    refractory_s : float, default: 0.0025
    burst_isi_s : float, default: 0.006
    count_window_s : float, default: 1
        Of the Fano factor.
    presence_window_s : float, default: 60

    Raises
    ------
    InputError
        On a value that is not finite and positive, or windows that are not whole numbers of bins.
    """

    log_isi_range_s: tuple[float, float] = (0.001, 10.0)
    log_isi_bins_per_decade: int = 10
    acg_window_s: float = 1.0
    acg_bin_s: float = 0.001
    acg_bins_per_decade: int | None = 5
    refractory_s: float = 0.0025
    burst_isi_s: float = 0.006
    count_window_s: float = 1.0
    presence_window_s: float = 60.0

    def __post_init__(self):
        low, high = self.log_isi_range_s
        values = {name: value for name, value in vars(self).items() if name != "log_isi_range_s" and value is not None}
        values |= {"log_isi_range_s[0]": low, "log_isi_range_s[1]": high}
        for name, value in values.items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be finite and positive, got {value!r}.")
        log_bins = math.log10(high / low) * self.log_isi_bins_per_decade
        acg_bins = self.acg_window_s / self.acg_bin_s
        for name, bins in (("log_isi_range_s", log_bins), ("acg_window_s", acg_bins)):
            if bins < 1 - 1e-6 or abs(bins - round(bins)) > 1e-6:
                raise InputError(f"{name} is {bins:.3f} bins: make it a whole number of them, at least 1.")

    @property
    def num_log_isi_bins(self) -> int:
        """Bins of the log-ISI histogram."""
        low, high = self.log_isi_range_s
        return round(math.log10(high / low) * self.log_isi_bins_per_decade)

    @property
    def num_acg_bins(self) -> int:
        """Lags that are counted apart."""
        return round(self.acg_window_s / self.acg_bin_s)

    @property
    def acg_edges(self) -> np.ndarray:
        """Where the bins of the features ``acg_*`` begin and end, in bins of `acg_bin_s`: int array."""
        number = self.num_acg_bins
        if self.acg_bins_per_decade is None:
            return np.arange(number + 1)
        inner = 10.0 ** (np.arange(math.log10(number) * self.acg_bins_per_decade) / self.acg_bins_per_decade)
        return np.unique(np.r_[0, np.round(inner).astype("int64"), number])
