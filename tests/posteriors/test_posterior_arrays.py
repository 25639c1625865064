"""What a posterior is, windows at any rate, contacts in any plane, and the network in numpy."""

import numpy as np
import pytest
from posterior_helpers import places, student_posteriors
from scipy.stats import kstest

from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.localization.contact_plane import nearest_geometry
from si_neuroml.localization.posterior import (
    POSTERIOR_DTYPE,
    combine_posteriors,
    covariance_matrices,
    fill_posteriors,
    region_levels,
    region_scale,
)
from si_neuroml.localization.resampling import resampled_window
from si_neuroml.localization.set_network import NUM_OUTPUTS, SetNetwork
from si_neuroml.localization.settings import LOCATION_DTYPE


@pytest.mark.parametrize("axes", ["xy", "z", "xyz", "zx"])
@pytest.mark.parametrize("dof", [2.7, 8.0, np.inf])
def test_levels_of_places_drawn_from_the_posterior_are_uniform(dof, axes):
    posteriors, truth = student_posteriors(np.random.default_rng(0), dof)
    assert kstest(region_levels(posteriors, truth, axes), "uniform").pvalue > 1e-3


def test_levels_without_covariances_take_independent_gaussians():
    rng = np.random.default_rng(0)
    locations = np.zeros(4000, dtype=LOCATION_DTYPE)
    truth = rng.normal(size=(4000, 3)) * [4.0, 9.0, 16.0]
    for name, scale in zip(("x_std", "y_std", "z_std"), (4.0, 9.0, 16.0), strict=True):
        locations[name] = scale
    assert kstest(region_levels(locations, truth, "xyz"), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dof", [3.0, 20.0, np.inf])
def test_radius_of_a_region_is_where_its_level_is_reached(dof):
    posteriors, truth = student_posteriors(np.random.default_rng(1), dof, size=2000)
    delta = (truth - places(posteriors))[:, :2]
    squared = (delta * np.linalg.solve(covariance_matrices(posteriors, "xy"), delta[:, :, None])[:, :, 0]).sum(axis=1)
    for level in (0.5, 0.95):
        inside = np.sqrt(squared) <= region_scale(level, posteriors["dof"], 2)
        np.testing.assert_array_equal(inside, region_levels(posteriors, truth, "xy") <= level)


def test_covariance_matrices_are_those_that_went_in():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(5, 3, 3))
    covariance = root @ root.transpose(0, 2, 1)
    posteriors = fill_posteriors(rng.normal(size=(5, 3)), covariance, 5.0, 1.0)
    assert posteriors.dtype == POSTERIOR_DTYPE
    np.testing.assert_allclose(covariance_matrices(posteriors), covariance, rtol=1e-12)
    np.testing.assert_allclose(covariance_matrices(posteriors, "zx"), covariance[:, [2, 0]][:, :, [2, 0]], rtol=1e-12)


@pytest.mark.parametrize("axes", ["", "xx", "xw"])
def test_axes_that_are_none(axes):
    posteriors, truth = student_posteriors(np.random.default_rng(0), 5.0, size=3)
    with pytest.raises(InputError, match="axes must be some of"):
        region_levels(posteriors, truth, axes)


def test_places_must_fit_the_posteriors():
    posteriors, truth = student_posteriors(np.random.default_rng(0), 5.0, size=3)
    with pytest.raises(InputError, match="3 posteriors over 'xyz' and places of shape"):
        region_levels(posteriors, truth[:, :2], "xyz")
    with pytest.raises(InputError, match="level must lie between"):
        region_scale(1.5, posteriors["dof"])


@pytest.mark.parametrize("num_spikes", [2, 5, 60])
def test_pooled_spikes_of_a_unit_cover_its_place(num_spikes):
    """Errors with a part that all spikes of a unit share: pooling must not take it for averaged away."""
    rng = np.random.default_rng(num_spikes)
    shared, own = np.diag([36.0, 16.0, 64.0]), np.diag([25.0, 49.0, 16.0])
    levels = []
    for _ in range(400):
        bias = rng.multivariate_normal(np.zeros(3), shared)
        means = bias + rng.multivariate_normal(np.zeros(3), own, num_spikes)
        unit = combine_posteriors(fill_posteriors(means, np.tile(shared + own, (num_spikes, 1, 1)), np.inf, 1.0))
        assert unit.dtype == POSTERIOR_DTYPE
        assert unit.shape == (1,)
        levels.append(region_levels(unit, np.zeros((1, 3)), "xyz")[0])
    # a little too wide where few spikes say how they differ
    assert -0.07 < np.mean(np.array(levels) <= 0.5) - 0.5 < 0.13
    assert abs(np.mean(np.array(levels) <= 0.9) - 0.9) < 0.06


def test_pooling_one_spike_or_equal_spikes_changes_nothing():
    posteriors, _ = student_posteriors(np.random.default_rng(5), 6.0, size=1)
    for given in (posteriors, np.repeat(posteriors, 7)):
        unit = combine_posteriors(given)
        for name in POSTERIOR_DTYPE.names:
            np.testing.assert_allclose(unit[name], posteriors[name], rtol=1e-9, err_msg=name)
    with pytest.raises(InputError, match="unit without spikes"):
        combine_posteriors(posteriors[:0])


def test_pooling_distrusts_outliers():
    posteriors, _ = student_posteriors(np.random.default_rng(5), 6.0, size=10)
    for axis in "xyz":
        posteriors[axis] = 0.0
    posteriors["x"][0], posteriors["outlier_probability"][0] = 300.0, 1.0
    assert abs(combine_posteriors(posteriors)["x"][0]) < 1.0


@pytest.mark.parametrize("rate", [20_000.0, 24_414.0625, 30_000.0, 32_000.0, 50_000.0])
def test_sinusoids_of_spike_frequencies_pass_the_resampling(rate):
    window = resampled_window(rate, 32_000.0, 32, 56)
    times = np.arange(-window.nbefore, window.nafter) / rate
    wanted = np.arange(-32, 56) / 32_000.0
    for frequency in (0.0, 300.0, 1000.0, 3000.0, 6000.0):
        for phase in (0.3, 1.7):
            found = np.cos(2 * np.pi * frequency * times + phase) @ window.matrix
            np.testing.assert_allclose(found, np.cos(2 * np.pi * frequency * wanted + phase), atol=0.01)


@pytest.mark.parametrize("rate", [1000.0, 200_000.0])
def test_rates_at_which_there_are_no_spikes(rate):
    with pytest.raises(ModelMismatchError, match=f"has {rate:g} Hz"):
        resampled_window(rate, 32_000.0, 32, 56)


SQUARE = np.stack(np.meshgrid(np.arange(7) * 18.0, np.arange(7) * 18.0), axis=-1).reshape(-1, 2)
STAGGERED = np.array([[[43.0, 11.0, 59.0, 27.0][k % 4], 20.0 * (k // 2)] for k in range(40)])


def flat(locations):
    return np.column_stack([locations, np.zeros(len(locations))])


def rotation(about_y, about_x=0.0):
    c, s, d, t = np.cos(about_y), np.sin(about_y), np.cos(about_x), np.sin(about_x)
    return np.array([[1, 0, 0], [0, d, -t], [0, t, d]]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def test_slots_are_the_nearest_contacts_on_the_shank():
    shanks = (SQUARE[:, 0] > 50).astype(int)
    slots = nearest_geometry(SQUARE, 12, 45.0, shank_indices=shanks).slots
    for channel, row in enumerate(slots.neighbours):
        assert row[0] == channel
        distance = np.linalg.norm(SQUARE - SQUARE[channel], axis=1)
        reached = np.sort(distance[(shanks == shanks[channel]) & (distance <= 45.0)])[:12]
        np.testing.assert_allclose(distance[row[row >= 0]], reached)
        assert (shanks[row[row >= 0]] == shanks[channel]).all()


@pytest.mark.parametrize("locations", [SQUARE, STAGGERED], ids=["square", "staggered"])
def test_the_order_of_channels_changes_no_neighbourhood(locations):
    order = np.random.default_rng(0).permutation(len(locations))
    one, two = nearest_geometry(locations, 24, 150.0), nearest_geometry(locations[order], 24, 150.0)
    np.testing.assert_array_equal(two.plane_offsets, one.plane_offsets[order])
    moved = nearest_geometry(locations + np.array([1234.5, -77.25]), 24, 150.0)
    np.testing.assert_array_equal(moved.slots.neighbours, one.slots.neighbours)
    np.testing.assert_allclose(moved.plane_offsets, one.plane_offsets, atol=1e-4)


@pytest.mark.parametrize("locations", [SQUARE, STAGGERED], ids=["square", "staggered"])
@pytest.mark.parametrize("turn", [rotation(-0.5), rotation(-0.5, 0.4), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])])
def test_a_turned_shank_is_seen_as_a_flat_one(locations, turn):
    one, two = nearest_geometry(locations, 24, 150.0), nearest_geometry(flat(locations) @ turn.T, 24, 150.0)
    np.testing.assert_array_equal(two.slots.neighbours, one.slots.neighbours)
    np.testing.assert_allclose(two.plane_offsets, one.plane_offsets, atol=1e-4)
    np.testing.assert_allclose(two.frames, np.tile(turn.T, (len(locations), 1, 1)), atol=1e-9)


def test_a_line_of_contacts_in_space_has_a_plane():
    line = np.array([[100.0, 50.0, 25.0 * k] for k in range(12)])
    frames = nearest_geometry(line, 8, 150.0).frames
    np.testing.assert_allclose(frames[0], [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-12)


def test_irregular_contacts_in_space_have_a_proper_frame():
    rng = np.random.default_rng(0)
    contacts = np.column_stack([rng.uniform(0, 60, 30), rng.uniform(0, 400, 30)])
    frame = nearest_geometry(flat(contacts) @ rotation(0.7, 0.2).T, 24, 150.0).frames[0]
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame) > 0.999
    np.testing.assert_allclose(np.abs(frame[2] @ rotation(0.7, 0.2)), [0, 0, 1], atol=1e-9)


def test_a_bent_shank_is_refused():
    bent = flat(SQUARE)
    bent[:, 2] = 0.01 * SQUARE[:, 0] ** 2
    with pytest.raises(InputError, match=r"shank 0 do not lie in one plane: they are up to .* um off"):
        nearest_geometry(bent, 24, 150.0)


@pytest.fixture(scope="module")
def networks():
    """The same random weights in torch and in numpy."""
    import torch

    from si_neuroml.localization.torch_network import PosteriorNetwork

    torch.manual_seed(0)
    module = PosteriorNetwork(basis_size=32).eval()
    torch.nn.init.normal_(module.output.weight, std=0.2)
    return module, SetNetwork({name: value.detach().numpy() for name, value in module.state_dict().items()})


@pytest.fixture(scope="module")
def inputs():
    """Waveforms of 150 spikes in 24 slots, some of which are empty."""
    rng = np.random.default_rng(0)
    observed = (rng.uniform(size=(150, 24)) < 0.8).astype("float32")
    observed[:, 0] = 1
    coefficients = rng.normal(scale=80.0, size=(150, 24, 32)).astype("float32") * observed[..., None]
    return coefficients, rng.uniform(-80, 80, size=(150, 24, 3)), observed


def test_network_equals_torch(networks, inputs):
    import torch

    module, network = networks
    coefficients, offsets, observed = inputs
    found = network(coefficients, network.place_codes(offsets, observed))
    with torch.no_grad():
        wanted = module(*(torch.as_tensor(array, dtype=torch.float32) for array in inputs)).numpy()
    assert found.shape == (150, NUM_OUTPUTS)
    assert np.abs(wanted).std(axis=0).min() > 1e-3
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


def test_network_sees_a_set(networks, inputs):
    network, rng = networks[1], np.random.default_rng(1)
    coefficients, offsets, observed = inputs
    found = network(coefficients, network.place_codes(offsets, observed))
    order = np.array([rng.permutation(24) for _ in range(150)])
    shuffled = [np.take_along_axis(a, order.reshape(150, 24, *[1] * (a.ndim - 2)), axis=1) for a in inputs]
    again = network(shuffled[0], network.place_codes(*shuffled[1:]))
    np.testing.assert_allclose(again, found, atol=1e-4, rtol=1e-4)
    # empty slots count for nothing, wherever they are said to be
    elsewhere = np.where(observed[..., None] > 0, offsets, 1e4)
    np.testing.assert_array_equal(network(coefficients, network.place_codes(elsewhere, observed)), found)


@pytest.mark.parametrize("size", [1, 7, 64, 65])
def test_rows_do_not_depend_on_their_call(networks, inputs, size):
    network = networks[1]
    codes = network.place_codes(*inputs[1:])
    whole = network(inputs[0], codes)
    parts = [network(inputs[0][k : k + size], codes[k : k + size]) for k in range(0, 70 if size == 1 else 150, size)]
    found = np.concatenate(parts)
    np.testing.assert_array_equal(found, whole[: len(found)])
    assert network(inputs[0][:0], codes[:0]).shape == (0, NUM_OUTPUTS)
