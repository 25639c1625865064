"""Read a ``.pth`` file of weights without being able to run what it says.

Such a file is a pickle, and a pickle may call any function. Here the only names it may use are those that a dict of
tensors needs, and each stands for a function of this file that makes notes; tensors are then cut out of the raw
numbers as numpy arrays. Both formats of torch.save are read: the zip archive, and the older stream of pickles, in
which some of the official weights still are.
"""

import io
import zipfile
from collections import OrderedDict
from math import prod
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError

__all__ = ["read_torch_file"]

# first number and version of the older format
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "ShortStorage": "<i2",
}


class _Storage(NamedTuple):
    dtype: str
    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict saved by ``torch.save``.

    Parameters
    ----------
    path : str | Path
        The file.

    Returns
    -------
    dict of {str: array}

    Raises
    ------
    InputError
        When the file is damaged, or holds anything but a dict of tensors.
    """
    try:
        if zipfile.is_zipfile(path):
            found, numbers = _read_zip(path)
        else:
            with open(path, "rb") as file:
                found, numbers = _read_stream(file)
        if not isinstance(found, dict) or not all(isinstance(value, _Tensor) for value in found.values()):
            raise InputError(f"{path} holds something else than a dict of tensors. Save model.state_dict() alone.")
        return {str(name): _cut(value, numbers[value.storage.key]) for name, value in found.items()}
    except (OSError, zipfile.BadZipFile, UnpicklingError, EOFError) as error:
        raise InputError(f"{path} is no file of weights, or is damaged: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        # what a pickle that is not one, or was written to confuse, leads to
        raise InputError(f"{path} is no file of weights, or is damaged ({type(error).__name__}: {error}).") from error


class _Reader(Unpickler):
    """Knows the names of a state dict and no others."""

    def __init__(self, file):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        allowed = _NAMES.get((module, name))
        if allowed is not None:
            return allowed
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise UnpicklingError(f"it asks for {module}.{name}, which weights have no need of")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, *view = pid
        if kind != "storage" or dtype not in STORAGES.values() or any(one is not None for one in view):
            raise UnpicklingError(f"it holds a storage that is not understood: {pid!r}")
        return self.storages.setdefault(str(key), _Storage(dtype, str(key), int(size)))


def _tensor(storage, offset, shape, strides, *_):
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _parameter(data, *_):
    return data


_NAMES = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickled = next((name for name in names if name.split("/", 1)[-1] == "data.pkl"), None)
        if pickled is None:
            raise InputError(f"{path} is a zip archive, but not one of torch.save: it has no data.pkl.")
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise InputError(f"{path} was written on a big-endian machine, which is not supported.")
        reader = _Reader(io.BytesIO(archive.read(pickled)))
        found = reader.load()
        numbers = {key: _numbers(one, archive.read(f"{folder}data/{key}")) for key, one in reader.storages.items()}
    return found, numbers


def _read_stream(file):
    for expected in (MAGIC, VERSION):
        if _Reader(file).load() != expected:
            raise UnpicklingError("it begins like no file of torch.save")
    if not _Reader(file).load().get("little_endian", False):
        raise UnpicklingError("it was written on a big-endian machine")
    reader = _Reader(file)
    found, keys, numbers = reader.load(), _Reader(file).load(), {}
    for key in keys:
        one, size = reader.storages[key], int.from_bytes(file.read(8), "little")
        if size != one.size:
            raise UnpicklingError(f"storage {key} has {size} numbers in place of {one.size}")
        numbers[key] = _numbers(one, file.read(size * np.dtype(one.dtype).itemsize))
    return found, numbers


def _numbers(storage, raw):
    if len(raw) != storage.size * np.dtype(storage.dtype).itemsize:
        raise UnpicklingError(f"storage {storage.key} has {len(raw)} bytes, not {storage.size} numbers")
    return np.frombuffer(raw, dtype=storage.dtype)


def _cut(tensor, numbers):
    """A copy of the tensor's numbers, after checking that all of them lie in its storage."""
    if len(tensor.shape) != len(tensor.strides) or min((tensor.offset, *tensor.shape, *tensor.strides)) < 0:
        raise UnpicklingError(f"a tensor of shape {tensor.shape} has strides {tensor.strides}")
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if prod(tensor.shape) == 0:
        return np.zeros(tensor.shape, dtype=numbers.dtype)
    if last >= len(numbers) or prod(tensor.shape) > len(numbers):
        raise UnpicklingError(f"a tensor of shape {tensor.shape} reaches beyond its {len(numbers)} numbers")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False).copy()
