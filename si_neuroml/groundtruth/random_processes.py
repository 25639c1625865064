"""Random processes in time: events, noise, motion and heart beat, and the coarse grid on which slow ones are drawn."""

import numba
import numpy as np

__all__ = [
    "SLOW_RATE_HZ",
    "first_order",
    "from_slow_grid",
    "motion_trace",
    "ou_noise",
    "poisson_times",
    "pulsation_phase",
    "slow_grid_length",
]

# of the grid on which slow changes of light are drawn
SLOW_RATE_HZ = 20.0
STEP_TAU_S = 2e-3


def poisson_times(rng: np.random.Generator, rate_hz: float, duration: float, gap: float = 0.0) -> np.ndarray:
    """Times in s of a Poisson process with a dead time ``gap`` (s) after each event and before the first."""
    times, t = [], 0.0
    while rate_hz > 0:
        t += gap + rng.exponential(1 / rate_hz)
        if t >= duration:
            break
        times.append(t)
    return np.array(times)


def ou_noise(rng: np.random.Generator, num_samples: int, step_over_tau: float) -> np.ndarray:
    """Ornstein-Uhlenbeck noise of unit variance, float32; ``step_over_tau`` is one sample in time constants."""
    decay = np.exp(-step_over_tau)
    white = rng.standard_normal(num_samples, dtype=np.float32) * np.float32(np.sqrt(1 - decay**2))
    return first_order(white, 1.0, decay, rng.standard_normal()).astype(np.float32)


@numba.njit(nogil=True)
def first_order(values, gain, decay, before=0.0):
    """y[n] = gain x[n] + decay y[n - 1], float64, from ``before`` the first sample (SciPy's filters load slowly)."""
    result = np.empty(len(values))
    y = before
    for n in range(len(values)):
        y = gain * values[n] + decay * y
        result[n] = y
    return result


def slow_grid_length(num_samples: int, sampling_frequency: float, slow_rate_hz: float) -> int:
    """How many values at ``slow_rate_hz`` span ``num_samples``, for :func:`from_slow_grid`."""
    return int(num_samples / sampling_frequency * slow_rate_hz) + 2


def from_slow_grid(slow: np.ndarray, slow_rate_hz: float, num_samples: int, sampling_frequency: float) -> np.ndarray:
    """Straight lines between the values of a slow course, at each of ``num_samples``; float64."""
    return np.interp(np.arange(num_samples) * (slow_rate_hz / sampling_frequency), np.arange(len(slow)), slow)


def motion_trace(
    rng: np.random.Generator, num_samples: int, sampling_frequency: float, motion: dict[str, float]
) -> np.ndarray:
    """Displacement of all sites in um, float64: steps from place to place, and excursions that come back."""
    duration = num_samples / sampling_frequency
    place = np.zeros(num_samples)
    for time in poisson_times(rng, motion["step_rate_hz"], duration):
        place[int(time * sampling_frequency) :] = motion["size_um"] * rng.standard_normal()
    # so that a step takes about 5 ms
    decay = np.exp(-1 / (STEP_TAU_S * sampling_frequency))
    place = first_order(place, 1 - decay, decay)
    for time in poisson_times(rng, motion["transient_rate_hz"], duration):
        length = max(2, int(rng.uniform(0.01, 0.3) * sampling_frequency))
        first = int(time * sampling_frequency)
        shape = motion["size_um"] * rng.standard_normal() * np.sin(np.pi * np.arange(length) / length)
        place[first : first + length] += shape[: num_samples - first]
    return place


def pulsation_phase(
    rng: np.random.Generator, num_samples: int, sampling_frequency: float, rate_hz: float
) -> np.ndarray:
    """Phase of the heart beat in rad, float64; its rate wanders by a few percent."""
    num_slow = slow_grid_length(num_samples, sampling_frequency, SLOW_RATE_HZ)
    steps = 2 * np.pi * rate_hz / SLOW_RATE_HZ * (1 + 0.03 * ou_noise(rng, num_slow, 1 / SLOW_RATE_HZ).astype(float))
    slow = rng.uniform(0, 2 * np.pi) + np.cumsum(steps)
    return from_slow_grid(slow, SLOW_RATE_HZ, num_samples, sampling_frequency)
