"""The disk is full: an error says so, nothing half written is taken for the whole, and later the same call works."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spikeinterface.full as si
from fault_scripts import full_disk

from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.modelfiles import load_model, save_model
from si_neuroml.regions.dataset import RegionDataset

pytest.importorskip("resource")

JOB = {"n_jobs": 1, "progress_bar": False}
SPIKES, UNITS = "spike_location_posteriors", "unit_location_posteriors"
FEATURES, PREDICTIONS = "region_features", "region_predictions"
SCALOGRAMS, CELL_TYPES = "unit_scalograms", "cell_type_predictions"
ALL = (SPIKES, UNITS, FEATURES, PREDICTIONS, SCALOGRAMS, CELL_TYPES)
CHILDREN = {name: set() for name in ALL} | {SPIKES: {UNITS}, FEATURES: {PREDICTIONS}, SCALOGRAMS: {CELL_TYPES}}
LABELS = {PREDICTIONS: "predicted_brain_area", CELL_TYPES: "predicted_cell_type"}
# bytes; the last is more than any file has
LIMITS = (0, 600, 2000, 6000, 10_000_000)
SAYS_WHY = r"File too large|No space left|could not be saved"


@pytest.fixture(scope="module")
def classifiers(classifier, cell_type_classifier):
    """By the extension that uses them."""
    return {PREDICTIONS: classifier, CELL_TYPES: cell_type_classifier}


def parameters(name, classifiers, other=False):
    """Of a computation, or of another one whose result differs."""
    onsets = [0.7, 1.9, 3.1]
    return {
        SPIKES: {**JOB, "peak_sign": "both" if other else "neg"},
        UNITS: {"source": "templates" if other else "spikes"},
        FEATURES: {**JOB, "events": onsets, "window_s": (-0.4, 0.4) if other else (-0.5, 0.5)},
        SCALOGRAMS: {**JOB, "streams": ["log_isi", "acg_3d"] if other else ["log_isi"]},
    }.get(name) or {"model": classifiers[name]["folder"], "threshold": 1.0 if other else 0.0}


@pytest.fixture(scope="module")
def computed(analyzer_folder, classifiers, tmp_path_factory):
    """(folder of an analyzer with all our extensions, their data)."""
    folder = copied(analyzer_folder, tmp_path_factory.mktemp("computed"), "all")
    analyzer = si.load_sorting_analyzer(folder)
    for name in ALL:
        analyzer.compute(name, **parameters(name, classifiers))
    return folder, {name: dict(analyzer.get_extension(name).data) for name in ALL}


def copied(folder, tmp_path, name):
    """No deeper than the analyzer itself, which names its recording by a relative path."""
    return shutil.copytree(folder, tmp_path / f"{name}_{folder.name}")


def loaded(folder):
    """The analyzer as a later session sees it, without what is not complete."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*is not complete.*")
        warnings.filterwarnings("ignore", ".*extension should be re-computed")
        return si.load_sorting_analyzer(folder)


def assert_same(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(np.asarray(found[key]), np.asarray(value), err_msg=key)


def assert_intact(analyzer, truth, but=()):
    """All our extensions are there and right, except that those named may be absent; labels are those of some run."""
    for name in ALL:
        extension = analyzer.get_extension(name)
        if extension is not None:
            assert_same(extension.data, truth[name])
        else:
            assert name in but
    assert analyzer.get_extension("templates").get_data().any()
    for name, label in LABELS.items():
        labels = analyzer.get_sorting_property(label)
        if labels is not None:
            assert np.all(labels == truth[name]["label"]) or np.all(labels == "unknown")
            assert np.all(analyzer.get_sorting_property(f"{label}_probability") > 0)


@pytest.mark.parametrize("name", ALL)
def test_an_extension_computed_first(computed, classifiers, tmp_path, name):
    folder, truth = computed
    failures = 0
    for limit in LIMITS:
        own = copied(folder, tmp_path, limit)
        analyzer = si.load_sorting_analyzer(own)
        for gone in (*CHILDREN[name], name):
            analyzer.delete_extension(gone)
        failures += fails(analyzer, name, parameters(name, classifiers), limit)
        assert_intact(loaded(own), truth, but={name, *CHILDREN[name]})
        recompute(loaded(own), name, classifiers, truth)
    assert 1 <= failures < len(LIMITS)


@pytest.mark.parametrize("name", ALL)
def test_an_extension_computed_again_over_another(computed, classifiers, tmp_path, name):
    folder, truth = computed
    failures = 0
    for limit in LIMITS:
        own = copied(folder, tmp_path, limit)
        analyzer = si.load_sorting_analyzer(own)
        if fails(analyzer, name, parameters(name, classifiers, other=True), limit):
            failures += 1
            # in this session and in the next
            assert_intact(analyzer, truth, but={name, *CHILDREN[name]})
            assert_intact(loaded(own), truth, but={name, *CHILDREN[name]})
        else:
            assert_same(loaded(own).get_extension(name).data, analyzer.get_extension(name).data)
        recompute(analyzer, name, classifiers, truth)
        assert_same(loaded(own).get_extension(name).data, truth[name])
    assert 1 <= failures < len(LIMITS)


def fails(analyzer, name, options, limit):
    """Compute on a full disk; whether that failed, which it must say."""
    try:
        with full_disk(limit):
            analyzer.compute(name, **options)
    except OSError as error:
        with pytest.raises(OSError, match=SAYS_WHY):
            raise error
        return True
    return False


def recompute(analyzer, name, classifiers, truth):
    analyzer.compute(name, **parameters(name, classifiers))
    assert_same(analyzer.get_extension(name).data, truth[name])


def test_a_killed_process_leaves_no_part_that_looks_whole(computed, classifiers, tmp_path):
    """Whatever file it was writing: the extension is absent, and can be computed again."""
    folder, truth = computed
    if folder.suffix == ".zarr":
        pytest.skip("there, chunks are missing: test_missing_chunks_are_not_zeros")
    for name in ALL:
        files = sorted((folder / "extensions" / name).iterdir(), key=lambda file: file.stat().st_mtime_ns)
        assert files[-1].name == "run_info.json"
        assert {file.stem for file in files} == {"params", "info", "run_info", *truth[name]}
        for place, cut in enumerate(files):
            own = copied(folder, tmp_path, f"{name}_{place}")
            written = own / cut.relative_to(folder)
            written.write_bytes(written.read_bytes()[: cut.stat().st_size // 2])
            for later in files[place + 1 :]:
                (own / later.relative_to(folder)).unlink()
            analyzer = loaded(own)
            assert analyzer.get_extension(name) is None
            assert_intact(analyzer, truth, but={name})
        recompute(analyzer, name, classifiers, truth)
        assert_same(loaded(own).get_extension(name).data, truth[name])


def test_missing_chunks_are_not_zeros(computed, classifiers, tmp_path):
    folder, truth = computed
    if folder.suffix != ".zarr":
        pytest.skip("there are no chunks")
    for name in ALL:
        own = copied(folder, tmp_path, name)
        # the index still lists them
        chunk = next(path for path in (own / "extensions" / name).rglob("0*") if path.is_file())
        chunk.unlink()
        with pytest.warns(UserWarning, match=rf"'{name}' in .* is not complete .*chunks"):
            analyzer = si.load_sorting_analyzer(own)
        assert_intact(analyzer, truth, but={name})
        recompute(analyzer, name, classifiers, truth)


def test_a_model(classifier, tmp_path):
    size = sum(path.stat().st_size for path in Path(classifier["folder"]).iterdir())
    for limit in (0, 10, size // 8, size // 2):
        with full_disk(limit), pytest.raises(OSError, match=SAYS_WHY) as caught:
            save_model(load_model(classifier["folder"]), tmp_path / "new" / "model")
        assert "was not written" in caught.value.__notes__[0]
        assert list((tmp_path / "new").iterdir()) == []
    folder = shutil.copytree(classifier["folder"], tmp_path / "old" / "model")
    other = classifier.with_threshold(0.99)
    with full_disk(10), pytest.raises(OSError, match=SAYS_WHY):
        save_model(other, folder, overwrite=True)
    assert load_model(folder) == classifier
    assert list(folder.parent.iterdir()) == [folder]
    save_model(other, folder, overwrite=True)
    assert load_model(folder) == other != classifier


def cell_dataset():
    cells = {
        "cell_id": [f"c{k}" for k in range(40)],
        "label": ["Pvalb", "Sst"] * 20,
        "donor": ["a", "b", "c", "d"] * 10,
    }
    rng = np.random.default_rng(0)
    images = rng.standard_normal((40, 1, 8, 8)).astype("float32")
    return CellDataset(pd.DataFrame({**cells, "dataset": "lab"}), images, rng.standard_normal((40, 3)), ("p", "q", "r"))


@pytest.mark.parametrize("kind", ["region", "cell"])
def test_a_dataset(region_dataset, tmp_path, kind):
    dataset = region_dataset if kind == "region" else cell_dataset()
    path = tmp_path / "dataset.npz"
    for limit in (0, 100, 1000):
        with full_disk(limit), pytest.raises(OSError, match=SAYS_WHY):
            dataset.save(path)
        assert list(tmp_path.iterdir()) == []
    dataset.save(path)
    other = dataset.select(np.arange(30))
    with full_disk(100), pytest.raises(OSError, match=SAYS_WHY):
        other.save(path)
    assert list(tmp_path.iterdir()) == [path]
    found = (RegionDataset if kind == "region" else CellDataset).load(path)
    np.testing.assert_array_equal(found.features, dataset.features)
    other.save(path)
