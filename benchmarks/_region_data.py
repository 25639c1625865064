"""Labelled units for region_accuracy.py, read from a folder that does not come with the package.

``rats7_units.parquet`` and ``rats7_spikes.npz``: spike trains of 2,584 units in seven rats
(Brody-Lab/chronic_neuropixels, Apache-2.0). ``ibl_bwm_clusters.parquet`` and ``ibl_bwm_channels.parquet``: units and
channels of 87 insertions in 58 mice (int-brain-lab/paper-reproducible-ephys, MIT).
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.spike_train_features import spike_train_features

VARIABLE = "SI_NEUROML_REGION_DATA"
COSMOS = ("Isocortex", "HPF", "TH", "MB")
RATS_FILES = ("rats7_units.parquet", "rats7_spikes.npz")
IBL_FILES = ("ibl_bwm_clusters.parquet", "ibl_bwm_channels.parquet")
TICK_S = 1e-4
CARRY = 65535
# no noise cut-off was computed for units with few spikes
MISSING_CUTOFF = -5.0


def find_folder(path, files):
    """The data folder, or None with a word on what is missing."""
    path = path or os.environ.get(VARIABLE)
    if path is None:
        print(f"no data: give --data FOLDER or set {VARIABLE}")
        return None
    missing = [name for name in files if not (Path(path) / name).is_file()]
    if missing:
        print(f"no data: {path} lacks {', '.join(missing)}")
        return None
    return Path(path)


def load_rats(folder):
    """Spike-train statistics from the trains themselves, with width and amplitude of the waveform as given."""
    table, stored = pd.read_parquet(folder / RATS_FILES[0]), np.load(folder / RATS_FILES[1])
    ends = np.cumsum(stored["n_code"].astype("int64"))
    trains = [_spike_times(code) for code in np.split(stored["delta_u16"], ends[:-1])]
    datasets = []
    for name, own in table.groupby("recording", sort=False):
        times = [np.sort(trains[unit]) for unit in own.index]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in times])])
        duration_s = float(own["dur_s"].iloc[0])
        features, names = spike_train_features(np.concatenate(times), offsets, duration_s=duration_s)
        features = np.column_stack([features, own["width_ms"], own["vpp_raw"]])
        units = pd.DataFrame(
            {
                "subject": own["rat"],
                "recording": name,
                "unit_id": np.arange(len(own)),
                "region": own["area_coarse"],
                "depth_um": own["dist_from_tip_um"],
            }
        )
        datasets.append((units, features))
    names = (*names, "waveform_width_ms", "waveform_amplitude_uv")
    units = pd.concat([units for units, _ in datasets], ignore_index=True)
    return RegionDataset.from_table(units, np.concatenate([f for _, f in datasets]), feature_names=names)


def load_ibl(folder, min_rate_hz=0.05):
    """Units in four Cosmos regions, and for each insertion the depths of its channels with their regions."""
    units, channels = (pd.read_parquet(folder / name) for name in IBL_FILES)
    for table in (units, channels):
        for column in table.select_dtypes("category"):
            table[column] = table[column].astype(str)
    noise = channels[["insertion", "channel_id", "noise_rms"]].rename(columns={"channel_id": "channels"})
    units = units.merge(noise, on=["insertion", "channels"], how="left", validate="many_to_one")
    units = units[(units["firing_rate"] > min_rate_hz) & units["cosmos_acronym"].isin(COSMOS)]
    features = {
        "rate_log10_hz": np.log10(units["firing_rate"]),
        "waveform_log10_amplitude_v": np.log10(units["amp_median"]),
        "quality_noise_cutoff": units["noise_cutoff"].clip(-1e3, 1e3).fillna(MISSING_CUTOFF),
        "quality_refractory": units["slidingRP_viol"],
        "quality_label": units["label"],
        "channel_log10_noise_v": np.log10(units["noise_rms"]),
    }
    names = {"subject": "subject", "insertion": "recording", "unit": "unit_id", "cosmos_acronym": "region"}
    table = units.rename(columns=names | {"depths": "depth_um"})
    table = table[[*names.values(), "depth_um", "lab", "firing_rate"]].reset_index(drop=True)
    dataset = RegionDataset.from_table(table, pd.DataFrame(features))
    tracks = {}
    for name, own in channels.groupby("insertion"):
        own = own.drop_duplicates("axial_um").sort_values("axial_um")
        tracks[name] = own["axial_um"].to_numpy("float64"), own["cosmos_acronym"].to_numpy(dtype=str)
    return dataset, tracks


def fewer_subjects(dataset, num):
    """The first subjects in alphabetical order."""
    names = np.unique(dataset.units["subject"].to_numpy(dtype=str))[:num]
    return dataset.select(np.isin(dataset.units["subject"].to_numpy(dtype=str), names))


def _spike_times(code):
    """Times in s from differences in units of 0.1 ms; 65535 carries on to the next entry."""
    return np.cumsum(code.astype("int64"))[code != CARRY] * TICK_S
