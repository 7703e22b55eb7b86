import struct

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from braincl_med.scans.reading import fit, read_file, read_scan
from braincl_med.scans.refusals import Kind
from tests.scans.files import chunk, coloured, grey, jpeg, pictures, saved


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_pictures_are_upright(kind, orientation, pixels_of, tmp_path):
    notes = Image.Exif()
    notes[0x0112] = orientation
    content = saved(coloured(), kind, exif=notes)
    (tmp_path / "same").write_bytes(content)
    with Image.open(tmp_path / "same") as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert np.array_equal(pixels_of(content), expected)


@pytest.mark.parametrize("name", ["colour.png", "palette.png", "plain.tif", "lzw.tif", "jpeg.tif", "lossless.webp"])
def test_colours_are_those_of_pillow(name, pixels_of, tmp_path):
    (tmp_path / "same").write_bytes(pictures()[name])
    assert np.array_equal(pixels_of(pictures()[name]), np.asarray(Image.open(tmp_path / "same").convert("RGB")))


def test_grey_has_three_equal_channels(pixels_of):
    seen = pixels_of(saved(grey(), "PNG"))
    assert np.array_equal(seen, np.repeat(grey()[..., None], 3, axis=2))


def test_one_bit_is_black_and_white(pixels_of):
    assert np.array_equal(pixels_of(pictures()["bits.png"])[..., 0], np.where(grey() > 99, 255, 0))
    assert np.array_equal(pixels_of(pictures()["fax.tif"])[..., 0], np.where(grey() > 99, 255, 0))


def test_what_is_clear_is_black(pixels_of):
    alpha = grey().astype(int)
    seen = pixels_of(pictures()["clear.png"])
    assert np.abs(seen - coloured() * alpha[..., None] / 255).max() <= 1
    with_key = saved(grey(), "PNG", transparency=255)  # one grey that stands for nothing
    assert np.array_equal(pixels_of(with_key)[..., 0], np.where(grey() == 255, 0, grey()))


def test_ink_becomes_light(pixels_of):
    seen = pixels_of(saved(Image.fromarray(coloured()).convert("CMYK"), "TIFF"))
    assert np.abs(seen.astype(int) - coloured()).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_stretched_between_percentiles(kind, pixels_of):
    numbers = np.random.default_rng(0).normal(20_000, 3_000, (60, 50)).clip(0, 65535).astype(np.uint16)
    low, high = np.percentile(numbers, (0.5, 99.5), method="lower")
    expected = np.clip((numbers.astype(float) - low) / (high - low), 0, 1) * 255
    assert np.abs(pixels_of(saved(numbers, kind))[..., 0] - expected).max() <= 0.51


def test_numbers_with_fractions_are_stretched_and_what_is_none_is_black(pixels_of):
    numbers = grey().astype(np.float32) / 1000
    numbers[0, :3] = (np.nan, np.inf, -np.inf)
    seen = pixels_of(saved(numbers, "TIFF"))[..., 0]
    assert seen[0, 0] == 0
    assert seen.max() == 255
    assert np.corrcoef(seen[1:].ravel(), grey()[1:].ravel())[0, 1] > 0.99


def test_sixteen_bits_that_count_white_as_zero_are_turned_over(pixels_of):
    white = saved(grey(most=60000), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(pixels_of(white), 255 - pixels_of(saved(grey(most=60000), "TIFF")))


@pytest.mark.parametrize("name", ["pages.tif", "moving.png", "moving.webp"])
def test_of_several_pages_one_must_be_named(name, pixels_of, refusal_of):
    content = pictures()[name]
    assert refusal_of(content).kind == Kind.FRAMES
    assert refusal_of(content, 2).kind == Kind.FRAMES
    assert refusal_of(content, -1).kind == Kind.FRAMES
    first, second = pixels_of(content, 0).astype(int), pixels_of(content, 1).astype(int)
    assert np.abs(first[::-1] - second).mean() < 4
    assert np.abs(first - second).mean() > 4


def test_a_telephones_previews_are_no_further_frames(pixels_of, refusal_of):
    content = saved(coloured(), "MPO", save_all=True, append_images=[Image.fromarray(grey())])
    assert pixels_of(content).shape == (24, 20, 3)
    assert refusal_of(content, 2).kind == Kind.FRAMES


def test_the_kind_is_told_by_content(tmp_path):
    for name, kind in {"grey.png": "PNG", "grey.jpg": "JPEG", "plain.tif": "TIFF", "lossy.webp": "WebP"}.items():
        path = tmp_path / "misnamed.dcm"
        path.write_bytes(pictures()[name])
        reading = read_file(path)
        assert (reading.kind, reading.patient, reading.width, reading.height) == (kind, "", 20, 24)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "JPEG2000", "ICO"])
def test_no_other_pictures(kind, refusal_of):
    refused = refusal_of(saved(coloured(), kind))
    assert refused.kind == Kind.NOT_A_PICTURE
    assert "PNG, JPEG, TIFF, WebP or DICOM" in refused.reason


def test_what_is_no_picture_at_all(refusal_of):
    assert refusal_of(b"").kind == Kind.TRUNCATED
    for content in (b"%PDF-1.7", b"<svg/>", b"RIFF\0\0\0\0WAVEfmt ", b"\0" * 200, b"x"):
        assert refusal_of(content).kind == Kind.NOT_A_PICTURE


def test_digests_are_of_pixels_and_their_shape(tmp_path):
    def digest(content):
        (tmp_path / "file").write_bytes(content)
        return read_file(tmp_path / "file").digest

    assert len(digest(saved(grey(), "PNG"))) == 16
    assert (
        digest(saved(grey(), "PNG"))
        == digest(saved(grey(), "TIFF"))
        == digest(saved(Image.fromarray(grey()).convert("RGB"), "PNG"))
    )
    assert digest(saved(grey(), "PNG")) != digest(saved(grey().reshape(20, 24), "PNG"))


def test_truncated_pictures(refusal_of, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as other libraries wish
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        content = saved(noise, kind)
        kinds = {refusal_of(content[: int(len(content) * part)]).kind for part in (0.3, 0.6, 0.9)}
        assert kinds == {Kind.TRUNCATED}, kind


def test_damaged_pictures(refusal_of):
    content = bytearray(saved(coloured(), "PNG"))
    content[content.index(b"IDAT") + 8] ^= 0xFF
    assert refusal_of(bytes(content)).kind == Kind.UNREADABLE
    assert refusal_of(b"\x89PNG\r\n\x1a\n" + b"\0" * 40).kind == Kind.UNREADABLE


def test_blank_pictures(refusal_of, pixels_of):
    one = np.full((300, 300, 3), (10, 200, 30), np.uint8)
    assert refusal_of(saved(one, "PNG")).kind == Kind.BLANK
    assert refusal_of(saved(np.full((9, 9), 777, np.uint16), "PNG")).kind == Kind.BLANK
    assert refusal_of(saved(np.full((9, 9), np.nan, np.float32), "TIFF")).kind == Kind.BLANK
    one[123, 217, 1] = 201  # one pixel of 90,000, which no sample finds
    assert pixels_of(saved(one, "PNG"))[123, 217, 1] == 201


def png_of(width, height):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
            chunk(b"IDAT", b""),
            chunk(b"IEND", b""),
        )
    )


def test_pictures_that_would_fill_the_memory(refusal_of):
    assert refusal_of(png_of(60_000, 60_000)).kind == Kind.TOO_LARGE
    assert refusal_of(png_of(10_001, 10_000)).kind == Kind.TOO_LARGE
    huge = bytearray(jpeg(coloured()))
    place = huge.index(b"\xff\xc0")
    huge[place + 5 : place + 9] = struct.pack(">HH", 65_500, 65_500)
    assert refusal_of(bytes(huge)).kind == Kind.TOO_LARGE
    wide = bytearray(saved(coloured(), "TIFF"))
    for tag in (256, 257):
        place = wide.index(struct.pack("<HHI", tag, 4, 1)) + 8
        wide[place : place + 4] = struct.pack("<I", 60_000)
    assert refusal_of(bytes(wide)).kind == Kind.TOO_LARGE
    canvas = bytearray(pictures()["moving.webp"])
    canvas[24:30] = b"\xfe\x3f\x00\xfe\x3f\x00"
    assert refusal_of(bytes(canvas)).kind in (Kind.TOO_LARGE, Kind.UNREADABLE)


def test_texts_and_profiles_that_unfold_to_much(refusal_of):
    import zlib

    content = saved(coloured(), "PNG")
    folded = zlib.compress(b"x" * (80 << 20))
    for bomb in (chunk(b"zTXt", b"k\0\0" + folded), chunk(b"iCCP", b"k\0\0" + folded)):
        refused = refusal_of(content[:33] + bomb + content[33:])
        assert refused.kind in (Kind.UNREADABLE, Kind.TRUNCATED)


def test_files_that_are_none(tmp_path):
    import os

    from braincl_med.scans.refusals import ScanRefusedError

    def kind(path):
        with pytest.raises(ScanRefusedError) as caught:
            read_file(path)
        return caught.value.kind

    assert kind(tmp_path / "nowhere") == Kind.MISSING
    assert kind(tmp_path / "nul\0") == Kind.MISSING
    assert kind(tmp_path) == Kind.NOT_A_PICTURE
    os.mkfifo(tmp_path / "pipe")
    assert kind(tmp_path / "pipe") == Kind.NOT_A_PICTURE
    with (tmp_path / "huge").open("wb") as file:
        file.truncate((1 << 30) + 1)
    assert kind(tmp_path / "huge") == Kind.TOO_LARGE


@pytest.mark.parametrize("shape", [(24, 20), (20, 24), (16, 16), (400, 3), (1, 700), (1, 2)])
@pytest.mark.parametrize("how", ["pad", "crop"])
def test_squares(shape, how, tmp_path):
    picture = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * 255 // max(2, sum(shape) - 2)
    path = tmp_path / "file"
    path.write_bytes(saved(picture.astype(np.uint8), "PNG"))
    square = read_scan(path, 28, how)
    assert square.shape == (28, 28, 3)
    assert square.dtype == np.uint8
    assert np.array_equal(square, fit(read_file(path).pixels, 28, how))


def test_padding_is_black_and_in_proportion():
    white = np.full((30, 60, 3), 255, np.uint8)
    square = fit(white, 20, "pad")
    assert (square[5:15] == 255).all()
    assert (square[:5] == 0).all()
    assert (square[15:] == 0).all()
    assert (fit(white, 20, "crop") == 255).all()
    assert np.array_equal(fit(coloured(16, 16), 16, "pad"), coloured(16, 16))


def test_shrinking_mixes_what_it_leaves_out():
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    square = fit(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), 16, "pad")
    assert 120 < square.min() <= square.max() < 135
