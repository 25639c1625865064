"""Ctrl-C: the call ends with a KeyboardInterrupt, leaves no process and no part of a result, and works when repeated.

Scripts with calls that would go on for long are interrupted as a terminal does it: all processes of the group at once.

What SpikeInterface's executor does is not in our hands: it waits for the chunks that are being computed, and when the
interruption meets the process that gathers results outside of its wait for the next one, for all that are left.
"""

import signal
import sys
import time
from pathlib import Path

import pytest
from fault_scripts import errors_of, group_is_gone, interrupt, kill, members, start, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes")

# much longer than it takes, for machines with other work; a call that takes no notice would take longer still
LIMIT_S = 60

TRAINING = """
import pandas as pd
sys.path.insert(0, sys.argv[2])
from events_helpers import make_recording
from spikeinterface.core import load
from spikeinterface.core.node_pipeline import base_peak_dtype
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.regions.dataset import RegionDataset

slow_steps_of_training()
recording = load(sys.argv[3])
rng = np.random.default_rng(0)
peaks = np.zeros(100, dtype=base_peak_dtype)
peaks["sample_index"] = np.sort(rng.integers(100, recording.get_num_samples() - 100, len(peaks)))
quick = {"epochs": 2, "learning_rate": 1e-3, "progress_bar": False, "job_kwargs": {"n_jobs": 1}}
interrupted_then_again(lambda: si_neuroml.fit_localizer(recording, peaks, **quick), "localizer")

subjects = np.repeat(["x", "y", "z"], 20)
units = {"subject": subjects, "recording": subjects, "unit_id": np.arange(60), "region": ["CA1", "VISp"] * 30}
names = [f"log_isi_{k:02}" for k in range(20)]
dataset = RegionDataset(pd.DataFrame({**units, "depth_um": np.arange(60.0)}), rng.random((60, 20)), names)
quick = {"model_kwargs": {"max_epochs": 2}, "progress_bar": False}
interrupted_then_again(lambda: si_neuroml.fit_region_classifier(dataset, "dmlp", **quick), "regions")

cells = {"cell_id": np.arange(40), "label": ["Pvalb", "Sst"] * 20, "donor": np.repeat(["a", "b", "c", "d"], 10)}
images = rng.standard_normal((40, 2, 8, 24)).astype("float32")
dataset = CellDataset(pd.DataFrame({**cells, "dataset": "lab"}), images)
quick = {"image_kwargs": {"max_epochs": 1}, "progress_bar": False}
interrupted_then_again(lambda: si_neuroml.fit_cell_type_classifier(dataset, "image", **quick), "celltypes")

recording, events = make_recording([6000], num_events=30)
short = {"max_epochs": 2, "batch_size": 8, "steps_per_epoch": 10}
quick = {"training_kwargs": short, "num_folds": 1, "progress_bar": False}
interrupted_then_again(lambda: si_neuroml.fit_event_detector(recording, events, **quick), "events", last=True)
"""

PIPELINES = """
import spikeinterface.full as si
from spikeinterface.core.node_pipeline import base_peak_dtype
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

recording, sorting = si.load(f"{sys.argv[2]}/recording"), si.load(f"{sys.argv[2]}/sorting")
job = {"n_jobs": 2, "chunk_duration": "0.04s", "progress_bar": False}
peaks = np.zeros(1000, dtype=base_peak_dtype)
peaks["sample_index"] = np.sort(np.random.default_rng(0).integers(100, recording.get_num_samples() - 100, len(peaks)))
for engine in ("thread", "process"):
    options = {"method": "neural_posterior", "job_kwargs": job | {"pool_engine": engine}}
    interrupted_then_again(lambda: localize_peaks(recording, peaks, **options), engine)

name = "spike_location_posteriors"
for format, folder in (("binary_folder", FOLDER / "analyzer"), ("zarr", FOLDER / "analyzer.zarr")):
    analyzer = si.create_sorting_analyzer(sorting, recording, format=format, folder=folder, sparse=False)
    analyzer.compute(["random_spikes", "templates"], n_jobs=1, progress_bar=False)

    def check():
        assert not analyzer.has_extension(name)
        assert set(si.load_sorting_analyzer(folder).get_loaded_extension_names()) == {"random_spikes", "templates"}
        assert not list(folder.rglob(f"{name}*"))

    try:
        interrupted_then_again(lambda: analyzer.compute(name, **job), format, check, last=format == "zarr")
    finally:
        analyzer = si.load_sorting_analyzer(folder)
        found = analyzer.get_extension(name).get_data()
        assert len(found) == len(sorting.to_spike_vector()) and (found["x_std"] > 0).all()
"""

CLUSTER = """
import spikeinterface.full as si
from distributed import Client
from spikeinterface.sortingcomponents.peak_detection.method_list import detect_peak_methods

recording, out = si.load(f"{sys.argv[2]}/recording"), FOLDER / "out"
detector = detect_peak_methods["locally_exclusive"](recording, noise_levels=np.full(16, 5.0))
options = {"shard_duration_s": 0.2, "job_kwargs": {"n_jobs": 2, "chunk_duration": "0.1s", "progress_bar": False}}
clients = [None]

def check():
    whole = [path.name for path in out.iterdir() if not path.name.startswith(".")]
    assert set(whole) <= {"job.json", *(f"shard_{k:06d}.npz" for k in range(20))}, whole
    # threads of this process, quicker than new ones
    clients[0] = Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None)

computing = lambda: si_neuroml.run_sharded(recording, [detector], out, client=clients[0], **options)
try:
    interrupted_then_again(computing, "cluster", check, last=True)
finally:
    clients[0].shutdown()
    assert sorted(path.name for path in out.iterdir()) == ["job.json", "output_0.npy"]
"""


def run_and_interrupt(code, folder, *arguments, names):
    """Interrupt the calls of a script one after the other; the last ends it."""
    process = start(code, folder, *arguments)
    try:
        for name in names:
            wait_for(folder / f"{name}_begun", process)
            # in the middle of it
            time.sleep(0.3)
            interrupt(process)
            wait_for(folder / f"{name}_interrupted", process, LIMIT_S)
            wait_for(folder / f"{name}_again", process)
            if name != names[-1]:
                assert members(process.pid) == [process.pid]
                (folder / f"{name}_seen").touch()
        process.wait(LIMIT_S)
        assert process.returncode == -signal.SIGINT, errors_of(process)
        assert errors_of(process).rstrip().endswith("KeyboardInterrupt")
        assert group_is_gone(process)
    finally:
        kill(process)


def test_training(saved_sources, tmp_path):
    helpers, recording = Path(__file__).parents[1] / "events", saved_sources / "recording"
    run_and_interrupt(TRAINING, tmp_path, helpers, recording, names=["localizer", "regions", "celltypes", "events"])


def test_pipelines_and_extensions(saved_sources, tmp_path):
    run_and_interrupt(PIPELINES, tmp_path, saved_sources, names=["thread", "process", "binary_folder", "zarr"])


def test_a_cluster_of_its_own(saved_sources, tmp_path):
    pytest.importorskip("distributed")
    run_and_interrupt(CLUSTER, tmp_path, saved_sources, names=["cluster"])
