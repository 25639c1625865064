"""Files with bytes changed, lost or added: refused with one kind of error, or read as what they were; never run."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from fuzz_helpers import MAKERS, cell_dataset, damaged, damages, only_reads, region_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_helpers import resealed

from si_neuroml import modelformat
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.torch_files import read_torch_file
from si_neuroml.errors import InputError, ModelFileError
from si_neuroml.modelfiles import NamedModel, load_model, save_model
from si_neuroml.modelformat import FORMAT_KEYS, INFO_FILE, TENSOR_FILE
from si_neuroml.regions.area_hdf5 import open_area_session, write_area_file
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.session import Session

fuzz = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.sampled_from([None, True, -1, 0, 3, 10**30, -0.5, 1e300, "", "x", [], [1], [[1.0, 2.0]], {}, {"x": 1}])


@functools.cache
def made(name):
    return MAKERS[name]()


@pytest.fixture(params=MAKERS)
def saved(request, tmp_path):
    """(model, its folder), loaded once so that all that loading imports is there."""
    model = made(request.param)
    folder = save_model(model, tmp_path / "model")
    assert load_model(folder) == model
    return model, folder


@fuzz
@given(name=st.sampled_from([INFO_FILE, TENSOR_FILE]), damage=damages())
def test_a_model_is_whole_or_refused(saved, name, damage):
    model, folder = saved
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(damaged(content, damage))
    try:
        with only_reads():
            loaded = load_model(folder)
    except ModelFileError:
        pass
    else:
        assert loaded == model
        assert damaged(content, damage) == content
    finally:
        (folder / name).write_bytes(content)


@fuzz
@given(data=st.data())
def test_a_model_with_other_contents_under_right_digests(saved, data):
    """As from somebody with bad intentions: what loads is a model, and all else is refused."""
    folder = saved[1]
    contents = {name: (folder / name).read_bytes() for name in (INFO_FILE, TENSOR_FILE)}
    info = json.loads(contents[INFO_FILE])
    tensors = safetensors.numpy.load(contents[TENSOR_FILE])
    own = {key: value for key, value in info.items() if key not in FORMAT_KEYS}
    if data.draw(st.booleans(), "info and not tensors"):
        _change_info(own, data)
    else:
        _change_tensor(tensors, data)
    (folder / INFO_FILE).write_text(json.dumps({key: info[key] for key in FORMAT_KEYS}))
    tensor_bytes = safetensors.numpy.save(tensors)
    resealed(folder, tensor_bytes=tensor_bytes, **own, tensors=modelformat._manifest(tensors))
    try:
        with only_reads():
            assert isinstance(load_model(folder), NamedModel)
    except ModelFileError:
        pass
    finally:
        for name, content in contents.items():
            (folder / name).write_bytes(content)


def _change_info(part, data):
    key = data.draw(st.sampled_from(sorted(part)) if isinstance(part, dict) else st.integers(0, len(part) - 1))
    if isinstance(part[key], dict | list) and part[key] and data.draw(st.booleans(), "deeper"):
        _change_info(part[key], data)
    elif data.draw(st.booleans(), "without"):
        del part[key]
    else:
        part[key] = data.draw(VALUES)


def _change_tensor(tensors, data):
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors.pop(name)
    changes = {
        "without": None,
        "flat": tensor.ravel(),
        "shorter": tensor.ravel()[1:],
        "empty": tensor.ravel()[:0],
        "deeper": tensor[None],
        "whole numbers": tensor.astype("int8"),
        "negative": -tensor.astype("float64") - 1,
        "one": np.float32(1),
    }
    change = data.draw(st.sampled_from(sorted(changes)))
    if changes[change] is not None:
        tensors[name] = np.ascontiguousarray(changes[change])


@pytest.fixture(scope="module", params=["zip", "stream"])
def torch_file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "weights.pth"
    state = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.zeros(3), "count": torch.tensor(7)}
    torch.save(state, path, _use_new_zipfile_serialization=request.param == "zip")
    read_torch_file(path)
    return path


@settings(fuzz, max_examples=150)
@given(damage=damages())
def test_weights_of_torch_are_read_or_refused(torch_file, damage):
    _read_or_refused(torch_file, damage, read_torch_file, dict)


@pytest.fixture(scope="module", params=[region_dataset, cell_dataset])
def dataset_file(request, tmp_path_factory):
    dataset = request.param()
    path = dataset.save(tmp_path_factory.mktemp("datasets") / "dataset.npz")
    type(dataset).load(path)
    return path, type(dataset)


@settings(fuzz, max_examples=150)
@given(damage=damages())
def test_datasets_are_read_or_refused(dataset_file, damage):
    path, kind = dataset_file
    _read_or_refused(path, damage, kind.load, RegionDataset | CellDataset)


@pytest.fixture(scope="module")
def area_file(tmp_path_factory):
    units = region_dataset().units.iloc[:6].assign(subject="x", recording="x")
    session = Session(units, np.linspace(0.1, 9.0, 60), np.arange(0, 61, 10), 10.0)
    path = tmp_path_factory.mktemp("areas") / "areas.h5"
    write_area_file(session, path)
    return path


# the same damage in every run: what meets it is a library in C
@settings(fuzz, max_examples=150, derandomize=True)
@given(damage=damages())
def test_area_files_are_opened_or_refused(area_file, damage):
    def units_of(path):
        with open_area_session(path) as session:
            return session.units

    _read_or_refused(area_file, damage, units_of, pd.DataFrame)


def _read_or_refused(path, damage, read, kind):
    changed = path.with_name(f"changed{path.suffix}")
    changed.write_bytes(damaged(path.read_bytes(), damage))
    try:
        with only_reads():
            found = read(changed)
    except InputError:
        return
    assert isinstance(found, kind)
