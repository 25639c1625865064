"""The Monte Carlo reference localizer as a node of SpikeInterface's pipeline."""

import math
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording, get_noise_levels

from ..errors import InputError
from .geometry import build_local_geometry, default_half_width
from .hmc import hmc_settings, sample_posterior
from .nodes import _PatchLocalizer
from .observation import ObservationModel
from .rows import WindowSamples, spike_rows
from .settings import LOCATION_DTYPE, PRESETS

__all__ = ["HMC_LOCATION_DTYPE", "LocalizeHMC"]

# what every localizer returns, then the covariances in um^2 and whether the chains are to be believed
HMC_LOCATION_DTYPE = np.dtype(
    [*LOCATION_DTYPE.descr, *((name, "float64") for name in ("xy_cov", "xz_cov", "yz_cov", "r_hat", "ess"))]
)
MS_BEFORE, MS_AFTER = 0.5, 0.7
_CHOICES = {"amplitude_feature": ("trough", "energy"), "peak_sign": ("neg", "pos", "both")}


class LocalizeHMC(_PatchLocalizer):
    """Localize spikes by Hamiltonian Monte Carlo under the model of Hurwitz et al. (2019), section 3.6.

    The reference for faster methods: tens of milliseconds per spike, with R-hat and the effective sample size.
    """

    name = "hmc"
    _dtype = HMC_LOCATION_DTYPE
    params_doc = """
    preset: None | "hurwitz2019"
        None: adapted steps, four chains, measured noise. "hurwitz2019": one chain of 10,000 iterations with steps of
        0.01, unit noise, and the window and box of the paper.
    noise: "measured" | "unit" | float | None
        Standard deviation of an amplitude in uV: the median noise level of the channels, 1, or a number. None: the
        preset's.
    misfit_fraction: float | None
        What the exponential does not describe, as a fraction of the largest amplitude. None: 0.1, or the preset's 0.
    amplitude_feature: "trough" | "energy"
        What counts as the amplitude of a channel: its trough, or its energy after the trough in units of the largest.
    half_width_um: float | None
        Half width of the box of channels. None: the smallest that holds 8 contacts, or the preset's.
    ms_before, ms_after: float | None
        Window in which the troughs are sought. None: 0.5 and 0.7, or the preset's.
    peak_sign: "neg" | "pos" | "both"
        Direction of the spikes.
    decay_per_um: float
        b of the exponential.
    amplitude_prior_factor, amplitude_prior_std_uv, location_prior_std_um: float
        lambda and spread of the prior of the source amplitude, spread of the prior of the place.
    num_chains, num_warmup, num_samples: int | None
        Chains per spike, iterations that are dropped and kept. None: 4, 300, 300, or the preset's.
    sampler_kwargs: dict | None
        Further fields of si_neuroml.localization.hmc.HMCSettings.
    seed: int
        Of the chains. Same seed, same spike: same place, in every pool and with any chunks.
    """

    def __init__(
        self,
        recording: BaseRecording,
        parents: list,
        return_output: bool = True,
        preset: str | None = None,
        noise: str | float | None = None,
        misfit_fraction: float | None = None,
        amplitude_feature: str = "trough",
        half_width_um: float | None = None,
        ms_before: float | None = None,
        ms_after: float | None = None,
        peak_sign: str = "neg",
        decay_per_um: float = 0.035,
        amplitude_prior_factor: float = 2.0,
        amplitude_prior_std_uv: float = 50.0,
        location_prior_std_um: float = 80.0,
        num_chains: int | None = None,
        num_warmup: int | None = None,
        num_samples: int | None = None,
        sampler_kwargs: dict[str, Any] | None = None,
        seed: int = 0,
        **foreign_parameters,
    ):
        super().__init__(recording, parents, return_output, foreign_parameters)
        counts = {"num_chains": num_chains, "num_warmup": num_warmup, "num_samples": num_samples}
        given = {name: value for name, value in counts.items() if value is not None}
        self.settings = hmc_settings(preset, **{**(sampler_kwargs or {}), **given})
        choices = {"amplitude_feature": amplitude_feature, "peak_sign": peak_sign}
        for name, value in choices.items():
            if value not in _CHOICES[name]:
                raise InputError(f"{name} must be one of {_CHOICES[name]}, got {value!r}.")
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
            raise InputError(f"seed must be a whole number of at least 0, got {seed!r}.")
        self.amplitude_feature, self.peak_sign, self.seed = amplitude_feature, peak_sign, int(seed)
        ms_before, ms_after = _window(preset, ms_before, ms_after)
        self.window = WindowSamples.from_ms(ms_before, ms_after, self.info.sampling_frequency)
        self.geometry = _geometry(self.info, preset, half_width_um)
        numbers = {
            "decay_per_um": decay_per_um,
            "amplitude_prior_factor": amplitude_prior_factor,
            "amplitude_prior_std_uv": amplitude_prior_std_uv,
            "location_prior_std_um": location_prior_std_um,
        }
        for name, value in numbers.items():
            _check_number(name, value)
        misfit_fraction = _misfit_fraction(preset, misfit_fraction)
        noise = _noise_std_uv(recording, preset, noise)
        self.observation = ObservationModel(noise_std_uv=noise, misfit_fraction=misfit_fraction, **numbers)
        # the number travels and not the word, so that no worker measures the noise again
        self._kwargs.update(
            preset=preset,
            noise=noise,
            misfit_fraction=misfit_fraction,
            half_width_um=self.geometry.half_width_um,
            ms_before=ms_before,
            ms_after=ms_after,
            sampler_kwargs=sampler_kwargs,
            seed=self.seed,
            **choices,
            **numbers,
            **counts,
        )

    def get_margin(self):
        """Samples that the window needs on either side of a chunk."""
        return max(self.window.nbefore, self.window.nafter)

    def compute(self, traces, start_frame, end_frame, segment_index, max_margin, peaks, *waveforms):
        """Locations of the peaks of one chunk."""
        rows = spike_rows(
            traces,
            peaks["sample_index"],
            peaks["channel_index"],
            self.geometry,
            self.window,
            peak_sign=self.peak_sign,
            amplitude_feature=self.amplitude_feature,
            **self._patch_kwargs(start_frame, segment_index, max_margin),
        )
        # a spike is named by its place in the recording and not in the chunk
        samples = peaks["sample_index"].astype("int64") + start_frame - max_margin
        keys = np.column_stack([np.full(len(peaks), segment_index), samples, peaks["channel_index"]]).astype("int64")
        posterior = sample_posterior(
            rows.amplitudes,
            self.geometry.offsets[rows.centers],
            rows.patches[:, :, -1],
            self.observation,
            self.settings,
            keys,
            self.seed,
            planar=self.geometry.planar,
        )
        return _as_locations(posterior, self.geometry, rows.centers)


def _as_locations(posterior, geometry, centers):
    places = geometry.contact_locations[centers] + posterior.mean
    if geometry.planar:
        places[:, 2] = posterior.mean[:, 2]
    locations = np.zeros(len(centers), dtype=HMC_LOCATION_DTYPE)
    for axis, name in enumerate("xyz"):
        locations[name] = places[:, axis]
        locations[f"{name}_std"] = np.sqrt(posterior.covariance[:, axis, axis])
    for name, (row, column) in {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}.items():
        locations[f"{name}_cov"] = posterior.covariance[:, row, column]
    locations["alpha"] = posterior.source_amplitude
    locations["r_hat"], locations["ess"] = posterior.r_hat, posterior.ess
    return locations


def _is_number(value):
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _check_number(name, value):
    if not (_is_number(value) and value > 0):
        raise InputError(f"{name} must be a positive number, got {value!r}.")


def _window(preset, ms_before, ms_after):
    defaults = (MS_BEFORE, MS_AFTER) if preset is None else (PRESETS[preset].ms_before, PRESETS[preset].ms_after)
    found = tuple(
        default if value is None else value for value, default in zip((ms_before, ms_after), defaults, strict=True)
    )
    for name, value in zip(("ms_before", "ms_after"), found, strict=True):
        _check_number(name, value)
    return found


def _geometry(info, preset, half_width_um):
    if half_width_um is None and preset is not None:
        half_width_um = PRESETS[preset].half_width_um
    if half_width_um is None:
        half_width_um = default_half_width(info.contact_locations, shank_indices=info.shank_indices)
    _check_number("half_width_um", half_width_um)
    return build_local_geometry(info.contact_locations, half_width_um, shank_indices=info.shank_indices)


def _misfit_fraction(preset, misfit_fraction):
    if misfit_fraction is None:
        return 0.1 if preset is None else 0.0
    if not (_is_number(misfit_fraction) and 0 <= misfit_fraction < 1):
        raise InputError(f"misfit_fraction must be a number of at least 0 and below 1, got {misfit_fraction!r}.")
    return float(misfit_fraction)


def _noise_std_uv(recording, preset, noise):
    """The noise in uV, measured with a fixed seed where that is asked for."""
    if noise is None:
        noise = "measured" if preset is None else "unit"
    if noise == "unit":
        return 1.0
    if noise != "measured":
        if not (_is_number(noise) and noise > 0):
            raise InputError(f'noise must be "measured", "unit" or a positive number of uV, got {noise!r}.')
        return float(noise)
    levels = get_noise_levels(
        recording,
        return_in_uV=recording.has_scaleable_traces(),
        random_slices_kwargs={"seed": 0},
        n_jobs=1,
        progress_bar=False,
    )
    level = float(np.nanmedian(levels)) if np.isfinite(levels).any() else math.nan
    if not level > 0:
        raise InputError(f'The measured noise level is {level} uV. Use noise="unit" or give a number of uV.')
    return level
