"""Sessions from NWB files: units, where they lie, and events; spike times stay on the disk until they are asked for.

Files differ in where they say which region a unit is in. The first of these that names a region for any unit is used,
for all units:

1. a column of the units ("brain_area", "acronym", "region", "location", ...; for other levels "beryl_location", ...);
2. the same column of the electrodes, at the electrode named by ``peak_channel_id`` (Allen: an electrode id), else by
   ``max_electrode`` (IBL: a row of the electrodes), else by the reference ``electrodes`` (the first one of a unit, or
   the one where ``waveform_mean`` is largest, when there is one waveform per reference);
3. the location of the unit's electrode group, which is often only what was aimed at.

Depth is the distance from the tip of the shank, in um: ``distance_from_probe_tip_um`` or ``depth_um`` of the unit, else
``rel_y`` or ``probe_vertical_position`` of its electrode.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..nwbfiles import open_nwb
from .dataset_table import plain_column
from .hierarchy import clean_acronym
from .nwb_electrodes import electrode_rows, shank_names, unit_templates
from .nwb_events import event_onsets
from .session import Session

if TYPE_CHECKING:
    from pynwb import NWBFile

__all__ = ["open_nwb_session", "read_nwb_session"]

_LEVELS = {
    "acronym": ("brain_area", "acronym", "structure_acronym", "ecephys_structure_acronym", "region", "location"),
    "beryl": ("beryl_location", "beryl_acronym", "beryl"),
    "cosmos": ("cosmos_location", "cosmos_acronym", "cosmos"),
}
_UNIT_DEPTHS = ("distance_from_probe_tip_um", "depth_um")
_ELECTRODE_DEPTHS = ("rel_y", "probe_vertical_position")
# our name: theirs
_KEPT = {
    "snr": ("snr", "SNR"),
    "isi_violations_ratio": ("isi_violations_ratio", "isi_violations"),
    "firing_rate": ("firing_rate",),
    "waveform_width_ms": ("waveform_duration", "peak_to_trough_duration_ms"),
    "waveform_amplitude_uv": ("amplitude",),
}


@contextmanager
def open_nwb_session(path: str | Path, **settings: Any) -> Iterator[Session]:
    """Open an NWB file (HDF5) as a session; its spike times can be read until the block ends.

    Parameters
    ----------
    path : str | Path
        The file.
    **settings
        As for :func:`read_nwb_session`.

    Yields
    ------
    Session

    Raises
    ------
    InputError
        When there is no such file, it cannot be read, or something asked for is not in it.
    MissingDependencyError
        Without pynwb.
    """
    with open_nwb(path) as nwbfile:
        yield read_nwb_session(nwbfile, name=Path(path).name, **settings)


def read_nwb_session(
    nwbfile: "NWBFile",
    *,
    name: str = "the NWB file",
    region: str | None = "acronym",
    stimulus: str | None = "auto",
    onset: str = "auto",
    where: Mapping[str, Any] | None = None,
    subject: str | None = None,
    recording: str | None = None,
    extra_columns: tuple[str, ...] | list[str] = (),
    waveform_sampling_frequency: float | None = None,
) -> Session:
    """An open NWB file as a session.

    Parameters
    ----------
    nwbfile : NWBFile
        It must stay open as long as spike times are read.
    name : str
        What messages call the file.
    region : "acronym" | "beryl" | "cosmos" | str | None, default: "acronym"
        What becomes the label: one of the levels, or any column of the units or electrodes. None: no labels.
    stimulus, onset, where
        Which events; see :func:`~.nwb_events.event_onsets`.
    subject : str, optional
        Default: ``nwbfile.subject.subject_id``.
    recording : str, optional
        Default: ``session_id``, else ``identifier``.
    extra_columns : sequence of str
        Further columns of the units to keep.
    waveform_sampling_frequency : float, optional
        Of ``waveform_mean``, in Hz. Default: the ``waveform_rate`` of the units; where neither is known, widths are
        taken from the columns of the units, if there are any.

    Returns
    -------
    Session
        Every level of region that the file has is a column too.

    Raises
    ------
    InputError
        When there are no units or spike times, no subject, or no region column.
    """
    import pandas as pd

    units = nwbfile.units
    if units is None or not len(units):
        raise InputError(f"{name} has no units.")
    rows = electrode_rows(nwbfile, name)
    columns = {
        "subject": _subject(nwbfile, name) if subject is None else str(subject),
        "recording": str(recording or nwbfile.session_id or nwbfile.identifier),
        "unit_id": np.asarray(units.id[:]),
        "shank": shank_names(nwbfile, rows),
        "lab": nwbfile.lab or nwbfile.institution or "",
        "depth_um": _depths(nwbfile, rows),
    }
    levels = {level: _labels(nwbfile, rows, names) for level, names in _LEVELS.items()}
    columns |= {level: labels for level, labels in levels.items() if labels is not None}
    columns["region"] = _region(nwbfile, rows, region, levels, name)
    for ours, theirs in _KEPT.items():
        found = next((one for one in theirs if one in units.colnames), None)
        if found:
            columns[ours] = pd.to_numeric(pd.Series(units[found].data[:]), errors="coerce").to_numpy()
    for extra in extra_columns:
        if extra not in units.colnames:
            raise InputError(f"The units of {name} have no column {extra!r}. They have {list(units.colnames)}.")
        columns[extra] = plain_column(units[extra].data[:], extra)
    spike_times, offsets = _spikes(units, name)
    return Session(
        units=pd.DataFrame(columns),
        spike_times=spike_times,
        offsets=offsets,
        duration_s=_duration(spike_times, offsets),
        onsets_s=event_onsets(nwbfile, stimulus, onset=onset, where=where),
        templates=unit_templates(nwbfile, rows, waveform_sampling_frequency),
    )


def _subject(nwbfile, name):
    found = None if nwbfile.subject is None else nwbfile.subject.subject_id
    if not found:
        raise InputError(
            f"{name} does not say which subject was recorded (nwbfile.subject.subject_id). Units are kept apart by "
            "subject when a classifier is judged: pass subject=."
        )
    return str(found)


def _spikes(units, name):
    """The stored spike times, one dataset, and where each unit begins in it."""
    if "spike_times" not in units.colnames:
        raise InputError(f"The units of {name} have no spike_times. They have {list(units.colnames)}.")
    index = units["spike_times"]
    if not hasattr(index, "target"):
        raise InputError(f"The spike_times of {name} are not stored unit after unit (they have no index).")
    return index.target.data, np.concatenate([[0], np.asarray(index.data[:], dtype="int64")])


def _duration(spike_times, offsets):
    """From the first spike of any unit to the last, in s: NWB does not say how long a session lasted."""
    filled = np.flatnonzero(np.diff(offsets))
    if not len(filled):
        raise InputError("No unit has a spike.")
    first = min(float(spike_times[int(k)]) for k in offsets[filled])
    last = max(float(spike_times[int(k) - 1]) for k in offsets[filled + 1])
    return max(last - first, 1e-3)


def _labels(nwbfile, rows, names):
    """Labels of the first source that names any region, or None."""
    units, electrodes = nwbfile.units, nwbfile.electrodes
    sources = [units[one].data[:] for one in names if one in units.colnames]
    if rows is not None:
        stored = [electrodes[one].data[:] for one in names if one in electrodes.colnames]
        sources += [[values[row] if row >= 0 else "" for row in rows] for values in stored]
    if "location" in names:
        groups = _groups(nwbfile, rows)
        sources += [[group.location if group is not None else "" for group in groups]] if groups else []
    for source in sources:
        labels = [clean_acronym(value) for value in source]
        if any(labels):
            return np.array(labels, dtype=str)
    return None


def _groups(nwbfile, rows):
    if "electrode_group" in nwbfile.units.colnames:
        return list(nwbfile.units["electrode_group"].data[:])
    if rows is not None and "group" in nwbfile.electrodes.colnames:
        groups = nwbfile.electrodes["group"].data
        return [groups[int(row)] if row >= 0 else None for row in rows]
    return []


def _region(nwbfile, rows, region, levels, name):
    if region is None:
        return ""
    labels = levels[region] if region in levels else _labels(nwbfile, rows, (region,))
    if labels is None:
        units = list(nwbfile.units.colnames)
        electrodes = [] if nwbfile.electrodes is None else list(nwbfile.electrodes.colnames)
        looked = _LEVELS.get(region, (region,))
        raise InputError(
            f"{name} names no region at the level {region!r}: none of the columns {', '.join(looked)} of the units "
            f"({units}), or of the electrodes they refer to ({electrodes}), holds one. Pass region= another column, or "
            "region=None for units without labels."
        )
    return labels


def _depths(nwbfile, rows):
    units, electrodes = nwbfile.units, nwbfile.electrodes
    for name in _UNIT_DEPTHS:
        if name in units.colnames:
            depths = np.asarray(units[name].data[:], dtype="float64")
            if np.isfinite(depths).any():
                return depths
    for name in _ELECTRODE_DEPTHS if rows is not None else ():
        if name in electrodes.colnames:
            stored = np.append(np.asarray(electrodes[name].data[:], dtype="float64"), np.nan)
            # a row of -1, no electrode, takes the NaN at the end
            if np.isfinite(stored[rows]).any():
                return stored[rows]
    return np.full(len(units), np.nan)
