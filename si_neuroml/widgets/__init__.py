"""Plots of what si_neuroml computes, as SpikeInterface widgets; matplotlib loads when something is drawn."""

from .event_traces import EventTracesWidget, plot_event_traces
from .reliability import ReliabilityWidget, plot_reliability
from .spike_locations import SpikeLocationsOnProbeWidget, plot_spike_locations_on_probe

__all__ = [
    "EventTracesWidget",
    "ReliabilityWidget",
    "SpikeLocationsOnProbeWidget",
    "plot_event_traces",
    "plot_reliability",
    "plot_spike_locations_on_probe",
]
