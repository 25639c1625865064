"""Levels of region labels: layers, parts, groups, mappings, columns of the data."""

import warnings

import numpy as np
import pytest

from si_neuroml.errors import InputError
from si_neuroml.regions.hierarchy import REGION_GROUPS, area_of, clean_acronym, group_of, map_regions, region_level


@pytest.mark.parametrize(
    ("acronym", "area"),
    [
        ("VISp2/3", "VISp"),
        ("VISp6a", "VISp"),
        ("VISrl1", "VISrl"),
        ("VISpl5", "VISpl"),
        ("SSp-bfd4", "SSp-bfd"),
        ("MOs5", "MOs"),
        ("AId6b", "AId"),
        ("ENTl2a", "ENTl"),
        ("POST3", "POST"),
        ("CA1", "CA1"),
        ("CA3", "CA3"),
        ("CA1slm", "CA1"),
        ("DG-mo", "DG"),
        ("LGd-sh", "LGd"),
        ("SCig-b", "SCig"),
        ("Su3", "Su3"),
        ("Pa4", "Pa4"),
        ("CUL4", "CUL4"),
        ("SSp-m", "SSp-m"),
        ("ccb", "ccb"),
        ("", ""),
    ],
)
def test_areas_lose_their_layers_and_nothing_else(acronym, area):
    assert area_of(acronym) == area
    assert area_of(area) == area


@pytest.mark.parametrize(
    ("acronym", "group"),
    [
        ("VISp4", "visual_cortex"),
        ("VIS", "visual_cortex"),
        ("POST", "hippocampus"),
        ("HPF", "hippocampus"),
        ("DG-sg", "hippocampus"),
        ("LGd-co", "thalamus"),
        ("TH", "thalamus"),
        ("SCiw", "midbrain"),
        ("SSp", ""),
        ("VISC", ""),
        ("MOp", ""),
    ],
)
def test_groups_are_anatomical(acronym, group):
    assert group_of(acronym) == group


def test_an_area_is_in_one_group():
    areas = [area for group in REGION_GROUPS.values() for area in group]
    assert len(areas) == len(set(areas))
    assert all(area_of(area) == area for area in areas)


def test_labels_that_name_nothing_are_unlabelled():
    assert [clean_acronym(one) for one in (None, np.nan, "root", " void", "nan", b"VISp", " CA1 ")] == [
        *("", "", "", "", "", "VISp", "CA1")
    ]


def test_levels_of_the_paper():
    regions = ["VISp5", "VIS", "LP", "SSp5", "", "DG-mo"]
    assert region_level(regions, "area").tolist() == ["VISp", "VIS", "LP", "SSp", "", "DG"]
    with pytest.warns(UserWarning, match=r"1 of 6 units are in 1 regions .*does not know: SSp5 \(1\)"):
        groups = region_level(regions, "group")
    assert groups.tolist() == ["visual_cortex", "visual_cortex", "thalamus", "", "", "hippocampus"]
    # other groups are left out in silence, the parent of areas is not
    with pytest.warns(UserWarning, match=r"2 of 6 units are in 2 regions .*VIS \(1\), SSp5 \(1\)"):
        assert region_level(regions, "visual_cortex").tolist() == ["VISp", "", "", "", "", ""]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert region_level(regions[:1] + regions[4:], "thalamus").tolist() == ["", "", ""]
    with pytest.raises(InputError, match="no level 'lobe'"):
        region_level(regions, "lobe")


def test_mappings_both_ways_and_what_they_do_not_know():
    regions = ["a", "b", "c", "c", "", "d"]
    with pytest.warns(UserWarning, match=r"3 of 6 .* 2 regions .*: c \(2\), d \(1\)\. They are now unlab"):
        one = map_regions(regions, {"a": "X", "b": "X"})
    assert one.tolist() == ["X", "X", "", "", "", ""]
    with pytest.warns(UserWarning, match="keep their labels"):
        other = map_regions(regions, {"X": ["a", "b"]}, unknown="keep")
    assert other.tolist() == ["X", "X", "c", "c", "", "d"]
    with pytest.raises(InputError, match=r"c \(2\), d \(1\)"):
        map_regions(regions, {"X": ["a", "b"]}, unknown="raise")
    assert map_regions(["a", "b"], {"a": None, "b": "root"}).tolist() == ["", ""]
    with pytest.raises(InputError, match="'a' into both 'X' and 'Y'"):
        map_regions(regions, {"X": ["a"], "Y": ["a"]})
    with pytest.raises(InputError, match="unknown must be"):
        map_regions(regions, {}, unknown="drop")


def test_a_dataset_changes_its_level(region_dataset):
    from si_neuroml.regions.dataset import RegionDataset

    grouped = region_dataset.group_regions("group")
    assert set(grouped.labels) == {"visual_cortex", "hippocampus", "thalamus"}
    assert (grouped.units["acronym"] == region_dataset.units["region"]).all()
    units = region_dataset.units.assign(cosmos=np.where(region_dataset.labels == "LP", "TH", "root"))
    dataset = RegionDataset.from_table(
        units, region_dataset.features, feature_names=region_dataset.feature_names
    ).group_regions("cosmos")
    # root names no region
    assert set(dataset.labels) == {"TH", ""}
    mapped = dataset.group_regions({"deep": ["TH"]})
    assert set(mapped.labels) == {"deep", ""}
    assert (mapped.units["acronym"] == region_dataset.units["region"]).all()
    np.testing.assert_array_equal(mapped.features, region_dataset.features)
