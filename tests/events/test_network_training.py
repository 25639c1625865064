"""Training of networks: as many steps as asked for, the best state on what is held out, and events at their time."""

import numpy as np
import pytest
from events_helpers import RATE, make_recording

import si_neuroml
from si_neuroml.errors import InputError, TrainingError
from si_neuroml.events.fit import labelled_traces
from si_neuroml.events.network_training import _positive_weight, train_network, training_settings
from si_neuroml.events.networks import build_network
from si_neuroml.events.operating_point import held_out_average_precision
from si_neuroml.events.settings import DetectorSettings
from si_neuroml.training import seeded

SMALL = {"max_epochs": 4, "steps_per_epoch": 3, "batch_size": 4, "window": 64}


@pytest.fixture(scope="module")
def traces():
    return labelled_traces(*make_recording([3000], num_channels=2, num_events=20, seed=3))[0]


def trained(traces, *, seed=0, score=None, network="strided", **changes):
    with seeded(seed):
        module = build_network(network, **({"channels": 4, "dilations": (1,)} if network == "strided" else {}))
    how = training_settings(network, **(SMALL | changes))
    options = {"target_sd": 1.0, "held_out_score": score, "seed": seed, "progress_bar": False}
    return module, train_network(module, traces, how, **options)


def state(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def test_few_labels_are_learned_from_as_long_as_many(traces):
    short = [traces[0].between(0, 600)]
    for part in (traces, short):
        module, summary = trained(part)
        assert len(summary["loss"]) == 4
        assert summary["num_windows"] == 3 * 4
        assert summary["best_epoch"] == 3
        assert not module.training
    again = state(trained(short)[0])
    for name, value in state(module).items():
        np.testing.assert_array_equal(value, again[name])
    other = state(trained(short, seed=1)[0])
    assert not np.array_equal(other["stem.weight"], again["stem.weight"])


def test_the_best_state_on_what_is_held_out_is_kept(traces):
    states, scores = [], iter([0.2, 0.5, 0.4, 0.5, 0.3, 0.2])

    def score(module):
        states.append(state(module))
        return next(scores)

    module, summary = trained(traces, score=score, patience=2, max_epochs=6)
    assert summary["held_out_score"] == [0.2, 0.5, 0.4, 0.5]  # equal is not better
    assert summary["best_epoch"] == 1
    for name, value in state(module).items():
        np.testing.assert_array_equal(value, states[1][name])
    # without patience nobody asks
    assert trained(traces, score=lambda module: 1 / 0)[1]["held_out_score"] == []


def test_the_papers_networks_pass_over_their_windows(traces):
    _, summary = trained(traces, network="tcn", steps_per_epoch=None, window=500, overlap=50, max_epochs=1)
    # 3000 samples of 2 channels in windows of 500, one each 450
    assert summary["num_windows"] == 2 * 7


def test_samples_inside_events_weigh_as_asked(traces):
    inside = 2 * 20 * 5 / (2 * 3000)  # 20 events of 5 samples on either channel, none touch
    assert _positive_weight(traces, None) == 1.0
    assert _positive_weight(traces, "balanced") == pytest.approx((1 - inside) / inside)
    assert _positive_weight(traces, "sqrt") == pytest.approx(((1 - inside) / inside) ** 0.5)
    with pytest.raises(TrainingError, match="0 samples lie inside events, 10 outside"):
        _positive_weight([part.between(0, 5) for part in traces], None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be above 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be above 0, or None"),
        ({"patience": -1}, "patience must be above 0, or None"),
        ({"class_weight": "root"}, "class_weight must be"),
        ({"epochs": 3}, "Training knows"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        training_settings("strided", **changes)


def test_a_loss_that_is_not_finite_is_told(traces):
    with pytest.raises(TrainingError, match="loss became nan"):
        trained(traces, learning_rate=1e30)


def test_average_precision_of_known_scores(traces):
    settings = DetectorSettings(RATE, 1)
    scores = []
    for part in traces:
        one = np.full(part.x.shape, -5.0, dtype="float32")
        one[part.labels["channel_index"], part.labels["sample_index"]] = 5.0
        scores.append(one)
    assert held_out_average_precision(traces, scores, settings) == 1.0
    late = [np.roll(one, 3, axis=1) for one in scores], [np.roll(one, 4, axis=1) for one in scores]
    assert held_out_average_precision(traces, late[0], settings) == 1.0
    assert held_out_average_precision(traces, late[1], settings) < 0.1  # beyond 0.9 ms
    assert held_out_average_precision(traces, late[1], settings, tolerance_ms=1.3) == 1.0


def test_events_are_found_at_their_time(strided):
    recording, events = make_recording([12_000], num_channels=2, num_events=150, seed=9)
    found = si_neuroml.detect_events(recording, strided, job_kwargs={"n_jobs": 1, "progress_bar": False}).events
    lags = []
    for channel in (0, 1):
        true = np.sort(events["sample_index"][events["channel_index"] == channel])
        own = found["sample_index"][found["channel_index"] == channel]
        nearest = true[np.abs(own[:, None] - true).argmin(axis=1)]
        lags.append((own - nearest)[np.abs(own - nearest) <= 3])
    lags = np.concatenate(lags)
    assert len(lags) > 280
    assert abs(lags.mean()) < 0.2
    assert (lags == 0).mean() > 0.8
