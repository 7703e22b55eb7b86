import logging
import struct
import warnings

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing

from braincl_med.scans.dicom import window_of
from braincl_med.scans.reading import read_file
from braincl_med.scans.refusals import Kind, ScanRefusedError
from tests.scans import files
from tests.scans.files import coloured, dataset, dicom, grey, scans, written

MR_SMALL = ["MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit", "MR_small_padded"]
MR_SMALL += ["MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"]


def seen_by_pydicom(path, frame=None):
    """The greys or colours that pydicom alone makes of a file, from 0 to 255 with fractions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
        numbers = data.pixel_array if frame is None else data.pixel_array[frame]
        if data.PhotometricInterpretation == "PALETTE COLOR":
            numbers = apply_color_lut(numbers, data)
        elif data.SamplesPerPixel == 1:
            rescaled = apply_modality_lut(numbers, data)
            if "WindowCenter" not in data:
                return rescaled
            data.WindowCenter, data.WindowWidth = (
                np.ravel(data[name].value)[:1].tolist() for name in ("WindowCenter", "WindowWidth")
            )
            ends = apply_windowing(np.array([-1e9, 1e9]), data)
            return (apply_voi_lut(rescaled, data) - ends[0]) / (ends[1] - ends[0]) * 255
    return numbers >> (8 * numbers.itemsize - 8)


def test_every_transfer_syntax_gives_the_same_pixels(shipped):
    first, *rest = (read_file(shipped(f"{name}.dcm")) for name in MR_SMALL)
    assert first.kind == "DICOM MR"
    assert first.patient == "4MR1"
    for other in rest:
        assert np.array_equal(other.pixels, first.pixels)
        assert other.digest == first.digest


def test_every_transfer_syntax_of_files_made_here_gives_the_same_pixels(pixels_of):
    made = scans()
    for one, others in {
        "explicit": ("implicit", "big-endian", "deflated", "rle-16"),
        "bare": ("lossless-sv1", "jpeg-ls", "jpeg-2000"),
        "colour": ("planes", "colour-16", "lossless-colour", "jpeg-ls-colour", "jpeg-2000-colour"),
        "octets": ("rle",),
    }.items():
        for other in others:
            assert np.array_equal(pixels_of(made[other]), pixels_of(made[one])), other
    assert np.array_equal(pixels_of(made["colour"]), coloured())
    assert np.array_equal(pixels_of(made["octets"])[..., 0], grey())
    assert np.array_equal(pixels_of(made["bits"])[..., 0], np.where(grey() > 99, 255, 0))
    assert np.abs(pixels_of(made["lossless"]).astype(int) - pixels_of(dicom(grey(most=4000), bits=12))).max() == 0
    for lossy, like in {"jpeg": "octets", "near-lossless": "octets", "extended": "lossless", "jpeg-rgb": "colour",
                        "jpeg-2000-lossy": "colour", "ybr": "colour"}.items():  # fmt: skip
        assert np.abs(pixels_of(made[lossy]).astype(int) - pixels_of(made[like])).mean() < 6, lossy


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("693_J2KI", 0.51), ("J2K_pixelrep_mismatch", 0.51), ("MR_small", 0.51), ("examples_overlay", 0.51),
        ("MR_small_bigendian", 0.51), ("image_dfl", 0), ("ExplVR_BigEnd", 0), ("SC_jpeg_no_color_transform", 0),
        ("SC_jpeg_no_color_transform_2", 0), ("SC_rgb_dcmtk_+eb+cr", 0), ("SC_rgb_dcmtk_+eb+cy+n1", 1),
        ("SC_rgb_dcmtk_+eb+cy+n2", 1), ("SC_rgb_dcmtk_+eb+cy+np", 1), ("SC_rgb_dcmtk_+eb+cy+s2", 1),
        ("SC_rgb_dcmtk_+eb+cy+s4", 1), ("SC_rgb_gdcm_KY", 0), ("SC_rgb_jpeg", 0), ("SC_rgb_jpeg_app14_dcmd", 0),
        ("SC_rgb_jpeg_dcmd", 0), ("SC_rgb_jpeg_dcmtk", 1), ("SC_rgb_jpeg_lossy_gdcm", 1), ("SC_rgb_rle", 0),
        ("SC_rgb_rle_16bit", 0), ("SC_rgb_rle_32bit", 0), ("SC_rgb_small_odd", 0), ("SC_rgb_small_odd_big_endian", 0),
        ("SC_rgb_small_odd_jpeg", 1), ("SC_ybr_full_422_uncompressed", 1), ("examples_jpeg2k", 0),
        ("examples_palette", 0), ("examples_rgb_color", 0),
    ],
)  # fmt: skip
def test_pixels_are_those_of_pydicom(name, off, shipped):
    path = shipped(f"{name}.dcm")
    expected = np.clip(seen_by_pydicom(path), 0, 255)
    expected = np.repeat(expected[..., None], 3, axis=2) if expected.ndim == 2 else expected
    assert np.abs(read_file(path).pixels - expected.astype(float)).max() <= off


def test_what_pydicom_cannot_decode_by_itself(shipped):
    """The same picture as JPEG lossless and JPEG-LS, and JPEG of 12 bits, which pydicom leaves to others."""
    colours = read_file(shipped("SC_rgb_rle.dcm")).pixels.astype(int)
    assert np.abs(read_file(shipped("SC_rgb_jpeg_gdcm.dcm")).pixels - colours).max() == 0
    for name in ("SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm"):
        assert np.abs(read_file(shipped(name)).pixels - colours).max() <= 10
    assert np.array_equal(read_file(shipped("JPGExtended.dcm")).pixels, read_file(shipped("JPEG-lossy.dcm")).pixels)


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame", "SC_rgb_rle_16bit_2frame", "examples_ybr_color"])
def test_of_several_frames_one_must_be_named(name, shipped):
    path = shipped(f"{name}.dcm")
    frames = int(pydicom.dcmread(path).NumberOfFrames)
    for wrong in (None, frames, -1):
        with pytest.raises(ScanRefusedError) as caught:
            read_file(path, wrong)
        assert caught.value.kind == Kind.FRAMES
    for frame in (0, frames - 1):
        expected = seen_by_pydicom(path, frame)
        assert np.abs(read_file(path, frame).pixels - expected.astype(int)).max() <= 1


def test_frames_of_enhanced_files_have_windows_of_their_own(pixels_of):
    numbers = grey(most=4000)
    for frame in range(3):
        expected = np.clip(window_of(numbers * 2.0 - 1000, frame * 100, 900, "LINEAR"), 0, 1) * 255
        assert np.abs(pixels_of(scans()["enhanced"], frame)[..., 0] - expected).max() <= 0.51


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (1000, 1), (-300.5, 77.7), (500, 2)])
@pytest.mark.filterwarnings("ignore:overflow")
def test_windows_are_those_of_pydicom(function, centre, width):
    numbers = np.arange(-1024, 3072)
    data = dataset(np.zeros((2, 2), np.uint8), WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    expected = apply_windowing(numbers, data) / 255
    if not (function == "LINEAR" and width == 1):  # by which pydicom divides by nothing
        assert np.abs(np.clip(window_of(numbers, centre, width, function), 0, 1) - expected).max() < 1e-9
    if function == "LINEAR":
        assert set(np.unique(window_of(numbers, centre, 1, function))) == {0, 1}


def test_tables_of_greys(pixels_of):
    numbers = grey(most=4000)
    assert np.array_equal(pixels_of(scans()["voi-lut"])[..., 0], numbers // 16)
    turned = pixels_of(scans()["modality-lut"])
    assert np.array_equal(turned, pixels_of(dicom(4095 - numbers)))
    signed = dicom(numbers.astype(np.int16) - 2000, VOILUTSequence=files.lut(np.arange(4096) // 16, 65536 - 2000, 8))
    assert np.array_equal(pixels_of(signed)[..., 0], numbers // 16)


def test_palettes(pixels_of):
    colours = pixels_of(scans()["palette"]).astype(int)
    assert np.array_equal(colours, np.stack([grey(), 255 - grey(), grey() // 2], axis=-1))
    assert np.abs(pixels_of(scans()["palette-16"]) - colours).max() <= 1
    slope = pixels_of(scans()["palette-segments"])[..., 0]
    assert np.abs(slope.astype(int) - grey()).max() <= 1


def test_palettes_that_unfold_without_end(refusal_of):
    content = dicom(grey(), colours="PALETTE COLOR", **files.segmented(kind=2))
    assert refusal_of(content).kind == Kind.PHOTOMETRIC


def test_negatives_are_turned_over(pixels_of):
    assert np.array_equal(pixels_of(scans()["negative"]), 255 - pixels_of(scans()["octets"]))
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    numbers = grey(most=4000)
    assert np.array_equal(
        pixels_of(dicom(numbers, colours="MONOCHROME1", **window)), 255 - pixels_of(dicom(numbers, **window))
    )


def test_what_stands_for_no_pixel_has_no_say(pixels_of):
    numbers = np.random.default_rng(0).integers(100, 200, (40, 40)).astype(np.int16)
    ringed = numbers.copy()
    ringed[:10] = -2000
    seen = pixels_of(dicom(ringed, PixelPaddingValue=-2000))
    assert np.array_equal(seen[10:], pixels_of(dicom(numbers[10:])))
    assert (seen[:10] == 0).all()
    as_if_unsigned = dicom(ringed, PixelPaddingValue=-2000).replace(
        struct.pack("<H2sHh", 0x0120, b"SS", 2, -2000), struct.pack("<H2sHH", 0x0120, b"US", 2, 63536)
    )
    assert np.array_equal(pixels_of(as_if_unsigned), seen)


def test_windows_through_which_nothing_is_seen_are_left_out(pixels_of):
    numbers = grey(most=4000)
    plain = pixels_of(dicom(numbers))
    for width in (0, -5, ""):
        assert np.array_equal(pixels_of(dicom(numbers, WindowCenter=40, WindowWidth=width)), plain)


def test_colours_stored_in_full_though_said_to_be_thinned_out(pixels_of):
    ybr = np.asarray(Image.fromarray(coloured()).convert("YCbCr"))
    assert np.array_equal(pixels_of(dicom(ybr, colours="YBR_FULL_422")), pixels_of(dicom(ybr, colours="YBR_FULL")))


def test_truncated_files(shipped, refusal_of):
    with pytest.raises(ScanRefusedError) as caught:
        read_file(shipped("MR_truncated.dcm"))
    assert caught.value.kind == Kind.TRUNCATED
    packed = ("rle", "jpeg", "jpeg-ls", "jpeg-2000", "lossless")
    for name in ("explicit", "implicit", "big-endian", "deflated", "colour", "ybr-422", *packed):
        content = scans()[name]
        assert refusal_of(content[: len(content) - 60]).kind == Kind.TRUNCATED, name
    content = scans()["explicit"]
    assert refusal_of(content[: content.index(struct.pack("<HH", 0x0028, 0x0103))]).kind == Kind.TRUNCATED


@pytest.mark.parametrize(
    "name",
    ["liver_1frame", "rtdose", "rtdose_rle", "rtplan", "rtstruct", "reportsi", "test-SR", "waveform_ecg", "priv_SQ"],
)  # fmt: skip
def test_dicom_files_without_a_picture(name, shipped):
    with pytest.raises(ScanRefusedError) as caught:
        read_file(shipped(f"{name}.dcm"))
    assert caught.value.kind == Kind.NOT_A_PICTURE


def test_classes_and_modalities_without_a_picture(refusal_of, pixels_of):
    for number in ("66.4", "481.2", "481.5", "11.1", "88.59", "104.1", "67", "9.1.1"):
        content = dicom(grey(), Modality="OT", SOPClassUID=files.STORAGE + number)
        assert refusal_of(content).kind == Kind.NOT_A_PICTURE
    assert pixels_of(dicom(grey(), Modality="RTIMAGE", SOPClassUID=files.STORAGE + "481.1")).shape == (24, 20, 3)
    floating = dataset(grey().astype(np.float32))
    floating.FloatPixelData = grey().astype(np.float32).tobytes()
    assert refusal_of(written(floating)).kind == Kind.NOT_A_PICTURE


def test_unknown_colours(refusal_of):
    for colours in ("HSV", "CMYK", "YBR_PARTIAL_420", "XYZ", ""):
        assert refusal_of(dicom(grey(), colours=colours)).kind == Kind.PHOTOMETRIC
    assert refusal_of(dicom(grey(), colours="RGB")).kind == Kind.PHOTOMETRIC


def test_blank_scans(refusal_of):
    assert refusal_of(dicom(np.full((9, 9), 300, np.uint16))).kind == Kind.BLANK
    assert refusal_of(dicom(grey(most=300), WindowCenter=3000, WindowWidth=10)).kind == Kind.BLANK


def test_films_and_unknown_packings(refusal_of):
    plain = written(dataset(grey(), PixelData=grey().tobytes()))
    for syntax in ("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.7", "1.2.3.4.5"):
        content = plain.replace(b"1.2.840.10008.1.2.1\0", syntax.encode().ljust(20, b"\0"))
        assert refusal_of(content).kind == Kind.UNREADABLE
    film = dicom(grey(), "1.2.840.10008.1.2.4.103", stream=b"\0\0\1\xba", frames=3)
    assert refusal_of(film, 1).kind == Kind.UNREADABLE


def test_more_pixels_than_memory(refusal_of):
    assert refusal_of(dicom(grey(), Rows=60_000, Columns=60_000)).kind == Kind.TOO_LARGE
    assert refusal_of(dicom(grey(), Rows=9_000, Columns=9_000)).kind == Kind.TRUNCATED
    assert refusal_of(dicom(grey(), Rows=0)).kind == Kind.UNREADABLE
    for name in ("jpeg", "lossless", "jpeg-ls", "jpeg-2000"):
        content = bytearray(scans()[name])
        if name == "jpeg-2000":
            place = content.index(b"\xff\x4f\xff\x51") + 8
            content[place : place + 8] = struct.pack(">II", 65_535, 65_535)
        else:
            mark = {"jpeg": b"\xff\xc0", "lossless": b"\xff\xc3", "jpeg-ls": b"\xff\xf7"}[name]
            place = content.index(mark) + 5
            content[place : place + 4] = struct.pack(">HH", 65_500, 65_500)
        assert refusal_of(bytes(content)).kind == Kind.UNREADABLE, name


def test_deflated_data_sets_unfold_to_a_limit(refusal_of):
    import zlib

    content = scans()["deflated"]
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(wbits=-15)
    zeros = bytes(1 << 24)
    bomb = b"".join([content[:start], *(packer.compress(zeros) for _ in range(17)), packer.flush()])
    assert len(bomb) < 1 << 19
    assert refusal_of(bomb).kind == Kind.TOO_LARGE


def test_a_progressive_picture_of_very_many_passes(refusal_of):
    frame = files.jpeg(grey()).replace(b"\xff\xd9", b"\xff\xda\0\2" * 200 + b"\xff\xd9")
    for content in (frame, dicom(grey(), files.JPEG, stream=frame)):
        assert "passes" in refusal_of(content).reason


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_kinds_and_patients(tmp_path):
    def read(**elements):
        (tmp_path / "file").write_bytes(dicom(grey(), **elements))
        reading = read_file(tmp_path / "file")
        return reading.kind, reading.patient

    assert read(Modality="US", PatientID=" 12 ") == ("DICOM US", "12")
    assert read(Modality="RTIMAGE", PatientID=None) == ("DICOM", "")
    assert read(Modality="Jane", PatientID="") == ("DICOM", "")
    assert read(SpecificCharacterSet="ISO_IR 192", PatientID="Jürgen-1") == ("DICOM CT", "Jürgen-1")


PLANTED = ("Zephyrine", "ZX-99-SECRET", "file-of-zephyrine")


def test_nothing_that_is_said_repeats_who_it_is(tmp_path, caplog, capfd, recwarn, shipped):
    """Not by refusals, logs or warnings, at any level, for files that are right, wrong and cut off."""
    texts = saved_with_texts()
    caplog.set_level(logging.DEBUG)
    path = tmp_path / f"{PLANTED[2]}.dcm"
    told = {"PatientName": f"{PLANTED[0]}^Ann", "PatientID": PLANTED[1], "SpecificCharacterSet": "ISO_IR 100"}
    window = {"WindowCenter": 40, "WindowWidth": 400}
    good = dicom(grey(most=4000), **told, **window)
    damaged = [
        good.replace(b"ISO_IR 100", PLANTED[1][:10].encode()),
        good.replace(b"MONOCHROME2", PLANTED[1][:11].encode()),
        good.replace(
            struct.pack("<HH2sH", 0x28, 0x1050, b"DS", 2) + b"40",
            struct.pack("<HH2sH", 0x28, 0x1050, b"DS", 2) + b"ZX",
        ),
        dicom(grey(), frames=2, **told),
        dicom(grey(), Modality="SEG", **told),
        dicom(grey(), files.JPEG, stream=b"\xff\xd8" + PLANTED[1].encode(), **told),
        *(good[:length] for length in range(140, len(good) - 1, 97)),
        *(content[:length] for content in texts for length in (len(content), len(content) // 2)),
    ]
    said = []
    for content in (good, *damaged):
        path.write_bytes(content)
        try:
            read_file(path)
        except ScanRefusedError as error:
            said += [str(error), error.reason, repr(error)]
    for name in ("test-SR.dcm", "rtstruct.dcm", "badVR.dcm", "empty_charset_LEI.dcm", "MR_truncated.dcm"):
        with pytest.raises(ScanRefusedError) as caught:
            read_file(shipped(name))
        said.append(str(caught.value))
        assert name not in str(caught.value)
    assert len(said) > 40
    out, err = capfd.readouterr()
    said += [out, err, caplog.text, *(str(warning.message) for warning in recwarn)]
    for planted in (*PLANTED, str(tmp_path), "ZX"):
        assert not any(planted.lower() in text.lower() for text in said)
    assert not recwarn.list
    assert not caplog.records


def saved_with_texts():
    """Pictures whose notes name somebody."""
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("Patient", f"{PLANTED[0]} {PLANTED[1]}")
    many = coloured()
    return [
        files.saved(many, "PNG", pnginfo=notes),
        files.saved(many, "TIFF", tiffinfo={270: PLANTED[0], 315: PLANTED[1]}),
        files.saved(many, "TIFF", tiffinfo={270: PLANTED[0]}, compression="tiff_lzw"),
        files.saved(many, "JPEG", comment=PLANTED[1].encode()),
    ]
