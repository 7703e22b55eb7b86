"""Where answers may be written: nowhere that scans are read from, now or the next time."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from braincl_med.foundation.errors import ConfigError


def require_free(scans: Sequence[Path], files: Iterable[Path], out: Path | None, explain: Path | None) -> None:
    """Refuse places that hold scans.

    Args:
        scans: the files and folders that were named.
        files: all that are to be answered.
        out: the file for the answers.
        explain: the folder for overlays.

    Raises:
        ConfigError: `out` is one of the scans or lies in a folder of them; `explain` is or lies in such a folder, or
            holds something already.
    """
    folders = [_real(scan) for scan in scans if os.path.isdir(scan)]
    if out is not None:
        if _real(out) in map(_real, files) or _inode(out) in {_inode(file) for file in files} - {None}:
            raise ConfigError(f"'{out.name}' (--out) is one of the scans, which would be lost: name another file")
        if _within(_real(out), folders):
            raise ConfigError(
                f"'{out.name}' (--out) lies in a folder of scans, and would be taken for one: name another place"
            )
    if explain is not None:
        if _within(_real(explain), folders):
            raise ConfigError(
                f"'{explain.name or explain}' (--explain) is or lies in a folder of scans, and overlays would be "
                "taken for some: name another folder"
            )
        if os.path.lexists(explain) and not (os.path.isdir(explain) and not os.listdir(explain)):
            raise ConfigError(
                f"'{explain.name or explain}' (--explain) is there already: name a new folder, or an empty one"
            )


def _within(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _inode(path: Path) -> tuple[int, int] | None:
    """What one file is under all its names; None where there is none."""
    try:
        told = os.stat(path)
    except OSError:
        return None
    return told.st_dev, told.st_ino
