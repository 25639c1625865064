"""Templates of model cells: the waveform that one spike of a cell at a known place leaves on every contact.

Two kinds of HDF5 file are read into the same :class:`CellTemplates`: the compact files that come with the package, and
the files that MEArec itself writes. MEArec's axes are kept here (contacts in the y-z plane, x away from them);
:func:`mearec_to_si_axes` turns places into SpikeInterface's axes (x and y in the plane, z away from it).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import h5py

__all__ = [
    "CellTemplates",
    "cell_type_of_model",
    "join_templates",
    "list_probes",
    "load_probe_templates",
    "mearec_to_si_axes",
    "probe_template_path",
    "read_templates",
]

FILE_FORMAT = "si_neuroml.cell_templates"
FILE_FORMAT_VERSION = 1

PROBE_FILES = {probe: f"templates_{probe}.h5" for probe in ("square_mea", "neuropixels_64")}

# MEArec's own lists (its recording parameters, section cell_types), matched against the morphological type.
EXCITATORY_TYPES = ("PC", "SS", "SP")
INHIBITORY_TYPES = ("AC", "BP", "BC", "BTC", "ChC", "DBC", "MC", "NGC")

# For each contact plane that MEArec knows: the two axes in the plane, then the axis away from it.
PLANE_AXES = {"yz": (1, 2, 0), "xy": (0, 1, 2), "xz": (0, 2, 1)}


@dataclass(frozen=True)
class CellTemplates:
    """Noise-free spike waveforms of model cells on one probe, with the place of every cell.

    Attributes
    ----------
    waveforms : np.ndarray, (n_cells, n_channels, n_samples), float32
        Extracellular potential in uV. The trough lies near sample ``cut_out_ms[0] * sampling_frequency / 1000``.
    locations : np.ndarray, (n_cells, 3)
        Soma places in um, in MEArec's axes.
    rotations : np.ndarray, (n_cells, 3)
        Rotations around MEArec's x, y and z axes, in radians, as MEArec stores them.
    cell_models : np.ndarray of str, (n_cells,)
        Name of the cell model, for example ``"L5_TTPC1_cADpyr232_1"``.
    is_far : np.ndarray of bool, (n_cells,)
        True for cells simulated as distant background. Files written by MEArec do not say, and give False.
    channel_positions : np.ndarray, (n_channels, 3)
        Contact places in um, in MEArec's axes and in the order of the channels of ``waveforms``.
    sampling_frequency : float
        In Hz.
    cut_out_ms : tuple of float
        Time before and after the spike, in ms.
    electrodes : dict
        MEAutility's description of the probe.
    params : dict
        MEArec's parameters of the simulation.
    source, licence : str
        Where the templates come from and under which licence they may be used.
    """

    waveforms: np.ndarray
    locations: np.ndarray
    rotations: np.ndarray
    cell_models: np.ndarray
    is_far: np.ndarray
    channel_positions: np.ndarray
    sampling_frequency: float
    cut_out_ms: tuple[float, float]
    electrodes: dict
    params: dict
    source: str = ""
    licence: str = ""

    def __post_init__(self):
        n_cells = len(self.waveforms)
        if self.waveforms.ndim != 3:
            raise InputError(
                f"Templates must have shape (cells, channels, samples), got {self.waveforms.shape}. "
                "Drifting templates (four dimensions) are not supported: simulate with drifting=False."
            )
        for name in ("locations", "rotations", "cell_models", "is_far"):
            if len(getattr(self, name)) != n_cells:
                raise InputError(f"{n_cells} templates but {len(getattr(self, name))} entries in {name!r}.")
        if len(self.channel_positions) != self.waveforms.shape[1]:
            raise InputError(
                f"The templates have {self.waveforms.shape[1]} channels but the probe has "
                f"{len(self.channel_positions)} contacts: the file and its probe description do not belong together."
            )

    @property
    def num_cells(self) -> int:
        """Number of templates."""
        return len(self.waveforms)

    @property
    def amplitudes_uv(self) -> np.ndarray:
        """Depth of the largest trough over all channels, positive, in uV, shape (n_cells,)."""
        return -self.waveforms.min(axis=(1, 2))

    @property
    def cell_types(self) -> np.ndarray:
        """Excitatory, inhibitory or unknown ("E", "I" or "U") for each cell, shape (n_cells,)."""
        return np.array([cell_type_of_model(name) for name in self.cell_models], dtype="U1")

    def take(self, indices: Sequence[int] | np.ndarray) -> "CellTemplates":
        """Return the templates at the given indices, in that order."""
        per_cell = ("waveforms", "locations", "rotations", "cell_models", "is_far")
        shared = {key: value for key, value in self.__dict__.items() if key not in per_cell}
        indices = np.asarray(indices, dtype=int)
        return CellTemplates(**{key: getattr(self, key)[indices] for key in per_cell}, **shared)


def cell_type_of_model(name: str) -> str:
    """Tell excitatory from inhibitory cell models by name, with MEArec's rule.

    Parameters
    ----------
    name : str
        Name of a cell model. Blue Brain names ("L5_TTPC1_cADpyr232_1") are judged by their second part.

    Returns
    -------
    str
        "E", "I", or "U" when the name says nothing.
    """
    parts = name.split("_")
    is_blue_brain = name.startswith("L") and len(parts) == 4
    if any(kind in (parts[1] if is_blue_brain else name) for kind in EXCITATORY_TYPES):
        return "E"
    return "I" if any(kind in name for kind in INHIBITORY_TYPES) else "U"


def mearec_to_si_axes(points: np.ndarray, plane: str = "yz") -> np.ndarray:
    """Turn MEArec's axes into SpikeInterface's: the two in-plane axes first, the distance from the plane last.

    Parameters
    ----------
    points : np.ndarray, (..., 3)
        Places in MEArec's axes.
    plane : {"yz", "xy", "xz"}, default: "yz"
        The plane of the contacts, from the probe's description.

    Returns
    -------
    np.ndarray, (..., 3)
        The same places as (x, y, z) of SpikeInterface.

    Raises
    ------
    InputError
        If the plane is unknown or the last axis does not have length 3.
    """
    points = np.asarray(points)
    if plane not in PLANE_AXES:
        raise InputError(f"Unknown contact plane {plane!r}: expected one of {sorted(PLANE_AXES)}.")
    if points.shape[-1:] != (3,):
        raise InputError(f"Places must have 3 coordinates on the last axis, got shape {points.shape}.")
    return points[..., list(PLANE_AXES[plane])]


def list_probes() -> list[str]:
    """Names of the probes whose templates come with the package."""
    return sorted(PROBE_FILES)


def probe_template_path(probe: str) -> Path:
    """Path of the template file that comes with the package for a probe.

    Parameters
    ----------
    probe : str
        One of :func:`list_probes`.

    Returns
    -------
    Path
        The HDF5 file; InputError is raised if the probe is unknown or the installed package lacks the file.
    """
    if probe not in PROBE_FILES:
        raise InputError(f"Unknown probe {probe!r}. Known: {', '.join(list_probes())}. For another, pass templates=.")
    path = Path(str(resources.files("si_neuroml.groundtruth").joinpath("data", PROBE_FILES[probe])))
    if not path.is_file():
        raise InputError(f"The installed package lacks {path.name}; reinstall si-neuroml, or pass templates=.")
    return path


def load_probe_templates(probe: str = "square_mea") -> CellTemplates:
    """Load the templates that come with the package for a probe.

    Parameters
    ----------
    probe : str, default: "square_mea"
        "square_mea" (10 x 10 contacts, 15 um apart) or "neuropixels_64" (64 contacts in 4 staggered columns).

    Returns
    -------
    CellTemplates
        13 layer-5 cell models of juvenile rat somatosensory cortex, near cells first, then distant ones.
    """
    return read_templates(probe_template_path(probe))


def read_templates(path: str | Path) -> CellTemplates:
    """Read a template file: one of this package's, or one written by ``MEArec.save_template_generator``.

    Parameters
    ----------
    path : str or Path
        An HDF5 file.

    Returns
    -------
    CellTemplates
        Waveforms in uV, places in um.

    Raises
    ------
    InputError
        If the file is missing, is not HDF5, or holds no templates.
    MissingDependencyError
        If a MEArec file is read without MEAutility (which comes with MEArec and knows the probe's contacts).
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise InputError(f"No template file at {path}.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file ({error}).") from error
    with file:
        try:
            return _read_package_file(file) if file.attrs.get("format") == FILE_FORMAT else _read_mearec_file(file)
        except KeyError as error:
            raise InputError(
                f"{path} is no template file: {error}. Expected one from MEArec.save_template_generator "
                "or one of this package's."
            ) from error


def join_templates(parts: Sequence[CellTemplates]) -> CellTemplates:
    """Join template sets of the same probe, for example near cells and distant ones.

    Parameters
    ----------
    parts : sequence of CellTemplates
        At least one; probe description, parameters and licence are taken from the first.

    Returns
    -------
    CellTemplates
        All cells, in the order given.

    Raises
    ------
    InputError
        If there are none, or they differ in contacts, sampling rate or length.
    """
    if not parts:
        raise InputError("join_templates needs at least one template set, got none.")
    first = parts[0]
    for k, part in enumerate(parts[1:], start=1):
        if part.sampling_frequency != first.sampling_frequency or part.waveforms.shape[1:] != first.waveforms.shape[1:]:
            raise InputError(
                f"Template sets 0 and {k} differ: {first.waveforms.shape[1:]} (channels, samples) at "
                f"{first.sampling_frequency:g} Hz against {part.waveforms.shape[1:]} at {part.sampling_frequency:g} Hz."
            )
        if not np.allclose(part.channel_positions, first.channel_positions):
            raise InputError(f"Template sets 0 and {k} are of different probes: their contacts lie elsewhere.")
    per_cell = ("waveforms", "locations", "rotations", "cell_models", "is_far")
    joined = {key: np.concatenate([getattr(part, key) for part in parts]) for key in per_cell}
    return CellTemplates(**joined, **{key: value for key, value in first.__dict__.items() if key not in per_cell})


def _read_package_file(file: "h5py.File") -> CellTemplates:
    version = int(file.attrs["format_version"])
    if version > FILE_FORMAT_VERSION:
        raise InputError(f"Template file format {version} is newer than the supported {FILE_FORMAT_VERSION}: update.")
    groups = [file[name] for name in ("near", "far")]
    # Fixed-point differences along time compress about three times better than float16 and lose less.
    waveforms = [
        np.cumsum(group["waveform_steps"][:], axis=2, dtype=np.int32) * np.float32(group.attrs["step_uv"])
        for group in groups
    ]
    gather = {key: np.concatenate([group[key][:] for group in groups]) for key in ("locations", "rotations")}
    return CellTemplates(
        waveforms=np.concatenate(waveforms).astype(np.float32, copy=False),
        cell_models=np.concatenate([group["cell_models"][:] for group in groups]).astype(str),
        is_far=np.repeat([False, True], [len(part) for part in waveforms]),
        channel_positions=file["channel_positions"][:],
        sampling_frequency=float(file.attrs["sampling_frequency"]),
        cut_out_ms=tuple(float(value) for value in file.attrs["cut_out_ms"]),
        electrodes=json.loads(file.attrs["electrodes"]),
        params=json.loads(file.attrs["params"]),
        source=str(file.attrs["source"]),
        licence=str(file.attrs["licence"]),
        **gather,
    )


def _read_mearec_file(file: "h5py.File") -> CellTemplates:
    params, electrodes = (_plain(file[f"info/{name}"]) for name in ("params", "electrodes"))
    return CellTemplates(
        waveforms=file["templates"][:].astype(np.float32, copy=False),
        locations=file["locations"][:],
        rotations=file["rotations"][:],
        cell_models=file["celltypes"][:].astype(str),
        is_far=np.zeros(len(file["templates"]), dtype=bool),
        channel_positions=_contact_positions(electrodes),
        sampling_frequency=1000.0 / float(params["dt"]),  # the time step is in ms
        cut_out_ms=tuple(float(value) for value in params["cut_out"]),
        electrodes=electrodes,
        params=params,
        source="MEArec template file",
    )


def _contact_positions(electrodes: dict) -> np.ndarray:
    try:
        import MEAutility
    except ImportError as error:
        raise MissingDependencyError("MEArec", "groundtruth") from error
    return np.asarray(MEAutility.return_mea(info=dict(electrodes)).positions, dtype=float)


def _plain(node):
    """Turn an HDF5 group or dataset of MEArec into plain Python values ("null" is MEArec's None)."""
    if hasattr(node, "items"):
        return {key: _plain(value) for key, value in node.items()}
    value = node[()]
    if isinstance(value, bytes):
        return None if value == b"null" else value.decode()
    return value.tolist() if hasattr(value, "tolist") else value
