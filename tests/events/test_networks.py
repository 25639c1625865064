"""The torch networks: sizes, what each logit depends on, and scorers that do not care about chunks."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from si_neuroml.errors import InputError
from si_neuroml.events.networks import NETWORK_NAMES, build_network
from si_neuroml.events.sequence_networks import forgetting_samples
from si_neuroml.events.torch_scorer import TorchScorer
from si_neuroml.training import one_thread, seeded

# small enough for many tests, with every kind of layer
SMALL = {
    "strided": {"channels": 4, "dilations": [1, 2]},
    "unet": {"channels": [3, 4, 5], "kernel_size": 3},
    "bilstm": {"hidden_size": 5, "num_layers": 2, "window": 60, "overlap": 20},
    "tcn": {"channels": [4, 5]},
    "tcn_two_sided": {"channels": [4, 4]},
    "transformer": {"d_model": 8, "num_heads": 2, "num_layers": 1, "dim_feedforward": 8, "window": 60, "overlap": 20},
}
CONVOLUTIONS = [name for name in NETWORK_NAMES if name not in ("bilstm", "transformer")]


def network(name, seed=0, **settings):
    with seeded(seed):
        return build_network(name, **(settings or SMALL[name])).eval()


def traces(num_channels, num_samples, seed=0):
    return (3 * np.random.default_rng(seed).normal(size=(num_channels, num_samples))).astype("float32")


@pytest.mark.parametrize(
    ("name", "settings", "num_weights"),
    [
        ("strided", {}, 16 * 4 * 3 + 16 + 4 * (16 * 16 * 5 + 16) + 4 * 16 + 4),
        ("unet", {}, 27_137),
        # two directions of four gates
        ("bilstm", {}, 2 * 4 * (64 + 64 * 64 + 2 * 64) + 129),
        ("bilstm", {"num_layers": 2}, 2 * 4 * (64 + 64 * 64 + 2 * 64) + 2 * 4 * (64 * 128 + 64 * 64 + 2 * 64) + 129),
        ("tcn", {}, 434_977),
        ("tcn_two_sided", {}, 434_977),
        ("transformer", {}, 128 + 6 * (4 * 64 * 65 + 2 * 64 * 128 + 128 + 64 + 4 * 64) + 65),
    ],
)
def test_sizes(name, settings, num_weights):
    built = build_network(name, **settings)
    assert sum(weight.numel() for weight in built.parameters()) == num_weights


def test_default_is_the_strided_network_and_its_reach_is_stated():
    built = build_network()
    assert type(built).__name__ == "StridedNetwork"
    assert (built.before, built.after, built.alignment) == (127, 127, 4)
    unet = build_network("unet")
    assert (unet.before, unet.after, unet.alignment) == (81, 81, 8)
    tcn, both = build_network("tcn"), build_network("tcn_two_sided")
    assert (tcn.before, tcn.after, both.before, both.after) == (60, 0, 30, 30)
    lstm = build_network("bilstm")
    assert (lstm.before, lstm.after, lstm.alignment, lstm.context) == (474, 474, 450, (25, 25))


@pytest.mark.parametrize("name", NETWORK_NAMES)
@pytest.mark.parametrize("num_samples", [1, 2, 7, 60, 201])
def test_any_length_in_is_the_length_out(name, num_samples):
    x = torch.from_numpy(traces(3, num_samples))
    logits = network(name)(x)
    assert logits.shape == x.shape
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("default", [True, False])
def test_a_logit_depends_on_exactly_the_stated_samples(name, default):
    net = build_network(name).eval() if default else network(name)
    with torch.no_grad():
        for weight in net.parameters():
            weight.abs_()  # positive weights and inputs: no ReLU is closed and nothing cancels
    middle = -(-(net.before + 8) // 8) * 8
    before, after = [], []
    for sample in range(middle, middle + net.alignment):
        x = torch.ones((1, 2 * middle + 16), requires_grad=True)
        net(x)[0, sample].backward()
        touched = x.grad[0].nonzero()[:, 0]
        before.append(sample - int(touched.min()))
        after.append(int(touched.max()) - sample)
    assert (max(before), max(after)) == (net.before, net.after)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_beyond_its_ends_a_trace_goes_on_reflected(name):
    net, x = network(name), traces(2, 64)
    longer = np.pad(x, ((0, 0), (32, 32)), mode="reflect")
    with torch.no_grad():
        found, expected = net(torch.from_numpy(x)), net(torch.from_numpy(longer))[:, 32:-32]
    # the samples added reach further than any of these networks looks
    assert max(net.before, net.after) <= 32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_settings_build_it_again(name):
    net = network(name)
    again = build_network(name, **net.settings())
    again.load_state_dict(net.state_dict())
    x = torch.from_numpy(traces(1, 100))
    assert torch.equal(again.eval()(x), net(x))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lstm", {}, "no network"),
        ("strided", {"width": 3}, "width"),
        ("strided", {"channels": 0}, "channels"),
        ("strided", {"dilations": []}, "dilations"),
        ("unet", {"kernel_size": 4}, "odd"),
        ("tcn_two_sided", {"kernel_size": 2}, "odd"),
        ("bilstm", {"window": 50, "overlap": 50}, "overlap"),
        ("transformer", {"d_model": 10, "num_heads": 4}, "d_model"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(name, settings, message):
    with pytest.raises(InputError, match=message):
        build_network(name, **settings)


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_scores_are_the_same_bits_in_any_chunk(name):
    settings = {} if name in ("strided", "unet", "bilstm") else SMALL[name]
    scorer = TorchScorer.from_network(name, network(name, **settings))
    num_samples = 4 * scorer.alignment + 300
    x = traces(2, num_samples)
    whole = scorer.scores(x)
    assert whole.dtype == np.float32
    rng = np.random.default_rng(1)
    for start, stop in [(0, num_samples), *(sorted(rng.choice(num_samples, 2, replace=False)) for _ in range(8))]:
        first = max(0, (start - scorer.before) // scorer.alignment * scorer.alignment)
        last = min(num_samples, max(stop + scorer.after, scorer.before + 1))
        part = scorer.scores(x[:, first:last])[:, start - first : stop - first]
        np.testing.assert_array_equal(part, whole[:, start:stop])


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_nothing_beyond_the_stated_reach_moves_a_score(name):
    scorer = TorchScorer.from_network(name, network(name))
    at, num_samples = 3 * scorer.alignment + 11, 6 * scorer.alignment
    x = traces(1, num_samples)
    changed = x.copy()
    changed[:, : at - scorer.before] += 5.0
    changed[:, at + scorer.after + 1 :] += 5.0
    assert scorer.scores(changed)[0, at] == scorer.scores(x)[0, at]


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_scores_are_those_of_the_network(name):
    net = network(name)
    x = traces(2, 900)
    found = TorchScorer.from_network(name, net).scores(x)
    with torch.no_grad():
        if name in CONVOLUTIONS:
            expected = net(torch.from_numpy(x)).numpy()
        else:
            # windows of 60 with steps of 40: 10 samples before and after are not kept
            padded = torch.from_numpy(np.pad(x, ((0, 0), (10, 50)), mode="reflect"))
            expected = torch.cat([net(padded[:, start : start + 60])[:, 10:50] for start in range(0, 900, 40)], dim=1)
            expected = expected[:, :900].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_scorers_travel_as_pickles_and_as_arrays(name):
    scorer = TorchScorer.from_network(name, network(name))
    x = traces(1, 700)
    expected = scorer.scores(x)
    assert scorer.__getstate__()["_module"] is None
    travelled = pickle.loads(pickle.dumps(scorer))
    stored = TorchScorer.from_arrays(scorer.to_arrays(), **scorer.settings())
    for other in (travelled, stored):
        np.testing.assert_array_equal(other.scores(x), expected)
        assert (other.before, other.after, other.alignment) == (scorer.before, scorer.after, scorer.alignment)


def test_scoring_leaves_torch_as_it_was_and_works_from_threads():
    scorer = TorchScorer.from_network("unet", network("unet"))
    chunks = [traces(1, 2000, seed) for seed in range(6)]
    expected = [scorer.scores(chunk) for chunk in chunks]
    torch.manual_seed(3)
    state, num_threads = torch.random.get_rng_state(), torch.get_num_threads()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(pickle.loads(pickle.dumps(scorer)).scores, chunks))
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == num_threads


def test_no_samples_and_wrong_weights():
    scorer = TorchScorer.from_network("unet", network("unet"))
    assert scorer.scores(np.zeros((2, 0), "float32")).shape == (2, 0)
    arrays = scorer.to_arrays()
    arrays["head.bias"] = np.zeros(3, "float32")
    with pytest.raises(InputError, match="head.bias"):
        TorchScorer.from_arrays(arrays, **scorer.settings())


def leaky_lstm(forget):
    """A bidirectional LSTM of known memory: each step keeps the share `forget` of the cell, gates see no state."""
    net = network("bilstm", hidden_size=4, window=500, overlap=50)
    size = 4
    with torch.no_grad():
        for suffix in ("", "_reverse"):
            getattr(net.lstm, f"weight_hh_l0{suffix}").zero_()
            weight = getattr(net.lstm, f"weight_ih_l0{suffix}")
            weight.zero_()
            weight[2 * size : 3 * size] = 0.01  # the cell's input only, small: tanh is linear
            bias = getattr(net.lstm, f"bias_ih_l0{suffix}")
            bias.zero_()
            bias[size : 2 * size] = math.log(forget / (1 - forget))
            getattr(net.lstm, f"bias_hh_l0{suffix}").zero_()
    return net


@pytest.mark.parametrize("forget", [0.7, 0.9])
def test_forgetting_is_that_of_the_cell(forget):
    net = leaky_lstm(forget)
    x = torch.from_numpy(traces(8, 600))
    far = forgetting_samples(net, x, tolerance=1e-4)
    # a difference that may be forget^10 as large takes ten samples more
    assert forgetting_samples(net, x, tolerance=1e-4 * forget**10) - far == pytest.approx(10, abs=1)
    assert 0 < far < 200
    assert forgetting_samples(net, x, tolerance=10.0) == 0


def test_windows_are_as_good_as_the_whole_trace_once_the_overlap_covers_the_forgetting():
    net = leaky_lstm(0.7)
    x = traces(1, 3000)
    tolerance = 1e-4
    assert forgetting_samples(net, torch.from_numpy(x), tolerance) <= net.overlap // 2
    found = TorchScorer.from_network("bilstm", net).scores(x)
    with torch.no_grad(), one_thread():
        whole = net(torch.from_numpy(x)).numpy()
    inner = slice(net.overlap, -net.overlap)
    np.testing.assert_allclose(found[:, inner], whole[:, inner], atol=3 * tolerance)
    # and not if the cell remembers for longer
    slow = leaky_lstm(0.97)
    with torch.no_grad():
        apart = TorchScorer.from_network("bilstm", slow).scores(x) - slow(torch.from_numpy(x)).numpy()
    assert np.abs(apart[:, inner]).max() > 10 * tolerance
    assert forgetting_samples(slow, torch.from_numpy(x), tolerance) > slow.overlap // 2
