"""What a posterior over a spike's place is, as an array: mean, covariance, heavy tails, and how to read it.

The place follows a multivariate Student t distribution with mean m, covariance C and nu > 2 degrees of freedom; its
scale matrix is S = C (nu - 2) / nu. Over d of the three axes the smallest region that holds probability p is the
ellipsoid in which

    D = (r - m)^T S^-1 (r - m) / d,        F_{d, nu}(D) <= p,

with F the distribution function of Fisher's F (Kotz & Nadarajah 2004, section 1.2). The level at which a place enters
the region, F(D), is uniform on [0, 1] for the true places if the posterior is calibrated.
"""

import numpy as np

from ..errors import InputError
from .settings import LOCATION_DTYPE

__all__ = [
    "POSTERIOR_DTYPE",
    "combine_posteriors",
    "covariance_matrices",
    "fill_posteriors",
    "region_levels",
    "region_scale",
]

COVARIANCE_FIELDS = {(0, 1): "xy_cov", (0, 2): "xz_cov", (1, 2): "yz_cov"}
# um; alpha uV; covariances um^2
POSTERIOR_DTYPE = np.dtype(
    [
        *LOCATION_DTYPE.descr,
        *((name, "float64") for name in (*COVARIANCE_FIELDS.values(), "dof", "outlier_probability")),
    ]
)
_AXES = {"x": 0, "y": 1, "z": 2}


def fill_posteriors(
    mean: np.ndarray,
    covariance: np.ndarray,
    dof: np.ndarray | float,
    alpha: np.ndarray | float,
    outlier_probability: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Means (n, 3), covariances (n, 3, 3) and the rest (n,) as one array of POSTERIOR_DTYPE."""
    posteriors = np.zeros(len(mean), dtype=POSTERIOR_DTYPE)
    for axis, index in _AXES.items():
        posteriors[axis] = mean[:, index]
        posteriors[f"{axis}_std"] = np.sqrt(covariance[:, index, index])
    for (row, column), name in COVARIANCE_FIELDS.items():
        posteriors[name] = covariance[:, row, column]
    posteriors["dof"], posteriors["alpha"], posteriors["outlier_probability"] = dof, alpha, outlier_probability
    return posteriors


def covariance_matrices(posteriors: np.ndarray, axes: str = "xyz") -> np.ndarray:
    """Covariance matrices of places.

    Parameters
    ----------
    posteriors : structured array, shape (num_spikes,)
        With the fields of POSTERIOR_DTYPE that `axes` ask for. Without covariances (other localizers) they are 0.
    axes : str, default: "xyz"
        Which axes, for example "xy".

    Returns
    -------
    float64 array, shape (num_spikes, d, d)
        In um^2.
    """
    indices = _axis_indices(axes)
    matrices = np.zeros((len(posteriors), len(axes), len(axes)))
    for i, row in enumerate(indices):
        matrices[:, i, i] = posteriors[f"{axes[i]}_std"].astype("float64") ** 2
        for j in range(i + 1, len(indices)):
            name = COVARIANCE_FIELDS[tuple(sorted((row, indices[j])))]
            if name in posteriors.dtype.names:
                matrices[:, i, j] = matrices[:, j, i] = posteriors[name]
    return matrices


def region_levels(posteriors: np.ndarray, places: np.ndarray, axes: str = "xy") -> np.ndarray:
    """The probability content of the smallest posterior region that holds each place.

    Parameters
    ----------
    posteriors : structured array, shape (num_spikes,)
        x, y, z and their standard deviations; covariances and ``dof`` where the method has them (else 0 and infinite:
        independent Gaussians).
    places : array, shape (num_spikes, 3) or (num_spikes, 2)
        Places in um.
    axes : str, default: "xy"
        Over which axes: "xy" is the plane of the probe, "z" the depth alone, "xyz" all of space.

    Returns
    -------
    float64 array, shape (num_spikes,)
        Between 0 and 1; at most p where the place lies in the p-region.
    """
    from scipy.stats import chi2, f

    indices = _axis_indices(axes)
    places = np.asarray(places, dtype="float64")
    if len(places) != len(posteriors) or places.ndim != 2 or places.shape[1] <= max(indices):
        raise InputError(
            f"{len(posteriors)} posteriors over {axes!r} and places of shape {places.shape}: give one each."
        )
    delta = np.column_stack([places[:, k] - posteriors[axis] for k, axis in zip(indices, axes, strict=True)])
    covariance = covariance_matrices(posteriors, axes)
    squared = (delta * np.linalg.solve(covariance, delta[:, :, None])[:, :, 0]).sum(axis=1)
    dims = len(axes)
    if "dof" not in posteriors.dtype.names:
        return chi2.cdf(squared, dims)
    dof = posteriors["dof"].astype("float64")
    heavy = np.isfinite(dof)
    levels = chi2.cdf(squared, dims)
    levels[heavy] = f.cdf(squared[heavy] * dof[heavy] / (dof[heavy] - 2.0) / dims, dims, dof[heavy])
    return levels


def region_scale(level: float, dof: np.ndarray, dims: int = 2) -> np.ndarray:
    """Radius of the region of probability `level`, in standard deviations: array like `dof`.

    The ellipse of all r with (r - m)^T C^-1 (r - m) <= radius^2 holds that probability.
    """
    from scipy.stats import chi2, f

    dof = np.asarray(dof, dtype="float64")
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level!r}.")
    heavy = np.isfinite(dof)
    squared = np.full(dof.shape, chi2.ppf(level, dims))
    squared[heavy] = dims * f.ppf(level, dims, dof[heavy]) * (dof[heavy] - 2.0) / dof[heavy]
    return np.sqrt(squared)


def combine_posteriors(posteriors: np.ndarray) -> np.ndarray:
    """One posterior for a unit from the posteriors of its spikes.

    The errors of one unit's spikes have a part in common, since they share one cell and its shape: more spikes do not
    average it away. With C the mean covariance of the spikes and V the covariance of their means, V is the part that
    differs from spike to spike and C - V what is shared. The unit lies at the mean, weighted by the certainty in the
    plane and against outliers, with covariance C - V + V / n, never below a tenth of C. Of n spikes V is taken
    n / (n + 3) as large as it comes out, which makes the regions hold what they say for few spikes too (simulated).

    Parameters
    ----------
    posteriors : array of POSTERIOR_DTYPE, shape (num_spikes,)
        Of one unit, at least one.

    Returns
    -------
    array of POSTERIOR_DTYPE, shape (1,)

    Raises
    ------
    InputError
        When there are no spikes.
    """
    if not len(posteriors):
        raise InputError("A unit without spikes has no place: leave it out.")
    covariance = covariance_matrices(posteriors)
    weights = (1.0 - 0.99 * posteriors["outlier_probability"]) / np.trace(covariance, axis1=1, axis2=2)
    weights = weights / weights.sum()
    means = np.column_stack([posteriors[axis] for axis in "xyz"])
    center = weights @ means
    within = np.einsum("n,nij->ij", weights, covariance)
    delta = means - center
    between = np.einsum("n,ni,nj->ij", weights, delta, delta)
    effective = 1.0 / (weights**2).sum()
    # `between` is V (1 - 1 / n), without Bessel's correction; few spikes say little about V, and one that comes out too
    # large by chance would make the unit too certain
    shared = _at_least(within - between * effective / (effective + 3.0), 0.1 * within)
    # the degrees of freedom only shape the tails: that of the typical spike
    dof = np.median(posteriors["dof"])
    alpha, outlier = weights @ posteriors["alpha"], weights @ posteriors["outlier_probability"]
    return fill_posteriors(center[None], shared[None], dof, alpha, outlier)


def _at_least(matrix, floor):
    """The matrix with its eigenvalues relative to `floor` raised to 1."""
    factor = np.linalg.cholesky(floor)
    inverse = np.linalg.inv(factor)
    values, vectors = np.linalg.eigh(inverse @ matrix @ inverse.T)
    raised = factor @ vectors
    return (raised * np.maximum(values, 1.0)) @ raised.T


def _axis_indices(axes):
    if not axes or len(set(axes)) != len(axes) or not set(axes) <= set(_AXES):
        raise InputError(f"axes must be some of 'x', 'y' and 'z', got {axes!r}.")
    return [_AXES[axis] for axis in axes]
