"""Bad input is refused with a message that says what was wrong."""

import pytest
import spikeinterface.full as si
from helpers import OUR_METHODS, assert_close, assert_same, first_peaks, localize, numpy_recording, own_probe, short

import si_neuroml
from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError


@pytest.mark.parametrize("method", OUR_METHODS)
def test_no_probe(recording, peaks, model, method):
    bare = si.NumpyRecording([short(recording)], recording.sampling_frequency)
    with pytest.raises(InputError, match="100 channels has no probe.*set_probe"):
        localize(bare, first_peaks(peaks), model if method == "vae" else None, method=method)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_one_channel(recording, peaks, model, method):
    one = recording.select_channels(recording.channel_ids[:1])
    with pytest.raises(InputError, match="at least 2 contacts, this recording has 1|only 1 contacts"):
        localize(one, peaks[peaks["channel_index"] == 0], model if method == "vae" else None, method=method)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_no_peaks(recording, peaks, model, method):
    with pytest.raises(InputError, match="no peaks to localize"):
        localize(recording, peaks[:0], model if method == "vae" else None, method=method)


def test_too_few_peaks_to_fit(recording, peaks):
    for few in (peaks[:1], peaks[:49]):
        with pytest.raises(InputError, match=f"at least 50 spikes, got {len(few)}"):
            si_neuroml.fit_localizer(recording, few, progress_bar=False)
        with pytest.raises(InputError, match="at least 50 spikes"), pytest.warns(UserWarning, match="no model"):
            localize(recording, few)


def changed(peaks, **values):
    found = peaks.copy()
    for name, value in values.items():
        found[name][3] = value
    return found


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sample_index": 10**9}, "1 of .* peaks lie outside their segment .*sample 1000000000 in segment 0"),
        ({"sample_index": -1}, "1 of .* peaks lie outside their segment .*sample -1 in segment 0"),
        ({"channel_index": 100}, r"1 of .* peaks have a channel_index outside 0\.\.99 .*100 channels.*example 100"),
        ({"channel_index": -1}, r"channel_index outside 0\.\.99.*example -1"),
        ({"segment_index": 1}, r"segment_index outside 0\.\.0"),
    ],
)
def test_peaks_of_another_recording(recording, peaks, model, values, message):
    for method in OUR_METHODS:
        with pytest.raises(InputError, match=message):
            localize(recording, changed(peaks, **values), model if method == "vae" else None, method=method)
    with pytest.raises(InputError, match=message):
        si_neuroml.fit_localizer(recording, changed(peaks, **values), progress_bar=False)


def test_unsorted_peaks(recording, peaks, model):
    with pytest.raises(InputError, match="must be sorted by segment and sample; .*lexsort"):
        localize(recording, peaks[::-1], model)


@pytest.mark.parametrize("method", OUR_METHODS)
def test_peaks_that_are_no_peaks(recording, peaks, model, method):
    given = model if method == "vae" else None
    with pytest.raises(InputError, match="structured array as detect_peaks"):
        localize(recording, peaks["sample_index"], given, method=method)
    with pytest.raises(InputError, match=r"fields \['channel_index'\] are missing"):
        localize(recording, peaks[["sample_index", "segment_index"]], given, method=method)


def test_wrong_sampling_rate(recording, peaks, model):
    other = numpy_recording(short(recording), recording, sampling_frequency=30_000.0)
    with pytest.raises(ModelMismatchError, match="fitted at 32000 Hz, this recording has 30000 Hz.*[Rr]esample"):
        localize(other, first_peaks(peaks), model)


def test_wrong_window(recording, peaks, model, expected):
    assert_same(localize(recording, peaks, model, method_kwargs={"ms_before": 0.5, "ms_after": 0.7}), expected)
    with pytest.raises(ModelMismatchError, match=r"ms_before=0\.5 ms, asked for 1 ms"):
        localize(recording, peaks, model, method_kwargs={"ms_before": 1.0})


@pytest.mark.parametrize("factor", [0.5, 1.2, 1.5, 2.0])
def test_another_probe_pitch(recording, peaks, model, factor):
    probe = own_probe(recording)
    probe.contact_positions[:] *= factor
    other = numpy_recording(short(recording), recording, probe=probe)
    with pytest.raises(ModelMismatchError, match="Fit a model|fit a model"):
        localize(other, first_peaks(peaks), model)


def test_device(recording, peaks, model, expected):
    import torch

    with pytest.raises(InputError, match='device must be "auto", "cpu" or "cuda", got \'gpu\''):
        localize(recording, peaks, model, method_kwargs={"device": "gpu"})
    if torch.cuda.is_available():
        found = localize(recording, peaks, model, method_kwargs={"device": "cuda"})
        assert_close(found, expected, atol=0.05)
    else:
        with pytest.raises(InputError, match="torch sees no CUDA device"):
            localize(recording, peaks, model, method_kwargs={"device": "cuda"})
        assert_same(localize(recording, peaks, model, method_kwargs={"device": "auto"}), expected)


def test_a_model_of_another_kind_or_nothing_at_all(recording, peaks, tmp_path):
    with pytest.raises(ModelFileError, match="no model folder"):
        localize(recording, peaks, tmp_path / "missing")
    with pytest.raises(InputError, match="must be a model, a model folder"):
        localize(recording, peaks, 5)
