"""A text that tells whether two objects were made alike: the same in every process and on every day."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import InputError

__all__ = ["fingerprint"]


def fingerprint(thing: Any) -> str:
    """SHA-256 of what an object is made of.

    Parameters
    ----------
    thing : Any
        Numbers, text, arrays, containers of them, SpikeInterface's recordings and sortings (by the description they are
        saved with), and any object that can be copied to another process, by what it would take along (pipeline nodes,
        fitted models). Functions and classes count by name.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    InputError
        On an object that cannot be copied to another process.
    """
    return hashlib.sha256(json.dumps(_plain(thing, {}, "it")).encode()).hexdigest()


def _plain(thing, seen, where):
    """Nested lists of text, with the same text for the same thing."""
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes | np.generic):
        return f"{type(thing).__name__}:{thing!r}"
    if hasattr(thing, "__qualname__") and hasattr(thing, "__module__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    if isinstance(thing, np.dtype):
        return str(thing.descr)
    if id(thing) in seen:
        return f"again:{seen[id(thing)][0]}"
    # the object is kept alive, so that its id is not given to another one
    seen[id(thing)] = (len(seen), thing)
    if isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
        content = np.ascontiguousarray(thing).tobytes()
        return [str(thing.dtype.descr), list(thing.shape), hashlib.sha256(content).hexdigest()]
    if isinstance(thing, Mapping) and type(thing).__module__ == "builtins":
        return ["dict", *([_plain(part, seen, f"{where}[{key!r}]") for part in (key, thing[key])] for key in thing)]
    if isinstance(thing, list | tuple):
        return [type(thing).__name__, *(_plain(part, seen, f"{where}[{k}]") for k, part in enumerate(thing))]
    if isinstance(thing, set | frozenset):
        return ["set", *sorted(map(fingerprint, thing))]
    return ["object", *(_plain(part, seen, where) for part in _parts(thing, where))]


def _parts(thing, where):
    """How to make the object again, the way it goes to another process."""
    from spikeinterface.core.base import BaseExtractor

    if isinstance(thing, BaseExtractor):
        # with properties, which do not travel: gains are among them
        return type(thing), thing.to_dict(include_properties=True, recursive=True)
    try:
        parts = thing.__reduce_ex__(2)
    except TypeError as error:
        text = f"{where} is a {type(thing).__name__}, which cannot be copied to another process"
        raise InputError(f"{text}: {error}. Leave it out, or keep it outside of the object.") from error
    if isinstance(parts, str):
        return (parts,)
    return [list(part) if hasattr(part, "__next__") else part for part in parts if part is not None]
