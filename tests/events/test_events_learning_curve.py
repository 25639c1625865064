"""The learning curve: nested parts of the training cells, the same test cells for all of them."""

import numpy as np
import pytest
from events_helpers import make_recording

from si_neuroml.errors import InputError, TrainingError
from si_neuroml.events import learning_curve
from si_neuroml.events.cross_validation import fit_options
from si_neuroml.events.fit import labelled_traces
from si_neuroml.events.learning_curve import event_learning_curve
from si_neuroml.events.windows import split_by_cell

CELLS = 8


@pytest.fixture(scope="module")
def pair():
    return make_recording([5000, 4001], num_channels=CELLS, num_events=50, seed=5, amplitude=4.0)


class Fits:
    """The real fits, and what each of them was given."""

    def __init__(self, monkeypatch):
        self.calls, self.real = [], learning_curve.fit_and_score
        monkeypatch.setattr(learning_curve, "fit_and_score", self)

    def __call__(self, train, test, settings, network, *, seed, **options):
        self.calls.append((seed, train, test))
        return self.real(train, test, settings, network, seed=seed, **options)


def cells_of(parts):
    return {str(cell) for part in parts for cell in part.cells}


def contains(large, small):
    """Whether one stretch of every channel is part of another."""
    windows = np.lib.stride_tricks.sliding_window_view(large.x[0], small.x.shape[1])
    return len(large.x) == len(small.x) and (windows == small.x[0]).all(axis=1).any()


@pytest.mark.parametrize("fraction_of", ["time", "cell"])
def test_parts_are_nested_and_test_cells_are_the_same(pair, monkeypatch, fraction_of):
    fits, fractions = Fits(monkeypatch), (0.2, 0.5, 1.0)
    curve = event_learning_curve(
        *pair, network="matched_filter", fractions=fractions, fraction_of=fraction_of, seeds=(3, 4), progress_bar=False
    )
    assert [seed for seed, *_ in fits.calls] == [3, 3, 3, 4, 4, 4]
    tested = {seed: cells_of(test) for seed, _, test in fits.calls}
    assert tested[3] != tested[4]
    for seed, train, test in fits.calls:
        assert cells_of(test) == tested[seed]
        assert len(tested[seed]) == 2
        assert not cells_of(train) & tested[seed]
    for run in (fits.calls[:3], fits.calls[3:]):
        (_, small, _), (_, middle, _), (_, large, _) = run
        for one, other in ((small, middle), (middle, large)):
            if fraction_of == "time":
                assert cells_of(one) == cells_of(other)
                assert all(contains(b, a) for a, b in zip(one, other, strict=True))
            else:
                assert cells_of(one) < cells_of(other)
        assert len(cells_of(large)) == CELLS - 2
    runs = curve.runs
    assert runs["fraction"].tolist() == [*fractions, *fractions]
    assert set(runs["num_true"]) == {2 * 2 * 50}
    assert runs["num_events"].tolist() == [sum(len(part.labels) for part in train) for _, train, _ in fits.calls]
    whole = (CELLS - 2) * 9001 / 3328 / 60
    cells = {"time": [6] * 3, "cell": [1, 3, 6]}[fraction_of]
    assert runs["num_cells"].tolist() == cells * 2
    share = fractions if fraction_of == "time" else np.array(cells) / 6
    np.testing.assert_allclose(runs["minutes"], np.tile(share, 2) * whole, rtol=1e-3)


def test_the_table_holds_mean_and_spread_over_seeds(pair):
    curve = event_learning_curve(
        *pair, network="matched_filter", fractions=(1.0, 0.3), seeds=(0, 1, 2), progress_bar=False
    )
    assert curve.summary["fraction"].tolist() == [0.3, 1.0]
    for _, row in curve.summary.iterrows():
        mine = curve.runs[curve.runs["fraction"] == row["fraction"]]
        assert len(mine) == 3
        for name in ("f1", "precision", "recall", "average_precision"):
            assert row[name] == pytest.approx(np.mean(mine[name]))
            assert row[f"{name}_sd"] == pytest.approx(np.std(mine[name], ddof=1))
    f1 = 2 * curve.runs["num_matched"] / (curve.runs["num_true"] + curve.runs["num_found"])
    np.testing.assert_allclose(curve.runs["f1"], f1)
    assert (curve.runs["f1"] > 0.5).all()


def test_more_labels_help_a_network(pair):
    """A network on a tenth of little data, and on all of it."""
    curve = event_learning_curve(
        *pair,
        network="tcn_two_sided",
        fractions=(0.1, 1.0),
        seeds=(0,),
        network_kwargs={"channels": (8, 8)},
        training_kwargs={"max_epochs": 6, "batch_size": 8, "learning_rate": 1e-2},
        progress_bar=False,
    )
    few, all_of_it = curve.summary["average_precision"]
    assert all_of_it > few + 0.1
    assert curve.summary["f1_sd"].isna().all()


def test_the_split_in_time_tests_on_the_end_of_each_segment(pair, monkeypatch):
    fits = Fits(monkeypatch)
    event_learning_curve(
        *pair, network="matched_filter", fractions=(1.0,), seeds=(0,), split="time", progress_bar=False
    )
    (_, train, test), (traces, _) = fits.calls[0], labelled_traces(*pair)
    for before, after, whole in zip(train, test, traces, strict=True):
        np.testing.assert_array_equal(np.concatenate([before.x, after.x], axis=1), whole.x)
        assert after.x.shape[1] == pytest.approx(0.15 * whole.x.shape[1], abs=1)
    # and of the rest 70 and 15 of 85 %
    assert fit_options("matched_filter", "time", {})[1]["held_out_fraction"] == pytest.approx(0.15 / 0.85)


def test_the_whole_is_the_usual_training_data(pair, monkeypatch):
    fits = Fits(monkeypatch)
    event_learning_curve(*pair, network="matched_filter", fractions=(1.0,), seeds=(2,), progress_bar=False)
    expected = split_by_cell(labelled_traces(*pair)[0], 0.25, 2)
    for got, parts in zip(fits.calls[0][1:], expected, strict=True):
        for one, other in zip(got, parts, strict=True):
            np.testing.assert_array_equal(one.x, other.x)
            np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "lstm"}, "no network or baseline 'lstm'"),
        ({"fractions": (0.0, 1.0)}, "fractions must lie above 0"),
        ({"fractions": (0.5, 1.5)}, "fractions must lie above 0"),
        ({"fractions": ()}, "fractions must be different from each other, and at least one"),
        ({"fractions": (0.5, 0.5)}, "fractions must be different from each other"),
        ({"seeds": (1, 1)}, "seeds must be different from each other"),
        ({"test_fraction": 1.0}, "test_fraction within 0 and 1"),
        ({"fraction_of": "events"}, 'fraction_of must be "time" or "cell"'),
        ({"fractions": (0.01, 1.0)}, "smallest fraction, 0.01, leaves 0.012 s of the shortest segment, below 0.1 s"),
        ({"fractions": (0.1, 0.2), "fraction_of": "cell"}, r"of 6 training cells are \[1, 1\] cells"),
        ({"grid": "paper"}, r"Arguments passed on to the fits are .* got \['grid'\]"),
    ],
)
def test_what_makes_no_curve_is_refused(pair, options, message):
    with pytest.raises(InputError, match=message):
        event_learning_curve(*pair, **({"network": "matched_filter", "progress_bar": False} | options))


def test_one_cell_has_no_curve_over_cells():
    pair = make_recording([6000], num_channels=1, num_events=40)
    with pytest.raises(TrainingError, match="1 cells have events"):
        event_learning_curve(*pair, network="matched_filter", progress_bar=False)
