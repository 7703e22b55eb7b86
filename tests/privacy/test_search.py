import gzip
import io
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from braincl_med.privacy.search import Probes, looks_like, shown
from braincl_med.vault.vault import Vault
from tests.vault.test_cuefile import cue_file


def scans(count=20, size=28, *, grey=False, seed=0):
    """Smooth scans with noise inside a round, dark-bordered field, as an ultrasound's."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    field = ((rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.2)[None, ..., None]
    tilt = rng.uniform(20, 200, (count, 1, 1, 1 if grey else 3)) * rows[None, ..., None]
    images = (field * (tilt + rng.integers(0, 20, (count, size, size, 1)))).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(images, (count, size, size, 3)))


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def saved(image, save):
    buffer = io.BytesIO()
    save(buffer, image)
    return buffer.getvalue()


WAYS = {
    "raw": lambda s: s.tobytes(),
    "transposed": lambda s: s.transpose(2, 0, 1).tobytes(),
    "one channel": lambda s: np.ascontiguousarray(s[..., 0]).tobytes(),
    "last channel": lambda s: np.ascontiguousarray(s[..., 2]).tobytes(),
    "grey": lambda s: Image.fromarray(s).convert("L").tobytes(),
    "blue first": lambda s: np.ascontiguousarray(s[..., ::-1]).tobytes(),
    "zlib": lambda s: zlib.compress(s.tobytes()),
    "zlib, fast": lambda s: zlib.compress(s.tobytes(), 1),
    "gzip": lambda s: gzip.compress(s.transpose(2, 0, 1).tobytes()),
    "zlib, cut off": lambda s: zlib.compress(s.tobytes())[:-30],
    "zlib in gzip": lambda s: gzip.compress(b"words" + zlib.compress(s.tobytes())),
    "png": png,
    "grey png": lambda s: png(np.asarray(Image.fromarray(s).convert("L"))),
    "bmp": lambda s: saved(s, lambda f, i: Image.fromarray(i).save(f, "bmp")),
    "tiff": lambda s: saved(s, lambda f, i: Image.fromarray(i).save(f, "tiff", compression="tiff_lzw")),
    "npy": lambda s: saved(s, np.save),
    "npz": lambda s: saved(s, lambda f, i: np.savez_compressed(f, other=np.zeros(99), scan=i)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("grey", [False, True])
def test_a_planted_scan_is_found(tmp_path, way, grey):
    images = scans(grey=grey)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "notes.bin").write_bytes(WAYS[way](images[7]))
    (finding,) = Probes(images).findings(tmp_path)
    assert finding.startswith("'below/notes.bin' holds bytes of 1 of the 20 given scans, first of scan 7 (")


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"bmp", "tiff"}))
def test_a_scan_hidden_within_another_file_is_found(tmp_path, way):
    images = scans()
    noise = np.random.default_rng(1).bytes(50_001)
    (tmp_path / "task-000.working.00000000.cue").write_bytes(noise + WAYS[way](images[3]) + noise)
    (finding,) = Probes(images).findings(tmp_path)
    assert "scan 3 (" in finding


def test_every_scan_in_a_file_is_counted(tmp_path):
    images = scans()
    (tmp_path / "all").write_bytes(images.tobytes())
    assert "20 of the 20" in Probes(images).findings(tmp_path)[0]


def test_a_vault_of_random_cues_holds_no_scan(tmp_path):
    vault = Vault(tmp_path / "trial")
    for task in range(4):
        vault.remember(cue_file((200, 100), task=task, seed=task)[0])
    (tmp_path / "noise").write_bytes(np.random.default_rng(0).bytes(2_000_000))
    (tmp_path / "zeros").write_bytes(bytes(2_000_000))
    assert Probes(scans(300)).findings(tmp_path) == []


def test_blank_scans_are_found_nowhere(tmp_path):
    (tmp_path / "zeros").write_bytes(bytes(10_000))
    assert Probes(np.zeros((3, 28, 28, 3), np.uint8)).findings(tmp_path) == []
    assert Probes(np.zeros((0, 28, 28, 3), np.uint8)).findings(tmp_path) == []


def on_noisy_white(count=20, size=64, grey=False, seed=0):
    """Scans whose background is of two values in turn at random, with something smooth in a small part of them."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(254, 256, (count, size, size, 1 if grey else 3)).astype(np.uint8)
    images = np.array(np.broadcast_to(noise, (count, size, size, 3)))
    slope = rng.integers(3, 12, (count, 1, 1))
    images[:, 20:26, 20:45] = (np.arange(25) // 2 * slope + 3 * np.arange(6)[:, None])[..., None]
    images[:, 20, 20] = np.arange(count)[:, None]
    return images


@pytest.mark.parametrize("way", ["raw", "one channel", "grey png", "zlib"])
@pytest.mark.parametrize("grey", [False, True])
def test_a_noisy_background_does_not_hide_a_scan(tmp_path, way, grey):
    images = on_noisy_white(grey=grey)
    for number, image in enumerate(images):
        (tmp_path / f"{number:03}").write_bytes(WAYS[way](image))
    probes = Probes(images)
    assert probes.blank == 0
    assert len(probes.findings(tmp_path)) == 20


def test_scans_that_are_not_searched_for_are_counted(tmp_path):
    images = on_noisy_white()
    images[3:5] = np.random.default_rng(0).integers(254, 256, (2, 64, 64, 3))
    probes = Probes(images)
    assert (probes.scans, probes.blank) == (20, 2)
    assert Probes(np.zeros((0, 28, 28, 3), np.uint8)).blank == 0


def test_links_are_not_followed(tmp_path):
    images = scans(2)
    (tmp_path / "outside").write_bytes(images.tobytes())
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "link").symlink_to(tmp_path / "outside")
    assert Probes(images).findings(tmp_path / "vault") == []


def test_a_thousand_scans_are_searched_for_in_megabytes_within_seconds(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1000, 28, 28, 3)).astype(np.uint8)
    (tmp_path / "cues").write_bytes(rng.bytes(5_000_000) + images[999].tobytes())
    start = time.process_time()
    assert len(Probes(images).findings(tmp_path)) == 1
    assert time.process_time() - start < 10


KINDS = {
    "a PNG image": png(scans(1)[0]),
    "a NumPy array": WAYS["npy"](scans(1)[0]),
    "a zip archive, as NumPy's .npz files are": WAYS["npz"](scans(1)[0]),
    "a BMP image": WAYS["bmp"](scans(1)[0]),
    "a TIFF image": WAYS["tiff"](scans(1)[0]),
    "a gzip file": gzip.compress(b"x"),
    "a JPEG image": saved(scans(1)[0], lambda f, i: Image.fromarray(i).save(f, "jpeg")),
    "a WebP image": saved(scans(1)[0], lambda f, i: Image.fromarray(i).save(f, "webp")),
    "a GIF image": saved(scans(1)[0], lambda f, i: Image.fromarray(i).save(f, "gif")),
    "a DICOM scan": bytes(128) + b"DICM",
    "a NIfTI scan": bytes(344) + b"n+1\0",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n",
}


# By name: a parameter of bytes would stand in the test's id, and gzip's hold the second of their making.
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_told_by_its_first_bytes(kind):
    assert looks_like(KINDS[kind]) == kind


def test_a_cue_file_and_an_empty_file_look_like_no_image():
    assert looks_like(b"BRAINCUE") is None
    assert looks_like(b"") is None


def test_names_cannot_write_to_the_terminal():
    assert shown("a\x1b[31mb\udc80\n") == r"'a\x1b[31mb\udc80\n'"
