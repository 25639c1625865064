"""Markov chains along depth: transition kernels of any gap, and forward-backward."""

import numba
import numpy as np

__all__ = ["forward_backward", "kernels_of_gaps"]


def kernels_of_gaps(gaps: np.ndarray, stay_um: float, transitions: np.ndarray) -> np.ndarray:
    """Probability of each region after a gap, given the one before: expm(gap / stay_um * (transitions - 1)).

    Products of the kernels of 1, 2, 4, ... um, all with entries that are probabilities: nothing can cancel out.

    Parameters
    ----------
    gaps : int64 array, shape (num_gaps,)
        In um, at least 0.
    stay_um : float
        Mean distance between changes.
    transitions : float64 array, shape (num_regions, num_regions)
        Rows sum to 1.

    Returns
    -------
    float64 array, shape (num_gaps, num_regions, num_regions)
        Rows sum to 1.
    """
    halvings = max(0, int(np.ceil(np.log2(1 / stay_um))))
    step = 1 / stay_um / 2**halvings
    # uniformisation: the number of jumps is a Poisson variable, of mean at most 1
    power, weight = np.eye(len(transitions)), np.exp(-step)
    kernel = weight * power
    for count in range(1, 20):
        power, weight = power @ transitions, weight * step / count
        kernel = kernel + weight * power
    for _ in range(halvings):
        kernel = kernel @ kernel
    kernels = np.tile(np.eye(len(transitions)), (len(gaps), 1, 1))
    for bit in range(int(gaps.max()).bit_length()):
        chosen = (gaps >> bit) & 1 == 1
        kernels[chosen] = kernels[chosen] @ kernel
        kernel = kernel @ kernel
    return kernels


@numba.njit(nogil=True)
def forward_backward(emissions, prior, kernels, which, starts):
    """Posterior of each state given all emissions of its chain (Rabiner 1989, section III).

    Rows of both passes are scaled to sum to 1; the product of the two is the posterior up to a factor.

    Parameters
    ----------
    emissions : float64 array, shape (num_units, num_regions)
        Likelihoods, each row up to a factor; chain after chain.
    prior : float64 array, shape (num_regions,)
        Of the first unit of a chain.
    kernels : float64 array, shape (num_kernels, num_regions, num_regions)
        Transitions.
    which : int64 array, shape (num_units,)
        The kernel that leads to each unit; not looked at for the first of a chain.
    starts : int64 array, shape (num_chains + 1,)
        Where chains begin, and the end.

    Returns
    -------
    float64 array, shape (num_units, num_regions)
        Rows sum to 1.
    """
    num_units, num_regions = emissions.shape
    forward, backward = np.empty((num_units, num_regions)), np.ones((num_units, num_regions))
    for one in range(len(starts) - 1):
        for unit in range(starts[one], starts[one + 1]):
            total = 0.0
            for region in range(num_regions):
                before = prior[region]
                if unit > starts[one]:
                    before = 0.0
                    for other in range(num_regions):
                        before += forward[unit - 1, other] * kernels[which[unit], other, region]
                forward[unit, region] = before * emissions[unit, region]
                total += forward[unit, region]
            for region in range(num_regions):
                forward[unit, region] /= total
        for unit in range(starts[one + 1] - 2, starts[one] - 1, -1):
            total = 0.0
            for region in range(num_regions):
                after = 0.0
                for other in range(num_regions):
                    kernel = kernels[which[unit + 1], region, other]
                    after += kernel * emissions[unit + 1, other] * backward[unit + 1, other]
                backward[unit, region] = after
                total += after
            for region in range(num_regions):
                backward[unit, region] /= total
    for unit in range(num_units):
        total = 0.0
        for region in range(num_regions):
            forward[unit, region] *= backward[unit, region]
            total += forward[unit, region]
        for region in range(num_regions):
            forward[unit, region] /= total
    return forward
