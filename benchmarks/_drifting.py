"""Drifting recordings of model cells along a Neuropixels 1.0 probe, their motion known to the micrometer.

Every cell's footprint is computed from its transmembrane currents at each displacement (1 um steps), so that nothing is
interpolated between contacts: an interpolated footprint would drift in the way that its interpolation assumes. The
motions are those of Garcia et al. (2024, eNeuro) as their code writes them, only compressed into a shorter recording.
"""

import numba
import numpy as np
import scipy.fft
from probeinterface import Probe
from scipy.signal import butter, freqz_sos, resample_poly, sosfiltfilt
from spikeinterface.core import NumpyRecording

from training.currents import load_currents
from training.footprints import footprint
from training.variation import Variation, random_cell

SAMPLING_FREQUENCY = 30_000.0
GAIN_UV = 0.2
CONTACT_UM = 12.0
BEFORE, AFTER = 60, 150
# contacts further along the probe than this see less than the rounding of the traces, or nothing that is detected
REACH_UM, FAR_REACH_UM = 250.0, 400.0
STEP_UM, FAR_STEP_UM = 1.0, 5.0
BLOCK_S = 10.0
BAND = butter(3, [300.0, 6000.0], "bandpass", fs=SAMPLING_FREQUENCY, output="sos")
# upright cells close to the 13 models
NEAR_MODELS = Variation(upright=True, wide=False, duration=1.0, size=1.0)


class Drift:
    """Displacement of the tissue along y in um, as a function of time in s and depth in um."""

    def __init__(self, kind, duration, depth_range, seed):
        self.kind, self.duration, self.depth_range = kind, duration, depth_range
        # theirs rests for the first of ten minutes
        self.start = duration / 10.0
        self.sine_um = 3.0 if kind == "bumps" else 0.0
        # in ten minutes they jump every 30 to 90 s
        steps = np.random.default_rng(seed).uniform(0.05, 0.15, size=40) * duration
        self.jumps = self.start + np.cumsum(steps)

    def __call__(self, times_s, depths_um):
        """Displacement at pairs of times and depths."""
        times, moving = np.asarray(times_s, "float64"), np.asarray(times_s) >= self.start
        if self.kind == "zigzag":
            # 30 um within a minute, up and down
            return np.where(moving, np.abs((times - self.start) / 60.0 % 2.0 - 1.0) * 30.0 - 15.0, 15.0)
        bump = np.where(np.searchsorted(self.jumps, times) % 2, 40.0, -40.0)
        low, high = self.depth_range
        gradient = 1.0 - 0.5 * (np.clip(depths_um, low, high) - low) / (high - low)
        return np.where(moving, bump * gradient + self.sine_um * np.sin(times * np.pi * 0.05), 0.0)

    def steps(self, step_um):
        """Displacements that cover the whole range."""
        reach = 15.0 if self.kind == "zigzag" else 40.0 + self.sine_um
        number = int(np.ceil(reach / step_um))
        return np.arange(-number, number + 1) * step_um


def neuropixels_contacts(num_contacts=128):
    """Four columns 16 um apart, two contacts every 20 um, in turn left and right; in um, shape (num_contacts, 3)."""
    rows = num_contacts // 2
    x = np.tile([0.0, 32.0, 16.0, 48.0], (rows + 1) // 2)[: 2 * rows]
    return np.column_stack([x, np.repeat(np.arange(rows), 2) * 20.0, np.zeros(2 * rows)])


def drifting_recording(kind, *, duration=240.0, num_cells=120, noise_uv=10.0, models=None, seed=0):
    """A recording that drifts, with its motion.

    Returns
    -------
    recording : NumpyRecording
        Int16, band-passed 300 to 6000 Hz, 30 kHz.
    drift : Drift
        The true motion.
    """
    rng = np.random.default_rng([seed, 7])
    contacts, currents = neuropixels_contacts(), load_currents()
    models = sorted(currents) if models is None else models
    depth_range = contacts[[0, -1], 1]
    drift = Drift(kind, duration, depth_range, seed)
    near = _cells(rng, currents, models, contacts, drift, num_cells)
    far = _distant_cells(rng, currents, models, contacts, drift, 2 * num_cells)
    traces = np.empty((round(duration * SAMPLING_FREQUENCY), len(contacts)), dtype="int16")
    layers = [(cells, _spikes(rng, cells, drift)) for cells in (near, far)]
    length = round(BLOCK_S * SAMPLING_FREQUENCY)
    for start in range(0, len(traces), length):
        block = _white_noise(rng, length, len(contacts), noise_uv)
        for cells, spikes in layers:
            _add(block, start, cells["templates"], cells["first"], *spikes)
        part = traces[start : start + length]
        part[:] = np.clip(np.rint(block[: len(part)] / GAIN_UV), -32768, 32767)
    return _as_recording(traces, contacts), drift


def _cells(rng, currents, models, contacts, drift, count):
    """Cells that are seen: at least 30 uV on some contact at some displacement."""
    cells = {"templates": [], "first": [], "y": []}
    while len(cells["y"]) < count:
        soma = _soma(rng, contacts, (35.0, 90.0), (8.0, 70.0))
        cell = random_cell(rng, currents, models, soma, NEAR_MODELS)
        templates, first = _templates(cell, contacts, drift.steps(STEP_UM), CONTACT_UM, REACH_UM)
        if templates.min() < -30.0:
            _append(cells, templates, first, soma)
    return _stacked(cells, STEP_UM)


def _distant_cells(rng, currents, models, contacts, drift, count):
    """Cells below 15 uV: the background, drifting with the tissue."""
    cells = {"templates": [], "first": [], "y": []}
    for _ in range(count):
        soma = _soma(rng, contacts, (150.0, 150.0), (70.0, 200.0))
        cell = random_cell(rng, currents, models, soma, NEAR_MODELS, distant=True)
        templates, first = _templates(cell, contacts, drift.steps(FAR_STEP_UM), 0.0, FAR_REACH_UM)
        if templates.min() > -15.0:
            _append(cells, templates, first, soma)
    return _stacked(cells, FAR_STEP_UM)


def _soma(rng, contacts, overhang, depths):
    low, high = contacts[:, :2].min(axis=0) - overhang, contacts[:, :2].max(axis=0) + overhang
    return np.append(rng.uniform(low, high), rng.uniform(*depths))


def _templates(cell, contacts, steps, contact_size_um, reach_um):
    """Filtered footprints at all displacements, shape (steps, samples, contacts near), and the first of these contacts.

    A cell moved by d sees contacts moved by -d. All numbers are whole micrometers, so that contacts of one column share
    most of their places, and each place is computed once.
    """
    near = np.flatnonzero(np.abs(contacts[:, 1] - cell.soma_um[1]) <= reach_um)
    moved = np.round(contacts[None, near] - steps[:, None, None] * np.array([0.0, 1.0, 0.0]), 3)
    places, index = np.unique(moved.reshape(-1, 3), axis=0, return_inverse=True)
    waveforms = as_recorded(footprint(cell, places, contact_size_um))
    templates = waveforms[index.ravel()].reshape(len(steps), len(near), -1)
    return np.ascontiguousarray(templates.transpose(0, 2, 1)), int(near[0])


def as_recorded(waveforms):
    """Footprints of 32 kHz at 30 kHz after the recording's filter, spike at BEFORE: (contacts, BEFORE + AFTER)."""
    waveforms = resample_poly(waveforms, 15, 16, axis=1)
    waveforms = sosfiltfilt(BAND, np.pad(waveforms, ((0, 0), (300, 300))), axis=1)
    # spikes of all models peak at sample 64
    middle = 300 + 64 * 15 // 16
    return waveforms[:, middle - BEFORE : middle + AFTER].astype("float32")


def _append(cells, templates, first, soma):
    cells["templates"].append(templates)
    cells["first"].append(first)
    cells["y"].append(soma[1])


def _stacked(cells, step_um):
    """One array for all cells; where a cell has fewer contacts the rest is zero and never reached."""
    width = max(templates.shape[2] for templates in cells["templates"])
    padded = [np.pad(t, ((0, 0), (0, 0), (0, width - t.shape[2]))) for t in cells["templates"]]
    first, y = np.array(cells["first"]), np.array(cells["y"])
    return {"templates": np.stack(padded), "first": first, "y": y, "step_um": step_um}


def _spikes(rng, cells, drift):
    """Sample, cell, displacement index and gain of every spike, by time; Poisson with a dead time of 2 ms."""
    parts = []
    for index, y in enumerate(cells["y"]):
        rate = 6.0 * np.exp(rng.normal(0.0, 0.5))
        times = np.sort(rng.uniform(0.02, drift.duration - 0.02, size=rng.poisson(rate * drift.duration)))
        times = times[np.diff(times, prepend=-1.0) > 0.002]
        steps = np.rint(drift(times, np.full(len(times), y)) / cells["step_um"]) + cells["templates"].shape[1] // 2
        parts.append(np.column_stack([times * SAMPLING_FREQUENCY, np.full(len(times), index), steps]))
    table = np.concatenate(parts)
    table = table[np.argsort(table[:, 0])].astype("int64")
    gains = np.clip(rng.normal(1.0, 0.06, size=len(table)), 0.5, 1.5).astype("float32")
    return *np.ascontiguousarray(table.T), gains


def _white_noise(rng, length, num_channels, noise_uv):
    """White noise after the recording's filter (forwards and backwards), of standard deviation `noise_uv`."""
    frequencies = scipy.fft.rfftfreq(length, 1.0 / SAMPLING_FREQUENCY)
    response = np.abs(freqz_sos(BAND, frequencies, fs=SAMPLING_FREQUENCY)[1]) ** 2
    scale = noise_uv / np.sqrt(2.0 * (response**2).sum()) * length
    block = np.empty((length, num_channels), dtype="float32")
    for channel in range(num_channels):
        parts = rng.standard_normal((len(frequencies), 2), dtype="float32")
        spectrum = parts.view("complex64")[:, 0] * (scale / np.sqrt(2.0) * response).astype("float32")
        block[:, channel] = scipy.fft.irfft(spectrum, length)
    return block


@numba.njit(nogil=True)
def _add(block, start, templates, first, samples, cells, steps, gains):
    for spike in range(len(samples)):
        cell, begin = cells[spike], samples[spike] - BEFORE - start
        if begin >= len(block) or begin + BEFORE + AFTER <= 0:
            continue
        step = min(max(steps[spike], 0), templates.shape[1] - 1)
        width = min(templates.shape[3], block.shape[1] - first[cell])
        for k in range(max(0, -begin), min(BEFORE + AFTER, len(block) - begin)):
            for channel in range(width):
                block[begin + k, first[cell] + channel] += gains[spike] * templates[cell, step, k, channel]


def _as_recording(traces, contacts):
    recording = NumpyRecording([traces], sampling_frequency=SAMPLING_FREQUENCY)
    probe = Probe(ndim=2, si_units="um")
    probe.set_contacts(contacts[:, :2], shapes="square", shape_params={"width": CONTACT_UM})
    probe.set_device_channel_indices(np.arange(len(contacts)))
    recording.set_probe(probe)
    recording.set_channel_gains(GAIN_UV)
    recording.set_channel_offsets(0.0)
    return recording
