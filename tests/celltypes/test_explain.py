"""Explanations: where the truth is known, they find it; sums are complete; random networks explain nothing."""

import numpy as np
import pytest
from cell_helpers import FREQUENCIES, NAMES, QUICK, TIMES, TYPES, cells

from si_neuroml.celltypes.explain import explain_features, explain_images, randomisation_check
from si_neuroml.celltypes.fit import fit_cell_type_classifier
from si_neuroml.errors import InputError


@pytest.fixture(scope="module")
def classifier():
    options = {"image_kwargs": {**QUICK, "max_epochs": 10}, "feature_kwargs": {"max_iter": 20}}
    return fit_cell_type_classifier(cells(120, noise=0.5), num_folds=2, progress_bar=False, **options)


@pytest.fixture(scope="module")
def fresh():
    return cells(24, seed=1, noise=0.5)


def test_integrated_gradients_are_complete_and_find_the_activity(classifier, fresh):
    explained = explain_images(classifier, fresh, target=fresh.labels)
    assert explained.attribution.shape == fresh.images.shape
    assert explained.completeness_error.max() < 0.05
    # the sum is the change of the centred logit from no activity at all
    import torch

    network = classifier.streams["image"].estimator.network_
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.concatenate([fresh.images, np.zeros_like(fresh.images[:1])]))).numpy()
    logits -= logits.mean(axis=1, keepdims=True)
    own = np.searchsorted(TYPES, fresh.labels)
    change = logits[:-1][np.arange(24), own] - logits[-1, own]
    np.testing.assert_allclose(explained.attribution.sum(axis=(1, 2, 3)), change, rtol=0.05, atol=0.02)
    # excitatory cells are active early and at low frequencies, Pvalb cells late and at high ones
    times = {name: explained.time_profile(name) @ TIMES for name in ("Excitatory", "Pvalb")}
    assert times["Excitatory"] < 400 < times["Pvalb"]
    frequencies = {name: explained.frequency_profile(name) @ FREQUENCIES for name in ("Excitatory", "Pvalb")}
    assert frequencies["Excitatory"] < frequencies["Pvalb"]
    assert explained.mean("Pvalb")[:, 9:, 27:33].mean() > 5 * abs(explained.mean("Pvalb")[:, :4, :10].mean())


def test_saliency_is_the_gradient(classifier, fresh):
    import torch

    explained = explain_images(classifier, fresh, method="saliency")
    network = classifier.streams["image"].estimator.network_
    images = torch.from_numpy(fresh.images[:3]).requires_grad_()
    logits = network(images)
    centered = logits - logits.mean(dim=1, keepdim=True)
    own = [classifier.classes.index(name) for name in explained.target[:3]]
    centered[torch.arange(3), own].sum().backward()
    np.testing.assert_allclose(explained.attribution[:3], images.grad.abs().numpy(), rtol=1e-3, atol=1e-6)
    assert np.isnan(explained.completeness_error).all()
    assert (explained.target == fresh.labels).mean() > 0.9


def test_a_random_network_explains_nothing(classifier, fresh):
    table = randomisation_check(classifier, fresh.select(np.arange(8)), baseline="mean", num_stages=3)
    assert table["num_layers"].is_monotonic_increasing
    assert table["first_layer"].iloc[0] == "head"
    assert table["first_layer"].iloc[-1] == "convolutions.0.0"
    assert table["correlation"].iloc[-1] < 0.6
    # the classifier itself is as it was
    same = randomisation_check(classifier, fresh.select(np.arange(8)), baseline="mean", num_stages=3)
    np.testing.assert_allclose(same["correlation"], table["correlation"])


def test_too_few_steps_are_reported(classifier, fresh):
    with pytest.warns(UserWarning, match="Take more than 2 steps"):
        explain_images(classifier, fresh, num_steps=2)


def test_cells_without_an_image_are_left_out(classifier, fresh):
    from si_neuroml.celltypes.dataset import CellDataset

    images = fresh.images.copy()
    images[[0, 3]] = np.nan
    part = CellDataset(fresh.cells, images, fresh.features, NAMES, FREQUENCIES, TIMES)
    explained = explain_images(classifier, part, target=list(fresh.labels), baseline="mean")
    assert explained.rows.tolist() == [k for k in range(24) if k not in (0, 3)]
    assert (explained.target == fresh.labels[explained.rows]).all()


def test_feature_contributions_add_up_and_ignore_noise(classifier, fresh):
    explained = explain_features(classifier, fresh)
    logits = classifier.streams["features"].estimator.decision_function(fresh.features)
    logits -= logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(explained.expected + explained.contributions.sum(axis=1), logits, atol=1e-9)
    table = explained.importance()
    assert list(table.columns) == list(TYPES)
    assert table.index[-1] == "noise"
    # of excitatory cells the low rate speaks for them
    own = fresh.labels == "Excitatory"
    assert explained.contributions[own, NAMES.index("rate_hz"), 0].mean() > 0.2


def test_the_plot_shows_each_type_in_hz_and_ms(classifier, fresh):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from si_neuroml.widgets.scalogram_attribution import plot_scalogram_attribution

    explained = explain_images(classifier, fresh, target=list(fresh.labels))
    widget = plot_scalogram_attribution(explained, channel_names=("rheobase", "+40 pA"))
    assert set(widget.panels) == set(TYPES)
    axes = widget.panels["Pvalb"]
    assert len(axes["image"]) == len(axes["attribution"]) == 2
    shown = axes["attribution"][0].collections[0].get_array().reshape(explained.mean("Pvalb").shape[1:])
    np.testing.assert_allclose(shown, explained.mean("Pvalb")[0])
    assert axes["image"][0].get_ylabel().endswith("frequency (Hz)")
    assert axes["image"][0].get_yscale() == "log"
    bottom = list(widget.panels.values())[-1]
    assert {ax.get_xlabel() for part in bottom.values() for ax in part} == {"time from onset (ms)"}
    bars = [ax.get_ylabel() for ax in widget.figure.axes]
    assert [bars.count(label) for label in ("image", "adds to the logit")] == [len(TYPES)] * 2
    one = plot_scalogram_attribution(explained, cells="example", targets=["Sst"])
    assert set(one.panels) == {"Sst"}
    with pytest.raises(InputError, match="Vip"):
        plot_scalogram_attribution(explained, targets=["Vip"])
    plt.close("all")


def test_bad_questions_are_refused(classifier, fresh):
    with pytest.raises(InputError, match="lime"):
        explain_images(classifier, fresh, method="lime")
    with pytest.raises(InputError, match="Vip"):
        explain_images(classifier, fresh, target="Vip")
    with pytest.raises(InputError, match="baseline"):
        explain_images(classifier, fresh, baseline="noise")
    with pytest.raises(InputError, match="baseline"):
        explain_images(classifier, fresh, baseline=np.zeros((2, 3, 4)))
    features = fit_cell_type_classifier(
        cells(60, images=False), feature_kwargs={"max_iter": 5}, num_folds=2, progress_bar=False
    )
    with pytest.raises(InputError, match="features alone"):
        explain_images(features, fresh)
