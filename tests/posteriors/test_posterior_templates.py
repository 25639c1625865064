"""Units from their templates: SpikeInterface's own name for it, and templates of every kind."""

import numpy as np
import pytest
import spikeinterface.full as si
from posterior_helpers import QUIET, array_recording, assert_close, assert_proper, assert_same, places

from si_neuroml.errors import InputError
from si_neuroml.localization.recordings import trace_info
from si_neuroml.localization.unit_templates import contacts_of, template_posteriors


def test_unit_locations_by_its_own_name(analyzer):
    analyzer = analyzer.copy()
    found = analyzer.compute("unit_locations", method="neural_posterior").get_data()
    np.testing.assert_array_equal(found, places(template_posteriors(analyzer)))
    merged = analyzer.merge_units([["unit a", "unit d"]], new_unit_ids=["both"], merging_mode="hard", **QUIET)
    assert merged.get_extension("unit_locations").get_data().shape == (20, 3)
    few = template_posteriors(analyzer, unit_ids=["unit c", "unit a"])
    np.testing.assert_array_equal(places(few), found[[2, 0]])
    with pytest.raises(InputError, match=r"no units \['nobody'\]"):
        template_posteriors(analyzer, unit_ids=["nobody"])


def test_templates_object_short_windows_and_raw_units(recording, traces, named, analyzer):
    wide = template_posteriors(analyzer)
    assert_same(template_posteriors(analyzer.get_extension("templates").get_data(outputs="Templates")), wide)
    narrow = analyzer.copy()
    narrow.compute("templates", ms_before=0.6, ms_after=0.8, **QUIET)
    found = template_posteriors(narrow)
    assert_proper(found)
    assert np.median(np.linalg.norm(places(found, "xy") - places(wide, "xy"), axis=1)) < 8.0
    raw = array_recording(np.round((traces - 37.0) / 0.05).astype("int16"), recording, gain=0.05, offset=37.0)
    analyzer = si.create_sorting_analyzer(named, raw, sparse=False, return_in_uV=False, job_kwargs=QUIET)
    analyzer.compute(["random_spikes", "templates"], **QUIET)
    raw_posteriors = template_posteriors(analyzer)
    assert raw_posteriors["outlier_probability"][-1] == 1.0
    np.testing.assert_allclose(places(raw_posteriors), places(wide), atol=1.0)


def test_contacts_of_an_analyzer_are_those_of_its_recording(traces, recording, sorting):
    """Wired out of order, on two shanks; a unit's template must find the channels that its spikes found."""
    probe = recording.get_probe().copy()
    order = np.random.default_rng(0).permutation(100)
    probe.set_device_channel_indices(order)
    probe.set_shank_ids(np.where(probe.contact_positions[:, 0] > 0, "right", "left"))
    wired = np.empty_like(traces)
    wired[:, order] = traces
    other = array_recording(wired, recording, probe=probe)
    analyzer = si.create_sorting_analyzer(sorting, other, sparse=False, job_kwargs=QUIET)
    analyzer.compute(["random_spikes", "templates"], **QUIET)
    locations, shanks = contacts_of(analyzer)
    info = trace_info(other)
    np.testing.assert_array_equal(locations, info.contact_locations)
    np.testing.assert_array_equal(shanks, info.shank_indices)
    assert_close(
        template_posteriors(analyzer),
        template_posteriors(analyzer.get_extension("templates").get_data(outputs="Templates")),
    )


def test_upright_templates(analyzer):
    templates = analyzer.get_extension("templates").get_data(outputs="Templates")
    turned = type(templates)(
        templates_array=-templates.templates_array,
        sampling_frequency=templates.sampling_frequency,
        nbefore=templates.nbefore,
        unit_ids=templates.unit_ids,
        probe=templates.probe,
        is_in_uV=True,
    )
    assert_close(template_posteriors(turned, peak_sign="pos"), template_posteriors(analyzer))
