"""The recurrent and the attention network of Pradeep, Agarwal and Advani, in torch.

Both look at windows of 500 samples that overlap by 50. ``forward`` takes a batch of windows, as in training. In a long
trace window k starts `overlap` / 2 samples before frame ``k * (window - overlap)`` of the segment, and each window
speaks for its middle `window` - `overlap` samples. The windows stand on frames of the segment, not of the chunk, so
that every sample is scored in the same window whatever the chunk; the price is that a logit depends on up to
``window - overlap / 2 - 1`` samples (474) before or after it.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InputError

__all__ = ["BiLSTM", "Transformer", "forgetting_samples"]


class _Windowed(nn.Module):
    """What the networks on windows share."""

    def __init__(self, window: int, overlap: int):
        super().__init__()
        if not (isinstance(window, int) and isinstance(overlap, int) and 0 <= overlap < window):
            raise InputError(f"overlap must be from 0 to below window, in samples; got {overlap!r} and {window!r}.")
        self.window, self.overlap = window, overlap
        self.block = self.alignment = window - overlap
        self.context = (overlap // 2, overlap - overlap // 2)
        self.before, self.after = (side + self.block - 1 for side in self.context)

    def valid(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the middle of each window."""
        return self(x)[:, self.context[0] : x.shape[1] - self.context[1]]


class BiLSTM(_Windowed):
    """Bidirectional LSTM with a linear layer on both directions' states.

    Parameters
    ----------
    hidden_size : int, default: 64
        Of each direction; 34,433 weights with one layer.
    num_layers : int, default: 1
        1 or 2 in the paper.
    dropout : float, default: 0
        Between layers, in training.
    window, overlap : int, default: 500, 50
        In samples. :func:`forgetting_samples` tells whether half the overlap is enough: a network trained on simulated
        events at 3,328 Hz needed 48 samples for logits to come within 0.5 of those of the whole trace and 83 for 0.05,
        more than the paper's overlap gives. Chunks make no difference in either case.
    """

    def __init__(
        self, hidden_size: int = 64, num_layers: int = 1, dropout: float = 0.0, window: int = 500, overlap: int = 50
    ):
        super().__init__(window, overlap)
        self._settings = {"hidden_size": hidden_size, "num_layers": num_layers, "dropout": dropout}
        self.lstm = nn.LSTM(
            1, hidden_size, num_layers, batch_first=True, bidirectional=True, dropout=dropout if num_layers > 1 else 0.0
        )
        self.head = nn.Linear(2 * hidden_size, 1)

    def settings(self) -> dict[str, Any]:
        """What builds this network again."""
        return {**self._settings, "window": self.window, "overlap": self.overlap}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, num_samples) for windows (batch, num_samples)."""
        return _one_output(self.head, self.lstm(x[..., None])[0])


class Transformer(_Windowed):
    """Transformer encoder (Vaswani et al. 2017) on single samples with sinusoidal positions.

    Parameters
    ----------
    d_model : int, default: 64
        Features per sample, a multiple of ``4 * num_heads``: with others the arithmetic of a window would vary with
        its place in a batch.
    num_heads : int, default: 4
        Attention heads.
    num_layers : int, default: 6
        3 or 6 in the paper's grid, 6 its best. 201,025 weights.
    dim_feedforward : int, default: 128
        Width of the dense layers between.
    dropout : float, default: 0.1
        In training.
    window, overlap : int, default: 500, 50
        In samples.
    """

    def __init__(
        self,
        d_model: int = 64,
        num_heads: int = 4,
        num_layers: int = 6,
        dim_feedforward: int = 128,
        dropout: float = 0.1,
        window: int = 500,
        overlap: int = 50,
    ):
        super().__init__(window, overlap)
        if d_model < 1 or num_heads < 1 or d_model % (4 * num_heads):
            raise InputError(f"d_model must be a multiple of 4 * num_heads, got {d_model} and num_heads={num_heads}.")
        self._settings = {"d_model": d_model, "num_heads": num_heads, "num_layers": num_layers}
        self._settings |= {"dim_feedforward": dim_feedforward, "dropout": dropout}
        self.embedding = nn.Linear(1, d_model)
        self.drop = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(d_model, num_heads, dim_feedforward, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, 1)

    def settings(self) -> dict[str, Any]:
        """What builds this network again."""
        return {**self._settings, "window": self.window, "overlap": self.overlap}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, num_samples) for windows (batch, num_samples)."""
        d_model = self._settings["d_model"]
        features = self.embedding(x[..., None]) * math.sqrt(d_model) + _positions(x.shape[1], d_model).to(x)
        return _one_output(self.head, self.encoder(self.drop(features)))


def forgetting_samples(network: nn.Module, x: torch.Tensor, tolerance: float = 0.05) -> int:
    """How far from the edge of a window logits still show that the trace was cut there.

    Each trace is scored whole and with its first and its last third cut off.

    Parameters
    ----------
    network : torch.nn.Module
        A network on windows, usually a trained :class:`BiLSTM`.
    x : tensor, shape (batch, num_samples)
        Conditioned traces, long compared to the answer.
    tolerance : float, default: 0.05
        Largest difference of a logit that does not matter; 0.05 moves a probability by at most 0.0125.

    Returns
    -------
    int
        Smallest distance to the cut from which on all logits agree within the tolerance; half the overlap of windows
        should be at least this. A third of `num_samples` if they do not come to agree.
    """
    third = x.shape[1] // 3
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        whole = network(x)
        after_cut = (network(x[:, third:]) - whole[:, third:])[:, :third]
        before_cut = (network(x[:, :-third]) - whole[:, :-third])[:, -third:].flip(1)
    network.train(was_training)
    apart = torch.cat([after_cut, before_cut]).abs().amax(0) > tolerance
    return int(apart.nonzero().max()) + 1 if apart.any() else 0


def _one_output(layer, features):
    """A linear layer with one output."""
    # as a plain sum: BLAS adds in an order that varies with the place of a row in memory, so of a window in its batch
    return (features * layer.weight[0]).sum(-1) + layer.bias


def _positions(num_samples, d_model):
    """Sines and cosines of Vaswani et al. (2017), section 3.5, shape (num_samples, d_model)."""
    rates = np.exp(np.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
    angles = np.arange(num_samples)[:, None] * rates
    return torch.as_tensor(np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(num_samples, d_model))
