"""Grids and presets are those of Pradeep, Agarwal and Advani."""

import itertools

from si_neuroml.events import search
from si_neuroml.events.cross_validation import fit_options
from si_neuroml.events.search import PAPER_GRIDS
from si_neuroml.events.spectrogram import MelSpectrogram
from si_neuroml.events.svm import SVMScorer


def combinations(grid):
    values = [(name, values) for part in grid.values() for name, values in part.items()]
    return [dict(zip([n for n, _ in values], each, strict=True)) for each in itertools.product(*[v for _, v in values])]


def test_grids_are_the_papers():
    transformer = combinations(PAPER_GRIDS["transformer"])
    expected = [(d, h, n) for d in (64, 128) for h in (4, 8) for n in (3, 6)]
    assert [tuple(each[k] for k in ("d_model", "num_heads", "num_layers")) for each in transformer] == expected
    assert len(transformer) == 8
    assert PAPER_GRIDS["svm"]["network_kwargs"]["C"] == (0.1, 1, 10, 100)
    widths = {
        MelSpectrogram(3328.0, neighbours=n).num_features for n in PAPER_GRIDS["svm"]["network_kwargs"]["neighbours"]
    }
    assert widths == {7, 21, 35}
    assert len(combinations(PAPER_GRIDS["svm"])) == 4 * 3
    assert combinations(PAPER_GRIDS["tcn"]) == [
        {
            "channels": (32, 64, 128, 256),
            "kernel_size": 3,
            "dropout": 0.002,
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "batch_size": 32,
        }
    ]
    assert {name for each in combinations(PAPER_GRIDS["bilstm"]) for name in each} >= {
        "learning_rate",
        "dropout",
        "hidden_size",
    }
    for network in ("transformer", "tcn", "bilstm"):
        values = search._grid_values(network, "paper")
        search._check_combinations(network, values, fit_options(network, "cell", {})[1])


def test_presets_are_the_papers():
    """Pradeep, Agarwal and Advani; what they do not say of a network is as for the TCN."""
    from si_neuroml.events.network_training import training_settings
    from si_neuroml.events.networks import build_network

    tcn = training_settings("tcn")
    assert (tcn.window, tcn.overlap) == (500, 50)
    assert (tcn.learning_rate, tcn.weight_decay, tcn.batch_size) == (1e-3, 1e-4, 32)
    assert (tcn.max_epochs, tcn.patience, tcn.class_weight) == (50, 10, None)
    assert training_settings("transformer").patience == 20
    assert training_settings("bilstm").max_epochs == 50
    network = build_network("tcn").settings()
    assert (network["channels"], network["kernel_size"], network["dropout"]) == ([32, 64, 128, 256], 3, 0.002)
    assert (build_network("tcn").before, build_network("tcn").after) == (60, 0)
    network = build_network("transformer").settings()
    assert [network[name] for name in ("d_model", "num_heads", "dim_feedforward", "dropout")] == [64, 4, 128, 0.1]
    assert network["num_layers"] == 6  # the best of its grid
    assert build_network("bilstm").settings()["hidden_size"] == 64
    assert build_network("bilstm").lstm.bidirectional
    for name in ("bilstm", "transformer"):
        assert (build_network(name).window, build_network(name).overlap) == (500, 50)
    assert SVMScorer.fit.__kwdefaults__["C"] == 100
    assert SVMScorer.fit.__kwdefaults__["neighbours"] == 1
    spectrogram = MelSpectrogram(3328.0)
    assert (spectrogram.frame_length, spectrogram.num_bands, spectrogram.num_features) == (12, 7, 21)
