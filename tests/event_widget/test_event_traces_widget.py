"""The plot of event traces: labels, thresholds, units, time and split are drawn as they are, and what it refuses."""

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from event_widget_helpers import IDS, LENGTHS, QUIET, RATE, bars_of, clipped, plot, ticks_of
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from spikeinterface.core import NumpyRecording, NumpySorting

import si_neuroml
from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.widgets.event_traces import plot_event_traces


def test_thresholds_are_drawn_and_named(labelled, matched_filter):
    detector = matched_filter.with_thresholds(matched_filter.threshold * 1.2, matched_filter.threshold * 0.7)
    axes = plot(labelled[0], detector).panels["a0"]["probability"]
    drawn = {line.get_label(): line.get_ydata()[0] for line in axes.lines[1:]}
    high, low = detector.probability(np.array([detector.threshold, detector.low_threshold]))
    assert drawn == {"event threshold": high, "period threshold": low}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(drawn)


@pytest.mark.parametrize("kind", ["peaks", "sorting", "mask", "periods"])
def test_labels_of_any_kind(labelled, kind):
    recording, peaks = labelled
    half = round(0.75e-3 * RATE)
    onset, offset = np.maximum(peaks["sample_index"] - half, 0), peaks["sample_index"] + half + 1
    labels, options = peaks, {}
    if kind == "mask":
        labels = [np.zeros((length, 3), dtype=bool) for length in LENGTHS]
        for row, first, last in zip(peaks, onset, offset, strict=True):
            labels[row["segment_index"]][first:last, row["channel_index"]] = True
    elif kind == "periods":
        names = ("segment_index", "start_sample_index", "end_sample_index", "channel_index")
        labels = np.zeros(len(peaks), dtype=[(name, "int64") for name in names])
        labels["segment_index"], labels["channel_index"] = peaks["segment_index"], peaks["channel_index"]
        labels["start_sample_index"], labels["end_sample_index"] = onset, offset
    elif kind == "sorting":
        units = [
            {f"unit{c}": peaks["sample_index"][(peaks["segment_index"] == k) & (peaks["channel_index"] == c)]
             for c in range(3)}
            for k in range(2)
        ]  # fmt: skip
        labels = NumpySorting.from_unit_dict(units, RATE)
        options = {"channels_of_units": {f"unit{c}": [IDS[c]] for c in range(3)}}
    widget = plot(recording, labels=labels, time_range=(0.2, 0.6), segment_index=1, channel_ids=["a1", "b0"], **options)
    frames = int(np.ceil(0.2 * RATE)), int(np.ceil(0.6 * RATE))
    for channel, axes in zip((1, 2), widget.panels.values(), strict=True):
        assert list(axes) == ["trace", "marks"]
        own = (peaks["segment_index"] == 1) & (peaks["channel_index"] == channel)
        expected = clipped(onset[own], offset[own], frames)
        assert len(expected) > 5
        np.testing.assert_allclose(bars_of(axes["marks"], "labels"), expected, atol=1e-9)


def test_label_width_as_in_fitting(labelled):
    recording, peaks = labelled
    for milliseconds in (0.0, 1.5):
        axes = plot(recording, labels=peaks, label_half_width_ms=milliseconds, time_range=(0.5, 1.0)).panels["a0"]
        lengths = np.diff(bars_of(axes["marks"], "labels"))[1:-1] * RATE
        np.testing.assert_allclose(lengths, 2 * round(milliseconds * RATE / 1000) + 1)


def test_given_events_take_the_place_of_the_detectors(labelled, matched_filter):
    recording, peaks = labelled
    widget = plot(recording, matched_filter, peaks, channel_ids=["a1"], time_range=(0.0, 1.0))
    own = peaks["sample_index"][(peaks["segment_index"] == 0) & (peaks["channel_index"] == 1)]
    ticks, times = ticks_of(widget.panels["a1"]["marks"])
    np.testing.assert_allclose(times, own[own < RATE] / RATE)
    # peaks without probability are black, and without onset and offset they have no bar
    np.testing.assert_array_equal(np.unique(ticks.get_colors(), axis=0), [to_rgba("k")])
    assert len(bars_of(widget.panels["a1"]["marks"], "events")) == 0
    assert len(widget.figure.axes) == 1
    # events alone
    found = si_neuroml.detect_events(recording, matched_filter, job_kwargs=QUIET).events
    widget = plot(recording, events=found)
    assert list(widget.panels["a0"]) == ["trace", "marks"]
    assert len(bars_of(widget.panels["a0"]["marks"], "events")) > 10
    # the second axes of the figure is the scale of the colours
    assert widget.figure.axes[-1].get_ylabel() == "probability of found events"


def test_time_is_the_recordings_own(labelled, matched_filter):
    recording = labelled[0]
    traces = [recording.get_traces(segment_index=0)]
    later = NumpyRecording(traces, RATE, t_starts=[100.0], channel_ids=IDS)
    irregular = NumpyRecording(traces, RATE, channel_ids=IDS)
    clock = np.arange(LENGTHS[0]) / RATE + 7.0
    clock[5000:] += 3.0
    irregular.set_times(clock)
    expected = plot(recording, matched_filter, time_range=(0.5, 1.0)).panels["a0"]
    assert len(ticks_of(expected["marks"])[1]) > 3
    for moved, shift in ((later, 100.0), (irregular, 7.0)):
        axes = plot(moved, matched_filter, time_range=(0.5 + shift, 1.0 + shift)).panels["a0"]
        (time, trace), (own_time, own_trace) = (panel["trace"].lines[0].get_data() for panel in (axes, expected))
        np.testing.assert_allclose(time, own_time + shift)
        np.testing.assert_array_equal(trace, own_trace)
        np.testing.assert_allclose(ticks_of(axes["marks"])[1], ticks_of(expected["marks"])[1] + shift)
    with pytest.raises(InputError, match=r"time_range \(9, 11\) holds no sample of segment 0, which lasts from 7"):
        plot(irregular, time_range=(9, 11))


def test_units_on_the_axes():
    counts = np.arange(600, dtype="int16").reshape(200, 3)
    bare = NumpyRecording([counts], RATE)
    scaled = bare.clone()
    scaled.set_channel_gains([0.5, 1.0, 2.0])
    scaled.set_channel_offsets([0.0, 10.0, 0.0])
    physical = scaled.clone()
    physical.set_property("physical_unit", ["mV"] * 3)
    physical.set_property("gain_to_physical_unit", [0.25] * 3)
    physical.set_property("offset_to_physical_unit", [-70.0] * 3)
    cases = [
        (bare, {}, counts[:, 1], "a.u."),
        (scaled, {}, counts[:, 1] + 10.0, "µV"),
        (scaled, {"unit": "photons"}, counts[:, 1] + 10.0, "photons"),
        (physical, {}, counts[:, 1] * 0.25 - 70.0, "mV"),
    ]
    for recording, options, expected, unit in cases:
        widget = plot(recording, channel_ids=[1], **options)
        axes = widget.panels[1]["trace"]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), expected)
        assert axes.get_ylabel() == unit
        assert axes.get_xlabel() == "time (s)"


def test_split_by_cell_channel_and_time(labelled):
    split = {"train": ["a0"], "held out": ["b"], "test": [(0.3, 0.6), (5.0, 9.0)]}
    widget = plot(labelled[0], split={**split, "test": ["a1"]}, time_range=(0.0, 0.5))
    edge, colors = np.ceil(0.5 * RATE) / RATE, [mpl.colormaps["Set2"](k) for k in range(3)]
    for channel_id, color in zip(("a0", "b0", "a1"), colors, strict=True):
        marks = widget.panels[channel_id]["marks"]
        np.testing.assert_allclose(bars_of(marks, "split"), [[0.0, edge]])
        np.testing.assert_allclose(bars_of(marks, "split", color), [[0.0, edge]])
    legend = widget.panels["a0"]["marks"].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(split)
    stretches = {"train": [(0.0, 0.3)], "test": [(0.3, 0.4), (0.45, 9.0)]}
    marks = plot(labelled[0], split=stretches, time_range=(0.1, 0.5)).panels["b0"]["marks"]
    first = np.ceil(0.1 * RATE) / RATE
    np.testing.assert_allclose(bars_of(marks, "split", colors[0]), [[first, 0.3]])
    np.testing.assert_allclose(bars_of(marks, "split", colors[1]), [[0.3, 0.4], [0.45, edge]])
    with pytest.raises(InputError, match="parts 'held out' and 'test' of the split overlap on b0 at 0.3 s"):
        plot(labelled[0], channel_ids=["b0"], split=split)
    with pytest.raises(InputError, match=r"part 'new' of the split must hold.*c, d is none"):
        plot(labelled[0], split={"new": ["d", "b0", "c"]})


def test_missing_samples_are_gaps(labelled, matched_filter):
    traces = labelled[0].get_traces(segment_index=0).copy()
    traces[1000:1010, 0] = np.nan
    broken = NumpyRecording([traces], RATE, channel_ids=IDS)
    axes = plot(broken, matched_filter).panels["a0"]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(axes["trace"].lines[0].get_ydata())), np.arange(1000, 1010))
    assert np.isfinite(axes["probability"].lines[0].get_ydata()).all()


def test_detector_folder_and_defaults(labelled, matched_filter, tmp_path):
    folder = si_neuroml.save_model(matched_filter, tmp_path / "detector")
    many = NumpyRecording([np.random.default_rng(0).standard_normal((9000, 6)).astype("float32")], RATE)
    widget = plot(many, folder)
    assert list(widget.panels) == list(many.channel_ids[:4])
    time = widget.panels[many.channel_ids[0]]["trace"].lines[0].get_xdata()
    assert len(time) == round(2 * RATE)
    assert list(plot(many).panels[many.channel_ids[0]]) == ["trace"]


def test_panels_share_time_and_use_what_is_given(labelled, matched_filter):
    figure, axes = plt.subplots(2, 2)
    widget = plot(labelled[0], matched_filter, axes=axes)
    assert widget.figure is figure
    drawn = [ax for panel in widget.panels.values() for ax in panel.values()]
    assert {ax.get_xlim() for ax in drawn} == {drawn[0].get_xlim()}
    drawn[0].set_xlim(0.5, 0.6)
    assert {ax.get_xlim() for ax in drawn} == {(0.5, 0.6)}
    assert len(figure.axes) == 4
    _, ax = plt.subplots()
    assert plot(labelled[0], channel_ids="a1", ax=ax).ax is ax
    figure = plt.figure()
    assert plot(labelled[0], figure=figure).figure is figure
    widget = plot(labelled[0], ncols=2, figtitle="title", backend="matplotlib")
    assert np.shape(widget.axes) == (2, 2)
    with pytest.raises(InputError, match="3 channels to draw, but only 1 axes"):
        plot(labelled[0], ax=ax)


def test_nothing_is_shown(labelled, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: pytest.fail("plt.show was called"))
    plot(labelled[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_ids": ["a0", "z9"]}, "recording's channels, a0, a1, b0; got z9"),
        ({"channel_ids": []}, "recording's channels, a0, a1, b0; got none"),
        ({"time_range": (1.0, 1.0)}, r"\(1.0, 1.0\) holds no sample of segment 0, which lasts from 0 to 2.70433 s"),
        ({"time_range": (2.0, 1.0)}, "holds no sample"),
        ({"time_range": (60, 61)}, "holds no sample"),
        ({"time_range": 3.0}, r"time_range must be \(start, stop\)"),
        ({"segment_index": 2}, "no segment 2; the recording has 2"),
        ({"conditioned": True}, "need a detector"),
        ({"joint": {}}, "need a detector"),
        ({"events": np.zeros(3)}, r"lacks the fields \['sample_index', 'channel_index', 'segment_index'\]"),
        ({"labels": "spikes"}, "must be a sorting"),
    ],
)
def test_what_is_refused(labelled, options, message):
    with pytest.raises(InputError, match=message):
        plot_event_traces(labelled[0], **options)


def test_recording_and_detector_must_belong_together(labelled, matched_filter):
    recording, peaks = labelled
    other = NumpyRecording([recording.get_traces(segment_index=0)], 5000.0)
    with pytest.raises(ModelMismatchError, match="3328 Hz; the recording has 5000 Hz"):
        plot_event_traces(other, matched_filter)
    with pytest.raises(InputError, match="one number for each of 3 channels"):
        plot_event_traces(recording, matched_filter, channel_ids=["a0"], noise_levels=[1.0])
    with pytest.raises(InputError, match="A recording is needed, got ndarray"):
        plot_event_traces(peaks)
    peaks = peaks.copy()
    peaks["channel_index"][0] = 3
    with pytest.raises(InputError, match="Events lie on channel 3; the recording has 3"):
        plot_event_traces(recording, events=peaks)


def test_a_dead_channel_has_no_events(labelled, matched_filter):
    traces = labelled[0].get_traces(segment_index=0).copy()
    traces[:, 1] = 5.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="1 of 3 channels are constant")
        axes = plot(NumpyRecording([traces], RATE, channel_ids=IDS), matched_filter).panels["a1"]
    assert not axes["probability"].lines[0].get_ydata().any()
    assert len(ticks_of(axes["marks"])[1]) == 0
