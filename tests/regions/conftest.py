"""Fixtures of the tests of the regions: small sessions and datasets with known truth."""

import numpy as np
import pandas as pd
import pytest
from session_helpers import REGIONS, simulate_trains


@pytest.fixture(scope="session")
def ragged_session():
    """Spike times (s), offsets and event onsets of 9 units, three in each of three regions, over 120 s."""
    onsets = np.arange(5.0, 115.0, 4.0)
    spike_times, offsets = simulate_trains(np.repeat(REGIONS, 3), onsets_s=onsets, seed=1)
    return spike_times, offsets, onsets


@pytest.fixture(scope="session")
def region_dataset():
    """240 units in three regions of four subjects, two recordings each; features and PSTH differ by region.

    Every subject has an effect of its own on all its features, half as large as the differences of the regions.
    """
    from si_neuroml.regions.dataset import RegionDataset

    rng = np.random.default_rng(7)
    num_units, num_bins = 240, 20
    region = np.array([REGIONS[k // 10 % 3] for k in range(num_units)])
    subject = np.array([f"m{k // 60}" for k in range(num_units)])
    code = np.array([REGIONS.index(one) for one in region])
    names = ("psth_latency_s", "isi_cv", "rate_mean_hz", "log_isi_00", "log_isi_01", "acg_00", "waveform_width_ms")
    means = rng.normal(size=(3, len(names)))
    animals = 0.5 * rng.normal(size=(4, len(names)))
    features = means[code] + animals[np.arange(num_units) // 60] + 0.7 * rng.normal(size=(num_units, len(names)))
    features[::17, 0] = np.nan
    time = np.linspace(-0.25, 0.25, num_bins + 1)
    centers = (time[:-1] + time[1:]) / 2
    shapes = np.stack([np.exp(-(((centers - peak) / 0.05) ** 2)) for peak in (0.05, 0.12, 0.2)])
    psth = 3.0 * shapes[code] + 0.5 * rng.normal(size=(num_units, num_bins))
    units = pd.DataFrame(
        {
            "subject": subject,
            "recording": [f"m{k // 60}_{k // 30 % 2}" for k in range(num_units)],
            "unit_id": np.arange(num_units) % 30,
            "region": region,
            "depth_um": 60.0 * (np.arange(num_units) % 30),
            "lab": np.where(np.arange(num_units) < 120, "north", "south"),
            "snr": rng.uniform(0.5, 6.0, num_units),
            "isi_violations_ratio": rng.uniform(0.0, 0.02, num_units),
            "firing_rate": rng.lognormal(1.0, 1.0, num_units),
        }
    )
    return RegionDataset(units, features, names, psth, time)
