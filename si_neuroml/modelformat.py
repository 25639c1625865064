"""The two files of a model folder: ``model.safetensors`` holds the numbers, ``model_info.json`` says what they are.

Nothing in them is ever executed, and nothing is believed before it is checked: both files carry digests, so a changed
byte, a half-written file or a foreign one is refused with a :class:`~si_neuroml.errors.ModelFileError`.

Two digests are kept. ``digest`` names the model: SHA-256 over the tensors and over everything the model says about
itself. It leaves out when and by which version the folder was written, so that a model has the same name before and
after saving, and two fits with the same seed can be compared. ``file_digest`` guards the whole of ``model_info.json``.
"""

import hashlib
import json
from typing import Any, NoReturn

import numpy as np
import safetensors.numpy

from .errors import InputError, ModelFileError

__all__ = ["FORMAT_KEYS", "FORMAT_VERSION", "INFO_FILE", "TENSOR_FILE", "pack", "read_info", "read_tensors", "seal"]

FORMAT_VERSION = 1
TENSOR_FILE = "model.safetensors"
INFO_FILE = "model_info.json"

# what this module adds to the info of a model
FORMAT_KEYS = frozenset({"kind", "format_version", "tensors", "digest", "file_digest"})
NOT_IN_DIGEST = frozenset({"created", "si_neuroml_version", "digest", "file_digest"})
INTEGER_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
TENSOR_DTYPES = (*INTEGER_DTYPES, "float16", "float32", "float64", "complex64")


def pack(kind: str, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Turn a model's parts into the bytes of its tensor file and its info with the digest.

    Parameters
    ----------
    kind : str
        The kind of model.
    tensors : dict
        Arrays of any shape and of a dtype in ``TENSOR_DTYPES``, all values finite.
    info : dict
        What else belongs to the model. Numpy values become numbers and lists; NaN and infinity are refused.

    Returns
    -------
    tensor_bytes : bytes
        The content of ``model.safetensors``.
    info : dict
        The info as it will be read back, with kind, format version, list of tensors and digest.

    Raises
    ------
    InputError
        If the files cannot hold this.
    """
    if reserved := FORMAT_KEYS & info.keys():
        raise InputError(f"The info of a {kind!r} model uses reserved names: {sorted(reserved)}. Rename them.")
    try:
        # through text and back: keys become strings and tuples lists, as they will be when the file is read
        info = json.loads(_render(info))
    except (TypeError, ValueError) as error:
        raise InputError(f"The info of this {kind!r} model cannot be written as JSON: {error}") from error
    tensors = {name: _checked_tensor(name, tensor) for name, tensor in tensors.items()}
    tensor_bytes = safetensors.numpy.save(tensors)
    info |= {"kind": kind, "format_version": FORMAT_VERSION, "tensors": _manifest(tensors)}
    info["digest"] = _digest(tensor_bytes, info)
    return tensor_bytes, info


def seal(info: dict[str, Any]) -> bytes:
    """The content of ``model_info.json``, with its ``file_digest``."""
    return _render(info | {"file_digest": _file_digest(info)})


def read_info(raw: bytes, where: str) -> dict[str, Any]:
    """Read and check the content of ``model_info.json``.

    Parameters
    ----------
    raw : bytes
        The content of the file.
    where : str
        The path, for messages.

    Returns
    -------
    info : dict
        The info. Whether the tensors belong to it is checked by :func:`read_tensors`.

    Raises
    ------
    ModelFileError
        If this is not JSON, not a model's info, from a newer version, or changed after it was saved.
    """
    try:
        info = json.loads(raw, parse_constant=_refuse_constant)
        rendered = _render(info)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where} is not valid JSON: {error}. Restore it, or save the model again.") from error
    version = info.get("format_version") if isinstance(info, dict) else None
    if type(version) is not int or version < 1 or not isinstance(info.get("kind"), str):
        raise ModelFileError(f"{where} does not describe a si_neuroml model: it names no kind and format version.")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{where} has model format {version}, written by si_neuroml {info.get('si_neuroml_version')}; this version "
            f"reads up to format {FORMAT_VERSION}. Upgrade with: pip install --upgrade si-neuroml"
        )
    # the text itself is compared too: a blank turned into a tab is a changed file, though the same JSON
    if raw != rendered or info.get("file_digest") != _file_digest(info):
        raise ModelFileError(f"{where} was changed after it was saved. Restore it, or save the model again.")
    return info


def read_tensors(raw: bytes, info: dict[str, Any], where: str) -> dict[str, np.ndarray]:
    """Read and check the content of ``model.safetensors``.

    Parameters
    ----------
    raw : bytes
        The content of the file.
    info : dict
        The checked info of the same folder.
    where : str
        The path, for messages.

    Returns
    -------
    tensors : dict
        Writable arrays by name.

    Raises
    ------
    ModelFileError
        If the tensors are damaged, not finite, or not those that the info describes.
    """
    digest = _digest(raw, info)
    if info.get("digest") != digest:
        raise ModelFileError(
            f"{where} does not belong to the {INFO_FILE} beside it, or was changed after it was saved: expected digest "
            f"{info.get('digest')!r}, found {digest!r}. Restore the folder, or save the model again."
        )
    try:
        tensors = {name: np.array(tensor) for name, tensor in safetensors.numpy.load(raw).items()}
    except Exception as error:  # the reader raises its own, KeyError or ValueError, according to what is wrong
        raise ModelFileError(f"{where} is not a readable safetensors file: {error}") from error
    if info.get("tensors") != _manifest(tensors):
        raise ModelFileError(f"The tensors in {where} are not those listed in {INFO_FILE}.")
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ModelFileError(f"Tensor {name!r} in {where} holds values that are not finite.")
    return tensors


def _checked_tensor(name: str, tensor: np.ndarray) -> np.ndarray:
    if not isinstance(name, str) or name in ("", "__metadata__"):
        raise InputError(f"{name!r} cannot be the name of a tensor.")
    tensor = np.asarray(tensor, order="C")  # safetensors copies memory as it lies; ascontiguousarray would lose 0-d
    if tensor.dtype.name not in TENSOR_DTYPES:
        raise InputError(f"Tensor {name!r} has dtype {tensor.dtype}; a model can hold {', '.join(TENSOR_DTYPES)}.")
    if count := np.count_nonzero(~np.isfinite(tensor)):
        raise InputError(f"Tensor {name!r} holds {count} of {tensor.size} values that are not finite. Fit it again.")
    return tensor.astype(tensor.dtype.newbyteorder("="), copy=False)


def _manifest(tensors: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    return {name: {"dtype": tensor.dtype.name, "shape": list(tensor.shape)} for name, tensor in tensors.items()}


def _digest(tensor_bytes: bytes, info: dict[str, Any]) -> str:
    described = _render({key: info[key] for key in info.keys() - NOT_IN_DIGEST})
    return hashlib.sha256(hashlib.sha256(tensor_bytes).digest() + described).hexdigest()


def _file_digest(info: dict[str, Any]) -> str:
    return hashlib.sha256(_render({key: info[key] for key in info.keys() - {"file_digest"}})).hexdigest()


def _render(info: object) -> bytes:
    text = json.dumps(info, sort_keys=True, indent=2, allow_nan=False, default=_plain)
    return (text + "\n").encode("ascii")


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
