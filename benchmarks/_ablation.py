"""Which settings move the error, and how much of it lies in the neurons instead."""

import numpy as np
from _localizers import fit, load_recording, localize, scorer
from _report import print_table, write_json

from si_neuroml.localization.protocols import gt_peaks

# what changes against the default settings
VARIANTS = {
    "default": {},
    "default, another seed": {"seed": 1},
    "half_width_um 35 (5 x 5)": {"half_width_um": 35.0},
    "jitter 10 uV": {"amplitude_jitter_uv": 10.0},
    "input raw": {"input_scaling": "raw"},
    "noise measured": {"noise": "measured"},
    "amplitude table": {"amplitude": "table"},
    "amplitude table, no prior": {"amplitude": "table", "amplitude_prior": False},
    "fit_decay": {"fit_decay": True},
    "feature trough": {"amplitude_feature": "trough"},
    "trough, jitter 10 uV": {"amplitude_feature": "trough", "amplitude_jitter_uv": 10.0},
    "trough, measured noise": {"amplitude_feature": "trough", "noise": "measured"},
    "hurwitz2019, 60 epochs": {"preset": "hurwitz2019", "epochs": 60},
    "hurwitz2019, J 0, 60 epochs": {"preset": "hurwitz2019", "epochs": 60, "amplitude_jitter_uv": 0.0},
}


def run_ablation(arguments):
    """Protocol "paper" on one recording, then the same neurons without noise."""
    seed = arguments.seeds[0]
    recording, sorting = load_recording("square_mea", 10.0, seed, arguments)
    spikes, score = gt_peaks(recording, sorting, protocol="paper"), scorer(recording, sorting)

    def scored(method, options, recording=recording, spikes=spikes):
        return score(localize(recording, spikes.peaks, method, options)[0], spikes.unit_index)

    base = scored("center_of_mass_nearest", {"num_channels": 4})
    results = {"benchmark": "localization_ablation", "seed": seed, "COM 4": base, "variants": {}}
    rows = [row("COM 4", base, base)]
    for name, changes in VARIANTS.items():
        settings = {**changes}
        fit_seed = settings.pop("seed", 0)
        if arguments.quick and "preset" in settings:
            continue
        if arguments.quick:
            settings["epochs"] = 4
        model, training = fit(recording, spikes.peaks, fit_seed, arguments, **settings)
        summary = scored("vae", {"model": model})
        results["variants"][name] = {"changes": changes, "training": training, "error": summary}
        rows.append([*row(name, summary, base), training["num_rows"], round(training["seconds"])])
        print(f"{name}: {summary['per_spike']['mean']:.2f} um, {training['seconds']:.0f} s", flush=True)
        write_json(arguments.json, results)
    rows[0] += [None, None]
    header = ["square array, 10 uV", "mean", "median", "inside", "outside", "ratio", "r. inside", "r. outside"]
    header += ["bias", "spread", "rows", "s"]
    print_table(f"protocol 'paper', recording of seed {seed}; ratios to COM 4; error in um", header, rows)
    results["noise_free"] = noise_free(arguments, seed)
    write_json(arguments.json, results)


def noise_free(arguments, seed):
    """The same neurons with no noise and no other neurons' background: what the model itself gets wrong."""
    recording, sorting = load_recording("square_mea", 0.0, seed, arguments)
    spikes, score = gt_peaks(recording, sorting, protocol="paper"), scorer(recording, sorting)
    results = {}
    for name, changes in (("default", {}), ("feature trough", {"amplitude_feature": "trough"})):
        quick = {"epochs": 4} if arguments.quick else {}
        model, _ = fit(recording, spikes.peaks, 0, arguments, **changes, **quick)
        results[name] = score(localize(recording, spikes.peaks, "vae", {"model": model})[0], spikes.unit_index)
    found, _ = localize(recording, spikes.peaks, "center_of_mass_nearest", {"num_channels": 4})
    results = {"COM 4": score(found, spikes.unit_index), **results}
    header = ["0 uV", "mean", "median", "inside", "outside", "ratio", "r. inside", "r. outside", "bias", "spread"]
    rows = [row(name, summary, results["COM 4"]) for name, summary in results.items()]
    print_table("the same neurons without noise", header, rows)
    return results


def row(name, summary, base):
    sides = (summary, summary["inside"], summary["outside"])
    means = [side["per_spike"]["mean"] for side in sides]
    ratios = [
        side["per_spike"]["mean"] / of["per_spike"]["mean"]
        for side, of in zip(sides, (base, base["inside"], base["outside"]), strict=True)
    ]
    # bias is shared by all spikes of a unit (the model), spread differs between them (noise, other neurons)
    own = [float(np.mean(summary["units"][field])) for field in ("bias", "spread")]
    return [name, means[0], summary["per_spike"]["median"], *means[1:], *ratios, *own]
