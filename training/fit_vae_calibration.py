"""Find how far somas lie from where the VAE's amplitudes point: the constants of ``std_noise="soma"``.

On simulated recordings whose neurons are not those of the benchmarks, the VAE is fitted to one half of the detected
spikes and localizes the other. Along each axis the error of a spike with largest amplitude A is taken as Gaussian with
variance

    v + s^2 (A / 100 uV)^(-2 power),

v the variance that the residuals of the fit show. The two constants s and power, one pair for the plane and one for
the depth, are those of the largest likelihood. Every unit of a recording has the same weight, since its spikes share
their error.

Recordings and fitted models are kept, so that a run that was cut off goes on where it stopped.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

import si_neuroml
from si_neuroml.calibration import coverage
from si_neuroml.localization.evaluation import split_spikes
from si_neuroml.localization.model import SOMA_AMPLITUDES_UV
from si_neuroml.localization.posterior import region_levels
from si_neuroml.localization.protocols import gt_peaks

# probe, seed of the neurons, noise in uV; the benchmarks use seeds from 10 on
RECORDINGS = (
    ("square_mea", 1, 10.0),
    ("neuropixels_64", 1, 10.0),
    ("square_mea", 2, 10.0),
    ("neuropixels_64", 2, 10.0),
    ("square_mea", 3, 20.0),
)
JOB = {"n_jobs": 1, "chunk_duration": "1s", "progress_bar": False}


def main() -> None:
    """Fit from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-folder", type=Path, default=Path("outputs/vae_calibration"))
    parser.add_argument("--cache-folder", default="outputs/recordings")
    parser.add_argument("--epochs", type=int, help="of the VAE; default: that of the settings")
    parser.add_argument("--learning-rate", type=float, help="of the VAE; default: chosen")
    arguments = parser.parse_args()
    tables = {}
    for probe, seed, noise_level in RECORDINGS:
        name = f"{probe}, {noise_level:g} uV, seed {seed}"
        tables[name] = scored_spikes(probe, seed, noise_level, arguments)
        print(f"{name}: {len(tables[name]['unit'])} spikes", flush=True)
    constants = {region: fit_constants(tables.values(), region) for region in ("plane", "depth")}
    for region, (std_um, power) in constants.items():
        print(f"{region}: {std_um:.2f} um at 100 uV, power {power:.2f}")
    report(tables, constants)


def scored_spikes(probe: str, seed: int, noise_level: float, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Places with residual widths, true places, largest amplitude and unit of held-out spikes; kept as a file."""
    path = arguments.work_folder / f"{probe}_{seed}_{noise_level:g}.npz"
    if not path.exists():
        recording, sorting = si_neuroml.generate_mearec_recording(
            probe,
            duration=40.0,
            noise_level=noise_level,
            min_amplitude_uv=30.0,
            seed=seed,
            cache_folder=arguments.cache_folder,
        )
        spikes = gt_peaks(recording, sorting, protocol="detected", job_kwargs=JOB, seed=seed)
        train, test = split_spikes(len(spikes.peaks), 0.5, seed)
        changes = {} if arguments.learning_rate is None else {"learning_rate": arguments.learning_rate}
        model = si_neuroml.fit_localizer(
            recording,
            spikes.peaks[train],
            epochs=arguments.epochs,
            std_noise="residual",
            seed=seed,
            device="cpu",
            progress_bar=False,
            job_kwargs=JOB,
            **changes,
        )
        peaks, unit = spikes.peaks[test], spikes.unit_index[test]
        places = localize_peaks(recording, peaks, method="vae", method_kwargs={"model": model}, job_kwargs=JOB)
        truth = np.asarray(sorting.get_property("gt_unit_locations"), dtype="float64")[unit]
        truth[:, 2] = np.abs(truth[:, 2])
        # the recordings are in uV, and the detector takes the trough of the largest channel
        amplitude = np.abs(peaks["amplitude"].astype("float64"))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, places=places, truth=truth, amplitude=amplitude, unit=unit)
    with np.load(path) as arrays:
        return dict(arrays)


def fit_constants(tables: list[dict[str, np.ndarray]], region: str) -> tuple[float, float]:
    """Spread at 100 uV in um, and the power of the amplitude: largest likelihood over all recordings."""
    prepared = []
    for table in tables:
        axes = "xy" if region == "plane" else "z"
        error = np.column_stack([table["places"][axis] - table["truth"][:, "xyz".index(axis)] for axis in axes])
        residual = np.column_stack([table["places"][f"{axis}_std"] ** 2 for axis in axes])
        count = np.bincount(table["unit"])
        weight = 1.0 / count[table["unit"]] / (count > 0).sum()
        relative = np.clip(table["amplitude"], *SOMA_AMPLITUDES_UV) / 100.0
        prepared.append((error**2, residual, weight, relative))

    def loss(parameters):
        log_std, power = parameters
        total = 0.0
        for squared, residual, weight, relative in prepared:
            variance = residual + np.exp(2 * log_std) * relative[:, None] ** (-2 * power)
            total += weight @ (np.log(variance) + squared / variance).sum(axis=1)
        return total

    log_std, power = minimize(loss, [2.0, 0.5], method="Nelder-Mead").x
    return float(np.exp(log_std)), float(power)


def report(tables: dict[str, dict[str, np.ndarray]], constants: dict[str, tuple[float, float]]) -> None:
    """Coverage on the very recordings that the constants were fitted to, before and after."""
    for name, table in tables.items():
        wider = table["places"].copy()
        relative = np.clip(table["amplitude"], *SOMA_AMPLITUDES_UV) / 100.0
        for axis in "xyz":
            std_um, power = constants["depth" if axis == "z" else "plane"]
            wider[f"{axis}_std"] = np.hypot(wider[f"{axis}_std"], std_um * relative**-power)
        for axes, region in (("xy", "plane"), ("z", "depth")):
            for title, places in (("residual", table["places"]), ("soma", wider)):
                found = coverage(region_levels(places, table["truth"], axes), groups=table["unit"])
                shares = ", ".join(
                    f"{nominal:.0%}: {share:.0%}" for nominal, share in zip(found.nominal, found.observed, strict=True)
                )
                print(f"{name}, {region}, {title:8s} {shares}")


if __name__ == "__main__":
    main()
