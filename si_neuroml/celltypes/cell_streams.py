"""Arrays of cells beside images and features, such as autocorrelograms, and what stands on their axes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError

__all__ = ["CellStream", "axes_differ"]


@dataclass(frozen=True, eq=False)
class CellStream:
    """One array per cell.

    Attributes
    ----------
    values : float32 array, shape (num_cells, ...)
        NaN where not known; a cell of which nothing is known has NaN throughout.
    axes : dict of {str: float64 array}
        What stands on each axis after the first, in their order, named with the unit: {"lag_ms": ...}.

    Raises
    ------
    InputError
        When there is not one axis of the right length for each dimension.
    """

    values: np.ndarray
    axes: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        values = np.asarray(self.values, dtype="float32")
        axes = {str(name): np.asarray(axis, dtype="float64") for name, axis in dict(self.axes).items()}
        lengths = tuple(len(axis) if axis.ndim == 1 else -1 for axis in axes.values())
        if values.ndim < 2 or values.shape[1:] != lengths or 0 in lengths:
            raise InputError(f"A stream of shape {values.shape} has axes of lengths {lengths}: they must agree.")
        object.__setattr__(self, "values", np.where(np.isfinite(values), values, np.float32(np.nan)))
        object.__setattr__(self, "axes", axes)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> np.ndarray:
        """Whether anything is known of each cell: bool array, shape (num_cells,)."""
        return np.isfinite(self.values).any(axis=tuple(range(1, self.values.ndim)))

    def select(self, rows: np.ndarray) -> "CellStream":
        """Some of the cells."""
        return CellStream(self.values[rows], self.axes)

    def unknown(self, number: int) -> "CellStream":
        """A stream with the same axes of so many cells of which nothing is known."""
        return CellStream(np.full((number, *self.values.shape[1:]), np.nan, dtype="float32"), self.axes)


def axes_differ(own: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> str:
    """In what two sets of axes differ, in words; "" where they are the same."""
    if list(own) != list(other):
        return f"axes {list(own)} against {list(other)}"
    for name in own:
        one, two = np.asarray(own[name]), np.asarray(other[name])
        if one.shape != two.shape:
            return f"{name} of length {len(one)} against {len(two)}"
        if not np.allclose(one, two, rtol=1e-3, atol=1e-3 * max(np.ptp(one), 1e-9)):
            return f"{name} from {one[0]:g} to {one[-1]:g} against {two[0]:g} to {two[-1]:g}"
    return ""
