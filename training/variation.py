"""Cells that are not quite the 13 models: turned, scaled, bent, with other currents, slower or faster spikes.

A localizer that knows 13 morphologies learns them by heart. Half of the scenes stay close to the models; the other half
go further, since real cells do: spikes in the living animal last half as long as those of the models, their footprints
reach further, and no two morphologies are alike.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import resample_poly

from .currents import CellCurrents
from .footprints import Cell, place_cell, random_rotation

__all__ = ["Variation", "bend_cell", "draw_variation", "random_cell", "reweigh_cell", "stretch_waveforms"]

# the cells that MEArec's "physrot" keeps upright; the others have no preferred direction
UPRIGHT_TYPES = ("PC", "BP", "MC")
SPIKE_SAMPLE = 64
SAMPLES_PER_MS = 32.0


@dataclass(frozen=True)
class Variation:
    """What all cells of a scene have in common.

    Attributes
    ----------
    upright : bool
        Whether pyramidal cells stand along y; else all cells point anywhere.
    wide : bool
        Whether cells go far from the models.
    duration : float
        Of spikes, in units of the models'.
    size : float
        Of cells, in units of the models'.
    """

    upright: bool
    wide: bool
    duration: float
    size: float


def draw_variation(rng: np.random.Generator) -> Variation:
    """The variation of a scene."""
    upright, wide = bool(rng.random() < 0.65), bool(rng.random() < 0.5)
    duration, size = math.exp(rng.uniform(math.log(0.3), math.log(1.15))), rng.uniform(0.9, 1.5)
    return Variation(upright, wide, duration if wide else 1.0, size if wide else 1.0)


def random_cell(
    rng: np.random.Generator,
    currents: dict[str, CellCurrents],
    models: list[str],
    soma_um: np.ndarray,
    variation: Variation,
    *,
    distant: bool = False,
) -> Cell:
    """A cell of a random model, orientation and shape; three in four are pyramidal where the models hold some.

    Parameters
    ----------
    rng : Generator
        Of everything random.
    currents : dict of CellCurrents
        Cell models.
    models : list of str
        Which of them to draw from.
    soma_um : array, shape (3,)
        The place of the soma.
    variation : Variation
        Of the scene.
    distant : bool, default: False
        The details of a distant cell do not show: it is neither bent nor reweighed.

    Returns
    -------
    Cell
    """
    pyramidal = [model for model in models if "PC" in _type(model)]
    others = [model for model in models if model not in pyramidal]
    pool = pyramidal if pyramidal and (not others or rng.random() < 0.75) else others
    model = pool[rng.integers(len(pool))]
    stands = variation.upright and any(kind in _type(model) for kind in UPRIGHT_TYPES)
    scale = variation.size * rng.uniform(0.85, 1.2) * np.exp(rng.normal(0, 0.12 if variation.wide else 0.06, size=3))
    spike = int(rng.integers(len(currents[model].currents_na)))
    cell = place_cell(currents[model], model, spike, soma_um, random_rotation(rng, stands), scale)
    if distant:
        return cell
    if variation.wide:
        return reweigh_cell(bend_cell(cell, rng), rng, tilt=0.6, hot_log_sd=0.5, delay_ms=0.15)
    return reweigh_cell(cell, rng) if rng.random() < 0.7 else cell


def bend_cell(cell: Cell, rng: np.random.Generator) -> Cell:
    """The morphology bent by a smooth field: up to some 20 um, wavelengths of 80 to 250 um, nothing at the soma."""
    points = np.stack([cell.start, cell.end]) - cell.soma_um
    bent = points.copy()
    for _ in range(3):
        wave = rng.normal(size=3)
        wave *= 2 * math.pi / rng.uniform(80.0, 250.0) / np.linalg.norm(wave)
        phase = rng.uniform(0, 2 * math.pi)
        bent += rng.normal(0, 5.0, size=3) * (np.sin(points @ wave + phase) - math.sin(phase))[..., None]
    start, end = bent + cell.soma_um
    return replace(cell, start=start, end=end)


def reweigh_cell(
    cell: Cell, rng: np.random.Generator, *, tilt: float = 0.3, hot_log_sd: float = 0.0, delay_ms: float = 0.0
) -> Cell:
    """The same morphology with other currents, which still sum to what they did.

    Parameters
    ----------
    cell : Cell
        At its place.
    rng : Generator
        Of everything random.
    tilt : float, default: 0.3
        Currents are scaled by 1 +- up to this, smoothly along a random direction, full after 50 um. Their size as a
        whole is log-normal (sd 0.25).
    hot_log_sd : float, default: 0.0
        Log-normal weight of the parts with the largest currents beside the soma (the axon's initial segment).
    delay_ms : float, default: 0.0
        The spike arrives up to so much earlier or later for every 100 um from the soma.

    Returns
    -------
    Cell
        The soma takes what the other parts have lost or gained.
    """
    middle = 0.5 * (cell.start + cell.end) - cell.soma_um
    distance = np.linalg.norm(middle, axis=1)
    soma = int(distance.argmin())
    total = cell.currents_na.sum(axis=0)
    direction = rng.normal(size=3)
    gain = 1.0 + rng.uniform(-tilt, tilt) * np.tanh(middle @ (direction / np.linalg.norm(direction)) / 50.0)
    peak = np.abs(cell.currents_na).max(axis=1)
    gain[peak > 0.25 * np.delete(peak, soma).max()] *= math.exp(rng.normal(0, 1) * hot_log_sd)
    late = np.rint(rng.uniform(-delay_ms, delay_ms) * SAMPLES_PER_MS * distance / 100.0).astype(int).clip(-16, 16)
    num_samples = cell.currents_na.shape[1]
    index = np.clip(np.arange(num_samples) - late[:, None], 0, num_samples - 1)
    changed = np.take_along_axis(cell.currents_na, index, axis=1) * gain[:, None].astype("float32")
    changed[soma] += total - changed.sum(axis=0)
    return replace(cell, currents_na=changed * np.float32(math.exp(rng.normal(0, 0.25))))


def stretch_waveforms(waveforms: np.ndarray, factor: float) -> np.ndarray:
    """Waveforms slowed down by a factor (in steps of 1/20) about the spike: as many samples, zero at the end."""
    up = round(20 * factor)
    if up == 20:
        return waveforms
    num_samples = waveforms.shape[-1]
    slowed = resample_poly(waveforms, up, 20, axis=-1)
    index = round(SPIKE_SAMPLE * up / 20) - SPIKE_SAMPLE + np.arange(num_samples)
    inside = (index >= 0) & (index < slowed.shape[-1])
    stretched = np.zeros_like(waveforms)
    stretched[..., inside] = slowed[..., index[inside]]
    # a slowed spike is cut off before it has ended: fade it out
    stretched[..., -32:] *= np.linspace(1.0, 0.0, 32, dtype="float32")
    return stretched


def _type(model):
    return model.split("_")[1]
