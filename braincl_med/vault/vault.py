"""The vault: one folder a hospital and experiment, holding cue files and the manifest that commits them.

    <vault>/<experiment>/manifest.json                       which files count, with their SHA-256
                         task-000.long-term.9f86d081.cue     cues and completion network of a consolidated task
                         task-003.working.60303ae2.cue       of a task that has not slept yet

A file counts once the manifest names it, and the manifest is replaced atomically: whatever interrupts a write leaves
the former state. Files that the manifest does not name are remains of an interrupted write; the next writer deletes
those that carry a cue file's name and leaves anything else for the audit to find.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from braincl_med.errors import VaultError
from braincl_med.files import PARTIAL_SUFFIX, canonical_json, locked, sha256_of, sync_folder, write_whole
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.module import complete
from braincl_med.streams.tasks import Scans
from braincl_med.vault.cuefile import CueFile, Shard

MANIFEST = "manifest.json"
CUE_NAME = re.compile(r"^task-\d{3,5}\.(working|long-term)\.[0-9a-f]{8}\.cue\Z")
Memory = Literal["working", "long-term"]


class Entry(BaseModel):
    """One committed file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=CUE_NAME.pattern.replace(r"\Z", "$"))
    task: int
    memory: Memory
    key: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """The committed files, in the order of their tasks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["braincl-vault"] = "braincl-vault"
    version: Literal[1] = 1
    entries: tuple[Entry, ...] = ()


class Vault:
    """Reads and writes one hospital's memories of one experiment.

    Args:
        folder: `<vault>/<experiment>`; made on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
            sealed = json.loads(content)
            body = sealed["manifest"]
            if sha256_of(canonical_json(body)) != sealed["sha256"]:
                raise VaultError(f"'{MANIFEST}' was changed or damaged: its checksum does not match")
            return Manifest.model_validate(body)
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise VaultError(f"'{MANIFEST}' is not a vault's manifest: {type(error).__name__}") from None

    def entry(self, task: int) -> Entry | None:
        """The committed file of `task`, or None."""
        return next((e for e in self.manifest().entries if e.task == task), None)

    def load(self, task: int) -> CueFile:
        """The checked cue file of `task`.

        Raises:
            VaultError: there is none, or it is not the file that was committed.
        """
        entry = self.entry(task)
        if entry is None:
            raise VaultError(f"the vault holds no memory of task {task}")
        return self.load_entry(entry)

    def load_entry(self, entry: Entry) -> CueFile:
        """Read a committed file and check it against its entry and its own checksum."""
        try:
            content = (self.folder / entry.name).read_bytes()
        except OSError as error:
            raise VaultError(
                f"'{entry.name}' cannot be read: {os.strerror(error.errno or 0).lower()}; restore it from a backup"
            ) from error
        try:
            file = CueFile.from_bytes(content)
        except VaultError as error:
            raise VaultError(f"'{entry.name}': {error}") from None
        if sha256_of(content) != entry.sha256 or (file.header.task, file.header.memory) != (entry.task, entry.memory):
            raise VaultError(
                f"'{entry.name}' is not the file that was committed: it was replaced by another cue file"
            )
        return file

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
            VaultError: the disk is full, the folder read-only, or another process is writing.
        """
        with self._writing() as manifest:
            self._commit(manifest, file)

    def consolidate(self, task: int, kept: Mapping[int, npt.NDArray[np.int64]]) -> None:
        """Move the selected records of a task to long-term memory and empty its working memory.

        Args:
            task: with a working memory.
            kept: for each class the positions of the records to keep within its shard.
        """
        with self._writing() as manifest:
            file = self.load(task)
            cues, shards = {}, []
            for shard in file.header.shards:
                positions = np.sort(kept[shard.label])
                held = file.cues(shard.label)[positions]
                if not len(held):
                    continue
                everything = len(positions) == shard.records
                before = np.array(shard.ordinals or range(shard.records))
                cues[shard.label] = held
                shards.append(
                    Shard(
                        label=shard.label,
                        dataset_label=shard.dataset_label,
                        records=len(held),
                        words=0,
                        ordinals=shard.ordinals if everything else tuple(before[positions].tolist()),
                        recall_error=shard.recall_error,
                    )
                )
            if not cues:
                raise VaultError(f"nothing is selected of task {task}: its working memory stays as it is")
            header = file.header.model_copy(update={"memory": "long-term", "shards": tuple(shards)})
            tables = FrequencyTables.of(np.concatenate(list(cues.values())))
            self._commit(manifest, CueFile.pack(header, cues, tables, file.completion))

    def sizes(self) -> dict[str, int]:
        """Bytes at rest by item (cues, tables, completion, index), and the number of records."""
        total = {"cues": 0, "tables": 0, "completion": 0, "index": 0, "records": 0}
        for entry in self.manifest().entries:
            file = self.load_entry(entry)
            for item, size in file.sizes().items():
                total[item] += size
            total["records"] += file.records
        manifest = self.folder / MANIFEST
        total["index"] += manifest.stat().st_size if manifest.exists() else 0
        return total

    def _commit(self, manifest: Manifest, file: CueFile) -> None:
        header, content = file.header, file.to_bytes()
        # What a reader would refuse must never replace what it can read.
        CueFile.from_bytes(content)
        digest = sha256_of(content)
        # The name carries the content's digest, so that a committed file is never written over by another.
        name = f"task-{header.task:03d}.{header.memory}.{digest[:8]}.cue"
        others = tuple(e for e in manifest.entries if e.task != header.task)
        entry = Entry(
            name=name,
            task=header.task,
            memory=header.memory,  # type: ignore[arg-type]
            key=header.key,
            bytes=len(content),
            sha256=digest,
        )
        write_whole(self.folder / name, content)
        entries = tuple(sorted((*others, entry), key=lambda e: e.task))
        body = Manifest(entries=entries).model_dump(mode="json")
        write_whole(
            self.folder / MANIFEST, canonical_json({"manifest": body, "sha256": sha256_of(canonical_json(body))})
        )
        self._clear({e.name for e in entries})

    def _clear(self, committed: set[str]) -> None:
        """Delete what interrupted writes left, and memories that a newer one has replaced."""
        remains = [
            path
            for path in self.folder.iterdir()
            if path.name.endswith(PARTIAL_SUFFIX) or (CUE_NAME.match(path.name) and path.name not in committed)
        ]
        for path in remains:
            path.unlink()
        if remains:
            sync_folder(self.folder)

    @contextmanager
    def _writing(self) -> Iterator[Manifest]:
        """Hold the vault's lock, clear what interrupted writes left, and hand out the manifest."""
        with locked(self.folder, "the vault"):
            manifest = self.manifest()
            self._clear({e.name for e in manifest.entries})
            yield manifest
