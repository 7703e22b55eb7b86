"""Pictures in DICOM files: headers through pydicom, only the tags that are needed, then the pixels of one frame.

Nothing is decoded before the header has been found to promise a picture of a bearable size. Everything that pydicom
and the decoders raise is left to the caller, who may not repeat it: they quote what a file says.
"""

import functools
import io
import logging
import math
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from struct import unpack, unpack_from
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from braincl_med.scans.codestreams import PACKED, Stream, decode
from braincl_med.scans.greys import Count, Greys, Numbers, scaled, shown, stretched
from braincl_med.scans.pictures import check_frame, check_size
from braincl_med.scans.refusals import Kind, ScanRefusedError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MARK, MARK_AT = b"DICM", 128
IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
LONGEST_UID = 64
MOST_INFLATED = 1 << 28
"""Bytes of a deflated data set."""
MOST_AT_ONCE = 1 << 26
"""Bytes of a file that is read in one piece: faster, and a forged length then asks for no more than there is."""

TAGS = [
    *(0x00080016, 0x00080060, 0x00100020),  # class, modality, patient
    *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011),  # shape
    *(0x00280100, 0x00280101, 0x00280103, 0x00280120, 0x00280121),  # bits, padding
    *(
        0x00281050,
        0x00281051,
        0x00281052,
        0x00281053,
        0x00281056,
        0x00283000,
        0x00283010,
    ),  # window, rescaling, tables
    *(0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203),  # palette
    *(0x00281221, 0x00281222, 0x00281223),  # the same in segments
    *(0x52009229, 0x52009230, 0x7FE00001, 0x7FE00002),  # what holds for all frames, or for each; where they begin
]
PIXELS, FLOATING_PIXELS = 0x7FE00010, (0x7FE00008, 0x7FE00009)
END_OF_FRAMES, LONGEST_END = b"\xfe\xff\xdd\xe0", 1 << 12
LONG_LENGTHS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UC", b"UR", b"UT", b"SV", b"UV")

NO_PICTURES = {
    *("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD", "PR", "KO", "SR", "REG", "FID", "RWV", "DOC", "PLAN"),
    *("ECG", "EPS", "HD", "AU", "RESP", "SMR", "ASMT", "M3D", "STAIN", "TEXTUREMAP"),
}
"""Modalities of what describes pictures, lies on them, or is none."""
# Waveforms, presentation states, segmentations and registrations, value maps, surfaces, reports, documents, all of
# radiotherapy but its pictures.
NO_PICTURE_CLASSES = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(9|11|66|67|68|88|104|481\.([2-9]|\d\d))(\.\d+)*")

GREYS, PALETTE = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
LUMINANCE = ("YBR_FULL", "YBR_FULL_422")
COLOURS = ("RGB", "YBR_ICT", "YBR_RCT", *LUMINANCE)
LONGEST_TABLE = 1 << 16


@dataclass(frozen=True)
class Shape:
    """How the pixels of a frame are stored.

    Attributes:
        room: bits that a sample takes.
        bits: how many of them tell something.
        signed: 1 if numbers may be below zero, else 0.
        planar: 1 if each colour is stored by itself, else 0.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    room: int
    bits: int
    signed: int
    planar: int
    colours: str


def may_be_dicom(head: bytes) -> bool:
    """Whether a file that begins with `head` is DICOM, by its mark or by what its first element must be."""
    if head[MARK_AT : MARK_AT + len(MARK)] == MARK:
        return True
    groups = (b"\x02\x00", b"\x08\x00") if head[3:4] < b"\x20" else ()
    return head[:2] in groups or (head[:2] == b"\x00\x08" and head[4:6].isalpha() and head[4:6].isupper())


def read_dicom(file: BinaryIO, frame: int | None) -> tuple[Image.Image, str, str]:
    """The picture in a file as Pillow's "L" or "RGB", whose it is, and "DICOM" with its modality.

    Args:
        file: open, wherever.
        frame: which frame, from 0, of a file that holds several.

    Raises:
        ScanRefusedError: it holds no picture, several frames, or one that is not read.
    """
    _quieten()
    if file.seek(0, os.SEEK_END) <= MOST_AT_ONCE:
        file.seek(0)
        file = io.BytesIO(file.read())
    body, syntax = _data_set(file)
    header, little = _header(body, syntax)
    modality = str(header.get("Modality") or "")
    kind = f"DICOM {modality}" if re.fullmatch("[A-Z]{2,4}", modality) else "DICOM"
    _check_class(header, modality)
    value = _pixels(body, header, little)
    shape = _shape(header)
    check_size(shape.columns, shape.rows)
    check_frame(frame, shape.frames)
    _add_of_frame(header, frame or 0)
    if syntax in PACKED:
        numbers, told = _unpacked(body, syntax, header, shape, frame or 0)
    else:
        shape = _unsubsampled(shape, value[1])
        numbers, told = _plain(body, syntax if little else BIG_ENDIAN, value, shape, frame or 0), None
    if shape.colours in GREYS:
        greys = shown(numbers, functools.partial(_greys, header, little, shape))
        picture = Image.fromarray(~greys if shape.colours == "MONOCHROME1" else greys)
    elif shape.colours == PALETTE:
        picture = Image.fromarray(shown(numbers, functools.partial(_palette, header, little)))
    else:
        picture = _colours(numbers, shape, told)
    return picture, str(header.get("PatientID") or "").strip().strip("\0"), kind


def _data_set(file: BinaryIO) -> tuple[BinaryIO, str]:
    """The data set behind preamble and meta information, inflated where it is deflated, and the transfer syntax."""
    file.seek(0)
    marked = file.read(MARK_AT + len(MARK)).endswith(MARK)
    file.seek(MARK_AT + len(MARK) if marked else 0)
    syntax = ""
    while True:
        place, element = file.tell(), file.read(8)
        if len(element) < 8 or element[:2] != b"\x02\x00":
            file.seek(place)
            break
        number, kind, length = unpack("<H2sH", element[2:])
        if kind in LONG_LENGTHS:
            (length,) = unpack("<I", file.read(4))
        if number == 0x0010:
            syntax = file.read(min(length, LONGEST_UID)).rstrip(b"\0 ").decode("ascii", "replace")
        else:
            file.seek(length, os.SEEK_CUR)
    if syntax != DEFLATED:
        return file, syntax
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(file.read(), MOST_INFLATED)
    if inflater.unconsumed_tail:
        raise ScanRefusedError(
            Kind.TOO_LARGE, f"it unfolds to more than {MOST_INFLATED >> 20} MiB: export it unfolded"
        )
    if not inflater.eof:
        raise ScanRefusedError(Kind.TRUNCATED, "it ends too early: copy or export it again")
    return io.BytesIO(body), syntax


def _header(body: BinaryIO, syntax: str) -> tuple["Dataset", bool]:
    """The elements of `TAGS` before the pixels, at which `body` then stands, and whether low bytes come first."""
    from pydicom.filereader import read_dataset

    implicit, little = syntax in ("", IMPLICIT), syntax != BIG_ENDIAN
    if not syntax:  # as pydicom guesses: the kind of an element tells, and a group that is no first one
        first = body.read(6)
        body.seek(-len(first), os.SEEK_CUR)
        implicit = not (first[4:].isalpha() and first[4:].isupper())
        little = implicit or first[:1] != b"\0"
    header = read_dataset(
        body,
        implicit,
        little,
        stop_when=lambda tag, _, __: tag in (PIXELS, *FLOATING_PIXELS),
        specific_tags=list(TAGS),
    )
    return header, little


def _check_class(header: "Dataset", modality: str) -> None:
    if modality in NO_PICTURES or NO_PICTURE_CLASSES.fullmatch(str(header.get("SOPClassUID") or "")):
        raise ScanRefusedError(
            Kind.NOT_A_PICTURE,
            "it is a DICOM file of another kind (report, segmentation, dose, plan …): leave it out",
        )


def _pixels(body: BinaryIO, header: "Dataset", little: bool) -> tuple[str, int]:
    """How the pixels' bytes, at which `body` then stands, are called, and how many there are up to the file's end."""
    place = body.tell()
    size = body.seek(0, os.SEEK_END)
    body.seek(place)
    element = body.read(12)
    order = "<" if little else ">"
    group, number = unpack_from(f"{order}HH", element) if len(element) >= 8 else (0, 0)
    tag = group << 16 | number
    if tag in FLOATING_PIXELS:
        raise ScanRefusedError(Kind.NOT_A_PICTURE, "it holds computed numbers, no picture: leave it out")
    if tag != PIXELS and (place > size or "Rows" in header):
        raise ScanRefusedError(Kind.TRUNCATED, "it ends before its pixels: copy or export it again")
    if tag != PIXELS:
        raise ScanRefusedError(Kind.NOT_A_PICTURE, "it is a DICOM file without a picture: leave it out")
    kind = element[4:6]
    if header.original_encoding[0] or not kind.isalpha():
        kind, begin, (length,) = b"OW", 8, unpack_from(f"{order}I", element, 4)
    elif kind in LONG_LENGTHS:
        begin, (length,) = 12, unpack_from(f"{order}I", element, 8)
    else:
        begin, (length,) = 8, unpack_from(f"{order}H", element, 6)
    body.seek(place + begin)
    return kind.decode("ascii"), min(length, max(0, size - place - begin))


def _shape(header: "Dataset") -> Shape:
    colours = str(header.get("PhotometricInterpretation") or "").upper()
    if colours not in (*GREYS, PALETTE, *COLOURS):
        raise ScanRefusedError(
            Kind.PHOTOMETRIC, "its colours are of a kind that is not read: export it as RGB or grey"
        )
    shape = Shape(
        rows=_number(header, "Rows"),
        columns=_number(header, "Columns"),
        samples=_number(header, "SamplesPerPixel", 1),
        frames=_number(header, "NumberOfFrames", 1) or 1,
        room=_number(header, "BitsAllocated"),
        bits=_number(header, "BitsStored", _number(header, "BitsAllocated")),
        signed=_number(header, "PixelRepresentation", 0) if colours in GREYS else 0,
        planar=_number(header, "PlanarConfiguration", 0),
        colours=colours,
    )
    if shape.samples != (3 if colours in COLOURS else 1):
        raise ScanRefusedError(Kind.PHOTOMETRIC, "it has another number of colours than it says")
    if (
        shape.room not in (1, 8, 16, 32)
        or not 1 <= shape.bits <= shape.room
        or not {shape.signed, shape.planar} <= {0, 1}
    ):
        raise ScanRefusedError(
            Kind.UNREADABLE, "its header contradicts itself, or its pixels have other than 1 to 32 bits"
        )
    return shape


def _number(header: "Dataset", keyword: str, otherwise: int | None = None) -> int:
    value = header.get(keyword)
    if value is None or value == "":
        value = otherwise
    if value is None:
        raise ScanRefusedError(Kind.UNREADABLE, "its header lacks what every picture says of itself")
    return int(value)


def _add_of_frame(header: "Dataset", frame: int) -> None:
    """Let what an enhanced file says of all frames, or of this one, of rescaling and windows, hold for the file."""
    for groups, place in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        items = header.get(groups) or []
        if place < len(items):
            for group in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in (items[place].get(group) or [])[:1]:
                    header.update(item)


def _unsubsampled(shape: Shape, length: int) -> Shape:
    """YBR_FULL where a file says YBR_FULL_422 of pixels that are not thinned out, as many do."""
    whole = shape.rows * shape.columns * 3 * shape.frames * shape.room // 8
    return replace(shape, colours="YBR_FULL") if shape.colours == "YBR_FULL_422" and length >= whole else shape


def _plain(body: BinaryIO, syntax: str, value: tuple[str, int], shape: Shape, frame: int) -> Numbers:
    """The numbers of a frame that is not packed."""
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder = get_decoder(syntax or EXPLICIT)
    except NotImplementedError:  # a syntax that pydicom does not know
        decoder = None
    if decoder is None or not decoder.is_native:
        raise ScanRefusedError(
            Kind.UNREADABLE,
            "its pixels are packed in a way that is not read (a film, perhaps): export it unpacked",
        )
    bits = shape.rows * shape.columns * shape.samples * shape.room
    if shape.colours == "YBR_FULL_422":
        bits = bits // 3 * 2
    if value[1] < math.ceil(bits * (frame + 1) / 8):
        raise ScanRefusedError(Kind.TRUNCATED, "it has fewer pixels than it says: copy or export it again")
    return decoder.as_array(body, index=frame, raw=True, **_options(shape, value[0]))[0]


def _options(shape: Shape, kind: str) -> dict[str, Any]:
    """A shape in the words of pydicom's decoders."""
    return {
        "rows": shape.rows,
        "columns": shape.columns,
        "samples_per_pixel": shape.samples,
        "number_of_frames": shape.frames,
        "bits_allocated": shape.room,
        "bits_stored": shape.bits,
        "pixel_representation": shape.signed,
        "planar_configuration": shape.planar,
        "photometric_interpretation": shape.colours,
        "pixel_keyword": "PixelData",
        "pixel_vr": kind,
        "view_only": True,
    }


def _unpacked(body: BinaryIO, syntax: str, header: "Dataset", shape: Shape, frame: int) -> tuple[Numbers, Stream]:
    """The numbers of a frame that is packed, with the signs that the header says, and what its stream says."""
    from pydicom.encaps import get_frame

    offsets = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    try:
        packed = get_frame(
            body, frame, number_of_frames=shape.frames, extended_offsets=offsets if all(offsets) else None
        )
        numbers, told = decode(packed, syntax, (shape.rows, shape.columns, shape.samples))
    except (ValueError, RuntimeError):
        body.seek(max(0, body.seek(0, os.SEEK_END) - LONGEST_END))
        if END_OF_FRAMES in body.read():
            raise
        raise ScanRefusedError(Kind.TRUNCATED, "it ends before its pixels do: copy or export it again") from None
    # The bits above those that tell something may hold anything; the highest of those that do is the sign.
    spare = 8 * numbers.itemsize - min(told.precision, shape.bits)
    moved = numbers.view(f"u{numbers.itemsize}") << spare
    return moved.view(f"{'ui'[shape.signed]}{numbers.itemsize}") >> spare, told


def _greys(header: "Dataset", little: bool, shape: Shape, stored: Numbers, count: Count | None) -> Greys:
    """The greys of stored numbers: rescaled, then by the file's own window or table, else by their percentiles."""
    numbers, rescaled = stored, True
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    if tables := header.get("ModalityLUTSequence"):
        numbers = _looked_up(stored, tables[0].LUTDescriptor, tables[0].LUTData, little)
    elif rescaled := (slope, intercept) != (1, 0):
        numbers = stored * slope + intercept
    if tables := header.get("VOILUTSequence"):
        most = 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
        return scaled(_looked_up(np.rint(numbers), tables[0].LUTDescriptor, tables[0].LUTData, little) / most)
    if window := _window(header):
        return scaled(window_of(numbers, *window))
    if shape.bits <= 8 and not shape.signed and not rescaled:
        return scaled(numbers / (2.0**shape.bits - 1))
    return stretched(numbers, count, _padding(header, stored, shape))


def _looked_up(numbers: Numbers, descriptor: Sequence[int], entries: Any, little: bool) -> Numbers:
    """What a table of the file has in place of `numbers`; those before its first and after its last have these.

    pydicom's own look-up wraps numbers around in tables of many entries of 8 bits.

    Args:
        descriptor: how many entries, which number the first is for, bits of an entry.
        entries: numbers, or the bytes of numbers.
    """
    count, first = int(descriptor[0]) or LONGEST_TABLE, int(descriptor[1])
    if isinstance(entries, bytes):
        entries = np.frombuffer(entries, "u1" if len(entries) < 2 * count else f"{'<' if little else '>'}u2")
    table = np.asarray(entries)[:count]
    if first > 0x7FFF and numbers.min(initial=0) < 0:  # a first number below zero, written as if there were no sign
        first -= 0x10000
    return table[np.clip(numbers.astype(np.int64) - first, 0, len(table) - 1)]


def window_of(numbers: Numbers, centre: float, width: float, function: str) -> npt.NDArray[np.float64]:
    """Numbers seen through a window of DICOM (PS3.3, C.11.2.1): 0 and less is black, 1 and more white.

    Args:
        function: LINEAR, LINEAR_EXACT or SIGMOID.
    """
    values = numbers.astype(np.float64)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return (values - centre) / width + 0.5


def _window(header: "Dataset") -> tuple[float, float, str] | None:
    """The first window that the file brings, unless it is one through which nothing is seen."""
    ends = [header.get(keyword) for keyword in ("WindowCenter", "WindowWidth")]
    centre, width = (end[0] if isinstance(end, list) or hasattr(end, "append") else end for end in ends)
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    least = {"LINEAR": 1.0, "LINEAR_EXACT": 1e-9, "SIGMOID": 1e-9}.get(function)
    if least is None or centre in (None, "") or width in (None, ""):
        return None
    known = math.isfinite(centre) and math.isfinite(width) and width >= least
    return (float(centre), float(width), function) if known else None


def _padding(header: "Dataset", stored: Numbers, shape: Shape) -> npt.NDArray[np.bool_] | None:
    """Which stored numbers stand for no pixel; a padding below zero may be written as if there were no sign."""
    if header.get("PixelPaddingValue") is None:
        return None
    ends = [_number(header, "PixelPaddingValue")]
    ends.append(_number(header, "PixelPaddingRangeLimit", ends[0]))
    first, last = sorted(
        end - (1 << shape.room) if shape.signed and end >> (shape.room - 1) == 1 else end for end in ends
    )
    return (stored >= first) & (stored <= last)


def _palette(header: "Dataset", little: bool, stored: Numbers, _: Count | None) -> Greys:
    """The colours of stored numbers in the file's palette, with an axis more."""
    shades = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = header[f"{colour}PaletteColorLookupTableDescriptor"].value
        entries = header.get(f"{colour}PaletteColorLookupTableData")
        if not entries:
            entries = _unfolded(header[f"Segmented{colour}PaletteColorLookupTableData"].value, descriptor, little)
        shades.append(_looked_up(stored, descriptor, entries, little))
    colours = np.stack(shades, axis=-1)
    return (colours >> 8 if colours.max(initial=0) > 255 else colours).astype(np.uint8)


def _unfolded(segments: bytes, descriptor: Sequence[int], little: bool) -> Numbers:
    """The entries of a palette in segments: some one by one, or a slope from the last one to another."""
    numbers = np.frombuffer(segments, "u1" if descriptor[2] == 8 else f"{'<' if little else '>'}u2")
    entries: list[Numbers] = [np.zeros(1, np.int64)]
    place = length = 0
    while place + 1 < len(numbers):
        kind, count = int(numbers[place]), int(numbers[place + 1])
        length += count
        # Segments that repeat others could unfold to anything, so nobody follows them.
        if kind > 1 or length > LONGEST_TABLE:
            raise ScanRefusedError(
                Kind.PHOTOMETRIC, "its palette is folded in a way that is not read: export it as RGB"
            )
        rest = numbers[place + 2 : place + 2 + (1 if kind else count)].astype(np.int64)
        entries.append(
            np.rint(np.linspace(entries[-1][-1], rest[0], count + 1)[1:]).astype(np.int64) if kind else rest
        )
        place += 2 + len(rest)
    return np.concatenate(entries[1:])


def _colours(numbers: Numbers, shape: Shape, told: Stream | None) -> Image.Image:
    """A picture in RGB; what a packed stream says of its colours is believed before what the header says."""
    luminance = shape.colours in LUMINANCE if told is None or told.luminance is None else told.luminance
    octets = np.ascontiguousarray(numbers >> max(0, shape.bits - 8), np.uint8)
    return Image.frombytes("YCbCr" if luminance else "RGB", (shape.columns, shape.rows), octets.data).convert("RGB")


@functools.cache
def _quieten() -> None:
    """The log of pydicom quotes what a file says."""
    import pydicom  # noqa: F401  (which sets the level itself, once)

    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
