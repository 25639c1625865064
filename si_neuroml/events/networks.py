"""Convolution networks that say for every sample of a conditioned trace how likely it belongs to an event, in torch.

Every network maps ``x`` of shape (batch, num_samples) to logits of the same shape, whatever the length: beyond its ends
``x`` goes on reflected. ``valid`` maps ``x`` with ``context`` samples before and after to the logits of what lies
between. Attributes that all of them have:

``before``, ``after``
    The logit of a sample depends on so many samples before and after it, and on no others.
``alignment``
    That holds when the first sample's frame is a multiple of this.
``context``
    Samples that ``valid`` needs before and after, multiples of ``alignment`` for convolutions.
``block``
    Samples that one window of :class:`~si_neuroml.events.torch_scorer.TorchScorer` is responsible for.
"""

from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .conditioning import reflected_indices

__all__ = ["NETWORK_NAMES", "StridedNetwork", "TemporalConvolutionNetwork", "UNet", "build_network"]

NETWORK_NAMES = ("strided", "unet", "bilstm", "tcn", "tcn_two_sided", "transformer")
# samples per step of the strided network
STRIDE = 4


def build_network(name: str = "strided", **settings: Any) -> nn.Module:
    """A network with new random weights, by name.

    Parameters
    ----------
    name : str, default: "strided"
        "strided": :class:`StridedNetwork`, the default of this package; "unet": :class:`UNet`; "bilstm", "tcn" and
        "transformer": those of Pradeep, Agarwal and Advani, see
        :class:`~si_neuroml.events.sequence_networks.BiLSTM`, :class:`TemporalConvolutionNetwork` and
        :class:`~si_neuroml.events.sequence_networks.Transformer`; "tcn_two_sided": the "tcn" that sees both sides.
    **settings
        Of that network; what its ``settings()`` returns builds it again.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        On an unknown name or setting, or a setting out of range.
    """
    from .sequence_networks import BiLSTM, Transformer

    classes = {"strided": StridedNetwork, "unet": UNet, "bilstm": BiLSTM, "transformer": Transformer}
    classes |= {"tcn": TemporalConvolutionNetwork, "tcn_two_sided": TemporalConvolutionNetwork}
    if name not in classes:
        raise InputError(f"There is no network {name!r}; there are {list(NETWORK_NAMES)}.")
    if name.startswith("tcn"):
        settings = {"two_sided": name == "tcn_two_sided"} | settings
    try:
        return classes[name](**settings)
    except TypeError as error:
        raise InputError(f"Network {name!r} cannot be built with {settings}: {error}") from error


class _Convolutions(nn.Module):
    """What the convolution networks share: any length in, the same length out."""

    before: int
    after: int
    alignment: int = 1
    context: tuple[int, int]
    block: int = 512

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, num_samples) for ``x`` (batch, num_samples)."""
        num_samples = x.shape[1]
        stop = -(-num_samples // self.alignment) * self.alignment + self.context[1]
        indices = reflected_indices(num_samples, -self.context[0], stop)
        return self.valid(x[:, torch.as_tensor(indices, device=x.device)])[:, :num_samples]


class StridedNetwork(_Convolutions):
    """Dilated convolutions at a quarter of the rate, with outputs for every sample: the default network.

    Four samples make one step. A first convolution over three steps gives `channels` features per step; residual
    convolutions ``h + relu(conv(h))`` over five steps follow, one for each dilation; the last layer gives the four
    logits of the step. All convolutions are without padding. Used without torch by
    :class:`~si_neuroml.events.strided_network.StridedScorer`.

    Parameters
    ----------
    channels : int, default: 16
        Features per step. 5,460 weights.
    dilations : sequence of int, default: (1, 2, 4, 8)
        Of the residual convolutions, in steps; the reach is ``4 * (1 + 2 * sum(dilations)) + 3`` samples, 127.
    """

    alignment = STRIDE

    def __init__(self, channels: int = 16, dilations: tuple[int, ...] = (1, 2, 4, 8)):
        super().__init__()
        counts = {f"dilations[{k}]": value for k, value in enumerate(dilations)}
        _check_counts(channels=channels, **{"len(dilations)": len(dilations)}, **counts)
        self.channels, self.dilations = channels, tuple(dilations)
        steps = 1 + 2 * sum(self.dilations)
        self.before = self.after = STRIDE * steps + STRIDE - 1
        self.context = (STRIDE * steps, STRIDE * steps)
        self.stem = nn.Conv1d(STRIDE, channels, 3)
        self.body = nn.ModuleList(nn.Conv1d(channels, channels, 5, dilation=dilation) for dilation in self.dilations)
        self.head = nn.Conv1d(channels, STRIDE, 1)

    def settings(self) -> dict[str, Any]:
        """What builds this network again."""
        return {"channels": self.channels, "dilations": list(self.dilations)}

    def valid(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of what lies between the contexts."""
        h = torch.relu(self.stem(x.reshape(len(x), -1, STRIDE).transpose(1, 2)))
        for layer, dilation in zip(self.body, self.dilations, strict=True):
            h = h[:, :, 2 * dilation : -2 * dilation] + torch.relu(layer(h))
        return self.head(h).transpose(1, 2).reshape(len(x), -1)


class UNet(_Convolutions):
    """One-dimensional U-Net: halve the rate three times and come back, with shortcuts at each rate.

    Rates are halved by averages of two samples and doubled by repetition, both on a fixed grid, so that the network is
    exact when the first frame is a multiple of 8.

    Parameters
    ----------
    channels : sequence of int, default: (8, 16, 24, 32)
        Features at each rate, the full one first. 27,137 weights.
    kernel_size : int, default: 5
        Odd. Two convolutions at each rate on the way down, one on the way up.
    """

    def __init__(self, channels: tuple[int, ...] = (8, 16, 24, 32), kernel_size: int = 5):
        super().__init__()
        _check_counts(kernel_size=kernel_size, **{f"channels[{k}]": value for k, value in enumerate(channels)})
        _check_odd(kernel_size)
        self.channels, self.kernel_size = tuple(channels), kernel_size
        self.alignment = 2 ** (len(self.channels) - 1)
        reaches = [self._dependence(sample) for sample in range(self.alignment)]
        self.before = max(sample - first for sample, (first, _) in enumerate(reaches))
        self.after = max(last - sample for sample, (_, last) in enumerate(reaches))
        self.context = tuple(-(-reach // self.alignment) * self.alignment for reach in (self.before, self.after))
        self.block = max(512 // self.alignment, 1) * self.alignment
        inputs = (1, *self.channels[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(self._convolution(a, b), nn.ReLU(), self._convolution(b, b), nn.ReLU())
            for a, b in zip(inputs, self.channels, strict=True)
        )
        pairs = zip(self.channels[1:], self.channels[:-1], strict=True)
        self.up = nn.ModuleList(nn.Sequential(self._convolution(a + b, b), nn.ReLU()) for a, b in pairs)
        self.head = nn.Conv1d(self.channels[0], 1, 1)

    def settings(self) -> dict[str, Any]:
        """What builds this network again."""
        return {"channels": list(self.channels), "kernel_size": self.kernel_size}

    def valid(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of what lies between the contexts, which keep the zeros beyond the ends away from it."""
        h, shortcuts = x[:, None], []
        for level, layer in enumerate(self.down):
            h = layer(nn.functional.avg_pool1d(h, 2) if level else h)
            shortcuts.append(h)
        for level in range(len(self.up) - 1, -1, -1):
            h = self.up[level](torch.cat([h.repeat_interleave(2, dim=2), shortcuts[level]], dim=1))
        return _cut(self.head(h)[:, 0], self.context)

    def _convolution(self, num_in, num_out):
        return nn.Conv1d(num_in, num_out, self.kernel_size, padding=self.kernel_size // 2)

    def _dependence(self, sample):
        """First and last input sample that the logit of `sample` depends on, along the longest way."""
        half, depth = self.kernel_size // 2, len(self.channels) - 1
        first = last = sample
        for _ in range(depth):
            first, last = (first - half) // 2, (last + half) // 2
        first, last = first - 2 * half, last + 2 * half
        for _ in range(depth):
            first, last = 2 * first - 2 * half, 2 * last + 1 + 2 * half
        return first, last


class TemporalConvolutionNetwork(_Convolutions):
    """Residual blocks of two dilated convolutions at the full rate, as in Pradeep, Agarwal and Advani.

    Parameters
    ----------
    channels : sequence of int, default: (32, 64, 128, 256)
        Features after each block; the dilation doubles from block to block. 434,977 weights.
    kernel_size : int, default: 3
        At least 2; odd if `two_sided`.
    dropout : float, default: 0.002
        Share of the features left out in training after each convolution.
    two_sided : bool, default: False
        False: a logit depends on its own and 60 past samples, as in the paper. True: on 30 samples on either side.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 128, 256),
        kernel_size: int = 3,
        dropout: float = 0.002,
        two_sided: bool = False,
    ):
        super().__init__()
        _check_counts(kernel_size=kernel_size, **{f"channels[{k}]": value for k, value in enumerate(channels)})
        if two_sided:
            _check_odd(kernel_size)
        self.channels, self.kernel_size, self.dropout, self.two_sided = tuple(channels), kernel_size, dropout, two_sided
        reach = 2 * (kernel_size - 1) * (2 ** len(self.channels) - 1)
        self.before, self.after = (reach // 2, reach // 2) if two_sided else (reach, 0)
        self.context = (self.before, self.after)
        inputs = (1, *self.channels[:-1])
        self.first, self.second, self.shortcut = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (a, b) in enumerate(zip(inputs, self.channels, strict=True)):
            self.first.append(nn.Conv1d(a, b, kernel_size, dilation=2**level))
            self.second.append(nn.Conv1d(b, b, kernel_size, dilation=2**level))
            self.shortcut.append(nn.Conv1d(a, b, 1) if a != b else nn.Identity())
        self.drop = nn.Dropout(dropout)
        self.head = nn.Conv1d(self.channels[-1], 1, 1)

    def settings(self) -> dict[str, Any]:
        """What builds this network again."""
        return {
            "channels": list(self.channels),
            "kernel_size": self.kernel_size,
            "dropout": self.dropout,
            "two_sided": self.two_sided,
        }

    def valid(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of what lies between the contexts; the convolutions are without padding."""
        h = x[:, None]
        for level, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            lost = 2 * (self.kernel_size - 1) * 2**level
            kept = (lost // 2, lost - lost // 2) if self.two_sided else (lost, 0)
            new = self.drop(torch.relu(second(self.drop(torch.relu(first(h))))))
            h = torch.relu(new + _cut(self.shortcut[level](h), kept))
        return self.head(h)[:, 0]


def _cut(values, ends):
    """Without the first and last samples."""
    return values[..., ends[0] : values.shape[-1] - ends[1]]


def _check_counts(**counts):
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number from 1 on, got {value!r}.")


def _check_odd(kernel_size):
    if kernel_size % 2 == 0:
        raise InputError(f"kernel_size must be odd where a network sees both sides, got {kernel_size}.")
