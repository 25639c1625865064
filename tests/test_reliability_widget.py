"""The reliability plot: curves, shading, axes with units; and what it refuses."""

import matplotlib as mpl
import numpy as np
import pytest

import si_neuroml
from si_neuroml.calibration import reliability_curve
from si_neuroml.errors import InputError

mpl.use("Agg")
from matplotlib import pyplot as plt

RNG = np.random.default_rng(0)
UNIT = np.repeat(np.arange(20), 30)
LEVELS = {"calibrated": RNG.random(600), "too sure": RNG.random(600) ** 0.3}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def curve_of(widget, name):
    lines = [line for line in widget.ax.lines if line.get_label().startswith(f"{name} (off by")]
    assert len(lines) == 1
    return lines[0]


def test_curves_are_those_of_reliability_curve_in_percent():
    widget = si_neuroml.plot_reliability(LEVELS, UNIT, num=11)
    for name, levels in LEVELS.items():
        expected = reliability_curve(levels, 11, groups=UNIT)
        line = curve_of(widget, name)
        np.testing.assert_allclose(line.get_xdata(), 100 * expected.nominal)
        np.testing.assert_allclose(line.get_ydata(), 100 * expected.observed)
        np.testing.assert_array_equal(widget.curves[name].low, expected.low)
    # overconfidence lies below the diagonal
    below = curve_of(widget, "too sure")
    assert (below.get_ydata() < below.get_xdata())[1:-1].all()
    assert len({line.get_color() for line in widget.ax.lines}) == 3
    assert len(widget.ax.collections) == 2


def test_axes_carry_percent_and_the_interval_is_named():
    widget = si_neuroml.plot_reliability(LEVELS["calibrated"], confidence=0.9)
    assert widget.ax.get_xlabel() == "nominal coverage (%)"
    assert widget.ax.get_ylabel() == "observed coverage (%)"
    assert widget.ax.get_title() == "90 % intervals over spikes"
    assert curve_of(widget, "posterior")
    assert si_neuroml.plot_reliability(LEVELS, UNIT).ax.get_title() == "95 % intervals over units"


def test_methods_may_have_other_spikes_and_given_colours():
    groups = {"calibrated": UNIT, "few": UNIT[:40]}
    levels = {"calibrated": LEVELS["calibrated"], "few": LEVELS["calibrated"][:40]}
    widget = si_neuroml.plot_reliability(levels, groups, colors={"few": "red"})
    assert curve_of(widget, "few").get_color() == "red"
    assert (widget.curves["few"].num, widget.curves["few"].num_groups) == (40, 2)


def test_draws_on_given_axes():
    figure, ax = plt.subplots()
    widget = si_neuroml.plot_reliability(LEVELS, ax=ax)
    assert widget.ax is ax
    assert widget.figure is figure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "levels_by_name is empty"),
        (([],), "at least one case"),
        (([0.5, 2.0],), "1 of 2 levels"),
        (({"a": [0.5]}, {"b": [1]}), "groups has no entry for 'a'"),
        (({"a": [0.5]}, [1, 2]), "give one group each"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        si_neuroml.plot_reliability(*arguments)
