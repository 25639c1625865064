"""The support vector machine against scikit-learn, and its training set."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from si_neuroml.errors import InputError, TrainingError
from si_neuroml.events.spectrogram import MelSpectrogram
from si_neuroml.events.svm import SVMScorer

FS = 3328.0
DTYPE = [
    ("sample_index", "int64"),
    ("channel_index", "int64"),
    ("segment_index", "int64"),
    ("onset", "int64"),
    ("offset", "int64"),
]
SHAPE = np.array([3.0, 5.0, 4.0, 2.0, 1.0])


def simulated(seed=0, num=40, channels=2, gap=50):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(channels, gap * (num + 2))).astype("float32")
    events = np.zeros(num, dtype=DTYPE)
    events["sample_index"] = gap * (1 + np.arange(num)) + rng.integers(0, 20, num)
    events["channel_index"] = rng.integers(0, channels, num)
    events["onset"], events["offset"] = events["sample_index"], events["sample_index"] + len(SHAPE)
    for k, value in enumerate(SHAPE):
        x[events["channel_index"], events["sample_index"] + k] += value
    return x, events


def mask_of(x, events):
    mask = np.zeros(x.shape, dtype=bool)
    for event in events:
        mask[event["channel_index"], event["onset"] : event["offset"]] = True
    return mask


@pytest.fixture(scope="module")
def scorer():
    return SVMScorer.fit(*([part] for part in simulated()), FS, max_samples=1500)


@pytest.mark.parametrize("neighbours", [0, 1, 2])
def test_scores_equal_those_of_scikit_learn(neighbours):
    x, events = simulated(num=20)
    scorer = SVMScorer.fit([x], [events], FS, neighbours=neighbours, max_samples=None, C=10.0)
    spectrogram = MelSpectrogram(FS, neighbours=neighbours)
    features = np.concatenate([spectrogram.features(line) for line in x])
    labels = mask_of(x, events)[:, spectrogram.before : x.shape[1] - spectrogram.after].ravel()
    scaler = StandardScaler().fit(features)
    svc = SVC(C=10.0, gamma="scale", class_weight="balanced").fit(scaler.transform(features), labels)
    fresh = simulated(1, num=10)[0]
    for line, found in zip(fresh, scorer.scores(fresh), strict=True):
        expected = svc.decision_function(scaler.transform(spectrogram.features(line)))
        np.testing.assert_allclose(found[spectrogram.before : len(line) - spectrogram.after], expected, atol=1e-5)
        # without the rounding to float32
        np.testing.assert_allclose(scorer.decision(spectrogram.features(line)), expected, atol=1e-9)


def test_scores_tell_events_from_noise(scorer):
    x, events = simulated(2, num=100)
    scores = scorer.scores(x)
    assert scores.dtype == np.float32
    assert scores.shape == x.shape
    assert roc_auc_score(mask_of(x, events).ravel(), scores.ravel()) > 0.95


def test_same_bits_however_the_trace_is_cut(scorer):
    x = simulated(3)[0]
    whole = scorer.scores(x)
    for start, stop in ((7, 8), (7, 263), (100, 1200), (513, 2000)):
        part = scorer.scores(x[:, start - scorer.before : stop + scorer.after])
        np.testing.assert_array_equal(part[:, scorer.before : scorer.before + stop - start], whole[:, start:stop])


def test_short_traces(scorer):
    for num_samples in (0, 1, 5):
        scores = scorer.scores(np.ones((2, num_samples), dtype="float32"))
        assert scores.shape == (2, num_samples)
        assert np.isfinite(scores).all()


def test_scorer_comes_back_from_arrays_and_settings(scorer):
    again = SVMScorer.from_arrays(scorer.to_arrays(), **scorer.settings())
    x = simulated(4, num=5)[0]
    np.testing.assert_array_equal(again.scores(x), scorer.scores(x))
    assert (again.before, again.after, again.alignment) == (7, 6, 1)
    assert all(isinstance(array, np.ndarray) for array in scorer.to_arrays().values())


def test_training_set_is_capped_and_drawn_from_its_seed():
    x, events = simulated(num=100)
    made = [SVMScorer.fit([x], [events], FS, max_samples=600, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(made[0].support_vectors, made[1].support_vectors)
    assert (
        made[0].support_vectors.shape != made[2].support_vectors.shape
        or (made[0].support_vectors != made[2].support_vectors).any()
    )
    assert len(made[0].coefficients) <= 600


def test_negatives_left_out_hardly_matter():
    """Balanced weights make a class count the same however many of it there are."""
    x, events = simulated(5, num=100)
    capped, full = (SVMScorer.fit([x], [events], FS, C=1.0, max_samples=most) for most in (3000, None))
    fresh = simulated(6, num=40)[0]
    one, other = capped.scores(fresh).ravel(), full.scores(fresh).ravel()
    assert np.corrcoef(one, other)[0, 1] > 0.9


def test_events_without_intervals_count_around_their_time():
    x, events = simulated()
    plain = ["sample_index", "channel_index", "segment_index"]
    events["sample_index"] += 2
    one = SVMScorer.fit([x], [events], FS, max_samples=None, C=1.0)
    other = SVMScorer.fit([x], [events[plain]], FS, max_samples=None, C=1.0, half_width=2)
    np.testing.assert_array_equal(one.coefficients, other.coefficients)


# --- refusals


def test_one_class_cannot_be_learned():
    x, events = simulated()
    with pytest.raises(TrainingError, match="both kinds"):
        SVMScorer.fit([x], [events[:0]], FS)
    everywhere = np.zeros(1, dtype=DTYPE)
    everywhere["offset"] = x.shape[1]
    with pytest.raises(TrainingError, match="both kinds"):
        SVMScorer.fit([x[:1]], [everywhere], FS)


def test_odd_input_is_refused():
    x, events = simulated(num=5)
    with pytest.raises(InputError, match="max_samples"):
        SVMScorer.fit([x], [events], FS, max_samples=1)
    with pytest.raises(InputError, match="hold none of the frequencies"):
        SVMScorer.fit([x], [events], 30_000.0)
    with pytest.raises(InputError, match="not"):
        SVMScorer.fit([x * np.nan], [events], FS)
