"""SHA256SUMS: the digests of all files of a folder, as `sha256sum --check SHA256SUMS` reads them.

A folder comes from elsewhere: only regular files in it count, no link is followed, and none is read further than it
may be long.
"""

import hashlib
import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import reading_error, sha256_of, write_whole

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
MOST_BYTES = 1 << 20
LARGEST = 1 << 36
"""Bytes of any file of which nothing better is known."""
PIECE = 1 << 20


@dataclass(frozen=True)
class Sums:
    """What a folder's SHA256SUMS say; the folder holds the files that they name, and no others.

    Attributes:
        folder: whose files they are.
        told: digests by name.
        digest: of these lines, which stands for them all.
    """

    folder: Path
    told: Mapping[str, str]
    digest: str

    def read(self, name: str, most: int) -> bytes:
        """All of a file of at most `most` bytes.

        Raises:
            VaultError: there is no such file, it is longer, or its digest is another.
        """
        if name not in self.told:
            raise VaultError(f"there is no '{name}' in '{self.folder.name}': it is no exported network")
        with _opened(self.folder, name, most) as file:
            content = file.read(most)
        if sha256_of(content) != self.told[name]:
            raise _changed(name)
        return content

    def check(self, most: int, but: Collection[str] = ()) -> None:
        """Compare the digests of all files but some, each of at most `most` bytes.

        Raises:
            VaultError: one is longer, or its digest is another.
        """
        for name in sorted(self.told.keys() - set(but)):
            with _opened(self.folder, name, most) as file:
                if _digest(file, most) != self.told[name]:
                    raise _changed(name)


def write_sums(folder: Path) -> str:
    """Write the digests of all files below `folder`; returns the digest of these lines, which stands for them all."""
    lines = ""
    for name in _files(folder):
        with _opened(folder, name, LARGEST) as file:
            lines += f"{_digest(file, LARGEST)}  {name}\n"
    write_whole(folder / SUMS, lines.encode(), shared=True)
    return sha256_of(lines.encode())


def read_sums(folder: Path) -> Sums:
    """The digests of a folder that holds the files that they name, and no others; no file is compared yet.

    Raises:
        VaultError: a file is missing, was added, or is no regular file; or there are no digests to compare with.
    """
    if not os.path.lexists(folder / SUMS):
        raise VaultError(f"there is no '{SUMS}' in '{folder.name}': it is no exported network")
    with _opened(folder, SUMS, MOST_BYTES) as file:
        content = file.read(MOST_BYTES)
    told = _told(content)
    try:
        present = _files(folder)
    except OSError as error:
        raise reading_error(folder / SUMS, error) from error
    if missing := sorted(told.keys() - set(present)):
        raise VaultError(f"'{missing[0]}' is missing beside '{SUMS}': export the network again")
    if added := sorted(set(present) - told.keys()):
        raise VaultError(f"'{added[0]}' does not belong to this folder: take it out, or export the network again")
    return Sums(folder, told, sha256_of(content))


def check_sums(folder: Path) -> str:
    """Read all files below `folder` and compare them; returns the digest that stands for them all.

    Raises:
        VaultError: as `read_sums` and `Sums.check`.
    """
    sums = read_sums(folder)
    sums.check(LARGEST)
    return sums.digest


def _told(content: bytes) -> dict[str, str]:
    told: dict[str, str] = {}
    for line in content.decode(errors="replace").splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            raise VaultError(f"'{SUMS}' is damaged: a line of it is no digest and name")
        if found[2] in told:
            raise VaultError(f"'{SUMS}' is damaged: it names '{found[2]}' twice")
        told[found[2]] = found[1]
    return told


def _files(folder: Path) -> list[str]:
    """Names of all files below `folder`, but for its own digests, sorted.

    Raises:
        VaultError: something in it is neither a file nor a folder.
        OSError: a folder in it cannot be looked through.
    """

    def refuse(error: OSError) -> NoReturn:
        raise error

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        for name in (*folders, *names):
            path = Path(parent, name)
            shown, mode = path.relative_to(folder).as_posix(), path.lstat().st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise _no_file(shown)
            if stat.S_ISREG(mode) and shown != SUMS:
                found.append(shown)
    return sorted(found)


def _opened(folder: Path, name: str, most: int) -> BinaryIO:
    """A regular file of at most `most` bytes; nobody waits for a pipe, and no link is followed."""
    try:
        if not stat.S_ISREG((folder / name).lstat().st_mode):
            raise _no_file(name)
        file = os.fdopen(os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise reading_error(folder / name, error) from error
    told = os.fstat(file.fileno())
    if stat.S_ISREG(told.st_mode) and told.st_size <= most:
        return file
    file.close()
    if not stat.S_ISREG(told.st_mode):
        raise _no_file(name)
    raise VaultError(f"'{name}' has {told.st_size:,} bytes, that of an exported network has at most {most:,}")


def _digest(file: BinaryIO, most: int) -> str:
    digest, left = hashlib.sha256(), most
    while left > 0 and (piece := file.read(min(PIECE, left))):
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


def _no_file(name: str) -> VaultError:
    return VaultError(f"'{name}' is no file but a link, a pipe or a device: copy or export the network again")


def _changed(name: str) -> VaultError:
    return VaultError(f"'{name}' was changed or damaged: its checksum does not match")
