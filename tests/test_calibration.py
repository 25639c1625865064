"""Calibration: nominal where it must be, over- and underconfidence found, intervals that know of units, SBC."""

import numpy as np
import pytest
from scipy.stats import chi2, f, kstest

from si_neuroml.calibration import (
    calibration_error,
    coverage,
    fit_temperature,
    rank_statistics,
    reliability_curve,
    uniformity_p_value,
)
from si_neuroml.errors import InputError
from si_neuroml.localization.posterior import fill_posteriors, region_levels

COVARIANCE = np.array([[90.0, 40.0, 5.0], [40.0, 60.0, -10.0], [5.0, -10.0, 120.0]])


def simulated_levels(scale, num=4000, dof=6.0, seed=0):
    """Levels of true places whose posterior has `scale` times the true standard deviations."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(COVARIANCE * (dof - 2) / dof)
    tails = np.sqrt(dof / rng.chisquare(dof, num))
    places = (rng.normal(size=(num, 3)) @ root.T) * tails[:, None]
    posteriors = fill_posteriors(np.zeros((num, 3)), np.tile(COVARIANCE * scale**2, (num, 1, 1)), dof, 100.0)
    return region_levels(posteriors, places, "xy")


def levels_of_units(num_units, per_unit, shared, seed=0):
    """Gaussian levels of which a share of the error's variance is common to a unit."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(num_units), per_unit)
    error = np.sqrt(shared) * rng.normal(size=(num_units, 2))[unit]
    error = error + np.sqrt(1 - shared) * rng.normal(size=(len(unit), 2))
    return chi2.cdf((error**2).sum(axis=1), 2), unit


# --- coverage


def test_coverage_of_a_calibrated_posterior_is_nominal():
    levels = simulated_levels(1.0)
    assert kstest(levels, "uniform").pvalue > 1e-3
    found = coverage(levels)
    np.testing.assert_allclose(found.observed, (0.5, 0.8, 0.9, 0.95), atol=0.025)
    assert (found.low < found.observed).all()
    assert (found.observed < found.high).all()
    assert (found.num, found.num_groups) == (4000, 4000)


@pytest.mark.parametrize(("scale", "sign"), [(0.6, -1), (1.6, 1)])
def test_wrong_widths_are_found(scale, sign):
    found = coverage(simulated_levels(scale))
    nominal = found.nominal
    assert (sign * (found.observed - nominal) > 0).all()
    # the interval excludes what the posterior claims
    assert ((nominal < found.low) | (nominal > found.high)).all()


def test_binomial_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for levels in rng.random((1000, 80)):
        found = coverage(levels, (0.9,))
        inside += found.low[0] <= 0.9 <= found.high[0]
    assert 0.93 < inside / 1000 < 0.98


def test_interval_over_units_is_wider_when_errors_are_shared():
    for shared, factor in ((0.9, 3.0), (0.0, None)):
        levels, unit = levels_of_units(40, 200, shared)
        naive, grouped = coverage(levels), coverage(levels, groups=unit)
        np.testing.assert_array_equal(naive.observed, grouped.observed)
        ratio = (grouped.high - grouped.low) / (naive.high - naive.low)
        assert ratio.min() > factor if factor else (ratio > 0.6).all() and (ratio < 1.4).all()
        assert (grouped.num, grouped.num_groups) == (8000, 40)


def test_interval_over_units_holds_the_truth_where_the_naive_one_does_not():
    hits = np.zeros(2)
    for seed in range(100):
        levels, unit = levels_of_units(40, 50, 0.9, seed=seed)
        for k, groups in enumerate((None, unit)):
            found = coverage(levels, (0.8,), groups=groups, num_resamples=300)
            hits[k] += found.low[0] <= 0.8 <= found.high[0]
    assert hits[0] < 60
    assert hits[1] > 85


def test_one_unit_says_nothing():
    found = coverage(np.full(100, 0.3), groups=np.zeros(100, int))
    np.testing.assert_array_equal(found.low, 0.0)
    np.testing.assert_array_equal(found.high, 1.0)


def test_bootstrap_repeats_itself_and_names_of_groups_do_not_matter():
    levels, unit = levels_of_units(20, 10, 0.5)
    one = coverage(levels, groups=unit)
    order = np.random.default_rng(0).permutation(len(levels))
    other = coverage(levels[order], groups=7 * unit[order] + 3)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_reliability_curve_runs_from_corner_to_corner():
    curve = reliability_curve(simulated_levels(1.0), 21)
    assert (np.diff(curve.observed) >= 0).all()
    assert curve.observed[0] == 0.0
    assert curve.observed[-1] == 1.0
    np.testing.assert_allclose(curve.observed, curve.nominal, atol=0.03)


def test_calibration_error_is_the_area_between_curve_and_diagonal():
    for scale in (0.5, 1.0, 1.4):
        levels = simulated_levels(scale, num=500)
        grid = (np.arange(200_000) + 0.5) / 200_000
        observed = np.searchsorted(np.sort(levels), grid, side="right") / len(levels)
        assert calibration_error(levels) == pytest.approx(np.abs(observed - grid).mean(), abs=1e-5)
    assert calibration_error(np.ones(7)) == pytest.approx(0.5)
    assert calibration_error(np.tile([0.0, 1.0], 50)) == pytest.approx(0.25)
    assert calibration_error(simulated_levels(1.0)) < 0.015


# --- temperature


@pytest.mark.parametrize("level", [None, 0.9])
def test_temperature_recovers_a_known_factor(level):
    rng = np.random.default_rng(2)
    gaussian = 1.7**2 * (rng.normal(size=(20_000, 2)) ** 2).sum(axis=1)
    assert fit_temperature(gaussian, 2, level=level) == pytest.approx(1.7, rel=0.03)
    dof = rng.choice([4.0, 9.0, np.inf], 20_000)
    finite = np.isfinite(dof)
    heavy = chi2.rvs(2, size=20_000, random_state=rng)
    heavy[finite] = 2 * f.rvs(2, dof[finite], random_state=rng) * (dof[finite] - 2) / dof[finite]
    assert fit_temperature(0.6**2 * heavy, 2, dof=dof, level=level) == pytest.approx(0.6, rel=0.03)


def test_temperature_at_a_level_makes_that_coverage_exact():
    squared = np.random.default_rng(3).gamma(0.7, 9.0, 999)
    factor = fit_temperature(squared, 2, level=0.9)
    assert coverage(chi2.cdf(squared / factor**2, 2), (0.9,)).observed[0] == pytest.approx(0.9, abs=1e-3)


def test_every_group_counts_the_same():
    squared, groups = np.concatenate([np.full(900, 2.0), np.full(100, 18.0)]), np.repeat([0, 1], [900, 100])
    assert fit_temperature(squared, 2) == pytest.approx(np.sqrt(1.8))
    assert fit_temperature(squared, 2, groups=groups) == pytest.approx(np.sqrt(5.0))


# --- simulation-based calibration


def gaussian_sbc(width, shift=0.0, num=2000, num_draws=99, seed=4):
    """Ranks under a normal prior and normal noise, whose posterior is known; wrong if width is not 1 or shift not 0."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(num, 2))
    data = truth + rng.normal(size=truth.shape)
    draws = (data / 2 + shift)[:, None] + width * np.sqrt(0.5) * rng.normal(size=(num, num_draws, 2))
    return rank_statistics(draws, truth)


def test_ranks_are_uniform_for_exact_draws_and_not_for_wrong_ones():
    ranks = gaussian_sbc(1.0)
    assert ranks.shape == (2000, 2)
    assert (ranks.min(), ranks.max()) == (0, 99)
    for k in range(2):
        assert uniformity_p_value(ranks[:, k], 100) > 1e-3
        assert calibration_error((ranks[:, k] + 0.5) / 100) < 0.02
    for wrong in (gaussian_sbc(0.7), gaussian_sbc(1.4), gaussian_sbc(1.0, shift=0.2)):
        assert uniformity_p_value(wrong[:, 0], 100) < 1e-6
        assert calibration_error((wrong[:, 0] + 0.5) / 100) > 0.03


def test_p_values_are_uniform_with_bins_of_unequal_size():
    rng = np.random.default_rng(5)
    p_values = [uniformity_p_value(rng.integers(0, 64, 1000), 64, 10) for _ in range(400)]
    assert kstest(p_values, "uniform").pvalue > 1e-3


def test_ranks_count_the_draws_below():
    np.testing.assert_array_equal(rank_statistics([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], [2.5, 0.0]), [2, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coverage([]), "at least one case"),
        (lambda: coverage([0.5, 1.5, np.nan]), "2 of 3 levels"),
        (lambda: coverage([0.5], (1.2,)), "probabilities from 0 to 1"),
        (lambda: coverage([0.5], groups=[1, 2]), "give one group each"),
        (lambda: coverage([0.5], confidence=95), "confidence must lie"),
        (lambda: reliability_curve([0.5], 1), "at least 2 points"),
        (lambda: fit_temperature([1.0, -1.0], 2), "at least 0"),
        (lambda: fit_temperature([1.0], 2, dof=2.0), "dof above 2"),
        (lambda: fit_temperature([1.0], 2, level=90), "level must lie"),
        (lambda: rank_statistics(np.zeros((3, 9)), np.zeros(2)), "do not belong together"),
        (lambda: rank_statistics([[np.nan, 1.0]], [0.0]), "1 of 2 draws"),
        (lambda: uniformity_p_value(np.array([0, 100]), 100), "from 0 to 99"),
        (lambda: uniformity_p_value(np.arange(50), 100), "smallest expects 2.5"),
        (lambda: uniformity_p_value(np.arange(50), 10 * 10, 101), "num_bins must lie"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
