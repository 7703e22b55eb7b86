"""Scans become tasks."""
