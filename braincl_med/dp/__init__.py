"""Differential privacy: what a release costs, what it may cost in all, and how it is made."""
