"""From MEArec's arrays and files to SpikeInterface's recording and sorting, with the truth as unit properties."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, MissingDependencyError
from .templates import CellTemplates, cell_type_of_model, mearec_to_si_axes

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording, BaseSorting, NumpyRecording, NumpySorting

__all__ = ["attach_ground_truth", "make_recording", "make_sorting", "read_mearec_file"]


def make_recording(
    traces: np.ndarray, sampling_frequency: float, templates: CellTemplates, *, is_filtered: bool = False
) -> "NumpyRecording":
    """Wrap traces as a recording with the probe of the templates.

    Parameters
    ----------
    traces : np.ndarray, (n_samples, n_channels)
        In uV.
    sampling_frequency : float
        In Hz.
    templates : CellTemplates
        Tells the contacts; channel k of the traces is its channel k.
    is_filtered : bool, default: False
        Stored as an annotation.

    Returns
    -------
    NumpyRecording
        Gain 1 and offset 0, so that traces are read in uV.
    """
    from probeinterface import Probe
    from spikeinterface.core import NumpyRecording

    electrodes = templates.electrodes
    positions = mearec_to_si_axes(templates.channel_positions, electrodes.get("plane", "yz"))[:, :2]
    probe = Probe(ndim=2, si_units="um", model_name=electrodes.get("electrode_name"))
    probe.set_contacts(positions, **_contact_shapes(electrodes))
    probe.set_device_channel_indices(np.arange(len(positions)))
    recording = NumpyRecording([traces], sampling_frequency=sampling_frequency)
    recording.set_probe(probe)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    recording.annotate(is_filtered=is_filtered)
    return recording


def make_sorting(spike_frames: list[np.ndarray], sampling_frequency: float) -> "NumpySorting":
    """Wrap spike frames as a sorting.

    Parameters
    ----------
    spike_frames : list of np.ndarray of int
        One array of samples per unit; unit ids are 0, 1, ... in this order.
    sampling_frequency : float
        In Hz.

    Returns
    -------
    NumpySorting
        One segment.
    """
    from spikeinterface.core import NumpySorting

    trains = {unit: np.sort(frames).astype(np.int64) for unit, frames in enumerate(spike_frames)}
    return NumpySorting.from_unit_dict([trains], sampling_frequency=sampling_frequency)


def attach_ground_truth(
    sorting: "BaseSorting",
    *,
    locations: np.ndarray,
    cell_models: np.ndarray,
    plane: str = "yz",
    rotations: np.ndarray | None = None,
    template_indices: np.ndarray | None = None,
    amplitudes_uv: np.ndarray | None = None,
) -> None:
    """Set the truth about each unit as properties of a sorting, in place.

    Parameters
    ----------
    sorting : BaseSorting
        Its units in the order of the arrays below.
    locations : np.ndarray, (n_units, 3)
        Soma places in um, in MEArec's axes.
    cell_models : np.ndarray of str, (n_units,)
        Names of the cell models.
    plane : str, default: "yz"
        The plane of the contacts.
    rotations : np.ndarray or None, (n_units, 3), default: None
        Radians around MEArec's axes.
    template_indices, amplitudes_uv : np.ndarray or None, (n_units,), default: None
        Where each cell stands in the template set, and its template's largest trough in uV.

    Raises
    ------
    InputError
        If the number of places is not the number of units.
    """
    if len(locations) != sorting.get_num_units():
        raise InputError(f"{len(locations)} true places for {sorting.get_num_units()} units.")
    places = np.asarray(mearec_to_si_axes(locations, plane), dtype=float)
    models = np.asarray(cell_models).astype(str)
    sorting.set_property("gt_unit_locations", places)
    sorting.set_property("gt_depth_um", places[:, 2].copy())
    sorting.set_property("cell_type", np.array([cell_type_of_model(name) for name in models]))
    sorting.set_property("cell_model", models)
    if rotations is not None:
        sorting.set_property("gt_rotation", np.asarray(rotations, dtype=float))
    if template_indices is not None:
        sorting.set_property("gt_template_index", np.asarray(template_indices, dtype=int))
    if amplitudes_uv is not None:
        sorting.set_property("gt_amplitude_uV", np.asarray(amplitudes_uv, dtype=float))


def read_mearec_file(path: Path) -> "tuple[BaseRecording, BaseSorting]":
    """Read a MEArec recording file and attach its truth; see ``read_mearec_ground_truth``."""
    import h5py
    from spikeinterface.extractors import read_mearec

    if not path.is_file():
        raise InputError(f"No MEArec recording at {path}.")
    truth = {}
    try:
        with h5py.File(path, "r") as file:
            if "recordings" not in file or "template_locations" not in file or "spiketrains" not in file:
                raise InputError(f"{path} holds no MEArec recording with cells (found: {', '.join(sorted(file))}).")
            truth["locations"] = file["template_locations"][:]
            truth["cell_models"] = file["template_celltypes"][:].astype(str)
            if "template_rotations" in file:
                truth["rotations"] = file["template_rotations"][:]
            if "template_ids" in file:
                truth["template_indices"] = file["template_ids"][:]
            if "original_templates" in file and file["original_templates"].ndim == 3:
                truth["amplitudes_uv"] = -file["original_templates"][:].min(axis=(1, 2))
            plane = file["info/electrodes/plane"][()] if "info/electrodes/plane" in file else b"yz"
            truth["plane"] = plane.decode() if isinstance(plane, bytes) else str(plane)
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error}).") from error
    except KeyError as error:
        raise InputError(f"{path} is no complete MEArec recording: {error}.") from error
    if truth["locations"].ndim != 2:
        raise InputError(
            f"The cells of {path} drift (true places of shape {truth['locations'].shape}): they have no single place."
        )
    try:
        import MEArec  # noqa: F401  # neo needs it, and says so less clearly
    except ImportError as error:
        raise MissingDependencyError("MEArec", "groundtruth") from error
    recording, sorting = read_mearec(path)
    if not recording.has_scaleable_traces():
        recording.set_channel_gains(1.0)
        recording.set_channel_offsets(0.0)
    attach_ground_truth(sorting, **truth)
    return recording, sorting


def _contact_shapes(electrodes: dict) -> dict:
    """MEAutility gives half a contact's size."""
    shape, size = electrodes.get("shape"), electrodes.get("size")
    if shape == "circle" and np.ndim(size) == 0 and size is not None:
        return {"shapes": "circle", "shape_params": {"radius": float(size)}}
    if shape == "square" and np.ndim(size) == 0 and size is not None:
        return {"shapes": "square", "shape_params": {"width": 2 * float(size)}}
    if shape == "rect" and np.size(size) == 2:
        return {"shapes": "rect", "shape_params": {"width": 2 * float(size[0]), "height": 2 * float(size[1])}}
    return {}
