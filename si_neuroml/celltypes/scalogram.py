"""Continuous wavelet transform of many traces at many frequencies: one FFT of each trace, one batched inverse FFT.

The result is the correlation with the sampled kernels of :mod:`~si_neuroml.celltypes.wavelets`, not an approximation
of it: PyWavelets integrates the wavelet on a fixed grid and misplaces its rows by up to half a sample, so its numbers
are about 5 % off at any precision. The same in torch, with gradients: :mod:`~si_neuroml.celltypes.torch_scalogram`.

Current-clamp traces lie at -70 mV: with zeros put around them their ends become steps that outshine the spikes.
By default traces are therefore continued by reflection; subtracting the resting potential first is the other way.
"""

import numpy as np

from ..errors import InputError
from .pooling import check_pooling, pool_scalogram
from .wavelets import FilterBank, filter_bank, frequency_axis

__all__ = ["PADDINGS", "pooled_scalogram", "scalogram"]

PADDINGS = ("reflect", "baseline", "zero")
# of one batch of coefficients; larger ones leave the processor's cache
MAX_BYTES = 16 * 2**20
# the resting level is the median of so large a share of the samples at either end
BASELINE_SHARE = 0.05


def scalogram(
    traces: np.ndarray,
    sampling_frequency: float,
    *,
    frequencies: np.ndarray | None = None,
    wavelet: str = "mexican_hat",
    normalization: str = "L1",
    padding: str = "reflect",
    baseline: np.ndarray | float | None = None,
    dtype: str = "float32",
    max_bytes: int = MAX_BYTES,
    num_threads: int = 1,
) -> np.ndarray:
    """Wavelet coefficients of traces.

    Parameters
    ----------
    traces : array, shape (..., num_samples)
        For example mV.
    sampling_frequency : float
        In Hz.
    frequencies : array, shape (num_frequencies,), optional
        In Hz, any order, up to a third of the sampling frequency. Default: 48 from 20 to 200 Hz, log-spaced
        (:func:`~.wavelets.frequency_axis`).
    wavelet : str, default: "mexican_hat"
        See :func:`~.wavelets.get_wavelet`.
    normalization : "L1" | "L2", default: "L1"
        L1: a tone of given amplitude answers equally at every frequency; L2: equal energy of the kernels. The frequency
        labels follow it.
    padding : "reflect" | "baseline" | "zero", default: "reflect"
        How traces go on beyond their ends: mirrored, at their baseline, at zero.
    baseline : float or array, shape (...,), optional
        For padding "baseline": what to subtract. Default: the median of the first and last 5 % of each trace.
    dtype : "float32" | "float64", default: "float32"
        Of all arithmetic.
    max_bytes : int, default: 16 MiB
        Memory of one batch, beside the result.
    num_threads : int, default: 1
        For the transforms.

    Returns
    -------
    array, shape (..., num_frequencies, num_samples)
        In ``dtype``, or its complex type for a complex wavelet.

    Raises
    ------
    InputError
        On traces that are empty or not finite, or a setting that is not possible.
    """
    flat, bank, leading = _prepare(
        traces, sampling_frequency, frequencies, wavelet, normalization, padding, baseline, dtype
    )
    batches = _batches(len(flat), bank, dtype, max_bytes)
    if len(batches) == 1:
        # a view without the padding: copying would take a fifth of the time
        out = _coefficients(flat, bank, padding, dtype, num_threads)
        return out.reshape(*leading, *out.shape[1:])
    kind = {"float32": "complex64", "float64": "complex128"}[dtype] if bank.is_complex else dtype
    out = np.empty((len(flat), len(bank.response), flat.shape[1]), dtype=kind)
    for batch in batches:
        out[batch] = _coefficients(flat[batch], bank, padding, dtype, num_threads)
    return out.reshape(*leading, *out.shape[1:])


def pooled_scalogram(
    traces: np.ndarray,
    sampling_frequency: float,
    *,
    shape: tuple[int, int] = (48, 240),
    how: str = "max",
    frequencies: np.ndarray | None = None,
    wavelet: str = "mexican_hat",
    normalization: str = "L1",
    padding: str = "reflect",
    baseline: np.ndarray | float | None = None,
    max_bytes: int = MAX_BYTES,
    num_threads: int = 1,
) -> np.ndarray:
    """``pool_scalogram(scalogram(...))``, batch by batch, so that only images are kept.

    Parameters
    ----------
    traces, sampling_frequency, frequencies, wavelet, normalization, padding, baseline, max_bytes, num_threads
        As for :func:`scalogram`. Default frequencies: ``shape[0]`` from 20 to 200 Hz, log-spaced.
    shape, how
        As for :func:`~.pooling.pool_scalogram`.

    Returns
    -------
    float32 array, shape (..., *shape)

    Raises
    ------
    InputError
        As :func:`scalogram` and :func:`~.pooling.pool_scalogram`.
    """
    check_pooling(shape, how)
    if frequencies is None:
        frequencies = image_frequencies(shape[0])
    flat, bank, leading = _prepare(
        traces, sampling_frequency, frequencies, wavelet, normalization, padding, baseline, "float32"
    )
    out = np.empty((len(flat), *shape), dtype="float32")
    for batch in _batches(len(flat), bank, "float32", max_bytes):
        out[batch] = pool_scalogram(_coefficients(flat[batch], bank, padding, "float32", num_threads), shape, how)
    return out.reshape(*leading, *shape)


def image_frequencies(num_rows: int) -> np.ndarray:
    """The default frequencies of an image of so many rows."""
    return frequency_axis(num=num_rows) if num_rows > 1 else np.array([np.sqrt(20.0 * 200.0)])


def _prepare(traces, sampling_frequency, frequencies, wavelet, normalization, padding, baseline, dtype):
    """Checked traces (num_traces, num_samples) in dtype without their level, filters, and the leading axes."""
    traces = np.asarray(traces)
    check_traces(traces.shape, bool(np.isfinite(traces).all()), padding, baseline)
    bank = filter_bank(
        frequency_axis() if frequencies is None else frequencies,
        sampling_frequency,
        traces.shape[-1],
        wavelet=wavelet,
        normalization=normalization,
        mirrored=padding == "reflect",
        dtype=dtype,
    )
    if padding == "baseline":
        level = resting_level(traces) if baseline is None else np.broadcast_to(baseline, traces.shape[:-1])
        traces = traces - level[..., None]
    return traces.reshape(-1, traces.shape[-1]), bank, traces.shape[:-1]


def check_traces(shape: tuple[int, ...], finite: bool, padding: str, baseline: object) -> None:
    """Raise InputError when traces of this shape cannot be transformed with this padding."""
    if not shape or 0 in shape:
        raise InputError(f"The traces have shape {tuple(shape)}: expected (..., num_samples), not empty.")
    if not finite:
        raise InputError("Traces hold NaN or infinite samples: cut or interpolate them before the transform.")
    if padding not in PADDINGS:
        raise InputError(f"padding is {padding!r}: give one of {PADDINGS}.")
    if baseline is not None and padding != "baseline":
        raise InputError(f'A baseline was given, but padding is {padding!r}: give padding="baseline".')


def resting_level(traces: np.ndarray) -> np.ndarray:
    """Median of the first and last 5 % of samples, shape (...,)."""
    size = max(1, round(BASELINE_SHARE * traces.shape[-1]))
    return np.median(np.concatenate([traces[..., :size], traces[..., -size:]], axis=-1), axis=-1)


def reflection(num_samples: int, margin: int) -> np.ndarray:
    """Which sample stands at each place of a trace that is mirrored ``margin`` samples beyond both ends."""
    return np.pad(np.arange(num_samples), margin, mode="reflect" if num_samples > 1 else "edge")


def batch_size(bank: FilterBank, dtype: str, max_bytes: int) -> int:
    """How many traces at once: their spectra and coefficients, complex and real, within ``max_bytes``."""
    item = np.dtype(dtype).itemsize * (4 if bank.is_complex else 2)
    return max(1, int(max_bytes // (len(bank.response) * bank.num_fft * item)))


def _batches(num_traces, bank, dtype, max_bytes):
    size = batch_size(bank, dtype, max_bytes)
    return [slice(start, start + size) for start in range(0, num_traces, size)]


def _coefficients(traces, bank, padding, dtype, num_threads):
    """(num_traces, num_frequencies, num_samples)."""
    from scipy import fft

    num_samples = traces.shape[1]
    # a constant is taken off before rounding to dtype, and put back as the first bin of the spectrum
    level = traces.mean(axis=1, dtype="float64") if padding == "reflect" else np.zeros(len(traces))
    centered = (traces - level[:, None]).astype(dtype)
    if padding == "reflect":
        centered = centered[:, reflection(num_samples, bank.margin)]
    forward, inverse = (fft.fft, fft.ifft) if bank.is_complex else (fft.rfft, fft.irfft)
    spectra = forward(centered, bank.num_fft, axis=-1, workers=num_threads)
    spectra[:, 0] += (level * bank.num_fft).astype(dtype)
    products = spectra[:, None] * bank.response
    coefficients = inverse(products, bank.num_fft, axis=-1, workers=num_threads, overwrite_x=True)
    return coefficients[..., bank.margin : bank.margin + num_samples]
