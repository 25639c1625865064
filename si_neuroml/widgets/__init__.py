"""Plots of what si_neuroml computes, as SpikeInterface widgets; matplotlib loads when something is drawn."""

from .reliability import ReliabilityWidget, plot_reliability
from .spike_locations import SpikeLocationsOnProbeWidget, plot_spike_locations_on_probe

__all__ = [
    "ReliabilityWidget",
    "SpikeLocationsOnProbeWidget",
    "plot_reliability",
    "plot_spike_locations_on_probe",
]
