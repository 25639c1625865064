"""What can be chosen about the VAE localizer, its presets, and the one output dtype of every localizer here."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ..errors import InputError

__all__ = ["LOCATION_DTYPE", "PRESETS", "LocalizerSettings", "localizer_settings"]

# every localizer of this package returns these fields, so that what reads one reads all; um, alpha in uV
LOCATION_DTYPE = np.dtype([(name, "float64") for name in ("x", "y", "z", "alpha", "x_std", "y_std", "z_std")])

_CHOICES = {
    "amplitude_feature": ("energy", "trough"),
    "input_scaling": ("peak", "raw"),
    "amplitude": ("profiled", "table"),
    "peak_sign": ("neg", "pos", "both"),
    "learning_rate_schedule": ("cosine", "constant"),
    "std_noise": ("soma", "residual", "model"),
}


def _is_number(value):
    return (
        isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and np.isfinite(value)
    )


def _is_integer(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _sequence(name, values, is_valid, length=None):
    """A tuple of positive numbers, or an InputError."""
    if not isinstance(values, (list, tuple)) or not values or (length is not None and len(values) != length):
        raise InputError(f"{name} must be a sequence of {length or 'some'} numbers, got {values!r}.")
    if not all(is_valid(value) and value > 0 for value in values):
        raise InputError(f"{name} must hold positive numbers, got {values!r}.")
    return tuple(values)


@dataclass(frozen=True)
class LocalizerSettings:
    """Settings of the VAE localizer.

    Attributes
    ----------
    half_width_um : float | None, default: None
        Half width of the box of channels around a spike. None: the smallest that holds 8 contacts around the typical
        channel (3 x 3 contacts on a square array).
    ms_before, ms_after : float, default: 0.5, 0.7
        Window of the waveforms; the paper takes about 2 ms.
    peak_sign : "neg" | "pos" | "both", default: "neg"
        Direction of the spikes. "pos" turns all of them upside down first, "both" those whose largest excursion on the
        centre channel is positive.
    amplitude_feature : "energy" | "trough", default: "energy"
        What the decoder explains. "trough": the lowest value of each channel near the spike, as in the paper. "energy":
        the root mean square of each waveform in the 0.35 ms after the trough, in units of the largest trough. The
        trough is made where the spike begins, in the axon; what follows it points to the soma.
    input_scaling : "peak" | "raw", default: "peak"
        "peak": waveforms divided by the largest trough, whose logarithm is one more input, so that one shape is one
        input at every amplitude. "raw": waveforms in uV as in the paper.
    hidden_sizes : tuple of int, default: (500, 250)
        Hidden layers of the encoder (paper, section 4.1).
    amplitude : "profiled" | "table", default: "profiled"
        "profiled": the amplitude at the source is the closed-form posterior mode given the place. "table": one free
        parameter per training row, found by the same optimiser, as in the paper.
    amplitude_prior : bool, default: True
        Whether the prior of the source amplitude takes part in the objective (the authors' code leaves it out).
    amplitude_prior_factor, amplitude_prior_std_uv : float, default: 2.0, 50.0
        lambda and standard deviation of the prior of the source amplitude.
    location_prior_std_um : float, default: 80.0
        Standard deviation of the prior of the place along each axis.
    decay_per_um : float, default: 0.035
        b of the exponential; the start value when `fit_decay`.
    fit_decay : bool, default: False
        Fit one b for the recording together with the encoder.
    noise : "unit" | "measured" | float, default: "unit"
        Standard deviation of the amplitudes in the objective: 1 uV as in the paper, the recording's noise level, or a
        number of uV.
    std_noise : "soma" | "residual" | "model", default: "soma"
        What the reported standard deviations stand for. The objective with unit noise is least squares: its places are
        good, its posterior is far too narrow. "residual" rescales the width by the residuals of the fit on spikes that
        were not trained on, as in ordinary least squares. "soma" adds, in squares, how far the soma lies from where
        such a fit points, which no residual shows: constants of the largest amplitude in uV, found on simulated
        recordings. "model" reports the encoder's width as it is.
    amplitude_jitter_uv : float, default: 0.0
        J: the estimates centred on each channel whose amplitude lies within J of the largest are averaged.
    max_centers : int, default: 9
        At most this many centres per spike for `amplitude_jitter_uv`, the largest first.
    epochs : int, default: 60
        Passes over the training spikes at most.
    patience : int | None, default: 8
        Stop after this many epochs without a better held-out ELBO, and keep the best. None: train to the end.
    batch_size : int, default: 256
        Training rows per step.
    learning_rate : "auto" | float, default: "auto"
        "auto": that of 3e-4, 1e-3, 3e-3 (paper) with the best held-out ELBO after a few epochs.
    learning_rate_schedule : "cosine" | "constant", default: "cosine"
        How the learning rate runs over the epochs.
    adam_betas : tuple of float, default: (0.9, 0.999)
        Of Adam.
    validation_fraction : float, default: 0.1
        Share of the spikes held out for early stopping and for the choice of the learning rate.
    """

    half_width_um: float | None = None
    ms_before: float = 0.5
    ms_after: float = 0.7
    peak_sign: str = "neg"
    amplitude_feature: str = "energy"
    input_scaling: str = "peak"
    hidden_sizes: tuple[int, ...] = (500, 250)
    amplitude: str = "profiled"
    amplitude_prior: bool = True
    amplitude_prior_factor: float = 2.0
    amplitude_prior_std_uv: float = 50.0
    location_prior_std_um: float = 80.0
    decay_per_um: float = 0.035
    fit_decay: bool = False
    noise: str | float = "unit"
    std_noise: str = "soma"
    amplitude_jitter_uv: float = 0.0
    max_centers: int = 9
    epochs: int = 60
    patience: int | None = 8
    batch_size: int = 256
    learning_rate: str | float = "auto"
    learning_rate_schedule: str = "cosine"
    adam_betas: tuple[float, float] = (0.9, 0.999)
    validation_fraction: float = 0.1

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {choices}, got {getattr(self, name)!r}.")
        positive = ("ms_before", "ms_after", "decay_per_um", "amplitude_prior_std_uv", "location_prior_std_um")
        for name in (*positive, "amplitude_prior_factor"):
            if not (_is_number(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} must be a positive number, got {getattr(self, name)!r}.")
        for name, least in (("epochs", 1), ("batch_size", 2), ("max_centers", 1)):
            if not (_is_integer(getattr(self, name)) and getattr(self, name) >= least):
                raise InputError(f"{name} must be a whole number of at least {least}, got {getattr(self, name)!r}.")
        if self.patience is not None and not (_is_integer(self.patience) and self.patience >= 1):
            raise InputError(f"patience must be None or a whole number of at least 1, got {self.patience!r}.")
        if not (_is_number(self.amplitude_jitter_uv) and self.amplitude_jitter_uv >= 0):
            raise InputError(f"amplitude_jitter_uv must be a number of at least 0, got {self.amplitude_jitter_uv!r}.")
        if not (_is_number(self.validation_fraction) and 0.01 <= self.validation_fraction <= 0.9):
            raise InputError(f"validation_fraction must lie between 0.01 and 0.9, got {self.validation_fraction!r}.")
        if self.noise not in ("unit", "measured") and not (_is_number(self.noise) and self.noise > 0):
            raise InputError(f'noise must be "unit", "measured" or a positive number of uV, got {self.noise!r}.')
        if self.learning_rate != "auto" and not (_is_number(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise InputError(f'learning_rate must be "auto" or a number up to 1, got {self.learning_rate!r}.')
        # lists come from JSON
        object.__setattr__(self, "hidden_sizes", _sequence("hidden_sizes", self.hidden_sizes, _is_integer))
        object.__setattr__(self, "adam_betas", _sequence("adam_betas", self.adam_betas, _is_number, length=2))

    def to_dict(self) -> dict[str, Any]:
        """The fields, for a model's info."""
        return asdict(self)


# 60 samples at 32 kHz
_PAPER = LocalizerSettings(
    amplitude_feature="trough",
    ms_before=0.9375,
    ms_after=0.9375,
    input_scaling="raw",
    std_noise="model",
    learning_rate_schedule="constant",
    patience=None,
)
PRESETS: dict[str, LocalizerSettings] = {
    # the text of the paper: unit noise, lambda = 2, lr chosen, 400 epochs; the amplitude is a free parameter per spike
    # in the code of the authors, with no prior in the loss
    "hurwitz2019": replace(
        _PAPER, half_width_um=20.0, amplitude="table", amplitude_prior=False, amplitude_jitter_uv=10.0, epochs=400
    ),
    # the settings of the public code where they differ from the text: squared error without 1/2 (noise variance 1/2),
    # Adam with betas (0.99, 0.999) and 1e-3, batches of 50, 200 epochs, boxes of 5 x 5 contacts
    "hurwitz2019_code": replace(
        _PAPER,
        half_width_um=45.0,
        amplitude="table",
        amplitude_prior=False,
        amplitude_jitter_uv=10.0,
        noise=0.5**0.5,
        learning_rate=1e-3,
        adam_betas=(0.99, 0.999),
        batch_size=50,
        epochs=200,
    ),
}


def localizer_settings(preset: str | None = None, **changes: Any) -> LocalizerSettings:
    """The settings of a preset with changes.

    Parameters
    ----------
    preset : None | "hurwitz2019" | "hurwitz2019_code"
        None: our defaults.
    **changes
        Fields of :class:`LocalizerSettings`.

    Returns
    -------
    LocalizerSettings

    Raises
    ------
    InputError
        On an unknown preset, field or value.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"preset must be None or one of {sorted(PRESETS)}, got {preset!r}.")
    known = {field.name for field in fields(LocalizerSettings)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InputError(f"Unknown localizer settings {unknown}; known are {sorted(known)}.")
    return replace(PRESETS[preset] if preset else LocalizerSettings(), **changes)
