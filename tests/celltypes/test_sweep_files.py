"""Current-clamp sweeps from ABF and NWB files."""

import datetime

import numpy as np
import pytest
from spikeinterface.extractors import read_axon
from sweep_helpers import RATE, currents, make_sweep, regular, write_abf1

from si_neuroml.celltypes.abf import read_abf
from si_neuroml.celltypes.icephys_nwb import read_icephys_nwb, sweeps_from_nwbfile
from si_neuroml.celltypes.sweep_recordings import sweeps_from_recording
from si_neuroml.errors import InputError

EPOCHS = ((1, 0.0, 0.0, 3719, 0), (1, -60.0, 60.0, 10_000, 0))


def abf_sweeps():
    return np.stack([make_sweep(a, regular(n)) for a, n in zip((-60, 0, 60, 120), (0, 0, 1, 4), strict=True)])


def test_abf_command_from_the_header(tmp_path):
    """18,000 samples: 281 at the holding level, then the epochs, so that the step begins at 0.2 s."""
    path = write_abf1(tmp_path / "cell.abf", abf_sweeps(), protocol={"epochs": EPOCHS, "holding": -15.0})
    cell = read_abf(path)
    assert cell.cell_id == "cell"
    np.testing.assert_allclose([s.onset_s for s in cell.stimulus], 0.2, atol=1e-9)
    np.testing.assert_allclose([s.offset_s for s in cell.stimulus], 0.7, atol=1e-9)
    # levels are those of the epochs, above the level of the first epoch
    np.testing.assert_allclose([s.amplitude_pa for s in cell.stimulus], [-60, 0, 60, 120], atol=1e-4)
    np.testing.assert_allclose(cell.voltage_mv, abf_sweeps(), atol=0.01)
    assert "no current was recorded" in cell.notes[0]
    # the same file through SpikeInterface
    again = sweeps_from_recording(read_axon(path), stimulus=cell.stimulus)
    np.testing.assert_allclose(again.voltage_mv, cell.voltage_mv, atol=1e-3)


def test_abf_recorded_current(tmp_path):
    recorded = np.stack(currents([-60, 0, 60, 120], noise=0.5))
    protocol = {"epochs": EPOCHS}
    cell = read_abf(write_abf1(tmp_path / "a.abf", abf_sweeps(), recorded, protocol=protocol))
    assert [s.source for s in cell.stimulus] == ["recorded"] * 4
    np.testing.assert_allclose([s.holding_pa for s in cell.stimulus], -20, atol=0.2)
    assert not cell.notes
    # a current in a channel that says mV: only when told, and checked against the command
    path = write_abf1(tmp_path / "b.abf", abf_sweeps(), recorded / 2000, units=("mV", "mV"), protocol=protocol)
    assert "'IN 1' in mV is no current" in read_abf(path).notes[0]
    told = read_abf(path, current_channel="IN 1", pa_per_unit=2000.0)
    np.testing.assert_allclose([s.amplitude_pa for s in told.stimulus], [-60, 0, 60, 120], atol=0.5)
    assert not told.notes
    assert len(read_abf(path, current_channel="IN 1", pa_per_unit=1000.0).notes) == 3
    with pytest.raises(InputError, match="pa_per_unit"):
        read_abf(path, current_channel="IN 1")
    with pytest.raises(InputError, match="no channel"):
        read_abf(path, current_channel="IN 9")


def test_abf_without_a_command_says_why(tmp_path):
    cases = {
        "no current": None,
        "file of its own": {"epochs": EPOCHS, "source": 2},
        "types [2]": {"epochs": (EPOCHS[0], (2, 0.0, 100.0, 10_000, 0))},
    }
    for k, (reason, protocol) in enumerate(cases.items()):
        cell = read_abf(write_abf1(tmp_path / f"{k}.abf", abf_sweeps(), protocol=protocol))
        for text in cell.refusals:
            assert text.startswith("no stimulus: ")
            assert reason in text
    with pytest.raises(InputError, match="voltage-clamp"):
        read_abf(write_abf1(tmp_path / "vc.abf", abf_sweeps(), units=("pA",)))
    with pytest.raises(InputError, match="not recorded in episodes"):
        read_abf(write_abf1(tmp_path / "free.abf", abf_sweeps(), mode=3))
    (tmp_path / "text.abf").write_text("no ABF")
    with pytest.raises(InputError, match="cannot be read as ABF"):
        read_abf(tmp_path / "text.abf")
    with pytest.raises(InputError, match="no file"):
        read_abf(tmp_path / "none.abf")


def make_nwb(amplitudes, *, table=None, numbers=None, rates=None, electrodes=None, stimuli=True):
    """An NWB file in memory; ``table``: which stimulus each response is paired with."""
    pynwb = pytest.importorskip("pynwb")
    from pynwb.icephys import CurrentClampSeries, CurrentClampStimulusSeries

    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    nwbfile = pynwb.NWBFile("test", "id", start, session_id="cell_3")
    device = nwbfile.create_device("amplifier")
    made = {}
    for name in electrodes or ["e0"] * len(amplitudes):
        if name not in made:
            made[name] = nwbfile.create_icephys_electrode(name=name, description="patch", device=device)
    responses, commands = [], []
    for k, amplitude in enumerate(amplitudes):
        rate = rates[k] if rates else RATE
        number = np.uint32(numbers[k]) if numbers else None
        common = {
            "electrode": made[electrodes[k] if electrodes else "e0"],
            "rate": rate,
            "starting_time": float(k),
            "stimulus_description": "Long Square" if k % 2 else "long square 500 ms",
        }
        voltage = make_sweep(amplitude, regular(3 if amplitude > 60 else 0), rate=rate) / 1e3
        responses.append(CurrentClampSeries(name=f"v{k:02d}", data=voltage, gain=1.0, sweep_number=number, **common))
        nwbfile.add_acquisition(responses[-1])
        command = currents([amplitude], rate=rate)[0]
        commands.append(
            CurrentClampStimulusSeries(
                name=f"i{k:02d}", data=command, conversion=1e-12, gain=1.0, sweep_number=number, **common
            )
        )
        if stimuli:
            nwbfile.add_stimulus(commands[-1])
    for k, stimulus in enumerate(table or []):
        nwbfile.add_intracellular_recording(
            electrode=responses[k].electrode, response=responses[k], stimulus=commands[stimulus]
        )
    return nwbfile


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nwb(tmp_path):
    from pynwb import NWBHDF5IO

    amplitudes = [-50, 0, 50, 100]
    with NWBHDF5IO(tmp_path / "cell.nwb", "w") as io:
        io.write(make_nwb(amplitudes, numbers=[3, 4, 5, 6]))
    cell = read_icephys_nwb(tmp_path / "cell.nwb")
    assert cell.cell_id == "cell_3"
    np.testing.assert_allclose([s.amplitude_pa for s in cell.stimulus], amplitudes, atol=1e-6)
    np.testing.assert_allclose([s.onset_s for s in cell.stimulus], 0.2)
    np.testing.assert_allclose(cell.voltage_mv[3], make_sweep(100, regular(3)), atol=1e-4)
    assert cell.usable.all()
    with pytest.raises(InputError, match="no file"):
        read_icephys_nwb(tmp_path / "other.nwb")
    (tmp_path / "text.nwb").write_text("text")
    with pytest.raises(InputError, match="not an HDF5"):
        read_icephys_nwb(tmp_path / "text.nwb")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nwb_pairs_and_refusals():
    amplitudes = [50, 100, 150]
    # the table counts before names
    crossed = sweeps_from_nwbfile(make_nwb(amplitudes, table=[2, 0, 1]))
    np.testing.assert_allclose([s.amplitude_pa for s in crossed.stimulus], [150, 50, 100], atol=1e-6)
    by_name = sweeps_from_nwbfile(make_nwb(amplitudes))
    np.testing.assert_allclose([s.amplitude_pa for s in by_name.stimulus], amplitudes, atol=1e-6)
    missing = sweeps_from_nwbfile(make_nwb(amplitudes, stimuli=False))
    assert all(reason.startswith("no stimulus") for reason in missing.refusals)
    rates = sweeps_from_nwbfile(make_nwb(amplitudes, rates=[RATE, 10_000.0, RATE]))
    assert [reason.split(":")[0] for reason in rates.refusals] == ["", "sampling rate", ""]
    two = make_nwb(amplitudes, electrodes=["e0", "e1", "e1"])
    with pytest.raises(InputError, match="several electrodes"):
        sweeps_from_nwbfile(two)
    assert len(sweeps_from_nwbfile(two, electrode="e1")) == 2
    with pytest.raises(InputError, match="no current-clamp sweeps of electrode 'e7'"):
        sweeps_from_nwbfile(two, electrode="e7")
    assert len(sweeps_from_nwbfile(make_nwb(amplitudes), protocol="500 MS")) == 2
    with pytest.raises(InputError, match="'ramp'"):
        sweeps_from_nwbfile(make_nwb(amplitudes), protocol="ramp")
