"""Slots around channels: the right channels, in the right places, on any probe."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.localization.geometry import build_local_geometry, default_half_width, match_local_geometry


def square(n=6, pitch=15.0):
    y, x = np.mgrid[:n, :n] * pitch
    return np.column_stack([x.ravel(), y.ravel()])


def neuropixels(rows=24):
    """Staggered columns of Neuropixels 1.0."""
    y = np.repeat(np.arange(rows) * 20.0, 2)
    x = np.where(np.arange(rows)[:, None] % 2 == 0, [[16.0, 48.0]], [[0.0, 32.0]]).ravel()
    return np.column_stack([x, y])


def irregular(n=40, seed=0):
    return np.random.default_rng(seed).uniform(0, 150, (n, 2))


def brute_force_box(locations, channel, half_width, shanks=None):
    inside = (np.abs(locations - locations[channel]) < half_width).all(axis=1)
    if shanks is not None:
        inside &= shanks == shanks[channel]
    return set(np.flatnonzero(inside))


@pytest.mark.parametrize("probe", [square(), neuropixels(), irregular()], ids=["square", "neuropixels", "irregular"])
@pytest.mark.parametrize("half_width", [33.0, 41.0])
def test_boxes_hold_exactly_the_contacts_strictly_inside(probe, half_width):
    geometry = build_local_geometry(probe, half_width)
    for channel in range(len(probe)):
        local = geometry.neighbours[channel]
        assert set(local[local >= 0]) == brute_force_box(probe, channel, half_width)
        for slot, neighbour in enumerate(local):
            expected = probe[neighbour] - probe[channel] if neighbour >= 0 else [0.0, 0.0]
            np.testing.assert_allclose(geometry.offsets[channel, slot, :2], expected, atol=1e-4)


def test_lattice_slots_are_directions_and_borders_are_empty():
    geometry = build_local_geometry(square(), 20.0)
    assert geometry.layout == "lattice"
    assert geometry.num_slots == 9
    corner, middle = 0, 6 * 2 + 2
    assert geometry.observed[corner].sum() == 4
    assert geometry.observed[middle].all()
    np.testing.assert_allclose(geometry.offsets[middle], geometry.slot_offsets, atol=1e-4)


def test_regular_and_irregular_probes_get_their_layout():
    assert build_local_geometry(neuropixels(), 41.0).layout == "lattice"
    nearest = build_local_geometry(irregular(), 41.0)
    assert nearest.layout == "nearest"
    distance = np.linalg.norm(nearest.offsets, axis=2)
    for local, far in zip(nearest.neighbours, distance, strict=True):
        assert (np.diff(far[local >= 0]) >= -1e-4).all()


@pytest.mark.parametrize("pitch", [12.5, 16.5, 7.0])
def test_a_lattice_of_any_pitch_with_rounded_places_is_one_lattice(pitch):
    exact = square(8, pitch) * (1 + 1e-9) + 0.1234567
    noisy = square(8, pitch) + np.random.default_rng(0).uniform(-0.2, 0.2, (64, 2))
    for probe in (exact, noisy):
        geometry = build_local_geometry(probe, 1.3 * pitch)
        assert geometry.layout == "lattice"
        assert geometry.num_slots == 9
        np.testing.assert_allclose(geometry.slot_offsets[4], 0.0, atol=1e-9)


def test_shanks_never_share_a_box():
    probe = np.concatenate([square(3), square(3) + np.array([45.0, 0.0])])
    shanks = np.repeat([0, 1], 9)
    together, apart = build_local_geometry(probe, 20.0), build_local_geometry(probe, 20.0, shank_indices=shanks)
    for channel in range(len(probe)):
        local = apart.neighbours[channel]
        assert set(local[local >= 0]) == brute_force_box(probe, channel, 20.0, shanks)
    assert together.observed.sum() > apart.observed.sum()


def test_three_dimensional_contacts():
    cube = np.array([[x, y, z] for z in range(3) for y in range(3) for x in range(3)], float) * 20.0
    geometry = build_local_geometry(cube, 25.0)
    assert not geometry.planar
    assert geometry.num_slots == 27
    assert geometry.observed[13].all()
    assert build_local_geometry(np.pad(square(), ((0, 0), (0, 1))), 20.0).planar


@settings(max_examples=25, deadline=None)
@given(
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    seed=st.integers(0, 1000),
    kept=st.integers(20, 36),
)
def test_a_model_matches_its_probe_moved_permuted_and_with_channels_removed(shift, seed, kept):
    probe = square()
    model = build_local_geometry(probe, 20.0)
    chosen = np.random.default_rng(seed).permutation(len(probe))[:kept]
    moved = probe[chosen] + shift
    matched = match_local_geometry(moved, model.slot_offsets, model.layout, 20.0)
    for channel, original in enumerate(chosen):
        here = np.where(matched.neighbours[channel] >= 0, chosen[matched.neighbours[channel]], -1)
        there = np.where(np.isin(model.neighbours[original], chosen), model.neighbours[original], -1)
        np.testing.assert_array_equal(here, there)


def test_another_pitch_is_refused():
    model = build_local_geometry(square(pitch=15.0), 20.0)
    with pytest.raises(ModelMismatchError, match="none of the 9 relative places"):
        match_local_geometry(square(pitch=18.0), model.slot_offsets, model.layout, 20.0)
    nearest = build_local_geometry(irregular(), 41.0)
    with pytest.raises(ModelMismatchError, match="irregular"):
        match_local_geometry(square(), nearest.slot_offsets, "nearest", 41.0)


def test_irregular_probe_matches_itself():
    probe = irregular()
    model = build_local_geometry(probe, 41.0)
    matched = match_local_geometry(probe, model.slot_offsets, model.layout, 41.0)
    np.testing.assert_array_equal(matched.neighbours, model.neighbours)


@pytest.mark.parametrize(("probe", "expected"), [(square(), 9), (neuropixels(), 9), (irregular(), 9), (square(2), 4)])
def test_default_box_holds_eight_contacts_around_the_typical_channel(probe, expected):
    geometry = build_local_geometry(probe, default_half_width(probe))
    assert np.median(geometry.observed.sum(axis=1)) >= min(expected, 9) * 2 / 3
    assert geometry.observed.sum(axis=1).max() >= expected


def test_default_box_on_the_papers_array_is_the_papers():
    width = default_half_width(square(10))
    assert 15.0 < width < 30.0
    np.testing.assert_array_equal(
        build_local_geometry(square(10), width).neighbours, build_local_geometry(square(10), 20.0).neighbours
    )


@pytest.mark.parametrize(
    ("locations", "half_width", "message"),
    [
        (np.zeros((4, 2)), 20.0, "3 of 4 contacts share their place"),
        (np.zeros((1, 2)), 20.0, "this recording has 1"),
        (np.array([[0, 0], [0, np.nan]]), 20.0, "not finite"),
        (np.zeros((4, 5)), 20.0, "num_channels, 2 or 3"),
        (square(), 5.0, "half_width_um=5 um"),
        (square(), -1.0, "positive"),
        (square(), np.nan, "positive"),
    ],
)
def test_impossible_probes_are_refused(locations, half_width, message):
    with pytest.raises(InputError, match=message):
        build_local_geometry(locations, half_width)
