"""Labelled recordings for the benchmarks of events, one per cell: real potentials through simulated optics, real pairs.

The data are two files in a folder (--data, or the environment variable SI_NEUROML_EVENT_DATA), read and never copied:

intracellular_pyabf.npz        whole-cell current clamp of swharden/pyABF (commit 3ad9cd6f), MIT
    v_0p01mV (0.01 mV), sweep_offsets, fs_hz, recording, ap_peak_samples, ap_offsets
cascade_DS03-Cal520-m-S1.npz   Cal-520 at 500 Hz with electrode of PTRRupprecht/Cascade (commit 5b80dc0a), GPL-3
    dff, trial_offsets, ap_times_100us, ap_offsets, cell, t0_s, fs_hz; sample k is at t0_s + k / fs_hz

Sweeps and trials lie one after the other; every ``*_offsets`` has one entry more than there are of them.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from spikeinterface.core import BaseRecording, NumpyRecording

from si_neuroml import generate_voltage_imaging_recording
from si_neuroml.errors import InputError
from si_neuroml.groundtruth import ImagingSettings, MembranePotential, MembraneSettings, as_membrane_potential
from si_neuroml.groundtruth.simulated_potential import simulate_membrane_potential

VARIABLE = "SI_NEUROML_EVENT_DATA"
POTENTIALS, PAIRS = "intracellular_pyabf.npz", "cascade_DS03-Cal520-m-S1.npz"
RATE = 3328.0
# files whose names begin alike are of one cell
SAME_CELL = ("171116sh", "17o0502")
# closer labels are one action potential labelled twice, in a sweep at 25 kHz
MIN_INTERVAL_MS = 1.5
# median height of a cell's action potentials, in sd of the shot noise: cells are spread evenly between, on a log scale
HEIGHT_SD = (2.3, 6.8)
# so many sweeps with spikes tell how high a cell's action potentials would be in average light
TRIAL_SWEEPS = 5
POINT_DTYPE = [("sample_index", "int64"), ("channel_index", "int64"), ("segment_index", "int64")]


class LabelledCell(NamedTuple):
    """A cell with its truth; `height_sd` is the median height of its action potentials, None where it is not known."""

    name: str
    recording: BaseRecording
    events: np.ndarray
    height_sd: float | None = None


def find_file(folder: str | None, name: str) -> tuple[Path | None, str | None]:
    """The path of a data file, or why there is none."""
    folder = folder or os.environ.get(VARIABLE)
    if not folder:
        return None, f"{name}: give its folder as --data or in the environment variable {VARIABLE}"
    path = Path(folder) / name
    return (path, None) if path.exists() else (None, f"there is no {name} in {folder}")


def real_potentials(path: Path, max_sweeps: int | None = None) -> dict[str, list[MembranePotential]]:
    """Sweeps of each cell that has action potentials; those with faulty labels or traces are left out."""
    data = dict(np.load(path))
    cells, dropped = {}, []
    for k, recording in enumerate(data["recording"]):
        name = next((start for start in SAME_CELL if recording.startswith(start)), str(recording))
        trace = data["v_0p01mV"][data["sweep_offsets"][k] : data["sweep_offsets"][k + 1]] * np.float32(0.01)
        spikes, rate = data["ap_peak_samples"][data["ap_offsets"][k] : data["ap_offsets"][k + 1]], data["fs_hz"][k]
        try:
            if np.diff(spikes).min(initial=len(trace)) < 1e-3 * MIN_INTERVAL_MS * rate:
                raise InputError(f"labels less than {MIN_INTERVAL_MS:g} ms apart")
            potential = as_membrane_potential(trace, float(rate), spikes)
        except InputError as error:
            dropped.append(f"{recording}, sweep {data['sweep'][k]}: {error}")
            continue
        cells.setdefault(name, []).append(potential)
    for reason in dropped:
        print(f"left out {reason}")
    # the sweeps with the most spikes first, where not all are taken
    for name, sweeps in cells.items():
        cells[name] = sorted(sweeps, key=lambda sweep: -len(sweep.spike_samples))[:max_sweeps] if max_sweeps else sweeps
    return {name: sweeps for name, sweeps in cells.items() if any(len(sweep.spike_samples) for sweep in sweeps)}


def simulated_potentials(number: int, seconds: float) -> dict[str, list[MembranePotential]]:
    """The like from the model, with no events but action potentials."""
    settings = MembraneSettings(firing_rate_hz=(2.0, 6.0), dendritic_spike_rate_hz=0.0, plateau_rate_hz=0.0)
    drawn = {f"simulated{k}": settings.draw(np.random.default_rng(k)) for k in range(number)}
    return {name: [simulate_membrane_potential(seconds, 20_000.0, cell)] for name, cell in drawn.items()}


def imaged_cells(
    potentials: dict[str, list[MembranePotential]], seed: int, sites: int = 4, indicators: int = 4
) -> list[LabelledCell]:
    """Every cell through optics drawn anew for each seed, each sweep a segment.

    A cell is seen at so many sites, which are divided among so many drawn indicators and dendrites: with few cells, one
    indicator each, the kinetics of the cells left out would hardly ever lie among those of the others.
    """
    heights = np.random.default_rng(seed).permutation(np.geomspace(*HEIGHT_SD, len(potentials)))
    cells = []
    for number, (name, sweeps) in enumerate(potentials.items()):
        first = 1000 * seed + 10 * number
        parts = [
            _in_right_light(sweeps, heights[number], seed=first + draw, sites_per_cell=sites // indicators)
            for draw in range(indicators)
        ]
        cells.append(_joined(name, parts))
    return cells


def silent_cells(number: int, seconds: float, seed: int, sites: int = 4) -> LabelledCell:
    """Simulated cells that never spike, with EPSP trains, current steps, motion and heart beat."""
    truth = generate_voltage_imaging_recording(
        [seconds], RATE, number, sites, num_silent_cells=number, seed=1000 * seed + 999
    )
    return LabelledCell("silent", truth.recording, truth.events)


def calcium_cells(path: Path) -> list[LabelledCell]:
    """Cells seen with Cal-520 and an electrode at once, each trial a segment of one channel."""
    data = dict(np.load(path))
    cells = []
    for name in np.unique(data["cell"]):
        trials = np.flatnonzero(data["cell"] == name)
        traces, parts = [], []
        for segment, k in enumerate(trials):
            traces.append(data["dff"][data["trial_offsets"][k] : data["trial_offsets"][k + 1], None])
            times = 1e-4 * data["ap_times_100us"][data["ap_offsets"][k] : data["ap_offsets"][k + 1]]
            samples = np.rint((times - data["t0_s"][k]) * data["fs_hz"][k]).astype("int64")
            samples = samples[(samples >= 0) & (samples < len(traces[-1]))]
            part = np.zeros(len(samples), dtype=POINT_DTYPE)
            part["sample_index"], part["segment_index"] = samples, segment
            parts.append(part)
        recording = NumpyRecording(traces, float(data["fs_hz"][trials[0]]))
        cells.append(LabelledCell(str(name).split("_")[-1], recording, np.concatenate(parts)))
    return cells


def split_folds(cells: list[LabelledCell], num_folds: int) -> list[tuple[list[LabelledCell], list[LabelledCell]]]:
    """(cells to train on, cells left out) of each fold; every cell is left out once, fold by fold similar numbers."""
    folds = [[] for _ in range(num_folds)]
    for place, cell in enumerate(sorted(cells, key=lambda cell: -len(cell.events))):
        # there and back, so that no fold has the larger cell each time
        turn = place % (2 * num_folds)
        folds[min(turn, 2 * num_folds - 1 - turn)].append(cell.name)
    return [([c for c in cells if c.name not in out], [c for c in cells if c.name in out]) for out in folds]


def _in_right_light(sweeps, height, **options):
    """A cell imaged with so many photons that its median action potential has a given height in sd of shot noise."""
    trial = sorted((sweep for sweep in sweeps if len(sweep.spike_samples)), key=lambda sweep: -len(sweep.spike_samples))
    options |= {"sampling_frequency": RATE}
    first = generate_voltage_imaging_recording(membrane_potential=[trial[:TRIAL_SWEEPS]], noise="none", **options)
    # signal goes with the photons, shot noise with their root
    factor = (height / np.median(_heights(first))) ** 2
    photons = tuple(factor * value for value in ImagingSettings().photons_per_sample)
    imaging = ImagingSettings(photons_per_sample=photons)
    return generate_voltage_imaging_recording(membrane_potential=[sweeps], imaging=imaging, **options)


def _joined(name, parts):
    """Sites of several generated recordings of one cell as channels of one recording."""
    recordings, events, channels = [part.recording for part in parts], [], 0
    for part in parts:
        own = part.events.copy()
        own["channel_index"] += channels
        channels += part.recording.get_num_channels()
        events.append(own)
    segments = range(recordings[0].get_num_segments())
    traces = [np.hstack([one.get_traces(segment_index=segment) for one in recordings]) for segment in segments]
    recording = NumpyRecording(traces, RATE)
    recording.set_property("cell", np.full(channels, name))
    height = np.median(np.concatenate([_heights(part) for part in parts]))
    return LabelledCell(name, recording, np.concatenate(events), float(height))


def _heights(truth):
    """Change in expected photons of every event, in units of their shot noise."""
    segments = range(truth.noise_free.get_num_segments())
    light = np.array([np.median(truth.noise_free.get_traces(segment_index=segment), axis=0) for segment in segments])
    of_event = light[truth.events["segment_index"], truth.events["channel_index"]]
    return np.abs(truth.events["amplitude"]) / np.sqrt(of_event)
