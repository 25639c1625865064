"""All streams of sorted units at once, from spike trains and waveforms."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import InputError
from .cell_streams import CellStream
from .unit_settings import TRAIN_STREAMS, UNIT_STREAMS, WAVEFORM_STREAMS, UnitStreamSettings
from .unit_spike_trains import acg_3d, check_train, log_isi_histogram, spike_scalogram
from .unit_waveforms import aligned_waveforms, waveform_scalograms

__all__ = ["check_streams", "unit_streams"]


def unit_streams(
    trains: Sequence[Sequence[np.ndarray]] | None = None,
    durations_s: Sequence[float] | Sequence[Sequence[float]] | None = None,
    waveforms: np.ndarray | None = None,
    sampling_frequency: float | None = None,
    *,
    settings: UnitStreamSettings | None = None,
    streams: Sequence[str] | None = None,
    num_threads: int = 1,
) -> dict[str, CellStream]:
    """Streams of units.

    Parameters
    ----------
    trains : sequence of sequences of arrays, optional
        For each unit the spike times of each segment in seconds, sorted.
    durations_s : sequence of float, or of sequences of float
        Of the segments: the same for all units, or for each.
    waveforms : array, shape (num_units, num_samples), optional
        On the best channel of each unit.
    sampling_frequency : float
        Of the waveforms, in Hz.
    settings : UnitStreamSettings, optional
    streams : sequence of str, optional
        Which of "waveform", "waveform_scalogram", "log_isi", "acg_3d" and "spike_scalogram". Default: all that can be
        computed from what is given.
    num_threads : int, default: 1
        Units at a time.

    Returns
    -------
    dict of {str: CellStream}

    Raises
    ------
    InputError
        On unknown streams, streams for which trains or waveforms are missing, and as the functions of
        :mod:`~.unit_spike_trains` and :mod:`~.unit_waveforms`.
    """
    settings = settings or UnitStreamSettings()
    possible = (*(WAVEFORM_STREAMS if waveforms is not None else ()), *(TRAIN_STREAMS if trains is not None else ()))
    streams = possible if streams is None else check_streams(streams)
    if lost := [name for name in streams if name not in possible]:
        raise InputError(f"The streams {lost} need waveforms or spike trains that are not given.")
    values = {}
    if wanted := [name for name in WAVEFORM_STREAMS if name in streams]:
        found = aligned_waveforms(waveforms, sampling_frequency, settings)
        values["waveform"] = found
        if "waveform_scalogram" in wanted:
            values["waveform_scalogram"] = waveform_scalograms(found, settings)
    if wanted := [name for name in TRAIN_STREAMS if name in streams]:
        found = _of_trains(list(trains), durations_s, wanted, settings, num_threads)
        values |= {name: [one[name] for one in found] for name in wanted}
    return {name: _stream(values[name], settings.axes(name)) for name in UNIT_STREAMS if name in streams}


def check_streams(streams: Sequence[str]) -> tuple[str, ...]:
    """Names of streams in their usual order.

    Raises
    ------
    InputError
        When there is no such stream, or none is named.
    """
    if isinstance(streams, str) or not len(streams) or (set(streams) - set(UNIT_STREAMS)):
        raise InputError(f"streams must be a list of some of {UNIT_STREAMS}, got {streams!r}.")
    return tuple(name for name in UNIT_STREAMS if name in streams)


def _of_trains(trains, durations_s, wanted, settings, num_threads):
    if durations_s is None:
        raise InputError("Spike trains need durations_s, the durations of their segments.")
    durations = [durations_s] * len(trains) if np.ndim(durations_s[0]) == 0 else list(durations_s)
    if len(durations) != len(trains):
        raise InputError(f"{len(trains)} spike trains and durations for {len(durations)} units are given.")

    def work(train, own):
        train = check_train(train, own)
        functions = {
            "log_isi": lambda: log_isi_histogram(train, settings),
            "acg_3d": lambda: acg_3d(train, own, settings),
            "spike_scalogram": lambda: spike_scalogram(train, own, settings),
        }
        return {name: functions[name]() for name in wanted}

    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        return list(pool.map(work, trains, durations))


def _stream(values, axes):
    # without units there is nothing to stack
    return CellStream(np.reshape(values, (len(values), *map(len, axes.values()))), axes)
