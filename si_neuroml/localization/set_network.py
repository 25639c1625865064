"""The network of the neural posterior, in numpy: a set of channels in, the parameters of a posterior out.

A channel enters as its waveform w_c and its place r_c relative to the centre channel. With small dense networks g
(places) and f (waveforms), the first round is

    h = dense( sum_c  g(r_c) (x) f(w_c) ),

which is what the first layer of an ordinary network on a fixed array would compute, with weights that are smooth
functions of the contact's place: any number of channels, in any order, on any probe. In the second round every channel
is looked at again, given h. Channels that are not observed have g = 0.
"""

from dataclasses import dataclass

import numpy as np

__all__ = [
    "LENGTH_UM",
    "NUM_OUTPUTS",
    "POOL_SCALE",
    "RADIAL_SCALES_UM",
    "SetNetwork",
    "blocked_product",
    "position_features",
]

# mean (3), Cholesky factor of the scale matrix (6), degrees of freedom, log amplitude and its sd, outlier logit
NUM_OUTPUTS = 13
LENGTH_UM = 30.0
RADIAL_SCALES_UM = (12.0, 24.0, 48.0, 96.0)
POOL_SCALE = 8.0
# spikes per matrix product. Always this many, padded with zeros, so that a spike meets the same arithmetic whatever
# chunk it falls into
BLOCK_SPIKES = 64
# a matrix product sums over at most so many terms at once: what BLAS does with more depends on its number of threads
BLOCK_TERMS = 256


def position_features(offsets: np.ndarray) -> np.ndarray:
    """Smooth features of relative places in um: (..., 3) to (..., 7), float32."""
    squared = (offsets**2).sum(axis=-1, keepdims=True)
    bumps = [np.exp(-0.5 * squared / scale**2) for scale in RADIAL_SCALES_UM]
    return np.concatenate([offsets / LENGTH_UM, *bumps], axis=-1).astype("float32")


def blocked_product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``rows @ matrix``, the same to the last bit with any number of BLAS threads."""
    product = rows[:, :BLOCK_TERMS] @ matrix[:BLOCK_TERMS]
    for start in range(BLOCK_TERMS, len(matrix), BLOCK_TERMS):
        product += rows[:, start : start + BLOCK_TERMS] @ matrix[start : start + BLOCK_TERMS]
    return product


def _relu(values):
    return np.maximum(values, 0.0, out=values)


@dataclass(frozen=True)
class SetNetwork:
    """Weights and how they are applied.

    Attributes
    ----------
    weights : dict of float32 array
        ``<layer>.weight`` of shape (num_out, num_in) and ``<layer>.bias``, as torch names them.
    """

    weights: dict[str, np.ndarray]

    def __post_init__(self):
        # transposed once, so that a layer is rows @ matrix
        turned = {
            name.removesuffix(".weight"): np.ascontiguousarray(value.T, dtype="float32")
            for name, value in self.weights.items()
            if name.endswith(".weight")
        }
        object.__setattr__(self, "_matrix", turned)

    @property
    def basis_size(self) -> int:
        """Numbers that describe a waveform."""
        return self._matrix["channel1"].shape[0]

    def place_codes(self, offsets: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """g(r_c) for relative places.

        Parameters
        ----------
        offsets : array, shape (num_rows, num_slots, 3)
            In um.
        observed : array, shape (num_rows, num_slots)
            Which slots hold a channel.

        Returns
        -------
        float32 array, shape (num_rows, num_slots, num_codes)
        """
        rows = position_features(np.asarray(offsets, dtype="float64"))
        for index in (0, 2):
            rows = _relu(self._dense(rows, f"place.{index}"))
        return self._dense(rows, "place.4") * np.asarray(observed, dtype="float32")[..., None]

    def __call__(self, coefficients: np.ndarray, place_codes: np.ndarray) -> np.ndarray:
        """Outputs of the network.

        Parameters
        ----------
        coefficients : float32 array, shape (num_spikes, num_slots, basis_size)
            Waveforms in the model's basis, uV; zero where nothing is observed.
        place_codes : float32 array, shape (num_spikes, num_slots, num_codes)
            From :meth:`place_codes`; zero where nothing is observed.

        Returns
        -------
        float32 array, shape (num_spikes, NUM_OUTPUTS)
            Equal to the last bit however the spikes are divided into calls.
        """
        outputs = np.empty((len(coefficients), NUM_OUTPUTS), dtype="float32")
        for start in range(0, len(coefficients), BLOCK_SPIKES):
            part = slice(start, start + BLOCK_SPIKES)
            waves, places = coefficients[part], place_codes[part]
            if missing := BLOCK_SPIKES - len(waves):
                waves, places = (np.pad(a, ((0, missing), (0, 0), (0, 0))) for a in (waves, places))
            outputs[part] = self._forward(waves, places)[: BLOCK_SPIKES - missing]
        return outputs

    def _forward(self, coefficients, places):
        scale = np.sqrt(np.maximum((coefficients**2).sum(axis=2).max(axis=1), 1e-6))
        first = _relu(self._dense(coefficients / scale[:, None, None], "channel1"))
        code = _relu(self._dense(first, "channel2"))
        code = np.concatenate([code, np.ones_like(code[..., :1])], axis=2)
        pooled = np.concatenate([_pool(places, code), np.log(scale)[:, None] - np.float32(5.0)], axis=1)
        hidden = _relu(self._dense(pooled, "dense1"))
        hidden += _relu(self._dense(hidden, "dense2"))
        again = self._dense(first, "channel3") + self._dense(places, "place_in")
        again += self._dense(hidden, "context")[:, None]
        code = _relu(self._dense(_relu(again), "channel4"))
        hidden = hidden + _relu(self._dense(np.concatenate([_pool(places, code), hidden], axis=1), "dense3"))
        hidden += _relu(self._dense(hidden, "dense4"))
        return self._dense(hidden, "output")

    def _dense(self, values, layer):
        matrix = self._matrix[layer]
        rows = blocked_product(values.reshape(-1, values.shape[-1]), matrix)
        if (bias := self.weights.get(f"{layer}.bias")) is not None:
            rows += bias
        return rows.reshape(*values.shape[:-1], matrix.shape[1])


def _pool(places, code):
    """Sum over channels of the outer products, flattened."""
    return (places.transpose(0, 2, 1) @ code).reshape(len(places), -1) / np.float32(POOL_SCALE)
