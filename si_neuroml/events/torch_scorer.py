"""Any of the torch networks as a scorer.

A trace is divided into blocks that start at frames of the segment which are multiples of the block's length, and each
block is scored from one window of fixed length, in batches of a fixed number of windows. So the arithmetic of a sample
does not depend on the chunk it comes in, and torch never meets a new shape, which would cost it more than the network.
Scores of different chunks agree to the last bit on one machine; between machines they differ by about 1e-5.
"""

import threading
from typing import Any, Self

import numpy as np

from ..errors import InputError
from ..training import one_thread
from .conditioning import reflected_indices

__all__ = ["TorchScorer"]

# windows per batch, the last ones empty where there are fewer
BATCH_WINDOWS = 16
# torch's number of threads belongs to the whole process
_ONE_AT_A_TIME = threading.Lock()


class TorchScorer:
    """Scores of a trained torch network, its logits.

    Torch is imported when it is first needed, and the module is built in each process that scores; what travels are
    the weights as arrays. In a pool of threads one thread scores at a time: use processes.

    Parameters
    ----------
    arrays : dict of float32 array
        Weights as torch names them.
    network : str
        Name of the network, see :func:`~si_neuroml.events.networks.build_network`.
    **settings
        Of the network.

    Attributes
    ----------
    before, after, alignment : int
        As :mod:`si_neuroml.events.networks` has them; `alignment` is the length of a block.
    """

    def __init__(self, arrays: dict[str, np.ndarray], network: str, **settings: Any):
        import torch

        from .networks import build_network

        with torch.device("meta"):
            module = build_network(network, **settings)
        expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        found = {name: np.shape(value) for name, value in arrays.items()}
        if expected != found:
            wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
            raise InputError(f"These weights are not those of network {network!r} with {settings}: {wrong} differ.")
        self._arrays = {name: np.asarray(value, dtype="float32") for name, value in arrays.items()}
        self._network, self._settings = network, module.settings()
        self.before, self.after, self.alignment = module.before, module.after, module.block
        self._context = module.context
        self._module = None

    @classmethod
    def from_network(cls, name: str, network: Any) -> Self:
        """From a torch network that :func:`~si_neuroml.events.networks.build_network` made under this name."""
        arrays = {key: value.detach().cpu().numpy() for key, value in network.state_dict().items()}
        return cls(arrays, name, **network.settings())

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], **settings: Any) -> Self:
        """From :meth:`to_arrays` and :meth:`settings`."""
        return cls(arrays, **settings)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The weights."""
        return dict(self._arrays)

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the weights."""
        return {"network": self._network, **self._settings}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_module": None}

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Logits of conditioned traces.

        Parameters
        ----------
        x : float32 array, shape (num_channels, num_samples)
            The first sample at a frame that is a multiple of :attr:`alignment`.

        Returns
        -------
        float32 array, shape (num_channels, num_samples)
            Within :attr:`before` and :attr:`after` samples of the ends as if ``x`` went on reflected.
        """
        num_channels, num_samples = x.shape
        if not (num_channels and num_samples):
            return np.empty(x.shape, dtype="float32")
        num_blocks = -(-num_samples // self.alignment)
        stop = num_blocks * self.alignment + self._context[1]
        padded = np.asarray(x, dtype="float32")[:, reflected_indices(num_samples, -self._context[0], stop)]
        length = self._context[0] + self.alignment + self._context[1]
        windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)[:, :: self.alignment]
        scores = self._windows(windows.reshape(-1, length))
        return np.ascontiguousarray(scores.reshape(num_channels, -1)[:, :num_samples])

    def _windows(self, windows):
        """Logits of the middle of each window."""
        import torch

        scores = np.empty((len(windows), self.alignment), dtype="float32")
        batch = torch.zeros((BATCH_WINDOWS, windows.shape[1]))
        with _ONE_AT_A_TIME, one_thread(), torch.inference_mode():
            if self._module is None:
                self._module = self._build()
            for start in range(0, len(windows), BATCH_WINDOWS):
                rows = windows[start : start + BATCH_WINDOWS]
                batch[: len(rows)] = torch.tensor(rows)
                batch[len(rows) :] = 0.0
                scores[start : start + len(rows)] = self._module.valid(batch)[: len(rows)].numpy()
        return scores

    def _build(self):
        import torch

        from .networks import build_network

        # the random weights drawn here are overwritten; the user's random state stays as it was
        with torch.random.fork_rng(devices=[]):
            module = build_network(self._network, **self._settings)
        module.load_state_dict({name: torch.tensor(value) for name, value in self._arrays.items()})
        return module.eval()
