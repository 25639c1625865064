"""Simulated photons and spikes as SpikeInterface objects: sites on a probe with one shank per cell, cells as units."""

from typing import TYPE_CHECKING

import numpy as np

from .imaging_cells import Cell

if TYPE_CHECKING:
    from spikeinterface.core import NumpyRecording, NumpySorting

__all__ = ["cell_names", "cell_sorting", "site_recording"]

CELL_DISTANCE_UM = 200.0


def cell_names(cells: list[Cell]) -> list[str]:
    """Unit ids of the cells."""
    return [f"cell{cell.index}" for cell in cells]


def site_recording(
    cells: list[Cell], traces: list[np.ndarray], sampling_frequency: float, gain: float, d_prime: np.ndarray
) -> "NumpyRecording":
    """Wrap the traces of all sites.

    Parameters
    ----------
    cells : list of Cell
        All with as many sites.
    traces : list of array, shape (num_channels, num_samples)
        One per segment; channels are all sites of the first cell, then those of the next.
    sampling_frequency : float
        In Hz.
    gain : float
        Photons per unit of the traces.
    d_prime : array, shape (num_channels,)
        Stored as a channel property.

    Returns
    -------
    NumpyRecording
        See ``VoltageImagingGroundTruth``.
    """
    from probeinterface import Probe
    from spikeinterface.core import NumpyRecording

    num_sites = len(cells[0].imaging)
    shank = np.repeat([cell.index for cell in cells], num_sites)
    names = np.repeat(cell_names(cells), num_sites)
    sites = np.tile(np.arange(num_sites), len(cells))
    ids = np.array([f"{name}_site{site}" for name, site in zip(names, sites, strict=True)])
    recording = NumpyRecording([part.T for part in traces], sampling_frequency=sampling_frequency, channel_ids=ids)
    probe = Probe(ndim=2, si_units="um")
    places = np.column_stack([shank * CELL_DISTANCE_UM, np.concatenate([cell.distances_um for cell in cells])])
    probe.set_contacts(places, shapes="circle", shape_params={"radius": 1.0}, shank_ids=shank.astype(str))
    probe.set_device_channel_indices(np.arange(len(ids)))
    recording.set_probe(probe, group_mode="by_shank")
    recording.set_channel_gains(gain)
    recording.set_channel_offsets(0.0)
    recording.set_property("cell", names)
    recording.set_property("site", sites)
    recording.set_property("d_prime", d_prime)
    return recording


def cell_sorting(cells: list[Cell], trains: list[dict[str, np.ndarray]], sampling_frequency: float) -> "NumpySorting":
    """Wrap the spikes of all cells.

    Parameters
    ----------
    cells : list of Cell
        In the order of the units.
    trains : list of dict
        Per segment, the samples of each cell's spikes, by :func:`cell_names`.
    sampling_frequency : float
        In Hz.

    Returns
    -------
    NumpySorting
        With as many segments as there are trains, and the property ``silent``.
    """
    from spikeinterface.core import NumpySorting, SpikeVectorSortingSegment

    sorting = NumpySorting.from_unit_dict(trains, sampling_frequency)
    # NumpySorting ends at the last segment that has a spike
    for segment in range(sorting.get_num_segments(), len(trains)):
        sorting.add_sorting_segment(SpikeVectorSortingSegment(sorting.to_spike_vector(), segment, sorting.unit_ids))
    sorting.set_property("silent", np.array([cell.silent for cell in cells]))
    return sorting
