"""Units with planted differences between regions, for the tests of what is looked at before any model."""

import numpy as np
import pandas as pd

from si_neuroml.regions.dataset import RegionDataset

EDGES_S = np.linspace(-0.5, 1.0, 31)
CENTERS_S = (EDGES_S[:-1] + EDGES_S[1:]) / 2
SHAPES = {
    "CA1": np.exp(-0.5 * ((CENTERS_S - 0.3) / 0.1) ** 2),
    "LP": -np.exp(-0.5 * ((CENTERS_S - 0.3) / 0.1) ** 2),
    "VISp": np.sin(7 * CENTERS_S),
}


def exploration_dataset():
    """140 units of four animals: region VISp has another first feature, each region a response of its own."""
    rng = np.random.default_rng(0)
    regions = np.array(["CA1"] * 40 + ["LP"] * 30 + ["VISp"] * 60 + [""] * 10)
    n = len(regions)
    subjects = np.array([f"s{k % 4}" for k in range(n)])
    units = pd.DataFrame(
        {"subject": subjects, "recording": subjects, "unit_id": np.arange(n), "region": regions, "depth_um": 0.0}
    )
    features = rng.standard_normal((n, 4)).astype("float32")
    features[regions == "VISp", 0] += 3
    features[:5, 1] = np.nan
    psth = np.array([SHAPES.get(region, CENTERS_S * 0) for region in regions]) * rng.uniform(0.5, 2, (n, 1))
    psth = psth + 0.01 * rng.standard_normal(psth.shape)
    psth[3] = np.nan
    names = ("psth_peak_z", "isi_cv", "rate_mean_hz", "log_isi_00")
    return RegionDataset(units, features, names, psth.astype("float32"), EDGES_S)
