"""The sampler against what it must leave invariant: energy, time, known posteriors, and the prior itself (SBC)."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import chisquare, kstest

from si_neuroml.errors import InputError
from si_neuroml.localization.chain_summary import split_r_hat_and_ess
from si_neuroml.localization.hmc import HMC_PRESETS, HMCSettings, hmc_settings, sample_posterior
from si_neuroml.localization.hmc_chains import leapfrog, log_posterior
from si_neuroml.localization.observation import ObservationModel

QUICK = HMCSettings(num_chains=2, num_warmup=100, num_samples=40)
QUIET = {"n_jobs": 1, "progress_bar": False}
RATE = 30_000.0
NOISE_UV = 5.0


def square_of_contacts(per_side=3, pitch_um=15.0):
    steps = (np.arange(per_side) - (per_side - 1) / 2) * pitch_um
    x, y = np.meshgrid(steps, steps)
    return np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])


def simulated_spikes(places, sources, observation, rng, contacts=None):
    """Amplitudes that the model makes of places and source amplitudes, with its noise."""
    contacts = np.repeat((square_of_contacts() if contacts is None else contacts)[None], len(places), axis=0)
    footprint = observation.footprint(places, contacts)
    amplitudes = sources[:, None] * footprint + rng.normal(0, observation.noise_std_uv, footprint.shape)
    return amplitudes, contacts, np.ones(amplitudes.shape)


def easy_spikes(num_spikes, seed=0, observation=None):
    rng = np.random.default_rng(seed)
    places = np.column_stack([rng.uniform(-8, 8, (num_spikes, 2)), rng.uniform(10, 25, num_spikes)])
    observation = observation or ObservationModel(noise_std_uv=NOISE_UV)
    return (*simulated_spikes(places, rng.uniform(150, 300, num_spikes), observation, rng), observation), places


def one_density(seed=0):
    """Arguments of the kernels for one spike, and a position with a momentum."""
    (amplitudes, contacts, _, observation), _ = easy_spikes(1, seed)
    model = np.array([observation.decay_per_um, 25.0, 2 * amplitudes.max(), 50.0, 80.0])
    return (amplitudes[0], contacts[0], model), np.array([3.0, -4.0, 18.0, 220.0]), np.array([0.7, -0.4, 0.5, 0.1])


# --- the integrator and the density


@pytest.mark.parametrize("misfit", [0.0, 0.1])
def test_gradient_is_that_of_the_observation_model(misfit):
    observation = ObservationModel(noise_std_uv=3.0, misfit_fraction=misfit, location_prior_std_um=60.0)
    (amplitudes, contacts, observed, _), _ = easy_spikes(1, seed=1, observation=observation)
    for position in ([3.0, -4.0, 18.0, 220.0], [-40.0, 2.0, -5.0, 60.0], [0.0, 0.0, 0.0, 100.0]):
        place, source = torch.tensor([position[:3]]).double(), torch.tensor(position[3:]).double()
        place.requires_grad_()
        source.requires_grad_()
        tensors = [torch.from_numpy(array) for array in (amplitudes, observed)]
        footprint = observation.footprint(place, torch.from_numpy(contacts))
        density = observation.log_likelihood(footprint, source, *tensors)
        density = density + observation.amplitude_log_prior(source, tensors[0]) - 0.5 * (place / 60.0).square().sum()
        density.sum().backward()
        variance = observation.noise_variance(amplitudes)[0, 0]
        model = np.array([observation.decay_per_um, variance, 2 * amplitudes.max(), 50.0, 60.0])
        gradient = np.empty(4)
        found = log_posterior(np.array(position), amplitudes[0], contacts[0], model, gradient)
        assert found == pytest.approx(float(density.detach()), rel=1e-12)
        expected = np.concatenate([place.grad[0].numpy(), source.grad.numpy()])
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


def test_leapfrog_runs_backwards():
    density, position, momentum = one_density()
    inverse_mass = np.array([1.0, 2.0, 0.5, 30.0])
    moved, kicked = position.copy(), momentum.copy()
    leapfrog(moved, kicked, *density, inverse_mass, 0.05, 50)
    assert np.abs(moved - position).max() > 1.0
    kicked *= -1.0
    leapfrog(moved, kicked, *density, inverse_mass, 0.05, 50)
    np.testing.assert_allclose(moved, position, rtol=0, atol=1e-9)
    np.testing.assert_allclose(-kicked, momentum, rtol=0, atol=1e-9)


def test_energy_error_falls_with_the_square_of_the_step():
    density, position, momentum = one_density()
    errors = []
    for num_steps in (64, 128, 256, 512):
        start, end = leapfrog(position.copy(), momentum.copy(), *density, np.ones(4), 6.0 / num_steps, num_steps)
        errors.append(abs(end - start))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    np.testing.assert_allclose(ratios[-2:], 4.0, atol=0.4)


# --- known posteriors


def test_with_nothing_observed_the_chains_sample_the_prior():
    observation = ObservationModel(location_prior_std_um=80.0)
    arrays = np.full((8, 9), np.nan), np.zeros((8, 9, 3)), np.zeros((8, 9))
    found = sample_posterior(
        *arrays, observation, HMCSettings(), np.arange(8), 0, amplitude_prior_mean=120.0, return_samples=True
    )
    draws = found.samples[:, :, ::20].reshape(-1, 4)
    for axis in (0, 1):
        assert kstest(draws[:, axis] / 80.0, "norm").pvalue > 1e-3
    assert kstest(draws[:, 2] / 80.0, "halfnorm").pvalue > 1e-3
    assert kstest((draws[:, 3] - 120.0) / 50.0, "norm").pvalue > 1e-3
    # and the summary is the prior itself
    np.testing.assert_allclose(found.mean, np.tile([0, 0, 80.0 * np.sqrt(2 / np.pi)], (8, 1)))
    np.testing.assert_allclose(found.covariance[0], np.diag([6400, 6400, 6400 * (1 - 2 / np.pi)]))
    np.testing.assert_allclose(found.source_amplitude, 120.0)
    assert (found.r_hat == 1).all()
    signed = sample_posterior(*arrays, observation, QUICK, np.arange(8), 0, planar=False)
    np.testing.assert_allclose(signed.covariance[0], 6400 * np.eye(3))
    np.testing.assert_array_equal(signed.mean, 0)


def test_many_contacts_give_the_gaussian_of_laplace():
    observation = ObservationModel(noise_std_uv=2.0)
    rng = np.random.default_rng(5)
    contacts = square_of_contacts(per_side=15, pitch_um=8.0)
    place, source = np.array([[2.0, -3.0, 20.0]]), np.array([200.0])
    amplitudes, offsets, observed = simulated_spikes(place, source, observation, rng, contacts)
    model = np.array([observation.decay_per_um, 4.0, 180.0, 50.0, 80.0])
    gradient = np.empty(4)

    def slope(position):
        log_posterior(position, amplitudes[0], offsets[0], model, gradient)
        return -gradient.copy()

    def energy(position):
        return -log_posterior(position, amplitudes[0], offsets[0], model, gradient)

    mode = minimize(energy, np.append(place[0], source), jac=slope, method="BFGS").x
    steps = 1e-4 * np.eye(4)
    curvature = np.stack([(slope(mode + step) - slope(mode - step)) / 2e-4 for step in steps])
    covariance = np.linalg.inv(0.5 * (curvature + curvature.T))
    settings = HMCSettings(num_samples=2000)
    found = sample_posterior(
        amplitudes, offsets, observed, observation, settings, np.array([1]), 0, amplitude_prior_mean=180.0
    )
    std = np.sqrt(np.diag(covariance))
    assert found.r_hat[0] < 1.01
    assert found.ess[0] > 1000
    np.testing.assert_allclose(found.mean[0], mode[:3], atol=0.15 * std[:3].max())
    scale = np.outer(std[:3], std[:3])
    np.testing.assert_allclose(found.covariance[0] / scale, covariance[:3, :3] / scale, atol=0.12)
    assert found.source_amplitude[0] == pytest.approx(mode[3], abs=0.2 * std[3])
    assert found.num_divergent[0] == 0


# --- simulation-based calibration (Talts et al. 2018)


def rank_pvalues(assumed_noise_uv, num_spikes=200, seed=11):
    """p of uniform ranks of the true x, y, abs(z), a among draws, when the noise is in truth 5 uV."""
    rng = np.random.default_rng(seed)
    truth = ObservationModel(noise_std_uv=NOISE_UV, location_prior_std_um=25.0, amplitude_prior_std_uv=30.0)
    assumed = ObservationModel(noise_std_uv=assumed_noise_uv, location_prior_std_um=25.0, amplitude_prior_std_uv=30.0)
    places, sources = rng.normal(0, 25.0, (num_spikes, 3)), rng.normal(150.0, 30.0, num_spikes)
    spikes = simulated_spikes(places, sources, truth, rng)
    found = sample_posterior(
        *spikes, assumed, HMCSettings(), np.arange(num_spikes), 0, amplitude_prior_mean=150.0, return_samples=True
    )
    draws = found.samples[:, :, 11::12].reshape(num_spikes, -1, 4)[:, :99]
    true = np.column_stack([places[:, :2], np.abs(places[:, 2]), sources])
    ranks = (draws < true[:, None, :]).sum(axis=1)
    return [chisquare(np.bincount(ranks[:, k] // 10, minlength=10)).pvalue for k in range(4)]


def test_ranks_of_the_truth_are_uniform_and_not_when_the_noise_is_wrong():
    assert min(rank_pvalues(NOISE_UV)) > 1e-3
    assert max(rank_pvalues(NOISE_UV / 3)[:2]) < 1e-6


# --- diagnostics


def test_diagnostics_of_known_series():
    rng = np.random.default_rng(2)
    independent = rng.normal(size=(4, 2000))
    r_hat, ess = split_r_hat_and_ess(independent)
    assert r_hat == pytest.approx(1.0, abs=0.005)
    assert ess == pytest.approx(8000, rel=0.15)
    correlated = independent.copy()
    for i in range(1, 2000):
        correlated[:, i] = 0.8 * correlated[:, i - 1] + 0.6 * independent[:, i]
    assert split_r_hat_and_ess(correlated)[1] == pytest.approx(8000 * 0.2 / 1.8, rel=0.2)
    apart = independent + np.array([[0.0], [0.0], [0.0], [3.0]])
    assert split_r_hat_and_ess(apart)[0] > 1.3
    drifting = independent[:1] + np.linspace(0, 4, 2000)
    assert split_r_hat_and_ess(drifting)[0] > 1.3
    assert split_r_hat_and_ess(np.zeros((2, 10))) == (np.inf, 1.0)


def test_easy_spikes_converge_and_the_settings_of_the_paper_mix_worse():
    spikes, places = easy_spikes(12)
    sound = sample_posterior(*spikes, HMCSettings(), np.arange(12), 0)
    paper = sample_posterior(*spikes, HMC_PRESETS["hurwitz2019"], np.arange(12), 0)
    assert sound.r_hat.max() < 1.03
    assert sound.ess.min() > 200
    assert ((sound.accept_rate > 0.7) & (sound.accept_rate < 1)).all()
    assert sound.num_divergent.sum() == 0
    assert np.median(paper.r_hat) > 1.05
    assert np.median(paper.ess) < 0.1 * np.median(sound.ess)
    std = np.sqrt(np.diagonal(sound.covariance, axis1=1, axis2=2))
    assert (np.abs(sound.mean - places)[:, :2] < 4 * std[:, :2]).all()


# --- batches and borders


def test_a_spike_depends_on_nothing_but_itself():
    spikes, _ = easy_spikes(6)
    *arrays, observation = spikes
    keys = np.arange(12).reshape(6, 2)
    whole = sample_posterior(*arrays, observation, QUICK, keys, 3)
    order = np.array([4, 1, 5])
    part = sample_posterior(*(array[order] for array in arrays), observation, QUICK, keys[order], 3)
    for one, other in zip(whole[:-1], part[:-1], strict=True):
        np.testing.assert_array_equal(one[order], other)
    # slots that hold nothing change nothing
    amplitudes, contacts, observed = (np.concatenate([array, array[:, :4] * 0], axis=1) for array in arrays)
    amplitudes[:, 9:], contacts[:, 9:] = np.nan, 1e3
    padded = sample_posterior(amplitudes, contacts, observed, observation, QUICK, keys, 3)
    np.testing.assert_array_equal(padded.mean, whole.mean)
    for changes in ({"keys": keys + 1, "seed": 3}, {"keys": keys, "seed": 4}):
        other = sample_posterior(*arrays, observation, QUICK, **changes)
        assert (other.mean != whole.mean).all()


def test_one_spike_none_and_spikes_without_amplitude():
    spikes, _ = easy_spikes(1)
    one = sample_posterior(*spikes, QUICK, np.array([7]), 0, return_samples=True)
    assert one.samples.shape == (1, 2, 40, 4)
    np.testing.assert_allclose(one.mean[0], one.samples[0].reshape(-1, 4).mean(axis=0)[:3])
    np.testing.assert_allclose(one.covariance[0], np.cov(one.samples[0].reshape(-1, 4)[:, :3].T))
    none = sample_posterior(*(array[:0] for array in spikes[:3]), spikes[3], QUICK, np.zeros(0, int), 0)
    assert none.mean.shape == (0, 3)
    flat = sample_posterior(np.zeros((3, 9)), *(a.repeat(3, 0) for a in spikes[1:3]), spikes[3], QUICK, np.arange(3), 0)
    for values in flat[:-1]:
        assert np.isfinite(values).all()


def test_z_is_a_distance_where_its_sign_is_unknown():
    spikes, _ = easy_spikes(4)
    planar = sample_posterior(*spikes, QUICK, np.arange(4), 0, return_samples=True)
    assert (planar.samples[..., 2] >= 0).all()
    assert (planar.mean[:, 2] > 5).all()
    signed = sample_posterior(*spikes, QUICK, np.arange(4), 0, planar=False, return_samples=True)
    assert (signed.samples[..., 2] < 0).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_chains": 0}, "num_chains must be a whole number of at least 1, got 0"),
        ({"num_samples": 3}, "num_samples must be a whole number of at least 4, got 3"),
        ({"num_warmup": 20}, "warm-up of at least 100 iterations, num_warmup is 20"),
        ({"step_size": -0.1}, r"step_size must be a number between 0 and inf, got -0\.1"),
        ({"num_leapfrog": 2.5}, r"num_leapfrog must be a whole number of at least 1, got 2\.5"),
        ({"target_accept": 1.0}, r"target_accept must be a number between 0 and 1, got 1\.0"),
        ({"trajectory_length": float("nan")}, "trajectory_length must be a number .*got nan"),
        ({"start": "soma"}, "start must be"),
        ({"preset": "hurwitz"}, r"preset must be None or one of \['hurwitz2019'\], got 'hurwitz'"),
        ({"steps": 3}, r"Unknown HMC settings \['steps'\]; known are"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        hmc_settings(**changes)


def test_bad_arrays_are_refused():
    (amplitudes, contacts, observed, observation), _ = easy_spikes(2)
    keys = np.arange(2)
    with pytest.raises(InputError, match="must have shapes"):
        sample_posterior(amplitudes[:, :4], contacts, observed, observation, QUICK, keys, 0)
    with pytest.raises(InputError, match="keys must be whole numbers for 2 spikes"):
        sample_posterior(amplitudes, contacts, observed, observation, QUICK, keys[:1], 0)
    with pytest.raises(InputError, match="seed must be a whole number"):
        sample_posterior(amplitudes, contacts, observed, observation, QUICK, keys, -1)
    with pytest.raises(InputError, match="must be finite and positive"):
        sample_posterior(amplitudes, contacts, observed, ObservationModel(noise_std_uv=0.0), QUICK, keys, 0)
    amplitudes[1, 2] = np.nan
    with pytest.raises(InputError, match="1 of 2 spikes have observed amplitudes or contacts that are not finite"):
        sample_posterior(amplitudes, contacts, observed, observation, QUICK, keys, 0)
