"""Cells with effects of donors and laboratories that a test plants."""

import numpy as np
import pandas as pd

from si_neuroml.celltypes.dataset import CellDataset

TYPES = np.array(["Excitatory", "Pvalb", "Sst"])
QUIET = {"num_resamples": 50, "baselines": False}


def planted(num=400, *, num_donors=20, signal=1.0, donor=0.0, shift=0.0, mix=0.0, missing=0.0, seed=0):
    """Cells of two laboratories. One feature tells types, one donors within a type, one the laboratory by `shift`.

    `mix` is how much more often the second laboratory records Sst; `missing` of its cells lack the last feature.
    """
    rng = np.random.default_rng(seed)
    who = rng.integers(0, num_donors, num)
    where = who % 2
    usual, other = np.full(3, 1 / 3), np.array([1 - mix, 1 - mix, 1 + 2 * mix]) / 3
    types = np.array([rng.choice(3, p=other if lab else usual) for lab in where])
    private = rng.normal(size=(num_donors, 3))[who, types]
    features = np.column_stack(
        [
            signal * types + rng.normal(size=num),
            donor * private + 0.1 * rng.normal(size=num),
            shift * where + rng.normal(size=num),
            np.where(rng.random(num) < missing * where, np.nan, rng.normal(size=num)),
        ]
    )
    table = pd.DataFrame(
        {
            "cell_id": np.arange(num),
            "label": TYPES[types],
            "donor": [f"d{k}" for k in who],
            "dataset": np.array(["A", "B"])[where],
            "temperature": np.where(who < num_donors // 2, "room", "warm"),
        }
    )
    return CellDataset(table, None, features, ("type", "private", "place", "last"))
