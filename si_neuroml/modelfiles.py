"""A model is a folder: save it, load it, and name it in SpikeInterface's parameters without putting weights there.

A model class derives from :class:`NamedModel` and is found by its ``kind`` in :data:`MODEL_KINDS`. What is inside the
folder is the business of :mod:`si_neuroml.modelformat`.
"""

import importlib
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from .errors import InputError, MissingDependencyError, ModelFileError, ModelMismatchError
from .modelformat import FORMAT_KEYS, INFO_FILE, TENSOR_FILE, pack, read_info, read_tensors, seal
from .wholefolder import readable_folder, write_whole_folder

__all__ = [
    "MODEL_KINDS",
    "NamedModel",
    "load_model",
    "model_digest",
    "read_model_info",
    "register_model_kind",
    "resolve_model",
    "save_model",
]

# a reader meets a writer once or twice; a folder that is replaced without a pause is not worth waiting for
NUM_TRIES = 20

# import paths and not classes: naming a model must not import torch
MODEL_KINDS: dict[str, str] = {
    "cell_type_classifier": "si_neuroml.celltypes.classifier:CellTypeClassifier",
    "event_detector": "si_neuroml.events.detector:EventDetector",
    "neural_posterior": "si_neuroml.localization.neural_posterior:NeuralPosterior",
    "region_classifier": "si_neuroml.regions.classifier:RegionClassifier",
    "vae_localizer": "si_neuroml.localization.model:VAELocalizer",
}


class NamedModel(dict):
    """Base class of the models: a dict that holds only the model's name, with everything else in attributes.

    SpikeInterface writes method parameters to JSON when an analyzer is saved. A model given as a parameter is then
    written as the dict it is, ``{"kind", "digest", "folder"}``, which :func:`resolve_model` turns back into the model.

    A subclass sets ``kind``, implements :meth:`to_parts` and :meth:`from_parts`, and calls ``super().__init__()`` as
    the last line of its own ``__init__``, because the digest is taken there. A model is not changed afterwards.

    Notes
    -----
    ``folder`` is None until the model is saved or loaded. Two models are equal when kind and digest are equal.
    """

    kind: ClassVar[str]

    def __init__(self) -> None:
        super().__init__(kind=self.kind, digest=model_digest(self), folder=None)

    def to_parts(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The tensors by name, and everything else as a dict that JSON can hold (numpy values are converted)."""
        raise NotImplementedError

    @classmethod
    def from_parts(cls, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_parts`; `info` has also ``created`` and ``si_neuroml_version`` of the folder."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        same_name = ("kind", "digest")
        return isinstance(other, dict) and all(self.get(key) == other.get(key) for key in same_name)

    def __ne__(self, other: object) -> bool:  # dict brings its own, which would compare the folder too
        return not self == other

    def __hash__(self) -> int:
        return hash((self["kind"], self["digest"]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(digest={self['digest'][:12]!r}, folder={self['folder']!r})"


def register_model_kind(kind: str, import_path: str) -> None:
    """Make models of another package known to :func:`load_model`.

    Parameters
    ----------
    kind : str
        The ``kind`` of the model class.
    import_path : str
        Where the class lives, as ``"package.module:ClassName"``. It is imported when a model is loaded, not before.
    """
    module_name, _, class_name = import_path.partition(":")
    if not module_name or not class_name:
        raise InputError(f"import_path must look like 'package.module:ClassName', got {import_path!r}.")
    if MODEL_KINDS.setdefault(kind, import_path) != import_path:
        raise InputError(f"Model kind {kind!r} is already provided by {MODEL_KINDS[kind]!r}; choose another kind.")


def model_digest(model: NamedModel) -> str:
    """The name of a model's content: 64 hexadecimal digits, the same in memory, after saving and after loading.

    Parameters
    ----------
    model : NamedModel
        The model.
    """
    return _pack(model)[1]["digest"]


def save_model(model: NamedModel, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Save a model as a folder, completely or not at all.

    An interruption at any moment leaves the old model or the new one, see :mod:`si_neuroml.wholefolder`.

    Parameters
    ----------
    model : NamedModel
        The model. Its ``"folder"`` entry is set.
    folder : str | Path
        Where to save; parents are created. Only one process at a time may save to a folder.
    overwrite : bool, default: False
        If True, a model that is already there is replaced. Anything that is not a model folder is never replaced.

    Returns
    -------
    folder : Path
        The absolute path of the model folder.

    Raises
    ------
    InputError
        If the folder exists and may not be replaced, or the model holds what a model folder cannot hold.
    OSError
        If the disk refuses, for instance because it is full.
    """
    tensor_bytes, info = _pack(model)
    if model.kind not in MODEL_KINDS:
        raise InputError(
            f"Model kind {model.kind!r} is not registered, so that the folder could not be loaded. Call "
            f"si_neuroml.modelfiles.register_model_kind({model.kind!r}, 'package.module:ClassName') first."
        )
    from . import __version__  # here, because the package itself imports this module

    info.setdefault("created", datetime.now(UTC).isoformat(timespec="seconds"))
    info.setdefault("si_neuroml_version", __version__)
    folder = Path(os.path.realpath(folder))  # real, so that a linked folder is replaced where it is, not at the link
    write_whole_folder(folder, {TENSOR_FILE: tensor_bytes, INFO_FILE: seal(info)}, overwrite=overwrite)
    model.update(digest=info["digest"], folder=str(folder))
    return folder


def read_model_info(folder: str | Path) -> dict[str, Any]:
    """What a model folder says about its model, without reading the tensors.

    Parameters
    ----------
    folder : str | Path
        The model folder.

    Returns
    -------
    info : dict
        The checked content of ``model_info.json``.

    Raises
    ------
    ModelFileError
        If the folder is missing or is not a model folder, or the file is damaged, edited or from a newer version.
    """
    return _of_one_moment(folder, lambda folder: _read_info(_model_folder(folder)))


def load_model(folder: str | Path) -> NamedModel:
    """Load a model folder, after checking all of it.

    Parameters
    ----------
    folder : str | Path
        The model folder.

    Returns
    -------
    model : NamedModel
        The model, of the class that its kind names; its ``"folder"`` entry is the absolute path.

    Raises
    ------
    ModelFileError
        If anything about the folder is not as :func:`save_model` left it, or its kind is unknown.
    """
    return _of_one_moment(folder, _load)


def _load(folder):
    readable = _model_folder(folder)
    info = _read_info(readable)
    model_class = _model_class(info["kind"])
    path = readable / TENSOR_FILE
    tensors = read_tensors(_read(path), info, str(path))
    try:
        model = model_class.from_parts(tensors, {key: info[key] for key in info.keys() - FORMAT_KEYS})
    except MissingDependencyError:
        raise
    except Exception as error:  # whatever contents bring about that no model has
        raise ModelFileError(
            f"{readable} does not hold a complete {info['kind']!r} model ({type(error).__name__}: {error})."
        ) from error
    model.update(digest=info["digest"], folder=os.path.realpath(folder))
    return model


def resolve_model(reference: NamedModel | dict[str, Any] | str | Path, kind: str) -> NamedModel:
    """Turn whatever names a model into the model.

    Parameters
    ----------
    reference : NamedModel | str | Path | dict
        A model, a model folder, or the name ``{"kind", "digest", "folder"}`` found in the parameters of a reloaded
        analyzer. In the last case the folder must still hold the model with that digest.
    kind : str
        The kind of model that is needed.

    Returns
    -------
    model : NamedModel
        The model, of that kind.

    Raises
    ------
    InputError
        If `reference` is none of these.
    ModelFileError
        If the folder is missing or damaged, or the model was never saved.
    ModelMismatchError
        If the model is of another kind, or the folder now holds another model.
    """
    if isinstance(reference, NamedModel):
        _check_kind(reference.kind, kind, "The model given")
        return reference
    if isinstance(reference, str | Path):
        folder, digest = reference, None
    elif isinstance(reference, dict) and isinstance(reference.get("digest"), str):
        folder, digest = reference.get("folder"), reference["digest"]
        _check_kind(reference.get("kind"), kind, "The model named in the parameters")
        if folder is None:
            raise ModelFileError(
                f"This was computed with a model held in memory and never saved (digest {digest}). Fit it again, or "
                "save it where you still have it, with si_neuroml.save_model, and pass its folder as the model."
            )
    else:
        raise InputError(f"model must be a model, a model folder or a saved model's name, got {reference!r}.")
    info = read_model_info(folder)
    _check_kind(info["kind"], kind, f"The model in {folder}")
    if digest is not None and info["digest"] != digest:
        raise ModelMismatchError(
            f"{folder} now holds another model: digest {info['digest']}, but {digest} was used. Pass the folder of "
            "that model, or pass this folder explicitly to compute again with the new one."
        )
    return load_model(folder)


def _of_one_moment(folder, read):
    """Read a folder again when it was replaced meanwhile: a part of the old and a part of the new fit no digest."""
    for _ in range(NUM_TRIES):
        before = _moment(folder)
        try:
            return read(folder)
        except ModelFileError:
            if _moment(folder) == before:
                raise
    return read(folder)


def _moment(folder):
    with suppress(OSError):
        status = os.stat(folder)
        return status.st_ino, status.st_mtime_ns
    return None


def _read_info(readable: Path) -> dict[str, Any]:
    path = readable / INFO_FILE
    return read_info(_read(path), str(path))


def _check_kind(found: object, needed: str, what: str) -> None:
    if found != needed:
        raise ModelMismatchError(f"{what} is of kind {found!r}, but this needs a model of kind {needed!r}.")


def _model_class(kind: str) -> type[NamedModel]:
    if kind not in MODEL_KINDS:
        raise ModelFileError(
            f"Unknown model kind {kind!r}; known are {sorted(MODEL_KINDS)}. Upgrade si-neuroml, or import the package "
            "that brings this kind before loading."
        )
    module_name, _, class_name = MODEL_KINDS[kind].partition(":")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except MissingDependencyError:
        raise
    except (ImportError, AttributeError) as error:
        raise ModelFileError(f"Kind {kind!r} is provided by {MODEL_KINDS[kind]!r}, which fails: {error}") from error


def _pack(model: NamedModel) -> tuple[bytes, dict[str, Any]]:
    if not isinstance(model, NamedModel):
        raise InputError(f"A model of si_neuroml (a NamedModel) is needed, got {type(model).__name__}.")
    return pack(model.kind, *model.to_parts())


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ModelFileError(f"{path.parent} is not a complete model folder: {path.name} is missing.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error


def _model_folder(folder: str | Path) -> Path:
    path = Path(os.path.realpath(folder))
    readable = readable_folder(path)
    if readable is None:
        raise ModelFileError(f"There is no model folder {path}. Check the path, or save the model there first.")
    if not readable.is_dir():
        raise ModelFileError(f"{path} is a file; a model is a folder with {INFO_FILE} and {TENSOR_FILE}.")
    return readable
