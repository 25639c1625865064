"""The observation model against its definition, in numpy and torch alike."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from si_neuroml.localization.observation import ObservationModel


def random_spikes(seed, num_spikes=6, num_slots=9):
    rng = np.random.default_rng(seed)
    places = rng.normal(0, 25, (num_spikes, 3))
    offsets = np.concatenate(
        [rng.uniform(-40, 40, (num_spikes, num_slots, 2)), np.zeros((num_spikes, num_slots, 1))], 2
    )
    amplitudes = rng.uniform(0, 150, (num_spikes, num_slots))
    observed = (rng.random((num_spikes, num_slots)) < 0.8).astype(float)
    observed[:, 0] = 1
    return places, offsets, amplitudes * observed, observed


def test_footprint_is_the_exponential_of_the_distance():
    places, offsets, *_ = random_spikes(0)
    expected = np.exp(-0.035 * np.linalg.norm(places[:, None] - offsets, axis=2))
    np.testing.assert_allclose(ObservationModel().footprint(places, offsets), expected, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    noise=st.floats(0.5, 20),
    misfit=st.floats(0, 0.3),
    prior_std=st.floats(5, 200),
)
def test_profiled_amplitude_maximises_likelihood_times_prior(seed, noise, misfit, prior_std):
    model = ObservationModel(noise_std_uv=noise, misfit_fraction=misfit, amplitude_prior_std_uv=prior_std)
    places, offsets, amplitudes, observed = random_spikes(seed)
    footprint = model.footprint(places, offsets)
    found = model.source_amplitude(footprint, amplitudes, observed)

    def objective(source, spike):
        one = slice(spike, spike + 1)
        value = np.array([source])
        return -float(
            model.log_likelihood(footprint[one], value, amplitudes[one], observed[one])[0]
            + model.amplitude_log_prior(value, amplitudes[one])[0]
        )

    for spike in range(len(found)):
        best = minimize_scalar(objective, args=(spike,), bracket=(found[spike] - 50, found[spike] + 50), tol=1e-10)
        assert objective(found[spike], spike) <= best.fun + 1e-6 * abs(best.fun) + 1e-9
    assert (found > 0).all()


def test_densities_are_gaussian_up_to_a_constant():
    model = ObservationModel(noise_std_uv=3.0, misfit_fraction=0.1)
    places, offsets, amplitudes, observed = random_spikes(3)
    footprint = model.footprint(places, offsets)
    sigma = np.sqrt(9.0 + (0.1 * amplitudes.max(axis=1, keepdims=True)) ** 2)

    def reference(source):
        return (observed * norm.logpdf(amplitudes, source[:, None] * footprint, sigma)).sum(axis=1)

    one, other = np.full(6, 100.0), np.full(6, 170.0)
    difference = model.log_likelihood(footprint, one, amplitudes, observed) - model.log_likelihood(
        footprint, other, amplitudes, observed
    )
    np.testing.assert_allclose(difference, reference(one) - reference(other), rtol=1e-9)
    prior_mean = 2 * amplitudes.max(axis=1)
    expected = norm.logpdf(one, prior_mean, 50.0) - norm.logpdf(other, prior_mean, 50.0)
    found = model.amplitude_log_prior(one, amplitudes) - model.amplitude_log_prior(other, amplitudes)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_virtual_channels_say_nothing():
    model = ObservationModel()
    places, offsets, amplitudes, observed = random_spikes(4)
    observed[:, 5:] = 0
    footprint = model.footprint(places, offsets)
    amplitudes[:, 5:] = 0
    whole = model.source_amplitude(footprint, amplitudes, observed)
    cut = model.source_amplitude(footprint[:, :5], amplitudes[:, :5], observed[:, :5])
    np.testing.assert_allclose(whole, cut)
    np.testing.assert_allclose(
        model.log_likelihood(footprint, whole, amplitudes, observed),
        model.log_likelihood(footprint[:, :5], cut, amplitudes[:, :5], observed[:, :5]),
    )


@pytest.mark.parametrize("misfit", [0.0, 0.1])
def test_numpy_and_torch_agree(misfit):
    model = ObservationModel(misfit_fraction=misfit)
    arrays = random_spikes(5)
    tensors = [torch.from_numpy(array) for array in arrays]
    results = []
    for places, offsets, amplitudes, observed in (arrays, tensors):
        footprint = model.footprint(places, offsets)
        source = model.source_amplitude(footprint, amplitudes, observed)
        results.append([np.asarray(x) for x in (source, model.log_likelihood(footprint, source, amplitudes, observed))])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_gradient_is_finite_where_a_source_touches_a_contact():
    places = torch.zeros(1, 3, requires_grad=True)
    ObservationModel().footprint(places, torch.zeros(1, 4, 3)).sum().backward()
    assert torch.isfinite(places.grad).all()
