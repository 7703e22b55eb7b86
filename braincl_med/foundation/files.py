"""Files that are written whole or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from braincl_med.foundation.errors import BrainclError, LockedError, VaultError

PARTIAL_SUFFIX = ".partial"
LOCK_NAME = ".lock"
LOCK_TRIES = 5
LOCK_PAUSE_SECONDS = 0.02


def write_whole(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Put `content` at `path` atomically: temporary file in the same folder, fsync, rename, fsync the folder.

    A reader sees the old file or the new one, never a part; a crash leaves at most a file
    ending in `.partial`, which the folder's owner may delete.

    Args:
        path: the file.
        content: all of it.
        shared: the file is meant for others, and its permissions follow the umask; otherwise it is its owner's alone.

    Raises:
        VaultError: the disk is full, or the folder cannot be written.
    """
    partial: Path | None = None
    try:
        if path.exists() and not path.is_file():  # a rename would put a file in a device's place
            raise VaultError(f"'{path.name}' is a folder or device, expected a file or nothing: name another one")
        make_folder(path.parent)
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if shared else 0o600)
        partial = new
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


def reading_error(path: Path, error: OSError) -> BrainclError:
    """Turn an operating system's refusal to let a file be read into a sentence without its folder."""
    return VaultError(
        f"'{path.name}' cannot be read: {os.strerror(error.errno or 0).lower()}; give this user access to it"
    )


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
        if not _taken(handle):
            holder = os.read(handle, 100).decode(errors="replace") or "another process"
            raise LockedError(f"{what} is being written by {holder}: wait until it has finished")
        # On a full disk the lock still holds, only its holder's name cannot be told.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Take the lock; whoever only looks whether it is held holds it for an instant, so one refusal says nothing."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(LOCK_PAUSE_SECONDS)
    return False


def is_locked(folder: Path) -> bool:
    """Whether somebody holds the lock of `folder`; also true where this user may not find out."""
    try:
        handle = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it if missing, such that they survive a power cut."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def make_private(folder: Path) -> None:
    """Make `folder` for its owner alone if it is missing; those above it, if missing, as `make_folder` does."""
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def make_private_file(path: Path) -> None:
    """Make an empty file for its owner alone if there is none, and take it from all others if there is.

    Raises:
        OSError: it cannot be made; whoever owns a file that is another's decides about it.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        seen = os.fstat(handle)
        if seen.st_mode & 0o177 and seen.st_uid == os.geteuid():
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def narrow(folder: Path) -> None:
    """Take a folder's permissions from all but its owner, if this user is that; nothing where there is no folder."""
    if not folder.is_dir():
        return
    seen = folder.stat()
    if seen.st_mode & 0o077 and seen.st_uid == os.geteuid():
        folder.chmod(seen.st_mode & 0o700)


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
