"""The localizer that needs no training: a posterior over the place of each spike, learned from simulated recordings.

The network was trained once, on footprints computed from the currents of model cells around random probes, with
background, collisions and detection as on real recordings (the repository's ``training`` folder). Nothing is fitted to
the recording at hand.
"""

from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..modelfiles import NamedModel, load_model, save_model
from .contact_plane import NearestGeometry, nearest_geometry
from .patches import extract_patches
from .posterior import fill_posteriors
from .resampling import ResampledWindow, resampled_window
from .set_network import LENGTH_UM, SetNetwork

__all__ = ["NeuralPosterior", "PreparedPosterior", "shipped_posterior"]

# the training knew no place further away; a spike of which nothing is seen is anywhere within it
BLANK_STD_UM = (60.0, 60.0, 60.0)
BLANK_UV = 1e-3
MIN_DOF = 2.5


class NeuralPosterior(NamedModel):
    """Weights and window of the simulation-trained localizer.

    Attributes
    ----------
    network : SetNetwork
        Weights.
    basis : float32 array, shape (num_samples, basis_size)
        Orthonormal directions in which waveforms are described, at `sampling_frequency`.
    sampling_frequency : float
        Time base of the basis in Hz; recordings of other rates are resampled.
    nbefore : int
        Samples of the basis before the spike.
    num_slots, radius_um
        Channels seen around a spike.
    temperature : dict
        ``max_channels``: upper edges of classes of probes by the typical number of channels within 60 um; ``scale``:
        factor on the standard deviations in each class, fitted on simulated scenes that were not trained on.
    training : dict
        Where the weights come from.
    """

    kind: ClassVar[str] = "neural_posterior"

    def __init__(
        self,
        network: SetNetwork,
        basis: np.ndarray,
        *,
        sampling_frequency: float,
        nbefore: int,
        num_slots: int,
        radius_um: float,
        temperature: dict[str, list[float]],
        training: dict[str, Any],
    ):
        self.network, self.basis = network, np.ascontiguousarray(basis, dtype="float32")
        self.sampling_frequency, self.nbefore = float(sampling_frequency), int(nbefore)
        self.num_slots, self.radius_um = int(num_slots), float(radius_um)
        self.temperature, self.training = temperature, training
        super().__init__()

    def prepare(
        self,
        contact_locations: np.ndarray,
        sampling_frequency: float,
        *,
        shank_indices: np.ndarray | None = None,
    ) -> "PreparedPosterior":
        """What is computed once for a probe and a sampling rate.

        Parameters
        ----------
        contact_locations : array, shape (num_channels, 2 or 3)
            In um.
        sampling_frequency : float
            Of the recording, in Hz.
        shank_indices : int array, shape (num_channels,), optional
            Shank of each contact.

        Returns
        -------
        PreparedPosterior

        Raises
        ------
        InputError
            When contacts are missing, coincide, or a shank is not flat.
        ModelMismatchError
            When the sampling rate is out of range.
        """
        geometry = nearest_geometry(contact_locations, self.num_slots, self.radius_um, shank_indices=shank_indices)
        nafter = len(self.basis) - self.nbefore
        window = resampled_window(sampling_frequency, self.sampling_frequency, self.nbefore, nafter)
        return PreparedPosterior(self, geometry, window)

    def scale_for(self, geometry: NearestGeometry) -> np.ndarray:
        """Factor on the standard deviations for spikes of each centre channel: float array, shape (num_channels,)."""
        near = np.linalg.norm(geometry.plane_offsets, axis=2) <= 60.0
        counts = (near & (geometry.slots.neighbours >= 0)).sum(axis=1)
        edges = np.asarray(self.temperature["max_channels"])
        return np.asarray(self.temperature["scale"])[np.searchsorted(edges, counts).clip(max=len(edges))]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Save as a model folder, see :func:`si_neuroml.save_model`."""
        return save_model(self, folder, overwrite=overwrite)

    def to_parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Tensors and info of the model folder."""
        tensors = {"basis": self.basis, **{f"network.{name}": value for name, value in self.network.weights.items()}}
        return tensors, {
            "sampling_frequency": self.sampling_frequency,
            "window": {"nbefore": self.nbefore, "nafter": len(self.basis) - self.nbefore},
            "units": "uV",
            "geometry": {"num_slots": self.num_slots, "radius_um": self.radius_um},
            "temperature": self.temperature,
            "training": self.training,
        }

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> "NeuralPosterior":
        """The model of a model folder."""
        weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        return cls(
            SetNetwork(weights),
            tensors["basis"],
            sampling_frequency=info["sampling_frequency"],
            nbefore=info["window"]["nbefore"],
            num_slots=info["geometry"]["num_slots"],
            radius_um=info["geometry"]["radius_um"],
            temperature=info["temperature"],
            training=info["training"],
        )


class PreparedPosterior:
    """A :class:`NeuralPosterior` on one probe at one sampling rate; plain arrays, so that it travels to workers."""

    def __init__(self, model: NeuralPosterior, geometry: NearestGeometry, window: ResampledWindow):
        self.model, self.geometry, self.window = model, geometry, window
        self.basis = window.matrix @ model.basis
        self.place_codes = model.network.place_codes(geometry.plane_offsets, geometry.slots.observed)
        self.scale = model.scale_for(geometry)

    def localize(
        self,
        traces: np.ndarray,
        sample_indices: np.ndarray,
        channel_indices: np.ndarray,
        *,
        peak_sign: str = "neg",
        **patch_kwargs,
    ) -> np.ndarray:
        """Posteriors of spikes in a chunk of traces.

        Parameters
        ----------
        traces, sample_indices, channel_indices
            As for :func:`~si_neuroml.localization.patches.extract_patches`, with its `patch_kwargs`.
        peak_sign : "neg" | "pos" | "both", default: "neg"
            Spikes that point upwards ("pos": all; "both": those that do on their centre channel) are turned over.

        Returns
        -------
        array of POSTERIOR_DTYPE, shape (num_spikes,)
            Always finite.
        """
        patches = extract_patches(
            traces,
            sample_indices,
            channel_indices,
            self.geometry.slots,
            nbefore=self.window.nbefore,
            nafter=self.window.nafter,
            **patch_kwargs,
        )
        return self.localize_waveforms(patches[:, :, :-1], channel_indices, patches[:, :, -1], peak_sign=peak_sign)

    def localize_waveforms(
        self,
        waveforms: np.ndarray,
        channel_indices: np.ndarray,
        observed: np.ndarray | None = None,
        *,
        peak_sign: str = "neg",
    ) -> np.ndarray:
        """Posteriors of local waveforms that were cut already.

        Parameters
        ----------
        waveforms : float32 array, shape (num_spikes, num_slots, window.nbefore + window.nafter)
            In uV, in the slots of `geometry`.
        channel_indices : int array, shape (num_spikes,)
            Centre channel of each.
        observed : array, shape (num_spikes, num_slots), optional
            Which slots to use. Default: those that hold a channel.
        peak_sign : "neg" | "pos" | "both", default: "neg"
            See :meth:`localize`.

        Returns
        -------
        array of POSTERIOR_DTYPE, shape (num_spikes,)
        """
        channels = np.asarray(channel_indices, dtype="int64")
        if observed is None:
            observed = self.geometry.slots.observed[channels]
        observed = np.asarray(observed, dtype="float32")
        outputs, blank = np.zeros((len(channels), 13), "float32"), np.zeros(len(channels), bool)
        # in parts, so that what lies between the waveforms and the result stays in the cache
        for start in range(0, len(channels), 1024):
            part = slice(start, start + 1024)
            coefficients = self._coefficients(waveforms[part], peak_sign)
            coefficients *= observed[part, :, None]
            blank[part] = ~(np.abs(coefficients).max(axis=(1, 2), initial=0.0) > BLANK_UV)
            codes = self.place_codes[channels[part]] * observed[part, :, None]
            outputs[part] = self.model.network(coefficients, codes)
        return self._posteriors(outputs, blank, channels)

    def _coefficients(self, waveforms, peak_sign):
        rows = np.ascontiguousarray(waveforms, dtype="float32").reshape(-1, waveforms.shape[2])
        coefficients = (rows @ self.basis).reshape(*waveforms.shape[:2], -1)
        if peak_sign == "pos":
            coefficients *= -1.0
        elif peak_sign == "both":
            reach = max(1, self.window.nbefore // 4)
            near = waveforms[:, 0, self.window.nbefore - reach : self.window.nbefore + reach + 1]
            coefficients[near.max(axis=1) > -near.min(axis=1)] *= -1.0
        return coefficients

    def _posteriors(self, outputs, blank, channels):
        """Outputs of the network as posteriors in the frame of the probe."""
        outputs = outputs.astype("float64")
        mean = outputs[:, :3] * LENGTH_UM
        # the side of the plane cannot be known: z is the distance from it
        mean[:, 2] = np.maximum(mean[:, 2] + LENGTH_UM, 0.0)
        factor = np.zeros((len(outputs), 3, 3))
        for axis in range(3):
            factor[:, axis, axis] = 10.0 * np.exp(outputs[:, 3 + axis].clip(-5.0, 5.0))
        factor[:, 1, 0], factor[:, 2, 0], factor[:, 2, 1] = (10.0 * outputs[:, 6 + k] for k in range(3))
        dof = MIN_DOF + 10.0 * np.logaddexp(0.0, outputs[:, 9])
        spread = self.scale[channels] ** 2 * dof / (dof - 2.0)
        covariance = factor @ factor.transpose(0, 2, 1) * spread[:, None, None]
        alpha = np.exp((5.0 + outputs[:, 10]).clip(max=20.0))
        outlier = 1.0 / (1.0 + np.exp(-outputs[:, 12].clip(-30.0, 30.0)))
        mean[blank], alpha[blank], outlier[blank], dof[blank] = 0.0, 0.0, 1.0, np.inf
        covariance[blank] = np.diag(np.square(BLANK_STD_UM))
        frames = self.geometry.frames[channels]
        center = self.geometry.slots.contact_locations[channels]
        places = center + np.einsum("nij,ni->nj", frames, mean)
        covariance = np.einsum("nki,nkl,nlj->nij", frames, covariance, frames, optimize=True)
        return fill_posteriors(places, covariance, dof, alpha, outlier)


def shipped_posterior() -> NeuralPosterior:
    """The model that comes with the package, loaded once."""
    if not _shipped:
        with resources.as_file(resources.files("si_neuroml.localization") / "data" / "neural_posterior") as folder:
            _shipped.append(load_model(folder))
    return _shipped[0]


_shipped: list[NeuralPosterior] = []
