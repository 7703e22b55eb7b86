"""The hippocampus: scans become cues, cues become scans again."""
