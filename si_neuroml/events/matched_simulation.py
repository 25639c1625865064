"""Labelled traces that look like those of a recording without labels: simulated, with its noise, rate and kinetics."""

from typing import NamedTuple

import numpy as np
from spikeinterface.core import NumpyRecording

from ..groundtruth.indicator import Site, isolated_response
from ..groundtruth.settings import IndicatorSettings
from ..groundtruth.voltage_imaging import generate_voltage_imaging_recording
from .recording_statistics import ClearEvents, colored_noise
from .settings import DetectorSettings

__all__ = ["MatchedSimulation", "fit_indicator", "simulate_like"]

# time constants that are tried, in ms
ON_MS, OFF_MS = np.geomspace(0.05, 5, 15), np.geomspace(0.2, 50, 19)
# those whose share of the mean event's variance is within this of the best are taken to be as likely
MARGIN = 0.01
# of an average cell: action potential, and what it does to an average indicator
REST_MV, PEAK_MV, HALF_WIDTH_MS = -68.0, 25.0, 1.0
LOW_PASS_MS, HALF_ACTIVATION_MV, SLOPE_MV = 0.1, -35.0, 18.0
FINE_RATE_HZ = 20_000.0
# time constants and heights (in sd of the noise) where a recording shows no events
UNKNOWN = IndicatorSettings(on_ms=(0.2, 3.0), off_ms=(0.5, 12.0))
UNKNOWN_HEIGHTS = (1.5, 6.0)
# events are simulated from half as high as the lower ones that were found, up to a little higher than the highest
LOWER, HIGHER = 0.5, 1.25
SILENT_SHARE = 0.25
EVENT_TYPES = ("somatic_ap", "dendritic_spike")


class MatchedSimulation(NamedTuple):
    """Simulated traces.

    Attributes
    ----------
    recording : NumpyRecording
        With the property "cell" of the channels.
    events : structured array
        Its action potentials and dendritic spikes.
    summary : dict
        What was simulated, for the reader.
    """

    recording: NumpyRecording
    events: np.ndarray
    summary: dict


def fit_indicator(shape: np.ndarray, before: int, sampling_frequency: float) -> tuple[IndicatorSettings, float]:
    """Time constants of an indicator whose response to an action potential has a given shape.

    Parameters
    ----------
    shape : array, shape (num_samples,)
        Mean event.
    before : int
        Samples of it before its peak.
    sampling_frequency : float
        In Hz.

    Returns
    -------
    indicator : IndicatorSettings
        Its ranges of ``on_ms`` and ``off_ms`` hold all values that fit nearly as well as the best.
    explained : float
        Share of the variance of the shape that the best explain, from 0 to 1.
    """
    explained = np.array([[_explained(shape, before, sampling_frequency, on, off) for off in OFF_MS] for on in ON_MS])
    good = explained >= explained.max() - MARGIN
    on, off = ON_MS[good.any(axis=1)], OFF_MS[good.any(axis=0)]
    # half a step of the grid more on either side
    on_step, off_step = (np.sqrt(grid[1] / grid[0]) for grid in (ON_MS, OFF_MS))
    indicator = IndicatorSettings(
        on_ms=(on[0] / on_step, on[-1] * on_step), off_ms=(off[0] / off_step, off[-1] * off_step)
    )
    return indicator, float(explained.max())


def simulate_like(
    settings: DetectorSettings,
    color: np.ndarray,
    events: ClearEvents | None,
    indicator: IndicatorSettings | None = None,
    *,
    num_cells: int = 24,
    sites_per_cell: int = 2,
    duration_s: float = 10.0,
    seed: int = 0,
) -> MatchedSimulation:
    """Voltage imaging with the noise and the events of a recording.

    Cells, dendrites, indicators, bleaching, motion and heart beat are those of
    :func:`si_neuroml.generate_voltage_imaging_recording`, a quarter of the cells silent. The noise has the given
    colour and grows with the root of the light; at each site there is as much of it as makes action potentials of a
    height drawn, on a log scale, from the range of the recording.

    Parameters
    ----------
    settings : DetectorSettings
        Sampling rate and polarity.
    color : array, shape (order,)
        From :func:`~si_neuroml.events.recording_statistics.noise_color`.
    events : ClearEvents | None
        Events of the recording, where some stand out: their heights, rate and, without `indicator`, kinetics.
    indicator : IndicatorSettings, optional
        What is known of the indicator. Default: from the events, or wide ranges.
    num_cells, sites_per_cell, duration_s : int, int, float, default: 24, 2, 10
        How much is simulated.
    seed : int, default: 0
        Of everything that is drawn.

    Returns
    -------
    MatchedSimulation
    """
    rate, explained = settings.sampling_frequency, None
    if indicator is None and events is not None:
        indicator, explained = fit_indicator(events.shape, events.before, rate)
    indicator = UNKNOWN if indicator is None else indicator
    heights = UNKNOWN_HEIGHTS
    if events is not None:
        low, high = np.quantile(events.heights, [0.1, 0.95])
        heights = (LOWER * low, HIGHER * high)
    num_silent = min(round(SILENT_SHARE * num_cells), num_cells - 2)
    truth = generate_voltage_imaging_recording(
        duration_s,
        rate,
        num_cells,
        sites_per_cell,
        num_silent_cells=num_silent,
        indicator=indicator,
        polarity="pos" if settings.polarity > 0 else "neg",
        noise="none",
        seed=seed,
    )
    rng = np.random.default_rng([seed, 1])
    traces = np.ascontiguousarray(truth.noise_free.get_traces(segment_index=0).T)
    wanted = np.exp(rng.uniform(*np.log(heights), len(traces)))
    for trace, factor in zip(traces, _heights(truth, traces) / wanted, strict=True):
        trace += factor * np.sqrt(trace) * colored_noise(color, 1, len(trace), rng)[0]
    recording = NumpyRecording([traces.T], rate)
    recording.set_property("cell", truth.recording.get_property("cell"))
    spikes = truth.events[np.isin(truth.events["event_type"], EVENT_TYPES)]
    summary = {
        "num_cells": num_cells,
        "num_silent_cells": num_silent,
        "sites_per_cell": sites_per_cell,
        "duration_s": float(duration_s),
        "num_events": len(spikes),
        "on_ms": list(indicator.on_ms),
        "off_ms": list(indicator.off_ms),
        "kinetics_explained": explained,
        "heights_sd": [float(height) for height in heights],
    }
    return MatchedSimulation(recording, spikes, summary)


def _heights(truth, photons):
    """Height of an action potential at each site, in sd of shot noise.

    Detectability is known for silent cells as well, and heights go with it.
    """
    events = truth.events[truth.events["event_type"] == "somatic_ap"]
    typical = np.sqrt(np.median(photons, axis=1))
    height = np.abs(events["amplitude"]) / typical[events["channel_index"]]
    return truth.d_prime * np.median(height / truth.d_prime[events["channel_index"]])


def _explained(shape, before, rate, on_ms, off_ms):
    """Squared correlation of a shape with the response of an indicator, at the best shift."""
    steps = max(2, int(np.ceil(FINE_RATE_HZ / rate)))
    fine = rate * steps
    times = np.arange(-round(2e-3 * fine), round(6e-3 * fine))
    width = HALF_WIDTH_MS * 1e-3 * fine / 2.3548
    wave = REST_MV + (PEAK_MV - REST_MV) * np.exp(-0.5 * (times / width) ** 2)
    site = Site(0.0, 1.0, LOW_PASS_MS, REST_MV, HALF_ACTIVATION_MV, SLOPE_MV, on_ms, off_ms)
    change = isolated_response(wave, -times[0], fine, steps, site).change
    # the mean over events has every phase of the samples
    change = np.convolve(change, np.ones(steps) / steps, mode="same")
    samples = int(change.argmax()) + (np.arange(len(shape)) - before) * steps
    shifted = samples + np.arange(-steps, steps + 1)[:, None]
    models = np.pad(change, steps * (len(shape) + 1))[shifted + steps * (len(shape) + 1)]
    models = models - models.mean(axis=1, keepdims=True)
    centered = shape - shape.mean()
    norms = np.sqrt((models**2).sum(axis=1) * (centered @ centered))
    return float(np.max(models @ centered / np.maximum(norms, 1e-300)).clip(0) ** 2)
