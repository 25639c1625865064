"""Train a two-stream network with skorch, as a scikit-learn estimator; imported only where a network is used.

As in van Laar (2025): cross-entropy with dampened class weights, Adam with an L2 penalty, a learning rate that falls
along half a cosine, gradients clipped to norm 1, dropout that anneals to 0.05, and patience on the loss or the AUC of
units held out, here of whole subjects.
"""

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from skorch import NeuralNet
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from skorch.dataset import Dataset
from skorch.helper import predefined_split

from ..classification.folds import group_folds, macro_auc
from ..classification.preparation import Preparation, arrays_of, check_training_set, class_weights
from ..early_stopping import Interruptible, StopEarly
from ..errors import InputError, TrainingError
from ..training import cosine_factor, one_thread, resolve_device, seeded
from .networks import TwoStreamNetwork, set_dropout
from .presets import network_settings

__all__ = ["RegionNetwork"]

FINAL_DROPOUT = 0.05
GRADIENT_NORM = 1.0
BATCH_PREDICT = 1024
_TRAINING = ("learning_rate", "l2", "batch_size", "max_epochs", "patience", "monitor", "validation_fraction")
_LOSS = ("class_weight_power", "class_weight_factor")


class RegionNetwork(ClassifierMixin, BaseEstimator):
    """A network on [features | stream] columns; missing values are filled in and columns scaled inside.

    Parameters
    ----------
    method : str, default: "cnn"
        "dmlp", "lda_dense", "cnn", "tcn" or "transformer", see :mod:`si_neuroml.regions.networks`.
    num_features : int, default: 0
        Columns of X before the stream.
    options : dict, optional
        Settings of network and training, see :data:`si_neuroml.regions.presets.SHARED_DEFAULTS` and
        :data:`~si_neuroml.regions.presets.NETWORK_DEFAULTS`.
    preset : str, optional
        "all", "visual", "hippocampus" or "thalamus": the paper's settings for that group.
    class_weight_power : float, optional
        0: every unit counts the same; 1: every class does. Default: that of the options or the preset, else 1.
    seed : int, default: 0
        Of weights, order and dropout.
    device : str, default: "cpu"
        Or "cuda", "auto". Predictions are made on the CPU.
    """

    def __init__(
        self,
        method: str = "cnn",
        num_features: int = 0,
        options: dict[str, Any] | None = None,
        preset: str | None = None,
        class_weight_power: float | None = None,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.method, self.num_features, self.options, self.preset = method, num_features, options, preset
        self.class_weight_power, self.seed, self.device = class_weight_power, seed, device

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        sample_weight: np.ndarray | None = None,
        *,
        groups: np.ndarray | None = None,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Self:
        """Train.

        Parameters
        ----------
        X, y : arrays, shapes (num_units, num_columns) and (num_units,)
            Columns and class of each unit.
        sample_weight : array, shape (num_units,), optional
            Multiplies the class weights.
        groups : array, shape (num_units,), optional
            Subject of each unit: whole subjects are held out to stop on. Default: units are, at random.
        validation : (X, y), optional
            Units to stop on, in place of those; classes that are not in `y` are left out.

        Raises
        ------
        TrainingError
            On one class, or when the loss does not stay finite.
        """
        X, self.classes_, labels, weights = check_training_set(X, y, sample_weight)
        settings = self._resolved()
        of_rows = class_weights(labels, settings["class_weight_power"], settings["class_weight_factor"])
        of_classes = np.zeros(len(self.classes_))
        of_classes[labels] = of_rows
        weights = weights * of_rows
        train, held_out = self._split(X, labels, groups, validation, settings)
        self._prepare(X[train])
        with seeded(self.seed), one_thread():
            self.network_ = self._build(X.shape[1], labels[train], X[train], settings)
            inputs = self._inputs(X[train]) | {"weight": weights[train].astype("float32")}
            held_out = self._validation_set(held_out, of_classes)
            net = _trainer(self.network_, settings, held_out, int(train.sum()), self.device)
            net.fit(inputs, labels[train])
        self.network_ = net.module_.cpu().eval()
        self._note_history(net)
        self.n_features_in_ = X.shape[1]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities, float64, shape (num_units, num_classes)."""
        inputs, parts = self._inputs(np.asarray(X)), [np.zeros((0, len(self.classes_)))]
        with one_thread(), torch.inference_mode():
            for start in range(0, len(X), BATCH_PREDICT):
                batch = {key: torch.from_numpy(rows[start : start + BATCH_PREDICT]) for key, rows in inputs.items()}
                parts.append(torch.softmax(self.network_(**batch).double(), dim=1).numpy())
        return np.concatenate(parts)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        names = ("method", "num_features", "options", "preset", "class_weight_power")
        return {name: getattr(self, name) for name in names}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The network's state and the scaling."""
        arrays = {f"network.{key}": value.numpy() for key, value in self.network_.state_dict().items()}
        for part, preparation in (("features", self.prepare_features_), ("stream", self.prepare_stream_)):
            arrays |= {f"{part}.{key}": value for key, value in preparation.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], classes: Any, **settings: Any) -> Self:
        """The trained network again; `classes` in the order in which they were trained."""
        self = cls(**settings)
        self.classes_ = np.asarray(classes)
        self.prepare_features_ = Preparation.from_arrays(arrays_of("features", arrays))
        self.prepare_stream_ = Preparation.from_arrays(arrays_of("stream", arrays))
        state = {key: torch.from_numpy(value) for key, value in arrays_of("network", arrays).items()}
        # the random weights drawn here are overwritten; the user's random state stays as it was
        with seeded(0):
            directions = state["body.projection"].shape[1] if self.method == "lda_dense" else None
            self.network_ = self._network(len(self.prepare_stream_.fill), directions, self._resolved())
        self.network_.load_state_dict(state)
        self.network_.eval()
        self.n_features_in_ = self.num_features + len(self.prepare_stream_.fill)
        return self

    def _resolved(self):
        settings = network_settings(self.method, self.options, self.preset)
        if self.class_weight_power is not None:
            settings["class_weight_power"] = self.class_weight_power
        return settings

    def _split(self, X, labels, groups, validation, settings):
        """Rows to train on, and (X, labels) to stop on, or None."""
        if validation is not None:
            places = {name: k for k, name in enumerate(self.classes_)}
            known = np.isin(validation[1], self.classes_)
            held_out = np.array([places[name] for name in np.asarray(validation[1])[known]], dtype="int64")
            return np.ones(len(X), dtype=bool), (np.asarray(validation[0])[known], held_out) if known.any() else None
        num_folds = max(2, round(1 / settings["validation_fraction"]))
        # without groups each unit is one
        own = np.arange(len(X)) if groups is None else np.asarray(groups)
        if len(np.unique(own)) < 2:
            own = np.arange(len(X))
        for test in group_folds(labels, own, num_folds, self.seed):
            # a fold that takes a class away from training is no use
            if len(np.unique(labels[~test])) == len(self.classes_):
                return ~test, (X[test], labels[test])
        return np.ones(len(X), dtype=bool), None

    def _prepare(self, X):
        if X.shape[1] <= self.num_features:
            raise InputError(f"X has {X.shape[1]} columns, {self.num_features} of them features: no stream is left.")
        self.prepare_features_ = Preparation.fit(X[:, : self.num_features])
        self.prepare_stream_ = Preparation.fit(X[:, self.num_features :], "shared")

    def _inputs(self, X):
        parts = (self.prepare_features_, X[:, : self.num_features]), (self.prepare_stream_, X[:, self.num_features :])
        features, stream = (np.ascontiguousarray(one.apply(part), dtype="float32") for one, part in parts)
        return {"features": features, "stream": stream}

    def _validation_set(self, held_out, of_classes):
        if held_out is None:
            return None
        X, labels = held_out
        return Dataset(self._inputs(X) | {"weight": of_classes[labels].astype("float32")}, labels)

    def _build(self, num_columns, labels, X, settings):
        num_stream = num_columns - self.num_features
        if self.method != "lda_dense":
            return self._network(num_stream, None, settings)
        projection, offset = _discriminants(self.prepare_stream_.apply(X[:, self.num_features :]), labels)
        network = self._network(num_stream, projection.shape[1], settings)
        network.body.projection.copy_(torch.from_numpy(projection))
        network.body.offset.copy_(torch.from_numpy(offset))
        return network

    def _network(self, num_stream, directions, settings):
        own = {key: value for key, value in settings.items() if key not in (*_TRAINING, *_LOSS)}
        if directions is not None:
            own["directions"] = directions
        return TwoStreamNetwork(self.method, self.num_features, num_stream, len(self.classes_), **own)

    def _note_history(self, net):
        keys = [key for key in ("train_loss", "valid_loss", "valid_auc") if key in net.history[0]]
        self.history_ = {key: [float(row[key]) for row in net.history] for key in keys}
        if not np.isfinite(self.history_["train_loss"]).all():
            raise TrainingError(
                f"The training loss of {self.method!r} did not stay finite. Use a smaller learning_rate, or look for "
                "extreme values in the features."
            )


class _WeightedNet(Interruptible, NeuralNet):
    """Mean over the batch of weight * cross-entropy."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        losses = torch.nn.functional.cross_entropy(y_pred, y_true.to(y_pred.device), reduction="none")
        return (losses * X["weight"].to(y_pred.device)).mean()


def _trainer(network, settings, held_out, num_rows, device):
    epochs, batch_size = settings["max_epochs"], settings["batch_size"]
    callbacks = [
        ("dropout", _AnnealDropout(settings["dropout"], epochs)),
        ("schedule", LRScheduler("LambdaLR", lr_lambda=lambda epoch: cosine_factor(epoch, epochs))),
        ("clipping", GradientNormClipping(GRADIENT_NORM)),
    ]
    if held_out is not None:
        monitor = f"valid_{settings['monitor']}"
        if settings["monitor"] == "auc":
            callbacks.append(("auc", _ValidationAUC(held_out)))
        stopping = StopEarly(
            monitor=monitor,
            lower_is_better=settings["monitor"] == "loss",
            patience=settings["patience"],
            load_best=True,
            sink=_no_output,
        )
        callbacks.append(("stopping", stopping))
    # L2 penalties of l2 |w|^2 on kernels: Adam's weight_decay is the factor of w in the gradient
    penalty = {"weight_decay": 2 * settings["l2"]}
    kernels = [name for name, value in network.named_parameters() if value.ndim > 1]
    return _WeightedNet(
        network,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__param_groups=[(name, penalty) for name in kernels],
        lr=settings["learning_rate"],
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        # batch norm has no variance in a batch of one left over at the end
        iterator_train__drop_last=num_rows > batch_size and num_rows % batch_size == 1,
        train_split=None if held_out is None else predefined_split(held_out),
        callbacks=callbacks,
        device=resolve_device(device),
        verbose=0,
    )


def _discriminants(stream, labels):
    """Projection to the linear discriminants and its offset, so that training rows have mean 0 and sd 1 in each."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(stream, labels)
    directions = min(len(np.unique(labels)) - 1, stream.shape[1])
    projection = analysis.scalings_[:, :directions]
    projected = stream @ projection
    spread = np.maximum(projected.std(axis=0), 1e-9)
    return (projection / spread).astype("float32"), (-projected.mean(axis=0) / spread).astype("float32")


def _no_output(*_):
    pass


class _AnnealDropout(Callback):
    """Dropout that falls linearly from its start to 0.05 over the epochs; never up."""

    def __init__(self, start, epochs):
        self.start, self.epochs = start, epochs

    def on_epoch_begin(self, net, **kwargs):
        done = (len(net.history) - 1) / max(1, self.epochs - 1)
        end = min(FINAL_DROPOUT, self.start)
        set_dropout(net.module_, self.start + (end - self.start) * done)


class _ValidationAUC(Callback):
    """Macro AUC of the units held out; 0 where there is none, so that the first epoch is kept."""

    def __init__(self, held_out):
        self.held_out = held_out

    def on_epoch_end(self, net, **kwargs):
        inputs = {key: torch.as_tensor(value, device=net.device) for key, value in self.held_out.X.items()}
        net.module_.eval()
        with torch.inference_mode():
            probabilities = torch.softmax(net.module_(**inputs), dim=1).cpu().numpy()
        value = macro_auc(np.nan_to_num(probabilities), self.held_out.y)
        net.history.record("valid_auc", 0.0 if np.isnan(value) else value)
