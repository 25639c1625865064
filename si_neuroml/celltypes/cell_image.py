"""The image of a cell: scalograms of its rheobase sweep and of the one 40 pA above, cut around step onset."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import InputError
from .scalogram import pooled_scalogram
from .sweep_selection import RheobasePair
from .sweeps import CellSweeps

__all__ = ["IMAGE_RATE", "IMAGE_SHAPE", "IMAGE_WINDOW_S", "cell_image", "images_from_traces", "rheobase_traces"]

IMAGE_RATE = 4000.0
IMAGE_SHAPE = (48, 240)
# 240 pixels of 5 ms
IMAGE_WINDOW_S = (-0.1, 1.1)


def rheobase_traces(
    cell: CellSweeps,
    pair: RheobasePair,
    *,
    window_s: tuple[float, float] = IMAGE_WINDOW_S,
    sampling_frequency: float = IMAGE_RATE,
) -> np.ndarray:
    """The two sweeps at 4 kHz around step onset: float32 (2, num_samples), mV.

    Parameters
    ----------
    cell : CellSweeps
        At 4 kHz or above.
    pair : RheobasePair
        Of :func:`~.sweep_selection.select_rheobase_sweeps`.
    window_s : (float, float), default: (-0.1, 1.1)
        Seconds after onset. Where a sweep ends before, or another pulse begins, its last value goes on.
    sampling_frequency : float, default: 4000
        In Hz.

    Raises
    ------
    InputError
        When the pair was refused.
    """
    if pair.refusal:
        raise InputError(f"Cell {cell.cell_id} has no pair of sweeps: {pair.refusal}.")
    chosen = [pair.rheobase, pair.plus]
    two = replace(
        cell,
        voltage_mv=[cell.voltage_mv[k] for k in chosen],
        stimulus=[cell.stimulus[k] for k in chosen],
        refusals=[cell.refusals[k] for k in chosen],
    ).resample(sampling_frequency)
    return np.stack([two.cut(k, window_s) for k in range(2)])


def cell_image(
    cell: CellSweeps,
    pair: RheobasePair,
    *,
    shape: tuple[int, int] = IMAGE_SHAPE,
    window_s: tuple[float, float] = IMAGE_WINDOW_S,
    **settings: Any,
) -> np.ndarray:
    """Pooled scalograms [rheobase, rheobase + 40 pA]: float32 (2, *shape), mV.

    Parameters
    ----------
    cell, pair, window_s
        As for :func:`rheobase_traces`.
    shape : (int, int), default: (48, 240)
        Rows (frequencies, rising) and columns (time).
    **settings
        Of :func:`~.scalogram.pooled_scalogram`: ``frequencies``, ``wavelet``, ``normalization``, ``how``, ...

    Raises
    ------
    InputError
        As :func:`rheobase_traces` and :func:`~.scalogram.pooled_scalogram`.
    """
    return images_from_traces(rheobase_traces(cell, pair, window_s=window_s), shape=shape, **settings)


def images_from_traces(
    traces: np.ndarray | Sequence[np.ndarray], *, shape: tuple[int, int] = IMAGE_SHAPE, **settings: Any
) -> np.ndarray:
    """The same for traces of many cells, (..., num_samples) at 4 kHz, to (..., *shape)."""
    return pooled_scalogram(np.asarray(traces), IMAGE_RATE, shape=shape, **settings)
