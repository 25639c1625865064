"""Simulated sessions fire as their parameters say, differ by animal as they should, and lie where their table says."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.groundtruth.region_analyzers import region_session_analyzer, region_session_sorting, unit_waveforms
from si_neuroml.groundtruth.region_firing import (
    RESPONSE_BIN_S,
    RESPONSE_TYPES,
    RegionProfile,
    UnitFiring,
    interval_cv,
    response_factor,
    simulate_spike_train,
)
from si_neuroml.groundtruth.region_sessions import RegionEffects, Scatter, generate_region_sessions

NO_ONSETS = np.zeros(0)
STILL = RegionEffects(*[Scatter()] * 5)


@pytest.fixture(scope="module")
def sessions():
    return generate_region_sessions(3, 2, 60, 60.0, num_shanks=2, num_labs=2, seed=1)


@settings(max_examples=12, deadline=None)
@given(
    rate=st.floats(0.5, 40.0),
    irregularity=st.floats(0.2, 1.6),
    burst=st.floats(0.0, 0.5),
    seed=st.integers(0, 1000),
)
def test_rate_and_irregularity_are_those_asked_for(rate, irregularity, burst, seed):
    firing = UnitFiring(rate, irregularity, 2.0, burst, 5.0)
    number = 10_000
    train = simulate_spike_train(np.random.default_rng(seed), firing, number / rate, NO_ONSETS)
    cv, isi = interval_cv(firing), np.diff(train)
    # bursts make the intervals of a renewal process no less independent: five standard errors of their mean
    assert len(train) == pytest.approx(number, abs=5 * cv * np.sqrt(number) + 1)
    assert isi.std() / isi.mean() == pytest.approx(cv, rel=0.15)
    assert isi.min() >= 2e-3
    assert train[0] >= 0
    assert train[-1] < number / rate


def test_shares_of_the_intervals():
    firing = UnitFiring(5.0, 1.0, 20.0, 0.3, 5.0)
    isi = np.diff(simulate_spike_train(np.random.default_rng(0), firing, 20_000.0, NO_ONSETS))
    within = isi < 7e-3
    assert within.mean() == pytest.approx(0.3, abs=0.01)
    assert isi[within].mean() == pytest.approx(5e-3, rel=0.01)
    # a refractory period of 20 ms, then an exponential wait
    waits = isi[~within] - 20e-3
    assert waits.min() >= 0
    assert np.median(waits) == pytest.approx(np.log(2) * firing.mean_wait_s, rel=0.03)


@pytest.mark.parametrize("response", RESPONSE_TYPES)
def test_a_regular_clock_ticks_evenly_in_its_own_time(response):
    """With next to no scatter, the integral of the speed between spikes is the same for all of them."""
    firing = UnitFiring(50.0, 1e-3, 0.0, 0.0, response=response, latency_s=0.05, response_gain=3.0)
    onsets = np.array([1.0, 3.0, 3.4, 8.0])
    train = simulate_spike_train(np.random.default_rng(0), firing, 10.0, onsets)
    factor, fine_s = response_factor(response, 0.05, 3.0), 1e-5
    times = (np.arange(round(10 / fine_s)) + 0.5) * fine_s
    # index -1, before the first onset, is that of the last: far in the past
    since = times - np.concatenate([onsets, [-1e3]])[np.searchsorted(onsets, times) - 1]
    speed = np.append(factor, 1.0)[np.minimum((since / RESPONSE_BIN_S).astype(int), len(factor))]
    own_time = np.interp(train, times, np.cumsum(speed) * fine_s)
    np.testing.assert_allclose(np.diff(own_time), 1 / 50.0, rtol=0.015)


def test_shapes_of_the_responses():
    bins_s = (np.arange(240) + 0.5) * RESPONSE_BIN_S
    for latency in (0.03, 0.2):
        transient, sustained, suppressed = (response_factor(kind, latency, 3.0) for kind in RESPONSE_TYPES[:3])
        for factor in (transient, sustained, 1 / suppressed):
            assert factor.max() == pytest.approx(4.0)
            assert (factor[bins_s < latency] == 1).all()
            assert factor[-1] == pytest.approx(1.0, abs=0.05)
        later = np.searchsorted(bins_s, latency + 0.4)
        assert transient[later] < 1.01
        assert sustained[later] > 3
        np.testing.assert_allclose(sustained * suppressed, 1.0)
    assert (response_factor("none", 0.05, 3.0) == 1).all()
    assert (response_factor("transient", 0.05, 0.0) == 1).all()


def test_a_session_holds_together(sessions):
    assert len(sessions) == 6
    for session in sessions:
        units = session.units
        assert len(session.offsets) == len(units) + 1 == 61
        assert session.offsets[-1] == len(session.spike_times)
        for train, rate in zip(
            np.split(session.spike_times, session.offsets[1:-1]), units["true_rate_hz"], strict=True
        ):
            assert (np.diff(train) > 0).all()
            assert len(train) < 60 * 8 * rate + 20
        assert (np.diff(session.onsets) >= 0.8 * 3.0).all()
        assert session.onsets[0] == 1.5
        assert session.onsets[-1] < 58.5
        assert units["subject"].nunique() == units["recording"].nunique() == 1
    assert len({session.units["recording"][0] for session in sessions}) == 6
    assert [session.units["lab"][0] for session in sessions[::2]] == ["lab0", "lab1", "lab0"]


def test_units_lie_in_their_regions_and_regions_fill_the_track(sessions):
    for session in sessions:
        for shank, spans in session.tracks.groupby("shank"):
            assert spans["low_um"].tolist() == [0.0, *spans["high_um"].tolist()[:-1]]
            assert spans["high_um"].iloc[-1] == 3840.0
            assert spans["region"].is_unique
            assert len(spans) >= 3
            units = session.units[session.units["shank"] == shank]
            found = np.searchsorted(spans["high_um"], units["depth_um"])
            assert (spans["region"].to_numpy()[found] == units["region"].to_numpy()).all()
        order = [["APN", "LP", "LGd", "DG", "CA1", "VISp"].index(name) for name in spans["region"]]
        assert order == sorted(order)
    tracks = {tuple(session.tracks["region"]) for session in sessions}
    assert len(tracks) > 1


def test_one_shank_has_no_name_and_no_events_no_onsets():
    session = generate_region_sessions(1, 1, 5, 10.0, event_interval_s=None)[0]
    assert set(session.units["shank"]) == set(session.tracks["shank"]) == {""}
    assert session.onsets.shape == (0,)


def test_more_of_anything_leaves_the_rest_as_it_is():
    few = generate_region_sessions(2, 1, 6, 20.0, seed=3)
    many = generate_region_sessions(3, 2, 9, 20.0, seed=3)
    again = generate_region_sessions(2, 1, 6, 20.0, seed=3)
    for one, same, larger in zip(few, again, many[::2][:2], strict=True):
        assert one.units.equals(same.units)
        np.testing.assert_array_equal(one.spike_times, same.spike_times)
        assert one.units.equals(larger.units.iloc[:6])
        assert one.tracks.equals(larger.tracks)
        np.testing.assert_array_equal(one.spike_times, larger.spike_times[: larger.offsets[6]])
    other = generate_region_sessions(2, 1, 6, 20.0, seed=4)
    assert not np.array_equal(few[0].spike_times, other[0].spike_times)


@pytest.mark.parametrize("level", [item.name for item in fields(RegionEffects)])
def test_each_level_moves_those_it_should_together(level):
    """With one region, factors are equal within the level and differ between its members; other levels are still."""
    regions = [RegionProfile("A", rate_hz=5.0, width_ms=0.4), RegionProfile("B", rate_hz=2.0, width_ms=0.2)]
    effects = replace(STILL, **{level: Scatter(rate_hz=0.3, width_ms=0.2)})
    sessions = generate_region_sessions(4, 2, 12, 10.0, num_labs=2, regions=regions, effects=effects)
    rows = [row for session in sessions for row in session.units.to_dict("records")]
    members = {
        "lab": lambda row: row["lab"],
        "subject": lambda row: row["subject"],
        "recording": lambda row: row["recording"],
        "subject_region": lambda row: (row["subject"], row["region"]),
        "unit": lambda row: (row["recording"], row["unit_id"]),
    }[level]
    typical = {"A": (5.0, 0.4), "B": (2.0, 0.2)}
    factors = {}
    for row in rows:
        rate, width = typical[row["region"]]
        pair = round(row["true_rate_hz"] / rate, 9), round(row["waveform_width_ms"] / width, 9)
        factors.setdefault(members(row), set()).add(pair)
        assert row["true_irregularity"] == 1.0
    assert all(len(found) == 1 for found in factors.values())
    assert len(set.union(*factors.values())) == len(factors) > 1


def test_shares_of_responses_and_medians_of_a_region():
    region = RegionProfile("A", rate_hz=3.0, transient=0.5, sustained=0.2, suppressed=0.1, width_ms=0.3)
    effects = replace(STILL, unit=Scatter(rate_hz=0.5, width_ms=0.2))
    units = generate_region_sessions(1, 1, 2000, 10.0, regions=[region], effects=effects)[0].units
    shares = units["true_response"].value_counts(normalize=True)
    for response, share in zip(RESPONSE_TYPES, (0.5, 0.2, 0.1, 0.2), strict=True):
        assert shares[response] == pytest.approx(share, abs=0.04)
    assert np.log(units["true_rate_hz"] / 3.0).std() == pytest.approx(0.5, rel=0.08)
    assert units["true_rate_hz"].median() == pytest.approx(3.0, rel=0.05)
    assert units["waveform_width_ms"].median() == pytest.approx(0.3, rel=0.03)


def _features(sessions):
    """A few plain features of each unit: rate, irregularity, short intervals, response, waveform."""
    rows = []
    for session in sessions:
        for train in np.split(session.spike_times, session.offsets[1:-1]):
            isi = np.diff(train) if len(train) > 2 else np.ones(2)
            before, after = (
                np.diff(np.searchsorted(train, session.onsets[:, None] + np.array(window)), axis=1).sum()
                for window in ((-0.3, 0.0), (0.0, 0.3))
            )
            rows.append(
                [np.log1p(len(train)), isi.std() / isi.mean(), (isi < 8e-3).mean(), np.log1p(after) - np.log1p(before)]
            )
    return np.array(rows)


def test_a_random_split_leaks_and_a_split_by_animal_does_not():
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

    def scores(effects):
        sessions = generate_region_sessions(6, 2, 60, 60.0, effects=effects, seed=2)
        units = {name: np.concatenate([session.units[name] for session in sessions]) for name in sessions[0].units}
        waveforms = [np.log(units[name]) for name in ("waveform_width_ms", "waveform_amplitude_uv")]
        x = np.column_stack([_features(sessions), *waveforms])
        model = ExtraTreesClassifier(60, min_samples_leaf=2, class_weight="balanced", random_state=0)
        splits = (KFold(6, shuffle=True, random_state=0), None), (GroupKFold(6), units["subject"])
        found = [cross_val_predict(model, x, units["region"], cv=split, groups=groups) for split, groups in splits]
        return [balanced_accuracy_score(units["region"], labels) for labels in found]

    shared = RegionEffects()
    random, subject = scores(shared)
    assert random - subject > 0.05
    # six regions: the animals' own ways leave enough to know a region by
    assert subject > 1 / 6 + 0.15
    random, subject = scores(replace(STILL, unit=shared.unit))
    assert abs(random - subject) < 0.04


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_subjects": 0}, "num_subjects must be a whole number of at least 1, got 0"),
        ({"num_units": 2.5}, "num_units must be a whole number"),
        ({"duration_s": 5.0}, "duration_s must be at least 10 s, got 5.0"),
        ({"event_interval_s": 0.0}, "event_interval_s must be at least 0.1 s"),
        ({"track_um": np.nan}, "track_um must be at least 100 um"),
        ({"skip_probability": 2}, "skip_probability must be from 0 to 1"),
        ({"regions": []}, "at least one RegionProfile"),
        ({"regions": [RegionProfile("A"), RegionProfile("A")]}, r"a name of its own, got \['A', 'A'\]"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
    ],
)
def test_what_sessions_refuse(wrong, message):
    with pytest.raises(InputError, match=message):
        generate_region_sessions(**{"num_subjects": 1, "duration_s": 10.0, **wrong})


def test_what_profiles_and_units_refuse():
    with pytest.raises(InputError, match="together at most 1"):
        RegionProfile("A", transient=0.8, sustained=0.5)
    with pytest.raises(InputError, match="burst_probability must be from 0 to below 1, got 1"):
        RegionProfile("A", burst_probability=1)
    with pytest.raises(InputError, match="rate_hz must be above 0, got 0"):
        RegionProfile("A", rate_hz=0)
    with pytest.raises(InputError, match=r"Scatter.rate_hz must be 0 or more, got -1"):
        Scatter(rate_hz=-1)
    with pytest.raises(InputError, match="A rate of 400 Hz leaves 2.5 ms .* take 4 ms"):
        simulate_spike_train(np.random.default_rng(0), UnitFiring(400.0, refractory_ms=4.0), 10.0, NO_ONSETS)
    with pytest.raises(InputError, match="rate_hz must be above 0, got 0"):
        simulate_spike_train(np.random.default_rng(0), UnitFiring(0.0), 10.0, NO_ONSETS)
    with pytest.raises(InputError, match="response must be one of"):
        response_factor("late", 0.1, 1.0)


@settings(max_examples=30, deadline=None)
@given(width=st.floats(0.15, 1.0), amplitude=st.floats(20.0, 500.0))
def test_waveforms_have_their_width_and_amplitude(width, amplitude):
    waveform = unit_waveforms([width], [amplitude], 30_000.0)[0]
    trough, peak = waveform.argmin(), waveform.argmax()
    assert abs(trough - 30) <= 1
    assert (peak - trough) / 30 == pytest.approx(width, rel=0.04, abs=0.035)
    assert np.ptp(waveform) == pytest.approx(amplitude, rel=1e-5)


@pytest.mark.parametrize("cuts", [(), (7.0, 12.5)])
def test_a_session_as_an_analyzer(sessions, cuts):
    session = generate_region_sessions(1, 1, 6, 20.0, num_shanks=2, seed=5)[0]
    analyzer = region_session_analyzer(session, segment_starts_s=cuts, contacts_per_shank=12)
    assert analyzer.get_num_segments() == len(cuts) + 1
    assert list(analyzer.unit_ids) == session.units["unit_id"].tolist()
    assert analyzer.sorting.get_property("brain_area").tolist() == session.units["region"].tolist()
    starts = np.array([0.0, *cuts])
    for index, unit_id in enumerate(analyzer.unit_ids):
        trains = [
            analyzer.sorting.get_unit_spike_train(unit_id, k) / 20_000.0 + start for k, start in enumerate(starts)
        ]
        train = session.spike_times[session.offsets[index] : session.offsets[index + 1]]
        np.testing.assert_allclose(np.concatenate(trains), train, atol=1 / 20_000)
    templates = analyzer.get_extension("templates").get_data()
    largest = np.ptp(templates, axis=1).argmax(axis=1)
    amplitudes = np.ptp(templates, axis=1).max(axis=1)
    np.testing.assert_allclose(amplitudes, session.units["waveform_amplitude_uv"], rtol=0.2)
    probe = analyzer.get_probegroup().probes[0]
    assert probe.shank_ids[largest].tolist() == session.units["shank"].tolist()
    away = np.abs(probe.contact_positions[largest, 1] - session.units["depth_um"])
    assert away.max() <= 3840 / 11 / 2 + 1e-6


def test_what_the_analyzer_refuses(sessions):
    with pytest.raises(InputError, match=r"must rise within the 60 s of the session, got \(70.0,\)"):
        region_session_sorting(sessions[0], segment_starts_s=(70.0,))
    with pytest.raises(InputError, match="contacts_per_shank must be at least 2, got 1"):
        region_session_analyzer(sessions[0], contacts_per_shank=1)
