"""Voltage-imaging recordings of dendrites in which the time of every event at every site is known.

A cell's membrane potential, simulated or measured, goes through dendrite, indicator and optics to photons. Its events
are known from the generation, and each is placed where the noise-free response of its site has its peak.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .imaging_cells import Cell, Movement, cell_potential, draw_cell, draw_movement, drawn_parameters
from .imaging_events import Arrival, local_potential, place_events
from .imaging_recording import cell_names, cell_sorting, site_recording
from .imaging_scan import Scan, check_cell_numbers, match_potentials, prepare_scan
from .indicator import isolated_response, site_activation
from .membrane_potential import MembranePotential, ap_window
from .optics import (
    ap_detectability,
    as_counts,
    bleaching,
    photon_factors,
    photons_from_activation,
    recorded_photons,
)
from .settings import DendriteSettings, ImagingSettings, IndicatorSettings, MembraneSettings, MotionSettings

if TYPE_CHECKING:
    from spikeinterface.core import NumpyRecording, NumpySorting

__all__ = ["VoltageImagingGroundTruth", "generate_voltage_imaging_recording"]


class VoltageImagingGroundTruth(NamedTuple):
    """A simulated recording and the truth about it.

    Attributes
    ----------
    recording : NumpyRecording
        One channel per site; scaled traces are photons per sample. Channel properties: ``cell`` (which unit of
        ``sorting``), ``site`` (0 is nearest to the soma), ``group`` (one per cell), ``d_prime``. On the probe each
        cell is a shank, 200 um from the next, and y is the distance from the soma in um.
    sorting : NumpySorting
        One unit per cell: its somatic action potentials at their electrical peak.
    events : structured array, VOLTAGE_EVENT_DTYPE
        One row per event and site where it arrives, sorted by segment, sample and channel. ``sample_index``: peak of
        the noise-free response of the indicator at this site, motion and bleaching aside. ``onset``, ``offset``
        (exclusive): half heights of the response that the event has when alone, not beyond the next event of its
        type. ``amplitude``: change of the expected photons from the foot to the peak, negative for ``polarity="neg"``.
        ``event_type``: "somatic_ap", "dendritic_spike" or "plateau" (spikes on a plateau have their own rows).
    noise_free : NumpyRecording
        The expected photons, float32.
    d_prime : float64 array, shape (num_channels,)
        Detectability of one isolated somatic action potential against shot noise; see ``optics.ap_detectability``.
        NaN for a measured cell without spikes.
    parameters : dict of structured arrays
        What was drawn: "cells", "sites" (in the order of the channels) and "segments".
    """

    recording: "NumpyRecording"
    sorting: "NumpySorting"
    events: np.ndarray
    noise_free: "NumpyRecording"
    d_prime: np.ndarray
    parameters: dict[str, np.ndarray]


def generate_voltage_imaging_recording(
    durations: Sequence[float] | float | None = None,
    sampling_frequency: float = 3328.0,
    num_cells: int | None = None,
    sites_per_cell: int = 4,
    *,
    num_silent_cells: int = 0,
    membrane_potential: Sequence[MembranePotential | Sequence[MembranePotential]] | None = None,
    membrane: MembraneSettings | None = None,
    dendrite: DendriteSettings | None = None,
    indicator: IndicatorSettings | None = None,
    imaging: ImagingSettings | None = None,
    motion: MotionSettings | None = None,
    polarity: str = "neg",
    noise: str = "shot",
    dtype: str = "float32",
    gain: float = 1.0,
    seed: int = 0,
) -> VoltageImagingGroundTruth:
    """Simulate voltage imaging of sites along dendrites, with every event known.

    Parameters
    ----------
    durations : sequence of float, optional
        Length of each segment in s, at least 0.1. Default: one segment of 10 s, or that of the potentials given. Every
        segment is a scan of its own: bleaching starts anew, and no event goes from one to the next.
    sampling_frequency : float, default: 3328.0
        In Hz, from 100 to 50,000. A sample is the mean over its whole interval, of a simulation at 20 kHz or more.
    num_cells : int, optional
        Number of cells. Default: 4, or as many as there are potentials.
    sites_per_cell : int, default: 4
        Sites along the dendrite of each.
    num_silent_cells : int, default: 0
        So many of the cells, the last ones, have no events at all.
    membrane_potential : sequence, optional
        One entry per cell in place of simulated cells: from ``membrane_potential_from_recording`` or
        ``as_membrane_potential``, or a list of those, one per segment. Longer ones are cut.
    membrane : MembraneSettings, optional
        What simulated cells are drawn from; not for potentials given.
    dendrite, indicator, imaging, motion : settings, optional
        What dendrites, indicators (per cell), light and noise (per site), and motion (per segment) are drawn from.
    polarity : {"neg", "pos"}, default: "neg"
        Whether the indicator dims or brightens on depolarisation.
    noise : {"shot", "denoised", "none"}, default: "shot"
        Poisson photons, the coloured residue that a denoiser leaves of them, or the expected photons.
    dtype : {"float32", "int16"}, default: "float32"
        Photons, or photons divided by ``gain`` and rounded.
    gain : float, default: 1.0
        Photons per count; only for "int16".
    seed : int, default: 0
        The same seed and arguments give the same result. A cell, a site, a segment stays as it is when there are
        more of them, and the truth when only noise or dtype change.

    Returns
    -------
    VoltageImagingGroundTruth

    Raises
    ------
    InputError
        If an argument is out of range, potentials and durations do not fit, or photons exceed what int16 holds.

    Notes
    -----
    The recording and its noise-free copy each take 4 bytes per sample and site: 64 sites for 10 minutes are twice
    0.5 GB. Of the fine simulation only one cell and site is held at a time.
    """
    given, durations, num_cells = match_potentials(membrane_potential, durations, num_cells, membrane)
    options = {"polarity": polarity, "noise": noise, "dtype": dtype, "gain": gain, "seed": seed}
    scan = prepare_scan(durations, sampling_frequency, given, **options)
    check_cell_numbers(num_cells, sites_per_cell, num_silent_cells, given=given is not None)
    settings = {
        "membrane": membrane or MembraneSettings(),
        "dendrite": dendrite or DendriteSettings(),
        "indicator": indicator or IndicatorSettings(),
        "imaging": imaging or ImagingSettings(),
    }
    cells = [
        draw_cell(
            scan,
            settings,
            index,
            sites_per_cell,
            given=None if given is None else given[index],
            silent=index >= num_cells - num_silent_cells,
        )
        for index in range(num_cells)
    ]
    movements = [draw_movement(scan, motion or MotionSettings(), segment) for segment in range(len(durations))]
    images = _image(scan, cells, movements)
    return VoltageImagingGroundTruth(
        recording=site_recording(cells, images.traces, scan.rate, scan.gain, images.d_prime),
        sorting=cell_sorting(cells, images.trains, scan.rate),
        events=images.events,
        noise_free=site_recording(cells, images.expected, scan.rate, 1.0, images.d_prime),
        d_prime=images.d_prime,
        parameters=drawn_parameters(cells, movements),
    )


class _Images(NamedTuple):
    """What imaging all cells gives; the lists are per segment, arrays in them of shape (num_channels, num_samples)."""

    traces: list[np.ndarray]
    expected: list[np.ndarray]
    trains: list[dict[str, np.ndarray]]
    events: np.ndarray
    d_prime: np.ndarray


def _image(scan: Scan, cells: list[Cell], movements: list[Movement]) -> _Images:
    """Image all cells, one after the other."""
    num_sites = len(cells[0].imaging)
    shapes = [(len(cells) * num_sites, len(movement.phase)) for movement in movements]
    traces = [np.empty(shape, dtype=scan.dtype) for shape in shapes]
    expected = [np.empty(shape, dtype=np.float32) for shape in shapes]
    trains, events = [{} for _ in movements], []
    d_prime = np.full((len(movements), len(cells) * num_sites), np.nan)
    for cell, name in zip(cells, cell_names(cells), strict=True):
        for segment, movement in enumerate(movements):
            potential = cell_potential(scan, cell, segment)
            trains[segment][name] = potential.spike_samples // scan.fine_steps
            for number in range(num_sites):
                channel = cell.index * num_sites + number
                out = expected[segment][channel]
                rows, d_prime[segment, channel] = _image_site(scan, cell, potential, number, segment, movement, out)
                rows["channel_index"], rows["segment_index"], rows["cell_index"] = channel, segment, cell.index
                events.append(rows)
                rng = scan.random("photons", cell.index, number, segment)
                photons = recorded_photons(rng, out, scan.noise, cell.imaging[number])
                traces[segment][channel] = as_counts(photons, scan.gain) if scan.dtype == "int16" else photons
    events = np.concatenate(events)
    events = events[np.lexsort((events["channel_index"], events["sample_index"], events["segment_index"]))]
    # of the first segment in which the action potential of a cell is known
    first = (~np.isnan(d_prime)).argmax(axis=0)
    return _Images(traces, expected, trains, events, d_prime[first, np.arange(len(first))])


def _image_site(
    scan: Scan,
    cell: Cell,
    potential: MembranePotential,
    number: int,
    segment: int,
    movement: Movement,
    out: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Fill in the expected photons of a site, and return its events and d'."""
    site = cell.site(number, potential.resting_mv)
    photons = {**cell.imaging[number], "modulation": cell.indicator["modulation"]}
    local_mv, arrivals = local_potential(scan, cell, potential, number, site)
    activation = site_activation(
        potential.soma_mv, scan.fine_rate, site, local_mv=local_mv, samples_per_mean=scan.fine_steps
    )
    brightness = bleaching(np.arange(len(out)) / scan.rate, photons)
    rng = scan.random("brightness", cell.index, number, segment)
    factors = photon_factors(rng, movement.motion_um, movement.phase, scan.rate, photons)
    at_rest = site.activation_at_rest
    out[:] = factors * photons_from_activation(activation, at_rest, photons, scan.sign, brightness)
    d_prime = np.nan
    if potential.ap_mv is not None:
        peak = ap_window(scan.fine_rate)[0]
        response = isolated_response(potential.ap_mv, peak, scan.fine_rate, scan.fine_steps, site)
        d_prime = ap_detectability(response, at_rest, photons, scan.sign)
        arrivals += [Arrival(sample, "somatic_ap", response) for sample in potential.spike_samples]
    return place_events(scan, arrivals, activation, out), d_prime
