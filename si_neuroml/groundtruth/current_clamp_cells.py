"""The laboratories that record cells in current clamp, and cells as they are drawn for them: numbers of one model each.

What a laboratory changes: the steps, sampling rate, noise, bridge error, holding, and with the temperature of the bath
conductances, adaptation and the width of spikes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .current_clamp_types import NORMAL, PARAMETERS, DonorScatter, FiringType

__all__ = ["CLAMP_FAULTS", "CLAMP_LABS", "ClampLab", "ModelCell", "check_names", "draw_cell", "draw_donor"]

# what a cell can have so that it must be refused, or some of its sweeps
CLAMP_FAULTS = ("spontaneous", "depolarisation_block", "failed_sweeps", "silent")
REFERENCE_C = 34.0
# per 10 degrees: of conductances (Trevelyan & Jack 2002, J Physiol 539:623) and of adaptation, which is set to the
# same, and of the spike's width (ratio of cells at 25 and at 34 degrees in Scala et al. 2021)
Q10, Q10_WIDTH = 2.0, 1.8
# the waveform of the spike begins so many slope factors above V_T, where nothing can hold it back any more
CUT_SLOPES = 3.0
MIN_HEIGHT_MV, MIN_AHP_MV, MIN_DRIVE_MV, MIN_SUBTHRESHOLD = 25.0, 4.0, 8.0, -0.6
SPONTANEOUS_MV = 8.0


@dataclass(frozen=True)
class ClampLab:
    """How one laboratory records.

    Attributes
    ----------
    name : str
        The data set of its cells.
    sampling_frequency : float
        In Hz.
    onset_s, step_s, after_s : float
        Time before the step, length of the step, time after it.
    first_pa, step_pa, above_pa, last_pa : float
        Steps rise by ``step_pa`` from ``first_pa`` until they are ``above_pa`` above rheobase, at most to ``last_pa``.
    temperature_c : float
        Of the bath.
    holding_mv : float or None
        Cells are held there by a current, or lower where they would fire; None: they rest.
    bridge_error_mohm : float
        Standard deviation from cell to cell of the series resistance that is not compensated for.
    noise_mv, hum_mv : float
        Standard deviation of the amplifier's white noise; amplitude of the mains' 50 Hz.
    drift_mv : float
        Standard deviation of the change of the resting potential from sweep to sweep.
    """

    name: str
    sampling_frequency: float = 20_000.0
    onset_s: float = 0.3
    step_s: float = 1.0
    after_s: float = 0.2
    first_pa: float = -100.0
    step_pa: float = 20.0
    above_pa: float = 100.0
    last_pa: float = 1200.0
    temperature_c: float = REFERENCE_C
    holding_mv: float | None = None
    bridge_error_mohm: float = 2.0
    noise_mv: float = 0.05
    hum_mv: float = 0.02
    drift_mv: float = 0.1

    def __post_init__(self):
        above_zero = ("step_s", "step_pa", "above_pa")
        not_below = ("onset_s", "after_s", "bridge_error_mohm", "noise_mv", "hum_mv", "drift_mv")
        for names, least in ((above_zero, "above 0"), (not_below, "0 or more")):
            for name in names:
                value = getattr(self, name)
                if not (np.isfinite(value) and (value > 0 or (value == 0 and names is not_below))):
                    raise InputError(f"{self.name}: {name} must be {least}, got {value}.")
        if not 4000.0 <= self.sampling_frequency <= 200_000.0:
            raise InputError(f"{self.name}: record at 4 to 200 kHz, got {self.sampling_frequency} Hz.")
        if not self.first_pa <= 0 < self.last_pa:
            raise InputError(f"{self.name}: steps must begin at or below 0 pA, got {self.first_pa} to {self.last_pa}.")
        if not 15.0 <= self.temperature_c <= 42.0:
            raise InputError(f"{self.name}: the bath must have 15 to 42 degrees Celsius, got {self.temperature_c}.")


CLAMP_LABS = (
    ClampLab("lab_warm"),
    ClampLab(
        "lab_cool",
        sampling_frequency=10_000.0,
        onset_s=0.1,
        step_s=0.6,
        first_pa=-150.0,
        step_pa=25.0,
        temperature_c=25.0,
        holding_mv=-70.0,
        bridge_error_mohm=5.0,
        noise_mv=0.15,
        hum_mv=0.1,
        drift_mv=0.3,
    ),
)


class ModelCell(NamedTuple):
    """The parameters of one cell as it is recorded, at the temperature of its bath; times in ms, potentials in mV.

    Attributes
    ----------
    leak_ns, capacitance_pf, rest_mv : float
        g_L, C and E_L.
    v_t_mv, slope_mv, cut_mv, reset_mv : float
        V_T, Delta_T, where the waveform of a spike begins, and where it ends.
    a_ns, b_pa, adaptation_tau_ms : float
        Adaptation.
    peak_mv, rise_ms, fall_ms, width_ms : float
        Waveform of the spike: a raised cosine up and one down, and its width at half height above the threshold.
    noise_pa : float
        Standard deviation of the current noise of the membrane.
    holding_pa, bridge_mohm : float
        Holding current, and resistance that is not compensated for.
    fault : str
        One of ``CLAMP_FAULTS``, or "".
    """

    leak_ns: float
    capacitance_pf: float
    rest_mv: float
    v_t_mv: float
    slope_mv: float
    cut_mv: float
    reset_mv: float
    a_ns: float
    b_pa: float
    adaptation_tau_ms: float
    peak_mv: float
    rise_ms: float
    fall_ms: float
    width_ms: float
    noise_pa: float
    holding_pa: float
    bridge_mohm: float
    fault: str

    @property
    def input_resistance_mohm(self) -> float:
        """In the steady state, far below threshold."""
        return 1e3 / (self.leak_ns + self.a_ns)


def draw_donor(rng: np.random.Generator, scatter: DonorScatter) -> dict[str, float]:
    """What the cells of one donor share, in units of the logarithm or mV."""
    return {item.name: getattr(scatter, item.name) * rng.standard_normal() for item in fields(scatter)}


def draw_cell(
    rng: np.random.Generator, kind: FiringType, donor: Mapping[str, float], lab: ClampLab, fault: str = ""
) -> ModelCell:
    """Draw one cell of a type, of a donor, in the bath of a laboratory.

    Parameters
    ----------
    rng : Generator
        The same draws are taken from it, whatever the type and the laboratory.
    kind : FiringType
    donor : dict of float
        From :func:`draw_donor`.
    lab : ClampLab
    fault : str, default: ""
        One of ``CLAMP_FAULTS``.

    Returns
    -------
    ModelCell
    """
    own = {name: _draw(rng, name, getattr(kind, name), donor.get(name, 0.0)) for name in PARAMETERS}
    noise_mv, bridge = rng.lognormal(np.log(0.25), 0.3), lab.bridge_error_mohm * rng.standard_normal()
    warmer = (lab.temperature_c - REFERENCE_C) / 10.0
    cut, slope = own["threshold_mv"], own["onset_slope_mv"]
    v_t = cut - CUT_SLOPES * slope
    subthreshold = max(own["subthreshold"], MIN_SUBTHRESHOLD)
    # nearer to its threshold a cell would fire by itself
    highest = v_t - slope - MIN_DRIVE_MV
    rest = min(own["rest_mv"], highest)
    leak = 1e3 / own["input_resistance_mohm"] / (1.0 + subthreshold) * Q10**warmer
    peak, reset = max(own["peak_mv"], cut + MIN_HEIGHT_MV), cut - max(own["ahp_mv"], MIN_AHP_MV)
    width = own["width_ms"] * Q10_WIDTH**-warmer
    rise, fall = _flanks(width, own["slope_ratio"], peak - cut, peak - reset)
    held_at = rest if lab.holding_mv is None else min(lab.holding_mv, highest)
    holding = (held_at - rest) * leak * (1.0 + subthreshold)
    if fault == "spontaneous":
        # it would settle above the threshold
        holding = (v_t - rest + SPONTANEOUS_MV) * leak * (1.0 + max(subthreshold, 0.0))
    return ModelCell(
        leak_ns=leak,
        # it does not change with temperature, the leak does
        capacitance_pf=own["tau_ms"] * leak / Q10**warmer,
        rest_mv=rest,
        v_t_mv=v_t,
        slope_mv=slope,
        cut_mv=cut,
        reset_mv=reset,
        a_ns=subthreshold * leak,
        b_pa=own["adaptation_mv"] * leak,
        adaptation_tau_ms=own["adaptation_tau_ms"] * Q10**-warmer,
        peak_mv=peak,
        rise_ms=rise,
        fall_ms=fall,
        width_ms=width,
        noise_pa=noise_mv * leak,
        holding_pa=holding,
        bridge_mohm=bridge,
        fault=fault,
    )


def _draw(rng, name, spread, shared):
    deviate = spread.scatter * rng.standard_normal() + shared
    return float(spread.center + deviate if name in NORMAL else spread.center * np.exp(deviate))


def _flanks(width_ms, slope_ratio, up_mv, down_mv):
    """Lengths of the two raised cosines that have this width at half of ``up_mv`` and this ratio of largest slopes."""
    longer = slope_ratio * down_mv / up_mv
    # how much of the way down is left of half the height, as a share of the time
    part = np.arccos(1.0 - up_mv / down_mv) / np.pi
    rise = width_ms / (0.5 + longer * part)
    return float(rise), float(rise * longer)


def check_names(types: Sequence[FiringType], labs: Sequence[ClampLab]) -> None:
    """Raise InputError where there are none, or two of one name."""
    for what, found in (("types", types), ("labs", labs)):
        names = [one.name for one in found]
        if not names or len(set(names)) < len(names):
            raise InputError(f"{what} must be one or more with names of their own, got {names}.")
