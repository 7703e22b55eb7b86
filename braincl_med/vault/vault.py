"""The vault: one folder a hospital and experiment, holding cue files and the manifest that commits them.

    <vault>/<experiment>/manifest.json                       which files count, with their SHA-256
                         task-000.long-term.9f86d081.cue     cues and completion network of a consolidated task
                         task-003.working.60303ae2.cue       of a task that has not slept yet
                         task-003.working.5f16aa1c.net       its completion network, where that has a key of its own
                         erasures.jsonl                      what was erased

A file counts once the manifest names it, and the manifest is replaced atomically: whatever interrupts a write leaves
the former state or the new one. Files that the manifest does not name are remains of an interrupted write; the next
writer deletes those that carry a cue file's name and leaves anything else for the audit to find.

With keys all files are sealed, without all are plain (`sealing`).
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from braincl_med.foundation.arrays import Positions
from braincl_med.foundation.checked import UNREADABLE, ChangedError, body_of
from braincl_med.foundation.errors import VaultError
from braincl_med.foundation.files import (
    locked,
    sha256_of,
    storage_error,
    sync_folder,
    write_whole,
)
from braincl_med.memory.module import complete
from braincl_med.streams.tasks import Scans
from braincl_med.vault.cuefile import CueFile, joined
from braincl_med.vault.envelope import Envelope
from braincl_med.vault.erasures import LOG, Erasure, digest_of, from_log, to_log
from braincl_med.vault.folders import CUE_NAME, MANIFEST, NETWORK_NAME, is_remains, make_experiment
from braincl_med.vault.keys import NO_KEYS, Keys
from braincl_med.vault.manifest import LONGEST_NAME, Entry, Manifest
from braincl_med.vault.pruning import pruned
from braincl_med.vault.refit import refitted, too_few
from braincl_med.vault.sealing import hospital_of, opened, stored
from braincl_med.vault.subset import ordinals_of, positions_without, subset

T = TypeVar("T")


@dataclass(frozen=True)
class Vault:
    """Reads and writes one hospital's memories of one experiment.

    Attributes:
        folder: `<vault>/<experiment>`; made on the first write.
        keys: with which its files are sealed and opened; none for a plain vault.
    """

    folder: Path
    keys: Keys = NO_KEYS

    @property
    def networks(self) -> Path:
        """Where completion networks with a key of their own lie: beside the cues, unless the keys say elsewhere."""
        apart = self.keys.network_dir
        return self.folder if apart is None else apart / self.folder.name

    def manifest(self) -> Manifest:
        """What is committed; nothing when the folder does not exist yet.

        Raises:
            VaultError: the manifest cannot be read or its checksum does not match.
        """
        path = self.folder / MANIFEST
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return Manifest()
        except OSError as error:
            raise VaultError(f"'{MANIFEST}' cannot be read: {os.strerror(error.errno or 0).lower()}") from error
        try:
            return Manifest.model_validate(body_of("manifest", content))
        except ChangedError:
            raise VaultError(f"'{MANIFEST}' was changed or damaged: its checksum does not match") from None
        except UNREADABLE as error:
            raise VaultError(f"'{MANIFEST}' is not a vault's manifest: {type(error).__name__}") from None

    def entry(self, task: int) -> Entry | None:
        """The committed file of `task`, or None."""
        return next((e for e in self.manifest().entries if e.task == task), None)

    def erasures(self) -> tuple[Erasure, ...]:
        """What was erased, oldest first.

        Raises:
            VaultError: the log cannot be read, or a line was changed, added or removed.
        """
        return self.steadily(lambda manifest: from_log(self._log(), manifest.erased))

    def load(self, task: int) -> CueFile:
        """The checked cue file of `task`.

        Raises:
            VaultError: there is none, or it is not the file that was committed.
        """

        def load(manifest: Manifest) -> CueFile:
            entry = next((e for e in manifest.entries if e.task == task), None)
            if entry is None:
                raise VaultError(f"the vault holds no memory of task {task}")
            return self.load_entry(entry)

        return self.steadily(load)

    def load_entry(self, entry: Entry) -> CueFile:
        """Read a committed file, open it if it is sealed, and check it against its entry and its own checksum.

        Raises:
            SealedError: it is sealed and a key was not given.
            VaultError: it cannot be read, was changed, or is another than was committed.
        """
        plain = self.plain(entry)
        with _naming(entry.name):
            file = CueFile.from_bytes(plain)
        replaced = entry.seal is None and sha256_of(plain) != entry.sha256
        if replaced or (file.header.task, file.header.memory) != (entry.task, entry.memory):
            raise VaultError(
                f"'{entry.name}' is not the file that was committed: it was replaced by another cue file"
            )
        return file

    def load_cues(self, entry: Entry) -> CueFile:
        """As `load_entry`, but the completion network stays empty where it has a key of its own: it is not read.

        Raises:
            SealedError, VaultError: as `load_entry`.
        """
        if entry.network is None:
            return self.load_entry(entry)
        cues = self._opened(entry, entry.name)
        with _naming(entry.name):
            return CueFile.from_bytes(cues, without_network=True)

    def plain(self, entry: Entry) -> bytes:
        """A committed cue file's bytes as they were before it was sealed, if it was.

        Raises:
            SealedError, VaultError: as `load_entry`.
        """
        cues = self._opened(entry, entry.name)
        if entry.network is None:
            return cues
        network = self._opened(entry, entry.network.name)
        with _naming(entry.name):
            return joined(cues, network)

    def paths(self, entry: Entry) -> dict[Path, str]:
        """The files of an entry and their committed SHA-256."""
        files = {self.folder / entry.name: entry.sha256}
        if entry.network is not None:
            files[self.networks / entry.network.name] = entry.network.sha256
        return files

    def sizes_of(self, entry: Entry, file: CueFile) -> dict[str, int]:
        """Bytes of a committed file on the disk by item; its seal counts as index, a network's as that network."""
        sizes = file.sizes()
        if entry.network is not None:
            sizes["completion"] = entry.network.bytes
        at_rest = entry.bytes + (0 if entry.network is None else entry.network.bytes)
        return {**sizes, "index": at_rest - sum(size for item, size in sizes.items() if item != "index")}

    def recall(self, task: int) -> Scans:
        """All scans of `task`, completed from their cues: uint8 scans and class numbers, class after class."""
        file = self.load(task)
        network = file.network()
        parts = [
            Scans(complete(network, file.cues(s.label)), np.full(s.records, s.label, np.int64))
            for s in file.header.shards
        ]
        return Scans.join(parts)

    def remember(self, file: CueFile) -> None:
        """Commit a task's working memory, in place of any earlier memory of the task.

        Raises:
            VaultError: the disk is full, the folder read-only, another process is writing, or a record in it was
                erased.
        """
        with self._writing() as (manifest, hospital):
            self._refuse_what_was_erased(file)
            self._commit(manifest.with_entry(self._write(file, hospital)))

    def consolidate(self, task: int, kept: Mapping[int, Positions], sha256: str | None = None) -> None:
        """Move the selected records of a task to long-term memory and empty its working memory.

        Args:
            task: with a working memory.
            kept: for each class the positions of the records to keep within its shard.
            sha256: of the file in which they were chosen; any when None.

        Raises:
            VaultError: as `remember`; or nothing is selected, more than the vault holds, or in another file.
        """
        with self._writing() as (manifest, hospital):
            entry = self.entry(task)
            if sha256 is not None and entry is not None and entry.sha256 != sha256:
                raise VaultError(f"records of task {task} were erased while others were selected: resume the run")
            file = subset(self.load(task), kept)
            if file is None:
                raise VaultError(f"nothing is selected of task {task}: its working memory stays as it is")
            header = file.header.model_copy(update={"memory": "long-term"})
            self._commit(manifest.with_entry(self._write(replace(file, header=header), hospital)))

    def erase(self, task: int, dataset_label: str, ordinals: Collection[int] | None = None) -> Erasure:
        """Erase records of one class of a task for good, and log it; the task leaves when nothing of it remains.

        Where so few remain that they would give away what was erased, the task's memory is fitted anew to them.
        The manifest commits the erasure and the log's new line at once; the log itself is written afterwards, by the
        next writer if need be.

        Args:
            task: whose memory.
            dataset_label: `dataset/label` of the class.
            ordinals: of the records, see `Shard`; the whole class when None.

        Raises:
            VaultError: as `remember`; or the task does not hold them all, then nothing is erased.
        """
        with self._writing() as (manifest, hospital):
            file = self.load(task)
            remaining = positions_without(file, dataset_label, ordinals)
            rest, lost_db = subset(file, remaining), None
            if rest is not None and too_few(rest):
                refit = refitted(rest)
                rest, lost_db = refit.file, refit.lost_db
            entry = None if rest is None else self._write(rest, hospital)
            before = next(e for e in manifest.entries if e.task == task)
            erasure = Erasure(
                time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time())),
                task=task,
                key=before.key,
                dataset_label=dataset_label,
                records=file.records - sum(len(positions) for positions in remaining.values()),
                ordinals=tuple(sorted(set(ordinals or ()))),
                before=before.sha256,
                after="" if entry is None else entry.sha256,
                refit_lost_db=lost_db,
                previous=digest_of(manifest.erased),
            )
            changed = manifest.without(task) if entry is None else manifest.with_entry(entry)
            self._commit(changed.model_copy(update={"erased": erasure}))
            return erasure

    def seal(self, keys: Keys) -> int:
        """Seal every file anew, each under a data key of its own; all at once, whatever interrupts it.

        Args:
            keys: from now on, with the hospital's name. The vault's own open what is there.

        Returns:
            How many tasks there are.

        Raises:
            VaultError: as `remember`; or a file cannot be opened.
        """
        if len(keys.hospital) > LONGEST_NAME:
            raise VaultError(f"the hospital's name has {len(keys.hospital)} characters, expected 1 to {LONGEST_NAME}")
        with self._held() as manifest:
            new = replace(self, keys=keys)
            entries = tuple(new._write(self.load_entry(entry), keys.hospital) for entry in manifest.entries)
            new._commit(manifest.model_copy(update={"entries": entries}))
            return len(entries)

    def tidy(self) -> int:
        """Write every file again that holds components which none of its records uses, as former versions did.

        Returns:
            How many files were.

        Raises:
            VaultError: as `remember`; or a file cannot be opened or decoded.
        """
        with self._writing() as (manifest, hospital):
            files = {entry.task: self.load_entry(entry) for entry in manifest.entries}
            lean = {task: pruned(file) for task, file in files.items()}
            changed = [task for task, file in files.items() if lean[task] is not file]
            for task in changed:
                manifest = manifest.with_entry(self._write(lean[task], hospital))
            if changed:
                self._commit(manifest)
            return len(changed)

    def finish(self) -> None:
        """Finish what an interrupted write has left undone; needs no keys.

        Raises:
            VaultError: as `remember`.
        """
        with self._held():
            pass

    def sizes(self) -> dict[str, int]:
        """Bytes at rest by item (cues, tables, completion, index), and the number of records."""

        def add_up(manifest: Manifest) -> dict[str, int]:
            total = {"cues": 0, "tables": 0, "completion": 0, "index": 0, "records": 0}
            for entry in manifest.entries:
                file = self.load_entry(entry)
                for item, size in self.sizes_of(entry, file).items():
                    total[item] += size
                total["records"] += file.records
            committed = self.folder / MANIFEST
            total["index"] += len(self._log()) + (committed.stat().st_size if committed.exists() else 0)
            return total

        return self.steadily(add_up)

    def steadily(self, read: Callable[[Manifest], T]) -> T:
        """What `read` makes of the manifest; asked again if a writer has replaced the manifest meanwhile.

        Raises:
            VaultError: as `read`, of a manifest that stands.
        """
        manifest = self.manifest()
        while True:
            try:
                return read(manifest)
            except VaultError:
                before, manifest = manifest, self.manifest()
                if manifest == before:
                    raise

    def _log(self) -> bytes:
        try:
            return (self.folder / LOG).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise VaultError(f"'{LOG}' cannot be read: {os.strerror(error.errno or 0).lower()}") from error

    def _refuse_what_was_erased(self, file: CueFile) -> None:
        """A task that is encoded anew from the same scans must not bring back what was erased of it."""
        for erasure in self.erasures():
            if (erasure.task, erasure.key) != (file.header.task, file.header.key):
                continue
            for shard in file.header.shards:
                held = set(ordinals_of(shard))
                back = held & set(erasure.ordinals) if erasure.ordinals else held
                if shard.dataset_label == erasure.dataset_label and back:
                    raise VaultError(
                        f"records of class '{shard.dataset_label}' were erased from task {erasure.task} on "
                        f"{erasure.time[:10]} and would come back: take them out of the hospital's scans and run an "
                        "experiment of another name"
                    )

    def _opened(self, entry: Entry, name: str) -> bytes:
        """What one of an entry's files holds."""
        network = name != entry.name
        path = (self.networks if network else self.folder) / name
        try:
            content = path.read_bytes()
        except OSError as error:
            moved = " or say where it lies (network-dir)" if network else ""
            raise VaultError(
                f"'{name}' cannot be read: {os.strerror(error.errno or 0).lower()}; restore it from a backup{moved}"
            ) from error
        with _naming(name):
            return opened(content, entry, self.folder.name, self.keys, network=network)

    def _write(self, file: CueFile, hospital: str) -> Entry:
        """Put a cue file into the folder; it counts once a manifest with the returned entry is committed."""
        plain = file.to_bytes()
        # What a reader would refuse must never replace what it can read.
        CueFile.from_bytes(plain)
        if self.keys.vault is not None and file.header.experiment != self.folder.name:
            raise VaultError(
                f"the memory is that of experiment '{file.header.experiment}', the folder is '{self.folder.name}': "
                "a sealed one keeps its experiment's name"
            )
        entry, files = stored(plain, file.header, self.keys, hospital)
        if self.networks != self.folder:
            make_experiment(self.networks)
        for path in self.paths(entry):
            write_whole(path, files[path.name])
        return entry

    def _commit(self, manifest: Manifest) -> None:
        write_whole(self.folder / MANIFEST, manifest.sealed())
        self._finish(manifest)

    def _finish(self, manifest: Manifest) -> None:
        """Do what follows from a committed manifest: delete what it does not name, and log its last erasure."""
        committed = {name for entry in manifest.entries for name in entry.names}
        for folder in {self.folder, self.networks}:
            try:
                remains = [path for path in folder.iterdir() if is_remains(path.name, committed)]
                for path in remains:
                    path.unlink()
                if remains:
                    sync_folder(folder)
            except FileNotFoundError:
                continue  # no network lies apart yet
            except OSError as error:
                raise storage_error(self.folder / MANIFEST, 0, error) from error
        log = self._log()
        whole = to_log(from_log(log, manifest.erased))
        if whole != log:
            write_whole(self.folder / LOG, whole)

    def _refuse_others_networks(self, manifest: Manifest) -> None:
        """A folder of networks that another hospital uses too would lose that one's: they are named nowhere here."""
        if self.networks == self.folder or not self.networks.is_dir():
            return
        own, committed = manifest.hospitals | {self.keys.hospital}, {n for e in manifest.entries for n in e.names}
        for path in self.networks.iterdir():
            if path.name in committed or not NETWORK_NAME.match(path.name):
                continue
            with _naming(path.name):
                place = Envelope.parse(path.read_bytes()).place
            if place.hospital not in own:
                raise VaultError(
                    f"the folder of networks (network-dir) holds {place}: give each hospital a folder of its own"
                )

    @contextmanager
    def _writing(self) -> Iterator[tuple[Manifest, str]]:
        """Hold the vault with the keys to write into it; hands out the manifest and whose the files are."""
        with self._held() as manifest:
            yield manifest, hospital_of(manifest, self.keys)

    @contextmanager
    def _held(self) -> Iterator[Manifest]:
        """Hold the vault's lock, finish what was interrupted, and hand out the manifest.

        The first writer commits an empty manifest before anything else. A vault without one has therefore lost it,
        and must not be taken for empty: its cue files would be deleted as remains.
        """
        make_experiment(self.folder)
        with locked(self.folder, "the vault"):
            manifest = self.manifest()
            self._refuse_others_networks(manifest)
            if not (self.folder / MANIFEST).exists():
                if any(CUE_NAME.match(path.name) or path.name == LOG for path in self.folder.iterdir()):
                    raise VaultError(
                        f"'{MANIFEST}' is missing but what it commits is there: restore it from a backup, or delete "
                        "the experiment's folder"
                    )
                self._commit(manifest)
            else:
                self._finish(manifest)
            yield manifest


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Let a refusal begin with the file's name."""
    try:
        yield
    except VaultError as error:
        raise type(error)(f"'{name}': {error}") from None
