"""The localizer that needs no training: a posterior over the place of each spike, learned from simulated recordings.

The network was trained once, on footprints computed from the currents of model cells around random probes, with
background, collisions and detection as on real recordings (the repository's ``training`` folder). Nothing is fitted to
the recording at hand.
"""

from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..modelfiles import NamedModel, load_model, resolve_model, save_model
from .contact_plane import NearestGeometry, nearest_geometry
from .patches import extract_patches, positive_peaks
from .posterior import fill_posteriors
from .resampling import ResampledWindow, resampled_window
from .set_network import BLOCK_SPIKES, LENGTH_UM, NUM_OUTPUTS, SetNetwork, blocked_product

__all__ = [
    "PEAK_SIGNS",
    "NeuralPosterior",
    "PreparedPosterior",
    "blank_posteriors",
    "check_peak_sign",
    "posterior_model",
    "shipped_posterior",
]

PEAK_SIGNS = ("neg", "pos", "both")

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
        self.basis = blocked_product(window.matrix, model.basis)
        # the flag at the end of a patch meets a row of zeros: leaving the flag out would copy all waveforms
        self._patch_basis = np.pad(self.basis, ((0, 1), (0, 0)))
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
        patches = self.patches(traces, sample_indices, channel_indices, **patch_kwargs)
        return self.localize_patches(patches, channel_indices, peak_sign=peak_sign)

    def patches(
        self, traces: np.ndarray, sample_indices: np.ndarray, channel_indices: np.ndarray, **patch_kwargs
    ) -> np.ndarray:
        """The windows and channels that the model sees, see :func:`~si_neuroml.localization.patches.extract_patches`.

        Returns
        -------
        float32 array, shape (num_spikes, num_slots, window.nbefore + window.nafter + 1)
        """
        window = {"nbefore": self.window.nbefore, "nafter": self.window.nafter}
        return extract_patches(traces, sample_indices, channel_indices, self.geometry.slots, **window, **patch_kwargs)

    def localize_patches(
        self, patches: np.ndarray, channel_indices: np.ndarray, *, peak_sign: str = "neg"
    ) -> np.ndarray:
        """Posteriors of spikes whose waveforms were cut already.

        Parameters
        ----------
        patches : float32 array, shape (num_spikes, num_slots, window.nbefore + window.nafter + 1)
            As from :meth:`patches`: in uV, and last the flag of observed slots.
        channel_indices : int array, shape (num_spikes,)
            Centre channel of each.
        peak_sign : "neg" | "pos" | "both", default: "neg"
            See :meth:`localize`.

        Returns
        -------
        array of POSTERIOR_DTYPE, shape (num_spikes,)
            Equal to the last bit however the spikes are divided into calls.
        """
        channels = np.asarray(channel_indices, dtype="int64")
        outputs, blank = np.zeros((len(channels), NUM_OUTPUTS), "float32"), np.zeros(len(channels), bool)
        # in the blocks of the network: what lies between the waveforms and the result stays in the cache, and the
        # product with the basis has one shape too, so that a spike never meets another order of summation
        for start in range(0, len(channels), BLOCK_SPIKES):
            part = slice(start, start + BLOCK_SPIKES)
            own, near = patches[part], channels[part]
            size = len(own)
            if size < BLOCK_SPIKES:
                own = np.pad(own, ((0, BLOCK_SPIKES - size), (0, 0), (0, 0)))
                near = np.pad(near, (0, BLOCK_SPIKES - size))
            observed = own[:, :, -1:]
            coefficients = self._coefficients(own, peak_sign) * observed
            blank[part] = ~(np.abs(coefficients).max(axis=(1, 2), initial=0.0) > BLANK_UV)[:size]
            outputs[part] = self.model.network(coefficients, self.place_codes[near] * observed)[:size]
        return self._posteriors(outputs, blank, channels)

    def localize_waveforms(
        self,
        waveforms: np.ndarray,
        channel_indices: np.ndarray,
        observed: np.ndarray | None = None,
        *,
        peak_sign: str = "neg",
    ) -> np.ndarray:
        """:meth:`localize_patches` for waveforms without the flag.

        Parameters
        ----------
        waveforms : array, shape (num_spikes, num_slots, window.nbefore + window.nafter)
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
        if observed is None:
            observed = self.geometry.slots.observed[channel_indices]
        patches = np.concatenate([waveforms, observed[:, :, None]], axis=2, dtype="float32")
        return self.localize_patches(patches, channel_indices, peak_sign=peak_sign)

    def _coefficients(self, patches, peak_sign):
        rows = patches.reshape(-1, patches.shape[2])
        coefficients = blocked_product(rows, self._patch_basis).reshape(*patches.shape[:2], -1)
        if peak_sign == "pos":
            coefficients *= -1.0
        elif peak_sign == "both":
            reach = max(1, self.window.nbefore // 4)
            coefficients[positive_peaks(patches, self.window.nbefore, center_slot=0, search=reach)] *= -1.0
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
        frames = self.geometry.frames[channels]
        center = self.geometry.slots.contact_locations[channels]
        places = center + np.einsum("nij,ni->nj", frames, mean)
        covariance = np.einsum("nki,nkl,nlj->nij", frames, covariance, frames, optimize=True)
        posteriors = fill_posteriors(places, covariance, dof, alpha, outlier)
        posteriors[blank] = blank_posteriors(center[blank])
        return posteriors


def blank_posteriors(places: np.ndarray) -> np.ndarray:
    """What is known of a spike or unit of which nothing is seen: no more than before.

    Parameters
    ----------
    places : array, shape (num_spikes, 3)
        Its centre contact, in um.

    Returns
    -------
    array of POSTERIOR_DTYPE, shape (num_spikes,)
        A Gaussian around the contact, as wide as the places that the model was trained on, outlier probability 1.
    """
    covariance = np.tile(np.diag(np.square(BLANK_STD_UM)), (len(places), 1, 1))
    return fill_posteriors(places, covariance, np.inf, 0.0, 1.0)


def check_peak_sign(peak_sign: str) -> None:
    """Raise InputError when it is none of PEAK_SIGNS."""
    if peak_sign not in PEAK_SIGNS:
        raise InputError(f"peak_sign must be one of {PEAK_SIGNS}, got {peak_sign!r}.")


def posterior_model(model: str | Path | dict[str, Any] | None) -> NeuralPosterior:
    """The model that is named, see :func:`~si_neuroml.modelfiles.resolve_model`; None: the one of the package."""
    return shipped_posterior() if model is None else resolve_model(model, NeuralPosterior.kind)


def shipped_posterior() -> NeuralPosterior:
    """The model that comes with the package, loaded once."""
    if not _shipped:
        with resources.as_file(resources.files("si_neuroml.localization") / "data" / "neural_posterior") as folder:
            _shipped.append(load_model(folder))
    return _shipped[0]


_shipped: list[NeuralPosterior] = []
