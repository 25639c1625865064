"""The profile over shifts of a probe: planted shifts, invariances, and what is not known."""

import numpy as np
import pytest

from si_neuroml.errors import InputError
from si_neuroml.regions.shift_profile import SHIFTS_UM, assigned_regions, shift_profile

PLACES = np.arange(0.0, 3840.0, 20.0)
EDGES = np.array([900.0, 1900.0, 3000.0])
ASSIGNED = np.searchsorted(EDGES, PLACES, side="right")


def probe(seed=0, strength=1.0, deeper_um=0.0, num=300, bias=0.0):
    """Units whose evidence follows the assigned regions, with the probe really sitting so much deeper."""
    rng = np.random.default_rng(seed)
    depth_um = rng.uniform(0, 3840, num)
    truth = np.searchsorted(EDGES, depth_um - deeper_um, side="right")
    logs = strength * (strength * np.eye(4)[truth] + rng.normal(size=(num, 4))) + bias * np.eye(4)[2]
    weights = np.exp(logs)
    return weights / weights.sum(axis=1, keepdims=True), depth_um


@pytest.mark.parametrize("deeper_um", [-200.0, 0.0, 200.0])
def test_planted_shifts_are_found(deeper_um):
    profiles = [shift_profile(*probe(seed, deeper_um=deeper_um), PLACES, ASSIGNED) for seed in range(20)]
    errors = np.array([profile.best_um - deeper_um for profile in profiles])
    assert (np.abs(errors) <= 60).mean() >= 0.9
    at = np.flatnonzero(deeper_um == SHIFTS_UM)[0]
    odds = np.array([profile.log_odds[at] for profile in profiles])
    assert (odds > 0).mean() >= 0.9 if deeper_um else (odds == 0).all()
    assert np.mean([profile.low_um <= deeper_um <= profile.high_um for profile in profiles]) >= 0.85


def test_intervals_hold_shifts_between_those_that_are_tried():
    """Where units say much, the step between the shifts is most of what is not known."""
    planted = np.random.default_rng(0).uniform(-300, 300, 60)
    profiles = [
        shift_profile(*probe(seed, 2.0, deeper_um=deeper_um), PLACES, ASSIGNED)
        for seed, deeper_um in enumerate(planted)
    ]
    held = [one.low_um <= deeper_um <= one.high_um for one, deeper_um in zip(profiles, planted, strict=True)]
    assert 0.88 <= np.mean(held) <= 1.0
    assert np.mean([one.high_um - one.low_um for one in profiles]) < 60
    sure = shift_profile(*probe(0, 20.0), PLACES, ASSIGNED, emission_power=100.0)
    assert (sure.best_um - sure.low_um, sure.high_um - sure.best_um) == (10.0, 10.0)
    # the outermost shift has nothing beyond it
    out = shift_profile(*probe(0, 20.0, 700.0), PLACES, ASSIGNED, emission_power=100.0)
    assert (out.best_um, out.high_um) == (600.0, 600.0)


def test_a_recording_that_looks_like_one_region_all_over_is_no_shift():
    """The whole recording leans to region 2, as with another gain; the profile stays, up to its tails."""
    for seed in range(5):
        plain, leaning = (shift_profile(*probe(seed, 1.0, 200.0, bias=bias), PLACES, ASSIGNED) for bias in (0.0, 3.0))
        assert abs(leaning.best_um - plain.best_um) <= 60


def test_a_unit_sorted_many_times_has_no_more_votes():
    probabilities, depth_um = probe(3, deeper_um=200.0)
    lying = np.full((400, 4), 0.01) + 0.96 * np.eye(4)[0]
    crowd = np.vstack([probabilities, lying]), np.append(depth_um, np.full(400, 3500.0))
    assert abs(shift_profile(*crowd, PLACES, ASSIGNED).best_um - 200.0) <= 60


def test_profile_does_not_depend_on_order_and_shifts_with_the_labels():
    probabilities, depth_um = probe(1)
    first = shift_profile(probabilities, depth_um, PLACES, ASSIGNED)
    shuffle, other = (
        np.random.default_rng(0).permutation(len(depth_um)),
        np.random.default_rng(1).permutation(len(PLACES)),
    )
    again = shift_profile(probabilities[shuffle], depth_um[shuffle], PLACES[other], ASSIGNED[other])
    np.testing.assert_allclose(again.log_likelihood, first.log_likelihood, atol=1e-9)
    moved = shift_profile(probabilities, depth_um, PLACES + 100.0, ASSIGNED)
    # labels 100 um higher fit at d as the first did at d + 100
    np.testing.assert_allclose(moved.log_likelihood[:-5], first.log_likelihood[5:], atol=1e-9)


def test_posterior_and_odds_agree():
    profile = shift_profile(*probe(2, 0.6, 100.0), PLACES, ASSIGNED, prior_sd_um=150.0, emission_power=0.3)
    assert profile.posterior.sum() == pytest.approx(1.0)
    zero = np.flatnonzero(profile.shifts_um == 0)[0]
    np.testing.assert_allclose(np.log(profile.posterior / profile.posterior[zero]), profile.log_odds, atol=1e-9)
    believed = profile.log_likelihood - 0.5 * (profile.shifts_um / 150.0) ** 2
    np.testing.assert_allclose(profile.log_odds, believed - believed[zero], atol=1e-9)
    inside = (profile.shifts_um >= profile.low_um) & (profile.shifts_um <= profile.high_um)
    assert profile.posterior[inside].sum() >= 0.95
    assert profile.num_units == 300


def test_regions_that_are_not_known_say_nothing():
    probabilities, depth_um = probe(4)
    profile = shift_profile(probabilities, depth_um, PLACES, np.full(len(PLACES), -1))
    assert (profile.log_odds == 0).all()
    assert profile.best_um == 0
    assert profile.num_units == 0
    even = shift_profile(np.full((10, 4), 0.25), np.linspace(0, 3000, 10), PLACES, ASSIGNED)
    assert even.best_um == 0
    np.testing.assert_allclose(even.posterior, 1 / len(SHIFTS_UM))


def test_assigned_regions_hold_half_way_and_beyond_the_ends():
    found = assigned_regions([-500.0, 9.0, 11.0, 34.0, 36.0, 900.0], [20.0, 0.0, 50.0], [1, 0, -1], 2)
    assert found.tolist() == [0, 0, 1, 1, -1, -1]


def test_units_without_depth_take_no_part():
    probabilities, depth_um = probe(5)
    more = np.vstack([probabilities, np.eye(4)]), np.append(depth_um, np.full(4, np.nan))
    np.testing.assert_allclose(
        shift_profile(*more, PLACES, ASSIGNED).log_odds,
        shift_profile(probabilities, depth_um, PLACES, ASSIGNED).log_odds,
    )


def test_input_that_makes_no_sense_is_refused():
    probabilities, depth_um = probe()
    with pytest.raises(InputError, match="hold 0 once"):
        shift_profile(probabilities, depth_um, PLACES, ASSIGNED, shifts_um=[10.0, 20.0])
    with pytest.raises(InputError, match="None of 300 units has a depth"):
        shift_profile(probabilities, np.full(300, np.nan), PLACES, ASSIGNED)
    with pytest.raises(InputError, match="indices from -1 to 3"):
        shift_profile(probabilities, depth_um, PLACES, ASSIGNED + 2)
    with pytest.raises(InputError, match="one region each"):
        shift_profile(probabilities, depth_um, PLACES[:-1], ASSIGNED)
    with pytest.raises(InputError, match="above 0"):
        shift_profile(probabilities, depth_um, PLACES, ASSIGNED, vote_um=0.0)


def test_boundaries_need_states():
    from si_neuroml.regions.boundaries import region_boundaries
    from si_neuroml.regions.depth import DepthGaussian

    with pytest.raises(InputError, match="DepthHMM"):
        region_boundaries(np.full((3, 2), 0.5), np.arange(3.0), np.zeros(3, dtype=int), DepthGaussian())
