"""Photons follow bleaching, motion and pulsation, and their noise decides what can be detected."""

import numpy as np
import pytest
from imaging_helpers import RATE, changed, flat, generate, measured, spread

from si_neuroml.groundtruth import DendriteSettings, MotionSettings, generate_voltage_imaging_recording
from si_neuroml.groundtruth.optics import recorded_photons


def test_residue_of_a_denoiser_is_small_and_coloured():
    drawn = {"residue_fraction": 0.3, "residue_correlation": 0.8}
    expected = np.full(200_000, 1500.0)
    residue = recorded_photons(np.random.default_rng(0), expected, "denoised", drawn) - expected
    assert residue.std() == pytest.approx(0.3 * np.sqrt(1500), rel=0.03)
    for lag in (1, 2, 3):
        assert np.corrcoef(residue[:-lag], residue[lag:])[0, 1] == pytest.approx(0.8**lag, abs=0.02)
    assert np.array_equal(recorded_photons(np.random.default_rng(0), expected, "none", drawn), expected)


@pytest.mark.parametrize("polarity", ["neg", "pos"])
def test_d_prime_is_that_of_a_matched_filter(polarity):
    """Action potentials in every other slot of 30 ms: how well does the best filter tell them from empty slots?"""
    slots = np.arange(0.06, 59.9, 0.06)
    potential = measured(spread(slots), 60.0)
    options = {"noise": "shot", "imaging": changed(photons_per_sample=800.0), "polarity": polarity}
    truth = generate(potential, sites=2, dendrite=DendriteSettings(attenuation_length_um=100.0), **options)
    starts = (slots * RATE).astype(int) - 15
    window = np.arange(90)
    for channel in range(2):
        photons = truth.recording.get_traces()[:, channel].astype(float)
        expected = truth.noise_free.get_traces()[:, channel].astype(float)
        weights = expected[starts[:, None] + window] / 800 - 1
        present = (weights * (photons[starts[:, None] + window] - 800)).sum(axis=1)
        absent = (weights * (photons[starts[:, None] + 95 + window] - 800)).sum(axis=1)
        empirical = (present.mean() - absent.mean()) / absent.std()
        assert truth.d_prime[channel] == pytest.approx(empirical, rel=0.1)
        assert 2 < truth.d_prime[channel] < 20
    assert truth.d_prime[1] < truth.d_prime[0]
    assert np.array_equal(truth.recording.get_property("d_prime"), truth.d_prime)


def test_bleaching_is_bi_exponential():
    imaging = changed(fast_bleach_fraction=0.1, fast_bleach_s=2.0, slow_bleach_fraction=0.3, slow_bleach_s=60.0)
    photons = generate(flat(), imaging=imaging).noise_free.get_traces()[:, 0]
    t = np.arange(len(photons)) / RATE
    indicator = 0.6 + 0.1 * np.exp(-t / 2) + 0.3 * np.exp(-t / 60)
    assert np.allclose(photons, 2000 * (0.8 * indicator + 0.2), rtol=1e-5)


def test_motion_is_shared_by_all_sites():
    imaging = changed(focus_um=4.0, focus_offset_um=(-1.0, 1.0))
    motion = MotionSettings(step_rate_hz=0.3, transient_rate_hz=1.0, size_um=0.5)
    truth = generate_voltage_imaging_recording(
        membrane_potential=[flat(), flat()], sites_per_cell=2, imaging=imaging, motion=motion, noise="none"
    )
    offset, width = (truth.parameters["sites"][name] for name in ("focus_offset_um", "focus_um"))
    factor = np.log(truth.noise_free.get_traces().astype(float) / 2000)
    # log factor = -(2 offset m + m^2) / (2 width^2): two sites tell m, the others must agree
    difference = (factor[:, 0] - factor[:, 1]) * width[0] ** 2 / (offset[1] - offset[0])
    assert np.ptp(difference) > 0.5
    for site in range(4):
        assert np.allclose(
            factor[:, site], -(2 * offset[site] * difference + difference**2) / (2 * width[site] ** 2), atol=1e-4
        )


def test_pulsation_is_a_heart_beat():
    motion = MotionSettings(step_rate_hz=0.0, transient_rate_hz=0.0, pulsation_hz=9.0)
    photons = generate(flat(), imaging=changed(pulsation_fraction=0.01), motion=motion).noise_free.get_traces()[:, 0]
    power = np.abs(np.fft.rfft(photons / photons.mean() - 1)) ** 2
    frequency = np.fft.rfftfreq(len(photons), 1 / RATE)
    assert abs(frequency[power.argmax()] - 9) < 0.7
    assert np.std(photons) / photons.mean() == pytest.approx(0.01 * np.sqrt((1 + 0.09) / 2), rel=0.1)


def test_drift_is_slow():
    photons = generate(flat(60.0), imaging=changed(drift_fraction=0.02, drift_s=2.0)).noise_free.get_traces()[:, 0]
    assert photons.std() / photons.mean() == pytest.approx(0.02, rel=0.4)
    assert np.abs(np.diff(photons)).max() < 1
