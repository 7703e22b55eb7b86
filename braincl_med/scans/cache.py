"""Pixels of scans on their way into memory, on disk for as long as a task is encoded: decoded once, then deleted.

These are raw scans, fitted to the stream's size. They exist where the configuration asks for them, as their owner's
alone, from a look through the folder until the training scans are read.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from braincl_med.foundation.arrays import Images
from braincl_med.foundation.errors import DataError
from braincl_med.foundation.files import make_folder, storage_error

SUFFIX = ".pixels"
SCHEMA = "CREATE TABLE IF NOT EXISTS scan (name BLOB PRIMARY KEY, version TEXT NOT NULL, pixels BLOB NOT NULL)"


class Cache:
    """The pixels of one set at one size.

    Args:
        path: of the file; it is made when something is put into it.
        size: pixels a side.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size

    def put(self, rows: Iterable[tuple[bytes, str, Images]]) -> None:
        """Keep the pixels (size, size, 3) of scans by their name and version.

        Raises:
            VaultError: the disk is full, or the folder cannot be written.
        """
        with self._opened() as db:
            db.executemany("INSERT OR REPLACE INTO scan VALUES (?,?,?)", ((n, v, p.tobytes()) for n, v, p in rows))

    def get(self, name: bytes, version: str) -> Images | None:
        """The pixels of one version of a scan, None where they are not kept."""
        if not self.path.is_file():
            return None
        with self._opened() as db:
            row = db.execute("SELECT pixels FROM scan WHERE name = ? AND version = ?", (name, version)).fetchone()
        if row is None or len(row[0]) != 3 * self.size**2:
            return None
        return np.frombuffer(row[0], np.uint8).reshape(self.size, self.size, 3)

    def delete(self) -> None:
        """Take all of it off the disk."""
        for suffix in ("", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            make_folder(self.path.parent)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as db, db:
                db.execute("PRAGMA synchronous = OFF")  # what is lost is decoded again
                db.execute(SCHEMA)
                yield db
        except OSError as error:
            raise storage_error(self.path, 0, error) from error
        except sqlite3.Error as error:
            raise DataError(
                f"'{self.path.name}' cannot be used ({type(error).__name__}): free some space and delete it, or set "
                "stream-cache to false"
            ) from None
