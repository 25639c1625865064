"""Fine-tuning without labels: what copies are, what is learned from them, and an honest report."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

import si_neuroml
from si_neuroml.errors import InputError, ModelFileError
from si_neuroml.localization import fine_tune, fine_tune_training
from si_neuroml.localization.fine_tune_copies import SpikeCopies, count_near, place_groups
from si_neuroml.localization.fine_tune_cuts import collect_material
from si_neuroml.localization.neural_posterior import NeuralPosterior, shipped_posterior
from si_neuroml.localization.recordings import sort_peaks, trace_info
from si_neuroml.localization.set_network import SetNetwork

JOB = {"n_jobs": 1, "chunk_duration": "1s", "progress_bar": False}


@pytest.fixture(scope="module")
def material(mearec_small, peaks_small):
    """(prepared model, what is cut from the recording)."""
    info = trace_info(mearec_small[0])
    prepared = shipped_posterior().prepare(info.contact_locations, info.sampling_frequency)
    options = {"peak_sign": "neg", "max_spikes": 400, "seed": 0, "job_kwargs": JOB}
    return prepared, collect_material(mearec_small[0], sort_peaks(peaks_small), info, prepared, **options)


def tune(mearec_small, peaks_small, **options):
    options = {"steps": 2, "max_spikes": 400, "progress_bar": False, "job_kwargs": JOB, **options}
    return si_neuroml.fine_tune_localizer(mearec_small[0], peaks_small, **options)


def damaged_model(threshold_uv):
    """The shipped model with small spikes moved to the right: 60 um per unit of log amplitude below a threshold."""
    model = shipped_posterior()
    weights = {name: value.copy() for name, value in model.network.weights.items()}
    # the unit that the others of its layer listen to least; its last input is log(scale) - 5
    unit = int(np.abs(weights["dense2.weight"]).sum(axis=0).argmin())
    weights["dense1.weight"][unit] = 0.0
    weights["dense1.weight"][unit, -1], weights["dense1.bias"][unit] = -1.0, np.log(threshold_uv) - 5.0
    for name in ("dense2.weight", "context.weight", "output.weight"):
        weights[name][:, unit] = 0.0
    weights["dense3.weight"][:, unit - weights["dense2.weight"].shape[1]] = 0.0
    weights["dense4.weight"][:, unit] = 0.0
    for layer in ("dense2", "dense3", "dense4"):
        weights[f"{layer}.weight"][unit], weights[f"{layer}.bias"][unit] = 0.0, 0.0
    weights["output.weight"][0, unit] = 2.0
    return NeuralPosterior(
        SetNetwork(weights),
        model.basis,
        sampling_frequency=model.sampling_frequency,
        nbefore=model.nbefore,
        num_slots=model.num_slots,
        radius_um=model.radius_um,
        temperature=model.temperature,
        training={},
    )


def test_a_full_size_copy_without_company_is_the_spike_itself(material):
    prepared, cuts = material
    silent = [part.subset(slice(0)) for part in (cuts.background, cuts.collisions)]
    copies = SpikeCopies(prepared, cuts.wide, cuts.margin, *silent, np.array([1e6]))
    rows = np.arange(len(cuts.clear_depths))
    plain = copies.plain(cuts.clear, rows)
    batch = copies.batch(cuts.clear, cuts.clear_depths, rows, np.random.default_rng(0), dropout=False)
    # a few are detected elsewhere, since SpikeInterface compares fewer channels and samples
    same = (batch.channels == plain.channels[batch.rows]) & (batch.moved == 0).all(axis=1)
    assert same.mean() > 0.9
    equal = (batch.coefficients == plain.coefficients[batch.rows]).all(axis=(1, 2))
    assert equal[same].mean() > 0.7
    centers = prepared.geometry.slots.contact_locations
    shift = centers[batch.channels] - centers[plain.channels[batch.rows]]
    np.testing.assert_allclose(batch.moved, shift, atol=1e-3)


def test_plain_cuts_are_what_the_localizer_sees(material, mearec_small, peaks_small):
    prepared, cuts = material
    batch = SpikeCopies(prepared, cuts.wide, cuts.margin, cuts.background, cuts.collisions, cuts.depths).plain(
        cuts.clear, np.arange(len(cuts.clear_depths))
    )
    found = fine_tune_training.network_posteriors(prepared, batch)
    everywhere = localize_peaks(mearec_small[0], peaks_small, method="neural_posterior", job_kwargs=JOB)
    known = np.column_stack([everywhere[axis] for axis in "xy"])
    places = found.mean[:, :2].numpy() + prepared.geometry.slots.contact_locations[batch.channels, :2]
    distance = np.linalg.norm(places[:, None] - known[None], axis=2).min(axis=1)
    assert distance.max() < 1e-2


def test_copies_are_smaller_and_as_noisy_as_the_recording(material):
    prepared, cuts = material
    copies = SpikeCopies(prepared, cuts.wide, cuts.margin, cuts.background, cuts.collisions, np.array([60.0]))
    rows = np.arange(len(cuts.clear_depths))
    batch = copies.batch(cuts.clear, cuts.clear_depths, rows, np.random.default_rng(0), dropout=True)
    plain = copies.plain(cuts.clear, rows)
    small, large = (np.linalg.norm(b.coefficients, axis=2).max(axis=1) for b in (batch, plain))
    assert np.median(small) < 0.85 * np.median(large[batch.rows])
    # the median channel of a window holds little of the spike
    small, large = (np.median(np.linalg.norm(b.coefficients, axis=2), axis=1) for b in (batch, plain))
    assert 0.75 < np.median(small) / np.median(large) < 1.1
    assert len(batch.rows) > 0.7 * len(rows)
    assert (batch.observed[:, 0] == 1).all()
    assert 0 < (batch.observed < 1).mean() < 0.3
    # every centre sees itself at its own place
    assert (prepared.geometry.plane_offsets[batch.channels, 0] == 0).all()


def test_count_near_agrees_with_the_obvious_version():
    rng = np.random.default_rng(0)
    peaks = np.zeros(300, dtype=[(f"{name}_index", "int64") for name in ("segment", "sample", "channel")])
    for name, high in (("segment", 2), ("sample", 2000), ("channel", 9)):
        peaks[f"{name}_index"] = rng.integers(high, size=300)
    peaks = sort_peaks(peaks)
    contacts = rng.uniform(0, 100, (9, 2))
    slow = [
        sum(
            p["segment_index"] == q["segment_index"]
            and abs(p["sample_index"] - q["sample_index"]) <= 40
            and np.linalg.norm(contacts[p["channel_index"]] - contacts[q["channel_index"]]) <= 50
            for p in peaks
        )
        for q in peaks
    ]
    np.testing.assert_array_equal(count_near(peaks, peaks, contacts, reach=40, radius_um=50), slow)


def test_places_far_apart_are_different_groups():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(5), 20)
    groups = place_groups(60.0 * truth[:, None] + rng.normal(size=(100, 3)), 20.0)
    assert len(np.unique(groups)) == 5
    assert all(len(np.unique(groups[truth == k])) == 1 for k in range(5))


def test_density_and_draws_of_the_teacher_are_student_t():
    rng = np.random.default_rng(0)
    factor = np.tril(rng.normal(size=(3, 3))) + 5.0 * np.eye(3)
    mean, dof = np.array([3.0, -2.0, 20.0]), 6.0
    posterior = fine_tune_training.Posteriors(
        *(torch.tensor(np.array(a)[None], dtype=torch.float32) for a in (mean, factor, dof))
    )
    places = fine_tune_training._sample_places(posterior, 40_000, rng)
    np.testing.assert_allclose(places[0].mean(0), mean, atol=0.2)
    np.testing.assert_allclose(np.cov(places[0].T), factor @ factor.T * dof / (dof - 2), atol=3.0)
    expected = multivariate_t(mean, factor @ factor.T, df=dof).logpdf(places[0, :50].numpy())
    found = fine_tune_training.student_log_density(*posterior, places[:, :50])[0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.fixture(scope="module")
def mended(mearec_small, peaks_small):
    return tune(mearec_small, peaks_small, model=damaged_model(300.0), steps=200)


def test_a_model_that_fails_on_small_spikes_is_mended(mended, mearec_small, peaks_small):
    report = mended.report
    assert mended.helped
    assert report["helped"]
    assert report["nll_change_interval"][0] <= report["nll_change"] <= report["nll_change_interval"][1] < 0
    assert report["after"]["median_um"] < report["before"]["median_um"]
    # closer to the intact model on all spikes of the recording
    intact, *others = (
        localize_peaks(
            mearec_small[0], peaks_small, method="neural_posterior", method_kwargs={"model": model}, job_kwargs=JOB
        )
        for model in (None, damaged_model(300.0), mended.model)
    )
    damage, rest = (np.abs(found["x"] - intact["x"]).mean() for found in others)
    assert rest < damage


def test_report_is_complete_and_travels_with_the_model(mended, tmp_path):
    report = mended.report
    assert report == json.loads(json.dumps(report))
    for name in ("before", "after"):
        assert set(report[name]) == {"nll", "median_um", "coverage_90"}
        assert 0 <= report[name]["coverage_90"] <= 1
    assert report["plain_moved_um"] > 0
    assert min(report["num_places"].values()) >= 1
    assert report["spikes"]["clear"] <= report["spikes"]["surveyed"] <= report["spikes"]["peaks"]
    folder = si_neuroml.save_model(mended.model, tmp_path / "tuned")
    loaded = si_neuroml.load_model(folder)
    assert loaded["digest"] == mended.model["digest"]
    assert loaded.training["fine_tuned_from"] == damaged_model(300.0)["digest"]
    assert loaded.training["report"] == report
    assert loaded.training["recording"]["num_channels"] == 100


def test_what_did_not_help_is_not_returned_unless_asked_for(mearec_small, peaks_small, tmp_path):
    refused = tune(mearec_small, peaks_small)
    assert not refused.helped
    assert refused.model is shipped_posterior()
    kept, again = (tune(mearec_small, peaks_small, keep=True) for _ in range(2))
    assert not kept.helped
    assert kept.report == refused.report
    # the same seed, the same model
    assert kept.model["digest"] == again.model["digest"]
    assert kept.model["digest"] != shipped_posterior()["digest"]
    folder = si_neuroml.save_model(kept.model, tmp_path / "kept")
    places = [
        localize_peaks(
            mearec_small[0], peaks_small, method="neural_posterior", method_kwargs={"model": m}, job_kwargs=JOB
        )
        for m in (kept.model, folder)
    ]
    np.testing.assert_array_equal(*places)


def test_rows_of_the_outlier_output_stay_as_they_are(mended):
    before, after = damaged_model(300.0).network.weights, mended.model.network.weights
    np.testing.assert_array_equal(after["output.weight"][10:], before["output.weight"][10:])
    np.testing.assert_array_equal(after["output.bias"][10:], before["output.bias"][10:])
    assert (after["output.weight"][:10] != before["output.weight"][:10]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"max_spikes": 10}, "max_spikes must be a whole number of at least 200"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"peak_sign": "up"}, "peak_sign must be one of"),
        ({"device": "abacus"}, "device must be"),
        ({"peak_sign": "pos"}, "spikes are clear enough to learn from.*check peak_sign='pos'"),
    ],
)
def test_wrong_settings_are_named(mearec_small, peaks_small, options, message):
    with pytest.raises(InputError, match=message):
        tune(mearec_small, peaks_small, **options)


def test_wrong_peaks_and_models_are_named(mearec_small, peaks_small, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="at least 500 peaks, got 40"):
        tune(mearec_small, peaks_small[:40])
    foreign = peaks_small.copy()
    foreign["channel_index"] += 1000
    with pytest.raises(InputError, match="channel_index outside"):
        tune(mearec_small, foreign)
    with pytest.raises(ModelFileError, match="no model folder"):
        tune(mearec_small, peaks_small, model=tmp_path / "nowhere")
    monkeypatch.setattr(fine_tune, "MIN_PLACES", 1000)
    with pytest.raises(InputError, match="at least 1000 are needed to learn from some"):
        tune(mearec_small, peaks_small)
