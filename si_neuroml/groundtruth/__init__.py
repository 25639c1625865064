"""Simulated recordings whose true soma places are known, to train on and to score against.

``generate_mearec_recording`` makes one with MEArec (extra ``groundtruth``) from cell templates that come with this
package; ``read_mearec_ground_truth`` reads one that MEArec saved. MEArec is imported only when a simulation is run.
The templates are data under CC BY-NC-SA 4.0, see ``LICENSES-data.md``.
"""

from .mearec import derive_seeds, generate_mearec_recording, read_mearec_ground_truth
from .selection import select_background, select_cells
from .templates import (
    CellTemplates,
    cell_type_of_model,
    join_templates,
    list_probes,
    load_probe_templates,
    mearec_to_si_axes,
    read_templates,
)

__all__ = [
    "CellTemplates",
    "cell_type_of_model",
    "derive_seeds",
    "generate_mearec_recording",
    "join_templates",
    "list_probes",
    "load_probe_templates",
    "mearec_to_si_axes",
    "read_mearec_ground_truth",
    "read_templates",
    "select_background",
    "select_cells",
]
