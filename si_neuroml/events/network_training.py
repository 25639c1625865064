"""Train a network on windows of labelled traces, with skorch; imported only to train."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from skorch.helper import predefined_split

from ..errors import InputError, TrainingError
from ..training import one_thread, progress, resolve_device, seeded
from .windows import LabelledTraces, Windows

__all__ = ["PRESETS", "TrainingSettings", "train_network", "training_settings"]


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes
    ----------
    learning_rate, weight_decay : float
        Of Adam (AdamW where the weights decay); the rate falls along half a cosine.
    batch_size, max_epochs : int
        Windows per step, and passes over them.
    patience : int
        Stop after so many epochs without a lower loss on held-out cells; the best state is kept.
    window, overlap : int
        Of the windows, in samples.
    class_weight : str | None
        How much more samples inside events count: "sqrt", the root of the ratio of the classes; "balanced", the
        ratio; None, nothing.
    empty_per_event : float | None
        Most windows without events for each with one.
    gain_log_sd : float
        Windows are scaled at random by this much.
    """

    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    batch_size: int = 64
    max_epochs: int = 25
    patience: int = 6
    window: int = 512
    overlap: int = 0
    class_weight: str | None = "sqrt"
    empty_per_event: float | None = 3.0
    gain_log_sd: float = 0.2

    def __post_init__(self):
        for name in ("learning_rate", "batch_size", "max_epochs", "patience", "window"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)!r}.")
        if self.class_weight not in (None, "sqrt", "balanced"):
            raise InputError(f'class_weight must be None, "sqrt" or "balanced", got {self.class_weight!r}.')


# Pradeep, Agarwal and Advani: Adam, cross-entropy per time step, windows of 500 samples that overlap by 50
_PAPER = TrainingSettings(
    learning_rate=1e-3,
    batch_size=32,
    max_epochs=50,
    patience=10,
    window=500,
    overlap=50,
    class_weight=None,
    empty_per_event=None,
    gain_log_sd=0.0,
)
PRESETS: dict[str, TrainingSettings] = {
    "strided": TrainingSettings(),
    "unet": TrainingSettings(),
    "bilstm": _PAPER,
    "tcn": _PAPER,
    "tcn_two_sided": _PAPER,
    "transformer": replace(_PAPER, patience=20),
}


def training_settings(network: str, **changes: Any) -> TrainingSettings:
    """The preset of a network, with some settings changed.

    Raises
    ------
    InputError
        On an unknown setting or value.
    """
    try:
        return replace(PRESETS[network], **changes)
    except TypeError as error:
        known = sorted(TrainingSettings.__dataclass_fields__)
        raise InputError(f"Training knows {known}, got {sorted(changes)}.") from error


def train_network(
    network: Any,
    train: Sequence[LabelledTraces],
    held_out: Sequence[LabelledTraces],
    settings: TrainingSettings,
    *,
    half_width: int,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> dict[str, Any]:
    """Train a network in place.

    Parameters
    ----------
    network : torch.nn.Module
        From :func:`~si_neuroml.events.networks.build_network`.
    train, held_out : sequence of LabelledTraces
        What is learned from, and what early stopping looks at.
    settings : TrainingSettings
        How.
    half_width : int
        Samples over which the target falls from the time of an event.
    seed : int, default: 0
        Of the order of the windows, of dropout and of the scaling.
    device : str, default: "cpu"
        Or "cuda", "auto".
    progress_bar : bool, default: True
        Whether to show one.

    Returns
    -------
    dict
        ``loss`` and ``held_out_loss`` by epoch, ``best_epoch``, ``num_windows``.

    Raises
    ------
    TrainingError
        When there is nothing to learn from, or the loss is not finite.
    """
    windows = _windows(network, train, settings, half_width, seed, augment=True)
    held_out_windows = _windows(network, held_out, settings, half_width, seed, augment=False)
    weight = _positive_weight(windows.positive_share, settings.class_weight)
    bar = progress(range(settings.max_epochs), description="fit event detector", show=progress_bar)
    with bar, seeded(seed), one_thread():
        net = NeuralNet(
            _WindowLogits(network),
            criterion=torch.nn.BCEWithLogitsLoss,
            criterion__pos_weight=torch.tensor(weight),
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=settings.weight_decay,
            lr=settings.learning_rate,
            max_epochs=settings.max_epochs,
            batch_size=settings.batch_size,
            iterator_train__shuffle=True,
            train_split=predefined_split(_DataSet(held_out_windows)),
            callbacks=[
                ("schedule", LRScheduler("CosineAnnealingLR", T_max=settings.max_epochs)),
                ("clipping", GradientNormClipping(1.0)),
                ("stopping", EarlyStopping(patience=settings.patience, load_best=True, sink=_no_output)),
                ("bar", _CountEpochs(bar)),
            ],
            device=resolve_device(device),
            verbose=0,
        )
        net.fit(_DataSet(windows), y=None)
    history = {key: [row[key] for row in net.history] for key in ("train_loss", "valid_loss")}
    if not np.isfinite(history["valid_loss"]).all():
        raise TrainingError(
            f"The loss became {history['valid_loss'][-1]} in epoch {len(net.history)}. Look for extreme values in the "
            f"traces, or use a smaller learning_rate than {settings.learning_rate:g}."
        )
    network.to("cpu").eval()
    return {
        "loss": history["train_loss"],
        "held_out_loss": history["valid_loss"],
        "best_epoch": int(np.argmin(history["valid_loss"])),
        "num_windows": len(windows),
    }


def _windows(network, traces, settings, half_width, seed, *, augment):
    # a network on windows sees them whole; a convolution needs its context around them
    context = (0, 0) if hasattr(network, "window") else network.context
    window = network.window if hasattr(network, "window") else settings.window
    windows = Windows(
        traces,
        context,
        half_width=half_width,
        window=window,
        overlap=min(settings.overlap, window - 1),
        grid=1 if hasattr(network, "window") else network.alignment,
        empty_per_event=settings.empty_per_event,
        gain_log_sd=settings.gain_log_sd if augment else 0.0,
        seed=seed,
    )
    if not windows.positive_share > 0:
        raise TrainingError("There are no events to learn from in the traces, or none in those held out.")
    return windows


def _positive_weight(share, class_weight):
    ratio = (1 - share) / share
    return {None: 1.0, "sqrt": ratio**0.5, "balanced": ratio}[class_weight]


def _no_output(*_):
    pass


class _WindowLogits(torch.nn.Module):
    """The network on windows as :class:`Windows` cuts them."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x) if hasattr(self.network, "window") else self.network.valid(x)


class _DataSet(torch.utils.data.Dataset):
    """Windows under the name by which skorch knows data sets."""

    def __init__(self, windows):
        self.windows = windows

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        return self.windows[index]


class _CountEpochs(Callback):
    """Moves a progress bar on."""

    def __init__(self, bar):
        self.bar = bar

    def on_epoch_end(self, net, **kwargs):
        self.bar.set_postfix(loss=net.history[-1, "train_loss"], held_out=net.history[-1, "valid_loss"], refresh=False)
        self.bar.update()
