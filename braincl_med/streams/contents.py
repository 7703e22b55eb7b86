"""Whether the scans of a file that is not MedMNIST's own can teach anything, and test what was learned."""

import hashlib
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.errors import DataError
from braincl_med.streams.npz import blocks, opened

log = logging.getLogger("braincl")


def check_contents(path: Path, classes: Sequence[str], train_labels: npt.NDArray[np.int64]) -> None:
    """Look at all training and test scans of a file whose arrays are of the right kinds.

    A few test scans that are training scans too, as MedMNIST's own files have, and classes without training scans are
    only warned of.

    Args:
        classes: by label.
        train_labels: of the training scans.

    Raises:
        DataError: there are no scans to learn from or to test with, all are blank, or no test scan is new.
    """
    name = path.name
    with opened(path) as archive:
        known, new = (_digests(archive, name, split) for split in ("train", "test"))
    taught = set(known)
    again = sum(digest in taught for digest in new)
    if again == len(new):
        raise DataError(f"'{name}' holds no test scan that is not a training scan too: give test scans of their own")
    if again:
        log.warning("'%s': %d of its %d test scans are training scans too", name, again, len(new))
    missing = [title for label, title in enumerate(classes) if not (train_labels == label).any()]
    if missing:
        log.warning("'%s' holds no training scans of: %s", name, ", ".join(missing))


def _digests(archive: zipfile.ZipFile, name: str, split: str) -> list[bytes]:
    """A digest of every scan of a split, which must hold something to see."""
    digests = []
    blank = True
    for _, block in blocks(archive, f"{split}_images"):
        scans = block.reshape(len(block), -1)
        blank = blank and bool((scans.min(1) == scans.max(1)).all())
        digests += [hashlib.blake2b(scan.tobytes(), digest_size=16).digest() for scan in scans]
    if not digests:
        raise DataError(f"'{name}' holds no {split} scans: give a file that has some")
    if blank:
        raise DataError(f"'{name}' holds {split} scans of a single colour each: give scans that show something")
    return digests
