"""Current-clamp sweeps from NWB files (HDF5), read by pynwb.

A response and its stimulus are paired by the file's table of intracellular recordings, else by their sweep number, else
by the number at the end of their names. Descriptions are not read: some files count them from another sweep.
"""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..nwbfiles import open_nwb
from .sweeps import CellSweeps, sweeps_from_arrays

if TYPE_CHECKING:
    from pynwb import NWBFile

__all__ = ["read_icephys_nwb", "sweeps_from_nwbfile"]


def read_icephys_nwb(
    path: str | Path,
    *,
    electrode: str | None = None,
    protocol: str | None = None,
    cell_id: str | None = None,
    units: str = "auto",
) -> CellSweeps:
    """Current-clamp sweeps of an NWB file.

    Parameters
    ----------
    path : str | Path
        The file.
    electrode : str, optional
        Which cell, by the name of its electrode; needed where there are several.
    protocol : str, optional
        Only sweeps whose ``stimulus_description`` contains this, in any case, for example "long square".
    cell_id : str, optional
        Default: the file's session id, else its identifier; with the electrode where there are several.
    units : "auto" | "mV" | "V" | "uV", default: "auto"
        Of the potentials after the file's own conversion to mV; see :func:`~.sweeps.sweeps_from_arrays`.

    Returns
    -------
    CellSweeps
        In the order of their starting times. Sweeps of another sampling rate than most are refused.

    Raises
    ------
    InputError
        When the file cannot be read, holds no current-clamp sweeps, or as :func:`~.sweeps.sweeps_from_arrays`.
    MissingDependencyError
        Without pynwb.
    """
    with open_nwb(path) as nwbfile:
        parts = _parts(nwbfile, Path(path).name, electrode, protocol, cell_id)
    return sweeps_from_arrays(**parts, units=units)


def sweeps_from_nwbfile(
    nwbfile: "NWBFile",
    *,
    electrode: str | None = None,
    protocol: str | None = None,
    cell_id: str | None = None,
    units: str = "auto",
) -> CellSweeps:
    """The same from an open file; parameters and errors as :func:`read_icephys_nwb`."""
    return sweeps_from_arrays(**_parts(nwbfile, "the NWB file", electrode, protocol, cell_id), units=units)


def _parts(nwbfile, name, electrode, protocol, cell_id):
    """What sweeps_from_arrays needs, read into memory."""
    from pynwb.icephys import CurrentClampSeries, CurrentClampStimulusSeries, IZeroClampSeries

    responses = [
        series
        for series in nwbfile.acquisition.values()
        if isinstance(series, CurrentClampSeries) and not isinstance(series, IZeroClampSeries)
    ]
    if protocol is not None:
        found = sorted({str(s.stimulus_description) for s in responses})
        responses = [s for s in responses if protocol.casefold() in str(s.stimulus_description).casefold()]
        if not responses:
            raise InputError(f"No sweep of {name} has {protocol!r} in its stimulus description; there are {found}.")
    electrodes = sorted({series.electrode.name for series in responses})
    if electrode is None and len(electrodes) > 1:
        raise InputError(f"{name} has sweeps of several electrodes, {electrodes}: give electrode, one cell at a time.")
    responses = [s for s in responses if electrode is None or s.electrode.name == electrode]
    if not responses:
        raise InputError(f"{name} has no current-clamp sweeps{f' of electrode {electrode!r}' if electrode else ''}.")
    responses = sorted(responses, key=lambda s: (_start(s), _trailing_number(s.name), s.name))
    rates = [_rate(series, name) for series in responses]
    rate = Counter(rates).most_common(1)[0][0]
    stimuli = [s for s in nwbfile.stimulus.values() if isinstance(s, CurrentClampStimulusSeries)]
    pairs = _pairs(nwbfile, responses, stimuli)
    refusals = [
        "" if one == rate else f"sampling rate: {one:g} Hz, where most sweeps of this cell have {rate:g} Hz"
        for one in rates
    ]
    known = cell_id or nwbfile.session_id or nwbfile.identifier
    return {
        "voltage": [_values(series, 1e3) for series in responses],
        "sampling_frequency": rate,
        "command_pa": [_current(pairs.get(series.name), series) for series in responses],
        "cell_id": known if cell_id or len(electrodes) == 1 else f"{known}_{electrode}",
        "refusals": refusals,
    }


def _start(series):
    return float(series.starting_time if series.timestamps is None else series.timestamps[0])


def _rate(series, name):
    """Hz, rounded to a millihertz: files compute it from intervals."""
    if series.rate is not None:
        return round(float(series.rate), 3)
    steps = np.diff(np.asarray(series.timestamps[:1000], dtype="float64"))
    if not len(steps) or not np.allclose(steps, np.median(steps), rtol=0.01):
        raise InputError(f"{series.name} of {name} has no regular sampling rate.")
    return round(float(1 / np.median(steps)), 3)


def _values(series, factor):
    """Numbers in ``factor`` parts of the SI unit."""
    offset = float(getattr(series, "offset", 0.0) or 0.0)
    return (np.asarray(series.data[:], dtype="float64").reshape(-1) * float(series.conversion) + offset) * factor


def _current(stimulus, response):
    """Current in pA with the samples of the response; None where they do not match."""
    if stimulus is None:
        return None
    current, length = _values(stimulus, 1e12), len(response.data)
    if stimulus.rate is not None and response.rate is not None and abs(stimulus.rate / response.rate - 1) > 1e-6:
        times = np.arange(length) / response.rate
        current = current[np.minimum((times * stimulus.rate + 1e-9).astype(int), len(current) - 1)]
    return current


def _pairs(nwbfile, responses, stimuli):
    """Stimulus of each response, by the response's name."""
    pairs = {}
    table = nwbfile.intracellular_recordings
    if table is not None:
        columns = table.category_tables["responses"]["response"], table.category_tables["stimuli"]["stimulus"]
        for (_, response_count, response), (_, stimulus_count, stimulus) in zip(*columns, strict=True):
            if response is not None and stimulus is not None and response_count and stimulus_count:
                pairs[response.name] = stimulus
    for key in (lambda s: s.sweep_number, lambda s: _trailing_number(s.name)):
        numbered = _by_key(stimuli, key)
        responses_by = _by_key(responses, key)
        for number, series in responses_by.items():
            if series.name not in pairs and number in numbered:
                pairs[series.name] = numbered[number]
    return pairs


def _by_key(series, key):
    """Series by a key that only one of them has."""
    keys = [(key(one), one) for one in series]
    counts = Counter(None if k is None else int(k) for k, _ in keys)
    return {int(k): one for k, one in keys if k is not None and int(k) >= 0 and counts[int(k)] == 1}


def _trailing_number(name):
    found = re.search(r"(\d+)\D*$", name)
    return int(found.group(1)) if found else -1
