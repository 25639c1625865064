"""Settings of the networks: our own defaults, and the best that van Laar (2025) found for each group of areas.

The paper dampens class weights by an exponent and a factor (0.3 to 2.0), and its table has one "dampening" per network
and group without saying which. It is taken as the exponent here: class weights ~ frequency^-power. Batch size and
epochs of the best networks are not in the table.
"""

from collections.abc import Mapping
from typing import Any

from ..errors import InputError

__all__ = ["NETWORK_DEFAULTS", "PAPER_GROUPS", "PAPER_PRESETS", "SHARED_DEFAULTS", "network_settings"]

PAPER_GROUPS = ("all", "visual", "hippocampus", "thalamus")

# of every network and its training
SHARED_DEFAULTS: Mapping[str, Any] = {
    "feature_units": 32,
    "head_units": 128,
    "feature_gain": 1.0,
    "dropout": 0.4,
    "learning_rate": 1e-3,
    "l2": 1e-4,
    "batch_size": 64,
    "max_epochs": 60,
    "patience": 12,
    "monitor": "loss",
    "validation_fraction": 0.2,
    "class_weight_power": 1.0,
    "class_weight_factor": 1.0,
}
# of each body
NETWORK_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "dmlp": {"layer1": 256, "layer2": 64},
    "lda_dense": {"units": 128},
    "cnn": {"layers": 2, "filters": 32, "kernel_size": 5, "pool": 2},
    "tcn": {"levels": 4, "filters": 32, "kernel_size": 3},
    "transformer": {"embedding": 32, "heads": 4, "feed_forward": 128, "blocks": 1},
}


def _by_group(**columns):
    """One dict of settings per group from one tuple of values per setting; None is not given in the paper."""
    rows = zip(*columns.values(), strict=True)
    return {
        group: {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        for group, row in zip(PAPER_GROUPS, rows, strict=True)
    }


PAPER_PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "dmlp": _by_group(
        layer1=(1024, 4096, 1024, 2048),
        layer2=(512, 512, 256, 1024),
        feature_units=(80, 96, 96, 64),
        head_units=(768, 256, 768, 1024),
        l2=(1.18e-3, 2.35e-3, 7.45e-6, 3.25e-4),
        dropout=(0.25, 0.4, 0.65, 0.5),
        learning_rate=(1.42e-4, 2.78e-2, 4.91e-4, 4.50e-3),
        feature_gain=(4.1, 6.6, 0.9, 1.5),
        class_weight_power=(1.5, 0.4, 0.9, 0.4),
    ),
    "lda_dense": _by_group(
        units=(128, 128, 448, 256),
        feature_units=(8, 136, 96, 248),
        head_units=(1280, 768, 1024, 768),
        l2=(1.92e-5, 1.60e-6, 1.58e-3, 1.58e-3),
        dropout=(0.4, 0.30, 0.15, 0.15),
        learning_rate=(2.21e-3, 1.15e-3, 1.77e-3, 5.61e-5),
        feature_gain=(7.4, 8.7, 6.5, 7.9),
        class_weight_power=(0.45, 1.45, 0.60, 1.00),
    ),
    "cnn": _by_group(
        layers=(2, 2, 3, 1),
        filters=(128, 96, 96, 64),
        kernel_size=(10, 5, 20, 20),
        pool=(2, 4, 4, 4),
        feature_units=(16, 48, 112, 80),
        head_units=(256, 1024, 512, 512),
        l2=(6.02e-5, 1e-6, 6.51e-3, 1.5e-4),
        dropout=(0.45, 0.25, 0.4, 0.4),
        learning_rate=(0.482, 4.42e-4, 2.26e-4, 2.40e-2),
        feature_gain=(9.2, 6.9, 8.3, 8.1),
        class_weight_power=(0.90, 0.4, 0.7, None),
    ),
    "transformer": _by_group(
        embedding=(32, 96, 64, 64),
        heads=(6, 6, 8, 2),
        feed_forward=(512, 128, 256, 384),
        blocks=(1, 2, 1, 1),
        feature_units=(96, 32, 16, 128),
        head_units=(1024, 1024, 768, 512),
        l2=(3.46e-4, 7.80e-4, 4.88e-5, 5.52e-5),
        dropout=(0.10, 0.15, 0.10, 0.10),
        learning_rate=(1.02e-3, 2.40e-4, 2.01e-2, 1.58e-3),
        feature_gain=(8.9, 5.4, 4.6, 1.1),
        class_weight_power=(0.60, 1.60, 1.20, 1.10),
    ),
    "tcn": _by_group(
        kernel_size=(5, 5, 5, 5),
        filters=(64, 16, 16, 64),
        levels=(8, 6, 5, 4),
        feature_units=(16, 80, 32, 96),
        head_units=(1024, 768, 256, 1024),
        l2=(1.08e-6, 4.51e-6, 2.94e-6, 4.25e-3),
        dropout=(0.1, 0.55, 0.30, 0.35),
        learning_rate=(2.16e-3, 1.87e-4, 1.94e-4, 3.71e-3),
        feature_gain=(5.2, 0.8, 1.9, 1.9),
        class_weight_power=(1.1, 0.3, 1.6, 0.3),
    ),
}


def network_settings(
    network: str, options: Mapping[str, Any] | None = None, preset: str | None = None
) -> dict[str, Any]:
    """All settings of a network and its training.

    Parameters
    ----------
    network : str
        "dmlp", "lda_dense", "cnn", "tcn" or "transformer".
    options : dict, optional
        Settings in place of the defaults or the preset.
    preset : str, optional
        "all", "visual", "hippocampus" or "thalamus": the paper's best. Default: our own, of smaller networks.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        On an unknown network, preset or setting, or a value out of range.
    """
    if network not in NETWORK_DEFAULTS:
        raise InputError(f"There is no network {network!r}; there are {list(NETWORK_DEFAULTS)}.")
    if preset is not None and preset not in PAPER_GROUPS:
        raise InputError(f"Presets of the paper are {list(PAPER_GROUPS)}, got {preset!r}.")
    settings = {**SHARED_DEFAULTS, **NETWORK_DEFAULTS[network], **PAPER_PRESETS[network].get(preset, {})}
    if unknown := sorted(set(options or {}) - set(settings)):
        raise InputError(f"Network {network!r} has the settings {sorted(settings)}, not {unknown}.")
    settings |= options or {}
    _check(settings)
    return settings


def _check(settings):
    may_be_zero = ("l2", "dropout", "class_weight_power", "feature_gain")
    for name, value in settings.items():
        if name == "monitor":
            if value not in ("loss", "auc"):
                raise InputError(f'monitor must be "loss" or "auc", got {value!r}.')
        elif not (value >= 0 if name in may_be_zero else value > 0):
            raise InputError(f"{name} must be {'at least' if name in may_be_zero else 'above'} 0, got {value!r}.")
    for name in ("dropout", "validation_fraction"):
        if not settings[name] < 1:
            raise InputError(f"{name} must be below 1, got {settings[name]!r}.")
