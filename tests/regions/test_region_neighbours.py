"""Columns of neighbours against a plain loop, their invariances, and in the classifier."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region_units import NAMES, make_dataset

import si_neuroml
from si_neuroml.errors import InputError
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.feature_columns import FeatureColumns, choose_columns
from si_neuroml.regions.neighbours import REACH_SD, neighbour_columns, neighbour_names

WIDTHS_UM = (30.0, 100.0)


def units(seed=0, num=40, num_tracks=3):
    rng = np.random.default_rng(seed)
    features = rng.normal(5.0, 2.0, (num, 3))
    features[rng.random(features.shape) < 0.1] = np.nan
    depth_um = rng.integers(0, 50, num) * 20.0
    depth_um[::13] = np.nan
    return features, depth_um, rng.integers(0, num_tracks, num)


def plain(features, depth_um, track, widths_um):
    """Unit by unit and feature by feature, with numpy's weighted mean."""
    rows = []
    for unit in range(len(features)):
        row = []
        for width in widths_um:
            means, spreads = [], []
            for feature in range(features.shape[1]):
                near = (track == track[unit]) & (np.abs(depth_um - depth_um[unit]) <= REACH_SD * width)
                near &= np.isfinite(features[:, feature])
                near[unit] = False
                weights = np.exp(-0.5 * ((depth_um[near] - depth_um[unit]) / width) ** 2)
                values = features[near, feature]
                mean = np.average(values, weights=weights) if near.any() else np.nan
                means.append(mean)
                enough = near.sum() > 1
                spreads.append(np.sqrt(np.average((values - mean) ** 2, weights=weights)) if enough else np.nan)
            row += means + spreads
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(4))
def test_columns_are_weighted_means_and_spreads(seed):
    data = units(seed)
    found = neighbour_columns(*data, WIDTHS_UM)
    np.testing.assert_allclose(found, plain(*data, WIDTHS_UM), atol=1e-9)
    assert found.shape[1] == len(neighbour_names(("a", "b", "c"), WIDTHS_UM))


def test_large_values_keep_their_spread():
    features, depth_um, track = units(1)
    one, other = (neighbour_columns(features + add, depth_um, track, (60.0,)) for add in (0.0, 1e7))
    np.testing.assert_allclose(other[:, 3:], one[:, 3:], atol=1e-6)
    np.testing.assert_allclose(other[:, :3], one[:, :3] + 1e7, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1e4, 1e4))
def test_neither_order_nor_where_the_probe_begins_matters(seed, deeper_um):
    features, depth_um, track = units(seed)
    found = neighbour_columns(features, depth_um, track, WIDTHS_UM)
    order = np.random.default_rng(seed).permutation(len(features))
    moved = np.round(deeper_um) + depth_um[order]
    again = neighbour_columns(features[order], moved, 7 - track[order], WIDTHS_UM)
    np.testing.assert_allclose(again, found[order], atol=1e-9)


def test_shanks_do_not_mix_and_a_unit_says_nothing_about_itself():
    features, depth_um, track = units(2)
    before = neighbour_columns(features, depth_um, track, WIDTHS_UM)
    changed = features.copy()
    changed[track == 1] += 100.0
    after = neighbour_columns(changed, depth_um, track, WIDTHS_UM)
    np.testing.assert_array_equal(after[track != 1], before[track != 1])
    assert (np.abs(after - before)[track == 1] > 1).any()
    placed = np.flatnonzero(np.isfinite(depth_um))[0]
    changed = features.copy()
    changed[placed] = -1e3
    np.testing.assert_allclose(neighbour_columns(changed, depth_um, track, WIDTHS_UM)[placed], before[placed])


def test_isolated_units_have_no_neighbours():
    depth_um = np.array([0.0, 20.0, 1000.0, np.nan, 20.0])
    found = neighbour_columns(np.arange(5.0)[:, None], depth_um, np.array([0, 0, 0, 0, 1]), (40.0,))
    np.testing.assert_array_equal(found[:2, 0], [1.0, 0.0])
    # one neighbour has no spread
    assert np.isnan(found[:, 1]).all()
    assert np.isnan(found[2:]).all()
    # half way between two others: values 0 and 1 at equal weights
    three = neighbour_columns(np.array([[0.0], [1.0], [9.0]]), np.array([0.0, 40.0, 20.0]), np.zeros(3), (40.0,))
    np.testing.assert_allclose(three[2], [0.5, 0.5])


def test_bad_input_is_refused():
    features, depth_um, track = units()
    with pytest.raises(InputError, match="one depth and one track per unit"):
        neighbour_columns(features, depth_um[1:], track, WIDTHS_UM)
    for widths in ((), (0.0,), (np.nan,)):
        with pytest.raises(InputError, match="above 0 um"):
            neighbour_columns(features, depth_um, track, widths)


def test_columns_of_a_dataset():
    """After scaling and unskewing, beside the features and before the stream."""
    dataset = make_dataset(2, 20)
    columns = choose_columns(dataset, families=["isi", "waveform"], stream="psth", neighbours_um=60)
    assert columns == FeatureColumns.from_dict(columns.to_dict())
    assert (columns.num_features, columns.num_stream) == (9, 12)
    assert columns.families == ("isi", *["waveform"] * 2, *["neighbours"] * 6, *["stream"] * 12)
    matrix = columns.matrix(dataset)
    own = FeatureColumns(columns.names, (), columns.bin_edges_s).matrix(dataset)
    np.testing.assert_array_equal(matrix[:, [0, 1, 2, *range(9, 21)]], own)
    track = (dataset.units["subject"] == "m1").to_numpy(int)
    wanted = neighbour_columns(own[:, :3], dataset.units["depth_um"], track, (60.0,))
    np.testing.assert_allclose(matrix[:, 3:9], wanted, atol=1e-5)
    blind = RegionDataset.from_table(
        dataset.units.assign(depth_um=np.nan), dataset.features, feature_names=dataset.feature_names
    )
    with pytest.raises(InputError, match="units with a depth"):
        choose_columns(blind, neighbours_um=60)


def test_classifier_learns_from_neighbours_and_keeps_them(tmp_path):
    """Regions are layers here, so that neighbours tell more than the unit; unlabelled ones do, too."""
    data, fresh = make_dataset(6, 60), make_dataset(4, 60, seed=5)
    options = {"depth": None, "num_folds": 3, "progress_bar": False, "feature_families": ["rate", "isi", "waveform"]}
    alone = si_neuroml.fit_region_classifier(data, "logistic_regression", **options)
    beside = si_neuroml.fit_region_classifier(data, "logistic_regression", neighbours_um=(60, 150), **options)
    right = [(one.predict(fresh).label == fresh.labels).mean() for one in (alone, beside)]
    assert right[1] > right[0] + 0.1
    again = si_neuroml.load_model(si_neuroml.save_model(beside, tmp_path / "model"))
    assert again.columns.neighbours_um == (60.0, 150.0)
    np.testing.assert_allclose(again.predict_proba(fresh), beside.predict_proba(fresh), atol=1e-6)
    assert again.feature_names == alone.feature_names == NAMES[:4]
    hidden = data.units.assign(region=np.where(np.arange(len(data)) % 2, data.labels, ""))
    half = RegionDataset.from_table(hidden, data.features, feature_names=data.feature_names)
    few = si_neuroml.fit_region_classifier(half, "logistic_regression", neighbours_um=(60, 150), **options)
    labelled = data.select(data.labels != "").select(np.arange(len(data)) % 2 == 1)
    without = si_neuroml.fit_region_classifier(labelled, "logistic_regression", neighbours_um=(60, 150), **options)
    assert not np.allclose(few.predict_proba(fresh), without.predict_proba(fresh), atol=1e-3)
