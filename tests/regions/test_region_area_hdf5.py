"""Area-wise HDF5: what is in it, streaming, stopping at any moment, and datasets made from it."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from session_helpers import simulate_session

from si_neuroml.errors import InputError
from si_neuroml.regions import area_conversion, area_hdf5
from si_neuroml.regions.area_conversion import convert_to_area_hdf5
from si_neuroml.regions.area_hdf5 import JoinedSpikes, open_area_session, write_area_file
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.session import Session, UnitTemplates
from si_neuroml.regions.session_features import session_dataset

BLOCK = 97  # spikes, so that units and areas are cut many times


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.fixture(scope="module")
def sessions():
    return {f"s{k}": simulate_session(f"m{k}", seed=k, duration_s=30.0) for k in range(3)}


@pytest.fixture(scope="module")
def finished(sessions, tmp_path_factory):
    """The files of a conversion that nobody stopped."""
    folder = tmp_path_factory.mktemp("finished")
    table = convert_to_area_hdf5(sessions, folder, block_spikes=BLOCK)
    assert table["status"].tolist() == ["converted"] * 3
    return folder, table


def test_a_file_holds_every_spike_under_its_area(sessions, finished):
    folder, table = finished
    session = sessions["s1"]
    with h5py.File(folder / "s1.h5") as file:
        assert [name for name in file if "spikes" in file[name]] == ["CA1", "LP", "VISp2%2F3", "unlabelled"]
        for name in ("CA1", "LP", "VISp2%2F3", "unlabelled"):
            group = file[name]
            region = group.attrs["region"]
            rows = np.flatnonzero(session.units["region"] == region)
            np.testing.assert_array_equal(group["unit_ids"][:], rows + 100)
            for k, row in enumerate(rows):
                stored = group["spikes"][group["offsets"][k] : group["offsets"][k + 1]]
                np.testing.assert_array_equal(
                    stored, session.spike_times[session.offsets[row] : session.offsets[row + 1]]
                )
            assert group["offsets"][-1] == len(group["spikes"])
    assert table["spikes"].tolist() == [len(one.spike_times) for one in sessions.values()]
    assert table["units"].tolist() == [6, 6, 6]


def test_blocks_of_any_size_give_the_same_bytes(sessions, finished, tmp_path):
    convert_to_area_hdf5(sessions, tmp_path)
    assert files_of(tmp_path) == files_of(finished[0])


def test_finished_sessions_are_skipped_and_changed_ones_made_anew(sessions, finished, tmp_path):
    for name, content in files_of(finished[0]).items():
        (tmp_path / name).write_bytes(content)
    again = convert_to_area_hdf5(sessions, tmp_path, block_spikes=BLOCK)
    assert again["status"].tolist() == ["already there"] * 3
    assert again[["units", "areas", "spikes"]].equals(finished[1][["units", "areas", "spikes"]])
    changed = {**sessions, "s1": simulate_session("m1", seed=77, duration_s=30.0)}
    again = convert_to_area_hdf5(changed, tmp_path, block_spikes=BLOCK)
    assert again["status"].tolist() == ["already there", "converted", "already there"]


class Stop(BaseException):
    """What no ordinary handler catches."""


@pytest.mark.parametrize("moment", [0, 1, 2, 5, 11, 23, "close", "move"])
def test_a_conversion_stopped_anywhere_resumes_to_the_same_bytes(moment, sessions, finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        if moment == "move":
            original = os.replace

            def replace(source, target):
                if "s1.h5" in str(target):
                    raise Stop
                original(source, target)

            patch.setattr(os, "replace", replace)
        elif moment == "close":
            original = area_conversion.write_area_file

            def write(session, path, *arguments, **kwargs):
                result = original(session, path, *arguments, **kwargs)
                if "s1.h5" in str(path):
                    raise Stop
                return result

            patch.setattr(area_conversion, "write_area_file", write)
        else:
            original, seen = area_hdf5.spike_blocks, []

            def blocks(*arguments):
                for block in original(*arguments):
                    if len(seen) == moment:
                        raise Stop
                    seen.append(1)
                    yield block

            patch.setattr(area_hdf5, "spike_blocks", blocks)
        with pytest.raises(Stop):
            convert_to_area_hdf5(sessions, tmp_path, block_spikes=BLOCK)
    whole = files_of(finished[0])
    # whatever has its final name is complete
    assert all(whole[name] == content for name, content in files_of(tmp_path).items() if not name.startswith("."))
    convert_to_area_hdf5(sessions, tmp_path, block_spikes=BLOCK)
    assert files_of(tmp_path) == whole


@pytest.mark.skipif(sys.platform == "win32", reason="kills itself by signal")
def test_a_killed_process_leaves_nothing_half_written(sessions, finished, tmp_path):
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from session_helpers import simulate_session
        from si_neuroml.regions import area_hdf5
        from si_neuroml.regions.area_conversion import convert_to_area_hdf5

        sessions = {{f"s{{k}}": simulate_session(f"m{{k}}", seed=k, duration_s=30.0) for k in range(3)}}
        original, seen = area_hdf5.spike_blocks, []

        def blocks(*arguments):
            for block in original(*arguments):
                seen.append(1)
                if len(seen) == 25:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield block

        area_hdf5.spike_blocks = blocks
        convert_to_area_hdf5(sessions, {str(tmp_path)!r}, block_spikes={BLOCK})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole, left = files_of(finished[0]), files_of(tmp_path)
    drafts = [name for name in left if name.startswith(".")]
    assert len(drafts) == 1
    assert {name: left[name] for name in left if name not in drafts} == {"s0.h5": whole["s0.h5"]}
    table = convert_to_area_hdf5(sessions, tmp_path, block_spikes=BLOCK)
    assert table["status"].tolist() == ["already there", "converted", "converted"]
    # the draft of the killed process is gone too
    assert files_of(tmp_path) == whole


def test_a_dataset_from_files_equals_one_from_the_sessions(sessions, finished, tmp_path):
    dataset = RegionDataset.from_area_hdf5(finished[0], cache_folder=tmp_path)
    direct = RegionDataset.concatenate([session_dataset(one) for one in sessions.values()])
    order = direct.units.assign(region=direct.units["region"].where(direct.units["region"] != "", "unlabelled"))
    order = order.sort_values(["subject", "region"], kind="stable").index
    direct = direct.select(order.to_numpy())
    np.testing.assert_array_equal(dataset.features, direct.features)
    np.testing.assert_array_equal(dataset.psth, direct.psth)
    assert dataset.labels.tolist() == direct.labels.tolist()
    for name in ("subject", "recording", "unit_id", "shank", "lab", "depth_um", "snr", "isi_violations_ratio"):
        assert dataset.units[name].tolist() == direct.units[name].tolist()
    assert len(list(tmp_path.iterdir())) == 3
    again = RegionDataset.from_area_hdf5(finished[0], cache_folder=tmp_path)
    np.testing.assert_array_equal(again.features, dataset.features)


def test_the_cache_follows_file_and_settings(finished, tmp_path, monkeypatch):
    from si_neuroml.regions import dataset_sessions
    from si_neuroml.regions.psth import PsthSettings

    path = tmp_path / "s0.h5"
    path.write_bytes((finished[0] / "s0.h5").read_bytes())
    opened, original = [], dataset_sessions.open_area_session

    def open_session(*arguments, **kwargs):
        opened.append(1)
        return original(*arguments, **kwargs)

    monkeypatch.setattr(dataset_sessions, "open_area_session", open_session)
    cache = tmp_path / "cache"
    for _ in range(2):
        RegionDataset.from_area_hdf5(path, cache_folder=cache)
    assert len(opened) == 1
    short = RegionDataset.from_area_hdf5(path, cache_folder=cache, psth_settings=PsthSettings(window_s=(-0.5, 0.5)))
    assert short.psth.shape == (6, 40)
    assert len(opened) == 2
    os.utime(path, ns=(1, 1))
    RegionDataset.from_area_hdf5(path, cache_folder=cache)
    assert len(opened) == 3
    RegionDataset.from_area_hdf5(path, cache_folder=cache, onsets_s=np.array([10.0, 20.0]))
    assert len(opened) == 4


def test_features_of_waveforms_survive_as_columns(tmp_path):
    waveforms = np.random.default_rng(0).normal(size=(6, 30, 4)).astype("float32")
    places = np.column_stack([np.zeros(4), 20.0 * np.arange(4)])
    session = simulate_session(templates=UnitTemplates(waveforms, 30_000.0, places))
    convert_to_area_hdf5({"one": session}, tmp_path)
    dataset, direct = RegionDataset.from_area_hdf5(tmp_path / "one.h5"), session_dataset(session)
    assert dataset.feature_names == direct.feature_names
    places = [dataset.units["unit_id"].tolist().index(one) for one in direct.units["unit_id"]]
    np.testing.assert_array_equal(dataset.features[places], direct.features)
    assert not any(name.startswith("waveform_") for name in dataset.units)


def test_files_of_others_are_read(tmp_path):
    path = tmp_path / "session_7.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for area, counts in (("LGd", [40, 30]), ("VISp", [0, 50, 20])):
            group = file.create_group(area)
            group["spikes"] = np.concatenate([np.sort(rng.uniform(0, 60, n)) for n in counts])
            # the end of the last unit is left out
            group["offsets"] = np.concatenate([[0], np.cumsum(counts)])[:-1]
            group["unit_ids"] = np.arange(len(counts)) + (0 if area == "LGd" else 10)
    with pytest.raises(InputError, match="does not say which subject"):
        RegionDataset.from_area_hdf5(path)
    dataset = RegionDataset.from_area_hdf5(path, subject={"session_7.h5": "m9"}, onsets_s=np.array([20.0, 40.0]))
    assert dataset.labels.tolist() == ["LGd", "LGd", "VISp", "VISp", "VISp"]
    assert dataset.units["unit_id"].tolist() == [0, 1, 10, 11, 12]
    assert set(dataset.units["recording"]) == {"session_7"}
    counts = dataset.units["firing_rate"] / dataset.units["firing_rate"].iloc[0] * 40
    np.testing.assert_allclose(counts, [40, 30, 0, 50, 20])


def test_joined_spikes_read_like_one_array():
    parts = [np.arange(3.0), np.zeros(0), np.arange(3.0, 10.0)]
    joined, plain = JoinedSpikes(parts), np.arange(10.0)
    assert len(joined) == 10
    for start in range(11):
        for stop in range(start, 11):
            np.testing.assert_array_equal(joined[start:stop], plain[start:stop])
    assert [joined[k] for k in range(10)] == plain.tolist()


def test_what_cannot_be_converted_is_named(tmp_path, sessions):
    broken = simulate_session()
    times = broken.spike_times.copy()
    times[[5, 6]] = times[[6, 5]]
    broken = Session(broken.units, times, broken.offsets, 60.0)
    with pytest.warns(UserWarning, match="bad was not converted: .*unit number 0 are not in time order"):
        table = convert_to_area_hdf5({"bad": broken, "s0": sessions["s0"]}, tmp_path, on_error="warn")
    assert table["status"].tolist() == ["failed", "converted"]
    assert "time order" in table["message"][0]
    assert [path.name for path in tmp_path.iterdir()] == ["s0.h5"]
    with pytest.raises(InputError, match="time order"):
        convert_to_area_hdf5({"bad": broken}, tmp_path)
    two = Session(
        sessions["s0"].units.assign(subject=["a", "b"] * 3), sessions["s0"].spike_times, sessions["s0"].offsets, 30.0
    )
    with pytest.raises(InputError, match=r"units are of 2 subjects: \['a', 'b'\]"):
        write_area_file(two, tmp_path / "two.h5")
    with pytest.raises(InputError, match="1 names appear twice"):
        convert_to_area_hdf5(["a/one.nwb", "b/one.nwb"], tmp_path)
    with pytest.raises(InputError, match="1 of 1 files do not exist"):
        convert_to_area_hdf5(tmp_path / "none.nwb", tmp_path)
    with h5py.File(tmp_path / "s1.h5", "w") as file:
        file["precious"] = 1
    with pytest.raises(InputError, match="was not made by this conversion"):
        convert_to_area_hdf5({"s1": sessions["s1"]}, tmp_path)
    with pytest.raises(InputError, match="no group with a dataset 'spikes'"), open_area_session(tmp_path / "s1.h5"):
        pass
    (tmp_path / "s2.h5").write_bytes(b"text")
    with pytest.raises(InputError, match="no HDF5 file, or is damaged"):
        convert_to_area_hdf5({"s2": sessions["s2"]}, tmp_path)
    with pytest.raises(InputError, match="no file that ends in .h5"):
        RegionDataset.from_area_hdf5(tmp_path.parent / tmp_path.name / "..", subject="m1")
