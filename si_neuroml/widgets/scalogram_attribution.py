"""What a network looks at in the scalograms of each type of cell: image and attribution side by side, in Hz and ms."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from spikeinterface.widgets.base import BaseWidget, to_attr

from ..errors import InputError

if TYPE_CHECKING:
    from ..celltypes.explain import ImageAttribution

__all__ = ["ScalogramAttributionWidget", "plot_scalogram_attribution"]

PANEL_IN = (2.6, 1.7)
# of the colour bar, with sign and without
SAYS = {True: "adds to the logit", False: "gradient of the logit"}


class ScalogramAttributionWidget(BaseWidget):
    """Plot images and attributions of each type: one row per type, and for each sweep the image and what it says.

    Parameters
    ----------
    explained : ImageAttribution
        From :func:`si_neuroml.celltypes.explain.explain_images`.
    targets : sequence of str, optional
        Types to draw, in this order. Default: all that are explained.
    cells : {"mean", "example"}, default: "mean"
        The mean over the cells of a type, or the one cell whose image is nearest to their mean image.
    channel_names : sequence of str, optional
        Of the sweeps, such as ("rheobase", "+40 pA"). Default: numbers.
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``axes``, ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, ax
        What was drawn on, as in SpikeInterface's widgets.
    panels : dict of {str: dict of {str: list of Axes}}
        Of each type the axes "image" and "attribution", one per sweep.

    Raises
    ------
    InputError
        On types that are not explained, or names that do not fit the sweeps.
    """

    def __init__(
        self,
        explained: "ImageAttribution",
        targets: Sequence[str] | None = None,
        *,
        cells: str = "mean",
        channel_names: Sequence[str] | None = None,
        backend: str | None = None,
        **backend_kwargs,
    ):
        there, num_channels = np.unique(explained.target).tolist(), explained.images.shape[1]
        targets = there if targets is None else list(targets)
        names = [f"sweep {k}" for k in range(num_channels)] if channel_names is None else list(channel_names)
        strange = [name for name in targets if name not in there]
        if strange or not targets:
            raise InputError(f"No cell is explained as {strange or targets}; there are {there}.")
        if cells not in ("mean", "example") or len(names) != num_channels:
            raise InputError(
                f'cells must be "mean" or "example", got {cells!r}; and {num_channels} sweeps need a name each, got '
                f"{names!r}."
            )
        data_plot = {
            "shown": {name: _shown(explained, name, cells) for name in targets},
            "edges": (_edges(explained.times_ms), _edges(explained.frequencies_hz, geometric=True)),
            "names": names,
            "signed": explained.method != "saliency",
        }
        ncols = 2 * num_channels
        figsize = (PANEL_IN[0] * ncols + 1.8, PANEL_IN[1] * len(targets) + 0.6)
        given = {"ncols": ncols, "figsize": None if "figure" in backend_kwargs else figsize, **backend_kwargs}
        BaseWidget.__init__(self, data_plot, backend=backend, **given)

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        from spikeinterface.widgets.utils_matplotlib import make_mpl_figure

        dp = to_attr(data_plot)
        shown, num_channels = data_plot["shown"], len(dp.names)
        own_figure = all(backend_kwargs[name] is None for name in ("figure", "ax", "axes"))
        self.figure, self.axes, self.ax = make_mpl_figure(num_axes=2 * num_channels * len(shown), **backend_kwargs)
        if own_figure:
            self.figure.set_layout_engine("constrained")
        grid = np.asarray(self.axes).ravel()[: 2 * num_channels * len(shown)].reshape(len(shown), num_channels, 2)
        self.panels = {}
        for row, (target, (images, attribution, count)) in enumerate(shown.items()):
            self.panels[target] = {"image": list(grid[row, :, 0]), "attribution": list(grid[row, :, 1])}
            # one colour scale for the sweeps of a type, so that they can be compared
            most = float(np.abs(attribution).max()) or 1.0
            look = {"vmin": -most, "vmax": most, "cmap": "RdBu_r"} if dp.signed else {"vmin": 0, "vmax": most}
            for channel, name in enumerate(dp.names):
                first, second = grid[row, channel]
                of_image = {"vmin": 0, "vmax": float(images.max()) or 1.0, "cmap": "magma"}
                drawn = self._draw(first, images[channel], of_image), self._draw(second, attribution[channel], look)
                if row == 0:
                    first.set_title(name, fontsize="medium")
                    second.set_title(f"{name}: attribution", fontsize="medium")
            grid[row, 0, 0].set_ylabel(f"{target} ({count})\nfrequency (Hz)")
            for mesh, label in zip(drawn, ("image", SAYS[dp.signed]), strict=True):
                self.figure.colorbar(mesh, ax=grid[row].ravel().tolist(), label=label, pad=0.01, aspect=12)
        for ax in grid[-1].ravel():
            ax.set_xlabel("time from onset (ms)")
        for ax in (*grid[:, 0, 1], *grid[:, 1:].ravel()):
            ax.tick_params(labelleft=False)
        for ax in grid[:-1].ravel():
            ax.tick_params(labelbottom=False)

    def _draw(self, ax, values, look):
        from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

        times, frequencies = self.data_plot["edges"]
        mesh = ax.pcolormesh(times, frequencies, values, rasterized=True, **look)
        if (frequencies > 0).all():
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(ScalarFormatter())
            ax.yaxis.set_minor_formatter(NullFormatter())
        return mesh


plot_scalogram_attribution = ScalogramAttributionWidget


def _shown(explained, target, cells):
    """Image, attribution and number of cells of a type."""
    own = np.flatnonzero(explained.target == target)
    images, attribution = explained.images[own], explained.attribution[own]
    if cells == "mean":
        return images.mean(axis=0, dtype="float64"), explained.mean(target), len(own)
    off = ((images - images.mean(axis=0)) ** 2).sum(axis=(1, 2, 3))
    return images[off.argmin()], attribution[off.argmin()], 1


def _edges(centers, *, geometric=False):
    """Borders between pixels, half-way between their centres."""
    if len(centers) < 2:
        return np.array([centers[0] - 0.5, centers[0] + 0.5])
    geometric = geometric and (centers > 0).all()
    places = np.log(centers) if geometric else centers
    middle = (places[1:] + places[:-1]) / 2
    edges = np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])
    return np.exp(edges) if geometric else edges
