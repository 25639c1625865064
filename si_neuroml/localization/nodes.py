"""The localizers as nodes of SpikeInterface's pipeline.

SpikeInterface puts a node that cuts dense waveforms before every localizer. Ours read the traces themselves, so that
node is turned into one that cuts only when somebody asks (see :class:`DeferredWaveforms`).
"""

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording
from spikeinterface.core.node_pipeline import (
    ExtractDenseWaveforms,
    PeakDetector,
    PeakRetriever,
    PeakSource,
    SpikeRetriever,
    find_parent_of_type,
    run_node_pipeline,
)
from spikeinterface.sortingcomponents.peak_localization.base import LocalizeBase
from spikeinterface.sortingcomponents.peak_localization.center_of_mass import LocalizeCenterOfMass
from spikeinterface.sortingcomponents.peak_localization.grid import LocalizeGridConvolution
from spikeinterface.sortingcomponents.peak_localization.monopolar import LocalizeMonopolarTriangulation

from ..errors import InputError, ModelMismatchError
from ..modelfiles import NamedModel, resolve_model
from ..training import resolve_device
from .center_of_mass import center_of_mass, nearest_channels
from .geometry import LocalGeometry, as_locations_3d
from .patches import extract_patches
from .recordings import check_peaks, trace_info
from .settings import LOCATION_DTYPE

__all__ = ["DeferredDenseWaveforms", "LocalizeNearestCenterOfMass", "LocalizeVAE"]

# a motion preset hands the parameters of its own localizer to whatever method is named; these are not for us
_FOREIGN_PARAMETERS = frozenset(
    name
    for method in (LocalizeCenterOfMass, LocalizeMonopolarTriangulation, LocalizeGridConvolution)
    for name in inspect.signature(method.__init__).parameters
) - {"self", "recording", "parents", "return_output"}


class DeferredWaveforms(np.lib.mixins.NDArrayOperatorsMixin):
    """Dense waveforms that are cut when first looked at, as an array."""

    def __init__(self, cut):
        self._cut, self._array = cut, None

    def __array__(self, dtype=None, copy=None):
        if self._array is None:
            self._array = self._cut()
        return np.asarray(self._array, dtype=dtype)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if out is not None:
            kwargs["out"] = tuple(np.asarray(x) if x is self else x for x in out)
        return getattr(ufunc, method)(*(np.asarray(x) if x is self else x for x in inputs), **kwargs)

    def __getitem__(self, index):
        return np.asarray(self)[index]

    def __setitem__(self, index, values):
        np.asarray(self)[index] = values

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __len__(self):
        return len(np.asarray(self))


class DeferredDenseWaveforms(ExtractDenseWaveforms):
    """SpikeInterface's dense waveforms, cut only if another node reads them."""

    def compute(self, traces, peaks):
        """Waveforms that are not there yet."""
        cut = super().compute
        return DeferredWaveforms(lambda: cut(traces, peaks))


class _PatchLocalizer(LocalizeBase):
    """What our localizers share: checks, the chunk's place in the segment, and no dense waveforms."""

    _compute_has_extended_signature = True
    _dtype = LOCATION_DTYPE

    def __init__(self, recording, parents, return_output, foreign_parameters):
        unknown = sorted(set(foreign_parameters) - _FOREIGN_PARAMETERS)
        if unknown:
            own = sorted(set(inspect.signature(type(self).__init__).parameters) - {"self", "recording", "parents"})
            raise InputError(f"method={self.name!r} knows no parameters {unknown}; it knows {own}.")
        # not LocalizeBase.__init__: it computes all distances between channels, which nobody here reads
        super(LocalizeBase, self).__init__(recording, return_output=return_output, parents=parents)
        self.recording = recording
        self.info = trace_info(recording)
        self.source = find_parent_of_type(parents, PeakSource)
        if isinstance(self.source, PeakRetriever):
            check_peaks(self.source._peaks, self.info)
        elif isinstance(self.source, SpikeRetriever) and not len(self.source.spike_vector):
            raise InputError("The sorting has no spikes to localize.")
        for parent in parents or []:
            if type(parent) is ExtractDenseWaveforms and not parent.return_output:
                parent.__class__ = DeferredDenseWaveforms

    def get_dtype(self):
        """The fields that every localizer of this package returns."""
        return self._dtype

    def _patch_kwargs(self, start_frame, segment_index, max_margin):
        first = max_margin - start_frame
        return {
            "gains": self.info.gains,
            "offsets": self.info.offsets,
            "valid_range": (first, first + self.info.num_samples[segment_index]),
        }


class LocalizeVAE(_PatchLocalizer):
    """Localize spikes with the variational autoencoder of Hurwitz et al. (2019)."""

    name = "vae"
    params_doc = """
    model: str | Path | VAELocalizer | None
        A model fitted with si_neuroml.fit_localizer(), or the folder it was saved to. If None, a model is fitted to the
        given peaks first, with `fit_kwargs`.
    ms_before, ms_after: float | None
        Window. Used when a model is fitted; when a model is given they must be the model's. None: the model's.
    fit_kwargs: dict | None
        Further arguments of si_neuroml.fit_localizer() for `model=None`.
    device: str
        "cpu" (numpy), "cuda" (torch; one process), or "auto": the second where there is one.
    """

    def __init__(
        self,
        recording: BaseRecording,
        parents: list,
        return_output: bool = True,
        model: str | Path | NamedModel | None = None,
        ms_before: float | None = None,
        ms_after: float | None = None,
        fit_kwargs: dict[str, Any] | None = None,
        device: str = "cpu",
        **foreign_parameters,
    ):
        super().__init__(recording, parents, return_output, foreign_parameters)
        window = {"ms_before": ms_before, "ms_after": ms_after}
        if model is None:
            model = self._fit(fit_kwargs or {}, window)
        elif fit_kwargs:
            raise InputError("fit_kwargs say how to fit a model; leave them out when a model is given.")
        self.model = resolve_model(model, "vae_localizer")
        self.model.check_sampling_frequency(self.info.sampling_frequency)
        for name, value in window.items():
            own = getattr(self.model.settings, name)
            if value is not None and abs(value - own) > 1e-6:
                raise ModelMismatchError(f"The model was fitted with {name}={own:g} ms, asked for {value:g} ms.")
        self.geometry: LocalGeometry = self.model.geometry_for(self.info.contact_locations, self.info.shank_indices)
        # "cpu" needs no torch; anything else is checked here, in the parent, and not in every worker
        self.device = device if device == "cpu" else resolve_device(device)
        # the fitted model travels, so that a worker never fits one
        self._kwargs.update(model=self.model, device=self.device)

    def get_margin(self):
        """Samples that the window needs on either side of a chunk."""
        return max(self.model.window.nbefore, self.model.window.nafter)

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks, *waveforms):
        """Locations of the peaks of one chunk."""
        return self.model.localize(
            traces,
            peaks["sample_index"],
            peaks["channel_index"],
            self.geometry,
            device=self.device,
            **self._patch_kwargs(start_frame, segment_index, max_margin),
        )

    def _fit(self, fit_kwargs, window):
        from .fit import fit_localizer

        peaks = self._known_peaks()
        warnings.warn(
            f'method="vae" was given no model: fitting one to the {len(peaks)} peaks at hand. Fit it once with '
            "si_neuroml.fit_localizer(), save it, and pass its folder as `model` to use it again.",
            stacklevel=4,
        )
        arguments = {**{name: value for name, value in window.items() if value is not None}, **fit_kwargs}
        return fit_localizer(self.recording, peaks, **{"progress_bar": False, **arguments})

    def _known_peaks(self):
        """The peaks this node will be asked about."""
        if isinstance(self.source, PeakRetriever):
            return self.source._peaks
        if isinstance(self.source, SpikeRetriever):
            return _peaks_of_spikes(self.source)
        if isinstance(self.source, PeakDetector):
            # detection and localization in one pass (motion estimation): look for training peaks first
            return run_node_pipeline(
                self.recording, [self.source], {"progress_bar": False}, job_name="find training peaks"
            )
        raise InputError(f'method="vae" without a model needs peaks to learn from; its parents are {self.parents}.')


class LocalizeNearestCenterOfMass(_PatchLocalizer):
    """Centre of mass of a fixed number of nearest channels, as the baseline in Hurwitz et al. (2019)."""

    name = "center_of_mass_nearest"
    params_doc = """
    num_channels: int
        How many channels take part, the centre channel included: 4, 9, 16 or 25 in the paper.
    ms_before, ms_after: float
        The lowest value of each channel is sought in this window around the peak.
    """

    def __init__(
        self,
        recording: BaseRecording,
        parents: list,
        return_output: bool = True,
        num_channels: int = 9,
        ms_before: float = 0.5,
        ms_after: float = 0.5,
        **foreign_parameters,
    ):
        super().__init__(recording, parents, return_output, foreign_parameters)
        self.nbefore, self.nafter = (
            max(1, round(milliseconds * self.info.sampling_frequency / 1000.0))
            for milliseconds in (ms_before, ms_after)
        )
        neighbours = nearest_channels(self.info.contact_locations, num_channels, shank_indices=self.info.shank_indices)
        locations = as_locations_3d(self.info.contact_locations)
        offsets = np.where(neighbours[:, :, None] >= 0, locations[neighbours] - locations[:, None, :], 0.0)
        planar = bool(np.ptp(locations[:, 2]) == 0)
        empty = np.zeros((num_channels, 3))
        self.geometry = LocalGeometry(
            "nearest", np.inf, empty, neighbours, offsets.astype("float32"), locations, planar
        )
        self._kwargs.update(num_channels=num_channels, ms_before=ms_before, ms_after=ms_after)

    def get_margin(self):
        """Samples that the window needs on either side of a chunk."""
        return max(self.nbefore, self.nafter)

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks, *waveforms):
        """Locations of the peaks of one chunk."""
        channels = peaks["channel_index"]
        patches = extract_patches(
            traces,
            peaks["sample_index"],
            channels,
            self.geometry,
            nbefore=self.nbefore,
            nafter=self.nafter,
            **self._patch_kwargs(start_frame, segment_index, max_margin),
        )
        observed = patches[:, :, -1] > 0
        troughs = patches[:, :, :-1].min(axis=2)
        offsets = self.geometry.offsets[channels].astype("float64")
        places = self.geometry.contact_locations[channels] + center_of_mass(troughs, offsets, observed)
        locations = np.zeros(len(peaks), dtype=self._dtype)
        for axis, name in enumerate("xyz"):
            locations[name] = places[:, axis]
        locations["alpha"] = -np.minimum(troughs.min(axis=1), 0.0)
        # the method has no model of its error; the spread of the weighted channels would not be one
        for name in ("x_std", "y_std", "z_std"):
            locations[name] = np.inf
        return locations


def _peaks_of_spikes(retriever):
    """The spikes of a sorting as peaks on their units' main channels."""
    spikes = retriever.spike_vector
    fields = [(name, "int64") for name in ("sample_index", "channel_index", "segment_index")]
    peaks = np.zeros(len(spikes), dtype=[*fields, ("amplitude", "float64")])
    peaks["sample_index"], peaks["segment_index"] = spikes["sample_index"], spikes["segment_index"]
    peaks["channel_index"] = retriever.main_channel_indices[spikes["unit_index"]]
    return peaks
