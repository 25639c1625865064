"""Models on cells that were kept back: planted effects of donors, data sets, temperatures are found, and no others."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cell_helpers import QUICK, cells
from planted_cells import QUIET, TYPES, planted

from si_neuroml.celltypes.baselines import BASELINES, SimpleClassifier, input_columns
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.evaluation import evaluate_cell_type_models
from si_neuroml.celltypes.fit import fit_cell_type_classifier
from si_neuroml.celltypes.splits import CellSplit, holdout_split, split_cells, transfer_split
from si_neuroml.errors import InputError
from si_neuroml.modelfiles import load_model, save_model


class NearestCell:
    """A classifier that remembers everything: as leaky as can be."""

    def __init__(self, train, seed):
        self.train, self.classes = train, tuple(np.unique(train.labels).tolist())

    def predict_proba(self, test):
        distance = ((test.features[:, None, :2] - self.train.features[:, :2]) ** 2).sum(axis=2)
        nearest = self.train.labels[distance.argmin(axis=1)]
        return 0.9 * (nearest[:, None] == np.array(self.classes)) + 0.1 / len(self.classes)


def oracle(share_right, sure=None, seed=0):
    """Right for about this share of the cells, and as sure as `sure` says (default: 0.9)."""

    def fit(train, seed_of_fit):
        def predict_proba(test):
            row = test.cells["cell_id"].astype(int).to_numpy()
            rng = np.random.default_rng(seed)
            chance, wrong = rng.random(10000)[row], rng.integers(1, 3, 10000)[row]
            confidence = np.full(len(row), 0.9) if sure is None else sure(row)
            truth = np.searchsorted(TYPES, test.labels)
            right = chance < (confidence if share_right is None else share_right)
            said = np.where(right, truth, (truth + wrong) % 3)
            rows = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
            rows[np.arange(len(row)), said] = confidence
            return rows

        return SimpleNamespace(classes=tuple(TYPES.tolist()), predict_proba=predict_proba)

    return fit


def test_effects_of_donors_make_the_leakage_gap():
    found = evaluate_cell_type_models(planted(donor=100.0), {"nearest": NearestCell}, probe=False, **QUIET)
    leak = found.leakage.loc["nearest"]
    assert leak["random"] > 0.85
    assert leak["donor"] < 0.6
    assert leak["random_gap"] == pytest.approx(leak["random"] - leak["donor"])
    assert "LEAKY: 100.0% of the test cells have a donor in training" in str(found)
    assert [split.leaky for split in found.splits.values()] == [False, True]
    plain = evaluate_cell_type_models(planted(donor=0.0, signal=3.0), {"nearest": NearestCell}, probe=False, **QUIET)
    assert abs(plain.leakage.loc["nearest", "random_gap"]) < 0.05


def test_models_see_no_test_donor_and_every_cell_is_tested_once():
    data, seen = planted(), []

    class Watching(NearestCell):
        def predict_proba(self, test):
            seen.append((set(self.train.groups) & set(test.groups), len(test)))
            return super().predict_proba(test)

    for by in ("donor", "dataset"):
        seen.clear()
        found = evaluate_cell_type_models(data, {"watch": Watching}, splits=[by], probe=False, **QUIET)
        assert not any(shared for shared, _ in seen)
        assert sum(number for _, number in seen) == len(data)
        assert found.scores[by, "watch"].num_units == len(data)
    assert len(seen) == 2  # one fold per data set


def test_transfer_shows_what_a_shifted_laboratory_costs():
    """What tells types is moved by one type in laboratory B: trained on A, its cells are taken for the next type."""
    data = planted(signal=3.0)
    moved = data.features.copy()
    moved[:, 0] = np.searchsorted(TYPES, data.labels) + (data.cells["dataset"] == "B")
    moved[:, 1] = 0.0
    data = CellDataset(data.cells, None, moved, data.feature_names)
    found = evaluate_cell_type_models(
        data, {"nearest": NearestCell}, splits=["donor"], transfers=[("A", "B"), ("B", "A")], **QUIET
    )
    assert list(found.splits) == ["donor", "A -> B", "B -> A"]
    # of B's types the second looks like A's third, and the third like nothing lower
    assert found.confusion("A -> B", "nearest").loc["Excitatory", "Pvalb"] == 1.0
    assert found.scores["A -> B", "nearest"].values["balanced_accuracy"] == pytest.approx(1 / 3)
    tested = found.splits["A -> B"].tested
    np.testing.assert_array_equal(tested, data.cells["dataset"] == "B")
    assert np.isnan(found.probabilities["A -> B", "nearest"][~tested]).all()
    assert "A -> B" not in found.leakage
    assert found.probes["features"].summary in str(found)
    by_dataset = found.by_dataset.set_index(["split", "dataset"])["num_cells"]
    assert by_dataset["donor", "A"] + by_dataset["donor", "B"] == len(data)
    assert ("A -> B", "B") not in by_dataset.index  # it would repeat the split's own row


def test_transfer_between_temperatures_keeps_donors_apart():
    data = planted()
    warm = ({"temperature": "room"}, {"temperature": ["warm"]})
    split = transfer_split(data, *warm)
    assert split.name == "room -> warm"
    assert not split.leaky
    mixed = data.cells.assign(temperature=np.where(np.arange(len(data)) % 2, "room", "warm"))
    mixed = CellDataset(mixed, None, data.features, data.feature_names)
    mixed = mixed.select((mixed.cells["donor"] < "d15") | (mixed.cells["temperature"] == "room").to_numpy())
    train, test = transfer_split(mixed, *warm).folds[0]
    assert not set(mixed.groups[train]) & set(mixed.groups[test])
    assert (mixed.cells["temperature"].to_numpy()[train] == "room").all()
    assert len(train) < (mixed.cells["temperature"] == "room").sum()


def test_published_split_counts_shared_donors():
    data = planted()
    test = np.arange(len(data)) % 4 == 0
    split = holdout_split(data, test, "published")
    known = {*data.groups[~test]}
    assert split.shared_donors == np.mean([group in known for group in data.groups[test]])
    found = evaluate_cell_type_models(data, {"nearest": NearestCell}, splits=[split], probe=False, **QUIET)
    assert found.scores["published", "nearest"].num_units == test.sum()
    assert f"{(~test).sum()} training cells; LEAKY" in str(found)
    by_donor = holdout_split(data, np.isin(data.groups, np.unique(data.groups)[:4]))
    assert not by_donor.leaky
    assert by_donor.digest != split.digest


def test_intervals_hold_the_truth():
    inside = 0
    for seed in range(12):
        found = evaluate_cell_type_models(
            planted(300, seed=seed), {"oracle": oracle(0.7, seed=seed)}, splits=["donor"], probe=False,
            baselines=False, num_resamples=200,
        )  # fmt: skip
        low, high = found.scores["donor", "oracle"].intervals["balanced_accuracy"]
        inside += low <= 0.7 <= high
        assert 0.04 < high - low < 0.2
    assert inside >= 9


def test_coverage_follows_honest_confidence():
    """Of cells that are right as often as they are sure, the surest half is as right as it says."""

    def sure(row):
        return np.where(row % 2, 0.95, 0.55)

    found = evaluate_cell_type_models(
        planted(3000), {"honest": oracle(None, sure)}, splits=["donor"], probe=False, **QUIET
    )
    curve = found.coverage.set_index("coverage")["accuracy"]
    assert curve[0.5] == pytest.approx(0.95, abs=0.02)
    assert curve[1.0] == pytest.approx(0.75, abs=0.03)
    assert found.scores["donor", "honest"].values["calibration_error"] < 0.03


def test_unknown_labels_are_counted_and_those_given_scored():
    def fit(train, seed):
        def predict(test):
            row = test.cells["cell_id"].astype(int).to_numpy()
            probabilities = 0.9 * (test.labels[:, None] == TYPES) + 0.1 / 3
            probabilities[row % 4 == 0] = probabilities[row % 4 == 0][:, [1, 2, 0]]
            label = np.where(row % 2 == 0, "unknown", TYPES[probabilities.argmax(axis=1)])
            return SimpleNamespace(probabilities=probabilities, label=label)

        return SimpleNamespace(classes=tuple(TYPES.tolist()), predict=predict)

    found = evaluate_cell_type_models(planted(), {"careful": fit}, splits=["donor"], probe=False, **QUIET)
    row = found.table.iloc[0]
    assert row["named"] == pytest.approx(0.5)
    assert row["named_accuracy"] == 1.0
    assert row["accuracy"] == pytest.approx(0.75)


def test_types_that_training_lacks_get_no_probability():
    data = planted()
    kept = data.select((data.labels != "Sst") | (data.cells["dataset"] == "B").to_numpy())
    found = evaluate_cell_type_models(kept, {"nearest": NearestCell}, splits=["dataset"], probe=False, **QUIET)
    rows = found.probabilities["dataset", "nearest"]
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    assert (rows[(kept.cells["dataset"] == "B").to_numpy(), 2] == 0).all()
    assert found.confusion("dataset", "nearest").loc["Sst", "Sst"] == 0


def test_baselines_are_what_they_say():
    data = planted(600, signal=3.0, mix=0.9)
    found = evaluate_cell_type_models(data, splits=["donor"], probe=False, num_resamples=50)
    values = {name: found.scores["donor", name].values["balanced_accuracy"] for name in BASELINES}
    assert values["majority"] == pytest.approx(1 / 3)
    assert values["logistic_regression"] > 0.8
    assert 1 / 3 < values["dataset_alone"] < 0.75
    assert found.reference == "logistic_regression"
    alone = SimpleClassifier("dataset_alone", data).predict_proba(data)
    in_b = (data.cells["dataset"] == "B").to_numpy()
    share = np.array([(data.labels[in_b] == name).sum() / (data.labels == name).sum() for name in TYPES])
    np.testing.assert_allclose(alone[in_b][0], (share + 1e-3) / (share + 1e-3).sum())
    # one laboratory: nothing to say
    single = evaluate_cell_type_models(data.select(~in_b), splits=["donor"], num_resamples=50)
    assert {model for _, model in single.scores} == {"majority", "logistic_regression"}
    assert not single.probes
    assert not single.dataset_scores


def test_coarse_images_are_means():
    data = cells(30)
    X, names = input_columns(data, "image")
    assert X.shape == (30, 2 * 6 * 12)
    assert len(set(names)) == len(names)
    np.testing.assert_allclose(
        X.reshape(30, 2, 6, 12)[:, 1, 2, 3], data.images[:, 1, 4:6, 10:13].mean(axis=(1, 2)), rtol=1e-5
    )
    both, _ = input_columns(data, ("features", "image"))
    np.testing.assert_array_equal(both[:, : data.features.shape[1]], data.features)


def test_models_of_the_room_side_by_side():
    """Fitted for real, two data sets: every model beats the largest type, and the table is complete."""
    data = CellDataset.concatenate([cells(60, seed=1, name="a"), cells(60, seed=2, name="b")])
    features = {"model": "features", "feature_kwargs": {"max_iter": 20}, "num_folds": 2}
    models = {
        "features": features,
        "fusion": {**features, "model": "fusion", "image_kwargs": QUICK},
        "rate alone": {**features, "feature_names": ("rate_hz",)},
    }
    told = []
    found = evaluate_cell_type_models(data, models, splits=["donor"], num_folds=2, num_resamples=50, report=told.append)
    values = {model: scores.values["balanced_accuracy"] for (_, model), scores in found.scores.items()}
    assert list(values) == [*models, *BASELINES]
    assert values["majority"] < values["rate alone"] < min(values["features"], values["fusion"])
    assert found.reference == "features"
    clears = found.against_reference["clears"]
    assert not clears["donor", "majority"]
    assert ("donor", "features") not in clears.index
    assert set(found.probes) == {"features", "image", "features of rate alone"}
    assert len(told) == 6 * 2 + 3
    table = found.table.set_index("model")
    assert 0 < table.loc["fusion", "named"] <= 1
    assert np.isnan(float(table.loc["majority", "named"]))
    text = str(found)
    for part in (*models, "no donor on both sides", "the data set is told", "surest share", "in each data set"):
        assert part in text
    json.dumps(found.to_dict(), allow_nan=False)


def test_fusion_of_models_of_other_kinds_on_the_same_features(tmp_path):
    """A type by the sum of ten features is easy for a line and hard for trees: the fusion gives the line the say."""
    rng, num = np.random.default_rng(0), 300
    features = rng.normal(size=(num, 10))
    codes = (features.sum(axis=1) > 0).astype(int)
    table = pd.DataFrame(
        {"cell_id": np.arange(num), "label": TYPES[codes], "donor": [f"d{k}" for k in rng.integers(0, 10, num)]}
    )
    data = CellDataset(table, None, features, tuple(f"f{k}" for k in range(10)))
    ensemble = {"model": "feature_ensemble", "feature_kwargs": {"max_iter": 20}}
    ensemble["stream_kwargs"] = {"features_forest": {"n_estimators": 20}}
    models = {"trees": {"model": "features", "feature_kwargs": {"max_iter": 20}}, "fused": ensemble}
    found = evaluate_cell_type_models(data, models, splits=["donor"], num_folds=2, reference="trees", **QUIET)
    assert found.against_reference.loc[("donor", "fused"), "clears"]
    assert found.scores["donor", "fused"].values["balanced_accuracy"] > 0.92
    classifier = fit_cell_type_classifier(data, **ensemble, progress_bar=False)
    assert set(classifier.streams) == {"features", "features_linear", "features_forest"}
    assert classifier.fusion.weights[1] == max(classifier.fusion.weights)
    # features are known by name, whatever their order
    turned = CellDataset(table, None, features[:, ::-1], data.feature_names[::-1])
    np.testing.assert_array_equal(classifier.predict_proba(turned), classifier.predict_proba(data))
    save_model(classifier, tmp_path / "ensemble")
    again = load_model(tmp_path / "ensemble").predict(data)
    np.testing.assert_allclose(again.probabilities, classifier.predict_proba(data), atol=1e-12)
    with pytest.raises(InputError, match=r"'feature_ensemble' looks at .*has no features"):
        fit_cell_type_classifier(CellDataset(table, np.ones((num, 1, 4, 4))), "feature_ensemble")


def test_what_cannot_be_split_is_refused():
    data = planted()
    with pytest.raises(InputError, match=r"Splits are .*got 'mouse'"):
        split_cells(data, "mouse")
    one = data.select((data.cells["donor"] == "d0").to_numpy())
    with pytest.raises(InputError, match="split by donor needs at least 2"):
        split_cells(one)
    with pytest.raises(InputError, match="split by dataset needs at least 2"):
        split_cells(one, "dataset")
    nobody = CellDataset(data.cells.assign(donor=""), None, data.features, data.feature_names)
    with pytest.raises(InputError, match="400 of 400 cells have no donor"):
        split_cells(nobody)
    with pytest.raises(InputError, match="2 folds"):
        split_cells(data, num_folds=1)
    with pytest.raises(InputError, match=r"No cell is in the group 'C'.*\['A', 'B'\]"):
        transfer_split(data, "A", "C")
    with pytest.raises(InputError, match="no column 'age'"):
        transfer_split(data, {"age": 1}, "A")
    with pytest.raises(InputError, match="in both groups"):
        transfer_split(data, "A", {"temperature": "room"})
    with pytest.raises(InputError, match="sizes of the folds"):
        holdout_split(data, np.ones(400, dtype=bool))
    with pytest.raises(InputError, match="mask has shape"):
        holdout_split(data, np.ones(3, dtype=bool))
    with pytest.raises(InputError, match="tested twice"):
        CellSplit.of("twice", data, [([0, 1], [2, 3]), ([0, 1], [3, 4])])


def test_what_cannot_be_evaluated_is_refused():
    data = planted()
    with pytest.raises(InputError, match="at least 2 types"):
        evaluate_cell_type_models(data.select(data.labels == "Sst"))
    with pytest.raises(InputError, match="and a model"):
        evaluate_cell_type_models(data, baselines=False)
    with pytest.raises(InputError, match="at least one split"):
        evaluate_cell_type_models(data, splits=())
    with pytest.raises(InputError, match="name of its own"):
        evaluate_cell_type_models(data, splits=("donor", "donor"))
    with pytest.raises(InputError, match="reference 'image' is none of"):
        evaluate_cell_type_models(data, reference="image")
    with pytest.raises(InputError, match="of 400 cells, the dataset has 399"):
        evaluate_cell_type_models(data.select(np.arange(399)), splits=[split_cells(data)])
    lopsided = data.select((data.labels == "Sst") | (data.cells["dataset"] == "B").to_numpy())
    with pytest.raises(InputError, match=r"types \['Sst'\].*needs two types"):
        evaluate_cell_type_models(lopsided, splits=(), transfers=[("A", "B")])
    with pytest.raises(InputError, match="Baselines are"):
        SimpleClassifier("oracle", data)
