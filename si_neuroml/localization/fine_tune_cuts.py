"""What fine-tuning takes from a recording: its clear spikes, ordinary ones, and stretches with and without others.

A spike is clear when its trough stands far above the noise, no other peak was detected near it, and the model is sure
that it is one cell's and where it lies.
"""

from typing import NamedTuple

import numpy as np
from spikeinterface.core import BaseRecording, get_random_data_chunks
from spikeinterface.core.node_pipeline import PeakRetriever, PipelineNode, base_peak_dtype, run_node_pipeline

from ..errors import InputError
from .contact_plane import NearestGeometry, nearest_geometry
from .fine_tune_copies import Cuts, count_near
from .neural_posterior import PreparedPosterior
from .patches import extract_patches, positive_peaks
from .recordings import TraceInfo

__all__ = ["Material", "collect_material"]

MAX_SURVEYED = 20_000
MIN_CLEAR_SPIKES = 100
CLEAR_SNR, CLEAR_OUTLIER, CLEAR_STD_UM = 10.0, 0.3, 20.0
ISOLATION_MS, ISOLATION_UM = 1.0, 100.0
# a stretch is background when no peak is detected this near its channel, and may hold a collision from this near
BACKGROUND_UM, COLLISION_UM = 60.0, 80.0
MIN_BACKGROUND, MIN_COLLISIONS = 16, 8
# of a copy, the trough is sought within this time of the original's
MARGIN_MS = 0.3


class Material(NamedTuple):
    """Cuts of a recording to learn from.

    Attributes
    ----------
    clear, plain, background, collisions : Cuts
        Clear spikes, ordinary spikes of all sizes, stretches without and with other spikes.
    clear_depths, depths : float arrays
        Trough depths in uV, of the clear spikes and of all peaks.
    wide : NearestGeometry
        Slots of the cuts.
    margin : int
        Samples by which cuts exceed the model's window at either end.
    counts : dict of int
        Peaks, and how many passed each condition.
    """

    clear: Cuts
    plain: Cuts
    background: Cuts
    collisions: Cuts
    clear_depths: np.ndarray
    depths: np.ndarray
    wide: NearestGeometry
    margin: int
    counts: dict[str, int]


def collect_material(
    recording: BaseRecording,
    peaks: np.ndarray,
    info: TraceInfo,
    prepared: PreparedPosterior,
    *,
    peak_sign: str,
    max_spikes: int,
    seed: int,
    job_kwargs: dict,
) -> Material:
    """Choose and cut the material.

    Parameters
    ----------
    recording : BaseRecording
        The recording.
    peaks : structured array
        Sorted by segment and sample.
    info : TraceInfo
        Of the recording.
    prepared : PreparedPosterior
        The model on this probe.
    peak_sign, max_spikes, seed, job_kwargs
        See :func:`~si_neuroml.localization.fine_tune.fine_tune_localizer`.

    Returns
    -------
    Material

    Raises
    ------
    InputError
        When there are not enough clear spikes, or no stretches without spikes on their channels.
    """
    rng = np.random.default_rng([seed, 1])
    surveyed = _some(peaks, MAX_SURVEYED, rng)
    source = PeakRetriever(recording, surveyed)
    node = _Survey(recording, [source], info, prepared, peak_sign)
    posteriors, depths = run_node_pipeline(recording, [source, node], job_kwargs, job_name="localize clear spikes")
    depths, std = np.maximum(depths, 0.0), np.hypot(posteriors["x_std"], posteriors["y_std"]) / np.sqrt(2.0)
    noise = _noise_uv(recording, info, seed)[surveyed["channel_index"]]
    reach = round(ISOLATION_MS * 1e-3 * info.sampling_frequency)
    near = count_near(surveyed, peaks, info.contact_locations, reach=reach, radius_um=ISOLATION_UM)
    conditions = {
        "large": (depths >= CLEAR_SNR * noise) & (depths > 0),
        "isolated": near <= 1,
        "likely_one_cell": posteriors["outlier_probability"] < CLEAR_OUTLIER,
        "well_localized": std < CLEAR_STD_UM,
    }
    clear = np.logical_and.reduce(list(conditions.values()))
    counts = {"peaks": len(peaks), "surveyed": len(surveyed), "clear": int(clear.sum())}
    counts |= {name: int(passed.sum()) for name, passed in conditions.items()}
    _check_clear(counts, peak_sign)
    clear = _some(np.flatnonzero(clear), max_spikes, rng)
    wide, margin, before, after = _wide_window(prepared, info)
    chosen = surveyed[clear]
    background = _background(chosen, peaks, info, (before, after), rng)
    with_background = np.isin(chosen["channel_index"], np.unique(background["channel_index"]))
    if with_background.sum() < MIN_CLEAR_SPIKES:
        raise InputError(
            f"Only {with_background.sum()} of {len(clear)} clear spikes have stretches without other spikes on their "
            f"channels; at least {MIN_CLEAR_SPIKES} are needed. Raise detect_threshold, or use a longer recording."
        )
    clear, chosen = clear[with_background], chosen[with_background]
    plain = _some(surveyed, max_spikes, rng)
    parts = [chosen, plain, background, _collisions(chosen, peaks, info, (before, after), reach, rng)]
    cuts = _cut(recording, parts, info, wide, (before, after), peak_sign, job_kwargs)
    return Material(*cuts, depths[clear], depths[depths > 0], wide, margin, counts)


class _Survey(PipelineNode):
    """Posterior and depth of the trough of each peak."""

    _compute_has_extended_signature = True

    def __init__(self, recording, parents, info, prepared, peak_sign):
        PipelineNode.__init__(self, recording, return_output=True, parents=parents)
        self._kwargs.update(info=info, prepared=prepared, peak_sign=peak_sign)
        self.info, self.prepared, self.peak_sign = info, prepared, peak_sign

    def get_margin(self):
        return max(self.prepared.window.nbefore, self.prepared.window.nafter)

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks):
        scaling = _scaling(self.info, start_frame, segment_index, max_margin)
        patches = self.prepared.patches(traces, peaks["sample_index"], peaks["channel_index"], **scaling)
        posteriors = self.prepared.localize_patches(patches, peaks["channel_index"], peak_sign=self.peak_sign)
        nbefore = self.prepared.window.nbefore
        return posteriors, -_signs(patches, nbefore, self.peak_sign) * patches[:, 0, nbefore]


class _CutWide(PipelineNode):
    """Patches around each peak in given slots."""

    _compute_has_extended_signature = True

    def __init__(self, recording, parents, info, slots, nbefore, nafter):
        PipelineNode.__init__(self, recording, return_output=True, parents=parents)
        self._kwargs.update(info=info, slots=slots, nbefore=nbefore, nafter=nafter)
        self.info, self.slots, self.nbefore, self.nafter = info, slots, nbefore, nafter

    def get_margin(self):
        return max(self.nbefore, self.nafter)

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks):
        return extract_patches(
            traces,
            peaks["sample_index"],
            peaks["channel_index"],
            self.slots,
            nbefore=self.nbefore,
            nafter=self.nafter,
            **_scaling(self.info, start_frame, segment_index, max_margin),
        )


def _scaling(info, start_frame, segment_index, max_margin):
    first = max_margin - start_frame
    valid_range = (first, first + info.num_samples[segment_index])
    return {"gains": info.gains, "offsets": info.offsets, "valid_range": valid_range}


def _signs(patches, nbefore, peak_sign):
    """-1 for spikes that point upwards, as the localizer judges it."""
    if peak_sign == "both":
        up = positive_peaks(patches, nbefore, center_slot=0, search=1)
        return np.where(up, -1.0, 1.0).astype("float32")
    return np.full(len(patches), -1.0 if peak_sign == "pos" else 1.0, dtype="float32")


def _some(items, count, rng):
    return items if len(items) <= count else items[np.sort(rng.choice(len(items), count, replace=False))]


def _noise_uv(recording, info, seed):
    """Median absolute deviation of every channel as a standard deviation; nothing is stored with the recording."""
    traces = get_random_data_chunks(recording, return_in_uV=False, seed=seed).astype("float32")
    return np.median(np.abs(traces - np.median(traces, axis=0)), axis=0) / 0.6745 * np.abs(info.gains)


def _check_clear(counts, peak_sign):
    if counts["clear"] >= MIN_CLEAR_SPIKES:
        return
    raise InputError(
        f"Only {counts['clear']} of {counts['surveyed']} spikes are clear enough to learn from, at least "
        f"{MIN_CLEAR_SPIKES} are needed. {counts['large']} are {CLEAR_SNR:g} times the noise or more, "
        f"{counts['isolated']} have no other peak within {ISOLATION_MS:g} ms and {ISOLATION_UM:g} um, "
        f"{counts['likely_one_cell']} have an outlier probability below {CLEAR_OUTLIER:g}, "
        f"{counts['well_localized']} a standard deviation below {CLEAR_STD_UM:g} um. Use a longer recording or the "
        f"model as it is; if few are large, check peak_sign={peak_sign!r}, the recording's filter and gains."
    )


def _wide_window(prepared, info):
    """(slots of the cuts, margin, samples before, samples after): twice the channels that the model sees."""
    model = prepared.model
    wide = nearest_geometry(
        info.contact_locations, 2 * model.num_slots, 1.5 * model.radius_um, shank_indices=info.shank_indices
    )
    margin = max(1, round(MARGIN_MS * 1e-3 * info.sampling_frequency))
    return wide, margin, prepared.window.nbefore + margin, prepared.window.nafter + margin


def _background(chosen, peaks, info, window, rng):
    """Stretches without peaks on each channel of the chosen spikes, about as many as there are spikes on it."""
    queries = []
    for channel, count in zip(*np.unique(chosen["channel_index"], return_counts=True), strict=True):
        count = max(MIN_BACKGROUND, count)
        query = _random_times(channel, 4 * count, info, window, rng)
        # half the window on either side of its middle
        middle = query.copy()
        middle["sample_index"] += (window[1] - window[0]) // 2
        reach = sum(window) // 2
        near = count_near(middle, peaks, info.contact_locations, reach=reach, radius_um=BACKGROUND_UM)
        queries.append(query[near == 0][:count])
    return np.concatenate(queries)


def _random_times(channel, count, info, window, rng):
    lengths = np.asarray(info.num_samples)
    room = np.maximum(lengths - sum(window), 0)
    if not room.any():
        raise InputError(f"The segments of {lengths.tolist()} samples are shorter than a window of {sum(window)}.")
    query = np.zeros(count, dtype=base_peak_dtype)
    query["segment_index"] = rng.choice(len(lengths), count, p=room / room.sum())
    query["sample_index"] = window[0] + (rng.random(count) * room[query["segment_index"]]).astype("int64")
    query["channel_index"] = channel
    return query


def _collisions(chosen, peaks, info, window, reach, rng):
    """Stretches in which another spike was detected on a near channel, up to `reach` samples away."""
    queries = []
    for channel, count in zip(*np.unique(chosen["channel_index"], return_counts=True), strict=True):
        apart = np.linalg.norm(info.contact_locations - info.contact_locations[channel], axis=1)
        candidates = peaks[(apart <= COLLISION_UM)[peaks["channel_index"]]]
        picked = candidates[rng.integers(len(candidates), size=max(MIN_COLLISIONS, count // 2))]
        query = np.zeros(len(picked), dtype=base_peak_dtype)
        query["segment_index"] = picked["segment_index"]
        query["sample_index"] = picked["sample_index"] + rng.integers(-reach, reach + 1, len(picked))
        query["channel_index"] = channel
        last = np.asarray(info.num_samples)[query["segment_index"]] - window[1]
        queries.append(query[(query["sample_index"] >= window[0]) & (query["sample_index"] < last)])
    return np.concatenate(queries)


def _cut(recording, parts, info, wide, window, peak_sign, job_kwargs):
    """Cuts of several sets of peaks in one pass over the traces."""
    queries = np.zeros(sum(map(len, parts)), dtype=base_peak_dtype)
    for name in ("segment_index", "sample_index", "channel_index"):
        queries[name] = np.concatenate([part[name] for part in parts])
    order = np.lexsort((queries["sample_index"], queries["segment_index"]))
    source = PeakRetriever(recording, queries[order])
    node = _CutWide(recording, [source], info, wide.slots, *window)
    patches = run_node_pipeline(recording, [source, node], job_kwargs, job_name="cut spikes and background")
    patches[:, :, :-1] *= _signs(patches, window[0], peak_sign)[:, None, None]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    rows = np.split(back, np.cumsum([len(part) for part in parts])[:-1])
    channels = queries["channel_index"][order].astype("int64")
    return [Cuts(patches[own, :, :-1], channels[own], patches[own, :, -1] > 0) for own in rows]
