"""What all cells of a voltage-imaging simulation share, and the checks of the arguments that tell it."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .measured_potential import check_membrane_potential
from .membrane_potential import MembranePotential
from .optics import NOISES
from .settings import MembraneSettings

__all__ = ["Scan", "check_cell_numbers", "match_potentials", "prepare_scan"]

FINE_RATE_HZ = 20_000.0
MIN_DURATION_S = 0.1
SAMPLING_LIMITS_HZ = (100.0, 50_000.0)
POLARITIES = {"neg": -1.0, "pos": 1.0}
DTYPES = ("float32", "int16")
# Independent random streams; a cell, site or segment has the same numbers however many others there are.
STREAMS = ("membrane", "dendrite", "indicator", "imaging", "motion", "potential", "brightness", "photons")


class Scan(NamedTuple):
    """What all cells share.

    Attributes
    ----------
    durations : tuple of float
        Length of each segment in s.
    rate : float
        Of the recording, in Hz.
    fine_steps : int
        Samples of the simulation in one of the recording.
    sign : float
        -1 if the indicator dims when it is activated, 1 if it brightens.
    noise, dtype : str
        As asked for.
    gain : float
        Photons per count; 1 where photons are kept as they are.
    seed : int
        Of all random streams.
    """

    durations: tuple[float, ...]
    rate: float
    fine_steps: int
    sign: float
    noise: str
    dtype: str
    gain: float
    seed: int

    @property
    def fine_rate(self) -> float:
        """Rate of the simulation in Hz."""
        return self.rate * self.fine_steps

    def num_samples(self, segment: int) -> int:
        """Samples of a segment of the recording."""
        return int(self.durations[segment] * self.rate + 1e-9)

    def random(self, stream: str, *key: int) -> np.random.Generator:
        """Generator of one of the streams, for one cell, site or segment."""
        return np.random.default_rng(self.seeds(stream, *key))

    def seeds(self, stream: str, *key: int) -> np.random.SeedSequence:
        """Seed of that generator."""
        return np.random.SeedSequence(self.seed, spawn_key=(STREAMS.index(stream), *key))


def prepare_scan(
    durations: tuple[float, ...],
    sampling_frequency: float,
    given: list[list[MembranePotential]] | None,
    *,
    polarity: str,
    noise: str,
    dtype: str,
    gain: float,
    seed: int,
) -> Scan:
    """Check what all cells share; the arguments are those of ``generate_voltage_imaging_recording``."""
    low, high = SAMPLING_LIMITS_HZ
    if not low <= sampling_frequency <= high:
        raise InputError(f"sampling_frequency must be from {low:g} to {high:g} Hz, got {sampling_frequency}.")
    dtype = str(dtype)
    _check_choice("polarity", polarity, POLARITIES)
    _check_choice("noise", noise, NOISES)
    _check_choice("dtype", dtype, DTYPES)
    _check_whole("seed", seed, 0)
    if not np.isfinite(gain) or gain <= 0:
        raise InputError(f"gain must be above 0 photons per count, got {gain}.")
    # at least two, 20 kHz, and the rate of what is given
    finest = max([FINE_RATE_HZ, *(part.sampling_frequency for parts in given or [] for part in parts)])
    return Scan(
        durations=durations,
        rate=float(sampling_frequency),
        fine_steps=max(2, math.ceil(finest / sampling_frequency)),
        sign=POLARITIES[polarity],
        noise=noise,
        dtype=dtype,
        gain=gain if dtype == "int16" else 1.0,
        seed=int(seed),
    )


def check_cell_numbers(num_cells: int, sites_per_cell: int, num_silent_cells: int, *, given: bool) -> None:
    """Check the numbers of cells and sites; where potentials are ``given``, none can be made silent."""
    _check_whole("num_cells", num_cells, 1)
    _check_whole("sites_per_cell", sites_per_cell, 1)
    _check_whole("num_silent_cells", num_silent_cells, 0)
    if num_silent_cells > (0 if given else num_cells):
        raise InputError(
            f"num_silent_cells is {num_silent_cells}, of {num_cells} cells; potentials that are given are as they are."
        )


def match_potentials(
    potentials: Sequence[MembranePotential | Sequence[MembranePotential]] | None,
    durations: Sequence[float] | float | None,
    num_cells: int | None,
    membrane: MembraneSettings | None,
) -> tuple[list[list[MembranePotential]] | None, tuple[float, ...], int]:
    """Bring the potentials (per cell and segment, or None), the durations and the number of cells together."""
    if durations is not None:
        durations = tuple(float(value) for value in np.atleast_1d(durations))
    if potentials is None:
        durations = (10.0,) if durations is None else durations
        _check_durations(durations)
        return None, durations, 4 if num_cells is None else num_cells
    if membrane is not None:
        raise InputError("membrane describes simulated cells, but membrane_potential is given: leave one out.")
    given = [[part] if isinstance(part, MembranePotential) else list(part) for part in potentials]
    if not given or num_cells not in (None, len(given)):
        raise InputError(f"num_cells is {num_cells}, but membrane_potential holds {len(given)} cells.")
    if durations is None:
        durations = tuple(min(_duration(part) for part in parts) for parts in zip(*given, strict=False))
    _check_durations(durations)
    for index, parts in enumerate(given):
        _check_given(index, parts, durations)
    return given, durations, len(given)


def _check_given(index: int, parts: list[MembranePotential], durations: tuple[float, ...]) -> None:
    """Check the potentials of one cell."""
    if len(parts) != len(durations):
        raise InputError(f"Cell {index} has potentials for {len(parts)} segments, but there are {len(durations)}.")
    for segment, (part, duration) in enumerate(zip(parts, durations, strict=True)):
        check_membrane_potential(part.soma_mv, part.sampling_frequency, part.spike_samples)
        if _duration(part) < duration - 1e-9:
            raise InputError(
                f"Segment {segment} shall last {duration:g} s, but the membrane potential of cell {index} has only "
                f"{_duration(part):g} s ({len(part.soma_mv)} samples at {part.sampling_frequency:g} Hz)."
            )


def _duration(potential: MembranePotential) -> float:
    return len(potential.soma_mv) / potential.sampling_frequency


def _check_durations(durations: tuple[float, ...]) -> None:
    if not durations or not all(MIN_DURATION_S <= value < math.inf for value in durations):
        raise InputError(f"durations must be at least {MIN_DURATION_S:g} s each, and at least one; got {durations}.")


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise InputError(f"Unknown {name} {value!r}. Known: {', '.join(choices)}.")


def _check_whole(name: str, value: int, lowest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
        raise InputError(f"{name} must be a whole number of at least {lowest}, got {value!r}.")
