"""A simulated session as a sorting analyzer: its spikes, waveforms of the right width and size, and noise."""

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .region_sessions import RegionSession

if TYPE_CHECKING:
    from spikeinterface.core import NumpySorting, SortingAnalyzer

__all__ = ["region_session_analyzer", "region_session_sorting", "unit_waveforms"]

MS_BEFORE, MS_AFTER = 1.0, 2.0
SHANK_PITCH_UM, MIN_SPREAD_UM = 250.0, 40.0
# of the peak after the trough, as a share of the peak-to-peak amplitude
PEAK_SHARE = 0.25


def unit_waveforms(width_ms: np.ndarray, amplitude_uv: np.ndarray, sampling_frequency: float) -> np.ndarray:
    """Waveforms with a trough, and a peak after it.

    Parameters
    ----------
    width_ms : array, shape (num_units,)
        From the trough to the peak.
    amplitude_uv : array, shape (num_units,)
        From the trough to the peak.
    sampling_frequency : float
        In Hz.

    Returns
    -------
    float32 array, shape (num_units, num_samples)
        In uV, from 1 ms before the trough to 2 ms after it.
    """
    width, amplitude = np.atleast_1d(width_ms)[:, None], np.atleast_1d(amplitude_uv)[:, None]
    before = round(MS_BEFORE * 1e-3 * sampling_frequency)
    t = (np.arange(before + round(MS_AFTER * 1e-3 * sampling_frequency)) - before) * (1e3 / sampling_frequency)
    shape = PEAK_SHARE * np.exp(-0.5 * ((t - width) / (0.3 * width)) ** 2)
    shape -= (1 - PEAK_SHARE) * np.exp(-0.5 * (t / (0.2 * width)) ** 2)
    return (amplitude * shape / np.ptp(shape, axis=1, keepdims=True)).astype("float32")


def region_session_sorting(
    session: RegionSession, sampling_frequency: float = 20_000.0, segment_starts_s: Sequence[float] = ()
) -> "NumpySorting":
    """The spikes of a session as a sorting.

    Parameters
    ----------
    session : RegionSession
        The session.
    sampling_frequency : float, default: 20000.0
        In Hz.
    segment_starts_s : sequence of float, default: ()
        Where to cut the session into segments, in s; none: one segment.

    Returns
    -------
    NumpySorting
        Its unit properties are ``brain_area`` (the true region), ``depth_um``, ``waveform_width_ms`` and
        ``waveform_amplitude_uv``.
    """
    from spikeinterface.core import NumpySorting

    edges = [0.0, *segment_starts_s, session.duration_s]
    if min(np.diff(edges)) <= 0:
        raise InputError(
            f"segment_starts_s must rise within the {session.duration_s:g} s of the session, got {segment_starts_s}."
        )
    unit_ids = session.units["unit_id"].tolist()
    trains = np.split(session.spike_times, session.offsets[1:-1])
    segments = [
        {
            unit_id: ((train[(train >= start) & (train < end)] - start) * sampling_frequency).astype("int64")
            for unit_id, train in zip(unit_ids, trains, strict=True)
        }
        for start, end in pairwise(edges)
    ]
    sorting = NumpySorting.from_unit_dict(segments, sampling_frequency)
    sorting.set_property("brain_area", session.units["region"].to_numpy(dtype="U"))
    for name in ("depth_um", "waveform_width_ms", "waveform_amplitude_uv"):
        sorting.set_property(name, session.units[name].to_numpy(dtype="float64"))
    return sorting


def region_session_analyzer(
    session: RegionSession,
    *,
    sampling_frequency: float = 20_000.0,
    segment_starts_s: Sequence[float] = (),
    contacts_per_shank: int = 24,
    noise_uv: float = 5.0,
    extensions: Sequence[str] = ("random_spikes", "templates"),
    format: str = "memory",
    folder: str | os.PathLike | None = None,
    seed: int = 0,
) -> "SortingAnalyzer":
    """A small session as a sorting analyzer with a recording that is made when it is read.

    Parameters
    ----------
    session : RegionSession
        The session; a minute or less, as every sample of the recording is computed.
    sampling_frequency : float, default: 20000.0
        In Hz.
    segment_starts_s : sequence of float, default: ()
        Where to cut the session into segments, in s.
    contacts_per_shank : int, default: 24
        Contacts, evenly spread from the tip (y = 0) to the end of the track.
    noise_uv : float, default: 5.0
        Standard deviation of the noise, white and independent.
    extensions : sequence of str, default: ("random_spikes", "templates")
        What to compute.
    format, folder
        As in SpikeInterface's ``create_sorting_analyzer``.
    seed : int, default: 0
        Of the noise.

    Returns
    -------
    SortingAnalyzer
        Dense. The contacts of each shank have its number as shank id and as ``group``.

    Raises
    ------
    InputError
        When the segments do not fit the session, or there are fewer than two contacts.
    """
    from spikeinterface.core import create_sorting_analyzer
    from spikeinterface.generation import InjectTemplatesRecording, NoiseGeneratorRecording

    if contacts_per_shank < 2:
        raise InputError(f"contacts_per_shank must be at least 2, got {contacts_per_shank}.")
    sorting = region_session_sorting(session, sampling_frequency, segment_starts_s)
    probe = _probe(session, contacts_per_shank)
    edges = np.array([0.0, *segment_starts_s, session.duration_s])
    num_samples = np.round(np.diff(edges) * sampling_frequency).astype(int).tolist()
    noise = NoiseGeneratorRecording(
        num_channels=probe.get_contact_count(),
        sampling_frequency=sampling_frequency,
        durations=[number / sampling_frequency for number in num_samples],
        noise_levels=noise_uv,
        seed=seed,
    )
    recording = InjectTemplatesRecording(
        sorting,
        _templates(session, probe.contact_positions, sampling_frequency),
        nbefore=round(MS_BEFORE * 1e-3 * sampling_frequency),
        parent_recording=noise,
        num_samples=num_samples,
    )
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    recording.set_probe(probe, group_mode="by_shank")
    quiet = {"n_jobs": 1, "progress_bar": False}
    analyzer = create_sorting_analyzer(
        sorting, recording, format=format, folder=folder, sparse=False, job_kwargs=quiet, seed=seed
    )
    if extensions:
        analyzer.compute(list(extensions), **quiet)
    return analyzer


def _shanks(session):
    names = session.tracks["shank"].unique().tolist()
    return names, session.units["shank"].map(names.index).to_numpy()


def _probe(session, contacts_per_shank):
    from probeinterface import Probe

    num_shanks = len(_shanks(session)[0])
    shank = np.repeat(np.arange(num_shanks), contacts_per_shank)
    y = np.tile(np.linspace(0.0, session.tracks["high_um"].max(), contacts_per_shank), num_shanks)
    probe = Probe(ndim=2)
    probe.set_contacts(np.column_stack([SHANK_PITCH_UM * shank, y]), shank_ids=shank, shape_params={"radius": 6})
    probe.set_device_channel_indices(np.arange(len(shank)))
    return probe


def _templates(session, contacts, sampling_frequency):
    """Waveforms that fall off with the distance, as large as they should be where they are largest."""
    units = session.units
    places = np.column_stack([SHANK_PITCH_UM * _shanks(session)[1], units["depth_um"]])
    distance = np.linalg.norm(places[:, None] - contacts[None], axis=2)
    spread_um = max(MIN_SPREAD_UM, np.diff(np.unique(contacts[:, 1])).max())
    weight = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / spread_um)
    width_ms, amplitude_uv = units["waveform_width_ms"].to_numpy(), units["waveform_amplitude_uv"].to_numpy()
    waveforms = unit_waveforms(width_ms, amplitude_uv, sampling_frequency)
    return waveforms[:, :, None] * weight[:, None, :].astype("float32")
