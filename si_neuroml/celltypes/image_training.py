"""Train a network on scalogram images with skorch, as a scikit-learn estimator; imported only where one is used.

As in Amprimo et al. (2025): all layers are trained, from ImageNet weights or from random ones, with dropout before the
last layer and Adam with a learning rate that falls, for about 15 epochs. Added here: class weights, whole donors held
out to stop on if asked for, and shifts and gains of the training images.
"""

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from skorch import NeuralNet
from skorch.callbacks import GradientNormClipping, LRScheduler
from skorch.dataset import Dataset
from skorch.helper import predefined_split

from ..classification.folds import group_folds
from ..classification.preparation import check_training_set, class_weights
from ..early_stopping import Interruptible, StopEarly
from ..errors import InputError, TrainingError
from ..training import cosine_factor, one_thread, resolve_device, seeded
from .backbones import build_backbone
from .networks import ScalogramNetwork, measure_images

__all__ = ["IMAGE_DEFAULTS", "ImageNetwork", "image_settings"]

GRADIENT_NORM = 5.0
# of the loss of an auxiliary classifier (Szegedy et al. 2016)
AUXILIARY_WEIGHT = 0.4
# InceptionV3 has its auxiliary classifier from this size on
AUXILIARY_SIZE = 299
BATCH_PREDICT = 128
VALIDATION_FOLDS = 5
IMAGE_DEFAULTS: dict[str, Any] = {
    "learning_rate": None,
    "weight_decay": 1e-4,
    "batch_size": 32,
    "max_epochs": 15,
    "patience": None,
    "dropout": 0.2,
    "input_size": None,
    "shift": 4,
    "gain": 0.1,
}
# networks with ImageNet weights must not forget them
LEARNING_RATES = {"random": 2e-3, "pretrained": 3e-4}


class ImageNetwork(ClassifierMixin, BaseEstimator):
    """A network on images (num_cells, num_channels, num_frequencies, num_samples).

    Parameters
    ----------
    backbone : str, default: "compact"
        A key of :data:`~si_neuroml.celltypes.backbones.BACKBONES`.
    weights : str | Path, optional
        "imagenet" or a file, see :func:`~si_neuroml.celltypes.backbones.build_backbone`. Default: random.
    options : dict, optional
        See :func:`image_settings`.
    class_weight_power : float, default: 1
        0: every cell counts the same; 1: every class does.
    seed : int, default: 0
        Of weights, order, dropout, shifts and gains.
    device : str, default: "cpu"
        For training: "cpu", "cuda" or "auto". Predictions are made on the CPU.
    """

    def __init__(
        self,
        backbone: str = "compact",
        weights: Any = None,
        options: dict[str, Any] | None = None,
        class_weight_power: float = 1.0,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.backbone, self.weights, self.options = backbone, weights, options
        self.class_weight_power, self.seed, self.device = class_weight_power, seed, device

    def fit(self, X: np.ndarray, y: np.ndarray, *, groups: np.ndarray | None = None) -> Self:
        """Train.

        Parameters
        ----------
        X, y : arrays, shapes (num_cells, num_channels, num_frequencies, num_samples) and (num_cells,)
            Image and class of each cell.
        groups : array, shape (num_cells,), optional
            Donor of each cell: with ``patience``, whole donors are held out. Default: cells are, at random.

        Raises
        ------
        TrainingError
            On one class, or when the loss does not stay finite.
        """
        X = np.asarray(X, dtype="float32")
        if X.ndim != 4 or not np.isfinite(X).all():
            raise InputError(f"Images must be finite, (cells, channels, frequencies, samples); got shape {X.shape}.")
        _, self.classes_, labels, weights = check_training_set(X.reshape(len(X), -1), y)
        settings = image_settings(self.options, self.weights is not None)
        weights = (weights * class_weights(labels, self.class_weight_power)).astype("float32")
        train, held_out = self._split(labels, groups, settings["patience"])
        with seeded(self.seed), one_thread():
            network = self._build(X.shape[1], measure_images(X[train]), settings, self.weights)
            stop_on = None if held_out is None else (X[held_out], labels[held_out])
            net = _trainer(network, settings, stop_on, int(train.sum()), self)
            try:
                net.fit({"images": X[train], "weight": weights[train]}, labels[train])
            except (FloatingPointError, ValueError) as error:
                raise TrainingError(f"Training {self.backbone!r} failed: {error}") from error
        self.network_ = net.module_.network.cpu().eval()
        self.history_ = {
            key: [float(row[key]) for row in net.history]
            for key in ("train_loss", "valid_loss")
            if key in net.history[0]
        }
        if not np.isfinite(self.history_["train_loss"]).all():
            raise TrainingError(f"The loss of {self.backbone!r} did not stay finite. Use a smaller learning_rate.")
        self.num_channels_ = X.shape[1]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float64, shape (num_cells, num_classes)."""
        return self._forward(X, lambda batch: torch.softmax(self.network_(batch).double(), dim=1), len(self.classes_))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each image."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def embed(self, X: np.ndarray) -> np.ndarray:
        """What the last layer reads, float32, shape (num_cells, num_embedding)."""
        return self._forward(X, self.network_.embed, self.network_.head.in_features, "float32")

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        own = {"backbone": self.backbone, "weights": None if self.weights is None else str(self.weights)}
        own |= {"options": self.options, "class_weight_power": self.class_weight_power}
        return own | {"num_channels": self.num_channels_}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The network's state."""
        return {name: value.contiguous().numpy() for name, value in self.network_.state_dict().items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], classes: Any, *, num_channels: int, **settings: Any) -> Self:
        """The trained network again; `classes` in the order in which they were trained."""
        self = cls(**settings)
        self.classes_, self.num_channels_ = np.asarray(classes), num_channels
        scaling = {name: np.ones(num_channels) for name in ("unit", "mean", "sd")}
        # random weights are drawn and overwritten; the user's random state stays as it was
        with seeded(0):
            self.network_ = self._build(num_channels, scaling, image_settings(self.options, bool(self.weights)), None)
        self.network_.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        self.network_.eval()
        return self

    def _build(self, num_channels, scaling, settings, weights):
        size = settings["input_size"]
        auxiliary = size is not None and min(size) >= AUXILIARY_SIZE
        backbone = build_backbone(self.backbone, len(self.classes_), num_channels, weights=weights, auxiliary=auxiliary)
        network = ScalogramNetwork(backbone, scaling, settings["dropout"], size)
        # about twice as fast on processors
        return network.to(memory_format=torch.channels_last)

    def _split(self, labels, groups, patience):
        """Masks of what to train on, and of what to stop on or None."""
        everything = np.ones(len(labels), dtype=bool)
        if patience is None:
            return everything, None
        own = np.arange(len(labels)) if groups is None or len(np.unique(groups)) < 2 else groups
        for test in group_folds(labels, own, VALIDATION_FOLDS, self.seed):
            # a fold that takes a class away from training is no use
            if len(np.unique(labels[~test])) == len(self.classes_):
                return ~test, test
        return everything, None

    def _forward(self, X, work, width, dtype="float64"):
        X = np.asarray(X, dtype="float32")
        if X.ndim != 4 or X.shape[1] != self.num_channels_:
            raise InputError(f"Images must have {self.num_channels_} channels, got shape {X.shape}.")
        parts = [np.zeros((0, width), dtype=dtype)]
        with one_thread(), torch.inference_mode():
            for start in range(0, len(X), BATCH_PREDICT):
                batch = torch.from_numpy(X[start : start + BATCH_PREDICT])
                parts.append(work(batch).numpy())
        return np.concatenate(parts)


def image_settings(options: dict[str, Any] | None = None, pretrained: bool = False) -> dict[str, Any]:
    """All settings of network and training, the given ones in place of the defaults.

    Parameters
    ----------
    options : dict, optional
        ``learning_rate`` (2e-3 from random weights, 3e-4 from ImageNet's), ``weight_decay`` (1e-4), ``batch_size``
        (32), ``max_epochs`` (15), ``patience`` (None: all epochs; else epochs without a better loss on held-out
        donors), ``dropout`` (0.2), ``input_size`` (None: as the images are; (299, 299) is InceptionV3's own), ``shift``
        (4, the most columns by which a training image is moved) and ``gain`` (0.1, sd of the logarithm of its factor).
    pretrained : bool, default: False
        Whether the weights are ImageNet's.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        On an unknown setting, or one that makes no sense.
    """
    unknown = [name for name in options or {} if name not in IMAGE_DEFAULTS]
    if unknown:
        raise InputError(f"Image networks have no settings {unknown}; they have {list(IMAGE_DEFAULTS)}.")
    settings = IMAGE_DEFAULTS | (options or {})
    if settings["learning_rate"] is None:
        settings["learning_rate"] = LEARNING_RATES["pretrained" if pretrained else "random"]
    if settings["input_size"] is not None:
        settings["input_size"] = tuple(map(int, settings["input_size"]))
    positive = [name for name in ("learning_rate", "batch_size", "max_epochs") if not settings[name] > 0]
    negative = [name for name in ("weight_decay", "shift", "gain") if settings[name] < 0]
    if positive or negative or not 0 <= settings["dropout"] < 1:
        raise InputError(
            "learning_rate, batch_size and max_epochs must be above 0, weight_decay, shift and gain at least 0, and "
            f"dropout from 0 to below 1; got { {name: settings[name] for name in (*positive, *negative, 'dropout')} }."
        )
    return settings


class _CellNet(Interruptible, NeuralNet):
    """Mean over the batch of weight * cross-entropy; the auxiliary classifier's counts 0.4."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        logits = y_pred if isinstance(y_pred, tuple) else (y_pred,)
        weight, truth = X["weight"].to(logits[0].device), y_true.to(logits[0].device)
        entropy = torch.nn.functional.cross_entropy
        losses = [entropy(one, truth, reduction="none") @ weight / len(truth) for one in logits]
        return losses[0] + AUXILIARY_WEIGHT * sum(losses[1:])


class _TrainingNetwork(torch.nn.Module):
    """The network behind shifts and gains of its training images; drops the weights that belong to the loss."""

    def __init__(self, network, shift, gain):
        super().__init__()
        self.network, self.shift, self.gain = network, shift, gain

    def forward(self, images, weight):
        return self.network(self._varied(images) if self.training else images)

    def _varied(self, images):
        if self.gain:
            images = images * torch.exp(self.gain * torch.randn(len(images), 1, 1, 1, device=images.device))
        if self.shift:
            num, steps = images.shape[3], torch.randint(-self.shift, self.shift + 1, (len(images),)).to(images.device)
            columns = (torch.arange(num, device=images.device) + steps[:, None]).clamp(0, num - 1)
            images = images.gather(3, columns[:, None, None].expand(images.shape))
        return images


def _trainer(network, settings, held_out, num_cells, estimator):
    epochs, batch_size = settings["max_epochs"], settings["batch_size"]
    callbacks = [
        ("schedule", LRScheduler("LambdaLR", lr_lambda=lambda epoch: cosine_factor(epoch, epochs))),
        ("clipping", GradientNormClipping(GRADIENT_NORM)),
    ]
    split = None
    if held_out is not None:
        images, labels = held_out
        weight = class_weights(labels, estimator.class_weight_power).astype("float32")
        split = predefined_split(Dataset({"images": images, "weight": weight}, labels))
        stopping = StopEarly(patience=settings["patience"], load_best=True, sink=_no_output)
        callbacks.append(("stopping", stopping))
    return _CellNet(
        _TrainingNetwork(network, settings["shift"], settings["gain"]),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=settings["weight_decay"],
        lr=settings["learning_rate"],
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        # batch norm has no variance in a batch of one left over at the end
        iterator_train__drop_last=num_cells > batch_size and num_cells % batch_size == 1,
        train_split=split,
        callbacks=callbacks,
        device=resolve_device(estimator.device),
        verbose=0,
    )


def _no_output(*_):
    pass
