"""Models in the folds of each split: what is held back, the leak, the tables; and the test of labels."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from si_neuroml.errors import InputError
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.evaluation import BASELINES, evaluate_region_models
from si_neuroml.regions.label_sanity import region_label_sanity, within_region_similarity

REGIONS = np.array(["CA1", "LP", "VISp"])


def dataset(num=600, num_subjects=10, signal=1.0, animal=2.0, seed=0):
    """One feature tells regions; two are alike within an animal and region and say nothing on new animals."""
    rng = np.random.default_rng(seed)
    subject, region = rng.integers(0, num_subjects, num), rng.integers(0, 3, num)
    private = rng.normal(size=(num_subjects, 3, 2))[subject, region]
    features = np.column_stack(
        [signal * region + rng.normal(size=num), animal * private + 0.1 * rng.normal(size=(num, 2))]
    )
    units = pd.DataFrame(
        {
            "subject": [f"m{k}" for k in subject],
            "recording": [f"m{k}-1" for k in subject],
            "unit_id": np.arange(num),
            "region": REGIONS[region],
            "depth_um": 1000.0 * region + rng.uniform(0, 1000, num),
        }
    )
    return RegionDataset.from_table(units, features, feature_names=["rate_a", "isi_b", "isi_c"])


class NearestUnit:
    """A classifier that remembers everything: as leaky as can be."""

    def __init__(self, train, seed):
        self.train, self.classes = train, tuple(np.unique(train.labels).tolist())

    def predict_proba(self, test):
        distance = ((test.features[:, None] - self.train.features) ** 2).sum(axis=2)
        nearest = self.train.labels[distance.argmin(axis=1)]
        return 0.9 * (nearest[:, None] == np.array(self.classes)) + 0.1 / len(self.classes)


def test_leakage_gap_is_found():
    """Units of one animal and region are alike: known animals are easy, new ones are not."""
    found = evaluate_region_models(
        dataset(), {"nearest": NearestUnit}, splits=("subject", "random"), baselines=False, num_resamples=50
    )
    leakage = found.leakage.loc[("nearest", "raw")]
    assert leakage["random"] > 0.9
    assert leakage["subject"] < 0.6
    assert leakage["random_gap"] == pytest.approx(leakage["random"] - leakage["subject"])
    assert "LEAKY" in str(found)
    table = found.table.set_index("split")
    assert table.loc["subject", "leaky"] == False  # noqa: E712 the column holds numpy's
    assert table.loc["random", "leaky"] == True  # noqa: E712
    assert table.loc["subject", "balanced_accuracy_low"] < table.loc["subject", "balanced_accuracy"]


def test_models_see_no_test_animal_and_are_given_unlabelled_units():
    data = dataset()
    bare = data.units.assign(region=np.where(np.arange(len(data)) % 10 == 0, "", data.units["region"]))
    data = RegionDataset.from_table(bare, data.features, feature_names=data.feature_names)
    seen = []

    class Watching(NearestUnit):
        def __init__(self, train, seed):
            super().__init__(train.labelled(), seed)
            self.known = set(train.units["subject"])
            self.num_unlabelled = (train.labels == "").sum()

        def predict_proba(self, test):
            seen.append((self.known & set(test.units["subject"]), self.num_unlabelled, len(test)))
            return super().predict_proba(test)

    found = evaluate_region_models(data, {"watch": Watching}, splits=["subject"], baselines=False, num_resamples=10)
    assert all(not known and unlabelled > 0 for known, unlabelled, _ in seen)
    assert sum(number for *_, number in seen) == len(data)
    assert found.scores["subject", "watch", "raw"].num_left_out == (data.labels == "").sum()


def test_regions_missing_from_a_training_fold_get_no_probability():
    data = dataset(num_subjects=4)
    only = (data.labels != "VISp") | (data.units["subject"] == "m0").to_numpy()
    found = evaluate_region_models(
        data.select(only), {"nearest": NearestUnit}, splits=["subject"], baselines=False, num_resamples=10
    )
    rows = found.probabilities["subject", "nearest", "raw"]
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    tested = (data.select(only).units["subject"] == "m0").to_numpy()
    assert (rows[tested, 2] == 0).all()
    assert found.confusion("subject", "nearest").loc["VISp", "VISp"] == 0


def test_raw_and_smoothed_are_scored_apart():
    def perfect_when_smoothed(train, seed):
        def predict(test):
            raw = np.full((len(test), 3), 1 / 3)
            smoothed = 0.9 * (test.labels[:, None] == REGIONS) + 0.1 / 3
            return SimpleNamespace(probabilities=raw, smoothed=smoothed)

        return SimpleNamespace(classes=tuple(REGIONS.tolist()), predict=predict)

    found = evaluate_region_models(
        dataset(), {"oracle": perfect_when_smoothed}, splits=["subject"], baselines=False, num_resamples=10
    )
    values = {stage: found.scores["subject", "oracle", stage].values for stage in ("raw", "smoothed")}
    assert values["smoothed"]["balanced_accuracy"] == 1.0
    assert values["raw"]["balanced_accuracy"] == pytest.approx(1 / 3)


def test_baselines_and_what_clears_logistic_regression():
    """Fitted for real: the signal carries over to new animals, an oracle clears the reference, majority does not."""

    def oracle(train, seed):
        return SimpleNamespace(
            classes=tuple(REGIONS.tolist()),
            predict_proba=lambda test: 0.9 * (test.labels[:, None] == REGIONS) + 0.1 / 3,
        )

    data = dataset(160, 6, signal=1.5, animal=0.1)
    told = []
    trees = {"model": "extra_trees", "model_kwargs": {"n_estimators": 20}, "depth": None}
    models = {"oracle": oracle, "extra_trees": trees}
    found = evaluate_region_models(data, models, splits=["subject"], num_folds=2, num_resamples=100, report=told.append)
    assert len(told) == 2 * (1 + len(BASELINES))
    clears = found.against_reference["clears"]
    assert clears["oracle", "raw"]
    assert not clears["majority", "raw"]
    assert ("logistic_regression", "raw") not in clears.index
    values = {name: found.scores["subject", name, "raw"].values["balanced_accuracy"] for name in (*BASELINES, "oracle")}
    assert values["majority"] == pytest.approx(1 / 3)
    assert values["logistic_regression"] > 0.5
    # depths are laid out by region here: knowing where one aimed is enough
    assert values["depth_prior"] > 0.9
    smoothed = found.scores["subject", "logistic_regression", "smoothed"].values["balanced_accuracy"]
    assert smoothed > values["logistic_regression"] + 0.1
    assert ("subject", "majority", "smoothed") not in found.scores
    assert ("subject", "extra_trees", "smoothed") not in found.scores
    json.dumps(found.to_dict(), allow_nan=False)
    assert "balanced accuracy against logistic_regression" in str(found)
    assert "leakage gap" not in str(found)


def test_what_cannot_be_evaluated_is_refused():
    data = dataset(100)
    with pytest.raises(InputError, match="at least 2 regions"):
        evaluate_region_models(data.select(data.labels == "LP"), ["extra_trees"])
    with pytest.raises(InputError, match="a model and a split"):
        evaluate_region_models(data, baselines=False)


def sessions(num_sessions=8, num_units=120, num_regions=6, seed=0):
    """Units whose features depend on their region, listed in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_regions, (num_sessions, num_units))
    centers = rng.normal(size=(num_regions, 5))
    features = centers[labels] + rng.normal(size=(num_sessions, num_units, 5))
    names = np.repeat([f"s{k}" for k in range(num_sessions)], num_units)
    return features.reshape(-1, 5), labels, names


def test_good_labels_pass_and_displaced_ones_are_found():
    features, labels, names = sessions()
    good = region_label_sanity(features, labels.ravel().astype(str), names, num_permutations=99)
    assert good.p_value == 0.01
    assert good.best_shift == 0
    assert good.shift_p_value == 1.0
    displaced = np.roll(labels, 1, axis=1).ravel().astype(str)
    found = region_label_sanity(features, displaced, names, num_permutations=99)
    assert found.best_shift == -1
    assert found.shift_p_value < 0.05
    assert found.p_value > good.p_value
    assert (found.recordings["best_shift"] == -1).all()
    assert (found.recordings["best_similarity"] > 5 * found.recordings["similarity"].abs()).all()


def test_labels_that_say_nothing_have_uniform_p_values():
    features, labels, names = sessions(30)
    mixed = np.random.default_rng(1).permuted(labels, axis=1).ravel().astype(str)
    values = region_label_sanity(features, mixed, names, num_permutations=99).recordings["p_value"]
    assert 0.3 < values.mean() < 0.7
    assert (values <= 0.1).mean() < 0.3


def test_similarity_is_that_of_all_pairs():
    rng = np.random.default_rng(2)
    vectors, codes = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    products, pairs = vectors @ vectors.T, np.triu(np.ones((20, 20), bool), 1)
    same = pairs & (codes[:, None] == codes)
    assert within_region_similarity(vectors, codes) == pytest.approx(products[same].mean() - products[pairs].mean())


def test_missing_features_and_unlabelled_units():
    features, labels, names = sessions()
    features[::7, 0] = np.nan
    features[:, 4] = 3.0
    text = labels.ravel().astype(str)
    text[::5] = ""
    found = region_label_sanity(features, text, names, num_permutations=99)
    assert found.p_value == 0.01
    assert (found.recordings["num_units"] == 96).all()
    with pytest.raises(InputError, match="No recording has 10 labelled units"):
        region_label_sanity(features, np.full(len(features), "CA1"), names)
    with pytest.raises(InputError, match="with a label and a recording each"):
        region_label_sanity(features, text[1:], names)
    # no two units of one region: nothing to compare
    assert np.isnan(within_region_similarity(np.eye(3), np.arange(3)))
