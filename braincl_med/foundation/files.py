"""Files that are written whole or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from braincl_med.foundation.errors import BrainclError, LockedError, VaultError

PARTIAL_SUFFIX = ".partial"
LOCK_NAME = ".lock"


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` atomically: temporary file in the same folder, fsync, rename, fsync the folder.

    A reader sees the old file or the new one, never a part; a crash leaves at most a file
    ending in `.partial`, which the folder's owner may delete.

    Raises:
        VaultError: the disk is full, or the folder cannot be written.
    """
    partial: str | None = None
    try:
        make_folder(path.parent)
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL_SUFFIX, dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        raise storage_error(path, len(content), error) from error


def storage_error(path: Path, size: int, error: OSError) -> BrainclError:
    """Turn an operating system's refusal into a sentence that names the file but not its folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return VaultError(
            f"the disk is full: '{path.name}' needs {size:,} bytes; free some space and resume, nothing was lost"
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return VaultError(f"'{path.name}' cannot be written: the folder is read-only for this user")
    return VaultError(f"'{path.name}' cannot be written: {os.strerror(error.errno or 0).lower()}")


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of `folder`, made if missing; the system releases it when the process ends, however it ends.

    Raises:
        LockedError: another process holds it; the message names that process.
        VaultError: the folder cannot be written.
    """
    try:
        make_folder(folder)
        handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise storage_error(folder / LOCK_NAME, 0, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 100).decode(errors="replace") or "another process"
            raise LockedError(f"{what} is being written by {holder}: wait until it has finished") from None
        # On a full disk the lock still holds, only its holder's name cannot be told.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it if missing, such that they survive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a deletion in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def canonical_json(value: Any) -> bytes:
    """The one spelling of `value` as UTF-8 JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256_of(content: bytes) -> str:
    """The SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
