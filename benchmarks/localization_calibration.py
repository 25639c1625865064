"""How often the localizers' uncertainties hold the true soma, against how often they say so.

On the test recordings, with peaks as SpikeInterface detects them: the share of spikes whose true soma lies in the
region of 50, 80, 90 and 95 %, in the plane of the probe and in depth, for somas inside and outside the array, by noise
level. The VAE trains on one half of the spikes, every method is scored on the other; HMC on a few hundred of it.
Intervals resample whole units, since the spikes of one unit share a part of their error.

Beside it: whether the chains of HMC converged, what the outlier probability tells, and simulation-based calibration
(Talts et al. 2018) of the VAE and of HMC on spikes drawn from their own model, where nothing but the method can be
wrong.
"""

import argparse
from pathlib import Path

import numpy as np
from _localizers import JOB, fit, load_recording, localize
from _report import note, print_table, write_json

from si_neuroml.calibration import (
    COVERAGE_LEVELS,
    calibration_error,
    coverage,
    rank_statistics,
    uniformity_p_value,
)
from si_neuroml.localization.evaluation import inside_bounding_box, location_errors, split_spikes
from si_neuroml.localization.hmc import HMCSettings, sample_posterior
from si_neuroml.localization.observation import ObservationModel
from si_neuroml.localization.posterior import region_levels
from si_neuroml.localization.protocols import gt_peaks
from si_neuroml.localization.settings import LocalizerSettings
from si_neuroml.localization.simulate_model import draw_spikes, model_training_rows

METHODS = ("neural_posterior", "vae", "vae_residual", "hmc")
SIDES = ("all", "inside", "outside")
SBC_CONTACTS = np.array([[x, y, 0.0] for y in (-15, 0, 15) for x in (-15, 0, 15)])
NUM_DRAWS, NUM_BINS = 99, 10


def main():
    arguments = parse_arguments()
    results = {"benchmark": "localization_calibration", "arguments": vars(arguments), "coverage": [], "recordings": []}
    if not arguments.no_sbc:
        results["sbc"] = run_sbc(arguments)
        report_sbc(results["sbc"])
        write_json(arguments.json, results)
    scores = {}
    for noise in arguments.noise_levels:
        for probe in arguments.probes:
            for seed in arguments.seeds:
                scored, notes = score_recording(probe, noise, seed, arguments)
                results["recordings"].append({"probe": probe, "noise_level": noise, "seed": seed, "methods": notes})
                for method, table in scored.items():
                    scores.setdefault((noise, probe, method), []).append((seed, table))
            rows = coverage_rows(scores, noise, probe, arguments.methods)
            results["coverage"] += rows
            report_coverage(rows, noise, probe)
            write_json(arguments.json, results)
    report_notes(results["recordings"])
    draw(scores, arguments)


# --- coverage of the true soma


def score_recording(probe, noise, seed, arguments):
    """Per method: levels in the plane and in depth, unit and side of each scored spike; and notes for the report."""
    recording, sorting = load_recording(probe, noise, seed, arguments)
    spikes = gt_peaks(recording, sorting, protocol="detected", job_kwargs=JOB, seed=seed)
    train, test = split_spikes(len(spikes.peaks), 0.5, seed)
    if arguments.max_spikes and len(test) > arguments.max_spikes:
        test = np.sort(np.random.default_rng(seed).choice(test, arguments.max_spikes, replace=False))
    truth = np.asarray(sorting.get_property("gt_unit_locations"), dtype="float64")
    inside = inside_bounding_box(truth, recording.get_channel_locations())
    model = None
    if any(method.startswith("vae") for method in arguments.methods):
        settings = {} if arguments.learning_rate is None else {"learning_rate": arguments.learning_rate}
        model, _ = fit(recording, spikes.peaks[train], seed, arguments, **settings)
    scored, notes = {}, {}
    for method in arguments.methods:
        own = test
        if method == "hmc" and len(test) > arguments.hmc_spikes:
            own = np.sort(np.random.default_rng(seed).choice(test, arguments.hmc_spikes, replace=False))
        places, seconds = run_method(recording, spikes.peaks[own], method, model)
        unit = spikes.unit_index[own]
        scored[method] = levels_of(places, truth, unit, inside)
        notes[method] = {"num": len(own), "seconds": seconds, **notes_of(places, truth, unit, scored[method])}
    print(f"{probe}, {noise:g} uV, seed {seed}: {len(test)} spikes scored", flush=True)
    return scored, notes


def run_method(recording, peaks, method, model):
    if method == "vae_residual":
        # the same network; only what its standard deviations stand for differs
        return localize(recording, peaks, "vae", {"model": model.with_std_noise("residual")})
    return localize(recording, peaks, method, {"model": model} if method == "vae" else {})


def levels_of(places, truth, unit, inside):
    true_places = truth[unit]
    true_places[:, 2] = np.abs(true_places[:, 2])
    return {
        "plane": region_levels(places, true_places, "xy"),
        "depth": region_levels(places, true_places, "z"),
        "unit": unit,
        "inside": inside[unit],
    }


def notes_of(places, truth, unit, table):
    """Convergence where there are chains, outliers where there is a probability of them, and typical widths."""
    error = location_errors(places, truth, unit)
    std = np.sqrt((places["x_std"] ** 2 + places["y_std"] ** 2) / 2)
    notes = {"median_error_um": float(np.median(error)), "median_std_um": float(np.median(std))}
    notes["median_depth_std_um"] = float(np.median(places["z_std"]))
    if "r_hat" in places.dtype.names:
        notes["r_hat_below_1.05"] = float(np.mean(places["r_hat"] < 1.05))
    if "outlier_probability" in places.dtype.names:
        flagged = places["outlier_probability"] > 0.5
        notes["flagged"] = float(flagged.mean())
        for name, chosen in (("flagged", flagged), ("kept", ~flagged)):
            notes[f"median_error_um_{name}"] = float(np.median(error[chosen])) if chosen.any() else None
            notes[f"coverage_90_{name}"] = float(np.mean(table["plane"][chosen] <= 0.9)) if chosen.any() else None
    return notes


def coverage_rows(scores, noise, probe, methods):
    """One dict per method, region and side, pooled over seeds."""
    rows = []
    for method in methods:
        for region in ("plane", "depth"):
            levels, unit, inside = pooled(scores[noise, probe, method], region)
            for side, chosen in zip(SIDES, (np.ones(len(inside), bool), inside, ~inside), strict=True):
                if not chosen.any():
                    continue
                found = coverage(levels[chosen], groups=unit[chosen])
                row = {"noise_level": noise, "probe": probe, "method": method, "region": region, "side": side}
                row |= {name: getattr(found, name).tolist() for name in ("nominal", "observed", "low", "high")}
                row |= {"num_spikes": found.num, "num_units": found.num_groups}
                rows.append(row | {"calibration_error": calibration_error(levels[chosen])})
    return rows


def pooled(tables, region):
    """Levels, unit (another one in every recording) and side of the spikes of several recordings."""
    levels = np.concatenate([table[region] for _, table in tables])
    unit = np.concatenate([table["unit"] + 10_000 * index for index, (_, table) in enumerate(tables)])
    return levels, unit, np.concatenate([table["inside"] for _, table in tables])


def report_coverage(rows, noise, probe):
    header = ["", "", "", "spikes", "units", *[f"{level:.0%}" for level in COVERAGE_LEVELS], "off by"]
    cells = []
    for row in rows:
        parts = zip(row["observed"], row["low"], row["high"], strict=True)
        shares = [f"{observed:.0%} [{low:.0%}, {high:.0%}]" for observed, low, high in parts]
        names = [row["method"], row["region"], row["side"], row["num_spikes"], row["num_units"]]
        own = f"{probe}, {noise:g} uV, {row['method']}, {row['region']}, {row['side']}"
        note(f"{own}: 90 % regions hold", f"{row['observed'][COVERAGE_LEVELS.index(0.9)]:.0%}")
        cells.append([*names, *shares, row["calibration_error"]])
    print_table(f"{probe}, {noise:g} uV: share of true somas in the region, 95 % interval over units", header, cells)


def report_notes(recordings):
    names = ("median_error_um", "median_std_um", "median_depth_std_um", "r_hat_below_1.05", "flagged")
    outliers = ("median_error_um_flagged", "median_error_um_kept", "coverage_90_flagged", "coverage_90_kept")
    rows = []
    for run in recordings:
        for method, notes in run["methods"].items():
            title = f"{run['probe']}, {run['noise_level']:g} uV, seed {run['seed']}, {method}"
            rows.append([title, notes["num"], *[notes.get(name) for name in (*names, *outliers)]])
    header = ["", "spikes", "median error", "std", "depth std", "R-hat < 1.05", "flagged outliers"]
    header += ["error if flagged", "error if not", "cov90 if flagged", "cov90 if not"]
    print_table("By recording; um, and shares of the spikes", header, rows)


def draw(scores, arguments):
    import matplotlib as mpl

    mpl.use("Agg")
    from si_neuroml import plot_reliability

    levels, groups = {}, {}
    for method in arguments.methods:
        tables = [table for key, found in scores.items() if key[2] == method for table in found]
        levels[method], groups[method], _ = pooled(tables, "plane")
    path = Path(arguments.json).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    plot_reliability(levels, groups).figure.savefig(path, dpi=150)
    print(f"wrote {path}")


# --- calibration under the own model


def run_sbc(arguments):
    """Ranks of true places among draws of the VAE and of HMC, on spikes of the observation model."""
    results = []
    for noise_uv in (3.0, 10.0):
        observation = ObservationModel(noise_std_uv=noise_uv)
        spikes = draw_spikes(observation, SBC_CONTACTS, arguments.sbc_spikes, seed=1)
        truth = np.column_stack([spikes.places[:, :2], np.abs(spikes.places[:, 2])])
        draws = {"vae": vae_draws(observation, spikes, arguments)}
        if arguments.sbc_hmc_spikes:
            draws["hmc"] = hmc_draws(observation, spikes, arguments.sbc_hmc_spikes)
        for method, samples in draws.items():
            ranks = rank_statistics(samples, truth[: len(samples)])
            for axis, name in enumerate("xyz"):
                own = ranks[:, axis]
                # how far from the middle rank: the central interval that just holds the truth
                central = coverage(np.abs(2 * (own + 0.5) / (NUM_DRAWS + 1) - 1))
                results.append(
                    {
                        "noise_std_uv": noise_uv,
                        "method": method,
                        "axis": name,
                        "num_spikes": len(own),
                        "p_uniform": uniformity_p_value(own, NUM_DRAWS + 1, NUM_BINS),
                        "calibration_error": calibration_error((own + 0.5) / (NUM_DRAWS + 1)),
                        "central_coverage": central.observed.tolist(),
                    }
                )
    return results


def vae_draws(observation, spikes, arguments):
    from si_neuroml.localization.vae import train_vae

    rows = model_training_rows(draw_spikes(observation, SBC_CONTACTS, arguments.sbc_training_spikes, seed=0))
    settings = LocalizerSettings(learning_rate=3e-3, epochs=arguments.sbc_epochs)
    encoder, _, _ = train_vae(rows, settings, observation, device="cpu", progress_bar=False)
    mean, variance = encoder(model_training_rows(spikes).inputs)
    noise = np.random.default_rng(0).normal(size=(len(mean), NUM_DRAWS, 3))
    samples = mean[:, None] + np.sqrt(variance)[:, None] * noise
    # neither can know the side of the plane
    samples[:, :, 2] = np.abs(samples[:, :, 2])
    return samples


def hmc_draws(observation, spikes, num_spikes):
    own = [array[:num_spikes] for array in spikes[2:]]
    found = sample_posterior(*own, observation, HMCSettings(), np.arange(len(own[0])), 0, return_samples=True)
    # every twelfth draw of four chains of 300 is about independent
    return found.samples[:, :, 11::12].reshape(len(own[0]), -1, 4)[:, :NUM_DRAWS, :3]


def report_sbc(results):
    header = ["", "spikes", "p uniform", "off by", *[f"central {level:.0%}" for level in COVERAGE_LEVELS]]
    rows = [
        [
            f"{row['method']}, {row['axis'] if row['axis'] != 'z' else 'abs(z)'}, noise {row['noise_std_uv']:g} uV",
            row["num_spikes"],
            f"{row['p_uniform']:.1g}",
            f"{row['calibration_error']:.3f}",
            *[f"{share:.0%}" for share in row["central_coverage"]],
        ]
        for row in results
    ]
    print_table("Simulation-based calibration under the own model: ranks of the truth among 99 draws", header, rows)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, square array at 10 uV, 1000 spikes, 20 epochs")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--noise-levels", type=float, nargs="+", default=[10, 20, 30], help="uV")
    parser.add_argument("--probes", nargs="+", default=["square_mea", "neuropixels_64"])
    parser.add_argument("--duration", type=float, default=60.0, help="s")
    parser.add_argument("--epochs", type=int, help="of the VAE; default: that of the settings")
    parser.add_argument("--learning-rate", type=float, help="of the VAE; default: chosen")
    parser.add_argument("--max-spikes", type=int, help="score at most so many per recording")
    parser.add_argument("--hmc-spikes", type=int, default=300, help="scored per recording")
    parser.add_argument("--no-sbc", action="store_true", help="leave out simulation-based calibration")
    parser.add_argument("--sbc-spikes", type=int, default=2000)
    parser.add_argument("--sbc-hmc-spikes", type=int, default=200, help="0: SBC of the VAE alone; else at least 50")
    parser.add_argument("--sbc-training-spikes", type=int, default=20_000)
    parser.add_argument("--sbc-epochs", type=int, default=60)
    parser.add_argument("--cache-folder", default="outputs/recordings")
    parser.add_argument("--json", default="outputs/benchmarks/localization_calibration.json")
    arguments = parser.parse_args()
    arguments.preset = None  # what fit() passes on
    if arguments.quick:
        arguments.seeds, arguments.noise_levels, arguments.probes = arguments.seeds[:1], [10.0], ["square_mea"]
        arguments.epochs, arguments.learning_rate, arguments.max_spikes = 20, 3e-3, 1000
        arguments.hmc_spikes = arguments.sbc_hmc_spikes = 100
        arguments.sbc_training_spikes, arguments.sbc_epochs = 5000, 20
    return arguments


if __name__ == "__main__":
    main()
