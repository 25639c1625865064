"""The least probability with which a label is given: below it, it is "unknown"."""

import warnings

import numpy as np

__all__ = ["threshold_for_accuracy"]


def threshold_for_accuracy(probabilities: np.ndarray, labels: np.ndarray, accuracy: float, things: str) -> float:
    """The lowest threshold above which a share of the labels is right.

    Parameters
    ----------
    probabilities : array, shape (n, num_classes)
        Of rows that the model has not seen.
    labels : array of int, shape (n,)
        Their classes.
    accuracy : float
        The share, from 0 to 1.
    things : str
        What the rows are, for the warning.

    Returns
    -------
    float

    Warns
    -----
    UserWarning
        When no threshold reaches it: then the one with the most labels right is given.
    """
    highest, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(-highest, kind="stable")
    reached = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # rows of one probability are given together or not at all
    last = np.append(np.diff(highest[order]) != 0, True)
    enough = np.flatnonzero(last & (reached >= accuracy))
    if len(enough):
        return float(highest[order[enough[-1]]])
    best = int(np.argmax(np.where(last, reached, -1.0)))
    text = f"No threshold makes {accuracy:.0%} of the labels right on held-out {things}; the best, taken here,"
    warnings.warn(f"{text} makes {reached[best]:.0%} of {best + 1} right.", UserWarning, stacklevel=5)
    return float(highest[order[best]])
