"""Region predictions in an analyzer: labels, properties, thresholds, models, and what is refused."""

import shutil

import numpy as np
import pytest
from extension_helpers import assert_predictions_are_the_models, predictions, reloaded, save_as

from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError
from si_neuroml.regions.extension import FEATURES
from si_neuroml.regions.predictions_extension import LABEL_PROPERTY, PREDICTIONS, PROBABILITY_PROPERTY


def test_labels_properties_and_thresholds(analyzer, classifier):
    assert_predictions_are_the_models(analyzer, classifier)
    table = predictions(analyzer)
    assert list(table.columns) == ["label", "probability", *[f"p_{name}" for name in classifier.classes]]
    np.testing.assert_allclose(table.filter(like="p_").sum(axis=1), 1)
    never = analyzer.copy()
    never.compute(PREDICTIONS, model=classifier, threshold=1.0)
    assert set(predictions(never, "label")) == {"unknown"}
    always = analyzer.copy()
    always.compute(PREDICTIONS, model=classifier, threshold=0.0, smooth=False)
    raw = predictions(always, "probabilities")
    assert predictions(always, "label").tolist() == [classifier.classes[k] for k in raw.argmax(axis=1)]
    np.testing.assert_array_equal(predictions(always, "smoothed"), raw)
    assert np.abs(predictions(analyzer, "smoothed") - raw).max() > 1e-3
    quiet = analyzer.copy()
    for name in (LABEL_PROPERTY, PROBABILITY_PROPERTY):
        quiet.sorting.delete_property(name)
    quiet.compute(PREDICTIONS, model=classifier, set_properties=False)
    assert quiet.get_sorting_property(LABEL_PROPERTY) is None
    np.testing.assert_array_equal(predictions(quiet, "smoothed"), predictions(analyzer, "smoothed"))


def test_units_of_one_shank_do_not_vote_on_another(analyzer, classifier):
    """Smoothing each shank by itself gives what smoothing both together does."""
    shanks = np.asarray(analyzer.get_extension(FEATURES).data["shank"])
    assert set(shanks) == {"0", "1"}
    for shank in ("0", "1"):
        alone = analyzer.select_units(analyzer.unit_ids[shanks == shank])
        alone.compute(PREDICTIONS, model=classifier)
        np.testing.assert_allclose(
            predictions(alone, "smoothed"), predictions(analyzer, "smoothed")[shanks == shank], atol=1e-12
        )


def test_a_saved_model_is_named_by_folder_and_digest(analyzer, classifier, narrow, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(classifier["folder"], folder)
    made = save_as(analyzer, "binary_folder", tmp_path)
    made.compute(PREDICTIONS, model=folder)
    assert predictions(made).equals(predictions(analyzer))
    found = reloaded(made.folder)
    named = found.get_extension(PREDICTIONS).params["model"]
    assert named == {"kind": "region_classifier", "digest": classifier["digest"], "folder": str(folder)}
    merged = found.merge_units([list(found.unit_ids[:2])], sparsity_overlap=0.0)
    assert_predictions_are_the_models(merged, classifier)
    shutil.rmtree(folder)
    with pytest.raises(ModelFileError, match="no model folder"):
        found.merge_units([list(found.unit_ids[:2])], sparsity_overlap=0.0)
    with pytest.warns(UserWarning, match="never saved"):
        found.compute(PREDICTIONS, model=narrow)


def test_what_is_refused(analyzer, classifier):
    analyzer = analyzer.copy()
    with pytest.raises(InputError, match="Name the classifier"):
        analyzer.compute(PREDICTIONS)
    with pytest.raises(InputError, match="threshold must be a probability from 0 to 1, got 2"):
        analyzer.compute(PREDICTIONS, model=classifier, threshold=2)
    with pytest.raises(ModelMismatchError, match="'vae_localizer'"):
        analyzer.compute(PREDICTIONS, model={"kind": "vae_localizer", "digest": "0" * 64, "folder": None})
    analyzer.compute(PREDICTIONS, model=classifier)
    with pytest.raises(InputError, match="outputs must be one of"):
        predictions(analyzer, "table")
    with pytest.raises(InputError, match='outputs must be "dataframe" or "numpy"'):
        analyzer.get_extension(FEATURES).get_data(outputs="table")
    analyzer.compute(FEATURES, families=["isi"])
    with pytest.raises(ModelMismatchError, match="rate_mean_hz|log_isi|acg|waveform|psth"):
        analyzer.compute(PREDICTIONS, model=classifier)
    for wrong, message in [
        ({"depth_axis": "w"}, "depth_axis must be"),
        ({"families": ["shape"]}, r"families \['shape'\], only of"),
        ({"families": ["psth"]}, "need events"),
        ({"events": {}}, "empty dict"),
        ({"events": {1: [3.0]}}, r"segments \[1\], the sorting has 1"),
        ({"events": [[3.0], [4.0]]}, "given for 2 segments, the sorting has 1"),
        ({"events": [np.nan]}, "finite times"),
        ({"bin_s": 0.7}, "whole number"),
        ({"normalisation": "log"}, "normalisation must be one of"),
        ({"spike_train_settings": {"lag": 3}}, "spike_train_settings: .*lag"),
    ]:
        with pytest.raises(InputError, match=message):
            analyzer.compute(FEATURES, **wrong)
