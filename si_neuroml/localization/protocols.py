"""Peaks for scoring localizers on a recording with known spikes: what a localizer is told of each true spike.

"paper"
    Centre channel among those nearest the *true soma* (Hurwitz et al. 2019, as far as their code tells). It keeps
    neighbours' spikes out, no real recording offers it, and it makes numbers comparable with the paper's.
"sorted"
    Centre channel near the main channel of the unit's mean waveform, for every true spike: what is localized after
    spike sorting.
"detected"
    Peaks that SpikeInterface's ``locally_exclusive`` really finds, matched to the true spikes; missed spikes are not
    localized. Learning the truth's *times and units* is needed to know whose peak it is; its places are not looked at.
"""

from typing import Any, NamedTuple

import numpy as np
from spikeinterface.core import BaseRecording, BaseSorting, get_noise_levels
from spikeinterface.core.node_pipeline import base_peak_dtype

from ..errors import InputError
from .evaluation import lowest_troughs, match_peaks, nearest_contacts
from .recordings import sort_peaks, trace_info

__all__ = ["PROTOCOLS", "GroundTruthPeaks", "gt_peaks"]

PROTOCOLS = ("paper", "sorted", "detected")
CHUNK_S = 1.0
# spikes per unit that enter the mean waveform
MEAN_SPIKES = 200


class GroundTruthPeaks(NamedTuple):
    """True spikes as a localizer gets to see them.

    Attributes
    ----------
    peaks : structured array, shape (num_peaks,)
        As from ``detect_peaks()``, sorted by segment and sample; amplitude in uV where the recording has gains.
    unit_index : int array, shape (num_peaks,)
        The true unit of each peak.
    num_true_spikes : int
        Spikes in the sorting; more than the peaks where a protocol misses some.
    """

    peaks: np.ndarray
    unit_index: np.ndarray
    num_true_spikes: int


def gt_peaks(
    recording: BaseRecording,
    sorting: BaseSorting,
    *,
    protocol: str = "detected",
    num_nearest: int = 10,
    window_ms: float | None = None,
    radius_um: float | None = None,
    detect_kwargs: dict[str, Any] | None = None,
    job_kwargs: dict[str, Any] | None = None,
    seed: int = 0,
) -> GroundTruthPeaks:
    """Peaks of the true spikes of a recording, centred by one of the protocols of this module.

    Parameters
    ----------
    recording : BaseRecording
        Filtered, with a probe.
    sorting : BaseSorting
        The true spikes. "paper" reads the unit property ``gt_unit_locations``, the others do not.
    protocol : "paper" | "sorted" | "detected", default: "detected"
        See the module.
    num_nearest : int, default: 10
        "paper": channels nearest the soma among which the centre is sought.
    window_ms : float, optional
        Largest distance in time between the true spike and its trough or peak. Default: 5/32 for "paper" (5 samples, as
        in the authors' code), 0.5 for the others.
    radius_um : float, optional
        Largest distance of the centre from the main channel of the unit's mean waveform. Default: 50 for "sorted", 75
        for "detected".
    detect_kwargs : dict, optional
        "detected": parameters of ``locally_exclusive``, for example ``detect_threshold``.
    job_kwargs : dict, optional
        SpikeInterface's job_kwargs for the detection.
    seed : int, default: 0
        Of the spikes in the mean waveforms, and of the slices in which the detector's noise levels are measured.

    Returns
    -------
    GroundTruthPeaks

    Raises
    ------
    InputError
        On an unknown protocol, no spikes, different sampling rates, or a missing ``gt_unit_locations``.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {PROTOCOLS}, got {protocol!r}.")
    if sorting.get_sampling_frequency() != recording.get_sampling_frequency():
        raise InputError(
            f"The sorting has {sorting.get_sampling_frequency():g} Hz, the recording "
            f"{recording.get_sampling_frequency():g} Hz."
        )
    spikes = sorting.to_spike_vector()
    if not len(spikes):
        raise InputError("The sorting has no spikes.")
    contacts = trace_info(recording).contact_locations
    if window_ms is None:
        window_ms = 5 / 32 if protocol == "paper" else 0.5
    half_window = max(1, round(window_ms * recording.get_sampling_frequency() / 1000.0))
    if protocol == "paper":
        candidates = nearest_contacts(_true_locations(sorting), contacts, num_nearest)
        return _centred(recording, spikes, candidates, half_window)
    main_channels = _main_channels(recording, spikes, sorting.get_num_units(), half_window, seed)
    if protocol == "sorted":
        near = _channels_within(contacts, 50.0 if radius_um is None else radius_um)
        return _centred(recording, spikes, near[main_channels], half_window)
    peaks = _detect(recording, detect_kwargs or {}, job_kwargs or {}, seed)
    matched = np.full(len(spikes), -1, dtype="int64")
    for segment in range(recording.get_num_segments()):
        own_spikes = np.flatnonzero(spikes["segment_index"] == segment)
        own_peaks = np.flatnonzero(peaks["segment_index"] == segment)
        found = match_peaks(
            peaks["sample_index"][own_peaks],
            contacts[peaks["channel_index"][own_peaks]],
            spikes["sample_index"][own_spikes],
            contacts[main_channels[spikes["unit_index"][own_spikes]]],
            max_samples=half_window,
            max_distance_um=75.0 if radius_um is None else radius_um,
        )
        matched[own_spikes[found >= 0]] = own_peaks[found[found >= 0]]
    hit = np.flatnonzero(matched >= 0)
    hit = hit[np.argsort(matched[hit], kind="stable")]
    return GroundTruthPeaks(peaks[matched[hit]], spikes["unit_index"][hit], len(spikes))


def _centred(recording, spikes, candidates, half_window):
    peaks = np.zeros(len(spikes), dtype=base_peak_dtype)
    peaks["segment_index"] = spikes["segment_index"]
    for traces, first, own in _chunks(recording, spikes, half_window):
        samples, peaks["channel_index"][own], peaks["amplitude"][own] = lowest_troughs(
            traces, spikes["sample_index"][own] - first, candidates[spikes["unit_index"][own]], half_window
        )
        peaks["sample_index"][own] = samples + first
    # troughs of near spikes may come in another order than the true times
    order = np.lexsort((peaks["sample_index"], peaks["segment_index"]))
    return GroundTruthPeaks(peaks[order], spikes["unit_index"][order], len(spikes))


def _main_channels(recording, spikes, num_units, half_window, seed):
    """The channel with the lowest mean waveform of each unit, from the traces alone."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(spikes), dtype=bool)
    for unit in np.unique(spikes["unit_index"]):
        own = np.flatnonzero(spikes["unit_index"] == unit)
        chosen[own if len(own) <= MEAN_SPIKES else rng.choice(own, MEAN_SPIKES, replace=False)] = True
    some = spikes[chosen]
    sums = np.zeros((num_units, 2 * half_window + 1, recording.get_num_channels()))
    for traces, first, own in _chunks(recording, some, half_window):
        for sample, unit in zip(some["sample_index"][own] - first, some["unit_index"][own], strict=True):
            window = traces[max(sample - half_window, 0) : sample + half_window + 1]
            if len(window) == sums.shape[1]:  # else at the very end of a segment
                sums[unit] += window
    return sums.min(axis=1).argmin(axis=1)


def _chunks(recording, spikes, margin):
    """(traces in uV, their first frame, the spikes in the chunk) all along the recording."""
    size = max(1, round(CHUNK_S * recording.get_sampling_frequency()))
    in_uv = recording.has_scaleable_traces()
    for segment in range(recording.get_num_segments()):
        start_spike = np.searchsorted(spikes["segment_index"], segment, side="left")
        samples = spikes["sample_index"][spikes["segment_index"] == segment]
        length = recording.get_num_samples(segment)
        for start in range(0, length, size):
            lo, hi = np.searchsorted(samples, (start, start + size))
            if lo == hi:
                continue
            first, last = max(start - margin, 0), min(start + size + margin + 1, length)
            traces = recording.get_traces(segment_index=segment, start_frame=first, end_frame=last, return_in_uV=in_uv)
            yield traces, first, slice(start_spike + lo, start_spike + hi)


def _channels_within(contacts, radius_um):
    """For each channel the channels within a radius, padded with -1: int array, shape (num_channels, most)."""
    within = np.linalg.norm(contacts[:, None] - contacts[None], axis=2) <= radius_um
    padded = np.full((len(contacts), within.sum(axis=1).max()), -1, dtype="int64")
    for channel, row in enumerate(within):
        padded[channel, : row.sum()] = np.flatnonzero(row)
    return padded


def _detect(recording, detect_kwargs, job_kwargs, seed):
    from spikeinterface.sortingcomponents.peak_detection import detect_peaks

    if "noise_levels" not in detect_kwargs:
        # recomputed, so that a seed gives the same peaks whatever was cached with the recording before
        noise = get_noise_levels(
            recording,
            return_in_uV=False,
            force_recompute=True,
            random_slices_kwargs={"seed": seed},
            progress_bar=False,
        )
        detect_kwargs = {**detect_kwargs, "noise_levels": noise}
    return sort_peaks(
        detect_peaks(
            recording,
            method="locally_exclusive",
            method_kwargs={"peak_sign": "neg", **detect_kwargs},
            job_kwargs={"n_jobs": 1, "progress_bar": False, **job_kwargs},
        )
    )


def _true_locations(sorting):
    places = sorting.get_property("gt_unit_locations")
    if places is None:
        raise InputError(
            'protocol="paper" needs the unit property "gt_unit_locations" (x, y, z in um); '
            f"the sorting has {sorting.get_property_keys()}."
        )
    return np.asarray(places, dtype="float64")
