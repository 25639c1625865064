"""What the widgets draw: panels, places, limits, labels; and what they refuse."""

import copy

import matplotlib as mpl
import numpy as np
import probeinterface
import pytest
import spikeinterface.full as si
from matplotlib.collections import EllipseCollection, PathCollection

import si_neuroml
from si_neuroml.errors import InputError
from si_neuroml.localization.settings import LOCATION_DTYPE

mpl.use("Agg")
from matplotlib import pyplot as plt

QUIET = {"n_jobs": 1, "progress_bar": False}
NUM_PEAKS = 300


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def recording_and_sorting():
    return si.generate_ground_truth_recording(durations=[5.0], num_channels=32, num_units=6, seed=0)


@pytest.fixture(scope="module")
def recording(recording_and_sorting):
    return recording_and_sorting[0]


@pytest.fixture(scope="module")
def analyzer(recording_and_sorting):
    recording, sorting = recording_and_sorting
    analyzer = si.create_sorting_analyzer(sorting, recording, sparse=False, job_kwargs=QUIET)
    analyzer.compute(["random_spikes", "templates"], **QUIET)
    analyzer.compute("spike_locations", method="center_of_mass_nearest", **QUIET)
    return analyzer


@pytest.fixture(scope="module")
def peaks():
    return np.zeros(
        NUM_PEAKS, dtype=[("sample_index", "int64"), ("channel_index", "int64"), ("segment_index", "int64")]
    )


@pytest.fixture(scope="module")
def locations(recording):
    """Places among the contacts, with standard deviations of 5 um, some of them infinite."""
    rng = np.random.default_rng(0)
    contacts = recording.get_channel_locations()
    found = np.zeros(NUM_PEAKS, dtype=LOCATION_DTYPE)
    for axis, name in enumerate("xy"):
        found[name] = rng.uniform(contacts[:, axis].min(), contacts[:, axis].max(), size=NUM_PEAKS)
        found[f"{name}_std"] = 5.0
    found["x_std"][::2] = np.inf
    return found


@pytest.fixture(scope="module")
def labels():
    return np.arange(NUM_PEAKS) % 6 - 1


def xy(locations):
    return np.column_stack([locations["x"], locations["y"]])


def spikes_of(ax):
    """The first scatter of a panel."""
    return next(found for found in ax.collections if isinstance(found, PathCollection))


def offsets_of(ax):
    return np.asarray(spikes_of(ax).get_offsets())


def inside(points, ax):
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    return ((points >= [x0, y0]) & (points <= [x1, y1])).all()


def plot(*args, **kwargs):
    widget = si_neuroml.plot_spike_locations_on_probe(*args, **kwargs)
    widget.figure.canvas.draw()
    return widget


def test_one_panel_per_method_with_the_same_view(recording, peaks, locations, labels):
    other = xy(locations) + 3.0
    widget = plot(recording, peaks, {"one": locations, "two": other}, labels=labels, with_uncertainty=True)
    one, two = widget.panel_axes
    assert widget.figure.axes == [one, two]
    assert [ax.get_title() for ax in (one, two)] == ["one", "two"]
    np.testing.assert_allclose(offsets_of(one), xy(locations))
    np.testing.assert_allclose(offsets_of(two), other)
    assert (one.get_xlim(), one.get_ylim()) == (two.get_xlim(), two.get_ylim())
    np.testing.assert_array_equal(spikes_of(one).get_facecolors(), spikes_of(two).get_facecolors())
    contacts = recording.get_channel_locations()
    for ax in (one, two):
        assert ax.get_aspect() == 1.0
        assert "µm" in ax.get_xlabel()
        assert "µm" in ax.get_ylabel()
        assert inside(offsets_of(ax), ax)
        assert inside(contacts, ax)


def test_one_array_makes_one_panel(recording, peaks, locations):
    widget = plot(recording, peaks, locations)
    assert len(widget.panel_axes) == 1
    assert widget.ax is widget.panel_axes[0]
    assert len(np.unique(spikes_of(widget.ax).get_facecolors(), axis=0)) == 1


def test_probe_is_drawn_to_scale(recording, peaks, locations):
    ax = plot(recording, peaks, locations).ax
    contacts = ax.collections[0]
    centres = [path.vertices[:-1].mean(axis=0) for path in contacts.get_paths()]
    assert len(centres) == recording.get_num_channels()
    np.testing.assert_allclose(centres, recording.get_channel_locations(), atol=1.0)


def test_colors_follow_units(recording, peaks, locations, labels):
    widget = plot(recording, peaks, locations, labels=labels, unit_colors={2: "black"})
    colors = spikes_of(widget.ax).get_facecolors()[:, :3]
    for label in np.unique(labels):
        assert len(np.unique(colors[labels == label], axis=0)) == 1
    assert len(np.unique(colors, axis=0)) == len(np.unique(labels))
    assert (colors[labels == 2] == 0).all()
    grey = colors[labels == -1][0]
    assert grey[0] == grey[1] == grey[2]


def test_true_places_are_marked_in_the_colour_of_their_unit(recording, peaks, locations, labels):
    somas = np.column_stack([np.linspace(-30, 40, 5), np.linspace(-50, 300, 5), np.full(5, 20.0)])
    widget = plot(recording, peaks, locations, labels=labels, true_locations=somas)
    spikes, _, stars = [found for found in widget.ax.collections if isinstance(found, PathCollection)]
    np.testing.assert_allclose(stars.get_offsets(), somas[:, :2])
    for index in range(5):
        np.testing.assert_allclose(stars.get_facecolors()[index, :3], spikes.get_facecolors()[labels == index][0, :3])
    assert inside(somas[:, :2], widget.ax)
    assert [text.get_text() for text in widget.ax.get_legend().get_texts()] == ["true soma"]


def test_subsample_is_seeded_and_the_same_in_all_panels(recording, peaks, locations, labels):
    both = {"one": locations, "two": xy(locations)}
    first, again, other = (plot(recording, peaks, both, max_spikes=40, seed=seed).panel_axes for seed in (0, 0, 1))
    assert len(offsets_of(first[0])) == 40
    np.testing.assert_array_equal(offsets_of(first[0]), offsets_of(first[1]))
    np.testing.assert_array_equal(offsets_of(first[0]), offsets_of(again[0]))
    assert (offsets_of(first[0]) != offsets_of(other[0])).any()
    per_unit = plot(recording, peaks, locations, labels=labels, max_spikes_per_unit=7).ax
    assert len(offsets_of(per_unit)) == 7 * len(np.unique(labels))


def test_ellipses_are_one_standard_deviation_where_finite(recording, peaks, locations):
    ax = plot(recording, peaks, locations, with_uncertainty=True).ax
    (ellipses,) = [found for found in ax.collections if isinstance(found, EllipseCollection)]
    assert 0 < len(ellipses.get_offsets()) <= 40
    finite = {tuple(place) for place in xy(locations)[np.isfinite(locations["x_std"])]}
    assert {tuple(place) for place in ellipses.get_offsets()} <= finite
    np.testing.assert_allclose(ellipses.get_widths(), 10.0)
    np.testing.assert_allclose(ellipses.get_heights(), 10.0)
    with pytest.raises(InputError, match="x_std and y_std; none of \\['spike locations'\\] has them"):
        plot(recording, peaks, xy(locations), with_uncertainty=True)


def test_far_spikes_do_not_shrink_the_probe_and_are_counted(recording, peaks, locations):
    far = locations.copy()
    far["y"][:3], far["x"][3] = 1e6, np.nan
    ax = plot(recording, peaks, far).ax
    assert np.diff(ax.get_ylim())[0] < np.ptp(recording.get_channel_locations()[:, 1]) + 200
    assert "4 of 300 spikes outside" in ax.get_title()


def test_analyzer_in_memory_folder_and_zarr(analyzer, recording_and_sorting, tmp_path):
    sorting = recording_and_sorting[1]
    expected = xy(analyzer.get_extension("spike_locations").get_data())
    colors = si.get_unit_colors(sorting)
    found = [analyzer]
    for format, name in (("binary_folder", "analyzer"), ("zarr", "analyzer.zarr")):
        folder = tmp_path / name
        analyzer.save_as(format=format, folder=folder)
        found.append(si.load_sorting_analyzer(folder, load_extensions=False))
    for same in found:
        widget = plot(same, true_locations=sorting.get_property("gt_unit_locations"))
        assert widget.ax.get_title().startswith("center_of_mass_nearest")
        np.testing.assert_allclose(offsets_of(widget.ax), expected)
        drawn = spikes_of(widget.ax).get_facecolors()[:, :3]
        for index, unit_id in enumerate(sorting.unit_ids):
            own = sorting.to_spike_vector()["unit_index"] == index
            np.testing.assert_allclose(drawn[own], np.tile(colors[unit_id][:3], (own.sum(), 1)))


def test_analyzer_beside_other_places(analyzer):
    own = xy(analyzer.get_extension("spike_locations").get_data())
    widget = plot(analyzer, locations={"moved": own + 1.0}, unit_colors={analyzer.unit_ids[0]: "k"})
    assert len(widget.panel_axes) == 2
    np.testing.assert_allclose(offsets_of(widget.panel_axes[1]), offsets_of(widget.panel_axes[0]) + 1.0)


def test_axes_figure_and_backend_as_in_spikeinterface(recording, peaks, locations):
    both = {"one": locations, "two": locations}
    figure, axes = plt.subplots(1, 3)
    widget = plot(recording, peaks, both, axes=axes)
    assert widget.figure is figure
    assert widget.panel_axes == list(axes[:2])
    _, ax = plt.subplots()
    assert plot(recording, peaks, locations, ax=ax).ax is ax
    figure = plt.figure()
    assert plot(recording, peaks, both, figure=figure).figure is figure
    assert len(figure.axes) == 2
    widget = plot(recording, peaks, both, ncols=1, figsize=(3, 6), figtitle="title", backend="matplotlib")
    assert np.asarray(widget.axes).shape == (2, 1)
    assert widget.figure.get_suptitle() == "title"
    with pytest.raises(InputError, match="2 panels to draw, but only 1 axes"):
        plot(recording, peaks, both, ax=ax)
    with pytest.raises(AssertionError, match="backend not available"):
        plot(recording, peaks, locations, backend="ipywidgets")


def test_nothing_is_shown(recording, peaks, locations, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: pytest.fail("plt.show was called"))
    plot(recording, peaks, locations)


def test_several_shanks_probes_and_contacts_in_space(recording, peaks, locations):
    one, two = (probeinterface.generate_multi_columns_probe(num_columns=2, num_contact_per_column=8) for _ in range(2))
    two.move([250.0, 0.0])
    group = probeinterface.ProbeGroup()
    for index, probe in enumerate((one, two)):
        probe.set_device_channel_indices(np.arange(16) + 16 * index)
        group.add_probe(probe)
    shanks = si.NumpyRecording([np.zeros((100, 32), dtype="float32")], 30_000.0)
    shanks.set_probegroup(group)
    ax = plot(shanks, peaks, locations).ax
    assert inside(shanks.get_channel_locations(), ax)

    space = copy.deepcopy(recording.get_probe()).to_3d(axes="xy")
    space.set_device_channel_indices(np.arange(32))
    lifted = si.NumpyRecording([np.zeros((100, 32), dtype="float32")], 30_000.0)
    lifted.set_probe(space)
    before = space.contact_positions.copy()
    assert inside(before[:, :2], plot(lifted, peaks, locations).ax)
    np.testing.assert_array_equal(lifted.get_probe().contact_positions, before)


def test_no_spikes_at_all(recording, peaks, locations):
    ax = plot(recording, peaks[:0], locations[:0], true_locations=[[0.0, 0.0]]).ax
    assert inside(recording.get_channel_locations(), ax)


def test_refusals(recording, analyzer, peaks, locations, labels):
    with pytest.raises(InputError, match=r"300 peaks, but the locations have other lengths: \{'one': 299\}"):
        plot(recording, peaks, {"one": locations[1:], "two": locations})
    with pytest.raises(InputError, match="300 spikes, but 299 labels"):
        plot(recording, peaks, locations, labels=labels[1:])
    with pytest.raises(InputError, match="labels must be unit indices.*float64"):
        plot(recording, peaks, locations, labels=labels * 0.5)
    with pytest.raises(InputError, match="give the peaks and their locations"):
        plot(recording, peaks)
    with pytest.raises(InputError, match="locations is empty"):
        plot(recording, peaks, {})
    with pytest.raises(InputError, match="'spike locations' must have the fields x and y"):
        plot(recording, peaks, locations["x"])
    with pytest.raises(InputError, match="'true_locations' must have the fields"):
        plot(recording, peaks, locations, true_locations=np.zeros(3))
    with pytest.raises(InputError, match="leave out peaks and labels"):
        plot(analyzer, peaks)
    with pytest.raises(InputError, match="SortingAnalyzer or a recording is needed, got ndarray"):
        plot(peaks)
    bare = si.NumpyRecording([np.zeros((100, 4), dtype="float32")], 30_000.0)
    with pytest.raises(InputError, match="4 channels has no probe.*set_probe"):
        plot(bare, peaks, locations)


def test_analyzer_without_locations_says_what_to_compute(recording_and_sorting):
    recording, sorting = recording_and_sorting
    bare = si.create_sorting_analyzer(sorting, recording, sparse=False, job_kwargs=QUIET)
    with pytest.raises(InputError, match=r'analyzer\.compute\("spike_locations", method="vae"'):
        plot(bare)
