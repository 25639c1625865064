"""Cells of three made-up types: early low, late high, and steady activity in the image, and other means of features."""

import numpy as np
import pandas as pd

from si_neuroml.celltypes.dataset import CellDataset

TYPES = ("Excitatory", "Pvalb", "Sst")
SHAPE = (2, 12, 40)
NAMES = ("latency_ms", "rate_hz", "width_ms", "noise")
FREQUENCIES = np.geomspace(20.0, 200.0, SHAPE[1])
TIMES = np.linspace(-95.0, 880.0, SHAPE[2])
# small and quick, but enough to tell the three types apart
QUICK = {"max_epochs": 6, "batch_size": 16, "shift": 1, "learning_rate": 4e-3}


def cells(num=90, *, seed=0, num_donors=9, noise=1.0, images=True, features=True, name="lab"):
    rng = np.random.default_rng(seed)
    types = rng.integers(0, len(TYPES), num)
    table = pd.DataFrame(
        {
            "cell_id": [f"{seed}-{k}" for k in range(num)],
            "label": np.array(TYPES)[types],
            "donor": [f"d{k}" for k in rng.integers(0, num_donors, num)],
            "dataset": name,
        }
    )
    centers = np.array([[0.0, 0, 0, 0], [2.0, 2, -1, 0], [-1.0, 2, 2, 0]])
    values = centers[types] + noise * rng.normal(0, 1, (num, len(NAMES)))
    values[::11, 2] = np.nan
    return CellDataset(
        table,
        image_of(types, rng, noise) if images else None,
        values if features else None,
        NAMES if features else (),
        FREQUENCIES if images else None,
        TIMES if images else None,
    )


def image_of(types, rng, noise=1.0):
    rows, columns = np.arange(SHAPE[1])[:, None], np.arange(SHAPE[2])
    bumps = np.stack(
        [
            np.exp(-((columns - 8) ** 2) / 12.0) * (rows < 4),
            np.exp(-((columns - 30) ** 2) / 12.0) * (rows > 8),
            0.5 * (columns > 5) * (np.abs(rows - 6) < 2),
        ]
    )
    gains = np.exp(0.2 * rng.normal(0, 1, (len(types), SHAPE[0], 1, 1)))
    background = noise * np.abs(rng.normal(0, 0.2, (len(types), *SHAPE)))
    return (3 * bumps[types][:, None] * gains + background).astype("float32")
