"""Simulated recordings with known soma places, made by MEArec from the cell templates of this package.

The defaults are the benchmark of Hurwitz et al. 2019 ("Scalable spike source localization in extracellular recordings
using amortized variational inference", NeurIPS): 40 excitatory and 10 inhibitory cells at least 20 um apart, one
minute, noise of distant neurons at 10, 20 or 30 uV, Butterworth band-pass of order 3 from 300 to 6000 Hz.
"""

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, SINeuroMLError
from .cache import entry_path, read_entry, write_entry
from .convert import attach_ground_truth, make_recording, make_sorting
from .mearec_run import NOISE_MODES, run_mearec
from .selection import select_background, select_cells
from .templates import CellTemplates, probe_template_path, read_templates

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording, BaseSorting

__all__ = ["derive_seeds", "generate_mearec_recording", "read_mearec_ground_truth"]

SEED_PARTS = ("neurons", "spiketrains", "convolution", "noise")
# Raised when the same parameters come to give another recording, so that cached ones are made anew.
RECIPE_VERSION = 1


def generate_mearec_recording(
    probe: str = "square_mea",
    *,
    duration: float = 60.0,
    num_excitatory: int = 40,
    num_inhibitory: int = 10,
    noise_level: float = 10.0,
    noise_mode: str = "far-neurons",
    min_distance_um: float = 20.0,
    min_amplitude_uv: float = 50.0,
    max_amplitude_uv: float | None = 300.0,
    excitatory_rate_hz: float = 5.0,
    inhibitory_rate_hz: float = 15.0,
    amplitude_modulation: str = "electrode",
    amplitude_sd: float = 0.05,
    far_neurons_n: int = 300,
    far_neurons_max_amp_uv: float = 10.0,
    filter_band_hz: tuple[float, float] | None = (300.0, 6000.0),
    filter_order: int = 3,
    sampling_frequency: float | None = None,
    templates: CellTemplates | str | Path | None = None,
    exclude_templates: tuple[int, ...] = (),
    seed: int = 0,
    neuron_seed: int | None = None,
    spiketrain_seed: int | None = None,
    convolution_seed: int | None = None,
    noise_seed: int | None = None,
    cache_folder: str | Path | None = None,
    overwrite: bool = False,
) -> "tuple[BaseRecording, BaseSorting]":
    """Simulate an extracellular recording in which every spike's source place is known.

    The cells and their places follow from ``neuron_seed`` alone (given the templates, counts and limits), so recordings
    that differ in noise, duration or spike trains can share them. The shipped templates hold some 75 excitatory cells
    within the default amplitude limits, so two seeds share about 24 of their 40. To test on cells never seen in
    training, pass the training recording's ``gt_template_index`` as ``exclude_templates``, with fewer cells or wider
    limits (30 uV and None leave 112 to draw from).

    Parameters
    ----------
    probe : str, default: "square_mea"
        "square_mea" or "neuropixels_64"; ignored if ``templates`` is given.
    duration : float, default: 60.0
        In s.
    num_excitatory, num_inhibitory : int, default: 40 and 10
        How many cells.
    noise_level : float, default: 10.0
        Standard deviation of the noise on every channel in uV, before the filter (as in MEArec); 0 for none.
    noise_mode : {"far-neurons", "uncorrelated", "distance-correlated"}, default: "far-neurons"
        Spikes of distant cells plus a floor, independent Gaussian, or Gaussian correlated between near contacts.
    min_distance_um : float, default: 20.0
        Least distance between two somas, in three dimensions.
    min_amplitude_uv, max_amplitude_uv : float or None, default: 50.0 and 300.0
        Only cells whose template's largest trough lies between the two (MEArec's defaults). None for no upper limit.
    excitatory_rate_hz, inhibitory_rate_hz : float, default: 5.0 and 15.0
        Mean Poisson rates (MEArec's defaults, sd 1 and 3 Hz over cells): 21,000 spikes in all in one minute.
    amplitude_modulation : {"electrode", "template", "none"}, default: "electrode"
        Whether each spike's amplitude varies per contact, as a whole, or not at all.
    amplitude_sd : float, default: 0.05
        Relative standard deviation of that variation.
    far_neurons_n : int, default: 300
        Distant cells in the background; fewer if the templates hold fewer.
    far_neurons_max_amp_uv : float, default: 10.0
        Only cells with a smaller trough make up the background.
    filter_band_hz : tuple of float or None, default: (300.0, 6000.0)
        Pass band of a zero-phase Butterworth filter in Hz; None for unfiltered traces.
    filter_order : int, default: 3
        Order of that filter.
    sampling_frequency : float or None, default: None
        In Hz; None for that of the templates (32,000). MEArec resamples the templates to any other.
    templates : CellTemplates, str, Path or None, default: None
        Other templates, or a file of them; None for those of ``probe``.
    exclude_templates : tuple of int, default: ()
        Indices of templates never drawn as cells.
    seed : int, default: 0
        The four seeds below are derived from it where they are None.
    neuron_seed, spiketrain_seed, convolution_seed, noise_seed : int or None, default: None
        Which cells; when they fire; how spikes vary and are jittered within a sample; the noise and its distant cells.
    cache_folder : str, Path or None, default: None
        Save the recording here under a name made from all parameters and load it the next time, then without MEArec.
        None keeps it in memory (one minute of 100 channels: 0.8 GB, and about as much temporary disk twice over).
    overwrite : bool, default: False
        Simulate anew even if the cache holds the recording.

    Returns
    -------
    recording : BaseRecording
        float32 traces in uV (gain 1, offset 0) with the probe attached, places in um.
    sorting : BaseSorting
        The true spikes, excitatory units first. Unit properties: ``gt_unit_locations`` (x, y, z in um; x and y in the
        probe's plane, z away from it), ``gt_depth_um`` (that z), ``cell_type`` ("E" or "I"), ``cell_model``,
        ``gt_rotation`` (radians around MEArec's axes), ``gt_template_index``, ``gt_amplitude_uV`` (the template's
        largest trough, unfiltered).

    Raises
    ------
    InputError
        If a parameter is out of range, or the templates do not hold such cells.
    MissingDependencyError
        If MEArec is not installed and the recording is not in the cache.

    Notes
    -----
    MEArec draws from numpy's global generator; its state is put back. The filter is applied here to the whole
    recording, since MEArec 1.11 filters piece by piece, each with a start that is already filtered (and, in memory,
    adds the filtered traces to the unfiltered ones).
    """
    settings = {
        "duration": float(duration),
        "num_excitatory": int(num_excitatory),
        "num_inhibitory": int(num_inhibitory),
        "noise_level": float(noise_level),
        "noise_mode": noise_mode,
        "min_distance_um": float(min_distance_um),
        "min_amplitude_uv": float(min_amplitude_uv),
        "max_amplitude_uv": None if max_amplitude_uv is None else float(max_amplitude_uv),
        "excitatory_rate_hz": float(excitatory_rate_hz),
        "inhibitory_rate_hz": float(inhibitory_rate_hz),
        "amplitude_modulation": amplitude_modulation,
        "amplitude_sd": float(amplitude_sd),
        "far_neurons_n": int(far_neurons_n),
        "far_neurons_max_amp_uv": float(far_neurons_max_amp_uv),
        "filter_band_hz": None if filter_band_hz is None else [float(edge) for edge in filter_band_hz],
        "filter_order": int(filter_order),
        "sampling_frequency": None if sampling_frequency is None else float(sampling_frequency),
        "exclude_templates": sorted({int(index) for index in exclude_templates}),
    }
    _check_settings(settings)
    given = dict(zip(SEED_PARTS, (neuron_seed, spiketrain_seed, convolution_seed, noise_seed), strict=True))
    settings["seeds"] = derive_seeds(seed) | {
        part: _checked_seed(s, part) for part, s in given.items() if s is not None
    }
    settings["recipe_version"] = RECIPE_VERSION
    source = probe_template_path(probe) if templates is None else templates
    settings["templates"] = _template_fingerprint(source)

    entry = None
    if cache_folder is not None:
        entry = entry_path(cache_folder, "mearec" if templates is not None else probe, settings)
        if not overwrite and (found := read_entry(entry, settings)) is not None:
            return found
    recording, sorting = _simulate(source if isinstance(source, CellTemplates) else read_templates(source), settings)
    if entry is None:
        return recording, sorting
    write_entry(entry, settings, recording, sorting, overwrite=overwrite)
    if (found := read_entry(entry, settings)) is None:
        raise SINeuroMLError(f"The recording was saved to {entry} but cannot be read back: check that disk.")
    return found


def read_mearec_ground_truth(file_path: str | Path) -> "tuple[BaseRecording, BaseSorting]":
    """Read a recording file written by MEArec, with the true places that SpikeInterface's own reader drops.

    Parameters
    ----------
    file_path : str or Path
        The HDF5 file.

    Returns
    -------
    recording : BaseRecording
        As from ``spikeinterface.extractors.read_mearec``.
    sorting : BaseSorting
        As from there, with the properties of :func:`generate_mearec_recording` that the file tells:
        ``gt_unit_locations``, ``gt_depth_um``, ``cell_type``, ``cell_model``, and, if stored, ``gt_rotation``,
        ``gt_template_index`` and ``gt_amplitude_uV``.

    Raises
    ------
    InputError
        If the file is missing, is no MEArec recording, holds no cells, or its cells drift.
    MissingDependencyError
        If MEArec is not installed.
    """
    from .convert import read_mearec_file

    return read_mearec_file(Path(file_path))


def derive_seeds(seed: int) -> dict[str, int]:
    """Derive the seeds of the four parts of a simulation from one.

    Parameters
    ----------
    seed : int
        Not negative.

    Returns
    -------
    dict
        Seeds of "neurons", "spiketrains", "convolution" and "noise", each below 2**32.
    """
    states = np.random.SeedSequence(_checked_seed(seed, "seed")).generate_state(len(SEED_PARTS))
    return {part: int(state) for part, state in zip(SEED_PARTS, states, strict=True)}


def _simulate(templates: CellTemplates, settings: dict) -> "tuple[BaseRecording, BaseSorting]":
    """Draw the cells, run MEArec, turn the result into SpikeInterface objects."""
    seeds = settings["seeds"]
    rate = settings["sampling_frequency"] or templates.sampling_frequency
    band = settings["filter_band_hz"]
    if band is not None and band[1] >= rate / 2:
        raise InputError(f"filter_band_hz ends at {band[1]:g} Hz, which must be below half of {rate:g} Hz.")
    cells = select_cells(
        templates,
        settings["num_excitatory"],
        settings["num_inhibitory"],
        min_distance_um=settings["min_distance_um"],
        min_amplitude_uv=settings["min_amplitude_uv"],
        max_amplitude_uv=math.inf if settings["max_amplitude_uv"] is None else settings["max_amplitude_uv"],
        exclude=settings["exclude_templates"],
        seed=seeds["neurons"],
    )
    background = np.array([], dtype=int)
    if settings["noise_mode"] == "far-neurons" and settings["noise_level"] > 0:
        background = select_background(
            templates,
            cells,
            max_number=settings["far_neurons_n"],
            max_amplitude_uv=settings["far_neurons_max_amp_uv"],
            seed=seeds["noise"],
        )
    traces, spike_frames = run_mearec(templates, cells, background, rate, settings)
    recording = make_recording(traces, rate, templates, is_filtered=band is not None)
    sorting = make_sorting(spike_frames, rate)
    chosen = templates.take(cells)
    attach_ground_truth(
        sorting,
        locations=chosen.locations,
        cell_models=chosen.cell_models,
        plane=templates.electrodes.get("plane", "yz"),
        rotations=chosen.rotations,
        template_indices=cells,
        amplitudes_uv=chosen.amplitudes_uv,
    )
    return recording, sorting


def _check_settings(settings: dict) -> None:
    """Refuse what MEArec would fail on late, or take without a word."""
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, got {value}.")
    for name in ("duration", "excitatory_rate_hz", "inhibitory_rate_hz", "far_neurons_n", "filter_order"):
        if settings[name] <= 0:
            raise InputError(f"{name} must be above 0, got {settings[name]:g}.")
    for name in ("num_excitatory", "num_inhibitory", "noise_level", "min_distance_um", "amplitude_sd"):
        if settings[name] < 0:
            raise InputError(f"{name} must not be negative, got {settings[name]:g}.")
    if settings["num_excitatory"] + settings["num_inhibitory"] == 0:
        raise InputError("num_excitatory and num_inhibitory are both 0: ask for at least one cell.")
    if settings["noise_mode"] not in NOISE_MODES:
        raise InputError(f"Unknown noise_mode {settings['noise_mode']!r}. Known: {', '.join(NOISE_MODES)}.")
    if settings["amplitude_modulation"] not in ("electrode", "template", "none"):
        raise InputError(
            f"Unknown amplitude_modulation {settings['amplitude_modulation']!r}. Known: electrode, template, none."
        )
    if settings["sampling_frequency"] is not None and settings["sampling_frequency"] < 10_000:
        raise InputError(
            f"sampling_frequency {settings['sampling_frequency']:g} Hz is too low for spikes: give at least 10000, "
            "or None for the templates' own."
        )
    band = settings["filter_band_hz"]
    if band is not None and (len(band) != 2 or not 0 < band[0] < band[1]):
        raise InputError(f"filter_band_hz must be (low, high) in Hz with 0 < low < high, or None; got {tuple(band)}.")


def _checked_seed(seed: int, name: str) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"The seed {name!r} must be a whole number from 0 to 2**32 - 1, got {seed!r}.")
    return int(seed)


def _template_fingerprint(source: CellTemplates | str | Path) -> str:
    digest = hashlib.sha256()
    if isinstance(source, CellTemplates):
        for array in (source.waveforms, source.locations, source.rotations, source.cell_models.astype("S")):
            digest.update(np.ascontiguousarray(array))
    else:
        path = Path(source)
        if not path.is_file():
            raise InputError(f"No template file at {path}.")
        digest.update(path.read_bytes())
    return digest.hexdigest()
