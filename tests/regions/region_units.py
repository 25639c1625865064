"""Small datasets of units whose regions can be told from their features, with animals that differ."""

import numpy as np
import pandas as pd

from si_neuroml.regions.dataset import RegionDataset

REGIONS = ("CTX", "HPF", "TH")
NAMES = (
    "rate_mean_hz",
    "isi_cv",
    "waveform_width_ms",
    "waveform_amplitude_uv",
    *(f"log_isi_{k:02d}" for k in range(8)),
)
EDGES = np.arange(-0.2, 0.401, 0.05)


def make_dataset(num_subjects=6, per_subject=40, *, seed=0, psth=True, regions=REGIONS, shift=0.3, missing=0.0):
    """Units of animals with one shank each; regions lie above each other, 400 um of each."""
    rng = np.random.default_rng(seed)
    num = num_subjects * per_subject
    subject = np.repeat(np.arange(num_subjects), per_subject)
    depth = rng.uniform(0, 400 * len(regions), num)
    region = (depth // 400).astype(int)
    animal = rng.normal(0, shift, (num_subjects, len(NAMES)))[subject]
    means = np.random.default_rng(1).normal(0, 1, (len(regions), len(NAMES)))
    latent = means[region] + animal + rng.normal(0, 1, (num, len(NAMES)))
    features = latent.copy()
    features[:, [0, 3]] = np.exp(latent[:, [0, 3]])
    shares = np.exp(latent[:, 4:])
    features[:, 4:] = shares / shares.sum(axis=1, keepdims=True)
    features[rng.random(features.shape) < missing] = np.nan
    times = EDGES[:-1] + 0.025
    bumps = np.exp(-0.5 * ((times - 0.1 * (1 + region[:, None])) / 0.05) ** 2)
    units = pd.DataFrame(
        {
            "subject": [f"m{s}" for s in subject],
            "recording": [f"m{s}_1" for s in subject],
            "unit_id": np.arange(num),
            "region": np.array(regions)[region],
            "depth_um": depth,
        }
    )
    response = (bumps + rng.normal(0, 0.4, (num, len(times)))).astype("float32")
    extra = {"psth": response, "bin_edges_s": EDGES} if psth else {}
    return RegionDataset.from_table(units, features, feature_names=NAMES, **extra)
