"""Does a posterior keep its promises: nominal against observed coverage, one curve per method, with intervals."""

from collections.abc import Mapping

import numpy as np
from spikeinterface.widgets.base import BaseWidget, to_attr

from ..calibration import calibration_error, reliability_curve
from ..errors import InputError

__all__ = ["ReliabilityWidget", "plot_reliability"]


class ReliabilityWidget(BaseWidget):
    """Plot how often posterior regions hold the truth against how often they say they do.

    On the diagonal a posterior is calibrated; below it, it is too sure of itself, above it too careful.

    Parameters
    ----------
    levels_by_name : dict of {str: array} or array
        For each method the probability content of the smallest region that holds the truth, shape (num_spikes,), as
        from :func:`si_neuroml.localization.posterior.region_levels`; an array is one method.
    groups : int array or dict of {str: array}, optional
        Unit of each spike, shape (num_spikes,), for all methods or for each. The spikes of a unit share a part of their
        error: with groups the shaded interval comes from resampling whole units. Default: spikes are independent.
    num : int, default: 41
        Points of a curve.
    confidence : float, default: 0.95
        Of the shaded interval, at each point by itself.
    colors : dict, optional
        Colour of each method. Default: matplotlib's cycle.
    num_resamples : int, default: 1000
        Of the bootstrap.
    seed : int, default: 0
        Of the bootstrap.
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``ax``, ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, ax
        What was drawn on, as in SpikeInterface's widgets.
    curves : dict of {str: Coverage}
        What was drawn.

    Raises
    ------
    InputError
        When there are no levels, some lie outside [0, 1], or groups do not belong to them.
    """

    def __init__(
        self,
        levels_by_name: Mapping[str, np.ndarray] | np.ndarray,
        groups: np.ndarray | Mapping[str, np.ndarray] | None = None,
        *,
        num: int = 41,
        confidence: float = 0.95,
        colors: Mapping[str, object] | None = None,
        num_resamples: int = 1000,
        seed: int = 0,
        backend: str | None = None,
        **backend_kwargs,
    ):
        if not isinstance(levels_by_name, Mapping):
            levels_by_name = {"posterior": levels_by_name}
        if not levels_by_name:
            raise InputError("levels_by_name is empty: give the levels of at least one method.")
        levels = {str(name): np.asarray(found) for name, found in levels_by_name.items()}
        options = {"num": num, "confidence": confidence, "num_resamples": num_resamples, "seed": seed}
        self.curves = {
            name: reliability_curve(found, groups=_groups_of(name, groups), **options) for name, found in levels.items()
        }
        data_plot = {
            "curves": self.curves,
            "errors": {name: calibration_error(found) for name, found in levels.items()},
            "colors": _colors(list(levels), colors),
            "confidence": confidence,
            "unit_name": "spikes" if groups is None else "units",
        }
        BaseWidget.__init__(self, data_plot, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        from spikeinterface.widgets.utils_matplotlib import make_mpl_figure

        dp = to_attr(data_plot)
        own_figure = all(backend_kwargs[name] is None for name in ("figure", "ax", "axes"))
        if own_figure and backend_kwargs["figsize"] is None:
            backend_kwargs["figsize"] = (4.6, 5.2)
        self.figure, self.axes, self.ax = make_mpl_figure(**backend_kwargs)
        if own_figure:
            self.figure.set_layout_engine("constrained")
        ax = self.ax
        ax.plot([0, 100], [0, 100], color="0.5", ls="--", lw=1, zorder=1, label="calibrated")
        for name, curve in dp.curves.items():
            color, percent = dp.colors[name], 100 * curve.nominal
            ax.fill_between(percent, 100 * curve.low, 100 * curve.high, color=color, alpha=0.18, lw=0, zorder=2)
            label = f"{name} (off by {100 * dp.errors[name]:.0f} points)"
            ax.plot(percent, 100 * curve.observed, color=color, lw=1.8, zorder=3, label=label)
        ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        ax.set_xlabel("nominal coverage (%)")
        ax.set_ylabel("observed coverage (%)")
        ax.set_title(f"{100 * dp.confidence:g} % intervals over {dp.unit_name}", fontsize="medium")
        ax.spines[["top", "right"]].set_visible(False)
        # below the axes: a curve may run anywhere in them
        ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14))


plot_reliability = ReliabilityWidget


def _groups_of(name, groups):
    if not isinstance(groups, Mapping):
        return groups
    if name not in groups:
        raise InputError(f"groups has no entry for {name!r}, only for {sorted(map(str, groups))}.")
    return groups[name]


def _colors(names, given):
    # matplotlib's own order, so that a method keeps its colour from plot to plot
    return {**{name: f"C{index}" for index, name in enumerate(names)}, **(given or {})}
