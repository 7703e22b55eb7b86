"""Whether a vault can be read; nothing is written or locked.

`check` compares every committed file with its SHA-256, quickly, before a run relies on it; `verify` decodes them.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from braincl_med.foundation.errors import BrainclError, SealedError, VaultError
from braincl_med.foundation.files import reading_error
from braincl_med.memory.coding import Cues
from braincl_med.memory.module import complete
from braincl_med.memory.networks import PatternCompletion
from braincl_med.vault.cuefile import CueFile
from braincl_med.vault.folders import CUE_NAME, MANIFEST, is_remains
from braincl_med.vault.manifest import Entry, Manifest
from braincl_med.vault.sealing import envelope_of
from braincl_med.vault.vault import Vault


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


def check(vault: Vault) -> None:
    """Make sure that every file that one experiment's vault has committed is there, byte for byte.

    Nothing is opened or decoded. A folder that is missing or empty has nothing committed; another process may write
    meanwhile.

    Raises:
        VaultError: a file is missing, cannot be read or is another than was committed; or the manifest or the log of
            erasures is.
    """

    def check_entries(manifest: Manifest) -> None:
        _refuse_lost_manifest(vault.folder)
        for entry in manifest.entries:
            _check_entry(vault, entry)

    vault.steadily(check_entries)
    vault.erasures()


def _check_entry(vault: Vault, entry: Entry) -> None:
    for path, committed in vault.paths(entry).items():
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise VaultError(
                f"'{path.name}' cannot be read: {os.strerror(error.errno or 0).lower()}; restore it from a backup"
            ) from error
        if digest != committed:
            raise VaultError(
                f"'{path.name}' was changed or damaged: its SHA-256 is not the committed one; restore it from a "
                "backup"
            )


def check_unopened(vault: Vault, entry: Entry) -> None:
    """What can be said of a sealed file without its keys: it is the committed one, and an envelope of its place.

    Raises:
        VaultError: it is not.
    """
    _check_entry(vault, entry)
    for path in vault.paths(entry):
        try:
            envelope_of(path.read_bytes(), entry, vault.folder.name, network=path.name != entry.name)
        except VaultError as error:
            raise VaultError(f"'{path.name}': {error}") from None
        except OSError as error:
            raise reading_error(path, error) from error


def _refuse_lost_manifest(folder: Path) -> None:
    try:
        held = [path.name for path in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise VaultError(f"the folder cannot be read: {os.strerror(error.errno or 0).lower()}") from error
    # The manifest is asked for last: a writer commits one before any cue file.
    if any(CUE_NAME.match(name) for name in held) and not (folder / MANIFEST).exists():
        raise VaultError(f"'{MANIFEST}' is missing, so nothing says which files count: restore it from a backup")


def verify(vault: Vault) -> list[Finding]:
    """Read all that one experiment's vault has committed, also while another process writes to it.

    Of what is sealed and whose keys were not given, it says so, and what could be seen all the same.
    """
    try:
        manifest = vault.manifest()
        remains = _remains(vault)
        _refuse_lost_manifest(vault.folder)
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
        try:
            file = vault.load(entry.task)
        except SealedError as error:
            # By another entry, if it was replaced meanwhile.
            yield Finding(what, True, _unopened(vault, vault.entry(entry.task) or entry, error))
            return
        try:
            decoded(file)
        except BrainclError as error:
            raise VaultError(f"'{entry.name}' does not decode: {error}") from None
    except VaultError as error:
        # A task that was erased meanwhile is nobody's loss.
        if vault.entry(entry.task) is not None:
            yield Finding(what, False, str(error))
    else:
        yield Finding(what, True, f"readable, {_records(file)}, {entry.stored}")


def _records(file: CueFile) -> str:
    return f"{file.records:,} {'record' if file.records == 1 else 'records'}"


def _unopened(vault: Vault, entry: Entry, reason: SealedError) -> str:
    """What was seen of a file that could not be opened wholly.

    Raises:
        VaultError: something is wrong with it.
    """
    check_unopened(vault, entry)
    try:
        file = vault.load_cues(entry)
    except SealedError:
        return f"present as committed, {entry.stored}, neither opened nor decoded: {reason}"
    try:
        for shard in file.header.shards:
            file.cues(shard.label)
    except BrainclError as error:
        raise VaultError(f"'{entry.name}' does not decode: {error}") from None
    return f"present as committed, {_records(file)} decode, {entry.stored}, the network not opened: {reason}"


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
        apart = {vault.networks} if vault.networks.is_dir() else set()
        names = sorted(path.name for folder in {vault.folder, *apart} for path in folder.iterdir())
    except OSError as error:
        raise VaultError(f"the folder cannot be read: {os.strerror(error.errno or 0).lower()}") from error
    committed = {name for entry in vault.manifest().entries for name in entry.names}
    return [name for name in names if is_remains(name, committed)]
