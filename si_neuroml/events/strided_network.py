"""The default network at inference, in numba: no torch in worker processes, and the same bits in every chunk.

A trace is taken four samples at a time (a step), and scored in tiles of a fixed number of steps. Each layer adds one
input row after the other, shifted and weighted, to one output row; the number of columns is a constant of the program,
so that all columns see the same machine instructions in the same order, and where a tile begins makes no difference.
"""

from typing import Any, Self

import numba
import numpy as np

from ..errors import InputError
from .conditioning import reflected_indices

__all__ = ["StridedScorer"]

STRIDE = 4
# columns computed per tile; a multiple of what any processor takes at once
WIDTH = 512


class StridedScorer:
    """Scores of a trained :class:`~si_neuroml.events.networks.StridedNetwork`, its logits.

    Parameters
    ----------
    arrays : dict of float32 array
        Weights as torch names them: ``stem.weight``, ``stem.bias``, ``body.<k>.weight``, ..., ``head.bias``.
    dilations : sequence of int
        Of the network.

    Attributes
    ----------
    before, after, alignment : int
        See :mod:`si_neuroml.events.networks`.
    """

    alignment = STRIDE

    def __init__(self, arrays: dict[str, np.ndarray], dilations: tuple[int, ...] = (1, 2, 4, 8)):
        self.dilations = tuple(int(dilation) for dilation in dilations)
        names = ["stem", *(f"body.{k}" for k in range(len(self.dilations))), "head"]
        expected = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
        if expected != set(arrays):
            raise InputError(
                f"A network with dilations {self.dilations} has arrays {sorted(expected)}, got {sorted(arrays)}."
            )
        self._arrays = {name: np.ascontiguousarray(value, dtype="float32") for name, value in arrays.items()}
        self.channels = len(self._arrays["stem.bias"])
        shapes = [(self.channels, STRIDE, 3), *[(self.channels, self.channels, 5)] * len(self.dilations)]
        for name, shape in zip(names, [*shapes, (STRIDE, self.channels, 1)], strict=True):
            found = self._arrays[f"{name}.weight"].shape, self._arrays[f"{name}.bias"].shape
            if found != (shape, shape[:1]):
                raise InputError(f"Layer {name} must have weights {shape} and bias {shape[:1]}, got {found}.")
        self._steps = 1 + 2 * sum(self.dilations)
        self.before = self.after = STRIDE * self._steps + STRIDE - 1
        if self._steps > WIDTH // 4:
            raise InputError(
                f"Dilations {self.dilations} reach {self._steps} steps; at most {WIDTH // 4} are possible."
            )

    @classmethod
    def from_network(cls, network: Any) -> Self:
        """From the torch network."""
        arrays = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
        return cls(arrays, network.dilations)

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], **settings: Any) -> Self:
        """From :meth:`to_arrays` and :meth:`settings`."""
        scorer = cls(arrays, settings["dilations"])
        if scorer.channels != settings.get("channels", scorer.channels):
            raise InputError(f"Settings say {settings['channels']} channels, the weights have {scorer.channels}.")
        return scorer

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The weights."""
        return dict(self._arrays)

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the weights; they also build the torch network."""
        return {"channels": self.channels, "dilations": list(self.dilations)}

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Logits of conditioned traces.

        Parameters
        ----------
        x : float32 array, shape (num_channels, num_samples)
            The first sample at a frame that is a multiple of 4.

        Returns
        -------
        float32 array, shape (num_channels, num_samples)
            Within :attr:`before` and :attr:`after` samples of the ends as if ``x`` went on reflected; elsewhere the
            same to the last bit in whatever chunk a sample comes.
        """
        num_channels, num_samples = x.shape
        scores = np.empty((num_channels, num_samples), dtype="float32")
        if not num_samples:
            return scores
        steps_per_tile = WIDTH - 2 * self._steps
        num_tiles = -(-num_samples // (STRIDE * steps_per_tile))
        stop = STRIDE * (num_tiles * steps_per_tile + self._steps)
        # only what the last tile needs is reflected, the rest of it does not matter
        needed = reflected_indices(num_samples, -STRIDE * self._steps, num_samples + STRIDE * (self._steps + 1))
        padded = np.zeros(STRIDE * self._steps + stop, dtype="float32")
        length = min(len(needed), len(padded))
        body = np.stack([self._arrays[f"body.{k}.weight"] for k in range(len(self.dilations))])
        biases = np.stack([self._arrays[f"body.{k}.bias"] for k in range(len(self.dilations))])
        layers = (_five_taps(self._arrays["stem.weight"]), self._arrays["stem.bias"], body, biases)
        layers += (np.asarray(self.dilations), _five_taps(self._arrays["head.weight"]), self._arrays["head.bias"])
        logits = np.empty(num_tiles * steps_per_tile * STRIDE, dtype="float32")
        for channel in range(num_channels):
            padded[:length] = x[channel, needed[:length]]
            _score(padded, *layers, self._steps, logits)
            scores[channel] = logits[:num_samples]
        return scores


def _five_taps(weight):
    """A kernel of 1 or 3 taps with zeros on both sides: one kernel in numba for all layers."""
    missing = (5 - weight.shape[2]) // 2
    return np.pad(weight, ((0, 0), (0, 0), (missing, missing)))


@numba.njit(nogil=True, fastmath={"contract"})
def _convolve(rows, weight, bias, dilation, pad, out):
    """``out[o, t] = bias[o] + sum over i, k of weight[o, i, k] * rows[i, t + (k - 2) * dilation]``."""
    num_out, num_in, _ = weight.shape
    first = pad - 2 * dilation
    for o in range(num_out):
        target = out[o, pad : pad + WIDTH]
        target[:] = bias[o]
        for i in range(num_in):
            a, b, c, d, e = weight[o, i, 0], weight[o, i, 1], weight[o, i, 2], weight[o, i, 3], weight[o, i, 4]
            row_a = rows[i, first : first + WIDTH]
            row_b = rows[i, first + dilation : first + dilation + WIDTH]
            row_c = rows[i, first + 2 * dilation : first + 2 * dilation + WIDTH]
            row_d = rows[i, first + 3 * dilation : first + 3 * dilation + WIDTH]
            row_e = rows[i, first + 4 * dilation : first + 4 * dilation + WIDTH]
            for t in range(WIDTH):
                target[t] += a * row_a[t] + b * row_b[t] + c * row_c[t] + d * row_d[t] + e * row_e[t]


@numba.njit(nogil=True, fastmath={"contract"})
def _score(padded, stem, stem_bias, body, body_bias, dilations, head, head_bias, steps, logits):
    """Logits of one trace that is padded by `steps` steps on both sides."""
    num_channels = len(stem_bias)
    pad = 2 * np.max(dilations)
    samples = np.zeros((STRIDE, WIDTH + 2 * pad), dtype=np.float32)
    # columns outside the tile are never read into what is kept, they need only be finite
    h = np.zeros((num_channels, WIDTH + 2 * pad), dtype=np.float32)
    new = np.zeros_like(h)
    outputs = np.zeros((STRIDE, WIDTH + 2 * pad), dtype=np.float32)
    steps_per_tile = WIDTH - 2 * steps
    for first in range(0, len(logits) // STRIDE, steps_per_tile):
        for t in range(WIDTH):
            for k in range(STRIDE):
                samples[k, pad + t] = padded[(first + t) * STRIDE + k]
        _convolve(samples, stem, stem_bias, 1, pad, h)
        for o in range(num_channels):
            for t in range(pad, pad + WIDTH):
                h[o, t] = max(h[o, t], np.float32(0.0))
        for layer in range(len(dilations)):
            _convolve(h, body[layer], body_bias[layer], dilations[layer], pad, new)
            for o in range(num_channels):
                for t in range(pad, pad + WIDTH):
                    h[o, t] += max(new[o, t], np.float32(0.0))
        _convolve(h, head, head_bias, 1, pad, outputs)
        for t in range(steps_per_tile):
            for k in range(STRIDE):
                logits[(first + t) * STRIDE + k] = outputs[k, pad + steps + t]
