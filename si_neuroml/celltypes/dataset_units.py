"""Sorted units as a dataset of cells: from analyzers with labelled units, or from spike trains and waveforms."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .dataset import CellDataset
from .unit_streams import unit_streams

if TYPE_CHECKING:
    import pandas as pd
    from spikeinterface.core import SortingAnalyzer

__all__ = ["analyzers_dataset", "units_dataset"]


def units_dataset(cells: "pd.DataFrame", **data: Any) -> CellDataset:
    """A dataset of units that are in no analyzer.

    Parameters
    ----------
    cells : DataFrame, one row per unit
        cell_id, label ("" unlabelled), donor (the animal) and dataset (the laboratory), see
        :class:`~.dataset.CellDataset`.
    **data
        trains, durations_s, waveforms, sampling_frequency, settings, streams, num_threads as for
        :func:`~.unit_streams.unit_streams`.

    Returns
    -------
    CellDataset

    Raises
    ------
    InputError
        As :func:`~.unit_streams.unit_streams`, or when rows and units differ in number.
    """
    return CellDataset(cells, streams=unit_streams(**data))


def analyzers_dataset(
    sorting_analyzers: "Sequence[SortingAnalyzer]",
    *,
    subjects: Sequence[str],
    recordings: Sequence[str] | None = None,
    label: str | None = "cell_type",
    dataset: str | Sequence[str] = "",
) -> CellDataset:
    """A dataset of the units of several analyzers, to learn from or to predict.

    Parameters
    ----------
    sorting_analyzers : sequence of SortingAnalyzer
        One per recording, with the extension "unit_scalograms".
    subjects : sequence of str
        The animal of each: animals are left out as a whole when a classifier is judged.
    recordings : sequence of str, optional
        Names of the recordings. Default: numbered within their subject.
    label : str | None, default: "cell_type"
        Property of the units that holds their types, for example of optotagged units; "" where not known. None: no
        labels.
    dataset : str | sequence of str, default: ""
        Laboratory, for all or for each: types and laboratories that go together are learned as one.

    Returns
    -------
    CellDataset

    Raises
    ------
    InputError
        When an analyzer lacks the extension or the property, streams were computed with different settings, or the
        sequences differ in length.
    """
    from .unit_extension import SCALOGRAMS

    analyzers, subjects = list(sorting_analyzers), list(subjects)
    if recordings is None:
        recordings = [f"{subject}_{subjects[:k].count(subject)}" for k, subject in enumerate(subjects)]
    datasets = [dataset] * len(analyzers) if isinstance(dataset, str) else list(dataset)
    lengths = {"subjects": len(subjects), "recordings": len(recordings), "dataset": len(datasets)}
    if wrong := {name: length for name, length in lengths.items() if length != len(analyzers)}:
        raise InputError(f"There are {len(analyzers)} analyzers, but {wrong}: give one entry for each analyzer.")
    parts = []
    for analyzer, *names in zip(analyzers, subjects, recordings, datasets, strict=True):
        extension = analyzer.get_extension(SCALOGRAMS)
        if extension is None:
            raise InputError(f"The analyzer of {names[1]!r} has no {SCALOGRAMS!r}: compute them first.")
        parts.append(extension.get_dataset(*names, label=label))
    return CellDataset.concatenate(parts)
