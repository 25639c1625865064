"""Load a simulated recording, fit and run localizers on it, score them: what the accuracy benchmarks share."""

import time
import warnings

from spikeinterface.sortingcomponents.peak_localization import localize_peaks

import si_neuroml
from si_neuroml.localization.evaluation import error_summary

JOB = {"n_jobs": 1, "chunk_duration": "1s", "progress_bar": False}


def load_recording(probe, noise, seed, arguments):
    return si_neuroml.generate_mearec_recording(
        probe,
        duration=arguments.duration,
        noise_level=float(noise),
        min_amplitude_uv=30.0,
        seed=seed,
        cache_folder=arguments.cache_folder,
    )


def fit(recording, peaks, seed, arguments, **settings):
    start = time.perf_counter()
    model = si_neuroml.fit_localizer(
        recording,
        peaks,
        **{"preset": arguments.preset, "epochs": arguments.epochs, **settings},
        seed=seed,
        device="cpu",
        progress_bar=False,
        job_kwargs=JOB,
    )
    names = ("num_spikes", "num_rows", "learning_rate", "best_epoch", "epochs_run")
    training = {name: model.training[name] for name in names}
    training |= {"seconds": time.perf_counter() - start, "half_width_um": model.half_width_um}
    return model, training | {"settings": model.settings.to_dict()}


def localize(recording, peaks, method, options):
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = localize_peaks(recording, peaks, method=method, method_kwargs=options, job_kwargs=JOB, seed=0)
    return found, time.perf_counter() - start


def scorer(recording, sorting):
    truth, contacts = sorting.get_property("gt_unit_locations"), recording.get_channel_locations()
    return lambda places, unit_index: error_summary(places, truth, unit_index, contacts)
