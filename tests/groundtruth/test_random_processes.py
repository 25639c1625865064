"""Random processes have the statistics they are named for."""

import numpy as np
import pytest
from scipy.signal import lfilter

from si_neuroml.groundtruth.random_processes import (
    first_order,
    from_slow_grid,
    ou_noise,
    poisson_times,
    slow_grid_length,
)


def test_noise_and_times_have_their_statistics():
    rng = np.random.default_rng(0)
    noise = ou_noise(rng, 400_000, 0.05).astype(float)
    assert noise.std() == pytest.approx(1.0, rel=0.05)
    assert np.corrcoef(noise[:-20], noise[20:])[0, 1] == pytest.approx(np.exp(-1), abs=0.03)
    times = poisson_times(rng, 5.0, 1000.0, gap=0.1)
    # one event in 1 / rate + gap
    assert len(times) == pytest.approx(1000 / 0.3, rel=0.06)
    assert np.diff(times).min() >= 0.1
    assert times[-1] < 1000
    assert len(poisson_times(rng, 0.0, 1000.0)) == 0


def test_first_order_is_the_recursive_filter():
    values = np.random.default_rng(0).standard_normal(1000)
    assert np.allclose(first_order(values, 0.3, 0.9), lfilter([0.3], [1, -0.9], values), rtol=1e-12)
    expected = lfilter([1.0], [1, -0.5], values, zi=[0.5 * 7.0])[0]
    assert np.allclose(first_order(values, 1.0, 0.5, 7.0), expected, rtol=1e-12)


@pytest.mark.parametrize(("num_samples", "rate"), [(1000, 3328.0), (20_000, 20_000.0), (7, 100.0)])
def test_a_slow_grid_spans_all_samples(num_samples, rate):
    grid = np.arange(slow_grid_length(num_samples, rate, 20.0)) / 20.0
    assert np.allclose(from_slow_grid(grid, 20.0, num_samples, rate), np.arange(num_samples) / rate)
