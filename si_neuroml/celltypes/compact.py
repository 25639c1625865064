"""The default network of scalograms: four convolutions, about 70,000 parameters, minutes of training on a CPU."""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CompactNetwork"]

WIDTHS, GRID = (16, 32, 64, 64), (3, 5)


class CompactNetwork(nn.Module):
    """Convolutions over frequency and time, then means on a grid of 3 x 5.

    A mean over the whole image would forget when and at which frequency something happened; the grid keeps low from
    high frequencies and the first spikes from the last.

    Parameters
    ----------
    num_classes : int, default: 1000
        Outputs of the last layer.
    in_channels : int, default: 3
        Channels of the images.
    """

    first_conv, head_name, smallest = "convolutions.0.0", "head", 8

    def __init__(self, num_classes: int = 1000, in_channels: int = 3):
        super().__init__()
        layers, channels = [], in_channels
        for width, size, stride in zip(WIDTHS, (5, 3, 3, 3), (2, 2, 2, 1), strict=True):
            conv = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
            layers.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU()))
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(channels * GRID[0] * GRID[1], num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """(batch, channels, rows, columns) to (batch, 960)."""
        return functional.adaptive_avg_pool2d(self.convolutions(images), GRID).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes)."""
        return self.head(self.embed(images))
