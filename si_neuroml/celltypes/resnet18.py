"""ResNet18 (He et al. 2016) with torchvision's parameter names, so that its ImageNet weights load."""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResNet18"]

WIDTHS = (64, 128, 256, 512)


class ResNet18(nn.Module):
    """Four stages of two blocks, each two 3 x 3 convolutions beside a shortcut.

    Parameters
    ----------
    num_classes : int, default: 1000
        Outputs of the last layer.
    in_channels : int, default: 3
        Channels of the images.
    """

    first_conv, head_name, smallest = "conv1", "fc", 32

    def __init__(self, num_classes: int = 1000, in_channels: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        channels = WIDTHS[0]
        for stage, width in enumerate(WIDTHS, start=1):
            blocks = nn.Sequential(_Block(channels, width, 1 if stage == 1 else 2), _Block(width, width, 1))
            self.add_module(f"layer{stage}", blocks)
            channels = width
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def embed(self, images: Tensor) -> Tensor:
        """(batch, channels, rows, columns) to (batch, 512)."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes)."""
        return self.fc(self.embed(images))


class _Block(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)
