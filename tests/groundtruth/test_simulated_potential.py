"""Simulated membrane potentials do what their labels say."""

import numpy as np
import pytest

from si_neuroml.errors import InputError
from si_neuroml.groundtruth import MembraneSettings
from si_neuroml.groundtruth.membrane_potential import local_waveform
from si_neuroml.groundtruth.simulated_potential import simulate_membrane_potential

RATE = 20_000.0
NOTHING = {
    f"{name}_rate_hz": 0.0 for name in ("firing", "burst", "dendritic_spike", "plateau", "epsp_burst", "step")
} | {"slow_mv": 0.0, "theta_mv": 0.0}


def simulate(duration=20.0, seed=0, silent=False, **settings):
    cell = MembraneSettings(**(NOTHING | settings)).draw(np.random.default_rng(seed))
    return cell, simulate_membrane_potential(duration, RATE, cell, silent=silent, seed=seed)


def of_type(potential, event_type):
    return potential.events[potential.events["event_type"] == event_type]


@pytest.fixture(scope="module")
def usual():
    cell = MembraneSettings(firing_rate_hz=4.0, burst_rate_hz=0.3).draw(np.random.default_rng(5))
    return cell, simulate_membrane_potential(60.0, RATE, cell, seed=5)


def test_each_spike_of_the_trace_has_one_label(usual):
    cell, potential = usual
    soma = potential.soma_mv
    assert len(soma) == 60 * RATE
    crossings = np.flatnonzero((soma[:-1] < 0) & (soma[1:] >= 0))
    spikes = potential.spike_samples
    assert len(crossings) == len(spikes) > 100
    assert np.all((spikes > crossings) & (spikes - crossings < 1e-3 * RATE))
    assert np.allclose(soma[spikes], cell["ap_peak_mv"], atol=1e-3)
    assert np.diff(spikes).min() > 3.4e-3 * RATE
    ap = of_type(potential, "somatic_ap")
    assert np.all((ap["onset"] < spikes) & (spikes < ap["offset"]))


@pytest.mark.parametrize("width", [0.6, 1.2])
def test_action_potential_has_its_height_and_width(width):
    cell, potential = simulate(firing_rate_hz=3.0, ap_half_width_ms=width, ap_peak_mv=25.0)
    top = potential.ap_mv.max()
    assert top == pytest.approx(25.0, abs=1e-3)
    assert potential.ap_mv.argmax() == round(2e-3 * RATE)
    # in the trace, halfway between the peak and the threshold
    half = (25.0 + cell["resting_mv"] + cell["threshold_mv"]) / 2
    for spike in potential.spike_samples[1:6]:
        around = potential.soma_mv[spike - 100 : spike + 100]
        assert np.count_nonzero(around > half) / RATE * 1e3 == pytest.approx(width, abs=0.15)


def test_rate_of_single_spikes_is_about_as_asked():
    counts = [len(simulate(60.0, seed, firing_rate_hz=5.0)[1].spike_samples) / 60 for seed in range(3)]
    assert np.mean(counts) == pytest.approx(5.0, rel=0.35)


def test_bursts_are_bursts():
    _, potential = simulate(40.0, burst_rate_hz=1.0, fluctuation_mv=1.0, ahp_mv=3.0)
    spikes = potential.spike_samples
    gaps = np.diff(spikes) / RATE
    bursts = np.split(spikes, np.flatnonzero(gaps > 0.03) + 1)
    assert len(bursts) > 20
    assert {len(burst) for burst in bursts} <= {2, 3, 4, 5}
    within = gaps[gaps <= 0.03]
    assert within.min() > 3.9e-3
    assert within.max() < 10.2e-3
    # halfway between two spikes the cell is depolarised, against before the burst
    middle = np.concatenate([(burst[1:] + burst[:-1]) // 2 for burst in bursts])
    before = np.array([burst[0] - round(0.02 * RATE) for burst in bursts])
    assert np.median(potential.soma_mv[middle]) > np.median(potential.soma_mv[before]) + 5


def test_no_other_spike_falls_into_a_burst():
    """A cell near its threshold would fire on the depolarisation of the burst by itself."""
    _, potential = simulate(60.0, firing_rate_hz=4.0, burst_rate_hz=2.0, fluctuation_mv=3.0, ahp_mv=2.0)
    gaps = np.diff(potential.spike_samples) / RATE * 1e3
    assert np.count_nonzero(gaps < 10.1) > 100
    assert gaps.min() > 3.9
    # 20 ms without any after the last of a burst; before the first, 5 ms
    ends = np.flatnonzero((gaps[:-1] < 10.1) & (gaps[1:] > 10.1))
    assert gaps[ends + 1].min() > 19.9


def test_local_events_have_their_waveform_and_reach_the_soma_smaller():
    _, potential = simulate(
        60.0, plateau_rate_hz=0.5, dendritic_spike_rate_hz=0.5, threshold_mv=40.0, fluctuation_mv=1.0
    )
    plateaus, spikes = of_type(potential, "plateau"), of_type(potential, "dendritic_spike")
    assert len(plateaus) > 10 < len(spikes)
    assert len(potential.spike_samples) == 0
    for event in [*plateaus, *spikes]:
        wave = local_waveform(event, RATE)
        assert len(wave) == event["offset"] - event["onset"]
        assert wave.max() == pytest.approx(event["amplitude_mv"], rel=1e-3)
        assert wave[event["sample_index"] - event["onset"]] == pytest.approx(wave.max(), rel=1e-3)
    for event in plateaus:
        width = np.count_nonzero(local_waveform(event, RATE) > event["amplitude_mv"] / 2) / RATE
        assert 0.029 < width < 0.201
    long = plateaus[plateaus["offset"] - plateaus["onset"] > 0.08 * RATE]
    end = long["offset"] - round(0.02 * RATE)
    inside = end < len(potential.soma_mv)
    # both compartments at rest, the dendrite driven: gs (1 + gd) / (1 + gs + gd) of the plateau, with gs = gd = 0.4
    share = (potential.soma_mv[end[inside]] - potential.resting_mv) / long["amplitude_mv"][inside]
    assert np.median(share) == pytest.approx(0.4 * 1.4 / 1.8, abs=0.06)
    assert np.all((spikes["place"] >= 0) & (spikes["place"] < 1))
    assert np.all(spikes["extent_um"] >= 20)


def test_silent_cell_fluctuates_but_has_no_event():
    settings = {"epsp_burst_rate_hz": 1.0, "step_rate_hz": 0.1, "burst_rate_hz": 1.0, "plateau_rate_hz": 1.0}
    cell, silent = simulate(seed=2, silent=True, firing_rate_hz=5.0, fluctuation_mv=3.0, **settings)
    assert len(silent.events) == 0
    assert silent.soma_mv.max() <= cell["resting_mv"] + cell["threshold_mv"] + 1e-3
    assert silent.soma_mv.std() > 2
    assert silent.ap_mv.max() == pytest.approx(cell["ap_peak_mv"], abs=1e-3)


@pytest.mark.parametrize("tau", [3.0, 10.0])
def test_fluctuation_is_about_as_asked(tau):
    _, potential = simulate(60.0, threshold_mv=40.0, fluctuation_mv=3.0, fluctuation_tau_ms=tau)
    assert potential.soma_mv.std() == pytest.approx(3.0, rel=0.25)


def test_hard_negatives_move_the_membrane():
    quiet = {"fluctuation_mv": 0.0, "threshold_mv": 40.0}
    _, still = simulate(**quiet)
    assert np.ptp(still.soma_mv[1000:]) < 0.1
    _, epsps = simulate(**quiet, epsp_burst_rate_hz=1.0)
    assert 4 < np.ptp(epsps.soma_mv) < 30
    _, steps = simulate(**quiet, step_rate_hz=0.5)
    assert 3 < np.ptp(steps.soma_mv) < 24
    assert len(epsps.events) == len(steps.events) == 0


def test_seed_tells_all(usual):
    cell, potential = usual
    again = simulate_membrane_potential(60.0, RATE, cell, seed=5)
    assert np.array_equal(potential.soma_mv, again.soma_mv)
    assert np.array_equal(potential.events[["sample_index", "onset"]], again.events[["sample_index", "onset"]])
    other = simulate_membrane_potential(60.0, RATE, cell, seed=6)
    assert not np.array_equal(potential.spike_samples, other.spike_samples)


@pytest.mark.parametrize(("duration", "rate"), [(0.0, 2e4), (np.nan, 2e4), (1.0, 9e3), (1.0, np.inf)])
def test_simulation_refuses(duration, rate):
    cell = MembraneSettings().draw(np.random.default_rng(0))
    with pytest.raises(InputError, match=r"got (0.0|nan|9000.0|inf)"):
        simulate_membrane_potential(duration, rate, cell)
