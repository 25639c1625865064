"""Region models side by side on animals they have not seen, with what looser splits would have promised.

Every model is fitted in every fold on the training units alone, including its choice of parameters, its calibration and
its smoothing along depth (see :func:`~si_neuroml.regions.fit.fit_region_classifier`). Raw probabilities look at each
unit by itself; smoothed ones also at its neighbours on the shank. They are scored apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..classification.scores import ClassScores, class_scores, compare_scores
from ..errors import InputError
from .splits import RegionSplit, split_units

if TYPE_CHECKING:
    import pandas as pd

    from .dataset import RegionDataset

__all__ = ["BASELINES", "REFERENCE", "RegionEvaluation", "evaluate_region_models"]

REFERENCE = "logistic_regression"
# the depth says where experimenters aimed and not what a neuron does: a model must beat it
BASELINES = ("majority", "depth_prior", REFERENCE, "extra_trees")
# of models that have no use for neighbours along the shank
WITHOUT_DEPTH = ("majority", "depth_prior")
STAGES = ("raw", "smoothed")


@dataclass(frozen=True, eq=False)
class RegionEvaluation:
    """What :func:`evaluate_region_models` finds. ``print(evaluation)`` shows the tables.

    Attributes
    ----------
    regions : tuple of str
        Columns of all probabilities.
    scores : dict of ClassScores
        By (split, model, stage); stage is "raw" or "smoothed".
    probabilities : dict of float64 array, shape (num_units, num_regions)
        By the same keys: of every unit, from the fold that tested it.
    splits : dict of RegionSplit
        By name; their digests tell whether two evaluations tested the same units together.
    against_reference : DataFrame
        Balanced accuracy minus that of logistic regression at the same stage, on the first split: ``difference``,
        ``low``, ``high`` (paired 95 % interval over subjects) and ``clears`` (low above 0). A network that does not
        clear is not worth its cost.
    """

    regions: tuple[str, ...]
    scores: dict[tuple[str, str, str], ClassScores]
    probabilities: dict[tuple[str, str, str], np.ndarray]
    splits: dict[str, RegionSplit]
    against_reference: "pd.DataFrame" = field(repr=False)

    @property
    def table(self) -> "pd.DataFrame":
        """One row per split, model and stage; each score with its ``_low`` and ``_high``, and ``leaky``."""
        import pandas as pd

        rows = []
        for (split, model, stage), scores in self.scores.items():
            row = {"split": split, "leaky": self.splits[split].leaky, "model": model, "stage": stage}
            for name, value in scores.values.items():
                low, high = (np.nan, np.nan) if scores.intervals is None else scores.intervals[name]
                row |= {name: value, f"{name}_low": low, f"{name}_high": high}
            rows.append(row | {"num_units": scores.num_units, "num_subjects": scores.num_subjects})
        return pd.DataFrame(rows)

    @property
    def leakage(self) -> "pd.DataFrame":
        """Balanced accuracy by model and stage under each split, and ``<split>_gap``: what it promises too much."""
        wide = self.table.pivot(index=["model", "stage"], columns="split", values="balanced_accuracy")
        wide = wide.reindex(columns=list(self.splits), index=list(dict.fromkeys(key[1:] for key in self.scores)))
        if "subject" in wide:
            for split in [name for name in self.splits if name != "subject"]:
                wide[f"{split}_gap"] = wide[split] - wide["subject"]
        return wide

    def confusion(self, split: str, model: str, stage: str = "raw") -> "pd.DataFrame":
        """Row-normalised confusion matrix: true regions down, predicted regions across."""
        import pandas as pd

        scores = self.scores[split, model, stage]
        return pd.DataFrame(scores.confusion_rates, index=self.regions, columns=self.regions)

    def to_dict(self) -> dict[str, Any]:
        """Scores, leakage and digests of the splits as plain numbers, for JSON."""
        leakage = self.leakage.reset_index().astype(object)
        return {
            "regions": list(self.regions),
            "splits": {name: {"digest": split.digest, "leaky": split.leaky} for name, split in self.splits.items()},
            "scores": [
                {"split": split, "model": model, "stage": stage, **scores.to_dict()}
                for (split, model, stage), scores in self.scores.items()
            ],
            "leakage": leakage.where(leakage.notna(), None).to_dict("records"),
            "against_reference": self.against_reference.reset_index().to_dict("records"),
        }

    def __str__(self) -> str:
        shown = ["balanced_accuracy", "macro_f1", "mcc", "auc", "log_loss", "calibration_error"]
        table, lines = self.table, []
        table["95 %"] = [
            f"{low:.3f} to {high:.3f}" if np.isfinite(low) else "-"
            for low, high in zip(table["balanced_accuracy_low"], table["balanced_accuracy_high"], strict=True)
        ]
        columns = ["model", "stage", shown[0], "95 %", *shown[1:], "accuracy", "accuracy_at_half_coverage"]
        for name, split in self.splits.items():
            leak = ": LEAKY, animals are on both sides, a diagnostic only" if split.leaky else ""
            rows = table.loc[table["split"] == name, columns]
            lines += [f"split by {name}{leak}", rows.to_string(index=False, float_format="%.3f", na_rep="-"), ""]
        if len(self.splits) > 1:
            text = self.leakage.to_string(float_format="%.3f", na_rep="-")
            lines += ["balanced accuracy by split, and the leakage gap", text, ""]
        if len(self.against_reference):
            text = self.against_reference.to_string(float_format="%.3f", na_rep="-")
            lines += [f"balanced accuracy against {REFERENCE}", text, ""]
        return "\n".join(lines).rstrip()


def evaluate_region_models(
    dataset: "RegionDataset",
    models: Sequence[str] | Mapping[str, Any] = (),
    *,
    splits: Sequence[str] = ("subject", "recording", "random"),
    num_folds: int = 5,
    baselines: bool = True,
    hierarchy: Mapping[str, Mapping[str, str]] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> RegionEvaluation:
    """Fit and score models in the folds of each split.

    Parameters
    ----------
    dataset : RegionDataset
        With labels. Regions in one subject only cannot be judged: see :meth:`RegionDataset.drop_rare`.
    models : sequence of str, or dict
        Names of models as for :func:`~si_neuroml.regions.fit.fit_region_classifier`; or {name in the table: what to
        fit}, where that is such a name, a dict of arguments of that function (``model``, ``model_kwargs``, ``depth``,
        ...), or a function of (training dataset, seed) that returns a classifier with ``classes`` and
        ``predict_proba(dataset)``, and where it smooths ``predict(dataset).smoothed``.
    splits : sequence of str, default: ("subject", "recording", "random")
        As for :func:`~si_neuroml.regions.splits.split_units`; the first is the headline.
    num_folds : int, default: 5
        Of each split.
    baselines : bool, default: True
        Majority, depth-only prior, logistic regression and extra trees as well, where `models` does not name them.
    hierarchy : dict of dict, optional
        As for :func:`~si_neuroml.classification.scores.class_scores`.
    num_resamples, seed : int, default: 1000, 0
        Of the intervals over subjects; the seed also of folds and models.
    report : function of str, optional
        Called before each fit with what is to come, for example ``print``.

    Returns
    -------
    RegionEvaluation

    Raises
    ------
    InputError
        On fewer than two regions, no model, or as :func:`~si_neuroml.regions.splits.split_units`.
    """
    entries = dict(models) if isinstance(models, Mapping) else {name: name for name in models}
    if baselines:
        entries |= {name: name for name in BASELINES if name not in entries}
    regions = tuple(np.unique(dataset.labels[dataset.labels != ""]).tolist())
    if len(regions) < 2 or not entries or not len(splits):
        text = "Evaluation needs labels of at least 2 regions, a model and a split;"
        raise InputError(f"{text} got regions {list(regions)!r}, models {list(entries)!r}, splits {list(splits)!r}.")
    drawn = {by: split_units(dataset.units, by, num_folds=num_folds, seed=seed) for by in dict.fromkeys(splits)}
    subjects, probabilities, scores = dataset.units["subject"].to_numpy(dtype=str), {}, {}
    for by, split in drawn.items():
        for name, entry in entries.items():
            for stage, rows in _tested(dataset, entry, split, regions, seed, _teller(report, by, name, split)).items():
                key = (by, name, stage)
                probabilities[key] = rows
                options = {"hierarchy": hierarchy, "num_resamples": num_resamples, "seed": seed}
                scores[key] = class_scores(dataset.labels, rows, regions, subjects, **options)
    against = _against_reference(dataset, probabilities, regions, subjects, next(iter(drawn)), num_resamples, seed)
    return RegionEvaluation(regions, scores, probabilities, drawn, against)


def _teller(report, by, name, split):
    if report is None:
        return lambda fold: None
    return lambda fold: report(f"split by {by}, {name}: fold {fold + 1} of {split.num_folds}")


def _tested(dataset, entry, split, regions, seed, tell):
    """Probabilities of all units, each from the fold that tests it, by stage."""
    rows = {stage: np.full((len(dataset), len(regions)), np.nan) for stage in STAGES}
    for fold, (train, test) in enumerate(split):
        tell(fold)
        classifier, kept_back = _fit(entry, dataset.select(train), seed), dataset.select(test)
        columns = [regions.index(name) for name in classifier.classes]
        smoothed = None
        if hasattr(classifier, "predict"):
            predictions = classifier.predict(kept_back)
            raw = predictions.probabilities
            # the same array where nothing was smoothed
            smoothed = None if predictions.smoothed is raw else predictions.smoothed
        else:
            raw = classifier.predict_proba(kept_back)
        for stage, found in (("raw", raw), ("smoothed", smoothed)):
            if found is not None:
                # regions that this fold's training set does not hold get 0
                rows[stage][test] = 0.0
                rows[stage][np.ix_(test, columns)] = found
    return {stage: part for stage, part in rows.items() if np.isfinite(part).all()}


def _fit(entry, train, seed):
    if callable(entry):
        return entry(train, seed)
    from .fit import fit_region_classifier

    options = {"model": entry} if isinstance(entry, str) else dict(entry)
    if options.get("model") in WITHOUT_DEPTH:
        options.setdefault("depth", None)
    return fit_region_classifier(train, **{"seed": seed, "progress_bar": False, **options})


def _against_reference(dataset, probabilities, regions, subjects, by, num_resamples, seed):
    import pandas as pd

    rows = {}
    for (split, name, stage), found in probabilities.items():
        reference = probabilities.get((by, REFERENCE, stage))
        if split == by and name != REFERENCE and reference is not None:
            options = {"num_resamples": num_resamples, "seed": seed}
            differences = compare_scores(dataset.labels, found, reference, regions, subjects, **options)
            value, low, high = differences["balanced_accuracy"]
            rows[name, stage] = {"difference": value, "low": low, "high": high, "clears": bool(low > 0)}
    columns = ["difference", "low", "high", "clears"]
    return pd.DataFrame(
        list(rows.values()),
        index=pd.MultiIndex.from_tuples(rows, names=["model", "stage"]) if rows else None,
        columns=columns,
    )
