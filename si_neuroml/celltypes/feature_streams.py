"""The features once more as streams, so that models of other kinds than boosted trees look at them too.

Trees, a logistic regression and a forest err on other cells, and what they agree on is more often right: on cells of
donors left out their fusion was better than each of them (Dietterich 2000, Multiple Classifier Systems, LNCS 1857:1).
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .cell_streams import CellStream

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = ["FEATURE_STREAMS", "feature_ensemble", "with_feature_streams"]

FEATURE_STREAMS = ("features_linear", "features_forest")


def with_feature_streams(dataset: "CellDataset") -> "CellDataset":
    """The dataset with its features also as the streams "features_linear" and "features_forest".

    Parameters
    ----------
    dataset : CellDataset
        To learn from or to predict: both need the streams.

    Returns
    -------
    CellDataset

    Raises
    ------
    InputError
        When it has no features.
    """
    if not dataset.feature_names:
        raise InputError("The dataset has no features that could be streams.")
    stream = CellStream(dataset.features, {"feature": np.arange(len(dataset.feature_names))})
    return replace(dataset, streams={**dataset.streams, **dict.fromkeys(FEATURE_STREAMS, stream)})


def feature_ensemble(dataset: "CellDataset", **feature_kwargs: Any) -> dict[str, Any]:
    """Arguments of :func:`~si_neuroml.celltypes.fit.fit_cell_type_classifier` for the fusion of all three.

    Parameters
    ----------
    dataset : CellDataset
        From :func:`with_feature_streams`.
    **feature_kwargs
        Of the boosted trees, such as ``method="lightgbm"``.

    Returns
    -------
    dict
    """
    # as many components as features: nothing is left out, only scaled
    number = {"num_components": len(dataset.feature_names)}
    linear, forest = {"C": 1.0, **number}, {"method": "extra_trees", **number}
    return {
        "model": ("features", *FEATURE_STREAMS),
        "feature_kwargs": feature_kwargs or None,
        "stream_kwargs": dict(zip(FEATURE_STREAMS, (linear, forest), strict=True)),
    }
