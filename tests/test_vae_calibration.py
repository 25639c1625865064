"""The VAE's uncertainty: under its own model by simulation-based calibration, and widened for somas."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2, ks_2samp
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

import si_neuroml
from si_neuroml.calibration import calibration_error, coverage, rank_statistics, uniformity_p_value
from si_neuroml.errors import InputError
from si_neuroml.localization.hmc import HMCSettings, sample_posterior
from si_neuroml.localization.model import SOMA_AMPLITUDES_UV, SOMA_POWER, SOMA_STD_UM, soma_variance
from si_neuroml.localization.observation import ObservationModel
from si_neuroml.localization.settings import PRESETS, LocalizerSettings
from si_neuroml.localization.simulate_model import draw_spikes, model_training_rows
from si_neuroml.localization.vae import train_vae

CONTACTS = np.array([[x, y, 0.0] for y in (-15, 0, 15) for x in (-15, 0, 15)])
OBSERVATION = ObservationModel(noise_std_uv=5.0, location_prior_std_um=30.0)
QUIET = {"n_jobs": 1, "progress_bar": False}


# --- spikes of the model


def test_drawn_spikes_are_centred_and_follow_the_model():
    spikes = draw_spikes(OBSERVATION, CONTACTS, 3000, largest_uv=(50.0, 120.0))
    largest = spikes.amplitudes.max(axis=1)
    np.testing.assert_array_equal(spikes.amplitudes.argmax(axis=1), 4)
    assert largest.min() >= 50
    assert largest.max() <= 120
    noise = spikes.amplitudes - spikes.source_amplitudes[:, None] * OBSERVATION.footprint(
        spikes.places, spikes.contact_offsets
    )
    # the centre's noise is pushed up by being the largest, that of the corners hardly down
    assert noise[:, [0, 2, 6, 8]].std() == pytest.approx(5.0, rel=0.05)
    # both sides of the plane, and both sides of the centre, are alike
    assert ks_2samp(spikes.places[:, 2], -spikes.places[:, 2]).pvalue > 1e-3
    assert ks_2samp(spikes.places[:, 0], -spikes.places[:, 1]).pvalue > 1e-3
    again = draw_spikes(OBSERVATION, CONTACTS, 3000, largest_uv=(50.0, 120.0))
    np.testing.assert_array_equal(again.amplitudes, spikes.amplitudes)


def test_hmc_is_calibrated_on_drawn_spikes():
    """What is drawn has the posterior that the model writes down, its prior of the amplitude included."""
    spikes = draw_spikes(OBSERVATION, CONTACTS, 100, seed=1)
    settings, keys = HMCSettings(num_samples=200), np.arange(100)
    found = sample_posterior(*spikes[2:], OBSERVATION, settings, keys, 0, return_samples=True)
    draws = found.samples[:, :, 7::8].reshape(100, -1, 4)[:, :99]
    truth = np.column_stack([spikes.places[:, :2], np.abs(spikes.places[:, 2]), spikes.source_amplitudes])
    ranks = rank_statistics(draws, truth)
    assert min(uniformity_p_value(ranks[:, k], 100, 10) for k in range(4)) > 1e-3
    # ... and no other: half the prior factor puts the amplitudes elsewhere
    wrong = replace(OBSERVATION, amplitude_prior_factor=1.0)
    draws = sample_posterior(*spikes[2:], wrong, settings, keys, 0, return_samples=True).samples
    ranks = rank_statistics(draws[:, :, 7::8].reshape(100, -1, 4)[:, :99], truth)
    assert uniformity_p_value(ranks[:, 3], 100, 10) < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation": ObservationModel(misfit_fraction=0.1)}, "misfit_fraction is 0.1"),
        ({"contact_offsets": CONTACTS[:4]}, "a contact at 0"),
        ({"largest_uv": (100.0, 50.0)}, "largest_uv rise"),
        ({"num_spikes": 0}, "num_spikes must be at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes, message):
    arguments = {"observation": OBSERVATION, "contact_offsets": CONTACTS, "num_spikes": 5} | changes
    with pytest.raises(InputError, match=message):
        draw_spikes(**arguments)


# --- the VAE under its own model


@pytest.fixture(scope="module")
def posterior_and_truth():
    """Mean and variance of q on new spikes of the model that it was trained on, and their places."""
    rows = model_training_rows(draw_spikes(OBSERVATION, CONTACTS, 8000))
    settings = LocalizerSettings(epochs=25, hidden_sizes=(128, 64), learning_rate=3e-3)
    encoder, _, _ = train_vae(rows, settings, OBSERVATION, device="cpu", progress_bar=False)
    spikes = draw_spikes(OBSERVATION, CONTACTS, 2000, seed=1)
    return *encoder(model_training_rows(spikes).inputs), spikes


def test_places_are_recovered(posterior_and_truth):
    mean, _, spikes = posterior_and_truth
    error = np.linalg.norm(mean[:, :2] - spikes.places[:, :2], axis=1)
    weights = spikes.amplitudes.clip(min=0)
    mass = (weights[:, :, None] * CONTACTS[None, :, :2]).sum(1) / weights.sum(1)[:, None]
    assert np.median(error) < 3.5
    assert np.median(error) < 0.6 * np.median(np.linalg.norm(mass - spikes.places[:, :2], axis=1))
    assert np.corrcoef(np.abs(mean[:, 2]), np.abs(spikes.places[:, 2]))[0, 1] > 0.5


def test_variational_posterior_is_too_narrow_by_no_more_than_we_say(posterior_and_truth):
    """Not exact, and not hidden: q has a diagonal covariance and takes the amplitude as known."""
    mean, variance, spikes = posterior_and_truth
    level = chi2.cdf(((mean - spikes.places)[:, :2] ** 2 / variance[:, :2]).sum(axis=1), 2)
    found = coverage(level)
    np.testing.assert_array_less(found.observed, found.nominal)
    np.testing.assert_allclose(found.observed, found.nominal, atol=0.25)
    draws = mean[:, None] + np.sqrt(variance)[:, None] * np.random.default_rng(0).normal(size=(len(mean), 99, 3))
    ranks = rank_statistics(np.abs(draws), np.abs(spikes.places))
    distance = [calibration_error((ranks[:, k] + 0.5) / 100) for k in range(3)]
    assert max(distance) < 0.2


# --- the soma


def test_soma_variance_falls_with_the_amplitude_and_stays_put_outside_the_range_it_was_fitted_in():
    np.testing.assert_allclose(soma_variance(np.array([100.0])), np.square([SOMA_STD_UM]), rtol=1e-6)
    low, high = SOMA_AMPLITUDES_UV
    variance = soma_variance(np.linspace(low, high, 20))
    assert (np.diff(variance, axis=0) < 0).all()
    np.testing.assert_array_equal(soma_variance(np.array([0.0, 1e9])), variance[[0, -1]])
    assert variance.dtype == np.float32
    ratio = np.sqrt(variance[0] / variance[-1])
    np.testing.assert_allclose(ratio, (high / low) ** np.array(SOMA_POWER), rtol=1e-5)


def test_the_soma_widens_the_residual_width_and_moves_no_place(mearec_small, peaks_small, vae_model_small):
    found = {
        std_noise: localize_peaks(
            mearec_small[0],
            peaks_small,
            method="vae",
            method_kwargs={"model": vae_model_small.with_std_noise(std_noise)},
            job_kwargs=QUIET,
        )
        for std_noise in ("model", "residual", "soma")
    }
    most, least = soma_variance(np.array(SOMA_AMPLITUDES_UV))
    cap = vae_model_small.observation.location_prior_std_um
    for index, axis in enumerate("xyz"):
        for std_noise in ("model", "residual"):
            np.testing.assert_array_equal(found[std_noise][axis], found["soma"][axis])
        std = found["soma"][f"{axis}_std"]
        assert std.max() <= cap
        added = (std**2 - found["residual"][f"{axis}_std"] ** 2)[std < cap]
        assert (added > 0.99 * least[index]).all()
        assert (added < 1.01 * most[index]).all()
        assert (found["residual"][f"{axis}_std"] > found["model"][f"{axis}_std"]).mean() > 0.9


def test_soma_is_the_default_and_presets_keep_the_papers_width():
    assert LocalizerSettings().std_noise == "soma"
    assert PRESETS["hurwitz2019"].std_noise == "model"


def test_another_width_is_another_model_that_survives_saving(vae_model_small, tmp_path):
    assert vae_model_small.with_std_noise("soma") == vae_model_small
    for std_noise in ("residual", "model"):
        changed = vae_model_small.with_std_noise(std_noise)
        assert changed != vae_model_small
        changed.save(tmp_path / std_noise)
        loaded = si_neuroml.load_model(tmp_path / std_noise)
        assert loaded == changed
        assert loaded.settings.std_noise == std_noise
    assert vae_model_small.settings.std_noise == "soma"
    with pytest.raises(InputError, match="std_noise must be one of"):
        vae_model_small.with_std_noise("somata")
