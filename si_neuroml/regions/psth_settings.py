"""The window around an event: its bins, its baseline, and which events it fits."""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .spike_trains import EDGE_TOLERANCE_S

__all__ = ["NORMALISATIONS", "PsthSettings", "complete_onsets", "response_limit"]

NORMALISATIONS = ("zscore", "subtract", "rate")


@dataclass(frozen=True)
class PsthSettings:
    """The window around an onset, its bins and its baseline.

    Attributes
    ----------
    window_s : (float, float), default: (-1.0, 1.5)
        From where to where, relative to the onset.
    bin_s : float, default: 0.025
        Width of a bin; the window must be a whole number of them.
    baseline_s : (float, float), optional
        What a response is compared with: the bins that lie wholly inside. Default: from the start of the window to the
        onset.
    normalisation : "zscore" | "subtract" | "rate", default: "zscore"
        See :func:`si_neuroml.regions.psth.normalise_psth`.

    Raises
    ------
    InputError
        When these do not fit together.
    """

    window_s: tuple[float, float] = (-1.0, 1.5)
    bin_s: float = 0.025
    baseline_s: tuple[float, float] | None = None
    normalisation: str = "zscore"

    def __post_init__(self):
        start, stop = self.window_s
        if not (math.isfinite(start) and math.isfinite(stop) and start < stop and 0 < self.bin_s < math.inf):
            raise InputError(f"window_s {self.window_s} and bin_s {self.bin_s} leave no bin.")
        bins = (stop - start) / self.bin_s
        if bins < 0.5 or abs(bins - round(bins)) > 1e-6:
            raise InputError(
                f"window_s {self.window_s} is {bins:.3f} bins of {self.bin_s} s: make it a whole number of them."
            )
        if self.normalisation not in NORMALISATIONS:
            raise InputError(f"normalisation must be one of {NORMALISATIONS}, got {self.normalisation!r}.")
        low, high = self.baseline
        if self.baseline_s is not None and not start <= low < high <= stop:
            raise InputError(f"baseline_s {self.baseline_s} must lie inside window_s {self.window_s}.")

    @property
    def num_bins(self) -> int:
        """Bins in the window."""
        return round((self.window_s[1] - self.window_s[0]) / self.bin_s)

    @property
    def bin_edges_s(self) -> np.ndarray:
        """Edges of the bins: float64 array, shape (num_bins + 1,)."""
        return np.linspace(*self.window_s, self.num_bins + 1)

    @property
    def baseline(self) -> tuple[float, float]:
        """The baseline, given or not."""
        return (self.window_s[0], min(0.0, self.window_s[1])) if self.baseline_s is None else self.baseline_s

    def bins_between(self, low_s: float, high_s: float) -> np.ndarray:
        """Which bins lie wholly between two times: bool array, shape (num_bins,)."""
        edges, tolerance = self.bin_edges_s, 1e-6 * self.bin_s
        return (edges[:-1] >= low_s - tolerance) & (edges[1:] <= high_s + tolerance)


def complete_onsets(onsets_s: np.ndarray, segments_s: np.ndarray, settings: PsthSettings | None = None) -> np.ndarray:
    """Which events have their whole window inside one segment of the recording.

    Parameters
    ----------
    onsets_s : array, shape (num_events,)
    segments_s : array, shape (num_segments, 2)
        Start and end of every segment on the clock of the onsets.
    settings : PsthSettings, optional

    Returns
    -------
    bool array, shape (num_events,)
    """
    settings = PsthSettings() if settings is None else settings
    onsets = np.asarray(onsets_s, dtype="float64")[:, None]
    starts, stops = np.asarray(segments_s, dtype="float64").reshape(-1, 2).T
    before = onsets + settings.window_s[0] >= starts - EDGE_TOLERANCE_S
    return (before & (onsets + settings.window_s[1] <= stops + EDGE_TOLERANCE_S)).any(axis=1)


def response_limit(onsets_s: np.ndarray, settings: PsthSettings) -> float:
    """Until when after an onset nothing but its own response is expected, in seconds.

    The end of the window, or the median interval between onsets where that is shorter: behind it lies the response to
    the next event. Never less than two bins, so that one of them is whole.
    """
    stop = settings.window_s[1]
    return stop if len(onsets_s) < 2 else min(stop, max(float(np.median(np.diff(onsets_s))), 2 * settings.bin_s))
