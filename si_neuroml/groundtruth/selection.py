"""Which model cells a simulated recording holds: drawn by a seed, apart from each other, before MEArec is asked.

The draw is done here and not by MEArec, so that it depends on nothing but the templates, the limits and one seed (not
on the noise, the duration or the library's version), and so that an impossible wish is answered with numbers.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .templates import CellTemplates

__all__ = ["select_background", "select_cells"]

# MEArec refuses two background cells closer than this.
BACKGROUND_SPACING_UM = 1.0
DRAWS = 100


def select_cells(
    templates: CellTemplates,
    num_excitatory: int = 40,
    num_inhibitory: int = 10,
    *,
    min_distance_um: float = 20.0,
    min_amplitude_uv: float = 50.0,
    max_amplitude_uv: float = 300.0,
    exclude: Sequence[int] = (),
    seed: int = 0,
) -> np.ndarray:
    """Draw cells at random with a least distance between somas.

    Cells are taken in random order, each one kept if it is far enough from those kept so far. A draw that cannot be
    completed is begun again with the next random order, up to 100 times.

    Parameters
    ----------
    templates : CellTemplates
        The cells to draw from.
    num_excitatory, num_inhibitory : int, default: 40 and 10
        How many of each.
    min_distance_um : float, default: 20.0
        Least distance between two somas, in three dimensions.
    min_amplitude_uv, max_amplitude_uv : float, default: 50.0 and 300.0
        Only cells whose largest trough lies strictly between the two (MEArec's defaults), and never those marked far.
    exclude : sequence of int, default: ()
        Indices into ``templates`` never to draw, for example the cells of the recording a model was trained on.
    seed : int, default: 0
        The draw depends on it alone.

    Returns
    -------
    np.ndarray of int, (num_excitatory + num_inhibitory,)
        Indices into ``templates``, excitatory cells first.

    Raises
    ------
    InputError
        If there are too few such cells, or they cannot be placed that far apart.
    """
    wanted = {"E": num_excitatory, "I": num_inhibitory}
    cell_types = templates.cell_types
    amplitudes = templates.amplitudes_uv
    usable = (amplitudes > min_amplitude_uv) & (amplitudes < max_amplitude_uv) & ~templates.is_far
    usable[_checked_indices(exclude, templates.num_cells)] = False
    for kind, name in (("E", "excitatory"), ("I", "inhibitory")):
        available = int(np.sum(usable & (cell_types == kind)))
        near = int(np.sum((cell_types == kind) & ~templates.is_far))
        if wanted[kind] > available:
            raise InputError(
                f"{wanted[kind]} {name} cells asked for, but only {available} of the {near} near "
                f"{name} templates have an amplitude between {min_amplitude_uv:g} and {max_amplitude_uv:g} uV"
                f"{' and are not excluded' if len(exclude) else ''}. Ask for fewer cells or widen the limits."
            )

    best = {"E": 0, "I": 0}
    rng = np.random.default_rng(seed)
    for _ in range(DRAWS):
        order = rng.permutation(np.flatnonzero(usable))
        kept = _draw_once(order, templates.locations, cell_types, wanted, min_distance_um)
        if all(len(kept[kind]) == wanted[kind] for kind in wanted):
            return np.array(kept["E"] + kept["I"], dtype=int)
        if sum(map(len, kept.values())) > sum(best.values()):
            best = {kind: len(indices) for kind, indices in kept.items()}
    raise InputError(
        f"{num_excitatory} excitatory and {num_inhibitory} inhibitory cells cannot be placed {min_distance_um:g} um "
        f"apart: the best of {DRAWS} draws held {best['E']} and {best['I']}. "
        "Lower min_distance_um, ask for fewer cells or widen the amplitude limits."
    )


def select_background(
    templates: CellTemplates,
    cells: np.ndarray,
    *,
    max_number: int = 300,
    max_amplitude_uv: float = 10.0,
    seed: int = 0,
) -> np.ndarray:
    """Draw the distant cells whose spikes make up the background.

    Parameters
    ----------
    templates : CellTemplates
        The cells to draw from.
    cells : np.ndarray of int
        Indices of the recording's own cells, which are not used again.
    max_number : int, default: 300
        How many to draw at most; all there are if fewer.
    max_amplitude_uv : float, default: 10.0
        Only cells with a smaller largest trough.
    seed : int, default: 0
        The draw depends on it alone (and on ``cells``).

    Returns
    -------
    np.ndarray of int
        Indices into ``templates``, at least 1 um apart from each other and from ``cells``.

    Raises
    ------
    InputError
        If there is none.
    """
    amplitudes = templates.amplitudes_uv
    usable = (amplitudes > 0) & (amplitudes < max_amplitude_uv)
    usable[cells] = False
    kept: list[int] = []
    taken = [templates.locations[i] for i in cells]
    for index in np.random.default_rng(seed).permutation(np.flatnonzero(usable)):
        if len(kept) == max_number:
            break
        if _is_apart(templates.locations[index], taken, BACKGROUND_SPACING_UM):
            kept.append(int(index))
            taken.append(templates.locations[index])
    if not kept:
        raise InputError(
            f"noise_mode 'far-neurons' needs templates below {max_amplitude_uv:g} uV, and the smallest of the "
            f"{templates.num_cells} has {amplitudes.min():.1f} uV. Add distant cells, or use noise_mode 'uncorrelated'."
        )
    return np.array(kept, dtype=int)


def _draw_once(
    order: np.ndarray, locations: np.ndarray, cell_types: np.ndarray, wanted: dict[str, int], min_distance: float
) -> dict[str, list[int]]:
    kept: dict[str, list[int]] = {kind: [] for kind in wanted}
    places: list[np.ndarray] = []
    for index in order:
        kind = cell_types[index]
        if (
            kind not in wanted
            or len(kept[kind]) == wanted[kind]
            or not _is_apart(locations[index], places, min_distance)
        ):
            continue
        kept[kind].append(int(index))
        places.append(locations[index])
    return kept


def _is_apart(place: np.ndarray, others: list[np.ndarray], distance: float) -> bool:
    return not others or bool(np.all(np.linalg.norm(np.array(others) - place, axis=1) >= distance))


def _checked_indices(indices: Sequence[int], size: int) -> np.ndarray:
    indices = np.asarray(indices, dtype=int).ravel()
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        raise InputError(f"exclude holds indices from {indices.min()} to {indices.max()}, outside 0 to {size - 1}.")
    return indices
