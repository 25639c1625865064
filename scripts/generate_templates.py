"""Simulate the cell templates anew: the recipe behind the template files that come with the package.

    python -m venv nrn
    nrn/bin/pip install "neuron<9" MEArec==1.11.0
    nrn/bin/pip install --no-deps LFPy==2.3.7 LFPykit
    export PATH=$PWD/nrn/bin:$PATH
    HOME=job1 nrn/bin/python scripts/generate_templates.py square_mea near templates_sq_near.h5
    HOME=job2 nrn/bin/python scripts/generate_templates.py square_mea far templates_sq_far.h5

then ``scripts/cut_templates.py`` packs both. A C compiler is needed: MEArec compiles the cells' ion channels. Each of
the 13 cell models is run once (some 10 s each), then every template takes about one second on one core.

Three things go wrong easily. NEURON 9 does not run these models, and LFPy's own requirements would bring it in, hence
``--no-deps``. MEArec copies and compiles the models under the user's folder (``~/.config/mearec``): two versions of
NEURON, or two jobs at once, must not share one, hence ``HOME`` per job. And MEArec takes seeds per model, so files are
only repeatable with the same number per model.
"""

import argparse
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

PROBES = {"square_mea": "SqMEA-10-15", "neuropixels_64": "Neuropixels-64"}

# What the shipped files were made with. Seeds differ so that no two files hold the same places.
SEEDS = {
    ("square_mea", "near"): 31,
    ("square_mea", "far"): 41,
    ("neuropixels_64", "near"): 33,
    ("neuropixels_64", "far"): 43,
}
COMMON = {
    "sim_time": 1,  # s of intracellular simulation
    "target_spikes": [3, 50],
    "cut_out": [2, 5],  # ms before and after the peak
    "dt": 2**-5,  # ms, that is 32 kHz
    "delay": 10,  # ms before the stimulus
    "weights": [0.25, 1.75],
    "rot": "physrot",  # random, keeping each model's natural orientation to the surface
    "offset": 0,
    "ylim": None,
    "zlim": None,
    "x_distr": "uniform",
    "beta_distr_params": [1.5, 5],
    "max_iterations": 1000,
    "timeout": None,
    "drifting": False,
}
KINDS = {
    # Cells that can be sorted: 10-80 um from the plane, up to 30 um beyond the contacts, trough of 30 uV or more.
    "near": {"n": 28, "xlim": [10, 80], "overhang": 30, "min_amp": 30, "ncontacts": 10, "check_eap_shape": True},
    # The background. One point per contact is enough at this distance, and any wave shape may occur.
    "far": {"n": 27, "xlim": [60, 200], "overhang": 150, "min_amp": 0.5, "ncontacts": 1, "check_eap_shape": False},
}


def template_parameters(probe: str, kind: str, number: int | None = None, seed: int | None = None) -> dict:
    """Parameters for ``MEArec.gen_templates``.

    Parameters
    ----------
    probe : {"square_mea", "neuropixels_64"}
        The contacts.
    kind : {"near", "far"}
        Cells to be sorted, or background.
    number : int | None, default: None
        Templates per cell model; by default those of the shipped files (28 near, 27 far).
    seed : int | None, default: None
        By default that of the shipped file.

    Returns
    -------
    dict
        MEArec's template parameters.
    """
    params = {**COMMON, **KINDS[kind], "probe": PROBES[probe]}
    params["seed"] = SEEDS[probe, kind] if seed is None else seed
    if number is not None:
        params["n"] = number
    return params


def check_requirements() -> None:
    """Stop with one clear message if NEURON, LFPy, MEArec or the compiler is missing or of the wrong version."""
    missing = [name for name in ("neuron", "LFPy", "MEArec") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"Missing: {', '.join(missing)}. In an environment of its own: "
            'pip install "neuron<9" MEArec==1.11.0 && pip install --no-deps LFPy==2.3.7 LFPykit'
        )
    # nrnivmodl is found through PATH, where the environment of this Python may not be.
    if shutil.which("nrnivmodl") is None:
        raise SystemExit(f"nrnivmodl is not on the PATH: put {Path(sys.executable).parent} first on it.")
    if shutil.which("make") is None or not any(shutil.which(name) for name in ("gcc", "clang", "cc")):
        raise SystemExit("A C compiler and make are needed to compile the ion channels.")
    import neuron

    if int(neuron.__version__.split(".")[0]) >= 9:
        raise SystemExit(f"NEURON {neuron.__version__} does not run these models: pip install 'neuron<9'.")


def main() -> None:
    """Read the command line, simulate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("probe", choices=sorted(PROBES))
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("out", type=Path, help="MEArec template file to write (.h5)")
    parser.add_argument("--number", type=int, help="templates per cell model (28 near, 27 far)")
    parser.add_argument("--seed", type=int, help="another seed than the shipped file's")
    parser.add_argument("--jobs", type=int, default=1, help="cell models at once (1)")
    args = parser.parse_args()
    check_requirements()
    import MEArec

    with tempfile.TemporaryDirectory() as scratch:
        templates = MEArec.gen_templates(
            MEArec.get_default_cell_models_folder(),
            params=template_parameters(args.probe, args.kind, args.number, args.seed),
            templates_tmp_folder=scratch,
            parallel=args.jobs > 1,
            n_jobs=args.jobs,
            verbose=False,
        )
        MEArec.save_template_generator(templates, args.out, verbose=False)
    print(f"{args.out}: {len(templates.templates)} templates")


if __name__ == "__main__":
    main()
