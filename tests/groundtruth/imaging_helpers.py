"""Potentials, light and motion of the voltage-imaging tests."""

import numpy as np

from si_neuroml.groundtruth import (
    DendriteSettings,
    ImagingSettings,
    MotionSettings,
    as_membrane_potential,
    generate_voltage_imaging_recording,
)

RATE = 3328.0
FINE = 20_000.0
# light that never changes by itself, and sites that all get the same
STEADY = ImagingSettings(
    photons_per_sample=2000.0,
    background_fraction=0.2,
    fast_bleach_fraction=0.0,
    slow_bleach_fraction=0.0,
    drift_fraction=0.0,
    pulsation_fraction=0.0,
    focus_um=1000.0,
)
STILL = MotionSettings(step_rate_hz=0.0, transient_rate_hz=0.0)
ALIKE = DendriteSettings(attenuation_length_um=1e6, low_pass_ms_per_100um=0.0, conduction_speed_um_per_ms=1e6)
QUIET = {"imaging": STEADY, "motion": STILL}


def measured(spike_times, duration, rate=FINE, height=90.0):
    """Gaussian action potentials on a flat potential; -65 mV."""
    times = np.arange(int(duration * rate)) / rate
    spikes = np.round(np.asarray(spike_times) * rate).astype(int)
    trace = np.full(len(times), -65.0)
    half = int(3e-3 * rate)
    wave = height * np.exp(-0.5 * (np.arange(-half, half + 1) / rate / 0.4e-3) ** 2)
    for spike in spikes:
        trace[spike - half : spike + half + 1] += wave
    return as_membrane_potential(trace, rate, spikes)


def generate(potential, sites=1, **options):
    return generate_voltage_imaging_recording(
        membrane_potential=[potential], sites_per_cell=sites, **(QUIET | {"noise": "none"} | options)
    )


def spread(times):
    """Times at any phase of a sample."""
    return times + np.random.default_rng(0).uniform(0, 1e-3, len(times))


def flat(duration=20.0, rate=4000.0):
    return as_membrane_potential(np.full(int(duration * rate), -65.0), rate, np.zeros(0, dtype=int))


def changed(**options):
    return ImagingSettings(**{name: getattr(STEADY, name) for name in STEADY.__dataclass_fields__} | options)


def isolated_potential():
    """Action potentials 50 ms apart."""
    return measured(spread(np.arange(0.05, 9.9, 0.05)), 10.0)
