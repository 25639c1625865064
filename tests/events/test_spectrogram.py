"""The mel spectrogram against sums written out from its definition."""

import cmath
import math

import numpy as np
import pytest

from si_neuroml.errors import InputError
from si_neuroml.events.spectrogram import MelSpectrogram, mel_filterbank

FS = 3328.0


def hz(mel):
    return 200 / 3 * mel if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def band_powers(frame, fs, num_bands=7):
    """Power of one frame in mel bands, by explicit sums."""
    length = len(frame)
    powers = []
    for j in range(length // 2 + 1):
        total = sum(
            value * (0.5 - 0.5 * math.cos(2 * math.pi * n / length)) * cmath.exp(-2j * math.pi * j * n / length)
            for n, value in enumerate(frame)
        )
        powers.append(abs(total) ** 2)
    top = 15 + 27 * math.log(fs / 2 / 1000, 6.4) if fs > 2000 else 3 * fs / 2 / 200
    corners = [hz(top * k / (num_bands + 1)) for k in range(num_bands + 2)]
    bands = []
    for low, center, high in zip(corners, corners[1:], corners[2:], strict=False):
        total = norm = 0.0
        for j, power in enumerate(powers):
            f = j * fs / length
            rise = (f - low) / (center - low) if low <= f <= center else 0.0
            fall = (high - f) / (high - center) if center < f <= high else 0.0
            total += (rise + fall) * 2 / (high - low) * power
            norm += (rise + fall) * 2 / (high - low)
        bands.append(total / norm / sum((0.5 - 0.5 * math.cos(2 * math.pi * n / length)) ** 2 for n in range(length)))
    return bands


@pytest.mark.parametrize(("fs", "neighbours"), [(FS, 0), (FS, 1), (FS, 2), (500.0, 1)])
def test_features_agree_with_explicit_sums(fs, neighbours):
    x = np.random.default_rng(0).normal(size=40)
    spectrogram = MelSpectrogram(fs, neighbours=neighbours)
    assert (spectrogram.before, spectrogram.after) == (6 + neighbours, 5 + neighbours)
    found = spectrogram.features(x)
    assert found.shape == (40 - 11 - 2 * neighbours, 7 * (2 * neighbours + 1))
    assert spectrogram.num_features == found.shape[1]
    for row, t in zip(found, range(spectrogram.before, 40), strict=False):
        frames = [x[t + k - 6 : t + k + 6] for k in range(-neighbours, neighbours + 1)]
        expected = [math.log(power + 0.1) for frame in frames for power in band_powers(frame, fs)]
        np.testing.assert_allclose(row, expected, atol=1e-9)


def test_same_bits_however_the_trace_is_cut():
    spectrogram = MelSpectrogram(FS)
    x = np.random.default_rng(1).normal(size=1000)
    whole = spectrogram.features(x)
    for start, stop in ((0, 20), (1, 15), (7, 500), (333, 1000), (400, 414)):
        part = spectrogram.features(x[start : stop + spectrogram.before + spectrogram.after])
        np.testing.assert_array_equal(part, whole[start:stop][: len(part)])
        assert len(part) == min(stop, len(whole)) - start


def test_white_noise_has_power_one_in_every_band():
    x = np.random.default_rng(2).normal(size=100_000)
    power = np.exp(MelSpectrogram(FS, neighbours=0).features(x)) - 0.1
    np.testing.assert_allclose(power.mean(axis=0), 1.0, atol=0.05)


def test_a_tone_is_strongest_in_its_band_and_a_constant_in_none():
    time = np.arange(200) / FS
    tones = [MelSpectrogram(FS, neighbours=0).features(np.sin(2 * np.pi * f * time)) for f in (277, 832, 1387)]
    assert [int(tone.mean(axis=0).argmax()) for tone in tones] == [0, 3, 6]
    spectrogram = MelSpectrogram(FS, neighbours=0)
    # a periodic Hann window leaks a constant into the first frequency and no other
    flat, silent = spectrogram.features(np.full(50, 3.0)), spectrogram.features(np.zeros(50))
    np.testing.assert_allclose(flat[:, 2:], silent[:, 2:], atol=1e-9)


def test_sign_of_the_trace_is_lost():
    x = np.random.default_rng(3).normal(size=100)
    np.testing.assert_array_equal(MelSpectrogram(FS).features(x), MelSpectrogram(FS).features(-x))


def test_bands_at_the_rate_of_the_paper():
    bank = mel_filterbank(FS)
    assert bank.shape == (7, 7)
    np.testing.assert_array_equal((bank > 0).sum(axis=1), [1, 2, 1, 1, 2, 1, 1])
    assert (bank[:, [0, 6]] == 0).all()


@pytest.mark.parametrize("num_samples", [0, 5, 13])
def test_too_short_for_a_frame(num_samples):
    assert MelSpectrogram(FS).features(np.zeros(num_samples)).shape == (0, 21)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sampling_frequency": 30_000.0}, "hold none of the frequencies"),
        ({"sampling_frequency": 0.0}, "above 0"),
        ({"sampling_frequency": FS, "frame_length": 1}, "at least 2"),
        ({"sampling_frequency": FS, "neighbours": -1}, "neighbours"),
    ],
)
def test_odd_settings_are_refused(kwargs, message):
    with pytest.raises(InputError, match=message):
        MelSpectrogram(**kwargs)
