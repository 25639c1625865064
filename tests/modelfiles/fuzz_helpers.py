"""Small models of several kinds, damage to bytes and to contents, and an eye on what a reader does."""

import sys
from contextlib import contextmanager

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from spikeinterface.core import generate_ground_truth_recording
from spikeinterface.core.node_pipeline import base_peak_dtype

import si_neuroml
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.regions.dataset import RegionDataset

# what nobody does who only reads numbers; "open" counts when it is for writing, but for what Python keeps of an import
FORBIDDEN = {"open", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "os.system", "pickle.find_class"}
FORBIDDEN |= {"shutil.rmtree", "socket.connect", "subprocess.Popen"}
_watched = {"on": False, "seen": []}


def _note(event, arguments):
    if not _watched["on"] or event not in FORBIDDEN or "__pycache__" in str(arguments):
        return
    if event != "open" or set(str(arguments[1])) & set("wax+"):
        _watched["seen"].append((event, str(arguments)[:200]))


# there is no way to take it out again
sys.addaudithook(_note)


@contextmanager
def only_reads():
    """Nothing is run, written or connected to inside."""
    _watched.update(on=True, seen=[])
    try:
        yield
    finally:
        _watched["on"] = False
        assert _watched["seen"] == []


@st.composite
def damages(draw):
    """A function that changes some bytes, loses some or adds some, in up to three places."""
    places = st.tuples(
        st.sampled_from(["change", "flip", "lose", "add"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=4),
    )
    return tuple(draw(st.lists(places, min_size=1, max_size=3)))


def damaged(content, damage):
    """The bytes after it; they may be the same."""
    content = bytearray(content)
    for what, place, new in damage:
        at = int(place * len(content))
        if what == "flip" and content:
            content[at] ^= new[0]
        elif what == "add":
            content[at:at] = new
        else:
            content[at : at + len(new)] = new if what == "change" else b""
    return bytes(content)


def region_dataset():
    rng, subjects = np.random.default_rng(0), np.repeat(["x", "y", "z"], 20)
    units = {"subject": subjects, "recording": subjects, "unit_id": np.arange(60), "region": ["CA1", "VISp"] * 30}
    names = [f"log_isi_{k:02}" for k in range(8)]
    psth, edges = rng.random((60, 5)), np.linspace(-1, 1, 6)
    table = pd.DataFrame({**units, "depth_um": np.arange(60.0)})
    return RegionDataset(table, rng.random((60, 8)), names, psth, edges)


def cell_dataset():
    rng = np.random.default_rng(0)
    cells = {"cell_id": np.arange(40).astype(str), "label": ["Pvalb", "Sst"] * 20, "donor": np.repeat(list("abcd"), 10)}
    axes = np.geomspace(20.0, 200.0, 6), np.linspace(0.0, 100.0, 9)
    return CellDataset(pd.DataFrame(cells), rng.random((40, 1, 6, 9)), rng.random((40, 3)), ("p", "q", "r"), *axes)


def _localizer():
    recording, _ = generate_ground_truth_recording(durations=[2.0], num_channels=9, num_units=3, seed=0)
    peaks = np.zeros(100, dtype=base_peak_dtype)
    peaks["sample_index"] = np.linspace(100, recording.get_num_samples() - 100, len(peaks)).astype("int64")
    options = {"epochs": 1, "learning_rate": 1e-3, "device": "cpu", "job_kwargs": {"n_jobs": 1}}
    return si_neuroml.fit_localizer(recording, peaks, progress_bar=False, **options)


def _detector():
    recording, sorting = generate_ground_truth_recording(durations=[10.0], num_channels=2, num_units=2, seed=0)
    return si_neuroml.fit_event_detector(recording, sorting, network="matched_filter", progress_bar=False)


MAKERS = {
    "regions by regression": lambda: si_neuroml.fit_region_classifier(
        region_dataset(), "logistic_regression", progress_bar=False
    ),
    "regions by network": lambda: si_neuroml.fit_region_classifier(
        region_dataset(), "dmlp", model_kwargs={"max_epochs": 1}, progress_bar=False
    ),
    "cell types": lambda: si_neuroml.fit_cell_type_classifier(
        cell_dataset(), "features", feature_kwargs={"max_iter": 2}, progress_bar=False
    ),
    "events": _detector,
    "localizer": _localizer,
}
