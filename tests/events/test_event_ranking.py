"""Ranking against scikit-learn, and the calibration of probabilities."""

import numpy as np
import pytest
from evaluation_helpers import random_events
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from si_neuroml.errors import InputError
from si_neuroml.events.matching import match_events
from si_neuroml.events.ranking import (
    average_precision,
    precision_recall_curve,
    probability_calibration,
    ranked_hits,
)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_hits_of_every_threshold_are_as_many_as_can_be_matched(seed, tolerance):
    rng = np.random.default_rng(seed)
    true, found = random_events(12, rng, 80, channels=2), random_events(25, rng, 80, channels=2)
    hits = ranked_hits(true, found, found["probability"], tolerance)
    for threshold in found["probability"]:
        kept = found["probability"] >= threshold
        assert hits[kept].sum() == (match_events(true, found[kept], tolerance) >= 0).sum()


def test_average_precision_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    hits, scores = rng.random(500) < 0.3, np.round(rng.random(500), 2)  # with ties
    expected = average_precision_score(hits, scores)
    assert average_precision(hits, scores, hits.sum()) == pytest.approx(expected, abs=1e-12)
    # events never found lower the recall, and nothing else
    assert average_precision(hits, scores, 2 * hits.sum()) == pytest.approx(expected / 2, abs=1e-12)
    weights = rng.integers(0, 4, 500)
    weighted = average_precision_score(hits, scores, sample_weight=weights)
    assert average_precision(hits, scores, (weights * hits).sum(), weights) == pytest.approx(weighted, abs=1e-12)


def test_average_precision_knows_its_ends():
    assert average_precision(np.ones(3, bool), [3, 2, 1], 3) == 1.0
    assert average_precision(np.zeros(3, bool), [3, 2, 1], 3) == 0.0
    assert average_precision(np.zeros(0, bool), [], 3) == 0.0
    assert average_precision(np.zeros(1, bool), [1], 0) is None


def test_curve_holds_precision_and_recall_of_each_threshold():
    precision, recall, thresholds = precision_recall_curve([True, False, True, True], [0.9, 0.5, 0.5, 0.1], 6)
    np.testing.assert_allclose(thresholds, [0.9, 0.5, 0.1])
    np.testing.assert_allclose(precision, [1, 2 / 3, 3 / 4])
    np.testing.assert_allclose(recall, [1 / 6, 2 / 6, 3 / 6])


def test_calibration_of_honest_and_of_boastful_probabilities():
    rng = np.random.default_rng(2)
    probability = rng.random(20_000)
    hits = rng.random(20_000) < probability
    honest = probability_calibration(hits, probability)
    assert honest["error"] < 0.02
    assert honest["brier"] == pytest.approx(1 / 6, abs=0.01)
    assert sum(row["num"] for row in honest["bins"]) == 20_000
    boastful = probability_calibration(hits, np.sqrt(probability))
    assert boastful["error"] == pytest.approx(1 / 6, abs=0.02)
    assert probability_calibration(np.ones(1, bool), [1.0]) == {
        "bins": [{"probability": 1.0, "share": 1.0, "num": 1}],
        "error": 0.0,
        "brier": 0.0,
    }
    with pytest.raises(InputError, match="between 0 and 1"):
        probability_calibration([True], [1.5])
