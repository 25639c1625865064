"""Simulated current-clamp cells obey the model's equations, and say of themselves what is found in their sweeps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from si_neuroml.celltypes.features import ep_features
from si_neuroml.celltypes.spikes import find_spikes, measure_spikes
from si_neuroml.celltypes.sweep_recordings import sweeps_from_recording
from si_neuroml.celltypes.sweep_selection import select_rheobase_sweeps
from si_neuroml.groundtruth.current_clamp import generate_current_clamp_cells, simulate_step
from si_neuroml.groundtruth.current_clamp_cells import CLAMP_LABS, Q10, Q10_WIDTH, ClampLab, draw_cell, draw_donor
from si_neuroml.groundtruth.current_clamp_types import (
    FIRING_TYPES,
    NORMAL,
    PARAMETERS,
    DonorScatter,
    Spread,
    between_types,
)

WARM, COOL = CLAMP_LABS
FAST_LAB = ClampLab("fast", sampling_frequency=100_000.0, onset_s=0.1, step_s=0.4, after_s=0.05)
TYPICAL = {
    kind.name: replace(kind, **{name: Spread(getattr(kind, name).center, 0.0) for name in PARAMETERS})
    for kind in FIRING_TYPES
}


def typical_cell(name, lab=WARM, **values):
    """A cell at the centre of its type, without noise."""
    cell = draw_cell(np.random.default_rng(0), TYPICAL[name], {}, lab)
    return cell._replace(noise_pa=0.0, **values)


def run(cell, amplitude, lab=WARM, **kwargs):
    return simulate_step(np.random.default_rng(0), cell, lab, amplitude, **kwargs)


@pytest.fixture(scope="module")
def simulated():
    return generate_current_clamp_cells(40, seed=1)


@pytest.fixture(scope="module")
def pairs(simulated):
    return [select_rheobase_sweeps(cell) for cell in simulated.cells]


@pytest.fixture(scope="module")
def features(simulated, pairs):
    """Features of the cells by name, with their labels."""
    rows = [ep_features(cell, pair) for cell, pair in zip(simulated.cells, pairs, strict=True)]
    table = simulated.truth[["label", "dataset"]].copy()
    for k, name in enumerate(rows[0][1]):
        table[name] = [row[0][k] for row in rows]
    return table


def test_rheobase_is_the_one_of_the_truth(simulated, pairs):
    assert not [pair.refusal for pair in pairs if pair.refusal]
    assert [pair.rheobase_pa for pair in pairs] == simulated.truth["rheobase_pa"].tolist()
    for cell, lab in zip(simulated.cells, simulated.truth["dataset"], strict=True):
        steps = np.array([one.amplitude_pa for one in cell.stimulus])
        assert steps[0] < 0
        np.testing.assert_allclose(np.diff(steps), WARM.step_pa if lab == WARM.name else COOL.step_pa)
    top = [cell.stimulus[-1].amplitude_pa for cell in simulated.cells]
    assert (top - simulated.truth["rheobase_pa"] >= 100.0).all()


def test_spikes_found_are_the_true_ones(simulated):
    num = 0
    for cell, times in zip(simulated.cells, simulated.spike_times_s, strict=True):
        for voltage, true in zip(cell.voltage_mv, times, strict=True):
            found = find_spikes(voltage, cell.sampling_frequency)
            assert len(found) == len(true)
            # a recorded sample is a mean over its interval, and noise decides between two of a flat peak
            assert (
                np.abs((found + 0.5) / cell.sampling_frequency - true).max(initial=0) <= 1.6 / cell.sampling_frequency
            )
            num += len(true)
    assert num > 3000


@pytest.mark.parametrize("name", list(TYPICAL))
def test_rates_rise_with_the_current(name):
    cell = typical_cell(name)
    counts = [len(run(cell, amplitude)[1]) for amplitude in np.arange(0.0, 700.0, 50.0)]
    assert counts[0] == 0
    assert counts[-1] > 20
    assert (np.diff(counts) >= 0).all()


@given(st.floats(-200.0, -5.0), st.sampled_from(list(TYPICAL)), st.sampled_from([-75.0, -68.0]))
@settings(max_examples=25, deadline=None)
def test_a_hyperpolarised_membrane_settles_as_its_resistance_says(amplitude, name, held_at):
    lab = replace(WARM, holding_mv=held_at, step_s=3.0)
    cell = typical_cell(name, lab)
    voltage, spikes = run(cell, amplitude, lab)
    at = np.arange(len(voltage)) / lab.sampling_frequency
    before = voltage[at < lab.onset_s - 1e-3].mean()
    settled = voltage[(at > lab.onset_s + 2.8) & (at < lab.onset_s + 3.0)].mean()
    assert before == pytest.approx(held_at, abs=0.05)
    assert settled - before == pytest.approx(1e-3 * amplitude * cell.input_resistance_mohm, rel=0.01)
    assert not (spikes < lab.onset_s + 3.0).any()


def test_without_adaptation_charging_is_exponential_and_rheobase_is_known():
    cell = typical_cell("regular_spiking", a_ns=0.0, b_pa=0.0)
    tau_s = 1e-3 * cell.capacitance_pf / cell.leak_ns
    voltage, _ = run(cell, -60.0)
    at = np.arange(len(voltage)) / WARM.sampling_frequency
    inside = (at > WARM.onset_s) & (at < WARM.onset_s + WARM.step_s - 1e-3)
    # half a recorded sample: each is the mean of its interval
    since = at[inside] + 0.5 / WARM.sampling_frequency - WARM.onset_s
    expected = -60.0 / cell.leak_ns * (1 - np.exp(-since / tau_s))
    np.testing.assert_allclose(voltage[inside] - cell.rest_mv, expected, atol=0.02)
    # where leak and exponential meet (Touboul & Brette 2008): g_L (V_T - E_L - Delta_T)
    rheobase = cell.leak_ns * (cell.v_t_mv - cell.rest_mv - cell.slope_mv)
    long = replace(WARM, step_s=5.0)
    assert len(run(cell, 0.995 * rheobase, long)[1]) == 0
    assert len(run(cell, 1.005 * rheobase, long)[1]) > 1


@pytest.mark.parametrize("name", list(TYPICAL))
@pytest.mark.parametrize("share", [-0.8, 0.9])
def test_below_threshold_it_solves_the_equations(name, share):
    cell = typical_cell(name)
    far = cell.v_t_mv - cell.slope_mv - cell.rest_mv
    amplitude = share * min(cell.leak_ns, cell.leak_ns + cell.a_ns) * far

    def flow(_, state):
        v, w = state
        onset = cell.leak_ns * cell.slope_mv * np.exp((v - cell.v_t_mv) / cell.slope_mv)
        current = cell.leak_ns * (cell.rest_mv - v) + onset - w + amplitude
        return current / cell.capacitance_pf, (cell.a_ns * (v - cell.rest_mv) - w) / cell.adaptation_tau_ms

    voltage, spikes = run(cell, amplitude)
    assert not len(spikes)
    middle_s = (np.arange(len(voltage)) + 0.5) / WARM.sampling_frequency
    inside = (middle_s > WARM.onset_s) & (middle_s < WARM.onset_s + WARM.step_s)
    expected = solve_ivp(
        flow, (0, 1e3 * WARM.step_s), (cell.rest_mv, 0.0), t_eval=1e3 * (middle_s[inside] - WARM.onset_s), rtol=1e-8
    )
    # what changes in a step of integration, 25 us
    np.testing.assert_allclose(voltage[inside], expected.y[0], atol=0.1)


def test_adaptation_by_spikes_lengthens_intervals():
    for b_pa, least, most in ((0.0, 0.999, 1.001), (30.0, 1.5, 20.0)):
        cell = typical_cell("regular_spiking", a_ns=0.0, b_pa=b_pa)
        intervals = np.diff(run(cell, 400.0)[1])[1:]
        assert least < intervals[-1] / intervals[0] < most
        assert len(intervals) > 5


@pytest.mark.parametrize("name", list(TYPICAL))
def test_the_waveform_of_a_spike_is_as_asked_for(name):
    cell = typical_cell(name, FAST_LAB)
    voltage, spikes = run(cell, 600.0, FAST_LAB)
    peaks = find_spikes(voltage, FAST_LAB.sampling_frequency)
    shapes = measure_spikes(voltage, FAST_LAB.sampling_frequency, peaks, start_s=0.1, stop_s=0.5)
    np.testing.assert_allclose((peaks + 0.5) / FAST_LAB.sampling_frequency, spikes, atol=1.6e-5)
    np.testing.assert_allclose(shapes.width_ms, cell.width_ms, rtol=0.03)
    np.testing.assert_allclose(shapes.peak_mv, cell.peak_mv, atol=0.3)
    np.testing.assert_allclose(shapes.threshold_mv, cell.cut_mv, atol=0.8)
    ratio = shapes.upstroke_mv_per_ms / -shapes.downstroke_mv_per_ms
    np.testing.assert_allclose(ratio, TYPICAL[name].slope_ratio.center, rtol=0.05)
    np.testing.assert_allclose(shapes.fast_trough_mv[:-1], cell.reset_mv, atol=1.0)


def test_typical_cells_differ_as_their_names_say():
    sag, latency, adaptation, rate = {}, {}, {}, {}
    for name in TYPICAL:
        cell = typical_cell(name)
        voltage, _ = run(cell, -80.0)
        at = np.arange(len(voltage)) / WARM.sampling_frequency
        deflection = voltage - cell.rest_mv
        sag[name] = 1 - deflection[(at > 1.2) & (at < 1.3)].mean() / deflection[at < 1.3].min()
        rheobase = next(a for a in np.arange(0.0, 500.0, 10.0) if len(run(cell, a)[1]))
        latency[name] = run(cell, rheobase)[1][0] - WARM.onset_s
        train = run(cell, rheobase + 100.0)[1]
        intervals = np.diff(train)
        adaptation[name], rate[name] = intervals[-1] / intervals[0], len(train)
    assert max(sag, key=sag.get) == "low_threshold_spiking"
    assert sag["late_spiking"] < 0.005
    assert max(latency, key=latency.get) == "late_spiking"
    assert max(adaptation, key=adaptation.get) == "regular_spiking"
    assert adaptation["regular_spiking"] > 1.5
    assert adaptation["fast_spiking"] < 1.2
    assert min(rate, key=rate.get) == "regular_spiking"


def test_types_differ_and_overlap(features):
    median = features.groupby("label").median(numeric_only=True)
    assert median.loc["regular_spiking", "plus_adaptation"] > median.loc["fast_spiking", "plus_adaptation"] + 0.02
    assert median["first_width_ms"].idxmin() == "fast_spiking"
    assert median["first_width_ms"].idxmax() == "regular_spiking"
    assert median["fi_slope_hz_per_pa"].idxmin() == "regular_spiking"
    # no feature separates a type from the one next to it
    for name in ("first_width_ms", "tau_ms", "plus_adaptation", "first_upstroke_downstroke_ratio"):
        rows = features.groupby("label")[name].agg(["median", "min", "max"]).sort_values("median")
        assert (rows["max"].to_numpy()[:-1] > rows["min"].to_numpy()[1:]).all()


def test_measured_features_are_those_of_the_model(simulated, features):
    truth = simulated.truth
    assert np.median(np.abs(features["first_width_ms"] / truth["width_ms"] - 1)) < 0.05
    assert np.median(np.abs(features["input_resistance_mohm"] / truth["input_resistance_mohm"] - 1)) < 0.05
    resting = truth["dataset"] == WARM.name
    np.testing.assert_allclose(features["rest_mv"][resting], truth["rest_mv"][resting], atol=1.5)
    assert np.abs(features["rest_mv"][~resting] - COOL.holding_mv).median() < 1.0


def test_laboratories_record_as_they_say(simulated):
    for cell, name in zip(simulated.cells, simulated.truth["dataset"], strict=True):
        lab = WARM if name == WARM.name else COOL
        assert cell.sampling_frequency == lab.sampling_frequency
        for voltage, step in zip(cell.voltage_mv, cell.stimulus, strict=True):
            assert len(voltage) == round((lab.onset_s + lab.step_s + lab.after_s) * lab.sampling_frequency)
            assert (step.onset_s, step.duration_s) == pytest.approx((lab.onset_s, lab.step_s))
    by_lab = simulated.truth.groupby("dataset")
    assert (by_lab["donor"].nunique() == 4).all()
    assert by_lab["bridge_mohm"].std()[COOL.name] > by_lab["bridge_mohm"].std()[WARM.name]
    noise = [np.median(np.abs(np.diff(cell.voltage_mv[0], 2))) for cell in simulated.cells]
    means = simulated.truth.assign(noise=noise).groupby("dataset")["noise"].mean()
    assert means[COOL.name] > 1.5 * means[WARM.name]


def test_bridge_error_noise_and_hum_are_added_to_the_potential():
    quiet = replace(WARM, noise_mv=0.0, hum_mv=0.0, bridge_error_mohm=0.0, drift_mv=0.0)
    plain = generate_current_clamp_cells(1, labs=[quiet], seed=3)
    for change, expected in (({"noise_mv": 0.2}, 0.2), ({"hum_mv": 0.3}, 0.3 / np.sqrt(2))):
        other = generate_current_clamp_cells(1, labs=[replace(quiet, **change)], seed=3)
        added = np.concatenate(other.cells[0].voltage_mv) - np.concatenate(plain.cells[0].voltage_mv)
        assert added.std() == pytest.approx(expected, rel=0.02)
    other = generate_current_clamp_cells(1, labs=[replace(quiet, bridge_error_mohm=10.0)], seed=3)
    for one, two, step in zip(
        plain.cells[0].voltage_mv, other.cells[0].voltage_mv, plain.cells[0].stimulus, strict=True
    ):
        inside = (np.arange(len(one)) >= 6000) & (np.arange(len(one)) < 26_000)
        jump = 1e-3 * other.truth["bridge_mohm"][0] * step.amplitude_pa
        np.testing.assert_allclose(two - one, jump * inside, atol=1e-3)


def test_cooling_broadens_spikes_and_closes_conductances():
    kind, donor = FIRING_TYPES[0], draw_donor(np.random.default_rng(0), DonorScatter())
    cool = replace(WARM, temperature_c=24.0)
    warm, cold = (draw_cell(np.random.default_rng(5), kind, donor, lab) for lab in (WARM, cool))
    assert cold.width_ms == pytest.approx(Q10_WIDTH * warm.width_ms)
    assert cold.input_resistance_mohm == pytest.approx(Q10 * warm.input_resistance_mohm)
    assert cold.capacitance_pf == pytest.approx(warm.capacitance_pf)
    assert cold.adaptation_tau_ms == pytest.approx(Q10 * warm.adaptation_tau_ms)


def test_cells_of_a_donor_are_alike():
    width = DonorScatter(0.0, 0.0, 0.5, 0.0, 0.0, 0.0)
    still = [TYPICAL["fast_spiking"]]
    lab = [replace(WARM, above_pa=20.0)]
    cells = generate_current_clamp_cells(9, cells_per_donor=3, types=still, labs=lab, donor_scatter=width).truth
    by_donor = cells.groupby("donor")["width_ms"]
    assert (by_donor.std() < 1e-9).all()
    assert by_donor.first().std() > 0.05
    assert cells["leak_ns"].std() < 1e-9


def test_a_type_between_two_types():
    one, other = FIRING_TYPES[:2]
    assert between_types(one, other, 0.0) == one
    half = between_types(one, other, 0.5)
    assert half.name == one.name
    assert half.rest_mv.center == pytest.approx((one.rest_mv.center + other.rest_mv.center) / 2)
    assert half.width_ms.center == pytest.approx(np.sqrt(one.width_ms.center * other.width_ms.center))
    whole = between_types(one, other, 1.0)
    for name in PARAMETERS:
        assert getattr(whole, name).center == pytest.approx(getattr(other, name).center)
        assert getattr(whole, name).scatter == getattr(one, name).scatter
    assert set(NORMAL) < set(PARAMETERS)


def test_seeds_and_parts():
    labs = [replace(lab, above_pa=25.0) for lab in CLAMP_LABS]
    whole, again = (generate_current_clamp_cells(6, cells_per_donor=2, labs=labs, seed=4) for _ in range(2))
    part = generate_current_clamp_cells(2, cells_per_donor=2, labs=labs, first_cell=3, seed=4)
    other = generate_current_clamp_cells(1, labs=labs, seed=5)
    for k, cell in enumerate(whole.cells):
        np.testing.assert_array_equal(cell.voltage_mv, again.cells[k].voltage_mv)
    for k, cell in enumerate(part.cells):
        assert cell.cell_id == whole.cells[3 + k].cell_id
        np.testing.assert_array_equal(cell.voltage_mv, whole.cells[3 + k].voltage_mv)
        assert part.truth.iloc[k].equals(whole.truth.iloc[3 + k])
    assert other.truth["leak_ns"][0] != whole.truth["leak_ns"][0]


def test_as_recordings(simulated):
    few = simulated._replace(cells=simulated.cells[:2])
    for recording, cell in zip(few.recordings(), few.cells, strict=True):
        assert recording.get_num_segments() == len(cell)
        back = sweeps_from_recording(recording)
        assert back.stimulus == cell.stimulus
        np.testing.assert_allclose(back.voltage_mv[0], cell.voltage_mv[0], atol=1e-4)
