"""Found events of many recordings pooled to scores with intervals over cells, and the tables of events_accuracy.py."""

import numpy as np
from _event_runs import unpacked
from _report import print_table

from si_neuroml.events.cells import compare_f1
from si_neuroml.events.evaluation import event_scores

HEADER = ["", "F1", "95 %", "precision", "recall", "average precision", "mean of cells", "bias ms", "sd ms"]
SAMPLE_HEADER = ["sample F1", "95 %", "calibration error"]
COST_HEADER = [
    "false/min, sweeps",
    "false/min, silent cells",
    "label-free, 5 %",
    "fit, s",
    "detect, x real time",
]


def pooled(runs, headline_ms, tolerances_ms, num_resamples=2000):
    """Scores of a detector over (cell, its found events as text) of all seeds, and their summary for JSON.

    Cells of one name are one cell, whatever the seed. Average precision and calibration count less likely events too.
    """
    true, kept, less, lengths, names = [], [], [], [], []
    for cell, text in runs:
        before, number = len(lengths), cell.recording.get_num_segments()
        for part, events in zip((true, kept, less), (cell.events.copy(), *unpacked(text)), strict=True):
            events["segment_index"] += before
            part.append(events)
        channels = cell.recording.get_num_channels()
        lengths += [[cell.recording.get_num_samples(segment)] * channels for segment in range(number)]
        names += [[cell.name]] * number
    rate = runs[0][0].recording.get_sampling_frequency()
    true, kept, less = (np.concatenate(part) for part in (true, kept, less))
    options = {"cells": np.array(names), "headline_ms": headline_ms, "num_resamples": num_resamples}
    scores = event_scores(true, kept, rate, np.array(lengths), tolerances_ms=tolerances_ms, **options)
    ranked = event_scores(true, np.concatenate([kept, less]), rate, np.array(lengths), tolerances_ms=(), **options)
    summary = scores.to_dict() | {"calibration": ranked.calibration}
    summary["headline"]["average_precision"] = ranked.headline["average_precision"]
    if summary["confidence"]:
        summary["confidence"]["average_precision"] = ranked.confidence["average_precision"]
    return scores, summary


def false_per_minute(runs):
    """Events per minute and channel in cells without any."""
    found = sum(len(unpacked(text)[0]) for _, text in runs)
    seconds = sum(cell.recording.get_total_duration() * cell.recording.get_num_channels() for cell, _ in runs)
    return 60.0 * found / seconds if runs else None


def label_free(results):
    """Mean of the events per minute in silent cells at the label-free threshold, where there is one."""
    known = [result["label_free_per_minute"] for result in results if "label_free_per_minute" in result]
    return float(np.mean(known)) if known else None


def cost(results):
    """Median seconds of a fit, and how many times faster than real time one channel is searched."""
    fit = float(np.median([result["train_s"] for result in results]))
    seconds = sum(result["detect_s"] for result in results)
    return {"fit_s": fit, "times_real_time": sum(result["channel_s"] for result in results) / seconds}


def print_scores(title, summaries):
    """One row per detector."""
    rows = []
    with_samples = all(summary["samples"] for summary in summaries.values())
    for name, summary in summaries.items():
        head, confidence = summary["headline"], summary["confidence"] or {}
        row = [name, three(head["f1"]), span(confidence.get("f1")), three(head["precision"]), three(head["recall"])]
        row += [three(head["average_precision"]), three(summary["mean_cell_f1"]), head["bias_ms"], head["sd_ms"]]
        if with_samples:
            row += [three(summary["samples"]["f1"]), span(confidence.get("sample_f1"))]
        error = (summary["calibration"] or {}).get("error")
        row += [three(error), summary["silent"]["false_per_minute"], summary["silent_cells_per_minute"]]
        row.append(summary["label_free_per_minute"])
        rows.append([*row, summary["cost"]["fit_s"], round(summary["cost"]["times_real_time"])])
    middle = SAMPLE_HEADER if with_samples else SAMPLE_HEADER[-1:]
    print_table(title, [*HEADER, *middle, *COST_HEADER], rows)


def print_tolerances(summaries):
    header = ["F1 within", *(f"{row['tolerance_ms']:g} ms" for row in next(iter(summaries.values()))["tolerances"])]
    rows = [[name, *(three(row["f1"]) for row in one["tolerances"])] for name, one in summaries.items()]
    print_table("tolerance curve", header, rows)


def print_cells(summaries):
    """F1 of each cell, all seeds together."""
    cells = next(iter(summaries.values()))["cells"]
    rows = [[f"{name} ({row['num_true']})", *(three(one["cells"][name]["f1"]) for one in summaries.values())]
            for name, row in cells.items()]  # fmt: skip
    print_table("F1 by cell left out (true events)", ["", *summaries], rows)


def print_seeds(by_seed):
    """F1 of each seed by itself."""
    seeds = max(by_seed.values(), key=len)
    rows = []
    for name, of in by_seed.items():
        rows.append([name, *(three(of[seed]["headline"]["f1"]) if seed in of else None for seed in seeds)])
    print_table("F1 by seed", ["", *(f"seed {seed}" for seed in seeds)], rows)


def compared(scores, one, other):
    """The paired difference of two detectors, and what it says."""
    if one not in scores or other not in scores:
        return None
    result = compare_f1(scores[one], scores[other])
    low, high = result["low"], result["high"]
    result["verdict"] = "unknown" if low is None else one if low > 0 else other if high < 0 else "tie"
    interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
    print(
        f"{one} - {other}: F1 {result['difference']:+.3f}{interval}, paired over cells, better in "
        f"{result['cells_won']}, worse in {result['cells_lost']}: {result['verdict']}",
        flush=True,
    )
    return result


def three(value):
    return None if value is None else f"{value:.3f}"


def span(interval):
    return None if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"
