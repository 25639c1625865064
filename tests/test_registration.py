"""Importing the package adds methods to SpikeInterface and does nothing else."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
from spikeinterface.sortingcomponents.peak_localization import localize_peaks, peak_localization_methods

import si_neuroml
from si_neuroml import registration
from si_neuroml.errors import RegistrationError

OUR_METHODS = ["center_of_mass_nearest", "hmc", "neural_posterior", "vae"]
HEAVY = ("torch", "skorch", "MEArec", "optuna", "matplotlib")


@pytest.fixture(autouse=True)
def _table_as_before():
    before = dict(peak_localization_methods)
    yield
    peak_localization_methods.clear()
    peak_localization_methods.update(before)
    si_neuroml.register()


def run_fresh(code):
    """Run code in a new interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_import_is_silent_and_light():
    done = run_fresh(
        f"import si_neuroml, sys; loaded = [m for m in {HEAVY} if m in sys.modules]; assert not loaded, loaded"
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_import_changes_no_global_state():
    run_fresh(
        "import warnings, random, numpy as np\n"
        "from spikeinterface.core import get_global_job_kwargs\n"
        "before = (random.getstate(), np.random.get_state()[1].tolist(), get_global_job_kwargs())\n"
        "import spikeinterface.sortingcomponents.peak_localization\n"
        "filters = list(warnings.filters)\n"
        "import si_neuroml\n"
        "assert list(warnings.filters) == filters\n"
        "assert random.getstate() == before[0]\n"
        "assert np.random.get_state()[1].tolist() == before[1]\n"
        "assert get_global_job_kwargs() == before[2]\n"
    )


def test_methods_are_in_the_table_after_import():
    run_fresh(
        "import si_neuroml\n"
        "from spikeinterface.sortingcomponents.peak_localization import peak_localization_methods as table\n"
        f"assert set({OUR_METHODS}) <= set(table)\n"
        "assert {'center_of_mass', 'monopolar_triangulation', 'grid_convolution'} <= set(table)\n"
    )


def test_register_twice_changes_nothing():
    before = dict(peak_localization_methods)
    si_neuroml.register()
    assert peak_localization_methods == before
    assert list(peak_localization_methods) == list(before)


def test_unregister_removes_ours_alone_and_register_brings_them_back():
    before = dict(peak_localization_methods)
    si_neuroml.unregister()
    assert set(before) - set(peak_localization_methods) == set(OUR_METHODS)
    assert registration.registered_methods() == []
    si_neuroml.unregister()
    si_neuroml.register()
    assert peak_localization_methods == before
    assert set(OUR_METHODS) <= set(registration.registered_methods())


DETECTORS = "spikeinterface.sortingcomponents.peak_detection"


@pytest.mark.parametrize("first", ["si_neuroml", DETECTORS])
def test_detector_is_in_its_table_whichever_is_imported_first(first):
    second = DETECTORS if first == "si_neuroml" else "si_neuroml"
    run_fresh(
        f"import {first}, {second}, sys, si_neuroml\n"
        f"from {DETECTORS}.method_list import detect_peak_methods as table\n"
        "assert 'learned_events' in table and 'by_channel' in table\n"
        f"assert 'learned_events' in sys.modules['{DETECTORS}'].detect_peaks.__doc__ or '{first}' != 'si_neuroml'\n"
        "si_neuroml.unregister()\n"
        "assert 'learned_events' not in table and 'by_channel' in table\n"
        "si_neuroml.register()\n"
        "assert 'learned_events' in table\n"
    )


def test_unregistered_before_the_detectors_are_imported_leaves_no_trace():
    run_fresh(
        "import sys\n"
        "finders = list(sys.meta_path)\n"
        "import si_neuroml\n"
        "si_neuroml.unregister()\n"
        "assert sys.meta_path == finders\n"
        f"from {DETECTORS}.method_list import detect_peak_methods as table\n"
        "assert 'learned_events' not in table\n"
    )


@pytest.mark.parametrize("name", OUR_METHODS)
def test_name_clash_is_refused_and_nothing_is_added(name):
    class Foreign:
        pass

    si_neuroml.unregister()
    peak_localization_methods[name] = Foreign
    before = dict(peak_localization_methods)
    with pytest.raises(
        RegistrationError, match=f"already has a peak-localization method '{name}', from .*test_registr"
    ):
        si_neuroml.register()
    assert peak_localization_methods == before
    si_neuroml.unregister()
    assert peak_localization_methods[name] is Foreign


def test_reload_keeps_working():
    run_fresh(
        "import importlib, si_neuroml, si_neuroml.registration, si_neuroml.localization.nodes as nodes\n"
        "from spikeinterface.sortingcomponents.peak_localization import peak_localization_methods as table\n"
        "importlib.reload(nodes); importlib.reload(si_neuroml.registration); importlib.reload(si_neuroml)\n"
        "assert table['vae'] is nodes.LocalizeVAE\n"
        f"assert si_neuroml.registration.registered_methods() == {OUR_METHODS}\n"
        "si_neuroml.unregister(); assert 'vae' not in table\n"
        "si_neuroml.register(); assert table['vae'] is nodes.LocalizeVAE\n"
    )


def test_every_public_name_resolves():
    for name in si_neuroml.__all__:
        assert getattr(si_neuroml, name) is not None
    assert set(si_neuroml.__all__) <= set(dir(si_neuroml))
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = si_neuroml.no_such_name


@pytest.mark.parametrize(
    "module",
    ["localization.nodes", "localization.fit", "modelfiles", "registration", "groundtruth", "widgets"],
)
def test_every_name_in_all_of_the_modules_resolves(module):
    found = importlib.import_module(f"si_neuroml.{module}")
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


def test_spawned_worker_runs_the_node(mearec_small, peaks_small):
    recording, peaks = mearec_small[0], peaks_small
    one, two = (
        localize_peaks(
            recording, peaks, method="center_of_mass_nearest", job_kwargs={"progress_bar": False, **job_kwargs}
        )
        for job_kwargs in ({"n_jobs": 1}, {"n_jobs": 2, "mp_context": "spawn", "chunk_duration": "5s"})
    )
    np.testing.assert_array_equal(one, two)
