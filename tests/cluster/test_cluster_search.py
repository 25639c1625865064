"""One search on all workers: every combination once, whatever dies on the way."""

import itertools

import pytest
from search_helpers import SPACE, search_parabola

import si_neuroml
from si_neuroml.errors import InputError

pytest.importorskip("optuna")


def search(client, folder, **kwargs):
    options = {"client": client, "storage": folder / "search.log", "log": folder / "log", "progress_bar": False}
    return si_neuroml.search_on_cluster(search_parabola, SPACE, **options | kwargs)


def combinations(found):
    return sorted(zip(found.trials["x"], found.trials["y"], strict=True))


def test_workers_share_the_trials(client, tmp_path):
    found = search(client, tmp_path)
    assert len(list((tmp_path / "log").iterdir())) == 2  # processes
    assert set(combinations(found)) == set(itertools.product(*SPACE.values()))
    # at the end both may be at the last one
    assert len(found.trials) <= 15 + 1
    assert found.settings == {"x": 0.0, "y": 0}
    assert found.best_score == 1.0


def test_a_killed_worker_leaves_its_trials_to_the_others(client, tmp_path):
    found = search(client, tmp_path, trouble="kill")
    assert (tmp_path / "log" / "killed").exists()
    assert set(combinations(found)) == set(itertools.product(*SPACE.values()))


def test_goes_on_where_it_was_stopped(client, tmp_path):
    part = {name: values[:1] for name, values in SPACE.items()}
    whole = search(client, tmp_path)
    assert combinations(search(client, tmp_path, log=tmp_path / "second")) == combinations(whole)
    assert not (tmp_path / "second").exists()  # nothing was scored again
    with pytest.raises(InputError, match="is a search with another space"):
        si_neuroml.search_on_cluster(
            search_parabola, part, storage=tmp_path / "search.log", client=client, log="", progress_bar=False
        )


def test_refusals(client, tmp_path):
    with pytest.raises(InputError, match="share their trials through a storage"):
        search(client, tmp_path, storage=None)
    with pytest.raises(InputError, match="no such data"):
        search(client, tmp_path, trouble="refuse")
