"""Whether a vault can be read; nothing is written or locked.

`check` compares every committed file with its SHA-256, quickly, before a run relies on it; `verify` decodes them.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from braincl_med.foundation.errors import BrainclError, VaultError
from braincl_med.foundation.files import PARTIAL_SUFFIX
from braincl_med.memory.coding import Cues
from braincl_med.memory.module import complete
from braincl_med.memory.networks import PatternCompletion
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.folders import CUE_NAME, MANIFEST
from braincl_med.vault.vault import Entry, Manifest, Vault


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: such as `task 3 (long-term)`.
        sound: whether it can be relied on.
        detail: what was seen.
    """

    what: str
    sound: bool
    detail: str


def decoded(file: CueFile) -> tuple[PatternCompletion, dict[int, Cues]]:
    """Everything in a file: its network, and each class's cues (records, M, rows, columns).

    Raises:
        VaultError: the network does not fit, a class does not decode or recall, or there are no records.
    """
    network, shape = file.network(), file.shape
    cues = {}
    for shard in file.header.shards:
        cues[shard.label] = file.cues(shard.label)
        recalled = complete(network, cues[shard.label][:1])
        if recalled.shape[1:] != (shape.height, shape.width, 3):
            raise VaultError(f"class {shard.label} recalls scans of shape {recalled.shape[1:]}")
    if not file.records:
        raise VaultError("the file holds no records")
    return network, cues


def check(folder: Path) -> None:
    """Make sure that every file that one experiment's vault has committed is there, byte for byte.

    Nothing is decoded. A folder that is missing or empty has nothing committed; another process may write meanwhile.

    Raises:
        VaultError: a file is missing, cannot be read or is another than was committed; or the manifest or the log of
            erasures is.
    """
    vault = Vault(folder)

    def check_entries(manifest: Manifest) -> None:
        _refuse_lost_manifest(folder)
        for entry in manifest.entries:
            _check_entry(folder, entry)

    vault.steadily(check_entries)
    vault.erasures()


def _check_entry(folder: Path, entry: Entry) -> None:
    try:
        with (folder / entry.name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VaultError(
            f"'{entry.name}' cannot be read: {os.strerror(error.errno or 0).lower()}; restore it from a backup"
        ) from error
    if digest != entry.sha256:
        raise VaultError(
            f"'{entry.name}' was changed or damaged: its SHA-256 is not the committed one; restore it from a backup"
        )


def _refuse_lost_manifest(folder: Path) -> None:
    try:
        held = [path.name for path in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise VaultError(f"the folder cannot be read: {os.strerror(error.errno or 0).lower()}") from error
    # The manifest is asked for last: a writer commits one before any cue file.
    if any(CUE_NAME.match(name) for name in held) and not (folder / MANIFEST).exists():
        raise VaultError(f"'{MANIFEST}' is missing, so nothing says which files count: restore it from a backup")


def verify(folder: Path) -> list[Finding]:
    """Read all that one experiment's vault has committed, also while another process writes to it."""
    vault = Vault(folder)
    try:
        manifest = vault.manifest()
        remains = _remains(vault)
        _refuse_lost_manifest(folder)
    except VaultError as error:
        return [Finding("the manifest", False, str(error))]
    findings = [finding for entry in manifest.entries for finding in _memory(vault, entry)]
    findings += _erasures(vault)
    if remains:
        detail = f"{len(remains)} left by an interrupted write or in the making, which the next write clears"
        findings.append(Finding("other files", True, detail))
    return findings


def _memory(vault: Vault, entry: Entry) -> Iterator[Finding]:
    what = f"task {entry.task} ({entry.memory})"
    try:
        file = vault.load(entry.task)
        try:
            decoded(file)
        except BrainclError as error:
            raise VaultError(f"'{entry.name}' does not decode: {error}") from None
    except VaultError as error:
        # A task that was erased meanwhile is nobody's loss.
        if vault.entry(entry.task) is not None:
            yield Finding(what, False, str(error))
    else:
        yield Finding(what, True, f"readable, {file.records:,} {'record' if file.records == 1 else 'records'}")


def _erasures(vault: Vault) -> Iterator[Finding]:
    try:
        erasures = vault.erasures()
    except VaultError as error:
        yield Finding("erasures", False, str(error))
    else:
        if erasures:
            yield Finding("erasures", True, f"{len(erasures)} logged, every line follows from the one above")


def _remains(vault: Vault) -> list[str]:
    try:
        names = sorted(path.name for path in vault.folder.iterdir())
    except OSError as error:
        raise VaultError(f"the folder cannot be read: {os.strerror(error.errno or 0).lower()}") from error
    committed = {entry.name for entry in vault.manifest().entries}
    return [
        name for name in names if name.endswith(PARTIAL_SUFFIX) or (CUE_NAME.match(name) and name not in committed)
    ]
