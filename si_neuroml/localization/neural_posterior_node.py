"""The localizer that needs no training as a node of SpikeInterface's pipeline."""

from pathlib import Path

from spikeinterface.core import BaseRecording

from ..errors import InputError
from ..modelfiles import NamedModel, resolve_model
from .neural_posterior import NeuralPosterior, shipped_posterior
from .nodes import _PatchLocalizer
from .posterior import POSTERIOR_DTYPE

__all__ = ["PEAK_SIGNS", "LocalizeNeuralPosterior"]

PEAK_SIGNS = ("neg", "pos", "both")


class LocalizeNeuralPosterior(_PatchLocalizer):
    """Localize spikes by a posterior learned from simulated recordings; nothing to fit, any probe."""

    name = "neural_posterior"
    _dtype = POSTERIOR_DTYPE
    params_doc = """
    model: str | Path | NeuralPosterior | None
        Another model of this kind, or the folder it was saved to, for example one fine-tuned to the recording. None:
        the one that comes with the package.
    peak_sign: "neg" | "pos" | "both"
        Direction of the spikes.
    """

    def __init__(
        self,
        recording: BaseRecording,
        parents: list,
        return_output: bool = True,
        model: str | Path | NamedModel | None = None,
        peak_sign: str = "neg",
        **foreign_parameters,
    ):
        super().__init__(recording, parents, return_output, foreign_parameters)
        if peak_sign not in PEAK_SIGNS:
            raise InputError(f"peak_sign must be one of {PEAK_SIGNS}, got {peak_sign!r}.")
        self.model: NeuralPosterior = shipped_posterior() if model is None else resolve_model(model, "neural_posterior")
        self.peak_sign = peak_sign
        self.prepared = self.model.prepare(
            self.info.contact_locations, self.info.sampling_frequency, shank_indices=self.info.shank_indices
        )
        # a model held in memory travels; the shipped one and folders are named
        self._kwargs.update(model=model if model is None else self.model, peak_sign=peak_sign)

    def get_margin(self):
        """Samples that the window needs on either side of a chunk."""
        return max(self.prepared.window.nbefore, self.prepared.window.nafter)

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks, *waveforms):
        """Posteriors of the peaks of one chunk."""
        return self.prepared.localize(
            traces,
            peaks["sample_index"],
            peaks["channel_index"],
            peak_sign=self.peak_sign,
            **self._patch_kwargs(start_frame, segment_index, max_margin),
        )
