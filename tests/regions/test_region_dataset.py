"""Datasets of units: what they refuse, selecting, putting together, quality, rare regions, files."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.dataset_file import cached_dataset, read_dataset
from si_neuroml.regions.quality import quality_mask


def small_units(**columns):
    table = {"subject": ["a", "a", "b"], "recording": ["a1", "a1", "b1"], "unit_id": [1, 2, 1]}
    return pd.DataFrame({**table, "region": ["X", "", "Y"], **columns})


def small(features=None, **columns):
    features = np.arange(6.0).reshape(3, 2) if features is None else features
    return RegionDataset(small_units(**columns), features, ("isi_cv", "rate_mean_hz"))


def same(one, other):
    pd.testing.assert_frame_equal(one.units, other.units)
    np.testing.assert_array_equal(one.features, other.features)
    assert one.feature_names == other.feature_names
    for name in ("psth", "bin_edges_s"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)
    return True


def test_a_dataset_fills_in_what_is_optional():
    dataset = small(unit_id=["u1", 2, None], region=["X", np.nan, "root"])
    assert dataset.units["region"].tolist() == ["X", "", ""]
    assert dataset.units["unit_id"].tolist() == ["u1", "2", ""]
    assert dataset.units["depth_um"].isna().all()
    assert dataset.units["shank"].tolist() == dataset.units["lab"].tolist() == ["", "", ""]
    assert dataset.features.dtype == "float32"
    assert "2 subjects in 2 recordings; 1 labelled in 1 regions" in repr(dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": ["a", "a", None]}, "1 of 3 units have no subject"),
        ({"recording": ["a1", "a1", ""]}, "1 of 3 units have no recording"),
        ({"recording": ["a1", "a1", "a1"], "unit_id": [1, 2, 3]}, r"several subjects, such as 'a1' to \['a', 'b'\]"),
        ({"unit_id": [1, 1, 1]}, "1 units appear twice, such as recording 'a1', shank '', unit '1'"),
        ({"depth_um": [0.0, np.inf, 1.0]}, "1 of 3 depths are infinite"),
        ({"depth_um": ["deep", "0", "1"]}, "depth_um must be numbers"),
        ({"notes": [[1], [2], [3]]}, "'notes' holds list"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        small(**change)


def test_missing_columns_and_wrong_shapes_are_named():
    with pytest.raises(InputError, match="no column 'subject', 'region'"):
        RegionDataset(small_units().drop(columns=["subject", "region"]), np.zeros((3, 1)), ("isi_cv",))
    with pytest.raises(InputError, match=r"\(3 units, 1 names\), got \(2, 1\)"):
        RegionDataset(small_units(), np.zeros((2, 1)), ("isi_cv",))
    with pytest.raises(InputError, match="1 features are infinite, in \\['isi_cv'\\]"):
        RegionDataset(small_units(), [[np.inf], [0], [1]], ("isi_cv",))
    with pytest.raises(InputError, match="different names"):
        RegionDataset(small_units(), np.zeros((3, 2)), ("isi_cv", "isi_cv"))
    with pytest.raises(InputError, match="4 bins without times"):
        RegionDataset(small_units(), np.zeros((3, 1)), ("isi_cv",), np.zeros((3, 4)))
    with pytest.raises(InputError, match="must be 5 rising times"):
        RegionDataset(small_units(), np.zeros((3, 1)), ("isi_cv",), np.zeros((3, 4)), [0, 1, 2, 2, 3])
    with pytest.raises(InputError, match="must be a pandas DataFrame"):
        RegionDataset({"subject": ["a"]}, np.zeros((1, 1)), ("isi_cv",))
    with pytest.raises(InputError, match="name its columns"):
        RegionDataset.from_table(small_units(), np.zeros((3, 1)))


def test_units_of_other_sessions_and_shanks_may_share_their_ids():
    dataset = small(unit_id=[1, 1, 1], shank=["A", "B", ""], depth_um=[np.nan, 10.0, np.nan])
    assert len(dataset) == 3
    assert RegionDataset.from_table(dataset.units, pd.DataFrame({"isi_cv": [1, 2, 3]})).feature_names == ("isi_cv",)


def test_select_takes_masks_and_rows(region_dataset):
    mask = region_dataset.labels == "CA1"
    by_mask, by_rows = region_dataset.select(mask), region_dataset.select(np.flatnonzero(mask))
    assert same(by_mask, by_rows)
    assert set(by_mask.labels) == {"CA1"}
    np.testing.assert_array_equal(by_mask.psth, region_dataset.psth[mask])
    assert len(region_dataset.select([])) == 0
    assert region_dataset.select([5, 3]).units["unit_id"].tolist() == [5, 3]
    with pytest.raises(InputError, match=r"shape \(3,\), the dataset has 240"):
        region_dataset.select(np.ones(3, dtype=bool))
    with pytest.raises(InputError, match="Row numbers 0 to 240"):
        region_dataset.select([0, 240])
    with pytest.raises(InputError, match="appear twice"):
        region_dataset.select([0, 0])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_taken_apart_goes_together_again(region_dataset, seed):
    order = np.random.default_rng(seed).permutation(len(region_dataset))
    cut = seed % (len(region_dataset) + 1)
    whole = RegionDataset.concatenate([region_dataset.select(order[:cut]), region_dataset.select(order[cut:])])
    assert same(whole.select(np.argsort(order)), region_dataset)


def test_concatenate_orders_features_and_fills_absent_families_only():
    one = RegionDataset(small_units(), [[1, 2], [3, 4], [5, 6]], ("isi_cv", "psth_peak_z"), np.ones((3, 2)), [0, 1, 2])
    units = small_units(recording=["a2", "a2", "b2"])
    both = RegionDataset.concatenate([one, RegionDataset(units, [[7], [8], [9]], ("isi_cv",))])
    np.testing.assert_array_equal(both.features[:, 0], [1, 3, 5, 7, 8, 9])
    np.testing.assert_array_equal(both.features[:, 1], [2, 4, 6, np.nan, np.nan, np.nan])
    assert np.isnan(both.psth[3:]).all()
    assert (both.psth[:3] == 1).all()
    turned = RegionDataset(units, [[0, 7]] * 3, ("psth_peak_z", "isi_cv"))
    np.testing.assert_array_equal(RegionDataset.concatenate([one, turned]).features[3], [7, 0])
    with pytest.raises(InputError, match=r"families \['isi'\].*such as \['isi_lv'\]"):
        RegionDataset.concatenate([one, RegionDataset(units, [[7], [8], [9]], ("isi_lv",))])
    with pytest.raises(InputError, match="2 bins from 0 to 2 s and of 2 bins from 0 to 4 s"):
        RegionDataset.concatenate([one, RegionDataset(units, [[7]] * 3, ("isi_cv",), np.ones((3, 2)), [0, 2, 4])])
    with pytest.raises(InputError, match="3 units appear twice"):
        RegionDataset.concatenate([one, one])
    with pytest.raises(InputError, match="no datasets"):
        RegionDataset.concatenate([])


def test_the_quality_filter_is_that_of_the_paper():
    units = small_units(snr=[1.0, 1.1, 9.0], isi_violations_ratio=[0.0, 0.0099, 0.01], firing_rate=[1.0, 0.11, 5.0])
    np.testing.assert_array_equal(quality_mask(units), [False, True, False])
    np.testing.assert_array_equal(quality_mask(units, max_isi_violations=None), [False, True, True])
    units.loc[1, "snr"] = np.nan
    np.testing.assert_array_equal(quality_mask(units), [False, False, False])
    np.testing.assert_array_equal(quality_mask(units, missing="ignore"), [False, True, False])
    with pytest.raises(InputError, match="'snr', which is missing"):
        quality_mask(units.drop(columns="snr"))
    with pytest.raises(InputError, match="'snr', which holds no number"):
        quality_mask(units.assign(snr=np.nan))
    assert quality_mask(units.drop(columns="snr"), min_snr=None).sum() == 2
    assert quality_mask(units.drop(columns="snr"), missing="ignore").sum() == 2
    assert len(small(snr=[2, 2, 0.5]).filter_quality(max_isi_violations=None, min_firing_rate_hz=None)) == 2


def test_drop_rare_keeps_what_can_be_judged(region_dataset):
    counts = region_dataset.region_counts()
    assert counts.loc["CA1"].tolist() == [80, 4, 8]
    lone = region_dataset.units["region"].where(
        ~((region_dataset.units["region"] == "LP") & (region_dataset.units["subject"] != "m0")), ""
    )
    dataset = RegionDataset.from_table(
        region_dataset.units.assign(region=lone), region_dataset.features, feature_names=region_dataset.feature_names
    )
    kept = dataset.drop_rare(min_units=10, min_subjects=2)
    # the region of one subject goes, units without a label stay
    assert set(kept.labels) == {"VISp", "CA1", ""}
    assert len(dataset) - len(kept) == 20
    assert set(dataset.labelled().labels) == {"VISp", "CA1", "LP"}
    with pytest.raises(InputError, match=r"0 of 3 regions have at least 50 units and 5 subjects.*LP: 20 units, 1 subj"):
        dataset.drop_rare(min_subjects=5)
    with pytest.raises(InputError, match="1 of 1 regions"):
        dataset.select(dataset.labels == "CA1").drop_rare(1, 1)


def test_files_hold_a_dataset_without_pickle(region_dataset, tmp_path):
    path = region_dataset.save(tmp_path / "folder" / "units.npz")
    assert same(RegionDataset.load(path), region_dataset)
    mixed = small(unit_id=["ä", "b", 3], good=[True, False, True], depth_um=[1.0, np.nan, 2.0], note=["", "x", None])
    assert same(RegionDataset.load(mixed.save(path)), mixed)
    assert same(RegionDataset.load(mixed.select([]).save(path)), mixed.select([]))
    assert [one.name for one in path.parent.iterdir()] == ["units.npz"]
    with pytest.raises(InputError, match="one .npz file"):
        mixed.save(tmp_path / "units.txt")
    with pytest.raises(InputError, match="no file"):
        RegionDataset.load(tmp_path / "other.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="damaged"):
        RegionDataset.load(path)
    np.savez(path, header=np.array('{"format": "other", "version": 1}'))
    with pytest.raises(InputError, match="'other' of version 1"):
        RegionDataset.load(path)


def test_a_save_that_fails_leaves_the_old_file(region_dataset, tmp_path, monkeypatch):
    path = region_dataset.save(tmp_path / "units.npz")
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("disk is full")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="full"):
        small().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_cache_is_used_for_the_same_input_only(tmp_path):
    made = []

    def compute():
        made.append(1)
        return small()

    key = {"path": "/data/a.nwb", "size": 10, "mtime_ns": 5, "settings": {"bin_s": 0.025}}
    assert same(cached_dataset(tmp_path, "a", key, compute), cached_dataset(tmp_path, "a", key, compute))
    assert len(made) == 1
    for change in ({"size": 11}, {"mtime_ns": 6}, {"settings": {"bin_s": 0.05}}, {"path": "/data/b.nwb"}):
        cached_dataset(tmp_path, "a", {**key, **change}, compute)
    assert len(made) == 5
    # each setting has a file of its own; a changed input takes the place of the old one
    assert len(list(tmp_path.iterdir())) == 3
    path = next(tmp_path.iterdir())
    path.write_bytes(b"damaged")
    for change in ({"size": 10}, {"settings": {"bin_s": 0.05}}, {"path": "/data/b.nwb"}):
        cached_dataset(tmp_path, "a", {**key, "mtime_ns": 5, **change}, compute)
    assert len(made) in (6, 7)
    assert read_dataset(path)[1] is not None
