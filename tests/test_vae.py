"""The VAE: the objective against its definition, truth recovered on data drawn from the model, and folding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from si_neuroml.errors import InputError, TrainingError
from si_neuroml.localization.encoder import BLOCK_ROWS, Encoder, encoder_inputs, run_on_torch
from si_neuroml.localization.observation import ObservationModel
from si_neuroml.localization.settings import PRESETS, LocalizerSettings, localizer_settings
from si_neuroml.localization.vae import VAE, TrainingRows, _fold, train_vae
from si_neuroml.training import EarlyStopping, cosine_factor, minibatches, resolve_device, seeded

OFFSETS = np.array([[x, y, 0.0] for y in (-15, 0, 15) for x in (-15, 0, 15)], dtype="float32")
WAVEFORM = -np.exp(-0.5 * ((np.arange(20) - 8) / 2.0) ** 2).astype("float32")


def spikes_from_the_model(num_spikes, noise_std_uv, seed=0, virtual=0.0):
    """Spikes as the observation model says, each a scaled waveform on nine contacts around the strongest one."""
    rng = np.random.default_rng(seed)
    places = np.column_stack([rng.uniform(-9, 9, (num_spikes, 2)), rng.uniform(5, 25, num_spikes)])
    offsets = np.tile(OFFSETS, (num_spikes, 1, 1))
    model = ObservationModel(noise_std_uv=noise_std_uv)
    footprint = model.footprint(places, offsets)
    # the source amplitude as its prior expects it: about twice the largest trough
    source = 2 * rng.uniform(60, 150, num_spikes)
    amplitudes = source[:, None] * footprint + noise_std_uv * rng.normal(size=footprint.shape)
    observed = np.ones_like(amplitudes)
    observed[:, [0, 1, 2, 3, 5, 6, 7, 8]] = rng.random((num_spikes, 8)) >= virtual
    amplitudes = (np.maximum(amplitudes, 0) * observed).astype("float32")
    patches = np.concatenate([amplitudes[:, :, None] * WAVEFORM, observed[:, :, None]], axis=2).astype("float32")
    inputs = encoder_inputs(patches, amplitudes, "peak")
    rows = TrainingRows(inputs, amplitudes, observed.astype("float32"), offsets, np.arange(num_spikes))
    return rows, places


@pytest.fixture(scope="module")
def trained():
    rows, _ = spikes_from_the_model(6000, noise_std_uv=3.0, virtual=0.1)
    settings = LocalizerSettings(epochs=30, hidden_sizes=(128, 64), learning_rate=3e-3, noise=3.0)
    encoder, observation, summary = train_vae(
        rows, settings, ObservationModel(noise_std_uv=3.0), seed=0, device="cpu", progress_bar=False
    )
    return encoder, observation, summary


def test_places_are_recovered_on_new_spikes_from_the_model(trained):
    rows, places = spikes_from_the_model(2000, noise_std_uv=3.0, seed=1, virtual=0.1)
    mean, _ = trained[0](rows.inputs)
    error = np.linalg.norm(mean[:, :2] - places[:, :2], axis=1)
    mass = (rows.amplitudes[:, :, None] * OFFSETS[None, :, :2]).sum(1) / rows.amplitudes.sum(1)[:, None]
    com_error = np.linalg.norm(mass - places[:, :2], axis=1)
    assert np.median(error) < 2.0
    assert np.median(error) < 0.5 * np.median(com_error)
    # depth and amplitude at the source trade against each other, and the amplitude has a wide prior
    assert np.corrcoef(np.abs(mean[:, 2]), places[:, 2])[0, 1] > 0.5


def test_reported_widths_cover_the_truth_when_the_noise_is_the_true_one(trained):
    rows, places = spikes_from_the_model(4000, noise_std_uv=3.0, seed=2, virtual=0.1)
    mean, variance = trained[0](rows.inputs)
    score = (mean[:, :2] - places[:, :2]) / np.sqrt(variance[:, :2])
    for level, half_width in ((0.5, 0.674), (0.9, 1.645)):
        assert abs((np.abs(score) < half_width).mean() - level) < 0.12


def test_residual_noise_is_measured(trained):
    assert trained[2]["residual_noise_std_uv"] == pytest.approx(3.0, rel=0.5)
    assert trained[2]["residual_misfit_fraction"] < 0.05


def test_decay_is_fitted():
    rows, _ = spikes_from_the_model(4000, noise_std_uv=1.0)
    settings = LocalizerSettings(
        epochs=25, hidden_sizes=(64, 32), learning_rate=3e-3, noise=1.0, fit_decay=True, decay_per_um=0.05
    )
    _, observation, _ = train_vae(
        rows, settings, ObservationModel(decay_per_um=0.05), seed=0, device="cpu", progress_bar=False
    )
    assert observation.decay_per_um == pytest.approx(0.035, rel=0.15)


@pytest.mark.parametrize("amplitude", ["profiled", "table"])
def test_training_improves_the_held_out_objective(amplitude):
    rows, _ = spikes_from_the_model(2000, noise_std_uv=3.0)
    settings = LocalizerSettings(epochs=8, hidden_sizes=(64, 32), amplitude=amplitude, learning_rate=1e-3, noise=3.0)
    _, _, summary = train_vae(rows, settings, ObservationModel(noise_std_uv=3.0), device="cpu", progress_bar=False)
    elbo = summary["validation_elbo"]
    assert elbo[-1] > elbo[0]


def test_learning_rate_is_the_one_with_the_best_held_out_objective():
    rows, _ = spikes_from_the_model(1500, noise_std_uv=3.0)
    settings = LocalizerSettings(epochs=2, hidden_sizes=(32,), noise=3.0)
    _, _, summary = train_vae(rows, settings, ObservationModel(noise_std_uv=3.0), device="cpu", progress_bar=False)
    trials = summary["learning_rate_trials"]
    assert set(trials) == {"0.0003", "0.001", "0.003"}
    assert float(max(trials, key=trials.get)) == summary["learning_rate"]


def test_same_seed_same_weights_and_the_users_random_state_is_untouched():
    rows, _ = spikes_from_the_model(500, noise_std_uv=3.0)
    settings = LocalizerSettings(epochs=2, hidden_sizes=(16,), learning_rate=1e-3)
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    runs = [
        train_vae(rows, settings, ObservationModel(), seed=seed, device="cpu", progress_bar=False)[0]
        for seed in (5, 5, 6)
    ]
    assert torch.equal(before, torch.random.get_rng_state())
    for one, same, other in zip(*[run.weights for run in runs], strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)


def test_elbo_is_likelihood_plus_prior_minus_divergence():
    rows, _ = spikes_from_the_model(50, noise_std_uv=3.0)
    model = ObservationModel(noise_std_uv=3.0)
    torch.manual_seed(0)
    vae = VAE(rows.inputs.shape[1], LocalizerSettings(hidden_sizes=(16,)), model, None).eval()
    tensors = [torch.from_numpy(a) for a in (rows.inputs, rows.amplitudes, rows.observed, rows.contact_offsets)]
    with torch.no_grad():
        found = vae.elbo(tensors, sample=False)
        mean, variance = vae.encode(tensors[0])
        footprint = model.footprint(mean, tensors[3])
        source = model.source_amplitude(footprint, tensors[1], tensors[2])
        expected = (
            model.log_likelihood(footprint, source, tensors[1], tensors[2])
            + model.amplitude_log_prior(source, tensors[1])
            - kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 80.0)).sum(1)
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("num_rows", [1, 7, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
def test_folded_encoder_equals_the_torch_network(num_rows):
    with seeded(0):
        vae = VAE(40, LocalizerSettings(hidden_sizes=(50, 25)), ObservationModel(), None)
        vae.train()
        for _ in range(5):
            vae.encode(torch.randn(64, 40) * 3 + 1)
        vae.eval()
        inputs = torch.randn(num_rows, 40)
    encoder = _fold(vae.encoder)
    with torch.no_grad():
        expected = [x.numpy() for x in vae.encode(inputs)]
    for found, wanted in zip(encoder(inputs.numpy()), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(run_on_torch(encoder, inputs.numpy(), "cpu")[:, :3], expected[0], rtol=2e-4, atol=2e-4)


def test_encoder_gives_a_spike_the_same_bits_wherever_it_stands():
    rng = np.random.default_rng(0)
    encoder = Encoder(
        [rng.normal(size=shape).astype("f4") for shape in ((352, 500), (500, 250), (250, 6))],
        [rng.normal(size=size).astype("f4") for size in (500, 250, 6)],
    )
    inputs = rng.normal(size=(1000, 352)).astype("f4")
    whole = encoder(inputs)[0]
    for start, stop in ((0, 1), (3, 200), (255, 700), (999, 1000)):
        np.testing.assert_array_equal(encoder(inputs[start:stop])[0], whole[start:stop])
    assert encoder(inputs[:0])[0].shape == (0, 3)


def test_peak_scaling_makes_one_shape_one_input():
    patches = np.random.default_rng(0).normal(size=(4, 9, 11)).astype("f4")
    amplitudes = np.full((4, 9), 50.0, "f4")
    one = encoder_inputs(patches.copy(), amplitudes, "peak")
    larger = patches.copy()
    larger[:, :, :-1] *= 3
    other = encoder_inputs(larger, 3 * amplitudes, "peak")
    np.testing.assert_allclose(one[:, :-1], other[:, :-1], rtol=1e-5)
    np.testing.assert_allclose(other[:, -1] - one[:, -1], np.log(3), rtol=1e-5)
    np.testing.assert_array_equal(encoder_inputs(patches, amplitudes, "raw"), patches.reshape(4, -1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amplitude": "fixed"}, "amplitude must be one of"),
        ({"noise": -1.0}, "noise must be"),
        ({"noise": "loud"}, "noise must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"epochs": "3"}, "epochs must be a whole number"),
        ({"batch_size": 1}, "batch_size must be a whole number of at least 2"),
        ({"patience": -1}, "patience must be None or"),
        ({"hidden_sizes": 5}, "hidden_sizes must be a sequence"),
        ({"adam_betas": (0.9,)}, "adam_betas must be a sequence of 2"),
        ({"amplitude_jitter_uv": -5}, "amplitude_jitter_uv must be"),
        ({"decay_per_um": float("inf")}, "decay_per_um must be a positive number"),
        ({"validation_fraction": 1.0}, "between 0.01 and 0.9"),
        ({"ms_before": 0.0}, "ms_before must be a positive number"),
        ({"half_width": 20.0}, r"Unknown localizer settings \['half_width'\]"),
        ({"preset": "hurwitz"}, "preset must be None or one of"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        localizer_settings(**changes)


def test_presets_hold_the_papers_values():
    paper, code = PRESETS["hurwitz2019"], PRESETS["hurwitz2019_code"]
    assert (paper.epochs, paper.noise, paper.amplitude_jitter_uv, paper.half_width_um) == (400, "unit", 10.0, 20.0)
    assert (code.epochs, code.batch_size, code.adam_betas, code.learning_rate) == (200, 50, (0.99, 0.999), 1e-3)
    assert code.noise == pytest.approx(0.5**0.5)
    for preset in (paper, code):
        assert (preset.hidden_sizes, preset.input_scaling, preset.amplitude) == ((500, 250), "raw", "table")
        assert preset.amplitude_feature == "trough"
        assert round((preset.ms_before + preset.ms_after) * 32) == 60
    assert localizer_settings("hurwitz2019", epochs=3) == replace(paper, epochs=3)


def test_early_stopping_keeps_the_best_state():
    module = torch.nn.Linear(1, 1)
    stopping = EarlyStopping(patience=2)
    for score, weight in ((1.0, 10.0), (3.0, 30.0), (2.0, 20.0), (2.5, 25.0)):
        torch.nn.init.constant_(module.weight, weight)
        assert not stopping.exhausted
        stopping.update(score, module)
    assert stopping.exhausted
    stopping.restore(module)
    assert module.weight.item() == 30.0
    assert stopping.best_epoch == 1
    with pytest.raises(TrainingError, match="became nan"):
        stopping.update(float("nan"), module)


def test_minibatches_are_a_partition_of_nearly_equal_parts():
    batches = minibatches(1001, 100, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(1001))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_cosine_runs_from_one_towards_zero():
    factors = [cosine_factor(epoch, 10) for epoch in range(10)]
    assert factors[0] == 1.0
    assert (np.diff(factors) < 0).all()
    assert 0 < factors[-1] < 0.05


def test_devices():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match="device must be"):
        resolve_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            resolve_device("cuda")
