"""Simulated recordings in which the truth is known, to train on and to score against.

Extracellular: ``generate_mearec_recording`` makes one with MEArec (extra ``groundtruth``), with known soma places, from
cell templates that come with this package; ``read_mearec_ground_truth`` reads one that MEArec saved. MEArec is imported
only when a simulation is run. The templates are data under CC BY-NC-SA 4.0, see ``LICENSES-data.md``.

Voltage imaging: ``generate_voltage_imaging_recording`` makes one with every event known, from simulated cells or from
measured potentials (``membrane_potential_from_recording``).

Current clamp of cells of known types: ``generate_current_clamp_cells``, in labs that record differently.

Sorted units in known brain regions: ``generate_region_sessions``, with effects of animals and labs on purpose.
"""

from .current_clamp import CurrentClampCells, generate_current_clamp_cells
from .imaging_events import VOLTAGE_EVENT_DTYPE
from .mearec import derive_seeds, generate_mearec_recording, read_mearec_ground_truth
from .measured_potential import as_membrane_potential, membrane_potential_from_recording
from .membrane_potential import MembranePotential
from .region_analyzers import region_session_analyzer
from .region_firing import RegionProfile
from .region_sessions import RegionEffects, RegionSession, Scatter, generate_region_sessions
from .selection import select_background, select_cells
from .settings import DendriteSettings, ImagingSettings, IndicatorSettings, MembraneSettings, MotionSettings
from .templates import (
    CellTemplates,
    cell_type_of_model,
    join_templates,
    list_probes,
    load_probe_templates,
    mearec_to_si_axes,
    read_templates,
)
from .voltage_imaging import VoltageImagingGroundTruth, generate_voltage_imaging_recording

__all__ = [
    "VOLTAGE_EVENT_DTYPE",
    "CellTemplates",
    "CurrentClampCells",
    "DendriteSettings",
    "ImagingSettings",
    "IndicatorSettings",
    "MembranePotential",
    "MembraneSettings",
    "MotionSettings",
    "RegionEffects",
    "RegionProfile",
    "RegionSession",
    "Scatter",
    "VoltageImagingGroundTruth",
    "as_membrane_potential",
    "cell_type_of_model",
    "derive_seeds",
    "generate_current_clamp_cells",
    "generate_mearec_recording",
    "generate_region_sessions",
    "generate_voltage_imaging_recording",
    "join_templates",
    "list_probes",
    "load_probe_templates",
    "mearec_to_si_axes",
    "membrane_potential_from_recording",
    "read_mearec_ground_truth",
    "read_templates",
    "region_session_analyzer",
    "select_background",
    "select_cells",
]
