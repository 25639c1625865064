"""Where a unit lies, from its average waveform: the posterior of a spike without noise, and SpikeInterface's tables.

The average is what the model was trained on with the noise taken away. It says nothing of how the spikes of the unit
differ from each other; the pooled posteriors of the spikes (``source="spikes"`` of
:class:`~si_neuroml.localization.extension.ComputeUnitLocationPosteriors`) do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import SortingAnalyzer, Templates
from spikeinterface.core.template_tools import get_dense_templates_array

from ..errors import InputError
from .geometry import as_locations_3d
from .neural_posterior import PreparedPosterior, check_peak_sign, posterior_model

__all__ = ["contacts_of", "localize_templates", "main_contact_places", "template_posteriors", "unit_locations"]


def localize_templates(
    prepared: PreparedPosterior,
    templates: np.ndarray,
    *,
    main_channel_indices: np.ndarray,
    peak_sign: str = "neg",
) -> np.ndarray:
    """Posteriors of average waveforms.

    Parameters
    ----------
    prepared : PreparedPosterior
        The model on the probe and at the sampling rate of the templates.
    templates : array, shape (num_units, num_samples, num_channels)
        In uV; NaN where a unit has no waveform. They are looked at from the channel and the sample where they are
        largest; a window shorter than the model's reads as 0 beyond its ends.
    main_channel_indices : int array, shape (num_units,)
        Where to put units of which nothing is seen.
    peak_sign : "neg" | "pos" | "both", default: "neg"
        Direction of the spikes.

    Returns
    -------
    array of POSTERIOR_DTYPE, shape (num_units,)
        A unit of which nothing is seen has the posterior of :func:`~.neural_posterior.blank_posteriors`.
    """
    check_peak_sign(peak_sign)
    channels = np.array(main_channel_indices, dtype="int64")
    size = prepared.window.nbefore + prepared.window.nafter
    patches = np.zeros((len(templates), prepared.geometry.slots.num_slots, size + 1), dtype="float32")
    # one unit after the other: all of them at once would be a copy of the dense templates
    for unit, template in enumerate(templates):
        towards = {"neg": np.negative, "pos": np.positive, "both": np.abs}[peak_sign](template)
        sample, channel = np.unravel_index(np.argmax(np.where(np.isnan(towards), 0.0, towards)), template.shape)
        if towards[sample, channel] > 0:
            channels[unit] = channel
        patches[unit] = prepared.patches(template, [sample], channels[[unit]])[0]
    return prepared.localize_patches(patches, channels, peak_sign=peak_sign)


def template_posteriors(
    sorting_analyzer_or_templates: SortingAnalyzer | Templates,
    unit_ids: Sequence | None = None,
    model: str | Path | dict[str, Any] | None = None,
    peak_sign: str = "neg",
) -> np.ndarray:
    """Posteriors over the places of units from their templates.

    Parameters
    ----------
    sorting_analyzer_or_templates : SortingAnalyzer | Templates
        An analyzer with the extension "templates", dense or sparse, with or without its recording; or templates in uV
        with a probe.
    unit_ids : sequence, optional
        Which units, in this order. Default: all.
    model : str | Path | NeuralPosterior, optional
        Another model than the one that comes with the package.
    peak_sign : "neg" | "pos" | "both", default: "neg"
        Direction of the spikes.

    Returns
    -------
    array of POSTERIOR_DTYPE, shape (num_units,)

    Raises
    ------
    InputError
        When there are no templates, no probe or, for Templates, no uV.
    """
    source = sorting_analyzer_or_templates
    locations, shanks = contacts_of(source)
    prepared = posterior_model(model).prepare(locations, source.sampling_frequency, shank_indices=shanks)
    unit_indices = _indices(list(source.unit_ids), unit_ids)
    templates = _templates_in_uv(source, unit_indices)
    channels = np.zeros(len(unit_indices), dtype="int64")
    if (unseen := ~(np.abs(templates) > 0).any(axis=(1, 2))).any():
        channels[unseen] = _main_channel_indices(source)[unit_indices[unseen]]
    return localize_templates(prepared, templates, main_channel_indices=channels, peak_sign=peak_sign)


def unit_locations(
    sorting_analyzer_or_templates: SortingAnalyzer | Templates,
    unit_ids: Sequence | None = None,
    model: str | Path | dict[str, Any] | None = None,
    peak_sign: str = "neg",
) -> np.ndarray:
    """Places of units from their templates, ``analyzer.compute("unit_locations", method="neural_posterior")``.

    Parameters
    ----------
    sorting_analyzer_or_templates, unit_ids, model, peak_sign
        As for :func:`template_posteriors`.

    Returns
    -------
    float64 array, shape (num_units, 3)
        x, y and z in um.
    """
    posteriors = template_posteriors(sorting_analyzer_or_templates, unit_ids, model, peak_sign)
    return np.column_stack([posteriors[axis] for axis in "xyz"])


def contacts_of(source: SortingAnalyzer | Templates) -> tuple[np.ndarray, np.ndarray]:
    """Places (num_channels, 2 or 3) in um and shank numbers, in the order of the channels; no recording needed."""
    if isinstance(source, Templates):
        if source.probe is None:
            raise InputError("These templates have no probe, so their contacts have no places: set templates.probe.")
        contacts, num_dims = source.probe.to_numpy(complete=True), source.probe.ndim
    else:
        group = source.get_probegroup()
        contacts, num_dims = group.to_numpy(complete=True), group.ndim
        contacts = contacts[np.argsort(contacts["device_channel_indices"], kind="stable")]
    locations = np.column_stack([contacts[axis] for axis in "xyz"[:num_dims]])
    names = [name for name in ("probe_index", "shank_ids") if name in contacts.dtype.names]
    shanks = np.zeros(len(contacts), dtype="int64")
    if names:
        labels = np.stack([contacts[name].astype(str) for name in names])
        shanks = np.unique(labels, axis=1, return_inverse=True)[1].ravel()
    return locations, shanks


def main_contact_places(sorting_analyzer_or_templates: SortingAnalyzer | Templates) -> np.ndarray:
    """Places of the units' main channels, recording or not: float64 array, shape (num_units, 3), in um."""
    locations = as_locations_3d(contacts_of(sorting_analyzer_or_templates)[0])
    return locations[_main_channel_indices(sorting_analyzer_or_templates)]


def _main_channel_indices(source):
    if isinstance(source, SortingAnalyzer):
        # get_main_channels() takes an analyzer without its recording for one of an older version, and guesses
        known = source.get_sorting_property("main_channel_id")
        if known is not None and np.isin(known, source.channel_ids).all():
            return source.channel_ids_to_indices(known)
    return np.asarray(source.get_main_channels(outputs="index", with_dict=False))


def _indices(all_ids, unit_ids):
    if unit_ids is None:
        return np.arange(len(all_ids))
    missing = [unit_id for unit_id in unit_ids if unit_id not in all_ids]
    if missing:
        raise InputError(f"There are no units {missing}; the {len(all_ids)} units are {all_ids[:10]}...")
    return np.array([all_ids.index(unit_id) for unit_id in unit_ids], dtype="int64")


def _templates_in_uv(source, unit_indices):
    """Average waveforms (num_units, num_samples, num_channels), NaN where the unit has none."""
    if isinstance(source, SortingAnalyzer):
        if source.get_extension("templates") is None:
            raise InputError('The analyzer has no templates. Call analyzer.compute(["random_spikes", "templates"]).')
        mask = None if source.sparsity is None else source.sparsity.mask
        in_uv = source.return_in_uV
    else:
        mask, in_uv = source.sparsity_mask, source.is_in_uV
    templates = np.array(get_dense_templates_array(source, return_in_uV=in_uv)[unit_indices], dtype="float32")
    # a unit without spikes, before an offset makes something of its zeros
    templates[~templates.any(axis=(1, 2))] = np.nan
    if not in_uv:
        gains, offsets = _gains_and_offsets(source)
        templates = templates * gains + offsets
    if mask is not None:
        templates[np.broadcast_to(~mask[unit_indices][:, None], templates.shape)] = np.nan
    return templates


def _gains_and_offsets(source):
    if isinstance(source, Templates):
        raise InputError("These templates are not in uV (is_in_uV is False): scale them by their gains first.")
    values = [source.get_recording_property(name) for name in ("gain_to_uV", "offset_to_uV")]
    if any(value.dtype == object for value in values):
        # none were set: numbers are taken as uV, as they are for the spikes
        return np.float32(1.0), np.float32(0.0)
    return [value.astype("float32") for value in values]
