"""Scans a second of `read_scan` beside bare loops of Pillow, pydicom and MONAI over the same files.

    python benchmarks/scans.py

The bare loops check nothing: open, upright, RGB, resize; or read, pixel_array, greys between the least and largest
number, resize, each in the file's proportions. All take turns, so that a busy machine slows all; the shortest counts.
Files are made on the spot: photographs, X-ray pictures and slices of common sizes.
"""

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image, ImageOps
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1

from braincl_med.scans.reading import read_file, read_scan

SIZE, FILES, TURNS = 224, 8, 12


def noisy(height: int, width: int, channels: int, most: int, seed: int) -> np.ndarray:
    """Smooth shapes with a little noise, about as compressible as a scan."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 200, (12, 12, 3), dtype=np.uint8)).resize((width, height))
    picture = np.asarray(coarse, float) + rng.normal(0, 4, (height, width, 3))
    scaled = np.clip(picture, 0, 255) / 255 * most
    return (scaled if channels == 3 else scaled[..., 0]).astype(np.uint8 if most < 256 else np.uint16)


def write_dicom(path: Path, numbers: np.ndarray, syntax: str = ExplicitVRLittleEndian, stream: bytes = b"") -> None:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "CT"
    data.Rows, data.Columns, data.SamplesPerPixel = *numbers.shape, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored = 8 * numbers.itemsize, 12 if numbers.itemsize > 1 else 8
    data.HighBit = data.BitsStored - 1
    if numbers.itemsize > 1:
        data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 1, -1024, 40, 1500
    data.PixelData = encapsulate([stream]) if stream else numbers.tobytes()
    data["PixelData"].VR = "OB" if stream else "OW"
    data["PixelData"].is_undefined_length = bool(stream)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path, enforce_file_format=True)


def write(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Files of each kind."""
    kinds: dict[str, Callable[[Path, int], object]] = {
        "JPEG photograph 600x450": lambda p, k: Image.fromarray(noisy(450, 600, 3, 255, k)).save(
            p, "JPEG", quality=90
        ),
        "PNG photograph 600x450": lambda p, k: Image.fromarray(noisy(450, 600, 3, 255, k)).save(p, "PNG"),
        "PNG X-ray 1024x1024": lambda p, k: Image.fromarray(noisy(1024, 1024, 1, 255, k)).save(p, "PNG"),
        "JPEG photograph 3000x2000": lambda p, k: Image.fromarray(noisy(2000, 3000, 3, 255, k)).save(p, "JPEG"),
        "PNG thumbnail 28x28": lambda p, k: Image.fromarray(noisy(28, 28, 3, 255, k)).save(p, "PNG"),
        "TIFF deflate 512x512": lambda p, k: Image.fromarray(noisy(512, 512, 3, 255, k)).save(
            p, "TIFF", compression="tiff_adobe_deflate"
        ),
        "WebP 512x512": lambda p, k: Image.fromarray(noisy(512, 512, 3, 255, k)).save(p, "WEBP"),
        "DICOM CT 512x512": lambda p, k: write_dicom(p, noisy(512, 512, 1, 4095, k)),
        "DICOM X-ray 2000x2500": lambda p, k: write_dicom(p, noisy(2500, 2000, 1, 4095, k)),
        "DICOM JPEG 512x512": lambda p, k: write_dicom(
            p, x := noisy(512, 512, 1, 255, k), JPEGBaseline8Bit, imagecodecs.jpeg8_encode(x, 90)
        ),
        "DICOM JPEG 2000 512x512": lambda p, k: write_dicom(
            p,
            x := noisy(512, 512, 1, 4095, k),
            JPEG2000Lossless,
            imagecodecs.jpeg2k_encode(x, codecformat="j2k", reversible=True, bitspersample=12),
        ),
        "DICOM JPEG lossless 512x512": lambda p, k: write_dicom(
            p,
            x := noisy(512, 512, 1, 4095, k),
            JPEGLosslessSV1,
            imagecodecs.jpeg8_encode(x, lossless=True, predictor=1, bitspersample=12),
        ),
    }
    for number, (kind, make) in enumerate(kinds.items()):
        paths = [folder / f"{number}-{seed}" for seed in range(FILES)]
        for seed, path in enumerate(paths):
            make(path, seed)
        yield kind, paths


def with_pillow(path: Path) -> Any:
    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    return np.asarray(ImageOps.contain(upright, (SIZE, SIZE), Image.Resampling.BICUBIC))


def with_pydicom(path: Path) -> Any:
    return in_greys(dcmread(path).pixel_array)


def in_greys(numbers: np.ndarray) -> Any:
    least, most = numbers.min(), numbers.max()
    greys = ((numbers - least) * (255.0 / (most - least))).astype(np.uint8)
    resized = ImageOps.contain(Image.fromarray(greys), (SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(resized.convert("RGB"))


def with_monai() -> Callable[[Path, bool], Any]:
    from monai.data import PILReader, PydicomReader
    from monai.transforms import LoadImage

    load = {True: LoadImage(PydicomReader, image_only=True), False: LoadImage(PILReader, image_only=True)}

    def read(path: Path, dicom: bool) -> Any:
        numbers = load[dicom](path).numpy()
        numbers = numbers.reshape(numbers.shape[:2]) if numbers.ndim == 3 and numbers.shape[2] == 1 else numbers
        if numbers.ndim == 2:
            return in_greys(numbers.T)
        picture = Image.fromarray(numbers.swapaxes(0, 1).astype(np.uint8)[..., :3])
        return np.asarray(ImageOps.contain(picture, (SIZE, SIZE), Image.Resampling.BICUBIC))

    return read


def seconds(work: Callable[[Path], object], paths: list[Path]) -> float:
    """Of the processor, which others on the machine do not lengthen; infinity where the library cannot read them."""
    started = time.process_time()
    try:
        for path in paths:
            work(path)
    except Exception:
        return float("inf")
    return time.process_time() - started


def main() -> None:
    warnings.simplefilter("ignore")
    monai = with_monai()
    print(f"{'':32}{'read_scan':>12}{'bare loop':>12}{'MONAI':>12}   of the bare loop  of MONAI  read_file")
    with tempfile.TemporaryDirectory() as folder:
        for kind, paths in write(Path(folder)):
            dicom = kind.startswith("DICOM")
            works: list[Callable[[Path], object]] = [
                lambda path: read_scan(path, SIZE),
                with_pydicom if dicom else with_pillow,
                lambda path, dicom=dicom: monai(path, dicom),  # type: ignore[misc]
                read_file,
            ]
            turns = [[seconds(work, paths) for work in works] for _ in range(TURNS)]
            ours, bare, theirs, whole = (min(times) for times in zip(*turns, strict=True))
            rates = "".join(f"{FILES / best:>10.1f}/s" for best in (ours, bare, theirs))
            print(f"{kind:32}{rates}   {bare / ours:16.2f}  {theirs / ours:8.2f}  {FILES / whole:7.1f}/s", flush=True)


if __name__ == "__main__":
    main()
