"""Units of many sessions with their features and region labels, one row per unit: what region classifiers learn from.

Spike trains are read by the loaders (NWB files, area-wise HDF5, sorting analyzers) and turned into features there; a
dataset holds features only, so that hundreds of sessions fit in memory and in one ``.npz`` file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .dataset_table import as_feature_table, as_psth, as_units, feature_family
from .hierarchy import map_regions, region_level
from .quality import quality_mask

if TYPE_CHECKING:
    import pandas as pd
    from spikeinterface.core import SortingAnalyzer

__all__ = ["RegionDataset"]


@dataclass(frozen=True, eq=False)
class RegionDataset:
    """Units of one or many sessions.

    Everything is checked and brought to its type when a dataset is made; its parts are not meant to be changed in
    place.

    Attributes
    ----------
    units : DataFrame, one row per unit
        subject, recording, shank ("" where there is one), lab ("" unknown) and region ("" unlabelled) as text; unit_id;
        depth_um along the shank from its tip (float64, NaN unknown); and any further columns, such as snr,
        isi_violations_ratio, firing_rate (Hz), acronym, beryl, cosmos.
    features : float32 array, shape (num_units, num_features)
        NaN where a feature is not defined.
    feature_names : tuple of str
        Names that begin with their family: "psth_latency_s", "log_isi_03".
    psth : float32 array, shape (num_units, num_bins), or None
        Normalised responses; rows of NaN for units of sessions without events.
    bin_edges_s : float64 array, shape (num_bins + 1,), or None
        Edges of the bins in seconds from the event.

    Raises
    ------
    InputError
        When shapes do not fit, a column is missing, a unit appears twice, or a recording belongs to two subjects.
    """

    units: "pd.DataFrame"
    features: np.ndarray
    feature_names: tuple[str, ...]
    psth: np.ndarray | None = None
    bin_edges_s: np.ndarray | None = None

    def __post_init__(self):
        units = as_units(self.units)
        features, names = as_feature_table(self.features, self.feature_names, len(units))
        psth, edges = as_psth(self.psth, self.bin_edges_s, len(units))
        for name, value in zip(self.__dataclass_fields__, (units, features, names, psth, edges), strict=True):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.units)

    def __repr__(self) -> str:
        units, regions = self.units, self.units["region"]
        bins = "no PSTH" if self.psth is None else f"PSTH of {self.psth.shape[1]} bins"
        return (
            f"RegionDataset: {len(self)} units of {units['subject'].nunique()} subjects in "
            f"{units['recording'].nunique()} recordings; {int((regions != '').sum())} labelled in "
            f"{regions[regions != ''].nunique()} regions; {len(self.feature_names)} features, {bins}"
        )

    @property
    def labels(self) -> np.ndarray:
        """Region of each unit as an array of text; "" is unlabelled."""
        return self.units["region"].to_numpy(dtype=str)

    def region_counts(self) -> "pd.DataFrame":
        """How many units, subjects and recordings each region has, the largest first; unlabelled units left out."""
        labelled = self.units[self.units["region"] != ""].groupby("region")
        counts = labelled.agg(
            units=("unit_id", "size"), subjects=("subject", "nunique"), recordings=("recording", "nunique")
        )
        return counts.sort_values("units", ascending=False, kind="stable")

    def select(self, selection: np.ndarray | Sequence) -> "RegionDataset":
        """Some of the units.

        Parameters
        ----------
        selection : bool array, shape (num_units,), or int array
            A mask, or which rows in which order; a row may be taken once only.

        Returns
        -------
        RegionDataset

        Raises
        ------
        InputError
            When a mask has another length, or an index does not exist.
        """
        rows = np.asarray(selection)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise InputError(f"The mask has shape {rows.shape}, the dataset has {len(self)} units.")
            rows = np.flatnonzero(rows)
        rows = rows.astype("int64") if rows.size == 0 else rows
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise InputError(f"Units are selected by a mask or by row numbers, got {rows.dtype} of shape {rows.shape}.")
        if len(rows) and not (-len(self) <= rows.min() and rows.max() < len(self)):
            raise InputError(f"Row numbers {rows.min()} to {rows.max()} are asked for; there are {len(self)} units.")
        psth = None if self.psth is None else self.psth[rows]
        return replace(self, units=self.units.iloc[rows], features=self.features[rows], psth=psth)

    def labelled(self) -> "RegionDataset":
        """The units that have a region."""
        return self.select(self.labels != "")

    def filter_quality(
        self,
        *,
        min_snr: float | None = 1.0,
        max_isi_violations: float | None = 0.01,
        min_firing_rate_hz: float | None = 0.1,
        missing: str = "raise",
    ) -> "RegionDataset":
        """Well isolated units only, by default as in the source paper; see :func:`~.quality.quality_mask`.

        Parameters
        ----------
        min_snr, max_isi_violations, min_firing_rate_hz : float | None, default: 1.0, 0.01, 0.1
            Thresholds on the columns snr, isi_violations_ratio and firing_rate; None leaves one out.
        missing : "raise" | "ignore", default: "raise"
            "raise": an error when a whole column is not known, and units without a value fail. "ignore": what is not
            known is passed.

        Returns
        -------
        RegionDataset
        """
        return self.select(
            quality_mask(
                self.units,
                min_snr=min_snr,
                max_isi_violations=max_isi_violations,
                min_firing_rate_hz=min_firing_rate_hz,
                missing=missing,
            )
        )

    def group_regions(
        self, level: str | Mapping[str, str | Sequence[str]], *, unknown: str = "unlabelled"
    ) -> "RegionDataset":
        """Labels at another level.

        Parameters
        ----------
        level : str | mapping
            The name of a column of units ("cosmos", "beryl", "acronym"); "area", "group" or the name of a group of
            the source paper ("visual_cortex", "hippocampus", "thalamus", "midbrain"), see
            :func:`~.hierarchy.region_level`; or a mapping, see :func:`~.hierarchy.map_regions`.
        unknown : "unlabelled" | "keep" | "raise", default: "unlabelled"
            What becomes of labels that the level does not know; they are counted in a warning.

        Returns
        -------
        RegionDataset
            With new regions; the first labels stay in the column "acronym".
        """
        if isinstance(level, Mapping):
            regions = map_regions(self.labels, level, unknown=unknown)
        elif level in self.units:
            regions = self.units[level]
        else:
            regions = region_level(self.labels, level, unknown=unknown)
        units = self.units.assign(region=regions)
        if "acronym" not in units:
            units["acronym"] = self.units["region"]
        return replace(self, units=units)

    def drop_rare(self, min_units: int = 50, min_subjects: int = 3) -> "RegionDataset":
        """Without the regions that cannot be learnt or judged; unlabelled units stay.

        Parameters
        ----------
        min_units, min_subjects : int, default: 50, 3
            A region stays with at least so many units, from at least so many subjects: with one it cannot be judged on
            an unseen subject, with two there is one left to learn from.

        Returns
        -------
        RegionDataset

        Raises
        ------
        InputError
            When fewer than two regions remain, with the counts.
        """
        counts = self.region_counts()
        kept = counts.index[(counts["units"] >= min_units) & (counts["subjects"] >= min_subjects)]
        if len(kept) < 2:
            table = "; ".join(f"{row.Index}: {row.units} units, {row.subjects} subjects" for row in counts.itertuples())
            raise InputError(
                f"{len(kept)} of {len(counts)} regions have at least {min_units} units and {min_subjects} subjects; a "
                f"classifier needs two. There are: {table or 'no labelled units'}. Lower min_units or min_subjects, "
                "group regions, or add sessions."
            )
        return self.select(np.isin(self.labels, [*kept, ""]))

    @classmethod
    def concatenate(cls, datasets: Sequence["RegionDataset"]) -> "RegionDataset":
        """Several datasets as one.

        Parameters
        ----------
        datasets : sequence of RegionDataset
            With the same features, in any order, and the same bins of the PSTH. One that has no PSTH, or nothing of a
            family of features (no events, no waveforms), gets NaN there.

        Returns
        -------
        RegionDataset

        Raises
        ------
        InputError
            When features or bins differ, or a unit is in two of them.
        """
        import pandas as pd

        datasets = list(datasets)
        if not datasets:
            raise InputError("There are no datasets to put together.")
        names = tuple(dict.fromkeys(name for one in datasets for name in one.feature_names))
        edges = next((one.bin_edges_s for one in datasets if one.psth is not None), None)
        psth = None if edges is None else np.concatenate([one._psth_on(edges) for one in datasets])
        return cls(
            units=pd.concat([one.units for one in datasets], ignore_index=True),
            features=np.concatenate([one._features_on(names) for one in datasets]),
            feature_names=names,
            psth=psth,
            bin_edges_s=edges,
        )

    def _features_on(self, names):
        """Features in another order; NaN for families that this dataset has nothing of."""
        mine = {feature_family(name) for name in self.feature_names}
        partly = [name for name in names if name not in self.feature_names and feature_family(name) in mine]
        if partly:
            raise InputError(
                f"Datasets with different features of the families {sorted({feature_family(one) for one in partly})} "
                f"cannot be put together: {len(partly)} are missing in one of them, such as {partly[:5]}. Compute all "
                "with the same settings."
            )
        columns = np.append(self.features, np.full((len(self), 1), np.nan, dtype="float32"), axis=1)
        places = {name: k for k, name in enumerate(self.feature_names)}
        return columns[:, [places.get(name, -1) for name in names]]

    def _psth_on(self, edges):
        if self.psth is None:
            return np.full((len(self), len(edges) - 1), np.nan, dtype="float32")
        if len(self.bin_edges_s) != len(edges) or not np.allclose(self.bin_edges_s, edges):
            bins = [f"{len(one) - 1} bins from {one[0]:g} to {one[-1]:g} s" for one in (edges, self.bin_edges_s)]
            raise InputError(
                f"PSTHs of {' and of '.join(bins)} cannot be put together. Compute both with the same window and bin."
            )
        return self.psth

    def save(self, path: str | Path) -> Path:
        """Save as a compressed ``.npz`` file, whole or not at all; see :func:`~.dataset_file.write_dataset`."""
        from .dataset_file import write_dataset

        return write_dataset(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "RegionDataset":
        """Load what :meth:`save` wrote."""
        from .dataset_file import read_dataset

        return read_dataset(path)[0]

    @classmethod
    def from_table(
        cls,
        units: "pd.DataFrame",
        features: "pd.DataFrame | np.ndarray",
        psth: np.ndarray | None = None,
        *,
        feature_names: Sequence[str] | None = None,
        bin_edges_s: np.ndarray | None = None,
    ) -> "RegionDataset":
        """A dataset from tables made elsewhere.

        Parameters
        ----------
        units : DataFrame
            With at least subject, recording, unit_id and region; see the class.
        features : DataFrame or array, shape (num_units, num_features)
            Row by row the same units, whatever their index is.
        psth : array, shape (num_units, num_bins), optional
            Normalised responses.
        feature_names : sequence of str, optional
            Needed for an array.
        bin_edges_s : array, shape (num_bins + 1,), optional
            Needed with `psth`.

        Returns
        -------
        RegionDataset
        """
        if feature_names is None:
            feature_names = getattr(features, "columns", None)
            if feature_names is None:
                raise InputError("features is an array: name its columns by feature_names, or pass a DataFrame.")
        return cls(units, np.asarray(features), tuple(map(str, feature_names)), psth, bin_edges_s)

    @classmethod
    def from_analyzer(cls, sorting_analyzer: "SortingAnalyzer", *, subject: str, **kwargs: Any) -> "RegionDataset":
        """A dataset from one SortingAnalyzer; see :func:`~.dataset_analyzer.analyzer_dataset`."""
        from .dataset_analyzer import analyzer_dataset

        return analyzer_dataset(sorting_analyzer, subject=subject, **kwargs)

    @classmethod
    def from_analyzers(cls, sorting_analyzers: "Sequence[SortingAnalyzer]", **kwargs: Any) -> "RegionDataset":
        """A dataset from several SortingAnalyzers; see :func:`~.dataset_analyzer.analyzers_dataset`."""
        from .dataset_analyzer import analyzers_dataset

        return analyzers_dataset(sorting_analyzers, **kwargs)

    @classmethod
    def from_nwb(cls, paths: str | Path | Sequence[str | Path], **kwargs: Any) -> "RegionDataset":
        """A dataset from one or many NWB files; see :func:`~.dataset_sessions.nwb_dataset`."""
        from .dataset_sessions import nwb_dataset

        return nwb_dataset(paths, **kwargs)

    @classmethod
    def from_area_hdf5(cls, paths: str | Path | Sequence[str | Path], **kwargs: Any) -> "RegionDataset":
        """A dataset from area-wise HDF5 files or a folder of them; see :func:`~.dataset_sessions.area_dataset`."""
        from .dataset_sessions import area_dataset

        return area_dataset(paths, **kwargs)
