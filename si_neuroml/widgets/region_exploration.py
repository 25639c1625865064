"""A look at the units of a region dataset: how many there are, their features, and their responses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.widgets.base import BaseWidget, to_attr

from ..errors import InputError

if TYPE_CHECKING:
    from ..regions.dataset import RegionDataset

__all__ = [
    "RegionFeaturesWidget",
    "RegionResponsesWidget",
    "RegionUnitCountsWidget",
    "plot_region_features",
    "plot_region_responses",
    "plot_region_unit_counts",
]

MAX_FEATURES, MAX_LEGEND = 12, 12
# features that are one bin of many each
HISTOGRAMS = ("log_isi_", "acg_")


class RegionUnitCountsWidget(BaseWidget):
    """Plot how many units each region has, and from which subjects.

    Parameters
    ----------
    dataset : RegionDataset
        Units with labels.
    by : str, default: "subject"
        The column of units that the colours show, such as "recording" or "lab".
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``ax``, ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, ax
        What was drawn on, as in SpikeInterface's widgets.
    counts : DataFrame
        Of :func:`~si_neuroml.regions.exploration.unit_counts`.

    Raises
    ------
    InputError
        When no unit has a label, or there is no such column.
    """

    def __init__(self, dataset: "RegionDataset", by: str = "subject", *, backend: str | None = None, **backend_kwargs):
        from ..regions.exploration import unit_counts

        self.counts = unit_counts(dataset.units, by)
        _require_labels(self.counts)
        BaseWidget.__init__(self, {"counts": self.counts, "by": by}, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        dp = to_attr(data_plot)
        height = 1.2 + 0.25 * len(dp.counts)
        _make_figure(self, backend_kwargs, 1, (5.5, height))
        y, left = np.arange(len(dp.counts)), np.zeros(len(dp.counts))
        for column, color in zip(dp.counts.columns, _colors(len(dp.counts.columns)), strict=True):
            numbers = dp.counts[column].to_numpy()
            self.ax.barh(y, numbers, left=left, color=color, label=str(column))
            left = left + numbers
        for position, total in zip(y, left.astype(int), strict=True):
            self.ax.text(total, position, f" {total}", va="center", fontsize="small")
        self.ax.set_yticks(y, dp.counts.index)
        self.ax.invert_yaxis()
        self.ax.set_xlim(0, 1.1 * left.max())
        self.ax.set_xlabel("units")
        self.ax.spines[["top", "right"]].set_visible(False)
        if len(dp.counts.columns) <= MAX_LEGEND:
            self.ax.legend(title=dp.by, frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0))
        else:
            self.ax.set_title(f"colours: {len(dp.counts.columns)} values of {dp.by}", fontsize="medium")


class RegionFeaturesWidget(BaseWidget):
    """Plot a box of every feature in every region.

    Boxes hold the middle half of the units, whiskers reach 1.5 box lengths further; units beyond are not drawn.

    Parameters
    ----------
    dataset : RegionDataset
        Units with labels and features.
    features : sequence of str, optional
        Which features. Default: the first 12 that are not bins of a histogram.
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``axes``, ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, ax, panel_axes
        What was drawn on, as in SpikeInterface's widgets, and a list of the axes with one per feature.
    boxes : DataFrame
        Of :func:`~si_neuroml.regions.exploration.feature_boxes`.

    Raises
    ------
    InputError
        When no unit has a label, or a feature does not exist.
    """

    def __init__(
        self,
        dataset: "RegionDataset",
        features: Sequence[str] | None = None,
        *,
        backend: str | None = None,
        **backend_kwargs,
    ):
        from ..regions.exploration import feature_boxes

        names = list(dataset.feature_names)
        if features is None:
            features = [name for name in names if not name.startswith(HISTOGRAMS)][:MAX_FEATURES]
        if missing := [name for name in features if name not in names]:
            raise InputError(f"The dataset has no feature {', '.join(map(repr, missing))}; it has {names[:20]}.")
        if not len(features):
            raise InputError("The dataset has no features but histograms: name the bins to plot.")
        columns = dataset.features[:, [names.index(name) for name in features]]
        self.boxes = feature_boxes(columns, features, dataset.labels)
        _require_labels(self.boxes)
        data_plot = {"boxes": self.boxes, "features": list(features)}
        BaseWidget.__init__(self, data_plot, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        dp = to_attr(data_plot)
        regions = sorted(dp.boxes["region"].unique())
        columns = min(len(dp.features), 4)
        rows = -(-len(dp.features) // columns)
        size = ((1.2 + 0.28 * len(regions)) * columns, 2.6 * rows)
        _make_figure(self, backend_kwargs, len(dp.features), size, ncols=columns)
        for ax, feature in zip(self.panel_axes, dp.features, strict=True):
            table = dp.boxes[dp.boxes["feature"] == feature].set_index("region")
            shown = [region for region in regions if table.loc[region, "count"]]
            boxes = [
                {"med": row.median, "q1": row.q1, "q3": row.q3, "whislo": row.whisker_low, "whishi": row.whisker_high}
                for row in table.loc[shown].itertuples()
            ]
            ax.bxp(boxes, positions=[regions.index(region) for region in shown], showfliers=False, widths=0.6)
            ax.set_xticks(range(len(regions)), regions, rotation=90, fontsize="small")
            ax.set_xlim(-0.6, len(regions) - 0.4)
            ax.set_title(feature, fontsize="medium")
            ax.spines[["top", "right"]].set_visible(False)


class RegionResponsesWidget(BaseWidget):
    """Plot the mean PSTH of every region beside the principal components of its units.

    Parameters
    ----------
    dataset : RegionDataset
        Units with labels and PSTHs.
    num_components : int, default: 4
        Components of each region.
    regions : sequence of str, optional
        Which regions, in which order. Default: all that have at least two responses.
    by_subject : bool, default: False
        Average over subjects and not over units, so that the shaded standard error is one over animals.
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``axes``, ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, panel_axes
        What was drawn on, as in SpikeInterface's widgets, and a list of the axes: two per region.
    responses, components
        Of :func:`~si_neuroml.regions.exploration.mean_responses` and
        :func:`~si_neuroml.regions.exploration.region_components`.

    Raises
    ------
    InputError
        When there are no PSTHs, or a region has fewer than two.
    """

    def __init__(
        self,
        dataset: "RegionDataset",
        num_components: int = 4,
        regions: Sequence[str] | None = None,
        *,
        by_subject: bool = False,
        backend: str | None = None,
        **backend_kwargs,
    ):
        from ..regions.exploration import mean_responses, region_components

        if dataset.psth is None:
            raise InputError("This dataset has no PSTHs: its sessions were read without events.")
        groups = dataset.units["subject"].to_numpy() if by_subject else None
        self.responses = mean_responses(dataset.psth, dataset.labels, groups)
        self.components = region_components(dataset.psth, dataset.labels, num_components)
        regions = list(self.components) if regions is None else list(regions)
        if missing := [region for region in regions if region not in self.components]:
            raise InputError(f"There are fewer than two units with a response in {', '.join(map(repr, missing))}.")
        if not regions:
            raise InputError("No region has two units with a response; responses of units with a label are needed.")
        edges = dataset.bin_edges_s
        data_plot = {
            "regions": regions,
            "responses": self.responses,
            "components": self.components,
            "centers_s": (edges[:-1] + edges[1:]) / 2,
            "of": "subjects" if by_subject else "units",
        }
        BaseWidget.__init__(self, data_plot, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        dp = to_attr(data_plot)
        _make_figure(self, backend_kwargs, 2 * len(dp.regions), (7.0, 1.7 * len(dp.regions) + 0.6), ncols=2)
        for row, region in enumerate(dp.regions):
            left, right = self.panel_axes[2 * row : 2 * row + 2]
            found = dp.responses.regions.index(region)
            mean, sem = dp.responses.mean[found], np.nan_to_num(dp.responses.sem[found])
            left.fill_between(dp.centers_s, mean - sem, mean + sem, color="k", alpha=0.2, lw=0)
            left.plot(dp.centers_s, mean, color="k", lw=1.2)
            left.set_ylabel("mean PSTH")
            left.set_title(f"{region} ({dp.responses.count[found]} {dp.of})", fontsize="medium")
            parts = dp.components[region]
            for k, (component, explained) in enumerate(zip(parts.components, parts.explained, strict=True)):
                right.plot(dp.centers_s, component, lw=1.2, label=f"{k + 1}: {100 * explained:.0f} %")
            right.set_title("components", fontsize="medium")
            right.legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1.01, 1.0))
            for ax in (left, right):
                ax.axvline(0, color="0.6", lw=0.8, ls="--", zorder=0)
                ax.spines[["top", "right"]].set_visible(False)
        for ax in self.panel_axes[-2:]:
            ax.set_xlabel("time from the event (s)")


plot_region_unit_counts = RegionUnitCountsWidget
plot_region_features = RegionFeaturesWidget
plot_region_responses = RegionResponsesWidget


def _make_figure(
    widget: BaseWidget, kwargs: dict[str, Any], num_axes: int, figsize: tuple[float, float], ncols: int | None = None
) -> None:
    """Axes for a widget, its own or those given, as in SpikeInterface's widgets."""
    from spikeinterface.widgets.utils_matplotlib import make_mpl_figure

    given = kwargs["ax"] if kwargs["axes"] is None else kwargs["axes"]
    if given is not None and np.size(given) < num_axes:
        raise InputError(f"There are {num_axes} panels to draw, but only {np.size(given)} axes were given.")
    own_figure = all(kwargs[name] is None for name in ("figure", "ax", "axes"))
    if own_figure:
        kwargs["figsize"] = kwargs["figsize"] or figsize
    if ncols is not None:
        kwargs["ncols"] = ncols
    # SpikeInterface makes a grid of axes for a number, and one without
    number = num_axes if num_axes > 1 and given is None else None
    widget.figure, widget.axes, widget.ax = make_mpl_figure(num_axes=number, **kwargs)
    if own_figure:
        widget.figure.set_layout_engine("constrained")
    widget.panel_axes = [ax for ax in np.asarray(widget.axes).ravel() if ax is not None][:num_axes]
    if num_axes == 1:
        widget.ax = widget.panel_axes[0]


def _colors(number):
    from matplotlib import colormaps

    cmap = colormaps["tab10" if number <= 10 else "turbo"]
    return [cmap(index if number <= 10 else index / (number - 1)) for index in range(number)]


def _require_labels(table):
    if not len(table):
        raise InputError("No unit of this dataset has a region: set units['region'] where it is known.")
