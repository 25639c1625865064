"""A recording, its spikes and analyzers on the disk, as small as they can be."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import spikeinterface.full as si

from si_neuroml.celltypes.fit import fit_cell_type_classifier
from si_neuroml.modelfiles import save_model
from si_neuroml.regions.dataset import RegionDataset
from si_neuroml.regions.fit import fit_region_classifier

JOB = {"n_jobs": 1, "progress_bar": False}


@pytest.fixture(scope="session")
def saved_sources(tmp_path_factory):
    """Folder with "recording" (4 s, 16 channels) and "sorting" (20 units)."""
    folder = tmp_path_factory.mktemp("sources")
    recording, sorting = si.generate_ground_truth_recording(durations=[4.0], num_channels=16, num_units=20, seed=0)
    recording.save(folder=folder / "recording", **JOB)
    sorting.save(folder=folder / "sorting")
    return folder


@pytest.fixture(scope="session")
def region_dataset():
    """60 units of three animals with two features."""
    rng, subjects = np.random.default_rng(0), np.repeat(["x", "y", "z"], 20)
    units = {"subject": subjects, "recording": subjects, "unit_id": np.arange(60), "region": ["CA1", "VISp"] * 30}
    features = rng.standard_normal((60, 2))
    return RegionDataset(pd.DataFrame({**units, "depth_um": np.arange(60.0)}), features, ("isi_cv", "isi_lv"))


@pytest.fixture(scope="session")
def classifier(region_dataset, tmp_path_factory):
    """A region classifier of two features that all units have, saved."""
    model = fit_region_classifier(region_dataset, "logistic_regression", progress_bar=False)
    save_model(model, tmp_path_factory.mktemp("models") / "classifier")
    return model


@pytest.fixture(scope="session")
def cell_type_classifier(saved_sources, tmp_path_factory):
    """A classifier of the sorted units themselves, by their intervals; half of them are said to be "Sst"."""
    analyzer = si.create_sorting_analyzer(
        si.load(saved_sources / "sorting"), si.load(saved_sources / "recording"), format="memory", job_kwargs=JOB
    )
    analyzer.compute("unit_scalograms", streams=["log_isi"], **JOB)
    dataset = analyzer.get_extension("unit_scalograms").get_dataset()
    known = {"label": ["Pvalb", "Sst"] * 10, "donor": np.repeat(["a", "b", "c", "d"], 5), "dataset": "lab"}
    dataset = replace(dataset, cells=dataset.cells.assign(**known))
    model = fit_cell_type_classifier(dataset, "log_isi", progress_bar=False)
    save_model(model, tmp_path_factory.mktemp("models") / "cell_type_classifier")
    return model


@pytest.fixture(scope="session", params=["binary_folder", "zarr"])
def analyzer_folder(request, saved_sources, tmp_path_factory):
    """Of an analyzer with templates and nothing of ours, in each format."""
    name = "analyzer.zarr" if request.param == "zarr" else "analyzer"
    folder = tmp_path_factory.mktemp("analyzers") / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sources = si.load(saved_sources / "sorting"), si.load(saved_sources / "recording")
        analyzer = si.create_sorting_analyzer(*sources, format=request.param, folder=folder, job_kwargs=JOB)
        analyzer.compute(["random_spikes", "templates"], **JOB)
    return folder
