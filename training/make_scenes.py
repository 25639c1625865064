"""Simulate the training scenes and keep their examples: ``python -m training.make_scenes --out outputs/scenes``.

Half of the scenes draw from all cell models ("all"), half leave the held-out ones out ("kept"). About 1 s per scene
and core; finished shards are skipped, so that the command can be stopped and given again, and several can run at once
with --worker 0/2 and --worker 1/2. Same seeds, same examples, whatever the workers.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from .currents import CellCurrents, load_currents
from .examples import NUM_AFTER, NUM_BEFORE, SceneExamples, examples_of, nearest_channels
from .probes import Probe, random_probe
from .scenes import Scene, cell_models, make_scene

__all__ = ["BASIS_SIZE", "CELLS_PER_SCENE", "GROUPS", "scene_examples", "scene_seed", "waveform_basis"]

GROUPS = ("all", "kept")
BASIS_SIZE, BASIS_SCENES = 40, 60
SCENES_PER_SHARD = 20
# cells are numbered from this multiple of the scene's number on
CELLS_PER_SCENE = 128
DURATION_S, PEAKS_PER_SCENE = 3.0, 800


def scene_seed(group: str, index: int) -> int:
    """The seed of scene number `index` of a group."""
    return 2_000_000 * GROUPS.index(group) + index


def scene_examples(
    currents: dict[str, CellCurrents], group: str, index: int, probe: Probe | None = None
) -> tuple[Scene, SceneExamples]:
    """(scene, examples) number `index` of a group; on a random probe, or on the given one."""
    seed = scene_seed(group, index)
    models = cell_models(currents, held_out=group == "kept")
    probe = random_probe(np.random.default_rng([seed, 0])) if probe is None else probe
    scene = make_scene(currents, models, probe, seed, DURATION_S)
    return scene, examples_of(scene, seed, PEAKS_PER_SCENE)


def waveform_basis(currents: dict[str, CellCurrents]) -> np.ndarray:
    """The leading principal directions of local waveforms, orthonormal: (NUM_BEFORE + NUM_AFTER, BASIS_SIZE).

    From scenes of their own without the held-out models. Filtered waveforms of 2.75 ms have hardly more degrees of
    freedom than this, so nothing is lost but storage and work.
    """
    covariance = np.zeros((NUM_BEFORE + NUM_AFTER,) * 2)
    for index in range(BASIS_SCENES):
        examples = scene_examples(currents, "kept", 1_000_000 + index)[1]
        waveforms = examples.waveforms[examples.cell >= 0].astype("float64")
        waveforms /= np.maximum(np.abs(waveforms).max(axis=(1, 2), keepdims=True), 1e-6)
        covariance += np.einsum("nct,ncu->tu", waveforms, waveforms, optimize=True) / max(len(waveforms), 1)
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :BASIS_SIZE]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(BASIS_SIZE)])
    return (directions * signs).astype("float32")


def make_shard(currents, basis, group, shard):
    """Arrays of the examples of one shard; geometry rows are shared by the peaks of one channel."""
    parts, offsets, first_row, names = [], [], 0, sorted(currents)
    for index in range(shard * SCENES_PER_SHARD, (shard + 1) * SCENES_PER_SHARD):
        scene, examples = scene_examples(currents, group, index)
        neighbours = nearest_channels(scene.probe.contacts)
        relative = scene.probe.contacts[np.maximum(neighbours, 0)] - scene.probe.contacts[:, None]
        offsets.append(np.where((neighbours >= 0)[:, :, None], relative, np.nan).astype("float32"))
        count = len(examples.cell)
        model_of_cell = np.array([names.index(model) for model in scene.models])
        parts.append(
            {
                "coefficients": (examples.waveforms @ basis).astype("float16"),
                "geometry_row": first_row + examples.channel.astype("int32"),
                "place": examples.place,
                "log_source_amplitude": examples.log_source_amplitude,
                "false_peak": examples.cell < 0,
                "cell": (index * CELLS_PER_SCENE + examples.cell.astype("int32")).astype("int32"),
                "collision": examples.collision,
                "sorted_spike": examples.sorted_spike,
                "cell_model": np.where(examples.cell < 0, -1, model_of_cell[examples.cell]).astype("int8"),
                "upright": np.full(count, scene.description["variation"].upright),
                "noise_uv": np.full(count, scene.description["noise_uv"], "float32"),
            }
        )
        first_row += len(neighbours)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # NaN marks an empty slot
    return arrays | {"offsets": np.concatenate(offsets)}


def save_atomically(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/scenes"))
    parser.add_argument("--shards", type=int, default=98, help=f"per group, {SCENES_PER_SHARD} scenes each")
    parser.add_argument("--worker", default="0/1", help="I/N: this command makes every N-th shard")
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS)
    arguments = parser.parse_args()
    worker, workers = map(int, arguments.worker.split("/"))
    currents = load_currents()
    basis_path = arguments.out / "basis.npz"
    if not basis_path.exists():
        save_atomically(basis_path, {"basis": waveform_basis(currents)})
    basis = np.load(basis_path)["basis"]
    todo = [(shard, group) for shard in range(arguments.shards) for group in arguments.groups]
    for shard, group in todo[worker::workers]:
        path = arguments.out / f"{group}_{shard:04d}.npz"
        if path.exists():
            continue
        start = time.perf_counter()
        arrays = make_shard(currents, basis, group, shard)
        save_atomically(path, arrays)
        print(f"{path.name}: {len(arrays['place'])} examples, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
