"""A model folder that nothing has touched, and a copy to damage."""

import shutil
from pathlib import Path

import pytest
from model_helpers import make_model

from si_neuroml.modelfiles import (
    save_model,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return save_model(make_model(), tmp_path_factory.mktemp("pristine") / "model")


@pytest.fixture
def folder(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "model"))
