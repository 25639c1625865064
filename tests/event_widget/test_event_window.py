"""What is drawn is what detection in the whole recording gives, from no more samples than that takes."""

import matplotlib as mpl
import numpy as np
import pytest
from event_widget_helpers import LENGTHS, QUIET, RATE, bars_of, clipped, plot, ticks_of
from hypothesis import given, settings
from hypothesis import strategies as st

import si_neuroml
from si_neuroml.events.conditioning import condition_traces, reflect_ends
from si_neuroml.widgets.event_window import detect_in_window, read_window

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


@pytest.mark.parametrize("center", [None, -1.0])
def test_joint_scores_are_those_of_all_sites(labelled, untrained, center):
    """Sites that are not drawn count, also for the center; the drawn channels come in any order."""
    recording, noise = labelled[0], np.array([0.7, 1.0, 0.8])
    joint = {"by": None, "positions_um": [0.0, 70.0, 160.0], "speed_um_per_ms": 100.0, "center": center}
    found = si_neuroml.detect_events(recording, untrained, joint=joint, noise_levels=noise, job_kwargs=QUIET).events
    for segment, start, stop in ((0, 0, 900), (0, 3001, 4400), (1, 2500, 4001)):
        window = read_window(recording, ["b0", "a0"], segment, ((start - 0.5) / RATE, (stop - 0.5) / RATE))
        part, alone = (detect_in_window(window, untrained, noise, how) for how in (joint, None))
        assert part.probability.shape == (2, stop - start)
        assert np.abs(part.probability - alone.probability).max() > 0.1
        np.testing.assert_array_equal(part.conditioned, alone.conditioned)
        assert len(part.events) > 5
        for row, channel in enumerate((2, 0)):
            own = found[(found["channel_index"] == channel) & (found["segment_index"] == segment)]
            own = own[(own["sample_index"] >= start) & (own["sample_index"] < stop)]
            drawn = part.events[part.events["channel_index"] == row]
            for name in ("sample_index", "onset", "offset", "probability"):
                np.testing.assert_array_equal(drawn[name], own[name])
            np.testing.assert_array_equal(part.probability[row, own["sample_index"] - start], own["probability"])


def test_joint_scores_are_drawn(labelled, untrained):
    joint = {"by": None, "positions_um": [0.0, 70.0, 160.0], "speed_um_per_ms": 100.0}
    widget = plot(labelled[0], untrained, channel_ids=["a1"], joint=joint, time_range=(0.5, 0.9))
    found = si_neuroml.detect_events(labelled[0], untrained, joint=joint, job_kwargs=QUIET).events
    own = found[(found["channel_index"] == 1) & (found["segment_index"] == 0)]["sample_index"]
    own = own[(own >= 0.5 * RATE) & (own < 0.9 * RATE)]
    assert len(own) > 3
    np.testing.assert_allclose(ticks_of(widget.panels["a1"]["marks"])[1], own / RATE)
