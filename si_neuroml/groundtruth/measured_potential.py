"""Measured membrane potentials with their spikes, checked: from arrays, or from SpikeInterface objects."""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .membrane_potential import MembranePotential, ap_window, somatic_events

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording, BaseSorting

__all__ = ["as_membrane_potential", "check_membrane_potential", "membrane_potential_from_recording"]

# Below this rate an action potential of 1 ms is no more than a sample or two.
MIN_SAMPLING_FREQUENCY = 2_000.0
MIN_INTERVAL_S = 1e-3
ISOLATION_S = 15e-3
MAX_AVERAGED = 500


def as_membrane_potential(
    trace_mv: np.ndarray, sampling_frequency: float, spike_samples: np.ndarray
) -> MembranePotential:
    """Take a measured membrane potential with its spikes.

    Parameters
    ----------
    trace_mv : array, shape (num_samples,)
        In mV.
    sampling_frequency : float
        In Hz, at least 2000.
    spike_samples : int array, shape (num_spikes,)
        The samples of the peaks of the action potentials.

    Returns
    -------
    MembranePotential

    Raises
    ------
    InputError
        If the trace is not one row of finite numbers in mV, the rate is too low, or spikes lie outside, within 1 ms
        of each other, or not on peaks.
    """
    trace = np.asarray(trace_mv)
    spikes = np.sort(np.asarray(spike_samples).ravel())
    check_membrane_potential(trace, sampling_frequency, spikes)
    trace, spikes = trace.astype(np.float32), spikes.astype(np.int64)
    resting = float(np.median(trace))
    half = max(1, round(1e-3 * sampling_frequency))
    events = somatic_events(spikes, half, half, trace[spikes] - resting)
    ap = _average_ap(trace, spikes, sampling_frequency)
    return MembranePotential(trace, float(sampling_frequency), events, resting, ap)


def check_membrane_potential(trace_mv: np.ndarray, sampling_frequency: float, spike_samples: np.ndarray) -> None:
    """Refuse what :func:`as_membrane_potential` refuses; takes arrays as they are described there."""
    _check_trace(trace_mv, sampling_frequency)
    if not spike_samples.size:
        return
    first, last, num_samples = spike_samples.min(), spike_samples.max(), len(trace_mv)
    if not np.issubdtype(spike_samples.dtype, np.integer) or first < 0 or last >= num_samples:
        raise InputError(
            f"spike_samples must be whole numbers from 0 to {num_samples - 1} (the trace has {num_samples} samples), "
            f"got {spike_samples.dtype} from {first} to {last}."
        )
    gaps = np.diff(np.sort(spike_samples))
    if gaps.size and gaps.min() < MIN_INTERVAL_S * sampling_frequency:
        raise InputError(
            f"Two spike_samples lie {gaps.min()} samples apart, less than {1e3 * MIN_INTERVAL_S:g} ms at "
            f"{sampling_frequency:g} Hz: give each action potential once."
        )
    resting, at_spikes = np.median(trace_mv), np.median(trace_mv[spike_samples])
    if at_spikes < resting + 10:
        raise InputError(
            f"The median potential at the {len(spike_samples)} spike_samples is {at_spikes:.1f} mV, that of "
            f"the trace {resting:.1f} mV: these are no peaks of action potentials. Check their sampling rate."
        )


def membrane_potential_from_recording(
    recording: "BaseRecording", spikes: "BaseSorting | np.ndarray"
) -> list[list[MembranePotential]]:
    """Take measured membrane potentials and their spikes from SpikeInterface objects.

    Parameters
    ----------
    recording : BaseRecording
        One channel per cell. Scaled to uV if it has gains, otherwise its values are taken to be mV.
    spikes : BaseSorting or structured array
        A sorting with one unit per channel, in the order of the channels; or peaks with ``sample_index``,
        ``channel_index`` and ``segment_index``. The samples are those of the peaks of the action potentials.

    Returns
    -------
    list of list of MembranePotential
        For ``generate_voltage_imaging_recording(membrane_potential=...)``: per cell, then per segment.

    Raises
    ------
    InputError
        If recording and spikes do not belong together, or a trace is not fit (see :func:`as_membrane_potential`).
    """
    rate = recording.get_sampling_frequency()
    spikes, channel_of = _spikes_of_channels(recording, spikes)
    scaled = recording.has_scaleable_traces()
    potentials = [[] for _ in recording.channel_ids]
    for segment in range(recording.get_num_segments()):
        for channel, channel_id in enumerate(recording.channel_ids):
            trace = recording.get_traces(segment_index=segment, channel_ids=[channel_id], return_in_uV=scaled)[:, 0]
            chosen = spikes["sample_index"][(channel_of == channel) & (spikes["segment_index"] == segment)]
            potentials[channel].append(as_membrane_potential(trace / 1e3 if scaled else trace, rate, chosen))
    return potentials


def _spikes_of_channels(
    recording: "BaseRecording", spikes: "BaseSorting | np.ndarray"
) -> tuple[np.ndarray, np.ndarray]:
    """Spikes as one structured array, and the channel of each."""
    if isinstance(spikes, np.ndarray):
        if not {"sample_index", "segment_index", "channel_index"} <= set(spikes.dtype.names or ()):
            raise InputError(f"Peaks need sample_index, channel_index and segment_index, got {spikes.dtype.names}.")
        return spikes, spikes["channel_index"]
    rate, num_channels = recording.get_sampling_frequency(), recording.get_num_channels()
    if spikes.get_num_units() != num_channels:
        raise InputError(f"The sorting has {spikes.get_num_units()} units, the recording {num_channels} channels.")
    if spikes.get_sampling_frequency() != rate:
        raise InputError(f"The sorting is at {spikes.get_sampling_frequency():g} Hz, the recording at {rate:g} Hz.")
    spikes = spikes.to_spike_vector()
    return spikes, spikes["unit_index"]


def _average_ap(trace: np.ndarray, spikes: np.ndarray, rate: float) -> np.ndarray | None:
    """Median of isolated action potentials (of all, where none is isolated); None without any."""
    before, after = ap_window(rate)
    spikes = spikes[(spikes >= before) & (spikes + after <= len(trace))]
    if not spikes.size:
        return None
    gaps = np.diff(spikes, prepend=-len(trace), append=2 * len(trace))
    isolated = spikes[np.minimum(gaps[:-1], gaps[1:]) > round(ISOLATION_S * rate)]
    chosen = isolated if isolated.size else spikes
    return np.median(trace[chosen[:MAX_AVERAGED, None] + np.arange(-before, after)], axis=0).astype(np.float32)


def _check_trace(trace: np.ndarray, sampling_frequency: float) -> None:
    if trace.ndim != 1 or len(trace) < 2:
        raise InputError(f"A membrane potential must be one row of at least 2 samples, got shape {trace.shape}.")
    if not np.isfinite(sampling_frequency) or sampling_frequency < MIN_SAMPLING_FREQUENCY:
        raise InputError(
            f"A membrane potential needs a sampling rate of at least {MIN_SAMPLING_FREQUENCY:g} Hz to hold action "
            f"potentials, got {sampling_frequency} Hz."
        )
    bad = np.flatnonzero(~np.isfinite(trace))
    if bad.size:
        raise InputError(
            f"{bad.size} of {len(trace)} samples of the membrane potential are NaN or infinite, the first at "
            f"{bad[0]}: cut them out or fill them in."
        )
    largest = float(np.abs(trace).max())
    if not 1.0 < largest < 300.0:
        raise InputError(
            f"The membrane potential must be in mV, but its largest magnitude is {largest:g}: "
            "convert it (V times 1000, uV divided by 1000)."
        )
