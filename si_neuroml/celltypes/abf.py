"""Current-clamp sweeps from Axon Binary Format files (ABF 1 and 2), read by neo.

The potential is the first channel in mV (or V). The injected current is, in this order: a recorded channel in pA (or
nA, A), the channel named ``current_channel``, the command that the file's protocol describes. A command that comes from
a waveform file or a user list, or has ramps or trains, cannot be rebuilt from the header and is not guessed at.
"""

from pathlib import Path

import numpy as np

from ..errors import InputError
from .sweeps import CellSweeps, sweeps_from_arrays

__all__ = ["read_abf"]

_MV = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "µV": 1e-3}
_PA = {"A": 1e12, "mA": 1e9, "uA": 1e6, "µA": 1e6, "nA": 1e3, "pA": 1.0}
_EPISODIC = 5
# bytes of the header of ABF 1: sDACChannelUnit, fDACHoldingLevel
_V1_UNITS, _V1_HOLDING = 1346, 1394


def read_abf(
    path: str | Path,
    *,
    cell_id: str | None = None,
    voltage_channel: str | None = None,
    current_channel: str | None = None,
    pa_per_unit: float | None = None,
    units: str = "auto",
) -> CellSweeps:
    """Sweeps of an ABF file.

    Parameters
    ----------
    path : str | Path
        The file.
    cell_id : str, optional
        Default: its name without ".abf".
    voltage_channel, current_channel : str, optional
        Names of channels, where the file's units do not tell them.
    pa_per_unit : float, optional
        For a current channel whose unit is no current: how many pA one of its units is.
    units : "auto" | "mV" | "V" | "uV", default: "auto"
        Of the potential after the file's own gains; see :func:`~.sweeps.sweeps_from_arrays`.

    Returns
    -------
    CellSweeps
        Where no current can be found, every sweep is refused, and says why.

    Raises
    ------
    InputError
        When the file cannot be read, holds no potential (voltage clamp), is not in episodes, or as
        :func:`~.sweeps.sweeps_from_arrays`.
    """
    from neo.rawio import AxonRawIO

    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        reader = AxonRawIO(str(path))
        reader.parse_header()
    except Exception as error:
        # neo fails in many ways on what is no ABF file
        raise InputError(f"{path} cannot be read as ABF: {type(error).__name__}: {error}") from error
    info = reader._axon_info
    mode = info.get("protocol", info).get("nOperationMode", _EPISODIC)
    channels = reader.header["signal_channels"]
    names = [str(name) for name in channels["name"]]
    voltage_index, factor = _voltage_channel(path, channels, names, voltage_channel)
    if mode != _EPISODIC:
        raise InputError(f"{path} was not recorded in episodes (operation mode {mode}): there are no sweeps in it.")
    voltage = [_signal(reader, segment, voltage_index) * factor for segment in range(reader.segment_count(0))]
    recorded, why_not = _recorded(reader, channels, names, voltage_index, current_channel, pa_per_unit)
    command, why_no_command = _command(path, info, voltage)
    reasons, notes = None, []
    if recorded is None and command is None:
        reasons = [f"no stimulus: {why_no_command}; {why_not}"] * len(voltage)
    elif command is None:
        notes = [f"recorded current not checked: {why_no_command}"]
    elif recorded is None:
        notes = [f"steps are those commanded: {why_not}"]
    return sweeps_from_arrays(
        voltage,
        float(channels["sampling_rate"][voltage_index]),
        recorded_pa=recorded,
        command_pa=command,
        cell_id=cell_id or path.stem,
        units=units,
        refusals=reasons,
        notes=notes,
    )


def _voltage_channel(path, channels, names, wanted):
    units = [str(unit) for unit in channels["units"]]
    if wanted is not None:
        index = _index(names, wanted)
    else:
        index = next((k for k, unit in enumerate(units) if unit in _MV), None)
        if index is None:
            raise InputError(
                f"{path} holds no potential: its channels are in {', '.join(units)}. A voltage-clamp recording has no "
                "spikes to type; where the unit is wrong, give voltage_channel."
            )
    return index, _MV.get(units[index], 1.0)


def _index(names, wanted):
    if wanted not in names:
        raise InputError(f"There is no channel {wanted!r}: there are {names}.")
    return names.index(wanted)


def _signal(reader, segment, index):
    """One channel of one sweep in the unit of the header."""
    streams = reader.header["signal_channels"]["stream_id"]
    stream = [str(s) for s in reader.header["signal_streams"]["id"]].index(str(streams[index]))
    within = int(np.flatnonzero(np.flatnonzero(streams == streams[index]) == index)[0])
    raw = reader.get_analogsignal_chunk(0, segment, stream_index=stream, channel_indexes=[within])
    scaled = reader.rescale_signal_raw_to_float(raw, "float64", stream_index=stream, channel_indexes=[within])
    return scaled[:, 0]


def _recorded(reader, channels, names, voltage_index, wanted, pa_per_unit):
    """Recorded current in pA of each sweep, or why there is none."""
    units = [str(unit) for unit in channels["units"]]
    if wanted is None:
        index = next((k for k, unit in enumerate(units) if unit in _PA and k != voltage_index), None)
        if index is None:
            others = [f"{n!r} in {u}" for k, (n, u) in enumerate(zip(names, units, strict=True)) if k != voltage_index]
            return None, (
                f"of the recorded channels, {' and '.join(others)} is no current by its unit; if it is one, give "
                "current_channel and pa_per_unit"
                if others
                else "no current was recorded"
            )
    else:
        index = _index(names, wanted)
        if units[index] not in _PA and pa_per_unit is None:
            raise InputError(f"Channel {wanted!r} is in {units[index]}: give pa_per_unit to read it as a current.")
    factor = _PA[units[index]] if pa_per_unit is None else pa_per_unit
    return [_signal(reader, segment, index) * factor for segment in range(reader.segment_count(0))], ""


def _command(path, info, voltage):
    """Command current in pA of each sweep as the protocol describes it, or why it cannot be known."""
    version = float(info["fFileVersionNumber"])
    if version < 1.6 - 1e-3:
        return None, f"files of ABF version {version:.1f} hold no protocol that can be read"
    outputs = _outputs_1(path, info) if version < 2 else _outputs_2(info)
    outputs = [output for output in outputs if output["unit"] in _PA]
    if not outputs:
        return None, "the protocol commands no current"
    output = outputs[0]
    if output["source"] != 1:
        return None, "the command came from a file of its own, which is not part of the recording"
    if version >= 2 and info["sections"].get("UserListSection", {}).get("llNumEntries", 0):
        return None, "a user list changed the command from sweep to sweep, which the header does not resolve"
    kinds = {int(kind) for kind, *_ in output["epochs"]} - {0, 1}
    if kinds:
        return None, f"the command has epochs that are no steps (types {sorted(kinds)})"
    commands = [_waveform(output, sweep, len(trace)) * _PA[output["unit"]] for sweep, trace in enumerate(voltage)]
    return commands, ""


def _waveform(output, sweep, num_samples):
    """Epochs one after another; before them and after them the holding level, as Clampex plays them."""
    command = np.full(num_samples, float(output["holding"]))
    # Clampex holds for 1/64 of a sweep first
    at = num_samples // 64
    for kind, level, level_step, length, length_step in output["epochs"]:
        length = int(length + sweep * length_step)
        if kind and length > 0:
            command[at : at + length] = level + sweep * level_step
            at += length
    return command


def _outputs_2(info):
    """Enabled outputs of ABF 2 with their epochs (type, level, level step, length, length step)."""
    names = ("nEpochType", "fEpochInitLevel", "fEpochLevelInc", "lEpochInitDuration", "lEpochDurationInc")
    return [
        {
            "unit": dac["DACChUnits"].decode("latin-1").strip(),
            "holding": dac["fDACHoldingLevel"],
            "source": dac["nWaveformSource"],
            "epochs": [tuple(epoch[n] for n in names) for _, epoch in sorted(info["dictEpochInfoPerDAC"][k].items())],
        }
        for k, dac in enumerate(info["listDACInfo"])
        if dac["nWaveformEnable"] and k in info["dictEpochInfoPerDAC"]
    ]


def _outputs_1(path, info):
    """The same of ABF 1: two outputs of ten epochs in the header; neo leaves out their units and holding levels."""
    with open(path, "rb") as file:
        head = file.read(_V1_HOLDING + 16)
    holding = np.frombuffer(head, "<f4", 4, _V1_HOLDING)
    names = ("nEpochType", "fEpochInitLevel", "fEpochLevelInc", "lEpochInitDuration", "lEpochDurationInc")
    return [
        {
            "unit": head[_V1_UNITS + 8 * k : _V1_UNITS + 8 * k + 8].decode("latin-1").strip(" \0"),
            "holding": float(holding[k]),
            "source": int(info["nWaveformSource"][k]),
            "epochs": list(zip(*(info[name][10 * k : 10 * k + 10] for name in names), strict=True)),
        }
        for k in range(2)
        if info["nWaveformEnable"][k]
    ]
