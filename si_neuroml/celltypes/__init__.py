"""What type of neuron is this? Scalograms and features of current-clamp sweeps and of sorted units."""
