"""Fixtures shared by the tests."""

import pytest


@pytest.fixture(scope="session")
def mearec_small(tmp_path_factory):
    """Ten seconds of the square array with 16 + 4 cells and 10 uV of noise: (recording, sorting), made once."""
    pytest.importorskip("MEArec")
    from si_neuroml.groundtruth import generate_mearec_recording

    return generate_mearec_recording(
        "square_mea",
        duration=10.0,
        num_excitatory=16,
        num_inhibitory=4,
        noise_level=10.0,
        # 20 instead of 300 distant cells: much the same noise in a fraction of the time.
        far_neurons_n=20,
        seed=0,
        cache_folder=tmp_path_factory.mktemp("mearec"),
    )


@pytest.fixture(scope="session")
def peaks_small(mearec_small):
    """The peaks that SpikeInterface detects in that recording, some 2,000."""
    from spikeinterface.core import get_noise_levels
    from spikeinterface.sortingcomponents.peak_detection import detect_peaks

    # seeded, so that every run of the tests has the same peaks
    noise_levels = get_noise_levels(mearec_small[0], return_in_uV=False, random_slices_kwargs={"seed": 0})
    return detect_peaks(
        mearec_small[0],
        method="locally_exclusive",
        method_kwargs={"detect_threshold": 6, "noise_levels": noise_levels},
        job_kwargs={"n_jobs": 1, "progress_bar": False},
    )


@pytest.fixture(scope="session")
def vae_model_small(mearec_small, peaks_small):
    """A localizer fitted to them for a few epochs: its places are rough, its arithmetic is that of any other."""
    import si_neuroml

    return si_neuroml.fit_localizer(mearec_small[0], peaks_small, epochs=3, learning_rate=1e-3, progress_bar=False)
