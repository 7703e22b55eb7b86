"""Small files of every kind that is read, made on the spot: the same bytes on every machine."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence
from pydicom.uid import UID

STORAGE = "1.2.840.10008.5.1.4.1.1."
CT, SECONDARY = STORAGE + "2", STORAGE + "7"
IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
RLE, JPEG, EXTENDED, LOSSLESS, LOSSLESS_SV1 = (
    f"1.2.840.10008.1.2.{end}" for end in ("5", "4.50", "4.51", "4.57", "4.70")
)
JPEG_LS, NEAR_LOSSLESS, JPEG_2000_LOSSLESS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{end}" for end in (80, 81, 90, 91))


def grey(height=24, width=20, most=255):
    """A slope with a bright square on it."""
    slope = np.add.outer(np.arange(height), np.arange(width)) * (most // 2) // (height + width)
    slope[4:9, 3:11] = most
    return slope.astype(np.uint8 if most < 256 else np.uint16)


def coloured(height=24, width=20):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = grey(height, width), grey(height, width)[::-1]
    picture[10:16, 5:9] = (20, 60, 250)
    return picture


def saved(picture, kind, **options):
    """The bytes of a file that Pillow writes."""
    file = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(file, kind, **options)
    return file.getvalue()


def chunk(name, content):
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def dataset(numbers, colours="MONOCHROME2", bits=None, **elements):
    """A data set of a picture, without its pixels; `elements` are set, or with None left out."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CT, "1.2.3.4", "CT"
    data.PatientName, data.PatientID = "Doe^Jane", "P-1"
    data.Rows, data.Columns = numbers.shape[:2]
    data.SamplesPerPixel = 3 if numbers.ndim == 3 else 1
    if numbers.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = colours
    data.BitsAllocated = 8 * numbers.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(numbers.dtype.kind == "i")
    for name, value in elements.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    return data


def dicom(
    numbers, syntax=EXPLICIT, colours="MONOCHROME2", bits=None, stream=None, frames=None, extended=False, **elements
):
    """The bytes of a DICOM file.

    Args:
        numbers: its pixels, or one frame's where there are `frames`.
        stream: a frame as it is packed.
        frames: how often the frame is repeated.
        extended: with an extended table of where frames begin.
    """
    data = dataset(numbers, colours, bits, **elements)
    if frames:
        data.NumberOfFrames = frames
    streams = [stream] * (frames or 1)
    if stream is None:
        order = ">" if syntax == BIG_ENDIAN else "<"
        content = numbers.astype(numbers.dtype.newbyteorder(order)).tobytes() * (frames or 1)
        data.PixelData = content + b"\0" * (len(content) % 2)
    elif extended:
        data.PixelData, data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths = encapsulate_extended(streams)
    else:
        data.PixelData = encapsulate(streams)
    wide = data.BitsAllocated > 8 or syntax == IMPLICIT
    data["PixelData"].VR = "OW" if wide and stream is None else "OB"
    data["PixelData"].is_undefined_length = stream is not None
    return written(data, syntax)


def written(data, syntax=EXPLICIT):
    """The bytes of a DICOM file of a data set."""
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = data.SOPClassUID, "1.2.3.4"
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def run_lengths(numbers):
    """A frame in DICOM's run lengths."""
    samples = np.moveaxis(numbers, -1, 0) if numbers.ndim == 3 else numbers[None]
    segments = [
        imagecodecs.packbits_encode(bytes(octets)) + b"\0"
        for sample in samples
        for octets in np.ascontiguousarray(sample.astype(f">u{sample.itemsize}"))
        .view(np.uint8)
        .reshape(-1, sample.itemsize)
        .T
    ]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    places = 64 + np.cumsum([0, *map(len, segments)])[:-1]
    return struct.pack("<16I", len(segments), *places, *[0] * (15 - len(segments))) + b"".join(segments)


def jpeg(numbers, **options):
    """A frame as JPEG, in the colours that it has."""
    if numbers.ndim == 3:
        options = {"colorspace": "RGB", "outcolorspace": "RGB"} | options
    return imagecodecs.jpeg8_encode(numbers, **options)


def jpeg_2000(numbers, **options):
    """A frame as JPEG 2000, without a wrapper."""
    return imagecodecs.jpeg2k_encode(numbers, codecformat="j2k", **options)


def lut(entries, first, bits):
    """An item of a table of greys."""
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries), first, bits])
    item.add_new(0x00283006, "US", [int(entry) for entry in entries])
    return Sequence([item])


def palette(bits=8, entries=256):
    """Elements of a palette of reds, greens and blues."""
    levels = np.arange(entries) * (2**bits - 1) // (entries - 1)
    shades = {"Red": levels, "Green": levels[::-1], "Blue": levels // 2}
    told = {}
    for colour, values in shades.items():
        told[f"{colour}PaletteColorLookupTableDescriptor"] = [entries % 65536, 0, bits]
        told[f"{colour}PaletteColorLookupTableData"] = values.astype(f"<u{bits // 8}").tobytes()
    return told


def segmented(kind=1):
    """The same in segments: a first entry, and a slope up to the last."""
    told = {}
    for colour, last in (("Red", 65535), ("Green", 30000), ("Blue", 50000)):
        told[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        told[f"Segmented{colour}PaletteColorLookupTableData"] = struct.pack("<6H", 0, 1, 0, kind, 255, last)
    return told


def enhanced(frames=3):
    """Elements of an enhanced file, in which each frame has a window of its own."""

    def item(**elements):
        data = Dataset()
        for name, value in elements.items():
            setattr(data, name, value)
        return data

    rescaling = item(RescaleIntercept=-1000, RescaleSlope=2)
    windows = [
        item(FrameVOILUTSequence=Sequence([item(WindowCenter=k * 100, WindowWidth=900)])) for k in range(frames)
    ]
    return {
        "SharedFunctionalGroupsSequence": Sequence([item(PixelValueTransformationSequence=Sequence([rescaling]))]),
        "PerFrameFunctionalGroupsSequence": Sequence(windows),
    }


def pictures():
    """Pictures as other programs than scanners write them, by name."""
    one, many, wide = grey(), coloured(), grey(most=60000)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    clear = np.dstack([many, grey()])
    pages = {"save_all": True, "append_images": [Image.fromarray(many[::-1].copy())]}
    return {
        "grey.png": saved(one, "PNG"),
        "colour.png": saved(many, "PNG"),
        "clear.png": saved(clear, "PNG"),
        "palette.png": saved(Image.fromarray(many).quantize(16), "PNG"),
        "wide.png": saved(wide, "PNG"),
        "bits.png": saved(Image.fromarray(one > 99), "PNG"),
        "turned.png": saved(many, "PNG", exif=rotated),
        "moving.png": saved(many, "PNG", **pages),
        "grey.jpg": saved(one, "JPEG"),
        "colour.jpg": saved(many, "JPEG", exif=rotated),
        "progressive.jpg": saved(many, "JPEG", progressive=True),
        "ink.jpg": saved(Image.fromarray(many).convert("CMYK"), "JPEG"),
        "plain.tif": saved(many, "TIFF"),
        "turned.tif": saved(many, "TIFF", exif=rotated),
        "wide.tif": saved(wide, "TIFF"),
        "lzw.tif": saved(many, "TIFF", compression="tiff_lzw"),
        "deflate.tif": saved(wide, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": saved(many, "TIFF", compression="jpeg"),
        "packbits.tif": saved(one, "TIFF", compression="packbits"),
        "fax.tif": saved(Image.fromarray(one > 99), "TIFF", compression="group4"),
        "numbers.tif": saved(one.astype(np.float32) / 7, "TIFF"),
        "pages.tif": saved(many, "TIFF", **pages),
        "lossy.webp": saved(many, "WEBP"),
        "lossless.webp": saved(many, "WEBP", lossless=True),
        "clear.webp": saved(clear, "WEBP"),
        "moving.webp": saved(many, "WEBP", **pages),
    }


def scans():
    """DICOM files in every transfer syntax that is read, by name."""
    one, many, wide = grey(), coloured(), grey(most=4000)
    signed = wide.astype(np.int16) - 1000
    ybr = np.asarray(Image.fromarray(many).convert("YCbCr"))
    thinned = np.concatenate([ybr[:, ::2, :1], ybr[:, 1::2, :1], ybr[:, ::2, 1:]], axis=2)
    window = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500], "RescaleSlope": 1, "RescaleIntercept": -1024}
    return {
        "explicit": dicom(signed, **window),
        "implicit": dicom(signed, IMPLICIT, **window),
        "big-endian": dicom(signed, BIG_ENDIAN, **window),
        "deflated": dicom(signed, DEFLATED, **window),
        "octets": dicom(one, Modality="US", SOPClassUID=SECONDARY),
        "negative": dicom(one, colours="MONOCHROME1"),
        "bare": dicom(signed, IMPLICIT)[132:],
        "padded": dicom(signed, PixelPaddingValue=-1000),
        "modality-lut": dicom(wide, ModalityLUTSequence=lut(np.arange(4096)[::-1], 0, 16)),
        "voi-lut": dicom(wide, VOILUTSequence=lut(np.arange(4096) // 16, 0, 8)),
        "bits": dicom(
            np.packbits(one > 99, bitorder="little")[None], BitsAllocated=1, BitsStored=1, Rows=24, Columns=20
        ),
        "colour": dicom(many, colours="RGB"),
        "planes": dicom(np.moveaxis(many, -1, 0).reshape(many.shape), colours="RGB", PlanarConfiguration=1),
        "ybr": dicom(ybr, colours="YBR_FULL"),
        "ybr-422": dicom(thinned, colours="YBR_FULL_422", Columns=20, SamplesPerPixel=3),
        "colour-16": dicom(many.astype(np.uint16) * 257, colours="RGB"),
        "palette": dicom(one, colours="PALETTE COLOR", **palette()),
        "palette-16": dicom(one, colours="PALETTE COLOR", **palette(16)),
        "palette-segments": dicom(one, colours="PALETTE COLOR", **segmented()),
        "frames": dicom(signed, frames=3, **window),
        "enhanced": dicom(wide, frames=3, **enhanced()),
        "rle": dicom(one, RLE, stream=run_lengths(one)),
        "rle-16": dicom(signed, RLE, stream=run_lengths(signed.view(np.uint16)), **window),
        "rle-colour": dicom(many, RLE, "RGB", stream=run_lengths(many), frames=2),
        "jpeg": dicom(one, JPEG, stream=jpeg(one)),
        "jpeg-colour": dicom(many, JPEG, "YBR_FULL_422", stream=jpeg(many, outcolorspace="YCBCR", subsampling="422")),
        "jpeg-rgb": dicom(many, JPEG, "RGB", stream=jpeg(many)),
        "jpeg-frames": dicom(one, JPEG, stream=jpeg(one), frames=3, extended=True),
        "extended": dicom(wide, EXTENDED, bits=12, stream=jpeg(wide, bitspersample=12)),
        "lossless": dicom(wide, LOSSLESS, bits=12, stream=jpeg(wide, lossless=True, bitspersample=12, predictor=4)),
        "lossless-sv1": dicom(
            signed, LOSSLESS_SV1, stream=jpeg(signed.view(np.uint16), lossless=True, bitspersample=16, predictor=1)
        ),
        "lossless-colour": dicom(many, LOSSLESS_SV1, "RGB", stream=jpeg(many, lossless=True, predictor=1)),
        "jpeg-ls": dicom(signed, JPEG_LS, stream=imagecodecs.jpegls_encode(signed.view(np.uint16))),
        "jpeg-ls-colour": dicom(many, JPEG_LS, "RGB", stream=imagecodecs.jpegls_encode(many)),
        "near-lossless": dicom(one, NEAR_LOSSLESS, stream=imagecodecs.jpegls_encode(one, level=3)),
        "jpeg-2000": dicom(signed, JPEG_2000_LOSSLESS, stream=jpeg_2000(signed, reversible=True)),
        "jpeg-2000-colour": dicom(
            many, JPEG_2000_LOSSLESS, "YBR_RCT", stream=jpeg_2000(many, reversible=True, mct=True)
        ),
        "jpeg-2000-lossy": dicom(many, JPEG_2000, "YBR_ICT", stream=jpeg_2000(many, level=40, mct=True)),
    }
