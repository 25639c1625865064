"""Seven numbers that describe a response: f1 to f7 of van Laar (2025). f8, the CV of the ISIs, is ``isi_cv``.

The paper names them; what its words leave open is decided here. r(t) is the mean rate over events in spikes per
second, in bins named by their centres. The *response* is the bins from the onset to the end of the window (or to the
next event, where windows overlap); the *baseline* is the bins before the onset, with mean m and standard deviation s
of :func:`si_neuroml.regions.psth.baseline_statistics`.

f1 ``psth_peak_time_s``      time of the largest r in the response, the earliest of equals; NaN without a spike in it
f2 ``psth_peak_z``           (r_peak - m) / s
f3 ``psth_half_width_s``     length of the run of response bins around the peak with r >= r_peak / 2; the rate itself,
                             no baseline taken off
f4 ``psth_latency_s``        time of the first response bin with r > m + 3 s; NaN where there is none
f5 ``psth_skewness``         skewness of the spikes' distribution over response time: third standardised moment of the
                             bin centres weighted with r, positive for an early peak with a tail; NaN where all spikes
                             share one bin
f6 ``psth_sustained_ratio``  r in the bin that begins at or holds 1.0 s, divided by r_peak; NaN where the response is
                             shorter or silent
f7 ``psth_mean_rate_hz``     mean of r over the whole window, baseline included
"""

import numpy as np

from ..errors import InputError
from .psth import PsthSettings, baseline_statistics, normalise_psth

__all__ = ["PSTH_FEATURE_NAMES", "psth_features"]

PSTH_FEATURE_NAMES = (
    "psth_peak_time_s",
    "psth_peak_z",
    "psth_half_width_s",
    "psth_latency_s",
    "psth_skewness",
    "psth_sustained_ratio",
    "psth_mean_rate_hz",
)
_LATENCY_SDS = 3.0
_SUSTAINED_S = 1.0


def psth_features(
    counts: np.ndarray, num_events: int, settings: PsthSettings | None = None, *, response_stop_s: float | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """f1 to f7 as the module describes them.

    Parameters
    ----------
    counts : array, shape (num_units, num_bins)
        Spikes over all events, of :func:`~si_neuroml.regions.psth.count_psth`.
    num_events : int
        How many these were.
    settings : PsthSettings, optional
        Those of the counts.
    response_stop_s : float, optional
        Where the response ends. Default: at the end of the window, as in the paper. Where other events follow sooner,
        give :func:`~si_neuroml.regions.psth.response_limit`.

    Returns
    -------
    features : float32 array, shape (num_units, 7)
        NaN where not defined; all NaN without events. f2 and f4 need at least two bins of baseline.
    names : tuple of str

    Raises
    ------
    InputError
        When no bin lies between the onset and the end of the response.
    """
    settings = PsthSettings() if settings is None else settings
    stop = settings.window_s[1] if response_stop_s is None else min(response_stop_s, settings.window_s[1])
    in_response = settings.bins_between(max(0.0, settings.window_s[0]), stop)
    if not in_response.any():
        raise InputError(
            f"No bin of {settings.bin_s} s of the window {settings.window_s} lies between the onset and {stop:g} s."
        )
    mean = deviation = np.full(len(counts), np.nan)
    if np.count_nonzero(settings.bins_between(*settings.baseline)) > 1:
        mean, deviation = baseline_statistics(counts, num_events, settings)
    rates = normalise_psth(counts, num_events, settings, normalisation="rate").astype("float64")
    edges = settings.bin_edges_s
    left, centers = edges[:-1][in_response], ((edges[:-1] + edges[1:]) / 2)[in_response]
    response = rates[:, in_response]
    features = np.full((len(rates), len(PSTH_FEATURE_NAMES)), np.nan)
    # from counts, which compare exactly
    peaks = np.asarray(counts)[:, in_response].argmax(axis=1)
    peak_rates = response[np.arange(len(rates)), peaks]
    silent = ~(peak_rates > 0)
    features[:, 0] = centers[peaks]
    features[:, 1] = (peak_rates - mean) / deviation
    features[:, 2] = _run_lengths(np.asarray(counts)[:, in_response], peaks) * settings.bin_s
    above = response > (mean + _LATENCY_SDS * deviation)[:, None]
    features[:, 3] = np.where(above.any(axis=1), centers[above.argmax(axis=1)], np.nan)
    features[:, 4] = _skewness(response, centers)
    holds = (left <= _SUSTAINED_S + 1e-6 * settings.bin_s) & (
        left + settings.bin_s > _SUSTAINED_S + 1e-6 * settings.bin_s
    )
    if holds.any():
        features[:, 5] = response[:, holds.argmax()] / np.where(silent, np.nan, peak_rates)
    features[:, 6] = rates.mean(axis=1)
    features[np.ix_(silent, [0, 2])] = np.nan
    return features.astype("float32"), PSTH_FEATURE_NAMES


def _run_lengths(counts, peaks):
    """Bins in the run around each peak that hold at least half as many spikes as the peak."""
    high = 2 * counts >= counts[np.arange(len(peaks)), peaks][:, None]
    positions = np.arange(high.shape[1])
    after = np.where(~high & (positions > peaks[:, None]), positions, high.shape[1]).min(axis=1)
    before = np.where(~high & (positions < peaks[:, None]), positions, -1).max(axis=1)
    return after - before - 1


def _skewness(weights, positions):
    """Third standardised moment of positions under weights (num_units, num_bins); NaN where they do not spread."""
    total = weights.sum(axis=1)
    share = weights / np.where(total > 0, total, np.nan)[:, None]
    away = positions - (share @ positions)[:, None]
    variance = (share * away**2).sum(axis=1)
    spread = np.where((weights > 0).sum(axis=1) > 1, variance, np.nan)
    return (share * away**3).sum(axis=1) / spread**1.5
