"""What goes into a model folder comes out, and what cannot is refused when saving."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from model_helpers import TinyModel, make_model, property_test

import si_neuroml
from si_neuroml.errors import InputError
from si_neuroml.modelfiles import (
    MODEL_KINDS,
    load_model,
    model_digest,
    read_model_info,
    register_model_kind,
    save_model,
)
from si_neuroml.modelformat import INFO_FILE, TENSOR_DTYPES, TENSOR_FILE


@property_test
@given(data=st.data())
def test_round_trip_keeps_every_shape_dtype_and_value(tmp_path, data):
    dtypes = st.sampled_from(TENSOR_DTYPES)
    arrays = dtypes.flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    )
    tensors = data.draw(st.dictionaries(st.text(min_size=1, max_size=8), arrays.map(np.nan_to_num), max_size=4))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(st.none() | st.booleans() | st.integers() | finite | st.text(), st.lists, max_leaves=5)
    settings_drawn = data.draw(st.dictionaries(st.text(), values, max_size=4))
    try:
        model = TinyModel(tensors, {"settings": settings_drawn})
    except InputError:  # only names that UTF-8 cannot hold
        assert any(not name.isprintable() for name in tensors) or "__metadata__" in tensors
        return
    loaded = load_model(save_model(model, tmp_path / "model", overwrite=True))
    assert loaded.info == model.info
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert loaded.tensors[name].flags.writeable
        np.testing.assert_array_equal(loaded.tensors[name], tensor, strict=True)
    assert (
        model_digest(model) == model_digest(loaded) == loaded["digest"] == read_model_info(tmp_path / "model")["digest"]
    )


@pytest.mark.parametrize(
    "layout", [lambda a: a.T, lambda a: a[::2, ::-1], lambda a: a.astype(">f8"), np.asfortranarray]
)
def test_memory_layout_does_not_matter(tmp_path, layout):
    array = layout(np.arange(24.0).reshape(4, 6))
    loaded = load_model(save_model(TinyModel({"a": array}, {}), tmp_path / "model"))
    np.testing.assert_array_equal(loaded.tensors["a"], array)
    assert loaded == TinyModel({"a": np.array(array, dtype="=f8", order="C")}, {})


def test_numpy_values_tuples_and_number_keys_are_written_as_they_will_be_read(tmp_path):
    info = {"geometry": np.array([[0.0, 20.0]]), "seed": np.int64(3), "slots": {10: (1, 2), 2: "µ"}}
    loaded = load_model(save_model(TinyModel({}, info), tmp_path / "model"))
    assert loaded.info == {"geometry": [[0.0, 20.0]], "seed": 3, "slots": {"10": [1, 2], "2": "µ"}}


def test_the_digest_names_the_content_and_nothing_else(tmp_path):
    model = make_model()
    first, second = save_model(model, tmp_path / "a"), save_model(make_model(created="2020-01-01"), tmp_path / "b")
    assert read_model_info(first)["created"] != read_model_info(second)["created"] == "2020-01-01"
    assert read_model_info(first)["digest"] == read_model_info(second)["digest"]
    assert make_model(scale=2.0)["digest"] != model["digest"] != make_model(units="mV")["digest"]


def test_info_says_what_the_folder_holds(tmp_path):
    folder = save_model(make_model(), tmp_path / "new" / "parents" / "model")
    info = read_model_info(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([INFO_FILE, TENSOR_FILE])
    assert info["kind"] == "tiny"
    assert info["si_neuroml_version"] == si_neuroml.__version__
    assert info["created"].endswith("+00:00")
    assert info["tensors"] == {
        "weights": {"dtype": "float32", "shape": [3, 4]},
        "bias": {"dtype": "float64", "shape": []},
    }
    assert info["window"] == {"nbefore": 15, "nafter": 30}


@pytest.mark.parametrize(
    "tensor",
    [np.array([0.0, np.nan]), np.array(np.inf), np.array(["text"]), np.array([None]), np.zeros(2, "complex128")],
)
def test_tensors_that_a_model_cannot_hold(tensor):
    with pytest.raises(InputError, match="'w'"):
        TinyModel({"w": tensor}, {})


@pytest.mark.parametrize("info", [{"loss": np.nan}, {"loss": np.float32(np.inf)}, {"f": len}, {"digest": "mine"}])
def test_info_that_a_model_cannot_hold(info):
    with pytest.raises(InputError):
        TinyModel({}, info)


@pytest.mark.parametrize("name", ["", "__metadata__", 3])
def test_names_that_tensors_cannot_have(name):
    with pytest.raises(InputError, match="name of a tensor"):
        TinyModel({name: np.zeros(1)}, {})


def test_only_models_of_registered_kinds_are_saved(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="NamedModel"):
        save_model({"kind": "tiny"}, tmp_path / "model")
    model = make_model()
    monkeypatch.delitem(MODEL_KINDS, "tiny")
    with pytest.raises(InputError, match="register_model_kind"):
        save_model(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_kind_has_one_provider():
    register_model_kind("tiny", MODEL_KINDS["tiny"])
    with pytest.raises(InputError, match="already provided"):
        register_model_kind("tiny", "elsewhere:TinyModel")
    with pytest.raises(InputError, match="package.module:ClassName"):
        register_model_kind("new", "elsewhere.TinyModel")
