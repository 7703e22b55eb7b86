"""Flower's programs and its `flwr` command: the one place that knows their flags, words, addresses and paths."""
