"""SHA256SUMS: the digests of all files of a folder, as `sha256sum --check SHA256SUMS` reads them."""

import re
from pathlib import Path

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import reading_error, sha256_of, write_whole

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
MOST_BYTES = 1 << 20


def write_sums(folder: Path) -> str:
    """Write the digests of all files below `folder`; returns the digest of these lines, which stands for them all."""
    lines = "".join(f"{sha256_of((folder / name).read_bytes())}  {name}\n" for name in _files(folder))
    write_whole(folder / SUMS, lines.encode(), shared=True)
    return sha256_of(lines.encode())


def check_sums(folder: Path) -> str:
    """Read all files below `folder` and compare them; returns the digest that stands for them all.

    Raises:
        VaultError: a file is missing, was changed, or was added; or there are no digests to compare with.
    """
    try:
        content = _read(folder / SUMS)
        told = dict(_told(content))
        present = _files(folder)
        if missing := sorted(told.keys() - set(present)):
            raise VaultError(f"'{missing[0]}' is missing beside '{SUMS}': export the network again")
        if added := sorted(set(present) - told.keys()):
            raise VaultError(f"'{added[0]}' does not belong to this folder: take it out, or export the network again")
        for name in present:
            if sha256_of((folder / name).read_bytes()) != told[name]:
                raise VaultError(f"'{name}' was changed or damaged: its checksum does not match")
    except OSError as error:
        raise reading_error(folder / SUMS, error) from error
    return sha256_of(content)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise VaultError(f"there is no '{SUMS}' in '{path.parent.name}': it is no exported network") from None
    if len(content) > MOST_BYTES:
        raise VaultError(f"'{SUMS}' is too long to be that of an exported network")
    return content


def _told(content: bytes) -> list[tuple[str, str]]:
    pairs = []
    for line in content.decode(errors="replace").splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            raise VaultError(f"'{SUMS}' is damaged: a line of it is no digest and name")
        pairs.append((found[2], found[1]))
    return pairs


def _files(folder: Path) -> list[str]:
    """Names of all files below `folder`, but for its own digests, sorted."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != SUMS)
