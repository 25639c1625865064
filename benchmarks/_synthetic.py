"""Long or wide recordings in no time: one short piece of noise and spikes, repeated as the segments of a recording.

For speed and memory only. The places of its sources mean nothing that a score could be based on.
"""

import numpy as np
from probeinterface import Probe
from spikeinterface.core import NumpyRecording
from spikeinterface.core.node_pipeline import base_peak_dtype

SAMPLING_FREQUENCY = 32_000.0
GAIN_UV = 0.25
SPIKE_SAMPLES = 64


def lattice(num_channels: int, num_columns: int, pitch_um: float = 15.0) -> np.ndarray:
    """Contacts in rows of `num_columns`, shape (num_channels, 2)."""
    index = np.arange(num_channels)
    return np.column_stack([index % num_columns, index // num_columns]) * pitch_um


def repeated_recording(
    contacts,
    piece_s,
    num_pieces,
    spikes_per_s,
    *,
    num_units=300,
    noise_uv=10.0,
    sampling_frequency=SAMPLING_FREQUENCY,
    seed=0,
):
    """A recording of `num_pieces` equal segments of int16 traces, and its spikes as peaks.

    Memory is that of one piece. Spikes are a trough with a bump behind it, decaying with distance from 300 sources in
    and around the array, at random times.
    """
    rng = np.random.default_rng(seed)
    length = round(piece_s * sampling_frequency)
    traces = np.empty((length, len(contacts)), dtype="int16")
    step = max(1, 10_000_000 // len(contacts))
    for start in range(0, length, step):
        block = rng.standard_normal((min(step, length - start), len(contacts)), dtype="float32")
        traces[start : start + step] = np.rint(block * (noise_uv / GAIN_UV))
    peaks = np.zeros(round(piece_s * spikes_per_s), dtype=base_peak_dtype)
    peaks["sample_index"] = np.sort(rng.integers(SPIKE_SAMPLES, length - SPIKE_SAMPLES, len(peaks)))
    add_spikes(traces, peaks, contacts, num_units, sampling_frequency, rng)
    recording = NumpyRecording([traces] * num_pieces, sampling_frequency=sampling_frequency)
    probe = Probe(ndim=2, si_units="um")
    probe.set_contacts(contacts, shapes="circle", shape_params={"radius": 5})
    probe.set_device_channel_indices(np.arange(len(contacts)))
    recording.set_probe(probe)
    recording.set_channel_gains(GAIN_UV)
    recording.set_channel_offsets(0.0)
    all_peaks = np.tile(peaks, num_pieces)
    all_peaks["segment_index"] = np.repeat(np.arange(num_pieces), len(peaks))
    return recording, all_peaks


def add_spikes(traces, peaks, contacts, num_units, sampling_frequency, rng):
    """Write the spikes of random units into the traces; their centre channels and troughs into the peaks."""
    low, high = contacts.min(axis=0) - 15.0, contacts.max(axis=0) + 15.0
    places = np.column_stack([rng.uniform(low, high, (num_units, 2)), rng.uniform(10, 60, num_units)])
    time = (np.arange(SPIKE_SAMPLES) - SPIKE_SAMPLES // 2) / (sampling_frequency / 1000)
    shape = 0.3 * np.exp(-0.5 * ((time - 0.45) / 0.2) ** 2) - np.exp(-0.5 * (time / 0.1) ** 2)
    distance = np.linalg.norm(places[:, None, :2] - contacts[None], axis=2)
    distance = np.hypot(distance, places[:, 2:])
    amplitude = rng.uniform(150, 500, num_units)[:, None] * np.exp(-0.035 * distance)
    unit = rng.integers(num_units, size=len(peaks))
    # beyond 100 um it is less than 1/30 of what it is on the nearest contact
    near = [np.flatnonzero(row < row.min() + 100) for row in distance]
    templates = [
        np.rint(np.outer(shape, row[channels]) / GAIN_UV).astype("int16")
        for row, channels in zip(amplitude, near, strict=True)
    ]
    for sample, source in zip(peaks["sample_index"], unit, strict=True):
        first = sample - SPIKE_SAMPLES // 2
        traces[first : first + SPIKE_SAMPLES, near[source]] += templates[source]
    peaks["channel_index"] = amplitude.argmax(axis=1)[unit]
    peaks["amplitude"] = -amplitude.max(axis=1)[unit]
