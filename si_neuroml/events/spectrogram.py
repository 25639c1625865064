"""Mel spectrogram of a voltage trace: the features of the support vector machine.

Pradeep, Agarwal and Advani (course report) name frames of 12 samples, a hop of 1 and 7 mel bands. What they leave open
is fixed here to the usual choices of audio software:

- the frame of sample t holds samples t - 6 to t + 5, times a periodic Hann window, sin^2(pi n / 12);
- its power is |DFT|^2 at the 7 frequencies 0, fs / 12, ..., fs / 2;
- the mel scale is that of Slaney (1998): 15 mel per kHz up to 1 kHz, then 27 mel per factor of 6.4;
- the bands are triangles whose 9 corners are evenly spaced in mel from 0 to fs / 2, each of height 2 / width;
- the feature is the logarithm of a band's power, see :class:`MelSpectrogram`.

At 3,328 Hz the frequencies are 277 Hz apart and every band holds one or two of them. The constant and the highest
frequency have no weight in any band, so that a constant added to the trace changes little.
"""

from dataclasses import dataclass

import numba
import numpy as np

from ..errors import InputError

__all__ = ["MelSpectrogram", "mel_filterbank"]

# of the mean power of the noise: less would spread out the smallest powers, which tell nothing
POWER_FLOOR = 0.1


@dataclass(frozen=True)
class MelSpectrogram:
    """Features of every sample: log power in mel bands of its frame and of the frames beside it.

    Parameters
    ----------
    sampling_frequency : float
        Samples per second.
    frame_length : int, default: 12
        Samples in a frame.
    num_bands : int, default: 7
        Mel bands.
    neighbours : int, default: 1
        Frames on either side whose bands are features too: 0 to 2 make the 7 to 35 features of the paper, 1 its
        best 21.
    """

    sampling_frequency: float
    frame_length: int = 12
    num_bands: int = 7
    neighbours: int = 1

    def __post_init__(self):
        if self.neighbours < 0:
            raise InputError(f"neighbours must be 0 or more, got {self.neighbours!r}.")
        filterbank = mel_filterbank(self.sampling_frequency, self.frame_length, self.num_bands)
        time = np.arange(self.frame_length)
        window = np.sin(np.pi * time / self.frame_length) ** 2
        phase = 2 * np.pi * np.outer(np.arange(filterbank.shape[1]), time) / self.frame_length
        # bands in units of what white noise of variance 1 has in them
        expected = filterbank.sum(axis=1) * (window**2).sum()
        object.__setattr__(self, "_waves", np.stack([window * np.cos(phase), window * np.sin(phase)], axis=-1))
        object.__setattr__(self, "_weights", filterbank / expected[:, None])

    @property
    def before(self) -> int:
        """Samples before a sample that its features depend on."""
        return self.frame_length // 2 + self.neighbours

    @property
    def after(self) -> int:
        """Samples after a sample that its features depend on."""
        return self.frame_length - self.frame_length // 2 - 1 + self.neighbours

    @property
    def num_features(self) -> int:
        """Bands times frames."""
        return self.num_bands * (2 * self.neighbours + 1)

    def features(self, x: np.ndarray) -> np.ndarray:
        """Features of one trace wherever they do not need samples beyond its ends.

        Parameters
        ----------
        x : array, shape (num_samples,)
            Conditioned trace, in units of the noise.

        Returns
        -------
        float64 array, shape (num_samples - before - after, num_features)
            Row k belongs to sample before + k: log(power + 0.1), with the power in units of the mean power of white
            noise of variance 1, for the bands of the earliest frame, then of the next one. The same bits wherever a
            trace is cut.
        """
        count = max(len(x) - self.before - self.after, 0)
        if not count:
            return np.zeros((0, self.num_features))
        bands = np.zeros((len(x) - self.frame_length + 1, self.num_bands))
        _band_powers(np.ascontiguousarray(x, dtype="float64"), self._waves, self._weights, bands)
        logs = np.log(bands + POWER_FLOOR)
        return np.concatenate([logs[k : k + count] for k in range(2 * self.neighbours + 1)], axis=1)


def mel_filterbank(sampling_frequency: float, frame_length: int = 12, num_bands: int = 7) -> np.ndarray:
    """Weights of the frequencies of a frame in every mel band.

    Parameters
    ----------
    sampling_frequency : float
        Samples per second.
    frame_length, num_bands : int, default: 12, 7
        Samples in a frame and number of bands.

    Returns
    -------
    float64 array, shape (num_bands, frame_length // 2 + 1)

    Raises
    ------
    InputError
        When numbers are out of range, or a band falls between two frequencies and would always be empty.
    """
    if not sampling_frequency > 0 or frame_length < 2 or num_bands < 1:
        text = "sampling_frequency must be above 0, frame_length at least 2, num_bands at least 1;"
        raise InputError(f"{text} got {sampling_frequency!r}, {frame_length!r} and {num_bands!r}.")
    frequencies = np.arange(frame_length // 2 + 1) * (sampling_frequency / frame_length)
    corners = _mel_to_hz(np.linspace(0.0, _hz_to_mel(sampling_frequency / 2), num_bands + 2))
    low, center, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = np.minimum((frequencies - low) / (center - low), (high - frequencies) / (high - center))
    filterbank = np.maximum(triangles, 0.0) * 2 / (high - low)
    empty = ~(filterbank > 0).any(axis=1)
    if empty.any():
        raise InputError(
            f"{empty.sum()} of {num_bands} mel bands hold none of the frequencies of a frame, which are "
            f"{sampling_frequency / frame_length:.0f} Hz apart. Take longer frames, fewer bands, or resample."
        )
    return filterbank


def _hz_to_mel(frequency):
    return 0.015 * frequency if frequency < 1000 else 15 + 27 * np.log(frequency / 1000) / np.log(6.4)


def _mel_to_hz(mel):
    return np.where(mel < 15, mel / 0.015, 1000 * np.exp(np.log(6.4) * (mel - 15) / 27))


@numba.njit(nogil=True)
def _band_powers(x, waves, weights, bands):
    num_frequencies, length = waves.shape[0], waves.shape[1]
    for t in range(len(bands)):
        for f in range(num_frequencies):
            real, imaginary = 0.0, 0.0
            for k in range(length):
                real += x[t + k] * waves[f, k, 0]
                imaginary += x[t + k] * waves[f, k, 1]
            power = real * real + imaginary * imaginary
            for band in range(bands.shape[1]):
                bands[t, band] += weights[band, f] * power
