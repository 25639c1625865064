"""Train the network of the neural posterior on simulated scenes.

    python -m training.train_posterior --scenes outputs/scenes --out outputs/posterior            (all cell models)
    python -m training.train_posterior --scenes outputs/scenes --out outputs/posterior_kept --groups kept

and from the weights of a former training on, with more scenes:

    python -m training.train_posterior --scenes outputs/scenes outputs/more --initial outputs/posterior --out outputs/b

One core, about an hour for the default number of steps (see the model card). The state is saved every 500 steps; the
same command given again goes on from there and, with the same shards, ends with the same weights.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from si_neuroml.localization.torch_network import PosteriorNetwork, posterior_loss

from .augmentation import Augmentation
from .currents import load_currents
from .examples import MAX_CHANNELS
from .make_scenes import GROUPS, save_atomically

__all__ = ["Batches", "find_shards", "load_examples", "train"]

FIELDS = (
    "coefficients",
    "geometry_row",
    "place",
    "log_source_amplitude",
    "false_peak",
    "collision",
    "sorted_spike",
    "noise_uv",
    "upright",
    "cell_model",
)
WEIGHT_DECAY = 0.01


def find_shards(folders: Sequence[Path], groups: Sequence[str], limit: int | None = None) -> list[Path]:
    """Shards to train on: all of some groups, or the first `limit` of each in each folder, but never number 0.

    Raises
    ------
    FileNotFoundError
        When there are none.
    """
    found = [
        path
        for folder in folders
        for group in groups
        for path in sorted(folder.glob(f"{group}_[0-9]*.npz"))[1:][:limit]
    ]
    if not found:
        raise FileNotFoundError(
            f"No shards of {list(groups)} in {[str(f) for f in folders]}: run python -m training.make_scenes first."
        )
    return found


def load_examples(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """All examples of some shards; never two copies of them in memory."""
    parts, first_row = [], 0
    for path in paths:
        with np.load(path) as file:
            if lacking := {*FIELDS, "offsets"} - set(file.files):
                raise ValueError(f"{path} was made by an older version and lacks {sorted(lacking)}: make it again.")
            part = {name: file[name] for name in FIELDS if name != "coefficients"} | {"offsets": file["offsets"]}
        part["geometry_row"] = part["geometry_row"] + first_row
        first_row += len(part["offsets"])
        parts.append(part)
    examples = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    coefficients, start = None, 0
    for path, part in zip(paths, parts, strict=True):
        with np.load(path) as file:
            values = file["coefficients"]
        if coefficients is None:
            coefficients = np.empty((len(examples["place"]), *values.shape[1:]), dtype=values.dtype)
        coefficients[start : start + len(values)] = values
        start += len(part["place"])
    return examples | {"coefficients": coefficients}


class Batches:
    """Batches as torch tensors.

    Parameters
    ----------
    examples : dict of arrays
        From :func:`load_examples`.
    augmentation : Augmentation, optional
        What changes the batches that are drawn with a generator.
    slots : int
        Use only so many of the nearest channels.
    """

    def __init__(
        self, examples: dict[str, np.ndarray], augmentation: Augmentation | None = None, slots: int = MAX_CHANNELS
    ):
        self.augmentation = augmentation
        self.examples, self.coefficients = examples, examples["coefficients"][:, :slots]
        offsets = examples["offsets"][:, :slots]
        self.observed = torch.from_numpy(np.isfinite(offsets[:, :, 0]).astype("float32"))
        self.offsets = torch.from_numpy(np.nan_to_num(offsets))
        self.rows = np.arange(len(examples["place"]))

    def __len__(self) -> int:
        return len(self.rows)

    def restrict(self, cell_models: Sequence[int]) -> None:
        """Draw only cells of some models, by number, and false peaks; other cells stay in the background."""
        known = np.isin(self.examples["cell_model"], cell_models)
        self.rows = np.flatnonzero(known | self.examples["false_peak"])

    def batch(self, index: np.ndarray, generator: torch.Generator | None = None) -> tuple[torch.Tensor, ...]:
        """(coefficients, offsets, observed, place, log amplitude, is false, is outlier); augmented with a generator."""
        examples = self.examples
        rows = torch.from_numpy(examples["geometry_row"][index].astype("int64"))
        coefficients = torch.from_numpy(self.coefficients[index].astype("float32"))
        offsets, observed = self.offsets[rows], self.observed[rows]
        place = torch.from_numpy(examples["place"][index])
        false_peak = torch.from_numpy(examples["false_peak"][index])
        outlier = false_peak | torch.from_numpy(examples["collision"][index])
        amplitude = torch.from_numpy(examples["log_source_amplitude"][index])
        if generator is not None and self.augmentation is not None:
            upright, noise_uv = (torch.from_numpy(examples[name][index]) for name in ("upright", "noise_uv"))
            coefficients, offsets, observed, place, amplitude = self.augmentation(
                coefficients, offsets, observed, place, amplitude, upright, noise_uv, generator
            )
        return coefficients * observed[..., None], offsets, observed, place, amplitude, false_peak, outlier


def train(
    batches: Batches,
    settings: dict,
    out: Path | None = None,
    validation: Batches | None = None,
    initial: dict[str, np.ndarray] | None = None,
) -> PosteriorNetwork:
    """The trained network; goes on from `out`/state.npz where there is one.

    Parameters
    ----------
    batches : Batches
        Training examples.
    settings : dict
        ``steps``, ``batch_size``, ``learning_rate``, ``seed`` and ``network`` (keyword arguments); ``save_every``
        steps the state is saved and the loss reported (default 500).
    out : Path, optional
        Where the state is saved.
    validation : Batches, optional
        Reported on, nothing else.
    initial : dict of arrays, optional
        Weights to begin with, by name; random ones by default.

    Returns
    -------
    PosteriorNetwork
        Exponential moving average of the weights over the last part of the training.
    """
    torch.manual_seed(settings["seed"])
    network = PosteriorNetwork(**settings["network"])
    if initial is not None:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in initial.items()})
    average = PosteriorNetwork(**settings["network"])
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings["learning_rate"], weight_decay=WEIGHT_DECAY)
    first = _resume(out, network, average, optimizer)
    steps, size, save_every = settings["steps"], settings["batch_size"], settings.get("save_every", 500)
    started, recent = time.perf_counter(), []
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * _schedule(step, steps)
        # drawn anew from the step, so that a resumed run draws the same
        drawn = np.random.default_rng([settings["seed"], step]).integers(len(batches), size=size)
        index = batches.rows[np.sort(drawn)]
        generator = torch.Generator().manual_seed(settings["seed"] * 1_000_003 + step)
        *inputs, place, amplitude, false_peak, outlier = batches.batch(index, generator)
        loss, nll = posterior_loss(network(*inputs), place, amplitude, false_peak, outlier)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(0.998, (step + 1) / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        recent.append(float(nll.detach()))
        if (step + 1) % save_every == 0 or step + 1 == steps:
            seconds = time.perf_counter() - started
            text = f"step {step + 1}/{steps}: nll {np.mean(recent):.4f}, {seconds:.0f} s"
            if validation is not None and ((step + 1) % (4 * save_every) == 0 or step + 1 == steps):
                text += f", validation {evaluate(average, validation)}"
            print(text, flush=True)
            recent = []
            _save_state(out, step + 1, network, average, optimizer)
    return average


def evaluate(network: PosteriorNetwork, validation: Batches, limit: int = 20_000) -> dict[str, float]:
    """Mean negative log density, and median and mean error in the plane, of real peaks."""
    index = np.flatnonzero(~validation.examples["false_peak"])[:: max(1, len(validation) // limit)]
    errors, losses = [], []
    with torch.no_grad():
        for part in np.array_split(index, math.ceil(len(index) / 2000)):
            *inputs, place, amplitude, false_peak, outlier = validation.batch(part)
            outputs = network(*inputs)
            losses.append(float(posterior_loss(outputs, place, amplitude, false_peak, outlier)[1]) * len(part))
            errors.append((outputs[:, :2] * 30.0 - place[:, :2]).norm(dim=1).numpy())
    errors = np.concatenate(errors)
    return {
        "nll": round(sum(losses) / len(errors), 4),
        "median": round(float(np.median(errors)), 3),
        "mean": round(float(errors.mean()), 3),
    }


def _shared_basis(folders):
    """The basis of the waveforms, which must be the same in all folders."""
    found = [np.load(folder / "basis.npz")["basis"] for folder in folders]
    if any(not np.array_equal(basis, found[0]) for basis in found[1:]):
        raise ValueError(f"The scenes of {[str(f) for f in folders]} have different bases: copy basis.npz first.")
    return found[0]


def _schedule(step, steps, warm_up=300):
    return min(1.0, (step + 1) / warm_up) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _save_state(out, step, network, average, optimizer):
    """As numpy arrays: no pickle, here either."""
    if out is None:
        return
    arrays = {"step": np.array(step)}
    for name, module in (("network", network), ("average", average)):
        arrays |= {f"{name}/{key}": value.numpy() for key, value in module.state_dict().items()}
    for index, parameter in enumerate(network.parameters()):
        state = optimizer.state[parameter]
        arrays[f"adam/{index}/exp_avg"], arrays[f"adam/{index}/exp_avg_sq"] = state["exp_avg"], state["exp_avg_sq"]
    save_atomically(out / "state.npz", {name: np.asarray(value) for name, value in arrays.items()})


def _resume(out, network, average, optimizer):
    if out is None or not (out / "state.npz").exists():
        return 0
    with np.load(out / "state.npz") as file:
        arrays = {name: torch.from_numpy(np.array(file[name])) for name in file.files}
    for name, module in (("network", network), ("average", average)):
        prefix = f"{name}/"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
    step = int(arrays["step"])
    for index, parameter in enumerate(network.parameters()):
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step)),
            "exp_avg": arrays[f"adam/{index}/exp_avg"],
            "exp_avg_sq": arrays[f"adam/{index}/exp_avg_sq"],
        }
    return step


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, nargs="+", default=[Path("outputs/scenes")])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--initial", type=Path, help="folder of a former training whose weights to begin with")
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS)
    parser.add_argument("--shards", type=int, help="use only so many of each group (learning curve)")
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--network", type=json.loads, default={}, help="JSON of keyword arguments")
    parser.add_argument("--cell-models", nargs="+", help="cells of these models only (learning curve)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shards = find_shards(arguments.scenes, arguments.groups, arguments.shards)
    basis = _shared_basis(arguments.scenes)
    training = Batches(load_examples(shards), Augmentation(basis))
    if arguments.cell_models:
        names = sorted(load_currents())
        training.restrict([names.index(name) for name in arguments.cell_models])
    # a model that must not know the held-out cell models is not validated on them either
    validated_on = "all" if "all" in arguments.groups else "kept"
    validation = Batches(load_examples([folder / f"{validated_on}_0000.npz" for folder in arguments.scenes]))
    arguments.network = {"basis_size": basis.shape[1], **arguments.network}
    settings = {name: getattr(arguments, name) for name in ("steps", "batch_size", "learning_rate", "seed", "network")}
    print(f"{len(training)} examples, {len(validation)} for validation", flush=True)
    initial = None
    if arguments.initial:
        with np.load(arguments.initial / "weights.npz") as file:
            initial = {name: file[name] for name in file.files if name != "basis"}
    network = train(training, settings, arguments.out, validation, initial)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    weights["basis"] = basis
    save_atomically(arguments.out / "weights.npz", weights)
    result = evaluate(network, validation, 10**9)
    card = {"settings": settings, "groups": arguments.groups, "examples": len(training), "validation": result}
    card |= {"shards": [f"{path.parent.name}/{path.stem}" for path in shards], "cell_models": arguments.cell_models}
    if arguments.initial:
        card["initial"] = json.loads((arguments.initial / "training.json").read_text())
    (arguments.out / "training.json").write_text(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
