"""Train the variational autoencoder of Hurwitz et al. (2019): waveforms in, the place of the source out.

The encoder gives q(x, y, z), a Gaussian with diagonal covariance. The decoder is no network but the physics of
:class:`~si_neuroml.localization.observation.ObservationModel`. Training maximises, per spike (paper, equation 4),

    E_q[ log p(amplitudes | place, a) + log p(a) ] - KL( q || prior ),

with one sample of the place per step. Arrays in, arrays out; this file knows torch and nothing of SpikeInterface.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..training import EarlyStopping, cosine_factor, minibatches, one_thread, progress, resolve_device, seeded
from .encoder import Encoder
from .observation import ObservationModel
from .settings import LocalizerSettings

__all__ = ["TrainingRows", "train_vae"]

LEARNING_RATES = (3e-4, 1e-3, 3e-3)
# rows and epochs of the runs that choose the learning rate
TRIAL_ROWS, TRIAL_EPOCHS = 20_000, 3


@dataclass(frozen=True)
class TrainingRows:
    """What the VAE trains on; one row per spike and centre channel.

    Attributes
    ----------
    inputs : float32 array, shape (num_rows, num_inputs)
        Encoder inputs.
    amplitudes : float32 array, shape (num_rows, num_slots)
        Trough amplitudes in uV.
    observed : float32 array, shape (num_rows, num_slots)
        1 where a slot holds a channel.
    contact_offsets : float32 array, shape (num_rows, num_slots, 3)
        Places of the contacts relative to the centre contact in um.
    spike : int array, shape (num_rows,)
        The spike each row belongs to.
    """

    inputs: np.ndarray
    amplitudes: np.ndarray
    observed: np.ndarray
    contact_offsets: np.ndarray
    spike: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)

    def subset(self, rows: np.ndarray) -> "TrainingRows":
        """Some of the rows, by index or mask."""
        return TrainingRows(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class VAE(nn.Module):
    """Encoder, and the few decoder parameters that training moves (decay, amplitude table)."""

    def __init__(
        self, num_inputs: int, settings: LocalizerSettings, observation: ObservationModel, table: torch.Tensor | None
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for num_units in settings.hidden_sizes:
            layers += [nn.Linear(num_inputs, num_units), nn.BatchNorm1d(num_units), nn.ReLU()]
            num_inputs = num_units
        self.encoder = nn.Sequential(*layers, nn.Linear(num_inputs, 6))
        for layer in self.encoder:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.log_decay = nn.Parameter(
            torch.tensor(math.log(observation.decay_per_um)), requires_grad=settings.fit_decay
        )
        self.log_amplitude = None if table is None else nn.Parameter(table)
        self.observation, self.settings = observation, settings

    def encode(self, inputs):
        """Mean and variance of q, each of shape (num_rows, 3)."""
        mean, raw = self.encoder(inputs).split(3, dim=1)
        return mean, nn.functional.softplus(raw) + 1e-6

    def elbo(self, rows, *, sample, table_rows=None):
        """Evidence lower bound of each row, without constants; at the mean of q where `sample` is False."""
        inputs, amplitudes, observed, offsets = rows
        mean, variance = self.encode(inputs)
        place = mean + variance.sqrt() * torch.randn_like(mean) if sample else mean
        model = self.observation
        footprint = model.footprint(place, offsets, self.log_decay.exp())
        if self.log_amplitude is not None and table_rows is not None:
            source_amplitude = self.log_amplitude[table_rows].exp()
        else:
            source_amplitude = model.source_amplitude(footprint, amplitudes, observed)
        objective = model.log_likelihood(footprint, source_amplitude, amplitudes, observed)
        if self.settings.amplitude_prior:
            objective = objective + model.amplitude_log_prior(source_amplitude, amplitudes)
        scale = model.location_prior_std_um**2
        divergence = 0.5 * ((mean**2 + variance) / scale - 1.0 - (variance / scale).log()).sum(1)
        return objective - divergence


def train_vae(
    rows: TrainingRows,
    settings: LocalizerSettings,
    observation: ObservationModel,
    *,
    seed: int = 0,
    device: str = "auto",
    progress_bar: bool = True,
) -> tuple[Encoder, ObservationModel, dict[str, Any]]:
    """Train on rows and fold the encoder into plain arrays.

    Parameters
    ----------
    rows : TrainingRows
        Spikes of one recording.
    settings : LocalizerSettings
        See there.
    observation : ObservationModel
        The decoder.
    seed : int, default: 0
        Of the split, the weights, the order of the rows and the samples.
    device : "auto" | "cpu" | "cuda", default: "auto"
        Where to train. CPU and GPU give places that agree to the noise of training, not to the bit.
    progress_bar : bool, default: True
        Show the epochs.

    Returns
    -------
    encoder : Encoder
        Ready for inference in numpy.
    observation : ObservationModel
        With the fitted decay.
    summary : dict
        Learning rate, epochs, held-out ELBO per epoch, residual noise.
    """
    device = resolve_device(device)
    with one_thread():
        return _train(rows, settings, observation, seed, device, progress_bar)


def _train(rows, settings, observation, seed, device, progress_bar):
    rng = np.random.default_rng(seed)
    held_out = np.isin(rows.spike, _validation_spikes(rows.spike, settings.validation_fraction, rng))
    train, validation = rows.subset(~held_out), rows.subset(held_out)
    learning_rate, trials = _choose_learning_rate(train, validation, settings, observation, seed, device, progress_bar)
    run = replace(settings, learning_rate=learning_rate)
    vae, history, stopping = _fit(train, validation, run, observation, seed, device, progress_bar)
    fitted = replace(observation, decay_per_um=float(vae.log_decay.detach().exp()))
    vae = vae.cpu().eval()
    noise, misfit = _residual_noise(vae, validation, fitted)
    summary = {
        "num_spikes": len(np.unique(rows.spike)),
        "num_rows": len(rows),
        "num_validation_rows": len(validation),
        "learning_rate": learning_rate,
        "learning_rate_trials": trials,
        "best_epoch": stopping.best_epoch,
        "epochs_run": len(history),
        "validation_elbo": history,
        "residual_noise_std_uv": noise,
        "residual_misfit_fraction": misfit,
        "seed": seed,
        "device": device,
        "torch_version": torch.__version__,
    }
    return _fold(vae.encoder), fitted, summary


def _validation_spikes(spike, fraction, rng):
    spikes = np.unique(spike)
    return rng.choice(spikes, size=min(max(1, round(fraction * len(spikes))), len(spikes) - 1), replace=False)


def _choose_learning_rate(train, validation, settings, observation, seed, device, progress_bar):
    if settings.learning_rate != "auto":
        return float(settings.learning_rate), {}
    rng = np.random.default_rng(seed)
    part = train if len(train) <= TRIAL_ROWS else train.subset(np.sort(rng.choice(len(train), TRIAL_ROWS, False)))
    scores = {}
    for rate in progress(LEARNING_RATES, description="choose learning rate", show=progress_bar):
        trial = replace(settings, learning_rate=rate, epochs=min(TRIAL_EPOCHS, settings.epochs), patience=None)
        _, history, _ = _fit(part, validation, trial, observation, seed, device, progress_bar=False)
        scores[rate] = max(history)
    return max(scores, key=scores.get), {f"{rate:g}": score for rate, score in scores.items()}


def _fit(train, validation, settings, observation, seed, device, progress_bar):
    """One run of training; returns the module at its best epoch, the held-out ELBO per epoch and the stopping rule."""
    with seeded(seed):
        table = None
        if settings.amplitude == "table":
            # start value of the authors' code: the prior mean
            start = observation.amplitude_prior_factor * np.maximum(train.amplitudes.max(1), 1.0)
            table = torch.log(torch.from_numpy(start.astype("float32")))
        vae = VAE(train.inputs.shape[1], settings, observation, table).to(device)
        parameters = [p for p in vae.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, betas=settings.adam_betas)
        stopping = EarlyStopping(settings.patience)
        rng = np.random.default_rng(seed)
        history = []
        epochs = progress(range(settings.epochs), description="train VAE localizer", show=progress_bar)
        for epoch in epochs:
            if settings.learning_rate_schedule == "cosine":
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * cosine_factor(epoch, settings.epochs)
            _epoch(vae, train, optimizer, minibatches(len(train), settings.batch_size, rng), device)
            history.append(_mean_elbo(vae, validation, device))
            stopping.update(history[-1], vae)
            if progress_bar:
                epochs.set_postfix(held_out_elbo=f"{history[-1]:.2f}")
            if stopping.exhausted:
                break
        if settings.patience is not None:
            stopping.restore(vae)
    return vae, history, stopping


def _epoch(vae, train, optimizer, batches, device):
    vae.train()
    for batch in batches:
        if len(batch) < 2:
            continue  # batch norm has no variance there
        loss = -vae.elbo(
            _tensors(train, batch, device), sample=True, table_rows=torch.from_numpy(batch).to(device)
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _mean_elbo(vae, rows, device):
    """Held-out ELBO, with the same noise every time so that epochs compare."""
    vae.eval()
    total = 0.0
    with torch.no_grad(), seeded(0):
        for batch in np.array_split(np.arange(len(rows)), max(1, len(rows) // 4096)):
            total += float(vae.elbo(_tensors(rows, batch, device), sample=True).sum())
    return total / len(rows)


def _tensors(rows, batch, device):
    arrays = (rows.inputs[batch], rows.amplitudes[batch], rows.observed[batch], rows.contact_offsets[batch])
    return [torch.from_numpy(array).to(device) for array in arrays]


def _residual_noise(vae, rows, observation):
    """Standard deviation of what the fitted model leaves over: s^2 = noise^2 + (misfit * largest amplitude)^2.

    Least squares in squares over held-out rows, both terms at least 0. Four numbers are fitted per spike (place and
    amplitude), so the mean square is corrected by n / (n - 4).
    """
    from scipy.optimize import nnls

    inputs, amplitudes, observed, offsets = _tensors(rows, np.arange(len(rows)), "cpu")
    with torch.no_grad():
        mean, _ = vae.encode(inputs)
        footprint = observation.footprint(mean, offsets)
        source = observation.source_amplitude(footprint, amplitudes, observed)
        squared = observed * (amplitudes - source[:, None] * footprint) ** 2
    count = observed.sum(1)
    enough = count > 4
    if int(enough.sum()) < 10:
        return float(observation.noise_std_uv), 0.0
    variance = (squared.sum(1) / (count - 4).clamp(min=1))[enough].numpy().astype("float64")
    largest = amplitudes.amax(1)[enough].numpy().astype("float64")
    # weights: the spread of a squared residual grows with its size
    weight = 1.0 / (1.0 + (0.1 * largest) ** 2 + np.median(variance))
    coefficients, _ = nnls(np.column_stack([np.ones_like(largest), largest**2]) * weight[:, None], variance * weight)
    return float(max(coefficients[0], 1e-2) ** 0.5), float(coefficients[1] ** 0.5)


def _fold(sequential):
    """Batch norm at inference is an affine map: multiply it into the layer before it."""
    weights, biases = [], []
    for layer in sequential:
        if isinstance(layer, nn.Linear):
            weights.append(layer.weight.detach().numpy().T.astype("float64"))
            biases.append(layer.bias.detach().numpy().astype("float64"))
        elif isinstance(layer, nn.BatchNorm1d):
            scale = (layer.weight / (layer.running_var + layer.eps).sqrt()).detach().numpy().astype("float64")
            shift = layer.bias.detach().numpy() - layer.running_mean.numpy() * scale
            weights[-1] = weights[-1] * scale
            biases[-1] = biases[-1] * scale + shift
    to_float32 = [np.ascontiguousarray(array, dtype="float32") for array in (*weights, *biases)]
    return Encoder(to_float32[: len(weights)], to_float32[len(weights) :])
