"""One file of a scan becomes pixels, by the same functions wherever scans are read: learned, evaluated, predicted.

The rules by which it does, and why, are those of docs/own-scans-pixels.md.
"""

import contextlib
import errno
import hashlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from braincl_med.scans.dicom import may_be_dicom, read_dicom
from braincl_med.scans.pictures import read_picture
from braincl_med.scans.refusals import Kind, ScanRefusedError
from braincl_med.settings.config import Fit

Pixels = npt.NDArray[np.uint8]

MOST_BYTES = 1 << 30
"""Of a file."""
HEAD, FEW = 132, 32
EMPTY = "the file is empty: copy or export it again"
PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"RIFF": "WEBP"} | dict.fromkeys(
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"
)
"""What begins how, by the names that Pillow gives."""


@dataclass(frozen=True)
class Reading:
    """A scan at its full resolution, and what its file says of it.

    Attributes:
        pixels: (height, width, 3), upright; grey scans have three equal channels.
        digest: 16 bytes, the same for the same pixels in the same shape.
        patient: DICOM's Patient ID without blanks around it, empty where a file says none.
        kind: "PNG", "JPEG", "TIFF", "WebP", or "DICOM" with the modality's code, as "DICOM CT".
    """

    pixels: Pixels
    digest: bytes
    patient: str
    kind: str

    @property
    def width(self) -> int:
        """Pixels of a row."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])


def read_file(path: Path, frame: int | None = None) -> Reading:
    """The scan in a file.

    Args:
        path: a PNG, JPEG, TIFF, WebP or DICOM file, whatever its name.
        frame: which frame, from 0, of a file that holds several.

    Raises:
        ScanRefusedError: the file is no such scan.
    """
    with _complaining():
        picture, patient, kind = _read(path, frame)
        pixels = _colours(picture)
        digest = hashlib.blake2b(np.array(pixels.shape, "<u4").tobytes(), digest_size=16)
        digest.update(pixels.data)
        return Reading(pixels, digest.digest(), patient, kind)


def read_scan(path: Path, size: int, fit: Fit = "pad", frame: int | None = None) -> Pixels:
    """The pixels (size, size, 3) of the scan in a file: those that `fit` makes of `read_file`'s, with less work.

    Args:
        path: a PNG, JPEG, TIFF, WebP or DICOM file, whatever its name.
        size: pixels a side.
        fit: how a picture that is no square becomes one: black borders, or its middle.
        frame: which frame, from 0, of a file that holds several.

    Raises:
        ScanRefusedError: the file is no such scan.
    """
    with _complaining():
        return _colours(_fitted(_read(path, frame)[0], size, fit))


def read_content(content: bytes, size: int, fit: Fit = "pad", frame: int | None = None) -> Pixels:
    """As `read_scan`, of a file that is held in memory and lies on no disk.

    Raises:
        ScanRefusedError: it is no such scan.
    """
    with _complaining():
        if not content:
            raise ScanRefusedError(Kind.TRUNCATED, EMPTY)
        return _colours(_fitted(_decoded(io.BytesIO(content), frame)[0], size, fit))


def fit(pixels: Pixels, size: int, how: Fit) -> Pixels:
    """A picture (height, width, 3) as a square (size, size, 3), smoothed where it shrinks, its proportions kept.

    Args:
        how: "pad" for black borders where it is too short, "crop" for its middle.
    """
    return np.array(_fitted(Image.fromarray(pixels), size, how))


def _fitted(picture: Image.Image, size: int, how: Fit) -> Image.Image:
    width, height = picture.size
    if how == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return picture.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    longest = max(width, height)
    inner = (max(1, round(width * size / longest)), max(1, round(height * size / longest)))
    shrunk = picture.resize(inner, Image.Resampling.BICUBIC)
    if inner == (size, size):
        return shrunk
    square = Image.new(picture.mode, (size, size))
    square.paste(shrunk, ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return square


def _read(path: Path, frame: int | None) -> tuple[Image.Image, str, str]:
    with _opened(path) as file:
        return _decoded(file, frame)


def _decoded(file: BinaryIO, frame: int | None) -> tuple[Image.Image, str, str]:
    """A picture as Pillow's "L" or "RGB", whose it is, and of which kind its file is."""
    head = file.read(HEAD)
    file.seek(0)
    name = next((name for begin, name in PICTURES.items() if head.startswith(begin)), None)
    if head[128:] == b"DICM" or (name is None and may_be_dicom(head)):
        picture, patient, kind = read_dicom(file, frame)
    elif name is not None and (name != "WEBP" or head[8:12] == b"WEBP"):
        picture, patient, kind = read_picture(file, name, frame), "", "WebP" if name == "WEBP" else name
    else:
        raise ScanRefusedError(Kind.NOT_A_PICTURE, "expected PNG, JPEG, TIFF, WebP or DICOM")
    if _blank(picture):
        raise ScanRefusedError(Kind.BLANK, "all its pixels are alike")
    return picture, patient, kind


def _blank(picture: Image.Image) -> bool:
    """Whether all pixels are alike; a few of them tell it of most pictures."""
    if max(picture.size) > FEW and not _alike(picture.resize((FEW, FEW), Image.Resampling.NEAREST)):
        return False
    return _alike(picture)


def _alike(picture: Image.Image) -> bool:
    extrema: Any = picture.getextrema()
    return all(least == most for least, most in (extrema if picture.mode == "RGB" else (extrema,)))


def _colours(picture: Image.Image) -> Pixels:
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # Opening a pipe that nobody writes to would wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ScanRefusedError(Kind.NOT_A_PICTURE, "it is no file")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE, errno.ELOOP):
            raise ScanRefusedError(Kind.UNREADABLE, "the disk does not hand it out") from None
        raise ScanRefusedError(Kind.MISSING, "there is no such file, or this user may not see it") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise ScanRefusedError(Kind.TOO_LARGE, f"the file has more than {MOST_BYTES >> 30} GiB")
        if not size:
            raise ScanRefusedError(Kind.TRUNCATED, EMPTY)
        yield file


@contextlib.contextmanager
def _complaining() -> Iterator[None]:
    """Turn all that decoders raise into a sentence of ours: their own, as their warnings, quote names and tags."""
    with without_warnings():
        try:
            yield
        except ScanRefusedError:
            raise
        except MemoryError:
            raise ScanRefusedError(Kind.TOO_LARGE, "it needs more memory than there is: export it smaller") from None
        except Exception:  # what decoders raise is beyond counting
            raise ScanRefusedError(Kind.UNREADABLE, "it is damaged: copy or export it again") from None


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Show no warning, whichever thread warns.

    Whoever reads with several threads puts this around all of them: filters are the process's, and a thread that
    leaves restores what it found, which then is silence too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
