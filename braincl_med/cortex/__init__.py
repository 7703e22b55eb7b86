"""The shared network: a backbone, and a classifier that grows."""
