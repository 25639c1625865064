"""The errors raised by si_neuroml: one small tree, so that a script can catch what it can mend.

Each class also derives from the builtin that SpikeInterface users already catch, and each message says what was wrong,
with the numbers, and what to do about it.
"""

__all__ = [
    "ClusterError",
    "InputError",
    "MissingDependencyError",
    "ModelFileError",
    "ModelMismatchError",
    "RegistrationError",
    "SINeuroMLError",
    "TrainingError",
]


class SINeuroMLError(Exception):
    """Base class of every error raised by si_neuroml."""


class InputError(SINeuroMLError, ValueError):
    """A recording, a peaks array or a parameter cannot be used as given."""


class ModelFileError(SINeuroMLError, ValueError):
    """A model folder is missing, incomplete, corrupt, foreign, or written by a newer version."""


class ModelMismatchError(InputError):
    """A model and the data it is asked to work on do not belong together (sampling rate, window, kind)."""


class TrainingError(SINeuroMLError, RuntimeError):
    """Training could not produce a usable model."""


class ClusterError(SINeuroMLError, RuntimeError):
    """Workers of a cluster could not be reached or could not finish; what they did finish is kept."""


class RegistrationError(SINeuroMLError, RuntimeError):
    """A name that si_neuroml wants to add to SpikeInterface is already taken by something else."""


class MissingDependencyError(SINeuroMLError, ImportError):
    """An optional package is needed for this call; the message names the pip command that brings it."""

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"This needs the package {package!r}, which is not installed. Install it with: "
            f'pip install "si-neuroml[{extra}]"'
        )
