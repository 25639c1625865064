"""Templates, and a recording in which every spike is its template."""

import pytest
from truth_helpers import SHORT

from si_neuroml.groundtruth import (
    generate_mearec_recording,
    load_probe_templates,
)


@pytest.fixture(scope="module")
def square():
    return load_probe_templates("square_mea")


@pytest.fixture(scope="module")
def quiet():
    """Little noise, no variation, no filter: what is left of each spike is its template."""
    pytest.importorskip("MEArec")
    options = SHORT | {"duration": 5.0, "noise_level": 0.5, "amplitude_modulation": "none", "filter_band_hz": None}
    return generate_mearec_recording(**options)
