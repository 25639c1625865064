"""The search: finds the setting that matters, on donors left out, and goes on where it was stopped."""

import pytest
from cell_helpers import QUICK, cells

pytest.importorskip("optuna")

from si_neuroml.celltypes.fit import fit_cell_type_classifier
from si_neuroml.celltypes.search import SEARCH_SPACES, search_cell_type_classifier
from si_neuroml.errors import InputError, TrainingError
from si_neuroml.search import Range, example_settings


def test_the_setting_that_matters_is_found(tmp_path):
    dataset = cells(120, images=False)
    # trees that may not split can only guess
    own = {"space": {"min_samples_leaf": (5, 1000)}, "model_kwargs": {"max_iter": 5}, "progress_bar": False}
    search = search_cell_type_classifier(dataset, num_trials=4, storage=tmp_path / "trials.log", **own)
    table = search.trials.set_index("min_samples_leaf")["score"]
    assert search.fit_kwargs["feature_kwargs"] == {"max_iter": 5, "min_samples_leaf": 5}
    assert search.best_score == table[5].max() > 0.7
    assert table[1000].max() < 0.45
    # the same call goes on: the four are there, one is new
    again = search_cell_type_classifier(dataset, num_trials=5, storage=tmp_path / "trials.log", **own)
    assert list(again.trials["score"][:4]) == list(search.trials["score"])
    assert len(again.trials) == 5
    other = cells(120, images=False, num_donors=5)
    with pytest.raises(InputError, match="donors"):
        search_cell_type_classifier(other, num_trials=5, storage=tmp_path / "trials.log", **own)
    classifier = fit_cell_type_classifier(dataset, progress_bar=False, **search.fit_kwargs)
    # the folds are the same, and so are the models: what the search saw is what the fit reports
    found = classifier.training["out_of_fold"]["features"]["balanced_accuracy"]
    assert found == pytest.approx(search.best_score, abs=1e-9)


def test_networks_are_searched_too():
    options = {"space": {"learning_rate": Range(1e-7, 4e-3, log=True)}, "num_trials": 2, "num_folds": 2}
    search = search_cell_type_classifier(
        cells(48), "image", model_kwargs={**QUICK, "max_epochs": 2}, progress_bar=False, **options
    )
    assert len(search.trials) == 2
    assert 0 < search.best_score <= 1
    assert search.fit_kwargs["image_kwargs"]["max_epochs"] == 2


@pytest.mark.parametrize("name", SEARCH_SPACES)
def test_every_space_holds_settings_that_exist(name):
    from si_neuroml.celltypes.streams import build_estimator

    first = example_settings(SEARCH_SPACES[name])
    if name == "image":
        assert build_estimator("image", first).options["dropout"] == 0.0
        return
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    dataset = cells(60, images=False)
    model = build_estimator("features", {"method": name, **first})
    assert model.fit(dataset.features, dataset.labels).predict_proba(dataset.features).shape == (60, 3)


def test_bad_searches_are_refused():
    dataset = cells(40, images=False)
    with pytest.raises(InputError, match="fusion"):
        search_cell_type_classifier(dataset, "fusion")
    with pytest.raises(InputError, match="no image"):
        search_cell_type_classifier(dataset, "image")
    with pytest.raises(InputError, match="empty"):
        search_cell_type_classifier(dataset, space={})
    with pytest.raises(InputError, match="nothing to search in 'forest'"):
        search_cell_type_classifier(dataset, model_kwargs={"method": "forest"})
    with pytest.raises(InputError, match="learning_rate"):
        search_cell_type_classifier(dataset, space={"learning_rate": "fast"})
    with pytest.raises(InputError, match="num_trials"):
        search_cell_type_classifier(dataset, num_trials=0)
    with pytest.raises(TrainingError, match="two types"):
        search_cell_type_classifier(dataset.select(dataset.labels == "Sst"))
