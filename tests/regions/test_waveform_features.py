"""Waveforms with known widths, sizes and spreads, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.regions.waveform_features import WAVEFORM_FEATURE_NAMES, waveform_features

RATE = 30_000.0
# two columns of contacts, 20 um apart
PLACES = np.stack(np.meshgrid([0.0, 32.0], 20.0 * np.arange(12), indexing="ij"), axis=-1).reshape(-1, 2)


def waveform(rate=RATE, trough_ms=1.0, peak_ms=1.437, depth=-80.0, height=30.0, before=0.0):
    """A trough and a later peak, both round, and one before the trough; 3 ms of it."""
    t = np.arange(round(0.003 * rate)) / rate * 1000

    def bump(at, width):
        return np.exp(-0.5 * ((t - at) / width) ** 2)

    return depth * bump(trough_ms, 0.08) + height * bump(peak_ms, 0.1) + before * bump(trough_ms - 0.4, 0.08)


def template_at(center, reach=40.0, **kwargs):
    """(1, num_samples, num_channels), falling off from a place."""
    size = np.exp(-np.linalg.norm(PLACES - np.asarray(center), axis=1) / reach)
    return (waveform(**kwargs)[:, None] * size)[None]


def named(templates, places=PLACES, rate=RATE):
    features, names = waveform_features(templates, places, rate)
    assert names == WAVEFORM_FEATURE_NAMES
    assert features.dtype == np.float32
    return {name.removeprefix("waveform_"): features[:, k] for k, name in enumerate(names)}


def test_width_lies_between_samples():
    # extrema 0.437 ms apart, but for what the two bumps do to each other
    t = np.arange(0, 3, 1e-5)
    fine = waveform(rate=1e8)[: len(t)]
    expected = (fine[fine.argmin() :].argmax()) / 1e5
    for rate in (30_000.0, 20_000.0, 60_000.0):
        found = named(template_at(PLACES[5], rate=rate), rate=rate)["width_ms"][0]
        assert found == pytest.approx(expected, abs=0.004), rate
        assert abs(expected * rate / 1000 - round(expected * rate / 1000)) > 0.05


def test_amplitude_is_peak_to_peak_on_the_main_channel():
    found = named(template_at(PLACES[5]))
    assert found["amplitude_uv"][0] == pytest.approx(np.ptp(waveform()), rel=1e-6)


def test_asymmetry_compares_the_peaks_after_and_before():
    late, early, none = (named(template_at(PLACES[5], height=h, before=b)) for h, b in ((30, 10), (10, 30), (20, 20)))
    assert late["asymmetry"][0] == pytest.approx(0.5, abs=0.03)
    assert early["asymmetry"][0] == pytest.approx(-0.5, abs=0.03)
    assert none["asymmetry"][0] == pytest.approx(0.0, abs=0.03)
    assert named(template_at(PLACES[5], depth=-10, height=0, before=80))["asymmetry"][0] < -0.9


@given(
    scale=st.floats(0.1, 20.0),
    shift=st.tuples(st.floats(-900, 900), st.floats(-900, 900)),
    angle=st.floats(0, 6.3),
    order=st.permutations(range(len(PLACES))),
)
@settings(max_examples=40, deadline=None)
def test_place_order_and_scale_do_not_matter(scale, shift, angle, order):
    template = template_at((10.0, 90.0), before=8.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    one = named(template)
    two = named(scale * template[:, :, order], (PLACES @ turn.T + shift)[order])
    for name in one:
        expected = one[name] * (scale if name == "amplitude_uv" else 1.0)
        np.testing.assert_allclose(two[name], expected, rtol=1e-4, err_msg=name)


def test_spread_of_known_sizes():
    def spread(sizes, places):
        return named(np.asarray(sizes) * waveform()[None, :, None], np.array(places, dtype=float))["spread_um"][0]

    assert spread([1.0], [[3.0, 4.0]]) == 0.0
    assert spread([1.0, 1.0], [[0, 0], [0, 50]]) == pytest.approx(25.0)
    # 2:1, so the centre is a third of the way
    assert spread([1.0, 0.5], [[0, 0], [0, 30]]) == pytest.approx(np.sqrt((2 * 10**2 + 20**2) / 3))
    assert spread([1.0, 1.0], [[0, 0, 0], [30, 40, 120]]) == pytest.approx(65.0)
    # a fifth counts, less does not
    assert spread([1.0, 0.19], [[0, 0], [0, 50]]) == 0.0
    assert spread([1.0, 0.21], [[0, 0], [0, 50]]) > 0.0


def test_wide_units_spread_more_and_distant_noise_adds_nothing():
    narrow, wide = (named(template_at((16.0, 110.0), reach=reach))["spread_um"][0] for reach in (20.0, 60.0))
    assert wide > 1.5 * narrow
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1.0, (1, 90, 300))
    far = np.column_stack([np.zeros(300), 3000.0 + 20.0 * np.arange(300)])
    with_noise = named(np.concatenate([template_at((16.0, 110.0), reach=20.0), noise], axis=2), np.r_[PLACES, far])
    assert with_noise["spread_um"][0] == pytest.approx(narrow, abs=1e-4)


def test_channels_that_are_not_seen_are_left_out():
    template = template_at((10.0, 90.0))
    seen = np.abs(template[0]).max(axis=0) > 12.0
    assert 0 < seen.sum() < len(PLACES)
    sparse = np.where(seen, template, np.nan)
    zeros = np.where(seen, template, 0.0)
    cut = named(template[:, :, seen], PLACES[seen])
    for name, value in cut.items():
        np.testing.assert_allclose(named(sparse)[name], value, err_msg=name)
        np.testing.assert_allclose(named(zeros)[name], value, err_msg=name)


def test_what_is_not_defined_is_nan():
    num_samples, num_channels = 90, len(PLACES)
    templates = np.zeros((4, num_samples, num_channels))
    templates[1] = np.nan
    templates[2, -1, 3] = -50.0
    templates[3, 0, 3] = -50.0
    features = waveform_features(templates, PLACES, RATE)[0]
    assert np.isnan(features[:2]).all()
    # trough at the end: neither width nor asymmetry; trough at the start: no asymmetry
    assert np.isnan(features[2]).tolist() == [True, True, False, False]
    assert np.isnan(features[3]).tolist() == [False, True, False, False]
    assert waveform_features(np.zeros((0, 90, num_channels)), PLACES, RATE)[0].shape == (0, 4)


@pytest.mark.parametrize(
    ("templates", "places", "rate", "message"),
    [
        (np.zeros((2, 90)), PLACES, RATE, "must have shape"),
        (np.zeros((2, 90, 3)), PLACES, RATE, "must have shape"),
        (np.zeros((2, 90, 24)), PLACES, 0.0, "sampling_frequency"),
        (np.zeros((2, 90, 24)), PLACES * np.nan, RATE, "48 coordinates"),
    ],
)
def test_refuses_what_does_not_fit(templates, places, rate, message):
    with pytest.raises(InputError, match=message):
        waveform_features(templates, places, rate)
