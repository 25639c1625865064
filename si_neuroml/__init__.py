"""Learned analyses for SpikeInterface: ``import si_neuroml`` adds methods to the verbs you already use."""

from importlib import import_module
from typing import Any

from .registration import register, unregister

__version__ = "0.1.0"

# public names and where they live; looked up when first used, so that importing the package loads no torch
_PUBLIC = {
    "CellDataset": ".celltypes.dataset",
    "RegionDataset": ".regions.dataset",
    "convert_to_area_hdf5": ".regions.area_conversion",
    "dataset_probe": ".celltypes.dataset_probe",
    "detect_events": ".events.nodes",
    "evaluate_cell_type_models": ".celltypes.evaluation",
    "evaluate_region_models": ".regions.evaluation",
    "event_learning_curve": ".events.learning_curve",
    "events_to_sorting": ".events.nodes",
    "fine_tune_localizer": ".localization.fine_tune",
    "fit_cell_type_classifier": ".celltypes.fit",
    "fit_event_detector": ".events.fit",
    "fit_event_detector_without_labels": ".events.without_labels",
    "fit_localizer": ".localization.fit",
    "fit_region_classifier": ".regions.fit",
    "generate_current_clamp_cells": ".groundtruth",
    "generate_mearec_recording": ".groundtruth",
    "generate_region_sessions": ".groundtruth",
    "generate_voltage_imaging_recording": ".groundtruth",
    "load_model": ".modelfiles",
    "map_sessions": ".sessions",
    "plot_event_traces": ".widgets",
    "plot_region_features": ".widgets",
    "plot_region_matrix": ".widgets",
    "plot_region_responses": ".widgets",
    "plot_region_track": ".widgets",
    "plot_region_unit_counts": ".widgets",
    "plot_reliability": ".widgets",
    "plot_scalogram_attribution": ".widgets",
    "plot_spike_locations_on_probe": ".widgets",
    "read_mearec_ground_truth": ".groundtruth",
    "run_many_sharded": ".sharded_runs",
    "run_sharded": ".sharded_runs",
    "save_model": ".modelfiles",
    "search_cell_type_classifier": ".celltypes.search",
    "search_event_detector": ".events.search",
    "search_on_cluster": ".cluster_search",
    "search_region_classifier": ".regions.search",
    "set_threshold_from_recording": ".events.without_labels",
    "stream_ablation": ".celltypes.ablation",
}
__all__ = ["__version__", "register", "unregister", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


register()
