"""What the tests of the nodes share: short calls, recordings built from arrays, comparisons."""

import copy

import numpy as np
import spikeinterface.full as si
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

from si_neuroml.localization.settings import LOCATION_DTYPE

QUIET = {"n_jobs": 1, "progress_bar": False}
FAST_FIT = {"epochs": 1, "learning_rate": 1e-3}
DURATION_S = 3.0
PEAK_DTYPE = [(name, "int64") for name in ("sample_index", "channel_index", "segment_index")]
OUR_METHODS = ["vae", "center_of_mass_nearest"]


def localize(recording, peaks, model=None, method="vae", method_kwargs=None, **job_kwargs):
    given = {"model": model} if model is not None else {}
    return localize_peaks(
        recording,
        peaks,
        method=method,
        method_kwargs={**given, **(method_kwargs or {})},
        job_kwargs={**QUIET, **job_kwargs},
    )


def numpy_recording(traces, like, sampling_frequency=None, probe=None, **kwargs):
    segments = traces if isinstance(traces, list) else [traces]
    found = si.NumpyRecording(segments, sampling_frequency or like.sampling_frequency, **kwargs)
    found.set_probe(probe if probe is not None else own_probe(like))
    return found


def own_probe(recording):
    """A copy, because what get_probe() returns is the recording's own."""
    return copy.deepcopy(recording.get_probe())


def short(recording, num_samples=16_000):
    """Traces of the first half second, writable."""
    return recording.get_traces(end_frame=num_samples).copy()


def first_peaks(peaks, num_samples=16_000):
    return peaks[peaks["sample_index"] < num_samples]


def assert_same(found, expected):
    assert found.dtype == LOCATION_DTYPE
    for name in LOCATION_DTYPE.names:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def assert_close(found, expected, atol):
    for name in LOCATION_DTYPE.names:
        np.testing.assert_allclose(found[name], expected[name], atol=atol, rtol=1e-4, err_msg=name)


def fields(locations, names="xyz"):
    return np.column_stack([locations[name] for name in names])


def stored(analyzer):
    return analyzer.get_extension("spike_locations").get_data()
