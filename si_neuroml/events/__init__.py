"""When did this voltage trace hold an event? Networks, baselines, training, detection and scores."""
