"""A dataset from the sweeps of cells: the image of the two sweeps at rheobase, and the features of all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .cell_image import IMAGE_SHAPE, IMAGE_WINDOW_S, cell_image
from .dataset import CellDataset
from .features import EP_FEATURE_NAMES, ep_features
from .scalogram import image_frequencies
from .sweep_selection import select_rheobase_sweeps
from .sweeps import CellSweeps

__all__ = ["sweeps_dataset"]


def sweeps_dataset(
    cells: Sequence[CellSweeps],
    *,
    labels: Sequence[str] | Mapping[str, str] | None = None,
    donors: Sequence[str] | Mapping[str, str] | None = None,
    dataset: str | Sequence[str] | Mapping[str, str] = "",
    shape: tuple[int, int] = IMAGE_SHAPE,
    window_s: tuple[float, float] = IMAGE_WINDOW_S,
    image_settings: dict[str, Any] | None = None,
    selection: dict[str, Any] | None = None,
) -> CellDataset:
    """Images and features of cells.

    Parameters
    ----------
    cells : sequence of CellSweeps
    labels, donors, dataset : sequence or dict of str, optional
        Type, donor and data set of each cell, in the order of the cells or by cell_id; one data set for all may be
        given as text. A dict need not name all cells.
    shape, window_s : default: (48, 240), (-0.1, 1.1)
        Pixels and seconds after step onset, see :func:`~.cell_image.cell_image`.
    image_settings : dict, optional
        Settings of :func:`~.scalogram.pooled_scalogram`. ``frequencies`` must be as many as there are rows.
    selection : dict, optional
        Settings of :func:`~.sweep_selection.select_rheobase_sweeps`.

    Returns
    -------
    CellDataset
        A cell whose pair of sweeps is refused has no image; the column ``refusal`` of ``cells`` says why. Further
        columns: ``rheobase_pa`` and ``above_pa``, how far the second sweep is above it.

    Raises
    ------
    InputError
        When labels and cells do not fit.
    """
    import pandas as pd

    cells, settings = list(cells), dict(image_settings or {})
    if not cells:
        raise InputError("There are no cells.")
    frequencies = np.asarray(settings.setdefault("frequencies", image_frequencies(shape[0])), dtype="float64")
    if frequencies.shape != (shape[0],):
        raise InputError(f"Images of {shape[0]} rows need as many frequencies, got shape {frequencies.shape}.")
    pairs = [select_rheobase_sweeps(cell, **(selection or {})) for cell in cells]
    images = np.full((len(cells), 2, *shape), np.nan, dtype="float32")
    for row, (cell, pair) in enumerate(zip(cells, pairs, strict=True)):
        if not pair.refusal:
            images[row] = cell_image(cell, pair, shape=shape, window_s=window_s, **settings)
    features = np.stack([ep_features(cell, pair)[0] for cell, pair in zip(cells, pairs, strict=True)])
    names = [cell.cell_id for cell in cells]
    table = pd.DataFrame(
        {
            "cell_id": names,
            "label": _of_each("labels", labels, names),
            "donor": _of_each("donors", donors, names),
            "dataset": [dataset] * len(names) if isinstance(dataset, str) else _of_each("dataset", dataset, names),
            "refusal": [pair.refusal for pair in pairs],
            "rheobase_pa": [pair.rheobase_pa for pair in pairs],
            "above_pa": [pair.above_pa for pair in pairs],
        }
    )
    edges_ms = 1000 * np.linspace(*window_s, shape[1] + 1)
    return CellDataset(table, images, features, EP_FEATURE_NAMES, frequencies, (edges_ms[1:] + edges_ms[:-1]) / 2)


def _of_each(what, values, names):
    """One text per cell, "" where there is none."""
    if values is None:
        return [""] * len(names)
    if isinstance(values, Mapping):
        return [str(values.get(name, "")) for name in names]
    if isinstance(values, str) or len(values) != len(names):
        raise InputError(f"{what} must be a dict by cell_id, or have one entry for each of {len(names)} cells.")
    return [str(value) for value in values]
