"""Labels of every kind say the same; windows and splits keep them where they belong."""

import numpy as np
import pytest
from events_helpers import RATE, make_recording
from spikeinterface.core import NumpyRecording, NumpySorting

from si_neuroml.errors import InputError
from si_neuroml.events.labels import INSIDE, LABEL_DTYPE, as_labels, label_mask, label_targets


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def recording_with_events():
    recording, events = make_recording([600, 500], num_channels=2, num_events=8, seed=2)
    return recording, events


def test_peaks_periods_and_masks_say_the_same():
    recording, events = recording_with_events()
    peaks = as_labels(recording, events, half_width=2)
    assert [len(part) for part in peaks] == [16, 16]
    fields = [(name, "int64") for name in ("segment_index", "start_sample_index", "end_sample_index", "channel_index")]
    periods = np.zeros(len(events), dtype=fields)
    for name in ("segment_index", "channel_index"):
        periods[name] = events[name]
    periods["start_sample_index"], periods["end_sample_index"] = events["sample_index"] - 2, events["sample_index"] + 3
    masks = [label_mask(part, 2, length).T for part, length in zip(peaks, (600, 500), strict=True)]
    for other in (as_labels(recording, periods, half_width=9), as_labels(recording, masks, half_width=9)):
        for part, expected in zip(other, peaks, strict=True):
            assert np.all(part["sample_index"] == -1)
            for name in ("channel_index", "onset", "offset"):
                np.testing.assert_array_equal(part[name], expected[name])


def test_known_extents_are_kept():
    recording, events = recording_with_events()
    longer = np.zeros(len(events), dtype=[*events.dtype.descr, ("onset", "int64"), ("offset", "int64")])
    for name in events.dtype.names:
        longer[name] = events[name]
    longer["onset"], longer["offset"] = events["sample_index"] - 1, events["sample_index"] + 6
    labels = np.concatenate(as_labels(recording, longer, half_width=2))
    assert np.all(labels["offset"] - labels["onset"] == 7)


def test_units_of_a_sorting_find_their_channels():
    recording, events = recording_with_events()
    by_channel = [events[events["segment_index"] == segment] for segment in (0, 1)]
    times = [part["sample_index"] for part in by_channel]

    def sorting(names):
        labels = [np.asarray(names)[part["channel_index"]] for part in by_channel]
        return NumpySorting.from_samples_and_labels(times, labels, RATE, unit_ids=np.asarray(names))

    expected = as_labels(recording, events, half_width=2)
    same(as_labels(recording, sorting(["site0", "site1"]), half_width=2), expected)
    channels = {"a": ["site0"], "b": ["site1"]}
    same(as_labels(recording, sorting(["a", "b"]), half_width=2, channels_of_units=channels), expected)
    with pytest.raises(InputError, match="not clear on which of 2 channels the 2 units"):
        as_labels(recording, sorting(["a", "b"]), half_width=2)
    named = recording.clone()
    named.set_property("cell", ["a", "b"])
    same(as_labels(named, sorting(["a", "b"]), half_width=2), expected)
    named.set_property("cell", ["a", "a"])  # two sites of one cell: its spikes are on both
    one = NumpySorting.from_samples_and_labels(
        [part["sample_index"][part["channel_index"] == 0] for part in by_channel],
        [np.full(8, "a")] * 2,
        RATE,
        unit_ids=["a"],
    )
    labels = as_labels(named, one, half_width=2)
    assert all(np.bincount(part["channel_index"]).tolist() == [8, 8] for part in labels)
    with pytest.raises(InputError, match="names channels \\['nowhere'\\]"):
        as_labels(recording, one, half_width=2, channels_of_units={"a": ["nowhere"]})


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("sample_index", 700, "1 of 16 events lie outside segment 0 \\(600 samples, 2 channels\\)"),
        ("channel_index", 2, "1 of 16 events lie outside segment 0"),
        ("segment_index", 5, "segments 0 to 5; there are 2"),
    ],
)
def test_events_of_another_recording_are_refused(field, value, match):
    recording, events = recording_with_events()
    events[field][0] = value
    with pytest.raises(InputError, match=match):
        as_labels(recording, events, half_width=2)


def test_labels_of_another_shape_are_refused():
    recording, events = recording_with_events()
    with pytest.raises(InputError, match="got int"):
        as_labels(recording, 3, half_width=2)
    with pytest.raises(InputError, match="lack the fields \\['channel_index'\\]"):
        as_labels(recording, events[["sample_index", "segment_index"]], half_width=2)
    with pytest.raises(InputError, match="bool arrays of shapes"):
        as_labels(recording, [np.zeros((600, 2), bool)], half_width=2)
    with pytest.raises(InputError, match="counts samples at 30000 Hz"):
        as_labels(recording, NumpySorting.from_samples_and_labels([[1], [1]], [[0], [0]], 30_000.0), half_width=2)


def labels_at(times, onset=2, offset=4, channel=0):
    labels = np.zeros(len(times), dtype=LABEL_DTYPE)
    labels["sample_index"], labels["channel_index"] = times, channel
    labels["onset"], labels["offset"] = np.asarray(times) - onset, np.asarray(times) + offset
    return labels


def test_targets_peak_at_the_event_and_last_as_long():
    labels = labels_at([10, 13], onset=4, offset=8)
    targets = label_targets(labels, 1, 30, 1.0)[0]
    np.testing.assert_array_equal(np.flatnonzero(targets), np.arange(6, 21))
    np.testing.assert_array_equal(np.flatnonzero(targets == 1.0), [10, 13])
    assert targets[11] == targets[12] == np.float32(np.exp(-0.5))  # two events in a burst stay two
    np.testing.assert_array_equal(targets[[6, 17, 20]], np.float32(INSIDE))
    # a wider one for events whose time is less certain, cut where the trace ends
    wide = label_targets(labels_at([1, 29], 1, 1), 1, 30, 3.0)[0]
    np.testing.assert_allclose(wide[[0, 4, 26]], np.exp(-0.5 * np.array([1, 3, 3]) ** 2 / 9), rtol=1e-6)


def test_one_channel_needs_no_channel_index():
    recording = NumpyRecording([np.zeros((100, 1), "float32")], RATE)
    events = np.zeros(2, dtype=[("sample_index", "int64")])
    events["sample_index"] = [20, 60]
    labels = as_labels(recording, events, half_width=3)[0]
    np.testing.assert_array_equal(labels["onset"], [17, 57])
