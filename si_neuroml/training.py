"""What all torch models of this package share: device, seeds, learning-rate schedules, early stopping."""

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .errors import InputError, TrainingError

__all__ = [
    "EarlyStopping",
    "cosine_factor",
    "minibatches",
    "one_thread",
    "progress",
    "resolve_device",
    "seeded",
]


def resolve_device(device: str) -> str:
    """The torch device for "auto" | "cpu" | "cuda" | "cuda:N".

    Raises
    ------
    InputError
        When a device is asked for that this machine does not have.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = str(device).split(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise InputError(f'device must be "auto", "cpu" or "cuda", got {device!r}.')
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError('device="cuda" was asked for, but torch sees no CUDA device here. Use device="auto".')
    return str(device)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from `seed` inside, the user's own state untouched outside."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside.

    Networks of this size gain little from more threads, become much slower when cores are shared with other programs,
    and would give results that depend on the number of threads.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def minibatches(num_rows: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Row indices in a new random order, in batches of nearly equal size.

    Nearly equal, because batch norm has no variance in a batch of one left over at the end.
    """
    num_batches = max(1, round(num_rows / batch_size))
    return np.array_split(rng.permutation(num_rows), num_batches)


def cosine_factor(epoch: int, epochs: int) -> float:
    """Learning-rate factor that falls from 1 at the first epoch towards 0 after the last along half a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))


class EarlyStopping:
    """Keep the best state of a torch module by a score on held-out data, larger is better.

    Parameters
    ----------
    patience : int | None
        Epochs without a better score before :attr:`exhausted`; None: never.
    """

    def __init__(self, patience: int | None):
        self.patience = patience
        self.best_score = -math.inf
        self.best_epoch = -1
        self.epoch = -1
        self._best_state = None

    def update(self, score: float, module: Any) -> None:
        """Take note of one epoch's score and of the module's state if it is the best one."""
        self.epoch += 1
        if not math.isfinite(score):
            raise TrainingError(
                f"The held-out score became {score} in epoch {self.epoch}. Look for extreme values in the traces, or "
                "use a smaller learning_rate."
            )
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            self._best_state = copy.deepcopy(module.state_dict())

    @property
    def exhausted(self) -> bool:
        """Whether the patience is over."""
        return self.patience is not None and self.epoch - self.best_epoch >= self.patience

    def restore(self, module: Any) -> None:
        """Put the best state back into the module."""
        if self._best_state is not None:
            module.load_state_dict(self._best_state)


def progress(iterable: Iterable, *, description: str, show: bool, total: int | None = None) -> Any:
    """A progress bar in the look of SpikeInterface's own."""
    from tqdm.auto import tqdm

    return tqdm(iterable, desc=description, disable=not show, total=total)
