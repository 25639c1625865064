"""Odd traces, segments, shanks, channels and probes."""

import warnings

import numpy as np
import pytest
from helpers import (
    FAST_FIT,
    OUR_METHODS,
    assert_close,
    assert_same,
    fields,
    first_peaks,
    localize,
    numpy_recording,
    own_probe,
    short,
)

import si_neuroml
from si_neuroml.errors import ModelMismatchError, TrainingError
from si_neuroml.localization.settings import LOCATION_DTYPE


def test_a_channel_of_nan_counts_as_missing(recording, peaks, model):
    traces, dead = short(recording), 45
    traces[:, dead] = np.nan
    own = first_peaks(peaks)
    found = localize(numpy_recording(traces, recording), own, model)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    kept = own["channel_index"] != dead
    fewer = numpy_recording(short(recording), recording).remove_channels([dead])
    moved = own[kept].copy()
    moved["channel_index"] -= moved["channel_index"] > dead
    assert_same(localize(fewer, moved, model), found[kept])
    baseline = localize(numpy_recording(traces, recording), own, method="center_of_mass_nearest")
    assert np.isfinite(fields(baseline)).all()


def test_all_traces_nan(recording, peaks, model):
    broken = numpy_recording(np.full((16_000, 100), np.nan, dtype="float32"), recording)
    own = first_peaks(peaks)
    found = localize(broken, own, model)
    np.testing.assert_allclose(fields(found, "xy"), recording.get_channel_locations()[own["channel_index"]])
    with pytest.raises(TrainingError, match="constant or not finite"):
        si_neuroml.fit_localizer(broken, own, progress_bar=False)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_traces(recording, peaks, model, value):
    flat = numpy_recording(np.full((16_000, 100), value, dtype="float32"), recording)
    own = first_peaks(peaks)
    for given, method in ((model, "vae"), (None, "center_of_mass_nearest")):
        found = localize(flat, own, given, method=method)
        assert np.isfinite(fields(found)).all()
        if method == "vae" or value == 0:
            np.testing.assert_allclose(fields(found, "xy"), recording.get_channel_locations()[own["channel_index"]])
        if method == "vae":
            # nothing seen: no more is known than before
            assert (found["x_std"] == model.settings.location_prior_std_um).all()
    with pytest.raises(TrainingError, match=f"Only 0 of {len(own)} spikes have a trough"):
        si_neuroml.fit_localizer(flat, own, progress_bar=False)


def test_integers_with_gains_and_offsets(recording, peaks, model):
    microvolts, own = short(recording), first_peaks(peaks)
    gain, offset = 0.05, 37.0
    raw = np.round((microvolts - offset) / gain).astype("int16")
    integers = numpy_recording(raw, recording)
    integers.set_channel_gains(gain)
    integers.set_channel_offsets(offset)
    # the zeros that SpikeInterface adds beyond the ends are 0 uV, not the offset
    own = np.concatenate([own[:1], own, own[-1:]])
    own["sample_index"][[0, -1]] = 0, len(raw) - 1
    scaled = numpy_recording(raw.astype("float32") * np.float32(gain) + np.float32(offset), recording)
    original = numpy_recording(microvolts, recording)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = localize(integers, own, model)
    assert_close(found, localize(scaled, own, model), atol=1e-2)
    off = np.linalg.norm(fields(found, "xy") - fields(localize(original, own, model), "xy"), axis=1)
    assert np.median(off) < 0.1
    baseline = localize(integers, own, method="center_of_mass_nearest")
    assert_close(baseline, localize(original, own, method="center_of_mass_nearest"), atol=1.0)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float64", "float16", ">i2", ">f4"])
def test_any_dtype_of_traces(recording, peaks, model, dtype):
    shift = 32768.0 if dtype == "uint16" else 0.0
    steps, own = np.round(short(recording)), first_peaks(peaks)
    other = numpy_recording((steps + shift).astype(dtype), recording)
    other.set_channel_gains(1.0)
    other.set_channel_offsets(-shift)
    for method, given in (("vae", model), ("center_of_mass_nearest", None)):
        expected = localize(numpy_recording(steps, recording), own, given, method=method)
        assert_close(localize(other, own, given, method=method), expected, atol=1e-3)


def test_integers_without_gains_warn(recording, peaks, model):
    raw = numpy_recording(np.round(short(recording)).astype("int16"), recording)
    with pytest.warns(UserWarning, match="int16 without gains"):
        localize(raw, first_peaks(peaks), model)


def test_segments_equal_each_alone(recording, peaks, model):
    one, two = short(recording, 16_000), recording.get_traces(start_frame=32_000, end_frame=56_000)
    both = numpy_recording([one, two], recording)
    own = [first_peaks(peaks), peaks[(peaks["sample_index"] >= 32_000) & (peaks["sample_index"] < 56_000)].copy()]
    own[1]["sample_index"] -= 32_000
    joined = np.concatenate(own)
    joined["segment_index"][len(own[0]) :] = 1
    for method, given in (("vae", model), ("center_of_mass_nearest", None)):
        alone = [
            localize(numpy_recording(traces, recording), part, given, method=method)
            for traces, part in zip((one, two), own, strict=True)
        ]
        for job_kwargs in ({}, {"chunk_duration": "0.1s"}):
            assert_same(localize(both, joined, given, method=method, **job_kwargs), np.concatenate(alone))


@pytest.mark.parametrize("method", OUR_METHODS)
def test_shanks_do_not_see_each_other(recording, peaks, model, method):
    probe = own_probe(recording)
    second = probe.contact_positions[:, 0] > 0
    probe.set_shank_ids(np.where(second, "b", "a"))
    given = model if method == "vae" else None
    own = first_peaks(peaks)
    own = own[~second[own["channel_index"]]]
    quiet, loud = short(recording), short(recording)
    loud[:, second] += np.random.default_rng(0).normal(scale=300.0, size=loud[:, second].shape)
    one, two = (
        localize(numpy_recording(traces, recording, probe=probe), own, given, method=method) for traces in (quiet, loud)
    )
    assert_same(one, two)
    together = localize(numpy_recording(loud, recording), own, given, method=method)
    assert (together["x"] != one["x"]).any()


def test_string_channel_ids(recording, peaks, model, expected):
    renamed = recording.rename_channels([f"ch {index}" for index in range(100)])
    assert_same(localize(renamed, peaks, model), expected)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_order_of_channels_changes_nothing(recording, peaks, model, method):
    order = np.random.default_rng(0).permutation(100)
    shuffled = recording.select_channels(recording.channel_ids[order])
    moved = peaks.copy()
    moved["channel_index"] = np.argsort(order)[peaks["channel_index"]]
    given = model if method == "vae" else None
    found, before = localize(shuffled, moved, given, method=method), localize(recording, peaks, given, method=method)
    if method == "vae":
        assert_same(found, before)
    else:
        # ties between equally distant channels are cut by their order, so only full neighbourhoods must agree
        inside = np.abs(recording.get_channel_locations()[peaks["channel_index"]]).max(axis=1) < 60.0
        assert_close(found[inside], before[inside], atol=1e-6)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_places_move_with_the_probe(recording, peaks, model, method):
    shift = np.array([1234.5, -6789.25])
    probe = own_probe(recording)
    probe.move(shift)
    own, given = first_peaks(peaks), model if method == "vae" else None
    moved = localize(numpy_recording(short(recording), recording, probe=probe), own, given, method=method)
    still = localize(numpy_recording(short(recording), recording), own, given, method=method)
    np.testing.assert_allclose(fields(moved, "xy") - fields(still, "xy"), np.tile(shift, (len(own), 1)), atol=1e-3)
    np.testing.assert_array_equal(moved["z"], still["z"])


def test_removed_channels(recording, peaks, model, expected):
    gone = [0, 13, 44, 45, 99]
    fewer = recording.remove_channels(recording.channel_ids[gone])
    left = np.setdiff1d(np.arange(100), gone)
    kept = ~np.isin(peaks["channel_index"], gone)
    moved = peaks[kept].copy()
    moved["channel_index"] = np.searchsorted(left, moved["channel_index"])
    found = localize(fewer, moved, model)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    contacts = recording.get_channel_locations()
    reach = np.abs(contacts[peaks["channel_index"][kept]][:, None] - contacts[gone][None]).max(axis=2).min(axis=1)
    assert_same(found[reach > 20], expected[kept][reach > 20])


def test_probe_in_three_dimensions(recording, peaks, model, expected):
    own = first_peaks(peaks)
    flat = own_probe(recording).to_3d(axes="xy")
    flat.set_device_channel_indices(np.arange(100))
    found = localize(numpy_recording(short(recording), recording, probe=flat), own, model)
    assert_close(found, localize(numpy_recording(short(recording), recording), own, model), atol=1e-4)

    standing = own_probe(recording).to_3d(axes="xz")
    standing.set_device_channel_indices(np.arange(100))
    upright = numpy_recording(recording.get_traces(), recording, probe=standing)
    with pytest.raises(ModelMismatchError, match="Fit a model"):
        localize(upright, peaks, model)
    fitted = si_neuroml.fit_localizer(upright, peaks, progress_bar=False, **FAST_FIT)
    found = localize(upright, peaks, fitted)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    centre = standing.contact_positions[peaks["channel_index"]]
    assert np.median(np.linalg.norm(fields(found, "xz") - centre[:, [0, 2]], axis=1)) < 40.0


def test_irregular_probe_fits_and_localizes(recording, peaks):
    probe = own_probe(recording)
    probe.contact_positions[:] += np.random.default_rng(0).uniform(-4, 4, size=(100, 2))
    other = numpy_recording(recording.get_traces(), recording, probe=probe)
    fitted = si_neuroml.fit_localizer(other, peaks, progress_bar=False, **FAST_FIT)
    assert fitted.layout == "nearest"
    found = localize(other, peaks, fitted)
    assert np.isfinite(fields(found, LOCATION_DTYPE.names)).all()
    assert_same(localize(other, peaks, fitted, chunk_duration="0.1s"), found)
    with pytest.raises(ModelMismatchError, match="irregular probe"):
        localize(recording, peaks, fitted)
