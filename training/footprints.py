"""Extracellular footprints of model cells from their transmembrane currents, at any contacts, without a simulator.

Every segment of a cell is a line source in an infinite homogeneous medium (Holt & Koch 1999, eq. 1). With r1 and r2 the
distances from a point to the ends of a segment of length L that carries the current I, the potential there is

    phi = I / (4 pi sigma L) * log((r1 + r2 + L) / (r1 + r2 - L)),

the closed form of the integral along the segment; points inside the membrane are moved to its surface, as LFPykit does.
Axes here are SpikeInterface's: x and y in the plane of the probe (y up, along the apical dendrite of an upright cell),
z away from the plane. The soma's centre is the place of the cell.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np

from .currents import CellCurrents

__all__ = [
    "Cell",
    "footprint",
    "line_source_potential",
    "mix_footprints",
    "place_cell",
    "random_rotation",
]

CONDUCTIVITY_S_PER_M = 0.3
# contacts sit on an insulating plane: the image of every source doubles the potential there
PLANE_FACTOR = 2.0
# MEArec's "physrot" keeps cells upright within this angle
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


def _close_ends(waveforms):
    """No step where a spike begins or ends: baseline off, cosine taper on the tail."""
    waveforms -= waveforms[:, :1]
    taper = 0.5 + 0.5 * np.cos(np.linspace(0, math.pi, TAPER_SAMPLES))
    waveforms[:, -TAPER_SAMPLES:] *= taper.astype("float32")
    return waveforms
