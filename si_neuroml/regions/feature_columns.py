"""Which numbers of a dataset a classifier sees, in which order: the matrix [features | stream].

Features are scalars. The *stream* is a row of ordered bins, which networks read as a sequence: the PSTH, the log-ISI
histogram or the autocorrelogram. Every estimator gets both in one matrix and knows where the stream begins.

A unit's neighbours along the shank may add columns of their own, see :mod:`si_neuroml.regions.neighbours`.

Skewed features are brought closer to a Gaussian on the way: shares and counts in histograms by the square root (which
makes their Euclidean distance that of Hellinger), sizes above zero by the logarithm.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import InputError, ModelMismatchError
from .dataset_table import feature_family
from .neighbours import neighbour_columns, neighbour_names

if TYPE_CHECKING:
    from .dataset import RegionDataset

__all__ = ["DEPTH_COLUMN", "FeatureColumns", "choose_columns", "track_codes"]

# a column of the table of units, not of the features: for the depth-only prior
DEPTH_COLUMN = "depth_um"
STREAMS = ("psth", "log_isi", "acg")
_HISTOGRAMS = ("log_isi", "acg")
_SIZES = {
    "psth_mean_rate_hz": 0.01,
    "rate_mean_hz": 0.01,
    "rate_fano": 0.01,
    "burst_size": 0.1,
    "waveform_amplitude_uv": 1.0,
    "waveform_spread_um": 1.0,
}


@dataclass(frozen=True)
class FeatureColumns:
    """The columns of a classifier; see :func:`choose_columns`.

    Attributes
    ----------
    names : tuple of str
        Features, in the order of the matrix.
    stream : tuple of str
        Features that make up the stream, () where it is the PSTH or there is none.
    bin_edges_s : tuple of float
        Edges of the bins of the PSTH, () where it is not used.
    per_recording : bool
        Whether features are centred and scaled within each recording (median, interquartile range).
    neighbours_um : tuple of float
        Bandwidths of the columns that a unit's neighbours add after its features, () for none.
    """

    names: tuple[str, ...]
    stream: tuple[str, ...] = ()
    bin_edges_s: tuple[float, ...] = ()
    per_recording: bool = False
    neighbours_um: tuple[float, ...] = ()

    @property
    def num_features(self) -> int:
        """Columns before the stream."""
        return len(self._before_stream)

    @property
    def num_stream(self) -> int:
        """Columns of the stream."""
        return len(self.stream) + max(0, len(self.bin_edges_s) - 1)

    @property
    def families(self) -> tuple[str, ...]:
        """Family of each column of the matrix; "stream" for those of the PSTH."""
        named = [feature_family(name) for name in (*self._before_stream, *self.stream)]
        return (*named, *["stream"] * (self.num_stream - len(self.stream)))

    @property
    def _before_stream(self):
        return (*self.names, *neighbour_names(self.names, self.neighbours_um))

    def matrix(self, dataset: "RegionDataset") -> np.ndarray:
        """The matrix of a dataset, float32, shape (num_units, num_features + num_stream); NaN where not defined.

        Raises
        ------
        ModelMismatchError
            When the dataset lacks some of the columns, or its PSTH has other bins.
        """
        columns = self._features(dataset)
        if self.per_recording:
            columns = _scaled_within(columns, dataset.units["recording"].to_numpy(dtype=str))
        if self.neighbours_um:
            own, stream = np.split(columns, [len(self.names)], axis=1)
            depth_um = dataset.units[DEPTH_COLUMN].to_numpy("float64")
            beside = neighbour_columns(own, depth_um, track_codes(dataset), self.neighbours_um)
            columns = np.concatenate([own, beside, stream], axis=1)
        if self.bin_edges_s:
            columns = np.concatenate([columns, self._psth(dataset)], axis=1)
        return np.ascontiguousarray(columns, dtype="float32")

    def _features(self, dataset):
        wanted = [*self.names, *self.stream]
        places = {name: k for k, name in enumerate(dataset.feature_names)}
        missing = [name for name in wanted if name not in places and name != DEPTH_COLUMN]
        if missing:
            raise ModelMismatchError(
                f"The classifier needs {len(wanted)} features; {len(missing)} are missing here: "
                f"{', '.join(missing[:8])}{' ...' if len(missing) > 8 else ''}. Compute them with the settings of the "
                "training data, or fit a classifier with feature_families that both have."
            )
        table = [
            dataset.units[DEPTH_COLUMN].to_numpy("float64")
            if name == DEPTH_COLUMN
            else _less_skewed(name, dataset.features[:, places[name]].astype("float64"))
            for name in wanted
        ]
        return np.stack(table, axis=1) if table else np.zeros((len(dataset), 0))

    def _psth(self, dataset):
        if dataset.psth is None:
            raise ModelMismatchError(
                f"The classifier reads PSTHs of {self.num_stream} bins; this dataset has none. Compute features with "
                'event times, or fit a classifier with stream="log_isi" or None.'
            )
        edges = np.asarray(dataset.bin_edges_s)
        if len(edges) != len(self.bin_edges_s) or not np.allclose(edges, self.bin_edges_s, atol=1e-6):
            own = self.bin_edges_s
            raise ModelMismatchError(
                f"The classifier reads PSTHs of {len(own) - 1} bins from {own[0]:g} to {own[-1]:g} s; these have "
                f"{len(edges) - 1} from {edges[0]:g} to {edges[-1]:g} s. Compute them with the same window and bin."
            )
        return dataset.psth

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()})


def choose_columns(
    dataset: "RegionDataset",
    *,
    families: Sequence[str] | None = None,
    stream: str | None = None,
    per_recording: bool = False,
    neighbours_um: float | Sequence[float] | None = None,
) -> FeatureColumns:
    """The columns of a dataset that a classifier is fitted to.

    Parameters
    ----------
    dataset : RegionDataset
        The training units.
    families : sequence of str, optional
        Families of features ("psth", "rate", "isi", "burst", "log_isi", "acg", "waveform", ...). Default: all that have
        a value for at least one unit.
    stream : {"psth", "log_isi", "acg", "auto"}, optional
        What networks read as a sequence. "auto": the PSTH where the dataset has one, else the log-ISI histogram.
        Default: nothing.
    per_recording : bool, default: False
        Whether to centre and scale features within each recording.
    neighbours_um : float or sequence of float, optional
        Bandwidths of the columns of neighbours. Default: none.

    Returns
    -------
    FeatureColumns

    Raises
    ------
    InputError
        On an unknown family or stream, or when nothing is left.
    """
    known = sorted({feature_family(name) for name in dataset.feature_names})
    if families is not None and (unknown := sorted(set(families) - set(known))):
        raise InputError(f"There are no features of the families {unknown}; there are {known}.")
    used = np.isfinite(dataset.features).any(axis=0)
    names = [
        name
        for name, has_values in zip(dataset.feature_names, used, strict=True)
        if (has_values if families is None else feature_family(name) in families)
    ]
    has_psth = dataset.psth is not None and bool(np.isfinite(dataset.psth).any())
    if stream == "auto":
        stream = "psth" if has_psth else "log_isi"
    if stream is not None and stream not in STREAMS:
        raise InputError(f"stream must be one of {list(STREAMS)}, 'auto' or None, got {stream!r}.")
    if stream == "psth" and not has_psth:
        raise InputError("stream='psth', but the dataset has no PSTH. Compute features with event times.")
    own = [name for name in dataset.feature_names if stream in _HISTOGRAMS and feature_family(name) == stream]
    if stream in _HISTOGRAMS and not own:
        raise InputError(f"A network reads a stream of bins, but the dataset has neither {stream!r} nor others chosen.")
    names = [name for name in names if name not in own]
    if not names and stream is None:
        raise InputError(f"None of {len(dataset.feature_names)} features has a value for any unit.")
    edges = tuple(map(float, dataset.bin_edges_s)) if stream == "psth" else ()
    widths = () if neighbours_um is None else tuple(map(float, np.atleast_1d(neighbours_um)))
    if widths and not (names and np.isfinite(dataset.units[DEPTH_COLUMN]).any()):
        raise InputError("neighbours_um needs features beside the stream and units with a depth; there are none.")
    return FeatureColumns(tuple(names), tuple(own), edges, bool(per_recording), widths)


def track_codes(dataset: "RegionDataset") -> np.ndarray:
    """A whole number for each shank of each recording, int64, shape (num_units,): what neighbours are on."""
    return dataset.units.groupby(["recording", "shank"], sort=False).ngroup().to_numpy("int64")


def _less_skewed(name, values):
    if feature_family(name) in _HISTOGRAMS:
        return np.sqrt(np.maximum(values, 0.0))
    return np.log(np.maximum(values, _SIZES[name])) if name in _SIZES else values


def _scaled_within(columns, recordings):
    """Median 0 and interquartile range 1 in each recording; a column that hardly varies there is only centred."""
    out = np.empty_like(columns)
    for name in np.unique(recordings):
        own = recordings == name
        known = np.isfinite(columns[own])
        part = np.where(known.any(axis=0), columns[own], 0.0)
        low, middle, high = np.nanquantile(part, [0.25, 0.5, 0.75], axis=0)
        width = high - low
        out[own] = np.where(known, (columns[own] - middle) / np.where(width > 1e-9, width, 1.0), np.nan)
    return out
