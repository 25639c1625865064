"""Why did the classifier say so? Attributions of images in Hz and ms, and contributions of features to the trees.

What is explained is the centred logit of a type: its logit minus the mean over the types. A number that is added to the
logits of all types changes no probability, and explains nothing.

Attributions of a network show what it uses, which may be an artefact of one laboratory. Two checks come with them:
integrated gradients add up to the change of the logit (Sundararajan et al. 2017), and an attribution that stays as it
is when the network's weights are replaced by random ones says nothing about the network (Adebayo et al. 2018).
"""

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, MissingDependencyError
from .streams import stream_inputs

if TYPE_CHECKING:
    import pandas as pd

    from .classifier import CellTypeClassifier
    from .dataset import CellDataset

__all__ = ["FeatureContributions", "ImageAttribution", "explain_features", "explain_images", "randomisation_check"]

METHODS = ("integrated_gradients", "saliency")
# images at once, steps of the integral counted, if they are of this many pixels: gradients keep every layer
BATCH, PIXELS = 64, 48 * 240
MAX_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class ImageAttribution:
    """How much each pixel speaks for a type.

    Attributes
    ----------
    attribution : float32 array, shape (num_cells, num_channels, num_frequencies, num_samples)
        Integrated gradients: how much the pixel adds to the centred logit, with sign. Saliency: magnitude of its
        gradient, in logits per unit of the image.
    images : float32 array of the same shape
        What is explained.
    target : array of str, shape (num_cells,)
        The type whose logit is explained.
    frequencies_hz, times_ms : float64 arrays, shapes (num_frequencies,) and (num_samples,)
        Of the rows and columns.
    method : {"integrated_gradients", "saliency"}
    completeness_error : float64 array, shape (num_cells,)
        |sum of the attribution - change of the logit| / |change of the logit|; NaN for saliency, which has no such law.
    rows : int64 array, shape (num_cells,)
        Where the cells are in the dataset: cells without an image are left out.
    """

    attribution: np.ndarray
    images: np.ndarray
    target: np.ndarray
    frequencies_hz: np.ndarray
    times_ms: np.ndarray
    method: str
    completeness_error: np.ndarray
    rows: np.ndarray

    def frequency_profile(self, target: str | None = None) -> np.ndarray:
        """Share of the magnitude at each frequency, shape (num_frequencies,); of the cells of a type, or of all."""
        magnitude = np.abs(self.attribution[self._of(target)]).sum(axis=(0, 1, 3), dtype="float64")
        return magnitude / magnitude.sum()

    def time_profile(self, target: str | None = None) -> np.ndarray:
        """Share of the magnitude at each time, shape (num_samples,); of the cells of a type, or of all."""
        magnitude = np.abs(self.attribution[self._of(target)]).sum(axis=(0, 1, 2), dtype="float64")
        return magnitude / magnitude.sum()

    def mean(self, target: str) -> np.ndarray:
        """Mean attribution of the cells of a type, shape (num_channels, num_frequencies, num_samples)."""
        return self.attribution[self._of(target)].mean(axis=0, dtype="float64")

    def _of(self, target):
        own = np.ones(len(self.target), dtype=bool) if target is None else self.target == target
        if not own.any():
            raise InputError(f"No cell is explained as {target!r}; there are {np.unique(self.target).tolist()}.")
        return own


@dataclass(frozen=True, eq=False)
class FeatureContributions:
    """How much each feature adds to the logits of the trees (path-dependent Shapley values).

    Attributes
    ----------
    contributions : float64 array, shape (num_cells, num_features, num_classes)
        To the centred logits.
    expected : float64 array, shape (num_classes,)
        Mean centred logits of training; with the contributions summed over features, those of each cell.
    feature_names, classes : tuples of str
    """

    contributions: np.ndarray
    expected: np.ndarray
    feature_names: tuple[str, ...]
    classes: tuple[str, ...]

    def importance(self) -> "pd.DataFrame":
        """Mean magnitude of each feature (rows, the largest over all types first) for each type (columns)."""
        import pandas as pd

        table = pd.DataFrame(np.abs(self.contributions).mean(axis=0), self.feature_names, self.classes)
        return table.loc[table.mean(axis=1).sort_values(ascending=False, kind="stable").index]


def explain_images(
    classifier: "CellTypeClassifier",
    dataset: "CellDataset",
    *,
    method: str = "integrated_gradients",
    target: str | Sequence[str] | None = None,
    baseline: str | np.ndarray = "zero",
    num_steps: int = 64,
) -> ImageAttribution:
    """Attribute what the network says about images to their pixels.

    Parameters
    ----------
    classifier : CellTypeClassifier
        With a network.
    dataset : CellDataset
        Cells, of which those with an image are explained.
    method : {"integrated_gradients", "saliency"}, default: "integrated_gradients"
        Of Sundararajan et al. (2017), or the plain gradient (Simonyan et al. 2014, as in Amprimo et al. 2025).
    target : str or sequence of str, optional
        The type to explain, one for all or one for each cell. Default: what the network says about each.
    baseline : "zero", "mean" or array, shape (num_channels, num_frequencies, num_samples), default: "zero"
        Where the integral begins: no activity at all, or the mean of the images.
    num_steps : int, default: 64
        Of the integral.

    Returns
    -------
    ImageAttribution

    Raises
    ------
    InputError
        When there is no network or no image, or on an unknown method, type or baseline.
    MissingDependencyError
        Without captum.

    Warns
    -----
    UserWarning
        When attributions of a cell miss the change of its logit by more than 5 %.
    """
    if method not in METHODS:
        raise InputError(f"Images are explained by {list(METHODS)}, got {method!r}.")
    if num_steps < 2:
        raise InputError(f"num_steps must be at least 2, got {num_steps!r}.")
    network, images, rows = _network_and_images(classifier, dataset)
    which = _targets(classifier, images, rows, target, len(dataset))
    start = _baseline(baseline, images)
    attribution, error = _attribute(network, images, which, method, start, num_steps)
    wrong = int((error > MAX_ERROR).sum())
    if wrong:
        text = f"Attributions of {wrong} of {len(error)} cells miss the change of the logit by up to {error.max():.0%}."
        warnings.warn(f"{text} Take more than {num_steps} steps.", UserWarning, stacklevel=2)
    names, axes = np.array(classifier.classes)[which], classifier.axes
    return ImageAttribution(attribution, images, names, axes.frequencies_hz, axes.times_ms, method, error, rows)


def randomisation_check(
    classifier: "CellTypeClassifier",
    dataset: "CellDataset",
    *,
    method: str = "integrated_gradients",
    baseline: str | np.ndarray = "zero",
    num_steps: int = 32,
    num_stages: int = 4,
    seed: int = 0,
) -> "pd.DataFrame":
    """How alike attributions stay when layers are made random, from the last to the first (Adebayo et al. 2018).

    Parameters
    ----------
    classifier, dataset, method, baseline, num_steps
        As for :func:`explain_images`.
    num_stages : int, default: 4
        So often more layers are made random: the last alone first, all of them in the end.
    seed : int, default: 0
        Of the random weights.

    Returns
    -------
    DataFrame
        ``num_layers`` made random, ``first_layer`` (name of the one nearest to the image), and ``correlation``: mean
        over cells of the rank correlation of the attributions with those of the trained network. It should fall; where
        it stays high, the map shows edges of the image and not what the network has learned.
    """
    import pandas as pd
    from scipy.stats import spearmanr

    from ..training import seeded

    network, images, rows = _network_and_images(classifier, dataset)
    which = _targets(classifier, images, rows, None, len(dataset))
    start, out = _baseline(baseline, images), []
    trained, _ = _attribute(network, images, which, method, start, num_steps)
    network = copy.deepcopy(network)
    layers = [name for name, module in network.backbone.named_modules() if hasattr(module, "reset_parameters")]
    # an auxiliary classifier has no part in what is predicted
    layers = [name for name in layers if not name.startswith("AuxLogits")][::-1]
    stages, done = np.unique(np.geomspace(1, len(layers), num_stages).round().astype(int)), 0
    with seeded(seed):
        for stage in stages:
            for name in layers[done:stage]:
                network.backbone.get_submodule(name).reset_parameters()
            done = int(stage)
            random, _ = _attribute(network, images, which, method, start, num_steps)
            # with their signs: magnitudes of integrated gradients follow the image, whatever the network
            pairs = zip(trained, random, strict=True)
            correlation = np.mean([spearmanr(one.ravel(), other.ravel()).statistic for one, other in pairs])
            row = {"num_layers": done, "first_layer": layers[done - 1], "correlation": float(correlation)}
            out.append(row)
    return pd.DataFrame(out)


def explain_features(classifier: "CellTypeClassifier", dataset: "CellDataset") -> FeatureContributions:
    """What each feature adds to what the trees say; exact, and counted along the trees' own paths.

    Parameters
    ----------
    classifier : CellTypeClassifier
        With features.
    dataset : CellDataset
        Cells with these features.

    Returns
    -------
    FeatureContributions

    Raises
    ------
    InputError
        When the classifier looks at images alone.
    """
    from .tree_contributions import tree_contributions

    if "features" not in classifier.streams:
        raise InputError("This classifier looks at images alone: explain_images() explains it.")
    model = classifier.streams["features"].estimator
    X, _ = stream_inputs("features", dataset, classifier.feature_names, None)
    contributions, expected = tree_contributions(model.trees_, model.cover_, X)
    contributions, expected = model.with_first_class(contributions), model.with_first_class(expected)
    centered = contributions - contributions.mean(axis=-1, keepdims=True)
    return FeatureContributions(centered, expected - expected.mean(), classifier.feature_names, classifier.classes)


def _network_and_images(classifier, dataset):
    if "image" not in classifier.streams:
        raise InputError("This classifier looks at features alone: explain_features() explains it.")
    X, known = stream_inputs("image", dataset, (), classifier.axes)
    if not known.any():
        raise InputError(f"None of {len(known)} cells has an image: there is nothing to explain.")
    return classifier.streams["image"].estimator.network_, X[known], np.flatnonzero(known)


def _targets(classifier, images, rows, target, num_cells):
    """Index of the type to explain of each image."""
    if target is None:
        return classifier.streams["image"].estimator.predict_proba(images).argmax(axis=1)
    names = [target] * num_cells if isinstance(target, str) else list(target)
    strange = sorted({*map(str, names)} - {*classifier.classes})
    if strange or len(names) != num_cells:
        text = f"target must be one of {list(classifier.classes)}, or one of them for each of {num_cells} cells;"
        raise InputError(f"{text} got {len(names)} with {strange[:5]} among them.")
    return np.array([classifier.classes.index(names[row]) for row in rows])


def _baseline(baseline, images):
    if isinstance(baseline, str):
        if baseline not in ("zero", "mean"):
            raise InputError(f'baseline must be "zero", "mean" or an array, got {baseline!r}.')
        return np.zeros_like(images[0]) if baseline == "zero" else images.mean(axis=0)
    baseline = np.asarray(baseline, dtype="float32")
    if baseline.shape != images.shape[1:] or not np.isfinite(baseline).all():
        raise InputError(f"baseline must be finite and of shape {images.shape[1:]}, got {baseline.shape}.")
    return baseline


def _attribute(network, images, which, method, start, num_steps):
    """Attributions, and relative errors of their sums."""
    try:
        from captum.attr import IntegratedGradients, Saliency
    except ImportError as error:
        raise MissingDependencyError("captum", "explain") from error
    import torch

    from ..training import one_thread

    def centered(batch):
        logits = network(batch)
        return logits - logits.mean(dim=1, keepdim=True)

    start, out, errors = torch.from_numpy(start)[None], np.empty_like(images), np.full(len(images), np.nan)
    at_once = max(1, min(BATCH, BATCH * PIXELS // math.prod(network.input_size or images.shape[2:])))
    step = max(1, at_once // num_steps) if method == "integrated_gradients" else at_once
    options = {"n_steps": num_steps, "internal_batch_size": at_once, "return_convergence_delta": True}
    with one_thread():
        for first in range(0, len(images), step):
            part = slice(first, first + step)
            batch, target = torch.from_numpy(images[part]), torch.from_numpy(which[part])
            if method == "saliency":
                found = Saliency(centered).attribute(batch.requires_grad_(), target=target, abs=True)
            else:
                found, missed = IntegratedGradients(centered).attribute(batch, start, target, **options)
                with torch.no_grad():
                    change = (centered(batch) - centered(start)).gather(1, target[:, None])[:, 0]
                errors[part] = (missed.abs() / change.abs().clamp_min(1e-6)).numpy()
            out[part] = found.detach().numpy()
    return out, errors
