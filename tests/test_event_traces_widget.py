"""The plot of event traces: what is drawn is what detection in the whole recording gives; and what it refuses."""

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from spikeinterface.core import NumpyRecording, NumpySorting

import si_neuroml
from si_neuroml.errors import InputError, ModelMismatchError
from si_neuroml.events.conditioning import condition_traces, reflect_ends
from si_neuroml.events.detector import EventDetector
from si_neuroml.events.recordings import sample_chunks
from si_neuroml.widgets.event_traces import plot_event_traces
from si_neuroml.widgets.event_window import detect_in_window, read_window

mpl.use("Agg")
from matplotlib import pyplot as plt

RATE = 3328.0
LENGTHS = [9000, 4001]
IDS = ["a0", "a1", "b0"]
QUIET = {"n_jobs": 1, "chunk_size": 2000, "progress_bar": False}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def labelled():
    """(recording, peaks): dark pulses of 2 ms in noise on a bright background, two segments, three channels."""
    rng = np.random.default_rng(0)
    segments, rows = [], []
    for segment, length in enumerate(LENGTHS):
        traces = 1000.0 + rng.standard_normal((length, len(IDS)))
        for channel in range(len(IDS)):
            times = np.sort(rng.choice(np.arange(8, length - 8, 25), 40, replace=False))
            for step, height in enumerate([4.0, 9.0, 6.0, 3.0, 1.5], start=-1):
                traces[times + step, channel] -= height
            rows += [(time, channel, segment) for time in times]
        segments.append(traces.astype("float32"))
    recording = NumpyRecording(segments, RATE, channel_ids=IDS)
    recording.set_property("cell", ["a", "a", "b"])
    peaks = np.array(rows, dtype=[(name, "int64") for name in ("sample_index", "channel_index", "segment_index")])
    return recording, peaks[np.lexsort([peaks["channel_index"], peaks["sample_index"], peaks["segment_index"]])]


@pytest.fixture(scope="module")
def matched_filter(labelled):
    return si_neuroml.fit_event_detector(*labelled, network="matched_filter")


@pytest.fixture(scope="module")
def untrained(labelled, matched_filter):
    """The default network with random weights: its scores are nonsense that depends on every sample within reach."""
    import torch

    from si_neuroml.events.networks import build_network
    from si_neuroml.events.strided_network import StridedScorer

    torch.manual_seed(0)
    scorer = StridedScorer.from_network(build_network("strided"))
    x = np.random.default_rng(0).standard_normal((1, 4000)).astype("float32")
    low, high = np.quantile(scorer.scores(x), [0.9, 0.98])
    return EventDetector("strided", scorer, matched_filter.settings, high, low, (20.0, -20.0 * low), {})


@pytest.fixture(scope="module", params=["matched_filter", "untrained"])
def whole(labelled, request):
    """(detector, recording, found events and periods, scores of each segment): of the recording in one piece."""
    detector, recording = request.getfixturevalue(request.param), labelled[0]
    found = si_neuroml.detect_events(recording, detector, job_kwargs=QUIET)
    noise = detector.noise_levels(sample_chunks(recording), np.ones(3), np.zeros(3))
    margin, scores = detector.margin, []
    for segment, length in enumerate(LENGTHS):
        # beyond the ends of a segment there is nothing, and what the detector is given there does not matter
        padded = np.pad(recording.get_traces(segment_index=segment), ((margin, margin), (0, 0)))
        scores.append(detector.scores(padded, -margin, length, noise=noise)[0])
    return detector, recording, found, scores


def plot(*args, **kwargs):
    widget = plot_event_traces(*args, **kwargs)
    widget.figure.canvas.draw()
    return widget


def row_of(marks, name):
    """Bottom and top of a row of marks."""
    labels = [text.get_text() for text in marks.get_yticklabels()]
    middle = marks.get_yticks()[labels.index(name)]
    return middle - 0.4, middle + 0.4


def bars_of(marks, name, color=None):
    """(start, stop) of the bars in a row, in s."""
    found = []
    for collection in marks.collections:
        if not isinstance(collection, mpl.collections.PolyCollection):
            continue
        if color is not None and not np.allclose(collection.get_facecolors()[:1], to_rgba(color)):
            continue
        for path in collection.get_paths():
            (x0, y0), (x1, y1) = path.vertices.min(axis=0), path.vertices.max(axis=0)
            if np.allclose((y0, y1), row_of(marks, name)):
                found.append((x0, x1))
    return np.array(sorted(found)).reshape(-1, 2)


def ticks_of(marks):
    """The ticks of the found events, as a collection with their times in s."""
    (ticks,) = [found for found in marks.collections if isinstance(found, mpl.collections.LineCollection)]
    segments = np.array(ticks.get_segments()).reshape(-1, 2, 2)
    np.testing.assert_array_equal(segments[:, 0, 0], segments[:, 1, 0])
    return ticks, segments[:, 0, 0]


def clipped(starts, stops, frames):
    """Stretches of samples that reach into some frames, in s."""
    spans = np.column_stack([np.maximum(starts, frames[0]), np.minimum(stops, frames[1])])
    return spans[spans[:, 1] > spans[:, 0]] / RATE


WINDOWS = [(0, 0, 700), (0, 3001, 3900), (0, 8500, 9000), (1, 1202, 1205), (1, 0, 4001)]


@pytest.mark.parametrize(("segment", "start", "stop"), WINDOWS)
def test_what_is_drawn_is_what_the_whole_recording_gives(whole, segment, start, stop):
    detector, recording, found, scores = whole
    # half a sample early: a time between samples begins with the next one
    time_range = (start - 0.5) / RATE, (stop - 0.5) / RATE
    widget = plot(recording, detector, channel_ids=["b0", "a0"], time_range=time_range, segment_index=segment)
    assert list(widget.panels) == ["b0", "a0"]
    for channel, axes in zip((2, 0), widget.panels.values(), strict=True):
        time, trace = axes["trace"].lines[0].get_data()
        np.testing.assert_allclose(time, np.arange(start, stop) / RATE)
        np.testing.assert_array_equal(trace, recording.get_traces(segment_index=segment)[start:stop, channel])
        probability = axes["probability"].lines[0].get_ydata()
        np.testing.assert_array_equal(probability, detector.probability(scores[segment][channel, start:stop]))
        own = found.events[(found.events["channel_index"] == channel) & (found.events["segment_index"] == segment)]
        own = own[(own["sample_index"] >= start) & (own["sample_index"] < stop)]
        ticks, times = ticks_of(axes["marks"])
        np.testing.assert_allclose(times, own["sample_index"] / RATE)
        colors = mpl.colormaps["viridis_r"](own["probability"].astype("float64"))
        np.testing.assert_allclose(ticks.get_colors(), colors, atol=1e-6)
        frames = (start, stop)
        expected = clipped(own["onset"], own["offset"], frames)
        np.testing.assert_allclose(bars_of(axes["marks"], "events"), expected, atol=1e-9)
        own = found.periods[(found.periods["channel_index"] == channel) & (found.periods["segment_index"] == segment)]
        expected = clipped(own["start_sample_index"], own["end_sample_index"], frames)
        np.testing.assert_allclose(bars_of(axes["marks"], "periods"), expected, atol=1e-9)
    if stop - start > 500:
        assert len(ticks_of(axes["marks"])[1]) > 1
        assert len(bars_of(axes["marks"], "periods")) > 2


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_window_is_part_of_the_whole(whole, data):
    detector, recording, found, scores = whole
    segment = data.draw(st.integers(0, 1))
    start = data.draw(st.integers(0, LENGTHS[segment] - 1))
    stop = data.draw(st.integers(start + 1, min(LENGTHS[segment], start + 1500)))
    window = read_window(recording, ["a1"], segment, ((start - 0.5) / RATE, (stop - 0.5) / RATE))
    part = detect_in_window(window, detector)
    np.testing.assert_array_equal(part.probability[0], detector.probability(scores[segment][1, start:stop]))
    own = found.events[(found.events["channel_index"] == 1) & (found.events["segment_index"] == segment)]
    own = own[(own["sample_index"] >= start) & (own["sample_index"] < stop)]
    for name in ("sample_index", "onset", "offset", "probability"):
        np.testing.assert_array_equal(part.events[name], own[name])


def test_only_the_window_and_its_margin_are_read(labelled, matched_filter, monkeypatch):
    recording = labelled[0]
    read, segment_class = [], type(recording.segments[0])
    get_traces = segment_class.get_traces

    def spying(self, start_frame=None, end_frame=None, channel_indices=None):
        read.append((start_frame, end_frame))
        return get_traces(self, start_frame, end_frame, channel_indices)

    monkeypatch.setattr(segment_class, "get_traces", spying)
    plot(recording, matched_filter, time_range=(1.0, 1.1), noise_levels=np.ones(3))
    start, stop, margin = 3328, 3661, matched_filter.margin
    assert min(first for first, _ in read) == start - margin
    assert max(last for _, last in read) == stop + margin


def test_given_noise_levels_are_those_of_the_channels(labelled, matched_filter):
    noise = np.array([1.0, 1.5, 2.0])
    widget = plot(labelled[0], matched_filter, channel_ids=["b0"], conditioned=True, noise_levels=noise)
    margin, detector_settings = matched_filter.margin, matched_filter.settings
    options = {**detector_settings.baseline, "polarity": detector_settings.polarity, "noise_levels": noise}
    padded = reflect_ends(np.pad(labelled[0].get_traces(segment_index=0), ((margin, 0), (0, 0))), margin, 0)
    expected = condition_traces(padded, -margin, **options)[2, margin : margin + round(2 * RATE)]
    trace = widget.panels["b0"]["trace"]
    np.testing.assert_array_equal(trace.lines[0].get_ydata(), expected)
    assert trace.get_ylabel() == "noise sd"
    # turned, so that dark pulses point up
    assert detector_settings.polarity == -1
    assert expected.max() > 3


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
        ({"conditioned": True}, "needs a detector"),
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
