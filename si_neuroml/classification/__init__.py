"""What every classifier of units or cells shares: inputs, folds of subjects, calibration, scores, trees as arrays."""
