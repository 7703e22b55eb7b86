"""Pictures as cameras, scanners and drawing programs write them: PNG, JPEG, TIFF, WebP, through Pillow."""

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageChops, ImageFile

from braincl_med.scans.codestreams import check_passes
from braincl_med.scans.greys import shown, stretched
from braincl_med.scans.refusals import Kind, ScanRefusedError

MOST_PIXELS = 100_000_000
"""Of one picture: the largest scans of a breast have a third of it."""

ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What EXIF's orientations ask for."""
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
SILENCE = threading.Lock()


def read_picture(file: BinaryIO, kind: str, frame: int | None) -> Image.Image:
    """The picture in a file, upright, as Pillow's "L" or "RGB"; transparency lies on black.

    Args:
        file: open at its beginning.
        kind: as Pillow names it: PNG, JPEG, TIFF or WEBP.
        frame: which page or frame, from 0, of a file that holds several.

    Raises:
        ScanRefusedError: too many pixels, several pages, or cut off. What Pillow raises beside is left to the caller.
    """
    _quieten()
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # somebody else in this process may have wished otherwise
    try:
        with Image.open(file, formats=[kind]) as picture:
            check_size(*picture.size)
            if kind == "JPEG":
                file.seek(0)
                check_passes(file.read())
            # A telephone's JPEG may hold previews and depths behind the photograph.
            frames = 1 if kind == "JPEG" and frame is None else getattr(picture, "n_frames", 1)
            check_frame(frame, frames)
            if frame:
                picture.seek(frame)
                check_size(*picture.size)
            with _silence() if kind == "TIFF" else contextlib.nullcontext():
                picture.load()
            seen = _in_greys_or_colours(picture)
            turn = UPRIGHT.get(_orientation(picture))
            return seen.transpose(turn) if turn is not None else seen
    except Image.DecompressionBombError:
        raise too_large() from None
    except (OSError, SyntaxError, EOFError) as error:
        if "truncated" in str(error) or (kind == "WEBP" and _too_short(file)):
            raise ScanRefusedError(Kind.TRUNCATED, "it ends too early: copy or export it again") from None
        raise


def check_size(width: int, height: int) -> None:
    """Refuse a picture of more than `MOST_PIXELS` before memory is taken for it.

    Raises:
        ScanRefusedError: it has more, or none.
    """
    if width * height > MOST_PIXELS:
        raise too_large()
    if width < 1 or height < 1:
        raise ScanRefusedError(Kind.UNREADABLE, "it says that it has no pixels")


def too_large() -> ScanRefusedError:
    """The refusal of a picture with more than `MOST_PIXELS`."""
    return ScanRefusedError(Kind.TOO_LARGE, f"it has more than {MOST_PIXELS:,} pixels: export it smaller")


def check_frame(frame: int | None, frames: int) -> None:
    """Refuse a file with several pictures of which none is named, and a name that none has.

    Raises:
        ScanRefusedError: as said.
    """
    if frame is None and frames > 1:
        raise ScanRefusedError(
            Kind.FRAMES,
            f"it holds {frames} pictures: name one (in a manifest's column 'frame', from 0 on), or export it",
        )
    if frame is not None and not 0 <= frame < frames:
        raise ScanRefusedError(Kind.FRAMES, f"it has no frame {frame}, the last is {frames - 1}")


def _too_short(file: BinaryIO) -> bool:
    """Whether a WebP says of itself that it is longer than it is."""
    file.seek(4)
    return int.from_bytes(file.read(4), "little") + 8 > file.seek(0, os.SEEK_END)


def _in_greys_or_colours(picture: Image.Image) -> Image.Image:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        greys = Image.fromarray(shown(np.asarray(picture), stretched))
        tags = getattr(picture, "tag_v2", {})
        return ImageChops.invert(greys) if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else greys
    if picture.mode == "RGBa" or picture.mode == "La":
        picture = picture.convert(picture.mode.upper())
    grey = picture.mode in ("1", "L", "LA")
    if not picture.has_transparency_data:
        seen = "L" if grey else "RGB"
        return picture if picture.mode == seen else picture.convert(seen)
    clear = picture.convert("RGBA")
    colours, alpha = clear.convert("L" if grey else "RGB"), clear.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return colours
    return ImageChops.multiply(colours, alpha if grey else Image.merge("RGB", (alpha, alpha, alpha)))


def _orientation(picture: Image.Image) -> int:
    with contextlib.suppress(Exception):  # damaged notes beside good pixels
        return int(picture.getexif().get(ORIENTATION, 1))
    return 1


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Close libtiff's mouth, which opens onto standard error whatever Pillow does with its errors."""
    with SILENCE, contextlib.ExitStack() as undone:
        with contextlib.suppress(OSError):  # where there is no standard error, nothing is written to it
            kept = os.dup(2)
            undone.callback(os.close, kept)
            undone.callback(os.dup2, kept, 2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        yield


@functools.cache
def _quieten() -> None:
    """Pillow's log repeats what a file's tags say, on request."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
