"""What a detector of events is told, and what it returns."""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .conditioning import baseline_blocks, conditioning_reach
from .picking import picking_reach

__all__ = ["EVENT_DTYPE", "DetectorSettings"]

# SpikeInterface's peaks, and what a learned detector adds; samples count from the start of the segment
EVENT_DTYPE = np.dtype(
    [
        ("sample_index", "int64"),
        ("channel_index", "int64"),
        ("amplitude", "float64"),
        ("segment_index", "int64"),
        ("probability", "float32"),
        ("onset", "int64"),
        ("offset", "int64"),
    ]
)


@dataclass(frozen=True)
class DetectorSettings:
    """How traces are conditioned and events are picked.

    Attributes
    ----------
    sampling_frequency : float
        Of the traces, in Hz.
    polarity : int
        1 when events go up, -1 when they go down, as with indicators that darken.
    baseline_ms : float, default: 75
        The slow baseline follows what lasts longer than about this.
    exclude_sweep_ms : float, default: 2
        An event is the highest score within this time on its channel. No cell has two action potentials sooner, but a
        network may see a strong one twice.
    max_reach_ms : float, default: 25
        Onset and offset lie at most this far from the event.

    Raises
    ------
    InputError
        On a value that is not finite and positive, or a polarity that is neither 1 nor -1.
    """

    sampling_frequency: float
    polarity: int
    baseline_ms: float = 75.0
    exclude_sweep_ms: float = 2.0
    max_reach_ms: float = 25.0

    def __post_init__(self):
        if self.polarity not in (1, -1):
            raise InputError(f"polarity must be 1 (events go up) or -1 (events go down), got {self.polarity!r}.")
        for name in ("sampling_frequency", "baseline_ms", "exclude_sweep_ms", "max_reach_ms"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be finite and positive, got {value!r}.")

    @property
    def baseline(self) -> dict[str, int]:
        """Block length and number of blocks, as keyword arguments of the conditioning."""
        block_size, half_blocks = baseline_blocks(self.sampling_frequency, self.baseline_ms)
        return {"block_size": block_size, "half_blocks": half_blocks}

    @property
    def picking(self) -> dict[str, int]:
        """Times of the picking in samples, as keyword arguments of it."""
        return {
            "exclude_sweep": max(1, self.samples(self.exclude_sweep_ms)),
            "max_reach": max(1, self.samples(self.max_reach_ms)),
        }

    @property
    def reach(self) -> int:
        """Samples on either side that conditioning and picking need, without the scorer between them."""
        return conditioning_reach(**self.baseline) + picking_reach(**self.picking)

    def samples(self, milliseconds: float) -> int:
        """A time as the nearest whole number of samples."""
        return round(milliseconds * self.sampling_frequency / 1000.0)
