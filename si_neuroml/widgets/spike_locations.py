"""Where the spikes came from, over the probe drawn to scale: one panel per method, the same spikes in each."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, SortingAnalyzer
from spikeinterface.widgets.base import BaseWidget, to_attr

from ..errors import InputError

__all__ = ["SpikeLocationsOnProbeWidget", "plot_spike_locations_on_probe"]

NO_UNIT = -1
# colour of spikes without a unit; the somas carry the colour of their unit
GREY = "0.55"
# a localizer that sends a few spikes a millimetre away must not shrink the probe to a dot: the panels end here
MAX_MARGIN_UM, PAD_UM = 60.0, 10.0
MAX_ELLIPSES = 40


class SpikeLocationsOnProbeWidget(BaseWidget):
    """Plot estimated places of spikes over the probe, one panel per method.

    All panels show the same spikes, colours and limits, so that they can be compared by eye.

    Parameters
    ----------
    data : SortingAnalyzer or BaseRecording
        An analyzer with the extension ``spike_locations`` (the spikes take their units' colours), or a recording with
        a probe, together with `peaks` and `locations`.
    peaks : structured array, shape (num_peaks,), optional
        Peaks as from ``detect_peaks()``; for a recording.
    locations : array or dict of {str: array}, optional
        Places of the peaks in um as from ``localize_peaks()`` (fields x and y), or plain arrays of shape (num_peaks, 2)
        or (num_peaks, 3); in a dict, one panel each, with the key as its title. With an analyzer: places of its spikes
        by other methods, in the order of ``analyzer.sorting.to_spike_vector()``, drawn beside its own.
    labels : int array, shape (num_peaks,), optional
        Unit index of each peak, for the colours; -1: no unit (grey). With an analyzer: its own unit indices.
    true_locations : array, shape (num_units, 2) or (num_units, 3), optional
        True places of the units in um, drawn as stars in the colour of the unit index that equals their row.
    unit_colors : dict, optional
        Colour of each unit: by unit id for an analyzer, else by label. Default: SpikeInterface's unit colours.
    max_spikes : int or None, default: 5000
        Draw at most this many spikes, chosen at random; None: all.
    max_spikes_per_unit : int or None, default: None
        Draw at most this many spikes of each unit, chosen at random; None: all.
    with_uncertainty : bool, default: False
        Draw an ellipse of one standard deviation (fields x_std and y_std) for up to 40 of the spikes, where these are
        finite.
    seed : int, default: 0
        Of the random choices.
    backend : str, optional
        "matplotlib", the only one so far.
    **backend_kwargs
        ``figure``, ``ax``, ``axes``, ``ncols``, ``figsize``, ``figtitle`` of SpikeInterface's widgets.

    Attributes
    ----------
    figure, axes, ax, panel_axes
        What was drawn on, as in SpikeInterface's widgets, and a list of the axes with one per method.

    Raises
    ------
    InputError
        When lengths differ, the recording has no probe, the analyzer has no spike locations, places have no x and y, or
        there are fewer axes than panels.

    Notes
    -----
    The panels end at most 60 um beyond the contacts and the true places. A panel says how many of the spikes chosen
    for drawing lie outside or are not finite.
    """

    def __init__(
        self,
        data: SortingAnalyzer | BaseRecording,
        peaks: np.ndarray | None = None,
        locations: np.ndarray | Mapping[str, np.ndarray] | None = None,
        *,
        labels: np.ndarray | None = None,
        true_locations: np.ndarray | None = None,
        unit_colors: Mapping[Any, Any] | None = None,
        max_spikes: int | None = 5000,
        max_spikes_per_unit: int | None = None,
        with_uncertainty: bool = False,
        seed: int = 0,
        backend: str | None = None,
        **backend_kwargs,
    ):
        unit_ids = getattr(data, "unit_ids", None)
        if isinstance(data, SortingAnalyzer):
            if peaks is not None or labels is not None:
                raise InputError("An analyzer brings its own spikes and units: leave out peaks and labels.")
            places, labels = _from_analyzer(data, locations)
        elif isinstance(data, BaseRecording):
            places = _from_recording(data, peaks, locations)
        else:
            raise InputError(f"A SortingAnalyzer or a recording is needed, got {type(data).__name__}.")
        num_spikes = len(next(iter(places.values())))
        labels = _checked_labels(labels, num_spikes)
        somas = None if true_locations is None else _as_xy("true_locations", true_locations)
        rng = np.random.default_rng(seed)
        chosen = _choose(labels, max_spikes, max_spikes_per_unit, rng)
        stds = {title: _stds(found)[chosen] for title, found in places.items()} if with_uncertainty else {}
        if with_uncertainty and not any(np.isfinite(std).all(axis=1).any() for std in stds.values()):
            raise InputError(
                f"with_uncertainty needs finite fields x_std and y_std; none of {list(places)} has them. "
                'The method "vae" does.'
            )
        data_plot = {
            "places": {title: _as_xy(title, found)[chosen] for title, found in places.items()},
            "stds": stds,
            "ellipses": rng.permutation(len(chosen)),
            "labels": labels[chosen],
            "true_locations": somas,
            "colors": _colors(unit_colors, unit_ids, labels, 0 if somas is None else len(somas)),
            "probegroup": data.get_probegroup(),
        }
        BaseWidget.__init__(self, data_plot, backend=backend, **backend_kwargs)

    def plot_matplotlib(self, data_plot: dict, **backend_kwargs) -> None:
        """Draw with matplotlib; called by SpikeInterface's base class."""
        from spikeinterface.widgets.utils_matplotlib import make_mpl_figure

        dp = to_attr(data_plot)
        num_panels = len(dp.places)
        own_figure = all(backend_kwargs[name] is None for name in ("figure", "ax", "axes"))
        _check_axes(backend_kwargs, num_panels)
        xlim, ylim = _limits(dp.probegroup, dp.places, dp.true_locations)
        if own_figure and backend_kwargs["figsize"] is None:
            backend_kwargs["figsize"] = _figsize(xlim, ylim, num_panels, backend_kwargs["ncols"])
        num_axes = num_panels if backend_kwargs["ax"] is None else None
        self.figure, self.axes, self.ax = make_mpl_figure(num_axes=num_axes, **backend_kwargs)
        if own_figure:
            self.figure.set_layout_engine("constrained")
        self.panel_axes = [ax for ax in np.asarray(self.axes).ravel() if ax is not None][:num_panels]
        if num_panels == 1:
            self.ax = self.panel_axes[0]

        spike_colors = [dp.colors[label] for label in dp.labels.tolist()]
        for ax, (title, places) in zip(self.panel_axes, dp.places.items(), strict=True):
            _draw_probe(ax, dp.probegroup)
            ax.scatter(*places.T, s=4, c=spike_colors or None, alpha=0.45, lw=0, zorder=3, rasterized=True)
            if title in dp.stds:
                _draw_ellipses(ax, places, dp.stds[title], dp.ellipses, spike_colors)
            if dp.true_locations is not None:
                soma_colors = [dp.colors[index] for index in range(len(dp.true_locations))]
                # the white rim under the black one keeps a star apart from its own cloud of spikes
                ax.scatter(*dp.true_locations.T, s=150, marker="*", c="white", lw=0, zorder=5)
                ax.scatter(*dp.true_locations.T, s=75, marker="*", c=soma_colors, edgecolors="k", lw=0.8, zorder=6)
            ax.set(xlim=xlim, ylim=ylim, aspect="equal")
            # plot_probe leaves labels of its own, larger than everything else
            ax.set_xlabel("x (µm)", fontsize="medium")
            ax.set_ylabel("y (µm)", fontsize="medium")
            ax.set_title(title + _left_out(places, xlim, ylim), fontsize="medium")
            ax.spines[["top", "right"]].set_visible(False)
        _draw_legend(self.panel_axes[-1], dp.true_locations is not None, bool(dp.stds))


plot_spike_locations_on_probe = SpikeLocationsOnProbeWidget


def _from_analyzer(analyzer, locations):
    extension = analyzer.get_extension("spike_locations")
    if extension is None:
        raise InputError(
            "This analyzer has no spike locations. Compute them first: "
            'analyzer.compute("spike_locations", method="vae", method_kwargs={"model": folder}), which needs '
            'analyzer.compute(["random_spikes", "templates"]).'
        )
    own = str(extension.params.get("method", "spike_locations"))
    places = {own: extension.get_data(), **_by_title(locations, f"{own} (given)")}
    spikes = analyzer.sorting.to_spike_vector()
    _check_lengths(places, len(spikes), "spikes of the analyzer")
    return places, spikes["unit_index"]


def _from_recording(recording, peaks, locations):
    if not recording.has_probe():
        raise InputError(
            f"This recording of {recording.get_num_channels()} channels has no probe to draw. Attach one with "
            "recording.set_probe(probe)."
        )
    if peaks is None or locations is None:
        raise InputError("With a recording, give the peaks and their locations, as from localize_peaks().")
    places = _by_title(locations, "spike locations")
    if not places:
        raise InputError("locations is empty: give an array, or a dict with one array per method.")
    _check_lengths(places, len(peaks), "peaks")
    return places


def _by_title(locations, title):
    if locations is None:
        return {}
    if isinstance(locations, Mapping):
        return {str(name): np.asarray(found) for name, found in locations.items()}
    return {title: np.asarray(locations)}


def _check_lengths(places, number, what):
    wrong = {title: len(found) for title, found in places.items() if len(found) != number}
    if wrong:
        raise InputError(f"There are {number} {what}, but the locations have other lengths: {wrong}.")


def _checked_labels(labels, num_spikes):
    if labels is None:
        return np.full(num_spikes, NO_UNIT)
    labels = np.asarray(labels)
    if len(labels) != num_spikes:
        raise InputError(f"There are {num_spikes} spikes, but {len(labels)} labels.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels must be unit indices (whole numbers, -1 for no unit), got dtype {labels.dtype}.")
    return np.maximum(labels, NO_UNIT)


def _as_xy(title, locations):
    """The first two coordinates as a float array of shape (n, 2)."""
    found = np.asarray(locations)
    if found.dtype.names is not None and {"x", "y"} <= set(found.dtype.names):
        return np.column_stack([found["x"], found["y"]]).astype("float64")
    if found.dtype.names is None and found.ndim == 2 and found.shape[1] in (2, 3):
        return found[:, :2].astype("float64")
    raise InputError(
        f"{title!r} must have the fields x and y or the shape (n, 2) or (n, 3), got {found.dtype.names or found.shape}."
    )


def _stds(locations):
    if locations.dtype.names is None or not {"x_std", "y_std"} <= set(locations.dtype.names):
        return np.full((len(locations), 2), np.nan)
    return np.column_stack([locations["x_std"], locations["y_std"]])


def _choose(labels, max_spikes, max_spikes_per_unit, rng):
    """Sorted indices of the spikes to draw."""
    order = rng.permutation(len(labels))
    if max_spikes_per_unit is not None:
        groups = [order[labels[order] == label][:max_spikes_per_unit] for label in np.unique(labels)]
        order = rng.permutation(np.concatenate(groups)) if groups else order
    return np.sort(order[:max_spikes])


def _colors(unit_colors, unit_ids, labels, num_somas):
    """Colour of every label, SpikeInterface's own where the user names none."""
    from spikeinterface.widgets.utils import get_some_colors

    count = len(unit_ids) if unit_ids is not None else max(int(labels.max(initial=NO_UNIT)) + 1, num_somas)
    colors = get_some_colors(list(range(count)))
    given = unit_colors or {}
    keys = unit_ids if unit_ids is not None else range(count)
    colors.update({index: given[key] for index, key in enumerate(keys) if key in given})
    # true cells that the analyzer has no unit for
    colors.update(dict.fromkeys(range(count, num_somas), "white"))
    return {**colors, NO_UNIT: GREY}


def _limits(probegroup, places, somas):
    """Box around contacts and somas, and around the spikes as far as they are not absurdly far."""
    fixed = np.concatenate([probe.contact_positions[:, :2] for probe in probegroup.probes])
    if somas is not None:
        fixed = np.concatenate([fixed, somas])
    low, high = fixed.min(axis=0), fixed.max(axis=0)
    spikes = np.concatenate(list(places.values()))
    spikes = spikes[np.isfinite(spikes).all(axis=1)]
    if len(spikes):
        low = np.minimum(low, np.maximum(spikes.min(axis=0), low - MAX_MARGIN_UM))
        high = np.maximum(high, np.minimum(spikes.max(axis=0), high + MAX_MARGIN_UM))
    return (low[0] - PAD_UM, high[0] + PAD_UM), (low[1] - PAD_UM, high[1] + PAD_UM)


def _left_out(places, xlim, ylim):
    low, high = np.array([xlim, ylim]).T
    outside = ~((places >= low) & (places <= high)).all(axis=1)
    return f"\n{outside.sum()} of {len(places)} spikes outside" if outside.any() else ""


def _figsize(xlim, ylim, num_panels, ncols):
    columns = min(num_panels, ncols)
    height = 5.0
    # long thin probes: the panel must still hold its labels
    width = min(max(height * (xlim[1] - xlim[0]) / (ylim[1] - ylim[0]), 2.0), 8.0)
    return (width + 0.4) * columns + 1.2, (height + 0.8) * math.ceil(num_panels / columns)


def _check_axes(backend_kwargs, num_panels):
    given = backend_kwargs["ax"] if backend_kwargs["axes"] is None else backend_kwargs["axes"]
    if given is not None and np.size(given) < num_panels:
        raise InputError(f"There are {num_panels} panels to draw, but only {np.size(given)} axes were given.")


def _draw_probe(ax, probegroup):
    from probeinterface.plotting import plot_probe

    for probe in probegroup.probes:
        flat = probe if probe.ndim == 2 else probe.to_2d("xy")
        sides = [None] if flat.contact_sides is None else np.unique(flat.contact_sides)
        for side in sides:
            contacts, contour = plot_probe(
                flat,
                ax=ax,
                title=False,
                side=side,
                contacts_colors="w",
                contact_kwargs={"edgecolor": "0.6", "lw": 0.6, "alpha": 1.0},
                probe_shape_kwargs={"facecolor": "0.95", "edgecolor": "0.8", "lw": 0.6, "alpha": 1.0},
            )
            contacts.set_zorder(2)
            if contour is not None:
                contour.set_zorder(1)


def _draw_ellipses(ax, places, stds, order, colors):
    from matplotlib.collections import EllipseCollection

    usable = np.isfinite(stds).all(axis=1) & np.isfinite(places).all(axis=1)
    chosen = order[usable[order]][:MAX_ELLIPSES]
    if not len(chosen):
        return
    widths, heights = 2.0 * stds[chosen].T
    collection = EllipseCollection(
        widths,
        heights,
        np.zeros(len(chosen)),
        units="xy",
        offsets=places[chosen],
        offset_transform=ax.transData,
        facecolors="none",
        edgecolors=[colors[index] for index in chosen],
        linewidths=1.1,
        zorder=4,
    )
    ax.add_collection(collection, autolim=False)


def _draw_legend(ax, with_somas, with_ellipses):
    from matplotlib.lines import Line2D

    entries = []
    if with_somas:
        entries.append(("true soma", {"marker": "*", "markersize": 10, "markerfacecolor": "w"}))
    if with_ellipses:
        entries.append(("1 sd", {"marker": "o", "markersize": 11, "markerfacecolor": "none"}))
    if not entries:
        return
    handles = [Line2D([], [], ls="", markeredgecolor="k", label=label, **style) for label, style in entries]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, borderaxespad=0.0)
