"""The events of one site: what its dendrite adds there, and when and how large each event is in its photons.

An event lies at the peak of the noise-free response, as near to where that would be, were the event alone, as other
events let it be.
"""

import math
from typing import NamedTuple

import numpy as np

from .imaging_cells import Cell
from .imaging_scan import Scan
from .indicator import IsolatedResponse, Site, isolated_response
from .membrane_potential import MembranePotential, local_waveform

__all__ = ["VOLTAGE_EVENT_DTYPE", "Arrival", "local_potential", "place_events"]

# SI's peaks with an interval, as the event detectors return them (there is no probability: these are certain)
VOLTAGE_EVENT_DTYPE = np.dtype(
    [
        ("sample_index", "int64"),
        ("channel_index", "int64"),
        ("amplitude", "float64"),
        ("segment_index", "int64"),
        ("onset", "int64"),
        ("offset", "int64"),
        ("cell_index", "int64"),
        ("event_type", "U16"),
    ]
)
# How far the peak of a response may lie from where it would be, were the event alone.
SEARCH_MS = 1.5


class Arrival(NamedTuple):
    """An event that a site sees.

    Attributes
    ----------
    fine_sample : int
        Its electrical peak at the soma, or where the dendrite makes it, on the fine grid.
    event_type : str
        As in VOLTAGE_EVENT_DTYPE.
    response : IsolatedResponse
        Of this site to the event alone.
    """

    fine_sample: int
    event_type: str
    response: IsolatedResponse


def local_potential(
    scan: Scan, cell: Cell, potential: MembranePotential, number: int, site: Site
) -> tuple[np.ndarray | None, list[Arrival]]:
    """What the dendrite adds at a site in mV (None where it has no events), and the events that the site has."""
    events = potential.events[potential.events["event_type"] != "somatic_ap"]
    if not len(events):
        return None, []
    local = np.zeros(len(potential.soma_mv), dtype=np.float32)
    arrivals = []
    for event in events:
        share = _local_share(cell, event, number)
        if share == 0:
            continue
        wave = np.float32(share) * local_waveform(event, scan.fine_rate)
        start = event["onset"]
        local[start : start + len(wave)] += wave[: len(local) - start]
        peak = event["sample_index"] - start
        response = isolated_response(wave, peak, scan.fine_rate, scan.fine_steps, site, local=True)
        arrivals.append(Arrival(event["sample_index"], str(event["event_type"]), response))
    return local, arrivals


def place_events(scan: Scan, arrivals: list[Arrival], activation: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Find the events of one site in its noise-free response.

    Parameters
    ----------
    scan : Scan
        Its rates.
    arrivals : list of Arrival
        What the site sees.
    activation, expected : array, shape (num_samples,)
        Activation of its indicator, in which the peaks are sought, and its expected photons.

    Returns
    -------
    structured array, VOLTAGE_EVENT_DTYPE
        Those whose response has its peak within the segment; of segment, channel and cell nothing is said.
    """
    rows = _rows_alone(scan, arrivals)
    rows = rows[(rows["sample_index"] >= 0) & (rows["sample_index"] < len(activation))]
    reach = math.ceil(SEARCH_MS * 1e-3 * scan.rate)
    for event_type in np.unique(rows["event_type"]):
        chosen = np.flatnonzero(rows["event_type"] == event_type)
        chosen = chosen[np.argsort(rows["sample_index"][chosen], kind="stable")]
        rows[chosen] = _moved_to_peaks(rows[chosen], reach, activation, expected)
    return rows


def _local_share(cell: Cell, event: np.void, number: int) -> float:
    """Share of a dendritic event's amplitude that a site has.

    A plateau is largest at the last site. A dendritic spike is only on its stretch, without a passive spread beyond:
    each site either has it or not.
    """
    distances = cell.distances_um
    if event["event_type"] == "plateau":
        return math.exp((distances[number] - distances[-1]) / cell.dendrite["attenuation_length_um"])
    center = min(int(event["place"] * len(distances)), len(distances) - 1)
    away, reach = abs(distances[number] - distances[center]), event["extent_um"] / 2
    return 0.0 if away > reach else 1.0 - 0.4 * (away / reach if reach > 0 else 0.0)


def _rows_alone(scan: Scan, arrivals: list[Arrival]) -> np.ndarray:
    """Peak and half heights of each event as if it were alone."""
    rows = np.zeros(len(arrivals), dtype=VOLTAGE_EVENT_DTYPE)
    for row, (fine_sample, event_type, response) in zip(rows, arrivals, strict=True):
        at = (fine_sample + 0.5) / scan.fine_steps
        row["event_type"] = event_type
        row["sample_index"] = math.floor(at + response.peak * scan.rate)
        row["onset"] = math.floor(at + response.onset * scan.rate)
        row["offset"] = math.floor(at + response.offset * scan.rate) + 1
    return rows


def _moved_to_peaks(rows: np.ndarray, reach: int, activation: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Events of one type in order, each at the largest activation within its reach, a plateau within its interval."""
    num_samples = len(activation)
    alone, onset = rows["sample_index"], rows["onset"]
    following = np.append(onset[1:], num_samples)
    if rows["event_type"][0] == "plateau":
        first, last = onset, rows["offset"]
    else:
        first, last = np.maximum(alone - reach, onset), np.minimum(alone + reach + 1, following)
    first, last = np.clip(np.minimum(first, alone), 0, None), np.clip(np.maximum(last, alone + 1), 0, num_samples)
    peak = _largest(activation, first, last)
    foot = _largest(-activation, np.clip(onset - reach, 0, None), np.maximum(onset + 1, 1))
    moved = rows.copy()
    moved["sample_index"] = peak
    moved["amplitude"] = expected[peak].astype(float) - expected[foot]
    moved["onset"] = np.clip(np.minimum(onset, peak), 0, None)
    moved["offset"] = np.maximum(np.minimum(rows["offset"], following), peak + 1)
    return moved


def _largest(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Index of the largest of values[first[k]:last[k]], for each k."""
    return np.array([a + values[a:b].argmax() for a, b in zip(first, last, strict=True)], dtype=np.int64)
