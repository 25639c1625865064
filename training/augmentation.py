"""Changes of a training example under which its answer is known: each batch is changed anew.

Thousands of cells are simulated, but the network sees each of them many times. Turned, mirrored, larger, with slower
spikes, unequal channels or more noise, it is another cell each time.
"""

import math

import numpy as np
import torch

from .examples import NUM_AFTER, NUM_BEFORE

__all__ = ["Augmentation", "stretch_matrices"]

MIRROR_PROBABILITY, DROPOUT_PROBABILITY, NOISE_PROBABILITY = 0.5, 0.4, 0.35
GAIN_LOG_SD, CHANNEL_GAIN_LOG_SD = 0.2, 0.1
SIZE_LOG_SD, AXIS_LOG_SD = 0.12, 0.03
STRETCH_FACTORS = np.exp(np.linspace(-0.12, 0.18, 11))
STRETCH_PROBABILITY = 0.7


class Augmentation:
    """Augment batches of examples, which must be float32 tensors of their own.

    Parameters
    ----------
    basis : array, shape (NUM_BEFORE + NUM_AFTER, basis_size)
        Of the waveforms, orthonormal.
    """

    def __init__(self, basis: np.ndarray):
        self.stretches = torch.from_numpy(stretch_matrices(basis, STRETCH_FACTORS))

    def __call__(self, coefficients, offsets, observed, place, amplitude, upright, noise_uv, generator):
        """(coefficients, offsets, observed, place, log amplitude), changed.

        Shapes (n, slots, basis_size), (n, slots, 3), (n, slots), (n, 3) and (n,); `upright` tells in which examples
        y is a direction of its own, `noise_uv` the noise of their recordings.
        """
        turn = _symmetries(upright, generator)
        offsets, place = torch.einsum("nij,nsj->nsi", turn, offsets), torch.einsum("nij,nj->ni", turn, place)
        # a cell and a probe both larger by a factor give the same waveforms, up to their size
        size = SIZE_LOG_SD * torch.randn(len(place), 1, generator=generator)
        size = (size + AXIS_LOG_SD * torch.randn(place.shape, generator=generator)).exp()
        offsets, place = offsets * size[:, None], place * size
        observed = observed * _kept_channels(observed.shape, generator)
        coefficients = self._stretched(coefficients, generator)
        spread = CHANNEL_GAIN_LOG_SD * torch.rand(len(place), 1, generator=generator)
        unequal = spread * torch.randn(observed.shape, generator=generator)
        log_gain = GAIN_LOG_SD * torch.randn(len(place), generator=generator)
        coefficients = coefficients * (unequal + log_gain[:, None]).exp()[..., None]
        _add_noise(coefficients, noise_uv, generator)
        return coefficients, offsets, observed, place, amplitude + log_gain

    def _stretched(self, coefficients, generator):
        """Faster or slower spikes on most of the examples."""
        count = len(coefficients)
        chosen = torch.randint(len(self.stretches), (count,), generator=generator)
        changed = torch.bmm(coefficients, self.stretches[chosen])
        some = torch.rand(count, generator=generator) < STRETCH_PROBABILITY
        return torch.where(some[:, None, None], changed, coefficients)


def stretch_matrices(basis: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Matrices that slow waveforms down about the peak, in the coordinates of the basis.

    Parameters
    ----------
    basis : array, shape (NUM_BEFORE + NUM_AFTER, basis_size)
        Orthonormal columns.
    factors : array, shape (num_factors,)
        Of the duration.

    Returns
    -------
    float32 array, shape (num_factors, basis_size, basis_size)
        Coefficients (n, basis_size) times a matrix are the coefficients of the slower waveform. Beyond its ends a
        waveform goes on as it ended.
    """
    samples = np.arange(NUM_BEFORE + NUM_AFTER)
    matrices = []
    for factor in factors:
        source = np.clip(NUM_BEFORE + (samples - NUM_BEFORE) / factor, 0, len(samples) - 1)
        slower = np.stack([np.interp(source, samples, column) for column in basis.T], axis=1)
        matrices.append(slower.T @ basis)
    return np.stack(matrices).astype("float32")


def _symmetries(upright, generator):
    """Changes of the axes under which scenes stay as likely: mirrored x, and any turn where cells point anywhere."""
    count = len(upright)
    angle = torch.where(upright, 0.0, 2 * math.pi * torch.rand(count, generator=generator))
    sign = 1.0 - 2.0 * (torch.rand(count, generator=generator) < MIRROR_PROBABILITY).float()
    turn = torch.zeros(count, 3, 3)
    turn[:, 0, 0], turn[:, 0, 1] = sign * angle.cos(), -angle.sin()
    turn[:, 1, 0], turn[:, 1, 1] = sign * angle.sin(), angle.cos()
    turn[:, 2, 2] = 1.0
    return turn


def _kept_channels(shape, generator):
    """1 where a channel stays, 0 where it is left out; on some spikes up to 60 % are."""
    share = torch.rand(shape[0], generator=generator)
    share *= torch.rand(shape[0], generator=generator) < DROPOUT_PROBABILITY
    keep = (torch.rand(shape, generator=generator) >= 0.6 * share[:, None]).float()
    keep[:, 0] = 1.0  # the centre channel saw the peak
    return keep


def _add_noise(coefficients, noise_uv, generator):
    """On some spikes, white noise up to the size of the recording's: the same footprint behind other noise."""
    chosen = torch.nonzero(torch.rand(len(coefficients), generator=generator) < NOISE_PROBABILITY)[:, 0]
    level = noise_uv[chosen] * torch.rand(len(chosen), generator=generator)
    noise = torch.randn((len(chosen), *coefficients.shape[1:]), generator=generator)
    coefficients[chosen] += level[:, None, None] * noise
