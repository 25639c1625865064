"""The wavelet transform against its definition, PyWavelets and torch; frequency labels, padding, images."""

import numpy as np
import pytest
import pywt
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scalogram_helpers import direct_transform

from si_neuroml.celltypes.pooling import pool_scalogram
from si_neuroml.celltypes.scalogram import pooled_scalogram, scalogram
from si_neuroml.celltypes.torch_scalogram import torch_pool_scalogram, torch_pooled_scalogram, torch_scalogram
from si_neuroml.celltypes.wavelets import (
    cone_of_influence,
    filter_bank,
    frequency_axis,
    frequency_to_scale,
    get_wavelet,
)
from si_neuroml.errors import InputError

RATE = 4000.0
EXACT = ("mexh", "morl", "cmor1.5-1.0", "gaus1")


def spiking_trace(num_samples=1200, seed=0, shift=0):
    """Rest at -70 mV, a step of 15 mV, 1 ms spikes of 90 mV at random places, at 4 kHz; shifted by samples."""
    rng = np.random.default_rng(seed)
    at = np.arange(num_samples) - shift
    trace = -70 + 15.0 * ((at > num_samples // 5) & (at < 4 * num_samples // 5))
    for spike in rng.uniform(0.25, 0.75, 8) * num_samples:
        trace = trace + 90 * np.exp(-0.5 * ((at - spike) / 2.0) ** 2)
    return trace


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("normalization", ["L1", "L2"])
@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_equals_the_sampled_kernel(name, normalization, padding, mode):
    traces = np.stack([spiking_trace(500), spiking_trace(500, seed=1)])
    frequencies = np.array([60.0, 150.0, 420.0, 33.0])
    scales = frequency_to_scale(frequencies, wavelet=name, normalization=normalization)
    expected = direct_transform(traces, RATE, scales, name, normalization, mode)
    kwargs = {"frequencies": frequencies, "wavelet": name, "normalization": normalization, "padding": padding}
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-6)):
        found = scalogram(traces, RATE, dtype=dtype, **kwargs)
        assert found.shape == (2, 4, 500)
        assert np.iscomplexobj(found) == get_wavelet(name).is_complex
        assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def test_pywavelets_is_five_percent_off_by_misplaced_rows():
    """The exact kernel lies within 1e-12; PyWavelets' rows are shifted by up to half a sample."""
    trace = spiking_trace(2000)
    trace = trace - trace[0]
    frequencies = np.linspace(20, 200, 24)
    ours = scalogram(trace, RATE, frequencies=frequencies, normalization="L2", padding="zero", dtype="float64")
    scales = frequency_to_scale(frequencies, normalization="L2") * RATE
    theirs = pywt.cwt(trace, scales, "mexh", sampling_period=1 / RATE, method="fft")[0] / np.sqrt(RATE)
    error = np.linalg.norm(theirs - ours) / np.linalg.norm(ours)
    assert 0.005 < error < 0.06
    # each of their rows moved by its own best part of a sample
    at, left = np.arange(len(trace)), 0.0
    for row, other in zip(ours, theirs, strict=True):
        moved = [np.interp(at + shift, at, row) for shift in np.linspace(-1, 1, 41)]
        left += min(np.sum((other - one) ** 2) for one in moved)
    assert np.sqrt(left) / np.linalg.norm(ours) < 0.35 * error


@pytest.mark.parametrize("name", [*EXACT, "cgau2"])
@pytest.mark.parametrize("normalization", ["L1", "L2"])
def test_a_tone_is_largest_at_its_own_label(name, normalization):
    at = np.arange(8000) / RATE
    frequencies = np.geomspace(40, 160, 241)
    for tone in (55.0, 100.0):
        rows = scalogram(
            np.cos(2 * np.pi * tone * at), RATE, frequencies=frequencies, wavelet=name, normalization=normalization
        )
        answer = np.abs(rows[:, 2000:6000]).max(axis=1)
        assert frequencies[answer.argmax()] == pytest.approx(tone, rel=0.012)


def test_mexican_hat_constants():
    assert frequency_to_scale([1.0], normalization="L1")[0] == pytest.approx(np.sqrt(2) / (2 * np.pi))
    assert frequency_to_scale([1.0], normalization="L2")[0] == pytest.approx(np.sqrt(2.5) / (2 * np.pi))
    # the search used for other wavelets finds the same peaks: gaus2 is a Mexican hat of another width
    for normalization in ("L1", "L2"):
        ratio = frequency_to_scale([1.0], wavelet="gaus2", normalization=normalization) / frequency_to_scale(
            [1.0], normalization=normalization
        )
        assert ratio[0] == pytest.approx(np.sqrt(2), rel=1e-5)


@pytest.mark.parametrize("normalization", ["L1", "L2"])
def test_does_not_depend_on_the_sampling_rate(normalization):
    def gaussian(rate):
        return np.exp(-0.5 * ((np.arange(int(0.5 * rate)) / rate - 0.25) / 0.002) ** 2)

    slow = scalogram(gaussian(4000), 4000.0, normalization=normalization)
    fast = scalogram(gaussian(20_000), 20_000.0, normalization=normalization)[:, ::5]
    assert np.abs(slow - fast).max() < 1e-4 * np.abs(fast).max()


def rounding_error(traces, dtype, *, frequencies, wavelet, padding):
    """Bound on what rounding can change, relative to the input: coefficients may cancel out to nothing.

    No coefficient is larger than the largest input times the sum of the kernel's magnitudes, and each of the log2(n)
    stages of a Fourier transform rounds once.
    """
    mirrored = padding == "reflect"
    bank = filter_bank(
        frequencies, RATE, traces.shape[1], wavelet=wavelet, mirrored=mirrored, normalization="L1", dtype="float64"
    )
    inverse = np.fft.ifft if bank.is_complex else np.fft.irfft
    kernel_sum = np.abs(inverse(bank.response, bank.num_fft)).sum(axis=1).max()
    return np.finfo(dtype).eps * np.log2(bank.num_fft) * kernel_sum * np.abs(traces).max()


@settings(max_examples=25, deadline=None)
@example(num_samples=1, num_traces=1, seed=0, wavelet="gaus1", padding="zero", max_bytes=1)
@given(
    num_samples=st.integers(1, 300),
    num_traces=st.integers(1, 5),
    seed=st.integers(0, 1000),
    wavelet=st.sampled_from(["mexican_hat", "morlet", "cmor1.5-1.0", "gaus1", "cgau2"]),
    padding=st.sampled_from(["reflect", "baseline", "zero"]),
    max_bytes=st.sampled_from([1, 300_000, 2**24]),
)
def test_torch_and_batches_agree(num_samples, num_traces, seed, wavelet, padding, max_bytes):
    traces = np.random.default_rng(seed).normal(-60, 8, (num_traces, num_samples))
    kwargs = {"frequencies": frequency_axis(30, 400, 7), "wavelet": wavelet, "padding": padding}
    whole = scalogram(traces, RATE, dtype="float64", **kwargs)
    parts = scalogram(traces, RATE, dtype="float64", max_bytes=max_bytes, **kwargs)
    in_torch = torch_scalogram(torch.from_numpy(traces), RATE, max_bytes=max_bytes, **kwargs).numpy()
    small = torch_scalogram(torch.from_numpy(traces).float(), RATE, **kwargs).numpy()
    for found, dtype in ((parts, "float64"), (in_torch, "float64"), (small, "float32")):
        np.testing.assert_allclose(found, whole, rtol=0, atol=rounding_error(traces, dtype, **kwargs))


def test_leading_axes_and_repeated_calls():
    traces = np.random.default_rng(0).normal(size=(2, 3, 100)).astype("float32")
    found = scalogram(traces, RATE)
    assert found.shape == (2, 3, 48, 100)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1, 2], scalogram(traces[1, 2], RATE))
    assert filter_bank([50.0], RATE, 100) is filter_bank(np.array([50.0]), RATE, 100, wavelet="mexh")
    assert torch_scalogram(torch.from_numpy(traces), RATE).shape == (2, 3, 48, 100)


@pytest.mark.parametrize("wavelet", ["mexican_hat", "cmor1.5-1.0"])
@pytest.mark.parametrize("padding", ["reflect", "baseline", "zero"])
def test_gradients(wavelet, padding):
    traces = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 20)))
    traces.requires_grad_()
    kwargs = {"frequencies": [100.0, 400.0], "wavelet": wavelet, "padding": padding}

    def power(x):
        return torch_scalogram(x, RATE, **kwargs).abs() ** 2

    assert torch.autograd.gradcheck(power, (traces,))
    assert torch.autograd.gradcheck(
        lambda x: torch_pooled_scalogram(x, RATE, shape=(2, 5), how="mean", **kwargs), (traces,)
    )


def edge_energy(trace, **kwargs):
    power = scalogram(trace, RATE, normalization="L2", **kwargs) ** 2
    edge = round(0.025 * RATE)
    return (power[:, :edge].sum() + power[:, -edge:].sum()) / power.sum()


def test_resting_potential_makes_no_edges():
    trace = spiking_trace(4800)
    assert edge_energy(trace, padding="zero") > 0.3
    assert edge_energy(trace) < 1e-4
    assert edge_energy(trace, padding="baseline") < 1e-4
    np.testing.assert_allclose(
        scalogram(trace, RATE, padding="baseline"),
        scalogram(trace, RATE, padding="baseline", baseline=-70.0),
        atol=1e-4,
    )
    # a constant has no coefficients, however large
    assert np.abs(scalogram(np.full(500, 1e6), RATE)).max() < 1e-6


def test_cone_of_influence():
    frequencies = np.array([20.0, 200.0])
    inside = cone_of_influence(frequencies, RATE, 400, normalization="L2")
    margin = np.sqrt(2) * np.sqrt(2.5) / (2 * np.pi) / frequencies
    assert margin[0] == pytest.approx(0.0178, abs=1e-4)
    for row, one in zip(inside, margin, strict=True):
        expected = int(np.ceil(one * RATE - 1e-9))
        assert row.argmax() == expected
        assert row[::-1].argmax() == expected
        assert row[expected : 400 - expected].all()
    # what lies inside hardly knows what was beyond the ends
    trace = np.random.default_rng(0).normal(size=400)
    for name in ("mexican_hat", "cmor1.5-1.0"):
        inside = cone_of_influence(frequencies, RATE, 400, wavelet=name)
        assert inside.any()
        assert not inside[:, 0].any()
        change = np.abs(
            scalogram(trace, RATE, frequencies=frequencies, wavelet=name, padding="zero")
            - scalogram(trace, RATE, frequencies=frequencies, wavelet=name)
        )
        assert change[inside].mean() < 0.1 * change[~inside].mean()


def plain_pool(values, shape, how):
    out = np.empty(shape)
    rows, columns = values.shape
    for i in range(shape[0]):
        for j in range(shape[1]):
            block = values[
                i * rows // shape[0] : -(-(i + 1) * rows // shape[0]),
                j * columns // shape[1] : -(-(j + 1) * columns // shape[1]),
            ]
            out[i, j] = block.max() if how == "max" else block.mean()
    return out


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    shape=st.tuples(st.integers(1, 15), st.integers(1, 50)),
    how=st.sampled_from(["max", "mean"]),
    is_complex=st.booleans(),
)
def test_pooling_is_of_magnitudes_over_blocks(size, shape, how, is_complex):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, *size)) + (1j * rng.normal(size=(2, *size)) if is_complex else 0)
    pooled = pool_scalogram(values, shape, how)
    assert pooled.shape == (2, *shape)
    np.testing.assert_allclose(pooled[1], plain_pool(np.abs(values[1]), shape, how), atol=1e-12)
    np.testing.assert_allclose(torch_pool_scalogram(torch.from_numpy(values), shape, how).numpy(), pooled, atol=1e-12)


def test_images_are_pooled_batch_by_batch():
    traces = np.stack([[spiking_trace(1200, seed=k) for k in range(2)] for _ in range(2)])
    images = pooled_scalogram(traces, RATE, shape=(12, 60), max_bytes=1)
    assert images.shape == (2, 2, 12, 60)
    whole = scalogram(traces, RATE, frequencies=frequency_axis(num=12))
    np.testing.assert_allclose(images, pool_scalogram(whole, (12, 60)), rtol=1e-5, atol=1e-5)
    in_torch = torch_pooled_scalogram(torch.from_numpy(traces), RATE, shape=(12, 60)).numpy()
    np.testing.assert_allclose(in_torch, images, rtol=1e-4, atol=1e-3)


def bilinear(values, columns):
    """Plain resizing of signed coefficients: samples between pixels are not looked at."""
    at = (np.arange(columns) + 0.5) * values.shape[1] / columns - 0.5
    return np.stack([np.interp(at, np.arange(values.shape[1]), row) for row in values])


def test_images_keep_their_peak_under_shifts_below_a_pixel():
    frequencies = frequency_axis(140, 200, 20, spacing="linear")
    peaks = {"max": [], "mean": [], "bilinear": []}
    for shift in range(0, 19, 2):
        trace = spiking_trace(4800, shift=shift)
        rows = scalogram(trace, RATE, frequencies=frequencies)
        for how in ("max", "mean"):
            peaks[how].append(pool_scalogram(rows, (20, 240), how).max())
        peaks["bilinear"].append(np.abs(bilinear(rows, 240)).max())
    ratio = {how: min(found) / max(found) for how, found in peaks.items()}
    assert ratio["max"] > 0.99
    assert ratio["mean"] > 0.75
    assert ratio["bilinear"] < 0.75


@pytest.mark.parametrize("name", ["mexh", "morl", "cmor2-0.7", "gaus1", "gaus2", "gaus3", "gaus8", "cgau1", "cgau6"])
def test_kernels_are_those_of_pywavelets(name):
    wavelet, length = get_wavelet(name), 64
    expected, at = pywt.ContinuousWavelet(name).wavefun(length=2 * length + 1)
    step = wavelet.half_support / length
    np.testing.assert_allclose(at, np.arange(-length, length + 1) * step, atol=1e-6)
    np.testing.assert_allclose(wavelet.sample(step, length), expected, atol=1e-7)
    assert not wavelet.sample(2 * step, length)[: length // 2].any()


def test_frequency_axis():
    assert frequency_axis()[[0, -1]] == pytest.approx([20, 200])
    np.testing.assert_allclose(np.diff(frequency_axis(10, 20, 11, spacing="linear")), 1)
    ratios = frequency_axis(10, 20, 11)
    np.testing.assert_allclose(ratios[1:] / ratios[:-1], 2**0.1)
    for wrong in ({"low": 0}, {"low": 30, "high": 20}, {"num": 1}, {"spacing": "mel"}):
        with pytest.raises(InputError):
            frequency_axis(**wrong)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"wavelet": "haar"}, "no wavelet"),
        ({"wavelet": "shan1.5-1.0"}, "no single peak"),
        ({"normalization": "L3"}, "normalization"),
        ({"padding": "wrap"}, "padding"),
        ({"baseline": -70.0}, "baseline"),
        ({"frequencies": [50, 1400]}, "third"),
        ({"frequencies": [0, 10]}, "above 0"),
        ({"frequencies": []}, "at least one"),
    ],
)
def test_refuses_settings(change, match):
    for transform, traces in ((scalogram, np.zeros(50)), (torch_scalogram, torch.zeros(50))):
        with pytest.raises(InputError, match=match):
            transform(traces, RATE, **change)


def test_refuses_traces():
    with pytest.raises(InputError, match="NaN"):
        scalogram(np.array([0.0, np.nan, 1.0]), RATE)
    with pytest.raises(InputError, match="empty"):
        scalogram(np.zeros((3, 0)), RATE)
    with pytest.raises(InputError, match="dtype"):
        scalogram(np.zeros(10), RATE, dtype="float16")
    with pytest.raises(InputError, match="how"):
        pool_scalogram(np.zeros((3, 3)), (2, 2), "sum")
    with pytest.raises(InputError, match="shape"):
        pooled_scalogram(np.zeros(30), RATE, shape=(0, 2))
    with pytest.raises(InputError, match="expected"):
        pool_scalogram(np.zeros(3))
