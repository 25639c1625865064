"""Conditioning against its definition in plain numpy, against the cut into chunks, and against planted truth."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.events.conditioning import (
    baseline_blocks,
    condition_traces,
    conditioning_reach,
    reflect_ends,
    reflected_indices,
)
from si_neuroml.events.noise import guess_polarity, noise_levels, trace_faults

FS = 3328.0
BLOCKS = dict(zip(("block_size", "half_blocks"), baseline_blocks(FS), strict=True))


def plain_baseline(row, first_frame, block_size, half_blocks):
    """The same with a dictionary of blocks, nanmedian and np.interp."""
    frames = first_frame + np.arange(len(row))
    blocks = np.unique(frames // block_size)
    means = {block: row[frames // block_size == block].mean() for block in blocks}
    near = [[means[b] for b in range(c - half_blocks, c + half_blocks + 1) if b in means] for c in blocks]
    return np.interp(frames, blocks * block_size + (block_size - 1) / 2, [np.median(values) for values in near])


def events_in_noise(rate, amplitude, *, seconds=30, num_channels=3, seed=0, correlation=0.0):
    """Noise of sd 1 with events of 3 samples up and an exponential tail of 3 samples."""
    rng = np.random.default_rng(seed)
    num_samples = int(seconds * FS)
    shape = np.concatenate([np.linspace(0.3, 1, 3), np.exp(-np.arange(1, 14) / 3)])
    starts = (rng.random((num_samples, num_channels)) < rate / FS).astype(float)
    events = np.stack([np.convolve(column, shape)[:num_samples] for column in starts.T], axis=1)
    noise = rng.normal(size=(num_samples, num_channels))
    for t in range(1, num_samples if correlation else 0):
        noise[t] = correlation * noise[t - 1] + np.sqrt(1 - correlation**2) * noise[t]
    return noise + amplitude * events


def as_the_node_does(traces, start, stop, margin, **kwargs):
    """Conditioned [start, stop) of a segment, from a chunk with margins whose samples beyond the segment are zeros."""
    padded = np.pad(traces, ((margin, margin), (0, 0)))[start : stop + 2 * margin]
    chunk = reflect_ends(padded, margin - start, stop + margin - len(traces))
    return condition_traces(chunk, start - margin, **kwargs)[:, margin : margin + stop - start]


@settings(max_examples=60, deadline=None)
@given(
    num_samples=st.integers(1, 400),
    borders=st.lists(st.integers(0, 400), max_size=5),
    block_size=st.integers(1, 20),
    half_blocks=st.integers(1, 5),
    dtype=st.sampled_from(["int16", "uint16", "float32", "float64", ">i2"]),
    seed=st.integers(0, 1000),
)
def test_any_cut_into_chunks_gives_the_same_bits(num_samples, borders, block_size, half_blocks, dtype, seed):
    rng = np.random.default_rng(seed)
    traces = rng.integers(0, 5000, (num_samples, 3)).astype(dtype)
    kwargs = {"block_size": block_size, "half_blocks": half_blocks, "gains": [0.1, 0.37, 2.0], "offsets": [0, 7.7, -3]}
    kwargs |= {"polarity": -1, "noise_levels": [1.0, 33.3, 0.7]}
    margin = conditioning_reach(block_size, half_blocks)
    whole = as_the_node_does(traces, 0, num_samples, margin, **kwargs)
    edges = sorted({0, num_samples, *(border for border in borders if border < num_samples)})
    parts = [as_the_node_does(traces, start, stop, margin, **kwargs) for start, stop in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@settings(max_examples=40, deadline=None)
@given(
    num_samples=st.integers(1, 300),
    first_frame=st.integers(-100, 1000),
    block_size=st.integers(1, 20),
    half_blocks=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_equal_to_the_definition(num_samples, first_frame, block_size, half_blocks, seed):
    rng = np.random.default_rng(seed)
    traces = rng.normal(size=(num_samples, 2)) * 10
    gains, offsets, noise = np.array([2.0, 0.5]), np.array([100.0, -7.0]), np.array([3.0, 0.25])
    x = condition_traces(
        traces,
        first_frame,
        block_size=block_size,
        half_blocks=half_blocks,
        gains=gains,
        offsets=offsets,
        polarity=-1,
        noise_levels=noise,
    )
    for channel in range(2):
        values = -(traces[:, channel] * gains[channel] + offsets[channel])
        baseline = plain_baseline(values, first_frame, block_size, half_blocks)
        np.testing.assert_allclose(x[channel], (values - baseline) / noise[channel], rtol=1e-5, atol=1e-4)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous


def test_nothing_beyond_the_stated_reach_matters_and_something_at_it_does():
    rng = np.random.default_rng(0)
    traces = rng.normal(size=(600, 1))
    kwargs = {"block_size": 8, "half_blocks": 3}
    reach = conditioning_reach(**kwargs)
    before = condition_traces(traces, 0, **kwargs)
    touched = []
    for at in range(200, 232):
        for distance in range(1, reach + 10):
            changed = traces.copy()
            changed[at + distance :] += 1000.0
            changed[: at - distance] -= 1000.0
            if condition_traces(changed, 0, **kwargs)[0, at] != before[0, at]:
                touched.append(distance)
    assert max(touched) <= reach
    assert max(touched) >= reach - kwargs["block_size"]


def test_the_chunk_itself_is_left_as_it_was():
    for order in "CF":
        traces = np.asarray(np.random.default_rng(0).normal(size=(100, 1)), order=order)
        kept = traces.copy()
        condition_traces(traces, 0, gains=[5.0], **BLOCKS)
        np.testing.assert_array_equal(traces, kept)


def test_slow_signals_go_and_events_stay():
    seconds = np.arange(int(20 * FS)) / FS
    slow = 5000 + 300 * np.exp(-seconds / 10) + 40 * np.sin(2 * np.pi * 0.7 * seconds)
    events = np.zeros_like(slow)
    events[1000::500] = 30.0
    x = condition_traces((slow + events)[:, None], 0, **BLOCKS)[0]
    inner = slice(conditioning_reach(**BLOCKS), -conditioning_reach(**BLOCKS))
    # events are 1 sample of every 500, which the median of block means does not see
    np.testing.assert_allclose(x[inner], events[inner], atol=1.5)


def test_a_constant_trace_is_zero_to_the_last_bit_and_has_no_noise():
    traces = np.full((3000, 2), 0.1)
    traces[:, 1] = np.random.default_rng(0).normal(size=3000)
    noise = noise_levels([traces], **BLOCKS)
    assert noise[0] == 0
    assert noise[1] == pytest.approx(1.0, rel=0.1)
    assert not condition_traces(traces, 5, **BLOCKS)[0].any()
    assert not condition_traces(traces, 5, noise_levels=noise, **BLOCKS)[0].any()
    faults = trace_faults(traces)
    assert faults.constant.tolist() == [True, False]
    assert faults.num_samples == 3000


def test_samples_that_are_not_finite_are_zero_counted_and_leave_the_others_alone():
    rng = np.random.default_rng(1)
    traces = rng.normal(size=(3000, 3))
    broken = traces.copy()
    broken[1000:1010, 0] = np.nan
    broken[2000, 0] = -np.inf
    broken[:, 2] = np.nan
    x = condition_traces(broken, 0, **BLOCKS)
    good = condition_traces(traces, 0, **BLOCKS)
    assert np.isfinite(x).all()
    assert not x[0, 1000:1010].any()
    assert not x[2].any()
    np.testing.assert_array_equal(x[1], good[1])
    usable = np.isfinite(broken[:, 0])
    np.testing.assert_allclose(x[0, usable], good[0, usable], atol=0.3)
    faults = trace_faults(broken)
    assert faults.num_not_finite.tolist() == [11, 0, 3000]
    assert faults.constant.tolist() == [False, False, True]
    noise = noise_levels([broken], **BLOCKS)
    assert noise[2] == 0
    assert noise[0] == pytest.approx(noise_levels([traces], **BLOCKS)[0], rel=0.02)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_noise_levels_survive_frequent_events(correlation):
    traces = events_in_noise(60.0, 10.0, correlation=correlation)
    chunks = [traces[:40_000], traces[50_000:90_000]]
    found = noise_levels(chunks, **BLOCKS)
    np.testing.assert_allclose(found, 1.0, atol=0.12)
    mad = np.median(np.abs(traces - np.median(traces, axis=0)), axis=0) / 0.6745
    assert (np.abs(found - 1) < 0.6 * np.abs(mad - 1)).all()


def test_noise_levels_follow_gain_and_polarity_and_forget_offsets():
    traces = events_in_noise(10.0, 10.0, seconds=10)
    found = noise_levels([traces], **BLOCKS)
    scaled = noise_levels([traces], gains=[1, 2, 5], offsets=[0, 1e3, -1e4], **BLOCKS)
    np.testing.assert_allclose(scaled, found * [1, 2, 5], rtol=1e-4)
    np.testing.assert_allclose(noise_levels([-traces], polarity=-1, **BLOCKS), found, rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_polarity_is_found_with_few_small_events(sign):
    traces = sign * events_in_noise(5.0, 6.0)
    x = condition_traces(traces, 0, noise_levels=noise_levels([traces], **BLOCKS), **BLOCKS)
    polarity = guess_polarity(x)
    assert polarity.sign == sign
    assert polarity.z > 5


def test_polarity_of_noise_is_not_sure():
    zs = []
    for seed in range(10):
        traces = events_in_noise(0.0, 0.0, seconds=10, seed=seed)
        zs.append(guess_polarity(condition_traces(traces, 0, **BLOCKS)).z)
    # |z| of a standard normal is 0.8 on average
    assert max(zs) < 4
    assert 0.3 < np.mean(zs) < 1.5


@pytest.mark.parametrize("num_photons", [2, 10, 60])
def test_few_photons_are_not_taken_for_events(num_photons):
    """They are skewed upwards, and are white."""
    zs = []
    for seed in range(6):
        counts = np.random.default_rng(seed).poisson(num_photons, (40_000, 6)).astype("float32")
        x = condition_traces(counts, 0, noise_levels=noise_levels([counts], **BLOCKS), **BLOCKS)
        assert abs((x**3).mean()) > 0.1
        zs.append(guess_polarity(x).z)
    assert max(zs) < 3
    assert np.mean(zs) < 1.5


@pytest.mark.parametrize("sign", [1, -1])
def test_polarity_of_events_in_few_photons(sign):
    rng = np.random.default_rng(3)
    rate = np.full((40_000, 6), 10.0)
    for channel in range(6):
        for start in rng.choice(np.arange(20, 39_900, 60), 60, replace=False):
            rate[start : start + 5, channel] += sign * 10.0 * np.array([0.4, 0.9, 0.7, 0.4, 0.2])
    counts = rng.poisson(rate).astype("float32")
    x = condition_traces(counts, 0, noise_levels=noise_levels([counts], **BLOCKS), **BLOCKS)
    polarity = guess_polarity(x)
    assert polarity.sign == sign
    assert polarity.z > 5


@settings(max_examples=50, deadline=None)
@given(num_samples=st.integers(1, 40), left=st.integers(0, 100), right=st.integers(0, 100))
def test_reflection_is_that_of_numpy(num_samples, left, right):
    true = np.arange(num_samples * 2).reshape(num_samples, 2)
    chunk = np.pad(true, ((left, right), (0, 0)))
    mode = "reflect" if num_samples > 1 else "edge"
    expected = np.pad(true, ((left, right), (0, 0)), mode=mode)
    np.testing.assert_array_equal(reflect_ends(chunk, left, right), expected)


def test_reflection_copies_only_when_it_must():
    chunk = np.ones((10, 2))
    assert reflect_ends(chunk, 0, -5) is chunk
    assert reflect_ends(chunk, 3, 0) is not chunk
    with pytest.raises(InputError, match="none is left"):
        reflect_ends(chunk, 6, 4)
    with pytest.raises(InputError, match="empty"):
        reflected_indices(0, 0, 3)


def test_blocks_follow_the_rate():
    assert baseline_blocks(3328.0) == (16, 16)
    assert baseline_blocks(30_000.0) == (144, 16)
    assert baseline_blocks(100.0) == (1, 8)
    with pytest.raises(InputError, match="positive"):
        baseline_blocks(0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polarity": 0}, "polarity"),
        ({"gains": [1.0]}, "one number per channel"),
        ({"noise_levels": np.ones(3)}, "one number per channel"),
        ({"half_blocks": 0}, "at least 1"),
        ({"traces": np.ones((4, 2), complex)}, "real numbers"),
        ({"traces": np.ones(4)}, "shape"),
    ],
)
def test_what_cannot_be_conditioned_is_refused(change, message):
    kwargs = {"traces": np.ones((4, 2)), "first_frame": 0, **BLOCKS} | change
    with pytest.raises(InputError, match=message):
        condition_traces(**kwargs)
    with pytest.raises(InputError, match="at least one chunk"):
        noise_levels([], **BLOCKS)
    with pytest.raises(InputError, match="at least 1024 samples"):
        guess_polarity(np.zeros((1, 1000)))
