"""Which files of a folder are scans, and what is said of them: class folders, or a manifest.

    set/manifest.csv        path,label[,patient][,split][,frame][,age][,sex][,device], paths from this folder on
    set/CLASS/…/FILE        without a manifest: every file below a folder is of the class that the folder names

Nothing is opened here but the manifest.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from braincl_med.foundation.arrays import Split
from braincl_med.scans.manifest import MANIFEST, rows_of
from braincl_med.scans.names import code_of, label_of
from braincl_med.scans.refusals import Kind, ScanRefusedError

NO_SCANS = ("thumbs.db", "desktop.ini", "dicomdir")


@dataclass(frozen=True)
class Entry:
    """A file that somebody meant to be a scan.

    Attributes:
        name: its path from the set's folder on, which tells it from all others together with `frame`.
        path: where it lies.
        label: the class, as `names.label_of` spells it.
        patient: whose scan it is, empty where nobody says.
        split: where it belongs, if somebody says.
        frame: which picture of a file that holds several.
        refused: why it is no scan, if that is known without a look into the file.
        groups: of patients, to which it belongs (`foundation.groups`).
    """

    name: str
    path: Path
    label: str
    patient: str = ""
    split: Split | None = None
    frame: int | None = None
    refused: ScanRefusedError | None = None
    groups: tuple[str, ...] = ()


def list_scans(folder: Path) -> Iterator[Entry]:
    """The files of a set, by name; what a computer keeps for itself (hidden files, thumbnails) is none.

    Raises:
        DataError: the manifest cannot be read.
    """
    _resolved.cache_clear()
    if (folder / MANIFEST).is_file():
        inside = folder.resolve()
        for row in rows_of(folder / MANIFEST):
            path = folder / row.path
            refused = _placed(path, inside) or _labelled(row.label, "its label in the manifest is empty")
            yield Entry(row.path, path, _label(row.label), row.patient, row.split, row.frame, refused, row.groups)
        return
    inside = folder.resolve()
    for name, path in _files(folder):
        above, slash, _ = name.partition("/")
        label = above if slash else ""
        yield Entry(name, path, _label(label), refused=_placed(path, inside) or _labelled(label))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files below `folder` in one order on every machine; links to folders count as files, nobody follows them."""
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        below = Path(place).relative_to(folder).as_posix()
        for name in sorted([*files, *links]):
            if not name.startswith(".") and name.lower() not in NO_SCANS:
                yield name if below == "." else f"{below}/{name}", Path(place, name)
    for path in (Path(os.fsdecode(error.filename)) for error in closed if error.filename is not None):
        yield path.relative_to(folder).as_posix(), path


@lru_cache(maxsize=1)
def _resolved(folder: Path) -> Path:
    """Where a folder lies; its files come one after the other."""
    return folder.resolve(strict=True)


def _label(text: str) -> str:
    """A class's name or code in its one spelling, empty where the text is neither."""
    return label_of(text) or code_of(text) or ""


def _labelled(
    label: str, missing: str = "nothing says its class: put it into a folder named after it"
) -> ScanRefusedError | None:
    if not label.strip():
        return ScanRefusedError(Kind.LABEL_MISSING, missing)
    if not _label(label):
        return ScanRefusedError(
            Kind.LABEL_UNKNOWN,
            "its label cannot name a class: use up to 63 letters, digits, spaces and . + - ( ) '",
        )
    return None


def _placed(path: Path, inside: Path) -> ScanRefusedError | None:
    """Whether a path leads to a file below the set's folder `inside`."""
    try:
        kind = os.lstat(path).st_mode
        lies = _resolved(path.parent)
        if stat.S_ISLNK(kind) or path.name == "..":
            lies = path.resolve(strict=True)
            kind = lies.stat().st_mode
    except (OSError, RuntimeError, ValueError):
        return ScanRefusedError(Kind.MISSING, "there is no such file, or this user may not see it")
    if not lies.is_relative_to(inside):
        return ScanRefusedError(Kind.OUTSIDE, "it lies outside the set's folder: copy it there")
    if stat.S_ISDIR(kind) and not os.access(path, os.R_OK | os.X_OK):
        return ScanRefusedError(Kind.MISSING, "a folder that this user may not look into")
    if not stat.S_ISREG(kind):
        return ScanRefusedError(Kind.NOT_A_PICTURE, "it is no file (links to folders are not followed)")
    return None
