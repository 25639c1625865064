"""What the tests of posteriors share: short calls, recordings built from arrays, comparisons."""

import copy

import numpy as np
import spikeinterface.full as si
from spikeinterface.sortingcomponents.peak_localization import localize_peaks

from si_neuroml.localization.posterior import POSTERIOR_DTYPE, fill_posteriors

QUIET = {"n_jobs": 1, "progress_bar": False}
SPIKES, UNITS = "spike_location_posteriors", "unit_location_posteriors"
# the name of a model of another kind, as it stands in saved parameters
FOREIGN_MODEL = {"kind": "vae_localizer", "digest": "0" * 64, "folder": "nowhere"}


def posteriors_of(recording, peaks, method_kwargs=None, **job_kwargs):
    """Through SpikeInterface, with no argument but the method."""
    return localize_peaks(
        recording,
        peaks,
        method="neural_posterior",
        method_kwargs=method_kwargs or {},
        job_kwargs={**QUIET, **job_kwargs},
    )


def array_recording(traces, like, probe=None, sampling_frequency=None, **scaling):
    """A recording in memory with the probe of another one."""
    segments = traces if isinstance(traces, list) else [traces]
    found = si.NumpyRecording(segments, sampling_frequency or like.sampling_frequency)
    # a copy, because what get_probe() returns is the recording's own
    found.set_probe(copy.deepcopy(like.get_probe()) if probe is None else probe)
    found.set_channel_gains(scaling.get("gain", 1.0))
    found.set_channel_offsets(scaling.get("offset", 0.0))
    return found


def moved_probe(recording, place):
    """The probe with its contacts at place((num_contacts, 3) um), in three dimensions."""
    probe = copy.deepcopy(recording.get_probe()).to_3d(axes="xy")
    probe._contact_positions = np.asarray(place(probe.contact_positions.astype("float64")))
    return probe


def places(posteriors, axes="xyz"):
    return np.column_stack([posteriors[axis] for axis in axes])


def distances(one, two, axes="xyz"):
    return np.linalg.norm(places(one, axes) - places(two, axes), axis=1)


def assert_same(found, expected):
    assert found.dtype == expected.dtype == POSTERIOR_DTYPE
    for name in POSTERIOR_DTYPE.names:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def assert_close(found, expected, atol=1e-2, rtol=1e-3):
    """Equal but for the order in which float32 numbers were added."""
    for name in POSTERIOR_DTYPE.names:
        np.testing.assert_allclose(found[name], expected[name], atol=atol, rtol=rtol, err_msg=name)


def assert_proper(posteriors):
    """Finite, positive definite, on one side of the probe, with probabilities that are some."""
    values = np.column_stack([posteriors[name] for name in POSTERIOR_DTYPE.names if name != "dof"])
    assert np.isfinite(values).all()
    assert (posteriors["dof"] > 2).all()
    assert (places(posteriors, ["x_std", "y_std", "z_std"]) > 0).all()
    assert ((posteriors["outlier_probability"] >= 0) & (posteriors["outlier_probability"] <= 1)).all()
    assert (posteriors["alpha"] >= 0).all()


def student_posteriors(rng, dof, size=4000, dims=3):
    """(posteriors, true places drawn from them), all with one covariance."""
    from scipy.stats import multivariate_t

    root = rng.normal(size=(dims, dims))
    covariance = 25.0 * (root @ root.T + np.eye(dims))
    mean = rng.normal(scale=30.0, size=(size, dims))
    if np.isfinite(dof):
        draws = multivariate_t(shape=covariance * (dof - 2) / dof, df=dof, seed=rng).rvs(size)
    else:
        draws = rng.multivariate_normal(np.zeros(dims), covariance, size)
    return fill_posteriors(mean, np.tile(covariance, (size, 1, 1)), dof, 100.0), mean + draws


def computed(sorting, recording, format="memory", folder=None, sparse=False, source="spikes"):
    """An analyzer with templates and both extensions."""
    analyzer = si.create_sorting_analyzer(
        sorting, recording, format=format, folder=folder, sparse=sparse, job_kwargs=QUIET
    )
    analyzer.compute(["random_spikes", "templates"], **QUIET)
    analyzer.compute({SPIKES: {}, UNITS: {"source": source}}, **QUIET)
    return analyzer


def data(analyzer, name=SPIKES, *args, **kwargs):
    return analyzer.get_extension(name).get_data(*args, **kwargs)


def by_unit(analyzer):
    return data(analyzer, SPIKES, outputs="by_unit", concatenated=True)
