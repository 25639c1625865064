"""The plot along a shank: what is drawn are the probabilities, the boundaries and the shift that the arrays give."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba

import si_neuroml
from si_neuroml.errors import InputError
from si_neuroml.groundtruth import generate_region_sessions, region_session_analyzer
from si_neuroml.modelfiles import save_model
from si_neuroml.regions.boundaries import region_boundaries
from si_neuroml.regions.classifier import RegionPredictions
from si_neuroml.regions.depth import DepthHMM
from si_neuroml.regions.predictions_extension import KIND
from si_neuroml.regions.session import Session
from si_neuroml.regions.session_features import session_dataset
from si_neuroml.regions.shift_profile import shift_profile
from si_neuroml.widgets.region_track import MAX_REACH_UM, UNKNOWN_COLOR, RegionTrackWidget

CLASSES = ("APN", "CA1", "DG", "LP")
COLORS = dict(zip(CLASSES, ("red", "green", "blue", "black"), strict=True))
ORDER = np.array([0, 3, 2, 1])
EDGES_UM = (700.0, 1300.0, 1900.0)
MODEL = DepthHMM(stay_um=600.0, emission_power=0.4)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def regions_at(depth_um):
    """Names of the true regions at these depths."""
    return np.array(CLASSES)[ORDER[np.searchsorted(EDGES_UM, depth_um)]]


@pytest.fixture(scope="module")
def units():
    """Two shanks in one table, some units without a depth, and two at the same one."""
    rng = np.random.default_rng(0)
    depth_um = rng.uniform(0, 2600, 120)
    depth_um[[3, 50]], depth_um[[8, 10]] = np.nan, 400.0
    region = regions_at(np.nan_to_num(depth_um))
    return {"depth_um": depth_um, "region": region, "shank": np.where(np.arange(120) % 2, "a", "b")}


@pytest.fixture(scope="module")
def predictions(units):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, (120, 4)) + 2.0 * (units["region"][:, None] == np.array(CLASSES))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    smoothed = MODEL.smooth(probabilities, units["depth_um"], units["shank"])
    probability = smoothed.max(axis=1)
    label = np.where(probability < 0.7, "unknown", np.array(CLASSES)[smoothed.argmax(axis=1)])
    return RegionPredictions(CLASSES, probabilities, smoothed, label, probability)


def on_shank(units, shank="b"):
    """Rows of the units of a shank that have a depth, from the tip up."""
    rows = np.flatnonzero((units["shank"] == shank) & np.isfinite(units["depth_um"]))
    return rows[np.argsort(units["depth_um"][rows], kind="stable")]


def boxes(ax):
    """Left, right, low, high of every box, one array per collection."""
    found = [part for part in ax.collections if isinstance(part, PolyCollection)]
    corners = [np.array([path.vertices[:4] for path in part.get_paths()]) for part in found]
    return [np.concatenate([one.min(axis=1).T, one.max(axis=1).T])[[0, 2, 1, 3]] for one in corners]


@pytest.mark.parametrize("name", ["raw", "smoothed"])
def test_colours_are_as_wide_as_the_probabilities(units, predictions, name):
    widget = si_neuroml.plot_region_track(predictions, units, shank="b", model=MODEL)
    drawn = boxes(widget.panels[name])
    rows = on_shank(units)
    expected = (predictions.probabilities if name == "raw" else predictions.smoothed)[rows]
    np.testing.assert_allclose(np.stack([right - left for left, right, _, _ in drawn], axis=1), expected, atol=1e-12)
    # stacked: each begins where the one before ends, the last at 1
    for before, after in pairwise(drawn):
        np.testing.assert_allclose(after[0], before[1], atol=1e-12)
    np.testing.assert_allclose(drawn[-1][1], 1.0)
    colors = [part.get_facecolor()[0] for part in widget.panels[name].collections]
    assert len({tuple(color) for color in colors}) == len(CLASSES)


def test_units_stand_at_their_depths_without_overlap(units, predictions):
    widget = si_neuroml.plot_region_track(predictions, units, shank="b")
    depth_um = units["depth_um"][on_shank(units)]
    _, _, low, high = boxes(widget.panels["predicted"])[0]
    alone = ~np.isin(depth_um, 400.0)
    assert (low[alone] < depth_um[alone]).all()
    assert (depth_um[alone] < high[alone]).all()
    assert (low[1:] >= high[:-1] - 1e-9).all()
    assert (high > low).all()
    assert (high - low <= 2 * MAX_REACH_UM + 1e-9).all()
    close = np.diff(depth_um) < 100.0
    np.testing.assert_allclose(low[1:][close], high[:-1][close])
    # the two at one depth share the stretch about it
    own = np.flatnonzero(~alone)
    np.testing.assert_allclose(np.diff((high - low)[own]), 0.0, atol=1e-9)
    assert low[own[0]] < 400.0 < high[own[1]]
    assert len(own) == 2
    assert list(widget.units["depth_um"]) == depth_um.tolist()


def test_labels_have_the_colours_of_their_regions_and_unknown_is_grey(units, predictions):
    widget = si_neuroml.plot_region_track(predictions, units, shank="b", colors=COLORS)
    label = predictions.label[on_shank(units)]
    assert "unknown" in label
    assert len(np.unique(label)) == 5
    expected = [to_rgba(COLORS.get(name, UNKNOWN_COLOR)) for name in label]
    np.testing.assert_allclose(widget.panels["predicted"].collections[0].get_facecolor(), expected)
    assert widget.units["label"].tolist() == label.tolist()
    texts = [text.get_text() for text in widget.panels["raw"].get_legend().get_texts()]
    assert texts == [*CLASSES, "unknown"]


def test_boundaries_and_their_intervals(units, predictions):
    widget = si_neuroml.plot_region_track(predictions, units, shank="a", model=MODEL, confidence=0.8)
    rows = on_shank(units, "a")
    track = np.zeros(len(rows), dtype=int)
    depth_um = units["depth_um"][rows]
    expected = region_boundaries(predictions.probabilities[rows], depth_um, track, MODEL, confidence=0.8)
    assert [boundary[1:6] for boundary in widget.boundaries] == [boundary[1:6] for boundary in expected]
    assert [CLASSES[one.below] for one in expected] == ["APN", "LP", "DG"]
    lines = [line.get_ydata() for line in widget.panels["smoothed"].lines]
    np.testing.assert_allclose([line[0] for line in lines], [boundary.depth_um for boundary in expected])
    # near the true ones
    np.testing.assert_allclose([line[0] for line in lines], EDGES_UM, atol=120.0)
    spans = {tuple(line.get_ydata()) for line in widget.panels["predicted"].lines}
    assert {(boundary.low_um, boundary.high_um) for boundary in expected} <= spans


def test_a_planted_shift_is_drawn(units, predictions):
    places = np.arange(0.0, 2601.0, 40.0)
    assigned = regions_at(places + 200.0)
    widget = si_neuroml.plot_region_track(predictions, units, shank="a", assigned=(places, assigned))
    rows = on_shank(units, "a")
    index = np.array([CLASSES.index(name) for name in assigned])
    expected = shift_profile(predictions.probabilities[rows], units["depth_um"][rows], places, index)
    line, *_, best, _ = widget.panels["log_odds"].lines
    np.testing.assert_allclose(line.get_ydata(), expected.log_odds)
    assert best.get_xdata()[0] == expected.best_um == widget.shift.best_um
    assert abs(expected.best_um - 200.0) <= 60.0
    assert expected.low_um > 0
    heights = [bar.get_height() for bar in widget.panels["posterior"].patches if bar.get_height() != 1.0]
    np.testing.assert_allclose(np.sum(heights), 1.0)


def assigned_patches(widget):
    """Low, high and colour of each stretch, from the tip up; hatched ones as "other"."""
    patches = sorted(widget.panels["assigned"].patches, key=lambda patch: patch.get_y())
    return [
        (patch.get_y(), patch.get_y() + patch.get_height(), "other" if patch.get_hatch() else patch.get_facecolor())
        for patch in patches
    ]


def test_assigned_regions_hold_half_way_and_cover_the_axis(units, predictions):
    places, assigned = np.array([2000.0, 500.0, 1000.0, 1500.0]), ["root", "APN", "", "CA1"]
    widget = si_neuroml.plot_region_track(predictions, units, shank="a", assigned=(places, assigned), colors=COLORS)
    drawn = assigned_patches(widget)
    bottom, top = widget.panels["assigned"].get_ylim()
    np.testing.assert_allclose([one[0] for one in drawn], [bottom, 750.0, 1250.0, 1750.0])
    np.testing.assert_allclose([one[1] for one in drawn], [750.0, 1250.0, 1750.0, top])
    assert [one[2] for one in drawn] == [to_rgba("red"), to_rgba("w"), to_rgba("green"), "other"]
    assert "root: not learned" in [text.get_text() for text in widget.panels["raw"].get_legend().get_texts()]
    # what is not assigned, or not known, is the same to all units
    rows = on_shank(units, "a")
    index = np.array([-1, 0, -1, 1])
    expected = shift_profile(predictions.probabilities[rows], units["depth_um"][rows], places, index)
    np.testing.assert_allclose(widget.shift.log_likelihood, expected.log_likelihood)


def test_without_assigned_regions_there_is_no_shift(units, predictions):
    bare = {name: units[name] for name in ("depth_um", "shank")}
    widget = si_neuroml.plot_region_track(predictions, bare, shank="a")
    assert widget.shift is None
    assert list(widget.panels) == ["predicted", "smoothed", "raw"]
    unknown = {**bare, "region": np.full(120, "root")}
    widget = si_neuroml.plot_region_track(predictions, unknown, shank="a")
    assert widget.shift is None
    assert "assigned" in widget.panels
    assert "log_odds" not in widget.panels


def test_draws_inside_given_axes(units, predictions):
    figure, (left, right) = plt.subplots(1, 2)
    widget = RegionTrackWidget(predictions, units, shank="a", ax=right)
    assert widget.figure is figure
    assert widget.ax is right
    assert set(right.child_axes) == set(widget.panels.values())
    assert not left.child_axes


def test_what_is_refused(units, predictions):
    for changed, message in [
        ({"depth_um": units["depth_um"][:-1]}, "120 units"),
        ({"region": units["region"]}, "depth_um"),
        (units, "name one of"),
        ({**units, "depth_um": np.full(120, np.nan), "shank": ["a"] * 120}, "None of the 120"),
        (None, "Give the units"),
    ]:
        with pytest.raises(InputError, match=message):
            si_neuroml.plot_region_track(predictions, changed)
    with pytest.raises(InputError, match="0 shanks"):
        si_neuroml.plot_region_track(predictions, units, shank="c")
    with pytest.raises(InputError, match="finite depth"):
        si_neuroml.plot_region_track(predictions, units, shank="a", assigned=([0.0, np.nan], ["CA1", "DG"]))


@pytest.fixture(scope="module")
def analyzer_and_classifier(tmp_path_factory):
    """A new animal with predictions, and a classifier of spike trains alone from three others."""
    sessions = generate_region_sessions(4, 1, 40, 40.0, skip_probability=0.0, event_interval_s=None, seed=2)
    parts = [session_dataset(Session(one.units, one.spike_times, one.offsets, one.duration_s)) for one in sessions[:3]]
    dataset = si_neuroml.RegionDataset.concatenate(parts)
    classifier = si_neuroml.fit_region_classifier(dataset, "logistic_regression", progress_bar=False)
    small = {"sampling_frequency": 10_000.0, "contacts_per_shank": 16}
    analyzer = region_session_analyzer(sessions[3], **small)
    analyzer.compute("region_features")
    return analyzer, classifier


def test_an_analyzer_is_drawn_as_its_arrays(analyzer_and_classifier, tmp_path):
    analyzer, classifier = analyzer_and_classifier
    with pytest.raises(InputError, match="region_predictions"):
        si_neuroml.plot_region_track(analyzer)
    save_model(classifier, tmp_path / "classifier")
    analyzer.compute("region_predictions", model=tmp_path / "classifier")
    widget = si_neuroml.plot_region_track(analyzer)
    dataset = analyzer.get_extension("region_features").get_dataset()
    arrays = si_neuroml.plot_region_track(classifier.predict(dataset), dataset.units, model=classifier)
    for name in ("predicted", "smoothed", "raw"):
        for one, other in zip(boxes(widget.panels[name]), boxes(arrays.panels[name]), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    assert assigned_patches(widget) == assigned_patches(arrays)
    assert [one[:3] for one in widget.boundaries] == [one[:3] for one in arrays.boundaries]
    np.testing.assert_allclose(widget.shift.log_odds, arrays.shift.log_odds)
    with pytest.raises(InputError, match="leave units out"):
        si_neuroml.plot_region_track(analyzer, dataset.units)
    # without the classifier, the boundaries are those of a model nobody has tuned
    analyzer.get_extension("region_predictions").params["model"] = {**dict.fromkeys(("digest", "folder")), "kind": KIND}
    with pytest.warns(UserWarning, match="default parameters"):
        untuned = si_neuroml.plot_region_track(analyzer)
    arrays = si_neuroml.plot_region_track(classifier.predict(dataset), dataset.units, model=DepthHMM())
    assert [one[:6] for one in untuned.boundaries] == [one[:6] for one in arrays.boundaries]
    assert [one[:6] for one in untuned.boundaries] != [one[:6] for one in widget.boundaries]
