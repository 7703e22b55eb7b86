"""Raw scans where none may be: what a file looks like, and whether it holds the bytes of given scans."""

import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Images

PROBE = 64
"""Bytes of a scan that are searched for: the stretch with the most different values."""
KEY = 8
"""Bytes of a probe that are looked up first, all places of a file at once."""
LEAST_DISTINCT = 8
"""Different values that a probe must hold: a scan without such a stretch is blank, it would be found everywhere."""
LARGEST_STREAM = 2**28
"""Bytes of one compressed stream that are looked at."""
DEEPEST = 3
"""How many containers are opened within each other, such as a PNG in a zip archive."""
CHUNK = 2**16

MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"II+\0", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"jP  \r\n\x87\n", "a JPEG 2000 image"),
    (128, b"DICM", "a DICOM scan"),
    (344, b"n+1\0", "a NIfTI scan"),
    (344, b"ni1\0", "a NIfTI scan"),
    (0, b"NRRD", "an NRRD scan"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"PK\x03\x04", "a zip archive, as NumPy's .npz files are"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x1f\x8b", "a gzip file"),
    (257, b"ustar", "a tar archive"),
)
IMAGES = ("a JPEG image", "a GIF image", "a BMP image", "a TIFF image", "a WebP image", "a JPEG 2000 image")
STARTS = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08|PK\x03\x04|\x89PNG\r\n\x1a\n")


def looks_like(content: bytes) -> str | None:
    """The kind of scan, array or archive that a file's content begins like, or None.

    >>> looks_like(b"GIF89a")
    'a GIF image'
    """
    return next((kind for place, magic, kind in MAGIC if content[place : place + len(magic)] == magic), None)


def shown(name: str) -> str:
    """A file's name in quotes, safe for a terminal: what cannot be printed is written as an escape."""
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name) + "'"


class Probes:
    """Stretches of scans' bytes, ready to be searched for all at once.

    Args:
        images: (n, height, width, 3) uint8.

    Attributes:
        scans: n.
        blank: how many of them are not searched for.
    """

    def __init__(self, images: Images) -> None:
        self._probes: dict[int, dict[bytes, tuple[int, int, str]]] = {}
        searched = np.zeros(len(images), np.bool_)
        for start in range(0, len(images), PROBE):
            for how, rows in _layouts(images[start : start + PROBE]):
                for number, row in enumerate(rows, start):
                    searched[number] |= self._add(number, how, row)
        self.scans, self.blank = len(images), int((~searched).sum())
        self._keys = np.array(sorted(self._probes), np.uint64)
        self._table = np.zeros(2**20, np.bool_)
        self._table[_mixed(self._keys)] = True

    def _add(self, scan: int, how: str, row: Images) -> bool:
        """Choose a probe among a scan's bytes, if they have one; the first scan that has a probe owns it."""
        if len(row) < PROBE:
            return False
        distinct = _distinct(row, PROBE)
        start = int(distinct.argmax())
        if distinct[start] < LEAST_DISTINCT:
            return False
        stretch = row[start : start + PROBE]
        offset = int(_distinct(stretch, KEY).argmax())
        key = int.from_bytes(stretch[offset : offset + KEY].tobytes(), "little")
        self._probes.setdefault(key, {}).setdefault(stretch.tobytes(), (offset, scan, how))
        return True

    def findings(self, folder: Path) -> list[str]:
        """Say which files below a folder hold bytes of the scans.

        Every file is searched for a stretch of 64 bytes of each scan, pixel after pixel (RGB and BGR), channel after
        channel, and as grey values, in its bytes as they are, in zlib, gzip and zip streams anywhere in it, in PNG
        images anywhere in it, and in the image that the file is. Links are not followed.

        Args:
            folder: searched with all its sub-folders.

        Returns:
            One sentence a file that holds some, naming the file relative to the folder; none for a clean folder.
        """
        findings = []
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            found = self.find(path.read_bytes())
            if found:
                scan, how = next(iter(found.items()))
                findings.append(
                    f"{shown(path.relative_to(folder).as_posix())} holds bytes of {len(found)} of the {self.scans} "
                    f"given scans, first of scan {scan} ({how})"
                )
        return findings

    def find(self, content: bytes) -> dict[int, str]:
        """The scans whose bytes `content` holds: number of the scan to how and where its bytes stand."""
        found: dict[int, str] = {}
        for where, stream in unpacked_streams(content):
            for scan, how in self._find_plain(stream):
                found.setdefault(scan, f"{how}{where}")
        return found

    def _find_plain(self, content: bytes) -> Iterator[tuple[int, str]]:
        for shift in range(min(KEY, max(0, len(content) - PROBE + 1))):
            words = np.frombuffer(content, "<u8", (len(content) - shift) // KEY, shift)
            near = np.flatnonzero(self._table[_mixed(words)])
            near = near[np.isin(words[near], self._keys)]
            for place, key in zip((near * KEY + shift).tolist(), words[near].tolist(), strict=True):
                for probe, (offset, scan, how) in self._probes[key].items():
                    if place >= offset and content[place - offset : place - offset + PROBE] == probe:
                        yield scan, how


def _distinct(row: Images, length: int) -> npt.NDArray[np.int64]:
    """How many different values each stretch of `length` bytes holds: (len(row) − length + 1,)."""
    order = np.argsort(row, kind="stable")
    again = row[order[1:]] == row[order[:-1]]
    former = np.full(len(row), -1)
    former[order[1:][again]] = order[:-1][again]
    # A byte counts in those stretches around it that begin behind the former byte of its value.
    first = np.maximum(former + 1, np.arange(len(row)) - length + 1).clip(0)
    begun = np.cumsum(np.bincount(first, minlength=len(row)))
    # All bytes before a stretch have begun to count and ended.
    distinct: npt.NDArray[np.int64] = (begun - np.arange(len(row)))[: len(row) - length + 1]
    return distinct


def _mixed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """20 well mixed bits of each word."""
    return (words * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(44)


def _layouts(images: Images) -> Iterator[tuple[str, Images]]:
    """The ways in which scans' bytes may stand in a file: (n, bytes) each."""
    flat = len(images), -1
    yield "pixel after pixel", images.reshape(flat)
    yield "channel after channel", images[..., 0].reshape(flat)
    if (images[..., :1] == images).all():
        return
    for channel in (1, 2):
        yield "channel after channel", images[..., channel].reshape(flat)
    yield "pixel after pixel, blue first", images[..., ::-1].reshape(flat)
    # As Pillow's conversion to grey: integer weights of 2^16 in all.
    grey = (images.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 0x8000) >> 16
    yield "as grey values", grey.astype(np.uint8).reshape(flat)


def _streams(content: bytes, where: str, deepest: int) -> Iterator[tuple[str, bytes]]:
    """A content itself, then all that can be unpacked from it: where it stood, in words, and its bytes."""
    yield where, content
    if deepest == 0:
        return
    if looks_like(content) in IMAGES:
        for pixels in _pixels(content):
            yield f"{where}, in an image", pixels
    for start in STARTS.finditer(content):
        place = start.start()
        at = f" at byte {place:,}{where}"
        match start.group()[:2]:
            case b"\x89P":
                end = content.find(b"IEND", place)
                for pixels in _pixels(content[place : end + 8 if end > 0 else None]):
                    yield f", in a PNG image{at}", pixels
            case b"PK":
                # The lengths of the entry's name and extra field stand before them.
                lengths = [int.from_bytes(content[place + n : place + n + 2], "little") for n in (26, 28)]
                yield from _unpacked(
                    content, place + 30 + sum(lengths), -zlib.MAX_WBITS, f", in a zip archive{at}", deepest
                )
            case _:
                # 32 more: zlib and gzip headers are both understood.
                yield from _unpacked(content, place, zlib.MAX_WBITS + 32, f", in a compressed stream{at}", deepest)


def _unpacked(content: bytes, place: int, bits: int, where: str, deepest: int) -> Iterator[tuple[str, bytes]]:
    """What a compressed stream holds up to its end or its first error, and all within that."""
    unpacker = zlib.decompressobj(bits)
    parts: list[bytes] = []
    size = 0
    for start in range(place, len(content), CHUNK):
        pending = content[start : start + CHUNK]
        before = unpacker.copy()
        try:
            fresh = unpacker.decompress(pending, LARGEST_STREAM - size)
        except zlib.error:
            parts += _until_damage(before, pending)
            break
        parts.append(fresh)
        size += len(fresh)
        if unpacker.eof or size >= LARGEST_STREAM:
            break
    unpacked = b"".join(parts)
    if len(unpacked) >= PROBE:
        yield from _streams(unpacked, where, deepest - 1)


def _until_damage(unpacker: "zlib._Decompress", damaged: bytes) -> Iterator[bytes]:
    """What a damaged piece of a stream gives away before the damage, which the unpacker would swallow with it."""
    try:
        for place in range(len(damaged)):
            yield unpacker.decompress(damaged[place : place + 1])
    except zlib.error:
        return


def unpacked_streams(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A content itself, and all that can be unpacked from it: where it stood, in words, and its bytes."""
    return _streams(content, "", DEEPEST)


def _pixels(content: bytes) -> Iterator[bytes]:
    """The pixels of an image file as RGB, and as grey values when it is grey; nothing when it cannot be read."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode == "L":
                yield image.tobytes()
            yield image.convert("RGB").tobytes()
    except Exception:
        # Whatever a damaged image raises: it cannot be looked at, and its bytes as they are were searched already.
        return
