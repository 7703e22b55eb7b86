"""What is known of a set's files, in one SQLite file at the hospital: each is looked into and placed once.

    note     the salt, drawn by chance
    scan     every file that was ever looked into: its name, content and patient as salted hashes, size and dates, and
             why it was refused or how large it is
    split    where the scans of a patient belong, by the patient and by each scan, so that a scan stays there whatever
             becomes of its name, class or patient; one of nobody's is a patient of its own

Salted hashes tell whether something is the same, and to whoever holds this file no more than a guess can confirm. The
file lies beside the scans it speaks of, is its owner's alone, and is written as it goes: a killed look is continued.
"""

import contextlib
import hashlib
import logging
import os
import secrets
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from braincl_med.foundation.arrays import Images, Split
from braincl_med.foundation.errors import DataError, LockedError, VaultError
from braincl_med.foundation.files import make_folder, storage_error
from braincl_med.foundation.progress import Progress
from braincl_med.scans.duplicates import copies, listed_again
from braincl_med.scans.listing import Entry
from braincl_med.scans.names import patient_of
from braincl_med.scans.reading import read_file, without_warnings
from braincl_med.scans.refusals import Kind, ScanRefusedError
from braincl_med.scans.splits import Group, draw_splits, taught_first

log = logging.getLogger("braincl")
VERSION = 1
SCHEMA = """
CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE scan (
  number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, version TEXT NOT NULL,
  kind TEXT NOT NULL, reason TEXT NOT NULL,
  content BLOB NOT NULL, patient BLOB NOT NULL, format TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL
);
CREATE TABLE split (identity BLOB PRIMARY KEY, split TEXT NOT NULL);
"""
AT_ONCE = 256
READERS = min(4, os.cpu_count() or 1)


class Known(NamedTuple):
    """A row of `scan`; `kind` is empty for a file that is a scan, the rest for one that is none."""

    number: int
    name: bytes
    version: str
    kind: str
    reason: str
    content: bytes
    patient: bytes
    format: str
    width: int
    height: int


class Found(NamedTuple):
    """A scan that can be learned from; `patient` is the same salted hash for all scans of one."""

    entry: Entry
    split: Split
    patient: bytes
    known: Known


class Keep(NamedTuple):
    """What becomes of the pixels (h, w, 3) of scans: `shrink`, then `put` with their names and versions."""

    shrink: Callable[[Images], Images]
    put: Callable[[Sequence[tuple[bytes, str, Images]]], None]


class Refused(NamedTuple):
    """A file that cannot, and why."""

    entry: Entry
    error: ScanRefusedError


@dataclass(frozen=True)
class Findings:
    """A set as it lies in its folder now: scans in the order in which they were first met, and all other files."""

    scans: Sequence[Found]
    refused: Sequence[Refused]

    def kinds(self) -> Counter[Kind]:
        """How many files were refused, by what is wrong with them."""
        return Counter(refused.error.kind for refused in self.refused)


class _Look(NamedTuple):
    """What a look into a file tells, without the picture at its full size: hundreds are held at once."""

    digest: bytes
    patient: str
    format: str
    width: int
    height: int
    pixels: Images


class Index:
    """The notes on a hospital's scans, opened for a look through the folder of a set.

    Args:
        path: of the file, made if missing; None keeps the notes in memory, for a look that shall leave none.

    Raises:
        DataError: it is no such file, or a newer program wrote it.
        LockedError: another look has been writing it for a minute.
        VaultError: it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = path.name if path is not None else "notes"
        try:
            if path is not None:
                make_folder(path.parent)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise storage_error(path or Path("notes"), 0, error) from error
        with self._complaining():
            self._db = sqlite3.connect(path or ":memory:", timeout=60, isolation_level=None)
        with self._writing():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise DataError(f"'{self._name}' has version {version}, this program reads {VERSION}: update it")
            if version < VERSION:
                for statement in (*SCHEMA.split(";"), f"PRAGMA user_version = {VERSION}"):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO note VALUES ('salt', ?)", (secrets.token_bytes(32),))
            self._salt: bytes = self._db.execute("SELECT value FROM note WHERE name = 'salt'").fetchone()[0]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One change after the other, also of several processes: what is read inside is what the change builds on."""
        with self._complaining():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kind = error.sqlite_errorname
            if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise LockedError(f"'{self._name}' is being written by another look: wait until it is done") from None
            if kind.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
                raise VaultError(
                    f"'{self._name}' cannot be written ({kind.removeprefix('SQLITE_').lower()}): free some space, or "
                    "give this user the right to write it; what is known of the scans is as it was"
                ) from None
            raise DataError(
                f"'{self._name}' is damaged or no file of this program: it holds the splits of this hospital's "
                "scans; put back a copy of it. Deleted, it is drawn anew, and what was learned may come to test"
            ) from None

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def look_through(
        self,
        dataset: str,
        entries: Iterable[Entry],
        seed: int,
        progress: Progress | None = None,
        keep: Keep | None = None,
    ) -> Findings:
        """Look into all files that are new or have changed, find duplicates, and draw the splits that are missing.

        Args:
            dataset: the set's name; sets have their splits in common.
            entries: all files of the set.
            seed: of the draw.
            progress: told the number of files looked into.
            keep: where the pixels of what is looked into go, and what is made of them before.

        Raises:
            DataError: a patient is said to belong into two splits, or into one nearer to test than before.
            LockedError, VaultError: as for the file.
        """
        listed = list(entries)
        known = self._known()
        refused = {id(entry): entry.refused for entry in listed if entry.refused is not None}
        versions = {id(entry): version_of(entry.path) for entry in listed if id(entry) not in refused}
        names = {
            id(entry): self._salted(b"name", _bytes(f"{dataset}\0{entry.name}\0{entry.frame}")) for entry in listed
        }
        twice = [e for e in listed_again((names[id(e)], e) for e in listed) if id(e) not in refused]
        refused |= {id(e): ScanRefusedError(Kind.DUPLICATE, "it is listed twice") for e in twice}
        open_ = [entry for entry in listed if id(entry) not in refused]
        unread = [
            entry
            for entry in open_
            if (row := known.get(names[id(entry)])) is None or row.version != versions[id(entry)]
        ]
        with without_warnings(), ThreadPoolExecutor(READERS) as readers:
            for start in range(0, len(unread), AT_ONCE):
                some = unread[start : start + AT_ONCE]
                # A thread takes many at once: small files are read faster than threads take turns.
                parts = [some[i : i + AT_ONCE // READERS] for i in range(0, len(some), AT_ONCE // READERS)]
                looks = readers.map(partial(_looked_into, shrink=keep.shrink if keep else None), parts)
                told = [one for part in looks for one in part]
                read = [(names[id(e)], versions[id(e)], t) for e, t in zip(some, told, strict=True)]
                if keep is not None:
                    keep.put([(n, v, t.pixels) for n, v, t in read if isinstance(t, _Look)])
                self._keep(self._row(*row) for row in read)
                done = start + len(some)
                if progress is not None:
                    progress(done, len(unread), "")
                if done % 10_000 < len(some):
                    log.info("looked into %s of %s files", f"{done:,}", f"{len(unread):,}")
        if unread:
            known = self._known()
        held = sorted(((known[names[id(entry)]], entry) for entry in open_), key=lambda pair: pair[0].number)
        refused |= {id(e): ScanRefusedError(Kind(row.kind), row.reason) for row, e in held if row.kind}
        scans = [(row, entry) for row, entry in held if not row.kind]
        again = copies((row.content, entry) for row, entry in scans)
        refused |= again
        with self._writing():
            found = self._with_splits(dataset, [(row, e) for row, e in scans if id(e) not in again], seed)
        return Findings(found, [Refused(e, refused[id(e)]) for e in listed if id(e) in refused])

    def _known(self) -> dict[bytes, Known]:
        with self._complaining():
            rows = self._db.execute("SELECT * FROM scan").fetchall()
        return {row.name: row for row in map(Known._make, rows)}

    def _row(self, name: bytes, version: str, told: _Look | ScanRefusedError) -> tuple[object, ...]:
        if isinstance(told, ScanRefusedError):
            return (name, version, told.kind.value, told.reason, b"", b"", "", 0, 0)
        content = self._salted(b"content", told.digest)
        patient = self._salted(b"patient", patient_of(told.patient).encode()) if told.patient else content
        return (name, version, "", "", content, patient, told.format, told.width, told.height)

    def _keep(self, rows: Iterator[tuple[object, ...]]) -> None:
        """Rows of files just looked into; one that was known keeps its number."""
        with self._writing():
            self._db.executemany(
                "INSERT INTO scan (name, version, kind, reason, content, patient, format, width, height) "
                "VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (name) DO UPDATE SET version=excluded.version, "
                "kind=excluded.kind, reason=excluded.reason, content=excluded.content, patient=excluded.patient, "
                "format=excluded.format, width=excluded.width, height=excluded.height",
                rows,
            )

    def _salted(self, purpose: bytes, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._salt, person=purpose, digest_size=16).digest()

    def _with_splits(self, dataset: str, scans: Sequence[tuple[Known, Entry]], seed: int) -> list[Found]:
        """Every scan with its split: what it or its patient had before, what the manifest says, what is drawn now."""
        stored: dict[bytes, Split] = dict(self._db.execute("SELECT identity, split FROM split"))
        patients: dict[bytes, list[tuple[Known, Entry]]] = {}
        for row, entry in scans:
            own = patient_of(entry.patient)
            patient = self._salted(b"patient", own.encode()) if own else row.patient
            if not own and patient == row.content and entry.frame is not None:
                # Pictures of one file are of one examination.
                patient = self._salted(b"file", _bytes(f"{dataset}\0{entry.name}"))
            patients.setdefault(patient, []).append((row, entry))
        splits: dict[bytes, Split] = {}
        held: dict[str, Counter[Split]] = defaultdict(Counter)
        groups: dict[bytes, Group] = {}
        moved = 0
        for patient, theirs in patients.items():
            told = {entry.split for _, entry in theirs if entry.split is not None}
            if len(told) > 1:
                raise DataError("the manifest puts scans of one patient into two splits: a patient belongs into one")
            before = [stored[known] for known in (patient, *(r.content for r, _ in theirs)) if known in stored]
            said, was = next(iter(told), None), taught_first(before)
            moved += said is not None and was is not None and taught_first([said, was]) != said
            labels = Counter(entry.label for _, entry in theirs)
            if said is None and was is None:
                # Numbers, not hashes, tell groups apart in the draw: the salt must not decide it.
                groups[patient] = Group(theirs[0][0].number.to_bytes(8, "big"), labels)
                continue
            splits[patient] = said or was or "train"
            for label, count in labels.items():
                held[label][splits[patient]] += count
        if moved:
            raise DataError(
                f"the manifest moves {moved} patients or scans towards test that trained or validated before: a scan "
                "that was learned cannot test; say their former splits, or leave them out"
            )
        drawn = draw_splits(groups.values(), held, seed)
        splits |= {patient: drawn[group.identity] for patient, group in groups.items()}
        settled = {
            known: splits[patient]
            for patient, theirs in patients.items()
            for known in (patient, *(r.content for r, _ in theirs))
        }
        self._db.executemany(
            "INSERT OR REPLACE INTO split VALUES (?,?)",
            [(known, split) for known, split in settled.items() if stored.get(known) != split],
        )
        of_scan = {row.number: patient for patient, theirs in patients.items() for row, _ in theirs}
        return [Found(entry, splits[of_scan[row.number]], of_scan[row.number], row) for row, entry in scans]


def _bytes(name: str) -> bytes:
    """A file's name as the disk has it, which may be no text."""
    return name.encode("utf-8", "surrogateescape")


def version_of(path: Path) -> str:
    """What changes when a file does: also when it is copied over with its old date, or its permissions are mended."""
    with contextlib.suppress(OSError):
        facts = path.stat()
        return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
    return ""


def _looked_into(
    entries: Sequence[Entry], shrink: Callable[[Images], Images] | None
) -> "list[_Look | ScanRefusedError]":
    return [_look(entry, shrink) for entry in entries]


def _look(entry: Entry, shrink: Callable[[Images], Images] | None) -> "_Look | ScanRefusedError":
    try:
        told = read_file(entry.path, entry.frame)
        pixels = shrink(told.pixels) if shrink else told.pixels[:0].copy()
        return _Look(told.digest, told.patient, told.kind, told.width, told.height, pixels)
    except ScanRefusedError as error:
        return error
