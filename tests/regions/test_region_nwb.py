"""NWB files of the Allen and IBL layouts, and others: regions, depths, events, subjects, datasets."""

from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from session_helpers import simulate_trains

pytest.importorskip("pynwb")

from pynwb import NWBHDF5IO, NWBFile
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject

from si_neuroml.errors import InputError
from si_neuroml.regions.area_conversion import convert_to_area_hdf5
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.nwb import open_nwb_session, read_nwb_session
from si_neuroml.regions.nwb_events import event_onsets
from si_neuroml.regions.session_features import unit_features
from si_neuroml.regions.waveform_features import waveform_features

AREAS = ("VISp", "VISp", "CA1", "LP", "LP", "")  # of the electrodes, from the tip
ON_ELECTRODE = (0, 2, 3, 5, 4)  # of the units
TRAINS = simulate_trains(["VISp", "CA1", "LP", "", "LP"], onsets_s=np.arange(4.0, 116.0, 4.0), seed=5)
CHANGES = np.arange(4.0, 116.0, 4.0)


def new_file(subject="m1", session_id="s1"):
    nwbfile = NWBFile(
        session_description="test",
        identifier=f"id-{session_id}",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        session_id=session_id,
        lab="north",
        subject=None if subject is None else Subject(subject_id=subject, species="Mus musculus", sex="U", age="P90D"),
    )
    device = nwbfile.create_device("probe")
    return nwbfile, [
        nwbfile.create_electrode_group(name, "probe", location, device)
        for name, location in (("probeA", "See electrode locations"), ("probeB", "target"))
    ]


def write(nwbfile, path):
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def train(unit):
    return TRAINS[0][TRAINS[1][unit] : TRAINS[1][unit + 1]]


def allen_file(**kwargs):
    nwbfile, groups = new_file(**kwargs)
    nwbfile.add_electrode_column("probe_vertical_position", "um")
    nwbfile.add_electrode_column("probe_horizontal_position", "um")
    for k, area in enumerate(AREAS):
        nwbfile.add_electrode(
            id=850_000 + 7 * k, location=area or "nan", group=groups[k // 3], group_name=groups[k // 3].name,
            probe_vertical_position=float("nan") if k == 4 else 100.0 * k, probe_horizontal_position=0.0,
        )  # fmt: skip
    for name in ("peak_channel_id", "snr", "isi_violations", "waveform_duration", "amplitude", "spread", "quality"):
        nwbfile.add_unit_column(name, name)
    for unit, electrode in enumerate(ON_ELECTRODE):
        nwbfile.add_unit(
            id=950_000 + unit, spike_times=train(unit), peak_channel_id=850_000 + 7 * electrode, snr=1.0 + unit,
            isi_violations=0.004 * unit, waveform_duration=0.1 * unit, amplitude=80.0, spread=60.0, quality="good",
        )  # fmt: skip
    images = TimeIntervals(name="Natural_Images_presentations", description="images")
    for name in ("is_change", "active", "image_name"):
        images.add_column(name, name)
    flashes = np.concatenate([CHANGES, CHANGES + 0.75])
    for k, start in enumerate(flashes):
        images.add_row(
            start_time=start, stop_time=start + 0.25, is_change=start in CHANGES, active=k % 2 == 0,
            image_name=f"im{k % 3}",
        )  # fmt: skip
    spontaneous = TimeIntervals(name="spontaneous_presentations", description="nothing shown")
    spontaneous.add_row(start_time=0.0, stop_time=3.0)
    gratings = TimeIntervals(name="gratings_presentations", description="gratings")
    gratings.add_row(start_time=117.0, stop_time=117.5)
    for table in (images, spontaneous, gratings):
        nwbfile.add_time_intervals(table)
    return nwbfile


def ibl_file(**kwargs):
    nwbfile, groups = new_file(**kwargs)
    for name in ("beryl_location", "cosmos_location"):
        nwbfile.add_electrode_column(name, name)
    cosmos = {"VISp": "Isocortex", "CA1": "HPF", "LP": "TH", "": "root"}
    for k, area in enumerate(AREAS):
        nwbfile.add_electrode(
            location=area.replace("VISp", "VISp5") or "void", beryl_location=area or "root",
            cosmos_location=cosmos[area], group=groups[0], group_name="probeA", rel_x=16.0 * (k % 2), rel_y=20.0 * k,
        )  # fmt: skip
    nwbfile.add_unit_column("max_electrode", "row of the electrodes")
    nwbfile.add_unit_column("distance_from_probe_tip_um", "um")
    nwbfile.add_unit_column("isi_violations_ratio", "ratio")
    for unit, electrode in enumerate(ON_ELECTRODE):
        near = sorted(range(6), key=lambda k, own=electrode: abs(k - own))[:3]
        nwbfile.add_unit(
            spike_times=train(unit), max_electrode=electrode, distance_from_probe_tip_um=20.0 * electrode + 5.0,
            isi_violations_ratio=0.5, electrodes=near, waveform_mean=waveform(unit),
        )  # fmt: skip
    nwbfile.units.waveform_rate = 30_000.0
    nwbfile.add_trial_column("gabor_stimulus_onset_time", "s")
    nwbfile.add_trial_column("gabor_stimulus_contrast", "percent")
    for k, onset in enumerate(CHANGES):
        nwbfile.add_trial(
            start_time=onset - 0.5, stop_time=onset + 2.0, gabor_stimulus_onset_time=np.nan if k == 2 else onset,
            gabor_stimulus_contrast=100.0 if k % 2 else 25.0,
        )  # fmt: skip
    return nwbfile


def waveform(unit):
    """82 samples x 3 channels in uV, largest on the first."""
    time = np.arange(82.0)
    shape = -np.exp(-(((time - 41) / 4) ** 2)) + 0.4 * np.exp(-(((time - 55 - unit) / 8) ** 2))
    return (100.0 + 10 * unit) * shape[:, None] * np.array([1.0, 0.5, 0.25])


@pytest.fixture(scope="module")
def allen(tmp_path_factory):
    return write(allen_file(), tmp_path_factory.mktemp("allen") / "session_1.nwb")


@pytest.fixture(scope="module")
def ibl(tmp_path_factory):
    return write(ibl_file(subject="m2", session_id="eid"), tmp_path_factory.mktemp("ibl") / "ibl.nwb")


def test_the_allen_layout(allen):
    with open_nwb_session(allen, where={"is_change": True, "active": True}) as session:
        units = session.units
        assert isinstance(session.spike_times, h5py.Dataset)
        np.testing.assert_array_equal(session.spike_times[:], TRAINS[0])
        np.testing.assert_array_equal(session.offsets, TRAINS[1])
        assert session.duration_s == pytest.approx(TRAINS[0].max() - TRAINS[0].min())
        # every second flash is active, changes come first
        np.testing.assert_allclose(session.onsets_s, CHANGES[::2])
    assert units["region"].tolist() == [AREAS[k] for k in ON_ELECTRODE]
    np.testing.assert_array_equal(units["depth_um"], [0.0, 200.0, 300.0, 500.0, np.nan])
    assert units["shank"].tolist() == ["probeA", "probeA", "probeB", "probeB", "probeB"]
    assert units["subject"].unique().tolist() == ["m1"]
    assert units["recording"].unique().tolist() == ["s1"]
    assert units["lab"].unique().tolist() == ["north"]
    np.testing.assert_allclose(units["isi_violations_ratio"], 0.004 * np.arange(5))
    assert units["unit_id"].tolist() == [950_000 + k for k in range(5)]


def test_the_ibl_layout(ibl):
    with pytest.warns(UserWarning, match="1 of 28 events have no onset"), open_nwb_session(ibl) as session:
        acronyms, onsets = session.units, session.onsets_s
    np.testing.assert_allclose(onsets, np.delete(CHANGES, 2))
    assert acronyms["region"].tolist() == ["VISp5", "CA1", "LP", "", "LP"]
    assert acronyms["beryl"].tolist() == ["VISp", "CA1", "LP", "", "LP"]
    np.testing.assert_allclose(acronyms["depth_um"], 20.0 * np.array(ON_ELECTRODE) + 5.0)
    with open_nwb_session(ibl, region="cosmos", where={"gabor_stimulus_contrast": [100, 50]}) as session:
        assert session.units["region"].tolist() == ["Isocortex", "HPF", "TH", "", "TH"]
        np.testing.assert_allclose(session.onsets_s, CHANGES[1::2])
        templates = session.templates
    assert templates.sampling_frequency == 30_000.0
    np.testing.assert_allclose(templates.templates[2], waveform(2), rtol=1e-6)
    np.testing.assert_allclose(templates.locations[0], [[0, 0], [16, 20], [0, 40]])


def test_datasets_hold_the_features_of_the_trains(allen, ibl, tmp_path):
    where = {"is_change": True, "active": True}
    dataset = RegionDataset.from_nwb(allen, where=where, cache_folder=tmp_path / "cache")
    features, names, psth, edges = unit_features(*TRAINS, CHANGES[::2])
    own = [dataset.feature_names.index(name) for name in names]
    kept = [k for k, name in enumerate(names) if not name.startswith("rate_")]
    np.testing.assert_array_equal(dataset.features[:, own][:, kept], features[:, kept])
    np.testing.assert_array_equal(dataset.psth, psth)
    np.testing.assert_array_equal(dataset.bin_edges_s, edges)
    # what Allen files say of waveforms stands for the waveforms themselves
    width = dataset.features[:, dataset.feature_names.index("waveform_width_ms")]
    np.testing.assert_allclose(width, 0.1 * np.arange(5), rtol=1e-6)
    both = RegionDataset.concatenate([dataset, RegionDataset.from_nwb(ibl, stimulus=None)])
    assert np.isnan(both.psth[5:]).all()
    measured = both.features[5:, both.feature_names.index("waveform_width_ms")]
    for unit in range(5):
        expected = waveform_features(waveform(unit)[None], np.zeros((3, 2)), 30_000.0)[0][0, 0]
        assert measured[unit] == pytest.approx(expected, rel=1e-5)
    assert both.filter_quality(missing="ignore").units["subject"].unique().tolist() == ["m1"]
    again = RegionDataset.from_nwb(allen, where=where, cache_folder=tmp_path / "cache")
    np.testing.assert_array_equal(again.features, dataset.features)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_conversion_keeps_what_the_file_says(allen, ibl, tmp_path):
    table = convert_to_area_hdf5([allen, ibl], tmp_path, stimulus=None)
    assert table["spikes"].tolist() == [len(TRAINS[0])] * 2
    assert convert_to_area_hdf5([allen, ibl], tmp_path, stimulus=None)["status"].tolist() == ["already there"] * 2
    dataset = RegionDataset.from_area_hdf5(tmp_path)
    direct = RegionDataset.from_nwb([allen, ibl], stimulus=None)
    keys = [list(zip(one.units["recording"], one.units["unit_id"], strict=True)) for one in (dataset, direct)]
    direct = direct.select([keys[1].index(key) for key in keys[0]])
    columns = ["subject", "region", "depth_um", "shank", "lab", "firing_rate", "beryl"]
    assert dataset.units[columns].fillna(-1).equals(direct.units[columns].fillna(-1))
    assert dataset.feature_names == direct.feature_names
    np.testing.assert_array_equal(dataset.features, direct.features)


def test_where_regions_come_from():
    def with_units(columns, groups=False, **electrode_columns):
        nwbfile, found = new_file()
        for k, area in enumerate(AREAS):
            nwbfile.add_electrode(location=area or "nan", group=found[k // 3], rel_y=10.0 * k, **electrode_columns)
        for name in columns:
            if name not in ("electrodes", "waveform_mean", "electrode_group"):
                nwbfile.add_unit_column(name, name)
        for unit in range(5):
            values = {name: value[unit] for name, value in columns.items()}
            nwbfile.add_unit(spike_times=train(unit), **values)
        return read_nwb_session(nwbfile, stimulus=None).units

    # the column of the units comes before that of the electrodes
    units = with_units({"brain_area": ["a", "b", "", "root", "c"], "peak_channel_id": [0, 1, 2, 3, 4]})
    assert units["region"].tolist() == ["a", "b", "", "", "c"]
    # one that is empty throughout does not
    units = with_units({"brain_area": [""] * 5, "peak_channel_id": [0, 1, 2, 3, 4]})
    assert units["region"].tolist() == list(AREAS[:5])
    # an electrode that does not exist is none
    with pytest.warns(UserWarning, match="2 of 5 units .* refer to no electrode"):
        units = with_units({"max_electrode": [0, -1, 99, 3, 4]})
    assert units["region"].tolist() == ["VISp", "", "", "LP", "LP"]
    np.testing.assert_array_equal(units["depth_um"], [0, np.nan, np.nan, 30, 40])
    assert units["shank"].tolist() == ["probeA", "", "", "probeB", "probeB"]
    # references: the first, or the one with the largest waveform
    references = [[0, 2], [2, 3], [3, 0], [5, 4], [4, 2]]
    units = with_units({"electrodes": references})
    assert units["region"].tolist() == ["VISp", "CA1", "LP", "", "LP"]
    second = np.stack([np.zeros(10), np.sin(np.arange(10))], axis=1)
    units = with_units({"electrodes": references, "waveform_mean": [second] * 5})
    assert units["region"].tolist() == ["CA1", "LP", "VISp", "LP", "CA1"]


def test_the_group_comes_last_and_placeholders_are_no_regions():
    nwbfile, groups = new_file()
    for unit in range(5):
        nwbfile.add_unit(spike_times=train(unit), electrode_group=groups[unit % 2])
    units = read_nwb_session(nwbfile, stimulus=None).units
    assert units["region"].tolist() == ["", "target", "", "target", ""]
    assert units["shank"].tolist() == ["probeA", "probeB", "probeA", "probeB", "probeA"]
    assert units["depth_um"].isna().all()


def test_events_are_chosen_or_asked_for():
    nwbfile = allen_file()
    with pytest.raises(InputError, match="2 tables may hold the events.*Natural_Images_presentations"):
        event_onsets(nwbfile)
    np.testing.assert_allclose(event_onsets(nwbfile, "gratings"), [117.0])
    np.testing.assert_allclose(event_onsets(nwbfile, "gratings_presentations", onset="stop_time"), [117.5])
    assert len(event_onsets(nwbfile, "all")) == 2 * len(CHANGES) + 1
    np.testing.assert_allclose(event_onsets(nwbfile, where={"is_change": True}), CHANGES)
    for yes in (1, 1.0, "True", np.bool_(True), [True]):
        np.testing.assert_allclose(event_onsets(nwbfile, where={"is_change": yes}), CHANGES)
    assert len(event_onsets(nwbfile, where={"image_name": ["im0", "im1"]})) > len(CHANGES)
    assert event_onsets(nwbfile, None) is None
    with pytest.raises(InputError, match=r"No event is left .*: 0 rows match \{'image_name': 'im9'\}"):
        event_onsets(nwbfile, where={"image_name": "im9"})
    with pytest.raises(InputError, match=r"has the columns \['colour'\]"):
        event_onsets(nwbfile, where={"colour": 1})
    with pytest.raises(InputError, match="no interval table 'movies'. There are Natural_Images_presentations"):
        event_onsets(nwbfile, "movies")
    with pytest.raises(InputError, match="no column 'light'"):
        event_onsets(nwbfile, "gratings", onset="light")
    empty, _ = new_file()
    assert event_onsets(empty) is None
    with pytest.raises(InputError, match="There are no interval tables"):
        event_onsets(empty, "trials")


def test_what_is_missing_is_named(tmp_path):
    nwbfile = allen_file(subject=None)
    with pytest.raises(InputError, match="x.nwb does not say which subject"):
        read_nwb_session(nwbfile, name="x.nwb", stimulus=None)
    assert read_nwb_session(nwbfile, subject="m7", stimulus=None).units["subject"].unique().tolist() == ["m7"]
    with pytest.raises(InputError, match="no region at the level 'cosmos': .*cosmos_location"):
        read_nwb_session(allen_file(), region="cosmos", stimulus=None)
    assert set(read_nwb_session(allen_file(), region=None, stimulus=None).units["region"]) == {""}
    assert read_nwb_session(allen_file(), region="quality", stimulus=None).units["region"].unique().tolist() == ["good"]
    with pytest.raises(InputError, match="no column 'colour'"):
        read_nwb_session(allen_file(), extra_columns=["colour"], stimulus=None)
    assert "quality" in read_nwb_session(allen_file(), extra_columns=["quality"], stimulus=None).units
    empty, _ = new_file()
    with pytest.raises(InputError, match="has no units"):
        read_nwb_session(empty)
    empty.add_unit_column("snr", "snr")
    empty.add_unit(snr=1.0)
    with pytest.raises(InputError, match="have no spike_times"):
        read_nwb_session(empty, region=None)
    (tmp_path / "text.nwb").write_text("no HDF5")
    with pytest.raises(InputError, match="not an HDF5 file"), open_nwb_session(tmp_path / "text.nwb"):
        pass
    with h5py.File(tmp_path / "bare.nwb", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="cannot be read as NWB"), open_nwb_session(tmp_path / "bare.nwb"):
        pass
    with pytest.raises(InputError, match="no file"):
        RegionDataset.from_nwb(tmp_path / "none.nwb")


def test_one_bad_file_need_not_lose_the_others(allen, tmp_path):
    bad = tmp_path / "bad.nwb"
    bad.write_text("no HDF5")
    with pytest.warns(UserWarning, match="bad.nwb is left out"):
        dataset = RegionDataset.from_nwb([bad, allen], stimulus=None, on_error="warn")
    assert len(dataset) == 5
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="None of the files"):
        RegionDataset.from_nwb([bad], on_error="warn")
    # the same units of a session that was added twice are found
    twice = tmp_path / "copy.nwb"
    twice.write_bytes(allen.read_bytes())
    with pytest.raises(InputError, match="5 units appear twice"):
        RegionDataset.from_nwb([allen, twice], stimulus=None)
    named = RegionDataset.from_nwb([allen], subject={"session_1.nwb": "other"}, stimulus=None)
    assert named.units["subject"].unique().tolist() == ["other"]
    with pytest.raises(InputError, match="names no subject of 'session_1.nwb'"):
        RegionDataset.from_nwb([allen], subject={"copy.nwb": "other"}, stimulus=None)
