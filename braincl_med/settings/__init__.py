"""Settings of an experiment: every key, its default and its limits, and how they are read."""
