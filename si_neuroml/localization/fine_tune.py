"""Adapt the simulation-trained localizer to a recording without labels, and say whether that helped.

The model as it is localizes the recording's large and isolated spikes well (the teacher). Smaller, noisier and
overlapped copies of them (:mod:`~si_neuroml.localization.fine_tune_copies`) teach the same network where such spikes
lie. Copies of other spikes, from places and with background that were never trained on, tell whether it learned
anything that carries over to other cells.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording
from spikeinterface.core.job_tools import fix_job_kwargs

from ..errors import InputError
from ..training import resolve_device
from .fine_tune_copies import SpikeCopies, place_groups
from .fine_tune_cuts import Material, collect_material
from .neural_posterior import NeuralPosterior, PreparedPosterior, check_peak_sign, posterior_model
from .recordings import TraceInfo, check_peaks, sort_peaks, trace_info
from .set_network import SetNetwork

__all__ = ["FineTuneResult", "fine_tune_localizer"]

MIN_PEAKS = 500
# spikes this close in place count as one cell's; fewer than this many of them are no cell
PLACE_UM, MIN_SPIKES_PER_PLACE, MIN_PLACES = 20.0, 5, 8
# shares of the clear spikes, whole places at a time
SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}
# of the log density; less than this is sure soon and helps nobody
MIN_GAIN = 0.02
BATCH_SIZE, LEARNING_RATE, ANCHOR = 128, 2e-4, 0.5
# copies in validation and test, and draws of the bootstrap
NUM_HELD_OUT, NUM_RESAMPLES = 1000, 1000


@dataclass(frozen=True)
class FineTuneResult:
    """What fine-tuning gives.

    Attributes
    ----------
    model : NeuralPosterior
        The fine-tuned model if it helped (or with ``keep=True``), else the very model it started from.
    helped : bool
        Whether the held-out copies became likelier beyond chance: the whole 95 % interval of ``nll_change`` lies below
        -0.02, and the median distance did not grow.
    report : dict
        Fit for JSON. ``before`` and ``after``, on held-out copies: ``nll`` (minus the log density of the teacher's
        place, in um^-3, mean), ``median_um`` (distance in the plane from the teacher's mean) and ``coverage_90`` (share
        of the teacher's posterior inside the 90 % regions); ``nll_change`` and ``median_um_change`` with their 95 %
        intervals ``..._interval``, from a bootstrap over places; ``plain_moved_um``, the median distance by which
        ordinary spikes of all sizes moved; ``helped``; ``num_test_copies`` and ``num_places`` by part; ``spikes``,
        how many peaks passed which condition; ``training``, its course.
    """

    model: NeuralPosterior
    helped: bool
    report: dict[str, Any]


def fine_tune_localizer(
    recording: BaseRecording,
    peaks: np.ndarray,
    *,
    model: NeuralPosterior | str | Path | None = None,
    steps: int = 300,
    max_spikes: int = 2000,
    peak_sign: str = "neg",
    keep: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress_bar: bool = True,
    job_kwargs: dict | None = None,
) -> FineTuneResult:
    """Fine-tune the localizer ``method="neural_posterior"`` to a recording.

    The report is about copies of large spikes as the teacher localizes them. What is wrong with the teacher on large
    spikes too (a probe whose contacts are not where they are said to be, say) it can neither mend nor see.

    Parameters
    ----------
    recording : BaseRecording
        Filtered, not whitened, with a probe; any dtype and number of segments.
    peaks : structured array
        All peaks of the recording as from ``detect_peaks()``, in any order: where none is detected is background.
    model : NeuralPosterior | str | Path, optional
        The model to start from and its own teacher, or its folder. Default: the one that comes with the package.
    steps : int, default: 300
        At most so many steps of training; it ends earlier when copies for validation become no likelier.
    max_spikes : int, default: 2000
        At most so many clear spikes are copied. Memory: about 100 kB for each.
    peak_sign : "neg" | "pos" | "both", default: "neg"
        Direction of the spikes.
    keep : bool, default: False
        Return the fine-tuned model even if it did not help.
    seed : int, default: 0
        Of everything random. Same seed and machine: same model on the CPU.
    device : "auto" | "cpu" | "cuda", default: "cpu"
        Where torch trains.
    progress_bar : bool, default: True
        Show progress.
    job_kwargs : dict, optional
        SpikeInterface's job_kwargs for reading the traces.

    Returns
    -------
    FineTuneResult
        Save its model with ``result.model.save(folder)`` and name the folder as ``method_kwargs={"model": folder}``.

    Raises
    ------
    InputError
        On a recording without a probe, peaks that do not belong to it, too few of them, or too few that are clear.
    TrainingError
        When training diverges.
    """
    _check_settings(steps, max_spikes, seed)
    check_peak_sign(peak_sign)
    device = resolve_device(device)
    info = trace_info(recording)
    check_peaks(peaks, info, need_sorted=False)
    if len(peaks) < MIN_PEAKS:
        raise InputError(
            f"Fine-tuning needs at least {MIN_PEAKS} peaks, got {len(peaks)}. Give all peaks of a longer recording, or "
            "use the model as it is."
        )
    teacher = posterior_model(model)
    prepared = teacher.prepare(info.contact_locations, info.sampling_frequency, shank_indices=info.shank_indices)
    material = collect_material(
        recording,
        sort_peaks(peaks),
        info,
        prepared,
        peak_sign=peak_sign,
        max_spikes=max_spikes,
        seed=seed,
        job_kwargs={**fix_job_kwargs(job_kwargs or {}), "progress_bar": progress_bar},
    )
    network, report = _tune(prepared, material, steps=steps, seed=seed, device=device, progress_bar=progress_bar)
    helped = report["helped"]
    if not (helped or keep):
        return FineTuneResult(teacher, helped, report)
    return FineTuneResult(_tuned_model(teacher, network, info, report, seed), helped, report)


def _check_settings(steps, max_spikes, seed):
    for name, value, least in (("steps", steps, 1), ("max_spikes", max_spikes, 200), ("seed", seed, 0)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def _tune(
    prepared: PreparedPosterior, material: Material, *, steps: int, seed: int, device: str, progress_bar: bool
) -> tuple[SetNetwork, dict[str, Any]]:
    """The student and the report on it."""
    from . import fine_tune_training as training  # torch loads here and not before

    every = np.arange(len(material.clear.channels))
    copies = {part: _copies(prepared, material, half) for half, part in enumerate(("train", "held out"))}
    originals = training.network_posteriors(prepared, copies["train"].plain(material.clear, every))
    groups, parts = _parts(originals.mean.numpy() + _centers(prepared, material.clear.channels), seed)
    rows = {part: np.flatnonzero(parts == index) for index, part in enumerate(SHARES)}

    def held_out(part, stream):
        repeated = np.resize(rows[part], max(NUM_HELD_OUT, len(rows[part])))
        rng = np.random.default_rng([seed, 2, stream])
        return copies["held out"].batch(material.clear, material.clear_depths, repeated, rng, dropout=False)

    def draw_copies(rng):
        chosen = rng.choice(rows["train"], BATCH_SIZE)
        return copies["train"].batch(material.clear, material.clear_depths, chosen, rng, dropout=True)

    def draw_plain(rng):
        chosen = rng.integers(len(material.plain.channels), size=BATCH_SIZE // 2)
        return copies["train"].plain(material.plain, chosen)

    network, course = training.tune_network(
        prepared,
        draw_copies,
        draw_plain,
        held_out("validation", 0),
        originals,
        steps=steps,
        learning_rate=LEARNING_RATE,
        anchor=ANCHOR,
        seed=seed,
        device=device,
        progress_bar=progress_bar,
    )
    test = held_out("test", 1)
    targets = training.Targets(originals, test, seed)
    before, after = (training.score_copies(prepared, test, targets, weights) for weights in (None, network))
    report = _report(before, after, groups[test.rows], seed)
    plain = copies["train"].plain(material.plain, np.arange(len(material.plain.channels)))
    places = [training.network_posteriors(prepared, plain, weights).mean[:, :2].numpy() for weights in (None, network)]
    report["plain_moved_um"] = float(np.median(np.linalg.norm(places[1] - places[0], axis=1)))
    report["num_places"] = {part: len(np.unique(groups[own])) for part, own in rows.items()}
    report |= {"num_test_copies": len(test.rows), "spikes": material.counts, "training": course}
    return network, report


def _copies(prepared, material, half):
    """A maker of copies with every second of the background stretches."""
    stretches = [cuts.subset(slice(half, None, 2)) for cuts in (material.background, material.collisions)]
    return SpikeCopies(prepared, material.wide, material.margin, *stretches, material.depths)


def _centers(prepared, channels):
    """Centre contacts in the frame of their shank's plane, in which places of one shank can be compared."""
    locations = prepared.geometry.slots.contact_locations[channels]
    return np.einsum("nij,nj->ni", prepared.geometry.frames[channels], locations)


def _parts(places, seed):
    """Group of each spike, and which part its group belongs to (-1: none, the group is too small)."""
    groups = place_groups(places, PLACE_UM)
    sizes = np.bincount(groups)
    large = np.flatnonzero(sizes >= MIN_SPIKES_PER_PLACE)
    if len(large) < MIN_PLACES:
        raise InputError(
            f"The clear spikes come from {len(large)} places (of {MIN_SPIKES_PER_PLACE} spikes or more); at least "
            f"{MIN_PLACES} are needed to learn from some and test on others. Use a longer recording or the model as "
            "it is."
        )
    shares, filled = np.array(list(SHARES.values())), np.zeros(len(SHARES))
    part_of = np.full(len(sizes), -1)
    for group in np.random.default_rng([seed, 5]).permutation(large):
        part_of[group] = np.argmax(shares - filled / max(filled.sum(), 1.0))
        filled[part_of[group]] += sizes[group]
    return groups, part_of[groups]


def _report(before, after, groups, seed):
    """Numbers before and after on the same copies, and how sure the difference is."""
    report = {
        name: {
            "nll": float(scores.nll.mean()),
            "median_um": float(np.median(scores.distance)),
            "coverage_90": float(scores.inside.mean()),
        }
        for name, scores in (("before", before), ("after", after))
    }
    changes = {
        "nll_change": lambda rows: (after.nll[rows] - before.nll[rows]).mean(),
        "median_um_change": lambda rows: np.median(after.distance[rows]) - np.median(before.distance[rows]),
    }
    samples = _resampled_rows(groups, np.random.default_rng([seed, 6]))
    for name, change in changes.items():
        report[name] = float(change(slice(None)))
        interval = np.quantile([change(rows) for rows in samples], (0.025, 0.975))
        report[f"{name}_interval"] = [float(value) for value in interval]
    report["helped"] = bool(report["nll_change_interval"][1] < -MIN_GAIN and report["median_um_change"] <= 0.0)
    return report


def _resampled_rows(groups, rng):
    """Rows of as many groups as there are, drawn with repetition: copies of one cell are no independent evidence."""
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = rng.integers(len(rows), size=(NUM_RESAMPLES, len(rows)))
    return [np.concatenate([rows[k] for k in one]) for one in drawn]


def _tuned_model(
    teacher: NeuralPosterior, network: SetNetwork, info: TraceInfo, report: dict, seed: int
) -> NeuralPosterior:
    facts = {
        "num_channels": len(info.contact_locations),
        "sampling_frequency": info.sampling_frequency,
        "duration_s": sum(info.num_samples) / info.sampling_frequency,
    }
    return NeuralPosterior(
        network,
        teacher.basis,
        sampling_frequency=teacher.sampling_frequency,
        nbefore=teacher.nbefore,
        num_slots=teacher.num_slots,
        radius_um=teacher.radius_um,
        temperature=teacher.temperature,
        training={
            "fine_tuned_from": teacher["digest"],
            "recording": facts,
            "seed": int(seed),
            "report": report,
            "original_training": teacher.training,
        },
    )
