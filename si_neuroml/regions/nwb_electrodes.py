"""Which electrode each unit of an NWB file is on, on which shank, and its average waveform."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from .session import UnitTemplates

if TYPE_CHECKING:
    from pynwb import NWBFile

__all__ = ["electrode_rows", "shank_names", "unit_templates"]

_SHANKS = ("shank", "shank_id", "shank_ids", "probe_shank", "shank_index")
_MICROVOLTS = ("microvolts", "microvolt", "uv", "µv")


def electrode_rows(nwbfile: "NWBFile", name: str = "the NWB file") -> np.ndarray | None:
    """Row in the table of electrodes of the electrode of each unit.

    Parameters
    ----------
    nwbfile : NWBFile
        An open file with units.
    name : str
        What warnings call the file.

    Returns
    -------
    int64 array, shape (num_units,), or None
        -1 where a unit has none; None where units do not refer to electrodes at all.
    """
    units, electrodes = nwbfile.units, nwbfile.electrodes
    if electrodes is None:
        return None
    if "peak_channel_id" in units.colnames:
        rows_of = {int(one): row for row, one in enumerate(electrodes.id[:])}
        rows = [rows_of.get(one, -1) for one in _whole_numbers(units["peak_channel_id"].data[:])]
    elif "max_electrode" in units.colnames:
        rows = [one if one < len(electrodes) else -1 for one in _whole_numbers(units["max_electrode"].data[:])]
    elif "electrodes" in units.colnames:
        rows = _peak_references(units)
    else:
        return None
    rows = np.array(rows, dtype="int64")
    if lost := int((rows < 0).sum()):
        warnings.warn(f"{lost} of {len(rows)} units of {name} refer to no electrode that is there.", stacklevel=2)
    return np.maximum(rows, -1)


def shank_names(nwbfile: "NWBFile", rows: np.ndarray | None) -> np.ndarray:
    """Name of the probe, and of the shank where a probe has several, of each unit; "" where unknown."""
    units, electrodes = nwbfile.units, nwbfile.electrodes
    probes = np.full(len(units), "", dtype=object)
    if rows is not None and "group_name" in electrodes.colnames:
        probes = _at(electrodes["group_name"].data[:], rows)
    elif "probe_name" in units.colnames:
        probes = np.array([_text(one) for one in units["probe_name"].data[:]], dtype=object)
    elif "electrode_group" in units.colnames:
        probes = np.array([group.name for group in units["electrode_group"].data[:]], dtype=object)
    column = None if rows is None else next((one for one in _SHANKS if one in electrodes.colnames), None)
    if column is not None:
        shanks = _at(electrodes[column].data[:], rows)
        if len(set(shanks)) > 1:
            probes = np.array([f"{probe}:{shank}" for probe, shank in zip(probes, shanks, strict=True)], dtype=object)
    return probes.astype(str)


def unit_templates(
    nwbfile: "NWBFile", rows: np.ndarray | None, sampling_frequency: float | None = None
) -> UnitTemplates | None:
    """Average waveforms of the units, in uV, or None where they or their sampling rate are not in the file.

    ``waveform_mean`` should be in volts; files with values beyond 0.1 are taken as uV, whatever they say.
    """
    units = nwbfile.units
    rate = sampling_frequency or units.waveform_rate
    if "waveform_mean" not in units.colnames or not rate or hasattr(units["waveform_mean"], "target"):
        return None
    waveforms = np.asarray(units["waveform_mean"].data[:], dtype="float32")
    if waveforms.ndim not in (2, 3):
        return None
    locations = _channel_locations(nwbfile, waveforms.shape[2]) if waveforms.ndim == 3 else None
    waveforms = waveforms.reshape(*waveforms.shape[:2], -1)
    in_volts = (units.waveform_unit or "volts").lower() not in _MICROVOLTS
    if in_volts and not np.nanmax(np.abs(waveforms), initial=0.0) > 0.1:
        waveforms *= 1e6
    return UnitTemplates(waveforms, float(rate), locations)


def _peak_references(units):
    """The first electrode of each unit, or the one with the largest average waveform, if there is one for each."""
    references = units["electrodes"]
    if not hasattr(references.target, "target") and not hasattr(references, "target"):
        return [-1] * len(units)
    table = np.asarray(references.target.data[:], dtype="int64")
    ends = np.asarray(references.data[:], dtype="int64")
    starts = np.concatenate([[0], ends[:-1]])
    waveforms = None
    if "waveform_mean" in units.colnames and not hasattr(units["waveform_mean"], "target"):
        waveforms = np.asarray(units["waveform_mean"].data[:])
    rows = []
    for unit, (start, end) in enumerate(zip(starts, ends, strict=True)):
        place = 0
        if waveforms is not None and waveforms.ndim == 3 and waveforms.shape[2] == end - start > 0:
            heights = np.ptp(waveforms[unit], axis=0)
            place = int(np.nanargmax(heights)) if np.isfinite(heights).any() else 0
        rows.append(int(table[start + place]) if end > start else -1)
    return rows


def _channel_locations(nwbfile, num_channels):
    """Places of each unit's channels, (num_units, num_channels, 2) in um, where all units refer to all of theirs."""
    units, electrodes = nwbfile.units, nwbfile.electrodes
    axes = [("rel_x", "rel_y"), ("probe_horizontal_position", "probe_vertical_position")]
    names = next((pair for pair in axes if electrodes is not None and set(pair) <= set(electrodes.colnames)), None)
    if names is None or "electrodes" not in units.colnames:
        return None
    references = units["electrodes"]
    if (np.diff(np.asarray(references.data[:]), prepend=0) != num_channels).any():
        return None
    table = np.asarray(references.target.data[:], dtype="int64")
    places = np.column_stack([np.asarray(electrodes[name].data[:], dtype="float64") for name in names])
    return places[table].reshape(len(units), num_channels, 2)


def _whole_numbers(values):
    """Values as int, -1 where missing."""
    numbers = np.asarray(values, dtype="float64")
    return np.where(np.isnan(numbers), -1, numbers).astype("int64").tolist()


def _at(values, rows):
    return np.array([_text(values[row]) if row >= 0 else "" for row in rows], dtype=object)


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
