"""Current-clamp sweeps as a SpikeInterface recording, one segment per sweep, and back.

The recording's unit is SpikeInterface's uV; steps, refusals and notes travel as an annotation, which every format that
keeps annotations saves.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from spikeinterface.core import BaseRecording, NumpyRecording

from ..errors import InputError
from .stimulus import StepStimulus
from .sweeps import CellSweeps, sweeps_from_arrays

__all__ = ["recording_from_sweeps", "sweeps_from_recording"]

ANNOTATION = "si_neuroml_sweeps"


def recording_from_sweeps(cell: CellSweeps) -> NumpyRecording:
    """The sweeps as a recording of one channel, "Vm", and as many segments as sweeps.

    Raises
    ------
    InputError
        When a sweep is empty, which no segment can be.
    """
    empty = [k for k, voltage in enumerate(cell.voltage_mv) if not len(voltage)]
    if empty:
        raise InputError(f"Sweeps {empty} of {cell.cell_id} are empty: leave them out.")
    segments = [voltage[:, None] for voltage in cell.voltage_mv]
    recording = NumpyRecording(segments, cell.sampling_frequency, channel_ids=["Vm"])
    recording.set_channel_gains(1e3)
    recording.set_channel_offsets(0.0)
    recording.annotate(
        **{
            ANNOTATION: {
                "cell_id": cell.cell_id,
                "stimulus": [None if s is None else _plain(s) for s in cell.stimulus],
                "refusals": list(cell.refusals),
                "notes": list(cell.notes),
            }
        }
    )
    return recording


def _plain(stimulus):
    """JSON has neither NaN nor infinity."""
    values = asdict(stimulus)
    return {name: value if isinstance(value, str) or np.isfinite(value) else None for name, value in values.items()}


def _step(entry):
    if entry is None:
        return None
    return StepStimulus(**{name: value for name, value in entry.items() if value is not None})


def sweeps_from_recording(
    recording: BaseRecording,
    *,
    stimulus: Sequence[StepStimulus | None] | None = None,
    channel: str | int | None = None,
    current_channel: str | int | None = None,
    pa_per_unit: float | None = None,
    cell_id: str | None = None,
    units: str = "auto",
) -> CellSweeps:
    """Sweeps of a recording, one per segment, for example of ``read_axon``.

    Parameters
    ----------
    recording : BaseRecording
        With gains to uV where it is not in mV already.
    stimulus : sequence of StepStimulus or None, optional
        One per segment. Default: what :func:`recording_from_sweeps` has noted, else from ``current_channel``.
    channel, current_channel : channel id, optional
        Of the potential (default: the first channel) and of the recorded current.
    pa_per_unit : float, optional
        Of the raw numbers of the current channel; needed with it.
    cell_id : str, optional
        Default: as noted, else "cell".
    units : "auto" | "mV" | "V" | "uV", default: "auto"
        As for :func:`~.sweeps.sweeps_from_arrays`, of the potentials after gains.

    Returns
    -------
    CellSweeps

    Raises
    ------
    InputError
        When a channel is not there, the current's unit is missing, or as :func:`~.sweeps.sweeps_from_arrays`.
    """
    kept = recording.get_annotation(ANNOTATION) or {}
    channel = _channel(recording, channel, recording.channel_ids[0])
    voltage = [_trace(recording, segment, channel, True) for segment in range(recording.get_num_segments())]
    recorded = None
    if current_channel is not None:
        if pa_per_unit is None:
            raise InputError(f"How many pA is one unit of channel {current_channel!r}? Give pa_per_unit.")
        current_channel = _channel(recording, current_channel, None)
        recorded = [_trace(recording, k, current_channel, False) * pa_per_unit for k in range(len(voltage))]
    elif stimulus is None and kept:
        stimulus = [_step(entry) for entry in kept["stimulus"]]
    return sweeps_from_arrays(
        voltage,
        recording.get_sampling_frequency(),
        stimulus=stimulus,
        recorded_pa=recorded,
        cell_id=cell_id or kept.get("cell_id", "cell"),
        units=units,
        refusals=kept.get("refusals") if current_channel is None else None,
        notes=kept.get("notes", ()),
    )


def _channel(recording, channel, default):
    channel = default if channel is None else channel
    if channel not in list(recording.channel_ids):
        raise InputError(f"There is no channel {channel!r}: there are {list(recording.channel_ids)}.")
    return channel


def _trace(recording, segment, channel, in_mv):
    """One channel of one segment: mV where gains are known, else the raw numbers."""
    in_uv = in_mv and recording.has_scaleable_traces()
    traces = recording.get_traces(segment_index=segment, channel_ids=[channel], return_in_uV=in_uv)
    return traces[:, 0].astype("float64") / (1e3 if in_uv else 1.0)
