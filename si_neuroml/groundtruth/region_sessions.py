"""Simulated sessions of several animals in which the region of every unit is known.

Units differ by region in rate, intervals, bursts, responses and waveforms. They differ by animal, too, in ways that a
model can mistake for the region: some shared by the whole animal, some its own in each region. Units of one animal on
both sides of a split therefore make a model look better than it is on an animal it has not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import InputError
from .region_firing import RESPONSE_TYPES, RegionProfile, UnitFiring, simulate_spike_train

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["REGION_PROFILES", "RegionEffects", "RegionSession", "Scatter", "generate_region_sessions"]

# from the surface down, as a probe through mouse visual cortex meets them; round numbers, not measurements
REGION_PROFILES = (
    RegionProfile("VISp", 4.0, 1.0, 2.0, 0.08, 6.0, 0.35, 0.35, 0.15, 0.05, 3.0, 0.45, 120.0),
    RegionProfile("CA1", 2.0, 1.2, 2.0, 0.30, 5.0, 0.10, 0.05, 0.10, 0.12, 0.8, 0.55, 160.0),
    RegionProfile("DG", 1.2, 1.4, 2.0, 0.15, 6.0, 0.05, 0.05, 0.05, 0.12, 0.5, 0.40, 90.0),
    RegionProfile("LGd", 10.0, 0.7, 1.5, 0.12, 3.0, 0.50, 0.40, 0.05, 0.035, 4.0, 0.30, 100.0),
    RegionProfile("LP", 6.0, 0.8, 1.5, 0.12, 3.5, 0.30, 0.30, 0.10, 0.07, 1.5, 0.35, 110.0),
    RegionProfile("APN", 14.0, 0.5, 1.5, 0.03, 4.0, 0.35, 0.20, 0.20, 0.05, 1.5, 0.28, 140.0),
)
TRACK_UM = 3840.0
MIN_REGIONS = 3
MARGIN_S = 1.5
# of the boundaries from shank to shank, as a share of the track
MAX_SHIFT = 0.04
MAX_BURST_PROBABILITY, MAX_RATE_HZ, WIDTHS_MS = 0.6, 60.0, (0.1, 1.2)
STREAMS = ("lab", "subject", "subject_region", "recording", "track", "onsets", "unit", "train")


@dataclass(frozen=True)
class Scatter:
    """How far something moves the parameters: standard deviations of the natural logarithm of factors.

    Attributes
    ----------
    rate_hz, irregularity, burst_probability, latency_s, response_gain, width_ms, amplitude_uv : float
        Of the parameters of that name in :class:`~si_neuroml.groundtruth.region_firing.RegionProfile`.
    """

    rate_hz: float = 0.0
    irregularity: float = 0.0
    burst_probability: float = 0.0
    latency_s: float = 0.0
    response_gain: float = 0.0
    width_ms: float = 0.0
    amplitude_uv: float = 0.0

    def __post_init__(self):
        for item in fields(self):
            if not (np.isfinite(getattr(self, item.name)) and getattr(self, item.name) >= 0):
                raise InputError(f"Scatter.{item.name} must be 0 or more, got {getattr(self, item.name)}.")

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Logarithms of the factors, one per field; what one field is leaves the draws of the others as they are."""
        return np.array([getattr(self, item.name) for item in fields(self)]) * rng.standard_normal(len(fields(self)))


PARAMETERS = tuple(item.name for item in fields(Scatter))


@dataclass(frozen=True)
class RegionEffects:
    """Who moves the parameters, and how far; ``Scatter()`` switches a level off.

    Attributes
    ----------
    lab, subject, recording : Scatter
        Shared by all units of a laboratory, an animal, a session.
    subject_region : Scatter
        Shared by the units of one animal in one region: what a model can learn by heart where the units of an animal
        are on both sides of a split.
    unit : Scatter
        Of each unit by itself.
    """

    lab: Scatter = Scatter(rate_hz=0.05, width_ms=0.03, amplitude_uv=0.1)
    subject: Scatter = Scatter(0.25, 0.1, 0.2, 0.15, 0.4, 0.1, 0.2)
    recording: Scatter = Scatter(0.1, 0.03, 0.05, 0.05, 0.2, 0.02, 0.1)
    subject_region: Scatter = Scatter(0.5, 0.2, 0.5, 0.2, 0.5, 0.2, 0.3)
    unit: Scatter = field(default_factory=lambda: Scatter(0.9, 0.2, 0.6, 0.25, 0.7, 0.3, 0.45))


class RegionSession(NamedTuple):
    """One simulated recording session and the truth about it.

    Attributes
    ----------
    spike_times : float64 array, shape (num_spikes,)
        In s, unit after unit, sorted within each unit.
    offsets : int64 array, shape (num_units + 1,)
        Where the spikes of each unit begin, and the end.
    onsets : float64 array, shape (num_onsets,)
        Event onsets in s, sorted.
    units : pandas.DataFrame, num_units rows
        ``subject``, ``recording``, ``lab``, ``shank`` (empty for a single one), ``unit_id``, ``region``: text;
        ``depth_um`` (from the tip of the shank upwards), ``waveform_width_ms``, ``waveform_amplitude_uv``; and how
        the unit was made to fire: the fields of ``UnitFiring``, each with ``true_`` before its name.
    tracks : pandas.DataFrame
        Where the regions lie: ``subject``, ``recording``, ``shank``, ``region``, ``low_um``, ``high_um``, from the tip
        of each shank upwards.
    duration_s : float
        Length of the session.
    """

    spike_times: np.ndarray
    offsets: np.ndarray
    onsets: np.ndarray
    units: "pd.DataFrame"
    tracks: "pd.DataFrame"
    duration_s: float


def generate_region_sessions(
    num_subjects: int = 5,
    sessions_per_subject: int = 2,
    num_units: int = 100,
    duration_s: float = 600.0,
    *,
    num_shanks: int = 1,
    num_labs: int = 1,
    regions: Sequence[RegionProfile] = REGION_PROFILES,
    effects: RegionEffects | None = None,
    skip_probability: float = 0.3,
    event_interval_s: float | None = 3.0,
    track_um: float = TRACK_UM,
    seed: int = 0,
) -> list[RegionSession]:
    """Simulate spike trains of sorted units along probes through known regions of several animals.

    Parameters
    ----------
    num_subjects, sessions_per_subject : int, default: 5, 2
        Animals, and sessions of each, every one with a probe track of its own.
    num_units : int, default: 100
        Units of a session.
    duration_s : float, default: 600.0
        Length of a session; at least 10.
    num_shanks : int, default: 1
        Shanks of the probe; boundaries lie a little deeper or higher from shank to shank.
    num_labs : int, default: 1
        Laboratories that share the animals.
    regions : sequence of RegionProfile
        Regions from the surface down, by default six of the mouse.
    effects : RegionEffects, optional
        How laboratories, animals, sessions and units scatter.
    skip_probability : float, default: 0.3
        Probability that a track misses a region; it always meets at least three, or all if there are fewer.
    event_interval_s : float or None, default: 3.0
        Mean interval of the onsets, which vary by a fifth of it to either side. None: no onsets.
    track_um : float, default: 3840.0
        Length of the track, evenly populated with units.
    seed : int, default: 0
        The same seed and arguments give the same sessions. An animal, a session, a unit stays as it is when there are
        more of them.

    Returns
    -------
    list of RegionSession
        Animal after animal.

    Raises
    ------
    InputError
        If a number is out of range, or two regions have one name.
    """
    regions = tuple(regions)
    _check(num_subjects, sessions_per_subject, num_units, num_shanks, num_labs, seed)
    _check_ranges(duration_s, event_interval_s, track_um, skip_probability, regions)
    draws = _Draws(int(seed), regions, effects or RegionEffects())
    sessions = []
    for subject in range(num_subjects):
        for session in range(sessions_per_subject):
            key = (subject, session)
            tracks = _draw_tracks(draws, key, num_shanks, track_um, skip_probability)
            onsets = _draw_onsets(draws.random("onsets", *key), duration_s, event_interval_s)
            rows = [_draw_unit(draws, key, unit, subject % num_labs, tracks, track_um) for unit in range(num_units)]
            trains = [
                simulate_spike_train(draws.random("train", *key, unit), firing, duration_s, onsets)
                for unit, (firing, _) in enumerate(rows)
            ]
            sessions.append(_session(draws, key, subject % num_labs, rows, trains, tracks, onsets, duration_s))
    return sessions


class _Draws(NamedTuple):
    """What all sessions share; every number comes from a stream of its own, whatever else is drawn."""

    seed: int
    regions: tuple[RegionProfile, ...]
    effects: RegionEffects

    def random(self, stream: str, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(STREAMS.index(stream), *key)))

    def factors(self, key: tuple[int, int], unit: int, lab: int, region: int) -> np.ndarray:
        """Factors on the parameters of a unit, all levels together."""
        keys = {
            "lab": (lab,),
            "subject": key[:1],
            "recording": key,
            "subject_region": (key[0], region),
            "unit": (*key, unit, 0),
        }
        return np.exp(sum(getattr(self.effects, level).draw(self.random(level, *own)) for level, own in keys.items()))


def _draw_tracks(draws, key, num_shanks, track_um, skip_probability):
    """Rows (shank, index of the region, low, high) from the tip of each shank upwards."""
    rng, num_regions = draws.random("track", *key), len(draws.regions)
    order, skipped = rng.permutation(num_regions), rng.random(num_regions) < skip_probability
    # those that are met come first, and of the others as many as are needed
    order = order[np.argsort(skipped[order], kind="stable")]
    met = np.sort(order[: max((~skipped).sum(), min(MIN_REGIONS, num_regions))])[::-1]
    thickness = rng.lognormal(0.0, 0.35, size=len(met))
    inner = track_um * np.cumsum(thickness)[:-1] / thickness.sum()
    tilt = rng.normal(0.0, 60.0)
    rows = []
    for shank in range(num_shanks):
        shift = np.clip(tilt * shank, -MAX_SHIFT * track_um, MAX_SHIFT * track_um)
        edges = np.concatenate([[0.0], np.clip(inner + shift, 0.0, track_um), [track_um]])
        spans = zip(met, edges[:-1], edges[1:], strict=True)
        rows += [(shank, region, low, high) for region, low, high in spans if high > low]
    return rows


def _draw_onsets(rng, duration_s, interval_s):
    if interval_s is None:
        return np.zeros(0)
    intervals = interval_s * rng.uniform(0.8, 1.2, size=int(duration_s / (0.8 * interval_s)) + 1)
    onsets = MARGIN_S + np.concatenate([[0.0], np.cumsum(intervals)])
    return onsets[onsets < duration_s - MARGIN_S]


def _draw_unit(draws, key, unit, lab, tracks, track_um):
    """How a unit fires, and the row of the table of units that says where it is."""
    rng = draws.random("unit", *key, unit, 1)
    shanks = max(row[0] for row in tracks) + 1
    shank, depth_um = int(rng.integers(shanks)), rng.uniform(0.0, track_um)
    region = next(row[1] for row in tracks if row[0] == shank and depth_um <= row[3])
    profile = draws.regions[region]
    typical = np.array([getattr(profile, name) for name in PARAMETERS])
    own = dict(zip(PARAMETERS, (typical * draws.factors(key, unit, lab, region)).tolist(), strict=True))
    shares = np.cumsum([profile.transient, profile.sustained, profile.suppressed])
    width_ms, amplitude_uv = np.clip(own.pop("width_ms"), *WIDTHS_MS), own.pop("amplitude_uv")
    own["rate_hz"] = min(own["rate_hz"], MAX_RATE_HZ)
    own["burst_probability"] = min(own["burst_probability"], MAX_BURST_PROBABILITY)
    firing = UnitFiring(
        refractory_ms=profile.refractory_ms,
        burst_interval_ms=profile.burst_interval_ms,
        response=RESPONSE_TYPES[np.searchsorted(shares, rng.random(), side="right")],
        **own,
    )
    place = {"shank": _shank_name(shank, shanks), "region": profile.name, "depth_um": depth_um}
    return firing, {**place, "waveform_width_ms": float(width_ms), "waveform_amplitude_uv": amplitude_uv}


def _shank_name(shank, num_shanks):
    return str(shank) if num_shanks > 1 else ""


def _session(draws, key, lab, rows, trains, tracks, onsets, duration_s):
    import pandas as pd

    shanks = max(row[0] for row in tracks) + 1
    names = {"subject": f"subject{key[0]}", "recording": f"subject{key[0]}_session{key[1]}"}
    units = [
        {
            **names,
            "lab": f"lab{lab}",
            "unit_id": f"unit{index}",
            **place,
            **{f"true_{item.name}": getattr(firing, item.name) for item in fields(firing)},
        }
        for index, (firing, place) in enumerate(rows)
    ]
    spans = [
        {
            **names,
            "shank": _shank_name(shank, shanks),
            "region": draws.regions[region].name,
            "low_um": low,
            "high_um": high,
        }
        for shank, region, low, high in tracks
    ]
    return RegionSession(
        spike_times=np.concatenate(trains),
        offsets=np.concatenate([[0], np.cumsum([len(train) for train in trains])]).astype("int64"),
        onsets=onsets,
        units=pd.DataFrame(units),
        tracks=pd.DataFrame(spans),
        duration_s=float(duration_s),
    )


def _check(*numbers):
    names = ("num_subjects", "sessions_per_subject", "num_units", "num_shanks", "num_labs", "seed")
    for name, number in zip(names, numbers, strict=True):
        lowest = 0 if name == "seed" else 1
        if number != int(number) or number < lowest:
            raise InputError(f"{name} must be a whole number of at least {lowest}, got {number}.")


def _check_ranges(duration_s, event_interval_s, track_um, skip_probability, regions):
    if not (np.isfinite(duration_s) and duration_s >= 10):
        raise InputError(f"duration_s must be at least 10 s, got {duration_s}.")
    if event_interval_s is not None and not event_interval_s >= 0.1:
        raise InputError(f"event_interval_s must be at least 0.1 s, or None for no events, got {event_interval_s}.")
    if not (np.isfinite(track_um) and track_um >= 100):
        raise InputError(f"track_um must be at least 100 um, got {track_um}.")
    if not 0 <= skip_probability <= 1:
        raise InputError(f"skip_probability must be from 0 to 1, got {skip_probability}.")
    names = [region.name for region in regions]
    if not names or len(set(names)) < len(names):
        raise InputError(f"regions must be at least one RegionProfile, each with a name of its own, got {names}.")
