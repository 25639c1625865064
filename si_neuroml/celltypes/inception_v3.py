"""InceptionV3 (Szegedy et al. 2016) with torchvision's parameter names, so that its ImageNet weights load."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["InceptionV3"]

# of the official weights
NORM_EPS = 1e-3


class InceptionV3(nn.Module):
    """Blocks of parallel convolutions of several sizes, with an auxiliary classifier for training.

    Parameters
    ----------
    num_classes : int, default: 1000
        Outputs of the last layer.
    in_channels : int, default: 3
        Channels of the images.
    auxiliary : bool, default: True
        With the auxiliary classifier. It needs images of 299 pixels each way; smaller ones go without it.
    """

    first_conv, head_name, smallest = "Conv2d_1a_3x3.conv", "fc", 75

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, auxiliary: bool = True):
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(in_channels, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b = _BlockA(192, 32)
        self.Mixed_5c = _BlockA(256, 64)
        self.Mixed_5d = _BlockA(288, 64)
        self.Mixed_6a = _ReductionB(288)
        self.Mixed_6b = _BlockC(768, 128)
        self.Mixed_6c = _BlockC(768, 160)
        self.Mixed_6d = _BlockC(768, 160)
        self.Mixed_6e = _BlockC(768, 192)
        self.AuxLogits = _Auxiliary(768, num_classes) if auxiliary else None
        self.Mixed_7a = _ReductionD(768)
        self.Mixed_7b = _BlockE(1280)
        self.Mixed_7c = _BlockE(2048)
        self.fc = nn.Linear(2048, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                spread = getattr(module, "initial_sd", 0.1)
                nn.init.trunc_normal_(module.weight, 0.0, spread, -2.0, 2.0)

    def embed(self, images: Tensor) -> Tensor:
        """(batch, channels, rows, columns) to (batch, 2048)."""
        return self._last(self._middle(images))

    def embed_both(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """:meth:`embed`, and the logits of the auxiliary classifier or None where it cannot be used."""
        middle = self._middle(images)
        usable = self.AuxLogits is not None and min(middle.shape[2:]) >= _Auxiliary.smallest
        return self._last(middle), self.AuxLogits(middle) if usable else None

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes)."""
        return self.fc(self.embed(images))

    def _middle(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(functional.max_pool2d(x, 3, 2))))
        return self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))

    def _last(self, x):
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean(dim=(2, 3))


class _Conv(nn.Module):
    def __init__(self, channels, width, size, *, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


def _across(channels, width, size):
    """1 x size convolution that keeps the image's size."""
    return _Conv(channels, width, (1, size), padding=(0, size // 2))


def _along(channels, width, size):
    """Size x 1 convolution that keeps the image's size."""
    return _Conv(channels, width, (size, 1), padding=(size // 2, 0))


def _mean_of_nine(x):
    return functional.avg_pool2d(x, 3, 1, 1)


class _BlockA(nn.Module):
    def __init__(self, channels, pooled):
        super().__init__()
        self.branch1x1 = _Conv(channels, 64, 1)
        self.branch5x5_1 = _Conv(channels, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(channels, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, twice, self.branch_pool(_mean_of_nine(x))], dim=1)


class _ReductionB(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.branch3x3 = _Conv(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Conv(channels, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), twice, functional.max_pool2d(x, 3, 2)], dim=1)


class _BlockC(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.branch1x1 = _Conv(channels, 192, 1)
        self.branch7x7_1 = _Conv(channels, width, 1)
        self.branch7x7_2 = _across(width, width, 7)
        self.branch7x7_3 = _along(width, 192, 7)
        self.branch7x7dbl_1 = _Conv(channels, width, 1)
        self.branch7x7dbl_2 = _along(width, width, 7)
        self.branch7x7dbl_3 = _across(width, width, 7)
        self.branch7x7dbl_4 = _along(width, width, 7)
        self.branch7x7dbl_5 = _across(width, 192, 7)
        self.branch_pool = _Conv(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_mean_of_nine(x))], dim=1)


class _ReductionD(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.branch3x3_1 = _Conv(channels, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(channels, 192, 1)
        self.branch7x7x3_2 = _across(192, 192, 7)
        self.branch7x7x3_3 = _along(192, 192, 7)
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, functional.max_pool2d(x, 3, 2)], dim=1)


class _BlockE(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.branch1x1 = _Conv(channels, 320, 1)
        self.branch3x3_1 = _Conv(channels, 384, 1)
        self.branch3x3_2a = _across(384, 384, 3)
        self.branch3x3_2b = _along(384, 384, 3)
        self.branch3x3dbl_1 = _Conv(channels, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _across(384, 384, 3)
        self.branch3x3dbl_3b = _along(384, 384, 3)
        self.branch_pool = _Conv(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch3x3_2a(once), self.branch3x3_2b(once)]
        parts += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        return torch.cat([self.branch1x1(x), *parts, self.branch_pool(_mean_of_nine(x))], dim=1)


class _Auxiliary(nn.Module):
    # its 5 x 5 convolution works on what is left after averaging 5 x 5 in steps of 3
    smallest = 17

    def __init__(self, channels, num_classes):
        super().__init__()
        self.conv0 = _Conv(channels, 128, 1)
        self.conv1 = _Conv(128, 768, 5)
        self.conv1.conv.initial_sd = 0.01
        self.fc = nn.Linear(768, num_classes)
        self.fc.initial_sd = 0.001

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv1(self.conv0(functional.avg_pool2d(x, 5, 3))).mean(dim=(2, 3)))
