"""ImageNet weights for the backbones: torchvision's official files, checked against their hash, or a file of your own.

Official files are named after the first digits of their SHA-256. They are kept where torch.hub keeps them, so that
what torchvision has downloaded is found and the other way round. Weights are read without running anything that a file
may say (:mod:`~si_neuroml.celltypes.torch_files`), or from safetensors.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .torch_files import read_torch_file

__all__ = ["OFFICIAL_WEIGHTS", "load_weights", "official_weights", "read_weights"]

SOURCE = "https://download.pytorch.org/models/"
OFFICIAL_WEIGHTS: Mapping[str, str] = {
    "densenet121": "densenet121-a639ec97.pth",
    "inception_v3": "inception_v3_google-0cc3c7bd.pth",
    "mobilenet_v2": "mobilenet_v2-7ebf99e0.pth",
    "resnet18": "resnet18-f37072fd.pth",
}
# names in files written before torch 0.4: a layer "norm.1" is "norm1" today
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def official_weights(backbone: str, *, folder: str | Path | None = None, download: bool = True) -> Path:
    """The file of a backbone's ImageNet weights, downloaded if need be.

    Parameters
    ----------
    backbone : str
        A key of :data:`OFFICIAL_WEIGHTS`.
    folder : str | Path, optional
        Where files are kept. Default: ``checkpoints`` of torch.hub's folder.
    download : bool, default: True
        If False, the file must be there.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        When there are no official weights, the file is not there and cannot be had, or its content does not belong to
        its name.
    """
    import torch

    if backbone not in OFFICIAL_WEIGHTS:
        raise InputError(f"There are no ImageNet weights of {backbone!r}, only of {list(OFFICIAL_WEIGHTS)}.")
    name = OFFICIAL_WEIGHTS[backbone]
    path = Path(folder or Path(torch.hub.get_dir()) / "checkpoints") / name
    if not path.is_file():
        if not download:
            raise InputError(f"There is no file {path}. Download {SOURCE}{name} and put it there.")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(SOURCE + name, str(path), hash_prefix=_prefix(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{SOURCE}{name} cannot be had ({error}). Download it elsewhere, put it into {path.parent}, or pass "
                "its path as the weights."
            ) from error
    check_hash(path)
    return path


def check_hash(path: Path) -> None:
    """Raise InputError unless the SHA-256 of the file begins as its name says; names without digits pass."""
    prefix = _prefix(path)
    if prefix is None:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(prefix):
        raise InputError(
            f"{path} has the SHA-256 {found[:16]}..., but by its name it begins with {prefix}: the file is damaged or "
            "not what it claims to be. Delete it and download it again."
        )


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file of weights by name, with today's names.

    Parameters
    ----------
    path : str | Path
        A ``.safetensors`` file, or one that ``torch.save(model.state_dict(), path)`` wrote. A name that ends in
        "-" and hexadecimal digits is checked against the SHA-256.

    Returns
    -------
    dict of {str: array}

    Raises
    ------
    InputError
        When the file is not there, damaged, not what its name says, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file of weights {path}.")
    check_hash(path)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is no safetensors file, or is damaged: {error}") from error
    else:
        arrays = read_torch_file(path)
    return {OLD_DENSENET.sub(r"\1\2.", name): array for name, array in arrays.items()}


def load_weights(network: Any, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Put ImageNet weights into a backbone, whatever its channels and classes.

    The first convolution is adapted to other numbers of channels (:func:`adapt_channels`). A last layer for other
    classes, and the same of the auxiliary classifier, stays as it is.

    Parameters
    ----------
    network : torch.nn.Module
        One of :data:`~si_neuroml.celltypes.backbones.BACKBONES`.
    arrays : mapping of {str: array}
        From :func:`read_weights`.

    Returns
    -------
    list of str
        Names of the layers that were left as they are.

    Raises
    ------
    InputError
        When the weights are those of another network.
    """
    import torch

    own, arrays = network.state_dict(), dict(arrays)
    first = f"{network.first_conv}.weight"
    if first in arrays:
        arrays[first] = adapt_channels(arrays[first], own[first].shape[1])
    heads = {f"{name}.{part}" for name in (network.head_name, "AuxLogits.fc") for part in ("weight", "bias")}
    for name in heads & arrays.keys() & own.keys():
        if arrays[name].shape != own[name].shape:
            del arrays[name]
    # a network for typing has no auxiliary classifier where its images are too small for one
    arrays = {name: value for name, value in arrays.items() if name in own or not name.startswith("AuxLogits.")}
    strange = sorted(name for name in arrays if name not in own or arrays[name].shape != tuple(own[name].shape))
    # files from before torch 0.4 do not count batches
    missing = sorted(name for name in own.keys() - arrays.keys() - heads if not name.endswith(".num_batches_tracked"))
    if strange or missing:
        raise InputError(
            f"The weights are not those of {type(network).__name__}: {len(strange)} tensors do not fit, such as "
            f"{strange[:3]}, and {len(missing)} are missing, such as {missing[:3]}."
        )
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}, strict=False)
    return sorted({name.rpartition(".")[0] for name in (heads & own.keys()) - arrays.keys()})


def adapt_channels(weight: np.ndarray, in_channels: int) -> np.ndarray:
    """Kernels of a first convolution for another number of channels.

    The mean over the channels, for each of the new ones, times old / new: channels that all show the same image give
    the answer that the old kernels gave to it. Scalograms have no colours that one channel or another would stand for.

    Parameters
    ----------
    weight : array, shape (num_kernels, channels, rows, columns)
    in_channels : int

    Returns
    -------
    array, shape (num_kernels, in_channels, rows, columns)
    """
    if weight.shape[1] == in_channels:
        return weight
    mean = weight.mean(axis=1, keepdims=True) * (weight.shape[1] / in_channels)
    return np.repeat(mean, in_channels, axis=1).astype(weight.dtype)


def _prefix(path):
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
    return found and found.group(1)
