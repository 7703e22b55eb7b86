"""The run store's file: opened with its version checked, and written in transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from braincl_med.foundation.errors import MissingStoreError, RecordsError
from braincl_med.foundation.files import make_private_file, reading_error, storage_error
from braincl_med.records.schema import SCHEMA, SCHEMA_VERSION
from braincl_med.records.tallies import add_tallies

STORE_NAME = "runs.sqlite"
PATIENCE_SECONDS = 30.0


class Database:
    """One run store's file.

    Args:
        folder: the state root; the store is its `runs.sqlite`.
        create: make the file when it is missing; otherwise a missing file is an error.
        patience: seconds to wait while another program has it locked.

    Raises:
        MissingStoreError: there is no store.
        RecordsError: it is no SQLite file, or a newer program wrote it.
    """

    def __init__(self, folder: Path, *, create: bool = False, patience: float = PATIENCE_SECONDS) -> None:
        self.path, self.patience = folder / STORE_NAME, patience
        try:
            missing = not create and not self.path.is_file()
        except OSError as error:
            raise reading_error(self.path, error) from error
        if missing:
            raise MissingStoreError(f"no run store '{STORE_NAME}' below the state root: run an experiment first")
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if not self.path.is_dir():  # of which SQLite says what is wrong
                    make_private_file(self.path)
            except OSError as error:
                raise storage_error(self.path, 0, error) from error
        # A reader must not bring back a store that somebody deleted meanwhile.
        self._address = f"{self.path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
        with self._connection() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise RecordsError(
                    f"the run store has version {version}, this program reads up to {SCHEMA_VERSION}: update it"
                )
            if version < SCHEMA_VERSION and create:
                db.executescript(SCHEMA)
                add_tallies(db)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are committed together or not at all."""
        db: sqlite3.Connection | None = None
        try:
            db = sqlite3.connect(self._address, uri=True, timeout=self.patience)
            db.execute("PRAGMA synchronous = FULL")
            with db:
                yield db
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "I/O" in str(error):
                raise RecordsError(f"the disk is full: '{STORE_NAME}' could not be written ({error})") from error
            if "locked" in str(error):
                raise RecordsError(
                    f"'{STORE_NAME}' is locked by another program: wait until that has written, or end it"
                ) from error
            raise RecordsError(f"'{STORE_NAME}' cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise RecordsError(f"'{STORE_NAME}' is damaged or no run store: {error}") from error
        finally:
            if db is not None:
                db.close()
