"""Division of labelled traces, and windows of them: nothing is lost, moved or leaked, and changes are what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import si_neuroml.events.windows as windows_module
from si_neuroml.errors import InputError, TrainingError
from si_neuroml.events.labels import LABEL_DTYPE, label_targets
from si_neuroml.events.windows import (
    DrawnWindows,
    LabelledTraces,
    Windows,
    folds_by_cell,
    folds_in_time,
    split_by_cell,
    split_in_time,
)


def labels_at(times, onset=2, offset=4, channel=0):
    labels = np.zeros(len(times), dtype=LABEL_DTYPE)
    labels["sample_index"], labels["channel_index"] = times, channel
    labels["onset"], labels["offset"] = np.asarray(times) - onset, np.asarray(times) + offset
    return labels


def traces_of(num_cells, num_samples=2000, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([labels_at(np.arange(50, 1900, 100), channel=k) for k in range(num_cells)])
    x = rng.standard_normal((num_cells + 1, num_samples)).astype("float32")
    return LabelledTraces(x, labels, np.array([f"cell{k}" for k in range(num_cells)] + ["silent"]))


def test_cells_are_never_in_both_parts():
    traces = [traces_of(5), traces_of(5, seed=1)]
    for seed in range(5):
        train, held = split_by_cell(traces, 0.25, seed)
        names = [{str(cell) for part in parts for cell in part.cells} for parts in (train, held)]
        assert not names[0] & names[1]
        assert names[0] | names[1] == {str(cell) for cell in traces[0].cells}
        assert sum(len(part.labels) for part in held) == 2 * 19
        for part in (*train, *held):  # labels went with their channels
            origin = traces[0] if np.isin(part.x[0, :3], traces[0].x).all() else traces[1]
            row = list(origin.cells).index(part.cells[0])
            np.testing.assert_array_equal(part.x[0], origin.x[row])
            count = (origin.labels["channel_index"] == row).sum()
            assert (part.labels["channel_index"] == 0).sum() == count
    with pytest.raises(TrainingError, match="1 cells have events"):
        split_by_cell([traces_of(1)], 0.25, 0)


def test_the_end_is_held_out_in_time():
    train, held = split_in_time([traces_of(2)], 0.25)
    assert train[0].x.shape[1] == 1500
    assert held[0].x.shape[1] == 500
    np.testing.assert_array_equal(held[0].labels["sample_index"][:3], [50, 150, 250])


@pytest.mark.parametrize("num_folds", [2, 3, 9])
def test_every_cell_is_held_out_once(num_folds):
    traces = [traces_of(5), traces_of(5, seed=1)]
    folds = folds_by_cell(traces, num_folds, seed=0)
    assert len(folds) == min(num_folds, 5)
    held = []
    for train, out in folds:
        names = [{str(cell) for part in parts for cell in part.cells} for parts in (train, out)]
        assert not names[0] & names[1]
        assert sum(len(part.labels) for part in (*train, *out)) == 2 * 5 * 19
        held += sorted(names[1])
    assert sorted(held) == sorted({str(cell) for cell in traces[0].cells})
    with pytest.raises(TrainingError, match="1 cells have events"):
        folds_by_cell([traces_of(1)], 2, 0)


def test_cells_with_many_events_go_to_different_folds():
    """Two cells with most events are never held out together, whatever the seed."""
    many = traces_of(6)
    labels = many.labels[(many.labels["channel_index"] < 2) | (many.labels["sample_index"] < 300)]
    many = LabelledTraces(many.x, labels, many.cells)
    for seed in range(8):
        for _, out in folds_by_cell([many], 3, seed):
            assert len({"cell0", "cell1"} & {str(cell) for part in out for cell in part.cells}) < 2


def at_events(part):
    return part.x[part.labels["channel_index"], part.labels["sample_index"]]


def test_every_stretch_is_held_out_once():
    traces = traces_of(2, num_samples=1901)
    folds = folds_in_time([traces], 3)
    np.testing.assert_array_equal(np.concatenate([out[0].x for _, out in folds], axis=1), traces.x)
    assert sum(len(out[0].labels) for _, out in folds) == len(traces.labels)
    for train, out in folds:
        assert sum(part.x.shape[1] for part in (*train, *out)) == 1901
        for part in train:  # labels moved with their samples
            row, sample = part.labels["channel_index"], part.labels["sample_index"]
            assert np.isin(
                part.x[row, sample], traces.x[traces.labels["channel_index"], traces.labels["sample_index"]]
            ).all()


@pytest.mark.parametrize(("window", "overlap", "grid"), [(500, 50, 1), (512, 0, 4), (300, 299, 1)])
def test_windows_hold_what_the_traces_hold(window, overlap, grid):
    traces = traces_of(2)
    windows = Windows([traces], (20, 30), target_sd=1.0, window=window, overlap=overlap, grid=grid)
    whole = label_targets(traces.labels, *traces.x.shape, 1.0)
    for index in (0, len(windows) // 2):
        x, target = windows[index]
        assert len(x) == len(target) + 50
        _, channel, start = windows._index[index]
        assert start % grid == 0
        stop = min(start + len(target), 2000)
        np.testing.assert_array_equal(x[20 : 20 + stop - start], traces.x[channel, start:stop])
        np.testing.assert_array_equal(target[: stop - start], whole[channel, start:stop])
    covered = {(k, c, start) for k, c, start in windows._index}
    assert max(start for _, _, start in covered) + window >= 2000
    with pytest.raises(InputError, match="overlap must be"):
        Windows([traces], (0, 0), target_sd=1.0, window=40, overlap=40)


def drawn(traces, **changes):
    options = {"target_sd": 1.0, "window": 64, "batch_size": 400, "num_batches": 3, **changes}
    return DrawnWindows([traces], (20, 30), **options)


def pulses(num_samples=4000):
    """A trace that is 10 at events and 0 elsewhere, and one without events."""
    labels = labels_at(np.arange(60, num_samples - 60, 90))
    x = np.zeros((2, num_samples), dtype="float32")
    x[0, labels["sample_index"]] = 10.0
    return LabelledTraces(x, labels, np.array(["cell", "silent"]))


def test_drawn_windows_have_their_events_where_the_targets_peak(monkeypatch):
    monkeypatch.setattr(windows_module, "SHARE_ADDED", 0.0)
    x, target = drawn(pulses(), gain_log_sd=0.0, stretch_log_sd=0.0, batch_size=2000)[0]
    assert x.shape == (2000, 20 + 64 + 30)
    assert target.shape == (2000, 64)
    assert x.dtype == target.dtype == np.float32
    np.testing.assert_array_equal(x[:, 20:-30] == 10.0, target == 1.0)
    # half about an event; of the others, some have one by chance
    assert 0.5 < (target == 1.0).any(axis=1).mean() < 0.9
    # anywhere in the window
    assert set(np.nonzero(target == 1.0)[1]) == set(range(64))


def test_added_windows_keep_the_noise_and_all_events():
    rng, traces = np.random.default_rng(0), pulses(40_000)
    noisy = LabelledTraces(rng.standard_normal(traces.x.shape).astype("float32"), traces.labels, traces.cells)
    x, _ = drawn(noisy, gain_log_sd=0.0, stretch_log_sd=0.0)[0]
    assert x.std() == pytest.approx(1.0, abs=0.02)
    batches = drawn(traces, gain_log_sd=0.0, stretch_log_sd=0.0)
    x, target = batches[0]
    # every event is at least the sine of the smallest angle high, and marked
    high = x[:, 20:-30] > 10 * np.sin(windows_module.ANGLES[0]) - 1e-3
    np.testing.assert_array_equal(high, target == 1.0)
    assert not np.array_equal(x, batches[0][0])


def test_drawn_windows_are_stretched_and_scaled(monkeypatch):
    monkeypatch.setattr(windows_module, "SHARE_ADDED", 0.0)
    time = np.arange(6000, dtype="float32")
    ramp = LabelledTraces(time[None], labels_at(np.arange(1000, 5000, 50)), np.array(["cell"]))
    x, _ = drawn(ramp, gain_log_sd=0.0, stretch_log_sd=0.3, batch_size=2000)[0]
    slope = np.diff(x, axis=1)
    within = (slope > 0.1).all(axis=1)  # not at a mirror
    assert within.mean() > 0.9
    np.testing.assert_allclose(slope[within].max(axis=1), slope[within].min(axis=1), atol=1e-2)
    assert np.log(slope[within].mean(axis=1)).std() == pytest.approx(0.3, abs=0.03)
    flat = LabelledTraces(np.full((1, 6000), 2.0, "float32"), ramp.labels, ramp.cells)
    x, _ = drawn(flat, gain_log_sd=0.4, stretch_log_sd=0.0, batch_size=2000)[0]
    np.testing.assert_allclose(np.ptp(x, axis=1), 0.0, atol=1e-5)
    assert np.log(x[:, 0] / 2).std() == pytest.approx(0.4, abs=0.03)
    np.testing.assert_array_equal(drawn(ramp, seed=3)[0][0], drawn(ramp, seed=3)[0][0])


@given(
    num_samples=st.integers(2, 300), window=st.integers(1, 200), before=st.integers(0, 90), seed=st.integers(0, 1000)
)
@settings(max_examples=40, deadline=None)
def test_windows_can_be_drawn_from_short_traces(num_samples, window, before, seed):
    x = np.random.default_rng(seed).standard_normal((2, num_samples)).astype("float32")
    traces = LabelledTraces(x, labels_at([num_samples - 1], 1, 1), np.array(["a", "b"]))
    batches = DrawnWindows(
        [traces, traces], (before, 7), target_sd=1.0, window=window, batch_size=9, num_batches=2, stretch_log_sd=1.0
    )
    for x, target in batches:
        assert x.shape == (9, before + window + 7)
        assert target.shape == (9, window)
        assert np.isfinite(x).all()
        assert 0 <= target.min() <= target.max() <= 1
    assert len(list(batches)) == 2
