"""Extracellular footprints of model cells from their transmembrane currents, at any contacts, without a simulator.

Every segment of a cell is a line source in an infinite homogeneous medium (Holt & Koch 1999, eq. 1). With r1 and r2 the
distances from a point to the ends of a segment of length L that carries the current I, the potential there is

    phi = I / (4 pi sigma L) * log((r1 + r2 + L) / (r1 + r2 - L)),

the closed form of the integral along the segment; points inside the membrane are moved to its surface, as LFPykit does.
Axes here are SpikeInterface's: x and y in the plane of the probe (y up, along the apical dendrite of an upright cell),
z away from the plane. The soma's centre is the place of the cell.
"""

import math
from dataclasses import dataclass, replace

import numba
import numpy as np
from scipy.signal import resample_poly

from .currents import CellCurrents

__all__ = [
    "Cell",
    "augment_cell",
    "footprint",
    "line_source_potential",
    "mix_footprints",
    "place_cell",
    "random_rotation",
    "widen_cell",
]

CONDUCTIVITY_S_PER_M = 0.3
# contacts sit on an insulating plane: the image of every source doubles the potential there
PLANE_FACTOR = 2.0
# the cells that MEArec's "physrot" keeps upright within this angle; the others have no preferred direction
UPRIGHT_TYPES = ("PC", "BP", "MC")
UPRIGHT_DEGREES = 15.0
TAPER_SAMPLES = 32


@dataclass(frozen=True)
class Cell:
    """A cell at its place: segment ends in um, (segments, 3), and currents of one spike in nA, (segments, samples)."""

    start: np.ndarray
    end: np.ndarray
    diameter_um: np.ndarray
    currents_na: np.ndarray
    soma_um: np.ndarray
    model: str


def random_rotation(rng: np.random.Generator, upright: bool) -> np.ndarray:
    """A 3 x 3 rotation: any, or one that tilts the y axis by at most 15 degrees (both uniform on their solid angle)."""
    if not upright:
        q = rng.normal(size=4)
        w, x, y, z = q / np.linalg.norm(q)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
    spin = _about_y(rng.uniform(0, 2 * math.pi))
    tilt = math.acos(rng.uniform(math.cos(math.radians(UPRIGHT_DEGREES)), 1.0))
    c, s = math.cos(tilt), math.sin(tilt)
    lean = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return _about_y(rng.uniform(0, 2 * math.pi)) @ lean @ spin


def place_cell(
    currents: CellCurrents,
    model: str,
    spike: int,
    soma_um: np.ndarray,
    rotation: np.ndarray,
    scale: np.ndarray | float = 1,
) -> Cell:
    """A cell model at a place: scaled about the soma, rotated, moved.

    Parameters
    ----------
    currents : CellCurrents
        Segments and currents of the model, y along the apical dendrite.
    model : str
        Its name.
    spike : int
        Which of its recorded spikes.
    soma_um : array, shape (3,)
        Where the soma's centre goes, in um.
    rotation : array, shape (3, 3)
        As from :func:`random_rotation`.
    scale : float or array, shape (3,), default: 1
        Stretch of the morphology along its own axes.

    Returns
    -------
    Cell
    """
    center = 0.5 * (currents.start[currents.soma] + currents.end[currents.soma])
    soma_um = np.asarray(soma_um, dtype="float64")

    def move(points):
        return ((points - center) * scale) @ rotation.T + soma_um

    return Cell(
        move(currents.start), move(currents.end), currents.diameter_um, currents.currents_na[spike], soma_um, model
    )


def augment_cell(cell: Cell, rng: np.random.Generator) -> Cell:
    """The same cell with spikes of another size and width, and with the weight of its parts shifted.

    Amplitude log-normal (sd 0.25), duration stretched by 0.8 to 1.25, and the currents scaled by a smooth function of
    the place along a random direction (up to +-30 % over 100 um); the soma takes what is missing, so that the currents
    still sum to zero.
    """
    currents = cell.currents_na * np.float32(math.exp(rng.normal(0, 0.25)))
    middle = 0.5 * (cell.start + cell.end) - cell.soma_um
    direction = rng.normal(size=3)
    tilt = np.tanh(middle @ (direction / np.linalg.norm(direction)) / 50.0)
    currents = currents * (1.0 + rng.uniform(-0.3, 0.3) * tilt)[:, None].astype("float32")
    nearest = int(np.linalg.norm(middle, axis=1).argmin())
    currents[nearest] -= currents.sum(axis=0)
    return replace(cell, currents_na=_stretch(currents, rng.uniform(0.8, 1.25)))


def widen_cell(cell: Cell, rng: np.random.Generator) -> Cell:
    """A cell further from the 13 models than :func:`augment_cell` goes, for localizers that will meet other cells.

    The morphology is bent by a smooth field (up to 20 um, wavelengths of 80 to 250 um, nothing at the soma), the spike
    travels away from the soma faster or slower (up to 0.15 ms per 100 um more or less), and the parts with the largest
    currents beside the soma (the axon's initial segment) weigh more or less (log-normal, sd 0.5). Then as there.
    """
    points = np.stack([cell.start, cell.end]) - cell.soma_um
    bent = points.copy()
    for _ in range(3):
        wave = rng.normal(size=3)
        wave *= 2 * math.pi / rng.uniform(80.0, 250.0) / np.linalg.norm(wave)
        phase = rng.uniform(0, 2 * math.pi)
        bent += rng.normal(0, 5.0, size=3) * (np.sin(points @ wave + phase) - math.sin(phase))[..., None]
    middle = np.linalg.norm(points.mean(axis=0), axis=1)
    soma = int(middle.argmin())
    peak = np.abs(cell.currents_na).max(axis=1)
    gain = np.ones(len(peak))
    hot = peak > 0.25 * np.delete(peak, soma).max()
    gain[hot] = math.exp(rng.normal(0, 0.5))
    late = np.rint(rng.uniform(-0.15, 0.15) * 32.0 * middle / 100.0).astype(int).clip(-16, 16)
    index = np.clip(np.arange(cell.currents_na.shape[1]) - late[:, None], 0, cell.currents_na.shape[1] - 1)
    currents = np.take_along_axis(cell.currents_na, index, axis=1) * gain[:, None].astype("float32")
    currents[soma] -= currents.sum(axis=0)
    start, end = bent + cell.soma_um
    return augment_cell(replace(cell, start=start, end=end, currents_na=currents), rng)


def footprint(
    cell: Cell, contacts_um: np.ndarray, contact_size_um: float = 0.0, conductivity: float = CONDUCTIVITY_S_PER_M
) -> np.ndarray:
    """What one spike of a cell leaves on contacts.

    Parameters
    ----------
    cell : Cell
        At its place.
    contacts_um : array, shape (num_contacts, 3)
        In um.
    contact_size_um : float, default: 0
        Side of a square contact in the x-y plane; the potential is the mean over its 2 x 2 Gauss points. 0: a point.
    conductivity : float, default: 0.3
        Of the medium, in S/m.

    Returns
    -------
    float32 array, shape (num_contacts, num_samples)
        In uV, zero at both ends of the window.
    """
    contacts = np.ascontiguousarray(contacts_um, dtype="float64")
    reach = contact_size_um / 2 / math.sqrt(3)
    shifts = [(sx * reach, sy * reach, 0.0) for sx in (-1, 1) for sy in (-1, 1)] if reach else [(0.0, 0.0, 0.0)]
    weights = np.zeros((len(contacts), len(cell.start)))
    for shift in shifts:
        weights += line_source_potential(contacts + shift, cell.start, cell.end, cell.diameter_um, conductivity)
    # nA and mV per nA; uV out
    waveforms = (1000.0 * PLANE_FACTOR / len(shifts) * weights).astype("float32") @ cell.currents_na
    return _close_ends(waveforms)


def mix_footprints(one: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """A cell in between two cells at one place: a convex mixture, troughs of the largest channels aligned in time."""
    trough = [waveforms[np.abs(waveforms).max(axis=1).argmax()].argmin() for waveforms in (one, other)]
    return weight * one + (1.0 - weight) * np.roll(other, int(trough[0] - trough[1]), axis=1)


def line_source_potential(
    points: np.ndarray, start: np.ndarray, end: np.ndarray, diameter_um: np.ndarray, conductivity: float
) -> np.ndarray:
    """Potential per current of every segment at every point, shape (points, segments), in mV / nA (see the module)."""
    return _line_sources(
        *(np.ascontiguousarray(a, dtype="float64") for a in (points, start, end, diameter_um)), float(conductivity)
    )


@numba.njit(nogil=True, fastmath=True)
def _line_sources(points, start, end, diameter, conductivity):
    weights = np.empty((len(points), len(start)))
    for k in range(len(start)):
        ax, ay, az = end[k, 0] - start[k, 0], end[k, 1] - start[k, 1], end[k, 2] - start[k, 2]
        length = max(math.sqrt(ax * ax + ay * ay + az * az), 1e-3)
        factor = 1.0 / (4.0 * math.pi * conductivity * length)
        for j in range(len(points)):
            bx, by, bz = points[j, 0] - start[k, 0], points[j, 1] - start[k, 1], points[j, 2] - start[k, 2]
            along = (ax * bx + ay * by + az * bz) / length
            square = bx * bx + by * by + bz * bz
            # a point inside the membrane is moved to its surface
            inside = max(0.25 * diameter[k] ** 2 - (square - along * along), 0.0)
            r1 = math.sqrt(square + inside)
            r2 = math.sqrt(max(square - 2.0 * along * length + length * length, 0.0) + inside)
            weights[j, k] = factor * math.log((r1 + r2 + length) / (r1 + r2 - length))
    return weights


def _about_y(angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _stretch(currents, factor):
    """Currents slowed down by a factor about the spike, same number of samples."""
    up = round(20 * factor)
    if up == 20:
        return currents
    edge = currents[:, :1]
    slowed = resample_poly(currents - edge, up, 20, axis=1) + edge
    num_samples = currents.shape[1]
    spike = int(np.abs(currents).max(axis=0).argmax())
    first = round(spike * up / 20) - spike
    index = np.clip(np.arange(first, first + num_samples), 0, slowed.shape[1] - 1)
    return np.ascontiguousarray(slowed[:, index], dtype="float32")


def _close_ends(waveforms):
    """No step where a spike begins or ends: baseline off, cosine taper on the tail."""
    waveforms -= waveforms[:, :1]
    taper = 0.5 + 0.5 * np.cos(np.linspace(0, math.pi, TAPER_SAMPLES))
    waveforms[:, -TAPER_SAMPLES:] *= taper.astype("float32")
    return waveforms
