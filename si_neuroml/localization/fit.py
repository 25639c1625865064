"""Fit a VAE localizer to a recording: cut the training spikes with SpikeInterface's executor, then train.

The only file between the recording and :mod:`si_neuroml.localization.vae`, which knows arrays and torch alone.
"""

import math
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, get_noise_levels
from spikeinterface.core.job_tools import fix_job_kwargs
from spikeinterface.core.node_pipeline import PeakRetriever, PipelineNode, run_node_pipeline

from ..errors import InputError, TrainingError
from .encoder import encoder_inputs
from .geometry import build_local_geometry, default_half_width
from .model import VAELocalizer, irregular_offsets
from .observation import ObservationModel
from .recordings import check_peaks, sort_peaks, trace_info
from .rows import SpikeRows, WindowSamples, spike_rows
from .settings import localizer_settings

__all__ = ["fit_localizer"]

# below this a network of 400,000 weights has nothing to learn from, and 10 % of it says nothing about the fit
MIN_TRAINING_SPIKES = 50


def fit_localizer(
    recording: BaseRecording,
    peaks: np.ndarray,
    *,
    preset: str | None = None,
    half_width_um: float | None = None,
    ms_before: float | None = None,
    ms_after: float | None = None,
    max_peaks: int = 100_000,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress_bar: bool = True,
    job_kwargs: dict | None = None,
    **settings: Any,
) -> VAELocalizer:
    """Fit the VAE localizer of Hurwitz et al. (2019) to the spikes of a recording.

    Parameters
    ----------
    recording : BaseRecording
        Filtered, not whitened, with a probe; any dtype (gains and offsets are applied), any number of segments.
    peaks : structured array
        As from ``detect_peaks()``, in any order.
    preset : None | "hurwitz2019" | "hurwitz2019_code"
        Settings to start from. None: our defaults. "hurwitz2019": the text of the paper. "hurwitz2019_code": the
        authors' code where it differs from the text.
    half_width_um : float, optional
        Half width of the box of channels; default: that of the preset, or the smallest with 8 contacts.
    ms_before, ms_after : float, optional
        Window of the waveforms; default: that of the preset.
    max_peaks : int, default: 100_000
        Train on at most this many spikes, drawn at random.
    epochs : int, optional
        Passes over the training spikes at most; default: that of the preset.
    seed : int, default: 0
        Of everything random. Same seed, machine and number of threads: same model.
    device : "auto" | "cpu" | "cuda", default: "auto"
        Where torch trains.
    progress_bar : bool, default: True
        Show progress.
    job_kwargs : dict, optional
        SpikeInterface's job_kwargs for reading the traces.
    **settings
        Any other field of :class:`~si_neuroml.localization.settings.LocalizerSettings`.

    Returns
    -------
    VAELocalizer
        With ``.save(folder)``.

    Raises
    ------
    InputError
        On a recording without a probe, peaks that do not belong to it, too few of them, or unknown settings.
    TrainingError
        When the traces around the peaks hold no signal, or training diverges.
    """
    changes = {"half_width_um": half_width_um, "ms_before": ms_before, "ms_after": ms_after, "epochs": epochs}
    chosen = localizer_settings(preset, **{k: v for k, v in changes.items() if v is not None}, **settings)
    info = trace_info(recording)
    geometry = _geometry(info, chosen)
    peaks = _training_peaks(peaks, info, max_peaks, seed)
    rows = _collect_rows(recording, peaks, info, geometry, chosen, progress_bar, job_kwargs)
    observation = _observation(recording, chosen, progress_bar)
    training_rows = _training_rows(rows, geometry, chosen)

    from .vae import train_vae  # torch loads here and not before

    encoder, observation, summary = train_vae(
        training_rows, chosen, observation, seed=seed, device=device, progress_bar=progress_bar
    )
    summary["preset"] = preset
    return VAELocalizer(
        chosen,
        observation,
        info.sampling_frequency,
        geometry.layout,
        geometry.slot_offsets,
        geometry.half_width_um,
        encoder,
        summary,
    )


class _CutRows(PipelineNode):
    """Node that returns the encoder rows of its peaks."""

    _compute_has_extended_signature = True

    def __init__(self, recording, parents, info, geometry, settings):
        PipelineNode.__init__(self, recording, return_output=True, parents=parents)
        self._kwargs.update(info=info, geometry=geometry, settings=settings)
        self.info, self.geometry, self.settings = info, geometry, settings
        self.window = WindowSamples.from_ms(settings.ms_before, settings.ms_after, info.sampling_frequency)

    def get_margin(self):
        return max(self.window.nbefore, self.window.nafter)

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks):
        return tuple(
            spike_rows(
                traces,
                peaks["sample_index"],
                peaks["channel_index"],
                self.geometry,
                self.window,
                peak_sign=self.settings.peak_sign,
                amplitude_feature=self.settings.amplitude_feature,
                amplitude_jitter_uv=self.settings.amplitude_jitter_uv,
                max_centers=self.settings.max_centers,
                gains=self.info.gains,
                offsets=self.info.offsets,
                valid_range=(
                    max_margin - start_frame,
                    max_margin - start_frame + self.info.num_samples[segment_index],
                ),
            )
        )


def _geometry(info, settings):
    half_width_um = settings.half_width_um
    if half_width_um is None:
        half_width_um = default_half_width(info.contact_locations, shank_indices=info.shank_indices)
    return build_local_geometry(info.contact_locations, half_width_um, shank_indices=info.shank_indices)


def _training_peaks(peaks, info, max_peaks, seed):
    check_peaks(peaks, info, need_sorted=False)
    if not isinstance(max_peaks, (int, np.integer)) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"max_peaks and seed must be whole numbers, seed at least 0; got {max_peaks!r} and {seed!r}.")
    if len(peaks) < MIN_TRAINING_SPIKES or max_peaks < MIN_TRAINING_SPIKES:
        raise InputError(
            f"Fitting a localizer needs at least {MIN_TRAINING_SPIKES} spikes, got {len(peaks)} "
            f"(max_peaks={max_peaks}). "
            'Use a model fitted to another recording of the same probe, or method="center_of_mass_nearest".'
        )
    if len(peaks) > max_peaks:
        peaks = peaks[np.random.default_rng(seed).choice(len(peaks), size=max_peaks, replace=False)]
    return sort_peaks(peaks)


def _collect_rows(recording, peaks, info, geometry, settings, progress_bar, job_kwargs):
    source = PeakRetriever(recording, peaks)
    node = _CutRows(recording, [source], info, geometry, settings)
    job_kwargs = {**fix_job_kwargs(job_kwargs or {}), "progress_bar": progress_bar}
    return SpikeRows(*run_node_pipeline(recording, [source, node], job_kwargs, job_name="cut training spikes"))


def _observation(recording, settings, progress_bar):
    noise = settings.noise
    if noise == "unit":
        noise = 1.0
    elif noise == "measured":
        scaled = recording.has_scaleable_traces()
        noise = float(np.nanmedian(get_noise_levels(recording, return_in_uV=scaled, progress_bar=progress_bar)))
        if not (math.isfinite(noise) and noise > 0):
            raise TrainingError(f'The measured noise level is {noise} uV. Use noise="unit" or give a number of uV.')
    return ObservationModel(
        decay_per_um=settings.decay_per_um,
        noise_std_uv=float(noise),
        amplitude_prior_factor=settings.amplitude_prior_factor,
        amplitude_prior_std_uv=settings.amplitude_prior_std_uv,
        location_prior_std_um=settings.location_prior_std_um,
    )


def _training_rows(rows, geometry, settings):
    from .vae import TrainingRows

    spike = np.repeat(np.arange(len(rows.counts)), rows.counts)
    seen = rows.amplitudes.max(axis=1) > 0
    if len(np.unique(spike[seen])) < MIN_TRAINING_SPIKES:
        raise TrainingError(
            f"Only {len(np.unique(spike[seen]))} of {len(rows.counts)} spikes have a trough on their channels. Are the "
            'traces constant or not finite, or do the spikes point upwards (peak_sign="pos" or "both")?'
        )
    observed = rows.patches[:, :, -1].copy()
    inputs = encoder_inputs(
        rows.patches, rows.amplitudes, settings.input_scaling, irregular_offsets(geometry, rows.centers)
    )
    whole = TrainingRows(inputs, rows.amplitudes, observed, geometry.offsets[rows.centers], spike)
    return whole if seen.all() else whole.subset(seen)
