"""A model as a parameter: named in JSON, found again, and never unpickled."""

import copy
import hashlib
import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from model_helpers import OtherModel, TinyModel, make_model
from spikeinterface.core.core_tools import check_json

import si_neuroml
from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError
from si_neuroml.modelfiles import (
    load_model,
    resolve_model,
    save_model,
)
from si_neuroml.modelformat import INFO_FILE, TENSOR_FILE


def test_parameters_with_a_model_become_json_without_its_weights(tmp_path):
    model = make_model()
    written = check_json({"method_kwargs": {"model": model}})["method_kwargs"]["model"]
    assert written == {"kind": "tiny", "digest": model["digest"], "folder": None}
    folder = save_model(model, tmp_path / "model")
    assert check_json({"model": model})["model"]["folder"] == str(folder) == load_model(folder)["folder"]
    assert Path(model["folder"]).is_absolute()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_whole_models(duplicate):
    model = make_model()
    other = duplicate(model)
    assert type(other) is TinyModel
    assert other == model
    assert dict(other) == dict(model)
    np.testing.assert_array_equal(other.tensors["weights"], model.tensors["weights"])
    assert other.info == model.info


def test_equality_and_hash_follow_the_content(tmp_path):
    model = make_model()
    saved = load_model(save_model(make_model(), tmp_path / "model"))
    assert model == saved
    assert not (model != saved)  # noqa: SIM202 - dict has its own, which would say otherwise
    assert hash(model) == hash(saved)
    assert model == dict(saved)
    assert model != make_model(2.0)
    assert model != make_model(model_class=OtherModel)
    assert model != "model"
    assert "TinyModel" in repr(model)


def test_resolve_takes_a_model_a_folder_or_a_name(folder):
    model = make_model()
    assert resolve_model(model, "tiny") is model
    name = json.loads(json.dumps(load_model(folder)))
    for reference in (folder, str(folder), name):
        assert resolve_model(reference, "tiny") == model


def test_resolve_refuses_another_kind(folder):
    for reference in (make_model(), folder, dict(load_model(folder))):
        with pytest.raises(ModelMismatchError, match="kind 'tiny'.*kind 'other'"):
            resolve_model(reference, "other")


def test_resolve_explains_a_name_without_its_model(folder):
    name = dict(load_model(folder))
    with pytest.raises(ModelFileError, match=f"never saved .*{name['digest']}"):
        resolve_model(name | {"folder": None}, "tiny")
    save_model(make_model(2.0), folder, overwrite=True)
    with pytest.raises(ModelMismatchError, match="now holds another model"):
        resolve_model(name, "tiny")
    shutil.rmtree(folder)
    with pytest.raises(ModelFileError, match="There is no model folder"):
        resolve_model(name, "tiny")


@pytest.mark.parametrize("reference", [None, 3, {}, {"digest": 5}, ["model"]])
def test_resolve_refuses_what_is_no_reference(reference):
    with pytest.raises(InputError, match="model must be"):
        resolve_model(reference, "tiny")


def test_the_digest_is_what_the_documentation_says(folder):
    info = json.loads((folder / INFO_FILE).read_text())
    kept = {key: info[key] for key in info if key not in ("created", "si_neuroml_version", "digest", "file_digest")}
    described = (json.dumps(kept, sort_keys=True, indent=2) + "\n").encode()
    tensors = hashlib.sha256((folder / TENSOR_FILE).read_bytes()).digest()
    assert hashlib.sha256(tensors + described).hexdigest() == info["digest"]


def test_no_file_of_the_package_can_unpickle():
    # pickletools takes a pickle apart and runs nothing
    forbidden = re.compile(r"(import|from) (_?pickle|dill|cloudpickle)\b|torch\.load|allow_pickle=True|joblib\.load")
    for path in Path(si_neuroml.__file__).parent.rglob("*.py"):
        found = [match.group() for match in forbidden.finditer(path.read_text(encoding="utf-8"))]
        assert not found, f"{path.name} uses {found}"
