"""The two-stream networks of van Laar (2025) in torch: a row of bins and a row of scalars in, logits of regions out.

    z = [body(stream), feature_gain * relu(dense(features))], normalised;  logits = dense(dropout(relu(dense(z))))

The body reads the stream, in the paper a PSTH: two dense layers ("dmlp"), a discriminant projection ("lda_dense"),
convolutions ("cnn"), dilated convolutions ("tcn") or attention ("transformer"). "Normalised" is a layer norm over all
of z, because a norm of each column by itself would undo the gain.
"""

import math
from typing import Any

import torch
from torch import nn

from ..errors import InputError

__all__ = ["BODIES", "NETWORK_NAMES", "TwoStreamNetwork", "set_dropout"]

NETWORK_NAMES = ("dmlp", "lda_dense", "cnn", "tcn", "transformer")


class TwoStreamNetwork(nn.Module):
    """A body for the stream, a dense layer for the features, and a head on both.

    Parameters
    ----------
    body : str
        One of ``NETWORK_NAMES``.
    num_features, num_stream, num_classes : int
        Columns of either kind; without features the head sees the body only.
    feature_units, head_units : int, default: 32, 256
        Units of the features' layer and of the head.
    feature_gain : float, default: 1
        How much the features count against the body.
    dropout : float, default: 0.3
        In bodies with dropout and in the head, at the start of training; see :func:`set_dropout`.
    **body_settings
        Of the body, see :data:`BODIES`.

    Raises
    ------
    InputError
        On an unknown body or setting, or a stream without bins.
    """

    def __init__(
        self,
        body: str,
        num_features: int,
        num_stream: int,
        num_classes: int,
        *,
        feature_units: int = 32,
        head_units: int = 256,
        feature_gain: float = 1.0,
        dropout: float = 0.3,
        **body_settings: Any,
    ):
        super().__init__()
        if body not in BODIES:
            raise InputError(f"There is no network {body!r}; there are {list(NETWORK_NAMES)}.")
        if num_stream < 1:
            raise InputError(f"Network {body!r} reads a row of bins (PSTH, log-ISI, ...), got {num_stream!r} bins.")
        try:
            self.body = BODIES[body](num_stream, dropout=dropout, **body_settings)
        except TypeError as error:
            raise InputError(f"Network {body!r} cannot be built with {body_settings}: {error}") from error
        self.feature_gain = float(feature_gain)
        self.features = nn.Linear(num_features, feature_units) if num_features else None
        width = self.body.width + (feature_units if num_features else 0)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Linear(width, head_units), nn.ReLU(), nn.Dropout(dropout), nn.Linear(head_units, num_classes)
        )

    def forward(self, features: torch.Tensor, stream: torch.Tensor, **_: Any) -> torch.Tensor:
        """Logits (batch, num_classes) for ``features`` (batch, num_features) and ``stream`` (batch, num_stream)."""
        z = self.body(stream)
        if self.features is not None:
            z = torch.cat([z, self.feature_gain * torch.relu(self.features(features))], dim=1)
        return self.head(self.norm(z))


class _DenseBody(nn.Module):
    """Two dense layers with batch norm.

    Parameters
    ----------
    layer1, layer2 : int, default: 256, 64
        Their units; the paper's ranges are 512-4708 and 8-512.
    """

    def __init__(self, num_stream: int, *, dropout: float, layer1: int = 256, layer2: int = 64):
        super().__init__()
        layers, width = [], num_stream
        for units in (layer1, layer2):
            layers += [nn.Linear(width, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.layers, self.width = nn.Sequential(*layers), layer2

    def forward(self, stream):
        return self.layers(stream)


class _DiscriminantBody(nn.Module):
    """A linear discriminant projection, fitted before training and kept fixed, and a dense layer.

    Parameters
    ----------
    directions : int
        Columns of the projection, set by what trains the network.
    units : int, default: 128
        Of the dense layer; 64-512 in the paper.
    """

    def __init__(self, num_stream: int, *, dropout: float, directions: int, units: int = 128):
        super().__init__()
        self.register_buffer("projection", torch.zeros(num_stream, directions))
        self.register_buffer("offset", torch.zeros(directions))
        self.dense, self.dropout, self.width = nn.Linear(directions, units), nn.Dropout(dropout), units

    def forward(self, stream):
        return self.dropout(torch.relu(self.dense(stream @ self.projection + self.offset)))


class _ConvolutionBody(nn.Module):
    """Convolutions, each followed by a maximum over `pool` bins; then the mean over time.

    Parameters
    ----------
    layers, filters, kernel_size, pool : int, default: 2, 32, 5, 2
        1-3, 32-128, 5 / 10 / 20 and 2 / 4 in the paper.
    """

    def __init__(
        self,
        num_stream: int,
        *,
        dropout: float,
        layers: int = 2,
        filters: int = 32,
        kernel_size: int = 5,
        pool: int = 2,
    ):
        super().__init__()
        parts = []
        for layer in range(layers):
            parts += [
                nn.ConstantPad1d(((kernel_size - 1) // 2, kernel_size // 2), 0.0),
                nn.Conv1d(1 if layer == 0 else filters, filters, kernel_size),
                nn.ReLU(),
                nn.MaxPool1d(pool, ceil_mode=True),  # so that no bin is left out and short streams stay
            ]
        self.layers, self.dropout, self.width = nn.Sequential(*parts), nn.Dropout(dropout), filters

    def forward(self, stream):
        return self.dropout(self.layers(stream[:, None]).mean(dim=2))


class _TemporalBody(nn.Module):
    """Residual levels of causal convolutions whose dilation doubles from level to level; then the mean over time.

    Parameters
    ----------
    levels, filters, kernel_size : int, default: 4, 32, 3
        2-8, 16-128 and 3-7 in the paper.
    """

    def __init__(self, num_stream: int, *, dropout: float, levels: int = 4, filters: int = 32, kernel_size: int = 3):
        super().__init__()
        self.levels = nn.ModuleList(
            _TemporalLevel(1 if level == 0 else filters, filters, kernel_size, 2**level, dropout)
            for level in range(levels)
        )
        self.width = filters

    def forward(self, stream):
        x = stream[:, None]
        for level in self.levels:
            x = level(x)
        return x.mean(dim=2)


class _TemporalLevel(nn.Module):
    def __init__(self, channels, filters, kernel_size, dilation, dropout):
        super().__init__()
        self.reach = (kernel_size - 1) * dilation
        self.first = nn.Conv1d(channels, filters, kernel_size, dilation=dilation)
        self.second = nn.Conv1d(filters, filters, kernel_size, dilation=dilation)
        self.shortcut = nn.Identity() if channels == filters else nn.Conv1d(channels, filters, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        h = x
        for layer in (self.first, self.second):
            h = self.dropout(torch.relu(layer(nn.functional.pad(h, (self.reach, 0)))))
        return torch.relu(h + self.shortcut(x))


class _AttentionBody(nn.Module):
    """Each bin embedded, its place added, blocks of self-attention; then the mean over time.

    Parameters
    ----------
    embedding, heads, feed_forward, blocks : int, default: 32, 4, 128, 1
        32-128, 2-8, 128-512 and 1-3 in the paper. Each head has keys of size ceil(embedding / heads): heads need not
        divide the embedding.
    """

    def __init__(
        self,
        num_stream: int,
        *,
        dropout: float,
        embedding: int = 32,
        heads: int = 4,
        feed_forward: int = 128,
        blocks: int = 1,
    ):
        super().__init__()
        self.embed = nn.Linear(1, embedding)
        self.register_buffer("places", _sinusoids(num_stream, embedding), persistent=False)
        self.blocks = nn.ModuleList(_AttentionBlock(embedding, heads, feed_forward, dropout) for _ in range(blocks))
        self.width = embedding

    def forward(self, stream):
        x = self.embed(stream[:, :, None]) + self.places
        for block in self.blocks:
            x = block(x)
        return x.mean(dim=1)


class _AttentionBlock(nn.Module):
    def __init__(self, embedding, heads, feed_forward, dropout):
        super().__init__()
        self.heads, self.key_size = heads, math.ceil(embedding / heads)
        inner = heads * self.key_size
        self.project, self.out = nn.Linear(embedding, 3 * inner), nn.Linear(inner, embedding)
        self.norm1, self.norm2 = nn.LayerNorm(embedding), nn.LayerNorm(embedding)
        self.feed = nn.Sequential(nn.Linear(embedding, feed_forward), nn.ReLU(), nn.Linear(feed_forward, embedding))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        batch, steps, _ = x.shape
        query, key, value = self.project(x).reshape(batch, steps, 3, self.heads, self.key_size).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        x = self.norm1(x + self.dropout(self.out(attended.transpose(1, 2).reshape(batch, steps, -1))))
        return self.norm2(x + self.dropout(self.feed(x)))


BODIES: dict[str, type[nn.Module]] = {
    "dmlp": _DenseBody,
    "lda_dense": _DiscriminantBody,
    "cnn": _ConvolutionBody,
    "tcn": _TemporalBody,
    "transformer": _AttentionBody,
}


def set_dropout(network: nn.Module, p: float) -> None:
    """Give all dropout layers of a network this probability, between epochs of annealing."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = p


def _sinusoids(steps, width):
    """Sines and cosines of the place at geometrically spaced wavelengths (Vaswani et al. 2017, section 3.5)."""
    place = torch.arange(steps)[:, None]
    rate = torch.exp(-math.log(10_000.0) * torch.arange(0, width, 2) / width)
    table = torch.zeros(steps, width)
    table[:, 0::2] = torch.sin(place * rate)
    table[:, 1::2] = torch.cos(place * rate)[:, : width // 2]
    return table
