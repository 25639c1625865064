"""How far simulated footprints are from those of real units, in numbers that need no soma's place."""

import numpy as np
from _drifting import BEFORE, CONTACT_UM, NEAR_MODELS, as_recorded
from _real_units import MIN_UV, NEAR_UM, SAMPLING_FREQUENCY, Units, aligned_windows, exponential_fit, site_distances
from _real_units import neural_posteriors as localize
from spikeinterface.postprocessing.localization_tools import solve_monopolar_triangulation

from training.currents import load_currents
from training.footprints import footprint
from training.variation import random_cell

# of the real waveforms
SAMPLES_BEFORE, NUM_SAMPLES = 15, 61
DECAYS_UM = np.geomspace(8.0, 200.0, 60)
MEASURES = {
    "trough to peak (ms)": "spike width on the largest site",
    "half width (ms)": "at half of the trough, on the largest site",
    "decay length (um)": "b of A exp(-r / b), r from the inferred place",
    "far / largest": "mean peak-to-peak of sites 50 to 70 um from the largest",
    "residual of 1/r (%)": "rms over sites, of the largest amplitude",
    "residual of exponential (%)": "the same, decay fixed",
    "outside the basis (%)": "part of the norm of the waveforms that the model does not see",
    "inferred depth (um)": "posterior mean of the distance from the probe",
    "sd along the probe (um)": "of the posterior",
    "outlier probability": "of the posterior",
}


def simulated_units(layouts, number, seed=0):
    """Cells like those of the training around the real sites, chosen like the real units and cut like them."""
    rng, currents = np.random.default_rng([seed, 3]), load_currents()
    models, waveforms, sites = sorted(currents), [], []
    while len(waveforms) < number:
        layout = layouts[rng.integers(len(layouts))]
        contacts = np.column_stack([layout, np.zeros(len(layout))])
        # beside the sites, but not beyond their ends, where the largest would not be in the middle
        margin = np.array([35.0, -20.0])
        low, high = layout.min(axis=0) - margin, layout.max(axis=0) + margin
        soma = np.append(rng.uniform(low, high), rng.uniform(8.0, 80.0))
        cell = random_cell(rng, currents, models, soma, NEAR_MODELS)
        waves = as_recorded(footprint(cell, contacts, CONTACT_UM))
        size = np.ptp(waves, axis=1)
        assigned = layout[len(layout) // 2 - 1 : len(layout) // 2 + 1]
        near = np.linalg.norm(assigned - layout[size.argmax()], axis=1).min() <= NEAR_UM
        if size.max() > MIN_UV and near:
            spike = BEFORE - 30 + np.abs(waves[size.argmax(), BEFORE - 30 : BEFORE + 30]).argmax()
            waveforms.append(waves[:, spike - SAMPLES_BEFORE : spike - SAMPLES_BEFORE + NUM_SAMPLES])
            sites.append(layout)
    return Units(np.stack(waveforms), np.stack(sites), np.full(number, "simulated"))


def measures(model, units):
    """Every measure of MEASURES for every unit: dict of arrays."""
    posteriors = localize(model, units, np.ones(units.waveforms.shape[:2], bool))
    amplitudes = np.ptp(units.waveforms, axis=2).astype("float64")
    largest, rows = amplitudes.argmax(axis=1), np.arange(len(amplitudes))
    relative = amplitudes / amplitudes.max(axis=1, keepdims=True)
    places = np.column_stack([posteriors[axis] for axis in "xyz"])
    from_largest = np.linalg.norm(units.sites - units.sites[rows, largest][:, None], axis=2)
    far = (from_largest >= 50.0) & (from_largest <= 70.0)
    widths = np.array([spike_widths(units.waveforms[unit, largest[unit]]) for unit in rows])
    residuals = np.array([fit_residuals(a, s) for a, s in zip(relative, units.sites, strict=True)])
    values = (
        widths[:, 0],
        widths[:, 1],
        decay_lengths(relative, site_distances(places, units.sites)),
        (relative * far).sum(axis=1) / far.sum(axis=1).clip(min=1),
        100.0 * residuals[:, 0],
        100.0 * residuals[:, 1],
        100.0 * outside_basis(model, units, largest),
        posteriors["z"],
        posteriors["y_std"],
        posteriors["outlier_probability"],
    )
    return dict(zip(MEASURES, values, strict=True))


def spike_widths(wave):
    """Trough to the peak behind it, and width at half of the trough, in ms; at 8 times the sampling rate."""
    times = np.arange(0.0, len(wave) - 1.0, 0.125)
    fine = np.interp(times, np.arange(len(wave)), wave * -np.sign(wave[np.abs(wave).argmax()]))
    trough = int(fine.argmin())
    peak = trough + int(fine[trough:].argmax())
    above = fine > 0.5 * fine[trough]
    before = np.flatnonzero(above[:trough])
    behind = np.flatnonzero(above[trough:])
    half = (trough + behind[0] if len(behind) else len(fine)) - (before[-1] if len(before) else 0)
    return np.array([peak - trough, half]) * 0.125 / SAMPLING_FREQUENCY * 1000.0


def decay_lengths(amplitudes, distances):
    """The decay length of each unit that leaves least, over DECAYS_UM."""
    shapes = np.exp(-distances[None] / DECAYS_UM[:, None, None])
    scale = (shapes * amplitudes).sum(axis=2) / (shapes**2).sum(axis=2)
    misfit = ((scale[:, :, None] * shapes - amplitudes) ** 2).sum(axis=2)
    return DECAYS_UM[misfit.argmin(axis=0)]


def fit_residuals(amplitudes, sites):
    """Rms residual of a 1/r and of an exponential fit to all sites."""
    x, y, z, alpha = solve_monopolar_triangulation(amplitudes, sites, 150.0, "least_square")
    inverse = alpha / site_distances(np.array([[x, y, z]]), sites[None])[0]
    *place, scale = exponential_fit(amplitudes, sites)
    exponential = scale * np.exp(-site_distances(np.array([place]), sites[None])[0] / 28.6)
    return [np.sqrt(np.mean((fit - amplitudes) ** 2)) for fit in (inverse, exponential)]


def outside_basis(model, units, center):
    """Norm of what the model's basis leaves out, relative to the norm, over all sites of a unit."""
    prepared = model.prepare(units.sites[0], SAMPLING_FREQUENCY)
    waves = aligned_windows(units.waveforms, center, prepared.window) @ prepared.window.matrix
    left = waves - (waves @ model.basis) @ model.basis.T
    return np.sqrt((left**2).sum(axis=(1, 2)) / (waves**2).sum(axis=(1, 2)))


def plot_gap(real, simulated, path):
    """Histograms of every measure, real units against simulated ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(15, 5.5), layout="constrained")
    for axis, name in zip(axes.ravel(), MEASURES, strict=True):
        both = np.concatenate([real[name], simulated[name]])
        edges = np.linspace(*np.quantile(both, [0.005, 0.995]), 31)
        for values, label in ((real, "real"), (simulated, "simulated")):
            axis.hist(values[name].clip(edges[0], edges[-1]), edges, density=True, alpha=0.5, label=label)
        axis.set(xlabel=name, yticks=[])
    axes[0, 0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
