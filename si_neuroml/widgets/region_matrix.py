"""Regions against regions as an image: how alike their responses are, or how far their features differ."""

from typing import TYPE_CHECKING

import numpy as np
from spikeinterface.widgets.base import BaseWidget, to_attr

from ..errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RegionMatrixWidget", "plot_region_matrix"]


class RegionMatrixWidget(BaseWidget):
    """Plot a square table of regions by regions: correlations, dissimilarities or p-values.

    Parameters
    ----------
    matrix : DataFrame, shape (num_regions, num_regions)
        As from :func:`~si_neuroml.regions.exploration.response_correlation`,
        :func:`~si_neuroml.regions.dissimilarity.dissimilarity_matrix` or ``omnibus_dissimilarity``.
    marked : DataFrame of bool, optional
        Cells to mark with a star, such as ``dissimilarity_matrix(tests, feature, "p_adjusted") < 0.05``.
    label : str, default: ""
        Of the colours.
    title : str, default: ""
        Above the plot.
    limits : tuple of float, optional
        Values at the ends of the colours. Default: those of the table, even about 0 where it has values below.
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``ax``, ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, ax, image
        What was drawn on, as in SpikeInterface's widgets, and the image.

    Raises
    ------
    InputError
        When the table is not square, or `marked` does not fit it.
    """

    def __init__(
        self,
        matrix: "pd.DataFrame",
        marked: "pd.DataFrame | None" = None,
        *,
        label: str = "",
        title: str = "",
        limits: tuple[float, float] | None = None,
        backend: str | None = None,
        **backend_kwargs,
    ):
        if list(matrix.index) != list(matrix.columns) or not len(matrix):
            raise InputError(
                f"matrix must have the same regions as rows and columns, got shape {matrix.shape} with rows "
                f"{list(matrix.index)[:5]} and columns {list(matrix.columns)[:5]}."
            )
        if marked is not None and (list(marked.index), list(marked.columns)) != (list(matrix.index),) * 2:
            raise InputError(f"marked must have the regions of matrix, {list(matrix.index)[:5]}, in the same order.")
        values = matrix.to_numpy(dtype="float64")
        if limits is None:
            low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
            limits = (-max(-low, high), max(-low, high)) if low < 0 else (low, high)
        data_plot = {
            "values": values,
            "regions": list(map(str, matrix.index)),
            "marked": None if marked is None else marked.to_numpy(dtype=bool),
            "label": label,
            "title": title,
            "limits": limits,
        }
        BaseWidget.__init__(self, data_plot, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        from matplotlib.patheffects import withStroke
        from spikeinterface.widgets.utils_matplotlib import make_mpl_figure

        dp = to_attr(data_plot)
        side = 1.6 + 0.25 * len(dp.regions)
        own_figure = all(backend_kwargs[name] is None for name in ("figure", "ax", "axes"))
        if own_figure and backend_kwargs["figsize"] is None:
            backend_kwargs["figsize"] = (side + 1.0, side)
        self.figure, self.axes, self.ax = make_mpl_figure(**backend_kwargs)
        if own_figure:
            self.figure.set_layout_engine("constrained")
        low, high = dp.limits
        self.image = self.ax.imshow(dp.values, vmin=low, vmax=high, cmap="RdBu_r" if low < 0 else "viridis")
        self.ax.set_xticks(range(len(dp.regions)), dp.regions, rotation=90, fontsize="small")
        self.ax.set_yticks(range(len(dp.regions)), dp.regions, fontsize="small")
        self.ax.set_title(dp.title, fontsize="medium")
        if dp.marked is not None:
            for row, column in np.argwhere(dp.marked):
                # the rim is seen on light colours, the star on dark ones
                rim = [withStroke(linewidth=2, foreground="k")]
                self.ax.text(column, row, "*", ha="center", va="center", color="w", path_effects=rim)
        self.ax.figure.colorbar(self.image, ax=self.ax, label=dp.label, shrink=0.8)


plot_region_matrix = RegionMatrixWidget
