"""Training scenes: repeatable, rightly labelled; and a training that can be interrupted."""

import numpy as np
import pytest
import torch

from training.augmentation import Augmentation, stretch_matrices
from training.currents import load_currents
from training.examples import MAX_CHANNELS, NUM_AFTER, NUM_BEFORE, examples_of, nearest_channels
from training.probes import Probe
from training.scenes import HELD_OUT_MODELS, cell_models, make_scene
from training.train_posterior import Batches, find_shards, train

DURATION_S = 1.0


@pytest.fixture(scope="module")
def currents():
    return load_currents()


@pytest.fixture(scope="module")
def scene(currents):
    x, y = np.meshgrid(np.arange(5) * 20.0, np.arange(5) * 20.0)
    contacts = np.column_stack([x.ravel(), y.ravel(), np.zeros(25)])
    return make_scene(currents, cell_models(currents, held_out=True), Probe(contacts, 8.0, "square"), 7, DURATION_S)


def test_held_out_models_stay_out(currents, scene):
    assert set(HELD_OUT_MODELS) < set(currents)
    assert len(cell_models(currents, held_out=True)) == len(currents) - len(HELD_OUT_MODELS) == 8
    assert not set(scene.models) & set(HELD_OUT_MODELS)


def test_same_seed_same_scene(currents, scene):
    again = make_scene(currents, cell_models(currents, held_out=True), scene.probe, 7, DURATION_S)
    np.testing.assert_array_equal(again.traces, scene.traces)
    other = make_scene(currents, cell_models(currents, held_out=True), scene.probe, 8, DURATION_S)
    assert other.somas.shape != scene.somas.shape or not np.allclose(other.somas, scene.somas)


def test_labels_are_the_cells_places(scene):
    examples = examples_of(scene, 0)
    real = examples.cell >= 0
    assert 0.3 < real.mean() <= 1.0
    expected = scene.somas[examples.cell[real]] - scene.probe.contacts[examples.channel[real]]
    np.testing.assert_allclose(examples.place[real], expected, atol=1e-4)
    assert np.all(examples.place[~real] == 0)
    # the waveform on the centre channel is the trace around the peak: its trough is at the peak of a detected spike
    detected = ~examples.sorted_spike
    center = examples.waveforms[detected, 0]
    assert np.all(center[:, NUM_BEFORE] <= center[:, NUM_BEFORE - 2 : NUM_BEFORE + 3].min(axis=1) + 1e-4)


def test_owners_are_seen_on_the_centre_channel(scene):
    """Of what is called a cell's spike, the cell's own template is a large part."""
    examples = examples_of(scene, 0)
    own = np.flatnonzero((examples.cell >= 0) & ~examples.sorted_spike & ~examples.collision)
    troughs = -scene.templates[examples.cell[own], examples.channel[own]].min(axis=1)
    depth = -examples.waveforms[own, 0, NUM_BEFORE]
    assert np.corrcoef(troughs, depth)[0, 1] > 0.9


def test_slots_are_the_nearest_channels(scene):
    neighbours = nearest_channels(scene.probe.contacts)
    assert neighbours.shape == (25, MAX_CHANNELS)
    np.testing.assert_array_equal(neighbours[:, 0], np.arange(25))
    assert np.all(neighbours[:, 25:] == -1)
    assert examples_of(scene, 0).waveforms.shape[1:] == (MAX_CHANNELS, NUM_BEFORE + NUM_AFTER)


def random_examples(count=600, rows=12, seed=0):
    rng = np.random.default_rng(seed)
    offsets = rng.uniform(-60, 60, (rows, MAX_CHANNELS, 3)).astype("float32")
    offsets[:, :, 2] = 0
    offsets[:, 28:] = np.nan
    return {
        "coefficients": rng.normal(0, 10, (count, MAX_CHANNELS, 32)).astype("float16"),
        "geometry_row": rng.integers(0, rows, count).astype("int32"),
        "place": rng.normal(0, 20, (count, 3)).astype("float32"),
        "log_source_amplitude": rng.normal(5, 1, count).astype("float32"),
        "false_peak": rng.random(count) < 0.1,
        "collision": rng.random(count) < 0.2,
        "sorted_spike": rng.random(count) < 0.2,
        "noise_uv": np.full(count, 5.0, "float32"),
        "upright": rng.random(count) < 0.5,
        "cell_model": rng.integers(0, 3, count).astype("int8"),
        "offsets": offsets,
    }


class Interrupted(Batches):
    """Breaks off after some batches."""

    left = 7

    def batch(self, index, generator=None):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().batch(index, generator)


SETTINGS = {
    "steps": 10,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "seed": 3,
    "network": {"basis_size": 32},
    "save_every": 3,
}


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    examples = random_examples()
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(examples), SETTINGS, tmp_path / "broken")
    resumed = train(Batches(examples), SETTINGS, tmp_path / "broken").state_dict()
    whole = train(Batches(examples), SETTINGS).state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-5, atol=1e-6)


def basis_of_cosines():
    samples = np.arange(NUM_BEFORE + NUM_AFTER)
    return np.linalg.qr(np.cos(np.pi * np.outer(samples + 0.5, np.arange(32)) / len(samples)))[0]


def test_augmentation_moves_places_with_contacts():
    """One turn and one size for the contacts and the soma, so that the two still fit."""
    examples = random_examples()
    index = np.arange(400)
    plain = Batches(examples).batch(index)
    changed = Batches(examples, Augmentation(basis_of_cosines())).batch(index, torch.Generator().manual_seed(0))
    upright = torch.from_numpy(examples["upright"][index])
    ratio = changed[3] / plain[3]
    assert 0.4 < float((ratio[upright][:, 0] < 0).float().mean()) < 0.6  # upright cells: mirrored at most
    assert torch.all(ratio[upright][:, 1:] > 0)
    assert float((changed[3] - plain[3])[~upright].norm(dim=1).median()) > 5  # the others: turned
    # the size, which the depth shows, is that of all distances in the plane, up to the small part of each axis
    size = ratio[:, 2]
    assert 0.08 < float(size.log().std()) < 0.18
    before, after = ((x[1] - x[3][:, None])[..., :2].norm(dim=2) for x in (plain, changed))
    torch.testing.assert_close(after / before, size[:, None].expand_as(before), rtol=0.2, atol=0)
    assert torch.all(changed[2][:, 0] == 1)  # the centre channel is never left out
    assert torch.all(changed[0][changed[2] == 0] == 0)
    louder = (changed[0][:, 0].norm(dim=1) / plain[0][:, 0].norm(dim=1)).log()
    assert float(np.corrcoef(louder, changed[4] - plain[4])[0, 1]) > 0.7  # the amplitude grows with the waveform


def test_stretched_waveforms_last_longer():
    basis = basis_of_cosines()
    samples = np.arange(NUM_BEFORE + NUM_AFTER) - NUM_BEFORE
    for factor, matrix in zip((0.9, 1.0, 1.2), stretch_matrices(basis, np.array([0.9, 1.0, 1.2])), strict=True):
        coefficients = np.exp(-0.5 * (samples / 6.0) ** 2) @ basis
        expected = np.exp(-0.5 * (samples / (6.0 * factor)) ** 2)
        np.testing.assert_allclose(coefficients @ matrix @ basis.T, expected, atol=0.02)


def test_restricted_batches_hold_cells_of_these_models_and_false_peaks():
    examples = random_examples()
    batches = Batches(examples)
    batches.restrict([1])
    assert 0 < len(batches) < 600
    assert set(examples["cell_model"][batches.rows][~examples["false_peak"][batches.rows]]) == {1}
    assert examples["false_peak"].sum() == examples["false_peak"][batches.rows].sum()


def test_missing_shards_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="make_scenes"):
        find_shards([tmp_path], ["all"])
