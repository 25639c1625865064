"""How fast events travel along a line, and how much its sites should count for each other, from scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from ..errors import InputError, TrainingError
from .line import LineCoupling, connect_sites, joint_scores
from .operating_point import peak_candidates
from .ranking import average_precision, ranked_hits
from .settings import DetectorSettings

__all__ = ["FittedLine", "estimate_delay", "fit_line_coupling"]

COUPLINGS = (0.0, 0.25, 0.5, 0.75, 1.0)
# delays between the sites furthest apart are tried in steps of this part of a sample
DELAY_STEP = 0.05
# a coupling must gain so much average precision over a smaller one
WORTHWHILE = 0.001
_POINT_DTYPE = np.dtype([("sample_index", "int64"), ("channel_index", "int64"), ("segment_index", "int64")])


class FittedLine(NamedTuple):
    """A coupling, and what it was chosen by.

    Attributes
    ----------
    coupling : LineCoupling
        Complete, with speed and center.
    summary : list of dict
        For each coupling and speed that was tried its ``average_precision``.
    """

    coupling: LineCoupling
    summary: list[dict[str, Any]]


def estimate_delay(
    scores_list: Sequence[np.ndarray],
    positions_list: Sequence[np.ndarray],
    lines_list: Sequence[np.ndarray],
    sampling_frequency: float,
    *,
    level: float,
    center: float,
    radius_um: float = 200.0,
    max_delay_ms: float = 3.0,
) -> float:
    """Time that events take along the lines, from scores without labels.

    The delay per um at which the cross-correlations of all pairs of sites, each at the delay for its distance, have the
    largest sum. What is correlated are rises above a level, of which more than twice the median peak counts as that, so
    that no artefact decides; what falls as far below the center is correlated too, and subtracted: noise that the sites
    share, which is everywhere at once, falls as often as it rises. Some of it stays, and draws the result to 0: where
    events reach 3.5 sd of a site's own noise, shared noise of half that sd takes 10 % off at 90 um/ms and 30 % at
    350 um/ms.

    Parameters
    ----------
    scores_list : sequence of float32 arrays, shape (num_channels, num_samples)
        Of each segment.
    positions_list, lines_list : sequence of array, shape (num_channels,)
        As for :func:`~si_neuroml.events.line.connect_sites`.
    sampling_frequency : float
        In Hz.
    level : float
        Scores below it do not count; half way from the center to the threshold is a good choice.
    center : float
        The score that says nothing, such as the median score.
    radius_um : float, default: 200
        Sites further apart are not compared.
    max_delay_ms : float, default: 3
        Longest delay between two sites that are compared.

    Returns
    -------
    float
        In ms per um, positive when events go towards larger positions.

    Raises
    ------
    InputError
        When the lists do not belong together.
    TrainingError
        When no two sites are within the radius, or no two of them ever rise above the level together.
    """
    _check_lists(scores_list, positions_list, lines_list)
    max_lag = max(2, int(np.ceil(max_delay_ms * sampling_frequency / 1000.0)))
    distances, correlations = [np.zeros(0)], [np.zeros((0, 2 * max_lag + 1))]
    for scores, positions, lines in zip(scores_list, positions_list, lines_list, strict=True):
        positions, lines = np.asarray(positions, dtype="float64"), np.asarray(lines)
        one, other = np.nonzero(np.triu(lines[:, None] == lines[None, :], 1))
        near = (np.abs(positions[other] - positions[one]) <= radius_um) & (positions[other] != positions[one])
        one, other = one[near], other[near]
        usable = np.where(np.isfinite(scores), scores, center)
        rises = _up_to_twice_the_median_peak(np.maximum(usable - level, 0.0))
        falls = np.minimum(np.maximum(2 * center - level - usable, 0.0), rises.max(initial=0.0))
        found = np.zeros((len(one), 2 * max_lag + 1))
        _cross_correlate(rises, one, other, max_lag, 1.0, found)
        _cross_correlate(falls, one, other, max_lag, -1.0, found)
        distances.append(positions[other] - positions[one])
        correlations.append(found)
    distances, correlations = np.concatenate(distances), np.concatenate(correlations)
    if not correlations.any():
        raise TrainingError(
            f"No delay can be measured: of {len(distances)} pairs of sites at most {radius_um:g} um apart on one line "
            f"none rises above {level:g} within {max_delay_ms:g} ms of each other. Take a larger radius_um, or a lower "
            "level."
        )
    return _best_delay(distances, correlations, max_lag) * 1000.0 / sampling_frequency


def fit_line_coupling(
    scores_list: Sequence[np.ndarray],
    positions_list: Sequence[np.ndarray],
    lines_list: Sequence[np.ndarray],
    events_list: Sequence[np.ndarray],
    settings: DetectorSettings,
    threshold: float,
    *,
    couplings: Sequence[float] = COUPLINGS,
    radius_um: float = 200.0,
    center: float | None = None,
    single_site_share: float = 0.5,
    max_delay_ms: float = 3.0,
    tolerance_ms: float = 0.9,
) -> FittedLine:
    """Learn speed and coupling from labelled traces: those that rank events best.

    The speed comes from :func:`estimate_delay`; it and no delay at all are tried with each coupling. Of those whose
    average precision is within 0.001 of the best, the smallest coupling is taken: where sites do not help, it is 0.

    Parameters
    ----------
    scores_list : sequence of float32 arrays, shape (num_channels, num_samples)
        Of each segment, of cells that are not tested on.
    positions_list, lines_list : sequence of array, shape (num_channels,)
        As for :func:`~si_neuroml.events.line.connect_sites`.
    events_list : sequence of structured arrays
        Labels of each, fields sample_index (in samples of these scores) and channel_index.
    settings : DetectorSettings
        Of the detector.
    threshold : float
        Its threshold.
    couplings : sequence of float, default: (0, 0.25, 0.5, 0.75, 1)
        To try.
    radius_um, center, single_site_share
        Of :class:`~si_neuroml.events.line.LineCoupling`; without a center the median score is taken.
    max_delay_ms : float, default: 3
        See :func:`estimate_delay`.
    tolerance_ms : float, default: 0.9
        A found event counts as true within this time of a labelled one.

    Returns
    -------
    FittedLine
        Thresholds and the probability of a score should be found anew on the joint scores, with
        :func:`~si_neuroml.events.operating_point.find_operating_point`, and given to the detector that is used with
        this coupling: ``detector.with_thresholds(point.threshold, point.low_threshold, point.calibration)``.

    Raises
    ------
    InputError
        When the lists do not belong together.
    TrainingError
        When there are no events, or as :func:`estimate_delay`.
    """
    _check_lists(scores_list, positions_list, lines_list, events_list)
    if not sum(len(events) for events in events_list):
        raise TrainingError("There are no labelled events to learn the coupling from.")
    if center is None:
        values = np.concatenate([scores[np.isfinite(scores)] for scores in scores_list])
        center = float(np.median(values))
    delay = estimate_delay(
        scores_list,
        positions_list,
        lines_list,
        settings.sampling_frequency,
        level=0.5 * (center + threshold),
        center=center,
        radius_um=radius_um,
        max_delay_ms=max_delay_ms,
    )
    speeds = [None] if delay == 0 else [None, 1.0 / delay]
    tried = [
        LineCoupling(coupling, speed, radius_um, center, single_site_share)
        for coupling in sorted(couplings)
        for speed in (speeds if coupling > 0 else [None])
    ]
    tolerance = max(1, settings.samples(tolerance_ms))
    places = list(zip(scores_list, positions_list, lines_list, strict=True))
    precision = np.array([_precision(places, events_list, one, settings, threshold, tolerance) for one in tried])
    enough = np.flatnonzero(precision >= precision.max() - WORTHWHILE)
    least = [k for k in enough if tried[k].coupling == tried[enough[0]].coupling]
    best = max(least, key=lambda k: precision[k])
    summary = [
        {"coupling": one.coupling, "speed_um_per_ms": one.speed_um_per_ms, "average_precision": float(value)}
        for one, value in zip(tried, precision, strict=True)
    ]
    return FittedLine(tried[best], summary)


def _precision(places, events_list, coupling, settings, threshold, tolerance):
    """Average precision of the events in joint scores."""
    hits, values = [], []
    for (scores, positions, lines), labels in zip(places, events_list, strict=True):
        line = connect_sites(positions, lines, coupling, settings.sampling_frequency, threshold)
        found, heights = peak_candidates(joint_scores(scores, line), settings)
        true = np.zeros(len(labels), dtype=_POINT_DTYPE)
        true["sample_index"], true["channel_index"] = labels["sample_index"], labels["channel_index"]
        hits.append(ranked_hits(true, found, heights, tolerance))
        values.append(heights)
    num_true = sum(len(labels) for labels in events_list)
    return average_precision(np.concatenate(hits), np.concatenate(values), num_true)


def _check_lists(*lists):
    lengths = [len(one) for one in lists]
    if not lengths[0] or len(set(lengths)) > 1:
        raise InputError(f"Give scores, positions, lines (and events) of each segment, at least 1; got {lengths}.")
    for index, (scores, positions, lines, *events) in enumerate(zip(*lists, strict=True)):
        found = np.shape(scores), np.shape(positions), np.shape(lines)
        if len(found[0]) != 2 or found[1] != found[0][:1] or found[2] != found[0][:1]:
            raise InputError(f"Scores, positions and lines {index} have shapes {found} that do not fit together.")
        if events and len(events[0]) and not 0 <= events[0]["channel_index"].max() < found[0][0]:
            raise InputError(f"Events {index} lie on channel {events[0]['channel_index'].max()} of {found[0][0]}.")


def _up_to_twice_the_median_peak(rises):
    peaks = rises[:, 1:-1][(rises[:, 1:-1] >= rises[:, :-2]) & (rises[:, 1:-1] > rises[:, 2:])]
    return np.minimum(rises, 2 * np.median(peaks)) if len(peaks) else rises


def _best_delay(distances, correlations, max_lag):
    """Samples per um at which the correlations add up to most; they are smooth, hence the splines."""
    from scipy.interpolate import CubicSpline

    curves = [CubicSpline(np.arange(-max_lag, max_lag + 1), one) for one in correlations]
    furthest = np.abs(distances).max()
    delays = np.arange(-round(max_lag / DELAY_STEP), round(max_lag / DELAY_STEP) + 1) * (DELAY_STEP / furthest)
    total = sum(curve(delays * distance) for curve, distance in zip(curves, distances, strict=True))
    return float(delays[np.argmax(total)])


@numba.njit(nogil=True)
def _cross_correlate(values, one, other, max_lag, sign, out):
    """Adds to ``out[pair, max_lag + lag]`` the sum of one site at t times the other at t + lag, times the sign."""
    num_samples = values.shape[1]
    for pair in range(len(one)):
        row, later = values[one[pair]], values[other[pair]]
        for t in range(num_samples):
            if row[t] > 0:
                for lag in range(max(-max_lag, -t), min(max_lag, num_samples - 1 - t) + 1):
                    out[pair, max_lag + lag] += sign * row[t] * later[t + lag]
