"""Wavelets as sampled kernels, which scale stands for which frequency, and filter banks made of them.

The transform of a trace x, sampled every dt seconds, at scale s (seconds) and time b is

    W(s, b) = norm(s) * sum_n x[n] conj(psi((n dt - b) / s)) dt,    norm = 1 / s ("L1") or 1 / sqrt(s) ("L2")

so that neither normalisation depends on the sampling rate: L1 has the unit of the trace, L2 that unit times sqrt(s).
(PyWavelets' numbers are those of L2 times the square root of the sampling frequency.) psi is PyWavelets' function on
PyWavelets' support; "mexican_hat" is its "mexh".

The frequency of a scale is that of the tone which answers strongest there, and depends on the normalisation: among the
rows of a scalogram, a tone of frequency f is largest in the row labelled f. With Psi(u) the answer of psi to a tone,
f s = argmax Psi(u) for L1 and argmax sqrt(u) Psi(u) for L2. For the Mexican hat these are sqrt(2) / (2 pi) = 0.2251
and sqrt(2.5) / (2 pi) = 0.2516; PyWavelets says 0.25 for both.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import InputError

__all__ = [
    "NORMALIZATIONS",
    "FilterBank",
    "Wavelet",
    "cone_of_influence",
    "filter_bank",
    "frequency_axis",
    "frequency_to_scale",
    "get_wavelet",
]

NORMALIZATIONS = ("L1", "L2")
# beyond this share of the sampling frequency the sampled kernel answers to a constant
MAX_FREQUENCY_SHARE = 1 / 3
_ALIASES = {"mexican_hat": "mexh", "ricker": "mexh", "morlet": "morl"}
# where the envelope has fallen to 1 / e, in units of the scale; cmorB-C: sqrt(B)
_E_FOLD = {"mexh": np.sqrt(2), "morl": np.sqrt(2), "gaus": 1.0, "cgau": 1.0}


@dataclass(frozen=True)
class Wavelet:
    """A wavelet of PyWavelets: ``name`` there, half its support and e-folding time in units of the scale."""

    name: str
    is_complex: bool
    half_support: float
    e_fold: float

    def sample(self, step: float, half_length: int) -> np.ndarray:
        """Values of psi at ``step * (-half_length ... half_length)``, float64 or complex128; 0 outside its support."""
        at = step * np.arange(-half_length, half_length + 1)
        return np.where(np.abs(at) <= self.half_support * (1 + 1e-12), _psi(self.name, at), 0)

    def spectrum(self, cycles: np.ndarray) -> np.ndarray:
        """Largest answer at scale 1 to tones of ``cycles`` per unit of time: |Psi(f)| + |Psi(-f)|."""
        half_length = 1024
        step = self.half_support / half_length
        at = np.arange(-half_length, half_length + 1) * step
        values = self.sample(step, half_length)
        phases = np.exp(-2j * np.pi * np.atleast_1d(cycles)[:, None] * at)
        return (np.abs(phases @ values) + np.abs(phases.conj() @ values)) * step


def _psi(name, at):
    """PyWavelets' functions, which it evaluates itself on grids of single precision only."""
    if name == "mexh":
        return 2 / (np.sqrt(3) * np.pi**0.25) * (1 - at**2) * np.exp(-(at**2) / 2)
    if name == "morl":
        return np.cos(5 * at) * np.exp(-(at**2) / 2)
    if name.startswith("cmor"):
        bandwidth, center = (float(x) for x in name.removeprefix("cmor").split("-"))
        return np.exp(2j * np.pi * center * at - at**2 / bandwidth) / np.sqrt(np.pi * bandwidth)
    # derivatives of exp(-t^2) and exp(-t^2 - i t), of unit energy
    is_complex = name.startswith("cgau")
    order = int(name.removeprefix("cgau" if is_complex else "gaus"))
    return _gaussian_derivative(at, order, is_complex)


def _gaussian_derivative(at, order, is_complex):
    from numpy.polynomial import Polynomial

    factor = Polynomial([-1j if is_complex else 0.0, -2.0])
    polynomial = Polynomial([1.0])
    for _ in range(order):
        polynomial = polynomial.deriv() + factor * polynomial
    grid = np.linspace(-8, 8, 16_001)
    # the trapezoid rule is exact here to rounding
    energy = np.sum(np.abs(polynomial(grid)) ** 2 * np.exp(-2 * grid**2)) * (grid[1] - grid[0])
    sign = -1.0 if not is_complex and order % 4 in (2, 3) else 1.0
    carrier = np.exp(-(at**2) - 1j * at) if is_complex else np.exp(-(at**2))
    return sign * polynomial(at) * carrier / np.sqrt(energy)


@lru_cache(maxsize=32)
def get_wavelet(name: str = "mexican_hat") -> Wavelet:
    """The wavelet called ``name``.

    Parameters
    ----------
    name : str, default: "mexican_hat"
        "mexican_hat" ("mexh", "ricker"), "morlet" ("morl": real), or PyWavelets' "gausP", "cgauP", "cmorB-C".

    Raises
    ------
    InputError
        For another name. Shannon and B-spline wavelets have no single peak, hence no frequency of their own.
    """
    import pywt

    name = _ALIASES.get(name, name)
    try:
        wavelet = pywt.ContinuousWavelet(name)
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"There is no wavelet {name!r}: give mexican_hat, morlet, gaus1-8, cgau1-8 or cmorB-C."
        ) from error
    if wavelet.short_family_name == "cmor":
        e_fold = np.sqrt(wavelet.bandwidth_frequency)
    else:
        e_fold = _E_FOLD.get(wavelet.short_family_name)
    if e_fold is None:
        raise InputError(f"The wavelet {name!r} has no single peak: give mexican_hat, morlet, gausP, cgauP or cmorB-C.")
    return Wavelet(name, bool(wavelet.complex_cwt), float(wavelet.upper_bound), float(e_fold))


@lru_cache(maxsize=64)
def _peak(name: str, normalization: str) -> float:
    """The product of frequency and scale where a tone answers strongest."""
    if name == "mexh":
        return float(np.sqrt(2.0 if normalization == "L1" else 2.5) / (2 * np.pi))
    wavelet, power = get_wavelet(name), 0.0 if normalization == "L1" else 0.5
    grid = np.linspace(0.01, 8.0, 800)
    best = grid[np.argmax(grid**power * wavelet.spectrum(grid))]
    for width in (1e-2, 4e-4, 2e-5, 1e-6):
        grid = np.linspace(best - width, best + width, 101)
        best = grid[np.argmax(grid**power * wavelet.spectrum(grid))]
    return float(best)


def frequency_to_scale(
    frequencies: np.ndarray, *, wavelet: str = "mexican_hat", normalization: str = "L1"
) -> np.ndarray:
    """Scales in seconds of frequencies in Hz (and, the same formula, frequencies of scales).

    Parameters
    ----------
    frequencies : array
        In Hz, above 0.
    wavelet : str, default: "mexican_hat"
        See :func:`get_wavelet`.
    normalization : "L1" | "L2", default: "L1"
        See the module.

    Returns
    -------
    float64 array

    Raises
    ------
    InputError
        On a frequency that is not above 0, or an unknown wavelet or normalisation.
    """
    if normalization not in NORMALIZATIONS:
        raise InputError(f"normalization is {normalization!r}: give one of {NORMALIZATIONS}.")
    frequencies = np.asarray(frequencies, dtype="float64")
    if not frequencies.size or not np.all(np.isfinite(frequencies) & (frequencies > 0)):
        raise InputError("Frequencies must be finite and above 0 Hz, and at least one.")
    return _peak(get_wavelet(wavelet).name, normalization) / frequencies


def frequency_axis(low: float = 20.0, high: float = 200.0, num: int = 48, spacing: str = "log") -> np.ndarray:
    """``num`` frequencies in Hz from ``low`` to ``high``, rising; ``spacing`` "log" (default) or "linear".

    Raises
    ------
    InputError
        Unless 0 < low < high (or low == high with num 1) and the spacing is known.
    """
    if spacing not in ("log", "linear"):
        raise InputError(f'spacing is {spacing!r}: give "log" or "linear".')
    if num < 1 or not 0 < low <= high or (low == high) != (num == 1):
        raise InputError(f"{num} frequencies from {low:g} to {high:g} Hz: give 0 < low < high and at least two.")
    return np.geomspace(low, high, num) if spacing == "log" else np.linspace(low, high, num)


def cone_of_influence(
    frequencies: np.ndarray,
    sampling_frequency: float,
    num_samples: int,
    *,
    wavelet: str = "mexican_hat",
    normalization: str = "L1",
) -> np.ndarray:
    """Where a scalogram owes little to the trace's ends: bool (num_frequencies, num_samples), True inside.

    A sample counts as inside when it is at least one e-folding time of the wavelet (Torrence and Compo 1998: sqrt(2)
    scales for the Mexican hat and Morlet) away from the first and the last sample.
    """
    scales = frequency_to_scale(frequencies, wavelet=wavelet, normalization=normalization)
    margin = np.atleast_1d(get_wavelet(wavelet).e_fold * scales)[:, None]
    at = np.arange(num_samples)
    return np.minimum(at, num_samples - 1 - at) / sampling_frequency >= margin


@dataclass(frozen=True, eq=False)
class FilterBank:
    """Frequency responses of all scales for traces of one length.

    Attributes
    ----------
    response : array, shape (num_frequencies, num_bins)
        conj(FFT) of the kernels, times norm(s) dt. Of ``rfft`` for a real wavelet (real numbers where it is symmetric),
        else of ``fft``. Read-only.
    num_fft, margin : int
        Length of the transforms; samples that a mirrored trace begins before its first one, 0 for one with zeros
        around it (behind it is enough: a transform goes round).
    is_complex : bool
        Whether coefficients are complex.
    """

    response: np.ndarray
    num_fft: int
    margin: int
    is_complex: bool


def filter_bank(
    frequencies: np.ndarray,
    sampling_frequency: float,
    num_samples: int,
    *,
    wavelet: str = "mexican_hat",
    normalization: str = "L1",
    mirrored: bool = True,
    dtype: str = "float32",
) -> FilterBank:
    """The filters that turn padded traces of ``num_samples`` into coefficients; the last 16 are kept.

    ``mirrored``: whether traces go on beyond both ends (default), or are 0 there.

    Raises
    ------
    InputError
        As :func:`frequency_to_scale`, and for a frequency above a third of the sampling frequency, where a sampled
        kernel is no wavelet any more.
    """
    frequencies = np.atleast_1d(np.asarray(frequencies, dtype="float64"))
    if frequencies.ndim != 1:
        raise InputError(f"Frequencies have shape {frequencies.shape}: give one axis.")
    frequency_to_scale(frequencies, wavelet=wavelet, normalization=normalization)
    if dtype not in ("float32", "float64"):
        raise InputError(f'dtype is {dtype!r}: give "float32" or "float64".')
    if not sampling_frequency > 0 or frequencies.max() > MAX_FREQUENCY_SHARE * sampling_frequency:
        raise InputError(
            f"The highest frequency is {frequencies.max():g} Hz at a sampling frequency of {sampling_frequency:g} Hz: "
            f"it must not exceed a third of that, {sampling_frequency * MAX_FREQUENCY_SHARE:g} Hz."
        )
    if num_samples < 1:
        raise InputError("The traces have no samples.")
    name = get_wavelet(wavelet).name
    return _filter_bank(
        tuple(frequencies), float(sampling_frequency), int(num_samples), name, normalization, bool(mirrored), dtype
    )


@lru_cache(maxsize=16)
def _filter_bank(frequencies, sampling_frequency, num_samples, name, normalization, mirrored, dtype):
    from scipy import fft

    wavelet = get_wavelet(name)
    scales = frequency_to_scale(np.array(frequencies), wavelet=name, normalization=normalization) * sampling_frequency
    halves = np.floor(wavelet.half_support * scales + 1e-9).astype(int)
    reach = int(halves.max())
    # a multiple of 8 takes up to a sixth less time than the next length of small factors
    num_fft = 8 * fft.next_fast_len(-(-(num_samples + reach * (2 if mirrored else 1)) // 8), real=True)
    response = None
    for row, (scale, half) in enumerate(zip(scales, halves, strict=True)):
        # norm(s) dt, with s in samples; L2 keeps seconds by the last factor
        norm = 1 / scale if normalization == "L1" else 1 / np.sqrt(scale * sampling_frequency)
        kernel = np.zeros(num_fft, dtype="complex128" if wavelet.is_complex else "float64")
        # index -1 is the sample before: the kernel wraps around
        kernel[np.arange(-half, half + 1)] = wavelet.sample(1 / scale, half) * norm
        one = np.conj(fft.fft(kernel)) if wavelet.is_complex else np.conj(fft.rfft(kernel))
        if response is None:
            symmetric = not wavelet.is_complex and np.abs(one.imag).max() <= 1e-12 * np.abs(one).max()
            kind = dtype if symmetric else {"float32": "complex64", "float64": "complex128"}[dtype]
            response = np.empty((len(scales), len(one)), dtype=kind)
        response[row] = one.real if symmetric else one
    response.flags.writeable = False
    return FilterBank(response, num_fft, reach if mirrored else 0, wavelet.is_complex)
