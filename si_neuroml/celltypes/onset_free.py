"""Features that tell when and how a laboratory stimulated, by their names; datasets without them.

A laboratory that starts its steps at 1.02 s and another at 0.5 s are told apart by the time of the first spike on the
clock of the sweep, and where one of them recorded most cells of a type, that type is found without a look at the cell.
Times from the onset are safe as far as the onset is; latencies and rheobases also follow the steps that were tried.
What is left are times between events of one spike, potentials, rates, and passive properties.

Names say it only so far: :func:`onset_dependent` gives a reason for each name that it finds, and ``also`` and ``keep``
correct it. The length of the step (in rates and adaptation) and the bandwidth (in slopes) leave traces in other
features: whether data sets can still be told apart is measured by :func:`~.dataset_probe.dataset_probe`.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from .dataset import CellDataset

__all__ = ["ONSET_KINDS", "onset_dependent", "onset_free"]

_EVENTS = "threshold|peak|trough|spike|ap|upstroke|downstroke"
# of names in lower case with "_" for everything but letters and digits
ONSET_KINDS = {
    "clock": (rf"(^|_)({_EVENTS})_t(_|$)", r"(^|_)sweep(_|$)", r"(^|_)(onset|offset|start|stop)(_|$)"),
    "onset": (
        r"(^|_)(latency|delay)(_|$)",
        rf"^(first_|last_)?(fast_|slow_)?({_EVENTS})_(time_)?m?s$",
        rf"(^|_)({_EVENTS})_times?(_|$)",
        r"(^|_)time_(to|of)(_|$)",
        r"(^|_)sag_time(_|$)",
    ),
    "protocol": (r"(^|_)(rheobase|threshold)_(i|pa|na)(_|$)", r"^(vm_for_sag|electrode_0|seal|holding|bias)(_|$)"),
}


def onset_dependent(names: Sequence[str], kinds: Sequence[str] = ("clock", "onset", "protocol")) -> dict[str, str]:
    """Which features depend on the stimulus, and how.

    Parameters
    ----------
    names : sequence of str
        Such as ``threshold_t_ramp`` of the Allen Institute's tables, ``first_peak_s`` of :mod:`~.features`, or
        ``Latency (ms)``.
    kinds : sequence of {"clock", "onset", "protocol"}
        Times on the clock of the sweep, and sweeps' numbers; times counted from the onset; currents that were chosen by
        a protocol (the step at rheobase, the one at which the sag is measured, holding currents) and qualities of the
        seal.

    Returns
    -------
    dict of str
        {name: kind} in the order of `names`. Times from one part of a spike to another (``_to_``) are not among them,
        neither are numbers in pA of a cell's own (slopes of the f-I line).

    Raises
    ------
    InputError
        On an unknown kind.
    """
    unknown = [kind for kind in kinds if kind not in ONSET_KINDS]
    if unknown:
        raise InputError(f"Kinds of dependence are {list(ONSET_KINDS)}, got {unknown}.")
    found = {}
    for name in names:
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if re.search(r"(^|_)(threshold|peak|trough)_to_", plain):
            continue
        kind = next((kind for kind in kinds if any(re.search(one, plain) for one in ONSET_KINDS[kind])), None)
        if kind is not None:
            found[name] = kind
    return found


def onset_free(
    dataset: "CellDataset",
    kinds: Sequence[str] = ("clock", "onset", "protocol"),
    *,
    also: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> "CellDataset":
    """The dataset without the features that :func:`onset_dependent` names.

    Parameters
    ----------
    dataset : CellDataset
    kinds : sequence of {"clock", "onset", "protocol"}
        Default: all.
    also, keep : sequences of str, optional
        Further features to leave out, and such to leave in.

    Returns
    -------
    CellDataset
        Images stay: their times are from the onset.

    Raises
    ------
    InputError
        On features in `also` or `keep` that the dataset does not have, an unknown kind, or when no feature is left.
    """
    from dataclasses import replace

    lost = [name for name in (*also, *keep) if name not in dataset.feature_names]
    if lost:
        raise InputError(f"The dataset has no features {lost}.")
    dropped = ({*onset_dependent(dataset.feature_names, kinds)} | {*also}) - {*keep}
    kept = [k for k, name in enumerate(dataset.feature_names) if name not in dropped]
    if not kept:
        raise InputError(f"All {len(dataset.feature_names)} features depend on the stimulus: none is left.")
    names = tuple(np.array(dataset.feature_names)[kept].tolist())
    return replace(dataset, features=dataset.features[:, kept], feature_names=names)
