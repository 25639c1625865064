"""Scores of sites along one dendrite taken together: an event that travels along it is seen by all of them.

Sites have independent noise. A score that adds those of n sites, each at the time the event reaches it, has the events
sqrt(n) further above the noise than the score of one site. How much the others count (`coupling`) says how often
events are seen at all sites: at 1 the sum is best for events that all share, and an event at one site alone is lost
among n at 1 / sqrt(n) of its height; at 0.5 four sites still gain a factor of 1.89 of the possible 2 for shared events,
and one alone keeps 0.76 of its height.
"""

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from spikeinterface.core import BaseRecording

__all__ = ["JointSites", "Line", "LineCoupling", "connect_sites", "joint_scores", "joint_sites", "sites_on_lines"]

# longer ones come from a speed in other units
MAX_DELAY_MS = 20.0


@dataclass(frozen=True)
class LineCoupling:
    """How much the other sites of a line count, and when.

    The joint score of a site c at time t is::

        center + (s_c(t) - center + coupling * sum over d of clip(s_d(t + delay) - center)) / norm

    over the other sites d of its line within `radius_um`, with ``delay = (position_d - position_c) / speed``. The norm,
    ``sqrt(1 + coupling^2 * number of other sites)``, keeps the sd that the score has in independent noise, and so the
    meaning of thresholds. The clip keeps one site from speaking for others, see `single_site_share`.

    Attributes
    ----------
    coupling : float, default: 0.5
        Weight of the other sites, from 0 (each for itself) to 1 (all alike).
    speed_um_per_ms : float | None, default: None
        Of events along the line, positive towards larger positions. None: they are everywhere at once.
    radius_um : float, default: 200
        Sites further away along the line do not count.
    center : float | None, default: None
        The score that says nothing: 0 for a matched filter, the logit of the prior for a network. None: the median
        score, measured where it is used.
    single_site_share : float, default: 0.5
        One other site alone lifts (or lowers) a joint score by no more than this share of the way from `center` to the
        threshold, whatever its own score. From 1 on it can make an event at a silent site.

    Raises
    ------
    InputError
        On values out of range.

    Notes
    -----
    Probabilities are calibrated on the scores of single sites. An event that all sites see has a higher joint score
    than it has at one, at the same noise, so that the probability of a joint score still ranks events, but is none:
    see :func:`~si_neuroml.events.line_fit.fit_line_coupling` for one that is.
    """

    coupling: float = 0.5
    speed_um_per_ms: float | None = None
    radius_um: float = 200.0
    center: float | None = None
    single_site_share: float = 0.5

    def __post_init__(self):
        if not 0 <= self.coupling <= 1:
            raise InputError(f"coupling must lie between 0 and 1, got {self.coupling!r}.")
        for name in ("radius_um", "single_site_share"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)!r}.")
        speed, center = self.speed_um_per_ms, self.center
        if speed is not None and (math.isnan(speed) or speed == 0):
            raise InputError(f"speed_um_per_ms must not be {speed!r}; None is for events everywhere at once.")
        if center is not None and not math.isfinite(center):
            raise InputError(f"center must be a finite score or None, got {center!r}.")

    @property
    def delay_ms_per_um(self) -> float:
        """Time an event takes along the line; negative towards smaller positions."""
        return 0.0 if self.speed_um_per_ms is None else 1.0 / self.speed_um_per_ms


class Line(NamedTuple):
    """Which channels count for which, made by :func:`connect_sites`.

    Attributes
    ----------
    first : int64 array, shape (num_channels + 1,)
        The links of channel c are those from ``first[c]`` to ``first[c + 1]``.
    others : int64 array, shape (num_links,)
        The channel at the other end.
    delays : float64 array, shape (num_links,)
        How many samples later an event is there.
    norms, limits : float32 array, shape (num_channels,)
        See :class:`LineCoupling`; `limits` are what the scores of other channels are clipped to.
    coupling, center : float
        As given.
    """

    first: np.ndarray
    others: np.ndarray
    delays: np.ndarray
    norms: np.ndarray
    limits: np.ndarray
    coupling: float
    center: float

    @property
    def reach(self) -> int:
        """Samples before and after a sample whose scores its joint score depends on."""
        return math.ceil(np.abs(self.delays).max(initial=0.0))


class JointSites(NamedTuple):
    """A coupling and the sites of a recording it is for, made by :func:`joint_sites`.

    Attributes
    ----------
    coupling : LineCoupling
    positions_um, lines : array, shape (num_channels,)
        As for :func:`connect_sites`.
    """

    coupling: LineCoupling
    positions_um: np.ndarray
    lines: np.ndarray


def connect_sites(
    positions_um: np.ndarray,
    lines: np.ndarray,
    coupling: LineCoupling,
    sampling_frequency: float,
    threshold: float,
    *,
    usable: np.ndarray | None = None,
) -> Line:
    """Find the links between channels.

    Parameters
    ----------
    positions_um : array, shape (num_channels,)
        Along their lines, in um; only differences count.
    lines : array, shape (num_channels,)
        Name of the line of each channel; channels of different lines never count for each other.
    coupling : LineCoupling
        With a center.
    sampling_frequency : float
        In Hz.
    threshold : float
        Score that makes an event, see ``single_site_share``.
    usable : bool array, shape (num_channels,), optional
        Channels that hold data. Default: all.

    Returns
    -------
    Line

    Raises
    ------
    InputError
        On places that are not finite or not one per channel, no center, a threshold that is not above it, or delays
        above 20 ms.
    """
    positions, lines = np.asarray(positions_um, dtype="float64"), np.asarray(lines)
    usable = np.ones(len(lines), dtype=bool) if usable is None else np.asarray(usable, dtype=bool)
    if positions.shape != lines.shape or lines.shape != usable.shape or not np.isfinite(positions).all():
        raise InputError(
            f"Each of {len(lines)} channels needs one finite position along its line, got {positions.shape} with "
            f"{np.isfinite(positions).sum()} finite ones."
        )
    if coupling.center is None or not threshold > coupling.center:
        raise InputError(f"The threshold ({threshold!r}) must lie above the center ({coupling.center!r}).")
    distances = positions[None, :] - positions[:, None]
    linked = (lines[:, None] == lines[None, :]) & (np.abs(distances) <= coupling.radius_um)
    linked &= usable[:, None] & usable[None, :] & (coupling.coupling > 0)
    np.fill_diagonal(linked, False)
    channels, others = np.nonzero(linked)
    delays_ms = coupling.delay_ms_per_um * distances[channels, others]
    if np.abs(delays_ms).max(initial=0.0) > MAX_DELAY_MS:
        raise InputError(
            f"At {coupling.speed_um_per_ms:g} um/ms an event takes {np.abs(delays_ms).max():.1f} ms between sites "
            f"{np.abs(distances[channels, others]).max():g} um apart; at most {MAX_DELAY_MS:g} ms are possible. Speeds "
            "along dendrites are 100 um/ms (0.1 m/s) and more; or take a smaller radius_um."
        )
    num_others = linked.sum(axis=1)
    norms = np.sqrt(1.0 + coupling.coupling**2 * num_others)
    # what one other site adds after weight and norm is at most the share of the way to the threshold
    limits = coupling.single_site_share * (threshold - coupling.center) * norms / max(coupling.coupling, 1e-12)
    return Line(
        np.concatenate([[0], np.cumsum(num_others)]),
        others,
        delays_ms * (sampling_frequency / 1000.0),
        norms.astype("float32"),
        limits.astype("float32"),
        float(coupling.coupling),
        float(coupling.center),
    )


def joint_scores(scores: np.ndarray, line: Line) -> np.ndarray:
    """Scores of channels that share lines, see :class:`LineCoupling`.

    Delays between samples are interpolated linearly. Sites add nothing at times beyond the ends of the scores, which
    must therefore end where the segment ends, as for :func:`~si_neuroml.events.picking.pick_events`.

    Parameters
    ----------
    scores : float32 array, shape (num_channels, num_samples)
        From any scorer.
    line : Line
        Of as many channels.

    Returns
    -------
    float32 array, shape (num_channels, num_samples)
        Channels without others on their line have the scores they had, to the last bit; within ``line.reach`` of the
        ends of a chunk joint scores are not exact, elsewhere they have the same bits in any chunk.

    Raises
    ------
    InputError
        On another number of channels.
    """
    scores = np.ascontiguousarray(scores, dtype="float32")
    if scores.ndim != 2 or len(scores) != len(line.norms):
        raise InputError(f"The line has {len(line.norms)} channels, the scores have shape {scores.shape}.")
    whole = np.floor(line.delays)
    fractions = (line.delays - whole).astype("float32")
    weight, center = np.float32(line.coupling), np.float32(line.center)
    out = scores.copy()
    _add_others(
        scores, line.first, line.others, whole.astype("int64"), fractions, line.norms, line.limits, weight, center, out
    )
    return out


def sites_on_lines(
    recording: "BaseRecording", by: str | None = "cell", positions_um: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions along their lines, and the line of each channel.

    Parameters
    ----------
    recording : BaseRecording
        With a probe, unless positions are given.
    by : str | None, default: "cell"
        The property of the channels that names their line, such as "cell" or "group". None: all are on one line.
    positions_um : array, shape (num_channels,), optional
        For lines that are not straight: the path length to each site in um. Default: the contacts' places, projected
        on the axis along which those of a line differ most, increasing with its largest coordinate.

    Returns
    -------
    positions_um : float64 array, shape (num_channels,)
    lines : array, shape (num_channels,)

    Raises
    ------
    InputError
        When there is no such property, or neither probe nor positions.
    """
    num_channels = recording.get_num_channels()
    lines = np.zeros(num_channels, dtype="int64") if by is None else recording.get_property(by)
    if lines is None:
        raise InputError(
            f"Joint scores need to know which channels share a line, but the recording has no property {by!r}; it has "
            f"{sorted(recording.get_property_keys())}. Set it with recording.set_property({by!r}, names), name another "
            "one with by=, or pass by=None if all channels are on one line."
        )
    lines = np.asarray(lines)
    if positions_um is not None:
        positions = np.asarray(positions_um, dtype="float64")
        if positions.shape != (num_channels,) or not np.isfinite(positions).all():
            raise InputError(f"positions_um must hold {num_channels} finite numbers, got shape {positions.shape}.")
        return positions, lines
    if not recording.has_probe():
        raise InputError(
            "Joint scores need to know where the channels lie, but the recording has no probe. Set one with "
            "recording.set_probe(probe), or pass positions_um: the place of each channel along its line in um."
        )
    places = np.asarray(recording.get_channel_locations(), dtype="float64")
    positions = np.zeros(num_channels)
    for name in np.unique(lines):
        members = lines == name
        centered = places[members] - places[members].mean(axis=0)
        axis = np.linalg.svd(centered, full_matrices=False)[2][0]
        positions[members] = centered @ (axis * np.sign(axis[np.abs(axis).argmax()]))
    return positions, lines


def joint_sites(recording: "BaseRecording", joint: "dict[str, Any] | LineCoupling | JointSites") -> JointSites:
    """What a user says about joint scores, with the places of a recording's channels.

    Parameters
    ----------
    recording : BaseRecording
        See :func:`sites_on_lines`.
    joint : dict | LineCoupling | JointSites
        A dict holds values of :class:`LineCoupling`, and `by` and `positions_um` of :func:`sites_on_lines`.

    Raises
    ------
    InputError
        On other keys or types, or as the two of them.
    """
    if isinstance(joint, JointSites):
        return joint
    if isinstance(joint, LineCoupling):
        return JointSites(joint, *sites_on_lines(recording))
    if not isinstance(joint, dict) or not set(joint) <= _JOINT_KEYS:
        raise InputError(f"joint must be None or a dict with any of {sorted(_JOINT_KEYS)}, got {joint!r}.")
    places = {key: joint[key] for key in ("by", "positions_um") if key in joint}
    coupling = LineCoupling(**{key: value for key, value in joint.items() if key not in places})
    return JointSites(coupling, *sites_on_lines(recording, **places))


_JOINT_KEYS = {field.name for field in fields(LineCoupling)} | {"by", "positions_um"}


@numba.njit(nogil=True)
def _add_others(scores, first, others, whole, fractions, norms, limits, weight, center, out):
    num_samples = scores.shape[1]
    for channel in range(len(scores)):
        if first[channel] == first[channel + 1]:
            continue
        limit, norm = limits[channel], norms[channel]
        target = out[channel]
        for t in range(num_samples):
            target[t] -= center
        for link in range(first[channel], first[channel + 1]):
            row, shift, fraction = scores[others[link]], whole[link], fractions[link]
            # one sample later where there is something to interpolate
            later = shift + (1 if fraction > 0 else 0)
            for t in range(max(0, -shift), min(num_samples, num_samples - later)):
                near = min(max(row[t + shift] - center, -limit), limit)
                far = min(max(row[t + later] - center, -limit), limit)
                target[t] += weight * (near + fraction * (far - near))
        for t in range(num_samples):
            target[t] = center + target[t] / norm
