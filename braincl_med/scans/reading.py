"""TEMPORARY, replaced on merge."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from braincl_med.scans.refusals import Kind, ScanRefusedError
from braincl_med.settings.config import Fit


@dataclass(frozen=True)
class Reading:
    pixels: npt.NDArray[np.uint8]
    digest: bytes
    patient: str
    kind: str
    width: int
    height: int


def read_file(path: Path, frame: int | None = None) -> Reading:
    try:
        with Image.open(path) as picture:
            kind = picture.format or ""
            pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), np.uint8)
    except Exception:
        raise ScanRefusedError(Kind.NOT_A_PICTURE, "it is no picture") from None
    if pixels.min() == pixels.max():
        raise ScanRefusedError(Kind.BLANK, "blank")
    h, w, _ = pixels.shape
    return Reading(pixels, hashlib.blake2b(pixels.tobytes(), digest_size=16).digest(), "", kind, w, h)


def fit(pixels: npt.NDArray[np.uint8], size: int, how: Fit) -> npt.NDArray[np.uint8]:
    upright, box = Image.fromarray(pixels), (size, size)
    fitted = ImageOps.pad(upright, box, Image.Resampling.LANCZOS) if how == "pad" else ImageOps.fit(upright, box)
    return np.asarray(fitted, np.uint8)


def read_scan(path: Path, size: int, fit_as: Fit = "pad", frame: int | None = None) -> npt.NDArray[np.uint8]:
    return fit(read_file(path, frame).pixels, size, fit_as)
