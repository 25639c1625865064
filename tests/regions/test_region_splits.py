"""Splits of a dataset: what is never divided, what is spread, and what cannot be split."""

import numpy as np
import pandas as pd
import pytest

from si_neuroml.errors import InputError
from si_neuroml.regions.splits import SPLITS, split_units


def units(num=400, num_subjects=12, seed=0):
    rng = np.random.default_rng(seed)
    subject = rng.integers(0, num_subjects, num)
    return pd.DataFrame(
        {
            "subject": [f"m{k}" for k in subject],
            # two sessions each, named alike in all animals
            "recording": [f"session{k}" for k in rng.integers(0, 2, num)],
            "lab": [f"lab{k % 3}" for k in subject],
            "region": rng.choice(["CA1", "LP", "VISp", ""], num, p=[0.1, 0.3, 0.5, 0.1]),
        }
    )


@pytest.mark.parametrize("by", list(SPLITS))
def test_every_unit_is_tested_once_and_groups_stay_whole(by):
    table = units()
    split = split_units(table, by)
    tested = np.concatenate([test for _, test in split])
    assert sorted(tested) == list(range(len(table)))
    for train, test in split:
        assert len(np.intersect1d(train, test)) == 0
        assert len(train) + len(test) == len(table)
    if by != "random":
        key = table["subject"] + table["recording"] if by == "recording" else table[by]
        assert (pd.Series(split.fold).groupby(key.to_numpy()).nunique() == 1).all()
    assert split.leaky == (by in ("recording", "random"))


def test_recordings_of_one_name_in_two_animals_are_two():
    table = units(num_subjects=3)
    fold = pd.Series(split_units(table, "recording", num_folds=6).fold)
    assert fold.groupby([table["subject"], table["recording"]]).first().nunique() == 6


def test_few_groups_are_left_out_one_by_one():
    table = units(num_subjects=7)
    split = split_units(table, "subject", num_folds=7)
    assert split.num_folds == 7
    assert all(table["subject"].iloc[test].nunique() == 1 for _, test in split)


@pytest.mark.parametrize("by", ["subject", "random"])
def test_regions_are_spread(by):
    table = units(2000, 40)
    share = [(table["region"].iloc[test] == "CA1").mean() for _, test in split_units(table, by)]
    assert max(share) - min(share) < (0.05 if by == "subject" else 0.003)


def test_seeds_repeat_and_digests_tell():
    table = units()
    for by in ("subject", "random"):
        one, same, other = (split_units(table, by, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one.fold, same.fold)
        assert one.digest == same.digest
        assert (one.digest == other.digest) == np.array_equal(one.fold, other.fold)
    assert split_units(table, "random", seed=1).digest != split_units(table, "random", seed=2).digest


def test_what_cannot_be_split_is_refused():
    table = units()
    with pytest.raises(InputError, match=r"Splits are \['subject'"):
        split_units(table, "session")
    with pytest.raises(InputError, match="needs a column 'lab'"):
        split_units(table.drop(columns="lab"), "lab")
    with pytest.raises(InputError, match="400 of 400 units have no subject"):
        split_units(table.assign(subject=""), "subject")
    with pytest.raises(InputError, match="at least 2 of them, got only 'm1'"):
        split_units(table.assign(subject="m1"), "subject")
    with pytest.raises(InputError, match="1 folds"):
        split_units(table, "random", num_folds=1)
