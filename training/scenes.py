"""Short recordings on random probes with every source known: what a localizer that needs no training is trained on.

A scene is a probe, cells around it, distant cells and noise behind them, a filter, and the peaks that a detector finds
in the result. Collisions, misalignment, missed and false peaks come about as they do on real data, and are not put in
by hand.
"""

from dataclasses import dataclass

import numba
import numpy as np
from scipy.signal import butter, sosfilt, sosfiltfilt

from .currents import CellCurrents
from .footprints import footprint, mix_footprints
from .probes import Probe
from .variation import SPIKE_SAMPLE, draw_variation, random_cell, stretch_waveforms

__all__ = ["HELD_OUT_MODELS", "Scene", "cell_models", "make_scene"]

SAMPLING_FREQUENCY = 32000.0
NUM_PHASES = 4
DURATION_S = 5.0
# every third model in alphabetical order: two of four pyramidal cells, three of nine interneurons
HELD_OUT_MODELS = (
    "L5_BP_bAC217_1",
    "L5_DBC_bAC217_1",
    "L5_NBC_bAC217_1",
    "L5_STPC_cADpyr232_1",
    "L5_UTPC_cADpyr232_1",
)
SOURCE_RADIUS_UM = 20.0


@dataclass
class Scene:
    """One simulated recording and its cells.

    Attributes
    ----------
    probe : Probe
        Contacts in um.
    traces : float32 array, shape (num_contacts, num_samples)
        Filtered, in uV.
    templates : float32 array, shape (num_cells, num_contacts, num_template_samples)
        Filtered footprints of the cells, spike at `template_spike`.
    template_spike : int
        Sample of the spike in a template.
    somas : array, shape (num_cells, 3)
        In um, z > 0.
    log_source_amplitude : array, shape (num_cells,)
        Logarithm of the mean trough 20 um from the soma's centre, in uV, unfiltered.
    models : list of str
        Cell model of each cell; of a mixture, the heavier one.
    spikes : structured array
        sample_index, cell_index and gain of every spike of these cells, by sample.
    description : dict
        Numbers that were drawn.
    """

    probe: Probe
    traces: np.ndarray
    templates: np.ndarray
    template_spike: int
    somas: np.ndarray
    log_source_amplitude: np.ndarray
    models: list[str]
    spikes: np.ndarray
    description: dict


def cell_models(currents: dict[str, CellCurrents], *, held_out: bool) -> list[str]:
    """Names of the cell models to draw from: all, or all but the held-out ones."""
    return [model for model in sorted(currents) if not (held_out and model in HELD_OUT_MODELS)]


def make_scene(
    currents: dict[str, CellCurrents],
    models: list[str],
    probe: Probe,
    seed: int,
    duration_s: float = DURATION_S,
) -> Scene:
    """Simulate one scene; the same arguments give the same scene.

    Parameters
    ----------
    currents : dict of CellCurrents
        From :func:`training.currents.load_currents`.
    models : list of str
        Cell models to draw from, near and far.
    probe : Probe
        Where the contacts are.
    seed : int
        Of everything else.
    duration_s : float, default: 5
        Length in s.

    Returns
    -------
    Scene
    """
    rng = np.random.default_rng([seed, 1])
    variation = draw_variation(rng)
    num_samples = round(duration_s * SAMPLING_FREQUENCY)
    waveforms, somas, amplitudes, names = _near_cells(rng, currents, models, probe, variation)
    sos, causal, band = _random_filter(rng)
    spikes = _spike_trains(rng, names, num_samples)
    traces = np.zeros((len(probe.contacts), num_samples), dtype="float32")
    jitter = rng.uniform(0.0, 0.08)
    _add_spikes(traces, _phases(waveforms), spikes, jitter, seed)
    noise_uv = float(np.exp(rng.uniform(np.log(3), np.log(32)) if rng.random() < 0.9 else rng.uniform(-1, np.log(3))))
    traces += _background(rng, currents, models, probe, variation, num_samples, noise_uv)
    traces = _filtered(traces, sos, causal)
    pad = 160
    templates = _filtered(np.pad(waveforms, ((0, 0), (0, 0), (pad, pad))), sos, causal)
    if common := rng.random() < 0.15 and len(probe.contacts) >= 16:
        traces -= np.median(traces, axis=0)
        templates = templates - np.median(templates, axis=1, keepdims=True)
    description = {
        "variation": variation,
        "noise_uv": noise_uv,
        "band_hz": band,
        "causal": causal,
        "common_reference": bool(common),
    }
    return Scene(probe, traces, templates, SPIKE_SAMPLE + pad, somas, amplitudes, names, spikes, description)


def _soma(rng, contacts, overhang, depths):
    low, high = contacts[:, :2].min(axis=0) - overhang, contacts[:, :2].max(axis=0) + overhang
    return np.append(rng.uniform(low, high), rng.uniform(*depths))


def _near_cells(rng, currents, models, probe, variation):
    contacts = probe.contacts
    span = np.ptp(contacts[:, :2], axis=0) + 100.0
    # from sparse to as crowded as 100 cells in 250 x 250 um
    count = int(np.clip(rng.uniform(0.4, 1.6) * 1e-3 * span.prod(), 12, 90))
    waveforms, somas, amplitudes, names = [], [], [], []
    while len(somas) < count:
        depths = (8.0, 80.0) if rng.random() < 0.75 else (5.0, 150.0)
        soma = _soma(rng, contacts, 50.0, depths)
        if somas and np.linalg.norm(np.array(somas) - soma, axis=1).min() < 12.0:
            count -= 0.1  # a crowded place takes fewer
            continue
        cell = random_cell(rng, currents, models, soma, variation)
        points = _sphere_points() * SOURCE_RADIUS_UM + soma
        wave, around = footprint(cell, contacts, probe.contact_size_um), footprint(cell, points)
        if rng.random() < (0.4 if variation.wide else 0.25):
            other = random_cell(rng, currents, models, soma, variation)
            weight = rng.uniform(0.5, 1.0)
            wave = mix_footprints(wave, footprint(other, contacts, probe.contact_size_um), weight)
            around = weight * around + (1 - weight) * footprint(other, points)
        gain = rng.normal(1.0, 0.04, size=(len(contacts), 1)).astype("float32") if rng.random() < 0.5 else 1.0
        slower = variation.duration * rng.uniform(0.85, 1.2)
        waveforms.append(stretch_waveforms(wave * gain, slower))
        somas.append(soma)
        amplitudes.append(np.log(max(-around.min(axis=1).mean(), 1.0)))
        names.append(cell.model)
    return np.stack(waveforms).astype("float32"), np.array(somas), np.array(amplitudes), names


def _sphere_points(count=24):
    """Points spread evenly over the unit sphere (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    return np.column_stack([np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)])


def _spike_trains(rng, names, num_samples):
    """Poisson trains with a dead time of 2 ms; gains vary from spike to spike and shrink in bursts."""
    duration, crowd = num_samples / SAMPLING_FREQUENCY, rng.uniform(0.4, 2.0)
    parts = []
    for index, name in enumerate(names):
        rate = crowd * (5.0 if "PC" in name.split("_")[1] else 10.0) * np.exp(rng.normal(0, 0.4))
        times = np.sort(rng.uniform(0, duration, size=rng.poisson(rate * duration)))
        times = times[np.diff(times, prepend=-1.0) > 0.002]
        gain = rng.normal(1.0, rng.uniform(0.02, 0.12), size=len(times))
        gain *= 1.0 - rng.uniform(0, 0.4) * np.exp(-np.diff(times, prepend=-1.0) / 0.01)
        part = np.zeros(
            len(times), dtype=[("sample_index", "i8"), ("cell_index", "i8"), ("phase", "i8"), ("gain", "f4")]
        )
        position = times * SAMPLING_FREQUENCY
        part["sample_index"], part["cell_index"] = position.astype("i8"), index
        part["phase"] = ((position % 1) * NUM_PHASES).astype("i8")
        part["gain"] = np.clip(gain, 0.3, 2.0)
        parts.append(part)
    spikes = np.concatenate(parts)
    inside = (spikes["sample_index"] > 400) & (spikes["sample_index"] < num_samples - 400)
    return np.sort(spikes[inside], order="sample_index")


def _phases(waveforms):
    """Each waveform shifted by 0, 1/4, 1/2 and 3/4 of a sample: shape (cells, phases, contacts, samples)."""
    spectrum = np.fft.rfft(waveforms, axis=2)
    frequency = np.arange(spectrum.shape[2]) / waveforms.shape[2]
    shifted = [
        np.fft.irfft(spectrum * np.exp(-2j * np.pi * frequency * phase / NUM_PHASES), waveforms.shape[2], axis=2)
        for phase in range(NUM_PHASES)
    ]
    return np.stack(shifted, axis=1).astype("float32")


def _background(rng, currents, models, probe, variation, num_samples, noise_uv):
    """Spikes of distant cells, white noise, and at times a part that all contacts share; sd `noise_uv` in all."""
    far = np.zeros((len(probe.contacts), num_samples), dtype="float32")
    places = [_soma(rng, probe.contacts, 150.0, (60, 220)) for _ in range(120)]
    cells = [random_cell(rng, currents, models, place, variation, distant=True) for place in places]
    waveforms = stretch_waveforms(np.stack([footprint(cell, probe.contacts) for cell in cells]), variation.duration)
    quiet = np.flatnonzero(-waveforms.min(axis=(1, 2)) < 12.0)
    waveforms = waveforms[quiet][:, None]
    spikes = _spike_trains(rng, [cells[k].model for k in quiet], num_samples)
    spikes["phase"] = 0
    _add_spikes(far, np.ascontiguousarray(waveforms), spikes, 0.0, 0)
    share = rng.uniform(0.2, 0.95)
    background = np.float32(noise_uv * share**0.5 / max(far.std(), 1e-6)) * far
    white = rng.standard_normal(size=far.shape, dtype="float32")
    background += np.float32(noise_uv * (1 - share) ** 0.5) * white
    if rng.random() < 0.2:
        background += np.float32(rng.uniform(0.1, 0.5) * noise_uv) * rng.standard_normal(num_samples, dtype="float32")
    return background


def _random_filter(rng):
    low = 300.0 if rng.random() < 0.6 else rng.uniform(200, 500)
    high = 6000.0 if rng.random() < 0.6 else rng.uniform(5000, 7500)
    order = int(rng.choice([3, 5, 2], p=[0.65, 0.25, 0.1]))
    sos = butter(order, [low, high], "bandpass", fs=SAMPLING_FREQUENCY, output="sos")
    return sos, bool(rng.random() < 0.08), (float(low), float(high))


def _filtered(values, sos, causal):
    """Each first index on its own, so that no double-precision copy of everything is made."""
    run = sosfilt if causal else sosfiltfilt
    return np.stack([run(sos, part, axis=-1).astype("float32") for part in values])


def _add_spikes(traces, templates, spikes, jitter, seed):
    _add(traces, templates, *(np.ascontiguousarray(spikes[n]) for n in ("sample_index", "cell_index", "phase", "gain")),
         np.float32(jitter), np.int64(seed % 2**31))  # fmt: skip


@numba.njit(nogil=True)
def _add(traces, templates, samples, cells, phases, gains, jitter, seed):
    np.random.seed(seed)  # noqa: NPY002 - numba knows no other
    length = templates.shape[3]
    for spike in range(len(samples)):
        start = samples[spike] - SPIKE_SAMPLE
        for channel in range(traces.shape[0]):
            gain = gains[spike]
            if jitter > 0:
                gain *= np.float32(1.0) + jitter * np.float32(np.random.standard_normal())  # noqa: NPY002
            wave = templates[cells[spike], phases[spike], channel]
            for k in range(length):
                traces[channel, start + k] += gain * wave[k]
