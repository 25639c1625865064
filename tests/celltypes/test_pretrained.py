"""ImageNet weights: files of torch.save in both formats, without running what they say; channels, classes, hashes."""

import hashlib
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from cell_helpers import QUICK, cells
from safetensors.torch import save_file

from si_neuroml.celltypes.backbones import build_backbone
from si_neuroml.celltypes.image_training import ImageNetwork
from si_neuroml.celltypes.pretrained import (
    OFFICIAL_WEIGHTS,
    adapt_channels,
    load_weights,
    official_weights,
    read_weights,
)
from si_neuroml.celltypes.torch_files import read_torch_file
from si_neuroml.errors import InputError


def tensors():
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(6, 8, generator=generator)
    return OrderedDict(
        plain=whole,
        # a part of the same storage, with other strides
        view=whole.T[2:7, 1:4],
        half=torch.randn(3, generator=generator).half(),
        double=torch.randn(2, 2, generator=generator).double(),
        count=torch.tensor(7),
        flags=torch.tensor([True, False]),
        nothing=torch.zeros(0, 4),
        parameter=torch.nn.Parameter(torch.randn(2, generator=generator)),
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_read_in_both_formats(tmp_path, zipped):
    state = tensors()
    state._metadata = {"": {"version": 1}}
    path = tmp_path / "state.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found = read_torch_file(path)
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].dtype == value.detach().numpy().dtype
        np.testing.assert_array_equal(found[name], value.detach().numpy())


class _Attack:
    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cannot_run_anything(tmp_path, zipped):
    attack = _Attack()
    attack.target = str(tmp_path / "owned")
    path = tmp_path / "state.pth"
    torch.save({"weight": torch.zeros(2), "other": attack}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="mkdir"):
        read_torch_file(path)
    assert not (tmp_path / "owned").exists()


def test_foreign_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "state.pth"
    torch.save({"net": {"weight": torch.zeros(2)}}, path)
    with pytest.raises(InputError, match="something else than a dict of tensors"):
        read_torch_file(path)
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(InputError, match="torch"):
        read_torch_file(path)
    for zipped in (True, False):
        torch.save(tensors(), path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in (0, 3, 100, len(whole) // 2, len(whole) - 30):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match="state.pth"):
                read_torch_file(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="state.pth"):
        read_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.txt", "nothing")
    with pytest.raises(InputError, match="data.pkl"):
        read_torch_file(path)
    with pytest.raises(InputError, match="no file of weights"):
        read_weights(tmp_path / "nowhere.pth")


def test_tensors_cannot_reach_beyond_their_numbers(tmp_path):
    """Sizes in the pickle that are larger than the storage would read foreign memory."""
    path = tmp_path / "state.pth"
    torch.save({"weight": torch.arange(6.0).reshape(2, 3)}, path)
    changed = tmp_path / "changed.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                # BININT1 2, BININT1 3, TUPLE2: the shape (2, 3) becomes (2, 200)
                assert content.count(b"K\x02K\x03\x86") == 1
                content = content.replace(b"K\x02K\x03\x86", b"K\x02K\xc8\x86")
            new.writestr(name, content)
    with pytest.raises(InputError, match="beyond its 6 numbers"):
        read_torch_file(changed)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_go_into_networks_of_other_channels_and_classes(tmp_path, suffix):
    torch.manual_seed(0)
    source = build_backbone("resnet18").eval()
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    network = build_backbone("resnet18", 4, 2, weights=path).eval()
    same = build_backbone("resnet18", weights=path).eval()
    grey = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        # an image that is the same in all channels gives what it gave before
        torch.testing.assert_close(
            network.embed(grey.expand(1, 2, 64, 64)), source.embed(grey.expand(1, 3, 64, 64)), rtol=1e-4, atol=1e-5
        )
        images = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(same(images), source(images))
    assert load_weights(network, read_weights(path)) == ["fc"]
    assert load_weights(same, read_weights(path)) == []


def test_adapted_kernels_keep_their_scale():
    weight = np.random.default_rng(0).normal(0, 1, (5, 3, 7, 7)).astype("float32")
    for channels in (1, 2, 4):
        adapted = adapt_channels(weight, channels)
        assert adapted.shape == (5, channels, 7, 7)
        assert adapted.dtype == weight.dtype
        np.testing.assert_allclose(adapted.sum(axis=1), weight.sum(axis=1), rtol=1e-4, atol=1e-5)
    assert adapt_channels(weight, 3) is weight


def test_old_names_of_densenet_are_understood(tmp_path):
    source = build_backbone("densenet121")
    old = {}
    for name, value in source.state_dict().items():
        for kind in ("norm", "conv"):
            for number in ("1", "2"):
                name = name.replace(f".{kind}{number}.", f".{kind}.{number}.") if "denselayer" in name else name
        if not name.endswith("num_batches_tracked"):
            old[name] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = tmp_path / "densenet121.pth"
    torch.save(old, path, _use_new_zipfile_serialization=False)
    network = build_backbone("densenet121", weights=path)
    for name, value in source.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)


def test_inception_goes_without_its_auxiliary_classifier(tmp_path):
    path = tmp_path / "inception.safetensors"
    source = build_backbone("inception_v3")
    save_file(source.state_dict(), path)
    network = build_backbone("inception_v3", 4, 2, weights=path, auxiliary=False)
    torch.testing.assert_close(network.Mixed_7c.branch1x1.conv.weight, source.Mixed_7c.branch1x1.conv.weight)
    assert network.AuxLogits is None


def test_hashes_in_names_are_checked(tmp_path):
    state = build_backbone("compact").state_dict()
    draft = tmp_path / "draft.safetensors"
    save_file(state, draft)
    content = draft.read_bytes()
    digits = hashlib.sha256(content).hexdigest()[:8]
    right, wrong = tmp_path / f"compact-{digits}.safetensors", tmp_path / "compact-00000000.safetensors"
    right.write_bytes(content)
    wrong.write_bytes(content)
    assert set(read_weights(right)) == set(state)
    with pytest.raises(InputError, match="SHA-256"):
        read_weights(wrong)
    # official names all say their hash, so that a file in the cache is checked too
    for name, file in OFFICIAL_WEIGHTS.items():
        (tmp_path / file).write_bytes(content)
        with pytest.raises(InputError, match="SHA-256"):
            official_weights(name, folder=tmp_path)


def test_official_files_are_found_or_asked_for(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="resnet18-f37072fd.pth"):
        official_weights("resnet18", folder=tmp_path, download=False)
    with pytest.raises(InputError, match="compact"):
        official_weights("compact", folder=tmp_path)
    asked = []

    def refuse(url, path, hash_prefix, progress):
        asked.append((url, hash_prefix))
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(InputError, match="no network"):
        official_weights("inception_v3", folder=tmp_path)
    assert asked == [("https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth", "0cc3c7bd")]


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "mobilenet.safetensors"
    save_file(build_backbone("mobilenet_v2").state_dict(), path)
    with pytest.raises(InputError, match="not those of ResNet18"):
        build_backbone("resnet18", weights=path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no safetensors"):
        read_weights(path)


def test_fine_tuning_starts_from_the_weights(tmp_path):
    """With a learning rate of next to nothing, what was loaded is what comes out."""
    path = tmp_path / "resnet18.pth"
    source = build_backbone("resnet18")
    torch.save(source.state_dict(), path)
    dataset = cells(20)
    options = {**QUICK, "max_epochs": 1, "learning_rate": 1e-12}
    network = ImageNetwork("resnet18", path, options).fit(dataset.images, dataset.labels)
    torch.testing.assert_close(network.network_.backbone.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert network.settings()["weights"] == str(path)
    # the folder of a model needs no file of weights
    path.unlink()
    again = ImageNetwork.from_arrays(network.to_arrays(), network.classes_, **network.settings())
    np.testing.assert_allclose(again.predict_proba(dataset.images), network.predict_proba(dataset.images), atol=1e-6)
