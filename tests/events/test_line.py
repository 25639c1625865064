"""Joint scores of sites along one dendrite: the gain, the delay, who counts for whom, and chunks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spikeinterface.core import NumpyRecording

import si_neuroml
from si_neuroml.errors import InputError, TrainingError
from si_neuroml.events.line import LineCoupling, connect_sites, joint_scores, joint_sites, sites_on_lines
from si_neuroml.events.line_fit import estimate_delay, fit_line_coupling
from si_neuroml.events.matched_filter import MatchedFilterScorer
from si_neuroml.events.matching import match_events
from si_neuroml.events.settings import DetectorSettings

RATE = 3328.0
THRESHOLD = 4.0
FREE = float("inf")  # no site is kept from speaking for others: joint scores are linear


def response(samples):
    """Of an indicator, at times in samples after the event."""
    late = np.maximum(samples, 0.0)
    return 1.6 * (1 - np.exp(-late / 1.5)) * np.exp(-late / 5.0)


def filtered(x):
    """Scores of a matched filter for that response, of noise sd 1."""
    taps = response(np.arange(-5.0, 25.0))
    taps = (taps / np.linalg.norm(taps)).astype("float32")
    return MatchedFilterScorer(taps, taps, 5).scores(np.asarray(x, dtype="float32"))


def travelling(positions, delay_ms_per_um, *, num_samples=40_000, num_events=300, height=1.0, seed=0, lines=None):
    """(traces, events): events that reach each site of a line at its own time, in independent noise of sd 1."""
    rng = np.random.default_rng(seed)
    positions, lines = np.asarray(positions, float), np.zeros(len(positions), int) if lines is None else lines
    x = rng.standard_normal((len(positions), num_samples))
    rows, time = [], np.arange(num_samples)
    for line in np.unique(lines):
        starts = np.sort(rng.choice(np.arange(100, num_samples - 100, 60), num_events, replace=False))
        for start in starts + rng.uniform(-10, 10, num_events):
            for channel in np.flatnonzero(lines == line):
                arrival = start + positions[channel] * delay_ms_per_um * RATE / 1000.0
                near = slice(int(arrival), int(arrival) + 60)
                x[channel, near] += height * response(time[near] - arrival)
                rows.append((round(arrival), channel, 0))
    names = ("sample_index", "channel_index", "segment_index")
    return x, np.array(rows, dtype=[(name, "int64") for name in names])


def detectability(scores, events):
    """(mean of the scores at events, in sd of the scores far from them; that sd)."""
    quiet = np.ones(scores.shape, dtype=bool)
    for t, c in zip(events["sample_index"], events["channel_index"], strict=True):
        quiet[c, max(0, t - 60) : t + 60] = False
    sd = scores[quiet].std()
    return scores[events["channel_index"], events["sample_index"]].mean() / sd, sd


@pytest.mark.parametrize("num_sites", [2, 4, 8])
def test_gains_the_root_of_the_number_of_sites(num_sites):
    positions, delay = 20.0 * np.arange(num_sites), 1 / 100
    x, events = travelling(positions, delay)
    coupling = LineCoupling(1.0, 1 / delay, 1000.0, 0.0, FREE)
    line = connect_sites(positions, np.zeros(num_sites), coupling, RATE, THRESHOLD)
    scores = filtered(x)
    (alone, sd), (joint, joint_sd) = detectability(scores, events), detectability(joint_scores(scores, line), events)
    assert joint / alone == pytest.approx(np.sqrt(num_sites), rel=0.03)
    assert joint_sd == pytest.approx(sd, rel=0.03)  # thresholds keep their meaning
    wrong = connect_sites(positions, np.zeros(num_sites), LineCoupling(1.0, -100.0, 1000.0, 0.0, FREE), RATE, THRESHOLD)
    assert detectability(joint_scores(scores, wrong), events)[0] < 0.97 * joint


def test_against_the_formula():
    """An independent evaluation, site by site, with the delays, the limit and the norm written out."""
    rng = np.random.default_rng(1)
    scores = (3 * rng.standard_normal((5, 400))).astype("float32") - 2
    positions, lines = np.array([0.0, 30.0, 90.0, 10.0, 55.0]), np.array(["a", "a", "a", "b", "b"])
    coupling = LineCoupling(0.4, -70.0, 60.0, -2.0, 0.3)
    line = connect_sites(positions, lines, coupling, 1000.0, 3.0)
    found, time = joint_scores(scores, line), np.arange(400.0)
    others = {0: [1], 1: [0, 2], 2: [1], 3: [4], 4: [3]}
    for channel, near in others.items():
        norm = np.sqrt(1 + 0.16 * len(near))
        limit = 0.3 * 5.0 * norm / 0.4
        total = scores[channel] + 2.0
        for other in near:
            clipped = np.clip(scores[other] + 2.0, -limit, limit)
            shift = (positions[other] - positions[channel]) / -70.0
            total = total + 0.4 * np.interp(time + shift, time, clipped)
        np.testing.assert_allclose(found[channel, 5:-5], (-2 + total / norm)[5:-5], atol=1e-5)


def test_one_site_alone_is_itself():
    scores = np.random.default_rng(0).standard_normal((4, 500)).astype("float32") - 7.3
    coupling = LineCoupling(0.7, 300.0, 50.0, -7.0)
    alone = connect_sites(np.zeros(4), np.arange(4), coupling, RATE, 1.0)
    far = connect_sites(100.0 * np.arange(4), np.zeros(4), coupling, RATE, 1.0)
    none = connect_sites(np.arange(4), np.zeros(4), LineCoupling(0.0, 300.0, center=-7.0), RATE, 1.0)
    for line in (alone, far, none):
        np.testing.assert_array_equal(joint_scores(scores, line), scores)
        assert line.reach == 0


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_lines_never_mix(seed):
    rng = np.random.default_rng(seed)
    scores, lines = rng.standard_normal((6, 300)).astype("float32"), rng.integers(0, 3, 6)
    line = connect_sites(rng.uniform(0, 100, 6), lines, LineCoupling(0.8, 60.0, center=0.0), RATE, THRESHOLD)
    changed, chosen = scores.copy(), rng.integers(0, 3)
    changed[lines == chosen] = rng.standard_normal(((lines == chosen).sum(), 300))
    one, two = joint_scores(scores, line), joint_scores(changed, line)
    np.testing.assert_array_equal(one[lines != chosen], two[lines != chosen])


@given(start=st.integers(0, 150), length=st.integers(60, 200), speed=st.floats(10, 500), sign=st.sampled_from([-1, 1]))
@settings(deadline=None, max_examples=40)
def test_chunks_do_not_matter(start, length, speed, sign):
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((4, 400)).astype("float32")
    coupling = LineCoupling(0.6, sign * speed, 80.0, 0.1)
    line = connect_sites([0, 31.0, 60.0, 77.0], np.zeros(4), coupling, RATE, THRESHOLD)
    reach = line.reach
    part = joint_scores(scores[:, start : start + length], line)
    inside = slice(reach, length - reach)
    np.testing.assert_array_equal(part[:, inside], joint_scores(scores, line)[:, start : start + length][:, inside])


def test_reach_is_that_of_the_longest_delay():
    line = connect_sites([0.0, 100.0], np.zeros(2), LineCoupling(0.5, 100.0, center=0.0), 3300.0, THRESHOLD)
    assert line.reach == 4  # 1 ms is 3.3 samples
    scores = np.zeros((2, 101), dtype="float32")
    scores[1, 50] = 1.0
    np.testing.assert_array_equal(np.flatnonzero(joint_scores(scores, line)[0]), [46, 47])


def test_one_site_does_not_speak_for_others():
    """A huge score at one site lifts silent ones half way to the threshold, and to it only if that is wanted."""
    scores = np.full((4, 100), -6.0, dtype="float32")
    scores[1, 50] = 40.0
    places = np.arange(4.0), np.zeros(4)
    for share in (0.5, 1.5):
        line = connect_sites(*places, LineCoupling(0.5, None, center=-6.0, single_site_share=share), RATE, 2.0)
        np.testing.assert_allclose(joint_scores(scores, line)[[0, 2, 3], 50], -6.0 + share * 8.0, rtol=1e-5)


def test_a_channel_without_data_does_not_count():
    scores = np.random.default_rng(0).standard_normal((3, 200)).astype("float32")
    scores[1] = -np.inf
    coupling, usable = LineCoupling(0.5, 50.0, center=0.0), np.array([True, False, True])
    line = connect_sites([0.0, 10.0, 20.0], np.zeros(3), coupling, RATE, THRESHOLD, usable=usable)
    found = joint_scores(scores, line)
    assert np.all(found[1] == -np.inf)
    pair = connect_sites([0.0, 20.0], np.zeros(2), coupling, RATE, THRESHOLD)
    np.testing.assert_array_equal(found[[0, 2]], joint_scores(scores[[0, 2]], pair))


@pytest.mark.parametrize("speed", [90.0, -90.0, 350.0])
def test_delay_without_labels(speed):
    positions = np.array([0.0, 25.0, 60.0, 110.0])
    places = [positions], [np.zeros(4)]
    x, _ = travelling(positions, 1 / speed, height=2.0, seed=3)
    found = estimate_delay([filtered(x)], *places, RATE, level=2.0, center=0.0)
    # a quarter of a sample over the 110 um
    assert found == pytest.approx(1 / speed, abs=7e-4)
    # noise that is everywhere at once, half as strong as that of each site, takes some of it
    shared = x + 0.5 * np.random.default_rng(4).standard_normal(x.shape[1])
    assert 0.6 < estimate_delay([filtered(shared)], *places, RATE, level=2.0, center=0.0) * speed < 1.02


def test_fit_finds_speed_and_that_sites_help():
    positions, lines = np.tile([0.0, 40.0, 80.0, 120.0], 2), np.repeat([0, 1], 4)
    x, events = travelling(positions, 1 / 120, height=0.8, seed=5, lines=lines)
    test_x, test_events = travelling(positions, 1 / 120, height=0.8, seed=6, lines=lines)
    how = DetectorSettings(RATE, 1)
    places = [positions], [lines]
    coupling, summary = fit_line_coupling([filtered(x)], *places, [events], how, THRESHOLD)
    assert coupling.speed_um_per_ms == pytest.approx(120, rel=0.06)
    assert coupling.coupling >= 0.5
    assert coupling.center == pytest.approx(0, abs=0.2)
    by_key = {(row["coupling"], row["speed_um_per_ms"] is None): row["average_precision"] for row in summary}
    assert by_key[coupling.coupling, False] > by_key[0.0, True] + 0.15
    assert by_key[coupling.coupling, False] > by_key[coupling.coupling, True] + 0.05

    line = connect_sites(positions, lines, coupling, RATE, THRESHOLD)
    scores = filtered(test_x)
    gain = detectability(joint_scores(scores, line), test_events)[0] / detectability(scores, test_events)[0]
    assert gain > 1.5


def test_fit_leaves_unrelated_sites_alone():
    x, events = travelling(np.zeros(3), 0.0, lines=np.arange(3), height=1.2)
    positions, lines = np.array([0.0, 20.0, 40.0]), np.zeros(3)
    coupling, _ = fit_line_coupling([filtered(x)], [positions], [lines], [events], DetectorSettings(RATE, 1), THRESHOLD)
    assert coupling.coupling == 0


def recording_on_probe(num_channels=3, place=None):
    from probeinterface import Probe

    recording = NumpyRecording([np.zeros((50, num_channels), "float32")], RATE)
    probe = Probe(ndim=2, si_units="um")
    probe.set_contacts(np.column_stack([np.arange(num_channels) * 3.0, np.arange(num_channels) * -4.0]))
    probe.set_device_channel_indices(np.arange(num_channels))
    recording.set_probe(probe)
    return recording


def test_places_from_the_probe():
    recording = recording_on_probe(4)
    recording.set_property("cell", ["a", "b", "b", "b"])
    positions, lines = sites_on_lines(recording)
    np.testing.assert_array_equal(lines, ["a", "b", "b", "b"])
    # contacts 5 um apart on a slope; they increase with y, which differs most
    np.testing.assert_allclose(np.diff(positions[1:]), [-5.0, -5.0])
    positions, lines = sites_on_lines(recording, None, [0, 10, 30, 60])
    np.testing.assert_array_equal(positions, [0, 10, 30, 60])
    assert len(set(lines)) == 1


def test_what_is_missing_is_named():
    bare = NumpyRecording([np.zeros((50, 3), "float32")], RATE)
    with pytest.raises(InputError, match="no property 'cell'"):
        sites_on_lines(recording_on_probe())
    with pytest.raises(InputError, match="no probe"):
        sites_on_lines(bare, None)
    with pytest.raises(InputError, match="positions_um must hold 3 finite numbers"):
        sites_on_lines(bare, None, [0, 1])
    with pytest.raises(InputError, match="any of .*'by'.*'speed_um_per_ms'.*got .'speed'"):
        joint_sites(bare, {"speed": 3})
    with pytest.raises(InputError, match="333.3 ms between sites 100 um apart"):
        connect_sites([0, 100.0], [0, 0], LineCoupling(0.5, 0.3, center=0.0), RATE, THRESHOLD)
    with pytest.raises(InputError, match="above the center"):
        connect_sites([0, 100.0], [0, 0], LineCoupling(0.5), RATE, THRESHOLD)
    for wrong in ({"coupling": 1.5}, {"radius_um": 0}, {"speed_um_per_ms": 0}, {"center": float("nan")}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            LineCoupling(**wrong)
    with pytest.raises(TrainingError, match="No delay can be measured: of 0 pairs"):
        estimate_delay([np.zeros((2, 90), "float32")], [[0.0, 1.0]], [[0, 1]], RATE, level=1.0, center=0.0)


@pytest.fixture(scope="module")
def line_scan():
    """A recording of two dendrites of four sites with weak events that travel at 120 um/ms, and the events."""
    positions, lines = np.tile([0.0, 40.0, 80.0, 120.0], 2), np.repeat(["a", "b"], 4)
    x, events = travelling(positions, 1 / 120, height=0.9, seed=8, lines=lines, num_samples=25_000, num_events=200)
    recording = NumpyRecording([(1000 - x).T.astype("float32")], RATE)
    recording.set_property("cell", lines)
    joint = {"coupling": 0.5, "speed_um_per_ms": 120.0, "positions_um": positions}
    return recording, events, joint


def f1(events, found):
    return 2 * (match_events(events, found, 3) >= 0).sum() / (len(events) + len(found))


def test_node_finds_more_with_the_sites_together(line_scan):
    recording, events, joint = line_scan
    detector = si_neuroml.fit_event_detector(recording, events, network="matched_filter", split="time")
    quiet = {"n_jobs": 1, "progress_bar": False}
    alone, together = (
        si_neuroml.detect_events(recording, detector, joint=how, job_kwargs=quiet) for how in (None, joint)
    )
    assert f1(events, together.events) > f1(events, alone.events) + 0.1
    for job_kwargs in ({**quiet, "chunk_size": 170}, {"n_jobs": 2, "chunk_size": 1300, "progress_bar": False}):
        found = si_neuroml.detect_events(recording, detector, joint=joint, job_kwargs=job_kwargs)
        np.testing.assert_array_equal(found.events, together.events)
        np.testing.assert_array_equal(found.periods, together.periods)
    with pytest.raises(InputError, match="no probe"):
        si_neuroml.detect_events(recording, detector, joint={}, job_kwargs=quiet)
