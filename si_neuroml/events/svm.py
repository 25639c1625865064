"""Support vector machine on a mel spectrogram, the classical detector of Pradeep, Agarwal and Advani (course report).

Trained by scikit-learn, evaluated here: the score of a sample is

    sum_i coefficient_i exp(-gamma |z - v_i|^2) + intercept

for its standardised features z and the support vectors v_i. A model is these arrays, never a pickle.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numba
import numpy as np

from ..errors import InputError, TrainingError
from .spectrogram import MelSpectrogram
from .threshold import check_training

__all__ = ["SVMScorer"]

# samples and support vectors in a block of the kernel matrix: 2 MB, which stay in the second cache
BLOCK_SAMPLES, BLOCK_VECTORS = 256, 1024
# samples whose features are held at a time
BLOCK_FEATURES = 1 << 16


@dataclass(frozen=True, eq=False)
class SVMScorer:
    """Decision function of a support vector machine with radial basis functions.

    Parameters
    ----------
    support_vectors : float64 array, shape (num_vectors, num_features)
        Standardised features.
    coefficients : float64 array, shape (num_vectors,)
        Dual coefficients, with the sign of the class.
    intercept : float
        Added to every score.
    center, scale : float64 arrays, shape (num_features,)
        Of the standardisation: z = (feature - center) / scale.
    gamma : float
        Of the radial basis functions.
    spectrogram : MelSpectrogram
        What makes the features.
    """

    support_vectors: np.ndarray
    coefficients: np.ndarray
    intercept: float
    center: np.ndarray
    scale: np.ndarray
    gamma: float
    spectrogram: MelSpectrogram
    alignment = 1

    @property
    def before(self) -> int:
        """Samples before a sample that its score depends on."""
        return self.spectrogram.before

    @property
    def after(self) -> int:
        """Samples after a sample that its score depends on."""
        return self.spectrogram.after

    @classmethod
    def fit(
        cls,
        x_list: Sequence[np.ndarray],
        events_list: Sequence[np.ndarray],
        sampling_frequency: float,
        *,
        C: float = 100.0,
        neighbours: int = 1,
        max_samples: int | None = 20_000,
        half_width: int = 2,
        seed: int = 0,
    ) -> "SVMScorer":
        """Train on labelled traces: every sample is a case, inside an event or not.

        Parameters
        ----------
        x_list : sequence of float32 arrays, shape (num_channels, num_samples)
            Conditioned traces.
        events_list : sequence of structured arrays
            Events of each, fields sample_index (in samples of these traces) and channel_index, and onset and offset
            (exclusive) where they are known.
        sampling_frequency : float
            Samples per second.
        C : float, default: 100
            Price of a misclassified sample. The paper's grid of it and of `neighbours` is that of
        ``search_event_detector(recording, events, network="svm")``.
        neighbours : int, default: 1
            Frames on either side, see :class:`~si_neuroml.events.spectrogram.MelSpectrogram`.
        max_samples : int | None, default: 20_000
            Most samples to train on; None: all. Those inside events are kept as far as they fill half of it, of the
            others as many are drawn as there is room for. The paper has about 100,000: time and the number of support
            vectors grow faster than the number of samples.
        half_width : int, default: 2
            Samples on either side of an event that count as inside where onset and offset are not known.
        seed : int, default: 0
            Of the draw.

        Raises
        ------
        InputError
            When traces and events do not belong together, or numbers are out of range.
        TrainingError
            When all samples are of one class.
        """
        spectrogram = MelSpectrogram(sampling_frequency, neighbours=neighbours)
        if max_samples is not None and max_samples < 2:
            raise InputError(f"max_samples must be at least 2 or None, got {max_samples!r}.")
        channel, sample, inside = _labelled_samples(x_list, events_list, spectrogram, half_width)
        rng = np.random.default_rng(seed)
        chosen = _balanced_choice(np.concatenate(inside), max_samples, rng)
        features, labels = _chosen_rows(x_list, spectrogram, channel, sample, inside, chosen)
        machine = _machine(C).fit(features, labels)
        scaler, svc = machine[0], machine[1]
        return cls(
            support_vectors=np.ascontiguousarray(svc.support_vectors_),
            coefficients=np.ascontiguousarray(svc.dual_coef_[0]),
            intercept=float(svc.intercept_[0]),
            center=scaler.mean_,
            scale=scaler.scale_,
            gamma=float(1 / (features.shape[1] * scaler.transform(features).var())),  # scikit-learn's gamma="scale"
            spectrogram=spectrogram,
        )

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores of conditioned traces, float32, shape (num_channels, num_samples).

        Beyond its ends a trace is mirrored. The same bits wherever a trace is cut.
        """
        out = np.zeros(x.shape, dtype="float32")
        if not x.shape[1]:
            return out
        for channel in range(x.shape[0]):
            padded = np.pad(x[channel].astype("float64"), (self.before, self.after), mode="reflect")
            for start in range(0, x.shape[1], BLOCK_FEATURES):
                stop = min(start + BLOCK_FEATURES, x.shape[1])
                features = self.spectrogram.features(padded[start : stop + self.before + self.after])
                out[channel, start:stop] = self.decision(features)
        return out

    def decision(self, features: np.ndarray) -> np.ndarray:
        """Decision function of features as the spectrogram makes them, float64, shape (num_rows,)."""
        rows = np.ascontiguousarray((features - self.center) / self.scale)
        vectors = np.ascontiguousarray(self.support_vectors.T)
        total = np.full(len(rows), self.intercept)
        for start in range(0, len(rows), BLOCK_SAMPLES):
            block = rows[start : start + BLOCK_SAMPLES]
            for first in range(0, vectors.shape[1], BLOCK_VECTORS):
                part = slice(first, first + BLOCK_VECTORS)
                kernel = np.zeros((len(block), len(self.coefficients[part])))
                _exponents(block, np.ascontiguousarray(vectors[:, part]), -self.gamma, kernel)
                np.exp(kernel, out=kernel)
                kernel *= self.coefficients[part]
                total[start : start + BLOCK_SAMPLES] += kernel.sum(axis=1)
        return total

    def settings(self) -> dict[str, Any]:
        """What :meth:`from_arrays` needs beside the arrays."""
        return {"intercept": self.intercept, "gamma": self.gamma, **asdict(self.spectrogram)}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Support vectors, their coefficients, and the standardisation."""
        return {name: getattr(self, name) for name in ("support_vectors", "coefficients", "center", "scale")}

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, np.ndarray], *, intercept: float, gamma: float, **spectrogram: Any
    ) -> "SVMScorer":
        """The scorer that :meth:`to_arrays` and :meth:`settings` came from."""
        return cls(**arrays, intercept=intercept, gamma=gamma, spectrogram=MelSpectrogram(**spectrogram))


def _machine(C):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=C, gamma="scale", class_weight="balanced", cache_size=500))


def _labelled_samples(x_list, events_list, spectrogram, half_width):
    """Channel, sample and label of all samples with whole frames, for each array of traces."""
    check_training(x_list, events_list)
    channels, samples, labels = [], [], []
    for x, events in zip(x_list, events_list, strict=True):
        usable = np.arange(spectrogram.before, max(x.shape[1] - spectrogram.after, spectrogram.before))
        channels.append(np.repeat(np.arange(x.shape[0]), len(usable)))
        samples.append(np.tile(usable, x.shape[0]))
        labels.append(_inside_events(x.shape, events, half_width)[:, usable].ravel())
    together = np.concatenate(labels)
    if together.all() or not together.any():
        text = f"{together.sum()} of {len(together)} samples lie inside events:"
        raise TrainingError(f"{text} both kinds are needed. Give traces with labelled events and with gaps between.")
    return channels, samples, labels


def _inside_events(shape, events, half_width):
    begin, end = events["sample_index"] - half_width, events["sample_index"] + half_width + 1
    if {"onset", "offset"} <= set(events.dtype.names):
        known = events["offset"] > events["onset"]
        begin, end = np.where(known, events["onset"], begin), np.where(known, events["offset"], end)
    edges = np.zeros((shape[0], shape[1] + 1), dtype="int32")
    np.add.at(edges, (events["channel_index"], np.clip(begin, 0, shape[1])), 1)
    np.add.at(edges, (events["channel_index"], np.clip(end, 0, shape[1])), -1)
    return np.cumsum(edges[:, :-1], axis=1) > 0


def _balanced_choice(inside, max_samples, rng):
    if max_samples is None or len(inside) <= max_samples:
        return np.arange(len(inside))
    positive, negative = np.flatnonzero(inside), np.flatnonzero(~inside)
    num_positive = min(len(positive), max(max_samples // 2, max_samples - len(negative)))
    return np.sort(
        np.concatenate(
            [
                rng.choice(positive, num_positive, replace=False),
                rng.choice(negative, max_samples - num_positive, replace=False),
            ]
        )
    )


def _chosen_rows(x_list, spectrogram, channel, sample, inside, chosen):
    """Features and labels of the chosen samples."""
    first, features, labels = 0, [], []
    for index, x in enumerate(x_list):
        last = first + len(inside[index])
        own = chosen[(chosen >= first) & (chosen < last)] - first
        for k in range(x.shape[0]):
            rows = own[channel[index][own] == k]
            if len(rows):
                features.append(spectrogram.features(x[k])[sample[index][rows] - spectrogram.before])
                labels.append(inside[index][rows])
        first = last
    return np.concatenate(features), np.concatenate(labels)


@numba.njit(nogil=True)
def _exponents(rows, vectors, factor, out):
    """Squared distance of every row from every vector, times factor; vectors hold one feature per line."""
    for r in range(rows.shape[0]):
        line = out[r]
        for f in range(rows.shape[1]):
            value, feature = rows[r, f], vectors[f]
            for v in range(len(line)):
                line[v] += (value - feature[v]) * (value - feature[v])
        for v in range(len(line)):
            line[v] *= factor
