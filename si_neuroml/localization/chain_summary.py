"""What Markov chains say, and whether to believe them: moments, split R-hat and effective sample size, compiled."""

import math

import numba
import numpy as np

__all__ = ["place_and_amplitude", "split_r_hat_and_ess"]


@numba.njit(nogil=True)
def place_and_amplitude(draws, mean, covariance):
    """Moments of one spike's draws.

    Parameters
    ----------
    draws : float64 array, shape (num_chains, num_samples, 4)
        (x, y, z, a).
    mean : float64 array, shape (4,)
        Filled.
    covariance : float64 array, shape (3, 3)
        Of (x, y, z), with n - 1; filled.
    """
    num_chains, num_samples = draws.shape[:2]
    count = num_chains * num_samples
    for k in range(4):
        mean[k] = 0.0
        for chain in range(num_chains):
            for i in range(num_samples):
                mean[k] += draws[chain, i, k] / count
    for row in range(3):
        for column in range(3):
            covariance[row, column] = 0.0
            for chain in range(num_chains):
                for i in range(num_samples):
                    product = (draws[chain, i, row] - mean[row]) * (draws[chain, i, column] - mean[column])
                    covariance[row, column] += product / (count - 1)


@numba.njit(nogil=True)
def split_r_hat_and_ess(draws):
    """Convergence of one parameter's chains, each split into halves.

    Split R-hat without rank normalisation (Vehtari et al. 2021, equations 1 to 4) and the effective sample size of
    their equations 10 to 13, with Geyer's initial positive monotone sequence.

    Parameters
    ----------
    draws : float64 array, shape (num_chains, num_samples)
        At least 4 samples.

    Returns
    -------
    r_hat, ess : float
        inf and 1 when nothing ever moved.
    """
    length, num_halves = draws.shape[1] // 2, 2 * draws.shape[0]
    centered = np.empty((num_halves, length))
    for chain in range(draws.shape[0]):
        centered[2 * chain] = draws[chain, :length]
        centered[2 * chain + 1] = draws[chain, draws.shape[1] - length :]
    means, within = np.empty(num_halves), 0.0
    for half in range(num_halves):
        means[half] = centered[half].mean()
        centered[half] -= means[half]
        within += (centered[half] ** 2).sum() / (length - 1) / num_halves
    total = (length - 1) / length * within + ((means - means.mean()) ** 2).sum() / (num_halves - 1)
    if within <= 0.0:
        return np.inf, 1.0
    autocorrelation_time, smallest = -1.0, np.inf
    for lag in range(0, length - 1, 2):
        pair = 0.0
        for k in (lag, lag + 1):
            product = 0.0
            for half in range(num_halves):
                for i in range(length - k):
                    product += centered[half, i] * centered[half, i + k]
            pair += 1.0 - (within - product / (length - 1) / num_halves) / total
        if pair <= 0.0:
            break
        smallest = min(smallest, pair)
        autocorrelation_time += 2.0 * smallest
    # chains that alternate can beat independent draws, but not by more than this (the bound of Stan)
    count = num_halves * length
    return math.sqrt(total / within), count / max(autocorrelation_time, 1.0 / math.log10(count))
