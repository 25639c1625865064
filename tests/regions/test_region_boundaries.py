"""Boundaries along shanks where nothing changes, nothing is known, or the sequence and the single units disagree."""

import numpy as np
import pytest

from si_neuroml.errors import InputError
from si_neuroml.regions.boundaries import most_likely_regions, region_boundaries
from si_neuroml.regions.depth import DepthGaussian, DepthHMM

TWO = np.array([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10)
DEPTH_UM = np.arange(20) * 40.0


def test_the_default_model_is_that_of_the_defaults():
    shanks = np.zeros(20, dtype=int)
    (one,), (other,) = region_boundaries(TWO, DEPTH_UM, shanks), region_boundaries(TWO, DEPTH_UM, shanks, DepthHMM())
    np.testing.assert_array_equal(one.posterior, other.posterior)
    assert one.posterior.sum() == pytest.approx(1.0)
    assert one.low_um <= one.depth_um <= one.high_um
    # by symmetry between the tenth and the eleventh unit
    assert one.depth_um == pytest.approx(380.0)


def test_shanks_without_a_change_or_without_depths_have_no_boundaries():
    probabilities = np.vstack([TWO, TWO[:10], TWO])
    track = np.repeat(["a", "b", "c"], (20, 10, 20))
    depth_um = np.concatenate([DEPTH_UM, DEPTH_UM[:10], np.full(20, np.nan)])
    found = region_boundaries(probabilities, depth_um, track)
    assert [(one.track, one.below, one.above) for one in found] == [("a", 0, 1)]
    nowhere = np.full(20, np.nan)
    assert region_boundaries(TWO, nowhere, np.zeros(20, dtype=int)) == []
    # each unit is then what it looks like by itself
    assert most_likely_regions(TWO, nowhere, np.zeros(20, dtype=int)).tolist() == TWO.argmax(axis=1).tolist()


def test_a_wider_confidence_gives_a_wider_interval():
    rng = np.random.default_rng(0)
    weak, model = 0.7 * TWO + 0.3 * rng.dirichlet(np.ones(2), 20), DepthHMM(emission_power=1.0)
    data = (weak, DEPTH_UM, np.zeros(20, dtype=int), model)
    ends = [region_boundaries(*data, confidence=level)[0] for level in (0.5, 0.99)]
    assert ends[1].low_um < ends[0].low_um < ends[0].high_um < ends[1].high_um


def test_the_likeliest_sequence_is_not_the_sequence_of_likeliest_units():
    """A thin region in the middle is likely, but not where it begins and ends: no one sequence that has it wins."""
    probabilities = np.array([[0.8, 0.2]] * 4 + [[0.3, 0.7]] * 7 + [[0.8, 0.2]] * 4)
    depth_um, track = np.arange(15) * 100.0, np.zeros(15, dtype=int)
    model = DepthHMM(stay_um=1000.0, emission_power=1.0)
    assert (most_likely_regions(probabilities, depth_um, track, model) == 0).all()
    assert region_boundaries(probabilities, depth_um, track, model) == []
    assert model.smooth(probabilities, depth_um, track)[7, 1] > 0.7


def test_other_models_are_refused():
    with pytest.raises(InputError, match="need a DepthHMM .* got DepthGaussian"):
        region_boundaries(TWO, DEPTH_UM, np.zeros(20, dtype=int), DepthGaussian())
    with pytest.raises(InputError, match="20 rows of probabilities need one depth"):
        most_likely_regions(TWO, DEPTH_UM[1:], np.zeros(20, dtype=int))
