"""The networks: torchvision's parameters, any number of channels, and training on images of cells."""

import re

import numpy as np
import pytest
import torch
from cell_helpers import QUICK, SHAPE, cells

from si_neuroml.celltypes.backbones import BACKBONES, build_backbone
from si_neuroml.celltypes.image_training import ImageNetwork, image_settings
from si_neuroml.celltypes.networks import ScalogramNetwork, measure_images
from si_neuroml.errors import InputError, TrainingError

# published numbers of parameters with 1000 classes; InceptionV3 with its auxiliary classifier
PARAMETERS = {"mobilenet_v2": 3504872, "resnet18": 11689512, "densenet121": 7978856, "inception_v3": 27161264}
# tensors in the official files as saved today, and some of their names and shapes
TENSORS = {"mobilenet_v2": 314, "resnet18": 122, "densenet121": 727, "inception_v3": 580}
SHAPES = {
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.3.running_var": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    },
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.running_mean": (128,),
        "layer4.1.conv2.weight": (512, 512, 3, 3),
        "fc.weight": (1000, 512),
    },
    "densenet121": {
        "features.conv0.weight": (64, 3, 7, 7),
        "features.denseblock1.denselayer6.norm1.weight": (224,),
        "features.denseblock3.denselayer24.conv2.weight": (32, 128, 3, 3),
        "features.transition3.conv.weight": (512, 1024, 1, 1),
        "features.norm5.weight": (1024,),
        "classifier.bias": (1000,),
    },
    "inception_v3": {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6e.branch7x7dbl_2.conv.weight": (192, 192, 7, 1),
        "AuxLogits.conv1.conv.weight": (768, 128, 5, 5),
        "Mixed_7c.branch3x3dbl_3b.bn.weight": (384,),
        "fc.weight": (1000, 2048),
    },
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_torchvision(name):
    # shapes alone: nothing is allocated
    with torch.device("meta"):
        network = build_backbone(name)
    assert sum(value.numel() for value in network.parameters()) == PARAMETERS[name]
    state = network.state_dict()
    assert len(state) == TENSORS[name]
    assert {key: tuple(state[key].shape) for key in SHAPES[name]} == SHAPES[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_keys_shapes_and_answers_agree_with_torchvision(name):
    models = pytest.importorskip("torchvision.models", exc_type=(ImportError, RuntimeError))
    theirs = getattr(models, name)(weights=None, **({"transform_input": False} if name == "inception_v3" else {}))
    ours = build_backbone(name)
    expected = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours.state_dict().items()} == expected
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 96, 128)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-4)


def test_the_compact_network_is_small():
    network = build_backbone("compact", 4, 2)
    assert sum(value.numel() for value in network.parameters()) < 100_000


@pytest.mark.parametrize("name", BACKBONES)
def test_the_last_layer_reads_the_embedding(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone(name, 4, 2).eval()
    images = torch.randn(2, 2, 80, 76, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        embedded = backbone.embed(images)
        logits = backbone(images)
        torch.testing.assert_close(backbone.get_submodule(backbone.head_name)(embedded), logits)
    assert logits.shape == (2, 4)
    assert backbone.get_submodule(backbone.first_conv).weight.shape[1] == 2
    # two images are not one
    assert (logits[0] - logits[1]).abs().max() > 1e-3 * logits.abs().max()


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_trains_an_epoch_and_predicts(name):
    dataset = cells(8)
    network = ImageNetwork(name, None, {"max_epochs": 1, "batch_size": 4}).fit(dataset.images, dataset.labels)
    probabilities = network.predict_proba(dataset.images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert np.isfinite(network.embed(dataset.images)).all()
    again = ImageNetwork.from_arrays(network.to_arrays(), network.classes_, **network.settings())
    np.testing.assert_allclose(again.predict_proba(dataset.images), probabilities, atol=1e-6)


def test_the_auxiliary_classifier_helps_in_training_only():
    backbone = build_backbone("inception_v3", 3, 2)
    network = ScalogramNetwork(backbone, measure_images(cells(4).images), input_size=(299, 299))
    images = torch.from_numpy(cells(2).images)
    logits, auxiliary = network.train()(images)
    assert logits.shape == auxiliary.shape == (2, 3)
    with torch.inference_mode():
        assert network.eval()(images).shape == (2, 3)
        # images too small for it go without
        network.input_size = (75, 75)
        assert isinstance(network.train()(images), torch.Tensor)


def test_a_network_learns_and_repeats_itself():
    dataset, fresh = cells(90), cells(90, seed=1)
    network, same = (ImageNetwork("compact", None, QUICK).fit(dataset.images, dataset.labels) for _ in range(2))
    assert (network.predict(fresh.images) == fresh.labels).mean() > 0.8
    np.testing.assert_array_equal(same.predict_proba(fresh.images), network.predict_proba(fresh.images))
    assert network.history_["train_loss"][-1] < network.history_["train_loss"][0]
    again = ImageNetwork.from_arrays(network.to_arrays(), network.classes_, **network.settings())
    np.testing.assert_allclose(again.predict_proba(fresh.images), network.predict_proba(fresh.images), atol=1e-6)
    np.testing.assert_allclose(again.embed(fresh.images), network.embed(fresh.images), atol=1e-5)


def test_all_layers_are_trained():
    dataset = cells(30)
    network = ImageNetwork("mobilenet_v2", None, {**QUICK, "max_epochs": 1, "weight_decay": 0.0})
    network.fit(dataset.images, dataset.labels)
    torch.manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = build_backbone("mobilenet_v2", 3, 2)
    trained = network.network_.backbone.state_dict()
    unmoved = [key for key, value in start.named_parameters() if torch.equal(value, trained[key])]
    assert unmoved == []


def test_patience_stops_on_donors_held_out():
    dataset = cells(90)
    options = {**QUICK, "patience": 1, "max_epochs": 12, "learning_rate": 0.05}
    network = ImageNetwork("compact", None, options).fit(dataset.images, dataset.labels, groups=dataset.groups)
    losses = network.history_["valid_loss"]
    assert len(losses) < 12
    assert losses[-1] >= min(losses)


def test_class_weights_move_the_balance():
    """Of labels that the images say nothing about, the shares are learned: those of cells, or even ones."""
    images = cells(200, noise=1.0).images
    labels = (np.random.default_rng(0).random(200) < 0.1).astype(int)
    shares = []
    for power in (0.0, 1.0):
        network = ImageNetwork("compact", None, {**QUICK, "max_epochs": 2}, class_weight_power=power)
        shares.append(network.fit(images, labels).predict_proba(images)[:, 1].mean())
    assert shares[0] < 0.25
    assert shares[1] > shares[0] + 0.1


def test_scaling_is_that_of_the_training_images():
    images = cells(20).images * np.array([1e-3, 50.0], dtype="float32")[:, None, None]
    network = ScalogramNetwork(build_backbone("compact", 3, 2), measure_images(images))
    prepared = network._prepared(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(prepared.mean(axis=(0, 2, 3)), 0.0, atol=1e-3)
    np.testing.assert_allclose(prepared.std(axis=(0, 2, 3)), 1.0, atol=1e-3)
    assert measure_images(np.zeros((3, 2, 4, 4), dtype="float32"))["sd"].min() > 0


def test_the_random_state_of_the_user_stays():
    dataset = cells(20)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    network = ImageNetwork("compact", None, {**QUICK, "max_epochs": 1}).fit(dataset.images, dataset.labels)
    ImageNetwork.from_arrays(network.to_arrays(), network.classes_, **network.settings())
    torch.testing.assert_close(torch.rand(3), expected)


def test_bad_settings_and_images_are_refused():
    dataset = cells(20)
    for options, word in (({"dropout": 1.0}, "dropout"), ({"batch_size": 0}, "batch_size"), ({"lr": 1}, "lr")):
        with pytest.raises(InputError, match=word):
            image_settings(options)
    assert image_settings({}, pretrained=True)["learning_rate"] < image_settings()["learning_rate"]
    with pytest.raises(InputError, match=re.escape("(20, 12, 40)")):
        ImageNetwork().fit(dataset.images[:, 0], dataset.labels)
    network = ImageNetwork("compact", None, {**QUICK, "max_epochs": 1}).fit(dataset.images, dataset.labels)
    with pytest.raises(InputError, match="2 channels"):
        network.predict_proba(dataset.images[:, :1])
    assert network.predict_proba(dataset.images[:0]).shape == (0, 3)
    with pytest.raises(TrainingError, match="one class"):
        ImageNetwork().fit(dataset.images, np.zeros(20))
    assert dataset.images.shape[1:] == SHAPE
