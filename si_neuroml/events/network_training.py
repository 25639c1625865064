"""Train a network on windows of labelled traces, with skorch; imported only to train."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler

from ..early_stopping import Interruptible, StopEarly
from ..errors import InputError, TrainingError
from ..training import one_thread, progress, resolve_device, seeded
from .labels import label_mask
from .windows import DrawnWindows, LabelledTraces, Windows

__all__ = ["PRESETS", "TrainingSettings", "train_network", "training_settings"]

# share of the steps over which the learning rate rises
WARM_UP = 0.1


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes
    ----------
    learning_rate, weight_decay : float
        Of AdamW. The rate rises over the first tenth of the steps, then falls along half a cosine.
    batch_size, max_epochs : int
        Windows per step, and how many epochs.
    steps_per_epoch : int | None
        An epoch is so many batches of windows drawn at random and changed, see
        :class:`~si_neuroml.events.windows.DrawnWindows`, so that few labels are learned from as long as many.
        None: one pass over the windows of the traces as they are.
    patience : int | None
        Where cells are held out of the training: stop after so many epochs without a higher average precision of
        events in them; the best state is kept. None: train to the end.
    window, overlap : int
        Of the windows, in samples; drawn windows overlap by chance only.
    class_weight : str | None
        How much more samples inside events count: "sqrt", the root of the ratio of the classes; "balanced", the
        ratio; None, nothing.
    gain_log_sd, stretch_log_sd : float
        How much drawn windows are scaled and stretched.
    """

    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    batch_size: int = 32
    max_epochs: int = 40
    steps_per_epoch: int | None = 100
    patience: int | None = None
    window: int = 256
    overlap: int = 0
    class_weight: str | None = None
    gain_log_sd: float = 0.3
    stretch_log_sd: float = 0.2

    def __post_init__(self):
        for name in ("learning_rate", "batch_size", "max_epochs", "window"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)!r}.")
        for name in ("steps_per_epoch", "patience"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, or None; got {getattr(self, name)!r}.")
        if self.class_weight not in (None, "sqrt", "balanced"):
            raise InputError(f'class_weight must be None, "sqrt" or "balanced", got {self.class_weight!r}.')


# Pradeep, Agarwal and Advani: cross-entropy per time step, windows of 500 samples that overlap by 50. They take Adam;
# here it is AdamW for all networks: the decay of a weight does not depend on its gradients
_PAPER = TrainingSettings(
    learning_rate=1e-3,
    max_epochs=50,
    steps_per_epoch=None,
    patience=10,
    window=500,
    overlap=50,
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
    settings: TrainingSettings,
    *,
    target_sd: float,
    held_out_score: Callable[[Any], float] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
) -> dict[str, Any]:
    """Train a network in place.

    Parameters
    ----------
    network : torch.nn.Module
        From :func:`~si_neuroml.events.networks.build_network`.
    train : sequence of LabelledTraces
        What is learned from.
    settings : TrainingSettings
        How.
    target_sd : float
        Samples over which the target falls from the time of an event.
    held_out_score : callable, optional
        How good the network is on what it is not trained on, larger is better; looked at after every epoch if there is
        a patience. Default: none, and it is trained to the end.
    seed : int, default: 0
        Of the order of the windows, of dropout and of the changes.
    device : str, default: "cpu"
        Or "cuda", "auto".
    progress_bar : bool, default: True
        Whether to show one.

    Returns
    -------
    dict
        ``loss`` by epoch, ``held_out_score`` by epoch (empty without), ``best_epoch``, ``num_windows`` of an epoch.

    Raises
    ------
    TrainingError
        When there is nothing to learn from, or the loss is not finite.
    """
    weight = _positive_weight(train, settings.class_weight)
    windows = _windows(network, train, settings, target_sd, seed)
    drawn = isinstance(windows, DrawnWindows)
    bar = progress(range(settings.max_epochs), description="fit event detector", show=progress_bar)
    steps = settings.max_epochs * (len(windows) if drawn else -(-len(windows) // settings.batch_size))
    rate = {"max_lr": settings.learning_rate, "total_steps": steps, "pct_start": WARM_UP, "cycle_momentum": False}
    callbacks = [
        ("schedule", LRScheduler(torch.optim.lr_scheduler.OneCycleLR, step_every="batch", **rate)),
        ("clipping", GradientNormClipping(1.0)),
        ("bar", _CountEpochs(bar)),
    ]
    stops_early = held_out_score is not None and settings.patience is not None
    if stops_early:
        options = {"monitor": "held_out_score", "lower_is_better": False, "load_best": True, "sink": _no_output}
        callbacks += [("score", _Scored(network, held_out_score))]
        callbacks += [("stopping", StopEarly(patience=settings.patience, **options))]
    with bar, seeded(seed), one_thread():
        net = _EventNet(
            _WindowLogits(network),
            criterion=torch.nn.BCEWithLogitsLoss,
            criterion__pos_weight=torch.tensor(weight),
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=settings.weight_decay,
            optimizer__fused=True,
            lr=settings.learning_rate,
            max_epochs=settings.max_epochs,
            batch_size=settings.batch_size,
            # drawn windows come in batches
            **({"iterator_train__batch_size": None} if drawn else {"iterator_train__shuffle": True}),
            train_split=None,
            callbacks=callbacks,
            device=resolve_device(device),
            verbose=0,
        )
        net.fit(_DataSet(windows), y=None)
    loss = net.history[:, "train_loss"]
    if not np.isfinite(loss).all():
        raise TrainingError(
            f"The loss became {loss[-1]} in epoch {len(loss)}. Look for extreme values in the traces, or use a smaller "
            f"learning_rate than {settings.learning_rate:g}."
        )
    network.to("cpu").eval()
    scores = net.history[:, "held_out_score"] if stops_early else []
    return {
        "loss": loss,
        "held_out_score": scores,
        "best_epoch": int(np.argmax(scores)) if scores else len(loss) - 1,
        "num_windows": len(windows) * (settings.batch_size if drawn else 1),
    }


def _windows(network, traces, settings, target_sd, seed):
    # a network on windows sees them whole; a convolution needs its context around them
    whole = hasattr(network, "window")
    context, grid = ((0, 0), 1) if whole else (network.context, network.alignment)
    window = network.window if whole else -(-settings.window // grid) * grid
    options = {"target_sd": target_sd, "window": window}
    if settings.steps_per_epoch is None:
        windows = Windows(traces, context, overlap=min(settings.overlap, window - 1), grid=grid, **options)
    else:
        options |= {"batch_size": settings.batch_size, "num_batches": settings.steps_per_epoch, "seed": seed}
        options |= {"gain_log_sd": settings.gain_log_sd, "stretch_log_sd": settings.stretch_log_sd}
        windows = DrawnWindows(traces, context, **options)
    return windows


def _positive_weight(traces, class_weight):
    inside = sum(int(label_mask(part.labels, *part.x.shape).sum()) for part in traces)
    outside = sum(part.x.size for part in traces) - inside
    if not (inside and outside):
        raise TrainingError(f"There is nothing to tell apart: {inside} samples lie inside events, {outside} outside.")
    ratio = outside / inside
    return {None: 1.0, "sqrt": ratio**0.5, "balanced": ratio}[class_weight]


def _no_output(*_):
    pass


class _EventNet(Interruptible, NeuralNet):
    """As it is, but for Ctrl-C."""


class _WindowLogits(torch.nn.Module):
    """The network on windows as :class:`Windows` and :class:`DrawnWindows` cut them."""

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


class _Scored(Callback):
    """Notes the score on what is held out."""

    def __init__(self, network, score):
        self.network, self.score = network, score

    def on_epoch_end(self, net, **kwargs):
        net.history.record("held_out_score", float(self.score(self.network)))


class _CountEpochs(Callback):
    """Moves a progress bar on."""

    def __init__(self, bar):
        self.bar = bar

    def on_epoch_end(self, net, **kwargs):
        self.bar.set_postfix(loss=net.history[-1, "train_loss"], refresh=False)
        self.bar.update()
