"""Three hospitals with scans of their own, as they lie on disks: made from one folder of pictures, by patient.

    python benchmarks/own_scans.py PICTURES DATA --classes erythroblast platelet

PICTURES has a folder a class. Below DATA, in class folders or with a manifest, come

    site-0/own/     PNG
    site-1/own/     JPEG, as cameras leave them: turned, with EXIF's orientation and a comment; manifest.csv
    site-2/own/     DICOM, one series a patient
    held-out/       a twentieth of each class, in the same three formats, that no hospital has
    strangers/      the first test scans of a MedMNIST file (--strangers), as PNG

Every picture goes to one patient of one hospital. Names of patients that do not exist are written wherever a format
has room for them, to be looked for afterwards in all that was written and sent: they all hold `IDENTIFIER`.
"""

import argparse
import csv
import warnings
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

IDENTIFIER = "MUSTERMANN"
PER_PATIENT = 4
HELD_OUT = 20
STRANGERS = 100
TURNED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""How a camera's sensor lay, by EXIF's orientation, as pillow must turn an upright picture to look so."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--strangers", type=Path, help="a MedMNIST file that no hospital learns")
    arguments = parser.parse_args()
    rows: list[tuple[str, str, str]] = []
    for label in arguments.classes:
        for number, path in enumerate(sorted((arguments.pictures / label).iterdir())):
            patient = number // PER_PATIENT
            site, held_out = patient % 3, patient % HELD_OUT == HELD_OUT - 1
            place = arguments.data / ("held-out" if held_out else f"site-{site}/own")
            with Image.open(path) as picture:
                written = WRITERS[site](place, label, number, f"{label}-{patient}", picture.convert("RGB"))
            if site == 1 and not held_out:
                rows.append((written.relative_to(place).as_posix(), label, f"{IDENTIFIER}-{label}-{patient}"))
    with (arguments.data / "site-1/own/manifest.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["path", "label", "patient"])
        writer.writerows(rows)
    if arguments.strangers is not None:
        with np.load(arguments.strangers) as scans:
            for number, pixels in enumerate(scans["test_images"][:STRANGERS]):
                _saved(Image.fromarray(pixels), arguments.data / "strangers" / f"{number:03}.png")


def as_png(place: Path, label: str, number: int, patient: str, picture: Image.Image) -> Path:
    """A picture with a text beside it."""
    text = PngInfo()
    text.add_text("Patient", f"{IDENTIFIER} {patient}")
    return _saved(picture, place / label / f"{IDENTIFIER}-{number:04}.png", pnginfo=text)


def as_jpeg(place: Path, label: str, number: int, patient: str, picture: Image.Image) -> Path:
    """A photograph whose pixels lie as the camera was held."""
    orientation = list(TURNED)[number % len(TURNED)]
    turned = picture if TURNED[orientation] is None else picture.transpose(TURNED[orientation])
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = orientation, f"{IDENTIFIER} {patient}"
    return _saved(turned, place / "images" / f"{IDENTIFIER}-{label}-{number:04}.jpg", exif=exif, quality=95)


def as_dicom(place: Path, label: str, number: int, patient: str, picture: Image.Image) -> Path:
    """A secondary capture, as light microscopes write them."""
    pixels = np.asarray(picture)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[label, str(number)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    scan.SOPClassUID, scan.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    scan.SeriesInstanceUID = generate_uid(entropy_srcs=[label, patient])
    scan.Modality = "GM"
    scan.PatientName = scan.PatientID = f"{IDENTIFIER}^{patient}"
    scan.InstitutionName = scan.ImageComments = f"{IDENTIFIER} hospital"
    scan.Rows, scan.Columns, scan.SamplesPerPixel = *pixels.shape[:2], 3
    scan.PhotometricInterpretation, scan.PlanarConfiguration = "RGB", 0
    scan.BitsAllocated = scan.BitsStored = 8
    scan.HighBit, scan.PixelRepresentation = 7, 0
    scan.PixelData = pixels.tobytes()
    path = place / label / f"{IDENTIFIER}-{patient}" / f"{number:04}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may be no identifier, which is the point
        pydicom.dcmwrite(path, scan, enforce_file_format=True)
    return path


def _saved(picture: Image.Image, path: Path, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **how)
    return path


WRITERS = (as_png, as_jpeg, as_dicom)

if __name__ == "__main__":
    main()
