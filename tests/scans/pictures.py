"""Small pictures that differ, written as files."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, height: int = 12, width: int = 10) -> np.ndarray:
    """Pixels (height, width, 3) of a seed's own."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(path: Path, seed: int = 0) -> Path:
    """A picture in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path)
    return path
