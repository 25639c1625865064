"""The fitted VAE localizer: places of spikes from a chunk of traces, in numpy; saved as a model folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import ModelMismatchError
from ..modelfiles import NamedModel, save_model
from .encoder import Encoder, encoder_inputs
from .geometry import LocalGeometry, match_local_geometry
from .observation import ObservationModel
from .rows import WindowSamples, spike_rows
from .settings import LOCATION_DTYPE, LocalizerSettings

__all__ = ["VAELocalizer", "irregular_offsets", "soma_variance"]

# sampling rates of one probe type differ by parts per thousand between headstages; more is another recording system
SAMPLING_FREQUENCY_TOLERANCE = 2e-3
# How far the soma lies from where the amplitudes point, as a standard deviation in um along x, y and z at a largest
# amplitude of 100 uV, and the power of the amplitude with which it falls. Found by training/fit_vae_calibration.py on
# simulated recordings; outside the range of amplitudes that they had, the spread stays what it is at its ends
SOMA_STD_UM = (6.07, 6.07, 15.9)
SOMA_POWER = (0.90, 0.90, 0.40)
SOMA_AMPLITUDES_UV = (20.0, 300.0)


class VAELocalizer(NamedModel):
    """A VAE localizer fitted to a recording.

    Made by :func:`si_neuroml.fit_localizer` or :func:`si_neuroml.load_model`, used as
    ``localize_peaks(recording, peaks, method="vae", method_kwargs={"model": model})``.

    Attributes
    ----------
    settings : LocalizerSettings
        What was asked for.
    observation : ObservationModel
        The decoder, with measured noise and fitted decay where these were asked for.
    sampling_frequency : float
        Of the recording, in Hz.
    layout, slot_offsets, half_width_um
        The box of channels, see :class:`~si_neuroml.localization.geometry.LocalGeometry`.
    encoder : Encoder
        Weights.
    training : dict
        Summary of the training.
    """

    kind: ClassVar[str] = "vae_localizer"

    def __init__(
        self,
        settings: LocalizerSettings,
        observation: ObservationModel,
        sampling_frequency: float,
        layout: str,
        slot_offsets: np.ndarray,
        half_width_um: float,
        encoder: Encoder,
        training: dict[str, Any],
    ):
        self.settings, self.observation, self.encoder, self.training = settings, observation, encoder, training
        self.sampling_frequency = float(sampling_frequency)
        self.layout, self.half_width_um = layout, float(half_width_um)
        self.slot_offsets = np.asarray(slot_offsets, dtype="float64")
        self.window = WindowSamples.from_ms(settings.ms_before, settings.ms_after, self.sampling_frequency)
        num_inputs = len(encoder_inputs(*self._empty_row())[0])
        if encoder.weights[0].shape[0] != num_inputs:
            raise ModelMismatchError(
                f"The encoder takes {encoder.weights[0].shape[0]} numbers per spike, but {len(self.slot_offsets)} "
                f"channels x {self.window.nbefore + self.window.nafter} samples make {num_inputs}: "
                f"window and weights do not "
                "belong together."
            )
        super().__init__()

    def geometry_for(self, contact_locations: np.ndarray, shank_indices: np.ndarray | None = None) -> LocalGeometry:
        """The model's slots on a probe; raises ModelMismatchError on a probe of another layout."""
        return match_local_geometry(
            contact_locations, self.slot_offsets, self.layout, self.half_width_um, shank_indices=shank_indices
        )

    def check_sampling_frequency(self, sampling_frequency: float) -> None:
        """Raise ModelMismatchError when a recording's sampling rate is not the model's."""
        if abs(sampling_frequency / self.sampling_frequency - 1.0) > SAMPLING_FREQUENCY_TOLERANCE:
            raise ModelMismatchError(
                f"The model was fitted at {self.sampling_frequency:g} Hz, this recording has {sampling_frequency:g} "
                "Hz. Resample the recording (spikeinterface.preprocessing.resample) or fit a model on it."
            )

    def localize(
        self,
        traces: np.ndarray,
        sample_indices: np.ndarray,
        channel_indices: np.ndarray,
        geometry: LocalGeometry,
        *,
        device: str = "cpu",
        **patch_kwargs,
    ) -> np.ndarray:
        """Places of spikes in a chunk of traces.

        Parameters
        ----------
        traces : array, shape (num_frames, num_channels)
            A chunk.
        sample_indices, channel_indices : int arrays, shape (num_spikes,)
            Frame in the chunk and centre channel of each spike.
        geometry : LocalGeometry
            From :meth:`geometry_for`.
        device : str, default: "cpu"
            "cpu": numpy. "cuda": the encoder runs in torch on the GPU, and places agree to the rounding of float32.
        **patch_kwargs
            ``gains``, ``offsets``, ``valid_range`` of :func:`~si_neuroml.localization.patches.extract_patches`.

        Returns
        -------
        structured array, shape (num_spikes,)
            x, y, z in the frame of the probe and their standard deviations in um, alpha (amplitude at the source) in
            uV. z is the distance from the plane of a planar probe, never negative. Always finite: a spike of which
            nothing is seen lies on its centre contact, as uncertain as the prior.
        """
        settings = self.settings
        rows = spike_rows(
            traces,
            sample_indices,
            channel_indices,
            geometry,
            self.window,
            peak_sign=settings.peak_sign,
            amplitude_feature=settings.amplitude_feature,
            amplitude_jitter_uv=settings.amplitude_jitter_uv,
            max_centers=settings.max_centers,
            **patch_kwargs,
        )
        offsets = geometry.offsets[rows.centers]
        observed = rows.patches[:, :, -1].copy()
        extra = irregular_offsets(geometry, rows.centers)
        inputs = encoder_inputs(rows.patches, rows.amplitudes, settings.input_scaling, extra)
        mean, variance = self.encoder(inputs, device)
        variance = self._place_variance(variance, rows.amplitudes)
        blank = rows.amplitudes.max(axis=1, initial=0.0) <= 0
        mean[blank], variance[blank] = 0.0, self.observation.location_prior_std_um**2
        footprint = self.observation.footprint(mean, offsets)
        source_amplitude = self.observation.source_amplitude(footprint, rows.amplitudes, observed)
        places = geometry.contact_locations[rows.centers] + mean
        if geometry.planar:
            places[:, 2] = np.abs(mean[:, 2])
        return self._average(places, variance, source_amplitude, rows.counts)

    def _place_variance(self, variance, amplitudes):
        """The encoder's variance, rescaled and widened as the settings ask, shape (num_rows, 3)."""
        if self.settings.std_noise == "model":
            return variance
        largest = amplitudes.max(axis=1, initial=0.0)[:, None]
        left_over = (
            self.training["residual_noise_std_uv"] ** 2 + (self.training["residual_misfit_fraction"] * largest) ** 2
        )
        # ratio of the residual variance of the fit to the variance its objective assumed
        variance = variance * (left_over / self.observation.noise_variance(amplitudes))
        return variance if self.settings.std_noise == "residual" else variance + soma_variance(largest[:, 0])

    def _average(self, places, variance, source_amplitude, counts):
        """One place per spike: the mean of its rows; their variance is that of the mixture, disagreement included."""
        locations = np.zeros(len(counts), dtype=LOCATION_DTYPE)
        if not len(counts):
            return locations
        first_rows = np.concatenate([[0], np.cumsum(counts)[:-1]])

        def average(values):
            totals = np.add.reduceat(values.astype("float64"), first_rows, axis=0)
            return totals / (counts if values.ndim == 1 else counts[:, None])

        center = average(places)
        spread = average((places - np.repeat(center, counts, axis=0)) ** 2)
        std = np.sqrt(average(variance) + spread)
        # the prior is the least that is known
        std = np.minimum(std, self.observation.location_prior_std_um)
        for axis, name in enumerate("xyz"):
            locations[name], locations[f"{name}_std"] = center[:, axis], std[:, axis]
        locations["alpha"] = average(source_amplitude)
        return locations

    def _empty_row(self):
        num_slots = len(self.slot_offsets)
        patches = np.zeros((1, num_slots, self.window.nbefore + self.window.nafter + 1), "float32")
        extra = np.zeros((1, num_slots, 3), "float32") if self.layout == "nearest" else None
        return patches, np.zeros((1, num_slots), "float32"), self.settings.input_scaling, extra

    def with_std_noise(self, std_noise: str) -> "VAELocalizer":
        """The same network with other standard deviations; places stay as they are, nothing is fitted.

        Parameters
        ----------
        std_noise : "soma" | "residual" | "model"
            See :class:`~si_neuroml.localization.settings.LocalizerSettings`.

        Returns
        -------
        VAELocalizer

        Raises
        ------
        InputError
            On another word.
        """
        return VAELocalizer(
            replace(self.settings, std_noise=std_noise),
            self.observation,
            self.sampling_frequency,
            self.layout,
            self.slot_offsets,
            self.half_width_um,
            self.encoder,
            self.training,
        )

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Save as a model folder, see :func:`si_neuroml.save_model`."""
        return save_model(self, folder, overwrite=overwrite)

    def to_parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Tensors and info of the model folder."""
        tensors = {"slot_offsets": self.slot_offsets}
        for index, (weight, bias) in enumerate(zip(self.encoder.weights, self.encoder.biases, strict=True)):
            tensors[f"layer{index}.weight"], tensors[f"layer{index}.bias"] = weight, bias
        return tensors, {
            "sampling_frequency": self.sampling_frequency,
            "window": {"nbefore": self.window.nbefore, "nafter": self.window.nafter},
            "units": "uV",
            "geometry": {
                "layout": self.layout,
                "half_width_um": self.half_width_um,
                "num_slots": len(self.slot_offsets),
            },
            "settings": self.settings.to_dict(),
            "observation": dict(self.observation.__dict__),
            "training": self.training,
        }

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> "VAELocalizer":
        """The model of a model folder."""
        num_layers = sum(name.endswith(".weight") for name in tensors)
        encoder = Encoder(*[[tensors[f"layer{k}.{part}"] for k in range(num_layers)] for part in ("weight", "bias")])
        return cls(
            LocalizerSettings(**info["settings"]),
            ObservationModel(**info["observation"]),
            info["sampling_frequency"],
            info["geometry"]["layout"],
            tensors["slot_offsets"],
            info["geometry"]["half_width_um"],
            encoder,
            info["training"],
        )


def irregular_offsets(geometry: LocalGeometry, centers: Sequence[int]) -> np.ndarray | None:
    """Places of the contacts in units of the box, the encoder's extra input on irregular probes; else None."""
    if geometry.layout == "lattice":
        return None
    return geometry.offsets[np.asarray(centers)] / np.float32(geometry.half_width_um)


def soma_variance(largest_uv: np.ndarray) -> np.ndarray:
    """Variance of the soma about the place that an exponential decay explains best.

    No residual shows this part of the error: all spikes of a neuron share it, because its field is not that of a point
    in its soma. It falls with the amplitude, since large spikes come from near by.

    Parameters
    ----------
    largest_uv : array, shape (num_spikes,)
        Largest amplitude of each spike in uV.

    Returns
    -------
    float32 array, shape (num_spikes, 3)
        Along x, y and z in um^2.
    """
    relative = np.clip(largest_uv, *SOMA_AMPLITUDES_UV)[:, None] / 100.0
    return ((np.array(SOMA_STD_UM) * relative ** -np.array(SOMA_POWER)) ** 2).astype("float32")
