"""Units of three made-up types: fast and regular with narrow waveforms, bursting and wide, slow and irregular."""

import warnings

import numpy as np
import pandas as pd
import spikeinterface.full as si
from spikeinterface.generation import InjectTemplatesRecording, NoiseGeneratorRecording

from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.unit_settings import UnitStreamSettings
from si_neuroml.groundtruth.region_analyzers import unit_waveforms

TYPES = ("Bursting", "Fast", "Slow")
WIDTH_MS = {"Bursting": 0.6, "Fast": 0.25, "Slow": 0.45}
DURATION_S = 40.0
RATE_HZ = 10_000.0
# quick, and long enough for the blocks of a short recording
SMALL = {"freq_max": 60.0, "num_frequencies": 8, "block_duration_s": 4.0}
SETTINGS = UnitStreamSettings(ms_after=1.0, bin_ms=4.0, num_power_ranks=4, **SMALL)
# the same in an analyzer
PARAMETERS = {"ms_after": 1.0, "settings": {"bin_ms": 4.0, "num_power_ranks": 4}, **SMALL}
QUIET = {"n_jobs": 1, "progress_bar": False}


def train_of(kind, rng, duration_s=DURATION_S, gain=1.0):
    """Spike times in seconds on whole tenths of a millisecond."""
    if kind == "Fast":
        intervals = rng.gamma(6.0, 1 / (6.0 * 25.0 * gain), int(60 * duration_s))
        times = np.cumsum(intervals)
    elif kind == "Bursting":
        starts = np.cumsum(rng.exponential(1 / (2.0 * gain), int(8 * duration_s) + 20))
        times = np.sort(np.concatenate([starts + 0.004 * k for k in range(3)]))
    else:
        times = np.cumsum(0.003 + rng.exponential(1 / (4.0 * gain), int(16 * duration_s) + 20))
    return np.unique(np.round(times[times < duration_s - 0.01], 4))


def simulated(num_animals=6, per_animal=9, *, seed=0, name="lab"):
    """Types, animals, trains and waveforms of units; animals differ in how much their cells fire."""
    rng = np.random.default_rng(seed)
    types = [TYPES[k % 3] for k in range(per_animal)] * num_animals
    animals = np.repeat([f"{name}{k}" for k in range(num_animals)], per_animal)
    gains = np.repeat(np.exp(0.15 * rng.normal(size=num_animals)), per_animal)
    trains = [[train_of(kind, rng, gain=gain)] for kind, gain in zip(types, gains, strict=True)]
    widths = [WIDTH_MS[kind] * np.exp(0.1 * rng.normal()) for kind in types]
    waveforms = unit_waveforms(np.array(widths), np.full(len(types), 100.0), RATE_HZ)
    cells = pd.DataFrame({"cell_id": np.arange(len(types)), "label": types, "donor": animals, "dataset": name})
    return cells, trains, waveforms + rng.normal(0, 2.0, waveforms.shape)


def units(num_animals=6, per_animal=9, *, seed=0, **options):
    cells, trains, waveforms = simulated(num_animals, per_animal, seed=seed)
    data = {"trains": trains, "durations_s": [DURATION_S], "waveforms": waveforms, "sampling_frequency": RATE_HZ}
    return CellDataset.from_units(cells, settings=SETTINGS, **(data | options))


def analyzer_of(types, *, seed=0, cut_s=18.0, unit_ids=None, templates=True, silent=()):
    """Units in two segments with text as ids; `silent` ones have no spikes."""
    rng = np.random.default_rng(seed)
    unit_ids = [f"unit {kind} {k}" for k, kind in enumerate(types)] if unit_ids is None else unit_ids
    trains = [train_of(kind, rng) for kind in types]
    trains = [np.zeros(0) if unit_id in silent else t for unit_id, t in zip(unit_ids, trains, strict=True)]
    segments = [
        {u: np.round(t[t < cut_s] * RATE_HZ).astype("int64") for u, t in zip(unit_ids, trains, strict=True)},
        {u: np.round((t[t >= cut_s] - cut_s) * RATE_HZ).astype("int64") for u, t in zip(unit_ids, trains, strict=True)},
    ]
    sorting = si.NumpySorting.from_unit_dict(segments, RATE_HZ)
    sorting.set_property("cell_type", np.array(types))
    waveforms = unit_waveforms(np.array([WIDTH_MS[kind] for kind in types]), np.full(len(types), 120.0), RATE_HZ)
    num_channels = 3
    weights = np.stack([np.roll([1.0, 0.4, 0.2], k) for k in range(len(types))])
    durations = [cut_s, DURATION_S - cut_s]
    recording = InjectTemplatesRecording(
        sorting,
        (waveforms[:, :, None] * weights[:, None, :]).astype("float32"),
        nbefore=round(1e-3 * RATE_HZ),
        parent_recording=NoiseGeneratorRecording(num_channels, RATE_HZ, durations, noise_levels=2.0, seed=seed),
        num_samples=[round(one * RATE_HZ) for one in durations],
    )
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    recording.set_dummy_probe_from_locations(np.column_stack([np.zeros(num_channels), 20.0 * np.arange(num_channels)]))
    analyzer = si.create_sorting_analyzer(sorting, recording, format="memory", sparse=False, job_kwargs=QUIET)
    if templates:
        with warnings.catch_warnings():
            # silent units have no waveforms to average
            warnings.simplefilter("ignore")
            analyzer.compute(["random_spikes", "templates"], **QUIET)
    return analyzer


def reloaded(folder):
    with warnings.catch_warnings():
        # the recording is made in memory, and is gone
        warnings.simplefilter("ignore")
        return si.load_sorting_analyzer(folder)


def save_as(analyzer, format, tmp_path):
    if format == "memory":
        return analyzer.copy()
    folder = tmp_path / ("analyzer.zarr" if format == "zarr" else "analyzer")
    analyzer.save_as(format=format, folder=folder)
    return reloaded(folder)
