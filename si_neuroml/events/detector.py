"""The fitted detector: events of a chunk of traces, the same whatever the chunk; saved as a model folder."""

import importlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self

import numpy as np

from ..errors import InputError, ModelMismatchError
from ..modelfiles import NamedModel
from .conditioning import condition_traces, reflect_ends
from .noise import noise_levels
from .picking import pick_events, runs
from .settings import EVENT_DTYPE, DetectorSettings

__all__ = ["SCORERS", "EventDetector", "load_scorer"]

# sampling rates of one system differ by parts per thousand between devices; more is another system
SAMPLING_FREQUENCY_TOLERANCE = 2e-3
_TORCH = "si_neuroml.events.torch_scorer:TorchScorer"
# import paths and not classes: a detector without torch must not import it
SCORERS: Mapping[str, str] = {
    "strided": "si_neuroml.events.strided_network:StridedScorer",
    "unet": _TORCH,
    "bilstm": _TORCH,
    "tcn": _TORCH,
    "tcn_two_sided": _TORCH,
    "transformer": _TORCH,
    "matched_filter": "si_neuroml.events.matched_filter:MatchedFilterScorer",
    "svm": "si_neuroml.events.svm:SVMScorer",
    "threshold": "si_neuroml.events.threshold:ThresholdScorer",
    # any of these for traces at another rate, see EventDetector.resampled
    "resampled": "si_neuroml.events.resampling:ResampledScorer",
}


class EventDetector(NamedModel):
    """A detector of events, fitted to labelled or simulated traces.

    Made by :func:`si_neuroml.fit_event_detector` or :func:`si_neuroml.load_model`, used as
    ``detect_peaks(recording, method="learned_events", method_kwargs={"model": detector})``.

    Parameters
    ----------
    network : str
        What the scorer is: a key of :data:`SCORERS`.
    scorer : object
        Scores conditioned traces, see :mod:`si_neuroml.events.networks`.
    settings : DetectorSettings
        Conditioning and picking.
    threshold, low_threshold : float
        Scores that make an event, and that it lasts for.
    calibration : (float, float)
        Slope and intercept: the probability that a found event is true is the logistic function of
        ``slope * score + intercept``.
    training : dict
        Summary of the training, for the reader. Among it ``split`` and, where that is "cell", ``held_out_cells``: the
        names, as str, of the cells that thresholds and probabilities were learned on.
    """

    kind: ClassVar[str] = "event_detector"

    def __init__(
        self,
        network: str,
        scorer: Any,
        settings: DetectorSettings,
        threshold: float,
        low_threshold: float,
        calibration: tuple[float, float],
        training: dict[str, Any],
    ):
        if network not in SCORERS:
            raise InputError(f"There is no detector {network!r}; there are {sorted(SCORERS)}.")
        if not low_threshold <= threshold:
            raise InputError(f"low_threshold ({low_threshold!r}) must not be above threshold ({threshold!r}).")
        self.network, self.scorer, self.settings, self.training = network, scorer, settings, training
        self.threshold, self.low_threshold = float(threshold), float(low_threshold)
        self.calibration = (float(calibration[0]), float(calibration[1]))
        super().__init__()

    @property
    def margin(self) -> int:
        """Samples that a chunk needs on either side, so that its events do not depend on where it was cut."""
        return self.settings.reach + max(self.scorer.before, self.scorer.after) + self.scorer.alignment - 1

    def with_thresholds(
        self, threshold: float, low_threshold: float | None = None, calibration: tuple[float, float] | None = None
    ) -> Self:
        """The same detector with other thresholds, and for other scores, as joint ones, another calibration.

        The second threshold defaults to the old one, or to the first where the old one is above it.
        """
        low = min(self.low_threshold, threshold) if low_threshold is None else low_threshold
        calibration = self.calibration if calibration is None else calibration
        return type(self)(self.network, self.scorer, self.settings, threshold, low, calibration, self.training)

    def resampled(self, sampling_frequency: float) -> Self:
        """The same detector for recordings at another rate, itself where that is its own.

        Conditioning and picking keep their times in ms; traces are resampled for the scorer and its scores back, see
        :class:`~si_neuroml.events.resampling.ResampledScorer`.
        """
        own = self.settings.sampling_frequency
        if abs(sampling_frequency / own - 1.0) <= SAMPLING_FREQUENCY_TOLERANCE:
            return self
        from .resampling import ResampledScorer

        scorer = ResampledScorer(self.scorer, sampling_frequency, own)
        settings = replace(self.settings, sampling_frequency=float(sampling_frequency))
        thresholds = self.threshold, self.low_threshold
        return type(self)("resampled", scorer, settings, *thresholds, self.calibration, self.training)

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """That events of these scores are true, calibrated on held-out data, as float32 of the same shape."""
        slope, intercept = self.calibration
        scores = np.asarray(scores, dtype="float64")
        logits = np.clip(slope * np.maximum(scores, -1e30) + intercept, -700, 700)
        # minus infinity: a channel without data
        return np.where(np.isneginf(scores), 0.0, 1.0 / (1.0 + np.exp(-logits))).astype("float32")

    def check_sampling_frequency(self, sampling_frequency: float) -> None:
        """Raise ModelMismatchError when a recording was not sampled at the detector's rate."""
        own = self.settings.sampling_frequency
        if abs(sampling_frequency / own - 1.0) > SAMPLING_FREQUENCY_TOLERANCE:
            raise ModelMismatchError(
                f"The detector was fitted to traces at {own:g} Hz; the recording has {sampling_frequency:g} Hz. "
                "Pass resample=True to resample its traces for the detector, or fit a detector at this rate."
            )

    def noise_levels(self, chunks: list[np.ndarray], gains: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Noise sd of each channel from some chunks (num_samples, num_channels) of its recording."""
        return noise_levels(
            chunks, gains=gains, offsets=offsets, polarity=self.settings.polarity, **self.settings.baseline
        )

    def scores(
        self,
        traces: np.ndarray,
        first_frame: int,
        num_samples: int,
        *,
        noise: np.ndarray,
        gains: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
    ) -> tuple[np.ndarray, int]:
        """Scores of the part of a chunk that lies in its segment.

        Parameters
        ----------
        traces : array, shape (num_chunk_samples, num_channels)
            Raw traces with margins; what lies outside the segment is replaced by reflection.
        first_frame : int
            Frame of the first of them, negative where the margin begins before the segment.
        num_samples : int
            Length of the segment.
        noise : array, shape (num_channels,)
            From :meth:`noise_levels`; channels of noise 0 have no events.
        gains, offsets : array, shape (num_channels,), optional
            value = traces * gain + offset.

        Returns
        -------
        scores : float32 array, shape (num_channels, num_scores)
            Exact where the chunk has the scorer's and the conditioning's reach on both sides.
        first : int
            Frame of the first score.
        """
        missing = max(0, -first_frame), max(0, first_frame + len(traces) - num_samples)
        x = condition_traces(
            reflect_ends(traces, *missing),
            first_frame,
            gains=gains,
            offsets=offsets,
            polarity=self.settings.polarity,
            noise_levels=noise,
            **self.settings.baseline,
        )
        # the scorer's steps stand on frames of the segment
        skipped = -first_frame % self.scorer.alignment
        scores = self.scorer.scores(np.ascontiguousarray(x[:, skipped:]))
        start = first_frame + skipped
        first, last = max(0, start), min(num_samples, start + scores.shape[1])
        scores = scores[:, first - start : last - start]
        # a channel without noise is one without data
        scores[~(np.isfinite(noise) & (noise > 0))] = -np.inf
        return scores, first

    def events(self, scores: np.ndarray, first: int, owned: tuple[int, int]) -> np.ndarray:
        """Events whose peaks lie in [start, stop) frames; amplitude and segment_index are left at 0."""
        picks = pick_events(
            scores,
            self.threshold,
            self.low_threshold,
            owned=(owned[0] - first, owned[1] - first),
            **self.settings.picking,
        )
        events = np.zeros(len(picks.scores), dtype=EVENT_DTYPE)
        events["sample_index"], events["channel_index"] = picks.sample_indices + first, picks.channel_indices
        events["onset"], events["offset"] = picks.onsets + first, picks.offsets + first
        events["probability"] = self.probability(picks.scores)
        return events

    def periods(self, scores: np.ndarray, first: int, owned: tuple[int, int]) -> np.ndarray:
        """Stretches of scores above the low threshold, clipped to [start, stop) frames; segment_index is 0."""
        periods = runs(scores, self.low_threshold, owned=(owned[0] - first, owned[1] - first))
        for name in ("start_sample_index", "end_sample_index"):
            periods[name] += first
        return periods

    def to_parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays of the scorer, and everything else."""
        info = {
            "network": self.network,
            "scorer": self.scorer.settings(),
            "settings": asdict(self.settings),
            "threshold": self.threshold,
            "low_threshold": self.low_threshold,
            "calibration": list(self.calibration),
            "training": self.training,
        }
        return self.scorer.to_arrays(), info

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_parts`."""
        return cls(
            info["network"],
            load_scorer(info["network"]).from_arrays(tensors, **info["scorer"]),
            DetectorSettings(**info["settings"]),
            info["threshold"],
            info["low_threshold"],
            tuple(info["calibration"]),
            info["training"],
        )


def load_scorer(network: str) -> type:
    """The class of scorers of a network or baseline."""
    if network not in SCORERS:
        raise InputError(f"There is no detector {network!r}; there are {sorted(SCORERS)}.")
    module, _, name = SCORERS[network].partition(":")
    return getattr(importlib.import_module(module), name)
