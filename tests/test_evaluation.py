"""Error summaries against numbers worked out by hand, protocols against the slow and obvious way, the sorting test."""

import json

import numpy as np
import pytest

from si_neuroml.errors import InputError
from si_neuroml.localization.evaluation import (
    error_summary,
    inside_bounding_box,
    location_errors,
    lowest_troughs,
    match_peaks,
    nearest_contacts,
    oracle_peaks,
    split_spikes,
)
from si_neuroml.localization.settings import LOCATION_DTYPE
from si_neuroml.localization.sorting_test import cluster_scores, gmm_sorting_test, waveform_components

CONTACTS = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0], [30.0, 30.0]])
TRUTH = np.array([[10.0, 10.0, 20.0], [40.0, 10.0, 30.0]])  # the second lies outside


def places(x, y, **more):
    found = np.zeros(len(x), dtype=LOCATION_DTYPE)
    found["x"], found["y"] = x, y
    for name, values in more.items():
        found[name] = values
    return found


def test_error_summary_against_numbers_worked_out_by_hand():
    # errors: 5, 10 for the unit inside; 0, 0, 13 for the one outside
    found = places([13, 10, 40, 40, 45], [14, 20, 10, 10, 22], z=[20, -25, 30, 20, 30], x_std=3.0, y_std=4.0)
    summary = error_summary(found, TRUTH, np.array([0, 0, 1, 1, 1]), CONTACTS)
    errors = np.array([5, 10, 0, 0, 13.0])
    assert summary["per_spike"] == pytest.approx(
        {"num": 5, "mean": 5.6, "sd": errors.std(), "median": 5.0, "p95": np.percentile(errors, 95)}
    )
    assert summary["per_unit"]["mean"] == pytest.approx((7.5 + 13 / 3) / 2)
    assert summary["inside"]["per_spike"]["mean"] == 7.5
    assert summary["outside"]["per_spike"]["mean"] == pytest.approx(13 / 3)
    assert (summary["inside"]["per_unit"]["num"], summary["outside"]["per_unit"]["num"]) == (1, 1)
    assert summary["fraction_outside"] == pytest.approx(0.6)
    # depths 20 20 30 30 30 against 20 25 30 20 30: the sign does not count; the best constant is 30
    assert summary["depth"]["mae"] == pytest.approx(3.0)
    assert summary["depth"]["constant_mae"] == pytest.approx(4.0)
    # deviations in units of the std: x 1 0 0 0 5/3, y 1 2.5 0 0 3
    assert summary["coverage"] == pytest.approx({"0.5": 0.5, "0.8": 0.7, "0.9": 0.7, "0.95": 0.8})
    assert summary["units"]["unit"] == [0, 1]
    assert summary["units"]["mean"] == pytest.approx([7.5, 13 / 3])
    assert summary["units"]["inside"] == [True, False]
    assert summary["units"]["bias"] == pytest.approx([np.hypot(1.5, 7.0), np.hypot(5 / 3, 4.0)])
    assert summary["units"]["spread"][0] == pytest.approx(np.hypot(1.5, 3.0))


def test_error_summary_is_json_and_knows_what_is_missing():
    plane = np.zeros(2, dtype=[("x", "float64"), ("y", "float64")])
    plane["x"], plane["y"] = [10, 12], [10, 10]
    summary = error_summary(plane, TRUTH[:, :2], np.array([0, 0]), CONTACTS)
    assert summary["depth"] is None
    assert summary["coverage"] is None
    assert summary["outside"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    unknown = places([10, 12], [10, 10], x_std=np.inf, y_std=np.inf)
    assert error_summary(unknown, TRUTH, np.array([0, 0]), CONTACTS)["coverage"] is None


def test_errors_refuse_what_cannot_be_scored():
    with pytest.raises(InputError, match="1 of 2 estimates are not finite"):
        location_errors(places([np.nan, 1], [0, 0]), TRUTH, np.array([0, 0]))
    with pytest.raises(InputError, match="2 locations for 1 spikes"):
        location_errors(places([0, 1], [0, 0]), TRUTH, np.array([0]))
    with pytest.raises(InputError, match="unit_index runs from 0 to 2"):
        location_errors(places([0, 1], [0, 0]), TRUTH, np.array([0, 2]))
    with pytest.raises(InputError, match="fields x and y"):
        location_errors(np.zeros((3, 2)), TRUTH, np.zeros(3, int))


def test_inside_is_the_bounding_box_with_its_border():
    inside = inside_bounding_box(np.array([[0, 0, 9], [30, 30, 0], [30.1, 5, 0], [5, -0.1, 0]]), CONTACTS)
    assert inside.tolist() == [True, True, False, False]


def test_split_is_disjoint_complete_and_seeded():
    first, second = split_spikes(101, 0.3, seed=4)
    assert len(first) == 30
    assert sorted([*first, *second]) == list(range(101))
    np.testing.assert_array_equal(first, split_spikes(101, 0.3, seed=4)[0])
    assert not np.array_equal(first, split_spikes(101, 0.3, seed=5)[0])
    with pytest.raises(InputError, match="empty"):
        split_spikes(10, 1.0)


def test_lowest_troughs_is_the_obvious_search():
    rng = np.random.default_rng(0)
    traces = rng.normal(size=(200, 12)).astype("float32")
    samples = np.array([0, 3, 50, 100, 199])
    candidates = np.array([[1, 2, 3, -1], [4, -1, -1, -1], [0, 5, 6, 7], [11, 10, 9, 8], [2, 4, 6, -1]])
    found = lowest_troughs(traces, samples, candidates, 5)
    for spike, sample in enumerate(samples):
        lo, hi = max(sample - 5, 0), min(sample + 6, 200)
        channels = candidates[spike][candidates[spike] >= 0]
        window = traces[lo:hi, channels]
        frame, k = np.unravel_index(window.argmin(), window.shape)
        assert [column[spike] for column in found] == [lo + frame, channels[k], window.min()]


def test_oracle_stays_near_the_soma():
    contacts = np.column_stack([np.arange(100) % 10, np.arange(100) // 10]) * 15.0
    truth = np.array([[20.0, 20.0, 10.0], [110.0, 140.0, 10.0]])
    traces = np.random.default_rng(1).normal(size=(100, 100))
    traces[50, 99] = -100.0  # a neighbour's spike, far from unit 0 and near unit 1
    unit_index = np.array([0, 1])
    samples, channels, values = oracle_peaks(
        traces, [50, 50], unit_index, truth, contacts, num_nearest=10, half_window=4
    )
    near = nearest_contacts(truth, contacts, 10)
    assert channels[0] in near[0]
    assert (channels[1], samples[1], values[1]) == (99, 50, -100.0)
    assert values[0] == traces[46:55][:, near[0]].min()
    with pytest.raises(InputError, match="num_nearest"):
        nearest_contacts(truth, contacts, 101)


def test_match_peaks_is_one_to_one_and_within_its_limits():
    spikes, at = np.array([100, 102, 500, 900]), np.array([[0.0, 0], [60, 0], [0, 0], [0, 0]])
    peaks, where = np.array([101, 515, 900, 901]), np.array([[55.0, 0], [0, 0], [0, 80], [0, 10]])
    matched = match_peaks(peaks, where, spikes, at, max_samples=10, max_distance_um=75.0)
    # the one peak of a collision belongs to the nearer spike; the third is late, the first peak at 900 too far
    assert matched.tolist() == [-1, 0, -1, 3]


@pytest.fixture(scope="module")
def peaks_by_protocol(mearec_small):
    from si_neuroml.localization.protocols import PROTOCOLS, gt_peaks

    return {protocol: gt_peaks(*mearec_small, protocol=protocol) for protocol in PROTOCOLS}


@pytest.mark.parametrize("protocol", ["paper", "sorted", "detected"])
def test_protocols_give_sorted_peaks_of_true_spikes(mearec_small, peaks_by_protocol, protocol):
    recording, sorting = mearec_small
    found = peaks_by_protocol[protocol]
    assert (np.diff(found.peaks["sample_index"]) >= 0).all()
    assert found.num_true_spikes == len(sorting.to_spike_vector())
    if protocol == "detected":
        assert 0.5 * found.num_true_spikes < len(found.peaks) <= found.num_true_spikes
    else:
        counts = np.bincount(found.unit_index, minlength=sorting.get_num_units())
        np.testing.assert_array_equal(counts, [len(sorting.get_unit_spike_train(u)) for u in sorting.unit_ids])
    if protocol == "paper":
        near = nearest_contacts(sorting.get_property("gt_unit_locations"), recording.get_channel_locations(), 10)
        assert (found.peaks["channel_index"][:, None] == near[found.unit_index]).any(axis=1).all()
        traces = recording.get_traces()
        for peak, unit in zip(found.peaks[100:120], found.unit_index[100:120], strict=True):
            frame, channel = peak["sample_index"], peak["channel_index"]
            assert traces[frame, channel] == pytest.approx(peak["amplitude"])
            assert traces[frame, channel] == traces[frame, near[unit]].min()


@pytest.mark.parametrize("protocol", ["sorted", "detected"])
def test_only_the_paper_protocol_reads_true_places(mearec_small, peaks_by_protocol, protocol):
    from si_neuroml.localization.protocols import gt_peaks

    recording, sorting = mearec_small
    scrambled = sorting.clone()
    scrambled.set_property("gt_unit_locations", sorting.get_property("gt_unit_locations")[::-1] + 17.0)
    plain, other = peaks_by_protocol[protocol], gt_peaks(recording, scrambled, protocol=protocol)
    np.testing.assert_array_equal(plain.peaks, other.peaks)
    np.testing.assert_array_equal(plain.unit_index, other.unit_index)


def test_protocols_refuse_what_they_cannot_use(mearec_small):
    from si_neuroml.localization.protocols import gt_peaks

    recording, sorting = mearec_small
    bare = sorting.clone()
    bare.delete_property("gt_unit_locations")
    assert len(gt_peaks(recording, bare, protocol="sorted").peaks)
    with pytest.raises(InputError, match="gt_unit_locations"):
        gt_peaks(recording, bare, protocol="paper")
    with pytest.raises(InputError, match="protocol must be one of"):
        gt_peaks(recording, sorting, protocol="oracle")
    with pytest.raises(InputError, match="Hz"):
        gt_peaks(recording.frame_slice(0, 1000), _at_half_the_rate(sorting), protocol="sorted")


def _at_half_the_rate(sorting):
    from spikeinterface.core import NumpySorting

    return NumpySorting.from_unit_dict({0: np.array([10])}, sorting.get_sampling_frequency() / 2)


def blobs(num_units=12, per_unit=60, seed=0):
    rng = np.random.default_rng(seed)
    centers = np.column_stack([np.arange(num_units) % 4, np.arange(num_units) // 4]) * 40.0
    unit_index = np.repeat(np.arange(num_units), per_unit)
    xy = centers[unit_index] + rng.normal(size=(len(unit_index), 2))
    return places(xy[:, 0], xy[:, 1]), unit_index, rng


def test_sorting_test_recovers_separate_units_and_no_shuffled_ones():
    found, unit_index, rng = blobs()
    (good,) = gmm_sorting_test(found, unit_index, num_components=(12,))
    assert good["accuracy"] > 0.9
    assert good["true_positive_rate"] > 0.9
    (chance,) = gmm_sorting_test(found, rng.permutation(unit_index), num_components=(12,))
    assert chance["accuracy"] < 0.15


def test_waveforms_tell_units_at_one_place_apart():
    found, unit_index, rng = blobs(num_units=2)
    found["x"], found["y"] = rng.normal(size=(2, len(found)))
    shapes = np.array([np.sin(np.linspace(0, 3, 40)), np.sin(np.linspace(0, 6, 40))])
    components = waveform_components(shapes[unit_index] + 0.1 * rng.normal(size=(len(found), 40)))
    np.testing.assert_allclose(components.std(axis=0, ddof=1), 1.0)
    results = gmm_sorting_test(found, unit_index, components=components, alphas=(8.0,), num_components=(2,))
    by_alpha = {result["alpha"]: result for result in results}
    assert by_alpha[None]["accuracy"] < 0.7
    assert by_alpha[8.0]["accuracy"] > 0.95
    json.dumps(results, allow_nan=False)
    with pytest.raises(InputError, match="cannot be clustered"):
        gmm_sorting_test(found, unit_index, num_components=(500,))


def test_cluster_scores_by_hand():
    units, clusters = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([5, 5, 5, 9, 9, 9, 5])
    scores = cluster_scores(clusters, units)
    # unit 0 with cluster 5: 3 / (4 + 4 - 3); unit 1 with cluster 9: 2 / (2 + 3 - 2); unit 2 with none
    assert scores["accuracy"] == pytest.approx((3 / 5 + 2 / 3) / 3)
    assert scores["true_positive_rate"] == pytest.approx((3 / 4 + 1) / 3)
    assert scores["precision"] == pytest.approx((3 / 4 + 2 / 3) / 3)
