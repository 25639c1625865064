"""The default network in numba: against torch, against any cut into chunks, and without torch."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from si_neuroml.errors import InputError
from si_neuroml.events.networks import build_network
from si_neuroml.events.strided_network import StridedScorer
from si_neuroml.training import seeded


def network(seed=0, **options):
    with seeded(seed):
        return build_network("strided", **options).eval()


DEFAULT = StridedScorer.from_network(network())
TRACE = (3 * np.random.default_rng(0).normal(size=(2, 6001))).astype("float32")
WHOLE = DEFAULT.scores(TRACE)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 4, 5, 127, 500, 1543, 1544, 1545, 5000])
@pytest.mark.parametrize(
    "options", [{}, {"channels": 5, "dilations": [1, 3]}, {"channels": 24}, {"channels": 2, "dilations": [7]}]
)
def test_scores_are_those_of_torch(num_samples, options):
    net = network(seed=1, **options)
    # large values too: events of a bright cell
    x = TRACE[:, :num_samples] * np.array([[1.0], [20.0]], "float32")
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    found = StridedScorer.from_network(net).scores(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 6000), st.integers(1, 3000), st.integers(0, 40), st.integers(0, 40))
def test_scores_are_the_same_bits_in_any_chunk(start, length, more_before, more_after):
    stop = min(start + length, TRACE.shape[1])
    first = max(0, (start - DEFAULT.before - more_before) // 4 * 4)
    last = min(TRACE.shape[1], max(stop + DEFAULT.after + more_after, 128))
    if last == TRACE.shape[1]:
        # a mirror at the true end needs as much behind it as it shows
        first = max(0, min(first, (last - 128) // 4 * 4))
    part = DEFAULT.scores(TRACE[:, first:last])[:, start - first : stop - first]
    np.testing.assert_array_equal(part, WHOLE[:, start:stop])


def test_nothing_beyond_the_stated_reach_moves_a_score():
    for at in range(3000, 3004):
        changed = TRACE.copy()
        changed[:, : at - DEFAULT.before] += 5.0
        changed[:, at + DEFAULT.after + 1 :] += 5.0
        np.testing.assert_array_equal(DEFAULT.scores(changed)[:, at], WHOLE[:, at])


def test_channels_are_independent_and_layout_does_not_matter():
    np.testing.assert_array_equal(DEFAULT.scores(TRACE[1:]), WHOLE[1:])
    np.testing.assert_array_equal(DEFAULT.scores(np.asfortranarray(TRACE)), WHOLE)
    np.testing.assert_array_equal(DEFAULT.scores(TRACE[::-1]), WHOLE[::-1])
    assert DEFAULT.scores(np.zeros((3, 0), "float32")).shape == (3, 0)


def test_threads_share_a_scorer():
    chunks = [TRACE[:, shift : shift + 3000] for shift in range(0, 400, 8)]
    expected = [DEFAULT.scores(chunk) for chunk in chunks]
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(DEFAULT.scores, chunks)), expected)


def test_scorers_travel_as_pickles_and_as_arrays():
    scorer = StridedScorer.from_network(network(channels=6, dilations=[2, 1]))
    again = StridedScorer.from_arrays(scorer.to_arrays(), **scorer.settings())
    for other in (again, pickle.loads(pickle.dumps(scorer))):
        np.testing.assert_array_equal(other.scores(TRACE[:, :300]), scorer.scores(TRACE[:, :300]))
        assert (other.before, other.after, other.alignment) == (scorer.before, scorer.after, 4)
    net = build_network("strided", **scorer.settings())
    net.load_state_dict({name: torch.from_numpy(value) for name, value in scorer.to_arrays().items()})
    assert net.before == scorer.before == 4 * 7 + 3


def test_wrong_weights_are_refused():
    arrays = DEFAULT.to_arrays()
    with pytest.raises(InputError, match=r"body.3.bias"):
        StridedScorer.from_arrays(arrays, dilations=[1, 2, 4])
    with pytest.raises(InputError, match="head"):
        StridedScorer.from_arrays(arrays | {"head.weight": np.zeros((4, 15, 1))}, dilations=[1, 2, 4, 8])
    with pytest.raises(InputError, match="17 channels"):
        StridedScorer.from_arrays(arrays, dilations=[1, 2, 4, 8], channels=17)
    with pytest.raises(InputError, match="at most"):
        StridedScorer.from_arrays(arrays, dilations=[1, 2, 4, 80])


def test_inference_needs_no_torch():
    code = "import sys, si_neuroml.events.strided_network, si_neuroml.events.picking; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
