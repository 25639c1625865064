"""The only file that touches SpikeInterface's tables.

SpikeInterface has no plugin hook for peak-localization methods: they live in a plain dict. What is added there is
found by ``localize_peaks``, ``analyzer.compute("spike_locations")``, motion correction and the benchmark studies.
Workers never look into the table (nodes travel by class), so registering in the parent process is enough.
"""

from .errors import RegistrationError

__all__ = ["register", "registered_methods", "unregister"]


def _localization_methods() -> tuple[dict, dict]:
    """SpikeInterface's table of localizers, and what we add to it."""
    from spikeinterface.sortingcomponents.peak_localization.method_list import peak_localization_methods

    from .localization.hmc_node import LocalizeHMC
    from .localization.neural_posterior_node import LocalizeNeuralPosterior
    from .localization.nodes import LocalizeNearestCenterOfMass, LocalizeVAE

    methods = (LocalizeNeuralPosterior, LocalizeVAE, LocalizeNearestCenterOfMass, LocalizeHMC)
    return peak_localization_methods, {method.name: method for method in methods}


def register() -> None:
    """Add si_neuroml's methods to SpikeInterface; ``import si_neuroml`` does it. Calling it again changes nothing.

    Raises
    ------
    RegistrationError
        When a name is taken by another package; then nothing is added.
    """
    table, ours = _localization_methods()
    for name, method in ours.items():
        present = table.get(name)
        if present is not None and not _same_class(present, method):
            raise RegistrationError(
                f"SpikeInterface already has a peak-localization method {name!r}, from {present.__module__}. Two "
                "packages cannot share a name: import only one of them, or call unregister() of the other one first."
            )
    table.update(ours)


def unregister() -> None:
    """Take si_neuroml's methods out of SpikeInterface's tables again."""
    table, ours = _localization_methods()
    for name, method in ours.items():
        if name in table and _same_class(table[name], method):
            del table[name]


def registered_methods() -> list[str]:
    """Names of our peak-localization methods that SpikeInterface knows now."""
    table, ours = _localization_methods()
    return sorted(name for name, method in ours.items() if name in table and _same_class(table[name], method))


def _same_class(one, other):
    # by name: a reloaded module (notebook autoreload) makes new class objects of the same thing
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
