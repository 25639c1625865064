"""Read a ``.pth`` file of weights without being able to run what it says.

Such a file is a pickle: a small program that may call any function. It is not run here. Its instructions are taken
apart, those that a dict of tensors needs are followed, and the few names among them stand for functions of this file
that make notes; anything else is refused. Tensors are then cut out of the raw numbers as numpy arrays. Both formats of
torch.save are read: the zip archive, and the older stream of pickles, in which some of the official weights still are.
"""

import io
import zipfile
from math import prod
from pathlib import Path
from pickletools import genops
from typing import Any, BinaryIO, NamedTuple

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
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file, or one that was written to confuse, leads to
        reason = str(error) if isinstance(error, OSError | _NotWeights) else f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is no file of weights, or is damaged ({reason}).") from error


class _Reader:
    """Follows the instructions that build a dict of tensors, and no others."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.storages: dict[str, _Storage] = {}
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        for opcode, argument, _ in genops(self.file):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._follow(opcode.name, argument)
        raise _NotWeights("it ends in the middle")

    def _follow(self, name, argument):
        if name in _VALUES:
            self.stack.append(_VALUES[name](argument))
        elif name in _TUPLES:
            parts = self._pop_marked() if name == "TUPLE" else self._pop(_TUPLES[name])
            self.stack.append(tuple(parts))
        elif name in ("APPEND", "APPENDS"):
            parts = self._pop(1) if name == "APPEND" else self._pop_marked()
            self._top(list).extend(parts)
        elif name in ("SETITEM", "SETITEMS"):
            parts = self._pop(2) if name == "SETITEM" else self._pop_marked()
            # others may be nested so that comparing them never ends
            if not all(isinstance(key, str) for key in parts[::2]):
                raise _NotWeights("it holds a dict with keys that are no names")
            self._top(dict).update(zip(parts[::2], parts[1::2], strict=True))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            words = argument.split(" ") if name == "GLOBAL" else self._pop(2)
            if not all(isinstance(word, str) for word in words):
                raise _NotWeights("it asks for something without a name")
            self.stack.append(_named(*words))
        elif name == "REDUCE":
            arguments, made_by = self.stack.pop(), self.stack.pop()
            if not isinstance(made_by, _Name):
                raise _NotWeights(f"it calls a {type(made_by).__name__}")
            self.stack.append(made_by.make(*arguments))
        elif name == "BINPERSID":
            self.stack.append(self._storage(*self.stack.pop()))
        elif name == "BUILD":
            # notes that torch adds to its dict, such as the versions of modules
            self.stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise _NotWeights(f"it holds the instruction {name}, which weights have no need of")

    def _pop(self, number):
        return [self.stack.pop() for _ in range(number)][::-1]

    def _pop_marked(self):
        start = max(index for index, value in enumerate(self.stack) if value is _MARK)
        parts = self.stack[start + 1 :]
        del self.stack[start:]
        return parts

    def _top(self, kind):
        if not isinstance(self.stack[-1], kind):
            raise _NotWeights(f"it adds to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _storage(self, kind, dtype, key, _, size, *view):
        if kind != "storage" or not isinstance(dtype, _Name) or not isinstance(key, str | int) or any(view):
            raise _NotWeights("it holds a storage that is not understood")
        return self.storages.setdefault(str(key), _Storage(dtype.make(), str(key), int(size)))


class _NotWeights(Exception):
    """What the file holds is not what a state dict holds."""


class _Name(NamedTuple):
    """A name that weights use, and our own function in its place."""

    words: str
    make: Any


def _named(module, name):
    if module == "torch" and name in STORAGES:
        return _Name(name, lambda: STORAGES[name])
    if (module, name) not in _NAMES:
        raise _NotWeights(f"it asks for {module}.{name}, which weights have no need of")
    return _Name(name, _NAMES[module, name])


def _tensor(storage, offset, shape, strides, *_):
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _parameter(data, *_):
    return data


_MARK = object()
_NAMES = {
    ("collections", "OrderedDict"): dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}
_VALUES = {
    "MARK": lambda _: _MARK,
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
}
_WORDS = "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING"
_NUMBERS = "INT BININT BININT1 BININT2 LONG LONG1 LONG4 BINFLOAT"
_VALUES |= dict.fromkeys(f"{_WORDS} {_NUMBERS}".split(), lambda argument: argument)


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
            raise _NotWeights("it begins like no file of torch.save")
    if not _Reader(file).load().get("little_endian", False):
        raise _NotWeights("it was written on a big-endian machine")
    reader = _Reader(file)
    found, keys, numbers = reader.load(), _Reader(file).load(), {}
    for key in keys:
        one, size = reader.storages[key], int.from_bytes(file.read(8), "little")
        if size != one.size:
            raise _NotWeights(f"storage {key} has {size} numbers in place of {one.size}")
        numbers[key] = _numbers(one, file.read(size * np.dtype(one.dtype).itemsize))
    return found, numbers


def _numbers(storage, raw):
    if len(raw) != storage.size * np.dtype(storage.dtype).itemsize:
        raise _NotWeights(f"storage {storage.key} has {len(raw)} bytes, not {storage.size} numbers")
    return np.frombuffer(raw, dtype=storage.dtype)


def _cut(tensor, numbers):
    """A copy of the tensor's numbers, after checking that all of them lie in its storage."""
    if len(tensor.shape) != len(tensor.strides) or min((tensor.offset, *tensor.shape, *tensor.strides)) < 0:
        raise _NotWeights(f"a tensor of shape {tensor.shape} has strides {tensor.strides}")
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if prod(tensor.shape) == 0:
        return np.zeros(tensor.shape, dtype=numbers.dtype)
    if last >= len(numbers) or prod(tensor.shape) > len(numbers):
        raise _NotWeights(f"a tensor of shape {tensor.shape} reaches beyond its {len(numbers)} numbers")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False).copy()
