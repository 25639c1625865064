"""Tiny models, and a way to damage a folder that keeps its digests right."""

import json

import numpy as np
from hypothesis import HealthCheck, settings

from si_neuroml import modelformat
from si_neuroml.modelfiles import (
    NamedModel,
    register_model_kind,
)
from si_neuroml.modelformat import INFO_FILE, TENSOR_FILE

property_test = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TinyModel(NamedModel):
    """The smallest model: its parts as they were given."""

    kind = "tiny"

    def __init__(self, tensors, info):
        self.tensors = tensors
        self.info = info
        super().__init__()

    def to_parts(self):
        return self.tensors, self.info

    @classmethod
    def from_parts(cls, tensors, info):
        own = {key: value for key, value in info.items() if key not in ("created", "si_neuroml_version")}
        return cls(tensors, own)


class OtherModel(TinyModel):
    """A model of another kind."""

    kind = "other"


class DemandingModel(TinyModel):
    """A model that needs a setting which the folder may not have."""

    kind = "demanding"

    @classmethod
    def from_parts(cls, tensors, info):
        return cls(tensors, {"depth": info["depth"]})


for model_class in (TinyModel, OtherModel, DemandingModel):
    register_model_kind(model_class.kind, f"{__name__}:{model_class.__name__}")


def make_model(scale=1.0, model_class=TinyModel, **info):
    tensors = {"weights": scale * np.arange(12, dtype="float32").reshape(3, 4), "bias": np.float64(scale)}
    description = {"sampling_frequency": 30_000.0, "units": "uV", "window": {"nbefore": 15, "nafter": 30}}
    return model_class(tensors, description | info)


def resealed(folder, *, tensor_bytes=None, **changes):
    """Change a folder and give it right digests again, as somebody with bad intentions or a bad tool would."""
    raw = (folder / TENSOR_FILE).read_bytes() if tensor_bytes is None else tensor_bytes
    info = json.loads((folder / INFO_FILE).read_text()) | changes
    info["digest"] = modelformat._digest(raw, info)
    (folder / TENSOR_FILE).write_bytes(raw)
    (folder / INFO_FILE).write_bytes(modelformat.seal(info))
