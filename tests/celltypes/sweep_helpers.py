"""Current-clamp sweeps with known steps, passive responses and spikes; files of ABF version 1."""

import struct

import numpy as np

from si_neuroml.celltypes.stimulus import step_stimuli
from si_neuroml.celltypes.sweeps import sweeps_from_arrays

RATE = 20_000.0
REST, RESISTANCE, TAU_S = -70.0, 0.1, 0.010  # mV, mV / pA, s
RISE_S, FALL_S, HEIGHT, TROUGH = 0.0004, 0.0008, 80.0, 10.0  # of a spike: straight lines, mV
TROUGH_S = 0.006  # its recovery


def currents(amplitudes, *, rate=RATE, onset=0.2, duration=0.5, total=0.9, holding=-20.0, pulses=(), noise=0.0, seed=0):
    """Steps above holding; ``pulses``: further (start, stop, amplitude) in seconds."""
    at = np.arange(round(total * rate)) / rate + 0.25 / rate
    rng = np.random.default_rng(seed)
    out = []
    for amplitude in amplitudes:
        current = holding + amplitude * ((at >= onset) & (at < onset + duration))
        for start, stop, level in pulses:
            current = current + level * ((at >= start) & (at < stop))
        out.append(current + noise * rng.standard_normal(len(at)))
    return out


def make_sweep(
    amplitude, spikes=(), *, rate=20_000.0, onset=0.2, duration=0.5, after=0.2, rest=REST, extra=(), noise=0.05, seed=0
):
    """Potential of a passive membrane in a step, with spikes whose thresholds are at ``onset + spikes`` seconds.

    ``extra``: thresholds in seconds of the sweep.
    """
    at = np.arange(round((onset + duration + after) * rate)) / rate
    charge = 1 - np.exp(-np.clip(at - onset, 0, None) / TAU_S)
    settled = 1 - np.exp(-duration / TAU_S)
    discharge = settled * np.exp(-np.clip(at - onset - duration, 0, None) / TAU_S)
    voltage = rest + amplitude * RESISTANCE * np.where(at < onset + duration - 0.5 / rate, charge, discharge)
    for threshold in (*(onset + np.asarray(spikes)), *extra):
        since = at - threshold
        rising = (since >= 0) & (since <= RISE_S)
        falling = (since > RISE_S) & (since <= RISE_S + FALL_S)
        later = since > RISE_S + FALL_S
        voltage[rising] += HEIGHT * since[rising] / RISE_S
        voltage[falling] += HEIGHT - (HEIGHT + TROUGH) * (since[falling] - RISE_S) / FALL_S
        voltage[later] -= TROUGH * np.exp(-(since[later] - RISE_S - FALL_S) / TROUGH_S)
    return voltage + noise * np.random.default_rng(seed).standard_normal(len(at))


def regular(count, duration=0.5, first=0.06):
    """Thresholds of a regular train after onset."""
    return first + np.arange(count) * (duration - first) / max(1, count)


def make_cell(amplitudes, trains, *, onset=0.2, duration=0.5, holding=0.0, replace=None, cell_id="cell", **kwargs):
    """A cell with one sweep per amplitude; ``replace``: {sweep: voltage}."""
    voltages = [
        make_sweep(a, train, onset=onset, duration=duration, seed=k, **kwargs)
        for k, (a, train) in enumerate(zip(amplitudes, trains, strict=True))
    ]
    for k, voltage in (replace or {}).items():
        voltages[k] = voltage
    return sweeps_from_arrays(
        voltages,
        kwargs.get("rate", 20_000.0),
        stimulus=step_stimuli(onset, onset + duration, amplitudes, holding),
        cell_id=cell_id,
    )


def firing_cell(amplitudes, rheobase, *, hz_per_pa=0.1, **kwargs):
    """A cell that fires regularly from ``rheobase`` on, two spikes there and more above."""
    duration = kwargs.get("duration", 0.5)
    counts = [2 + round((a - rheobase) * hz_per_pa * duration) if a >= rheobase else 0 for a in amplitudes]
    return make_cell(amplitudes, [regular(n, duration) for n in counts], **kwargs)


def write_abf1(path, voltage_mv, current=None, *, rate=20_000.0, units=("mV", "pA"), protocol=None, mode=5):
    """A file of ABF version 1.83: arrays (num_sweeps, num_samples); ``protocol``: dict of header fields of the command.

    The header's layout is that of Axon's "ABF File Support Pack"; the command is on output 0, in pA.
    """
    signals = [voltage_mv] if current is None else [voltage_mv, current]
    num_sweeps, num_samples = np.shape(voltage_mv)
    num_channels = len(signals)
    head = bytearray(6144)

    def put(offset, fmt, *values):
        struct.pack_into("<" + fmt, head, offset, *values)

    put(0, "4sfhihi", b"ABF ", 1.83, mode, num_sweeps * num_samples * num_channels, 0, num_sweeps)
    put(40, "i", 12)
    data = np.stack(signals, axis=-1).reshape(num_sweeps, -1)
    scale = [np.abs(signal).max() / 30_000 or 1.0 for signal in signals]
    data = np.round(data / np.tile(scale, num_samples)).astype("<i2").tobytes()
    data += bytes(-len(data) % 512)
    put(92, "2i", 12 + len(data) // 512, num_sweeps)
    put(100, "h", 0)
    put(120, "hf", num_channels, 1e6 / rate / num_channels)
    put(130, "f", 0.0)
    put(138, "i", num_samples * num_channels)
    put(244, "f", 10.0)
    put(252, "i", 32_768)
    put(378, "16h", *range(16))
    put(410, "16h", *range(num_channels), *[-1] * (16 - num_channels))
    for k in range(16):
        put(442 + 10 * k, "10s", f"IN {k}".encode().ljust(10))
        put(602 + 8 * k, "8s", (units[k] if k < num_channels else "mV").encode().ljust(8))
        put(730 + 4 * k, "f", 1.0)
        put(922 + 4 * k, "f", 10.0 / 32_768 / scale[k] if k < num_channels else 1.0)
        put(1050 + 4 * k, "f", 1.0)
    put(1346, "8s", b"pA      ")
    put(1394, "f", (protocol or {}).get("holding", 0.0))
    if protocol is not None:
        put(2296, "2h", 1, 0)
        put(2300, "2h", protocol.get("source", 1), 0)
        for e, (kind, level, level_step, length, length_step) in enumerate(protocol["epochs"]):
            put(2308 + 2 * e, "h", kind)
            put(2348 + 4 * e, "f", level)
            put(2428 + 4 * e, "f", level_step)
            put(2508 + 4 * e, "i", length)
            put(2588 + 4 * e, "i", length_step)
    episodes = np.array(
        [(k * num_samples * num_channels, num_samples * num_channels) for k in range(num_sweeps)], "<i4"
    )
    path.write_bytes(bytes(head) + data + episodes.tobytes())
    return path
