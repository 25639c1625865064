"""Tables and ratios from the scores of several recordings: every figure is a mean over recordings."""

import numpy as np
from _cases import LEVELS, SI_KEYS
from _report import print_table

HEADER = ["", "mean", "+-", "median", "p95", "inside", "outside", "depth", "/ const"]


class Scores:
    """Scores of one method on several cases, on one sample ("subset" or "whole") and group."""

    def __init__(self, store, cases, key, sample, group="all"):
        scores = [(store.get(case, key) or {}).get(sample) for case in cases]
        self.scores = [score[group] for score in scores if score and score[group]]

    def __len__(self):
        return len(self.scores)

    def values(self, *path):
        found = []
        for score in self.scores:
            for name in path:
                score = score and score[name]
            found.append(score)
        return [value for value in found if value is not None]

    def mean(self, *path):
        values = self.values(*path)
        return float(np.mean(values)) if values else None

    def depth_ratio(self):
        """Mean absolute error of the depth over that of the best constant guess."""
        constant = self.mean("depth", "constant_mae")
        return self.mean("depth", "mae") / constant if constant else None


def print_scores(title, store, cases, methods, sample, group="all"):
    """One row per method; `methods` is a dict of what a row is called and the method's key."""
    rows = []
    for label, key in methods.items():
        scores = Scores(store, cases, key, sample, group)
        if not len(scores):
            continue
        row = [label, scores.mean("mean"), float(np.std(scores.values("mean"))), scores.mean("median")]
        row += [scores.mean("p95"), scores.mean("inside"), scores.mean("outside")]
        row += [scores.mean("depth", "mae"), scores.depth_ratio()]
        rows.append(row + [scores.mean("coverage", f"{level:g}") for level in LEVELS])
    print_table(title, [*HEADER, *(f"cov {100 * level:g}" for level in LEVELS)], rows)


def ratio_to_best(store, cases, key, field, group="all"):
    """(method / best of SpikeInterface's three, which that is), on the subset that all of them localized."""
    best = {k: Scores(store, cases, k, "subset", group).mean(field) for k in SI_KEYS}
    name = min(best, key=best.get)
    return Scores(store, cases, key, "subset", group).mean(field) / best[name], name
