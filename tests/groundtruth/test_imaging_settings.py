"""Settings are ranges that values are drawn from."""

import numpy as np
import pytest

from si_neuroml.errors import InputError
from si_neuroml.groundtruth import (
    DendriteSettings,
    ImagingSettings,
    IndicatorSettings,
    MembraneSettings,
    MotionSettings,
)


def test_settings_are_drawn_within_their_ranges():
    settings = MembraneSettings(ap_peak_mv=20.0, firing_rate_hz=(1.0, 4.0))
    draws = [settings.draw(np.random.default_rng(seed)) for seed in range(200)]
    rates = np.array([draw["firing_rate_hz"] for draw in draws])
    assert {draw["ap_peak_mv"] for draw in draws} == {20.0}
    assert rates.min() >= 1
    assert rates.max() <= 4
    assert np.median(rates) == pytest.approx(2.0, rel=0.15)  # even on a log scale
    other = MembraneSettings(firing_rate_hz=(1.0, 4.0)).draw(np.random.default_rng(7))
    assert {name for name in other if other[name] != draws[7][name]} == {"ap_peak_mv"}


@pytest.mark.parametrize("value", [(-1.0, 3.0), (4.0, 1.0), (1.0, 51.0), np.nan, (1.0, 2.0, 3.0), "fast", None])
def test_bad_ranges_are_refused(value):
    with pytest.raises(InputError, match=r"MembraneSettings.firing_rate_hz must be .* within 0 to 50"):
        MembraneSettings(firing_rate_hz=value)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (IndicatorSettings, {"on_ms": -1.0}, r"IndicatorSettings.on_ms .* within 0.01 to 100, got -1.0"),
        (ImagingSettings, {"photons_per_sample": (500.0, 400.0)}, r"got \(500.0, 400.0\)"),
        (DendriteSettings, {"conduction_speed_um_per_ms": 0.0}, "within 10 to 1e\\+06, got 0.0"),
        (MotionSettings, {"pulsation_hz": np.inf}, "got inf"),
    ],
)
def test_bad_settings_are_refused(settings, options, message):
    with pytest.raises(InputError, match=message):
        settings(**options)
