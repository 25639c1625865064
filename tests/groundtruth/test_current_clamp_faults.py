"""Faulty cells and sweeps, and settings that are refused."""

from dataclasses import replace

import numpy as np
import pytest

from si_neuroml.celltypes.sweep_selection import select_rheobase_sweeps
from si_neuroml.errors import InputError
from si_neuroml.groundtruth.current_clamp import generate_current_clamp_cells
from si_neuroml.groundtruth.current_clamp_cells import CLAMP_LABS
from si_neuroml.groundtruth.current_clamp_types import (
    FIRING_TYPES,
    DonorScatter,
    Spread,
)

WARM, COOL = CLAMP_LABS
WORDS = {
    "spontaneous": "spontaneous firing",
    "depolarisation_block": "depolarisation block",
    "silent": "no spikes",
}


@pytest.mark.parametrize("fault", list(WORDS))
def test_faulty_cells_are_refused_for_their_fault(fault):
    faulty = generate_current_clamp_cells(8, cells_per_donor=2, faults={fault: 1.0}, seed=2)
    assert (faulty.truth["fault"] == fault).all()
    for cell in faulty.cells:
        pair = select_rheobase_sweeps(cell)
        assert WORDS[fault] in pair.refusal
    assert faulty.truth["rheobase_pa"].notna().all() == (fault == "depolarisation_block")


def test_failed_sweeps_are_named():
    faulty = generate_current_clamp_cells(8, cells_per_donor=2, faults={"failed_sweeps": 1.0}, seed=2)
    found = set()
    for cell, failed in zip(faulty.cells, faulty.truth["failed_sweeps"], strict=True):
        assert tuple(np.flatnonzero(~cell.usable)) == failed
        found |= {cell.refusals[k].split(":")[0] for k in failed}
    assert found == {"truncated", "NaN", "clipped"}


def test_shares_of_faults():
    faults = {"silent": 0.3, "failed_sweeps": 0.2}
    labs = [replace(WARM, step_s=0.1, after_s=0.0, step_pa=200.0, above_pa=1.0)]
    truth = generate_current_clamp_cells(200, labs=labs, faults=faults).truth
    for name, share in (*faults.items(), ("", 0.5)):
        assert (truth["fault"] == name).mean() == pytest.approx(share, abs=0.1)
    assert truth["label"].value_counts().min() > 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_cells": 0}, "num_cells must be a whole number of at least 1"),
        ({"num_cells": 2.5}, "num_cells"),
        ({"num_cells": float("nan")}, "num_cells"),
        ({"cells_per_donor": 0}, "cells_per_donor"),
        ({"first_cell": -1}, "first_cell"),
        ({"seed": -1}, "seed"),
        ({"mixing": -0.1}, "mixing"),
        ({"mixing": float("nan")}, "mixing"),
        ({"faults": {"tired": 0.1}}, "no faults"),
        ({"faults": {"silent": 0.6, "spontaneous": 0.6}}, "sum to at most 1"),
        ({"faults": {"silent": -0.1}}, "shares from 0 to 1"),
        ({"types": ()}, "types must be one or more"),
        ({"labs": (WARM, WARM)}, "names of their own"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        generate_current_clamp_cells(**{"num_cells": 1} | arguments)


def test_bad_settings_are_refused():
    for change in (
        {"step_pa": 0.0},
        {"noise_mv": -1.0},
        {"sampling_frequency": 1000.0},
        {"first_pa": 10.0},
        {"temperature_c": 60.0},
        {"step_s": float("nan")},
    ):
        with pytest.raises(InputError, match="lab_warm"):
            replace(WARM, **change)
    with pytest.raises(InputError, match="width_ms"):
        replace(FIRING_TYPES[0], width_ms=Spread(-0.5, 0.1))
    with pytest.raises(InputError, match="tau_ms"):
        DonorScatter(tau_ms=-1.0)
