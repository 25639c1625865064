"""Smoothing along depth against plain sums over all labellings, known answers, and simulated shanks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from si_neuroml.errors import InputError, TrainingError
from si_neuroml.regions.boundaries import most_likely_regions, region_boundaries
from si_neuroml.regions.depth import DepthGaussian, DepthHMM, depth_model, gaussian_smooth, hmm_smooth, sharpen
from si_neuroml.regions.depth_tuning import learn_transitions, tune_depth

TRANSITIONS = ((0.0, 0.7, 0.3), (0.2, 0.1, 0.7), (0.5, 0.5, 0.0))
PRIOR = (0.5, 0.2, 0.3)


def random_units(rng, num=6, num_regions=3, num_tracks=1):
    probabilities = rng.dirichlet(np.ones(num_regions), size=num)
    return probabilities, rng.integers(0, 40, num) * 20.0, rng.integers(0, num_tracks, num)


def joint(probabilities, depth_um, model):
    """Every labelling of one shank with its probability, by multiplying everything out."""
    num, num_regions = probabilities.shape
    prior = np.array(model.prior or np.full(num_regions, 1 / num_regions))
    jumps = np.tile(prior, (num_regions, 1)) if model.transitions is None else np.array(model.transitions)
    order = np.argsort(depth_um, kind="stable")
    evidence = (probabilities / prior) ** model.emission_power
    gaps = np.diff(depth_um[order])
    kernels = [expm((jumps - np.eye(num_regions)) * gap / model.stay_um) for gap in gaps]
    for path in itertools.product(range(num_regions), repeat=num):
        weight = prior[path[order[0]]] * evidence[order[0], path[order[0]]]
        for (one, two), kernel in zip(itertools.pairwise(order), kernels, strict=True):
            weight *= kernel[path[one], path[two]] * evidence[two, path[two]]
        yield path, weight


def simulated_shanks(rng, num_tracks=10, per_track=60, strength=1.5):
    """Three regions that follow each other; weak evidence per unit. Probabilities are the exact posterior of a unit."""
    depth, track, labels = [], [], []
    for one in range(num_tracks):
        edges = np.cumsum(rng.uniform(500, 1500, 3))
        own = np.sort(rng.uniform(0, edges[-1], per_track))
        depth.append(own)
        labels.append(np.searchsorted(edges, own))
        track.append(np.full(per_track, one))
    depth, track, labels = map(np.concatenate, (depth, track, labels))
    signal = strength * np.eye(3)[labels] + rng.normal(size=(len(labels), 3))
    weights = np.exp(strength * signal)
    return weights / weights.sum(axis=1, keepdims=True), depth, track, labels


def log_loss(probabilities, labels):
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("transitions", [None, TRANSITIONS])
@pytest.mark.parametrize("prior", [None, PRIOR])
def test_hmm_is_the_sum_over_all_labellings(transitions, prior):
    rng = np.random.default_rng(3)
    probabilities, depth_um, track = random_units(rng)
    model = DepthHMM(stay_um=150.0, emission_power=0.6, prior=prior, transitions=transitions)
    wanted = np.zeros_like(probabilities)
    for path, weight in joint(probabilities, depth_um, model):
        wanted[np.arange(len(path)), path] += weight
    found = model.smooth(probabilities, depth_um, track)
    np.testing.assert_allclose(found, wanted / wanted.sum(axis=1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize("transitions", [None, TRANSITIONS])
def test_viterbi_is_the_likeliest_of_all_labellings(transitions):
    rng = np.random.default_rng(4)
    for _ in range(5):
        probabilities, _, track = random_units(rng)
        depth_um = rng.permutation(40)[:6] * 20.0
        model = DepthHMM(stay_um=100.0, emission_power=0.8, transitions=transitions)
        best = max(joint(probabilities, depth_um, model), key=lambda one: one[1])[0]
        assert most_likely_regions(probabilities, depth_um, track, model).tolist() == list(best)


def test_boundary_posterior_is_the_sum_over_all_labellings_with_that_sequence():
    rng = np.random.default_rng(5)
    depth_um = np.array([300.0, 0.0, 40.0, 120.0, 220.0, 400.0])
    order = np.argsort(depth_um)
    probabilities = np.empty((6, 3))
    probabilities[order] = [[0.8, 0.1, 0.1]] * 3 + [[0.1, 0.1, 0.8]] * 3
    probabilities = 0.8 * probabilities + 0.2 * rng.dirichlet(np.ones(3), 6)
    model = DepthHMM(stay_um=300.0, emission_power=0.9, transitions=TRANSITIONS)
    (boundary,) = region_boundaries(probabilities, depth_um, np.full(6, 7), model)
    assert (boundary.track, boundary.below, boundary.above) == (7, 0, 2)
    wanted = np.zeros(5)
    for path, weight in joint(probabilities, depth_um, model):
        path = np.array(path)[order]
        if set(path) == {0, 2} and np.all(np.diff(path) >= 0):
            wanted[np.flatnonzero(np.diff(path))[0]] += weight
    np.testing.assert_allclose(boundary.posterior, wanted / wanted.sum(), rtol=1e-9)
    assert boundary.low_um < boundary.depth_um < boundary.high_um


def test_boundary_intervals_hold_the_boundary():
    """Shanks drawn from the model itself with power 1: the 95 % interval holds what it claims."""
    rng = np.random.default_rng(6)
    probabilities, depth, track, labels = simulated_shanks(rng, num_tracks=60, per_track=60, strength=1.2)
    found = region_boundaries(probabilities, depth, track, DepthHMM(stay_um=1000.0, emission_power=1.0))
    inside = []
    for boundary in found:
        own = track == boundary.track
        if boundary.above == boundary.below + 1:
            truth = depth[own & (labels == boundary.below)].max(), depth[own & (labels == boundary.above)].min()
            inside.append(boundary.low_um <= truth[1] and boundary.high_um >= truth[0])
    assert len(inside) > 90
    assert np.mean(inside) > 0.88


def test_a_unit_that_says_nothing_changes_nothing_for_the_others():
    rng = np.random.default_rng(7)
    probabilities, depth_um, track = random_units(rng, 20, num_tracks=2)
    more = np.vstack([probabilities, [PRIOR]])
    model = DepthHMM(200.0, 0.7, PRIOR, TRANSITIONS)
    alone = model.smooth(probabilities, depth_um, track)
    np.testing.assert_allclose(model.smooth(more, np.append(depth_um, 333.0), np.append(track, 0))[:-1], alone)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), power=st.floats(0.0, 1.0), stay_um=st.floats(1.0, 1e5))
def test_order_of_units_and_other_shanks_do_not_matter(seed, power, stay_um):
    rng = np.random.default_rng(seed)
    probabilities, depth_um, track = random_units(rng, 30, num_tracks=3)
    depth_um[rng.random(30) < 0.1] = np.nan
    shuffle = rng.permutation(30)
    for smooth in (DepthHMM(stay_um, power, PRIOR, TRANSITIONS).smooth, DepthGaussian(min(stay_um, 500.0)).smooth):
        found = smooth(probabilities, depth_um, track)
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
        assert (found >= 0).all()
        np.testing.assert_array_equal(found[np.isnan(depth_um)], probabilities[np.isnan(depth_um)])
        mixed = smooth(probabilities[shuffle], depth_um[shuffle], track[shuffle])
        np.testing.assert_allclose(mixed, found[shuffle], atol=1e-9)
        own = track == track[0]
        np.testing.assert_allclose(smooth(probabilities[own], depth_um[own], track[own]), found[own], atol=1e-9)


def test_limits():
    rng = np.random.default_rng(8)
    probabilities, depth_um, track = random_units(rng, 15, num_tracks=2)
    # regions of no length, or a kernel of no width: every unit by itself; of endless length: one label per shank
    depth_um = np.arange(15) * 20.0
    np.testing.assert_allclose(
        hmm_smooth(probabilities, depth_um, track, stay_um=1e-3, emission_power=1.0), probabilities
    )
    np.testing.assert_allclose(gaussian_smooth(probabilities, depth_um, track, sd_um=0.5), probabilities)
    together = hmm_smooth(probabilities, depth_um, track, stay_um=1e9, emission_power=0.3)
    for one in range(2):
        product = np.log(probabilities[track == one]).sum(axis=0) * 0.3
        wanted = np.exp(product - product.max())
        np.testing.assert_allclose(
            together[track == one], np.tile(wanted / wanted.sum(), ((track == one).sum(), 1)), rtol=1e-4
        )
    # units at one depth share one answer
    same = hmm_smooth(probabilities, np.zeros(15), np.zeros(15), emission_power=0.5)
    np.testing.assert_allclose(same, np.tile(same[0], (15, 1)))


def test_gaussian_is_the_weighted_mean_of_logs():
    rng = np.random.default_rng(9)
    probabilities, depth_um, track = random_units(rng, 25, num_tracks=2)
    weights = np.exp(-0.5 * ((depth_um[:, None] - depth_um) / 90.0) ** 2) * (track[:, None] == track)
    weights[np.abs(depth_um[:, None] - depth_um) > 360.0] = 0.0
    logs = weights @ np.log(probabilities) / weights.sum(axis=1, keepdims=True)
    wanted = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gaussian_smooth(probabilities, depth_um, track, sd_um=90.0), wanted)


def test_learned_transitions_count_changes_going_up():
    depth_um = np.array([300.0, 100.0, 200.0, 0.0, 50.0, 0.0, 10.0, np.nan])
    labels = np.array([2, 0, -1, 0, 1, 1, 2, 0])
    track = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    # shank 0 from the tip: 0, 1, 0, (not known), 2; shank 1: 1, 2
    found = learn_transitions(labels, depth_um, track, 3, pseudocount=1.0)
    np.testing.assert_allclose(found, [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    assert learn_transitions(labels, depth_um, track, 3, pseudocount=1e-9)[1, 2] == pytest.approx(0.5)


def test_tuning_finds_parameters_that_hold_on_new_shanks():
    rng = np.random.default_rng(10)
    probabilities, depth, track, labels = simulated_shanks(rng, strength=0.7)
    model = tune_depth(probabilities, labels, depth, track)
    assert model.transitions is not None
    assert model.transitions[0][1] > 0.8
    new, new_depth, new_track, new_labels = simulated_shanks(np.random.default_rng(11), strength=0.7)
    losses = {
        "raw": log_loss(new, new_labels),
        "gaussian": log_loss(
            tune_depth(probabilities, labels, depth, track, method="gaussian").smooth(new, new_depth, new_track),
            new_labels,
        ),
        "hmm": log_loss(model.smooth(new, new_depth, new_track), new_labels),
    }
    assert losses["hmm"] < losses["gaussian"] < losses["raw"]
    assert losses["hmm"] < 0.35 * losses["raw"]


def test_tuning_gives_copied_evidence_less_power():
    """Each unit copied four times is no more evidence: the tuned power falls to about a quarter."""
    rng = np.random.default_rng(12)
    probabilities, depth, track, labels = simulated_shanks(rng, strength=0.7)
    once = tune_depth(probabilities, labels, depth, track, transitions=("uniform",))
    copies = [np.repeat(part, 4, axis=0) for part in (probabilities, labels, depth, track)]
    four = tune_depth(*copies, transitions=("uniform",))
    effective = [model.emission_power / model.temperature for model in (once, four)]
    assert effective[1] == pytest.approx(effective[0] / 4, rel=0.35)


def test_shanks_whose_labels_are_wrong_teach_doubt():
    """Labels of some shanks turned round: no neighbour helps there, and no unit of others should be called certain."""
    rng = np.random.default_rng(13)
    probabilities, depth, track, labels = simulated_shanks(rng, num_tracks=20, strength=1.0)
    wrong = np.where(track < 4, 2 - labels, labels)
    honest, doubting = (
        tune_depth(probabilities, own, depth, track, transitions=("uniform",)) for own in (labels, wrong)
    )
    assert honest.outlier_share <= 0.02
    assert doubting.outlier_share >= 0.1
    assert doubting.smooth(probabilities, depth, track).max() <= 1 - doubting.outlier_share * 2 / 3 + 1e-9


def test_balanced_tuning_is_for_regions_and_not_for_units():
    """Nine units of ten in the lowest region: each way of counting does better by its own count."""
    rng = np.random.default_rng(14)
    probabilities, depth, track, labels = simulated_shanks(rng, num_tracks=20, strength=0.6)
    kept = (labels == 0) | (rng.random(len(labels)) < 0.1)
    data = probabilities[kept], labels[kept], depth[kept], track[kept]
    models = [tune_depth(*data, transitions=("uniform",), class_weight=weight) for weight in (None, "balanced")]
    losses = []
    for model in models:
        own = model.smooth(data[0], *data[2:])[np.arange(len(data[1])), data[1]]
        per_region = [-np.log(own[data[1] == k]).mean() for k in range(3)]
        losses.append((-np.log(own).mean(), np.mean(per_region)))
    assert losses[0][0] < losses[1][0]
    assert losses[1][1] < losses[0][1]


def test_settings_survive_the_way_through_json():
    for model in (DepthHMM(300.0, 0.2, PRIOR, TRANSITIONS, 1.4, 0.1), DepthHMM(), DepthGaussian(80.0, 0.3, 0.2)):
        assert depth_model(model.to_dict()) == model


def test_sharpen():
    np.testing.assert_allclose(sharpen(np.array([[0.8, 0.2]]), 0.5), [[0.64 / 0.68, 0.04 / 0.68]])


def test_input_that_makes_no_sense_is_refused():
    probabilities, depth_um, track = random_units(np.random.default_rng(0))
    with pytest.raises(InputError, match="6 rows of probabilities need one depth"):
        hmm_smooth(probabilities, depth_um[:4], track)
    with pytest.raises(InputError, match="6 of 6 rows are no probabilities"):
        hmm_smooth(2 * probabilities, depth_um, track)
    with pytest.raises(InputError, match="prior must hold 3 shares"):
        hmm_smooth(probabilities, depth_um, track, prior=(0.5, 0.5))
    with pytest.raises(InputError, match="transitions are for 2 regions"):
        hmm_smooth(probabilities, depth_um, track, transitions=((0.5, 0.5), (0.5, 0.5)))
    with pytest.raises(InputError, match="emission_power must lie between 0 and 1"):
        DepthHMM(emission_power=1.5)
    with pytest.raises(InputError, match="sd_um must be a finite number above 0"):
        gaussian_smooth(probabilities, depth_um, track, sd_um=0.0)
    with pytest.raises(InputError, match="Depth methods are"):
        depth_model({"method": "spline"})
    with pytest.raises(TrainingError, match="nothing to tune"):
        tune_depth(probabilities, np.zeros(6, int), np.full(6, np.nan), track)
    with pytest.raises(InputError, match="labels must lie between -1 and 2"):
        tune_depth(probabilities, np.full(6, 3), depth_um, track)
    with pytest.raises(InputError, match="labels must be indices of regions"):
        tune_depth(probabilities, np.array(["a"] * 6), depth_um, track)
    with pytest.raises(InputError, match='method must be "hmm" or "gaussian"'):
        tune_depth(probabilities, np.zeros(6, int), depth_um, track, method="median")
    with pytest.raises(InputError, match="transitions a choice of"):
        tune_depth(probabilities, np.zeros(6, int), depth_um, track, transitions=("atlas",))
    with pytest.raises(InputError, match="6 units and subjects of shape"):
        tune_depth(probabilities, np.zeros(6, int), depth_um, track, subjects=np.zeros(5))
    with pytest.raises(InputError, match='class_weight must be "balanced"'):
        tune_depth(probabilities, np.zeros(6, int), depth_um, track, class_weight="even")
    with pytest.raises(InputError, match="at least 2 regions and a pseudocount above 0"):
        learn_transitions(np.zeros(6, int), depth_um, track, 3, pseudocount=0.0)
