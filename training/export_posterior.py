"""From trained weights to the model folder that the package reads.

    python -m training.export_posterior --trained outputs/posterior --out si_neuroml/localization/data/neural_posterior

The temperature (one factor on the standard deviations per class of probes) is fitted here, on the validation scenes.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from si_neuroml.calibration import fit_temperature
from si_neuroml.localization.neural_posterior import MIN_DOF, NeuralPosterior
from si_neuroml.localization.set_network import SetNetwork
from si_neuroml.localization.torch_network import split_outputs

from .examples import NUM_BEFORE, RADIUS_UM
from .make_scenes import GROUPS
from .scenes import HELD_OUT_MODELS, SAMPLING_FREQUENCY
from .train_posterior import Batches, load_examples

__all__ = ["export", "fit_class_temperatures"]

# classes of probes by the number of channels within 60 um: linear probes and tetrodes, Neuropixels, dense arrays
CLASS_EDGES = [5, 12, 20]
FIT_LEVEL = 0.9


def fit_class_temperatures(network: SetNetwork, batches: Batches, slots: int) -> dict[str, list]:
    """Factors that bring the nominal 90 % ellipse of the plane to 90 % of the true places, per class of probes."""
    squared, dof, count = _standardized_errors(network, batches, slots)
    group = np.searchsorted(CLASS_EDGES, count)
    classes = [group == k for k in range(len(CLASS_EDGES) + 1)]
    scale = [fit_temperature(squared[own], 2, dof=dof[own], level=FIT_LEVEL) for own in classes]
    return {"max_channels": CLASS_EDGES, "scale": [round(s, 3) for s in scale]}


def _standardized_errors(network, batches, slots):
    """Of every real peak: squared error in the plane in units of the covariance, dof, channels within 60 um."""
    index = np.flatnonzero(~batches.examples["false_peak"])
    squared, dof, count = np.zeros(len(index)), np.zeros(len(index)), np.zeros(len(index), dtype=int)
    for start in range(0, len(index), 4096):
        part = index[start : start + 4096]
        rows = slice(start, start + len(part))
        coefficients, offsets, observed, place, *_ = batches.batch(part)
        coefficients, offsets, observed = (a[:, :slots].numpy() for a in (coefficients, offsets, observed))
        outputs = network(coefficients, network.place_codes(offsets, observed))
        mean, factor, own_dof, *_ = (a.numpy().astype("float64") for a in split_outputs(torch.from_numpy(outputs)))
        dof[rows] = np.maximum(own_dof, MIN_DOF)
        spread = dof[rows] / (dof[rows] - 2.0)
        covariance = (factor @ factor.transpose(0, 2, 1))[:, :2, :2] * spread[:, None, None]
        delta = place.numpy()[:, :2] - mean[:, :2]
        squared[rows] = (delta * np.linalg.solve(covariance, delta[:, :, None])[:, :, 0]).sum(axis=1)
        count[rows] = ((np.linalg.norm(offsets, axis=2) <= 60.0) & (observed > 0)).sum(axis=1)
    return squared, dof, count


def _unseen_shards(folders, card):
    """The shards that no model is trained on, number 0, of the groups that this one may know."""
    # of a model that must not know the held-out cell models, neither may its temperature
    groups = GROUPS if "all" in card["groups"] else card["groups"]
    return [folder / f"{group}_0000.npz" for folder in folders for group in groups]


def export(trained: Path, scenes: Sequence[Path], out: Path) -> NeuralPosterior:
    """Read the weights, fit the temperature, save the model folder."""
    with np.load(trained / "weights.npz") as file:
        weights = {name: file[name] for name in file.files}
    card = json.loads((trained / "training.json").read_text())
    basis, network = weights.pop("basis"), SetNetwork(weights)
    slots = card["settings"]["network"].get("slots", 24)
    unseen = _unseen_shards(scenes, card)
    held_out = [] if "all" in card["groups"] else list(HELD_OUT_MODELS)
    temperature = fit_class_temperatures(network, Batches(load_examples(unseen), slots), slots)
    model = NeuralPosterior(
        network,
        basis,
        sampling_frequency=SAMPLING_FREQUENCY,
        nbefore=NUM_BEFORE,
        num_slots=slots,
        radius_um=RADIUS_UM,
        temperature=temperature,
        training={
            **card,
            "held_out_cell_models": held_out,
            "temperature_shards": [f"{path.parent.name}/{path.stem}" for path in unseen],
        },
    )
    model.save(out, overwrite=True)
    return model


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, nargs="+", default=[Path("outputs/scenes")])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model = export(arguments.trained, arguments.scenes, arguments.out)
    print(f"{arguments.out}: {model['digest'][:12]}, temperature {model.temperature}")


if __name__ == "__main__":
    main()
