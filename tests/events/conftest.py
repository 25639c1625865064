"""Fixtures of the tests of the events."""

import pytest
from events_helpers import make_recording


@pytest.fixture(scope="session")
def labelled():
    """A recording of two segments, 3 channels, and its 360 events."""
    return make_recording([12_000, 9001], num_events=60, seed=1)


@pytest.fixture(scope="session")
def matched_filter(labelled):
    """A matched filter fitted to it."""
    import si_neuroml

    return si_neuroml.fit_event_detector(*labelled, network="matched_filter")


@pytest.fixture(scope="session")
def strided(labelled):
    """The default network, fitted to it."""
    import si_neuroml

    return si_neuroml.fit_event_detector(
        *labelled, training_kwargs={"max_epochs": 4, "batch_size": 8}, progress_bar=False
    )
