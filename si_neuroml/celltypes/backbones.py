"""The networks that can look at scalograms, by name; building one imports torch, naming it does not."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BACKBONES", "backbone_class", "build_backbone"]

# import paths and not classes
BACKBONES: Mapping[str, str] = {
    "compact": "si_neuroml.celltypes.compact:CompactNetwork",
    "densenet121": "si_neuroml.celltypes.densenet121:DenseNet121",
    "inception_v3": "si_neuroml.celltypes.inception_v3:InceptionV3",
    "mobilenet_v2": "si_neuroml.celltypes.mobilenet_v2:MobileNetV2",
    "resnet18": "si_neuroml.celltypes.resnet18:ResNet18",
}


def backbone_class(name: str) -> "type[nn.Module]":
    """The class of a backbone.

    Raises
    ------
    InputError
        On an unknown name.
    """
    if name not in BACKBONES:
        raise InputError(f"There is no backbone {name!r}; there are {list(BACKBONES)}.")
    module, _, class_name = BACKBONES[name].partition(":")
    return getattr(importlib.import_module(module), class_name)


def build_backbone(
    name: str,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    weights: str | Path | None = None,
    auxiliary: bool | None = None,
) -> "nn.Module":
    """A backbone with random or ImageNet weights.

    Parameters
    ----------
    name : str
        A key of :data:`BACKBONES`.
    num_classes : int, default: 1000
        Outputs; with ImageNet weights and another number than 1000, the last layer is random.
    in_channels : int, default: 3
        Channels of the images.
    weights : str | Path, optional
        "imagenet": the official file, downloaded when first used. A path: a file of one's own, see
        :func:`~si_neuroml.celltypes.pretrained.read_weights`. Default: random.
    auxiliary : bool, optional
        Of InceptionV3: with the auxiliary classifier. Default: yes.

    Returns
    -------
    torch.nn.Module
        Takes images (batch, channels, rows, columns) of at least ``smallest`` rows and columns; ``embed(images)`` gives
        what its last layer reads.

    Raises
    ------
    InputError
        On an unknown name, or weights that cannot be had or do not fit.
    """
    options = {} if auxiliary is None or name != "inception_v3" else {"auxiliary": auxiliary}
    network = backbone_class(name)(num_classes, in_channels, **options)
    if weights is not None:
        from .pretrained import load_weights, official_weights, read_weights

        load_weights(network, read_weights(official_weights(name) if weights == "imagenet" else weights))
    return network
