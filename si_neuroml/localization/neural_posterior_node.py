"""The localizer that needs no training as a node of SpikeInterface's pipeline."""

from pathlib import Path

from spikeinterface.core import BaseRecording

from ..modelfiles import NamedModel
from .neural_posterior import NeuralPosterior, check_peak_sign, posterior_model
from .nodes import _PatchLocalizer
from .posterior import POSTERIOR_DTYPE

__all__ = ["LocalizeNeuralPosterior"]


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
        check_peak_sign(peak_sign)
        self.model: NeuralPosterior = posterior_model(model)
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
