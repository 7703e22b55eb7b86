"""Formulas that draw synthetic scans, one file a modality."""
