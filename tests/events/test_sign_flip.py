"""The competition of a trace with its negative: what the threshold lets through, and the probabilities."""

import numpy as np
import pytest
from unlabelled_helpers import planted

from si_neuroml.events.sign_flip import Competition, compete, local_calibration, silent_threshold
from si_neuroml.events.threshold import ThresholdScorer


class SmoothedScorer:
    """A nonlinear score of the sum of three samples, with an offset."""

    before = after = 1
    alignment = 1

    def __init__(self, function):
        self.function = function

    def scores(self, x):
        total = np.pad(x, ((0, 0), (1, 1)))
        return self.function(total[:, :-2] + total[:, 1:-1] + total[:, 2:]).astype("float32")


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("function", [lambda s: s, lambda s: 3 * np.tanh(s / 4) + 0.02 * s**2 - 5])
def test_share_of_noise_is_the_one_asked_for(rate, function):
    num_false = num_found = 0
    for seed in range(8):
        x, places = planted(20, 20_000, 300, 3.5, seed)
        scorer = SmoothedScorer(function)
        competition = compete(scorer, [x], rate, 10)
        scores = scorer.scores(x)
        top = np.pad(scores, ((0, 0), (10, 10)), constant_values=-np.inf)
        highest = np.lib.stride_tricks.sliding_window_view(top, 21, axis=1).max(axis=2)
        found = np.argwhere((scores == highest) & (scores >= competition.threshold))
        hits = [any((c, s + lag) in places for lag in (-3, -2, -1, 0, 1, 2, 3)) for c, s in found.tolist()]
        num_found, num_false = num_found + len(hits), num_false + len(hits) - sum(hits)
    error = np.sqrt(rate * (1 - rate) / num_found)
    # both numbers of noise fluctuate: that above the threshold, and that by which the threshold was set
    assert abs(num_false / num_found - rate) < 4 * np.sqrt(2) * error


def test_threshold_does_not_depend_on_the_scale_of_scores():
    x, _ = planted(10, 20_000, 200, 4.0, 0)
    plain = compete(SmoothedScorer(lambda s: s), [x[:, :9000], x[:, 9000:]], 0.05, 10)
    bent = compete(SmoothedScorer(lambda s: np.exp(s / 4) - 7), [x[:, :9000], x[:, 9000:]], 0.05, 10)
    assert plain.counts(plain.threshold) == bent.counts(bent.threshold)
    targets, decoys = plain.counts(plain.threshold)
    assert (1 + decoys) / targets <= 0.05
    assert plain.lowest_rate() <= (1 + decoys) / targets


def test_nothing_stands_out_of_noise():
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal((4, 10_000)).astype("float32")
        competition = compete(ThresholdScorer(), [x], 0.05, 10)
        assert competition.threshold is None
        assert competition.lowest_rate() > 0.05
        assert local_calibration(competition) is None
        # of 20 times as much, noise passes in 1 %
        threshold = silent_threshold(competition, 20.0)
        assert competition.counts(threshold) == (0, 0)
        more = np.random.default_rng(1000 + seed).standard_normal(800_000)
        assert more.max() < threshold


def test_probabilities_are_the_shares_of_events_among_what_is_found():
    rng = np.random.default_rng(0)
    noise, events = rng.gumbel(0, 0.5, (2, 40_000)), rng.normal(3.5, 1.0, 5000)
    scores = np.concatenate([noise[0], noise[1], events])
    is_target = np.concatenate([np.zeros(40_000, bool), np.ones(45_000, bool)])
    is_event = np.concatenate([np.zeros(80_000, bool), np.ones(5000, bool)])
    competition = Competition(scores, is_target, 2.0)
    slope, intercept = local_calibration(competition)
    found = is_target & (scores >= 2.0)
    probability = 1 / (1 + np.exp(-(slope * scores[found] + intercept)))
    assert probability.mean() == pytest.approx(is_event[found].mean(), abs=0.01)
    for low, high in ((0.0, 0.8), (0.8, 0.95), (0.95, 1.0)):
        chosen = (probability >= low) & (probability < high)
        assert probability[chosen].mean() == pytest.approx(is_event[found][chosen].mean(), abs=0.08)
