"""An audit of vaults: that they hold sound memories and nothing else, and how much these give away.

The report is plain JSON, the same on the terminal, in a file, and in the run store:

    vaults ─┬─ vault, passed, experiments
            ├─ checks     check, passed, detail                       one a kind of check
            ├─ files      file, bytes, records, bits-per-scan, …      one a committed cue file
            └─ fidelity   psnr, ssim, re-identified, scans, tasks     or null when no scans were given
"""

import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from braincl_med.foundation.errors import BrainclError, ConfigError, DataError, VaultError
from braincl_med.foundation.files import LOCK_NAME, PARTIAL_SUFFIX
from braincl_med.privacy.fidelity import GivenScans, Likeness, likeness
from braincl_med.privacy.search import Probes, looks_like, shown
from braincl_med.records.store import STORE_NAME, RunStore
from braincl_med.vault.cuefile import MAGIC, CueFile
from braincl_med.vault.erasures import LOG, from_log
from braincl_med.vault.folders import CUE_NAME, MANIFEST, is_experiment
from braincl_med.vault.vault import Entry, Manifest, Vault
from braincl_med.vault.verify import decoded

MANIFEST_CHECK = "The manifest is intact"
FILES_CHECK = "Every committed file is intact"
CUES_CHECK = "Every cue decodes"
BYTES_CHECK = "Nothing is hidden in a cue file"
FOLDER_CHECK = "Nothing but memories lies in the vault"
SCANS_CHECK = "No raw scan lies in the vault"

MOST_NAMED = 50
"""Problems that one check spells out; more are counted."""
FORMS = {
    "task_name": re.compile(r"[a-z0-9][a-z0-9-]{0,62}"),
    "key": re.compile(r"[0-9a-f]{64}"),
    "coder": re.compile(r"constriction [0-9]{1,4}(\.[0-9]{1,4}){1,3}"),
    "dataset_label": re.compile(r"[a-z0-9][a-z0-9-]{0,62}/[0-9]{1,5}"),
}
"""How a hospital writes the texts of cue files and of the log, so that none is free to hold something else."""
LOCK_CONTENT = re.compile(rb"(process \d{1,10})?")

Report = dict[str, Any]


def audit(vaults: Sequence[Path], given: GivenScans | None = None) -> Report:
    """Audit vaults; nothing in them is changed.

    Args:
        vaults: hospitals' vault folders, or folders of one experiment each.
        given: a hospital's raw scans, to be searched for in all the vaults and compared with its recalls.

    Raises:
        VaultError: a folder is missing, or a vault is being written.
        ConfigError: the scans do not say to which of several vaults they belong.
        DataError: the scans are not those that the memories were made of.
    """
    for folder in vaults:
        if not folder.is_dir():
            raise VaultError(
                f"there is no folder '{folder.name}': give a hospital's vault or one experiment's folder"
            )
        if (folder / STORE_NAME).exists():
            raise VaultError(f"'{folder.resolve().name}' is a state root, not a vault: give its site-* folders")
    compared = None
    if given is not None:
        if not given.hospital and len(vaults) > 1:
            raise ConfigError("the scans do not say to which of these vaults they belong: audit that vault alone")
        compared = next((v for v in vaults if given.hospital in ("", _owner(v))), None)
        if compared is None:
            raise DataError(f"the scans are those of hospital {given.hospital!r}: audit the vault of that name")
    return {"vaults": [_VaultAudit(v, given, compare=v is compared).report() for v in vaults]}


def passed(report: Report) -> bool:
    """Whether every vault passed every check."""
    return all(vault["passed"] for vault in report["vaults"])


def record(report: Report, vaults: Sequence[Path], state: Path | None) -> None:
    """Keep the report in the run store of `state`, or of the state roots in which the vaults lie, if any.

    Raises:
        RecordsError: there is no store in `state`, or one cannot be written.
    """
    roots = {_hospital_folder(folder).parent for folder in vaults}
    for root in [state] if state is not None else sorted(r for r in roots if (r / STORE_NAME).is_file()):
        RunStore(root).record_audit(passed(report), report)


def _hospital_folder(folder: Path) -> Path:
    """The hospital's vault folder of `folder`, which is that itself or one experiment's."""
    folder = folder.resolve()
    return folder.parent if is_experiment(folder) else folder


def _owner(folder: Path) -> str:
    return _hospital_folder(folder).name


class _VaultAudit:
    """The audit of one vault; every check adds the problems that it finds, each with its place."""

    def __init__(self, folder: Path, given: GivenScans | None, *, compare: bool) -> None:
        self.folder = folder.resolve()
        self.given = given
        self.problems: dict[str, list[str]] = {
            name: [] for name in (MANIFEST_CHECK, FILES_CHECK, CUES_CHECK, BYTES_CHECK, FOLDER_CHECK, SCANS_CHECK)
        }
        self.files: list[dict[str, Any]] = []
        self.unknown: list[Path] = []
        self.accounted = self.cues = 0
        self.searched = ""
        self.likenesses: dict[str, Likeness] = {}
        try:
            self._look(compare)
        except OSError as error:
            raise VaultError(
                f"'{self.folder.name}' cannot be read: {os.strerror(error.errno or 0).lower()}"
            ) from error

    def _look(self, compare: bool) -> None:
        if is_experiment(self.folder):
            self.experiments = [self.folder]
        else:
            inside = sorted(self.folder.iterdir())
            self.experiments = [p for p in inside if p.is_dir() and not p.is_symlink()]
            self._account([p for p in inside if p not in self.experiments])
        if not self.experiments:
            self.problems[MANIFEST_CHECK].append("the folder holds no experiment's memories")
        belongs_to = self.given.experiment if self.given is not None else ""
        if compare and belongs_to not in ("", *(p.name for p in self.experiments)):
            raise DataError(f"the scans are those of experiment {belongs_to!r}, which this vault does not hold")
        for folder in self.experiments:
            self._experiment(folder, compare and belongs_to in ("", folder.name))
        self._raw_scans()

    def report(self) -> Report:
        """The vault's part of the report."""
        found = self.problems
        intact = f"{len(self.files)} {'file' if len(self.files) == 1 else 'files'}"
        outcomes = {
            MANIFEST_CHECK: f"{len(self.experiments)} read, checksums match",
            FILES_CHECK: f"{intact} present, SHA-256, checksum and header as committed",
            CUES_CHECK: f"{self.cues:,} cues decoded, completion networks finite, recalls of the right shape",
            BYTES_CHECK: f"{intact} equal what their own cues and completion networks encode to, byte by byte",
            FOLDER_CHECK: f"{self.accounted} files accounted for",
            SCANS_CHECK: "no file looks like a scan, an array or an archive" + self.searched,
        }
        checks = [
            {"check": name, "passed": not found[name], "detail": _sentence(found[name]) if found[name] else good}
            for name, good in outcomes.items()
        ]
        return {
            "vault": self.folder.name,
            "passed": not any(found.values()),
            "experiments": [p.name for p in self.experiments],
            "checks": checks,
            "files": self.files,
            "fidelity": self._fidelity(),
        }

    def _place(self, path: Path) -> str:
        return shown(path.relative_to(self.folder).as_posix())

    def _experiment(self, folder: Path, compare: bool) -> None:
        _check_unlocked(folder)
        before = _manifest_bytes(folder)
        vault, manifest = Vault(folder), self._manifest(folder)
        for entry in manifest.entries:
            path = folder / entry.name
            try:
                file = vault.load_entry(entry)
            except VaultError as error:
                place = "" if folder == self.folder else f"in {self._place(folder)}: "
                self.problems[FILES_CHECK].append(f"{place}{error}")
                self.problems[CUES_CHECK].append(f"{self._place(path)} is damaged and was not decoded")
                continue
            self._entry(folder, entry, file)
            if self._decode(path, file) and compare and file.records:
                assert self.given is not None
                name = f"{folder.name}/{file.header.task_name}"
                self.likenesses[name] = likeness(file, self.given.scans)
        self._account(sorted(folder.iterdir()), {e.name for e in manifest.entries} | self._log(folder, manifest))
        # Whoever has begun to write meanwhile holds the lock still, or has committed another manifest.
        _check_unlocked(folder)
        if _manifest_bytes(folder) != before:
            raise _being_written(folder)

    def _log(self, folder: Path, manifest: Manifest) -> set[str]:
        """The name of the log of erasures, unless it is not the one that the manifest commits."""
        path = folder / LOG
        try:
            erasures = from_log(path.read_bytes() if path.is_file() else b"", manifest.erased)
        except VaultError as error:
            self.problems[FOLDER_CHECK].append(f"{self._place(path)} is refused ({error})")
            return set()
        for erasure in erasures:
            self._texts(FOLDER_CHECK, self._place(path), key=erasure.key, dataset_label=erasure.dataset_label)
        return {LOG}

    def _manifest(self, folder: Path) -> Manifest:
        """The manifest, empty when it is missing or refused."""
        path, problems = folder / MANIFEST, self.problems[MANIFEST_CHECK]
        if not path.is_file() or path.is_symlink():
            if {p.name for p in folder.iterdir()} != {LOCK_NAME}:
                problems.append(f"{self._place(path)} is missing")
            return Manifest()
        try:
            manifest = Vault(folder).manifest()
        except VaultError as error:
            problems.append(f"{self._place(path)} is refused ({error})")
            return Manifest()
        if path.read_bytes() != manifest.sealed():
            problems.append(f"{self._place(path)} holds more than a manifest")
        tasks = [e.task for e in manifest.entries]
        if tasks != sorted(set(tasks)):
            problems.append(f"{self._place(path)} names the files of a task twice or out of order")
        return manifest

    def _entry(self, folder: Path, entry: Entry, file: CueFile) -> None:
        """Compare a committed file with what the manifest says of it."""
        header, path = file.header, folder / entry.name
        size = path.stat().st_size
        expected = {
            "experiment": (header.experiment, folder.name),
            "key": (header.key, entry.key),
            "size": (size, entry.bytes),
            "name": (entry.name, f"task-{entry.task:03d}.{entry.memory}.{entry.sha256[:8]}.cue"),
        }
        for what, (seen, committed) in expected.items():
            if seen != committed:
                self.problems[FILES_CHECK].append(f"{self._place(path)} has {what} {seen!r}, expected {committed!r}")
        records = file.records
        self.files.append(
            {
                "file": path.relative_to(self.folder).as_posix(),
                "bytes": size,
                "records": records,
                "bits-per-scan": 8 * len(file.payload) / records if records else 0.0,
                "all-in-bits-per-scan": 8 * size / records if records else 0.0,
            }
        )

    def _decode(self, path: Path, file: CueFile) -> bool:
        """Decode a file as a hospital would, and encode it again: nothing else may be in it."""
        place = self._place(path)
        try:
            _, cues = decoded(file)
            again = file.packed_again(cues).to_bytes()
        except BrainclError as error:
            self.problems[CUES_CHECK].append(f"{place} does not decode: {error}")
            return False
        self.cues += file.records
        if again != path.read_bytes():
            self.problems[BYTES_CHECK].append(f"{place} holds bytes that do not follow from its cues and its network")
        header = file.header
        self._texts(BYTES_CHECK, place, task_name=header.task_name, key=header.key, coder=header.coder)
        for shard in header.shards:
            self._texts(BYTES_CHECK, place, dataset_label=shard.dataset_label)
            if not shard.records:
                self.problems[BYTES_CHECK].append(f"{place} has class {shard.label} without records")
        return True

    def _texts(self, check: str, place: str, **texts: str) -> None:
        """Name texts that are not of the form in which a hospital writes them."""
        for what, seen in texts.items():
            if not FORMS[what].fullmatch(seen):
                self.problems[check].append(f"{place} has {what} {shown(seen)}, which no hospital writes")

    def _account(self, inside: Sequence[Path], committed: set[str] | None = None) -> None:
        """Name everything that is neither the vault's own nor committed; `committed` is None above experiments."""
        for path in inside:
            own = committed is not None and path.name in (MANIFEST, LOCK_NAME, *committed)
            if own and path.is_file() and not path.is_symlink():
                if path.name != LOCK_NAME or LOCK_CONTENT.fullmatch(path.read_bytes()):
                    self.accounted += 1
                    continue
                what = "holds something else than the number of a process"
            elif path.is_symlink():
                what = "is a link to somewhere else"
            elif path.is_dir():
                what = "is a folder"
                self.unknown += [p for p in sorted(path.rglob("*")) if p.is_file() and not p.is_symlink()]
            elif path.name.endswith(PARTIAL_SUFFIX):
                what = "is left over from an interrupted write"
            elif committed is not None and CUE_NAME.match(path.name):
                what = "is named like a cue file, but no manifest commits it"
            else:
                what = "does not belong in a vault"
            self.problems[FOLDER_CHECK].append(f"{self._place(path)} {what}")
            if path.is_file() and not path.is_symlink():
                self.unknown.append(path)

    def _raw_scans(self) -> None:
        """Judge every unknown file by its content, and search all files for the given scans."""
        problems = self.problems[SCANS_CHECK]
        for path in self.unknown:
            content = path.read_bytes()
            kind = looks_like(content)
            if kind is not None:
                problems.append(f"{self._place(path)} looks like {kind}")
            elif content and not content.startswith(MAGIC):
                problems.append(f"{self._place(path)} has no known format and may hold raw pixels")
        if self.given is not None:
            probes = Probes(self.given.scans.images)
            problems += probes.findings(self.folder)
            self.searched = f"; searched for {probes.scans - probes.blank:,} given scans and found none" + (
                f", {probes.blank:,} more are blank" if probes.blank else ""
            )

    def _fidelity(self) -> dict[str, Any] | None:
        if not self.likenesses:
            return None
        tasks = [{"task": name, **found.as_json()} for name, found in self.likenesses.items()]
        return {**Likeness.join(list(self.likenesses.values())).as_json(), "tasks": tasks}


def _sentence(problems: Sequence[str]) -> str:
    more = len(problems) - MOST_NAMED
    return "; ".join(problems[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _check_unlocked(folder: Path) -> None:
    """Refuse to audit what is being written: a half-made change would look like damage."""
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
