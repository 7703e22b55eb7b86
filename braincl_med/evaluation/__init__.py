"""Figures from counts: pure functions on arrays."""
