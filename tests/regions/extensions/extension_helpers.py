"""What the tests of the two extensions share."""

import warnings

import numpy as np
import spikeinterface.full as si

from si_neuroml.regions.extension import FEATURES
from si_neuroml.regions.predictions_extension import LABEL_PROPERTY, PREDICTIONS, PROBABILITY_PROPERTY

RATE_HZ = 10_000.0
# the window of one event reaches across it
CUT_S = 13.0
SMALL = {"sampling_frequency": RATE_HZ, "contacts_per_shank": 8}
FORMATS = ("memory", "binary_folder", "zarr")


def features(analyzer):
    return analyzer.get_extension(FEATURES).get_data()


def predictions(analyzer, outputs="dataframe"):
    return analyzer.get_extension(PREDICTIONS).get_data(outputs=outputs)


def save_as(analyzer, format, tmp_path):
    if format == "memory":
        return analyzer.copy()
    folder = tmp_path / ("analyzer.zarr" if format == "zarr" else "analyzer")
    analyzer.save_as(format=format, folder=folder)
    return reloaded(folder)


def reloaded(folder):
    with warnings.catch_warnings():
        # the recording is made in memory, and is gone
        warnings.simplefilter("ignore")
        return si.load_sorting_analyzer(folder)


def assert_same_units(one, other, unit_ids):
    """Every number of these units is the same in both."""
    np.testing.assert_array_equal(features(one).loc[unit_ids], features(other).loc[unit_ids])
    rows = [np.isin(found.unit_ids, unit_ids) for found in (one, other)]
    psths = [found.get_extension(FEATURES).get_psth()[0][row] for found, row in zip((one, other), rows, strict=True)]
    np.testing.assert_array_equal(*psths)
    for key in ("depth_um", "shank"):
        values = [
            np.asarray(found.get_extension(FEATURES).data[key])[row]
            for found, row in zip((one, other), rows, strict=True)
        ]
        np.testing.assert_array_equal(*values)


def assert_predictions_are_the_models(analyzer, classifier):
    """Everything follows from the features that are in the analyzer now."""
    dataset = analyzer.get_extension(FEATURES).get_dataset()
    expected = classifier.predict(dataset)
    np.testing.assert_allclose(predictions(analyzer, "probabilities"), expected.probabilities, atol=1e-12)
    np.testing.assert_allclose(predictions(analyzer, "smoothed"), expected.smoothed, atol=1e-12)
    assert predictions(analyzer, "label").tolist() == expected.label.tolist()
    assert analyzer.get_sorting_property(LABEL_PROPERTY).tolist() == expected.label.tolist()
    np.testing.assert_allclose(analyzer.get_sorting_property(PROBABILITY_PROPERTY), expected.probability, atol=1e-12)
