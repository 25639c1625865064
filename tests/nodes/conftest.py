"""Three seconds of the small recording, its peaks, and a model of it."""

import pytest
from helpers import DURATION_S, localize

import si_neuroml


@pytest.fixture(scope="module")
def recording(mearec_small):
    whole = mearec_small[0]
    return whole.frame_slice(0, round(DURATION_S * whole.sampling_frequency))


@pytest.fixture(scope="module")
def sorting(mearec_small):
    whole = mearec_small[1]
    return whole.frame_slice(0, round(DURATION_S * whole.sampling_frequency))


@pytest.fixture(scope="module")
def peaks(recording, peaks_small):
    return peaks_small[peaks_small["sample_index"] < recording.get_num_samples()]


@pytest.fixture(scope="module")
def model(vae_model_small):
    return vae_model_small


@pytest.fixture(scope="module")
def model_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "localizer"
    # a copy, so that `model` stays one that was never saved
    tensors, info = model.to_parts()
    return si_neuroml.save_model(type(model).from_parts(tensors, info), folder)


@pytest.fixture(scope="module")
def expected(recording, peaks, model):
    """Places with one process and one chunk: what everything else must equal."""
    return localize(recording, peaks, model, chunk_size=recording.get_num_samples())
