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
