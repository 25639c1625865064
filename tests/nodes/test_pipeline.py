"""No model given, and dense waveforms that are cut only for those who read them."""

import json
import os
import warnings

import numpy as np
import pytest
import spikeinterface.full as si
from helpers import FAST_FIT, QUIET, assert_same, fields, localize, stored
from spikeinterface.core.node_pipeline import ExtractDenseWaveforms, PeakRetriever, PipelineNode, run_node_pipeline
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

from si_neuroml.errors import InputError
from si_neuroml.localization import fit as fit_module
from si_neuroml.localization.nodes import DeferredDenseWaveforms, LocalizeVAE


def test_no_model_trains_once_and_warns_once(recording, peaks, monkeypatch, tmp_path):
    log = tmp_path / "fits"
    fit = fit_module.fit_localizer

    def logged(recording, peaks, **kwargs):
        with log.open("a") as file:
            file.write(json.dumps({"pid": os.getpid(), "peaks": len(peaks), **kwargs}) + "\n")
        return fit(recording, peaks, **kwargs)

    monkeypatch.setattr(fit_module, "fit_localizer", logged)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = localize(
            recording,
            peaks,
            method_kwargs={"ms_before": 0.4, "fit_kwargs": {**FAST_FIT, "hidden_sizes": [20, 10]}},
            n_jobs=2,
            chunk_duration="0.5s",
        )
    assert sum("was given no model" in str(warning.message) for warning in caught) == 1
    (call,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert call["pid"] == os.getpid(), "a worker trained"
    assert call["peaks"] == len(peaks)
    assert (call["ms_before"], call["hidden_sizes"], call["epochs"]) == (0.4, [20, 10], 1)
    expected = fit(recording, peaks, ms_before=0.4, hidden_sizes=(20, 10), progress_bar=False, **FAST_FIT)
    assert_same(found, localize(recording, peaks, expected))


def test_analyzer_without_a_model_trains_on_its_spikes(recording, sorting):
    analyzer = si.create_sorting_analyzer(sorting, recording, job_kwargs=QUIET)
    analyzer.compute(["random_spikes", "templates"], **QUIET)
    with pytest.warns(UserWarning, match="was given no model: fitting one to the .* peaks at hand"):
        analyzer.compute("spike_locations", method="vae", method_kwargs={"fit_kwargs": FAST_FIT}, **QUIET)
    assert np.isfinite(fields(stored(analyzer))).all()


def test_nodes_for_workers_carry_the_fitted_model(recording, peaks):
    source = PeakRetriever(recording, peaks)
    with pytest.warns(UserWarning, match="was given no model"):
        node = LocalizeVAE(recording, [source], fit_kwargs=FAST_FIT)
    assert node._kwargs["model"] is node.model
    assert "fit_kwargs" not in node._kwargs


def test_fit_kwargs_beside_a_model_are_refused(recording, peaks, model):
    with pytest.raises(InputError, match="leave them out when a model is given"):
        localize(recording, peaks, model, method_kwargs={"fit_kwargs": FAST_FIT})


class SumOfWaveforms(PipelineNode):
    """A node of somebody else, which reads dense waveforms."""

    def __init__(self, recording, parents):
        PipelineNode.__init__(self, recording, return_output=True, parents=parents)
        self._kwargs.update()

    def get_dtype(self):
        return np.dtype("float64")

    def compute(self, traces, peaks, waveforms):
        # what nodes do with an array: ufuncs, arithmetic, comparison, indexing, shape
        assert waveforms.shape[0] == len(waveforms) == len(peaks)
        total = (waveforms**2 * 2.0 - waveforms).sum(axis=(1, 2)) + (waveforms < 0).sum(axis=(1, 2))
        return total + np.ptp(waveforms, axis=1).sum(axis=1) + np.abs(-waveforms[:, 0, :]).sum(axis=1)


@pytest.fixture
def cuts(monkeypatch):
    """How often SpikeInterface cuts dense waveforms."""
    calls = []
    compute = ExtractDenseWaveforms.compute

    def counted(self, traces, peaks):
        calls.append(len(peaks))
        return compute(self, traces, peaks)

    monkeypatch.setattr(ExtractDenseWaveforms, "compute", counted)
    return calls


def test_our_methods_cut_no_dense_waveforms(recording, peaks, model, expected, cuts):
    assert_same(localize(recording, peaks, model), expected)
    localize(recording, peaks, method="center_of_mass_nearest")
    assert cuts == []
    localize_peaks(recording, peaks, method="center_of_mass", job_kwargs=QUIET)
    assert len(cuts) > 0


@pytest.mark.parametrize(
    ("ours_first", "job_kwargs"),
    [(True, {}), (False, {}), (True, {"n_jobs": 2, "mp_context": "spawn", "chunk_duration": "2s"})],
)
def test_another_node_still_gets_dense_waveforms(recording, peaks, model, expected, ours_first, job_kwargs):
    def run(with_ours):
        source = PeakRetriever(recording, peaks)
        dense = ExtractDenseWaveforms(recording, parents=[source], ms_before=0.5, ms_after=0.5, return_output=False)
        theirs = SumOfWaveforms(recording, [source, dense])
        com = si_method("center_of_mass")(recording, parents=[source, dense])
        nodes = [theirs, com]
        if with_ours:
            ours = LocalizeVAE(recording, [source, dense], model=model)
            nodes = [ours, *nodes] if ours_first else [*nodes, ours]
            assert type(dense) is DeferredDenseWaveforms
        found = run_node_pipeline(
            recording, [source, dense, *nodes], {**QUIET, **job_kwargs}, "test", squeeze_output=False
        )
        return dict(zip([type(node).__name__ for node in nodes], found, strict=True))

    alone, together = run(False), run(True)
    np.testing.assert_array_equal(together["SumOfWaveforms"], alone["SumOfWaveforms"])
    np.testing.assert_array_equal(together["LocalizeCenterOfMass"], alone["LocalizeCenterOfMass"])
    assert_same(together["LocalizeVAE"], expected)


def si_method(name):
    from spikeinterface.sortingcomponents.peak_localization import peak_localization_methods

    return peak_localization_methods[name]


def test_a_parent_whose_waveforms_are_asked_for_is_left_alone(recording, peaks, model, expected):
    source = PeakRetriever(recording, peaks)
    dense = ExtractDenseWaveforms(recording, parents=[source], nbefore=4, nafter=6, return_output=True)
    ours = LocalizeVAE(recording, [source, dense], model=model)
    assert type(dense) is ExtractDenseWaveforms
    waveforms, found = run_node_pipeline(recording, [source, dense, ours], QUIET, "test")
    assert waveforms.shape == (len(peaks), 10, 100)
    assert np.ptp(waveforms) > 0
    assert_same(found, expected)
