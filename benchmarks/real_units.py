"""Places of real units judged by what they predict at sites that were hidden, and how real and simulated units differ.

Mean waveforms of single units on 14 sites of Neuropixels 1.0 probes in several rats (--units, or the environment
variable SI_NEUROML_REAL_UNITS; without a file nothing is run). No soma's place is known, so a place is judged by
itself: it is inferred from 10 sites (the largest among them, the others at random), and the amplitude is predicted at
the other 4.

A prediction needs a law of how amplitude falls with distance. Each law is fitted to the 10 sites given the place, its
scale free and its constants those that do best for that localizer on the other rats. The same laws go to every
localizer, so that the places are compared; "own" is the 1/r fit with its own scale, as SpikeInterface's
monopolar_triangulation leaves it. Error: mean over the 4 sites of |predicted - measured| / largest amplitude; median
over the units of a rat. Claimed: neural_posterior's is no larger than the 1/r fit's, rat by rat.

A fit is at an advantage here: its place is the one that makes these amplitudes right, wherever the soma is, most of
all its depth, which is whatever makes the law wide enough. So there are laws "depth refitted" too, in which every
localizer only gives its place in the plane of the probe, and the width of the law is fitted to each unit's 10 sites.

The second part is about the footprints that neural_posterior was trained on: what real units and simulated ones, drawn
around the same sites above the same amplitude, look like in numbers (median and quartiles) and as a figure.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _footprint_gap import MEASURES, measures, plot_gap, simulated_units, spike_widths
from _real_units import find_file, fitted_places, load_units, neural_posteriors, observed_sites, site_distances
from _report import Target, print_table, report_targets, write_json

from si_neuroml import load_model
from si_neuroml.localization.neural_posterior import shipped_posterior

OURS, RIVAL = "neural_posterior", "1/r"
NUM_OBSERVED = 10
MIN_UNITS, NARROW_MS = 20, 0.35
POWERS = [(c, p) for c in (1.0, 10.0, 20.0, 30.0, 45.0, 60.0) for p in (1.0, 1.5, 2.0, 3.0, 4.0)]
DEPTHS_UM = np.arange(4.0, 100.0, 4.0)


def power(r, c, p):
    """(r^2 + c^2)^(-p/2), lengths in 30 um so that numbers stay near 1."""
    return ((r**2 + c**2) / 900.0) ** (-p / 2)


class Law(NamedTuple):
    """Constants to choose among, the shape for given distances and constants, and what else each unit is free in."""

    constants: list
    shape: Callable
    sloped: bool = False
    refitted: bool = False


LAWS = {
    "A / r": Law([()], lambda r: 1.0 / np.maximum(r, 1.0)),
    "A exp(-r / b)": Law([(b,) for b in np.geomspace(10.0, 80.0, 13)], lambda r, b: np.exp(-r / b)),
    "A / (r^2 + c^2)^(p/2)": Law(POWERS, power),
    "(A + B y) / (r^2 + c^2)^(p/2)": Law(POWERS, power, sloped=True),
    "A / r^p, depth refitted": Law(
        [(p,) for p in (1.0, 1.5, 2.0, 3.0, 4.0)], lambda r, p: power(r, 0.0, p), refitted=True
    ),
    "A exp(-r / b), depth refitted": Law(
        [(b,) for b in np.geomspace(10.0, 80.0, 13)], lambda r, b: np.exp(-r / b), refitted=True
    ),
}
FEATURES = {"peak to peak": lambda w: np.ptp(w, axis=2), "trough": lambda w: np.maximum(-w.min(axis=2), 0.0)}


def main():
    arguments = parse_arguments()
    path, reason = find_file(arguments.units)
    if reason:
        print(f"skipped: {reason}")
        return
    model = load_model(arguments.model) if arguments.model else shipped_posterior()
    units = load_units(path, arguments.max_units)
    print(f"{len(units.rat)} clean units of {len(np.unique(units.rat))} rats", flush=True)
    results = {"benchmark": "real_units", "file": path.name, "num_units": len(units.rat), "features": {}}
    start = time.perf_counter()
    if not arguments.gap_only:
        for feature in FEATURES:
            results["features"][feature] = predict_hidden(model, units, feature)
            write_json(arguments.json, results)
        print(f"predicted after {time.perf_counter() - start:.0f} s", flush=True)
    results["gap"] = compare_footprints(model, units, arguments)
    results["seconds"] = time.perf_counter() - start
    write_json(arguments.json, results)


def predict_hidden(model, units, feature):
    """Errors at the hidden sites, by law, localizer and rat."""
    amplitudes = FEATURES[feature](units.waveforms).astype("float64")
    observed = observed_sites(units, NUM_OBSERVED)
    fits, scale = fitted_places(amplitudes, units.sites, observed)
    posteriors = neural_posteriors(model, units, observed)
    places = {OURS: np.column_stack([posteriors[axis] for axis in "xyz"]), **fits}
    distances = {name: site_distances(place, units.sites) for name, place in places.items()}
    summary, kinds = {}, unit_kinds(units, posteriors)
    own = relative_errors(scale[:, None] / distances[RIVAL], amplitudes, observed)
    summary["own"] = {RIVAL: by_rat(own, units.rat)}
    for law in LAWS:
        summary[law] = {}
        for name, place in places.items():
            along = (units.sites[:, :, 1] - place[:, 1:2]) / 50.0
            plane = site_distances(place * (1.0, 1.0, 0.0), units.sites)
            lengths = plane if LAWS[law].refitted else distances[name]
            error, chosen = law_errors(LAWS[law], lengths, along, amplitudes, observed, units.rat)
            by_kind = {kind: 100.0 * float(np.median(error[which])) for kind, which in kinds.items() if which.any()}
            summary[law][name] = {**by_rat(error, units.rat), "constants": chosen, "kinds": by_kind}
        report_law(feature, law, summary[law], summary["own"][RIVAL])
    report_kinds(feature, summary, {kind: int(which.sum()) for kind, which in kinds.items()})
    report_best(feature, summary)
    return summary


def unit_kinds(units, posteriors):
    """Which units the posterior trusts, and which have spikes that model cells do not fire."""
    rows = np.arange(len(units.rat))
    waves = units.waveforms[rows, np.ptp(units.waveforms, axis=2).argmax(axis=1)]
    narrow = np.array([spike_widths(wave)[0] for wave in waves]) < NARROW_MS
    upwards = waves.max(axis=1) > -waves.min(axis=1)
    outlier, spread = posteriors["outlier_probability"], posteriors["y_std"]
    return {
        "outlier < 0.2": outlier < 0.2,
        "outlier >= 0.5": outlier >= 0.5,
        "y_std < 4 um": spread < 4.0,
        "y_std >= 8 um": spread >= 8.0,
        "upwards": upwards,
        "narrow": narrow & ~upwards,
        "the others": ~narrow & ~upwards,
    }


def law_errors(law, distances, along, amplitudes, observed, rat):
    """Error of every unit under a law, constants from the other rats; and the constants for each rat."""
    errors = np.array(
        [
            relative_errors(predicted(law, chosen, distances, along, amplitudes, observed), amplitudes, observed)
            for chosen in law.constants
        ]
    )
    result, used = np.zeros(len(rat)), {}
    for name in np.unique(rat):
        best = int(np.median(errors[:, rat != name], axis=1).argmin()) if (rat != name).any() else 0
        result[rat == name], used[str(name)] = errors[best, rat == name], list(map(float, law.constants[best]))
    return result, used


def predicted(law, constants, distances, along, amplitudes, observed):
    """Amplitude at every site under a law, fitted to the observed sites of each unit by least squares."""
    if not law.refitted:
        shape = law.shape(distances, *constants)
        return with_slope(shape, along, amplitudes, observed) if law.sloped else scaled(shape, amplitudes, observed)
    best, least = np.zeros(amplitudes.shape), np.full(len(amplitudes), np.inf)
    for depth in DEPTHS_UM:
        trial = scaled(law.shape(np.hypot(distances, depth), *constants), amplitudes, observed)
        misfit = (observed * (trial - amplitudes) ** 2).sum(axis=1)
        better = misfit < least
        best[better], least[better] = trial[better], misfit[better]
    return best


def scaled(shape, amplitudes, observed):
    """A shape times the scale that fits the observed sites."""
    scale = (observed * shape * amplitudes).sum(axis=1) / (observed * shape**2).sum(axis=1)
    return np.maximum(scale[:, None] * shape, 0.0)


def with_slope(shape, along, amplitudes, observed):
    """The same with a second scale for the part that grows along the probe."""
    columns = np.stack([shape, shape * along], axis=2)
    gram = np.einsum("us,usi,usj->uij", observed.astype("float64"), columns, columns)
    # a slope has to earn its place: some shrinking, or four unlucky sites are thrown far off
    gram[:, 1, 1] += 0.1 * gram[:, 0, 0]
    solved = np.linalg.solve(gram, np.einsum("us,us,usi->ui", observed, amplitudes, columns)[:, :, None])
    return np.maximum(np.einsum("usi,ui->us", columns, solved[:, :, 0]), 0.0)


def relative_errors(prediction, amplitudes, observed):
    """Mean error at the hidden sites of each unit, relative to its largest amplitude."""
    error = np.where(observed, 0.0, np.abs(prediction - amplitudes)).sum(axis=1) / (~observed).sum(axis=1)
    return error / amplitudes.max(axis=1).clip(min=1.0)


def by_rat(errors, rat):
    """Median in percent by rat, over all units, and the mean over rats."""
    rats = {str(name): 100.0 * float(np.median(errors[rat == name])) for name in np.unique(rat)}
    counts = {str(name): int((rat == name).sum()) for name in np.unique(rat)}
    large = [rats[name] for name in rats if counts[name] >= MIN_UNITS] or list(rats.values())
    return {
        "rats": rats,
        "num_units": counts,
        "all": 100.0 * float(np.median(errors)),
        "mean": 100.0 * float(np.mean(errors)),
        "mean_of_rats": float(np.mean(large)),
    }


def report_law(feature, law, scores, own):
    names = list(own["rats"])
    header = [
        "",
        "all units",
        "mean",
        "of rats",
        *(f"{name} ({own['num_units'][name]})" for name in names),
        "constants",
    ]
    rows = []
    for label, one in [*scores.items(), (f"{RIVAL}, own", own)]:
        row = [label, one["all"], one["mean"], one["mean_of_rats"], *(one["rats"][name] for name in names)]
        # those of the rat with the most units stand for all
        constants = one.get("constants", {}).get(max(own["num_units"], key=own["num_units"].get), [])
        rows.append([*row, ", ".join(f"{value:.3g}" for value in constants) or None])
    print_table(f"{feature}, law {law}: error at 4 hidden sites, % of the largest amplitude, median", header, rows)
    judge(f"{feature}, {law}", scores[OURS], scores[RIVAL])


def report_kinds(feature, summary, counts):
    """Where the errors come from: what the posterior says of a unit, and what its spikes look like."""
    rows = []
    for law in LAWS:
        for name in (OURS, RIVAL):
            medians = summary[law][name]["kinds"]
            rows.append([f"{law}: {name}", *(medians.get(kind) for kind in counts)])
    header = ["", *(f"{kind} ({number})" for kind, number in counts.items())]
    print_table(
        f"{feature}: the same errors by kind of unit (narrow: trough to peak below {NARROW_MS} ms)", header, rows
    )


def report_best(feature, summary):
    """Each localizer with the law that suits it best, and the 1/r fit as it is."""
    best = {name: min(LAWS, key=lambda law: summary[law][name]["all"]) for name in (OURS, RIVAL)}
    ours = summary[best[OURS]][OURS]
    judge(f"{feature}, best law of each ({best[OURS]}; {best[RIVAL]})", ours, summary[best[RIVAL]][RIVAL])
    judge(f"{feature}, best law against the 1/r fit's own", ours, summary["own"][RIVAL])


def judge(title, ours, theirs):
    large = [name for name in ours["rats"] if ours["num_units"][name] >= MIN_UNITS]
    below = [name for name in large if ours["rats"][name] <= theirs["rats"][name]]
    where = f"in {len(below)} of {len(large)} rats with {MIN_UNITS} units or more"
    text = f"{ours['all']:.2f} %, target <= {theirs['all']:.2f} % ({RIVAL}), {where}"
    report_targets([Target("real units", f"{title}: {OURS}", text, len(below) == len(large))])


def compare_footprints(model, units, arguments):
    """The table and the figure of real against simulated units."""
    layouts = np.unique(np.round(units.sites - units.sites[:, :1], 3), axis=0)
    simulated = simulated_units(layouts, arguments.num_simulated)
    real, made = measures(model, units), measures(model, simulated)
    rows, gap = [], {}
    for name, meaning in MEASURES.items():
        quartiles = [np.quantile(values[name], [0.25, 0.5, 0.75]) for values in (real, made)]
        gap[name] = {"real": list(map(float, quartiles[0])), "simulated": list(map(float, quartiles[1]))}
        rows.append([name, *(f"{q[1]:.2f} ({q[0]:.2f}-{q[2]:.2f})" for q in quartiles), meaning])
    title = f"{len(units.rat)} real and {arguments.num_simulated} simulated units: median (quartiles)"
    print_table(title, ["", "real", "simulated", ""], rows)
    path = Path(arguments.figure)
    plot_gap(real, made, path)
    print(f"figure: {path}", flush=True)
    return gap


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", help="npz of mean waveforms; default: the variable SI_NEUROML_REAL_UNITS")
    parser.add_argument("--quick", action="store_true", help="300 real and 100 simulated units")
    parser.add_argument("--max-units", type=int, help="default: all")
    parser.add_argument("--num-simulated", type=int, default=1000)
    parser.add_argument("--gap-only", action="store_true")
    parser.add_argument("--model", help="folder of another neural_posterior model")
    parser.add_argument("--json", default="outputs/benchmarks/real_units.json")
    parser.add_argument("--figure", default="outputs/benchmarks/real_units.png")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.max_units, arguments.num_simulated = 300, 100
    return arguments


if __name__ == "__main__":
    main()
