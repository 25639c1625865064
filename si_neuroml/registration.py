"""The only file that touches SpikeInterface's tables.

SpikeInterface has no plugin hook for methods: they live in plain dicts, one for the places of peaks (found by
``localize_peaks``, ``analyzer.compute("spike_locations")``, motion correction and the benchmark studies), one for those
of units (``analyzer.compute("unit_locations")``) and one for detectors (``detect_peaks``). Extensions of the analyzer
have a list and a function to add to it, and no way back. Workers never look into the tables (nodes travel by class), so
registering in the parent process is enough.

SpikeInterface's module with the table of detectors imports torch. So that ``import si_neuroml`` does not, our detector
is added when somebody imports that module, which happens whenever ``detect_peaks`` is imported.
"""

import importlib.abc
import importlib.util
import sys
from typing import Any

from .errors import RegistrationError

__all__ = ["register", "registered_extensions", "registered_methods", "unregister"]


DETECTORS_MODULE = "spikeinterface.sortingcomponents.peak_detection.method_list"


def _method_tables() -> list[tuple[str, dict, dict]]:
    """SpikeInterface's tables of methods, each as (what it holds, the table, what we add to it)."""
    from spikeinterface.postprocessing.localization_tools import _unit_location_methods
    from spikeinterface.sortingcomponents.peak_localization.method_list import peak_localization_methods

    from .localization.hmc_node import LocalizeHMC
    from .localization.neural_posterior_node import LocalizeNeuralPosterior
    from .localization.nodes import LocalizeNearestCenterOfMass, LocalizeVAE
    from .localization.unit_templates import unit_locations

    nodes = (LocalizeNeuralPosterior, LocalizeVAE, LocalizeNearestCenterOfMass, LocalizeHMC)
    tables = [
        ("peak-localization method", peak_localization_methods, {node.name: node for node in nodes}),
        ("unit-location method", _unit_location_methods, {LocalizeNeuralPosterior.name: unit_locations}),
    ]
    detectors = getattr(sys.modules.get(DETECTORS_MODULE), "detect_peak_methods", None)
    return tables if detectors is None else [*tables, _detector_table(detectors)]


def _detector_table(detect_peak_methods):
    from .events.nodes import DetectLearnedEvents

    return "peak-detection method", detect_peak_methods, {DetectLearnedEvents.name: DetectLearnedEvents}


class _RegisterWhenImported(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it adds our detectors to SpikeInterface's table as soon as that table exists."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != DETECTORS_MODULE:
            return None
        _remove_import_hook()
        spec = importlib.util.find_spec(fullname)
        run_module = spec.loader.exec_module

        def run_and_register(module):
            run_module(module)
            _, table, ours = _detector_table(module.detect_peak_methods)
            table.update(ours)

        spec.loader.exec_module = run_and_register
        return spec


def _remove_import_hook():
    # by name: a reloaded module has a new class of the same name
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _same_thing(type(finder), _RegisterWhenImported)]


def _extensions() -> tuple[Any, list[type]]:
    """The module that holds SpikeInterface's list of extensions, and ours, parents before their children."""
    from spikeinterface.core import sortinganalyzer

    from .celltypes.unit_extension import ComputeUnitScalograms
    from .celltypes.unit_predictions_extension import ComputeCellTypePredictions
    from .localization.extension import ComputeSpikeLocationPosteriors, ComputeUnitLocationPosteriors
    from .regions.extension import ComputeRegionFeatures
    from .regions.predictions_extension import ComputeRegionPredictions

    return sortinganalyzer, [
        ComputeSpikeLocationPosteriors,
        ComputeUnitLocationPosteriors,
        ComputeRegionFeatures,
        ComputeRegionPredictions,
        ComputeUnitScalograms,
        ComputeCellTypePredictions,
    ]


def register() -> None:
    """Add si_neuroml's methods and extensions to SpikeInterface; ``import si_neuroml`` does it.

    Calling it again changes nothing.

    Raises
    ------
    RegistrationError
        When a name is taken by another package; then nothing is added.
    """
    tables, (core, extensions) = _method_tables(), _extensions()
    for what, table, ours in tables:
        for name, method in ours.items():
            _check_free(what, name, table.get(name), method)
    present = {extension.extension_name: extension for extension in core._possible_extensions}
    for extension in extensions:
        _check_free("result extension", extension.extension_name, present.get(extension.extension_name), extension)
    for _, table, ours in tables:
        table.update(ours)
    _remove_import_hook()
    if DETECTORS_MODULE not in sys.modules:
        sys.meta_path.insert(0, _RegisterWhenImported())
    if any(present.get(extension.extension_name) is not extension for extension in extensions):
        # all of them anew, so that after a reload no child hangs on a class that is gone
        _remove_extensions(core, extensions)
        for extension in extensions:
            core.register_result_extension(extension)
            # SpikeInterface deletes the children of required parents only; what came from an optional one is as stale
            for parent in extension.get_optional_dependencies():
                core._extension_children[parent].append(extension.extension_name)


def unregister() -> None:
    """Take si_neuroml's methods and extensions out of SpikeInterface's tables again."""
    _remove_import_hook()
    for _, table, ours in _method_tables():
        for name, method in ours.items():
            if name in table and _same_thing(table[name], method):
                del table[name]
    _remove_extensions(*_extensions())


def registered_methods() -> list[str]:
    """Names of our methods for peaks, to localize and to detect them, that SpikeInterface knows now."""
    tables = [entry for entry in _method_tables() if entry[0].startswith("peak-")]
    return sorted(
        name
        for _, table, ours in tables
        for name, method in ours.items()
        if name in table and _same_thing(table[name], method)
    )


def registered_extensions() -> list[str]:
    """Names of our analyzer extensions that SpikeInterface knows now."""
    core, extensions = _extensions()
    return sorted(
        extension.extension_name
        for extension in extensions
        if any(_same_thing(extension, other) for other in core._possible_extensions)
    )


def _remove_extensions(core, extensions):
    """Undo register_result_extension(), which has no inverse: the list, and the children that parents delete."""
    ours = [other for other in core._possible_extensions if any(_same_thing(other, own) for own in extensions)]
    names = {extension.extension_name for extension in ours}
    # in place: other modules may hold the list and the dict
    core._possible_extensions[:] = [other for other in core._possible_extensions if other not in ours]
    for name in names:
        core._extension_children.pop(name, None)
    for children in core._extension_children.values():
        children[:] = [child for child in children if child not in names]


def _check_free(what, name, present, ours):
    if present is not None and not _same_thing(present, ours):
        raise RegistrationError(
            f"SpikeInterface already has a {what} {name!r}, from {present.__module__}. Two packages cannot "
            "share a name: import only one of them, or call unregister() of the other one first."
        )


def _same_thing(one, other):
    # by name: a reloaded module (notebook autoreload) makes new class objects of the same thing
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
