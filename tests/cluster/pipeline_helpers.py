"""Nodes that fail, die or wait on purpose, where workers of a cluster can import them."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from spikeinterface.core.node_pipeline import PipelineNode
from spikeinterface.sortingcomponents.peak_detection.method_list import detect_peak_methods
from spikeinterface.sortingcomponents.peak_localization import get_localization_pipeline_nodes


class TroughOfPeak(PipelineNode):
    """Trace at each peak, and what a test wants to happen on the way.

    Parameters
    ----------
    log : Path
        Folder with one file per computed chunk.
    trouble : str
        "" for none, "kill" for the death of the process in the chunk at `frame`, once; "raise" for an error there,
        always; "raise once"; "wait" for 0.3 s per chunk.
    """

    def __init__(self, recording, parents, log, trouble="", frame=0):
        super().__init__(recording, return_output=True, parents=parents)
        self.log, self.trouble, self.frame = Path(log), trouble, frame

    _compute_has_extended_signature = True

    def get_dtype(self):
        return np.dtype("float32")

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks):
        if self.trouble == "wait":
            time.sleep(0.3)
        elif start_frame <= self.frame < end_frame and segment_index == 0 and self.trouble:
            self._make_trouble()
        self.log.mkdir(parents=True, exist_ok=True)
        (self.log / f"{segment_index}_{start_frame}_{time.time_ns()}").touch()
        return traces[peaks["sample_index"], peaks["channel_index"]].astype("float32")

    def _make_trouble(self):
        before = self.log / "trouble"
        if before.exists() and self.trouble != "raise":
            return
        self.log.mkdir(parents=True, exist_ok=True)
        before.touch()
        if self.trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("the disk of this worker is full")

    def num_computed(self):
        """Chunks that were computed."""
        return len([path for path in self.log.iterdir() if path.name != "trouble"])


def detector(recording, threshold=5.0):
    """A detector with margins."""
    kwargs = {"noise_levels": np.full(recording.get_num_channels(), 5.0), "detect_threshold": threshold}
    return detect_peak_methods["locally_exclusive"](recording, **kwargs)


def troughs(recording, log, trouble="", frame=0):
    """Detector and test node."""
    first = detector(recording)
    return [first, TroughOfPeak(recording, [first], log, trouble, frame)]


def places(recording, method="neural_posterior", source=None):
    """Nodes that detect (or take) peaks and localize them."""
    source = detector(recording) if source is None else source
    return get_localization_pipeline_nodes(recording, source, method=method, method_kwargs={}, job_kwargs={})
