"""Patches against plain numpy indexing, and amplitudes against their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.localization.center_of_mass import center_of_mass, nearest_channels
from si_neuroml.localization.geometry import build_local_geometry
from si_neuroml.localization.patches import energy_amplitudes, extract_patches, positive_peaks, trough_amplitudes
from si_neuroml.localization.rows import WindowSamples, spike_rows

PROBE = np.stack(np.meshgrid(np.arange(5) * 15.0, np.arange(5) * 15.0), axis=-1).reshape(-1, 2)
GEOMETRY = build_local_geometry(PROBE, 20.0)
CENTER = 4


def plain_patches(traces, samples, channels, nbefore, nafter, gains, offsets):
    """The same by padding and fancy indexing, in float64."""
    scaled = traces.astype("float64") * gains + offsets
    padded = np.pad(scaled, ((200, 200), (0, 0)))
    out = np.zeros((len(samples), GEOMETRY.num_slots, nbefore + nafter + 1))
    for spike, (sample, channel) in enumerate(zip(samples, channels, strict=True)):
        for slot, neighbour in enumerate(GEOMETRY.neighbours[channel]):
            if neighbour >= 0:
                out[spike, slot, :-1] = padded[200 + sample - nbefore : 200 + sample + nafter, neighbour]
                out[spike, slot, -1] = 1.0
    return out


@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from(["int16", "uint16", "int32", "float32", "float64"]),
    order=st.sampled_from(["C", "F"]),
    nbefore=st.integers(1, 30),
    nafter=st.integers(1, 30),
    seed=st.integers(0, 10_000),
)
def test_patches_equal_plain_indexing(dtype, order, nbefore, nafter, seed):
    rng = np.random.default_rng(seed)
    traces = np.asarray(rng.integers(0, 1000, (100, 25)), dtype=dtype, order=order)
    gains, offsets = rng.uniform(0.1, 3, 25).astype("float32"), rng.uniform(-50, 50, 25).astype("float32")
    samples, channels = rng.integers(0, 100, 12), rng.integers(0, 25, 12)
    patches = extract_patches(
        traces, samples, channels, GEOMETRY, nbefore=nbefore, nafter=nafter, gains=gains, offsets=offsets
    )
    expected = plain_patches(traces, samples, channels, nbefore, nafter, gains, offsets)
    np.testing.assert_allclose(patches, expected, rtol=1e-5, atol=1e-2)
    assert patches.dtype == np.float32


def test_what_lies_outside_the_recording_reads_as_zero_microvolts():
    traces = np.ones((50, 25), "int16")
    kwargs = {"nbefore": 10, "nafter": 10, "offsets": np.full(25, 7.0)}
    patch = extract_patches(traces, [5], [12], GEOMETRY, valid_range=(3, 50), **kwargs)[0]
    expected = np.where(np.arange(5 - 10, 15) >= 3, 8.0, 0.0)
    np.testing.assert_array_equal(patch[:, :-1], np.tile(expected, (9, 1)))


def test_a_channel_with_nan_counts_as_not_observed():
    traces = np.random.default_rng(0).normal(size=(50, 25)).astype("float32")
    broken = traces.copy()
    broken[20, 7] = np.nan
    whole = extract_patches(traces, [20], [12], GEOMETRY, nbefore=5, nafter=5)[0]
    patch = extract_patches(broken, [20], [12], GEOMETRY, nbefore=5, nafter=5)[0]
    slot = np.flatnonzero(GEOMETRY.neighbours[12] == 7)[0]
    assert (patch[slot] == 0).all()
    np.testing.assert_array_equal(np.delete(patch, slot, 0), np.delete(whole, slot, 0))
    # a channel that is broken elsewhere is still good here
    assert extract_patches(broken, [35], [12], GEOMETRY, nbefore=5, nafter=5)[0, slot, -1] == 1


def planted_patches(troughs, at, num_samples=40):
    patches = np.zeros((1, 9, num_samples + 1), "float32")
    patches[..., -1] = 1
    patches[0, np.arange(9), at] = -np.asarray(troughs, "float32")
    return patches


def amplitudes_of(patches, nbefore=20):
    return trough_amplitudes(patches, nbefore, center_slot=CENTER, search=8, half_window=5)


def test_amplitudes_are_the_depths_of_planted_troughs():
    troughs = np.arange(1.0, 10.0) * 10
    np.testing.assert_array_equal(amplitudes_of(planted_patches(troughs, at=np.full(9, 23)))[0], troughs)


def test_troughs_are_sought_near_the_centre_channels_trough():
    at = np.full(9, 26)
    at[0], at[1], at[2] = 21, 31, 20  # first sample inside, first one outside, one too early
    found = amplitudes_of(planted_patches(np.full(9, 50.0), at))[0]
    assert found[0] == 50.0
    assert found[1] == 0.0
    assert found[2] == 0.0


def test_positive_or_unobserved_channels_have_no_amplitude():
    patches = planted_patches(np.full(9, 50.0), np.full(9, 20))
    patches[0, 1, :-1] = 30.0
    patches[0, 2, -1] = 0.0
    found = amplitudes_of(patches)[0]
    assert found[1] == 0.0
    assert found[2] == 0.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), after=st.integers(1, 25))
def test_energies_are_root_mean_squares_after_the_trough_in_units_of_the_largest_trough(seed, after):
    rng = np.random.default_rng(seed)
    patches = rng.normal(0, 30, (5, 9, 41)).astype("float32")
    patches[:, CENTER, 23] = -500.0  # the trough, three samples after the spike
    patches[:, :, -1] = 1
    patches[:, 3] = 0
    troughs = rng.uniform(10, 100, (5, 9)).astype("float32")
    energy = np.sqrt((patches[:, :, 23 : min(23 + after, 40)].astype("float64") ** 2).sum(axis=2))
    expected = energy / energy.max(axis=1, keepdims=True) * troughs.max(axis=1, keepdims=True)
    found = energy_amplitudes(patches, troughs, 20, center_slot=CENTER, search=8, after=after)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert (found[:, 3] == 0).all()


def test_without_a_trough_there_is_no_energy():
    patches = np.full((2, 9, 41), 7.0, "float32")
    nothing = np.zeros((2, 9), "float32")
    assert (energy_amplitudes(patches, nothing, 20, center_slot=CENTER, search=8, after=10) == 0).all()


def test_positive_peaks_are_found_and_turned():
    traces = np.zeros((100, 25), "float32")
    traces[30, 12], traces[70, 12] = -80.0, 60.0
    patches = extract_patches(traces, [30, 70], [12, 12], GEOMETRY, nbefore=10, nafter=10)
    np.testing.assert_array_equal(positive_peaks(patches, 10, center_slot=CENTER, search=5), [False, True])
    window = WindowSamples(10, 10, 5, 3, 8)
    both = spike_rows(traces, [30, 70], [12, 12], GEOMETRY, window, peak_sign="both")
    np.testing.assert_array_equal(both.amplitudes[:, CENTER], [80.0, 60.0])
    positive = spike_rows(traces, [30, 70], [12, 12], GEOMETRY, window, peak_sign="pos")
    np.testing.assert_array_equal(positive.amplitudes[:, CENTER], [0.0, 60.0])


def test_jitter_gives_one_row_per_candidate_centre():
    traces = np.zeros((60, 25), "float32")
    traces[30, [12, 13, 7, 11]] = [-100.0, -95.0, -91.0, -80.0]
    window = WindowSamples(10, 10, 5, 3, 8)
    rows = spike_rows(traces, [30, 30], [12, 13], GEOMETRY, window, amplitude_jitter_uv=10.0)
    np.testing.assert_array_equal(rows.counts, [3, 3])
    assert set(rows.centers[:3]) == {12, 13, 7}
    # each row is centred on its own channel
    np.testing.assert_array_equal(rows.amplitudes[np.arange(6), CENTER], -traces[30, rows.centers])
    two = spike_rows(traces, [30, 30], [12, 13], GEOMETRY, window, amplitude_jitter_uv=10.0, max_centers=2)
    np.testing.assert_array_equal(two.counts, [2, 2])
    assert set(two.centers[:2]) == {12, 13}


def test_jitter_of_a_spike_with_nothing_to_see_keeps_its_own_centre():
    traces = np.full((60, 25), np.nan, "float32")
    rows = spike_rows(traces, [30], [12], GEOMETRY, WindowSamples(10, 10, 5, 3, 8), amplitude_jitter_uv=10.0)
    np.testing.assert_array_equal(rows.counts, [1])
    assert rows.centers[0] == 12
    assert (rows.amplitudes == 0).all()


def test_no_spikes_give_no_rows():
    empty = np.array([], int)
    rows = spike_rows(np.zeros((10, 25), "f4"), empty, empty, GEOMETRY, WindowSamples(2, 2, 1, 1, 2))
    assert rows.patches.shape == (0, 9, 5)
    assert len(rows.counts) == 0


def test_nearest_channels_are_the_nearest_with_ties_cut_by_order():
    nearest = nearest_channels(PROBE, 4)
    # four channels at 15 um around channel 12: 7, 11, 13, 17; three of them fit beside the centre
    np.testing.assert_array_equal(nearest[12], [12, 7, 11, 13])
    alone = nearest_channels(PROBE, 9, shank_indices=np.repeat([0, 1], [5, 20]))
    assert (alone[0] >= 0).sum() == 5


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100), sign=st.sampled_from([-1.0, 1.0]))
def test_centre_of_mass_is_the_weighted_mean_and_ignores_scale_and_sign(seed, scale, sign):
    rng = np.random.default_rng(seed)
    troughs, places = rng.uniform(1, 100, (5, 9)), rng.normal(0, 20, (5, 9, 2))
    observed = rng.random((5, 9)) < 0.8
    observed[:, 0] = True
    found = center_of_mass(sign * scale * troughs, places, observed)
    for spike in range(5):
        chosen = observed[spike]
        expected = np.average(places[spike, chosen], axis=0, weights=troughs[spike, chosen])
        np.testing.assert_allclose(found[spike], expected, rtol=1e-9, atol=1e-9)


def test_centre_of_mass_of_nothing_is_the_centre_channel():
    places = np.random.default_rng(0).normal(size=(1, 4, 2))
    np.testing.assert_array_equal(center_of_mass(np.zeros((1, 4)), places, np.ones((1, 4), bool)), places[:, 0])


@pytest.mark.parametrize(("ms", "samples"), [(1.0, 32), (0.5, 16), (1e-6, 1)])
def test_windows_in_samples(ms, samples):
    assert WindowSamples.from_ms(ms, ms, 32_000.0)[:2] == (samples, samples)
