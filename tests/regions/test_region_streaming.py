"""A session from disk equals the same in memory, whatever the blocks and the threads."""

import warnings

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.regions.psth import PsthSettings, count_psth, normalise_psth
from si_neuroml.regions.psth_features import psth_features
from si_neuroml.regions.spike_train_features import spike_train_features
from si_neuroml.regions.streaming import region_arrays

RATE = 30_000


def make_session(seed=0, seconds=200.0, sizes=(0, 3000, 1, 9000, 40, 0)):
    rng = np.random.default_rng(seed)
    samples = [np.sort(rng.integers(0, int(seconds * RATE), size)) for size in sizes]
    onsets = np.sort(rng.integers(2 * RATE, int((seconds - 2) * RATE), 30)) / RATE
    return np.concatenate(samples), np.cumsum([0, *sizes]), onsets[np.r_[True, np.diff(onsets) > 2.6]]


SAMPLES, OFFSETS, ONSETS = make_session()
TIMES = SAMPLES / RATE


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("session") / "session.h5"
    with h5py.File(path, "w") as written:
        written.create_dataset("spikes", data=TIMES, chunks=(1000,), compression="gzip")
        written.create_dataset("samples", data=SAMPLES)
        written.create_dataset("offsets", data=OFFSETS)
    return path


class Watched:
    """An array that remembers the longest slice that was read of it."""

    def __init__(self, values):
        self.values, self.longest = values, 0

    def __len__(self):
        return len(self.values)

    def __getitem__(self, part):
        found = self.values[part]
        self.longest = max(self.longest, len(found))
        return found


def assert_same(one, two):
    assert one.feature_names == two.feature_names
    for name in ("features", "psth", "psth_counts", "bin_edges_s"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


@pytest.mark.parametrize(("block_spikes", "num_threads"), [(100, 1), (4096, 2), (10**6, 2)])
def test_from_hdf5_as_in_memory(file, block_spikes, num_threads):
    expected = region_arrays(TIMES, OFFSETS, ONSETS, num_threads=1)
    with h5py.File(file) as read:
        options = {"block_spikes": block_spikes, "num_threads": num_threads}
        assert_same(region_arrays(read["spikes"], read["offsets"][:], ONSETS, **options), expected)
        # integer samples go through the same division that made the times
        found = region_arrays(read["samples"], read["offsets"][:], ONSETS, sampling_frequency=RATE, **options)
        assert_same(found, expected)


@given(block_spikes=st.integers(1, 400), num_threads=st.integers(1, 2), seed=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_any_block_size_gives_the_same_bits(block_spikes, num_threads, seed):
    samples, offsets, onsets = make_session(seed, 60.0, (150, 0, 1, 200, 30))
    boundaries = np.array([31.0, 45.5])
    with warnings.catch_warnings():
        # few onsets may follow each other closely
        warnings.simplefilter("ignore")
        expected = region_arrays(samples / RATE, offsets, onsets, boundaries_s=boundaries, num_threads=1)
        found = region_arrays(
            *(samples / RATE, offsets, onsets),
            boundaries_s=boundaries,
            block_spikes=block_spikes,
            num_threads=num_threads,
        )
    assert_same(found, expected)


def test_is_the_sum_of_its_parts():
    found = region_arrays(TIMES, OFFSETS, ONSETS, duration_s=200.0, num_threads=1)
    counts = count_psth(TIMES, OFFSETS, ONSETS)
    np.testing.assert_array_equal(found.psth_counts, counts)
    np.testing.assert_array_equal(found.psth, normalise_psth(counts, len(ONSETS)))
    of_psth, psth_names = psth_features(counts, len(ONSETS))
    of_trains, train_names = spike_train_features(TIMES, OFFSETS, duration_s=200.0)
    assert found.feature_names == psth_names + train_names
    np.testing.assert_array_equal(found.features, np.concatenate([of_psth, of_trains], axis=1))
    np.testing.assert_array_equal(found.bin_edges_s, PsthSettings().bin_edges_s)
    assert found.psth.dtype == found.features.dtype == np.float32


def test_a_planted_response_is_found():
    rng = np.random.default_rng(4)
    onsets = 5.0 + 4.0 * np.arange(200)
    # 10 spikes per second all the time, one more spike 110 ms after most events
    train = np.sort(np.r_[rng.uniform(0, 810, 8100), onsets[:150] + rng.normal(0.1125, 0.003, 150)])
    found = region_arrays(train, [0, len(train)], onsets)
    features = dict(zip(found.feature_names, found.features[0], strict=True))
    assert features["psth_peak_time_s"] == pytest.approx(0.1125)
    assert features["psth_latency_s"] == pytest.approx(0.1125)
    assert features["psth_half_width_s"] == pytest.approx(0.025)
    assert features["psth_peak_z"] > 10
    assert features["psth_mean_rate_hz"] == pytest.approx(10.3, abs=0.5)


def test_reads_no_more_than_a_block_at_a_time():
    watched = Watched(TIMES)
    assert_same(region_arrays(watched, OFFSETS, ONSETS, block_spikes=512), region_arrays(TIMES, OFFSETS, ONSETS))
    assert watched.longest == 512


def test_part_of_the_units():
    whole = region_arrays(TIMES, OFFSETS, ONSETS, duration_s=200.0)
    part = region_arrays(TIMES, OFFSETS[1:5], ONSETS, duration_s=200.0, block_spikes=777)
    np.testing.assert_array_equal(part.features, whole.features[1:4])
    np.testing.assert_array_equal(part.psth, whole.psth[1:4])


@pytest.mark.parametrize("onsets", [None, []])
def test_without_events(onsets):
    found = region_arrays(TIMES, OFFSETS, onsets)
    assert found.psth is found.bin_edges_s is found.psth_counts is None
    np.testing.assert_array_equal(found.features, spike_train_features(TIMES, OFFSETS)[0])


def test_without_spikes_or_units():
    found = region_arrays(np.empty(0), [0, 0, 0], [5.0])
    np.testing.assert_array_equal(found.psth, np.zeros((2, 100)))
    assert region_arrays(np.empty(0), [0], [5.0]).features.shape == (0, len(found.feature_names))


def test_overlapping_windows_are_warned_of_and_end_the_response():
    onsets = np.arange(5, 190, 0.75)
    with pytest.warns(UserWarning, match="Windows overlap.*0.75 s"):
        found = region_arrays(TIMES, OFFSETS, onsets)
    features = dict(zip(found.feature_names, found.features.T, strict=True))
    assert np.nanmax(features["psth_peak_time_s"]) < 0.75
    assert np.isnan(features["psth_sustained_ratio"]).all()


def test_another_clock_is_warned_of():
    with pytest.warns(UserWarning, match="same clock"):
        region_arrays(TIMES, OFFSETS, [1e6])


def test_refuses_what_cannot_be():
    wrong = TIMES.copy()
    wrong[5000] = np.nan
    with pytest.raises(InputError, match="Unit number 3 has a spike at nan"):
        region_arrays(wrong, OFFSETS, ONSETS, block_spikes=300, num_threads=2)
    wrong[5000] = 0.0
    with pytest.raises(InputError, match="unit number 3 are not in time order"):
        region_arrays(wrong, OFFSETS, ONSETS, block_spikes=64, num_threads=2)
    with pytest.raises(InputError, match="block_spikes"):
        region_arrays(TIMES, OFFSETS, block_spikes=0)
    with pytest.raises(InputError, match="sampling_frequency"):
        region_arrays(SAMPLES, OFFSETS, sampling_frequency=np.nan)
    with pytest.raises(InputError, match="at most the 12041 spikes"):
        region_arrays(TIMES, OFFSETS + 1, ONSETS)
