"""Fingerprints: the same for what was made alike, in any process, and another one for everything else."""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.fingerprint import fingerprint

SIMPLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@dataclass
class Settings:
    radius_um: float
    kind: str


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


@given(one=SIMPLE, other=SIMPLE)
def test_tells_plain_values_apart(one, other):
    assert fingerprint(one) == fingerprint(one)
    if repr(one) != repr(other):
        assert fingerprint(one) != fingerprint(other)


def test_tells_objects_apart_by_what_they_hold():
    things = [
        Settings(50.0, "a"),
        Settings(51.0, "a"),
        Slotted(1),
        Slotted(2),
        partial(int, base=2),
        partial(int, base=3),
        np.arange(3),
        np.arange(3.0),
        np.arange(4),
        np.arange(4).reshape(2, 2),
        np.random.default_rng(0),
        np.random.default_rng(1),
        Path("a"),
        {1, 2},
        (1, 2),
        [1, 2],
        np.dtype("f4"),
        int,
        len,
    ]
    prints = [fingerprint(thing) for thing in things]
    assert len(set(prints)) == len(prints)
    assert fingerprint(Settings(50.0, "a")) == prints[0]
    assert fingerprint({"b", "a", "c"}) == fingerprint({"c", "b", "a"})


def test_is_the_same_in_another_process():
    code = (
        "from si_neuroml.fingerprint import fingerprint; print(fingerprint({'a': {'x', 'y', 'z'}, 'b': [1.5, None]}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == fingerprint({"a": {"z", "y", "x"}, "b": [1.5, None]})


def test_loops_end():
    loop = [1]
    loop.append(loop)
    assert len(fingerprint(loop)) == 64


def test_names_what_cannot_travel():
    with pytest.raises(InputError, match=r"it\['files'\]\[1\] is a generator, which cannot be copied"):
        fingerprint({"files": [1, (k for k in range(3))]})
