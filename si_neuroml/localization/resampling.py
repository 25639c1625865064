"""Waveforms of any sampling rate in the time base of a model: band-limited interpolation as one matrix."""

import numpy as np

from ..errors import ModelMismatchError

__all__ = ["ResampledWindow", "resampled_window"]

# half width of the windowed sinc, in samples of the recording
LANCZOS_SIZE = 8
SLOWEST_HZ, FASTEST_HZ = 15_000.0, 100_000.0


class ResampledWindow:
    """A window around a spike at the recording's rate, and the matrix that brings it to the model's.

    Attributes
    ----------
    nbefore, nafter : int
        Samples of the recording before and after the spike; the window is [sample - nbefore, sample + nafter).
    matrix : float32 array, shape (nbefore + nafter, num_model_samples)
        ``window @ matrix`` are the values at the model's times.
    """

    def __init__(self, nbefore: int, nafter: int, matrix: np.ndarray):
        self.nbefore, self.nafter, self.matrix = nbefore, nafter, matrix


def resampled_window(
    sampling_frequency: float, model_frequency: float, model_nbefore: int, model_nafter: int
) -> ResampledWindow:
    """The window of a recording that a model needs.

    The value at time t is sum_k x_k sinc(t - k) sinc((t - k) / a), a = 8, times in samples of the recording (Lanczos).
    A recording slower than the model has nothing to add above its own Nyquist frequency; of a faster one, what lies
    above the model's is expected to be filtered out, as spikes are below 6 to 8 kHz.

    Parameters
    ----------
    sampling_frequency, model_frequency : float
        Of the recording and of the model, in Hz.
    model_nbefore, model_nafter : int
        Window of the model in its own samples.

    Returns
    -------
    ResampledWindow

    Raises
    ------
    ModelMismatchError
        When the recording's rate is too low to show a spike, or not one of spikes at all.
    """
    if not SLOWEST_HZ <= sampling_frequency <= FASTEST_HZ:
        raise ModelMismatchError(
            f"The recording has {sampling_frequency:g} Hz; this model reads spikes at {SLOWEST_HZ:g} to "
            f"{FASTEST_HZ:g} Hz. Check the sampling rate, or resample the recording."
        )
    if sampling_frequency == model_frequency:
        return ResampledWindow(model_nbefore, model_nafter, np.eye(model_nbefore + model_nafter, dtype="float32"))
    times = np.arange(-model_nbefore, model_nafter) * (sampling_frequency / model_frequency)
    nbefore = int(np.ceil(-times[0])) + LANCZOS_SIZE
    nafter = int(np.ceil(times[-1])) + LANCZOS_SIZE + 1
    distance = times[None, :] - np.arange(-nbefore, nafter)[:, None]
    matrix = np.sinc(distance) * np.sinc(distance / LANCZOS_SIZE) * (np.abs(distance) < LANCZOS_SIZE)
    # a constant stays a constant
    matrix /= matrix.sum(axis=0)
    return ResampledWindow(nbefore, nafter, matrix.astype("float32"))
