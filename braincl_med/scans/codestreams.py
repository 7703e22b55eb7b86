"""Pictures packed inside DICOM as JPEG, JPEG-LS, JPEG 2000 or RLE: looked at before a decoder sees them.

A stream says its own size, whatever the file around it says. Both must agree before memory is taken for either, and
what no scanner writes (subsampled JPEG 2000, arithmetic coding, hundreds of passes) is refused unread.
"""

from dataclasses import dataclass
from struct import unpack_from

import numpy as np

from braincl_med.scans.greys import Numbers
from braincl_med.scans.refusals import Kind, ScanRefusedError

RLE = {"1.2.840.10008.1.2.5"}
JPEG = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70)}
JPEG_LS = {f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)}
JPEG_2000 = {f"1.2.840.10008.1.2.4.{number}" for number in (90, 91)}
PACKED = RLE | JPEG | JPEG_LS | JPEG_2000
"""Transfer syntaxes that `decode` reads; those of JPEG are baseline, extended and the two lossless ones."""

MOST_PASSES = 100
"""Scans of a progressive JPEG: each goes over the whole picture once more."""
START, SCAN, END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
FRAMES_OF_JPEG = (0xC0, 0xC1, 0xC2, 0xC3)
FRAME_OF_JPEG_LS = 0xF7
CODESTREAM = b"\xff\x4f\xff\x51"
LONGEST_WRAPPER = 1 << 12


@dataclass(frozen=True)
class Stream:
    """What a stream says of itself.

    Attributes:
        size: rows, columns and samples a pixel.
        precision: bits of a sample.
        signed: JPEG 2000 alone can say so.
        luminance: whether its three samples are luminance and chrominance, None where it does not say.
    """

    size: tuple[int, int, int]
    precision: int
    signed: bool = False
    luminance: bool | None = None


def decode(frame: bytes, syntax: str, size: tuple[int, int, int]) -> tuple[Numbers, Stream]:
    """The samples of a frame as they are packed: (rows, columns) or (rows, columns, 3), in the stream's own colours.

    Args:
        frame: one frame's whole stream.
        syntax: one of `PACKED`.
        size: rows, columns and samples that the file around it promises.

    Raises:
        ScanRefusedError: it is cut off, or another one than promised. What decoders raise is left to the caller.
    """
    from imagecodecs import jpeg2k_decode, jpeg8_decode, jpegls_decode

    if syntax in RLE:
        return _unfolded(frame, size)
    if syntax in JPEG_2000:  # a wrapper may bring palettes and profiles, for which DICOM has no use
        frame = frame[max(0, frame.find(CODESTREAM, 0, LONGEST_WRAPPER)) :]
    told = _of_jpeg_2000(frame) if syntax in JPEG_2000 else _of_jpeg(frame, syntax in JPEG_LS)
    if told.size != size:
        raise ScanRefusedError(Kind.UNREADABLE, "its packed picture has another size or other colours than it says")
    if END not in frame[-64:]:  # a decoder fills up with grey what is missing
        raise ScanRefusedError(Kind.TRUNCATED, "its packed picture ends too early: export it again")
    if syntax in JPEG_2000:
        return jpeg2k_decode(frame, numthreads=1), told
    if syntax in JPEG_LS:
        return jpegls_decode(frame), told
    colours = "RGB" if size[2] == 3 else "GRAYSCALE"
    return jpeg8_decode(frame, colorspace=colours, outcolorspace=colours), told


def check_passes(stream: bytes) -> None:
    """Refuse a JPEG that goes over its picture so often that decoding it would take for ever.

    Raises:
        ScanRefusedError: it has more than `MOST_PASSES` passes.
    """
    if stream.count(SCAN) > MOST_PASSES:
        raise ScanRefusedError(Kind.UNREADABLE, f"its picture is packed in more than {MOST_PASSES} passes")


def _of_jpeg(frame: bytes, jpeg_ls: bool) -> Stream:
    """The frame header of JPEG and JPEG-LS, to which its segments are walked through."""
    if not frame.startswith(START):
        raise ScanRefusedError(Kind.UNREADABLE, "its picture is not packed in the way that it says")
    check_passes(frame)
    luminance: bool | None = None
    place = len(START)
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        kind, length = unpack_from(">BH", frame, place + 1)
        body = frame[place + 4 : place + 2 + length]
        if kind == 0xFF:  # any number of these may stand before a marker
            place += 1
            continue
        if kind == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            luminance = body[11] == 1
        elif kind == 0xE0 and body.startswith(b"JFIF") and luminance is None:
            luminance = True
        elif kind in ((FRAME_OF_JPEG_LS,) if jpeg_ls else FRAMES_OF_JPEG) and len(body) >= 9:
            precision, rows, columns, samples = unpack_from(">BHHB", body)
            if body[6::3] in (b"RGB", b"rgb"):
                luminance = False
            return Stream((rows, columns, samples), precision, luminance=luminance)
        elif kind == SCAN[1]:
            break
        place += 2 + length
    raise ScanRefusedError(Kind.UNREADABLE, "its picture is not packed in the way that it says, or damaged")


def _of_jpeg_2000(frame: bytes) -> Stream:
    """The marker of sizes, which stands first in a codestream."""
    if not frame.startswith(CODESTREAM) or len(frame) < 45:
        raise ScanRefusedError(Kind.UNREADABLE, "its picture is not packed in the way that it says")
    right, bottom, left, top = unpack_from(">4I", frame, 8)
    (samples,) = unpack_from(">H", frame, 40)
    depth = frame[42]
    if samples > 4 or frame[42 : 42 + 3 * samples] != bytes((depth, 1, 1)) * samples:
        raise ScanRefusedError(Kind.UNREADABLE, "its colours are packed unlike each other, or its picture is damaged")
    return Stream((bottom - top, right - left, samples), (depth & 0x7F) + 1, signed=bool(depth & 0x80))


def _unfolded(frame: bytes, size: tuple[int, int, int]) -> tuple[Numbers, Stream]:
    """The samples of DICOM's run lengths: a segment for every byte of a sample, the highest first."""
    from imagecodecs import packbits_decode

    rows, columns, samples = size
    if len(frame) < 64:
        raise ScanRefusedError(Kind.TRUNCATED, "its packed picture ends too early: export it again")
    count, *places = unpack_from("<16I", frame)
    if count % samples or count // samples not in (1, 2, 4):
        raise ScanRefusedError(Kind.UNREADABLE, "its packed picture has other colours than it says, or is damaged")
    planes = np.empty((samples, rows * columns, count // samples), np.uint8)
    for number, (start, stop) in enumerate(zip(places[:count], [*places[1:count], len(frame)], strict=True)):
        # Some encoders fold up a byte too many where there is an odd number.
        segment = packbits_decode(frame[start:stop], out=rows * columns + 1)
        if len(segment) < rows * columns:
            raise ScanRefusedError(
                Kind.TRUNCATED, "its packed picture has fewer pixels than it says: export it again"
            )
        sample, byte = divmod(number, count // samples)
        planes[sample, :, byte] = np.frombuffer(segment, np.uint8, rows * columns)
    bits = 8 * (count // samples)
    whole = planes.view(f">u{bits // 8}").reshape(samples, rows, columns).astype(f"u{bits // 8}")
    return (np.moveaxis(whole, 0, -1) if samples > 1 else whole[0]), Stream(size, bits)
