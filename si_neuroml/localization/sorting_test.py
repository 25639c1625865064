"""Do places tell neurons apart? The sorting test of Hurwitz et al. (2019), section 4.2.

Mixtures of spherical Gaussians cluster the spikes by their places in the plane, or by these and two principal
components of their waveforms; clusters are then compared with the true units. The number of components is given, not
found: the test scores the features, not a sorter.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError

__all__ = ["ALPHAS", "NUM_COMPONENTS", "cluster_scores", "gmm_sorting_test", "waveform_components"]

NUM_COMPONENTS = (45, 50, 55, 60, 65, 70, 75)
ALPHAS = (4.0, 6.0, 8.0, 10.0)


def gmm_sorting_test(
    locations: np.ndarray,
    unit_index: np.ndarray,
    *,
    components: np.ndarray | None = None,
    alphas: Sequence[float] = ALPHAS,
    num_components: Sequence[int] = NUM_COMPONENTS,
    max_spikes: int | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Cluster spikes by place, and by place and shape, and score the clusters against the true units.

    Parameters
    ----------
    locations : structured array, shape (num_spikes,)
        Fields x and y in um.
    unit_index : int array, shape (num_spikes,)
        True unit of each spike.
    components : array, shape (num_spikes, num_pcs), optional
        Whitened principal components of the waveforms, from :func:`waveform_components`. None: places alone.
    alphas : sequence of float, default: (4, 6, 8, 10)
        The components are multiplied by each of these (um per standard deviation).
    num_components : sequence of int, default: (45, 50, ..., 75)
        Gaussians in the mixture.
    max_spikes : int, optional
        Take at most this many spikes, drawn at random.
    seed : int, default: 0
        Of the draw and of the mixtures' start.

    Returns
    -------
    list of dict
        One per mixture: ``alpha`` (None: places alone), ``num_components``, and the scores of :func:`cluster_scores`.

    Raises
    ------
    InputError
        With fewer spikes than components, or values that are not finite.
    """
    from sklearn.mixture import GaussianMixture

    places = np.column_stack([locations["x"], locations["y"]]).astype("float64")
    unit_index = np.asarray(unit_index)
    if max_spikes is not None and len(places) > max_spikes:
        some = np.sort(np.random.default_rng(seed).choice(len(places), max_spikes, replace=False))
        places, unit_index = places[some], unit_index[some]
        components = None if components is None else components[some]
    if len(places) < max(num_components):
        raise InputError(f"{len(places)} spikes cannot be clustered into {max(num_components)} components.")
    feature_sets = {None: places}
    if components is not None:
        feature_sets |= {float(alpha): np.column_stack([places, alpha * components]) for alpha in alphas}
    results = []
    for alpha, features in feature_sets.items():
        if not np.isfinite(features).all():
            raise InputError("Places or components are not finite: drop these spikes for all methods.")
        for number in num_components:
            mixture = GaussianMixture(number, covariance_type="spherical", random_state=seed, reg_covar=1e-3)
            scores = cluster_scores(mixture.fit_predict(features), unit_index)
            results.append({"alpha": alpha, "num_components": int(number), **scores})
    return results


def cluster_scores(clusters: np.ndarray, unit_index: np.ndarray) -> dict[str, float]:
    """Agreement of clusters with true units, each unit matched to at most one cluster.

    With tp spikes in both, accuracy is tp / (tp + fn + fp), and the matching maximises its sum (Hungarian method, as in
    SpikeInterface's comparison to ground truth, without its lower limit). A unit without a cluster scores 0.

    Parameters
    ----------
    clusters, unit_index : int arrays, shape (num_spikes,)
        Cluster and true unit of each spike.

    Returns
    -------
    dict
        accuracy, true_positive_rate (tp / (tp + fn)) and precision (tp / (tp + fp)), means over units.
    """
    from scipy.optimize import linear_sum_assignment

    _, unit = np.unique(unit_index, return_inverse=True)
    _, cluster = np.unique(clusters, return_inverse=True)
    both = np.zeros((unit.max() + 1, cluster.max() + 1))
    np.add.at(both, (unit, cluster), 1)
    of_unit, of_cluster = both.sum(axis=1), both.sum(axis=0)
    agreement = both / (of_unit[:, None] + of_cluster[None, :] - both)
    rows, columns = linear_sum_assignment(-agreement)
    tp, num_units = both[rows, columns], len(of_unit)
    return {
        "accuracy": float(agreement[rows, columns].sum() / num_units),
        "true_positive_rate": float((tp / of_unit[rows]).sum() / num_units),
        "precision": float((tp / of_cluster[columns]).sum() / num_units),
    }


def waveform_components(waveforms: np.ndarray, num_pcs: int = 2) -> np.ndarray:
    """Whitened principal components of waveforms.

    Parameters
    ----------
    waveforms : array, shape (num_spikes, num_samples)
        Of each spike's centre channel.
    num_pcs : int, default: 2
        How many.

    Returns
    -------
    array, shape (num_spikes, num_pcs)
        Mean 0, standard deviation 1.
    """
    from sklearn.decomposition import PCA

    return PCA(n_components=num_pcs, whiten=True, svd_solver="full").fit_transform(waveforms)
