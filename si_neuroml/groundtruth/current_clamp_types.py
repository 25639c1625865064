"""Firing types of cells and the scatter of donors: from which distributions the parameters of cells are drawn.

A cell is an adaptive exponential integrate-and-fire model (Brette & Gerstner 2005, J Neurophysiol 94:3637). Its spikes
are drawn out as waveforms, of which the model says nothing. Types overlap as cortical cells of the mouse do: medians
and scatter of what is measured (resistance, time constant, spike) are rounded from the tables of Gouwens et al. (2019,
Nat Neurosci 22:1182; 2020, Cell 183:935) and Scala et al. (2021, Nature 598:144), what is not (adaptation, sharpness of
onset) follows Naud et al. (2008, Biol Cybern 99:335) and Destexhe (2009, J Comput Neurosci 27:493).
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from ..errors import InputError

__all__ = ["FIRING_TYPES", "NORMAL", "PARAMETERS", "DonorScatter", "FiringType", "Spread", "between_types"]


class Spread(NamedTuple):
    """A distribution: normal with this mean and standard deviation; of positive numbers, log-normal with this median.

    The scatter of a log-normal is the standard deviation of the natural logarithm.
    """

    center: float
    scatter: float


@dataclass(frozen=True)
class FiringType:
    """How cells of one type scatter, at 34 degrees Celsius.

    Attributes
    ----------
    name : str
        The label of its cells.
    input_resistance_mohm, tau_ms : Spread
        Steady resistance, and time constant of the membrane (log-normal).
    rest_mv, threshold_mv, peak_mv, ahp_mv : Spread
        Resting potential, where spikes begin, their peak, and how far below the threshold they end (normal).
    width_ms, slope_ratio : Spread
        Of the spike: width at half height, largest upward over largest downward slope (log-normal).
    subthreshold : Spread
        Adaptation below threshold over the leak, a / g_L (normal). Positive makes a sag, negative a slow ramp.
    adaptation_mv : Spread
        Adaptation by one spike over the leak, b / g_L (log-normal).
    adaptation_tau_ms, onset_slope_mv : Spread
        Time constant of adaptation; slope factor Delta_T of the onset of spikes (log-normal).
    """

    name: str
    input_resistance_mohm: Spread
    tau_ms: Spread
    rest_mv: Spread
    threshold_mv: Spread
    peak_mv: Spread
    ahp_mv: Spread
    width_ms: Spread
    slope_ratio: Spread
    subthreshold: Spread
    adaptation_mv: Spread
    adaptation_tau_ms: Spread
    onset_slope_mv: Spread

    def __post_init__(self):
        for name in PARAMETERS:
            center, scatter = getattr(self, name)
            positive = center > 0 or name in NORMAL
            if not (np.isfinite([center, scatter]).all() and scatter >= 0 and positive):
                raise InputError(f"{self.name}: {name} cannot be spread by {scatter} around {center}.")


NORMAL = ("rest_mv", "threshold_mv", "peak_mv", "ahp_mv", "subthreshold")
PARAMETERS = tuple(item.name for item in fields(FiringType) if item.name != "name")

FIRING_TYPES = (
    # adapts within a train, broad spikes: excitatory cells
    FiringType(
        "regular_spiking",
        input_resistance_mohm=Spread(160.0, 0.35),
        tau_ms=Spread(20.0, 0.3),
        rest_mv=Spread(-74.0, 5.0),
        threshold_mv=Spread(-37.0, 4.0),
        peak_mv=Spread(37.0, 8.0),
        ahp_mv=Spread(17.0, 3.5),
        width_ms=Spread(0.85, 0.16),
        slope_ratio=Spread(3.5, 0.22),
        subthreshold=Spread(0.1, 0.06),
        adaptation_mv=Spread(3.0, 0.6),
        adaptation_tau_ms=Spread(200.0, 0.4),
        onset_slope_mv=Spread(2.0, 0.2),
    ),
    # narrow spikes, deep afterpotentials, next to no adaptation: Pvalb
    FiringType(
        "fast_spiking",
        input_resistance_mohm=Spread(115.0, 0.35),
        tau_ms=Spread(7.5, 0.3),
        rest_mv=Spread(-72.0, 5.0),
        threshold_mv=Spread(-34.0, 5.0),
        peak_mv=Spread(18.0, 8.0),
        ahp_mv=Spread(23.0, 5.0),
        width_ms=Spread(0.40, 0.15),
        slope_ratio=Spread(1.4, 0.18),
        subthreshold=Spread(0.04, 0.03),
        adaptation_mv=Spread(0.15, 0.7),
        adaptation_tau_ms=Spread(100.0, 0.4),
        onset_slope_mv=Spread(1.0, 0.2),
    ),
    # high resistance, sag and rebound, adapts: Sst
    FiringType(
        "low_threshold_spiking",
        input_resistance_mohm=Spread(225.0, 0.4),
        tau_ms=Spread(21.0, 0.45),
        rest_mv=Spread(-69.0, 6.0),
        threshold_mv=Spread(-39.0, 5.0),
        peak_mv=Spread(29.0, 10.0),
        ahp_mv=Spread(17.0, 4.5),
        width_ms=Spread(0.55, 0.19),
        slope_ratio=Spread(2.0, 0.25),
        subthreshold=Spread(0.22, 0.1),
        adaptation_mv=Spread(1.5, 0.7),
        adaptation_tau_ms=Spread(120.0, 0.4),
        onset_slope_mv=Spread(2.0, 0.2),
    ),
    # a slow ramp before the first spike: Lamp5, neurogliaform
    FiringType(
        "late_spiking",
        input_resistance_mohm=Spread(205.0, 0.4),
        tau_ms=Spread(11.0, 0.4),
        rest_mv=Spread(-70.0, 5.5),
        threshold_mv=Spread(-36.0, 4.5),
        peak_mv=Spread(29.0, 10.0),
        ahp_mv=Spread(14.0, 4.5),
        width_ms=Spread(0.75, 0.24),
        slope_ratio=Spread(3.1, 0.22),
        subthreshold=Spread(-0.2, 0.12),
        adaptation_mv=Spread(0.4, 0.8),
        adaptation_tau_ms=Spread(250.0, 0.4),
        onset_slope_mv=Spread(1.5, 0.2),
    ),
)


@dataclass(frozen=True)
class DonorScatter:
    """What the cells of one donor share: standard deviations of logarithms of factors, or of mV added.

    Attributes
    ----------
    input_resistance_mohm, tau_ms, width_ms, adaptation_mv : float
        Of the logarithm.
    rest_mv, threshold_mv : float
        In mV.
    """

    input_resistance_mohm: float = 0.12
    tau_ms: float = 0.1
    width_ms: float = 0.06
    adaptation_mv: float = 0.2
    rest_mv: float = 1.5
    threshold_mv: float = 1.5

    def __post_init__(self):
        for item in fields(self):
            if not (np.isfinite(getattr(self, item.name)) and getattr(self, item.name) >= 0):
                raise InputError(f"DonorScatter.{item.name} must be 0 or more, got {getattr(self, item.name)}.")


def between_types(kind: FiringType, other: FiringType, share: float) -> FiringType:
    """A type that lies a share of the way from one to another, in the parameters or, of log-normals, their logarithms.

    Its name and scatter are those of the first.
    """
    moved = {}
    for name in PARAMETERS:
        (own, scatter), (there, _) = getattr(kind, name), getattr(other, name)
        center = own + share * (there - own) if name in NORMAL else own * (there / own) ** share
        moved[name] = Spread(center, scatter)
    return FiringType(kind.name, **moved)
