"""Fixtures of the tests of the two extensions: simulated sessions, classifiers, analyzers."""

import numpy as np
import pandas as pd
import pytest
from extension_helpers import CUT_S, SMALL

from si_neuroml.groundtruth.region_analyzers import region_session_analyzer
from si_neuroml.groundtruth.region_sessions import generate_region_sessions
from si_neuroml.modelfiles import save_model
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.extension import FEATURES
from si_neuroml.regions.fit import fit_region_classifier
from si_neuroml.regions.predictions_extension import PREDICTIONS
from si_neuroml.regions.session import Session
from si_neuroml.regions.session_features import session_dataset


@pytest.fixture(scope="session")
def sessions():
    """Four animals with 30 units to learn from and, last, one with 8 units on two shanks to look at."""
    made = generate_region_sessions(4, 1, 30, 30.0, num_shanks=2, skip_probability=0.0, seed=1)
    return [*made, generate_region_sessions(1, 1, 8, 26.0, num_shanks=2, seed=3)[0]]


@pytest.fixture(scope="session")
def classifier(sessions, tmp_path_factory):
    parts = [
        session_dataset(Session(one.units, one.spike_times, one.offsets, one.duration_s, one.onsets))
        for one in sessions[:-1]
    ]
    dataset = RegionDataset.concatenate(parts)
    classifier = fit_region_classifier(dataset, "logistic_regression", progress_bar=False)
    save_model(classifier, tmp_path_factory.mktemp("models") / "classifier")
    return classifier


@pytest.fixture(scope="session")
def narrow():
    """A classifier of two features of the trains, which are there in every analyzer."""
    rng, subjects = np.random.default_rng(0), np.repeat(["x", "y", "z"], 20)
    units = {"subject": subjects, "recording": subjects, "unit_id": np.arange(60), "region": ["CA1", "VISp"] * 30}
    features = rng.standard_normal((60, 2))
    dataset = RegionDataset(pd.DataFrame({**units, "depth_um": np.arange(60.0)}), features, ("isi_cv", "isi_lv"))
    return fit_region_classifier(dataset, "logistic_regression", progress_bar=False)


@pytest.fixture(scope="session")
def bare(sessions):
    """One segment, with templates."""
    return region_session_analyzer(sessions[-1], **SMALL)


@pytest.fixture(scope="session")
def analyzer(bare, sessions, classifier):
    analyzer = bare.copy()
    analyzer.compute(FEATURES, events=sessions[-1].onsets)
    analyzer.compute(PREDICTIONS, model=classifier)
    return analyzer


@pytest.fixture(scope="session")
def cut(sessions):
    """The same session in two segments."""
    return region_session_analyzer(sessions[-1], segment_starts_s=(CUT_S,), **SMALL)
