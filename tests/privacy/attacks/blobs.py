"""Scans of a kind for attacks: an uneven blob, brighter on one side, in a place and of a size of its own."""

import numpy as np


def blobs(count, seed=0, size=16, classes=2):
    """(count, size, size, 3) scans and their classes; of another seed others of the same kind."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    labels = np.arange(count) % classes
    centre = rng.normal(0.42, 0.1, (2, count, 1, 1))
    wide = rng.gamma(6.0, 0.006, (2, count, 1, 1)) * (1 + labels[:, None, None])
    distance = (rows - centre[0]) ** 2 / wide[0] + (columns - centre[1]) ** 2 / wide[1]
    bright = rng.gamma(4.0, 35, (count, 1, 1))
    tilt = rng.gamma(2.0, 40, (count, 1, 1)) * columns
    noise = rng.normal(0, 6, (count, size, size))
    grey = (20 + tilt + bright * np.exp(-distance) + noise).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 3), labels.astype(np.int64)
