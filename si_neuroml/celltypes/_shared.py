"""What this room takes from shared files, named in one place."""

from ..regions.folds import group_folds, mean_log_loss
from ..regions.preparation import Preparation, arrays_of, check_training_set, class_weights
from ..regions.probability_calibration import TemperatureCalibration
from ..regions.tree_arrays import TreeArrays
from ..regions.wholefile import whole_file

__all__ = [
    "Preparation",
    "TemperatureCalibration",
    "TreeArrays",
    "arrays_of",
    "check_training_set",
    "class_weights",
    "group_folds",
    "mean_log_loss",
    "whole_file",
]
