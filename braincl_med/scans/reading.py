"""One file of a scan becomes pixels, by the same function wherever scans are read: learned, evaluated, predicted."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from braincl_med.settings.config import Fit


def read_scan(path: Path, size: int, fit: Fit = "pad", frame: int | None = None) -> npt.NDArray[np.uint8]:
    """The pixels (size, size, 3) of the scan in a file; grey scans get three equal channels.

    Args:
        path: a PNG, JPEG, TIFF, WebP or DICOM file.
        size: pixels a side.
        fit: how a picture that is no square becomes one: black borders, or its middle.
        frame: which frame, from 0, of a file that holds several.

    Raises:
        ScanRefusedError: the file is no such scan.
    """
    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    box = (size, size)
    fitted = ImageOps.pad(upright, box, Image.Resampling.LANCZOS) if fit == "pad" else ImageOps.fit(upright, box)
    return np.asarray(fitted, np.uint8)
