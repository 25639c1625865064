"""Model folders: what goes in comes out, what was damaged is refused, what is interrupted leaves one whole model."""

import copy
import errno
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spikeinterface.core.core_tools import check_json

import si_neuroml
from si_neuroml import modelformat
from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError
from si_neuroml.modelfiles import (
    MODEL_KINDS,
    NamedModel,
    load_model,
    model_digest,
    read_model_info,
    register_model_kind,
    resolve_model,
    save_model,
)
from si_neuroml.modelformat import INFO_FILE, TENSOR_DTYPES, TENSOR_FILE

property_test = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TinyModel(NamedModel):
    """The smallest model: its parts as they were given."""

    kind = "tiny"

    def __init__(self, tensors, info):
        self.tensors = tensors
        self.info = info
        super().__init__()

    def to_parts(self):
        return self.tensors, self.info

    @classmethod
    def from_parts(cls, tensors, info):
        own = {key: value for key, value in info.items() if key not in ("created", "si_neuroml_version")}
        return cls(tensors, own)


class OtherModel(TinyModel):
    """A model of another kind."""

    kind = "other"


class DemandingModel(TinyModel):
    """A model that needs a setting which the folder may not have."""

    kind = "demanding"

    @classmethod
    def from_parts(cls, tensors, info):
        return cls(tensors, {"depth": info["depth"]})


for model_class in (TinyModel, OtherModel, DemandingModel):
    register_model_kind(model_class.kind, f"{__name__}:{model_class.__name__}")


def make_model(scale=1.0, model_class=TinyModel, **info):
    tensors = {"weights": scale * np.arange(12, dtype="float32").reshape(3, 4), "bias": np.float64(scale)}
    description = {"sampling_frequency": 30_000.0, "units": "uV", "window": {"nbefore": 15, "nafter": 30}}
    return model_class(tensors, description | info)


def resealed(folder, *, tensor_bytes=None, **changes):
    """Change a folder and give it right digests again, as somebody with bad intentions or a bad tool would."""
    raw = (folder / TENSOR_FILE).read_bytes() if tensor_bytes is None else tensor_bytes
    info = json.loads((folder / INFO_FILE).read_text()) | changes
    info["digest"] = modelformat._digest(raw, info)
    (folder / TENSOR_FILE).write_bytes(raw)
    (folder / INFO_FILE).write_bytes(modelformat.seal(info))


# round trip


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


# what cannot be saved


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


# what is refused when loading


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return save_model(make_model(), tmp_path_factory.mktemp("pristine") / "model")


@pytest.fixture
def folder(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "model"))


@property_test
@given(name=st.sampled_from([INFO_FILE, TENSOR_FILE]), position=st.floats(0, 1), flip=st.integers(1, 255))
def test_any_changed_byte_is_refused(pristine, tmp_path, name, position, flip):
    folder = shutil.copytree(pristine, tmp_path / "model", dirs_exist_ok=True)
    content = bytearray((folder / name).read_bytes())
    content[min(int(position * len(content)), len(content) - 1)] ^= flip
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFileError):
        load_model(folder)


@property_test
@given(
    name=st.sampled_from([INFO_FILE, TENSOR_FILE]), keep=st.floats(0, 1, exclude_max=True), extra=st.binary(max_size=3)
)
def test_truncated_or_lengthened_files_are_refused(pristine, tmp_path, name, keep, extra):
    content = (pristine / name).read_bytes()
    folder = shutil.copytree(pristine, tmp_path / "model", dirs_exist_ok=True)
    for changed in (content[: int(keep * len(content))], content + extra + b"\n"):
        (folder / name).write_bytes(changed)
        with pytest.raises(ModelFileError):
            load_model(folder)


@property_test
@given(data=st.data())
def test_a_hostile_header_with_a_right_digest_is_refused(pristine, tmp_path, data):
    number = st.integers(-1, 2**65) | st.sampled_from([0, 8, 48, 2**31, 2**61, 2**63])
    offsets = st.lists(number, min_size=1, max_size=3)
    entry = st.fixed_dictionaries(
        {"dtype": st.sampled_from(["F32", "BF16", "F8_E4M3", "F4", "X"]), "shape": offsets, "data_offsets": offsets}
    )
    header = data.draw(
        st.binary(max_size=60)
        | st.dictionaries(st.sampled_from(["weights", "bias", "__metadata__"]), entry, max_size=3).map(
            lambda value: json.dumps(value).encode()
        )
    )
    length = data.draw(st.just(len(header)) | st.integers(0, 2**64 - 1))
    folder = shutil.copytree(pristine, tmp_path / "model", dirs_exist_ok=True)
    resealed(folder, tensor_bytes=length.to_bytes(8, "little") + header + data.draw(st.binary(max_size=80)))
    with pytest.raises(ModelFileError):
        load_model(folder)


@property_test
@given(
    raw=st.binary(max_size=40) | st.sampled_from([b"[" * 100_000, b"1e999", b"9" * 5000, b'{"a": NaN}', b"\xff\xfe{"])
)
def test_anything_else_in_place_of_the_info_is_refused(pristine, tmp_path, raw):
    folder = shutil.copytree(pristine, tmp_path / "model", dirs_exist_ok=True)
    (folder / INFO_FILE).write_bytes(raw)
    for read in (load_model, read_model_info):
        with pytest.raises(ModelFileError):
            read(folder)


def test_missing_folder_missing_file_and_file_instead_of_folder(folder, tmp_path):
    with pytest.raises(ModelFileError, match="There is no model folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="is a file"):
        load_model(folder / INFO_FILE)
    (folder / TENSOR_FILE).unlink()
    with pytest.raises(ModelFileError, match="model.safetensors is missing"):
        load_model(folder)
    (folder / INFO_FILE).unlink()
    with pytest.raises(ModelFileError, match="model_info.json is missing"):
        read_model_info(folder)


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"kind": "tiny"}', '{"kind": [], "format_version": 1}'])
def test_a_foreign_folder_is_not_a_model(folder, text):
    (folder / INFO_FILE).write_text(text)
    with pytest.raises(ModelFileError, match="does not describe a si_neuroml model"):
        load_model(folder)


def test_a_newer_format_asks_for_an_upgrade(folder):
    resealed(folder, format_version=2, si_neuroml_version="9.1")
    with pytest.raises(ModelFileError, match=r"format 2, written by si_neuroml 9\.1.*Upgrade"):
        read_model_info(folder)


def test_unknown_kind_and_broken_provider(folder, monkeypatch):
    resealed(folder, kind="from_the_future")
    assert read_model_info(folder)["kind"] == "from_the_future"
    with pytest.raises(ModelFileError, match="Unknown model kind 'from_the_future'"):
        load_model(folder)
    monkeypatch.setitem(MODEL_KINDS, "from_the_future", "no_such_module:Model")
    with pytest.raises(ModelFileError, match="no_such_module"):
        load_model(folder)


def test_tensors_that_are_not_those_described(folder):
    resealed(
        folder, tensor_bytes=safetensors.numpy.save({"weights": np.zeros((4, 3), "float32"), "bias": np.zeros(())})
    )
    with pytest.raises(ModelFileError, match="not those listed"):
        load_model(folder)


def test_tensors_that_are_not_finite(folder):
    weights = np.full((3, 4), np.nan, "float32")
    resealed(folder, tensor_bytes=safetensors.numpy.save({"weights": weights, "bias": np.zeros(())}))
    with pytest.raises(ModelFileError, match=r"'weights'.*not finite"):
        load_model(folder)


def test_info_without_what_the_class_needs(folder):
    resealed(folder, kind="demanding")
    with pytest.raises(ModelFileError, match=r"complete 'demanding' model.*depth"):
        load_model(folder)


def test_every_settings_change_is_noticed(folder):
    info = json.loads((folder / INFO_FILE).read_text())
    info["sampling_frequency"] = 20_000.0
    (folder / INFO_FILE).write_bytes(modelformat.seal(info))
    with pytest.raises(ModelFileError, match="expected digest"):
        load_model(folder)


# replacing


def test_an_existing_model_is_replaced_only_when_asked(folder):
    with pytest.raises(InputError, match="overwrite=True"):
        save_model(make_model(2.0), folder)
    assert load_model(folder) == make_model()
    save_model(make_model(2.0), folder, overwrite=True)
    assert load_model(folder) == make_model(2.0)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_what_is_not_only_a_model_is_never_replaced(folder, tmp_path):
    (folder / "notes.txt").write_text("three years of work")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"notes\.txt"):
        save_model(make_model(2.0), folder, overwrite=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="2 missing"):
        save_model(make_model(), tmp_path / "empty", overwrite=True)
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match="is a file"):
        save_model(make_model(), tmp_path / "file", overwrite=True)


def test_a_linked_folder_is_replaced_where_it_is(folder, tmp_path):
    link = tmp_path / "link"
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert save_model(make_model(2.0), link, overwrite=True) == folder.resolve()
    assert link.is_symlink()
    assert load_model(folder) == load_model(link) == make_model(2.0)


class Interruption:
    """Raises at the n-th call of anything that touches the disk, and at all later calls if the process is gone."""

    def __init__(self, monkeypatch, error, at, dies):
        self.error, self.at, self.dies, self.count = error, at, dies, 0
        for owner, name in [(os, "replace"), (os, "fsync"), (Path, "mkdir"), (Path, "unlink"), (Path, "rmdir")]:
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, function):
        def wrapped(*args, **kwargs):
            self.count += 1
            if self.count == self.at or (self.dies and self.count > self.at):
                raise self.error
            return function(*args, **kwargs)

        return wrapped


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("dies", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interruption_at_any_step_leaves_one_whole_model(tmp_path, error, dies, exists):
    finished = False
    for at in range(1, 30):
        home = tmp_path / str(at)
        home.mkdir()
        old, new = make_model(1.0), make_model(2.0)
        if exists:
            save_model(old, home / "model")
        with pytest.MonkeyPatch.context() as monkeypatch:
            interruption = Interruption(monkeypatch, error, at, dies)
            try:
                save_model(new, home / "model", overwrite=True)
            except (KeyboardInterrupt, OSError) as raised:
                assert raised is error  # noqa: PT017 - at the last step nothing is raised
            finished = interruption.count < at
        if not dies:
            assert {path.name for path in home.iterdir()} <= {"model", ".model.leaving"}
        if exists or (home / "model").exists():
            assert load_quietly(home / "model") in (old, new)
        save_model(make_model(3.0), home / "model", overwrite=True)
        assert load_model(home / "model") == make_model(3.0)
        assert [path.name for path in home.iterdir()] == ["model"]
        if finished:
            break
    assert finished
    assert at >= 6


def load_quietly(folder):
    if folder.exists():
        return load_model(folder)
    with pytest.warns(UserWarning, match="interrupted"):
        return load_model(folder)


def test_without_overwrite_an_interrupted_replacement_is_recovered_first(folder):
    os.replace(folder, folder.with_name(".model.leaving"))
    with pytest.raises(InputError, match="overwrite=True"):
        save_model(make_model(2.0), folder)
    assert load_model(folder) == make_model()


def test_a_leftover_with_other_files_is_not_deleted(tmp_path):
    leftover = tmp_path / ".model.arriving"
    leftover.mkdir()
    (leftover / "mine.txt").write_text("kept")
    with pytest.raises(OSError, match="arriving"):
        save_model(make_model(), tmp_path / "model")
    assert (leftover / "mine.txt").read_text() == "kept"


# names


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
    forbidden = ("import pickle", "from pickle", "torch.load", "allow_pickle=True", "joblib.load", "import dill")
    for path in Path(si_neuroml.__file__).parent.rglob("*.py"):
        found = [words for words in forbidden if words in path.read_text(encoding="utf-8")]
        assert not found, f"{path.name} uses {found}"
