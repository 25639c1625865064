"""What was damaged, edited, foreign or newer is refused when loading."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from model_helpers import property_test, resealed

from si_neuroml import modelformat
from si_neuroml.errors import ModelFileError
from si_neuroml.modelfiles import (
    MODEL_KINDS,
    load_model,
    read_model_info,
)
from si_neuroml.modelformat import INFO_FILE, TENSOR_FILE


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
