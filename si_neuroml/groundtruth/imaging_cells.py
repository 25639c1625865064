"""The cells of a voltage-imaging simulation as they are drawn, with their sites, and the motion that moves them all."""

import math
from typing import NamedTuple

import numpy as np

from .imaging_scan import Scan
from .indicator import Site
from .membrane_potential import MembranePotential, resample_potential
from .random_processes import motion_trace, pulsation_phase
from .settings import MotionSettings, Ranges
from .simulated_potential import find_mean_drive, simulate_membrane_potential

__all__ = ["Cell", "Movement", "cell_potential", "draw_cell", "draw_movement", "drawn_parameters"]


class Cell(NamedTuple):
    """A cell as drawn.

    Attributes
    ----------
    index : int
        Which cell.
    given : list of MembranePotential, or None
        Its potentials per segment; None for a simulated cell.
    silent : bool
        Whether it has no events at all.
    membrane, dendrite, indicator : dict
        One value of each setting; of a given cell's membrane only ``resting_mv``.
    distances_um : float64 array, shape (num_sites,)
        Of the sites from the soma.
    imaging : list of dict
        One value of each setting for each site.
    """

    index: int
    given: list[MembranePotential] | None
    silent: bool
    membrane: dict[str, float]
    dendrite: dict[str, float]
    indicator: dict[str, float]
    distances_um: np.ndarray
    imaging: list[dict[str, float]]

    def site(self, number: int, resting_mv: float) -> Site:
        """The way from the soma to a site."""
        distance, dendrite = self.distances_um[number], self.dendrite
        return Site(
            delay_ms=distance / dendrite["conduction_speed_um_per_ms"],
            attenuation=math.exp(-distance / dendrite["attenuation_length_um"]),
            low_pass_ms=dendrite["low_pass_ms_per_100um"] * distance / 100,
            resting_mv=resting_mv,
            **{name: self.indicator[name] for name in ("half_activation_mv", "slope_mv", "on_ms", "off_ms")},
        )


class Movement(NamedTuple):
    """What moves all sites of a segment together.

    Attributes
    ----------
    drawn : dict
        One value of each setting.
    motion_um, phase : float64 array, shape (num_samples,)
        Displacement, and phase of the heart beat in rad.
    """

    drawn: dict[str, float]
    motion_um: np.ndarray
    phase: np.ndarray


def draw_cell(
    scan: Scan,
    settings: dict[str, Ranges],
    index: int,
    num_sites: int,
    *,
    given: list[MembranePotential] | None,
    silent: bool,
) -> Cell:
    """Draw a cell from the settings "membrane", "dendrite", "indicator" and, for each site, "imaging"."""
    drawn = {name: settings[name].draw(scan.random(name, index)) for name in ("membrane", "dendrite", "indicator")}
    if given is None:
        drawn["membrane"]["mean_drive_mv"] = find_mean_drive(drawn["membrane"])
    else:
        drawn["membrane"] = {"resting_mv": given[0].resting_mv}
    distances = drawn["dendrite"]["first_site_um"] + drawn["dendrite"]["site_spacing_um"] * np.arange(num_sites)
    imaging = [settings["imaging"].draw(scan.random("imaging", index, number)) for number in range(num_sites)]
    return Cell(index, given, silent, **drawn, distances_um=distances, imaging=imaging)


def draw_movement(scan: Scan, settings: MotionSettings, segment: int) -> Movement:
    """Draw motion and pulsation of a segment."""
    rng = scan.random("motion", segment)
    drawn, num_samples = settings.draw(rng), scan.num_samples(segment)
    motion_um = motion_trace(rng, num_samples, scan.rate, drawn)
    return Movement(drawn, motion_um, pulsation_phase(rng, num_samples, scan.rate, drawn["pulsation_hz"]))


def cell_potential(scan: Scan, cell: Cell, segment: int) -> MembranePotential:
    """The potential of a cell on the fine grid: simulated, or resampled from what is given."""
    num_fine = scan.num_samples(segment) * scan.fine_steps
    if cell.given is not None:
        return resample_potential(cell.given[segment], scan.fine_rate, num_fine)
    seeds = scan.seeds("potential", cell.index, segment)
    duration = num_fine / scan.fine_rate
    return simulate_membrane_potential(duration, scan.fine_rate, cell.membrane, silent=cell.silent, seed=seeds)


def drawn_parameters(cells: list[Cell], movements: list[Movement]) -> dict[str, np.ndarray]:
    """What was drawn, as structured arrays "cells", "sites" (in the order of the channels) and "segments"."""
    sites = [
        {"cell_index": cell.index, "site": number, "distance_um": cell.distances_um[number]}
        | cell.site(number, cell.membrane["resting_mv"])._asdict()
        | imaging
        for cell in cells
        for number, imaging in enumerate(cell.imaging)
    ]
    return {
        "cells": _table([c.membrane | c.dendrite | c.indicator | {"silent": c.silent} for c in cells]),
        "sites": _table(sites),
        "segments": _table([movement.drawn for movement in movements]),
    }


def _table(rows: list[dict]) -> np.ndarray:
    """Rows of the same keys as a structured array."""
    dtype = [(name, np.asarray(value).dtype) for name, value in rows[0].items()]
    return np.array([tuple(row.values()) for row in rows], dtype=dtype)
