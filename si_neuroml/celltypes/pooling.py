"""Scalograms to images of any size: magnitude first, then pooled, so that nothing cancels and nothing aliases.

Output pixel i of m over n samples covers samples floor(i n / m) to ceil((i + 1) n / m): torch's adaptive pooling.
Signed coefficients must not be averaged: neighbouring phases cancel, and a shift by less than a pixel changes them.
"""

import numpy as np

from ..errors import InputError

__all__ = ["POOLINGS", "pool_scalogram"]

POOLINGS = ("max", "mean")


def pool_scalogram(coefficients: np.ndarray, shape: tuple[int, int] = (48, 240), how: str = "max") -> np.ndarray:
    """Magnitude of a scalogram, pooled to an image.

    Parameters
    ----------
    coefficients : array, shape (..., num_frequencies, num_samples)
        Real or complex.
    shape : (int, int), default: (48, 240)
        Rows and columns of the image; where there are fewer samples than pixels, samples are repeated.
    how : "max" | "mean", default: "max"
        "max" keeps peaks whatever the shift, "mean" keeps energy steadier.

    Returns
    -------
    array, shape (..., *shape)
        In the real type of the coefficients; never negative.

    Raises
    ------
    InputError
        On an unknown ``how``, a shape below 1 x 1, or coefficients without two axes of samples.
    """
    check_pooling(shape, how)
    coefficients = np.asarray(coefficients)
    if coefficients.ndim < 2 or 0 in coefficients.shape[-2:]:
        raise InputError(f"Coefficients have shape {coefficients.shape}: expected (..., frequencies, samples).")
    # time first: it has more samples
    return _pool_rows(_pool_last(np.abs(coefficients), shape[1], how), shape[0], how)


def check_pooling(shape: tuple[int, int], how: str) -> None:
    """Raise InputError unless an image can be made of it."""
    if how not in POOLINGS:
        raise InputError(f"how is {how!r}: give one of {POOLINGS}.")
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"shape is {tuple(shape)}: give (rows, columns), each at least 1.")


def _pool_rows(image, size, how):
    if image.shape[-2] == size:
        return image
    return np.ascontiguousarray(np.swapaxes(_pool_last(np.swapaxes(image, -1, -2), size, how), -1, -2))


def _pool_last(values, size, how):
    length = values.shape[-1]
    reduce = np.max if how == "max" else np.mean
    if length % size == 0:
        return reduce(values.reshape(*values.shape[:-1], size, length // size), axis=-1)
    starts = np.arange(size) * length // size
    stops = -(-np.arange(1, size + 1) * length // size)
    pooled = np.empty((*values.shape[:-1], size), dtype=values.dtype)
    for pixel, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        pooled[..., pixel] = reduce(values[..., start:stop], axis=-1)
    return pooled
