"""The search: the paper's winners lie inside its ranges, it resumes, and it is nested by subject."""

import numpy as np
import pytest
from region_units import make_dataset

from si_neuroml.classification.folds import group_folds, macro_auc
from si_neuroml.errors import InputError, TrainingError
from si_neuroml.regions.fit import build_estimator, fit_region_classifier, labelled_rows
from si_neuroml.regions.presets import PAPER_PRESETS
from si_neuroml.regions.search import SEARCH_SPACES, search_region_classifier
from si_neuroml.search import Range, suggest

pytest.importorskip("optuna")
SPACE = {"C": Range(1e-3, 1.0, log=True)}
FAST = {"num_folds": 3, "progress_bar": False}


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(6, 20, psth=False)


@pytest.fixture(scope="module")
def searched(dataset):
    return search_region_classifier(dataset, "logistic_regression", space=SPACE, num_trials=4, **FAST)


@pytest.mark.parametrize("network", PAPER_PRESETS)
def test_the_winners_of_the_paper_lie_inside_the_ranges(network):
    for preset in PAPER_PRESETS[network].values():
        for name, value in preset.items():
            space = SEARCH_SPACES[network][name]
            assert space.holds(value) if isinstance(space, Range) else value in space, (name, value)


@pytest.mark.parametrize("model", SEARCH_SPACES)
def test_every_space_makes_estimators_that_can_be_built(model):
    import optuna

    data = make_dataset(3, 10)
    columns = labelled_rows(data, model)[1]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        build_estimator(model, columns, suggest(study.ask(), SEARCH_SPACES[model]))


def test_scores_are_those_of_subjects_left_out(dataset, searched):
    """The best trial, done again by hand."""
    data, columns, X = labelled_rows(dataset, "logistic_regression")
    labels, subjects = np.unique(data.labels, return_inverse=True)[1], data.units["subject"].to_numpy(str)
    out = np.zeros((len(labels), 3))
    for test in group_folds(labels, subjects, 3, 0):
        assert not set(subjects[test]) & set(subjects[~test])
        estimator = build_estimator("logistic_regression", columns, searched.model_kwargs)
        out[test] = estimator.fit(X[~test], labels[~test]).predict_proba(X[test])
    assert searched.best_score == pytest.approx(macro_auc(out, labels))
    assert searched.best_score == searched.trials.loc[searched.trials["state"] == "complete", "score"].max()


def test_the_result_fits_a_classifier(dataset, searched):
    classifier = fit_region_classifier(dataset, **searched.fit_kwargs, depth=None, progress_bar=False)
    assert classifier.training["model_kwargs"] == searched.model_kwargs
    assert set(searched.model_kwargs) == {"C"}


def test_a_stored_search_goes_on_where_it_was(dataset, searched, tmp_path):
    options = {"space": SPACE, "storage": tmp_path / "search.log", **FAST}
    first = search_region_classifier(dataset, "logistic_regression", num_trials=2, **options)
    more = search_region_classifier(dataset, "logistic_regression", num_trials=4, **options)
    assert len(first.trials) == 2
    # the same trials as without the interruption
    np.testing.assert_allclose(more.trials["C"], searched.trials["C"])
    np.testing.assert_allclose(more.trials["score"], searched.trials["score"])
    with pytest.raises(InputError, match="another seed"):
        search_region_classifier(dataset, "logistic_regression", num_trials=4, seed=1, **options)
    options |= {"feature_families": ["isi", "waveform"], "num_trials": 4}
    other = make_dataset(5, 20, psth=False, regions=("CTX", "TH"))
    with pytest.raises(InputError, match="another columns, features, regions, subjects"):
        search_region_classifier(other, "logistic_regression", **options)


def test_hopeless_trials_are_pruned(dataset):
    space = {"C": [1e-9, 1e-8, 1e-7, 1.0]}
    found = search_region_classifier(dataset, "logistic_regression", space=space, num_trials=14, **FAST)
    pruned = found.trials[found.trials["state"] == "pruned"]
    assert (pruned["num_steps"] < 3).all()
    assert found.model_kwargs["C"] in found.trials["C"].to_numpy()
    assert found.best_score == found.trials.loc[found.trials["state"] == "complete", "score"].max()


def test_a_network_is_searched(dataset):
    space = {"filters": [4, 8], "learning_rate": Range(1e-3, 1e-2, log=True)}
    fixed = {"feature_units": 4, "head_units": 8, "max_epochs": 2}
    found = search_region_classifier(dataset, "cnn", space=space, model_kwargs=fixed, num_trials=2, **FAST)
    assert set(found.model_kwargs) == {"filters", "learning_rate", *fixed}
    assert "monitor" not in found.model_kwargs
    assert found.best_score > 0.4


def test_bad_searches_are_refused(dataset, tmp_path):
    with pytest.raises(InputError, match="nothing to search"):
        search_region_classifier(dataset, "majority", **FAST)
    with pytest.raises(InputError, match="num_trials"):
        search_region_classifier(dataset, "sgd", num_trials=0, **FAST)
    with pytest.raises(InputError, match="space is empty"):
        search_region_classifier(dataset, "sgd", space={}, **FAST)
    with pytest.raises(InputError, match="'filters'"):
        search_region_classifier(dataset, "dmlp", space={"filters": [3]}, **FAST)
    with pytest.raises(InputError, match="no folder"):
        search_region_classifier(dataset, "sgd", storage=tmp_path / "none" / "search.log", **FAST)
    with pytest.raises(TrainingError, match="two regions"):
        search_region_classifier(dataset.select(dataset.labels == "TH"), "sgd", **FAST)
