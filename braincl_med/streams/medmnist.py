"""MedMNIST's two-dimensional, single-label sets: finding, checking, fetching and reading their files."""

import hashlib
import os
import socket
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from braincl_med.foundation.arrays import Images, Labels, Split
from braincl_med.foundation.errors import ConfigError, DataError, MissingScansError
from braincl_med.streams import npz
from braincl_med.streams.contents import check_contents

SINGLE_LABEL = ("multi-class", "binary-class", "ordinal-regression")


def flags() -> tuple[str, ...]:
    """The sets that can be learned: two-dimensional with one label a scan."""
    return tuple(flag for flag, facts in _everything().items() if not _why_not(flag, facts))


def class_names(flag: str) -> tuple[str, ...]:
    """The classes of `flag` in the order of their labels; bare numbers (RetinaMNIST) become `grade 0`.

    Raises:
        ConfigError: there is no such set, or it is not a 2D single-label one.
    """
    names = _facts(flag)["label"]
    return tuple(f"grade {n}" if n.isdigit() else n for n in (names[str(i)] for i in range(len(names))))


def ensure(
    flag: str, size: int = 28, folder: Path | None = None, download: bool = False, allow_unofficial: bool = False
) -> Path:
    """The checked file of `flag` at `size` pixels a side, fetched first if it is missing and that is allowed.

    It is looked for in `folder`, then in medmnist's own folder, under medmnist's own name.

    Args:
        allow_unofficial: accept a file whose MD5 is not MedMNIST's if its arrays are of the right kind and its scans
            can teach and test something.

    Raises:
        ConfigError: there is no such set, or it is not a 2D single-label one.
        MissingScansError: the file is not there and was not, or could not be, downloaded.
        DataError: the file is damaged, or is not what it is named after.
    """
    facts = _facts(flag)
    name, suffix = file_name(flag, size), "" if size == 28 else f"_{size}"
    expected = facts.get(f"MD5{suffix}")
    if expected is None:
        raise ConfigError(f"MedMNIST offers '{flag}' in no size of {size} pixels; choose 28, 64, 128 or 224")
    path = next((place / name for place in _places(folder) if (place / name).is_file()), None)
    if path is None:
        if not download:
            raise MissingScansError(
                f"'{name}' is missing: put MedMNIST's file into the data folder (data-root), or set stream-download"
            )
        path = _download(flag, size, folder)
    seen = _md5_of(path)
    if seen != expected:
        if not allow_unofficial:
            raise DataError(
                f"'{name}' is damaged or not MedMNIST's own file: its MD5 is {seen}, expected {expected}; "
                "delete it and fetch it again, or set stream-allow-unofficial if it is meant to be another file"
            )
        with npz.complaining(name):
            version = path.stat()
            _check_version(path, flag, size, version.st_size, version.st_mtime_ns)
    return path


def labels(
    flag: str, split: Split, size: int = 28, folder: Path | None = None, allow_unofficial: bool = False
) -> Labels:
    """The labels (n,) of a split; the images are left alone. Errors as `ensure`, which never downloads here."""
    path = ensure(flag, size, folder, allow_unofficial=allow_unofficial)
    return _read_labels(path, flag, size, split)


def load(
    flag: str,
    split: Split,
    size: int = 28,
    folder: Path | None = None,
    allow_unofficial: bool = False,
    rows: npt.NDArray[np.int64] | None = None,
) -> tuple[Images, Labels]:
    """Scans (n, size, size, 3) uint8 and labels (n,) int64 of a split; grey scans get three equal channels.

    Args:
        rows: which scans, in which order; None means all of them in the file's order. Memory is needed
            for these scans alone, however large the file is.

    Raises:
        DataError: as `ensure`, which never downloads here.
    """
    path = ensure(flag, size, folder, allow_unofficial=allow_unofficial)
    targets = _read_labels(path, flag, size, split)
    wanted = np.arange(len(targets)) if rows is None else rows
    with npz.opened(path) as archive:
        images = npz.rows(archive, f"{split}_images", wanted)
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    return images, targets[wanted]


def file_name(flag: str, size: int) -> str:
    """The name MedMNIST gives the file of `flag` at `size` pixels a side."""
    return f"{flag}.npz" if size == 28 else f"{flag}_{size}.npz"


def _everything() -> dict[str, dict[str, Any]]:
    # Imported late: medmnist pulls in scikit-learn and pandas, seconds that phantom streams need not wait.
    from medmnist import INFO

    return dict(INFO)


def _facts(flag: str) -> dict[str, Any]:
    everything = _everything()
    if flag not in everything:
        raise ConfigError(f"there is no MedMNIST set '{flag}'; choose from: {', '.join(flags())}")
    if reason := _why_not(flag, everything[flag]):
        raise ConfigError(f"'{flag}' cannot be learned: it {reason}; choose from: {', '.join(flags())}")
    return everything[flag]


def _why_not(flag: str, facts: dict[str, Any]) -> str:
    if flag.endswith("3d"):
        return "holds volumes, not two-dimensional scans"
    return "" if facts["task"] in SINGLE_LABEL else f"has several labels a scan ({facts['task']})"


def _places(folder: Path | None) -> list[Path]:
    from medmnist.info import DEFAULT_ROOT

    return [Path(place) for place in (folder, DEFAULT_ROOT) if place is not None]


def _md5_of(path: Path) -> str:
    with npz.complaining(path.name):
        facts = path.stat()
        return _md5_of_version(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _md5_of_version(path: Path, size: int, modified: int) -> str:
    """MD5 of a file that is hashed again only once its size or date changes (path at 224 px: 12 GB)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@lru_cache(maxsize=64)
def _check_version(path: Path, flag: str, size: int, bytes_: int, modified: int) -> None:
    """Look into a file that is not MedMNIST's own, again only once its size or date changes."""
    labels = {split: _read_labels(path, flag, size, split) for split in ("train", "test")}
    check_contents(path, class_names(flag), labels["train"])


def _download(flag: str, size: int, folder: Path | None) -> Path:
    """Fetch through medmnist into a folder of its own, so that a broken transfer leaves no damaged file behind."""
    import medmnist

    name = file_name(flag, size)
    fetch = getattr(medmnist, _facts(flag)["python_class"])
    timeout = socket.getdefaulttimeout()
    try:
        place = _places(folder)[0]
        place.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(30)  # without it an unreachable host holds the run up for many minutes
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=place) as partial:
            fetch(split="val", download=True, root=partial, size=size)  # val: the least to decompress
            os.replace(Path(partial) / name, place / name)
    except Exception as error:  # medmnist turns every failure into RuntimeError and hides the cause behind it
        reason = type(error.__context__ or error).__name__
        raise MissingScansError(
            f"'{name}' is missing and could not be downloaded ({reason}): check the connection, or fetch it from "
            "MedMNIST's Zenodo record and put it into the data folder (data-root)"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
    return place / name


def _read_labels(path: Path, flag: str, size: int, split: str) -> Labels:
    """The labels of a split after a look at its arrays' kinds and shapes (not yet at the pixels)."""
    name, count = path.name, len(class_names(flag))
    with npz.opened(path) as archive:
        held = set(archive.namelist())
        for key in (f"{split}_images", f"{split}_labels"):
            if f"{key}.npy" not in held:
                raise DataError(f"'{name}' holds no array '{key}'; it is not a MedMNIST file")
        shape, kind, columns_first = npz.header(archive, f"{split}_images")
        label_shape, label_kind, label_columns_first = npz.header(archive, f"{split}_labels")
        if kind != np.uint8 or shape[1:] not in ((size, size), (size, size, 3)):
            raise DataError(
                f"'{name}' holds {split} images of {kind} {shape}, expected uint8 (n, {size}, {size}[, 3])"
            )
        if label_kind != np.uint8 or label_shape not in ((shape[0], 1), (shape[0],)):
            raise DataError(f"'{name}' holds {split} labels of {label_kind} {label_shape} for {shape[0]} images")
        if columns_first or label_columns_first:
            raise DataError(
                f"'{name}' holds {split} arrays in Fortran's order, which is not read: save them again as "
                "numpy.ascontiguousarray gives them"
            )
        targets = npz.rows(archive, f"{split}_labels", np.arange(shape[0])).reshape(-1).astype(np.int64)
    if targets.max(initial=0) >= count:
        raise DataError(f"'{name}' holds label {targets.max()}, but '{flag}' has only the classes 0 to {count - 1}")
    return targets
