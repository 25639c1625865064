"""MobileNetV2 (Sandler et al. 2018) with torchvision's parameter names, so that its ImageNet weights load."""

from torch import Tensor, nn

__all__ = ["MobileNetV2"]

# expansion, channels, blocks, stride of the first block (table 2 of the paper)
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FIRST, LAST = 32, 1280


class MobileNetV2(nn.Module):
    """Inverted residuals: expand by 1 x 1, filter each channel by 3 x 3, project back without a nonlinearity.

    Parameters
    ----------
    num_classes : int, default: 1000
        Outputs of the last layer.
    in_channels : int, default: 3
        Channels of the images.
    """

    first_conv, head_name, smallest = "features.0.0", "classifier.1", 32

    def __init__(self, num_classes: int = 1000, in_channels: int = 3):
        super().__init__()
        layers, channels = [_conv_norm(in_channels, FIRST, 3, stride=2)], FIRST
        for expansion, width, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(_InvertedResidual(channels, width, expansion, stride if block == 0 else 1))
                channels = width
        self.features = nn.Sequential(*layers, _conv_norm(channels, LAST, 1))
        # torchvision has its dropout at place 0
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(LAST, num_classes))
        _initialise(self)

    def embed(self, images: Tensor) -> Tensor:
        """(batch, channels, rows, columns) to (batch, 1280)."""
        return self.features(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes)."""
        return self.classifier(self.embed(images))


class _InvertedResidual(nn.Module):
    def __init__(self, channels, width, expansion, stride):
        super().__init__()
        inner = channels * expansion
        layers = [] if expansion == 1 else [_conv_norm(channels, inner, 1)]
        layers.append(_conv_norm(inner, inner, 3, stride=stride, groups=inner))
        self.conv = nn.Sequential(*layers, nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))
        self.adds = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


def _conv_norm(channels, width, size, *, stride=1, groups=1):
    conv = nn.Conv2d(channels, width, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU6())


def _initialise(network):
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)
