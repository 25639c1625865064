"""The transform of :mod:`~si_neuroml.celltypes.scalogram` in torch, on any device and with gradients."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .pooling import check_pooling
from .scalogram import BASELINE_SHARE, MAX_BYTES, batch_size, check_traces, image_frequencies, reflection
from .wavelets import FilterBank, filter_bank, frequency_axis

__all__ = ["torch_pool_scalogram", "torch_pooled_scalogram", "torch_scalogram"]


def torch_scalogram(
    traces: Tensor,
    sampling_frequency: float,
    *,
    frequencies: np.ndarray | None = None,
    wavelet: str = "mexican_hat",
    normalization: str = "L1",
    padding: str = "reflect",
    baseline: Tensor | float | None = None,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    """As :func:`~.scalogram.scalogram`: (..., num_samples) to (..., num_frequencies, num_samples).

    Arithmetic is in the type of the traces (float32 or float64), on their device. The settings and what they raise are
    those of :func:`~.scalogram.scalogram`.
    """
    bank, flat = _prepare(traces, sampling_frequency, frequencies, wavelet, normalization, padding, baseline)
    size = batch_size(bank, _name(traces), max_bytes)
    parts = [_coefficients(part, bank, padding) for part in flat.split(size)]
    return torch.cat(parts).reshape(*traces.shape[:-1], len(bank.response), traces.shape[-1])


def torch_pooled_scalogram(
    traces: Tensor,
    sampling_frequency: float,
    *,
    shape: tuple[int, int] = (48, 240),
    how: str = "max",
    frequencies: np.ndarray | None = None,
    wavelet: str = "mexican_hat",
    normalization: str = "L1",
    padding: str = "reflect",
    baseline: Tensor | float | None = None,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    """As :func:`~.scalogram.pooled_scalogram`: (..., num_samples) to images (..., *shape)."""
    check_pooling(shape, how)
    if frequencies is None:
        frequencies = image_frequencies(shape[0])
    bank, flat = _prepare(traces, sampling_frequency, frequencies, wavelet, normalization, padding, baseline)
    size = batch_size(bank, _name(traces), max_bytes)
    parts = [torch_pool_scalogram(_coefficients(part, bank, padding), shape, how) for part in flat.split(size)]
    return torch.cat(parts).reshape(*traces.shape[:-1], *shape)


def torch_pool_scalogram(coefficients: Tensor, shape: tuple[int, int] = (48, 240), how: str = "max") -> Tensor:
    """As :func:`~.pooling.pool_scalogram`: magnitude, then pooled to (..., *shape)."""
    check_pooling(shape, how)
    pool = functional.adaptive_max_pool2d if how == "max" else functional.adaptive_avg_pool2d
    magnitude = coefficients.abs()
    return pool(magnitude.reshape(-1, 1, *magnitude.shape[-2:]), shape).reshape(*magnitude.shape[:-2], *shape)


def _name(traces):
    return "float64" if traces.dtype == torch.float64 else "float32"


def _prepare(traces, sampling_frequency, frequencies, wavelet, normalization, padding, baseline):
    finite = bool(torch.isfinite(traces).all())
    check_traces(tuple(traces.shape), finite, padding, baseline)
    bank = filter_bank(
        frequency_axis() if frequencies is None else frequencies,
        sampling_frequency,
        traces.shape[-1],
        wavelet=wavelet,
        normalization=normalization,
        mirrored=padding == "reflect",
        dtype=_name(traces),
    )
    if padding == "baseline":
        level = _resting_level(traces) if baseline is None else torch.as_tensor(baseline).to(traces)
        traces = traces - level.expand(traces.shape[:-1])[..., None]
    return bank, traces.reshape(-1, traces.shape[-1])


def _resting_level(traces):
    size = max(1, round(BASELINE_SHARE * traces.shape[-1]))
    ends = torch.cat([traces[..., :size], traces[..., -size:]], dim=-1)
    # an even number of samples: torch's median would be the lower of the middle two
    middle = ends.sort(dim=-1).values[..., size - 1 : size + 1]
    return middle.mean(dim=-1)


@lru_cache(maxsize=16)
def _response(bank: FilterBank, device: torch.device) -> Tensor:
    return torch.tensor(bank.response, device=device)


def _coefficients(traces, bank, padding):
    num_samples = traces.shape[1]
    if padding == "reflect":
        level = traces.mean(dim=1, keepdim=True)
        mirrored = torch.as_tensor(reflection(num_samples, bank.margin), device=traces.device)
        padded = (traces - level)[:, mirrored]
    else:
        level = torch.zeros_like(traces[:, :1])
        padded = traces
    forward = torch.fft.fft if bank.is_complex else torch.fft.rfft
    spectra = forward(padded, bank.num_fft)
    constant = functional.pad(level * bank.num_fft, (0, spectra.shape[1] - 1))
    products = (spectra + constant)[:, None] * _response(bank, traces.device)
    inverse = torch.fft.ifft if bank.is_complex else torch.fft.irfft
    return inverse(products, bank.num_fft)[..., bank.margin : bank.margin + num_samples]
