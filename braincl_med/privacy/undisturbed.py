"""Reading a vault that nobody writes to meanwhile: a half-made change would look like damage."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import LOCK_NAME
from braincl_med.vault.folders import MANIFEST


@contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Look at one experiment's folder; nothing is locked.

    Raises:
        VaultError: somebody was writing there, before, meanwhile or afterwards.
    """
    _check_unlocked(folder)
    before = _manifest_bytes(folder)
    yield
    # Whoever has begun to write meanwhile holds the lock still, or has committed another manifest.
    _check_unlocked(folder)
    if _manifest_bytes(folder) != before:
        raise _being_written(folder)


def _check_unlocked(folder: Path) -> None:
    path = folder / LOCK_NAME
    if not path.is_file() or path.is_symlink():
        return
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise _being_written(folder) from None


def _manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST
    return path.read_bytes() if path.is_file() else b""


def _being_written(folder: Path) -> VaultError:
    return VaultError(f"'{folder.name}' is being written: audit it when that is done")
