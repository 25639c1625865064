"""What a classifier says along one shank: probabilities, boundaries, and whether the assigned regions fit."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core.sortinganalyzer import SortingAnalyzer
from spikeinterface.widgets.base import BaseWidget, to_attr

from ..errors import InputError, SINeuroMLError
from .region_exploration import _colors

if TYPE_CHECKING:
    import pandas as pd

    from ..regions.classifier import RegionPredictions

__all__ = ["RegionTrackWidget", "plot_region_track"]

# as far as the colours of a unit reach where there is no neighbour; those of an assigned place reach any depth
MAX_REACH_UM, ANY_REACH_UM = 100.0, 1e6
UNKNOWN_COLOR, CURVE_COLOR, SHIFT_COLOR = "0.85", "0.2", "tab:blue"
# of regions that the classifier has not learned
OTHER = {"facecolor": "w", "edgecolor": "0.5", "hatch": "////"}
# of the columns, from the left, in the width of one strip
STRIPS = {"assigned": 1.0, "predicted": 1.0, "smoothed": 3.0, "raw": 3.0}
GAP, SHIFT_GAP, SHIFT_WIDTH = 0.35, 2.0, 4.5


class RegionTrackWidget(BaseWidget):
    """Plot the regions along one shank, and how well the assigned ones would fit if the probe sat deeper or higher.

    From the left: regions assigned from histology; labels of the units ("unknown" in light grey); probabilities after
    smoothing along the shank, and of each unit by itself, as stacked colours. Lines across are boundaries between the
    regions of the most likely sequence, lines along the shank their intervals. On the right, where regions are
    assigned, the posterior of a shift of all of them and its log-odds against no shift.

    Parameters
    ----------
    predictions : SortingAnalyzer | RegionPredictions
        An analyzer with "region_predictions", or what :meth:`RegionClassifier.predict` returned.
    units : DataFrame or dict of arrays, optional
        With predictions that are no analyzer: ``dataset.units``, or ``depth_um`` of each unit (from the tip of the
        shank upwards, NaN unknown), and where there are some ``region``, ``recording`` and ``shank``.
    recording, shank : str, optional
        Which to draw; needed where the units are on several shanks.
    region : str, default: "brain_area"
        With an analyzer: the property of the units that holds the assigned regions, if there is one.
    assigned : (array, sequence of str), optional
        Depths in um and the regions assigned there, for example of the channels of the shank; "" where none is.
        Default: those of the units.
    model : RegionClassifier | DepthHMM, optional
        Whose hidden Markov model finds the boundaries. Default: the one named in the analyzer; without it, a model with
        its default parameters.
    confidence : float, default: 0.95
        Of the intervals of boundaries and shift.
    shift_settings : dict, optional
        Further settings of :func:`~si_neuroml.regions.shift_profile.shift_profile`, such as ``prior_sd_um``.
    colors : dict, optional
        Colour of each region. Default: in the order of the classifier's regions, the same in every plot.
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``ax``, ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, ax
        What was drawn on, as in SpikeInterface's widgets; panels are divided inside of these axes.
    panels : dict of {str: Axes}
        "assigned", "predicted", "smoothed", "raw", "posterior" and "log_odds"; the first and the last two only where
        regions that the classifier knows are assigned.
    units : DataFrame
        Units of this shank with a depth, from the tip up, with ``label`` and ``probability``.
    boundaries : list of RegionBoundary
        See :func:`~si_neuroml.regions.boundaries.region_boundaries`; regions are indices of the classes.
    shift : ShiftProfile | None
        See :func:`~si_neuroml.regions.shift_profile.shift_profile`.

    Raises
    ------
    InputError
        When units and predictions do not belong together, no depth is known, or the units are on several shanks and
        none is named.
    """

    def __init__(
        self,
        predictions: "SortingAnalyzer | RegionPredictions",
        units: "pd.DataFrame | Mapping[str, Any] | None" = None,
        *,
        recording: str | None = None,
        shank: str | None = None,
        region: str = "brain_area",
        assigned: tuple[np.ndarray, Sequence[str]] | None = None,
        model: Any = None,
        confidence: float = 0.95,
        shift_settings: Mapping[str, Any] | None = None,
        colors: Mapping[str, Any] | None = None,
        backend: str | None = None,
        **backend_kwargs,
    ):
        from ..regions.boundaries import region_boundaries

        if isinstance(predictions, SortingAnalyzer):
            if units is not None:
                raise InputError("An analyzer knows its units: leave units out.")
            predictions, units, model = _from_analyzer(predictions, region, model)
        units = _table(units, len(predictions.label))
        rows, name = _one_shank(units, recording, shank)
        depth_um, classes = units["depth_um"].to_numpy("float64")[rows], predictions.classes
        raw = predictions.probabilities[rows]
        self.units = units.iloc[rows].assign(label=predictions.label[rows], probability=predictions.probability[rows])
        track, depth_model = np.zeros(len(rows), dtype="int64"), _hmm(model)
        self.boundaries = region_boundaries(raw, depth_um, track, depth_model, confidence=confidence)
        places = _places(depth_um, self.units["region"]) if assigned is None else _places(*assigned)
        self.shift = _shift(raw, depth_um, places, classes, {**(shift_settings or {}), "confidence": confidence})
        data_plot = {
            "classes": classes,
            "depth_um": depth_um,
            "label": predictions.label[rows],
            "raw": raw,
            "smoothed": predictions.smoothed[rows],
            "places": places,
            "boundaries": self.boundaries,
            "shift": self.shift,
            "confidence": confidence,
            "title": f"{name}{len(rows)} units",
            "colors": {**dict(zip(classes, _colors(len(classes)), strict=True)), **(colors or {})},
        }
        BaseWidget.__init__(self, data_plot, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        from spikeinterface.widgets.utils_matplotlib import make_mpl_figure

        dp = to_attr(data_plot)
        own_figure = all(backend_kwargs[name] is None for name in ("figure", "ax", "axes"))
        if own_figure and backend_kwargs["figsize"] is None:
            backend_kwargs["figsize"] = (7.0 if dp.shift is None else 10.5, 6.5)
        self.figure, self.axes, self.ax = make_mpl_figure(**backend_kwargs)
        if own_figure:
            self.figure.set_layout_engine("constrained")
        self.panels = _divide(self.ax, dp.places is not None, dp.shift is not None)
        spans = _spans(dp.depth_um, MAX_REACH_UM)
        _draw_strips(self.panels, dp, spans)
        for name in ("smoothed", "raw"):
            _draw_stack(self.panels[name], getattr(dp, name), spans, dp.classes, dp.colors)
        _draw_boundaries(self.panels, dp.boundaries)
        if dp.shift is not None:
            _draw_shift(self.panels["posterior"], self.panels["log_odds"], dp.shift, dp.confidence)
        first = next(iter(self.panels.values()))
        first.set_ylim(spans[0, 0], spans[-1, 1])
        first.set_ylabel("depth from the tip (µm)")
        self.ax.set_title(dp.title, fontsize="medium", pad=22)
        _draw_legend(self.panels["raw"], dp)


plot_region_track = RegionTrackWidget


def _from_analyzer(analyzer, region, model):
    from ..modelfiles import resolve_model
    from ..regions.classifier import RegionPredictions
    from ..regions.extension import FEATURES
    from ..regions.predictions_extension import KIND, PREDICTIONS

    found = analyzer.get_extension(PREDICTIONS)
    if found is None:
        raise InputError(f'The analyzer has no {PREDICTIONS!r}: call analyzer.compute("{PREDICTIONS}", model=...).')
    if model is None:
        try:
            model = resolve_model(found.params["model"], KIND)
        except SINeuroMLError as error:
            text = "Boundaries are found with the default parameters of DepthHMM, as the classifier is not there"
            warnings.warn(f"{text}: {error} Give it by model=.", stacklevel=3)
    parts = (found.get_data(outputs=name) for name in ("probabilities", "smoothed", "label", "probability"))
    units = analyzer.get_extension(FEATURES).get_dataset(region=region).units
    return RegionPredictions(found.classes, *parts), units.assign(recording=""), model


def _table(units, number):
    import pandas as pd

    if units is None:
        raise InputError("Give the units of the predictions: dataset.units, or their depth_um in a dict.")
    units = pd.DataFrame(units).reset_index(drop=True)
    if len(units) != number:
        raise InputError(f"There are predictions for {number} units, but {len(units)} units.")
    if "depth_um" not in units:
        raise InputError(f"Units have no depth_um, only {list(units.columns)}: there is nothing to draw along.")
    texts = {name: units[name].fillna("").astype(str) if name in units else "" for name in ("recording", "shank")}
    regions = units["region"].fillna("").astype(str) if "region" in units else ""
    return units.assign(**texts, region=regions)


def _one_shank(units, recording, shank):
    """Rows of the units of the shank that have a depth, from the tip up, and its name for the title."""
    chosen = np.ones(len(units), dtype=bool)
    for column, wanted in (("recording", recording), ("shank", shank)):
        if wanted is not None:
            chosen &= (units[column] == str(wanted)).to_numpy()
    tracks = units.loc[chosen, ["recording", "shank"]].drop_duplicates()
    if len(tracks) != 1:
        there = [tuple(row) for row in units[["recording", "shank"]].drop_duplicates().to_numpy().tolist()]
        text = f"recording={recording!r} and shank={shank!r} are {len(tracks)} shanks; name one of"
        raise InputError(f"{text} (recording, shank): {there[:8]}.")
    depth_um = units["depth_um"].to_numpy("float64")
    rows = np.flatnonzero(chosen & np.isfinite(depth_um))
    if not len(rows):
        raise InputError(f"None of the {chosen.sum()} units of this shank has a depth.")
    name, of_shank = tracks.iloc[0]
    name = ", ".join(filter(None, (name, of_shank and f"shank {of_shank}")))
    return rows[np.argsort(depth_um[rows], kind="stable")], f"{name}: " if name else ""


def _hmm(model):
    from ..regions.depth import DepthHMM

    model = getattr(model, "depth", model)
    # smoothing by a Gaussian has no states, and so no boundaries of its own
    return model if isinstance(model, DepthHMM) else None


def _places(depth_um, regions):
    """Depths with their regions in order, or None where no region is assigned."""
    depth_um, regions = np.asarray(depth_um, dtype="float64"), np.asarray(regions, dtype=str)
    if depth_um.shape != regions.shape or depth_um.ndim != 1 or not np.isfinite(depth_um).all():
        text = "assigned needs a finite depth in um for each region;"
        raise InputError(f"{text} got shapes {depth_um.shape} and {regions.shape}.")
    depth_um, first = np.unique(depth_um, return_index=True)
    return (depth_um, regions[first]) if (regions != "").any() else None


def _shift(raw, depth_um, places, classes, settings):
    from ..regions.shift_profile import shift_profile

    if places is None:
        return None
    index = {name: k for k, name in enumerate(classes)}
    assigned = np.array([index.get(name, -1) for name in places[1].tolist()], dtype="int64")
    return None if (assigned < 0).all() else shift_profile(raw, depth_um, places[0], assigned, **settings)


def _spans(depth_um, reach_um):
    """From where to where each place holds: half way to its neighbours, but not beyond the reach; shape (num, 2).

    Units at one depth share their span in equal parts, so that each is seen.
    """
    places, level, count = np.unique(depth_um, return_inverse=True, return_counts=True)
    middle = (places[1:] + places[:-1]) / 2
    low = np.maximum(np.concatenate([[-np.inf], middle]), places - reach_um)
    high = np.minimum(np.concatenate([middle, [np.inf]]), places + reach_um)
    step = ((high - low) / count)[level]
    within = np.arange(len(level)) - np.concatenate([[0], np.cumsum(count)[:-1]])[level]
    bottom = low[level] + within * step
    return np.column_stack([bottom, bottom + step])


def _divide(ax, has_assigned, has_shift):
    """Panels beside each other in place of an axes, the depth ones with one axis for all of them."""
    ax.set_axis_off()
    ax.set_navigate(False)
    strips = {name: width for name, width in STRIPS.items() if has_assigned or name != "assigned"}
    total = sum(strips.values()) + GAP * (len(strips) - 1) + has_shift * (SHIFT_GAP + SHIFT_WIDTH)
    panels, left, shared = {}, 0.0, None
    for name, width in strips.items():
        panels[name] = ax.inset_axes([left / total, 0, width / total, 1], sharey=shared)
        panels[name].set_title(name, fontsize="small")
        panels[name].set(xlim=(0, 1), xticks=[])
        panels[name].tick_params(labelleft=shared is None, left=shared is None)
        shared, left = shared or panels[name], left + width + GAP
    for name in ("smoothed", "raw"):
        panels[name].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        panels[name].set_xlabel("probability")
    if has_shift:
        left = 1 - SHIFT_WIDTH / total
        panels["log_odds"] = ax.inset_axes([left, 0, 1 - left, 0.42])
        panels["posterior"] = ax.inset_axes([left, 0.5, 1 - left, 0.42], sharex=panels["log_odds"])
    return panels


def _draw_strips(panels, dp, spans):
    fill = {**dp.colors, "": "w"}
    if dp.places is not None:
        # the outermost places go on beyond the ends, as in the shift profile
        for (low, high), name in zip(_spans(dp.places[0], ANY_REACH_UM), dp.places[1].tolist(), strict=True):
            low, high = max(low, spans[0, 0]), min(high, spans[-1, 1])
            if high > low:
                panels["assigned"].axhspan(low, high, lw=0, **({"color": fill[name]} if name in fill else OTHER))
    colors = [dp.colors.get(name, UNKNOWN_COLOR) for name in dp.label.tolist()]
    _draw_boxes(panels["predicted"], np.zeros(len(spans)), np.ones(len(spans)), spans, colors)


def _draw_stack(ax, probabilities, spans, classes, colors):
    edges = np.column_stack([np.zeros(len(spans)), np.cumsum(probabilities, axis=1)])
    for k, name in enumerate(classes):
        _draw_boxes(ax, edges[:, k], edges[:, k + 1], spans, colors[name])


def _draw_boxes(ax, left, right, spans, colors):
    from matplotlib.collections import PolyCollection

    low, high = spans.T
    corners = np.stack([np.stack([left, right, right, left], 1), np.stack([low, low, high, high], 1)], 2)
    # a thin rim of the same colour: without it pale lines show between boxes
    ax.add_collection(PolyCollection(corners, facecolors=colors, edgecolors=colors, linewidths=0.2))


def _draw_boundaries(panels, boundaries):
    for number, boundary in enumerate(boundaries):
        for name in ("predicted", "smoothed", "raw"):
            panels[name].axhline(boundary.depth_um, color="k", lw=1.0, zorder=2)
        # beside the one before, as intervals of neighbours may overlap
        x, ends = (0.35, 0.65)[number % 2], [boundary.low_um, boundary.high_um]
        for color, width in (("w", 3.0), ("k", 1.5)):
            panels["predicted"].plot([x, x], ends, color=color, lw=width, zorder=3)


def _draw_shift(posterior, log_odds, shift, confidence):
    posterior.bar(shift.shifts_um, shift.posterior, width=np.diff(shift.shifts_um).min(), color=CURVE_COLOR)
    posterior.set_ylabel("posterior probability")
    posterior.tick_params(labelbottom=False)
    found = f"{shift.best_um:+.0f} µm ({shift.low_um:+.0f} to {shift.high_um:+.0f})"
    posterior.set_title(f"{found}\n{shift.num_units} units, interval of {100 * confidence:g} %", fontsize="small")
    log_odds.plot(shift.shifts_um, shift.log_odds, color=CURVE_COLOR, lw=1.5)
    log_odds.axhline(0, color="0.6", lw=0.8)
    log_odds.set_ylabel("log-odds against no shift")
    log_odds.set_xlabel("probe deeper than assigned (µm)")
    for ax in (posterior, log_odds):
        ax.axvspan(shift.low_um, shift.high_um, color=SHIFT_COLOR, alpha=0.2, lw=0)
        ax.axvline(shift.best_um, color=SHIFT_COLOR, lw=1.2)
        ax.axvline(0, color="0.6", lw=0.8, ls="--")
        ax.spines[["top", "right"]].set_visible(False)


def _draw_legend(ax, dp):
    from matplotlib.patches import Patch

    seen = [name for k, name in enumerate(dp.classes) if dp.raw[:, k].max() > 0.02 or dp.smoothed[:, k].max() > 0.02]
    entries = [Patch(color=dp.colors[name], label=name) for name in seen]
    if not np.isin(dp.label, dp.classes).all():
        entries.append(Patch(color=UNKNOWN_COLOR, label="unknown"))
    others = [] if dp.places is None else sorted(set(dp.places[1].tolist()) - {"", *dp.classes})
    if others:
        entries.append(Patch(**OTHER, label=f"{', '.join(others[:3] + ['...'] * (len(others) > 3))}: not learned"))
    style = {"frameon": False, "fontsize": "small", "borderaxespad": 0.0, "handlelength": 1.0}
    ax.legend(handles=entries, loc="upper center", bbox_to_anchor=(0.0, -0.1), ncols=min(len(entries), 8), **style)
