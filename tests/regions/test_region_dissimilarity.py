"""Tests between regions against known answers: pairs, omnibus, corrections, matrices."""

import matplotlib as mpl
import numpy as np
import pytest
from exploration_units import exploration_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from si_neuroml.errors import InputError
from si_neuroml.regions.dissimilarity import (
    adjust_p_values,
    dissimilarity_matrix,
    omnibus_dissimilarity,
    omnibus_tests,
    pairwise_tests,
)

mpl.use("Agg")


@pytest.fixture(scope="module")
def dataset():
    return exploration_dataset()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_corrections_are_their_definitions(p_values):
    p = np.array(p_values)
    np.testing.assert_allclose(adjust_p_values(p, "bonferroni"), np.minimum(p * len(p), 1))
    # Benjamini and Hochberg's own words: reject the k smallest, with k the last of p_(k) <= k / m q
    adjusted, order = adjust_p_values(p), np.argsort(p)
    for q in (0.01, 0.05, 0.2, 0.5):
        passes = np.flatnonzero(p[order] <= np.arange(1, len(p) + 1) / len(p) * q * (1 + 1e-12))
        rejected = set(order[: passes[-1] + 1].tolist()) if len(passes) else set()
        assert rejected == set(np.flatnonzero(adjusted <= q * (1 + 1e-9)).tolist())
    assert (adjusted >= p).all()
    assert (adjust_p_values(p, "fdr_dependent") >= adjusted - 1e-12).all()
    np.testing.assert_array_equal(adjust_p_values(p, None), p)


def test_corrections_leave_out_what_was_not_tested():
    found = adjust_p_values(np.array([[0.01, np.nan], [0.04, np.nan]]), "bonferroni")
    np.testing.assert_allclose(found, [[0.02, np.nan], [0.08, np.nan]])
    assert np.isnan(adjust_p_values(np.array([np.nan]))).all()
    with pytest.raises(InputError, match="correction must be one of"):
        adjust_p_values(np.array([0.1]), "holm")
    with pytest.raises(InputError, match="between 0 and 1, got 0.1 to 1.5"):
        adjust_p_values(np.array([0.1, 1.5]))


@pytest.mark.parametrize("test", ["ks", "mannwhitney"])
def test_pairs_are_scipys_and_the_difference_is_found(dataset, test):
    names = dataset.feature_names
    table = pairwise_tests(dataset.features, dataset.labels, names, test=test)
    assert len(table) == 4 * 3
    assert set(table["region_a"]) | set(table["region_b"]) == {"CA1", "LP", "VISp"}
    for row in table.itertuples():
        column = dataset.features[:, names.index(row.feature)].astype(float)
        a, b = (column[(dataset.labels == region) & np.isfinite(column)] for region in (row.region_a, row.region_b))
        assert (row.count_a, row.count_b) == (len(a), len(b))
        expected = (
            stats.ks_2samp(a, b, method="exact" if len(a) * len(b) <= 10_000 else "asymp")
            if test == "ks"
            else stats.mannwhitneyu(a, b)
        )
        assert row.statistic == expected.statistic
        assert row.p_value == expected.pvalue
        if test == "mannwhitney":
            auc = (a[:, None] > b[None]).mean() + 0.5 * (a[:, None] == b[None]).mean()
            assert row.effect == pytest.approx(abs(2 * auc - 1))
    significant = table[table["p_adjusted"] < 0.01]
    assert set(zip(significant["feature"], significant["region_b"], strict=True)) == {("psth_peak_z", "VISp")}
    np.testing.assert_array_equal(table["p_adjusted"], adjust_p_values(table["p_value"].to_numpy()))


def test_with_animals_every_animal_counts_once():
    """One animal with many odd units makes a difference of units, not of animals."""
    rng = np.random.default_rng(1)
    labels = np.repeat(["A", "B"], [610, 110])
    animals = np.concatenate([np.repeat(["odd"], 500), np.arange(110) // 10, 20 + np.arange(110) // 10]).astype(str)
    values = rng.standard_normal((len(labels), 1))
    values[:500] += 2
    units = pairwise_tests(values, labels, ["f"], test="mannwhitney").loc[0]
    subjects = pairwise_tests(values, labels, ["f"], test="mannwhitney", groups=animals).loc[0]
    assert units["p_value"] < 1e-20
    assert (subjects["count_a"], subjects["count_b"]) == (12, 11)
    assert subjects["p_value"] > 0.05


def test_p_values_are_even_when_nothing_differs():
    rng = np.random.default_rng(2)
    labels = np.repeat(["A", "B"], [30, 45])
    values = rng.standard_normal((len(labels), 400))
    names = [f"f{k}" for k in range(400)]
    for test in ("ks", "mannwhitney"):
        table = pairwise_tests(values, labels, names, test=test)
        # five standard errors of a share of 0.05; the KS test of few values is wrong a little less often than it says
        assert (table["p_value"] < 0.05).mean() < 0.05 + 5 * np.sqrt(0.05 * 0.95 / 400)
        assert (table["p_value"] < 0.5).mean() > 0.35
    found = omnibus_tests(values, labels, names)
    assert stats.kstest(found["p_value"], "uniform").pvalue > 1e-3
    assert abs(found["effect"].mean()) < 0.01


def test_one_test_over_all_regions(dataset):
    table = omnibus_tests(dataset.features, dataset.labels, dataset.feature_names).set_index("feature")
    samples = [dataset.features[dataset.labels == region, 0].astype(float) for region in ("CA1", "LP", "VISp")]
    assert table.loc["psth_peak_z", "statistic"] == pytest.approx(stats.kruskal(*samples).statistic)
    assert table.loc["psth_peak_z", "effect"] == pytest.approx((stats.kruskal(*samples).statistic - 2) / (130 - 3))
    assert table["p_adjusted"].idxmin() == "psth_peak_z"
    assert table.loc["isi_cv", "count"] == 125
    flat = omnibus_tests(np.ones((20, 1)), np.repeat(["A", "B"], 10), ["flat"])
    assert flat.loc[0, ["statistic", "p_value"]].tolist() == [0.0, 1.0]


def test_perfectly_apart_is_an_effect_of_one():
    labels = np.repeat(["A", "B", "C"], 10)
    values = np.column_stack([np.repeat([0.0, 10.0, 20.0], 10) + np.arange(30), np.tile(np.arange(10.0), 3)])
    for test in ("ks", "mannwhitney"):
        tests = pairwise_tests(values, labels, ["apart", "same"], test=test)
        apart, same = (dissimilarity_matrix(tests, name) for name in ("apart", "same"))
        np.testing.assert_array_equal(apart.to_numpy(), 1 - np.eye(3))
        np.testing.assert_array_equal(same.to_numpy(), np.zeros((3, 3)))
        np.testing.assert_array_equal(omnibus_dissimilarity(tests).to_numpy(), (1 - np.eye(3)) / 2)
        counts = omnibus_dissimilarity(tests, "num_significant")
        np.testing.assert_array_equal(counts.to_numpy(), 1 - np.eye(3))
        # the smallest p-value twice, for two features; equal for the three pairs, so that nothing is left to adjust
        p_values = omnibus_dissimilarity(tests, "p_value")
        assert p_values.loc["A", "B"] == pytest.approx(2 * tests["p_value"].min())
        assert (np.diag(p_values) == 1).all()
        assert p_values.equals(p_values.T)


def test_too_few_values_are_not_tested():
    labels = np.repeat(["A", "B", "C"], [10, 10, 3])
    tests = pairwise_tests(np.arange(23.0)[:, None], labels, ["f"])
    matrix = dissimilarity_matrix(tests, "f", "p_adjusted")
    assert np.isnan(matrix.loc["A", "C"])
    assert np.isfinite(matrix.loc["A", "B"])
    assert np.isnan(omnibus_dissimilarity(tests, "num_significant").loc["C", "B"])
    assert np.isnan(omnibus_dissimilarity(tests, "p_value").loc["C", "B"])


def test_what_the_tests_refuse():
    values, labels = np.zeros((4, 1)), np.array(["A", "A", "B", "B"])
    with pytest.raises(InputError, match="test must be one of"):
        pairwise_tests(values, labels, ["f"], test="t")
    with pytest.raises(InputError, match=r"one column per name \(4, 2\), got \(4, 1\)"):
        pairwise_tests(values, labels, ["f", "g"])
    with pytest.raises(InputError, match=r"At least two regions are needed .* got \['A'\]"):
        omnibus_tests(values, np.array(["A", "A", "", ""]), ["f"])
    with pytest.raises(InputError, match="one entry per unit, 4, got 2"):
        pairwise_tests(values, labels, ["f"], groups=np.array(["x", "y"]))
    with pytest.raises(InputError, match="a name of its own"):
        pairwise_tests(np.zeros((4, 2)), labels, ["f", "f"])
    tests = pairwise_tests(values, labels, ["f"])
    with pytest.raises(InputError, match=r"no tests of 'g', only of \['f'\]"):
        dissimilarity_matrix(tests, "g")
    with pytest.raises(InputError, match="value must be"):
        dissimilarity_matrix(tests, "f", "statistic")
    with pytest.raises(InputError, match="summary must be one of"):
        omnibus_dissimilarity(tests, "fisher")
