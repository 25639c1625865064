"""method="hmc" where users call it: planted spikes, pools and chunks, analyzers, bad arguments."""

import os

import numpy as np
import pytest
import spikeinterface.full as si
from probeinterface import Probe
from spikeinterface.core.node_pipeline import PeakRetriever
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

from si_neuroml.errors import InputError
from si_neuroml.localization.hmc_node import HMC_LOCATION_DTYPE, LocalizeHMC
from si_neuroml.localization.observation import ObservationModel
from si_neuroml.localization.settings import LOCATION_DTYPE

QUIET = {"n_jobs": 1, "progress_bar": False}
RATE = 30_000.0
NOISE_UV = 5.0


def square_of_contacts(per_side=3, pitch_um=15.0):
    steps = (np.arange(per_side) - (per_side - 1) / 2) * pitch_um
    x, y = np.meshgrid(steps, steps)
    return np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])


@pytest.fixture(scope="module")
def planted():
    """Two segments of noise on 5 x 5 contacts with spikes of exponential footprint: (recording, peaks, places)."""
    rng = np.random.default_rng(8)
    contacts = square_of_contacts(per_side=5)
    probe = Probe(ndim=2)
    probe.set_contacts(positions=contacts[:, :2])
    probe.set_device_channel_indices(np.arange(25))
    shape = -np.exp(-0.5 * (np.arange(-20, 21) / 4.0) ** 2)
    segments, peaks, places = [], [], []
    for segment in range(2):
        traces = rng.normal(0, NOISE_UV, (9_000, 25))
        for sample in range(150, 8_900, 700):
            place = np.append(rng.uniform(-10, 10, 2), rng.uniform(10, 20))
            footprint = ObservationModel().footprint(place[None], contacts[None])[0]
            traces[sample - 20 : sample + 21] += 300.0 * shape[:, None] * footprint
            peaks.append((sample, footprint.argmax(), -300.0 * footprint.max(), segment))
            places.append(place)
        segments.append(traces.astype("float32"))
    recording = si.NumpyRecording(segments, RATE)
    recording.set_probe(probe)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    dtype = [
        ("sample_index", "int64"),
        ("channel_index", "int64"),
        ("amplitude", "float64"),
        ("segment_index", "int64"),
    ]
    return recording, np.array(peaks, dtype=dtype), np.array(places)


def localized(recording, peaks, job_kwargs=None, **method_kwargs):
    job_kwargs = {**QUIET, **(job_kwargs or {})}
    return localize_peaks(recording, peaks, method="hmc", method_kwargs=method_kwargs, job_kwargs=job_kwargs)


def test_planted_spikes_are_found(planted):
    recording, peaks, places = planted
    found = localized(recording, peaks)
    assert found.dtype == HMC_LOCATION_DTYPE
    assert HMC_LOCATION_DTYPE.names[:7] == LOCATION_DTYPE.names
    assert all(np.isfinite(found[name]).all() for name in found.dtype.names)
    error = np.column_stack([found[name] for name in "xyz"]) - places
    assert np.median(np.abs(error), axis=0).max() < 5.0
    assert (found["z"] >= 0).all()
    assert found["r_hat"].max() < 1.05
    assert (np.abs(found["xz_cov"]) <= found["x_std"] * found["z_std"] * (1 + 1e-9)).all()
    paper = localized(recording, peaks[:2], preset="hurwitz2019", num_warmup=50, num_samples=50)
    assert np.isfinite(paper["x"]).all()


def test_pools_and_chunks_give_equal_places(planted):
    recording, peaks, _ = planted
    quick = {"num_chains": 2, "num_warmup": 100, "num_samples": 40, "seed": 5}
    expected = localized(recording, peaks, **quick)
    pools = [{"chunk_duration": "0.05s"}, {"n_jobs": 2, "pool_engine": "thread", "chunk_duration": "0.11s"}]
    if hasattr(os, "fork"):
        pools.append({"n_jobs": 2, "mp_context": "fork", "chunk_duration": "0.11s"})
    for job_kwargs in pools:
        np.testing.assert_array_equal(localized(recording, peaks, job_kwargs, **quick), expected)
    some = localized(recording, peaks[3:20:4], **quick)
    np.testing.assert_array_equal(some, expected[3:20:4])
    assert (localized(recording, peaks, **{**quick, "seed": 6})["x"] != expected["x"]).all()


def test_analyzer_stores_the_places(planted):
    recording, peaks, _ = planted
    spikes = [{"a": peaks["sample_index"][peaks["segment_index"] == segment]} for segment in range(2)]
    sorting = si.NumpySorting.from_unit_dict(spikes, RATE)
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=False, job_kwargs=QUIET)
    analyzer.compute(["random_spikes", "templates"], **QUIET)
    kwargs = {"num_warmup": 100, "num_samples": 40, "noise": 5.0}
    analyzer.compute("spike_locations", method="hmc", method_kwargs=kwargs, **QUIET)
    found = analyzer.get_extension("spike_locations").get_data()
    assert found.dtype == HMC_LOCATION_DTYPE
    assert len(found) == len(peaks)
    assert np.isfinite(found["x"]).all()


def test_noise_is_measured_once_and_travels_as_a_number(planted):
    recording, peaks, _ = planted
    source = PeakRetriever(recording, peaks)
    node = LocalizeHMC(recording, [source])
    assert node._kwargs["noise"] == node.observation.noise_std_uv == pytest.approx(NOISE_UV, rel=0.05)
    assert node.observation.misfit_fraction == 0.1
    # the arguments rebuild the same node
    again = LocalizeHMC(**{k: v for k, v in node._kwargs.items() if k != "time_series"}, recording=recording)
    assert again.observation == node.observation
    assert again.settings == node.settings
    paper = LocalizeHMC(recording, [source], preset="hurwitz2019")
    assert (paper.observation.noise_std_uv, paper.observation.misfit_fraction) == (1.0, 0.0)
    assert paper.geometry.half_width_um == 20.0
    # what a motion preset says to its own localizer
    LocalizeHMC(recording, [source], noise="unit", radius_um=75.0, feature="ptp")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"noise": 0.0}, "noise must be"),
        ({"noise": "loud"}, "noise must be"),
        ({"misfit_fraction": -0.1}, r"misfit_fraction must be a number of at least 0 and below 1, got -0\.1"),
        ({"amplitude_feature": "ptp"}, "amplitude_feature must be one of"),
        ({"peak_sign": "up"}, "peak_sign must be one of"),
        ({"ms_before": 0}, "ms_before must be a positive number, got 0"),
        ({"decay_per_um": float("inf")}, "decay_per_um must be a positive number, got inf"),
        ({"half_width_um": -5.0}, r"half_width_um must be a positive number, got -5\.0"),
        ({"half_width_um": 5.0}, "No contact has another contact closer"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"num_samples": 0}, "num_samples must be a whole number of at least 4, got 0"),
        ({"preset": "fast"}, "preset must be None or one of"),
        ({"sampler_kwargs": {"step": 1}}, r"Unknown HMC settings \['step'\]"),
        ({"chains": 4}, r"knows no parameters \['chains'\]"),
    ],
)
def test_bad_arguments_of_the_node_are_refused(planted, kwargs, message):
    recording, peaks, _ = planted
    with pytest.raises(InputError, match=message):
        localized(recording, peaks, **{"noise": "unit", **kwargs})
