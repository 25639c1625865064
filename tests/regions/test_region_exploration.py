"""Exploration against known answers: tests between regions, corrections, matrices, components, and what is drawn."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from si_neuroml.errors import InputError
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.dissimilarity import (
    adjust_p_values,
    dissimilarity_matrix,
    omnibus_dissimilarity,
    omnibus_tests,
    pairwise_tests,
)
from si_neuroml.regions.exploration import (
    explored_values,
    feature_boxes,
    mean_responses,
    principal_components,
    region_components,
    response_correlation,
    unit_counts,
)
from si_neuroml.widgets.region_exploration import (
    plot_region_features,
    plot_region_responses,
    plot_region_unit_counts,
)
from si_neuroml.widgets.region_matrix import plot_region_matrix

mpl.use("Agg")
from matplotlib import pyplot as plt

EDGES_S = np.linspace(-0.5, 1.0, 31)
CENTERS_S = (EDGES_S[:-1] + EDGES_S[1:]) / 2
SHAPES = {
    "CA1": np.exp(-0.5 * ((CENTERS_S - 0.3) / 0.1) ** 2),
    "LP": -np.exp(-0.5 * ((CENTERS_S - 0.3) / 0.1) ** 2),
    "VISp": np.sin(7 * CENTERS_S),
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    regions = np.array(["CA1"] * 40 + ["LP"] * 30 + ["VISp"] * 60 + [""] * 10)
    n = len(regions)
    subjects = np.array([f"s{k % 4}" for k in range(n)])
    units = pd.DataFrame(
        {"subject": subjects, "recording": subjects, "unit_id": np.arange(n), "region": regions, "depth_um": 0.0}
    )
    features = rng.standard_normal((n, 4)).astype("float32")
    features[regions == "VISp", 0] += 3
    features[:5, 1] = np.nan
    psth = np.array([SHAPES.get(region, CENTERS_S * 0) for region in regions]) * rng.uniform(0.5, 2, (n, 1))
    psth = psth + 0.01 * rng.standard_normal(psth.shape)
    psth[3] = np.nan
    names = ("psth_peak_z", "isi_cv", "rate_mean_hz", "log_isi_00")
    return RegionDataset(units, features, names, psth.astype("float32"), EDGES_S)


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


def test_counts(dataset):
    counts = unit_counts(dataset.units)
    assert counts.index.tolist() == ["VISp", "CA1", "LP"]
    assert counts.sum(axis=1).tolist() == [60, 40, 30]
    assert counts.loc["CA1", "s0"] == ((dataset.labels == "CA1") & (dataset.units["subject"] == "s0")).sum()
    with pytest.raises(InputError, match="no column 'rig'"):
        unit_counts(dataset.units, "rig")


def test_boxes_are_matplotlibs(dataset):
    from matplotlib.cbook import boxplot_stats

    boxes = feature_boxes(dataset.features, dataset.feature_names, dataset.labels)
    assert len(boxes) == 12
    for row in boxes.itertuples():
        column = dataset.features[:, dataset.feature_names.index(row.feature)].astype(float)
        expected = boxplot_stats(column[(dataset.labels == row.region) & np.isfinite(column)])[0]
        found = [row.whisker_low, row.q1, row.median, row.q3, row.whisker_high]
        np.testing.assert_allclose(found, [expected[key] for key in ("whislo", "q1", "med", "q3", "whishi")])
    empty = feature_boxes(np.full((3, 1), np.nan), ["f"], np.array(["A"] * 3))
    assert empty.loc[0, "count"] == 0
    assert empty.loc[0, ["q1", "median", "whisker_low"]].isna().all()
    with pytest.raises(InputError, match="4 features, but 1 names"):
        feature_boxes(dataset.features, ["f"], dataset.labels)


def test_mean_responses_over_units_and_over_animals():
    psth = np.array([[1.0, 2.0], [3.0, 2.0], [8.0, 8.0], [np.nan, np.nan], [5.0, 5.0]])
    labels, animals = np.array(["A", "A", "A", "A", ""]), np.array(["x", "x", "y", "y", "y"])
    units = mean_responses(psth, labels)
    assert units.regions == ("A",)
    assert units.count.tolist() == [3]
    np.testing.assert_allclose(units.mean, [[4.0, 4.0]])
    np.testing.assert_allclose(units.sem, [[np.std([1, 3, 8], ddof=1) / np.sqrt(3), np.sqrt(12) / np.sqrt(3)]])
    subjects = mean_responses(psth, labels, animals)
    assert subjects.count.tolist() == [2]
    np.testing.assert_allclose(subjects.mean, [[5.0, 5.0]])
    assert mean_responses(psth[3:], labels[3:]).mean.shape == (0, 2)


def test_correlation_of_regions(dataset):
    found = response_correlation(dataset.psth, dataset.labels)
    assert list(found.index) == list(found.columns) == ["CA1", "LP", "VISp"]
    assert found.loc["CA1", "LP"] == pytest.approx(-1, abs=1e-3)
    np.testing.assert_allclose(found, np.corrcoef(mean_responses(dataset.psth, dataset.labels).mean), atol=1e-12)
    flat = response_correlation(np.array([[1.0, 1.0], [1.0, 2.0]]), np.array(["A", "B"]))
    assert np.isnan(flat.loc["A"]).all()
    assert flat.loc["B", "B"] == pytest.approx(1)


def test_components_find_the_shapes_that_were_mixed():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((40, 3)))[0].T
    scores = rng.standard_normal((500, 3)) * [10.0, 4.0, 1.0]
    psth = scores @ basis + 7.0
    psth[10] = np.nan
    found = principal_components(psth, 4)
    np.testing.assert_allclose(np.abs(found.components[:3] @ basis.T), np.eye(3), atol=0.12)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(4), atol=1e-8)
    # nothing is lost: mean and scores give the responses back
    seen = np.isfinite(psth).all(axis=1)
    np.testing.assert_allclose(found.scores[seen] @ found.components + found.mean, psth[seen], atol=1e-8)
    assert np.isnan(found.scores[10]).all()
    np.testing.assert_allclose(found.explained[:3], np.array([100, 16, 1]) / 117, atol=0.03)
    assert found.explained[3] == pytest.approx(0, abs=1e-12)
    # of one sign, whatever the sign of the data
    largest = np.abs(found.components).argmax(axis=1)
    assert (found.components[np.arange(4), largest] > 0).all()
    with pytest.raises(InputError, match="at least two units with a response, got 1 of 2"):
        principal_components(psth[10:12])
    with pytest.raises(InputError, match="num_components must be at least 1"):
        principal_components(psth, 0)


def test_components_of_each_region(dataset):
    found = region_components(dataset.psth, dataset.labels)
    means = mean_responses(dataset.psth, dataset.labels)
    assert tuple(found) == means.regions
    for row, (region, parts) in enumerate(found.items()):
        np.testing.assert_allclose(parts.mean, means.mean[row], atol=1e-6)
        assert len(parts.scores) == (dataset.labels == region).sum()
        # units of a region differ by a factor alone, so that one component has almost all of the variance
        assert parts.explained[0] > 0.98
        assert abs(parts.components[0] @ SHAPES[region]) / np.linalg.norm(SHAPES[region]) > 0.99
    few = region_components(dataset.psth[[0, 1, 50, 51, 52]], np.array(["A", "A", "B", "B", "B"]))
    assert [len(parts.components) for parts in few.values()] == [1, 2]
    assert region_components(dataset.psth[2:4], np.array(["A", "A"])) == {}


def test_equal_responses_have_no_components_to_speak_of():
    found = principal_components(np.ones((5, 8)), 2)
    np.testing.assert_array_equal(found.explained, 0.0)
    np.testing.assert_allclose(found.scores, 0.0, atol=1e-12)


def test_values_to_explore(dataset):
    values, names = explored_values(dataset.features, dataset.feature_names, dataset.psth)
    assert names == ("psth_peak_z", "isi_cv", "component_1", "component_2", "component_3", "component_4")
    np.testing.assert_array_equal(values[:, :2], dataset.features[:, :2])
    np.testing.assert_array_equal(values[:, 2:], principal_components(dataset.psth).scores)
    tests = pairwise_tests(values, dataset.labels, names)
    assert (dissimilarity_matrix(tests, "component_1") > 0.9).to_numpy()[~np.eye(3, dtype=bool)].any()
    with pytest.raises(InputError, match="no feature 'acg_00'"):
        explored_values(dataset.features, dataset.feature_names, chosen=["acg_00"])
    with pytest.raises(InputError, match="None of the paper's features"):
        explored_values(dataset.features[:, 2:], dataset.feature_names[2:])


def test_plot_of_the_counts(dataset):
    widget = plot_region_unit_counts(dataset)
    widths = {}
    for bar in widget.ax.patches:
        widths.setdefault(round(bar.get_y()), []).append(bar.get_width())
    assert [sum(found) for found in widths.values()] == [60, 40, 30]
    assert [label.get_text() for label in widget.ax.get_yticklabels()] == ["VISp", "CA1", "LP"]
    assert [text.get_text() for text in widget.ax.get_legend().get_texts()] == ["s0", "s1", "s2", "s3"]
    with pytest.raises(InputError, match="No unit of this dataset has a region"):
        plot_region_unit_counts(dataset.select(dataset.labels == ""))


def test_plot_of_the_features(dataset):
    widget = plot_region_features(dataset)
    assert [ax.get_title() for ax in widget.panel_axes] == ["psth_peak_z", "isi_cv", "rate_mean_hz"]
    medians = [line.get_ydata() for line in widget.panel_axes[0].lines if len(set(line.get_ydata())) == 1]
    expected = widget.boxes.query("feature == 'psth_peak_z'")["median"]
    assert set(expected) <= {float(found[0]) for found in medians}
    one = plot_region_features(dataset, ["log_isi_00"])
    assert one.ax.get_title() == "log_isi_00"
    with pytest.raises(InputError, match="no feature 'snr'"):
        plot_region_features(dataset, ["snr"])
    with pytest.raises(InputError, match="3 panels to draw, but only 2 axes"):
        plot_region_features(dataset, axes=plt.subplots(1, 2)[1])


def test_plot_of_the_responses(dataset):
    widget = plot_region_responses(dataset, num_components=2)
    assert len(widget.panel_axes) == 6
    for row, region in enumerate(("CA1", "LP", "VISp")):
        left, right = widget.panel_axes[2 * row : 2 * row + 2]
        assert left.get_title().startswith(f"{region} (")
        np.testing.assert_allclose(left.lines[0].get_xdata(), CENTERS_S)
        np.testing.assert_allclose(left.lines[0].get_ydata(), widget.responses.mean[row])
        np.testing.assert_allclose(right.lines[1].get_ydata(), widget.components[region].components[1])
    assert widget.panel_axes[0].get_title() == "CA1 (39 units)"
    by_subject = plot_region_responses(dataset, regions=["VISp"], by_subject=True)
    assert by_subject.panel_axes[0].get_title() == "VISp (4 subjects)"
    with pytest.raises(InputError, match="fewer than two units with a response in 'APN'"):
        plot_region_responses(dataset, regions=["APN"])
    without = RegionDataset(dataset.units, dataset.features, dataset.feature_names)
    with pytest.raises(InputError, match="no PSTHs"):
        plot_region_responses(without)


def test_plot_of_a_matrix(dataset):
    correlation = response_correlation(dataset.psth, dataset.labels)
    widget = plot_region_matrix(correlation, label="correlation")
    np.testing.assert_allclose(widget.image.get_array(), correlation)
    # colours are even about zero
    assert widget.image.get_clim()[0] == -widget.image.get_clim()[1]
    tests = pairwise_tests(dataset.features, dataset.labels, dataset.feature_names)
    marked = dissimilarity_matrix(tests, "psth_peak_z", "p_adjusted") < 0.05
    ax = plt.subplots()[1]
    widget = plot_region_matrix(dissimilarity_matrix(tests, "psth_peak_z"), marked, limits=(0, 1), ax=ax)
    assert widget.ax is ax
    assert widget.image.get_clim() == (0, 1)
    stars = [text.get_position() for text in ax.texts]
    assert sorted(stars) == [(0, 2), (1, 2), (2, 0), (2, 1)]
    with pytest.raises(InputError, match="same regions as rows and columns"):
        plot_region_matrix(correlation.iloc[:2])
    with pytest.raises(InputError, match="marked must have the regions of matrix"):
        plot_region_matrix(correlation, marked.iloc[:2])
