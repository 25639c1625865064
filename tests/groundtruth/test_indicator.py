"""Sites respond as cable, indicator and sampling say."""

import numpy as np
import pytest
from imaging_helpers import ALIKE, FINE, RATE, generate, isolated_potential, measured, spread
from scipy.special import expit

from si_neuroml.groundtruth import DendriteSettings, IndicatorSettings, as_membrane_potential
from si_neuroml.groundtruth.indicator import Site, site_activation

PLAIN_SITE = Site(0.0, 1.0, 0.0, -65.0, -35.0, 15.0, 0.8, 2.5)


@pytest.fixture(scope="module")
def isolated():
    return isolated_potential()


def test_sites_follow_each_other_with_the_conduction_speed(isolated):
    dendrite = DendriteSettings(
        first_site_um=60.0,
        site_spacing_um=30.0,
        conduction_speed_um_per_ms=50.0,
        low_pass_ms_per_100um=0.0,
        attenuation_length_um=1e6,
    )
    truth = generate(isolated, sites=4, dendrite=dendrite)
    samples = truth.events["sample_index"].reshape(-1, 4)
    assert np.array_equal(truth.events["channel_index"].reshape(-1, 4)[0], np.arange(4))
    delays = samples.mean(axis=0) - samples.mean(axis=0)[0]
    assert delays == pytest.approx(np.arange(4) * 0.6e-3 * RATE, abs=0.25)
    spikes = truth.sorting.get_unit_spike_train("cell0")
    assert np.array_equal(spikes, (isolated.spike_samples / FINE * RATE).astype(int))
    places = truth.recording.get_channel_locations()
    assert np.allclose(places[:, 1], [60, 90, 120, 150])
    assert truth.parameters["sites"]["delay_ms"] == pytest.approx([1.2, 1.8, 2.4, 3.0])


def test_attenuation_and_low_pass_weaken_the_response(isolated):
    base = {"first_site_um": 0.0, "site_spacing_um": 100.0, "conduction_speed_um_per_ms": 1e6}
    # nearly proportional to the potential, and at once
    indicator = IndicatorSettings(half_activation_mv=-20.0, slope_mv=100.0, on_ms=0.01, off_ms=0.01)
    peak = {}
    for name, length, low_pass in (("none", 1e6, 0.0), ("far", 100.0, 0.0), ("slow", 1e6, 0.5)):
        dendrite = DendriteSettings(**base, attenuation_length_um=length, low_pass_ms_per_100um=low_pass)
        events = generate(isolated, sites=2, dendrite=dendrite, indicator=indicator).events
        peak[name] = np.array([np.abs(events["amplitude"][events["channel_index"] == k]).mean() for k in range(2)])
    assert peak["none"][1] == pytest.approx(peak["none"][0], rel=1e-3)
    assert peak["far"][0] == pytest.approx(peak["none"][0], rel=1e-3)
    assert peak["far"][1] == pytest.approx(peak["far"][0] / np.e, rel=0.05)
    # the peak of a Gaussian of 0.4 ms after a low-pass of 0.5 ms, by direct convolution
    t = np.arange(-3, 6, 1e-3)
    smooth = np.convolve(np.exp(-0.5 * (t / 0.4) ** 2), np.exp(-np.arange(0, 5, 1e-3) / 0.5) * 2e-3)
    assert peak["slow"][1] == pytest.approx(peak["slow"][0] * smooth.max(), rel=0.08)


def test_steady_state_is_the_boltzmann_curve():
    for potential in (-120.0, -65.0, -35.0, 0.0, 40.0):
        activation = site_activation(np.full(100, potential, dtype=np.float32), FINE, PLAIN_SITE)
        assert np.allclose(activation, expit((potential + 35) / 15), atol=1e-6)
        # also when it comes from elsewhere
        step = np.concatenate([[-65.0], np.full(4000, potential)]).astype(np.float32)
        assert site_activation(step, FINE, PLAIN_SITE)[-1] == pytest.approx(expit((potential + 35) / 15), abs=1e-6)


def test_time_constants_are_those_of_a_step():
    step = np.full(3000, -65.0, dtype=np.float32)
    step[1000:2000] = 20.0
    activation = site_activation(step, FINE, PLAIN_SITE).astype(float)
    high, low = expit(55 / 15), expit(-30 / 15)
    for window, target, tau_ms in ((slice(1000, 1060), high, 0.8), (slice(2000, 2200), low, 2.5)):
        left = np.log(np.abs(activation[window] - target))
        slope = np.polyfit(np.arange(len(left)) / FINE * 1e3, left, 1)[0]
        assert -1 / slope == pytest.approx(tau_ms, rel=1e-3)


def test_delay_may_be_a_part_of_a_sample():
    ramp = np.linspace(-65, -64, 1001).astype(np.float32)
    late = Site(1.23, 1.0, 0.0, -65.0, -65.0, 15.0, 1e-9, 1e-9)
    activation = site_activation(ramp, FINE, late)
    potential = -65 + 15 * np.log(activation / (1 - activation.astype(float)))
    shift = (ramp[500:] - potential[500:]).mean() / (ramp[1] - ramp[0])
    assert shift == pytest.approx(1.23e-3 * FINE, abs=0.05)


def test_a_sample_is_the_mean_over_its_interval():
    """A rhythm near the sampling rate: point samples would show it in full, means nearly nothing."""
    rate, duration = 500.0, 4.0
    fine = np.arange(int(duration * 40_000)) / 40_000
    potential = as_membrane_potential(-35 + 10 * np.sin(2 * np.pi * 430 * fine), 40_000.0, np.zeros(0, dtype=int))
    indicator = IndicatorSettings(half_activation_mv=-35.0, slope_mv=20.0, on_ms=0.01, off_ms=0.01, modulation=0.5)
    truth = generate(potential, dendrite=ALIKE, indicator=indicator, sampling_frequency=rate)
    photons = truth.noise_free.get_traces()[:, 0].astype(float)
    dense = np.arange(int(duration * 500) * 800) / 400_000
    activation = expit(10 * np.sin(2 * np.pi * 430 * dense) / 20).reshape(-1, 800).mean(axis=1)
    direct = 2000 * (0.8 * (1 - 0.5 * (activation - 0.5)) + 0.2)
    assert np.abs(photons - direct).max() < 3
    assert 20 < np.ptp(direct) < 0.2 * 800 * np.ptp(expit(10 * np.sin(2 * np.pi * 430 * dense[:4000]) / 20))


@pytest.mark.parametrize("rate", [7_000.0, 50_000.0])
def test_measured_potentials_are_resampled_in_place(rate):
    """The same spikes at another rate give the same recording."""
    times = spread(np.arange(0.05, 1.9, 0.05))
    reference, other = (generate(measured(times, 2.0, r), seed=3) for r in (100_000.0, rate))
    a, b = (truth.noise_free.get_traces()[:, 0] for truth in (reference, other))
    # a spike moves to the nearest sample of its own trace, by up to 71 us at 7 kHz
    assert np.corrcoef(a, b)[0, 1] > (0.99 if rate < 1e4 else 0.999)
    assert np.abs(reference.events["sample_index"] - other.events["sample_index"]).max() <= 1
    assert other.d_prime == pytest.approx(reference.d_prime, rel=0.03)
