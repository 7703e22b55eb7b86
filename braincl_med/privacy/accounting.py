"""Whose every file in a vault is: the vault's own, or somebody's that an audit must name and look into."""

import re
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from braincl_med.foundation.files import LOCK_NAME, PARTIAL_SUFFIX
from braincl_med.privacy.search import looks_like
from braincl_med.vault.cuefile import MAGIC
from braincl_med.vault.envelope import is_sealed
from braincl_med.vault.folders import CUE_NAME, MANIFEST, NETWORK_NAME

LOCK_CONTENT = re.compile(rb"(process \d{1,10})?")

Place = Callable[[Path], str]
"""How an audit calls a file: its path below the vault."""


@dataclass(frozen=True)
class Accounted:
    """What lies in a folder.

    Attributes:
        own: files that belong there.
        problems: a sentence for everything that does not.
        unknown: files whose content nobody vouches for, those in folders too.
    """

    own: int
    problems: tuple[str, ...]
    unknown: tuple[Path, ...]


def account(inside: Sequence[Path], committed: Collection[str] | None, place: Place) -> Accounted:
    """Name everything that is neither the vault's own nor committed; `committed` is None above experiments."""
    own, problems, unknown = 0, [], []
    for path in inside:
        what = _foreign(path, committed)
        if what is None:
            own += 1
            continue
        problems.append(f"{place(path)} {what}")
        if path.is_dir() and not path.is_symlink():
            unknown += [p for p in sorted(path.rglob("*")) if _is_plain(p)]
        elif _is_plain(path):
            unknown.append(path)
    return Accounted(own, tuple(problems), tuple(unknown))


def wide(folder: Path, place: Place) -> list[str]:
    """A sentence for the folder, and for each folder and file below it, that others than its owner may use."""
    problems = []
    for path in [folder, *sorted(folder.rglob("*"))]:
        seen = path.lstat().st_mode
        expected = 0o700 if stat.S_ISDIR(seen) else 0o600
        if not stat.S_ISLNK(seen) and stat.S_IMODE(seen) & ~expected:
            problems.append(f"{place(path)} has mode {stat.S_IMODE(seen):04o}, expected {expected:04o}")
    return problems


def suspects(unknown: Sequence[Path], place: Place) -> list[str]:
    """Judge unknown files by their content: a sentence for each that is, or may hold, a scan."""
    problems = []
    for path in unknown:
        content = path.read_bytes()
        kind = looks_like(content)
        if kind is not None:
            problems.append(f"{place(path)} looks like {kind}")
        elif content and not content.startswith(MAGIC) and not is_sealed(content):
            problems.append(f"{place(path)} has no known format and may hold raw pixels")
    return problems


def _foreign(path: Path, committed: Collection[str] | None) -> str | None:
    """What is wrong with `path`, None when it belongs there."""
    if committed is not None and path.name in (MANIFEST, LOCK_NAME, *committed) and _is_plain(path):
        if path.name != LOCK_NAME or LOCK_CONTENT.fullmatch(path.read_bytes()):
            return None
        return "holds something else than the number of a process"
    if path.is_symlink():
        return "is a link to somewhere else"
    if path.is_dir():
        return "is a folder"
    if path.name.endswith(PARTIAL_SUFFIX):
        return "is left over from an interrupted write"
    if committed is not None and (CUE_NAME.match(path.name) or NETWORK_NAME.match(path.name)):
        return "is named like a cue file, but no manifest commits it"
    return "does not belong in a vault"


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
