"""Probes of every common kind, with random pitch, size and missing contacts, for the training of a localizer.

Four staggered columns 20 um apart never occur: that layout is kept for the test on a probe that training has not seen.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Probe", "random_probe", "unseen_probe"]

MAX_CONTACTS = 81


class Probe(NamedTuple):
    """Contacts in um, shape (num_contacts, 3) with z = 0; the side of a contact in um; the kind."""

    contacts: np.ndarray
    contact_size_um: float
    kind: str


def random_probe(rng: np.random.Generator) -> Probe:
    """A probe of a random kind; on one in four some contacts are missing, at most 60 %."""
    kinds = {
        _square_array: 0.34,
        _neuropixels_1: 0.2,
        _neuropixels_2: 0.12,
        _staggered: 0.12,
        _linear: 0.08,
        _tetrode: 0.04,
        _irregular: 0.1,
    }
    make = list(kinds)[rng.choice(len(kinds), p=list(kinds.values()))]
    probe = make(rng)
    contacts = probe.contacts
    if len(contacts) > 8 and rng.random() < 0.25:
        keep = rng.random(len(contacts)) > rng.uniform(0.05, 0.6)
        contacts = contacts[keep] if keep.sum() >= 4 else contacts
    return probe._replace(contacts=contacts - contacts.mean(axis=0))


def unseen_probe() -> Probe:
    """Four staggered columns 20 um apart, 20 um between the contacts of a column; never drawn above."""
    x, y = np.meshgrid(np.arange(4) * 20.0, np.arange(16) * 20.0)
    y = y + 10.0 * (np.arange(4) % 2)
    return Probe(_flat(x.ravel() - 30.0, y.ravel() - 150.0), 10.0, "four_columns")


def _flat(x, y):
    return np.column_stack([x, y, np.zeros(len(x))]).astype("float64")


def _grid(columns, rows, pitch_x, pitch_y, stagger=0.0):
    x, y = np.meshgrid(np.arange(columns) * pitch_x, np.arange(rows) * pitch_y)
    return _flat(x.ravel(), (y + stagger * (np.arange(columns) % 2)).ravel())


def _square_array(rng):
    pitch = rng.choice([15.0, 17.5, 20.0, rng.uniform(10, 25), rng.uniform(10, 60)], p=[0.3, 0.1, 0.1, 0.3, 0.2])
    side = int(rng.integers(6, 10))
    return Probe(_grid(side, side, pitch, pitch), min(rng.uniform(0.2, 0.6) * pitch, 12.0), "square")


def _neuropixels_1(rng):
    """Four columns 16 um apart, two contacts every 20 um, in turn left and right."""
    rows = int(rng.integers(16, 33))
    y = np.repeat(np.arange(rows), 2) * 20.0
    x = np.tile([0.0, 32.0, 16.0, 48.0], rows)[: 2 * rows]
    return Probe(_flat(x, y), rng.choice([6.0, 12.0]), "neuropixels_1")


def _neuropixels_2(rng):
    """Two columns 32 um apart, one contact every 15 um."""
    return Probe(_grid(2, int(rng.integers(16, 33)), 32.0, 15.0), 12.0, "neuropixels_2")


def _staggered(rng):
    pitch_x, pitch_y = rng.uniform(12, 45, size=2)
    columns = int(rng.integers(2, 4))
    contacts = _grid(columns, int(rng.integers(8, 60 // columns)), pitch_x, pitch_y, rng.choice([0.0, 0.5]) * pitch_y)
    return Probe(contacts, rng.uniform(4, 12), "staggered")


def _linear(rng):
    return Probe(_grid(1, int(rng.integers(8, 33)), 1.0, rng.uniform(10, 50)), rng.uniform(4, 12), "linear")


def _tetrode(rng):
    side, angle = rng.uniform(15, 40), rng.uniform(0, np.pi / 2)
    corners = _grid(2, 2, side, side)
    corners -= corners.mean(axis=0)
    c, s = np.cos(angle), np.sin(angle)
    return Probe(corners @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T, rng.uniform(4, 15), "tetrode")


def _irregular(rng):
    """Contacts at random places, none closer than two thirds of the typical distance."""
    pitch, columns = rng.uniform(14, 35), int(rng.integers(3, 9))
    contacts = _grid(columns, max(4, 64 // columns), pitch, pitch)
    contacts[:, :2] += rng.uniform(-pitch / 6, pitch / 6, size=(len(contacts), 2))
    return Probe(contacts[:MAX_CONTACTS], rng.uniform(4, 10), "irregular")
