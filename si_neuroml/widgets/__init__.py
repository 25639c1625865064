"""Plots of what si_neuroml computes, as SpikeInterface widgets; matplotlib loads when something is drawn."""

from .event_traces import EventTracesWidget, plot_event_traces
from .region_exploration import (
    RegionFeaturesWidget,
    RegionResponsesWidget,
    RegionUnitCountsWidget,
    plot_region_features,
    plot_region_responses,
    plot_region_unit_counts,
)
from .region_matrix import RegionMatrixWidget, plot_region_matrix
from .region_track import RegionTrackWidget, plot_region_track
from .reliability import ReliabilityWidget, plot_reliability
from .scalogram_attribution import ScalogramAttributionWidget, plot_scalogram_attribution
from .spike_locations import SpikeLocationsOnProbeWidget, plot_spike_locations_on_probe

__all__ = [
    "EventTracesWidget",
    "RegionFeaturesWidget",
    "RegionMatrixWidget",
    "RegionResponsesWidget",
    "RegionTrackWidget",
    "RegionUnitCountsWidget",
    "ReliabilityWidget",
    "ScalogramAttributionWidget",
    "SpikeLocationsOnProbeWidget",
    "plot_event_traces",
    "plot_region_features",
    "plot_region_matrix",
    "plot_region_responses",
    "plot_region_track",
    "plot_region_unit_counts",
    "plot_reliability",
    "plot_scalogram_attribution",
    "plot_spike_locations_on_probe",
]
