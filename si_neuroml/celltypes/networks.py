"""From the images of a cell to logits: scale them, bring them to a size the backbone takes, embed, dropout, decide."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ScalogramNetwork", "measure_images"]


class ScalogramNetwork(nn.Module):
    """A backbone with the scaling of its images in front and dropout before its last layer.

    Parameters
    ----------
    backbone : torch.nn.Module
        From :func:`~si_neuroml.celltypes.backbones.build_backbone`.
    scaling : dict of arrays, shape (num_channels,)
        ``unit``, ``mean`` and ``sd``, see :func:`measure_images`.
    dropout : float, default: 0.2
        Share of the embedding that is dropped in training.
    input_size : (int, int), optional
        Rows and columns that images are stretched to. Default: as they are, but not smaller than the backbone takes.
    """

    def __init__(
        self,
        backbone: nn.Module,
        scaling: dict[str, np.ndarray],
        dropout: float = 0.2,
        input_size: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.backbone, self.dropout, self.input_size = backbone, dropout, input_size
        for name in ("unit", "mean", "sd"):
            values = torch.as_tensor(np.asarray(scaling[name]), dtype=torch.float32)
            self.register_buffer(name, values[:, None, None])

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.backbone.get_submodule(self.backbone.head_name)

    def embed(self, images: Tensor) -> Tensor:
        """What the last layer reads, (batch, num_embedding)."""
        return self.backbone.embed(self._prepared(images))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits, (batch, num_classes); in training a second row of them from an auxiliary classifier, if any."""
        auxiliary = None
        if self.training and hasattr(self.backbone, "embed_both"):
            embedded, auxiliary = self.backbone.embed_both(self._prepared(images))
        else:
            embedded = self.embed(images)
        logits = self.head(functional.dropout(embedded, self.dropout, self.training))
        return logits if auxiliary is None else (logits, auxiliary)

    def _prepared(self, images):
        # energies spread over decades: logarithmic when large, linear near 0
        images = (torch.asinh(images / self.unit) - self.mean) / self.sd
        size = self.input_size or tuple(max(side, self.backbone.smallest) for side in images.shape[2:])
        if size != tuple(images.shape[2:]):
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        return images.contiguous(memory_format=torch.channels_last)


def measure_images(images: np.ndarray) -> dict[str, Any]:
    """What scales images to mean 0 and sd 1 per channel, after asinh(image / unit).

    Parameters
    ----------
    images : float32 array, shape (num_cells, num_channels, num_frequencies, num_samples)

    Returns
    -------
    dict of float64 arrays, shape (num_channels,)
        ``unit``: mean magnitude; ``mean`` and ``sd`` of what comes out.
    """
    own = []
    for channel in np.moveaxis(images, 1, 0):
        unit = max(float(np.abs(channel).mean(dtype="float64")), 1e-12)
        values = np.arcsinh(channel / np.float32(unit))
        own.append((unit, values.mean(dtype="float64"), max(float(values.std(dtype="float64")), 1e-6)))
    return dict(zip(("unit", "mean", "sd"), np.array(own).T, strict=True))
