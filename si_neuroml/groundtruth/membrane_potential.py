"""The membrane potential of a cell, in which every event is known: what is said of it, and on which grid of time."""

from typing import NamedTuple

import numpy as np

__all__ = [
    "MEMBRANE_EVENT_DTYPE",
    "MembranePotential",
    "ap_window",
    "local_waveform",
    "resample_potential",
    "somatic_events",
]

# event_type is "somatic_ap", "dendritic_spike" or "plateau". sample_index is the electrical peak (a plateau's: the end
# of its rise), offset is exclusive. place (0 to 1, from the first site to the last) and extent_um tell where a
# dendritic spike is; NaN for what is not bound to a place.
MEMBRANE_EVENT_DTYPE = np.dtype(
    [
        ("event_type", "U16"),
        ("sample_index", "int64"),
        ("onset", "int64"),
        ("offset", "int64"),
        ("amplitude_mv", "float64"),
        ("place", "float64"),
        ("extent_um", "float64"),
    ]
)
AP_BEFORE_S, AP_AFTER_S = 2e-3, 6e-3
DENDRITIC_SPIKE_RISE_MS = 0.5
PLATEAU_RISE_MS, PLATEAU_FALL_MS = 5.0, 10.0


class MembranePotential(NamedTuple):
    """The potential of one cell in one segment.

    Attributes
    ----------
    soma_mv : float32 array, shape (num_samples,)
        At the soma.
    sampling_frequency : float
        In Hz.
    events : structured array, MEMBRANE_EVENT_DTYPE
        In samples of ``soma_mv``, sorted by ``sample_index``.
    resting_mv : float
        Resting potential (of a measured trace its median): what is attenuated along the dendrite is the deviation.
    ap_mv : float32 array, shape (num_samples_ap,), or None
        The action potential of this cell from 2 ms before its peak to 6 ms after it; None where it is not known.
    """

    soma_mv: np.ndarray
    sampling_frequency: float
    events: np.ndarray
    resting_mv: float
    ap_mv: np.ndarray | None

    @property
    def spike_samples(self) -> np.ndarray:
        """Samples of the peaks of the somatic action potentials, int64."""
        return self.events["sample_index"][self.events["event_type"] == "somatic_ap"]


def somatic_events(peaks: np.ndarray, before: int, after: int, amplitude_mv: float | np.ndarray) -> np.ndarray:
    """Action potentials as rows of MEMBRANE_EVENT_DTYPE, from ``before`` to ``after`` samples around each peak."""
    events = np.zeros(len(peaks), dtype=MEMBRANE_EVENT_DTYPE)
    events["event_type"] = "somatic_ap"
    events["sample_index"], events["onset"], events["offset"] = peaks, peaks - before, peaks + after + 1
    events["amplitude_mv"] = amplitude_mv
    events["place"] = events["extent_um"] = np.nan
    return events


def ap_window(sampling_frequency: float) -> tuple[int, int]:
    """Samples of ``MembranePotential.ap_mv`` before the peak, and from it on."""
    return round(AP_BEFORE_S * sampling_frequency), round(AP_AFTER_S * sampling_frequency)


def local_waveform(event: np.void, sampling_frequency: float) -> np.ndarray:
    """Potential of a dendritic spike or plateau where it is made, from its onset to its offset.

    Parameters
    ----------
    event : record of MEMBRANE_EVENT_DTYPE
        Its type, onset, offset and amplitude tell the waveform.
    sampling_frequency : float
        In Hz.

    Returns
    -------
    float32 array, shape (offset - onset,)
        In mV above the potential without it.
    """
    t_ms = np.arange(event["offset"] - event["onset"]) * (1e3 / sampling_frequency)
    if event["event_type"] == "plateau":
        wave = _raised_cosine(t_ms / PLATEAU_RISE_MS) * _raised_cosine((t_ms[-1] - t_ms) / PLATEAU_FALL_MS)
    else:
        tau_ms = (t_ms[-1] - DENDRITIC_SPIKE_RISE_MS) / 5
        decay = np.exp(-np.clip(t_ms - DENDRITIC_SPIKE_RISE_MS, 0, None) / tau_ms)
        wave = _raised_cosine(t_ms / DENDRITIC_SPIKE_RISE_MS) * decay
    return (event["amplitude_mv"] * wave).astype(np.float32)


def resample_potential(potential: MembranePotential, sampling_frequency: float, num_samples: int) -> MembranePotential:
    """Bring a potential to another grid, by straight lines: these keep the peaks where and as high as they are.

    Parameters
    ----------
    potential : MembranePotential
        At least as long as asked for.
    sampling_frequency : float
        Of the new grid, in Hz.
    num_samples : int
        Length of the new grid; events with a peak beyond it are left out.

    Returns
    -------
    MembranePotential
        Its samples lie in the middle of their intervals.
    """
    ratio = potential.sampling_frequency / sampling_frequency
    soma = np.interp((np.arange(num_samples) + 0.5) * ratio, np.arange(len(potential.soma_mv)), potential.soma_mv)
    events = potential.events.copy()
    for name in ("sample_index", "onset", "offset"):
        events[name] = np.floor(events[name] / ratio)
    events = events[events["sample_index"] < num_samples]
    ap = potential.ap_mv
    if ap is not None:
        known = np.arange(len(ap)) - ap_window(potential.sampling_frequency)[0]
        before, after = ap_window(sampling_frequency)
        ap = np.interp(np.arange(-before, after) * ratio, known, ap)
    return MembranePotential(soma.astype(np.float32), sampling_frequency, events, potential.resting_mv, ap)


def _raised_cosine(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 as ``share`` goes from 0 to 1, level before and after."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(share, 0, 1))
