"""Shape and size of units' average waveforms, from templates and the places of the contacts.

All but the spread come from the *main channel*, the one with the largest peak-to-peak amplitude. Its trough is its
smallest value; extrema are placed between samples by a parabola through three of them, so that widths do not come in
steps of the sampling rate.

``waveform_width_ms``     from the trough to the largest value after it (trough-to-peak; Bartho et al. 2004)
``waveform_asymmetry``    (b - a) / (|b| + |a|), with a and b the largest values before and after the trough, against
                          the median of the whole waveform (Sirota et al. 2008); near -1 for spikes that go up first
``waveform_amplitude_uv`` peak to peak
``waveform_spread_um``    root mean square distance of the contacts from their centre of mass, both weighted with the
                          peak-to-peak amplitude, over contacts with at least a fifth of the largest: the noise of
                          hundreds of distant contacts would otherwise outweigh the spike
"""

import numpy as np

from ..errors import InputError

__all__ = ["WAVEFORM_FEATURE_NAMES", "waveform_features"]

WAVEFORM_FEATURE_NAMES = (
    "waveform_width_ms",
    "waveform_asymmetry",
    "waveform_amplitude_uv",
    "waveform_spread_um",
)
_SPREAD_SHARE = 0.2


def waveform_features(
    templates: np.ndarray, contact_locations_um: np.ndarray, sampling_frequency: float
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The features of average waveforms.

    Parameters
    ----------
    templates : array, shape (num_units, num_samples, num_channels)
        In uV; NaN or 0 where a unit has no waveform on a channel.
    contact_locations_um : array, shape (num_channels, 2 or 3)
    sampling_frequency : float
        In Hz.

    Returns
    -------
    features : float32 array, shape (num_units, 4)
        NaN where not defined: all of a unit that is flat or NaN on every channel, the width where nothing follows the
        trough, the asymmetry where nothing lies before or after it.
    names : tuple of str

    Raises
    ------
    InputError
        When shapes or sampling frequency do not fit.
    """
    templates, places = np.asarray(templates), np.asarray(contact_locations_um, dtype="float64")
    if templates.ndim != 3 or places.ndim != 2 or len(places) != templates.shape[2]:
        raise InputError(
            f"templates must have shape (num_units, num_samples, num_channels) and contact_locations_um "
            f"(num_channels, 2 or 3), got {templates.shape} and {places.shape}."
        )
    if not 0 < sampling_frequency < np.inf:
        raise InputError(f"sampling_frequency must be finite and positive, got {sampling_frequency}.")
    if not np.isfinite(places).all():
        raise InputError(f"{np.count_nonzero(~np.isfinite(places))} coordinates of the contacts are not finite.")
    features = np.full((len(templates), len(WAVEFORM_FEATURE_NAMES)), np.nan)
    # one unit after the other: masks of all of them would be copies of dense templates
    for unit, template in enumerate(templates):
        seen = np.isfinite(template).all(axis=0) if template.shape[0] else np.zeros(len(places), dtype=bool)
        if not seen.any():
            continue
        waveforms = template[:, seen].astype("float64")
        sizes = np.ptp(waveforms, axis=0)
        main = int(sizes.argmax())
        if sizes[main] > 0:
            width, asymmetry = _shape(waveforms[:, main], sampling_frequency)
            features[unit] = width, asymmetry, sizes[main], _spread(sizes, places[seen])
    return features.astype("float32"), WAVEFORM_FEATURE_NAMES


def _shape(waveform, sampling_frequency):
    """Width in ms and asymmetry of one waveform."""
    trough = int(waveform.argmin())
    before, after = waveform[:trough], waveform[trough + 1 :]
    if not len(after):
        return np.nan, np.nan
    peak = trough + 1 + int(after.argmax())
    width = 1000.0 * (_between_samples(waveform, peak) - _between_samples(waveform, trough)) / sampling_frequency
    if not len(before):
        return width, np.nan
    level = np.median(waveform)
    a, b = before.max() - level, after.max() - level
    size = abs(a) + abs(b)
    return width, (b - a) / size if size > 0 else np.nan


def _between_samples(waveform, k):
    """Where the parabola through samples k - 1, k and k + 1 has its extremum; k at the ends and on a plateau."""
    if k in (0, len(waveform) - 1):
        return float(k)
    before, at, after = waveform[k - 1 : k + 2]
    curvature = before - 2.0 * at + after
    # beyond half a sample k is no extremum of the three
    return k + float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature else float(k)


def _spread(sizes, places):
    """Root mean square distance from the centre of mass, of the contacts that see the spike well."""
    near = sizes >= _SPREAD_SHARE * sizes.max()
    weights = sizes[near] / sizes[near].sum()
    away = places[near] - weights @ places[near]
    return np.sqrt(weights @ (away**2).sum(axis=1))
