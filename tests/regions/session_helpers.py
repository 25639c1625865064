"""Small sessions with known truth for the tests of the regions."""

import numpy as np
import pandas as pd

from si_neuroml.regions.session import Session

REGIONS = ("VISp", "CA1", "LP")
RATES_HZ = {"VISp": 6.0, "CA1": 3.0, "LP": 12.0, "": 5.0}


def simulate_trains(regions, *, duration_s=120.0, onsets_s=(), seed=0):
    """Gamma spike trains of units, faster in some regions, with a response 50 to 150 ms after each onset.

    Returns spike_times and offsets, as sessions hold them.
    """
    rng = np.random.default_rng(seed)
    trains = []
    for region in regions:
        rate = RATES_HZ[region] * rng.lognormal(0, 0.2)
        intervals = 0.003 + rng.gamma(2.0, 0.5 * max(1 / rate - 0.003, 1e-3), size=int(3 * rate * duration_s) + 10)
        own = np.cumsum(intervals)
        evoked = [onset + rng.uniform(0.05, 0.15, rng.poisson(3)) for onset in onsets_s]
        own = np.concatenate([own, *evoked])
        trains.append(np.sort(own[own < duration_s]))
    return np.concatenate(trains), np.concatenate([[0], np.cumsum([len(train) for train in trains])]).astype("int64")


def simulate_session(
    subject="m1", seed=0, regions=("VISp2/3", "CA1", "", "LP", "VISp2/3", "CA1"), duration_s=60.0, **fields
):
    """A Session of one recording named <subject>_<seed>, with events every 4 s and units on two probes in turn."""
    keys = ["VISp" if region.startswith("VISp") else region for region in regions]
    onsets = np.arange(3.0, duration_s - 3.0, 4.0)
    spike_times, offsets = simulate_trains(keys, duration_s=duration_s, onsets_s=onsets, seed=seed)
    units = pd.DataFrame(
        {
            "subject": subject,
            "recording": f"{subject}_{seed}",
            "unit_id": np.arange(len(regions)) + 100,
            "region": regions,
            "depth_um": 40.0 * np.arange(len(regions)),
            "shank": ["probeA", "probeB"] * (len(regions) // 2) + ["probeA"] * (len(regions) % 2),
            "lab": "north",
            "snr": np.linspace(0.5, 5.0, len(regions)),
        }
    )
    return Session(units, spike_times, offsets, duration_s, onsets, **fields)
