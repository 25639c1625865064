"""Options of a short recording, and what its tests share."""

import sys

import numpy as np

SHORT = {"duration": 2.0, "num_excitatory": 6, "num_inhibitory": 2, "noise_mode": "uncorrelated", "seed": 3}


def without_mearec(monkeypatch):
    monkeypatch.setitem(sys.modules, "MEArec", None)


def spike_average(recording, sorting, unit, before, after):
    traces = recording.get_traces(return_in_uV=True)
    frames = sorting.get_unit_spike_train(unit)
    frames = frames[(frames >= before) & (frames < len(traces) - after)]
    return np.mean([traces[frame - before : frame + after] for frame in frames], axis=0)
