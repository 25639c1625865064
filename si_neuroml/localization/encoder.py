"""The encoder without torch: what it sees, and its three matrix products with batch norm folded in.

Plain float32 arrays go to spawned workers cheaply, are safe in threads, and run at the speed of the matrix product.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Encoder", "encoder_inputs", "run_on_torch"]

# rows per matrix product. Always this many, padded with zeros, so that a spike meets the same arithmetic whatever chunk
# it falls into: results are then equal to the last bit for any chunk size and number of jobs
BLOCK_ROWS = 256
# hidden layers are padded with idle units to a multiple of this: a matrix product that is split over threads then falls
# into whole tiles, and one thread gives the same bits as two
PAD_UNITS = 128
# peaks below this are noise; the division keeps them finite
MIN_PEAK_UV = 1.0


def encoder_inputs(
    patches: np.ndarray, amplitudes: np.ndarray, scaling: str, contact_offsets: np.ndarray | None = None
) -> np.ndarray:
    """Patches as rows of numbers for the encoder.

    Parameters
    ----------
    patches : float32 array, shape (num_spikes, num_slots, num_samples + 1)
        Waveforms in uV with the flag ``observed`` behind. **Scaled in place** for `scaling` "peak".
    amplitudes : float32 array, shape (num_spikes, num_slots)
        Trough amplitudes in uV.
    scaling : "peak" | "raw"
        See :class:`~si_neuroml.localization.settings.LocalizerSettings`.
    contact_offsets : float32 array, shape (num_spikes, num_slots, 3), optional
        Places of the contacts in units of the box, for irregular probes.

    Returns
    -------
    float32 array, shape (num_spikes, num_inputs)
    """
    columns = []
    if scaling == "peak":
        peak = np.maximum(amplitudes.max(axis=1), MIN_PEAK_UV)
        patches[:, :, :-1] /= peak[:, None, None]
        columns.append(np.log(peak)[:, None])
    if contact_offsets is not None:
        columns.append(contact_offsets.reshape(len(patches), -1))
    flat = patches.reshape(len(patches), -1)
    return flat if not columns else np.concatenate([flat, *columns], axis=1, dtype="float32")


@dataclass(frozen=True)
class Encoder:
    """Fully connected layers with ReLU between them; the last gives the mean and, by softplus, the variance.

    Attributes
    ----------
    weights : list of float32 array, shape (num_in, num_out)
        One per layer, batch norm folded in.
    biases : list of float32 array, shape (num_out,)
        One per layer.
    """

    weights: list[np.ndarray]
    biases: list[np.ndarray]

    def __post_init__(self):
        object.__setattr__(self, "_padded", _pad_hidden_units(self.weights, self.biases))

    def __call__(self, inputs: np.ndarray, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the place of every spike, relative to the centre contact.

        Parameters
        ----------
        inputs : float32 array, shape (num_spikes, num_inputs)
            From :func:`encoder_inputs`.
        device : str, default: "cpu"
            "cpu": numpy; anything else: torch on that device.

        Returns
        -------
        mean, variance : float32 arrays, shape (num_spikes, 3)
            In um and um^2. The variance is softplus + 1e-6 of the network's output.
        """
        outputs = self._run_blocks(inputs) if device == "cpu" else run_on_torch(self, inputs, device)
        mean, raw = outputs[:, :3], outputs[:, 3:]
        return mean, np.logaddexp(np.float32(0.0), raw) + np.float32(1e-6)

    def _run_blocks(self, inputs: np.ndarray) -> np.ndarray:
        outputs = np.empty((len(inputs), self.weights[-1].shape[1]), dtype="float32")
        block = np.zeros((BLOCK_ROWS, inputs.shape[1]), dtype="float32")
        for start in range(0, len(inputs), BLOCK_ROWS):
            rows = inputs[start : start + BLOCK_ROWS]
            if len(rows) < BLOCK_ROWS:
                block[: len(rows)] = rows
                block[len(rows) :] = 0.0
                outputs[start : start + len(rows)] = self._forward(block)[: len(rows)]
            else:
                outputs[start : start + BLOCK_ROWS] = self._forward(rows)
        return outputs

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        *hidden, (last_weight, last_bias) = self._padded
        for weight, bias in hidden:
            rows = rows @ weight
            rows += bias
            np.maximum(rows, 0.0, out=rows)
        return rows @ last_weight + last_bias


def _pad_hidden_units(weights, biases):
    padded, extra_in = [], 0
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        extra_out = -weight.shape[1] % PAD_UNITS if index < len(weights) - 1 else 0
        padded.append((np.pad(weight, ((0, extra_in), (0, extra_out))), np.pad(bias, (0, extra_out))))
        extra_in = extra_out
    return padded


def run_on_torch(encoder: Encoder, inputs: np.ndarray, device: str) -> np.ndarray:
    """The encoder's raw outputs, computed by torch on `device`."""
    import torch

    with torch.inference_mode():
        rows = torch.from_numpy(np.ascontiguousarray(inputs)).to(device)
        layers = list(zip(encoder.weights, encoder.biases, strict=True))
        for index, (weight, bias) in enumerate(layers):
            rows = torch.addmm(torch.from_numpy(bias).to(device), rows, torch.from_numpy(weight).to(device))
            if index < len(layers) - 1:
                rows = rows.relu_()
        return rows.cpu().numpy()
