"""Exploration against known answers: counts, responses, components, and what is drawn."""

import matplotlib as mpl
import numpy as np
import pytest
from exploration_units import CENTERS_S, SHAPES, exploration_dataset

from si_neuroml.errors import InputError
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.dissimilarity import (
    dissimilarity_matrix,
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


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def dataset():
    return exploration_dataset()


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
