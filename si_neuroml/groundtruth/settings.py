"""What simulated cells and their imaging are drawn from: each setting is a range, or one number that fixes it."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ..errors import InputError

__all__ = [
    "DendriteSettings",
    "ImagingSettings",
    "IndicatorSettings",
    "MembraneSettings",
    "MotionSettings",
    "Ranges",
    "drawn_from",
]


def drawn_from(low: float, high: float, within: tuple[float, float], *, log: bool = False) -> Any:
    """Declare a field of :class:`Ranges`: its default, what it may lie within, whether to draw it on a log scale."""
    return field(default=(low, high), metadata={"within": within, "log": log})


class Ranges:
    """Base of the settings: each field is a range (low, high) or one number, from which values are drawn evenly."""

    def __post_init__(self):
        for item in fields(self):
            name = f"{type(self).__name__}.{item.name}"
            object.__setattr__(self, item.name, _checked_range(name, getattr(self, item.name), item.metadata["within"]))

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        """Draw one value of each field; fixing one field leaves the draws of the others as they are."""
        values = {}
        for item in fields(self):
            low, high = getattr(self, item.name)
            u = rng.random()
            log = item.metadata["log"] and 0 < low < high
            values[item.name] = float(low * (high / low) ** u if log else low + (high - low) * u)
        return values


@dataclass(frozen=True)
class MembraneSettings(Ranges):
    """What simulated cells are drawn from; one number in place of a range fixes it.

    Attributes
    ----------
    firing_rate_hz : range, default: (0.3, 6.0)
        Single action potentials that the fluctuations trigger, about (the mean input is searched for on a short trial).
    burst_rate_hz : range, default: (0.05, 0.3)
        Bursts of 2 to 5 action potentials at 100 to 250 Hz on a depolarisation.
    dendritic_spike_rate_hz : range, default: (0.05, 0.4)
        Local spikes of the dendrite, seen on some of its sites.
    plateau_rate_hz : range, default: (0.02, 0.1)
        Dendritic plateaus of 30 to 200 ms.
    epsp_burst_rate_hz, step_rate_hz : range, default: (0.2, 1.0), (0.02, 0.1)
        Trains of 3 to 8 EPSPs, and steps of current of 100 to 500 ms of either sign: not events, but alike.
    resting_mv, threshold_mv : range, default: (-72, -64), (14, 20)
        Resting potential, and how far above it the threshold lies.
    ap_peak_mv, ap_half_width_ms : range, default: (10, 40), (0.6, 1.4)
        Potential at the peak, and width at half height of the action potential.
    membrane_tau_ms : range, default: (8, 20)
        Membrane time constant.
    fluctuation_mv, fluctuation_tau_ms : range, default: (1.5, 3.5), (3, 10)
        Standard deviation and time constant of the subthreshold fluctuation, about.
    slow_mv, theta_mv : range, default: (1, 3), (0.3, 2)
        Slow modulation: standard deviation at time constants of about 0.5 s, amplitude of a rhythm at 5 to 9 Hz.
    ahp_mv, ahp_tau_ms : range, default: (2, 5), (15, 40)
        After-hyperpolarisation that each action potential adds.
    dendritic_spike_mv, plateau_mv : range, default: (30, 60), (20, 40)
        Amplitude where the event is made.
    dendritic_spike_extent_um : range, default: (20, 60)
        Length of the stretch of dendrite that has the spike.
    """

    firing_rate_hz: tuple[float, float] = drawn_from(0.3, 6, (0, 50), log=True)
    burst_rate_hz: tuple[float, float] = drawn_from(0.05, 0.3, (0, 5), log=True)
    dendritic_spike_rate_hz: tuple[float, float] = drawn_from(0.05, 0.4, (0, 20), log=True)
    plateau_rate_hz: tuple[float, float] = drawn_from(0.02, 0.1, (0, 3))
    epsp_burst_rate_hz: tuple[float, float] = drawn_from(0.2, 1, (0, 10))
    step_rate_hz: tuple[float, float] = drawn_from(0.02, 0.1, (0, 2))
    resting_mv: tuple[float, float] = drawn_from(-72, -64, (-95, -45))
    threshold_mv: tuple[float, float] = drawn_from(14, 20, (8, 40))
    ap_peak_mv: tuple[float, float] = drawn_from(10, 40, (-10, 60))
    ap_half_width_ms: tuple[float, float] = drawn_from(0.6, 1.4, (0.2, 1.6))
    membrane_tau_ms: tuple[float, float] = drawn_from(8, 20, (2, 60))
    fluctuation_mv: tuple[float, float] = drawn_from(1.5, 3.5, (0, 10))
    fluctuation_tau_ms: tuple[float, float] = drawn_from(3, 10, (0.5, 100))
    slow_mv: tuple[float, float] = drawn_from(1, 3, (0, 10))
    theta_mv: tuple[float, float] = drawn_from(0.3, 2, (0, 10))
    ahp_mv: tuple[float, float] = drawn_from(2, 5, (0, 20))
    ahp_tau_ms: tuple[float, float] = drawn_from(15, 40, (2, 500))
    dendritic_spike_mv: tuple[float, float] = drawn_from(30, 60, (1, 100))
    plateau_mv: tuple[float, float] = drawn_from(20, 40, (1, 80))
    dendritic_spike_extent_um: tuple[float, float] = drawn_from(20, 60, (0, 1000))


@dataclass(frozen=True)
class DendriteSettings(Ranges):
    """How somatic potentials reach the sites; drawn once per cell.

    Attributes
    ----------
    first_site_um, site_spacing_um : range, default: (10, 40), (10, 30)
        Distance of the first site from the soma, and between neighbouring sites.
    conduction_speed_um_per_ms : range, default: (150, 600)
        Speed of the action potential along the dendrite; 1000 um/ms is 1 m/s.
    attenuation_length_um : range, default: (200, 800)
        Distance over which it falls to 1/e.
    low_pass_ms_per_100um : range, default: (0.05, 0.3)
        Time constant of the dendritic low-pass, in proportion to the distance.
    """

    first_site_um: tuple[float, float] = drawn_from(10, 40, (0, 1000))
    site_spacing_um: tuple[float, float] = drawn_from(10, 30, (1, 500))
    conduction_speed_um_per_ms: tuple[float, float] = drawn_from(150, 600, (10, 1e6), log=True)
    attenuation_length_um: tuple[float, float] = drawn_from(200, 800, (10, 1e6), log=True)
    low_pass_ms_per_100um: tuple[float, float] = drawn_from(0.05, 0.3, (0, 10))


@dataclass(frozen=True)
class IndicatorSettings(Ranges):
    """The voltage indicator; drawn once per cell.

    Attributes
    ----------
    half_activation_mv, slope_mv : range, default: (-50, -20), (12, 25)
        Of the Boltzmann curve.
    on_ms, off_ms : range, default: (0.5, 1.5), (1, 4)
        Time constants while the activation grows and falls; published values of one indicator differ as much.
    modulation : range, default: (0.35, 0.6)
        Change of the indicator's fluorescence over the whole curve, relative to that at rest (ASAP3: about 0.5).
    """

    half_activation_mv: tuple[float, float] = drawn_from(-50, -20, (-120, 60))
    slope_mv: tuple[float, float] = drawn_from(12, 25, (1, 100))
    on_ms: tuple[float, float] = drawn_from(0.5, 1.5, (0.01, 100))
    off_ms: tuple[float, float] = drawn_from(1, 4, (0.01, 100))
    modulation: tuple[float, float] = drawn_from(0.35, 0.6, (0, 0.95))


@dataclass(frozen=True)
class ImagingSettings(Ranges):
    """Light, bleaching, drift and noise; drawn for each site.

    Attributes
    ----------
    photons_per_sample : range, default: (400, 5000)
        Expected at the start of a segment at rest, background included; drawn on a log scale.
    background_fraction : range, default: (0.1, 0.5)
        Part of them that carries no signal and does not bleach.
    fast_bleach_fraction, fast_bleach_s, slow_bleach_fraction, slow_bleach_s : range
        Bi-exponential bleaching of the indicator, anew in each segment. Default: (0.02, 0.1) lost with (1, 10) s,
        (0.1, 0.4) with (60, 600) s.
    drift_fraction, drift_s : range, default: (0.003, 0.02), (2, 20)
        Standard deviation and time constant of slow changes of brightness.
    pulsation_fraction : range, default: (0.001, 0.01)
        Amplitude of the heart beat.
    focus_um, focus_offset_um : range, default: (2, 5), (-1, 1)
        Gaussian width of the line or focus across the dendrite, and how far the dendrite lies from its centre:
        with that, motion makes a site dimmer or brighter.
    residue_fraction, residue_correlation : range, default: (0.2, 0.5), (0.5, 0.9)
        Only for ``noise="denoised"``: how much of the shot noise is left, and its correlation from sample to sample.
    """

    photons_per_sample: tuple[float, float] = drawn_from(400, 5000, (1, 1e6), log=True)
    background_fraction: tuple[float, float] = drawn_from(0.1, 0.5, (0, 1))
    fast_bleach_fraction: tuple[float, float] = drawn_from(0.02, 0.1, (0, 0.5))
    fast_bleach_s: tuple[float, float] = drawn_from(1, 10, (0.01, 1e6))
    slow_bleach_fraction: tuple[float, float] = drawn_from(0.1, 0.4, (0, 0.5))
    slow_bleach_s: tuple[float, float] = drawn_from(60, 600, (0.01, 1e6))
    drift_fraction: tuple[float, float] = drawn_from(0.003, 0.02, (0, 0.2))
    drift_s: tuple[float, float] = drawn_from(2, 20, (0.2, 1e4))
    pulsation_fraction: tuple[float, float] = drawn_from(0.001, 0.01, (0, 0.5))
    focus_um: tuple[float, float] = drawn_from(2, 5, (0.1, 1000))
    focus_offset_um: tuple[float, float] = drawn_from(-1, 1, (-100, 100))
    residue_fraction: tuple[float, float] = drawn_from(0.2, 0.5, (0, 1))
    residue_correlation: tuple[float, float] = drawn_from(0.5, 0.9, (0, 0.999))


@dataclass(frozen=True)
class MotionSettings(Ranges):
    """What moves all sites together; drawn once per segment.

    Attributes
    ----------
    step_rate_hz, transient_rate_hz : range, default: (0.01, 0.05), (0.03, 0.2)
        Steps to a new place, and excursions of 10 to 300 ms.
    size_um : range, default: (0.2, 1)
        Standard deviation of both.
    pulsation_hz : range, default: (7, 12)
        Heart rate.
    """

    step_rate_hz: tuple[float, float] = drawn_from(0.01, 0.05, (0, 10))
    transient_rate_hz: tuple[float, float] = drawn_from(0.03, 0.2, (0, 10))
    size_um: tuple[float, float] = drawn_from(0.2, 1, (0, 100))
    pulsation_hz: tuple[float, float] = drawn_from(7, 12, (0.1, 50))


def _checked_range(name: str, value: float | tuple[float, float], within: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(value),) * 2 if np.ndim(value) == 0 else (float(edge) for edge in value)
    except (TypeError, ValueError):
        low = high = np.nan
    if not within[0] <= low <= high <= within[1]:
        raise InputError(
            f"{name} must be a number or a range (low, high) within {within[0]:g} to {within[1]:g}, got {value!r}."
        )
    return low, high
