"""Pack MEArec template files into the compact file that comes with the package (for maintainers).

    python scripts/cut_templates.py NEAR.h5 FAR.h5 --out si_neuroml/groundtruth/data/templates_square_mea.h5

The two inputs are made by ``scripts/generate_templates.py``: cells close enough to be sorted, and distant cells for the
background. All cells and the whole cut-out are kept. Waveforms are stored as fixed-point steps along time: rounded to a
multiple of ``--near-step`` (0.02 uV; the simulator's values are rounded to 11 bits, 0.25 uV at 300 uV) or
``--far-step`` (0.005 uV), differences of neighbouring samples as int16, byte-shuffled, gzip 9. That takes under half of
what float16 takes, so no cell has to be left out and the after-potential, still 9 % of the peak at 5 ms, stays whole.

Descriptions (probe, simulation parameters, licence) are JSON or text attributes. The result is read back and compared;
then it is checked that 40 excitatory and 10 inhibitory cells 20 um apart can be drawn with every one of ``--seeds``.
"""

import argparse
import json
from pathlib import Path

import h5py
import numpy as np

from si_neuroml.groundtruth.selection import select_cells
from si_neuroml.groundtruth.templates import FILE_FORMAT, FILE_FORMAT_VERSION, CellTemplates, read_templates

LICENCE = "CC BY-NC-SA 4.0"
SOURCE = (
    "Simulated with MEArec 1.11, NEURON and LFPy from its 13 layer-5 cell models of juvenile rat somatosensory cortex, "
    "which come from the Neocortical Microcircuit Collaboration portal (Ramaswamy et al. 2015, "
    "doi:10.3389/fncir.2015.00044; Markram et al. 2015, doi:10.1016/j.cell.2015.09.029)."
)
# Machine-bound entries of MEArec's parameters that say nothing about the templates.
DROPPED_PARAMS = ("templates_folder", "cell_models_folder")


def encode_steps(waveforms: np.ndarray, step_uv: float) -> np.ndarray:
    """Round waveforms to multiples of a step and take differences along time.

    Parameters
    ----------
    waveforms : np.ndarray, (n_cells, n_channels, n_samples)
        In uV.
    step_uv : float
        The rounding step in uV.

    Returns
    -------
    np.ndarray of int16, same shape
        ``np.cumsum(result, axis=2) * step_uv`` gives the waveforms back, to within half a step.
    """
    steps = np.diff(np.round(waveforms.astype(np.float64) / step_uv).astype(np.int64), axis=2, prepend=0)
    largest = np.abs(steps).max()
    if largest > np.iinfo(np.int16).max:
        raise SystemExit(f"A jump of {largest} steps of {step_uv} uV does not fit into 16 bits: use a larger step.")
    return steps.astype(np.int16)


def write_file(path: Path, near: CellTemplates, far: CellTemplates, near_step: float, far_step: float) -> None:
    """Write the compact file (layout: module docstring)."""
    params = {
        name: {key: value for key, value in part.params.items() if key not in DROPPED_PARAMS}
        for name, part in (("near", near), ("far", far))
    }
    with h5py.File(path, "w") as file:
        file.attrs.update(
            format=FILE_FORMAT,
            format_version=FILE_FORMAT_VERSION,
            sampling_frequency=near.sampling_frequency,
            cut_out_ms=near.cut_out_ms,
            electrodes=json.dumps(near.electrodes),
            params=json.dumps(params),
            source=SOURCE,
            licence=LICENCE,
            axes="MEArec: contacts in the y-z plane, x away from them; um; rotations in radians",
        )
        file.create_dataset("channel_positions", data=near.channel_positions)
        for name, part, step in (("near", near, near_step), ("far", far, far_step)):
            group = file.create_group(name)
            group.attrs["step_uv"] = step
            group.create_dataset(
                "waveform_steps",
                data=encode_steps(part.waveforms, step),
                chunks=(min(16, part.num_cells), *part.waveforms.shape[1:]),
                shuffle=True,
                compression="gzip",
                compression_opts=9,
            )
            for key in ("locations", "rotations"):
                group.create_dataset(key, data=getattr(part, key), compression="gzip", compression_opts=9)
            group.create_dataset("cell_models", data=part.cell_models.astype("S"), compression="gzip")


def check_file(path: Path, near: CellTemplates, far: CellTemplates, near_step: float, far_step: float, seeds: int):
    """Compare the written file with its sources and draw cells from it with many seeds."""
    packed = read_templates(path)
    for part, flag, step in ((near, False, near_step), (far, True, far_step)):
        error = np.abs(packed.waveforms[packed.is_far == flag] - part.waveforms).max()
        # float32 adds its own rounding to half a step
        if error > 0.51 * step + 1e-4:
            raise SystemExit(f"{path.name}: read back {error:.4f} uV away from the source (step {step} uV).")
        if not np.array_equal(packed.locations[packed.is_far == flag], part.locations):
            raise SystemExit(f"{path.name}: places changed.")
    drawn = {tuple(sorted(select_cells(packed, 40, 10, seed=seed))) for seed in range(seeds)}
    below = int(np.sum(packed.amplitudes_uv < 10.0))
    print(
        f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {near.num_cells} near and {far.num_cells} far cells, "
        f"{below} below 10 uV, {len(drawn)} different draws of 40 + 10 cells from {seeds} seeds"
    )


def main() -> None:
    """Read the command line, pack, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("near", type=Path, help="MEArec template file of cells near the probe")
    parser.add_argument("far", type=Path, help="MEArec template file of distant cells, same probe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--near-step", type=float, default=0.02, help="rounding step of near cells in uV (0.02)")
    parser.add_argument("--far-step", type=float, default=0.005, help="rounding step of distant cells in uV (0.005)")
    parser.add_argument("--seeds", type=int, default=20, help="how many neuron seeds to try (20)")
    args = parser.parse_args()
    near, far = read_templates(args.near), read_templates(args.far)
    if near.electrodes != far.electrodes:
        raise SystemExit("The two files are of different probes.")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_file(args.out, near, far, args.near_step, args.far_step)
    check_file(args.out, near, far, args.near_step, args.far_step, args.seeds)


if __name__ == "__main__":
    main()
