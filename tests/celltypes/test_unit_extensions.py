"""Streams and types of units in an analyzer: the same numbers as outside, in all formats, through all changes."""

import json
import shutil
import warnings

import numpy as np
import pytest
import spikeinterface.full as si
from unit_helpers import DURATION_S, PARAMETERS, RATE_HZ, SETTINGS, TYPES, analyzer_of, reloaded, save_as

from si_neuroml import registration
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.fit import fit_cell_type_classifier
from si_neuroml.celltypes.unit_extension import SCALOGRAMS, compute_unit_scalograms
from si_neuroml.celltypes.unit_predictions_extension import LABEL_PROPERTY, PREDICTIONS, PROBABILITY_PROPERTY
from si_neuroml.celltypes.unit_settings import TRAIN_STREAMS, UNIT_STREAMS
from si_neuroml.celltypes.unit_streams import unit_streams
from si_neuroml.errors import InputError, ModelFileError, ModelMismatchError
from si_neuroml.modelfiles import save_model

FORMATS = ("memory", "binary_folder", "zarr")
KINDS = [TYPES[k % 3] for k in range(6)]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Learned from five analyzers with optotagged units."""
    analyzers = []
    for seed in range(5):
        analyzer = analyzer_of(KINDS, seed=10 + seed)
        analyzer.compute(SCALOGRAMS, **PARAMETERS)
        analyzers.append(analyzer)
    dataset = CellDataset.from_analyzers(analyzers, subjects=["a", "a", "b", "c", "d"], dataset="lab")
    assert dataset.labels.tolist() == KINDS * 5
    assert dataset.cells["donor"].tolist() == [name for name in "aabcd" for _ in KINDS]
    assert dataset.cells["cell_id"][6] == "a_1/unit Bursting 0"
    classifier = fit_cell_type_classifier(dataset, progress_bar=False)
    save_model(classifier, tmp_path_factory.mktemp("models") / "classifier")
    return classifier


@pytest.fixture(scope="module")
def bare():
    return analyzer_of(KINDS, seed=1)


@pytest.fixture(scope="module")
def analyzer(bare, classifier):
    analyzer = bare.copy()
    analyzer.compute(SCALOGRAMS, **PARAMETERS)
    analyzer.compute(PREDICTIONS, model=classifier)
    return analyzer


def streams(analyzer):
    return analyzer.get_extension(SCALOGRAMS).get_data()


def predictions(analyzer, outputs="dataframe"):
    return analyzer.get_extension(PREDICTIONS).get_data(outputs=outputs)


def assert_same_units(one, other, unit_ids):
    """Every number of these units is the same in both."""
    rows = [found.sorting.ids_to_indices(unit_ids) for found in (one, other)]
    assert list(streams(one)) == list(streams(other))
    for name in streams(one):
        np.testing.assert_array_equal(streams(one)[name][rows[0]], streams(other)[name][rows[1]])


def assert_predictions_are_the_models(analyzer, classifier):
    """Everything follows from the streams that are in the analyzer now."""
    expected = classifier.predict(analyzer.get_extension(SCALOGRAMS).get_dataset())
    for name in ("probabilities", "probability", "outlier_score"):
        np.testing.assert_allclose(predictions(analyzer, name), getattr(expected, name), atol=1e-9)
    assert predictions(analyzer, "label").tolist() == expected.label.tolist()
    assert predictions(analyzer, "out_of_distribution").tolist() == expected.out_of_distribution.tolist()
    assert analyzer.get_sorting_property(LABEL_PROPERTY).tolist() == expected.label.tolist()
    np.testing.assert_allclose(analyzer.get_sorting_property(PROBABILITY_PROPERTY), expected.probability, atol=1e-9)


def test_streams_are_those_of_the_arrays(analyzer):
    sorting, durations = analyzer.sorting, [18.0, DURATION_S - 18.0]
    trains = [[sorting.get_unit_spike_train(u, k) / RATE_HZ for k in (0, 1)] for u in analyzer.unit_ids]
    templates = analyzer.get_extension("templates").get_data()
    # the channel on which each unit is the largest
    waveforms = np.stack([templates[k, :, k % 3] for k in range(len(KINDS))])
    expected = unit_streams(trains, durations, waveforms, RATE_HZ, settings=SETTINGS)
    extension = analyzer.get_extension(SCALOGRAMS)
    assert extension.stream_names == UNIT_STREAMS
    assert extension.stream_settings == SETTINGS
    for name, stream in expected.items():
        np.testing.assert_array_equal(extension.get_data()[name], stream.values)
        for axis, values in extension.get_stream(name).axes.items():
            np.testing.assert_array_equal(values, stream.axes[axis])
            np.testing.assert_array_equal(extension.data[f"{name}_{axis}"], values)
    json.dumps(extension.params)
    two = compute_unit_scalograms(analyzer.copy(), **PARAMETERS, n_jobs=2)
    np.testing.assert_array_equal(two["spike_scalogram"], extension.get_data()["spike_scalogram"])


def test_types_of_unseen_units(analyzer, classifier):
    assert_predictions_are_the_models(analyzer, classifier)
    table = predictions(analyzer)
    columns = ["label", "probability", "out_of_distribution", "outlier_score", *[f"p_{name}" for name in TYPES]]
    assert list(table.columns) == columns
    assert list(table.index) == list(analyzer.unit_ids)
    assert [TYPES[k] for k in predictions(analyzer, "probabilities").argmax(axis=1)] == KINDS
    # the labels that were there are as they were
    assert analyzer.get_sorting_property("cell_type").tolist() == KINDS


@pytest.mark.parametrize("format", FORMATS)
def test_formats(analyzer, classifier, tmp_path, format):
    found = save_as(analyzer, format, tmp_path)
    assert found.format == format
    assert_same_units(found, analyzer, analyzer.unit_ids)
    assert predictions(found).equals(predictions(analyzer))
    assert_predictions_are_the_models(found, classifier)
    assert found.get_extension(PREDICTIONS).model_digest == classifier["digest"]
    assert found.get_extension(PREDICTIONS).classes == classifier.classes
    # computed again where it is saved, without a recording, and read again
    found.compute(PREDICTIONS, model=classifier, threshold=1.0)
    found.compute(SCALOGRAMS, streams=["log_isi", "waveform"], ms_after=1.0)
    found.compute(PREDICTIONS, model=classifier, threshold=0.0, reject_outliers=False)
    again = found if format == "memory" else reloaded(found.folder)
    assert list(streams(again)) == ["waveform", "log_isi"]
    assert again.get_sorting_property(LABEL_PROPERTY).tolist() == predictions(found, "label").tolist()
    assert set(predictions(again, "label")) <= set(TYPES)
    np.testing.assert_array_equal(streams(again)["log_isi"], streams(analyzer)["log_isi"])


@pytest.mark.parametrize("format", FORMATS)
def test_select_merge_and_split(analyzer, classifier, tmp_path, format):
    made = save_as(analyzer, format, tmp_path)
    ids = list(made.unit_ids)
    target = iter(range(9))

    def place():
        return {"format": format, "folder": None if format == "memory" else tmp_path / f"changed{next(target)}"}

    chosen = [ids[5], ids[0], ids[3]]
    selected = made.select_units(chosen, **place())
    assert_same_units(selected, made, chosen)
    assert predictions(selected).equals(predictions(made).loc[chosen])
    assert selected.get_sorting_property(LABEL_PROPERTY).tolist() == predictions(made).loc[chosen, "label"].tolist()

    merged = made.merge_units([ids[1:3]], new_unit_ids=["both"], sparsity_overlap=0.0, **place())
    assert_same_units(merged, made, [unit_id for unit_id in ids if unit_id not in ids[1:3]])
    assert_merged_is_computed(merged, "both")
    assert_predictions_are_the_models(merged, classifier)
    # under the name of one of them
    reused = made.merge_units([ids[1:3]], new_unit_ids=[ids[1]], sparsity_overlap=0.0, **place())
    np.testing.assert_array_equal(
        streams(reused)["acg_3d"][reused.sorting.id_to_index(ids[1])],
        streams(merged)["acg_3d"][merged.sorting.id_to_index("both")],
    )

    train = made.sorting.get_unit_spike_train(ids[0], 0)
    number = len(made.sorting.get_unit_spike_train(ids[0], 1))
    parts = [np.arange(0, len(train), 3), np.setdiff1d(np.arange(len(train) + number), np.arange(0, len(train), 3))]
    split = made.split_units({ids[0]: parts}, new_unit_ids=[["third", "rest"]], **place())
    assert_same_units(split, made, ids[1:])
    assert_merged_is_computed(split, "third")
    assert_predictions_are_the_models(split, classifier)
    for changed in (selected, merged, split):
        if format != "memory":
            again = reloaded(changed.folder)
            assert_same_units(again, changed, changed.unit_ids)
            assert again.get_sorting_property(LABEL_PROPERTY).tolist() == predictions(changed, "label").tolist()
    assert_same_units(made, analyzer, ids)


def assert_merged_is_computed(changed, unit_id):
    """What the hooks left is what computing all anew gives."""
    anew = changed.copy()
    anew.compute(SCALOGRAMS, **PARAMETERS)
    row = anew.sorting.id_to_index(unit_id)
    for name, values in streams(changed).items():
        np.testing.assert_allclose(values[row], streams(anew)[name][row], atol=1e-6)


def test_without_templates(bare, classifier):
    analyzer = bare.copy()
    analyzer.delete_extension("templates")
    with pytest.warns(UserWarning, match="no templates"):
        analyzer.compute(SCALOGRAMS, **PARAMETERS)
    assert analyzer.get_extension(SCALOGRAMS).stream_names == TRAIN_STREAMS
    analyzer.compute(PREDICTIONS, model=classifier)
    assert_predictions_are_the_models(analyzer, classifier)
    assert [TYPES[k] for k in predictions(analyzer, "probabilities").argmax(axis=1)] == KINDS
    with pytest.raises(InputError, match=r"no templates for \['waveform'\]"):
        analyzer.compute(SCALOGRAMS, streams=["waveform", "log_isi"])
    # templates come first when both are asked for together
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analyzer.compute([SCALOGRAMS, "templates"], n_jobs=1, progress_bar=False)
    assert analyzer.get_extension(SCALOGRAMS).stream_names == UNIT_STREAMS
    # gone after they were used
    analyzer = bare.copy()
    analyzer.compute(SCALOGRAMS, streams=["waveform", "log_isi"], ms_after=1.0)
    ids = list(analyzer.unit_ids)
    analyzer.extensions.pop("templates")
    merged = analyzer.merge_units([ids[:2]], new_unit_ids=["both"], sparsity_overlap=0.0)
    assert np.isnan(streams(merged)["waveform"][-1]).all()
    assert np.isfinite(streams(merged)["waveform"][:-1]).all()
    assert np.isfinite(streams(merged)["log_isi"]).all()


def test_silent_units_and_no_units(classifier, bare, tmp_path):
    analyzer = analyzer_of(KINDS, seed=1, unit_ids=list("abcdef"), silent=("b",))
    analyzer.compute(SCALOGRAMS, **PARAMETERS)
    analyzer.compute(PREDICTIONS, model=classifier)
    found = streams(analyzer)
    for name, values in found.items():
        assert np.isnan(values[1]).all(), name
        assert np.isfinite(values[[0, 2, 3]]).any(), name
    table = predictions(analyzer)
    assert table.loc["b", "label"] == "unknown"
    assert not table.loc["b", "out_of_distribution"]
    np.testing.assert_allclose(table.filter(like="p_").sum(axis=1), 1)
    for format in FORMATS:
        sorting = si.NumpySorting.from_unit_dict([{}, {}], RATE_HZ)
        folder = None if format == "memory" else tmp_path / ("empty.zarr" if format == "zarr" else "empty")
        empty = si.SortingAnalyzer.create(sorting, bare.recording, np.zeros(0, dtype=int), format=format, folder=folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            empty.compute(SCALOGRAMS, **PARAMETERS)
            empty.compute(PREDICTIONS, model=classifier)
            again = empty if format == "memory" else reloaded(empty.folder)
        assert predictions(again).shape == (0, 4 + len(TYPES))


def test_one_spike_is_little_but_no_error(classifier, bare):
    spikes = [{"once": [1234], "twice": [20, 5000]}, {"once": [], "twice": [7]}]
    spikes = [{unit_id: np.array(train, dtype="int64") for unit_id, train in one.items()} for one in spikes]
    sorting = si.NumpySorting.from_unit_dict(spikes, RATE_HZ)
    analyzer = si.create_sorting_analyzer(sorting, bare.recording, format="memory", sparse=False)
    with pytest.warns(UserWarning, match="no templates"):
        analyzer.compute(SCALOGRAMS, **PARAMETERS)
    analyzer.compute(PREDICTIONS, model=classifier)
    assert np.isnan(streams(analyzer)["log_isi"][0]).all()
    assert streams(analyzer)["log_isi"][1].max() == 1
    assert np.isfinite(streams(analyzer)["spike_scalogram"]).all()
    np.testing.assert_allclose(predictions(analyzer, "probabilities").sum(axis=1), 1)


def test_new_templates_delete_what_came_from_them(analyzer):
    changed = analyzer.copy()
    changed.compute("templates", n_jobs=1, progress_bar=False)
    assert not changed.has_extension(SCALOGRAMS)
    assert not changed.has_extension(PREDICTIONS)
    assert {SCALOGRAMS, PREDICTIONS} <= set(registration.registered_extensions())


def test_a_saved_model_is_named_by_folder_and_digest(analyzer, classifier, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(classifier["folder"], folder)
    made = save_as(analyzer, "binary_folder", tmp_path)
    made.compute(PREDICTIONS, model=folder, set_properties=False)
    found = reloaded(made.folder)
    named = found.get_extension(PREDICTIONS).params["model"]
    assert named == {"kind": "cell_type_classifier", "digest": classifier["digest"], "folder": str(folder)}
    pair = [list(found.unit_ids[:2])]
    np.testing.assert_array_equal(predictions(found, "probabilities"), predictions(analyzer, "probabilities"))
    shutil.rmtree(folder)
    with pytest.raises(ModelFileError, match="no model folder"):
        found.merge_units(pair, sparsity_overlap=0.0)


def test_what_is_refused(analyzer, classifier):
    analyzer = analyzer.copy()
    with pytest.raises(InputError, match="outputs must be one of"):
        predictions(analyzer, "table")
    with pytest.raises(InputError, match="Name the classifier"):
        analyzer.compute(PREDICTIONS)
    with pytest.raises(InputError, match="threshold must be a probability from 0 to 1, got 2"):
        analyzer.compute(PREDICTIONS, model=classifier, threshold=2)
    with pytest.raises(ModelMismatchError, match="'region_classifier'"):
        analyzer.compute(PREDICTIONS, model={"kind": "region_classifier", "digest": "0" * 64, "folder": None})
    with pytest.raises(InputError, match="no stream 'psth'"):
        analyzer.get_extension(SCALOGRAMS).get_stream("psth")
    with pytest.raises(InputError, match="no unit property 'kind' .*cell_type"):
        CellDataset.from_analyzers([analyzer], subjects=["a"], label="kind")
    with pytest.raises(InputError, match="1 analyzers, but {'subjects': 2"):
        CellDataset.from_analyzers([analyzer], subjects=["a", "b"])
    for wrong, message in [
        ({"streams": ["psth"]}, "streams must be a list"),
        ({"settings": {"window": 3}}, r"settings has \['window'\]"),
        ({"settings": {"ms_before": 3}}, r"settings has \['ms_before'\]"),
        ({"ms_after": -1}, "ms_after must be finite"),
        ({"ms_after": 9.0}, "compute longer templates"),
    ]:
        with pytest.raises(InputError, match=message):
            analyzer.compute(SCALOGRAMS, **wrong)
    analyzer.compute(SCALOGRAMS, **(PARAMETERS | {"freq_min": 3.0}))
    with pytest.raises(ModelMismatchError, match="spike_scalogram.*frequency_hz"):
        analyzer.compute(PREDICTIONS, model=classifier)
    analyzer.delete_extension(SCALOGRAMS)
    with pytest.raises(InputError, match="has no 'unit_scalograms'"):
        CellDataset.from_analyzers([analyzer], subjects=["a"])
