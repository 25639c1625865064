"""The footprint simulator against quadrature, against templates that MEArec made with NEURON, and its symmetries."""

import numpy as np
import pytest

from si_neuroml.groundtruth.templates import load_probe_templates, mearec_to_si_axes
from training.currents import load_currents
from training.footprints import (
    UPRIGHT_DEGREES,
    footprint,
    line_source_potential,
    mix_footprints,
    place_cell,
    random_rotation,
)
from training.probes import random_probe, unseen_probe
from training.variation import bend_cell, draw_variation, random_cell, reweigh_cell, stretch_waveforms

MODEL = "L5_NBC_bAC217_1"
GRID = np.array([[x, y, 0.0] for x in (-30.0, 0.0, 30.0) for y in (-30.0, 0.0, 30.0)])


@pytest.fixture(scope="module")
def currents():
    return load_currents()


def a_cell(currents, model=MODEL, soma=(5.0, -8.0, 25.0), rotation=None, scale=1.0):
    return place_cell(currents[model], model, 0, np.array(soma), np.eye(3) if rotation is None else rotation, scale)


def test_line_source_is_the_integral_of_point_sources():
    rng = np.random.default_rng(0)
    start, end = rng.uniform(-20, 20, (5, 3)), rng.uniform(-20, 20, (5, 3))
    points = rng.uniform(-40, 40, (6, 3))
    found = line_source_potential(points, start, end, np.full(5, 1e-3), 0.3)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    along = start[:, None] + (nodes[:, None] + 1) / 2 * (end - start)[:, None]
    distance = np.linalg.norm(points[:, None, None] - along[None], axis=3)
    expected = (weights / 2 / distance).sum(axis=2) / (4 * np.pi * 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_points_inside_a_segment_are_moved_to_its_surface():
    start, end, diameter = np.array([[-10.0, 0, 0]]), np.array([[10.0, 0, 0]]), np.array([4.0])
    inside, surface = (line_source_potential(np.array([[1.0, y, 0.0]]), start, end, diameter, 0.3) for y in (0.5, 2.0))
    assert inside == pytest.approx(surface, rel=1e-9)


def test_footprints_agree_with_templates_of_mearec(currents):
    """Same place, same rotation: those come from NEURON and LFPy. The spike and the points in a contact may differ."""
    templates = load_probe_templates("square_mea")
    contacts = mearec_to_si_axes(templates.channel_positions)
    near = np.flatnonzero(~templates.is_far)
    for index in np.random.default_rng(0).choice(near, 6, replace=False):
        rotation = mearec_rotation(templates.rotations[index])
        model = templates.cell_models[index]
        soma = mearec_to_si_axes(templates.locations[index][None])[0]
        reference = templates.waveforms[index] - templates.waveforms[index][:, :1]
        ours = [
            footprint(place_cell(currents[model], model, spike, soma, rotation), contacts, 5.0) for spike in range(2)
        ]
        similarity = [np.corrcoef(one.min(axis=1), reference.min(axis=1))[0, 1] for one in ours]
        best = ours[int(np.argmax(similarity))]
        assert max(similarity) > 0.99
        assert best.min() == pytest.approx(reference.min(), rel=0.1)


def mearec_rotation(angles):
    """MEArec turns about x, then y, then z, with the plane of the contacts in y and z; ours have it in x and y."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return np.roll(np.eye(3), 1, axis=1) @ about_z @ about_y @ about_x


def test_only_relative_places_count(currents):
    shift = np.array([100.0, -40.0, 0.0])
    here = footprint(a_cell(currents), GRID)
    there = footprint(a_cell(currents, soma=np.array([5.0, -8.0, 25.0]) + shift), GRID + shift)
    np.testing.assert_allclose(here, there, atol=1e-3 * np.abs(here).max())


def test_a_turned_cell_and_turned_contacts_give_the_same(currents):
    turn = random_rotation(np.random.default_rng(3), upright=False)
    here = footprint(a_cell(currents), GRID)
    there = footprint(a_cell(currents, soma=turn @ [5.0, -8.0, 25.0], rotation=turn), GRID @ turn.T)
    np.testing.assert_allclose(here, there, atol=1e-3 * np.abs(here).max())


def test_footprints_shrink_with_distance_and_begin_and_end_at_zero(currents):
    sizes = [np.abs(footprint(a_cell(currents, soma=(0, 0, z)), GRID)).max() for z in (15.0, 40.0, 120.0)]
    assert sizes[0] > 2 * sizes[1] > 4 * sizes[2] > 0
    waveforms = footprint(a_cell(currents), GRID)
    assert np.all(waveforms[:, 0] == 0)
    np.testing.assert_allclose(waveforms[:, -1], 0, atol=1e-6)


def test_a_contact_is_the_mean_over_its_area(currents):
    cell = a_cell(currents)
    point, small = footprint(cell, GRID), footprint(cell, GRID, 2.0)
    np.testing.assert_allclose(point, small, atol=0.02 * np.abs(point).max())


@pytest.mark.parametrize("upright", [True, False])
def test_rotations_are_rotations(upright):
    rng = np.random.default_rng(1)
    turned = np.stack([random_rotation(rng, upright) for _ in range(400)])
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.tile(np.eye(3), (400, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turned), 1.0)
    up = turned[:, 1, 1]  # the y component of where y goes
    if upright:
        assert up.min() >= np.cos(np.radians(UPRIGHT_DEGREES)) - 1e-9
    else:
        assert abs(up.mean()) < 0.1  # all directions


def test_changed_currents_sum_to_what_they_did(currents):
    cell = a_cell(currents)
    changed = reweigh_cell(cell, np.random.default_rng(5), tilt=0.6, hot_log_sd=0.5, delay_ms=0.15)
    gain = changed.currents_na.sum(axis=0) / cell.currents_na.sum(axis=0)  # the stimulus, only scaled
    np.testing.assert_allclose(gain, gain[0], rtol=0.01)
    assert not np.allclose(changed.currents_na, cell.currents_na, rtol=0.01)


def test_bent_cells_keep_their_soma_and_hold_together(currents):
    cell = a_cell(currents)
    bent = bend_cell(cell, np.random.default_rng(2))
    moved = np.linalg.norm(bent.start - cell.start, axis=1)
    away = np.linalg.norm(cell.start - cell.soma_um, axis=1)
    assert moved[away < 10].max() < 8 < moved.max() < 120
    # what was joined stays joined
    joined = np.all(cell.start[1:] == cell.end[:-1], axis=1)
    assert joined.any()
    np.testing.assert_allclose(bent.start[1:][joined], bent.end[:-1][joined], atol=1e-9)


@pytest.mark.parametrize("factor", [0.5, 1.25])
def test_stretched_spikes_are_as_large_and_last_longer(currents, factor):
    waveforms = footprint(a_cell(currents), GRID)
    stretched = stretch_waveforms(waveforms, factor)
    channel = waveforms.min(axis=1).argmin()
    assert stretched.shape == waveforms.shape
    assert stretched.min() == pytest.approx(waveforms.min(), rel=0.05)
    assert abs(stretched[channel].argmin() - 64 - factor * (waveforms[channel].argmin() - 64)) <= 1.5
    below = [(w[channel] < 0.5 * w[channel].min()).sum() for w in (waveforms, stretched)]
    assert below[1] == pytest.approx(factor * below[0], abs=2)


def test_scenes_vary(currents):
    drawn = [draw_variation(np.random.default_rng(seed)) for seed in range(200)]
    assert 0.4 < np.mean([v.wide for v in drawn]) < 0.6
    assert all(v.duration == v.size == 1.0 for v in drawn if not v.wide)
    assert min(v.duration for v in drawn) < 0.6
    pyramidal = [
        "PC" in random_cell(np.random.default_rng(k), currents, sorted(currents), np.zeros(3), drawn[k]).model
        for k in range(60)
    ]
    assert 0.6 < np.mean(pyramidal) < 0.9


def test_mixtures_lie_in_between(currents):
    one, other = footprint(a_cell(currents), GRID), footprint(a_cell(currents, "L5_TTPC1_cADpyr232_1"), GRID)
    np.testing.assert_allclose(mix_footprints(one, other, 1.0), one)
    half = mix_footprints(one, other, 0.5)
    assert min(one.min(), other.min()) <= half.min() <= max(one.min(), other.min()) * 0.4


def test_probes_are_of_every_kind_and_never_the_one_kept_for_the_test():
    probes = [random_probe(np.random.default_rng(seed)) for seed in range(300)]
    assert len({probe.kind for probe in probes}) == 7
    columns = unseen_probe().contacts
    assert len(np.unique(columns[:, 0])) == 4
    for probe in probes:
        assert 4 <= len(probe.contacts) <= 81
        distance = np.linalg.norm(probe.contacts[:, None] - probe.contacts[None], axis=2)
        assert distance[~np.eye(len(distance), dtype=bool)].min() > 5.0
        if probe.kind in ("staggered", "irregular"):
            assert probe.kind == "irregular" or len(np.unique(probe.contacts[:, 0].round(3))) < 4
