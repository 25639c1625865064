"""DenseNet121 (Huang et al. 2017) with torchvision's parameter names, so that its ImageNet weights load."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DenseNet121"]

BLOCKS, GROWTH, BOTTLENECK, FIRST = (6, 12, 24, 16), 32, 4, 64


class DenseNet121(nn.Module):
    """Four dense blocks: every layer reads the outputs of all layers before it.

    Parameters
    ----------
    num_classes : int, default: 1000
        Outputs of the last layer.
    in_channels : int, default: 3
        Channels of the images.
    """

    first_conv, head_name, smallest = "features.conv0", "classifier", 32

    def __init__(self, num_classes: int = 1000, in_channels: int = 3):
        super().__init__()
        layers = OrderedDict(
            conv0=nn.Conv2d(in_channels, FIRST, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(FIRST),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, 2, 1),
        )
        channels = FIRST
        for number, num_layers in enumerate(BLOCKS, start=1):
            layers[f"denseblock{number}"] = _DenseBlock(channels, num_layers)
            channels += num_layers * GROWTH
            if number < len(BLOCKS):
                layers[f"transition{number}"] = _transition(channels)
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def embed(self, images: Tensor) -> Tensor:
        """(batch, channels, rows, columns) to (batch, 1024)."""
        return functional.relu(self.features(images)).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes)."""
        return self.classifier(self.embed(images))


class _DenseBlock(nn.Module):
    def __init__(self, channels, num_layers):
        super().__init__()
        for number in range(num_layers):
            self.add_module(f"denselayer{number + 1}", _DenseLayer(channels + number * GROWTH))

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for layer in self.children():
            parts.append(layer(torch.cat(parts, dim=1)))
        return torch.cat(parts, dim=1)


class _DenseLayer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, BOTTLENECK * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * GROWTH)
        self.conv2 = nn.Conv2d(BOTTLENECK * GROWTH, GROWTH, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(functional.relu(self.norm2(self.conv1(functional.relu(self.norm1(x))))))


def _transition(channels):
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
            pool=nn.AvgPool2d(2, 2),
        )
    )
