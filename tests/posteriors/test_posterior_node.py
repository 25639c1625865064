"""The localizer that needs no training, through SpikeInterface: exact, invariant, and proper whatever the traces."""

import pickle

import numpy as np
import pytest
import spikeinterface.full as si
from posterior_helpers import (
    FOREIGN_MODEL,
    QUIET,
    array_recording,
    assert_close,
    assert_proper,
    assert_same,
    distances,
    moved_probe,
    places,
    posteriors_of,
)
from spikeinterface.core.node_pipeline import PeakRetriever, run_node_pipeline
from threadpoolctl import threadpool_limits

from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.localization.neural_posterior import BLANK_STD_UM, shipped_posterior
from si_neuroml.localization.neural_posterior_node import LocalizeNeuralPosterior
from si_neuroml.localization.posterior import POSTERIOR_DTYPE

HALF = 32_000


@pytest.fixture(scope="module")
def half(traces, peaks):
    """The first second, writable, and its peaks."""
    return traces[:HALF].copy(), peaks[peaks["sample_index"] < HALF - 200]


def test_places_are_better_than_the_centre_channel(recording, sorting, peaks, expected):
    assert expected.dtype == POSTERIOR_DTYPE
    assert_proper(expected)
    truth = sorting.get_property("gt_unit_locations")[sorting.to_spike_vector()["unit_index"]][:, :2]
    off = np.linalg.norm(places(expected, "xy") - truth, axis=1)
    centre = np.linalg.norm(recording.get_channel_locations()[peaks["channel_index"]] - truth, axis=1)
    assert np.median(off) < min(20.0, np.median(centre))


@pytest.mark.parametrize(
    "job_kwargs",
    [
        {"chunk_duration": "0.13s"},
        {"n_jobs": 2, "chunk_duration": "0.5s", "pool_engine": "thread"},
        {"n_jobs": 2, "chunk_duration": "0.7s"},
    ],
    ids=["chunks", "threads", "processes"],
)
def test_pool_and_chunks_change_nothing(recording, peaks, expected, job_kwargs):
    assert_same(posteriors_of(recording, peaks, **job_kwargs), expected)


@pytest.mark.parametrize("limit", [1, 2])
def test_threads_of_the_matrix_product_change_nothing(recording, peaks, expected, limit):
    with threadpool_limits(limit):
        assert_same(posteriors_of(recording, peaks), expected)


def test_nodes_travel(recording, peaks, expected):
    source = PeakRetriever(recording, peaks)
    nodes = pickle.loads(pickle.dumps([source, LocalizeNeuralPosterior(recording, [source])]))
    assert_same(run_node_pipeline(recording, nodes, QUIET, "test"), expected)


def test_any_name_of_the_model(recording, peaks, expected, tmp_path):
    shipped = shipped_posterior()
    model = type(shipped).from_parts(*shipped.to_parts())
    assert model == shipped
    assert_same(posteriors_of(recording, peaks, {"model": model}), expected)
    folder = model.save(tmp_path / "model")
    for reference in (folder, str(folder), dict(model)):
        assert_same(posteriors_of(recording, peaks[:3], {"model": reference}), expected[:3])


def test_what_is_refused(recording, peaks):
    with pytest.raises(ModelMismatchError, match="of kind 'vae_localizer', but this needs .* 'neural_posterior'"):
        posteriors_of(recording, peaks, {"model": FOREIGN_MODEL})
    with pytest.raises(InputError, match="peak_sign must be one of .*, got 'up'"):
        posteriors_of(recording, peaks, {"peak_sign": "up"})
    with pytest.raises(InputError, match=r"knows no parameters \['fit_kwargs'\]"):
        posteriors_of(recording, peaks, {"fit_kwargs": {}})
    slow = array_recording(recording.get_traces(), recording, sampling_frequency=5000.0)
    with pytest.raises(ModelMismatchError, match="has 5000 Hz"):
        posteriors_of(slow, peaks)


def test_spikes_that_point_upwards(half, recording, expected):
    traces, own = half
    turned = array_recording(-traces, recording)
    assert_same(posteriors_of(turned, own, {"peak_sign": "pos"}), expected[: len(own)])
    clear = expected["outlier_probability"][: len(own)] < 0.2
    both = posteriors_of(turned, own, {"peak_sign": "both"})
    assert np.median(distances(both, expected[: len(own)])[clear]) < 1.0


@pytest.mark.parametrize("rate", [20_000.0, 50_000.0])
def test_other_sampling_rates(half, recording, expected, rate):
    traces, own = half
    other = si.resample(array_recording(traces, recording), round(rate))
    moved = own.copy()
    moved["sample_index"] = np.round(own["sample_index"] * rate / recording.sampling_frequency)
    found = posteriors_of(other, moved)
    assert_proper(found)
    assert np.median(distances(found, expected[: len(own)], "xy")) < 3.0


def test_the_order_of_channels_changes_nothing(half, recording, expected):
    traces, own = half
    order = np.random.default_rng(0).permutation(traces.shape[1])
    shuffled = array_recording(traces, recording).select_channels(recording.channel_ids[order])
    moved = own.copy()
    moved["channel_index"] = np.argsort(order)[own["channel_index"]]
    assert_close(posteriors_of(shuffled, moved), expected[: len(own)])


def test_the_probe_may_be_anywhere(half, recording, expected):
    traces, own = half
    offset = np.array([500.0, -1234.5, 0.0])
    probe = array_recording(traces, recording).get_probe()
    probe._contact_positions = probe.contact_positions + offset[:2]
    found = posteriors_of(array_recording(traces, recording, probe=probe), own)
    for axis, shift in zip("xyz", offset, strict=True):
        found[axis] -= shift
    assert_close(found, expected[: len(own)])


def test_a_probe_in_the_xz_plane(half, recording, expected):
    traces, own = half
    probe = moved_probe(recording, lambda xyz: xyz[:, [0, 2, 1]])
    found = posteriors_of(array_recording(traces, recording, probe=probe), own)
    wanted = expected[: len(own)].copy()
    # y is now the distance from the probe; the side it lies on cannot be known
    for y, z in (("y", "z"), ("y_std", "z_std"), ("xy_cov", "xz_cov")):
        wanted[y], wanted[z] = wanted[z].copy(), wanted[y].copy()
    for name in ("y", "xy_cov", "yz_cov"):
        wanted[name] *= -1.0
    assert_close(found, wanted)


def test_a_turned_shank_gives_turned_places(half, recording, expected):
    traces, own = half
    c, s = np.cos(0.4), np.sin(0.4)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    probe = moved_probe(recording, lambda xyz: xyz @ turn.T)
    found = posteriors_of(array_recording(traces, recording, probe=probe), own)
    np.testing.assert_allclose(places(found), places(expected[: len(own)]) @ turn.T, atol=1e-2)
    assert_proper(found)


def test_a_bent_shank_is_refused(half, recording):
    traces, own = half
    probe = moved_probe(recording, lambda xyz: xyz + np.outer(0.01 * xyz[:, 0] ** 2, [0, 0, 1]))
    with pytest.raises(InputError, match='do not lie in one plane.*use method="vae"'):
        posteriors_of(array_recording(traces, recording, probe=probe), own)


def test_a_shank_far_away_changes_nothing(half, recording, expected):
    from probeinterface import ProbeGroup

    traces, own = half
    near, far = recording.get_probe().copy(), recording.get_probe().copy()
    far.move([150.0 + np.ptp(near.contact_positions[:, 0]), 0.0])
    group = ProbeGroup()
    for probe, first in ((near, 0), (far, 100)):
        probe.set_device_channel_indices(np.arange(first, first + 100))
        group.add_probe(probe)
    loud = np.random.default_rng(0).normal(scale=300.0, size=traces.shape).astype("float32")
    both = si.NumpyRecording([np.hstack([traces, loud])], recording.sampling_frequency)
    both.set_channel_gains(1.0)
    both.set_channel_offsets(0.0)
    both.set_probegroup(group)
    assert_close(posteriors_of(both, own), expected[: len(own)])


def test_integers_with_gains_and_offsets(half, recording):
    traces, own = half
    gain, offset = 0.05, 37.0
    raw = np.round((traces - offset) / gain).astype("int16")
    # what SpikeInterface adds beyond the ends is 0 uV, not the offset
    own = np.concatenate([own[:1], own, own[-1:]])
    own["sample_index"][[0, -1]] = 0, len(raw) - 1
    scaled = array_recording(raw.astype("float32") * np.float32(gain) + np.float32(offset), recording)
    integers = array_recording(raw, recording, gain=gain, offset=offset)
    assert_close(posteriors_of(integers, own), posteriors_of(scaled, own))


def test_traces_that_are_not_numbers(half, recording, expected):
    traces, own = half
    broken = traces.copy()
    broken[:, 0] = np.nan
    broken[5000:9000] = np.inf
    found = posteriors_of(array_recording(broken, recording), own)
    assert_proper(found)
    contacts = recording.get_channel_locations()
    far = np.linalg.norm(contacts - contacts[0], axis=1) > 160.0
    untouched = far[own["channel_index"]] & (np.abs(own["sample_index"] - 7000) > 2200)
    assert untouched.any()
    assert_same(found[untouched], expected[: len(own)][untouched])
    nothing = posteriors_of(array_recording(np.full_like(traces, np.nan), recording), own)
    assert_proper(nothing)
    centre = recording.get_channel_locations()[own["channel_index"]]
    np.testing.assert_array_equal(places(nothing, "xy"), centre)
    np.testing.assert_array_equal(places(nothing, ["x_std", "y_std", "z_std"]), np.tile(BLANK_STD_UM, (len(own), 1)))
    assert (nothing["outlier_probability"] == 1.0).all()


def test_dead_channels_are_removed(half, recording, expected):
    traces, own = half
    dead = np.random.default_rng(0).choice(100, 10, replace=False)
    kept = np.setdiff1d(np.arange(100), dead)
    seen = np.isin(own["channel_index"], kept)
    moved = own[seen].copy()
    moved["channel_index"] = np.searchsorted(kept, moved["channel_index"])
    fewer = array_recording(traces, recording).select_channels(recording.channel_ids[kept])
    found = posteriors_of(fewer, moved)
    assert_proper(found)
    assert np.median(distances(found, expected[: len(own)][seen], "xy")) < 5.0


def test_one_spike(recording, peaks, expected):
    assert_same(posteriors_of(recording, peaks[5:6]), expected[5:6])


def test_spikes_at_the_very_edges_of_segments(half, recording, peaks):
    traces = half[0]
    last = len(traces) - 1
    edge = np.repeat(peaks[:1], 8)
    edge["sample_index"] = [0, 0, 1, last, 0, 1, last - 1, last]
    edge["segment_index"] = [0, 0, 0, 0, 1, 1, 1, 1]
    edge["channel_index"] = [0, 99, 5, 7, 0, 99, 3, 50]
    both = array_recording([traces, traces], recording)
    found = posteriors_of(both, edge)
    assert_proper(found)
    assert_same(posteriors_of(both, edge, chunk_duration="0.37s"), found)
    # nothing of the neighbouring segment is seen
    one = edge[4:].copy()
    one["segment_index"] = 0
    assert_same(posteriors_of(array_recording(traces, recording), one), found[4:])


def test_motion_correction(recording):
    _, info = si.correct_motion(
        recording,
        preset="rigid_fast",
        localize_peaks_kwargs={"method": "neural_posterior"},
        estimate_motion_kwargs={"bin_s": 0.5},
        output_motion_info=True,
        **QUIET,
    )
    assert info["peak_locations"].dtype == POSTERIOR_DTYPE
    assert_same(info["peak_locations"], posteriors_of(recording, info["peaks"]))
    assert np.isfinite(info["motion"].displacement[0]).all()


def test_peak_localization_study(recording, sorting, tmp_path):
    from spikeinterface.benchmark.benchmark_peak_localization import PeakLocalizationStudy

    sorting = sorting.save(folder=tmp_path / "sorting")
    saved = recording.save(folder=tmp_path / "recording", **QUIET)
    case = {
        "label": "posterior",
        "dataset": "square",
        "init_kwargs": {"gt_positions": sorting.get_property("gt_unit_locations")},
        "params": {"method": "neural_posterior", "method_kwargs": {}},
    }
    study = PeakLocalizationStudy.create(tmp_path / "study", {"square": (saved, sorting)}, cases={"posterior": case})
    study.run(**QUIET)
    study.compute_results()
    assert np.median(study.get_result("posterior")["medians_over_templates"]) < 25.0
