"""From a session to a dataset: its spikes, events and average waveforms as features, one row per unit."""

from typing import Any

import numpy as np

from ..errors import InputError
from .dataset import RegionDataset
from .psth import PsthSettings, complete_onsets
from .quality import fill_quality_columns
from .session import Session, UnitTemplates
from .spike_train_features import SpikeTrainSettings
from .streaming import region_arrays
from .waveform_features import WAVEFORM_FEATURE_NAMES, waveform_features

__all__ = ["session_dataset", "template_features", "unit_features"]

_SPREAD = WAVEFORM_FEATURE_NAMES.index("waveform_spread_um")


def session_dataset(
    session: Session,
    *,
    psth_settings: PsthSettings | None = None,
    spike_train_settings: SpikeTrainSettings | None = None,
    num_threads: int | None = None,
) -> RegionDataset:
    """The units of a session with their features.

    Parameters
    ----------
    session : Session
        Its spikes are streamed. Events whose window leaves a known segment are left out. Firing rate and ISI violations
        are computed where the table of units does not have them.
    psth_settings : PsthSettings, optional
        Default: -1.0 to 1.5 s in bins of 25 ms, z-scored to the part before the onset.
    spike_train_settings : SpikeTrainSettings, optional
        Bins and limits of the statistics of the trains.
    num_threads : int, optional
        Default: numba's (NUMBA_NUM_THREADS).

    Returns
    -------
    RegionDataset
        Without features "psth_*" and PSTH when there are no events, and without "waveform_*" when nothing is known of
        the waveforms.
    """
    units = session.units
    onsets = session.onsets_s
    if onsets is not None and session.segments_s is not None:
        onsets = onsets[complete_onsets(onsets, session.segments_s, psth_settings)]
    templates = session.templates
    if templates is None and (known := [name for name in WAVEFORM_FEATURE_NAMES if name in units]):
        table = np.full((len(units), len(WAVEFORM_FEATURE_NAMES)), np.nan, dtype="float32")
        table[:, [WAVEFORM_FEATURE_NAMES.index(name) for name in known]] = units[known].to_numpy(dtype="float32")
        templates = table
    features, names, psth, edges = unit_features(
        session.spike_times,
        session.offsets,
        onsets,
        templates,
        psth_settings=psth_settings,
        spike_train_settings=spike_train_settings,
        boundaries_s=session.boundaries_s,
        duration_s=session.duration_s,
        num_threads=num_threads,
    )
    units = fill_quality_columns(
        units, session.spike_times, session.offsets, session.duration_s, boundaries_s=session.boundaries_s
    )
    kept = [name for name in units.columns if name not in WAVEFORM_FEATURE_NAMES]
    return RegionDataset(units[kept], features, names, psth, edges)


def unit_features(
    spike_times: Any,
    offsets: np.ndarray,
    onsets_s: np.ndarray | None = None,
    templates: UnitTemplates | np.ndarray | None = None,
    *,
    psth_settings: PsthSettings | None = None,
    spike_train_settings: SpikeTrainSettings | None = None,
    boundaries_s: np.ndarray | None = None,
    duration_s: float | None = None,
    num_threads: int | None = None,
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None, np.ndarray | None]:
    """All features of the units of a session: of the PSTH, the spike train and the waveform.

    Parameters
    ----------
    spike_times, offsets, onsets_s, psth_settings, spike_train_settings, boundaries_s, duration_s, num_threads
        As for :func:`~.streaming.region_arrays`.
    templates : UnitTemplates | array, shape (num_units, 4), optional
        Average waveforms, or their features made elsewhere, in the order of ``WAVEFORM_FEATURE_NAMES``.

    Returns
    -------
    features : float32 array, shape (num_units, num_features)
    names : tuple of str
    psth : float32 array, shape (num_units, num_bins), or None
    bin_edges_s : float64 array, shape (num_bins + 1,), or None
    """
    arrays = region_arrays(
        spike_times,
        offsets,
        onsets_s,
        psth_settings=psth_settings,
        spike_train_settings=spike_train_settings,
        boundaries_s=boundaries_s,
        duration_s=duration_s,
        num_threads=num_threads,
    )
    features, names = arrays.features, arrays.feature_names
    if templates is not None:
        shapes = template_features(templates) if isinstance(templates, UnitTemplates) else np.asarray(templates)
        if shapes.shape != (len(features), len(WAVEFORM_FEATURE_NAMES)):
            raise InputError(f"There are waveforms of shape {shapes.shape} for {len(features)} units.")
        features = np.concatenate([features, shapes.astype("float32")], axis=1)
        names = (*names, *WAVEFORM_FEATURE_NAMES)
    return features, tuple(names), arrays.psth, arrays.bin_edges_s


def template_features(templates: UnitTemplates) -> np.ndarray:
    """Features of average waveforms, float32 (num_units, 4); the spread is NaN where the channels have no places."""
    waveforms, places = templates.templates, templates.locations
    rate = templates.sampling_frequency
    if places is None or waveforms.shape[2] < 2:
        # any places will do for the other three
        features = waveform_features(waveforms, np.zeros((waveforms.shape[2], 2)), rate)[0]
        features[:, _SPREAD] = np.nan
        return features
    if places.ndim == 2:
        return waveform_features(waveforms, places, rate)[0]
    return np.concatenate(
        [waveform_features(one[None], place, rate)[0] for one, place in zip(waveforms, places, strict=True)]
    )
