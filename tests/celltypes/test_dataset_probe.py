"""What tells data sets apart, and features that depend on the stimulus."""

import json

import numpy as np
import pandas as pd
import pytest
from cell_helpers import cells
from planted_cells import TYPES, planted

from si_neuroml.celltypes.baselines import SimpleClassifier
from si_neuroml.celltypes.cell_streams import CellStream
from si_neuroml.celltypes.dataset import CellDataset
from si_neuroml.celltypes.dataset_probe import dataset_probe
from si_neuroml.celltypes.evaluation import evaluate_cell_type_models
from si_neuroml.celltypes.features import EP_FEATURE_NAMES
from si_neuroml.celltypes.onset_free import onset_dependent, onset_free
from si_neuroml.celltypes.splits import split_cells
from si_neuroml.errors import InputError


@pytest.mark.parametrize("mix", [0.0, 0.8])
def test_probe_finds_a_shift_of_a_data_set_and_not_its_mixture_of_types(mix):
    same = dataset_probe(planted(signal=4.0, mix=mix), num_folds=3, num_resamples=200)
    assert same.interval[0] < 0.5 < same.interval[1] + 0.03
    assert abs(same.balanced_accuracy - 0.5) < 0.1
    moved = dataset_probe(planted(signal=4.0, mix=mix, shift=6.0), num_folds=3, num_resamples=200)
    assert moved.balanced_accuracy > 0.97
    assert moved.interval[0] > 0.9
    assert moved.features.index[0] == "place"
    assert moved.features["alone"].iloc[0] > 0.97
    assert moved.features["alone"].iloc[1] < 0.65
    assert moved.chance == 0.5


def test_probe_finds_what_only_one_data_set_lacks():
    found = dataset_probe(planted(missing=1.0), num_resamples=50)
    assert found.balanced_accuracy == 1.0
    assert found.features.index[0] == "last"
    assert found.features.loc["last", "missing"] == 1.0
    without = dataset_probe(planted(missing=1.0), feature_names=["type", "place"], num_folds=3, num_resamples=50)
    assert without.balanced_accuracy < 0.65


def test_probe_asks_only_about_types_of_several_data_sets():
    data = planted(600, shift=6.0)
    one_sided = data.select((data.labels != "Sst") | (data.cells["dataset"] == "A").to_numpy())
    found = dataset_probe(one_sided, num_resamples=50)
    assert found.types.index.tolist() == ["Excitatory", "Pvalb"]
    assert found.num_left_out == (one_sided.labels == "Sst").sum()
    assert found.num_cells + found.num_left_out == len(one_sided)
    images = dataset_probe(CellDataset.concatenate([cells(60, seed=1, name="a"), cells(60, seed=2, name="b")]), "image")
    assert images.inputs == "image"
    assert images.balanced_accuracy < 0.75
    assert "Hz" in images.features.index[0]
    json.dumps(images.to_dict(), allow_nan=False)


def test_probe_and_baseline_look_at_streams_of_units():
    """A stream whose second bin is larger in laboratory B, and whose third tells types."""
    data = planted(300)
    codes, rng = np.searchsorted(TYPES, data.labels), np.random.default_rng(0)
    values = rng.normal(size=(len(data), 4)).astype("float32")
    values[:, 1] += 6.0 * (data.cells["dataset"] == "B")
    values[:, 2] += 4.0 * codes
    values[::9] = np.nan
    units = CellDataset(data.cells, streams={"acg": CellStream(values, {"lag_ms": np.arange(4.0)})})
    found = dataset_probe(units, ["acg"], num_folds=3, num_resamples=50)
    assert found.inputs == "acg"
    assert found.balanced_accuracy > 0.95
    assert found.features.index[0] == "acg 1"
    assert found.num_cells == np.isfinite(values).all(axis=1).sum()
    train, test = split_cells(units, num_folds=3).folds[0]
    said = SimpleClassifier("logistic_regression", units.select(train)).predict_proba(units.select(test))
    known = np.isfinite(values[test]).all(axis=1)
    assert (said.argmax(axis=1) == codes[test])[known].mean() > 0.9


def test_probe_of_three_data_sets():
    """Two of three data sets are alike: of each type two thirds can be told at best."""
    rng, num = np.random.default_rng(3), 600
    where = rng.integers(0, 3, num)
    table = pd.DataFrame(
        {
            "cell_id": np.arange(num),
            "label": TYPES[rng.integers(0, 2, num)],
            "donor": [f"d{k}" for k in rng.integers(0, 12, num)],
            "dataset": np.array(["A", "B", "C"])[where],
        }
    )
    features = np.column_stack([8.0 * (where == 2) + rng.normal(size=num), rng.normal(size=num)])
    found = dataset_probe(CellDataset(table, None, features, ("x", "y")), num_resamples=100)
    assert found.chance == pytest.approx(1 / 3)
    assert found.balanced_accuracy == pytest.approx(2 / 3, abs=0.06)
    assert found.interval[0] < 2 / 3 < found.interval[1]


def test_stimulus_dependent_features_are_named_and_removed():
    names = ("threshold_t_ramp", "fast_trough_t_long_square", "latency", "threshold_i_ramp", "peak_v_ramp", "tau")
    assert onset_dependent(names) == {
        "threshold_t_ramp": "clock",
        "fast_trough_t_long_square": "clock",
        "latency": "onset",
        "threshold_i_ramp": "protocol",
    }
    others = ("Latency @ +20pA current (ms)", "Rheobase (pA)", "Membrane time constant (ms)", "ISI adaptation index")
    assert list(onset_dependent(others)) == list(others[:2])
    own = onset_dependent(EP_FEATURE_NAMES)
    assert {name for name, kind in own.items() if kind == "onset"} == {
        *("first_threshold_s", "first_peak_s", "first_trough_s", "first_fast_trough_s"),
        *(f"{sweep}_{name}" for sweep in ("rheobase", "plus") for name in ("latency_s", "has_delay")),
    }
    assert onset_dependent(EP_FEATURE_NAMES, kinds=["protocol"]) == {"rheobase_pa": "protocol"}
    assert not {"first_peak_to_trough_s", "first_width_ms", "rheobase_mean_isi_s", "fi_slope_hz_per_pa"} & {*own}
    table = pd.DataFrame({"cell_id": range(2)})
    data = CellDataset(table, None, np.arange(12.0).reshape(2, 6), names)
    free = onset_free(data)
    assert free.feature_names == ("peak_v_ramp", "tau")
    np.testing.assert_array_equal(free.features, data.features[:, 4:])
    assert onset_free(data, ["clock"], also=["tau"], keep=["threshold_t_ramp"]).feature_names == (
        *("threshold_t_ramp", "latency", "threshold_i_ramp", "peak_v_ramp"),
    )


def test_what_cannot_be_probed_is_refused():
    data = planted()
    with pytest.raises(InputError, match="in two data sets each"):
        dataset_probe(data.select((data.cells["dataset"] == "A").to_numpy()))
    # a data set of one donor: leaving the donor out leaves nothing of it
    lone = data.select((data.cells["dataset"] == "A").to_numpy() | (data.cells["donor"] == "d1").to_numpy())
    with pytest.raises(InputError, match="cells of 2 donors"):
        dataset_probe(lone, min_cells=2)
    with pytest.raises(InputError, match=r"has \['features'\] to look at, not \['image'\]"):
        dataset_probe(data, "image")
    with pytest.raises(InputError, match=r"not \['sweeps'\]"):
        dataset_probe(data, ["features", "sweeps"])
    asked = evaluate_cell_type_models(data, splits=["donor"], num_folds=2, num_resamples=10, probe=())
    assert not asked.probes
    with pytest.warns(UserWarning, match="is not known"):
        evaluate_cell_type_models(lone, splits=["donor"], num_resamples=10)
    with pytest.raises(InputError, match="no features"):
        onset_free(data, also=["age"])
    with pytest.raises(InputError, match="Kinds of dependence"):
        onset_free(data, ["age"])
    timed = CellDataset(pd.DataFrame({"cell_id": [1]}), None, [[1.0]], ("peak_t",))
    with pytest.raises(InputError, match="none is left"):
        onset_free(timed)
