"""Traces of which the tests know the events, though the detectors are not told."""

import numpy as np
from events_helpers import RATE, SHAPE

from si_neuroml import generate_voltage_imaging_recording
from si_neuroml.events.settings import DetectorSettings
from si_neuroml.groundtruth.settings import MembraneSettings

SETTINGS = DetectorSettings(RATE, 1)
# only spikes are events
SPIKES_ONLY = MembraneSettings(firing_rate_hz=(1.0, 5.0), plateau_rate_hz=0.0)


def planted(num_channels, num_samples, num_events, height, seed):
    """(white noise of sd 1 with events, their places)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num_channels, num_samples)).astype("float32")
    slots = rng.permutation(num_channels * (num_samples // 50 - 1))[:num_events]
    channels, samples = slots % num_channels, 50 * (slots // num_channels) + rng.integers(10, 30, num_events)
    for channel, sample in zip(channels, samples, strict=True):
        x[channel, sample - 2 : sample + 6] += height * SHAPE
    return x, set(zip(channels.tolist(), samples.tolist(), strict=True))


def imaged(seed, *, num_silent_cells=1, num_cells=6, seconds=8.0, rate=RATE, **options):
    return generate_voltage_imaging_recording(
        [seconds],
        rate,
        num_cells,
        2,
        num_silent_cells=num_silent_cells,
        membrane=SPIKES_ONLY,
        seed=seed,
        **options,
    )
