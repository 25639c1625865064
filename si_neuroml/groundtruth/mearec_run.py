"""The one place that calls MEArec's generator: parameters in, traces and spike frames out, nothing printed or left."""

import contextlib
import io
import random
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np

from ..errors import MissingDependencyError, SINeuroMLError
from .templates import EXCITATORY_TYPES, INHIBITORY_TYPES, CellTemplates

__all__ = ["NOISE_MODES", "mearec_parameters", "run_mearec"]

NOISE_MODES = ("far-neurons", "uncorrelated", "distance-correlated")


def mearec_parameters(settings: dict, num_background: int, sampling_frequency: float) -> dict:
    """MEArec's recording parameters for the settings of ``generate_mearec_recording``.

    Written out in full, since MEArec's own function for the defaults copies files into the user's folder.

    Parameters
    ----------
    settings : dict
        Checked settings, with ``seeds``.
    num_background : int
        Distant cells among the templates.
    sampling_frequency : float
        In Hz.

    Returns
    -------
    dict
        For ``MEArec.gen_recordings(params=...)``.
    """
    seeds = settings["seeds"]
    return {
        "spiketrains": {
            "n_exc": settings["num_excitatory"],
            "n_inh": settings["num_inhibitory"],
            "f_exc": settings["excitatory_rate_hz"],
            "f_inh": settings["inhibitory_rate_hz"],
            "st_exc": 1,
            "st_inh": 3,
            "min_rate": 0.5,
            "ref_per": 2,
            "process": "poisson",
            "t_start": 0,
            "duration": settings["duration"],
        },
        "cell_types": {"excitatory": list(EXCITATORY_TYPES), "inhibitory": list(INHIBITORY_TYPES)},
        "seeds": {
            "spiketrains": seeds["spiketrains"],
            # The cells are drawn before MEArec is called.
            "templates": seeds["neurons"],
            "convolution": seeds["convolution"],
            "noise": seeds["noise"],
        },
        "templates": {
            "min_dist": 0,
            "min_amp": 0,
            "max_amp": None,
            "n_overlap_pairs": None,
            "xlim": None,
            "ylim": None,
            "zlim": None,
            "overlap_threshold": 0.9,
            "n_jitters": 10,
            "upsample": 8,
            "pad_len": [3, 3],
            "smooth_percent": 0.5,
            "smooth_strength": 1,
        },
        "recordings": {
            "fs": float(sampling_frequency),
            "dtype": "float32",
            "overlap": False,
            "extract_waveforms": False,
            "sync_rate": None,
            "sync_jitt": 1,
            "chunk_duration": 10,
            "modulation": settings["amplitude_modulation"],
            "sdrand": settings["amplitude_sd"],
            "bursting": False,
            "shape_mod": False,
            "noise_level": settings["noise_level"],
            "noise_mode": settings["noise_mode"],
            "noise_color": False,
            "noise_half_distance": 30,
            "far_neurons_n": num_background,
            "far_neurons_max_amp": settings["far_neurons_max_amp_uv"],
            "far_neurons_noise_floor": 0.5,
            "far_neurons_exc_inh_ratio": 0.8,
            "filter": False,
            "drifting": False,
        },
    }


def run_mearec(
    templates: CellTemplates, cells: np.ndarray, background: np.ndarray, sampling_frequency: float, settings: dict
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Simulate traces with MEArec.

    Parameters
    ----------
    templates : CellTemplates
        All cells.
    cells, background : np.ndarray of int
        Indices of the recording's cells (excitatory first) and of its distant cells.
    sampling_frequency : float
        In Hz.
    settings : dict
        Checked settings, with ``seeds``.

    Returns
    -------
    traces : np.ndarray, (n_samples, n_channels), float32
        In uV, filtered if the settings say so.
    spike_frames : list of np.ndarray of int
        The samples of the spikes of each of ``cells``.

    Raises
    ------
    MissingDependencyError
        If MEArec is not installed.
    SINeuroMLError
        If MEArec fails.
    """
    MEArec = _import_mearec()
    parameters = mearec_parameters(settings, len(background), sampling_frequency)
    # MEArec gets the drawn cells and no others, so that it has nothing left to choose.
    used = templates.take(np.concatenate([cells, background]))
    generator = MEArec.TemplateGenerator(
        temp_dict={
            "templates": used.waveforms,
            "locations": used.locations,
            "rotations": used.rotations,
            "celltypes": used.cell_models,
        },
        info={
            "params": {
                "cut_out": list(used.cut_out_ms),
                "dt": 1000.0 / used.sampling_frequency,
                "drifting": False,
            },
            "electrodes": dict(used.electrodes),
        },
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet_and_repeatable())
        folder = None
        if len(background):
            # MEArec makes this noise only with temporary files.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="si_neuroml_", ignore_cleanup_errors=True))
        try:
            result = MEArec.gen_recordings(
                params=parameters,
                tempgen=generator,
                template_ids=np.arange(len(cells)),
                tmp_mode=None if folder is None else "memmap",
                tmp_folder=folder,
                n_jobs=0,
                verbose=False,
            )
        except Exception as error:
            raise SINeuroMLError(f"MEArec could not make the recording: {type(error).__name__}: {error}") from error
        # Cut off, not rounded: exactly how MEArec itself turned times into samples.
        frames = [(train.times * result.fs).magnitude.astype("int") for train in result.spiketrains]
        traces = np.array(result.recordings, dtype=np.float32)
        # Lets go of the temporary files before the folder is removed.
        del result
    if settings["filter_band_hz"] is not None:
        _filter_in_place(traces, settings["filter_band_hz"], settings["filter_order"], sampling_frequency)
    return traces, frames


def _import_mearec():
    try:
        with _quiet_and_repeatable():
            import MEArec
    except ImportError as error:
        raise MissingDependencyError("MEArec", "groundtruth") from error
    return MEArec


def _filter_in_place(traces: np.ndarray, band_hz: list[float], order: int, sampling_frequency: float) -> None:
    """Zero-phase Butterworth band-pass, channel by channel so that the double-precision copy stays small."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(order, band_hz, btype="bandpass", fs=sampling_frequency, output="sos")
    for channel in range(traces.shape[1]):
        traces[:, channel] = sosfiltfilt(sections, traces[:, channel].astype(np.float64))


@contextlib.contextmanager
def _quiet_and_repeatable() -> Iterator[None]:
    """Keep MEArec from printing, warning, starting processes, and moving the caller's random generators."""
    import joblib

    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
            # MEArec pads templates in worker processes; threads do it without importing the caller's script anew.
            joblib.parallel_config(backend="threading"),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
